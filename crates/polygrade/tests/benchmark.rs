//! `polygrade benchmark` and `polygrade shrink` as users meet them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{fails, run, str};
use polygrade_data::Collection;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// (standard output, standard error) of a command that succeeds.
fn ok(args: &[&str]) -> (String, String) {
    let out = run(args);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{args:?}\n{said}");
    (String::from_utf8(out.stdout).unwrap(), said)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(&[args, &["--json"]].concat()).0).unwrap()
}

fn suite(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("suite.toml");
    fs::write(&path, text.replace("MINI", str(&root().join("collections/mini")))).unwrap();
    path
}

/// Two languages of mini, each by itself and both in one pool.
const SUITE: &str = "[[collection]]\nname = \"Mini\"\npath = \"MINI\"\npools = [\"mono-same\", \"en,sw\"]\n\
                     languages = [\"en\", \"sw\"]\nmetrics = [\"P(rel=2)@5\"]\n\n[[model]]\nmodel = \"bm25\"\n";

#[test]
fn a_suite_gives_results_in_mtebs_layout_and_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let (suite, out) = (suite(dir.path(), SUITE), dir.path().join("out"));
    let toy = root().join("crates/polygrade-encoder/tests/fixtures/encoders/bert");
    let toy = format!("example/toy={}", str(&toy));
    let args = ["benchmark", str(&suite), "--model", &toy, "--out", str(&out)];
    let first = json(&args);
    assert_eq!((&first["computed"], &first["reused"]), (&4.into(), &0.into()));
    assert_eq!(first["tasks"][1]["name"], "Mini-multi.en+sw");
    assert_eq!(first["tasks"][0]["subsets"], serde_json::json!(["en", "sw"]));

    // The figures are those of eval.
    let eval = json(&["eval", "bm25", str(&root().join("collections/mini")), "--langs", "en,sw"]);
    let eval = &eval["pools"][0];
    let bm25 = first["systems"].as_array().unwrap().iter().find(|s| s["name"] == "bm25").unwrap();
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12;
    assert!(close(&bm25["scores"][0], &eval["macro_mean"]["nDCG@10"]));
    let path = out.join("results/bm25/k1-0.9-b-0.4/Mini-mono-same.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let en = &file["scores"]["test"][0];
    assert_eq!((&en["hf_subset"], &en["languages"]), (&"en".into(), &serde_json::json!(["eng-Latn"])));
    for (mteb, ours) in [
        ("main_score", "nDCG@10"),
        ("ndcg_at_10", "nDCG@10"),
        ("precision_at_10", "P@10"),
        ("recall_at_100", "R@100"),
        ("map_at_1000", "AP"),
        ("mrr_at_1000", "RR"),
        ("hit_rate_at_1", "Success@1"),
    ] {
        assert!(close(&en[mteb], &eval["by_lang"]["en"][ours]), "{mteb}");
    }
    assert!(en["P(rel=2)@5"].is_f64());
    let both: Value =
        serde_json::from_str(&fs::read_to_string(path.with_file_name("Mini-multi.en+sw.json")).unwrap())
            .unwrap();
    assert_eq!(both["scores"]["test"][1]["languages"], serde_json::json!(["swa-Latn", "eng-Latn"]));
    assert!(out.join("results/example__toy").is_dir());
    let meta = fs::read_to_string(path.with_file_name("model_meta.json")).unwrap();
    assert!(meta.contains("\"revision\": \"k1-0.9-b-0.4\""), "{meta}");

    // A second run computes nothing and says the same; a result that is damaged is computed again.
    let (_, said) = ok(&args);
    assert!(said.contains("4 results were there already, 0 are new"), "{said}");
    let again = json(&args);
    assert_eq!((&again["systems"], &again["reused"]), (&first["systems"], &4.into()));
    let before = fs::read(&path).unwrap();
    fs::write(&path, "{}").unwrap();
    assert_eq!(json(&args)["computed"], 1);
    let timeless = |bytes: &[u8]| {
        let mut v: Value = serde_json::from_slice(bytes).unwrap();
        v["evaluation_time"] = Value::Null;
        v
    };
    assert_eq!(timeless(&fs::read(&path).unwrap()), timeless(&before));
    // So are results of other settings.
    fs::write(&suite, fs::read_to_string(&suite).unwrap().replace("P(rel=2)@5", "P(rel=3)@5")).unwrap();
    assert_eq!(json(&args)["computed"], 4);

    // Published results stand beside them, found by language; tables come as text and Markdown.
    let published = root().join("crates/polygrade-eval/tests/fixtures/mteb");
    let (table, said) = ok(&[&args[..], &["--results", str(&published), "--markdown"]].concat());
    assert!(
        table.contains("| example/model | ") && table.contains("| Mini-mono-same | ndcg_at_10 |"),
        "{table}"
    );
    assert!(table.contains("0.8600"), "the mean of .88 (en) and .84 (sw):\n{table}");
    assert!(said.contains("no intervals"), "{said}");
    let (table, _) = ok(&["benchmark", str(&suite), "--results", str(&out)]);
    assert!(table.contains("bm25") && table.contains("example/toy"), "{table}");
}

