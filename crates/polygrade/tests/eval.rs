//! `polygrade eval` in several pools: names, matrices, the folder it writes, and that threads change nothing; that values do
//! not depend on what else is asked for, and that what cannot be said is not said.
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
    eval_of(&mini(), args)
}

fn eval_of(collection: &str, args: &[&str]) -> Value {
    serde_json::from_str(&ok(&[&["eval", "bm25", collection, "--json"], args].concat())).unwrap()
}

/// A collection of one question in English and Swahili, with its answers in both, graded `grade` of `max`, and some more
/// passages. `name` is its name, and in all ids and texts; a passage has `shared` where it has a term of the query.
fn made(dir: &Path, name: &str, (grade, max): (u32, u32), shared: &str) -> String {
    fs::create_dir_all(dir.join("qrels")).unwrap();
    let line = |id: String, text: String, lang: &str, group: &str| {
        serde_json::json!({ "_id": id, "text": text, "lang": lang, "group": group }).to_string() + "\n"
    };
    let (mut corpus, mut queries, mut qrels) = (String::new(), String::new(), String::new());
    for lang in ["en", "sw"] {
        for i in 0..20 {
            let text = if i == 0 { format!("{name} {shared}") } else { format!("{name} filler{i}") };
            corpus += &line(format!("{lang}-{i}{name}"), text, lang, &format!("p{i}"));
        }
        queries += &line(format!("{lang}-q{name}"), format!("asked {name}x"), lang, "q");
    }
    qrels += &format!("query-id\tcorpus-id\tscore\nen-q{name}\ten-0{name}\t{grade}\n");
    let toml = format!("name = '{name}'\nlicence = 'none'\nsource = 'made'\n[grades]\nmax = {max}\n");
    for (file, text) in [
        ("corpus.jsonl", corpus),
        ("queries.jsonl", queries),
        ("qrels/test.tsv", qrels),
        ("collection.toml", toml),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
    dir.to_str().unwrap().to_owned()
}

#[test]
fn a_value_depends_on_nothing_else_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.trec");
    let base = ["--langs", "en", "--depth", "5", "-m", "AP"];
    let of = |args: &[&str], metric: &str| {
        let e = eval(&[&base[..], args].concat());
        e["pools"][0]["by_lang"]["en"][metric].as_f64().unwrap()
    };
    let alone = of(&["--run", file.to_str().unwrap()], "AP");
    assert_eq!(of(&["-m", "R@100"], "AP"), alone);
    // English queries meet the same passages in both.
    assert_eq!(of(&["--pool", "multi:own+en"], "AP"), alone);
    // The run file holds what AP saw.
    let run = fs::read_to_string(&file).unwrap();
    let queries =
        run.lines().map(|l| l.split(' ').next().unwrap()).collect::<std::collections::BTreeSet<_>>();
    assert!(run.lines().count() > 4 * queries.len() && run.lines().count() <= 5 * queries.len());
    // A cut-off in the name is the depth.
    let deep = eval(&["--langs", "en", "-m", "R@100"]);
    assert_eq!(of(&["-m", "R@100"], "R@100"), deep["pools"][0]["by_lang"]["en"]["R@100"].as_f64().unwrap());
    let whole = eval(&["--langs", "en", "-m", "AP"]);
    assert!(alone < whole["pools"][0]["by_lang"]["en"]["AP"].as_f64().unwrap());
}

#[test]
fn one_question_has_no_interval() {
    let dir = tempfile::tempdir().unwrap();
    let collection = made(dir.path(), "one", (3, 3), "asked");
    let args = ["--pool", "multi", "-m", "RR"];
    let e = eval_of(&collection, &args);
    let pool = &e["pools"][0];
    for i in [
        &pool["intervals"]["mean"]["RR"],
        &pool["bias"]["mean"]["Comp@10"],
        &pool["bias"]["by_lang"]["sw"]["RankGap"],
    ] {
        assert!(i["mean"].is_number() && i["low"].is_null() && i["high"].is_null(), "{i}");
    }
    let text = ok(&[&["eval", "bm25", &collection], &args[..]].concat());
    assert!(text.contains("for 100 % all relevant passages") && !text.contains('['), "{text}");
}

