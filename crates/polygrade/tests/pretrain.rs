//! Pretraining as users meet it: a tokeniser, an encoder from files of several kinds, a stop, a transformer, the shipped
//! encoder, and what is said of bad input.
#![allow(clippy::unwrap_used)]

mod common;

use common::{command, fails, ok};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(&[args, &["--json"]].concat())).unwrap()
}

/// Counting in English, German and Swahili, in three kinds of files.
fn texts(dir: &Path) {
    let words = [
        "one eins moja",
        "two zwei mbili",
        "red rot nyekundu",
        "tree baum mti",
        "night nacht usiku",
        "bread brot mkate",
    ];
    let words: Vec<Vec<&str>> = words.iter().map(|w| w.split(' ').collect()).collect();
    let (mut en, mut de, mut lines) = (String::new(), String::new(), String::new());
    for a in &words {
        for b in &words {
            for c in &words {
                en += &format!("{} {} {}\n", a[0], b[0], c[0]);
                de += &format!("{} {} {}\n", a[1], b[1], c[1]);
            }
            lines += &format!("{{\"en\": \"{} {}\", \"sw\": \"{} {}\"}}\n", a[0], b[0], a[2], b[2]);
        }
    }
    fs::write(dir.join("numbers.en"), en).unwrap();
    fs::write(dir.join("numbers.de"), de).unwrap();
    fs::write(dir.join("numbers.jsonl"), lines).unwrap();
    fs::write(dir.join("README.md"), "nothing\n").unwrap();
}

