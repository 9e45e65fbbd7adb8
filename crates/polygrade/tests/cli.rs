//! The program as users meet it: verbs, exit codes, files, and the promises about seeds, threads and resuming.
#![allow(clippy::unwrap_used)]

mod common;

use common::{command, fails, ok, run, str};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collections/mini")
}

/// Small settings, so that a model takes well under a second.
const SMALL: [&str; 8] = ["--vocab-size", "3000", "--dim", "32", "--epochs", "2", "--langs", "en,sw"];

#[test]
fn every_verb_has_help_with_an_example() {
    let help = ok(&["--help"]);
    for verb in [
        "calibrate",
        "train",
        "eval",
        "compare",
        "metrics",
        "trec-eval",
        "benchmark",
        "shrink",
        "search",
        "encode",
        "mine",
        "model",
        "profile",
        "labels",
        "import",
        "export",
        "tokenizer",
        "pretrain",
        "trim",
    ] {
        assert!(help.contains(verb), "{verb}");
        let text = ok(&[verb, "--help"]);
        assert!(text.contains("Example") && text.contains(&format!("polygrade {verb}")), "{verb}:\n{text}");
        assert!(text.contains("--json") && text.contains("--threads"), "{verb}");
    }
}

#[test]
fn exit_codes_say_whose_fault_it_is() {
    let mini = mini();
    let mini = str(&mini);
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    let out = dir.path().join("out");
    fails(&["profile", str(&missing)], 1, &["does not exist"]);
    fails(&["eval", str(&missing), mini], 1, &["neither a folder nor the name of a model"]);
    fails(&["nonsense"], 2, &["nonsense"]);
    fails(&["train", mini, "--out", str(&out)], 2, &["--tau"]);
    fails(&["train", mini, "--tau", "x", "--out", str(&out)], 2, &["band"]);
    fails(&["train", mini, "--tau", "9", "--out", str(&out)], 2, &["no training query has a positive"]);
    fails(&["train", mini, "--tau", "2", "--langs", "fr", "--out", str(&out)], 2, &["fr", "it has ar, de"]);
    fails(&["train", mini, "--tau", "2", "--out", mini], 2, &["not empty"]);
    fails(&["eval", "bm25", mini, "-m", "foo"], 2, &["no metric"]);
    fails(&["eval", "bm25", mini, "--pool", "everything"], 2, &["no pool"]);
    fails(&["import", "foo", mini, "--out", str(&out)], 2, &["no format", "squad"]);
    fails(&["calibrate", mini, "--grid", "2:1", "--out", str(&out)], 2, &["--grid"]);
    fails(&["profile", mini, "--threads", "0"], 2, &["--threads"]);
    assert!(!out.exists());

    let broken = dir.path().join("broken");
    fs::create_dir_all(broken.join("qrels")).unwrap();
    fs::write(broken.join("collection.toml"), "name = \"b\"\n[grades]\nmax = 3\n").unwrap();
    fs::write(broken.join("corpus.jsonl"), "{\"_id\":\"d1\",\"text\":\"a\",\"lang\":\"en\"}\n{\"_id\":\n")
        .unwrap();
    fs::write(broken.join("queries.jsonl"), "{\"_id\":\"q1\",\"text\":\"a\",\"lang\":\"en\"}\n").unwrap();
    fs::write(broken.join("qrels/test.tsv"), "query-id\tcorpus-id\tscore\nq1\td1\t7\nq1\td9\t1\n").unwrap();
    let words = ["corpus.jsonl:2", "test.tsv:2", "off the scale", "test.tsv:3", "\"d9\"", "to mend it"];
    fails(&["profile", str(&broken)], 1, &words);
    fails(&["eval", "bm25", str(&broken)], 1, &words);
}

#[test]
fn mini_is_what_its_source_gives() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/mini");
    if !source.is_dir() {
        eprintln!("skipped: {} is absent", source.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("mini");
    ok(&["import", "topics", str(&source), "--out", str(&out)]);
    for file in ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/dev.tsv", "qrels/test.tsv"] {
        assert!(fs::read(out.join(file)).unwrap() == fs::read(mini().join(file)).unwrap(), "{file}");
    }
}