#[test]
fn faults_of_suites_are_said_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let with = |from: &str, to: &str| suite(dir.path(), &SUITE.replace(from, to));
    let wrong = |path: PathBuf, code: i32, words: &[&str]| fails(&["benchmark", str(&path)], code, words);
    wrong(with("metrics", "metric"), 1, &["suite.toml:6", "unknown field", "to mend it", "guide-benchmark"]);
    wrong(
        with("\"mono-same\"", "\"some pool\""),
        1,
        &["suite.toml:4", "\"some pool\" is no pool", "to mend it"],
    );
    wrong(with("\"sw\"]", "\"fr\"]"), 1, &["suite.toml:3", "no query in fr", "to mend it"]);
    wrong(with("\"en,sw\"", "\"fr\""), 1, &["suite.toml:3", "no passages", "to mend it"]);
    wrong(with("MINI", "nowhere"), 1, &["nowhere", "does not exist", "to mend it"]);
    wrong(with("[[model]]\nmodel = \"bm25\"", ""), 2, &["names no model"]);
    wrong(dir.path().join("none.toml"), 1, &["none.toml"]);
    let path = with("", "");
    let twice = ["benchmark", str(&path), "--model", "bm25"];
    fails(&twice, 2, &["two models are called \"bm25\"", "NAME=MODEL"]);
    fails(&["benchmark", str(&path), "--model", "x=nowhere", "--out", str(dir.path())], 1, &["nowhere"]);
}

