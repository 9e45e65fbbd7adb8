//! Metric values against trec_eval's recorded answers and pytrec_eval's; see fixtures/README.md.
#![allow(clippy::unwrap_used)]

use polygrade_data::{At, Problems, Result, qrels};
use polygrade_eval::run::{self, Run};
use polygrade_eval::{Measure, Topic};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Qrels = BTreeMap<String, BTreeMap<String, f32>>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn topic(qrels: &BTreeMap<String, f32>, ranking: &[(String, f64)]) -> Topic {
    Topic {
        ranked: ranking.iter().map(|(id, _)| qrels.get(id).copied()).collect(),
        judged: qrels.values().copied().collect(),
    }
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
        let qrels: Qrels = serde_json::from_value(case["qrels"].clone()).unwrap();
        let scores: BTreeMap<String, BTreeMap<String, f64>> =
            serde_json::from_value(case["run"].clone()).unwrap();
        for (key, rel) in [("expected", 1.0), ("expected_level2", 2.0)] {
            for (name, by_query) in case[key].as_object().unwrap() {
                let measure = measure(name, rel).unwrap_or_else(|| panic!("unknown metric {name}"));
                for (query, want) in by_query.as_object().unwrap() {
                    let mut ranking: Vec<(String, f64)> =
                        scores[query].iter().map(|(id, s)| (id.clone(), *s)).collect();
                    run::sort(&mut ranking);
                    let got = measure.of(&topic(&qrels[query], &ranking));
                    let want = want.as_f64().unwrap();
                    assert!((got - want).abs() < 1e-12, "{} {name} {query}: {got} {want}", case["name"]);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 3000, "only {compared} values");
}

fn read_qrels(name: &str) -> Result<Qrels> {
    let (mut out, mut problems) = (Qrels::new(), Problems::default());
    qrels::read(&fixture(name), &mut problems, |_, _: At, (q, p), grade| {
        out.entry(q.to_owned()).or_default().insert(p.to_owned(), grade);
        Ok(())
    })?;
    problems.into_result().map(|()| out)
}

/// Compares a recorded output of `trec_eval -q [-c] [-M depth] [-l level]`, values printed to 4 decimals.
fn recorded(expected: &str, qrels: &str, run_file: &str, rel: f32, complete: bool, depth: usize) {
    let qrels = read_qrels(&format!("trec_eval/{qrels}")).unwrap();
    let mut run: Run = run::read(&fixture(&format!("trec_eval/{run_file}"))).unwrap();
    run.values_mut().for_each(|r| r.truncate(depth));
    let empty = Vec::new();
    let queries: Vec<&String> = qrels.keys().filter(|q| complete || run.contains_key(*q)).collect();
    let value = |m: &Measure, q: &String| m.of(&topic(&qrels[q], run.get(q).unwrap_or(&empty)));
    let mut compared = 0;
    for line in std::fs::read_to_string(fixture(&format!("trec_eval/{expected}"))).unwrap().lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, query, want] = fields[..] else { panic!("{line}") };
        let Some(m) = measure(name, rel) else { continue };
        let got = match query {
            "all" => queries.iter().map(|q| value(&m, q)).sum::<f64>() / queries.len() as f64,
            q => value(&m, &q.to_owned()),
        };
        assert_eq!(format!("{got:.4}"), want, "{expected}: {name} {query}");
        compared += 1;
    }
    assert!(compared > 15, "{expected}: only {compared} values");
}

#[test]
fn recorded_outputs_of_trec_eval_are_reproduced() {
    recorded("expected.tsv", "qrels.test", "results.test", 1.0, false, usize::MAX);
    recorded("expected_complete.tsv", "qrels.test", "results.trunc", 1.0, true, usize::MAX);
    recorded("expected_complete_M100.tsv", "qrels.test", "results.trunc", 1.0, true, 100);
    recorded("expected_level2.tsv", "qrels.rel_level", "results.test", 2.0, false, usize::MAX);
    recorded("expected_params.tsv", "qrels.test", "results.test", 1.0, false, usize::MAX);
}
