//! Checkpoints: every type and layout reads as it was written, and what is damaged is named.
#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use polygrade_encoder::checkpoint::{Checkpoint, Dtype, TensorWriter, write_safetensors};
use safetensors::tensor::{Dtype as Stored, SafeTensors, TensorView};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn single(dir: &Path) -> std::path::PathBuf {
    dir.join("model.safetensors")
}

/// A file of this header and so many bytes of values.
fn raw(dir: &Path, header: &str, values: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + values, 0);
    fs::write(single(dir), bytes).unwrap();
}

fn fails(dir: &Path, wanted: &str) {
    let error = Checkpoint::open(dir).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    let text = error.to_string();
    assert!(text.contains(wanted) && text.contains("to mend it"), "{wanted:?} is not in {text}");
}

#[test]
fn every_precision_is_read_and_written() {
    let values = [0.0f32, -1.5, 1.2345678, 65504.0, 1e-7, f32::MIN_POSITIVE];
    let dir = folder();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let rounded = |v| match dtype {
            Dtype::F32 => v,
            Dtype::F16 => f16::from_f32(v).to_f32(),
            Dtype::BF16 => bf16::from_f32(v).to_f32(),
        };
        let tensors = [("b", vec![2, 3], Cow::Borrowed(&values[..])), ("a", vec![], Cow::Owned(vec![7.0]))];
        write_safetensors(&single(dir.path()), tensors, dtype, &[("made_by", "test")]).unwrap();
        let found = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(found.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found.shape("b"), Some(&[2, 3][..]));
        assert_eq!(found.read("b", &[2, 3]).unwrap(), values.map(rounded));
        assert_eq!(found.read("a", &[]).unwrap(), [7.0]);
        // The reference reader agrees.
        let bytes = fs::read(single(dir.path())).unwrap();
        let (header, about) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!((8 + header) % 8, 0);
        let about = about.metadata().clone().unwrap();
        assert_eq!((about["format"].as_str(), about["made_by"].as_str()), ("pt", "test"));
    }
    let doubles: Vec<u8> = values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
    let view = TensorView::new(Stored::F64, vec![6], &doubles).unwrap();
    fs::write(single(dir.path()), safetensors::serialize([("d", view)], None).unwrap()).unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().read("d", &[6]).unwrap(), values);
}

#[test]
fn a_tensor_of_many_chunks_is_whole() {
    let dir = folder();
    let values: Vec<f32> = (0..700_001).map(|i| i as f32).collect();
    let specs = vec![("x".to_owned(), vec![700_001]), ("y".to_owned(), vec![1, 1])];
    let mut writer = TensorWriter::create(&single(dir.path()), specs, Dtype::F32, &[]).unwrap();
    writer.push("x", &values).unwrap();
    assert!(!single(dir.path()).exists(), "not before it is whole");
    writer.push("y", &[-1.0]).unwrap();
    writer.finish().unwrap();
    let found = Checkpoint::open(dir.path()).unwrap();
    assert!(found.read("x", &[700_001]).unwrap() == values);
    assert_eq!(found.read("y", &[1, 1]).unwrap(), [-1.0]);
}

#[test]
fn the_writer_holds_callers_to_what_they_announced() {
    let dir = folder();
    let start = || {
        let specs = vec![("x".to_owned(), vec![2]), ("y".to_owned(), vec![1])];
        TensorWriter::create(&single(dir.path()), specs, Dtype::F16, &[]).unwrap()
    };
    assert!(start().push("y", &[1.0]).is_err());
    assert!(start().push("x", &[1.0]).is_err());
    let mut writer = start();
    writer.push("x", &[1.0, f32::INFINITY]).unwrap();
    let lost = writer.push("y", &[1e6]).unwrap_err();
    assert!(lost.to_string().contains("bf16") && lost.exit_code() == 2, "{lost}");
    let mut writer = start();
    writer.push("x", &[1.0, 2.0]).unwrap();
    assert!(writer.finish().is_err());
    let twice = vec![("x".to_owned(), vec![2]), ("x".to_owned(), vec![2])];
    assert!(TensorWriter::create(&single(dir.path()), twice, Dtype::F32, &[]).is_err());
    assert!(!single(dir.path()).exists());
}