#[test]
fn a_shrunken_collection_is_valid_and_keeps_judged_passages_and_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mini = root().join("collections/mini");
    let toy = root().join("crates/polygrade-encoder/tests/fixtures/encoders/bert");
    let (a, b, c, out) = (path("bm25.trec"), path("toy.trec"), path("short.trec"), path("small"));
    ok(&["eval", "bm25", str(&mini), "--langs", "en,sw", "--run", str(&a)]);
    ok(&["eval", str(&toy), str(&mini), "--langs", "en,sw", "--run", str(&b)]);
    fs::write(&c, "en-desk-q1 Q0 nothing 1 1.0 x\n").unwrap();
    let args = ["shrink", str(&mini), "--runs", str(&a), str(&b), "--top", "5", "--out", str(&out)];
    let (made, said) = {
        let o = run(&[&args[..], &["--json"]].concat());
        assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
        (serde_json::from_slice::<Value>(&o.stdout).unwrap(), String::from_utf8(o.stderr).unwrap())
    };
    // The runs have two of ten languages, which is said.
    assert!(said.contains("ranks nothing for 384 of 480 queries"), "{said}");
    assert_eq!(made["systems"], serde_json::json!(["bm25", "toy"]));
    let (before, after) = (made["passages"][0].as_u64().unwrap(), made["passages"][1].as_u64().unwrap());
    assert!(after < before, "{after} of {before}");
    ok(&["profile", str(&out)]);
    let (whole, small) = (Collection::load(&mini).unwrap(), Collection::load(&out).unwrap());
    assert_eq!(small.passages.len() as u64, after);
    let ids: std::collections::HashSet<&str> = small.passages.iter().map(|p| p.id.as_str()).collect();
    let graded = whole.graded(polygrade_data::Split::Test);
    for &q in graded.queries() {
        assert!(graded.judged(q).all(|(p, _)| ids.contains(whole.passages[p as usize].id.as_str())));
    }
    assert_eq!(small.judgments(polygrade_data::Split::Test).len(), 2880);
    // BM25 and random weights are far apart: their order holds.
    let en = made["order"].as_array().unwrap().iter().find(|o| o["lang"] == "en").unwrap();
    assert_eq!(en["tau"], 1.0);
    // The mean is that of the two languages that the runs rank, and not of all ten.
    let rows = made["order"].as_array().unwrap();
    assert_eq!(
        rows.iter().map(|o| &o["lang"]).collect::<Vec<_>>(),
        ["en".into(), "sw".into(), Value::Null].iter().collect::<Vec<_>>()
    );
    for system in [0, 1] {
        let full = |i: usize| rows[i]["full"][system].as_f64().unwrap();
        assert!((full(2) - (full(0) + full(1)) / 2.0).abs() < 1e-12);
    }
    fails(&args, 2, &["not empty"]);
    // The folder is looked at before the runs.
    fails(&["shrink", str(&mini), "--runs", "nowhere.trec", "--out", str(&out)], 2, &["not empty"]);
    fails(
        &["shrink", str(&mini), "--runs", str(&a), "--pool", "mono:xx", "--out", str(&path("x"))],
        2,
        &["no passages in xx", "pool mono:xx"],
    );
    let copy = path("copy.trec");
    fs::copy(&a, &copy).unwrap();
    for twice in [&a, &copy] {
        fails(
            &["shrink", str(&mini), "--runs", str(&a), str(twice), "--out", str(&path("x"))],
            1,
            &["as bm25 does", "to mend it"],
        );
    }
    fails(
        &["shrink", str(&mini), "--runs", str(&c), "--out", str(&path("x"))],
        1,
        &["short.trec", "to mend it"],
    );
    fails(
        &["shrink", str(&mini), "--runs", str(&a), "--split", "train", "--out", str(&path("x"))],
        1,
        &["ranks no passage in mono-same"],
    );
    fails(&["shrink", str(&mini), "--runs", str(&a), "--top", "0", "--out", str(&path("x"))], 2, &["--top"]);
    assert!(!path("x").exists());
    ok(&["hard-negatives", "--help"]);
}