#[test]
fn mini_splits_by_topic_with_every_domain_in_every_split() {
    let profile: Value = serde_json::from_str(&ok(&["profile", str(&mini()), "--json"])).unwrap();
    assert_eq!(profile["languages"].as_array().unwrap().len(), 10);
    assert_eq!(profile["splits"], serde_json::json!({ "train": 8640, "dev": 2880, "test": 2880 }));
    let mut topics = std::collections::BTreeMap::new();
    for split in ["train", "dev", "test"] {
        let text = fs::read_to_string(mini().join(format!("qrels/{split}.tsv"))).unwrap();
        let mut domains = std::collections::BTreeSet::new();
        for line in text.lines().skip(1) {
            // LANG-DOMAIN-NN-qX
            let parts: Vec<&str> = line.split('\t').next().unwrap().split('-').collect();
            domains.insert(parts[1].to_owned());
            let before = topics.insert(parts[1..3].join("-"), split);
            assert!(before.is_none_or(|s| s == split), "{line} crosses splits");
        }
        assert_eq!(domains.len(), 12, "{split}");
    }
    assert_eq!(topics.len(), 120);
}

#[test]
fn train_eval_encode_and_search_work_together() {
    let mini = mini();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (model, run_file, npy) = (path("model"), path("run.trec"), path("x.npy"));
    let args = [&["train", str(&mini), "--tau", "2", "--out", str(&model), "--json"][..], &SMALL].concat();
    let trained: Value = serde_json::from_str(&ok(&args)).unwrap();
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    assert!(card.contains("default = \"2\"") && card.contains("mixture"));

    let args = [
        "eval",
        str(&model),
        str(&mini),
        "--split",
        "dev",
        "--langs",
        "en,sw",
        "--json",
        "--run",
        str(&run_file),
    ];
    let eval: Value = serde_json::from_str(&ok(&args)).unwrap();
    let (a, b) = (
        eval["pools"][0]["macro_mean"]["nDCG@10"].as_f64().unwrap(),
        trained[0]["dev_ndcg_10"].as_f64().unwrap(),
    );
    assert!((a - b).abs() < 1e-9, "the same model and queries: {a} {b}");
    // What was written to disk gives the same figures as what was in memory.
    let run = polygrade_eval::run::read(&run_file).unwrap();
    let collection = polygrade_data::Collection::load(&mini).unwrap();
    let graded = collection.graded(polygrade_data::Split::Dev);
    let (mut sum, mut n) = (0.0, 0.0);
    for (q, query) in collection.queries.iter().enumerate() {
        let Some(ranking) = run.get(&query.id) else { continue };
        let place = |id: &str| collection.passages.iter().position(|p| p.id == id).unwrap() as u32;
        let ranked = ranking.iter().map(|(id, _)| place(id));
        let pool = polygrade_eval::Pool::Same;
        let topic = polygrade_eval::pool::topic(&collection, &graded, &pool, q as u32, ranked);
        sum += polygrade_eval::Measure::Ndcg(Some(10)).of(&topic);
        n += 1.0;
    }
    assert!((a - sum / n).abs() < 1e-9, "{a} {}", sum / n);

    ok(&["encode", str(&model), str(&mini.join("queries.jsonl")), "--out", str(&npy), "--query"]);
    let bytes = fs::read(&npy).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00") && bytes.len() == 128 + 2400 * 32 * 4);
    assert!(String::from_utf8_lossy(&bytes[..128]).contains("'shape': (2400, 32)"));
    assert_eq!(fs::read_to_string(path("x.ids.txt")).unwrap().lines().count(), 2400);

    let query = "how high should my desk be for typing without shoulder pain";
    let found: Value =
        serde_json::from_str(&ok(&["search", str(&model), str(&mini), query, "--json", "-k", "7200"]))
            .unwrap();
    assert_eq!(found.as_array().unwrap().len(), 7200);
    assert!(found.as_array().unwrap().iter().any(|f| f["grade"].is_number()), "a judged query shows grades");
    assert!(ok(&["search", str(&model), str(&mini), query, "--langs", "sw"]).contains("sw-"));
}

