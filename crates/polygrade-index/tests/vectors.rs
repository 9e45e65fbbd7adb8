//! Files of vectors: what numpy, pyarrow and our own writer make is read; what is wrong with others is told.
//! `tools/make_vector_fixtures.py` makes the fixtures.
#![allow(clippy::unwrap_used)]

use polygrade_index::vectors::{VectorReader, VectorWriter, ids_path};
use polygrade_nn::Matrix;
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: usize = 11;
const DIM: usize = 3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors").join(name)
}

fn value(row: usize, col: usize) -> f32 {
    (row * DIM + col) as f32 / 8.0 - 3.0
}

/// The rows of blocks, each of which has as many as were asked for but the last.
fn rows(reader: &VectorReader, at_once: usize) -> polygrade_data::Result<Vec<Vec<f32>>> {
    let (mut out, mut last): (Vec<Vec<f32>>, usize) = (Vec::new(), at_once);
    reader.blocks(at_once, &mut |block| {
        assert_eq!(last, at_once, "a block before the last is not full");
        last = block.rows();
        assert!((1..=at_once).contains(&last));
        out.extend((0..last).map(|i| block.row(i).to_vec()));
        Ok(())
    })?;
    Ok(out)
}

fn ids(reader: &VectorReader) -> polygrade_data::Result<Vec<String>> {
    let mut out = Vec::new();
    reader.ids(&mut |id| out.push(id.to_owned()))?;
    Ok(out)
}

fn expected() -> (Vec<String>, Vec<Vec<f32>>) {
    let row = |i| (0..DIM).map(|j| value(i, j)).collect();
    ((0..ROWS).map(|i| format!("id-{i}")).collect(), (0..ROWS).map(row).collect())
}

fn check(path: &Path) {
    let (want_ids, want) = expected();
    let reader = VectorReader::open(path).unwrap();
    assert_eq!((reader.rows(), reader.dim()), (ROWS as u64, DIM), "{path:?}");
    assert_eq!(ids(&reader).unwrap(), want_ids, "{path:?}");
    for at_once in [1, 4, 5, ROWS, 100] {
        assert_eq!(rows(&reader, at_once).unwrap(), want, "{path:?} by {at_once}");
    }
}

/// What is said where opening, reading ids or reading vectors fails.
fn fault(path: &Path) -> String {
    let read = VectorReader::open(path).and_then(|r| ids(&r).and_then(|_| rows(&r, 4)));
    let error = read.expect_err(&format!("{path:?} has no fault"));
    assert_eq!(error.exit_code(), 1, "{error}");
    let text = error.to_string();
    assert!(text.contains(path.file_stem().unwrap().to_str().unwrap()), "{text}");
    text
}

#[test]
fn what_numpy_writes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["v1", "v2", "v3", "half"] {
        let path = dir.path().join("x.npy");
        fs::copy(fixture(&format!("{name}.npy")), &path).unwrap();
        fs::write(ids_path(&path), expected().0.join("\n")).unwrap();
        check(&path);
    }
    for (name, word) in
        [("columns", "ascontiguousarray"), ("double", "'<f8'"), ("big", "'>f4'"), ("flat", "shape (33,)")]
    {
        let text = fault(&fixture(&format!("{name}.npy")));
        assert!(text.contains(word), "{text}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn what_pyarrow_writes() {
    for name in ["list", "fixed", "double"] {
        check(&fixture(&format!("{name}.parquet")));
    }
    for (name, word) in [
        ("uneven", "other than 3 values in the rows 1 to 3"),
        ("short", "8 values in 3 vectors"),
        ("null", "other than 2 values"),
        ("numbers", "INT64 in the column id"),
    ] {
        let text = fault(&fixture(&format!("{name}.parquet")));
        assert!(text.contains(word), "{text}");
    }
    // Cut anywhere, it is refused.
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = (dir.path().join("cut.parquet"), fs::read(fixture("list.parquet")).unwrap());
    for cut in (0..bytes.len()).step_by(97) {
        fs::write(&path, &bytes[..cut]).unwrap();
        assert!(fault(&path).contains("parquet"));
    }
    // With any byte damaged it is refused, or read to as many rows: never a panic.
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
        fs::write(&path, &bytes).unwrap();
        let read = VectorReader::open(&path).and_then(|r| Ok((r.rows(), ids(&r)?.len(), rows(&r, 4)?.len())));
        match read {
            Ok((rows, ids, vectors)) => assert!(rows == ids as u64 && ids == vectors, "byte {at}"),
            Err(e) => assert_eq!(e.exit_code(), 1, "{e}"),
        }
    }
}

#[test]
fn what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let (names, values) = expected();
    for name in ["v.npy", "v.parquet"] {
        if cfg!(not(feature = "parquet")) && name.ends_with("parquet") {
            continue;
        }
        let path = dir.path().join(name);
        let mut writer = VectorWriter::create(&path, DIM).unwrap();
        for (names, values) in names.chunks(4).zip(values.chunks(4)) {
            writer.push(names, &Matrix::new(DIM, values.concat())).unwrap();
        }
        writer.finish().unwrap();
        check(&path);
        // No rows are no fault.
        let path = dir.path().join(format!("empty-{name}"));
        VectorWriter::create(&path, DIM).unwrap().finish().unwrap();
        let reader = VectorReader::open(&path).unwrap();
        assert_eq!((reader.rows(), rows(&reader, 4).unwrap(), ids(&reader).unwrap()), (0, vec![], vec![]));
    }
}

#[test]
fn faults_of_npy_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let bytes = fs::read(fixture("v1.npy")).unwrap();
    let write = |bytes: &[u8], ids: &str| {
        fs::write(&path, bytes).unwrap();
        fs::write(ids_path(&path), ids).unwrap();
    };
    let names = expected().0.join("\n");
    for cut in [0, 5, 9, 60, 128, 200, bytes.len() - 1] {
        write(&bytes[..cut], &names);
        let text = fault(&path);
        let want = if cut < 128 { "ends inside its header" } else { "11 rows of width 3" };
        assert!(text.contains(want), "{cut}: {text}");
    }
    write(&[&bytes[..], &[0]].concat(), &names);
    assert!(fault(&path).contains("261 bytes"));
    write(b"{\"id\": 1}\n", &names);
    assert!(fault(&path).contains("neither"));
    write(&bytes, "a\nb\n");
    assert!(fault(&path).contains("has 2 ids") && fault(&path).contains("11 rows"));
    write(&bytes, &format!("{names}\nmore"));
    assert!(fault(&path).contains("has 12 ids"));
    fs::remove_file(ids_path(&path)).unwrap();
    assert!(fault(&path).contains("x.ids.txt"));
    for (value, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut bytes = bytes.clone();
        let at = 128 + 4 * (7 * DIM + 1);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        write(&bytes, &names);
        assert!(fault(&path).contains(&format!("value {word} in row 8")), "{}", fault(&path));
    }
}
