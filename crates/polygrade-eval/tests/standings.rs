//! Ranks over systems against scipy (fixtures/README.md), hard-negative pools against a brute force, and mteb's layout
//! against results with the keys that mteb writes.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Index, Judgment, Lang, Meta, Passage, Query, Scale, Split};
use polygrade_eval::hard_negatives::{Ranked, System, compare, keep};
use polygrade_eval::mteb::{self, TaskResult, read_results};
use polygrade_eval::standings::{kendall, standings};
use polygrade_eval::{Measure, Pool};
use polygrade_nn::rng::CounterRng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn close(a: Option<f64>, b: &Value) -> bool {
    match (a, b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-12,
        (a, b) => a.is_none() && b.is_none(),
    }
}

#[test]
fn ranks_equal_scipy() {
    let text = std::fs::read_to_string(fixture("ranking.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    for case in all["tables"].as_array().unwrap() {
        let scores: Vec<Vec<Option<f64>>> = serde_json::from_value(case["scores"].clone()).unwrap();
        for (i, s) in standings(&scores).iter().enumerate() {
            let same = close(s.mean, &case["mean"][i])
                && close(s.mean_rank, &case["mean_rank"][i])
                && close(Some(s.borda), &case["borda"][i])
                && s.borda_rank as u64 == case["borda_rank"][i].as_u64().unwrap();
            assert!(same, "{i} of {case}\n{s:?}");
        }
    }
    for case in all["kendall"].as_array().unwrap() {
        let list = |key: &str| -> Vec<f64> { serde_json::from_value(case[key].clone()).unwrap() };
        let got = kendall(&list("a"), &list("b"));
        assert!(close(got, &case["tau"]), "{case}: {got:?}");
    }
    assert_eq!(all["tables"].as_array().unwrap().len() + all["kendall"].as_array().unwrap().len(), 32);
}

#[test]
fn results_of_mteb_are_read_and_written_with_the_same_keys() {
    let root = fixture("mteb");
    let names = ["Mini-mono-same".to_owned(), "Other".to_owned(), "Absent".to_owned()];
    for folder in [root.clone(), root.join("results"), root.join("results/example__model/abc123")] {
        let found = read_results(&folder, &names).unwrap();
        let [(model, results)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((model.name.as_str(), model.revision.as_str()), ("example/model", "abc123"));
        assert_eq!(
            results.iter().map(|r| r.task_name.as_str()).collect::<Vec<_>>(),
            ["Mini-mono-same", "Other"]
        );
        assert_eq!(results[0].scores["test"][0].scores["ndcg_at_10"], 0.9);
        assert_eq!(results[0].scores["test"][0].scores["nauc_ndcg_at_1_max"], Value::Null);
    }
    // Written and read again it is the same, and has mteb's keys.
    let dir = tempfile::tempdir().unwrap();
    let one = read_results(&root, &names[1..2]).unwrap().remove(0).1.remove(0);
    let path = one.write(dir.path()).unwrap();
    assert_eq!(TaskResult::read(&path).unwrap(), one);
    let keys = |text: String| -> (BTreeSet<String>, BTreeSet<String>) {
        let value: Value = serde_json::from_str(&text.replace("NaN", "null")).unwrap();
        let of = |v: &Value| v.as_object().unwrap().keys().cloned().collect();
        (of(&value), of(&value["scores"]["test"][0]))
    };
    let source = std::fs::read_to_string(fixture("mteb/results/example__model/abc123/Other.json")).unwrap();
    let theirs = keys(source);
    assert_eq!(keys(std::fs::read_to_string(&path).unwrap()), theirs);
    let ours: BTreeSet<String> = mteb::names().collect();
    assert!(ours.is_subset(&theirs.1), "{ours:?}");
    let err = read_results(&fixture("ranking.json"), &names).unwrap_err().to_string();
    assert!(err.contains("is no folder"), "{err}");
    std::fs::write(dir.path().join("Other.json"), "{\"test\": {\"ndcg_at_10\": 0.5}}").unwrap();
    let err = read_results(dir.path(), &names).unwrap_err().to_string();
    assert!(err.contains("Other.json:1") && err.contains("mteb 1.11"), "{err}");
}

/// So many that a few systems' first passages are far from all.
const PASSAGES: Index = 4000;

/// Two languages, parallel; random judgments and random rankings of four systems.
fn random_collection(seed: u64) -> (Collection, Vec<System>) {
    let rng = CounterRng::new(seed);
    let langs = [Lang::parse("en").unwrap(), Lang::parse("zh").unwrap()];
    let passage = |i: usize| Passage {
        id: format!("d{i}"),
        title: None,
        text: format!("text {i}"),
        lang: langs[i % 2].clone(),
        group: Some(format!("g{}", i / 2)),
    };
    let query = |i: usize| Query {
        id: format!("q{i}"),
        text: format!("query {i}"),
        lang: langs[i % 2].clone(),
        group: Some(format!("h{}", i / 2)),
    };
    let (passages, queries) = (PASSAGES as usize, 40);
    let judged = (0..queries).flat_map(|q| (0..3).map(move |j| (q, j)));
    let judgments = judged.map(|(q, j)| Judgment {
        query: q,
        passage: rng.below(u64::from(q * 10 + j), passages) as Index,
        grade: f32::from(j as u8),
    });
    let meta = Meta { name: "r".into(), licence: "".into(), source: "".into(), grades: Scale::up_to(3.0) };
    let mut unique: Vec<Judgment> = judgments.collect();
    let mut seen = BTreeSet::new();
    unique.retain(|j| seen.insert((j.query, j.passage)));
    let all = (0..passages).map(passage).collect();
    let collection = Collection::from_parts(
        meta,
        all,
        (0..queries as usize).map(query).collect(),
        [vec![], vec![], unique],
    );
    let graded = collection.graded(Split::Test);
    let system = |s: u64| {
        let ranked: Ranked = (0..queries)
            .map(|q| {
                let rng = rng.fork(100 + s * 1000 + u64::from(q));
                let mut order: Vec<Index> = (0..passages as Index).collect();
                // A random order in which better systems have judged passages further up.
                let key = |p: &Index| {
                    rng.uniform(u64::from(*p))
                        - 0.1 * s as f64 * f64::from(graded.grade(q, *p).unwrap_or(0.0))
                };
                order.sort_by(|a, b| key(a).total_cmp(&key(b)));
                order.truncate(200);
                (q, order)
            })
            .collect();
        System { name: format!("s{s}"), ranked, pooled: s < 3 }
    };
    let systems = (0..4).map(system).collect();
    (collection, systems)
}

#[test]
fn hard_negative_pools_keep_what_they_promise() {
    for seed in 0..5 {
        let (collection, systems) = random_collection(seed);
        let graded = collection.graded(Split::Test);
        let queries = graded.queries().to_vec();
        let k = 10;
        let kept = keep(&collection, &graded, &queries, &systems, k, None);
        // By brute force: a passage stays if it or its translation is judged or among a pooled system's first k.
        let wanted = |p: Index| {
            queries.iter().any(|&q| {
                graded.grade(q, p).is_some() || systems.iter().take(3).any(|s| s.ranked[&q][..k].contains(&p))
            })
        };
        for p in (0..PASSAGES).step_by(2) {
            let want = wanted(p) || wanted(p + 1);
            assert_eq!((kept[p as usize], kept[p as usize + 1]), (want, want), "{p}");
        }
        assert!(kept.iter().any(|k| !k));
        let order =
            compare((&collection, &graded), &queries, &systems, k, &Pool::All, &Measure::Ndcg(Some(10)));
        assert_eq!(order.len(), 3, "two languages and their mean");
        for row in &order {
            // Passages without a judgment go, judged ones stay: nothing can fall.
            assert!(row.small.iter().zip(&row.full).all(|(small, full)| small >= full), "{row:?}");
            assert_eq!(row.tau, kendall(&row.full, &row.small));
        }
        // A system that took part keeps its first k, so its nDCG@10 is what it was.
        let all_in: Vec<System> = systems.iter().map(|s| System { pooled: true, ..s.clone() }).collect();
        let whole = keep(&collection, &graded, &queries, &all_in, k, None);
        for s in &all_in {
            assert!(queries.iter().all(|q| s.ranked[q][..k].iter().all(|&p| whole[p as usize])));
        }
        // Where the others rank nearly everything, nearly nothing goes.
        let deep =
            compare((&collection, &graded), &queries, &systems, 200, &Pool::All, &Measure::Ndcg(Some(10)));
        assert!(deep.iter().all(|row| row.max_change < 0.02 && row.tau.is_none_or(|t| t > 0.9)), "{deep:?}");
    }
}