#[test]
fn texts_in_jsonl_tsv_and_txt_get_the_same_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let encode = |name: &str, input: &str| {
        let path = dir.path().join(name);
        fs::write(&path, input).unwrap();
        let out = dir.path().join(format!("{name}.npy"));
        ok(&["encode", "pocket", str(&path), "--out", str(&out)]);
        let ids = fs::read_to_string(dir.path().join(format!("{name}.ids.txt"))).unwrap();
        (fs::read(out).unwrap(), ids)
    };
    let json =
        "{\"_id\": \"a\", \"text\": \"growing tomatoes\"}\n{\"_id\": \"b\", \"text\": \"\\\"Wie?\\\"\"}\n";
    let (vectors, ids) = encode("x.jsonl", json);
    assert_eq!(ids, "a\nb\n");
    assert_eq!(encode("y.tsv", "a\tgrowing tomatoes\nb\t\"Wie?\"\n"), (vectors.clone(), ids));
    // A blank line is passed over and counted.
    assert_eq!(encode("z.txt", "growing tomatoes\n\n\"Wie?\"\n"), (vectors, "1\n3\n".to_owned()));
    let bad = dir.path().join("bad.tsv");
    fs::write(&bad, "a\tb\tc\nd\te\nno tab\n").unwrap();
    let out = dir.path().join("bad.npy");
    let words = ["bad.tsv:1: has 3 columns, expected 2", "bad.tsv:3: has 1 columns"];
    fails(&["encode", "pocket", str(&bad), "--out", str(&out)], 1, &words);
    assert!(!out.exists());
}

#[test]
fn the_same_seed_gives_the_same_bytes_at_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let mini = mini();
    let bytes: Vec<(Vec<u8>, Vec<u8>)> = ["1", "2", "2"]
        .iter()
        .enumerate()
        .map(|(i, threads)| {
            let out = dir.path().join(i.to_string());
            let args = ["train", str(&mini), "--tau", "1", "--out", str(&out), "--threads", threads];
            ok(&[&args[..], &SMALL].concat());
            let read = |name: &str| fs::read(out.join(name)).unwrap();
            (read("model.safetensors"), read("tokenizer.json"))
        })
        .collect();
    assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
}

/// Starts a command, kills it as soon as `ready` holds, and says whether it was still running then.
fn kill_when(args: &[String], ready: impl Fn() -> bool) -> bool {
    let mut child = command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !ready() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(started.elapsed() < Duration::from_secs(300), "{args:?} never got ready");
        std::thread::sleep(Duration::from_millis(2));
    }
    let running = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    running
}

#[test]
fn a_killed_training_goes_on_to_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let mini = mini();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let args = |out: &Path| -> Vec<String> {
        let own = ["train", str(&mini), "--tau", "2", "--save-steps", "1", "--out", str(out)];
        own.iter().chain(&SMALL).map(|s| (*s).to_owned()).collect()
    };
    ok(&args(&whole));
    let checkpoint = dir.path().join("cut.checkpoint");
    let killed = kill_when(&args(&cut), || checkpoint.exists());
    assert!(killed && !cut.exists() && checkpoint.exists(), "no half model is left");
    ok(&args(&cut));
    assert!(
        fs::read(whole.join("model.safetensors")).unwrap()
            == fs::read(cut.join("model.safetensors")).unwrap()
    );
    assert!(!checkpoint.exists());
}

