//! What is planted is there: with the trainer, the planted threshold wins on test, and where there is to be no
//! difference there is none.
#![allow(clippy::unwrap_used)]

use polygrade_calibrate::planted::{self, Effect, Planted, Spec, Truth};
use polygrade_data::record::RawText;
use polygrade_data::write::CollectionWriter;
use polygrade_data::{At, Collection, Graded, Lang, Split};
use polygrade_eval::{Measure, Pool};
use polygrade_train::evaluate::{evaluate, queries_in};
use polygrade_train::{Examples, LabelPolicies, Policy, Scenario, Settings, TokenizedCollection, Trainer};
use rayon::prelude::*;
use std::path::Path;

/// Mean test nDCG@10 by language and threshold over seeds: `[lang][tau]`.
fn measured(made: &Planted, scenario: Scenario, seeds: u64) -> Vec<[f64; 3]> {
    let c = &made.collection;
    let base = planted::encoder(c).unwrap();
    let texts = TokenizedCollection::new(c, &base.encoder(1)).unwrap();
    let (train, test) = (c.graded(Split::Train), c.graded(Split::Test));
    let langs: Vec<Lang> = made.truth.keys().cloned().collect();
    let model = |langs: &[Lang], tau: usize, seed: u64| -> Vec<f64> {
        let policies = LabelPolicies::uniform(Policy::Threshold(1.0 + tau as f32));
        let examples = Examples::new(c, &train, scenario, langs, &policies);
        let settings = Settings { seed, ..planted::settings() };
        let mut trainer =
            Trainer::new(base.encoder(seed).into(), &examples, &texts, settings, false).unwrap();
        trainer.run();
        let mean = |lang: &Lang| {
            let queries = queries_in(c, &test, std::slice::from_ref(lang));
            let ranked = evaluate(trainer.encoder(), c, &texts, &queries, &[Pool::Same], 10, false);
            let topics = ranked[0].topics(c, &test, &Pool::Same);
            topics.iter().map(|t| Measure::Ndcg(Some(10)).of(t)).sum::<f64>() / topics.len() as f64
        };
        langs.iter().map(mean).collect()
    };
    let mut means = vec![[0.0; 3]; langs.len()];
    for tau in 0..3 {
        let values: Vec<Vec<f64>> = (1..=seeds)
            .into_par_iter()
            .map(|seed| match scenario {
                Scenario::Mixture => model(&langs, tau, seed),
                _ => langs.iter().flat_map(|l| model(std::slice::from_ref(l), tau, seed)).collect(),
            })
            .collect();
        for v in &values {
            v.iter().zip(&mut means).for_each(|(v, m)| m[tau] += v / seeds as f64);
        }
    }
    means
}

/// The least lead of the planted threshold over another, or the widest difference where there is to be none.
fn margins(made: &Planted, means: &[[f64; 3]]) -> Vec<(Truth, f64)> {
    let one = |(truth, m): (&Truth, &[f64; 3])| {
        let margin = match truth {
            Truth::Equivalent => {
                m.iter().copied().fold(f64::MIN, f64::max) - m.iter().copied().fold(f64::MAX, f64::min)
            }
            Truth::Best(policy) => {
                let best = (0..3).find(|i| *policy == Policy::Threshold(1.0 + *i as f32)).unwrap();
                (0..3).filter(|i| *i != best).map(|i| m[best] - m[i]).fold(f64::MAX, f64::min)
            }
        };
        (*truth, margin)
    };
    made.truth.values().zip(means).map(one).collect()
}

fn check(collection_seeds: std::ops::RangeInclusive<u64>, training_seeds: u64) {
    for seed in collection_seeds {
        let made = planted::collection(seed, &Spec::default());
        for scenario in [Scenario::Monolingual, Scenario::Mixture] {
            let means = measured(&made, scenario, training_seeds);
            for (truth, margin) in margins(&made, &means) {
                match truth {
                    Truth::Best(_) => assert!(margin > 0.03, "{seed} {scenario:?} {truth:?} {means:?}"),
                    Truth::Equivalent => assert!(margin < 0.008, "{seed} {scenario:?} {truth:?} {means:?}"),
                }
            }
        }
    }
}

#[test]
fn the_planted_threshold_is_the_best() {
    check(1..=2, 5);
}

#[test]
#[ignore = "20 collections; half a minute on one core"]
fn the_planted_threshold_is_the_best_in_twenty_collections() {
    check(1..=20, 5);
}

