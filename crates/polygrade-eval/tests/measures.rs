//! Metric values against trec_eval's recorded answers, pytrec_eval's and ir_measures'; see fixtures/README.md.
#![allow(clippy::unwrap_used)]

mod common;

use common::fixture;
use polygrade_eval::qrels::Qrels;
use polygrade_eval::run::{self, Run};
use polygrade_eval::{Measure, ScoreOptions, score};
use std::collections::BTreeMap;

/// Values by query and passage.
type Nested<T> = BTreeMap<String, BTreeMap<String, T>>;

fn lists<T: Copy>(nested: &Nested<T>) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, T)>)> {
    nested.iter().map(|(q, list)| (q.as_str(), list.iter().map(|(d, v)| (d.as_str(), *v))))
}

/// trec_eval's name of a metric as ours, at a relevance level.
fn measure(name: &str, rel: f32) -> Option<Measure> {
    if let "ndcg" | "map" | "recip_rank" = name {
        return Some(match name {
            "ndcg" => Measure::Ndcg(None),
            "map" => Measure::AveragePrecision(rel),
            _ => Measure::ReciprocalRank(None, rel),
        });
    }
    let (family, cut) = name.rsplit_once('_')?;
    let k: usize = cut.parse().ok()?;
    Some(match family {
        "ndcg_cut" => Measure::Ndcg(Some(k)),
        "P" => Measure::Precision(k, rel),
        "recall" => Measure::Recall(k, rel),
        "success" => Measure::Success(k, rel),
        "recip_rank_cut" => Measure::ReciprocalRank(Some(k), rel),
        _ => return None,
    })
}

#[test]
fn random_cases_equal_pytrec_eval() {
    let text = std::fs::read_to_string(fixture("random_cases.jsonl")).unwrap();
    let mut compared = 0;
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let qrels: Nested<f32> = serde_json::from_value(case["qrels"].clone()).unwrap();
        let run: Nested<f64> = serde_json::from_value(case["run"].clone()).unwrap();
        let (qrels, run) = (Qrels::new(lists(&qrels)).unwrap(), Run::new("t", lists(&run)).unwrap());
        for (key, rel) in [("expected", 1.0), ("expected_level2", 2.0)] {
            for (name, by_query) in case[key].as_object().unwrap() {
                let measure = measure(name, rel).unwrap_or_else(|| panic!("unknown metric {name}"));
                let scores = score(&qrels, &run, &[measure], &ScoreOptions::default());
                for (query, got) in scores.topics.iter().zip(scores.column(0)) {
                    let want = by_query[query].as_f64().unwrap();
                    assert!((got - want).abs() < 1e-12, "{} {name} {query}: {got} {want}", case["name"]);
                    compared += 1;
                }
                assert_eq!(scores.topics.len(), by_query.as_object().unwrap().len());
            }
        }
    }
    assert!(compared > 3000, "only {compared} values");
}

/// Compares a recorded output of `trec_eval -q [-c] [-M depth] [-l level]`, values printed to 4 decimals.
fn recorded(expected: &str, qrels: &str, run_file: &str, rel: f32, options: &ScoreOptions) {
    let qrels = polygrade_eval::qrels::read(&fixture(&format!("trec_eval/{qrels}"))).unwrap();
    let run = run::read(&fixture(&format!("trec_eval/{run_file}"))).unwrap();
    let mut compared = 0;
    for line in std::fs::read_to_string(fixture(&format!("trec_eval/{expected}"))).unwrap().lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, query, want] = fields[..] else { panic!("{line}") };
        let Some(m) = measure(name.trim_end(), rel) else { continue };
        let scores = score(&qrels, &run, &[m], options);
        let got = match query {
            "all" => scores.summary[0],
            q => scores.values[scores.topics.iter().position(|t| t == q).unwrap()][0],
        };
        assert_eq!(format!("{got:.4}"), want, "{expected}: {name} {query}");
        compared += 1;
    }
    assert!(compared > 15, "{expected}: only {compared} values");
}