#[test]
fn passages_that_are_not_ranked_prefer_no_language() {
    let dir = tempfile::tempdir().unwrap();
    let collection = made(&dir.path().join("c"), "lost", (3, 3), "nothing");
    let out = dir.path().join("out");
    let e = eval_of(&collection, &["--pool", "multi", "--out", out.to_str().unwrap()]);
    let bias = &e["pools"][0]["bias"]["mean"];
    assert_eq!(
        (&bias["LPR(own)"], &bias["LPR(en)"], &bias["RankGap"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&bias["Max@R"]["mean"], &bias["Comp@10"]["mean"]), (&40.0.into(), &0.0.into()));
    let page = fs::read_to_string(out.join("worst.html")).unwrap();
    assert!(page.contains("not ranked") && !page.contains("stands at rank"), "{page}");
}

#[test]
fn grades_far_apart_are_no_loop() {
    let dir = tempfile::tempdir().unwrap();
    let collection = made(&dir.path().join("c"), "steps", (3_000_000, 3_000_000), "asked");
    let out = dir.path().join("out");
    let e = eval_of(&collection, &["--pool", "multi", "-m", "RR", "--out", out.to_str().unwrap()]);
    let names = e["pools"][0]["bias"]["mean"].as_object().unwrap().keys();
    let peer: Vec<&String> = names.filter(|n| n.starts_with("PEER")).collect();
    assert_eq!(peer, ["PEER(3000000)@100"], "of grade 0 nothing is ranked");
}

#[test]
fn no_relevant_passage_is_said_and_not_a_table_of_dashes() {
    let dir = tempfile::tempdir().unwrap();
    let collection = made(dir.path(), "weak", (1, 3), "asked");
    let text = ok(&["eval", "bm25", &collection, "--pool", "multi"]);
    assert!(text.contains("No query has a passage of grade 3") && text.contains("--bias-rel"), "{text}");
    assert!(!text.contains('–'), "{text}");
    assert!(ok(&["eval", "bm25", &collection, "--pool", "multi", "--bias-rel", "1"]).contains("LPR(own)"));
}

#[test]
fn the_console_shows_what_was_asked_for() {
    let mini = mini();
    let show = |args: &[&str]| ok(&[&["eval", "bm25", &mini], args].concat());
    let cross = ["--langs", "en,zh", "--pool", "mono-same", "--pool", "mono-cross"];
    let text = show(&[&cross[..], &["-m", "nDCG@10", "-m", "RR"]].concat());
    for words in ["pool mono-same", "nDCG@10, queries in rows", "RR, queries in rows", "\nmean "] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert_eq!(show(&cross).matches("queries in rows").count(), 1, "of the usual metrics the first");
    let sentences =
        |langs: &str| show(&["--langs", langs, "--pool", "multi", "-m", "RR"]).contains("% of the pool.");
    assert!(sentences("en,zh,sw") && !sentences("en,zh,sw,ar"));
    let e = eval(&["--langs", "en,zh,sw,ar", "--pool", "multi", "-m", "RR"]);
    assert!(e["pools"][0]["bias"]["sentences"].as_array().unwrap().len() > 4);
}

#[test]
fn pages_escape_what_others_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = "<script>\"&<img/src=x>";
    let collection = made(&dir.path().join("c"), hostile, (3, 3), "asked");
    let out = dir.path().join("out");
    ok(&["eval", "bm25", &collection, "--pool", "multi", "--out", out.to_str().unwrap()]);
    for page in ["report.html", "worst.html"] {
        let html = fs::read_to_string(out.join(page)).unwrap();
        assert!(html.contains("&lt;script&gt;"), "{page} shows it");
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("\"&<"), "{page}");
    }
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
        assert!(html.ends_with("</html>\n"), "{page}");
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
fn a_bonus_for_the_own_language_moves_pools_that_mix_and_no_others() {
    let mini = mini();
    let base = [
        "eval",
        "pocket",
        &mini,
        "--langs",
        "de,sw",
        "--pool",
        "multi:own+en",
        "--pool",
        "mono-same",
        "--json",
    ];
    let with = |bonus: &str| -> Value {
        let args = [&base[..], &["--own-language-bonus", bonus]].concat();
        serde_json::from_str(&ok(&args)).unwrap()
    };
    let [plain, own, others] = ["0", "2", "-2"].map(with);
    assert_eq!((&plain["own_language_bonus"], &own["own_language_bonus"]), (&0.0.into(), &2.0.into()));
    let bias = |e: &Value, measure: &str| e["pools"][0]["bias"]["mean"][measure]["mean"].as_f64().unwrap();
    assert_eq!((bias(&own, "LPR(own)"), bias(&own, "Inclination(en)@10")), (100.0, 0.0));
    assert_eq!((bias(&others, "LPR(own)"), bias(&others, "Inclination(own)@10")), (0.0, 0.0));
    assert!(bias(&plain, "Inclination(en)@10") > 0.0 && bias(&plain, "LPR(own)") > 50.0);
    let same = |e: &Value| e["pools"][1]["macro_mean"].clone();
    assert_eq!((same(&own), same(&others)), (same(&plain), same(&plain)));

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bias");
    let args = [&base[..9], &["--own-language-bonus", "0.1", "--out", out.to_str().unwrap()]].concat();
    assert!(ok(&args).contains("0.1 added in the query's language"));
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("0.1 was added to the cosine"));
    fails(&["eval", "bm25", &mini, "--own-language-bonus", "1"], &["bm25"]);
    for bad in ["nan", "inf", "2.1", "x"] {
        fails(&["eval", "pocket", &mini, "--own-language-bonus", bad], &["expected a number from -2 to 2"]);
    }
}

