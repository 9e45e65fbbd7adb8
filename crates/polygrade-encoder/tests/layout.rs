//! Model folders: what is saved loads again with the same vectors, and damaged folders give errors that name
//! the file. Loading in sentence-transformers and model2vec is checked by tools/check_static_layout.py.
#![allow(clippy::unwrap_used)]

use polygrade_data::Error;
use polygrade_encoder::{NewStatic, NewStaticBase, StaticEncoder, TextKind};
use safetensors::tensor::{Dtype, TensorView};
use std::fs;
use std::path::Path;

const TEXTS: [&str; 4] = ["how high should my desk be", "meza iwe na urefu gani", "桌子应该多高", ""];

fn encoder(projection: Option<usize>) -> StaticEncoder {
    let settings = NewStatic { vocab_size: 200, dim: 16, projection, ..NewStatic::default() };
    NewStaticBase::new(&TEXTS, &[0, 0, 0, 1], &settings).unwrap().encoder(1)
}

fn close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(x, y)| assert!((x - y).abs() < 1e-6, "{x} {y}"));
}

#[test]
fn what_is_saved_loads_with_the_same_vectors() {
    for projection in [None, Some(8)] {
        let mut e = encoder(projection);
        e.prompts.query = "query: ".into();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        e.save(&path, "# card").unwrap();
        let loaded = StaticEncoder::load(&path).unwrap();
        assert_eq!((loaded.dim(), &loaded.prompts), (e.dim(), &e.prompts));
        for kind in [TextKind::Query, TextKind::Passage] {
            close(&loaded.encode(&TEXTS, kind).unwrap().data, &e.encode(&TEXTS, kind).unwrap().data);
        }
        let zero = loaded.encode(&[""], TextKind::Passage).unwrap();
        assert!(zero.data.iter().all(|v| *v == 0.0));
        assert!(matches!(e.save(&path, ""), Err(Error::Usage(_))), "an existing model is not overwritten");
    }
}

fn write_tensors(path: &Path, tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)>) {
    let views: Vec<_> =
        tensors.iter().map(|(n, t, s, b)| (*n, TensorView::new(*t, s.clone(), b).unwrap())).collect();
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn f32s(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

#[test]
fn model2vec_tables_with_mapping_weights_and_half_floats_are_read() {
    let e = encoder(None);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    e.save(&path, "").unwrap();
    let saved = StaticEncoder::load(&path).unwrap();
    let vocab = saved.table.rows();
    // Rows in reverse, found through the mapping; values halved, made good by the weights.
    let reversed = (0..vocab).rev().flat_map(|r| saved.table.plain().row(r).to_vec()).map(|v| v * 0.5);
    let mapping: Vec<u8> = (0..vocab as i64).rev().flat_map(i64::to_le_bytes).collect();
    let weights: Vec<u8> = (0..vocab).flat_map(|_| 2f64.to_le_bytes()).collect();
    let tensors = vec![
        ("embeddings", Dtype::F32, vec![vocab, 16], f32s(reversed.clone())),
        ("mapping", Dtype::I64, vec![vocab], mapping.clone()),
        ("weights", Dtype::F64, vec![vocab], weights.clone()),
    ];
    write_tensors(&path.join("model.safetensors"), tensors);
    let loaded = StaticEncoder::load(&path).unwrap();
    close(&loaded.table.plain().data, &saved.table.plain().data);
    let known = &TEXTS[..3];
    let kind = TextKind::Passage;
    close(&loaded.encode(known, kind).unwrap().data, &saved.encode(known, kind).unwrap().data);

    let halves: Vec<u8> = reversed.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect();
    let tensors = vec![
        ("embeddings", Dtype::F16, vec![vocab, 16], halves),
        ("mapping", Dtype::I64, vec![vocab], mapping),
        ("weights", Dtype::F64, vec![vocab], weights),
    ];
    write_tensors(&path.join("model.safetensors"), tensors);
    let rough = StaticEncoder::load(&path).unwrap();
    rough
        .table
        .plain()
        .data
        .iter()
        .zip(&saved.table.plain().data)
        .for_each(|(a, b)| assert!((a - b).abs() < 2e-3));
}

#[test]
fn damaged_folders_are_named() {
    let e = encoder(Some(8));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let broken = |file: &str, content: &[u8], wanted: &str| {
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        e.save(&path, "").unwrap();
        fs::write(path.join(file), content).unwrap();
        let error = StaticEncoder::load(&path).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{file}: {error}");
        let text = error.to_string();
        assert!(text.contains(file) && text.contains(wanted), "{file}: {text}");
    };
    broken("modules.json", b"{", "JSON");
    broken("modules.json", b"[]", "no module");
    broken("modules.json", br#"[{"path":"../x","type":"a.StaticEmbedding"}]"#, "outside");
    broken("modules.json", br#"[{"path":"","type":"a.Transformer"}]"#, "only static models");
    broken("tokenizer.json", b"{}", "tokeniser");
    broken("model.safetensors", b"short", "safetensors");
    let tanh = br#"{"in_features":16,"out_features":8,"activation_function":"torch.nn.Tanh"}"#;
    broken("1_Dense/config.json", tanh, "Tanh");
    let residual = br#"{"in_features":16,"out_features":8,"activation_function":"torch.nn.Identity","use_residual":true}"#;
    broken("1_Dense/config.json", residual, "residual");
    broken("1_Dense/config.json", br#"{"in_features":-1}"#, "in_features");
    broken("config_sentence_transformers.json", br#"{"truncate_dim":4}"#, "truncate_dim");

    let tensor = |name, shape: Vec<usize>| {
        let n = shape.iter().product::<usize>();
        let tensors = vec![(name, Dtype::F32, shape, f32s((0..n).map(|i| i as f32)))];
        let file = dir.path().join("t.safetensors");
        write_tensors(&file, tensors);
        fs::read(file).unwrap()
    };
    broken("model.safetensors", &tensor("other", vec![2, 2]), "neither of the expected");
    broken("model.safetensors", &tensor("embedding.weight", vec![2, 16]), "2 embeddings");
    broken("model.safetensors", &tensor("embedding.weight", vec![64]), "shape");
    broken("1_Dense/model.safetensors", &tensor("linear.weight", vec![8, 5]), "takes 5 values");
    assert_eq!(StaticEncoder::load(&dir.path().join("none")).unwrap_err().exit_code(), 1);
}