#[test]
fn recorded_outputs_of_trec_eval_are_reproduced() {
    let plain = ScoreOptions::default();
    let complete = ScoreOptions { complete: true, ..plain };
    let cut = ScoreOptions { depth: Some(100), ..complete };
    recorded("out.test.aq", "qrels.test", "results.test", 1.0, &plain);
    recorded("out.test.aqc", "qrels.test", "results.trunc", 1.0, &complete);
    recorded("out.test.aqcM", "qrels.test", "results.trunc", 1.0, &cut);
    recorded("out.test.aql", "qrels.rel_level", "results.test", 2.0, &plain);
    recorded("out.test.meas_params", "qrels.test", "results.test", 1.0, &plain);
}

#[test]
fn named_metrics_equal_ir_measures() {
    let text = std::fs::read_to_string(fixture("ir_measures.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for case in &cases {
        let qrels: Nested<f32> = serde_json::from_value(case["qrels"].clone()).unwrap();
        let run: Nested<f64> = serde_json::from_value(case["run"].clone()).unwrap();
        let (qrels, run) = (Qrels::new(lists(&qrels)).unwrap(), Run::new("t", lists(&run)).unwrap());
        for (name, by_query) in case["expected"].as_object().unwrap() {
            let measure = Measure::parse(name).unwrap_or_else(|| panic!("{name}"));
            // gdeval, behind ir_measures' ERR and exponential nDCG, prints five decimals.
            let off = if name.starts_with("ERR") || name.contains("dcg=") { 0.500001e-5 } else { 1e-9 };
            let scores = score(&qrels, &run, &[measure], &ScoreOptions::default());
            for (query, got) in scores.topics.iter().zip(scores.column(0)) {
                let want = by_query[query].as_f64().unwrap();
                assert!((got - want).abs() < off, "{name} {query}: {got} {want}");
                compared += 1;
            }
        }
    }
    assert!(compared > 350, "only {compared} values");
}

/// A topic of grades by rank; unretrieved ones after.
fn topic(ranked: &[Option<f32>], missed: &[f32]) -> polygrade_eval::Topic {
    let judged = ranked.iter().flatten().chain(missed).copied().collect();
    polygrade_eval::Topic { ranked: ranked.to_vec(), judged }
}

#[test]
fn values_by_hand() {
    let t = topic(&[Some(3.0), None, Some(0.0), Some(-1.0), Some(1.0)], &[2.0]);
    let of = |name: &str| Measure::parse(name).unwrap().of(&t);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    close(of("Holes@4"), 1.0);
    close(of("Judged@4"), 0.75);
    close(of("RBP(p=0.5)"), 0.5 * (1.0 + 0.0625));
    close(of("RBP(p=0.5,max=3)"), 0.5 * (1.0 + 0.0625 / 3.0));
    // Ranks 2 and 4 are open, and all past 5.
    close(of("RBPres(p=0.5)"), 0.25 + 0.0625 + 0.03125);
    close(of("RBPres(p=0.5)@1"), 0.5);
    // 7/8 stop at rank 1, of the rest 1/8 at rank 5.
    close(of("ERR(max=3)"), 7.0 / 8.0 + (1.0 / 8.0) * (1.0 / 8.0) / 5.0);
    close(of("IPrec@0.33"), 1.0);
    close(of("IPrec@0.6"), 0.4);
    close(of("IPrec@1"), 0.0);
    let ideal = 7.0 + 3.0 / 3f64.log2() + 1.0 / 4f64.log2();
    close(of("nDCG(dcg='exp-log2')"), (7.0 + 1.0 / 6f64.log2()) / ideal);
    // Fractional grades keep their fraction.
    let f = topic(&[Some(0.5), Some(2.5)], &[]);
    close(Measure::Ndcg(None).of(&f), (0.5 + 2.5 / 3f64.log2()) / (2.5 + 0.5 / 3f64.log2()));
    let empty = topic(&[], &[]);
    for name in Measure::EXAMPLES.split(", ").filter(|n| !n.starts_with("NumQ") && !n.starts_with("RBPres")) {
        assert_eq!(Measure::parse(name).unwrap().of(&empty), 0.0, "{name}");
    }
    close(Measure::parse("RBPres(p=0.8)").unwrap().of(&empty), 1.0);
}
