//! Transformers on the command line, with the small random checkpoints of polygrade-encoder's fixtures.
#![allow(clippy::unwrap_used)]

use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture(name: &str) -> String {
    let path = root().join("crates/polygrade-encoder/tests/fixtures/encoders").join(name);
    path.to_str().unwrap().to_owned()
}

fn mini() -> String {
    root().join("collections/mini").to_str().unwrap().to_owned()
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polygrade")).args(args).env("HF_HUB_OFFLINE", "1").output().unwrap()
}

fn ok(args: &[&str]) -> String {
    let out = run(args);
    assert!(out.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn fails(args: &[&str], code: i32, words: &[&str]) {
    let out = run(args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{text}");
    words.iter().for_each(|w| assert!(text.contains(w), "{args:?} should say {w:?}:\n{text}"));
}

/// Some lines of a corpus.
fn corpus(dir: &Path, lines: usize) -> String {
    let text = fs::read_to_string(root().join("collections/mini/corpus.jsonl")).unwrap();
    let path = dir.join("some.jsonl");
    fs::write(&path, text.lines().take(lines).map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn info_diff_and_average_describe_models() {
    let dir = tempfile::tempdir().unwrap();
    let (bert, soup) = (fixture("bert"), dir.path().join("soup"));
    let soup = soup.to_str().unwrap();
    let info: Value = serde_json::from_str(&ok(&["model", "info", &bert, "--json"])).unwrap();
    assert_eq!((info["kind"].as_str(), info["layers"].as_u64()), (Some("bert"), Some(3)));
    assert_eq!((info["max_tokens"].as_u64(), info["dim"].as_u64()), (Some(512), Some(36)));
    ok(&["model", "average", &bert, &bert, &bert, "--out", soup]);
    let same: Value = serde_json::from_str(&ok(&["model", "diff", &bert, soup, "--json"])).unwrap();
    assert!(same.as_array().unwrap().iter().all(|t| t["largest"].as_f64().unwrap() < 1e-6));
    fails(&["model", "diff", &bert, &fixture("modernbert")], 2, &["other tensors or shapes"]);
    fails(&["model", "info", "nobody/nothing"], 1, &["nobody/nothing", "HF_HUB_OFFLINE"]);
}

#[test]
fn encoding_goes_on_behind_whole_shards() {
    let dir = tempfile::tempdir().unwrap();
    let (bert, input) = (fixture("bert"), corpus(dir.path(), 250));
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    ok(&["encode", &bert, &input, "--out", &at("whole.npy")]);
    let whole = fs::read(at("whole.npy")).unwrap();
    let sharded = ["encode", &bert, &input, "--out", &at("v.npy"), "--shard-size", "100", "--json"];
    let first: Value = serde_json::from_str(&ok(&sharded)).unwrap();
    assert_eq!((first["rows"].as_u64(), first["encoded"].as_u64()), (Some(250), Some(250)));
    let values = |name: &str| fs::read(at(name)).unwrap()[128..].to_vec();
    let joined = ["v-00000.npy", "v-00001.npy", "v-00002.npy"].map(values).concat();
    assert!(joined == whole[128..], "shards hold what one file holds");
    // As if the run had been stopped in its second file.
    fs::remove_file(at("v-00001.npy")).unwrap();
    fs::remove_file(at("v-00002.npy")).unwrap();
    let again: Value = serde_json::from_str(&ok(&sharded)).unwrap();
    assert_eq!((again["rows"].as_u64(), again["encoded"].as_u64()), (Some(250), Some(150)));
    assert!(["v-00000.npy", "v-00001.npy", "v-00002.npy"].map(values).concat() == joined);
    let ids = fs::read_to_string(at("v-00002.ids.txt")).unwrap();
    assert_eq!(ids.lines().count(), 50);
    let other = ["encode", &bert, &input, "--query", "--out", &at("v.npy"), "--shard-size", "100"];
    fails(&other, 1, &["another model, input or settings"]);
    ok(&["encode", &bert, &input, "--out", &at("v.parquet")]);
    assert!(fs::read(at("v.parquet")).unwrap().starts_with(b"PAR1"));
}

#[test]
fn precisions_are_near_and_prompts_count() {
    let dir = tempfile::tempdir().unwrap();
    let (bert, input) = (fixture("bert"), corpus(dir.path(), 40));
    let vectors = |extra: &[&str]| -> Vec<f32> {
        let out = dir.path().join("v.npy");
        let mut args = vec!["encode", &bert, &input, "--out", out.to_str().unwrap()];
        args.extend(extra);
        ok(&args);
        fs::read(&out).unwrap()[128..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let plain = vectors(&[]);
    let least_cosine = |other: &[f32]| {
        let pairs = plain.chunks(36).zip(other.chunks(36));
        pairs.map(|(a, b)| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>()).fold(1.0, f32::min)
    };
    let (bf16, int8) = (vectors(&["--precision", "bf16"]), vectors(&["--precision", "int8"]));
    assert!(bf16 != plain && least_cosine(&bf16) > 0.995, "{}", least_cosine(&bf16));
    assert!(int8 != plain && least_cosine(&int8) > 0.95, "{}", least_cosine(&int8));
    assert!(vectors(&["--passage-prompt", "passage: "]) != plain);
    let cut = vectors(&["--truncate-dim", "12"]);
    assert_eq!(cut.len() * 3, plain.len());
    fails(&["encode", &bert, &input, "--out", "x.npy", "--truncate-dim", "37"], 2, &["1 to 36"]);
}

#[test]
fn a_transformer_is_trained_measured_and_kept_where_it_was_best() {
    let dir = tempfile::tempdir().unwrap();
    let (mini, bert) = (mini(), fixture("bert"));
    let out = dir.path().join("tuned");
    let out = out.to_str().unwrap();
    let settings = ["--encoder", &bert, "--tau", "2", "--langs", "en", "--epochs", "2", "--batch-size", "8"];
    let more = [
        "--positives",
        "1",
        "--negatives",
        "2",
        "--learning-rate",
        "1e-3",
        "--eval-steps",
        "2",
        "--ema",
        "0.5",
    ];
    let mut args = vec!["train", &mini, "--out", out, "--json"];
    args.extend(settings);
    args.extend(more);
    let trained: Value = serde_json::from_str(&ok(&args)).unwrap();
    let (kept, steps) = (trained[0]["kept_step"].as_u64().unwrap(), trained[0]["steps"].as_u64().unwrap());
    assert!(kept > 0 && kept <= steps);
    assert!(!dir.path().join("tuned.best").exists() && !dir.path().join("tuned.checkpoint").exists());
    for file in
        ["config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"]
    {
        assert!(Path::new(out).join(file).is_file(), "{file}");
    }
    let measured: Value = serde_json::from_str(&ok(&[
        "eval", out, &mini, "--langs", "en", "--split", "dev", "-m", "nDCG@10", "--json",
    ]))
    .unwrap();
    let (before, after) = (
        trained[0]["dev_ndcg_10"].as_f64().unwrap(),
        measured["pools"][0]["by_lang"]["en"]["nDCG@10"].as_f64(),
    );
    assert!((before - after.unwrap()).abs() < 1e-9, "the saved model is the one that was measured");
    let changed: Value =
        serde_json::from_str(&ok(&["model", "diff", &bert, out, "--json", "--top", "1000"])).unwrap();
    let moved = |t: &Value| t["largest"].as_f64().unwrap() > 0.0;
    assert!(changed.as_array().unwrap().iter().all(moved), "every tensor is trained");
    fails(&["train", &mini, "--tau", "2", "--encoder", &bert, "--ema", "2", "--out", "x"], 2, &["--ema"]);
}

#[test]
fn a_transformer_is_calibrated() {
    let dir = tempfile::tempdir().unwrap();
    let (mini, bert) = (mini(), fixture("xlm-roberta"));
    let out = dir.path().join("run");
    let args = ["calibrate", &mini, "--encoder", &bert, "--langs", "en", "--grid", "1,3", "--seeds", "2"];
    let more = ["--epochs", "1", "--batch-size", "16", "--positives", "1", "--negatives", "1"];
    let mut all = args.to_vec();
    all.extend(more);
    all.extend(["--out", out.to_str().unwrap()]);
    ok(&all);
    let found: Value = serde_json::from_slice(&fs::read(out.join("calibration.json")).unwrap()).unwrap();
    assert!(found["made"]["encoder"].as_str().unwrap().contains("xlm-roberta"));
    assert!(out.join("report.html").is_file());
}

#[test]
fn lora_saves_the_whole_model_and_the_adapter_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mini, bert) = (mini(), fixture("bert"));
    for (name, extra) in [("last", None), ("best", Some(["--eval-steps", "1"]))] {
        let out = dir.path().join(name);
        let out = out.to_str().unwrap();
        let mut args =
            vec!["train", &mini, "--encoder", &bert, "--tau", "2", "--langs", "en", "--epochs", "1"];
        args.extend([
            "--batch-size",
            "16",
            "--positives",
            "1",
            "--negatives",
            "1",
            "--out",
            out,
            "--lora-r",
            "2",
        ]);
        args.extend(["--learning-rate", "0.01"]);
        args.extend(extra.iter().flatten());
        ok(&args);
        let adapter = format!("{out}/adapter");
        let diff: Value = serde_json::from_str(&ok(&["model", "diff", out, &adapter, "--json"])).unwrap();
        assert!(diff.as_array().unwrap().iter().all(|t| t["largest"].as_f64().unwrap() < 1e-6));
        let moved: Value = serde_json::from_str(&ok(&["model", "diff", &bert, out, "--json"])).unwrap();
        let tensors: Vec<&str> = moved
            .as_array()
            .unwrap()
            .iter()
            .filter(|t| t["largest"].as_f64().unwrap() > 0.0)
            .map(|t| t["tensor"].as_str().unwrap())
            .collect();
        assert!(!tensors.is_empty() && tensors.iter().all(|t| t.contains("query") || t.contains("value")));
    }
    let wrong =
        ["train", &mini, "--encoder", &bert, "--tau", "2", "--lora-r", "2", "--lora-targets", "nothing"];
    let mut wrong = wrong.to_vec();
    wrong.extend(["--out", "x"]);
    fails(&wrong, 2, &["nothing", "attention.self.query"]);
}

#[test]
fn settings_that_do_not_fit_are_refused_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let (mini, bert) = (mini(), fixture("bert"));
    let out = dir.path().join("x");
    let train = |encoder: &str, more: &[&str], code: i32, words: &[&str]| {
        let mut args = vec!["train", &mini, "--tau", "2", "--langs", "en", "--out", out.to_str().unwrap()];
        args.extend(["--encoder", encoder]);
        args.extend(more);
        fails(&args, code, words);
        assert!(!out.exists());
    };
    train(&bert, &["--freeze", "4"], 2, &["--freeze 4", "0 to 3"]);
    train(&bert, &["--micro-batch-tokens", "0"], 2, &["--micro-batch-tokens"]);
    train(&bert, &["--lora-r", "2", "--ema", "0.9"], 2, &["LoRA"]);
    train(&bert, &["--lora-r", "2", "--freeze", "1"], 2, &["LoRA"]);
    train(&fixture("bert-lora"), &["--lora-r", "2"], 2, &["LoRA", "save the model first"]);
    train("static", &["--lora-r", "2"], 2, &["LoRA is for transformers"]);

    // A model that pools without its prompt's tokens cannot be given a prompt.
    let copy = dir.path().join("copy");
    for sub in ["", "1_Pooling"] {
        fs::create_dir_all(copy.join(sub)).unwrap();
        for entry in fs::read_dir(Path::new(&bert).join(sub)).unwrap().map(|e| e.unwrap()) {
            if entry.path().is_file() {
                fs::copy(entry.path(), copy.join(sub).join(entry.file_name())).unwrap();
            }
        }
    }
    let pooling = copy.join("1_Pooling/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&pooling).unwrap()).unwrap();
    config["include_prompt"] = false.into();
    fs::write(&pooling, config.to_string()).unwrap();
    let (copy, input) = (copy.to_str().unwrap().to_owned(), corpus(dir.path(), 3));
    let to = dir.path().join("v.npy");
    let encode = ["encode", &copy, &input, "--out", to.to_str().unwrap()];
    ok(&encode);
    fails(&[&encode[..], &["--passage-prompt", "passage: "]].concat(), 2, &["include_prompt"]);
}

#[test]
fn shards_without_their_description_are_not_taken_for_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let (bert, input) = (fixture("bert"), corpus(dir.path(), 30));
    let out = dir.path().join("v.npy");
    let args = ["encode", &bert, &input, "--out", out.to_str().unwrap(), "--shard-size", "10"];
    ok(&args);
    fs::remove_file(dir.path().join("v.encode.json")).unwrap();
    fails(&args, 1, &["v-00000.npy", "v.encode.json"]);
    // A record without a usable id is named with its line, and nothing is written.
    let bad = dir.path().join("bad.jsonl");
    fs::write(&bad, "{\"_id\": \"a\", \"text\": \"x\"}\n{\"_id\": \"b\\nc\", \"text\": \"y\"}\n").unwrap();
    let to = dir.path().join("bad.npy");
    fails(
        &["encode", &bert, bad.to_str().unwrap(), "--out", to.to_str().unwrap()],
        1,
        &["bad.jsonl:2", "id"],
    );
    assert!(!to.exists());
}

#[test]
fn a_trimmed_model_keeps_the_vectors_of_its_texts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (bert, mini) = (fixture("bert"), mini());
    fs::write(at("some.txt"), "Where is the river?\nthe old mill\n").unwrap();
    fs::write(at("pairs.tsv"), "the mill\tстарая река\n").unwrap();
    let record = |text: &str, lang: &str| format!("{{\"text\": \"{text}\", \"lang\": \"{lang}\"}}\n");
    fs::write(at("some.jsonl"), record("the café", "en") + &record("παλιό ποτάμι", "el")).unwrap();
    let trim = |corpus: &[&str], out: &str, extra: &[&str]| -> Value {
        let corpus: Vec<String> =
            corpus.iter().map(|c| if *c == mini { mini.clone() } else { at(c) }).collect();
        let mut args = vec!["trim", &bert, "--json", "--corpus"];
        args.extend(corpus.iter().map(String::as_str));
        let out = at(out);
        args.extend(["--out", &out]);
        args.extend(extra);
        serde_json::from_str(&ok(&args)).unwrap()
    };
    let vector = |model: &str, text: &str| -> Vec<u8> {
        fs::write(at("one.jsonl"), format!("{{\"_id\": \"1\", \"text\": \"{text}\"}}\n")).unwrap();
        ok(&["encode", model, &at("one.jsonl"), "--out", &at("one.npy")]);
        fs::read(at("one.npy")).unwrap()
    };
    let all = trim(&["some.txt", "pairs.tsv", "some.jsonl"], "all", &[]);
    assert_eq!((all["texts"].as_u64(), all["vectors"]["same"].as_u64()), (Some(6), Some(6)));
    assert_eq!(all["ndcg_10"], Value::Null);
    let pieces = |v: &Value| v["pieces"][1].as_u64().unwrap();
    assert_eq!(all["pieces"][0], 400);
    let info: Value = serde_json::from_str(&ok(&["model", "info", &at("all"), "--json"])).unwrap();
    assert_eq!(info["vocabulary"], all["pieces"][1]);
    assert_eq!(info["parameters"], all["parameters"][1]);
    for text in ["Where is the river?", "старая река", "the café", "παλιό ποτάμι"] {
        assert_eq!(vector(&at("all"), text), vector(&bert, text), "{text}");
    }
    let english = trim(&["some.txt", "pairs.tsv", "some.jsonl"], "english", &["--langs", "en"]);
    assert_eq!(english["texts"], 5, "a record in another language is left out");
    assert!(pieces(&english) < pieces(&all));
    assert_ne!(vector(&at("english"), "παλιό ποτάμι"), vector(&bert, "παλιό ποτάμι"));
    assert_eq!(vector(&at("english"), "the café"), vector(&bert, "the café"));
    // Two languages of a collection, measured in all: the two lose nothing.
    let quick =
        ["--tau", "2", "--epochs", "1", "--vocab-size", "3000", "--dim", "32", "--out", &at("static")];
    ok(&[&["train", &mini][..], &quick].concat());
    let eval = ["--corpus", &mini, "--langs", "en,sw", "--eval", &mini, "--out", &at("two"), "--json"];
    let two: Value = serde_json::from_str(&ok(&[&["trim", &at("static")][..], &eval].concat())).unwrap();
    let quality = two["ndcg_10"].as_array().unwrap();
    let same = |q: &Value| q["before"] == q["after"];
    let of = |lang: &str| quality.iter().find(|q| q["lang"] == lang).unwrap();
    assert!(same(of("en")) && same(of("sw")) && !same(of("ru")), "{quality:?}");
    assert_eq!(quality.len(), 11, "ten languages and the mean");
    let few = trim(&["some.txt", "pairs.tsv"], "few", &["--min-count", "2"]);
    assert!(few["tokens_cut"].as_f64().unwrap() > 0.0 && few["texts_changed"].as_f64().unwrap() > 0.0);
    fails(
        &["trim", &bert, "--corpus", &mini, "--langs", "xx", "--out", &at("no")],
        2,
        &["no collection has"],
    );
    fails(&["trim", &bert, "--corpus", &mini, "--vocab-size", "9", "--out", &at("no")], 2, &["too few"]);
    fails(&["trim", &bert, "--corpus", &at("none.txt"), "--out", &at("no")], 1, &["none.txt"]);
    assert!(!dir.path().join("no").exists());
}

#[test]
fn a_head_is_trained_on_a_frozen_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (mini, bert) = (mini(), fixture("bert"));
    let base = ["train", &mini, "--encoder", &bert, "--tau", "2", "--langs", "en", "--epochs", "1"];
    let train = |extra: &[&str]| {
        [&base[..], &["--freeze-encoder"], extra].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    let run_it = |extra: &[&str]| {
        let args = train(extra);
        ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run_it(&["--head", "mlp", "--head-dim", "20", "--eval-steps", "2", "--out", &at("mlp")]);
    let info: Value = serde_json::from_str(&ok(&["model", "info", &at("mlp"), "--json"])).unwrap();
    assert_eq!((info["dim"].as_u64(), info["dense"].as_array().unwrap().len()), (Some(20), 2));
    assert_eq!(info["normalizes"], true);
    let said: Value = serde_json::from_str(&run_it(&["--json", "--out", &at("linear")])).unwrap();
    // What is saved ranks as what was trained did on its cached vectors.
    let eval =
        ok(&["eval", &at("linear"), &mini, "--langs", "en", "--split", "dev", "-m", "nDCG@10", "--json"]);
    let eval: Value = serde_json::from_str(&eval).unwrap();
    let value = eval["pools"][0]["by_lang"]["en"]["nDCG@10"].as_f64().unwrap();
    assert!((said[0]["dev_ndcg_10"].as_f64().unwrap() - value).abs() < 1e-3, "{said} {value}");
    // Under the head, the encoder is what it was.
    let (before, after) =
        (fs::read(fixture("bert") + "/model.safetensors"), fs::read(at("linear") + "/model.safetensors"));
    let (before, after) = (before.unwrap(), after.unwrap());
    let (before, after) =
        (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
    assert!(after.names().len() > 10);
    for name in after.names() {
        assert!(after.tensor(name).unwrap().data() == before.tensor(name).unwrap().data(), "{name}");
    }
    for (extra, word) in [
        (&["--lora-r", "2"][..], "--lora-r"),
        (&["--align", "jsd=1"], "--align"),
        (&["--freeze", "1"], "--freeze"),
        (&["--ema", "0.9"], "--ema"),
        (&["--head-dim", "0"], "--head-dim"),
    ] {
        let args = train(&[extra, &["--out", &at("no")]].concat());
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2, &[word]);
    }
    fails(&["train", &mini, "--tau", "2", "--head", "mlp", "--out", &at("no")], 2, &["--freeze-encoder"]);
    let mlp = [
        "train",
        &mini,
        "--tau",
        "2",
        "--langs",
        "en",
        "--vocab-size",
        "1000",
        "--dim",
        "16",
        "--freeze-encoder",
    ];
    fails(&[&mlp[..], &["--head", "mlp", "--out", &at("no")]].concat(), 2, &["for transformers"]);
    assert!(!dir.path().join("no").exists());
}