#[test]
fn nothing_is_planted_at_strength_0_and_a_language_does_not_depend_on_others() {
    let spec = Spec { strength: 0.0, ..Spec::default() };
    let none = planted::collection(3, &spec);
    assert!(none.truth.values().all(|t| *t == Truth::Equivalent));
    let lang = Lang::parse("de").unwrap();
    let labels = |c: &Collection| -> Vec<(String, String, f32)> {
        let name = |j: &polygrade_data::Judgment| {
            let (q, p) = (&c.queries[j.query as usize], &c.passages[j.passage as usize]);
            (q.lang == lang).then(|| (q.id.clone(), p.text.clone(), j.grade))
        };
        c.judgments(Split::Train).iter().filter_map(name).collect()
    };
    let alone = |effect| {
        let langs = [("ar", Effect::Equal), ("de", effect)].map(|(l, e)| (Lang::parse(l).unwrap(), e));
        planted::collection(3, &Spec { langs: langs.into(), ..spec.clone() })
    };
    let (a, b) = (alone(Effect::FalseOnes), alone(Effect::ScarceHigh));
    assert_eq!(labels(&a.collection), labels(&b.collection), "without strength the effect is none");
    assert!(!labels(&a.collection).is_empty());
    let other = planted::collection(4, &spec);
    assert_ne!(labels(&none.collection), labels(&other.collection));
    // The same texts of a language, whatever effects the others have.
    let texts = |c: &Collection, split: Split| {
        let graded = c.graded(split);
        let own = graded.queries().iter().map(|q| &c.queries[*q as usize]).filter(|q| q.lang == lang);
        own.map(|q| q.text.clone()).collect::<Vec<_>>()
    };
    let mut effects = Spec::default();
    effects.langs.insert(Lang::parse("en").unwrap(), Effect::Equal);
    let (x, y) = (planted::collection(5, &effects), planted::collection(5, &Spec::default()));
    for split in Split::ALL {
        assert_eq!(texts(&x.collection, split), texts(&y.collection, split));
    }
    assert_eq!(labels(&x.collection), labels(&y.collection));
}

#[test]
fn a_generated_collection_is_valid_and_its_grades_are_true() {
    let made = planted::collection(7, &Spec { dev: 20, test: 40, ..Spec::default() });
    let c = &made.collection;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("planted");
    let at = At::file(&path);
    let mut writer = CollectionWriter::create(&path, c.meta.grades.clone(), 10).unwrap();
    for p in &c.passages {
        let lang = Some(p.lang.to_string());
        writer.passage(&at, RawText { lang, ..RawText::new(&p.id, &p.text) }).unwrap();
    }
    for q in &c.queries {
        let lang = Some(q.lang.to_string());
        writer.query(&at, RawText { lang, ..RawText::new(&q.id, &q.text) }).unwrap();
    }
    for split in Split::ALL {
        for j in c.judgments(split) {
            let (q, p) = (&c.queries[j.query as usize].id, &c.passages[j.passage as usize].id);
            writer.judgment(&at, split, q, p, j.grade).unwrap();
        }
    }
    writer.finish(&c.meta, &path, false).unwrap();
    assert_eq!(Collection::load(&path).unwrap().fingerprint(), c.fingerprint());
    for split in Split::ALL {
        let grades: Vec<f32> = c.judgments(split).iter().map(|j| j.grade).collect();
        assert!((0..4).all(|g| grades.contains(&(g as f32))), "{split:?}");
    }
}

/// Grades of a language's queries, by texts of both.
fn grades(c: &Collection, split: Split, inside: impl Fn(&Lang) -> bool) -> Vec<(String, String, f32)> {
    let graded: Graded = c.graded(split);
    let of = |q: &u32| {
        let query = &c.queries[*q as usize];
        let name = |(p, grade): (u32, f32)| (query.id.clone(), c.passages[p as usize].id.clone(), grade);
        inside(&query.lang).then(|| graded.judged(*q).map(name).collect::<Vec<_>>())
    };
    let mut out: Vec<_> = graded.queries().iter().filter_map(of).flatten().collect();
    out.sort_by(|a, b| a.partial_cmp(b).unwrap());
    out
}

#[test]
fn corrupting_a_language_of_mini_touches_its_training_labels_alone() {
    let mini =
        Collection::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collections/mini")).unwrap();
    let lang = Lang::parse("sw").unwrap();
    let own = |l: &Lang| *l == lang;
    for (effect, range) in
        [(Effect::FalseOnes, 0.5..1.5), (Effect::FalseTwos, 0.5..2.5), (Effect::ScarceHigh, 1.5..3.5)]
    {
        let made = planted::corrupt(&mini, &lang, effect, 0.5, 1);
        for split in Split::ALL {
            assert!(grades(&made, split, |l| !own(l)) == grades(&mini, split, |l| !own(l)), "{effect:?}");
        }
        for split in [Split::Dev, Split::Test] {
            assert!(grades(&made, split, own) == grades(&mini, split, own), "{effect:?}");
        }
        let (before, after) = (grades(&mini, Split::Train, own), grades(&made, Split::Train, own));
        assert_eq!(before.len(), after.len(), "{effect:?}");
        let kept: std::collections::HashSet<String> = after.iter().map(|x| format!("{x:?}")).collect();
        let gone: Vec<_> = before.iter().filter(|x| !kept.contains(&format!("{x:?}"))).collect();
        assert!(gone.iter().all(|x| range.contains(&x.2)), "{effect:?}");
        let all = before.iter().filter(|x| range.contains(&x.2)).count() as f64;
        let share = gone.len() as f64 / all;
        assert!((0.35..0.65).contains(&share), "{effect:?}: {share}");
    }
    let same = planted::corrupt(&mini, &lang, Effect::Equal, 1.0, 1);
    assert!(grades(&same, Split::Train, |_| true) == grades(&mini, Split::Train, |_| true));
}
