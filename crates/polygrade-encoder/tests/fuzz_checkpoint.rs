//! Damaged model folders: an answer or a named fault, never a panic, and never much more memory than the
//! files have bytes.
//!
//! `POLYGRADE_FUZZ_CASES` sets the number of cases; those that once failed are kept in
//! `proptest-regressions/fuzz_checkpoint.txt` and run first.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use polygrade_data::{Error, Result};
use polygrade_encoder::StaticEncoder;
use polygrade_encoder::checkpoint::{Checkpoint, Dtype, write_safetensors};
use polygrade_encoder::modules::{SentenceModules, is_static};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use std::fs;
use std::path::Path;

/// What headers and settings stumble over.
const TOKENS: &[&str] = &[
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "4294967296",
    "-1",
    "0",
    "1e30",
    "1e999",
    "null",
    "true",
    "\"\"",
    "\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "[[[[[[[[",
    "[0,0]",
    "[4294967296,4294967296]",
    "\"F16\"",
    "\"F4\"",
    "\"I64\"",
    "\"BOOL\"",
    "\"../x\"",
    "\"/\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"mean\"",
    "\"Transformer\"",
    "\"a.StaticEmbedding\"",
    "\\",
    "\n",
    "\0",
    "é",
];

#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Token(Index, Index),
    /// Put in place of a number or a word.
    Swap(Index, Index),
    Delete(Index, u8),
    Cut(Index),
    Length(u64),
    Random(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let lengths = prop_oneof![
        Just(u64::MAX),
        Just(1 << 63),
        Just(100_000_000),
        Just(99_999_999),
        0u64..2000,
        any::<u64>()
    ];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(i, b)| Change::Set(i, b)),
        4 => (at(), at()).prop_map(|(i, t)| Change::Token(i, t)),
        8 => (at(), at()).prop_map(|(i, t)| Change::Swap(i, t)),
        3 => (at(), 1u8..40).prop_map(|(i, n)| Change::Delete(i, n)),
        2 => at().prop_map(Change::Cut),
        1 => lengths.prop_map(Change::Length),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Change::Random),
    ]
}

fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    prop::collection::vec((any::<Index>(), change()), 1..5)
}

/// Numbers and words in `bytes`, from where to where.
fn words(bytes: &[u8]) -> Vec<(usize, usize)> {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let mut out = Vec::new();
    let mut from = None;
    for (i, b) in bytes.iter().enumerate() {
        match (is_word(b), from) {
            (true, None) => from = Some(i),
            (false, Some(start)) => {
                out.push((start, i));
                from = None;
            }
            _ => {}
        }
    }
    out
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let n = bytes.len();
    let token = |t: &Index| TOKENS[t.index(TOKENS.len())].bytes();
    match change {
        Change::Set(i, b) if n > 0 => bytes[i.index(n)] = *b,
        Change::Token(i, t) => {
            let at = i.index(n + 1);
            bytes.splice(at..at, token(t));
        }
        Change::Swap(i, t) => {
            let words = words(bytes);
            if !words.is_empty() {
                let (from, to) = words[i.index(words.len())];
                bytes.splice(from..to, token(t));
            }
        }
        Change::Delete(i, count) => {
            let at = i.index(n + 1);
            bytes.drain(at..(at + usize::from(*count)).min(n));
        }
        Change::Cut(i) => bytes.truncate(i.index(n + 1)),
        Change::Length(length) if n >= 8 => bytes[..8].copy_from_slice(&length.to_le_bytes()),
        Change::Random(other) => bytes.clone_from(other),
        _ => {}
    }
}

/// Mends the length of a safetensors header, so that a changed header is read at all.
fn mend_length(bytes: &mut [u8], old_header: usize, old_total: usize) {
    let new = (old_header + bytes.len()).saturating_sub(old_total) as u64;
    if let Some(first) = bytes.get_mut(..8) {
        first.copy_from_slice(&new.to_le_bytes());
    }
}

fn checked<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e @ Error::Internal(_)) => panic!("{e}"),
        Err(e) => {
            let text = e.to_string();
            assert!(!text.is_empty() && text.len() < 20_000, "{} bytes of message", text.len());
            None
        }
    }
}

/// Holds the process to a size, where the system tells it: an absurd number that was believed asks for far
/// more than this at once.
fn bounded() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmPeak:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.is_none_or(|kib| kib < 4 << 20), "the process has had {peak:?} KiB");
}

fn tensors(dtype: Dtype) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let of = |name: &str, shape: &[usize]| {
        let n: usize = shape.iter().product();
        (name.to_owned(), shape.to_vec(), vec![0.5f32; n])
    };
    let all = [
        of("bert.embeddings.word_embeddings.weight", &[5, 4]),
        of("bert.embeddings.LayerNorm.gamma", &[4]),
        of("embeddings", &[3, 2]),
        of("empty", &[0, 7]),
    ];
    write_safetensors(&path, all, dtype, &[]).unwrap();
    fs::read(path).unwrap()
}

