//! Ranks over systems against scipy (fixtures/README.md), hard-negative pools against a brute force, and mteb's layout
//! against results with the keys that mteb writes.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Index, Judgment, Lang, Meta, Passage, Query, Scale, Split};
use polygrade_eval::hard_negatives::{Ranked, System, Task, measured};
use polygrade_eval::mteb::{self, TaskResult, read_results};
use polygrade_eval::standings::{kendall, standings};
use polygrade_eval::{Measure, Pool};
use polygrade_nn::rng::CounterRng;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
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
    std::fs::rename(&path, dir.path().join("Absent.json")).unwrap();
    let err = read_results(dir.path(), &names).unwrap_err().to_string();
    assert!(err.contains("Absent.json") && err.contains("another task, \"Other\""), "{err}");
    std::fs::remove_file(dir.path().join("Absent.json")).unwrap();
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

/// nDCG@10 by its formula, with grades for gains.
fn ndcg(list: &[Index], grades: &BTreeMap<Index, f64>) -> f64 {
    let dcg = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
        gains.take(10).enumerate().map(|(i, g)| g / (i as f64 + 2.0).log2()).sum()
    };
    let mut ideal: Vec<f64> = grades.values().copied().collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let best = dcg(&mut ideal.into_iter());
    let own = dcg(&mut list.iter().map(|p| grades.get(p).copied().unwrap_or(0.0)));
    if best > 0.0 { own / best } else { 0.0 }
}

/// Kendall's τ-b of lists without ties.
fn tau(a: &[f64], b: &[f64]) -> f64 {
    let pairs = (0..a.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let signs: Vec<f64> = pairs.map(|(i, j)| ((a[i] - a[j]) * (b[i] - b[j])).signum()).collect();
    signs.iter().sum::<f64>() / signs.len() as f64
}

#[test]
fn hard_negative_pools_keep_what_they_promise() {
    for (seed, pool) in [(0, Pool::All), (1, Pool::All), (2, Pool::Same), (3, Pool::Same)] {
        let (collection, systems) = random_collection(seed);
        let graded = collection.graded(Split::Test);
        let queries = graded.queries().to_vec();
        let task = Task { collection: &collection, graded: &graded, queries: &queries, pool: &pool };
        let k = 10;
        // By brute force: what a system ranks in the pool, and that a passage stays if it or its translation is judged
        // or among the first k of such a ranking.
        let lang = |p: Index| p % 2;
        let inside = |q: Index, p: Index| pool == Pool::All || lang(q) == lang(p);
        let ranking = |s: usize, q: Index| -> Vec<Index> {
            systems[s].ranked[&q].iter().copied().filter(|&p| inside(q, p)).collect()
        };
        let kept = |which: &[usize]| -> BTreeSet<Index> {
            let mut groups = BTreeSet::new();
            for &q in &queries {
                groups.extend(graded.judged(q).map(|(p, _)| p / 2));
                which.iter().for_each(|&s| groups.extend(ranking(s, q).iter().take(k).map(|p| p / 2)));
            }
            (0..PASSAGES).filter(|p| groups.contains(&(p / 2))).collect()
        };
        let set =
            |kept: Vec<bool>| -> BTreeSet<Index> { (0..PASSAGES).filter(|p| kept[*p as usize]).collect() };
        assert_eq!(set(task.keep(&systems, k, None)), kept(&[0, 1, 2]));
        assert_eq!(set(task.keep(&systems, k, Some(1))), kept(&[0, 2]));
        assert!(kept(&[0, 1, 2]).len() < PASSAGES as usize);

        let score = |s: usize, q: Index, small: Option<&BTreeSet<Index>>| {
            let list: Vec<Index> =
                ranking(s, q).into_iter().filter(|p| small.is_none_or(|k| k.contains(p))).collect();
            let judged = graded.judged(q).filter(|(p, _)| inside(q, *p));
            ndcg(&list, &judged.map(|(p, g)| (p, f64::from(g))).collect())
        };
        // Of the pools that the others make: the fourth system brings no passages, so all three others make its.
        let others: [&[usize]; 4] = [&[1, 2], &[0, 2], &[0, 1], &[0, 1, 2]];
        let by_lang = |l: Index, s: usize, small: Option<&BTreeSet<Index>>| {
            let own: Vec<f64> =
                queries.iter().filter(|q| lang(**q) == l).map(|&q| score(s, q, small)).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        let order = task.compare(&systems, k, &Measure::Ndcg(Some(10)));
        assert_eq!(order.len(), 3, "two languages and their mean");
        for (s, others) in others.iter().enumerate() {
            let small = kept(others);
            let want = [None, Some(&small)].map(|small| [0, 1].map(|l| by_lang(l, s, small)));
            for (i, row) in order.iter().enumerate() {
                for (got, want) in [row.full[s], row.small[s]].into_iter().zip(want) {
                    let want = [want[0], want[1], (want[0] + want[1]) / 2.0][i];
                    assert!((got - want).abs() < 1e-12, "system {s}, row {i}: {got} {want}");
                }
            }
            // A system that took part keeps its first k in the pool, and with them its nDCG@10.
            let whole = kept(&[0, 1, 2, 3]);
            assert!(queries.iter().all(|&q| (score(s, q, Some(&whole)) - score(s, q, None)).abs() < 1e-12));
        }
        for row in &order {
            assert!((row.tau.unwrap() - tau(&row.full, &row.small)).abs() < 1e-12, "{row:?}");
            assert!(row.small.iter().zip(&row.full).all(|(small, full)| small >= full), "{row:?}");
        }
        assert!(order[2].max_change > 0.0);
    }
}

#[test]
fn what_cannot_be_measured_is_left_out() {
    let (collection, mut systems) = random_collection(7);
    let graded = collection.graded(Split::Test);
    let queries = graded.queries().to_vec();
    let task = Task { collection: &collection, graded: &graded, queries: &queries, pool: &Pool::All };
    // A single system that brings passages has no others' pool; those that bring none are measured on its.
    systems.iter_mut().for_each(|s| s.pooled = s.name == "s1");
    assert_eq!(measured(&systems), [0, 2, 3]);
    assert_eq!(task.compare(&systems, 10, &Measure::Ndcg(Some(10)))[0].full.len(), 3);
    assert!(task.compare(&systems[1..2], 10, &Measure::Ndcg(Some(10))).is_empty());
    // A language that no run ranks is in no mean.
    systems.iter_mut().for_each(|s| s.ranked.retain(|q, _| q % 2 == 0));
    let order = task.compare(&systems, 10, &Measure::Ndcg(Some(10)));
    assert_eq!(
        order.iter().map(|k| k.lang.as_ref().map(Lang::as_str)).collect::<Vec<_>>(),
        [Some("en"), None]
    );
    assert_eq!((&order[0].full, order[0].queries), (&order[1].full, order[1].queries));
}
