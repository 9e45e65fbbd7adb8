//! How strong planted effects are: mean test nDCG@10 by language and threshold, over training seeds, for generated
//! collections of several seeds.
//!
//! `cargo run --release -p polygrade-calibrate --example planted -- [STRENGTH [COLLECTIONS [SEEDS]]]`
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use polygrade_calibrate::planted::{self, Spec};
use polygrade_data::{Graded, Lang, Split};
use polygrade_eval::{Measure, Pool};
use polygrade_train::evaluate::{evaluate, queries_in};
use polygrade_train::{Examples, LabelPolicies, Policy, Scenario, Settings, TokenizedCollection, Trainer};
use rayon::prelude::*;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<f64>().unwrap());
    let strength = args.next().unwrap_or(1.0);
    let (collections, seeds) = (args.next().unwrap_or(3.0) as u64, args.next().unwrap_or(5.0) as u64);
    let spec = Spec { strength, ..Spec::default() };
    println!(
        "strength {strength}; mean test nDCG@10 over {seeds} seeds; ± is the standard deviation over seeds of the paired difference to τ=2"
    );
    for seed in 1..=collections {
        let made = planted::collection(seed, &spec);
        let c = &made.collection;
        let base = planted::encoder(c).unwrap();
        let texts = TokenizedCollection::new(c, &base.encoder(1)).unwrap();
        let [train, _, test] = Split::ALL.map(|s| c.graded(s));
        let langs: Vec<Lang> = spec.langs.keys().cloned().collect();
        let measure = |encoder: &dyn polygrade_encoder::TextEncoder, test: &Graded, lang: &Lang| {
            let queries = queries_in(c, test, std::slice::from_ref(lang));
            let ranked = evaluate(encoder, c, &texts, &queries, &[Pool::Same], 10, false);
            let topics = ranked[0].topics(c, test, &Pool::Same);
            topics.iter().map(|t| Measure::Ndcg(Some(10)).of(t)).sum::<f64>() / queries.len() as f64
        };
        let started = Instant::now();
        let model = |scenario: Scenario, langs: &[Lang], tau: f32, seed: u64| {
            let policies = LabelPolicies::uniform(Policy::Threshold(tau));
            let examples = Examples::new(c, &train, scenario, langs, &policies);
            let settings = Settings { seed, ..planted::settings() };
            let mut trainer =
                Trainer::new(base.encoder(seed).into(), &examples, &texts, settings, false).unwrap();
            trainer.run();
            langs.iter().map(|l| measure(trainer.encoder(), &test, l)).collect::<Vec<f64>>()
        };
        println!(
            "collection {seed}: {} passages, {} test judgments",
            c.passages.len(),
            c.judgments(Split::Test).len()
        );
        for scenario in [Scenario::Monolingual, Scenario::Mixture] {
            // [tau][seed][lang]
            let values: Vec<Vec<Vec<f64>>> = [1.0, 2.0, 3.0]
                .iter()
                .map(|&tau| {
                    (1..=seeds)
                        .into_par_iter()
                        .map(|s| match scenario {
                            Scenario::Mixture => model(scenario, &langs, tau, s),
                            _ => langs
                                .iter()
                                .flat_map(|l| model(scenario, std::slice::from_ref(l), tau, s))
                                .collect(),
                        })
                        .collect()
                })
                .collect();
            for (l, lang) in langs.iter().enumerate() {
                let untrained = measure(&base.encoder(1), &test, lang);
                print!(
                    "  {:<12} {lang} {:<12} untrained {untrained:.3} ",
                    scenario.name(),
                    format!("{:?}", spec.langs[lang])
                );
                for tau in 0..3 {
                    let mean =
                        |f: &dyn Fn(usize) -> f64| (0..seeds as usize).map(f).sum::<f64>() / seeds as f64;
                    let m = mean(&|s| values[tau][s][l]);
                    let d = mean(&|s| values[tau][s][l] - values[1][s][l]);
                    let sd = mean(&|s| (values[tau][s][l] - values[1][s][l] - d).powi(2)).sqrt();
                    print!("  τ={} {m:.3} ({d:+.4} ± {sd:.4})", tau + 1);
                }
                println!();
            }
        }
        let models = 3 * seeds * (langs.len() as u64 + 1);
        println!("  {models} models in {:.1} s", started.elapsed().as_secs_f64());
    }
}