/// A calibration without what depends on the clock and the command line.
fn timeless(path: &Path) -> Value {
    let mut value: Value = serde_json::from_slice(&fs::read(path.join("calibration.json")).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove("made");
    for cell in value["cells"].as_array_mut().unwrap() {
        for arm in cell["arms"].as_array_mut().unwrap() {
            arm.as_object_mut().unwrap().remove("seconds");
        }
    }
    value
}

#[test]
fn a_killed_calibration_goes_on_to_the_same_result() {
    let dir = tempfile::tempdir().unwrap();
    let mini = mini();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let args = |out: &Path, threads: &str| -> Vec<String> {
        let own = [
            "calibrate",
            str(&mini),
            "--seeds",
            "2",
            "--grid",
            "1,2,0:3",
            "--out",
            str(out),
            "--threads",
            threads,
        ];
        own.iter().chain(&SMALL).map(|s| (*s).to_owned()).collect()
    };
    ok(&args(&whole, "2"));
    let finished = || fs::read_dir(cut.join("arms")).map_or(0, |d| d.filter(is_json).count());
    for goal in [1, 4, 9] {
        assert!(kill_when(&args(&cut, "2"), || finished() >= goal), "killed at {goal}");
        assert!(!cut.join("calibration.json").exists());
    }
    let out = run(&args(&cut, "1"));
    assert!(out.status.success());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("measurements were there from an earlier run"), "{said}");
    assert_eq!(timeless(&whole), timeless(&cut));
    let toml = |p: &Path| fs::read_to_string(p.join("calibrated.toml")).unwrap();
    assert_eq!(toml(&whole), toml(&cut));
    assert!(fs::read_to_string(cut.join("report.html")).unwrap().contains("</html>"));

    // The labels it wrote are ones that training takes.
    let (labels, model) = (cut.join("calibrated.toml"), dir.path().join("model"));
    let own =
        ["train", str(&mini), "--labels", str(&labels), "--scenario", "monolingual", "--out", str(&model)];
    ok(&[&own[..], &SMALL].concat());
    assert!(model.join("sw/model.safetensors").is_file() && model.join("en/model.safetensors").is_file());

    // Results of other settings are never mixed in.
    let mut other = args(&cut, "1");
    let epochs = other.iter().position(|a| a == "--epochs").unwrap();
    other[epochs + 1] = "3".into();
    fails(&other, 1, &["another collection, settings or version"]);
}

#[test]
fn training_races_first_where_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (mini, out) = (mini(), dir.path().join("model"));
    let own = ["train", str(&mini), "--labels", "auto", "--out", str(&out)];
    ok(&[&own[..], &SMALL].concat());
    let beside = dir.path().join("model.calibration");
    assert!(out.join("model.safetensors").is_file() && beside.join("report.html").is_file());
    let found: Value = serde_json::from_slice(&fs::read(beside.join("calibration.json")).unwrap()).unwrap();
    assert_eq!(found["search"]["kind"], "race");
    let chosen = found["cells"][0]["tau_chosen"].as_str().unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains(&format!("default = \"{chosen}\"")), "the card says what was trained: {card}");

    // A loss in a label file is what is minimised.
    let labels = dir.path().join("labels.toml");
    fs::write(&labels, "default = \"graded\"\nloss = \"listnet\"\n").unwrap();
    let graded = dir.path().join("graded");
    let own = ["train", str(&mini), "--labels", str(&labels), "--out", str(&graded)];
    ok(&[&own[..], &SMALL].concat());
    assert!(fs::read_to_string(graded.join("README.md")).unwrap().contains("name: Listnet"));
}

fn is_json(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "json"))
}