#[test]
fn search_prefers_the_querys_language_where_told() {
    let mini = mini();
    let langs = |query: &str, args: &[&str]| -> Vec<String> {
        let args = [&["search", "pocket", &mini, query, "--json", "-k", "30"], args].concat();
        let found: Value = serde_json::from_str(&ok(&args)).unwrap();
        found.as_array().unwrap().iter().map(|f| f["lang"].as_str().unwrap().to_owned()).collect()
    };
    let of = |langs: &[String], lang: &str| langs.iter().filter(|l| *l == lang).count();
    let query = "how high should my desk be for typing without shoulder pain";
    let plain = langs(query, &[]);
    assert!(of(&plain, "en") < 30 && of(&plain, "de") > 0, "{plain:?}");
    // A query of the collection has its language there; another is told, and what is told goes first.
    assert_eq!(of(&langs(query, &["--own-language-bonus", "2"]), "en"), 30);
    assert_eq!(of(&langs(query, &["--own-language-bonus", "-2"]), "en"), 0);
    let told = ["--own-language-bonus", "2", "--query-lang", "de"];
    assert_eq!((of(&langs("Höhe", &told), "de"), of(&langs(query, &told), "de")), (30, 30));
    fails(&["search", "pocket", &mini, "Höhe", "--own-language-bonus", "1"], &["--query-lang"]);
    fails(&["search", "pocket", &mini, "Höhe", "--query-lang", "de"], &["--own-language-bonus"]);
    let args = ["search", "pocket", &mini, "x", "--own-language-bonus", "1", "--query-lang", "fr"];
    fails(&args, &["no texts in fr"]);
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
        (&["-m", "foo"], &["no metric", "docs/metrics.md"]),
        (&["--langs", ""], &["--langs names no language"]),
    ] {
        fails(&[&base[..], args].concat(), words);
    }
    let e = eval(&["--langs", "en,zh", "--scenario", "lareqa"]);
    assert_eq!((&e["metrics"][0], &e["pools"][0]["pool"]), (&"AP".into(), &"multi".into()));
}
