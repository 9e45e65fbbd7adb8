//! Trimmed vocabularies of every kind of tokeniser. Loading in sentence-transformers is checked by tools/check_trim.py.
#![allow(clippy::unwrap_used)]

use polygrade_data::Error;
use polygrade_encoder::checkpoint::Dtype;
use polygrade_encoder::trim::{PieceCounts, TrimSettings, Trimmed, trim};
use polygrade_encoder::{Encoder, NewStatic, NewStaticBase, Prompts, TextKind};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const ALL: TrimSettings = TrimSettings { min_count: 1, vocab_size: None };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoders").join(name)
}

fn texts(name: &str) -> Vec<String> {
    let about: Value =
        serde_json::from_slice(&fs::read(fixture(name).join("expected.json")).unwrap()).unwrap();
    serde_json::from_value(about["texts"].clone()).unwrap()
}

fn trimmed(encoder: &Encoder, texts: &[&str], settings: &TrimSettings) -> Trimmed {
    let mut counts = PieceCounts::new(&**encoder).unwrap();
    counts.add(texts, TextKind::Passage).unwrap();
    trim(encoder, &counts, settings).unwrap()
}

/// Saved and loaded again.
fn saved(encoder: &Encoder, dtype: Dtype) -> (tempfile::TempDir, Encoder) {
    let dir = tempfile::tempdir().unwrap();
    encoder.write_into(dir.path(), "", dtype).unwrap();
    let loaded = Encoder::load(dir.path()).unwrap();
    (dir, loaded)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Piece → id of a `tokenizer.json`.
fn pieces(dir: &Path) -> HashMap<String, u64> {
    let file = json(&dir.join("tokenizer.json"));
    match &file["model"]["vocab"] {
        Value::Array(list) => {
            list.iter().enumerate().map(|(i, p)| (p[0].as_str().unwrap().to_owned(), i as u64)).collect()
        }
        map => map.as_object().unwrap().iter().map(|(p, id)| (p.clone(), id.as_u64().unwrap())).collect(),
    }
}

fn static_encoder(texts: &[&str]) -> Encoder {
    let documents: Vec<u32> = (0..texts.len() as u32).collect();
    let settings = NewStatic { vocab_size: 400, dim: 16, projection: Some(8), ..NewStatic::default() };
    let encoder: Encoder = NewStaticBase::new(texts, &documents, &settings).unwrap().encoder(1).into();
    // As it is read from a folder: weights are in the table.
    saved(&encoder, Dtype::F32).1
}

#[test]
fn texts_keep_their_vectors_to_the_last_bit() {
    for name in ["bert", "xlm-roberta", "roberta", "modernbert", "bert-lora", "static"] {
        let source = if matches!(name, "static" | "bert-lora") { "bert" } else { name };
        let all = texts(source);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let encoder =
            if name == "static" { static_encoder(&all) } else { Encoder::load(&fixture(name)).unwrap() };
        let dtype = if name == "static" { Dtype::F32 } else { Encoder::stored_dtype(&fixture(name)) };
        let expected = match name {
            "xlm-roberta" => Dtype::F16,
            "modernbert" => Dtype::BF16,
            _ => Dtype::F32,
        };
        assert_eq!(dtype, expected, "{name}");
        // Some, and one that is cut since it is too long.
        let long = "Where is the river? ".repeat(300);
        let short = all.iter().enumerate().filter(|(i, t)| i % 3 == 0 && t.len() < 1000);
        let some: Vec<&str> = short.map(|(_, t)| *t).chain([long.as_str()]).collect();
        let small = trimmed(&encoder, &some, &ALL);
        assert!(small.pieces[1] < small.pieces[0] && small.tokens[1] == 0, "{name}: {:?}", small.pieces);
        let (dir, loaded) = saved(&small.encoder, dtype);
        assert_eq!(loaded.tokenizer().vocab_size(), small.pieces[1], "{name}: ids have no gaps");
        let (old, new) = (encoder.encode(&some, TextKind::Passage), loaded.encode(&some, TextKind::Passage));
        assert_eq!(new.unwrap(), old.unwrap(), "{name}");
        let changed = small.changed(&*encoder, &*loaded, &some, TextKind::Passage).unwrap();
        assert!(changed.iter().all(|c| !c), "{name}");
        // Text of other scripts is spelt otherwise, and that is seen.
        let changed = small.changed(&*encoder, &*loaded, &all, TextKind::Passage).unwrap();
        assert!(changed.iter().any(|c| *c) && changed.iter().any(|c| !*c), "{name}");
        // A piece that is kept has the id of its row.
        if name != "static" {
            let home = if name == "bert-lora" { fixture("bert") } else { fixture(name) };
            let (before, after) = (pieces(&home), pieces(dir.path()));
            assert!(after.keys().all(|p| before.contains_key(p)), "{name}: no new pieces");
            let mut kept: Vec<_> = after.iter().map(|(p, id)| (*id, before[p])).collect();
            kept.sort_unstable();
            assert!(kept.is_sorted_by_key(|(_, old)| *old), "{name}: in the old order");
        }
    }
}

#[test]
fn special_tokens_stay_what_they_are_in_every_file() {
    for name in ["bert", "xlm-roberta", "roberta", "modernbert"] {
        let encoder = Encoder::load(&fixture(name)).unwrap();
        let small = trimmed(&encoder, &["Where is the river?"], &ALL);
        let (dir, loaded) = saved(&small.encoder, Dtype::F32);
        let (old, new) =
            (json(&fixture(name).join("tokenizer.json")), json(&dir.path().join("tokenizer.json")));
        let (before, after) = (pieces(&fixture(name)), pieces(dir.path()));
        let contents = |v: &Value| -> Vec<String> {
            let list = v["added_tokens"].as_array().unwrap();
            list.iter().map(|t| t["content"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(contents(&new), contents(&old), "{name}");
        for token in new["added_tokens"].as_array().unwrap() {
            assert_eq!(token["id"].as_u64().unwrap(), after[token["content"].as_str().unwrap()], "{name}");
        }
        let (old, new) = (json(&fixture(name).join("config.json")), json(&dir.path().join("config.json")));
        assert_eq!(new["vocab_size"], small.pieces[1], "{name}");
        for (key, id) in old.as_object().unwrap().iter().filter(|(k, _)| k.ends_with("_token_id")) {
            let piece = before.iter().find(|(_, i)| **i == id.as_u64().unwrap()).unwrap().0;
            assert_eq!(new[key], after[piece], "{name}: {key}");
        }
        // Of an empty text there are the tokens that are put around texts.
        let empty = |e: &Encoder, ids: &HashMap<String, u64>| -> Vec<String> {
            let bags = e.tokenize(&[""], TextKind::Passage).unwrap();
            let name = |id: &u32| ids.iter().find(|(_, i)| **i == u64::from(*id)).unwrap().0.clone();
            bags.get(0).iter().map(name).collect()
        };
        assert_eq!(empty(&loaded, &after), empty(&encoder, &before), "{name}");
    }
    let encoder = Encoder::load(&fixture("bert")).unwrap();
    let (dir, _) = saved(&trimmed(&encoder, &["a river"], &ALL).encoder, Dtype::F32);
    let lines = fs::read_to_string(dir.path().join("vocab.txt")).unwrap();
    let ids = pieces(dir.path());
    assert!(lines.lines().enumerate().all(|(i, piece)| ids[piece] == i as u64));
    assert_eq!(lines.lines().count(), ids.len());
    let decoder = &json(&dir.path().join("tokenizer_config.json"))["added_tokens_decoder"];
    for (id, token) in decoder.as_object().unwrap() {
        assert_eq!(id.parse::<u64>().unwrap(), ids[token["content"].as_str().unwrap()]);
    }
}

#[test]
fn merges_build_every_kept_piece_and_bytes_stay() {
    let encoder = Encoder::load(&fixture("roberta")).unwrap();
    let small = trimmed(&encoder, &["the river runs past the mill"], &ALL);
    let (dir, _) = saved(&small.encoder, Dtype::F32);
    let file = json(&dir.path().join("tokenizer.json"));
    let ids = pieces(dir.path());
    let merges = file["model"]["merges"].as_array().unwrap();
    let all = json(&fixture("roberta").join("tokenizer.json"));
    assert!(!merges.is_empty() && merges.len() < all["model"]["merges"].as_array().unwrap().len());
    let made: Vec<String> =
        merges.iter().map(|m| format!("{}{}", m[0].as_str().unwrap(), m[1].as_str().unwrap())).collect();
    for piece in ids.keys().filter(|p| p.chars().count() > 1 && !p.starts_with('<')) {
        assert!(made.contains(piece), "{piece} cannot be built");
    }
    assert_eq!(ids.keys().filter(|p| p.chars().count() == 1).count(), 256, "one for each byte");
}

#[test]
fn letters_of_the_texts_stay_and_others_go() {
    let encoder = Encoder::load(&fixture("bert")).unwrap();
    let small = trimmed(&encoder, &["river"], &ALL);
    let (dir, loaded) = saved(&small.encoder, Dtype::F32);
    let ids = pieces(dir.path());
    for c in ["r", "i", "v", "e"] {
        assert!(ids.contains_key(c) || !pieces(&fixture("bert")).contains_key(c), "{c}");
        let inside = format!("##{c}");
        assert!(ids.contains_key(&inside) || !pieces(&fixture("bert")).contains_key(&inside), "{inside}");
    }
    assert!(!ids.contains_key("##m") && !ids.contains_key("р"), "a letter that the text has not");
    let unknown = loaded.tokenizer().unknown_id().unwrap();
    let bags = loaded.tokenize(&["rei", "река"], TextKind::Passage).unwrap();
    assert!(!bags.get(0).contains(&unknown), "a word of the same letters");
    assert!(bags.get(1).contains(&unknown));
}

#[test]
fn the_most_frequent_pieces_stay_and_what_is_lost_is_counted() {
    for name in ["bert", "xlm-roberta", "modernbert"] {
        let encoder = Encoder::load(&fixture(name)).unwrap();
        let all = texts(name);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let full = trimmed(&encoder, &all, &ALL);
        let most = full.pieces[1] - 3;
        let few = trimmed(&encoder, &all, &TrimSettings { min_count: 1, vocab_size: Some(most) });
        assert!(few.pieces[1] <= most && few.pieces[1] > most - 3, "{name}: {:?} {most}", few.pieces);
        // Counted apart, from the tokens themselves; texts here are not cut by their length but for one.
        let mut counts = HashMap::new();
        let short: Vec<&str> = all.iter().copied().filter(|t| t.len() < 1000).collect();
        let (few, full) = (
            trimmed(&encoder, &short, &TrimSettings { min_count: 2, vocab_size: None }),
            trimmed(&encoder, &short, &ALL),
        );
        let bags = encoder.tokenize(&short, TextKind::Passage).unwrap();
        bags.tokens.iter().for_each(|t| *counts.entry(*t).or_insert(0u64) += 1);
        assert_eq!(full.tokens, [bags.tokens.len() as u64, 0], "{name}");
        assert_eq!(full.used, [counts.len(), counts.len()], "{name}");
        assert!(few.tokens[1] > 0, "{name}");
        let rare = counts.values().filter(|n| **n == 1).count();
        assert!(few.tokens[1] <= rare as u64 && few.used[1] < few.used[0], "{name}: only rare ones are cut");
    }
    let encoder = Encoder::load(&fixture("bert")).unwrap();
    let mut counts = PieceCounts::new(&*encoder).unwrap();
    counts.add(&["the river"], TextKind::Passage).unwrap();
    let few = trim(&encoder, &counts, &TrimSettings { min_count: 1, vocab_size: Some(4) });
    assert!(matches!(few, Err(Error::Usage(what)) if what.contains("too few")));
    let none = PieceCounts::new(&*encoder).unwrap();
    assert!(matches!(trim(&encoder, &none, &ALL), Err(Error::Usage(_))));
}

#[test]
fn prompts_count_as_texts_do() {
    let mut encoder = Encoder::load(&fixture("bert")).unwrap();
    encoder.set_prompts(Prompts { query: "where is the mill: ".into(), passage: String::new() });
    let mut counts = PieceCounts::new(&*encoder).unwrap();
    counts.add(&["a river"], TextKind::Query).unwrap();
    let small = trim(&encoder, &counts, &ALL).unwrap();
    let (_dir, loaded) = saved(&small.encoder, Dtype::F32);
    let query = |e: &Encoder| e.encode(&["a river"], TextKind::Query).unwrap();
    assert_eq!(query(&loaded), query(&encoder));
}
