//! `polygrade eval` in several pools: names, matrices, the folder it writes, and that threads change nothing.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn mini() -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collections/mini");
    path.to_str().unwrap().to_owned()
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polygrade")).args(args).output().unwrap()
}

fn ok(args: &[&str]) -> String {
    let out = run(args);
    assert!(out.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn fails(args: &[&str], words: &[&str]) {
    let out = run(args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{args:?}\n{text}");
    words.iter().for_each(|w| assert!(text.contains(w), "{args:?} should say {w:?}:\n{text}"));
}

fn eval(args: &[&str]) -> Value {
    serde_json::from_str(&ok(&[&["eval", "bm25", &mini(), "--json"], args].concat())).unwrap()
}

#[test]
fn old_spellings_give_the_same_pools() {
    for (old, name) in [
        ("same", "mono-same"),
        ("all", "multi"),
        ("en,zh", "multi:en+zh"),
        ("zh", "mono:zh"),
        ("own+en", "multi:own+en"),
    ] {
        let [a, b] = [old, name].map(|pool| eval(&["--langs", "en,zh", "--pool", pool, "-m", "nDCG@10"]));
        assert_eq!(a, b);
        assert_eq!(a["pools"][0]["pool"], name);
    }
}

#[test]
fn a_matrix_is_its_pools_and_the_pools_are_as_large_as_they_should_be() {
    let all =
        eval(&["--langs", "en,zh,sw", "--matrix", "--pool", "multi:own+en", "-m", "nDCG@10", "-m", "RR"]);
    let pools = all["pools"].as_array().unwrap();
    assert_eq!(pools.len(), 12, "own and English, own, and ten languages");
    assert_eq!(pools[0]["pool"], "multi:own+en");
    assert_eq!(pools[0]["passages"]["zh"], serde_json::json!({ "en": 720, "zh": 720 }));
    assert_eq!(pools[0]["passages"]["en"], serde_json::json!({ "en": 720 }));
    assert_eq!(pools[0]["bias"]["queries"], 96, "English queries meet one language here");
    for passages in ["en", "zh", "sw", "ar"] {
        let alone = eval(&["--langs", "en,zh,sw", "--pool", &format!("mono:{passages}"), "-m", "nDCG@10"]);
        for query in ["en", "zh", "sw"] {
            let cell = &all["matrix"]["nDCG@10"][query][passages]["mean"];
            assert_eq!(cell, &alone["pools"][0]["by_lang"][query]["nDCG@10"], "{query} {passages}");
        }
    }
    let cross = pools.iter().find(|p| p["pool"] == "mono-cross:zh").unwrap();
    assert_eq!(cross["queries"], 96, "Chinese queries have no place among Chinese passages");
    assert!(ok(&["eval", "bm25", &mini(), "--langs", "en,zh", "--matrix"]).contains("queries in rows"));
}

#[test]
fn the_folder_holds_everything_and_threads_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folders = ["1", "2"].map(|threads| {
        let out = dir.path().join(threads);
        let args =
            ["eval", "bm25", &mini(), "--langs", "en,ar", "--pool", "multi:ar+en", "--pool", "mono-same"];
        ok(&[&args[..], &["--out", out.to_str().unwrap(), "--threads", threads, "--worst", "2"]].concat());
        out
    });
    let files = [
        "evaluation.json",
        "pools.json",
        "report.html",
        "worst.html",
        "runs/multi.ar+en.trec",
        "runs/mono-same.trec",
        "queries/multi.ar+en.tsv",
        "queries/mono-same.tsv",
    ];
    for file in files {
        let [a, b] = [0, 1].map(|i| fs::read(folders[i].join(file)).unwrap());
        assert!(!a.is_empty() && a == b, "{file}");
    }
    let read = |file: &str| fs::read_to_string(folders[0].join(file)).unwrap();
    let pools: Value = serde_json::from_str(&read("pools.json")).unwrap();
    assert_eq!(pools["pools"][0]["run"], "runs/multi.ar+en.trec");
    assert_eq!(pools["pools"][0]["passages"]["ar"]["en"], 720);
    // The means of the table of queries are those of the evaluation.
    let evaluation: Value = serde_json::from_str(&read("evaluation.json")).unwrap();
    let table = read("queries/multi.ar+en.tsv");
    let head: Vec<&str> = table.lines().next().unwrap().split('\t').collect();
    for measure in ["nDCG@10", "Max@R", "LPR(own)"] {
        let column = head.iter().position(|h| *h == measure).unwrap();
        let values: Vec<f64> = table
            .lines()
            .skip(1)
            .map(|l| l.split('\t').collect::<Vec<_>>())
            .filter(|l| l[1] == "ar" && !l[column].is_empty())
            .map(|l| l[column].parse().unwrap())
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let pool = &evaluation["pools"][0];
        let said = if measure == "nDCG@10" {
            &pool["by_lang"]["ar"][measure]
        } else {
            &pool["bias"]["by_lang"]["ar"][measure]["mean"]
        };
        assert!((said.as_f64().unwrap() - mean).abs() < 1e-9, "{measure}: {said} {mean}");
    }
    for page in ["report.html", "worst.html"] {
        let html = read(page);
        assert!(html.ends_with("</html>\n") && !html.contains("<script"), "{page}");
        for tag in ["section", "details", "table", "svg", "ol", "li", "g"] {
            let (open, close) =
                (html.matches(&format!("<{tag}")).count(), html.matches(&format!("</{tag}>")).count());
            // `<g` begins other tags too.
            assert!(
                open >= close && (tag == "g" || tag == "li" || open == close),
                "{page}: {tag} {open} {close}"
            );
        }
    }
    let worst = read("worst.html");
    assert!(worst.contains("lang=\"ar\" dir=\"auto\"") && worst.contains("✓"));
    assert_eq!(worst.matches("class=\"card query\"").count(), 4, "two of each language");
}

#[test]
fn what_is_no_pool_is_refused() {
    let mini = mini();
    let dir = tempfile::tempdir().unwrap();
    let [run, full] = ["x.trec", "full"].map(|n| dir.path().join(n).to_str().unwrap().to_owned());
    fs::create_dir(&full).unwrap();
    fs::write(dir.path().join("full/x"), "x").unwrap();
    let base = ["eval", "bm25", &mini];
    for (args, words) in [
        (&["--pool", "multi:"][..], &["no pool", "multi:own+en"][..]),
        (&["--pool", "multi:en+fr"], &["no passages in fr"]),
        (&["--pool", "mono-cross:en", "--langs", "en"], &["all queries are in that language"]),
        (&["--scenario", "y"], &["no scenario", "lareqa"]),
        (&["--matrix", "--run", &run], &["--out"]),
        (&["--bias-rel", "4"], &["--bias-rel", "at most 3"]),
        (&["--bias-k", "0"], &["--bias-k"]),
        (&["--out", &full], &["not empty"]),
    ] {
        fails(&[&base[..], args].concat(), words);
    }
    let e = eval(&["--langs", "en,zh", "--scenario", "lareqa"]);
    assert_eq!((&e["metrics"][0], &e["pools"][0]["pool"]), (&"AP".into(), &"multi".into()));
}