/// Each pair of languages has models and a race of its own, whatever other pairs there are, and training takes what was
/// chosen for a pair.
#[test]
fn pairs_of_languages_race_on_their_own() {
    let (mini, dir) = (mini(), tempfile::tempdir().unwrap());
    let calibrate = |pairs: &str, out: &str| -> Value {
        let out = dir.path().join(out);
        let small =
            ["--vocab-size", "3000", "--dim", "32", "--epochs", "2", "--seeds", "2", "--langs", "de,en,sw"];
        let rest = ["--scenario", "cross-lingual", "--pairs", pairs, "--out", str(&out), "--json"];
        let all = [&["calibrate", str(&mini), "--grid", "1,3,bixse"], &small[..], &rest[..]].concat();
        serde_json::from_str(&ok(&all)).unwrap()
    };
    let (two, one) = (calibrate("en:de,sw:en", "two"), calibrate("sw:en", "one"));
    let texts = |list: &Value, keys: &[&str]| -> Vec<String> {
        let key =
            |x: &Value| keys.iter().map(|k| x[*k].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>();
        list.as_array().unwrap().iter().map(|x| key(x).join(" ")).collect()
    };
    assert_eq!(texts(&two["search"]["races"], &["lang", "passage_lang"]), ["en de", "sw en"]);
    let cells = texts(&two["cells"], &["query_lang", "passage_lang"]);
    assert_eq!(cells, ["all other", "en other", "sw other", "en de", "sw en"]);
    let of = |c: &Value, table: &str| -> Vec<Value> {
        let own = |x: &&Value| x["query_lang"] == "sw" && x["passage_lang"] == "en";
        c[table].as_array().unwrap().iter().filter(own).cloned().collect()
    };
    // Dev values of a pair are those of its models, which know nothing of other pairs.
    let dev = |c: &Value| -> Vec<Value> {
        of(c, "cells")[0]["policies"].as_array().unwrap().iter().map(|p| p["mean"].clone()).collect()
    };
    assert_eq!(dev(&two), dev(&one));
    assert_eq!(of(&two, "test").iter().filter(|r| r["system"] == "calibrated").count(), 1);
    let html = fs::read_to_string(dir.path().join("two/report.html")).unwrap();
    assert!(html.contains("sw → en") && html.contains("Each pair of languages has a model of its own"));

    let bad = |pairs: &str, word: &str| {
        let out = dir.path().join("bad");
        fails(&["calibrate", str(&mini), "--pairs", pairs, "--out", str(&out)], 2, &[word]);
    };
    bad("en-de", "QUERIES:PASSAGES");
    bad("en:en", "two different languages");
    bad("en:fr", "two different languages");
    let refused = |args: &[&str], word: &str| {
        let out = dir.path().join("refused");
        fails(&[args, &["--out", str(&out)]].concat(), 2, &[word]);
        assert!(!out.join("calibration.json").exists());
    };
    refused(&["calibrate", str(&mini), "--scenario", "mixture", "--pairs", "en:de"], "cross-lingual");
    refused(&["calibrate", str(&mini), "--langs", "en", "--pairs", "each"], "no pair");
    let train = ["train", str(&mini), "--langs", "en,sw", "--query-langs", "sw"];
    refused(&[&train[..], &["--labels", "auto"]].concat(), "--pairs");
    refused(&[&train[..], &["--tau", "1", "--scenario", "monolingual"]].concat(), "one model");

    // A loss that was chosen for one pair alone is that of this pair's model.
    let (labels, out) = (dir.path().join("labels.toml"), dir.path().join("model"));
    let toml = "default = \"2\"\n\n[[rule]]\nscenario = \"cross-lingual\"\nquery-lang = \"sw\"\npassage-lang = \"en\"\n\
                policy = \"graded\"\nloss = \"bixse\"\n";
    fs::write(&labels, toml).unwrap();
    let train = |query_langs: &str, out: &Path| {
        let own = ["--scenario", "cross-lingual", "--query-langs", query_langs, "--labels", str(&labels)];
        let all = [&["train", str(&mini), "--json", "--out", str(out)], &SMALL[..], &own[..]].concat();
        let trained: Value = serde_json::from_str(&ok(&all)).unwrap();
        (trained[0]["queries"].as_u64().unwrap(), trained[0]["last_loss"].as_f64().unwrap())
    };
    let (queries, loss) = train("sw", &out);
    let (both, _) = train("sw,en", &dir.path().join("both"));
    assert!(queries > 0 && both > queries, "{queries} of {both}");
    let (others, other_loss) = train("en", &dir.path().join("en"));
    assert!(others > 0 && (loss - other_loss).abs() > 1e-3, "{loss} {other_loss}");
    let model = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(model.to_lowercase().contains("bixse"), "{model}");
    fails(
        &["train", str(&mini), "--tau", "1", "--langs", "en,sw", "--query-langs", "de", "--out", str(&out)],
        2,
        &["--langs"],
    );
}
