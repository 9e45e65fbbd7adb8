//! Hard negatives as users meet them: mined, trained with, and what is said of bad files and options.
#![allow(clippy::unwrap_used)]

mod common;

use common::{fails, ok, str};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn mini() -> String {
    format!("{}/../../collections/mini", env!("CARGO_MANIFEST_DIR"))
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(&[args, &["--json"]].concat())).unwrap()
}

/// The pairs of a file, by query.
fn pairs(path: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("query-id\tcorpus-id\tscore\trank"));
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        assert!(fields[2].parse::<f32>().unwrap().is_finite() && fields[3].parse::<usize>().unwrap() > 0);
        out.entry(fields[0].to_owned()).or_default().push(fields[1].to_owned());
    }
    out
}

const MODEL: [&str; 8] = ["--vocab-size", "2000", "--dim", "32", "--epochs", "1", "--langs", "en,sw"];

#[test]
fn mined_by_a_model_used_in_training_and_masked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (mini, model, file) = (mini(), at("model"), at("negatives.tsv"));
    let train = |out: &Path, more: &[&str]| -> Value {
        json(&[&["train", &mini, "--tau", "2", "--out", str(out), "--quiet"], &MODEL[..], more].concat())
    };
    train(&model, &[]);
    // So small a model scores all passages alike, and a margin would leave none.
    let window = ["--relative-margin", "none", "--range", "3:100"];
    let mine = ["mine", &mini, "--model", str(&model), "--tau", "2", "--quiet"];
    let nothing = json(&[&mine[..], &["--out", str(&file)]].concat());
    assert!(nothing["langs"][0]["relative_margin"].as_u64().unwrap() > 0, "{nothing}");
    let mine = [&mine[..], &window].concat();
    let both = [&mine[..], &["--langs", "en,sw"]].concat();
    let report = json(&[&both[..], &["--out", str(&file), "--threads", "1"]].concat());
    let all = report["langs"].as_array().unwrap().last().unwrap();
    let found = pairs(&file);
    assert_eq!(all["mined"].as_u64().unwrap() as usize, found.values().map(Vec::len).sum::<usize>());
    assert!(all["lang"].is_null() && all["mean_positive"].is_number() && all["mean_mined"].is_number());
    let queries = all["queries"].as_u64().unwrap();
    assert_eq!((all["rank"].as_u64(), all["mined"].as_u64()), (Some(2 * queries), Some(7 * queries)));

    // The same at more threads; each negative in the query's language, none of them judged.
    let again = at("again.tsv");
    json(&[&both[..], &["--out", str(&again), "--threads", "3"]].concat());
    assert_eq!(fs::read(&file).unwrap(), fs::read(&again).unwrap());
    let judged = fs::read_to_string(Path::new(&mini).join("qrels/train.tsv")).unwrap();
    let judged: BTreeSet<(&str, &str)> = judged
        .lines()
        .map(|line| {
            let mut fields = line.split('\t');
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect();
    for (query, passages) in &found {
        for passage in passages {
            assert_eq!(query.split('-').next(), passage.split('-').next());
            assert!(!judged.contains(&(query.as_str(), passage.as_str())), "{query} {passage}");
        }
    }

    // The same run as a file gives the same negatives.
    let (trec, from_run) = (at("run.trec"), at("run.tsv"));
    ok(&[
        "eval",
        str(&model),
        &mini,
        "--langs",
        "en,sw",
        "--split",
        "train",
        "--depth",
        "1000",
        "--run",
        str(&trec),
        "--quiet",
    ]);
    let by_run = ["mine", &mini, "--run", str(&trec), "--tau", "2", "--langs", "en,sw", "--quiet"];
    json(&[&by_run[..], &window, &["--out", str(&from_run)]].concat());
    assert_eq!(pairs(&from_run), found);

    // In all languages but the own, and as many from each.
    let balanced = at("balanced.tsv");
    let more = ["--negative-langs", "balanced", "--negatives", "4", "--out", str(&balanced)];
    json(&[&both[..], &more].concat());
    let langs: Vec<BTreeSet<String>> = pairs(&balanced)
        .values()
        .map(|p| p.iter().map(|p| p.split('-').next().unwrap().to_owned()).collect())
        .collect();
    assert!(langs.iter().all(|l| l.len() == 4), "{langs:?}");

    // For other tools: imported again, the negatives are grade 0 beside the positives.
    for format in ["tevatron", "flagembedding", "sentence-transformers"] {
        let (lines, back) = (at(&format!("{format}.jsonl")), at(format));
        json(&[&mine[..], &["--format", format, "--out", str(&lines), "--langs", "en"]].concat());
        let import = ["import", format, str(&lines), "--out", str(&back), "--lang", "en", "--quiet"];
        ok(&import);
        let qrels: Vec<String> = fs::read_dir(back.join("qrels"))
            .unwrap()
            .map(|f| fs::read_to_string(f.unwrap().path()).unwrap())
            .collect();
        let count = |grade: &str| qrels.iter().flat_map(|q| q.lines()).filter(|l| l.ends_with(grade)).count();
        let en: usize = found.iter().filter(|(q, _)| q.starts_with("en-")).map(|(_, p)| p.len()).sum();
        assert_eq!(count("\t0"), en, "{format}");
        assert!(count("\t1") >= found.keys().filter(|q| q.starts_with("en-")).count(), "{format}");
    }

    // Trained with, and masked; another run than the plain one.
    let hard = ["--hard-negatives", str(&file), "--hard-negatives-per-query", "3"];
    let trained = train(&at("hard"), &hard);
    let added = &trained[0]["hard_negatives"];
    assert_eq!(added["pairs"].as_u64().unwrap(), all["mined"].as_u64().unwrap());
    assert_eq!((added["refused"].as_u64(), added["unused"].as_u64()), (Some(0), Some(0)));
    let weights = |model: &str| fs::read(at(model).join("model.safetensors")).unwrap();
    assert_ne!(weights("hard"), weights("model"));
    let masked =
        train(&at("masked"), &[&hard[..], &["--guide", str(&model), "--mask-margin", "0.1"]].concat());
    assert!(masked[0]["masked"].as_u64().unwrap() > 0, "{masked}");
    assert_eq!(trained[0]["masked"], 0);

    // Of a policy that calls more passages positives, fewer pairs are left, never a wrong one.
    let other = at("strict.tsv");
    let strict = [
        "mine",
        &mini,
        "--bm25",
        "--tau",
        "3",
        "--keep-judged",
        "--relative-margin",
        "none",
        "--langs",
        "en,sw",
    ];
    ok(&[&strict[..], &["--out", str(&other)]].concat());
    let loose = json(
        &[
            &["train", &mini, "--tau", "1", "--out", str(&at("loose")), "--quiet"],
            &MODEL[..],
            &["--hard-negatives", str(&other)],
        ]
        .concat(),
    );
    assert!(loose[0]["hard_negatives"]["refused"].as_u64().unwrap() > 0, "{loose}");
}

/// Vectors that `encode` writes give to the last bit what the model gives, in whatever order and form they are stored.
#[test]
fn stored_vectors_give_what_their_model_gives() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (mini, model, raw) = (mini(), at("model"), at("raw"));
    let train = ["train", &mini, "--tau", "2", "--out", str(&model), "--quiet"];
    ok(&[&train[..], &MODEL[..]].concat());
    // The same without the module that scales vectors to length 1.
    fs::create_dir(&raw).unwrap();
    for name in ["config_sentence_transformers.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(model.join(name), raw.join(name)).unwrap();
    }
    let modules: Value =
        serde_json::from_str(&fs::read_to_string(model.join("modules.json")).unwrap()).unwrap();
    let of = |m: &&Value| !m["type"].as_str().unwrap().ends_with("Normalize");
    let kept: Vec<&Value> = modules.as_array().unwrap().iter().filter(of).collect();
    assert_eq!(kept.len() + 1, modules.as_array().unwrap().len());
    fs::write(raw.join("modules.json"), serde_json::to_string(&kept).unwrap()).unwrap();

    // Records in another order: by their text, backwards; that of queries as they come.
    let corpus = fs::read_to_string(Path::new(&mini).join("corpus.jsonl")).unwrap();
    let mut lines: Vec<&str> = corpus.lines().collect();
    let text = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    lines.sort_by_cached_key(|line| text(line).chars().rev().collect::<String>());
    let (shuffled, queries) = (at("shuffled.jsonl"), format!("{mini}/queries.jsonl"));
    fs::write(&shuffled, lines.join("\n")).unwrap();

    let trec = at("run.trec");
    let eval = ["eval", str(&model), &mini, "--langs", "en,sw", "--split", "train", "--depth", "200"];
    ok(&[&eval[..], &["--run", str(&trec), "--quiet"]].concat());
    let hybrid = ["--bm25", "--run", str(&trec), "--select", "random", "--seed", "7"];
    let all = ["--negative-langs", "balanced", "--negatives", "12", "--positive", "mean"];
    let other = ["--negative-langs", "other", "--range", "1:6000"];
    let prompts = ["--query-prompt", "query: ", "--passage-prompt", "passage: "];
    let cases: [(&Path, &str, &[&str], &[&str]); 6] = [
        (&model, "npy", &[], &[]),
        (&model, "npy", &[], &hybrid),
        (&model, "parquet", &[], &all),
        (&raw, "parquet", &[], &[]),
        (&raw, "npy", &prompts, &other),
        (&model, "parquet", &prompts, &hybrid),
    ];
    for (i, (model, ending, encoding, more)) in cases.into_iter().enumerate() {
        let (passages, asked) = (at(&format!("p.{ending}")), at(&format!("q.{ending}")));
        for (input, out, kind) in [(str(&shuffled), &passages, &[][..]), (&queries, &asked, &["--query"][..])]
        {
            let encode = ["encode", str(model), input, "--out", str(out), "--quiet"];
            ok(&[&encode[..], kind, encoding].concat());
        }
        let (one, two) = (at("one.tsv"), at("two.tsv"));
        let mine = |source: &[&str], out: &Path| {
            // A margin that some pass and some do not, so small a model being what it is.
            let margin = ["--relative-margin", "none", "--absolute-margin", "-0.01"];
            let args = ["mine", &mini, "--out", str(out), "--langs", "en,sw", "--tau", "2", "--quiet"];
            json(&[&args[..], &margin, source, more].concat())["langs"].take()
        };
        let by_model = mine(&[&["--model", str(model)][..], encoding].concat(), &one);
        let by_vectors = mine(&["--vectors", str(&passages), "--query-vectors", str(&asked)], &two);
        assert_eq!(by_model, by_vectors, "case {i}");
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap(), "case {i}");
        for count in ["mined", "absolute_margin"] {
            assert!(by_model[0][count].as_u64().unwrap() > 100, "case {i}: {by_model}");
        }
    }

    // Shards count as one file, and are checked as one.
    let shards = ["encode", str(&model), str(&shuffled), "--shard-size", "3000", "--quiet", "--out"];
    ok(&[&shards[..], &[str(&at("s.npy"))]].concat());
    ok(&["encode", str(&model), &queries, "--query", "--quiet", "--out", str(&at("q.npy"))]);
    let parts: Vec<_> = (0..3).map(|i| at(&format!("s-0000{i}.npy"))).collect();
    let (one, two, asked) = (at("one.tsv"), at("two.tsv"), at("q.npy"));
    let mine = ["mine", &mini, "--tau", "2", "--relative-margin", "none", "--quiet", "--out"];
    ok(&[&mine[..], &[str(&one), "--model", str(&model)]].concat());
    let stored = [&mine[..], &[str(&two), "--query-vectors", str(&asked), "--vectors"]].concat();
    ok(&[&stored[..], &[str(&parts[2]), str(&parts[0]), str(&parts[1])]].concat());
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    fs::remove_file(&two).unwrap();
    let few = [&stored[..], &[str(&parts[0]), str(&parts[1])]].concat();
    fails(&few, 1, &["s-00000.npy", "and so do the others", "1200 passages", "polygrade encode"]);
    fails(&stored[..stored.len() - 1], 2, &["--vectors"]);
    fails(&[&mine[..], &[str(&two), "--vectors", str(&parts[0])]].concat(), 2, &["--query-vectors"]);

    // A value that is no number, in the files of passages and of queries.
    let damage = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(path, bytes).unwrap();
    };
    damage(&parts[2]);
    let all = [&stored[..], &[str(&parts[0]), str(&parts[1]), str(&parts[2])]].concat();
    fails(&all, 1, &["s-00002.npy", "NaN", "row 1200"]);
    damage(&asked);
    fails(&all, 1, &["q.npy", "NaN", "row 2400"]);
    assert!(!two.exists());
}