#[test]
fn wrong_reads_name_tensor_and_shapes() {
    let dir = folder();
    let ids = 5i64.to_le_bytes();
    let floats = [0; 24];
    let views = [
        ("embeddings.position_ids", TensorView::new(Stored::I64, vec![1], &ids).unwrap()),
        ("encoder.layer.0.query.weight", TensorView::new(Stored::F32, vec![2, 3], &floats).unwrap()),
    ];
    fs::write(single(dir.path()), safetensors::serialize(views, None).unwrap()).unwrap();
    let found = Checkpoint::open(dir.path()).unwrap();
    let says = |name: &str, shape: &[usize], wanted: &[&str]| {
        let text = found.read(name, shape).unwrap_err().to_string();
        assert!(wanted.iter().all(|w| text.contains(w)), "{text}");
    };
    says("encoder.layer.0.query.weight", &[3, 2], &["[2, 3]", "[3, 2]", "query", "model.safetensors"]);
    says("encoder.layer.0.q.weight", &[2, 3], &["lacks", "nearest", "\"encoder.layer.0.query.weight\""]);
    says("embeddings.position_ids", &[1], &["I64", "position_ids"]);
    assert!(!found.has("x") && found.shape("x").is_none());
    let read = HashSet::from(["encoder.layer.0.query.weight".to_owned()]);
    assert_eq!(found.unused(&read, &[]), ["embeddings.position_ids"]);
    assert!(found.unused(&read, &["embeddings.position_ids"]).is_empty());
}

#[test]
fn prefixes_and_old_names_are_those_of_today() {
    let dir = folder();
    let probe = "embeddings.word_embeddings.weight";
    let one = |name: &str| (name.to_owned(), vec![1], vec![1.0f32]);
    let names = [&format!("roberta.{probe}"), "roberta.embeddings.LayerNorm.gamma", "lm_head.bias"];
    write_safetensors(&single(dir.path()), names.map(one), Dtype::F32, &[]).unwrap();
    let mut found = Checkpoint::open(dir.path()).unwrap();
    assert!(found.strip_prefix(&["bert."], probe).is_err());
    found.strip_prefix(&["bert.", "roberta."], probe).unwrap();
    assert_eq!(found.prefix(), "roberta.");
    let now: Vec<_> = found.names().collect();
    assert_eq!(now, ["embeddings.LayerNorm.weight", probe, "lm_head.bias"]);
    found.strip_prefix(&["bert."], probe).unwrap();
    assert_eq!(found.unused(&HashSet::new(), &["embeddings.", "lm_head."]), [""; 0]);

    let both = [one(&format!("bert.{probe}")), one("bert.x"), one("x")];
    write_safetensors(&single(dir.path()), both, Dtype::F32, &[]).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().strip_prefix(&["bert."], probe).unwrap_err();
    assert!(error.to_string().contains("both"), "{error}");
}

