//! `polygrade benchmark` and `polygrade shrink` as users meet them.
#![allow(clippy::unwrap_used)]

use polygrade_data::Collection;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polygrade")).args(args).output().unwrap()
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

fn fails(args: &[&str], code: i32, words: &[&str]) {
    let out = run(args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{text}");
    words.iter().for_each(|w| assert!(text.contains(w), "{args:?} should say {w:?}:\n{text}"));
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
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
    // What BM25 scores on the pool that the other system made is what eval says of its ranking there, but for idf.
    let (text, _) = ok(&[&args[..7], &["--check", str(&a), "--out", str(&path("again"))]].concat());
    assert!(text.contains("mean small") && text.contains("τ"), "{text}");
    fails(&args, 2, &["not empty"]);
    fails(
        &["shrink", str(&mini), "--runs", str(&c), "--out", str(&path("x"))],
        1,
        &["short.trec", "to mend it"],
    );
    fails(
        &["shrink", str(&mini), "--runs", str(&a), "--split", "train", "--out", str(&path("x"))],
        1,
        &["none of"],
    );
    fails(&["shrink", str(&mini), "--runs", str(&a), "--top", "0", "--out", str(&path("x"))], 2, &["--top"]);
    ok(&["hard-negatives", "--help"]);
}