#[test]
fn from_texts_to_an_encoder_that_translates() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(dir.path().join("texts")).unwrap();
    texts(&dir.path().join("texts"));
    let (texts, tokens) = (at("texts"), at("tokens"));
    let made = json(&["tokenizer", &texts, "--langs", "en,de,sw", "--vocab-size", "120", "--out", &tokens]);
    let langs = made["langs"].as_array().unwrap();
    assert!(langs.iter().all(|l| l["covered"] == 1.0 && l["tokens"].as_u64() > Some(0)), "{made}");
    // The small language counts more often than it occurs, the large one less.
    assert!(langs[2]["counted"].as_f64() > Some(1.0) && langs[0]["counted"].as_f64() < Some(1.0), "{made}");

    let first =
        ["pretrain", &texts, "--langs", "en,de,sw", "--tokenizer", &tokens, "--dim", "16", "--distil", "0"];
    let pretrain = |more: &[&str]| {
        json(&[&first[..], &["--batch", "32", "--epochs", "20", "--seed", "3"], more].concat())
    };
    let (whole, again) = (at("whole"), at("again"));
    let report = pretrain(&["--out", &whole]);
    let curve = report["curve"].as_array().unwrap();
    assert_eq!(curve.len(), 20);
    // Texts that differ in the order of their words alone stay alike to it, which keeps the loss from falling to 0.
    assert!(curve[19]["ranking"].as_f64() < curve[0]["ranking"].as_f64().map(|x| 0.7 * x), "{report}");
    pretrain(&["--out", &again, "--threads", "1"]);
    let model = |dir: &str| fs::read(Path::new(dir).join("model.safetensors")).unwrap();
    assert!(model(&whole) == model(&again), "one thread gives the same bytes");

    // Killed behind a checkpoint, and run again.
    let long = |out: &str| {
        let more = ["--batch", "32", "--epochs", "400", "--seed", "3", "--save-steps", "20", "--out", out];
        [&first[..], &more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (straight, stopped) = (at("straight"), at("stopped"));
    ok(&long(&straight));
    let mut child = command(&long(&stopped)).spawn().unwrap();
    let checkpoint = dir.path().join("stopped.work/checkpoint.safetensors");
    for _ in 0..2000 {
        if checkpoint.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(checkpoint.exists() && !Path::new(&stopped).exists(), "it was to be stopped half-way");
    let again = common::run(&long(&stopped));
    assert!(String::from_utf8_lossy(&again.stderr).contains("going on from"), "{again:?}");
    assert!(model(&straight) == model(&stopped), "a stop changes nothing");
    assert!(!checkpoint.exists());

    let small = at("small.safetensors");
    ok(&["model", "compact", &whole, "--out", &small]);
    let info = |model: &str| json(&["model", "info", model]);
    assert_eq!(info(&small)["vocabulary"], info(&whole)["vocabulary"]);
    assert!(
        fs::read_to_string(dir.path().join("whole/pretraining.html"))
            .unwrap()
            .contains("translation ranking")
    );

    // The mean of a model and itself is the model; few bits are a small file, to which the next tool returns as it is.
    let (soup, four) = (at("soup"), at("four.safetensors"));
    ok(&["model", "average", &whole, &whole, "--out", &soup]);
    assert!(model(&whole) == model(&soup));
    ok(&["model", "compact", &soup, "--bits", "4", "--out", &four]);
    let size = |path: &str| fs::metadata(path).unwrap().len();
    assert!(size(&four) < size(&small) && info(&four)["dim"] == info(&whole)["dim"]);
    ok(&["model", "compact", &four, "--bits", "4", "--out", &at("again.safetensors")]);
    assert_eq!(fs::read(&four).unwrap(), fs::read(at("again.safetensors")).unwrap());
    fails(&["model", "compact", &soup, "--bits", "3", "--out", &at("three")], 2, &["2, 4 and 8"]);
    fails(&["model", "average", &whole, "pocket", "--out", &at("other")], 2, &["other tokens"]);
    fails(&["pretrain", &texts, "--langs", "en,de", "--tokenizer", &tokens, "--out", &whole], 2, &["exists"]);
}

#[test]
fn a_transformer_goes_on_learning() {
    let dir = tempfile::tempdir().unwrap();
    texts(dir.path());
    let bert = format!("{}/../polygrade-encoder/tests/fixtures/encoders/bert", env!("CARGO_MANIFEST_DIR"));
    let out = dir.path().join("out");
    let (folder, target) = (dir.path().to_str().unwrap(), out.to_str().unwrap());
    let first =
        ["pretrain", folder, "--langs", "en,de", "--encoder", &bert, "--distil", "0", "--out", target];
    let report = json(&[&first[..], &["--batch", "64", "--epochs", "1"]].concat());
    assert!(report["steps"].as_u64() > Some(2), "{report}");
    assert_eq!(json(&["model", "info", target])["dim"], json(&["model", "info", &bert])["dim"]);
    std::fs::remove_dir_all(&out).unwrap();
    fails(&[&first[..], &["--split", "0.1"]].concat(), 2, &["static"]);
}

#[test]
fn layers_make_a_new_transformer_on_static_embeddings() {
    let dir = tempfile::tempdir().unwrap();
    texts(dir.path());
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (folder, tokens) = (dir.path().to_str().unwrap(), at("tokens"));
    ok(&["tokenizer", folder, "--langs", "en,de,sw", "--vocab-size", "120", "--out", &tokens]);
    let pretrain = |base: [&str; 2], layers: &str, out: &str| {
        let own = ["pretrain", folder, "--langs", "en,de", "--distil", "0", "--batch", "32", "--epochs", "4"];
        [&own[..], &base, &["--layers", layers, "--out", out]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let of = |args: Vec<String>| json(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let new = |out: &str| {
        let mut args: Vec<String> = pretrain(["--tokenizer", &tokens], "2", out);
        args.extend(["--dim".into(), "32".into()]);
        args
    };
    let report = of(new(&at("new")));
    let curve = report["curve"].as_array().unwrap();
    assert!(
        curve[curve.len() - 1]["ranking"].as_f64() < curve[0]["ranking"].as_f64().map(|x| 0.8 * x),
        "{report}"
    );
    let info = json(&["model", "info", &at("new")]);
    assert_eq!((&info["layers"], &info["dim"]), (&2.into(), &32.into()), "{info}");
    // The same seed gives the same bytes, and what is there goes on learning as a transformer.
    of([new(&at("again")), vec!["--threads".into(), "1".into()]].concat());
    let model = |name: &str| fs::read(dir.path().join(name).join("model.safetensors")).unwrap();
    assert!(model("new") == model("again"));
    let (vectors, queries) = (at("vectors.npy"), at("queries.jsonl"));
    fs::write(&queries, "{\"_id\": \"a\", \"text\": \"\"}\n{\"_id\": \"b\", \"text\": \"zwei rot Baum\"}\n")
        .unwrap();
    ok(&["encode", &at("new"), &queries, "--out", &vectors]);
    let refused = |args: Vec<String>, word: &str| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        fails(&args, 2, &[word]);
    };
    refused(pretrain(["--encoder", &at("new")], "1", &at("more")), "already");
    refused(pretrain(["--encoder", "pocket"], "0", &at("none")), "layer");
    let mut narrow: Vec<String> = pretrain(["--tokenizer", &tokens], "1", &at("narrow"));
    narrow.extend(["--dim".into(), "24".into()]);
    refused(narrow, "multiple of 32");
}

#[test]
fn the_shipped_encoder_is_a_model_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    let mini = format!("{}/../../collections/mini", env!("CARGO_MANIFEST_DIR"));
    ok(&["model", "save", "pocket", "--out", folder.to_str().unwrap()]);
    assert!(fs::read_to_string(folder.join("README.md")).unwrap().contains("# pocket"));
    let measured = |model: &str| {
        let mut value = json(&["eval", model, &mini, "--pool", "mono-cross:en", "--langs", "de,sw"]);
        value["model"].take();
        value
    };
    let value = measured("pocket");
    assert_eq!(value, measured(folder.to_str().unwrap()));
    let ndcg = &value["pools"][0]["by_lang"]["de"]["nDCG@10"];
    let words = &json(&["eval", "bm25", &mini, "--pool", "mono-cross:en", "--langs", "de"])["pools"][0]["by_lang"]
        ["de"]["nDCG@10"];
    assert!(ndcg.as_f64() > words.as_f64().map(|x| x + 0.1), "{ndcg} {words}");
}

#[test]
fn faults_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let out = dir.path().join("out");
    let pretrain = |text: &str, code: i32, words: &[&str]| {
        fails(
            &[
                "pretrain",
                text,
                "--langs",
                "en,de",
                "--encoder",
                "pocket",
                "--distil",
                "0",
                "--out",
                out.to_str().unwrap(),
            ],
            code,
            words,
        );
    };
    pretrain(&at("bad.jsonl", "{\"en\": \"x\", \"de\": \"y\"}\nno\n"), 1, &["bad.jsonl:2", "JSON"]);
    pretrain(&at("lonely.en", "x\n"), 1, &["lonely.en", "translations"]);
    pretrain(&at("none.en-fr.tsv", "x\ty\n"), 2, &["no pairs"]);
    pretrain("nowhere.jsonl", 1, &["nowhere.jsonl"]);
    let tsv = at("ok.en-de.tsv", "a b\tc d\ne f\tg h\n");
    fails(&["pretrain", &tsv, "--langs", "en,de", "--out", out.to_str().unwrap()], 2, &["--tokenizer"]);
    fails(
        &["pretrain", &tsv, "--langs", "en,deutsch", "--encoder", "pocket", "--out", out.to_str().unwrap()],
        2,
        &["deutsch"],
    );
    fails(
        &["pretrain", &tsv, "--langs", "en,de", "--encoder", "pocket", "--out", out.to_str().unwrap()],
        2,
        &["--teacher"],
    );
    let broken = at("broken.safetensors", "not a model");
    fails(&["model", "info", &broken], 1, &["broken.safetensors", "compact"]);
    fails(&["tokenizer", &tsv, "--langs", "sw", "--out", out.to_str().unwrap()], 2, &["no text"]);
    assert!(!out.exists());
}