#[test]
fn what_shrink_says_of_a_system_is_what_eval_measures_on_the_new_collection() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mini = root().join("collections/mini");
    let toy = root().join("crates/polygrade-encoder/tests/fixtures/encoders/bert");
    let (bm25, toy_run, out) = (path("bm25.trec"), path("toy.trec"), path("small"));
    ok(&["eval", "bm25", str(&mini), "--langs", "en,sw", "--pool", "multi", "--run", str(&bm25)]);
    ok(&["eval", str(&toy), str(&mini), "--langs", "en,sw", "--run", str(&toy_run), "--depth", "5000"]);
    // BM25's run is of all languages; what counts of it under mono-same are its first passages in the query's.
    let args = ["shrink", str(&mini), "--runs", str(&bm25), "--check", str(&toy_run), "--top", "3"];
    let made = json(&[&args[..], &["--out", str(&out)]].concat());
    // BM25 has nobody's pool to be measured on. An encoder scores a passage whatever else is there, so that eval on the
    // new collection must find what was told.
    assert_eq!(made["systems"], serde_json::json!(["toy"]));
    assert!(made["passages"][1].as_u64() < made["passages"][0].as_u64());
    let mut changed = false;
    for (collection, side) in [(&mini, "full"), (&out, "small")] {
        let eval = json(&["eval", str(&toy), str(collection), "--langs", "en,sw"]);
        for row in made["order"].as_array().unwrap().iter().take(2) {
            let (got, want) =
                (&row[side][0], &eval["pools"][0]["by_lang"][row["lang"].as_str().unwrap()]["nDCG@10"]);
            assert!((got.as_f64().unwrap() - want.as_f64().unwrap()).abs() < 1e-9, "{row} {side} {want}");
            changed |= row["full"] != row["small"];
        }
    }
    assert!(changed, "a pool that changes nothing tests nothing");
    // One run alone: nothing can be measured, which is said, and no table is printed.
    let out = run(&["shrink", str(&mini), "--runs", str(&bm25), "--out", str(&path("alone"))]);
    let (text, said) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success() && said.contains("bm25 is not measured"), "{said}");
    assert!(!text.contains("largest change") && text.contains("passages"), "{text}");
    // A whole ranking of the pool is not called short, however large --top.
    let said =
        ok(&["shrink", str(&mini), "--runs", str(&toy_run), "--top", "2000", "--out", str(&path("deep"))]).1;
    assert!(!said.contains("fewer than --top"), "{said}");
}

#[test]
fn results_of_other_folders_stand_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[[collection]]\nname = \"Mini\"\npath = \"MINI\"\nlanguages = [\"en\", \"sw\"]\n";
    let (one, two) = (dir.path().join("o1"), dir.path().join("o2"));
    let first = suite(dir.path(), text);
    let made = json(&["benchmark", str(&first), "--model", "bm25", "--out", str(&one)]);
    let mean = made["systems"][0]["stability"]["mean"].clone();
    assert!(mean["low"].as_f64() < mean["mean"].as_f64() && mean["mean"].as_f64() < mean["high"].as_f64());
    ok(&["benchmark", str(&first), "--model", "bm25", "--out", str(&two)]);
    // The same system in two folders is one row.
    let both = json(&["benchmark", str(&first), "--results", str(&one), "--results", str(&two)]);
    assert_eq!(both["systems"].as_array().unwrap().len(), 1);
    assert_eq!(both["systems"][0]["stability"]["mean"], mean);
    // Another main score: the mean is its, and the values of single queries, which are nDCG's, give no interval.
    let other = suite(dir.path(), &format!("{text}main = \"recall_at_100\"\n"));
    let recall = json(&["benchmark", str(&other), "--results", str(&one)]);
    let row = &recall["systems"][0];
    assert!(row["mean"].as_f64() > mean["high"].as_f64() && row["stability"].is_null(), "{row}");
    assert!(recall["notes"][0].as_str().unwrap().contains("ndcg_at_10 alone"), "{recall}");
    // Another pool under the same name has no score here.
    let multi = suite(dir.path(), &format!("{text}pools = [\"multi\"]\n"));
    let table = json(&["benchmark", str(&multi), "--results", str(&one)]);
    assert!(table["systems"][0]["scores"][0].is_null() && table["systems"][0]["borda"] == 0.0, "{table}");
    assert!(
        table["notes"][0].as_str().unwrap().contains("pool=mono-same, the suite asks for pool=multi"),
        "{table}"
    );
    // Settings or names that a suite may not have.
    let meta = suite(dir.path(), &text.replace("\"Mini\"", "\"model_meta\""));
    fails(&["benchmark", str(&meta), "--model", "bm25"], 1, &["suite.toml:2", "model_meta"]);
    let empty = suite(dir.path(), &format!("{text}[[model]]\nmodel = \"bm25\"\nname = \"\"\n"));
    fails(&["benchmark", str(&empty)], 1, &["suite.toml:5", "an empty name"]);
}
