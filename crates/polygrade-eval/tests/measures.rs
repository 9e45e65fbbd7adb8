//! Metric values against trec_eval's recorded answers and pytrec_eval's; see fixtures/README.md.
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