fn read_all(dir: &Path) {
    if let Some(mut found) = checked(Checkpoint::open(dir)) {
        checked(found.strip_prefix(&["bert.", ""], "embeddings.word_embeddings.weight"));
        let names: Vec<String> = found.names().map(str::to_owned).collect();
        for name in names {
            let shape = found.shape(&name).unwrap().to_vec();
            if let Some(values) = checked(found.read(&name, &shape)) {
                assert_eq!(values.len(), shape.iter().product::<usize>());
            }
            checked(found.read(&format!("{name}x"), &shape));
        }
    }
    bounded();
}

const SETTINGS: &[(&str, &str)] = &[
    (
        "modules.json",
        r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
        {"idx":2,"name":"2","path":"2_Dense","type":"sentence_transformers.models.Dense"},
        {"idx":3,"name":"3","path":"3_Normalize","type":"sentence_transformers.models.Normalize"}]"#,
    ),
    (
        "1_Pooling/config.json",
        r#"{"word_embedding_dimension":4,"pooling_mode_cls_token":true,"pooling_mode":["max"]}"#,
    ),
    ("2_Dense/config.json", r#"{"in_features":4,"out_features":2,"bias":true,"use_residual":true}"#),
    ("3_Normalize/config.json", r#"{"module_input_name":"sentence_embedding"}"#),
    (
        "sentence_bert_config.json",
        r#"{"max_seq_length":12,"do_lower_case":false,"transformer_task":"feature-extraction",
        "modality_config":{"text":{"method":"forward","method_output_name":"last_hidden_state"}},
        "processor_kwargs":{"model_max_length":7},"processing_kwargs":{"text":{}}}"#,
    ),
    (
        "config_sentence_transformers.json",
        r#"{"prompts":{"query":"q","document":"","passage":"p"},"default_prompt_name":"query","truncate_dim":3}"#,
    ),
    ("tokenizer_config.json", r#"{"model_max_length":512}"#),
    (
        "model.safetensors.index.json",
        r#"{"metadata":{"total_size":96},"weight_map":{"embeddings":"s/a.safetensors","empty":"s/a.safetensors"}}"#,
    ),
];

fn config() -> ProptestConfig {
    let cases = std::env::var("POLYGRADE_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/fuzz_checkpoint.txt");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(kept)) as _);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn safetensors(changes in changes(), half in any::<bool>(), mend in any::<bool>()) {
        let mut bytes = tensors(if half { Dtype::F16 } else { Dtype::F32 });
        let (header, total) = (u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize, bytes.len());
        changes.iter().for_each(|(_, change)| apply(&mut bytes, change));
        if mend {
            mend_length(&mut bytes, header, total);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), &bytes).unwrap();
        read_all(dir.path());
        checked(StaticEncoder::load(dir.path()));
    }

    #[test]
    fn settings_and_index(changes in changes()) {
        let dir = tempfile::tempdir().unwrap();
        let mut files: Vec<(&str, Vec<u8>)> = SETTINGS.iter().map(|(n, t)| (*n, t.as_bytes().to_vec())).collect();
        for (file, change) in &changes {
            let file = file.index(files.len());
            apply(&mut files[file].1, change);
        }
        for (name, bytes) in &files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::create_dir(dir.path().join("s")).unwrap();
        fs::write(dir.path().join("s/a.safetensors"), tensors(Dtype::BF16)).unwrap();
        fs::write(dir.path().join("2_Dense/model.safetensors"), tensors(Dtype::F32)).unwrap();
        read_all(dir.path());
        checked(is_static(dir.path()));
        if let Some(read) = checked(SentenceModules::read(dir.path())) {
            for dense in &read.dense {
                checked(dense.weights());
            }
            let copy = tempfile::tempdir().unwrap();
            read.write(copy.path(), 4).unwrap();
            let mut again = SentenceModules::read(copy.path()).unwrap();
            again.transformer.clone_from(&read.transformer);
            again.width = read.width;
            again.dense.iter_mut().zip(&read.dense).for_each(|(a, b)| a.path.clone_from(&b.path));
            prop_assert_eq!(again, read);
        }
        checked(StaticEncoder::load(dir.path()));
        bounded();
    }
}

/// Fuzzing seldom gets far enough for these: a long header of one kind, and a file that claims to be long.
#[test]
fn long_headers_are_held_to_the_files_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for header in
        ["[".repeat(900_000), "{\"a\":".repeat(150_000), format!("{{\"{}\":0}}", "n".repeat(900_000))]
    {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        fs::write(&path, bytes).unwrap();
        read_all(dir.path());
    }
    // A sparse file of a tebibyte with one tensor in it: refused by its shape before anything is read.
    let size = 1u64 << 40;
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{size}]}}}}"#, size / 4);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    if file.set_len(bytes.len() as u64 + size).is_ok() {
        let found = Checkpoint::open(dir.path()).unwrap();
        assert!(found.read("a", &[1]).unwrap_err().to_string().contains("expected [1]"));
    }
    bounded();
}