#[test]
fn damaged_headers_are_named() {
    let dir = folder();
    let dir = dir.path();
    let tensor = |shape: &str, from: &str, to: &str| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    fs::write(single(dir), b"abc").unwrap();
    fails(dir, "3 bytes");
    fs::write(single(dir), u64::MAX.to_le_bytes()).unwrap();
    fails(dir, "18446744073709551615");
    fs::write(single(dir), 100_000_001u64.to_le_bytes()).unwrap();
    fails(dir, "100000001");
    fs::write(single(dir), 99_000_000u64.to_le_bytes()).unwrap();
    fails(dir, "cut short");
    fs::write(single(dir), b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n").unwrap();
    fails(dir, "git lfs pull");
    for (header, values, wanted) in [
        ("[]".to_owned(), 0, "header"),
        ("{".to_owned(), 0, "header"),
        (r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#.to_owned(), 4, "F99"),
        (format!(r#"{{"a":{}}}"#, tensor("[1]", "0", "4")), 3, "cut short"),
        (format!(r#"{{"a":{}}}"#, tensor("[1]", "0", "4")), 5, "4 bytes, the file 5"),
        (format!(r#"{{"a":{}}}"#, tensor("[2]", "0", "4")), 4, "cannot have 4 bytes"),
        (format!(r#"{{"a":{}}}"#, tensor("[1]", "4", "0")), 4, "4 to 0"),
        (format!(r#"{{"a":{}}}"#, tensor("[-1]", "0", "4")), 4, "header"),
        (format!(r#"{{"a":{}}}"#, tensor("[1]", "0", "99999999999999999999999")), 4, "header"),
        (format!(r#"{{"a":{}}}"#, tensor("[4611686018427387905,4]", "0", "4")), 4, "cannot have"),
        (format!(r#"{{"a":{0},"b":{0}}}"#, tensor("[1]", "0", "4")), 4, "overlaps"),
        (format!(r#"{{"a":{}}}"#, tensor("[1]", "4", "8")), 8, "gap"),
        (format!(r#"{{"a":{0},"a":{0}}}"#, tensor("[0]", "0", "0")), 0, "twice"),
    ] {
        raw(dir, &header, values);
        fails(dir, wanted);
    }
    raw(dir, r#"{"__metadata__":{"format":"pt"}}   "#, 0);
    assert_eq!(Checkpoint::open(dir).unwrap().names().count(), 0);
}

#[test]
fn shards_are_found_by_their_index() {
    let dir = folder();
    let dir = dir.path();
    let write = |file: &str, names: &[&str]| {
        let tensors = names.iter().enumerate().map(|(i, n)| (*n, vec![1], vec![i as f32]));
        write_safetensors(&dir.join(file), tensors, Dtype::F32, &[]).unwrap();
    };
    let index = |map: &str| {
        fs::write(
            dir.join("model.safetensors.index.json"),
            format!(r#"{{"metadata":{{"total_size":12}},"weight_map":{map}}}"#),
        )
        .unwrap();
    };
    write("model-00001-of-00002.safetensors", &["a", "b"]);
    write("model-00002-of-00002.safetensors", &["c"]);
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    index(&format!(r#"{{"a":"{one}","b":"{one}","c":"{two}"}}"#));
    let found = Checkpoint::open(dir).unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(found.read("b", &[1]).unwrap(), [1.0]);

    index(&format!(r#"{{"a":"{one}","c":"{one}"}}"#));
    fails(dir, "\"c\" is in");
    index(&format!(r#"{{"a":"{one}","d":"{two}"}}"#));
    fails(dir, "\"d\" is in");
    for outside in ["../x.safetensors", "/etc/passwd", "a/../../b", "..\\\\x", "C:x", "", ".", "a\\u0000b"] {
        index(&format!(r#"{{"a":"{outside}"}}"#));
        fails(dir, "no file of this folder");
    }
    index("{}");
    fails(dir, "names no tensor");
    index("[1]");
    fails(dir, "weight_map");
    index(r#"{"a":3}"#);
    fails(dir, "\"a\" is in no file");
    index(r#"{"a":"gone.safetensors"}"#);
    assert!(Checkpoint::open(dir).unwrap_err().to_string().contains("gone.safetensors"));
    write(two, &["b"]);
    index(&format!(r#"{{"a":"{one}","b":"{two}"}}"#));
    fails(dir, "as does");
}

#[test]
fn folders_without_safetensors_say_what_to_do() {
    let dir = folder();
    fails(dir.path(), "neither");
    fs::write(dir.path().join("pytorch_model.bin"), b"PK").unwrap();
    fails(dir.path(), "SentenceTransformer(\"THE MODEL\").save");
    fails(&dir.path().join("gone"), "no folder");
}