#[test]
fn faults_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mini, file) = (mini(), dir.path().join("bad.tsv"));
    let out = dir.path().join("out");
    let mine = ["mine", &mini, "--out", str(&out)];
    fails(&[&mine[..], &["--tau", "2"]].concat(), 2, &["--model", "--bm25", "--run"]);
    fails(&[&mine[..], &["--bm25"]].concat(), 2, &["--tau", "--labels"]);
    let bm25 = [&mine[..], &["--bm25", "--tau", "2"]].concat();
    for range in ["0:5", "5:1", "7", "a:b"] {
        fails(&[&bm25[..], &["--range", range]].concat(), 2, &["--range", "10:100"]);
    }
    fails(&[&bm25[..], &["--relative-margin", "1.5"]].concat(), 2, &["none"]);
    fails(&[&bm25[..], &["--negatives", "0"]].concat(), 2, &["--negatives"]);
    fails(&["mine", &mini, "--out", str(&out), "--bm25", "--tau", "9"], 2, &["positive", "profile"]);
    fs::write(&file, "q1 Q0 nowhere 1 2.0 t\n").unwrap();
    let run = [&mine[..], &["--run", str(&file), "--tau", "2"]].concat();
    fails(&run, 1, &["bad.tsv", "ranks no passage"]);
    assert!(!out.exists());

    let query = pairs_of_mini();
    fs::write(
        &file,
        format!("query-id\tcorpus-id\n{}\t{}\n\nnobody\tx\n{}\tnowhere\nalone\n", query.0, query.1, query.0),
    )
    .unwrap();
    let train = ["train", &mini, "--tau", "2", "--out", str(&out), "--hard-negatives", str(&file)];
    fails(
        &[&train[..], &MODEL[..]].concat(),
        1,
        &["bad.tsv:4", "\"nobody\"", "bad.tsv:5", "\"nowhere\"", "bad.tsv:6", "one column"],
    );
    fs::write(&file, "").unwrap();
    let more = ["--guide", "x", "--guide-margin", "0.1", "--guide-relative-margin", "0.1"];
    fails(&[&train[..], &more].concat(), 2, &["--guide-relative-margin"]);
    fails(&[&train[..], &MODEL[..], &["--mask-relative-margin", "2"]].concat(), 2, &["0 to 1"]);
}

/// A query and a passage of mini.
fn pairs_of_mini() -> (String, String) {
    let text = fs::read_to_string(Path::new(&mini()).join("qrels/train.tsv")).unwrap();
    let mut fields = text.lines().nth(1).unwrap().split('\t').map(str::to_owned);
    (fields.next().unwrap(), fields.next().unwrap())
}
