//! Every reader on damaged and random files: an answer or a named fault, never a panic.
//!
//! `POLYGRADE_FUZZ_CASES` sets the number of cases for each reader. Cases that once failed are kept in
//! `proptest-regressions/fuzz.txt` and run first.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use common::{Files, Place};
use polygrade_data::export::{ExportFormat, export};
use polygrade_data::import::{Format, Options};
use polygrade_data::{Collection, Error, Result, Split, profile};
use proptest::prelude::*;
use proptest::sample::Index;

/// What readers stumble over: numbers at the edges, JSON's and csv's signs, white space of all kinds.
const TOKENS: &[&[u8]] = &[
    b"NaN",
    b"-1",
    b"1e39",
    b"inf",
    b"-0",
    b"99999999999999999999",
    b"0.0000001",
    b"null",
    b"\"\"",
    b"\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b" ",
    b"#",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\\ud800",
    b"\\u0000",
    b"und",
    b"zh-Hant",
    b"_id",
    b"text",
    b"lang",
    b"q1",
    b"d1",
    b"Q0",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"PAR1",
];

#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Insert(Index, Index),
    Delete(Index, u8),
    Cut(Index),
    SwapLines(Index, Index),
    RepeatLine(Index),
    DropLine(Index),
    Random(Vec<u8>),
    Compress(bool),
    Remove,
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(i, b)| Change::Set(i, b)),
        6 => (at(), at()).prop_map(|(i, t)| Change::Insert(i, t)),
        4 => (at(), 1u8..40).prop_map(|(i, n)| Change::Delete(i, n)),
        1 => at().prop_map(Change::Cut),
        2 => (at(), at()).prop_map(|(i, j)| Change::SwapLines(i, j)),
        2 => at().prop_map(Change::RepeatLine),
        2 => at().prop_map(Change::DropLine),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Change::Random),
        1 => any::<bool>().prop_map(Change::Compress),
        1 => Just(Change::Remove),
    ]
}

fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    prop::collection::vec((any::<Index>(), change()), 1..6)
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let place = |i: &Index, n: usize| i.index(n + 1);
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let n = bytes.len();
    match change {
        Change::Set(i, b) if n > 0 => bytes[i.index(n)] = *b,
        Change::Insert(i, t) => {
            let at = place(i, n);
            bytes.splice(at..at, TOKENS[t.index(TOKENS.len())].iter().copied());
        }
        Change::Delete(i, count) => {
            let at = place(i, n);
            bytes.drain(at..(at + usize::from(*count)).min(n));
        }
        Change::Cut(i) => bytes.truncate(place(i, n)),
        Change::SwapLines(i, j) if !lines.is_empty() => {
            let (i, j) = (i.index(lines.len()), j.index(lines.len()));
            lines.swap(i, j);
            *bytes = lines.concat();
        }
        Change::RepeatLine(i) if !lines.is_empty() => {
            let i = i.index(lines.len());
            lines.insert(i, lines[i].clone());
            *bytes = lines.concat();
        }
        Change::DropLine(i) if !lines.is_empty() => {
            lines.remove(i.index(lines.len()));
            *bytes = lines.concat();
        }
        Change::Random(other) => bytes.clone_from(other),
        Change::Compress(true) => *bytes = common::gz(bytes),
        Change::Compress(false) => *bytes = common::zst(bytes),
        _ => {}
    }
}

fn damaged(mut files: Files, changes: &[(Index, Change)]) -> Files {
    for (file, change) in changes {
        if files.is_empty() {
            break;
        }
        let file = file.index(files.len());
        if matches!(change, Change::Remove) {
            files.remove(file);
        } else {
            apply(&mut files[file].1, change);
        }
    }
    files
}

fn checked<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e @ Error::Internal(_)) => panic!("{e}"),
        Err(e) => {
            assert!(!e.to_string().is_empty());
            None
        }
    }
}

fn judgments(c: &Collection) -> usize {
    Split::ALL.iter().map(|s| c.judgments(*s).len()).sum()
}

/// Imports damaged files; what comes of it must load, and a failure must leave nothing.
fn import(format: Format, files: &Files, options: &Options) {
    let place = Place::of(files);
    std::fs::create_dir_all(place.src()).unwrap();
    match checked(place.try_import(format, options)) {
        None => place.assert_nothing_left(),
        Some(summary) => {
            let c =
                Collection::load(&place.out()).unwrap_or_else(|e| panic!("imported, but does not load: {e}"));
            let found = (c.passages.len(), c.queries.len(), judgments(&c));
            assert_eq!((summary.passages, summary.queries, summary.judgments), found);
            place.assert_no_litter();
        }
    }
}

/// Loads, profiles and exports a damaged collection; the readers must agree on whether it is valid.
fn native(files: &Files) {
    let place = Place::of(files);
    std::fs::create_dir_all(place.src()).unwrap();
    let loaded = checked(Collection::load(&place.src()));
    // A wide scale has a threshold for each half grade; `malformed.rs` has the test of that.
    let wide = loaded.as_ref().is_none_or(|c| c.meta.grades.max > 1e4);
    let readable = polygrade_data::scan::read_meta(&place.file("collection.toml"));
    if !wide || readable.is_ok_and(|m| m.grades.max <= 1e4) {
        let profiled = checked(profile::profile(&place.src(), 3));
        let valid = profiled.is_some_and(|(_, problems)| problems.total() == 0);
        assert_eq!(loaded.is_some(), valid, "load and profile disagree");
    }
    for (name, format) in ExportFormat::ALL {
        if let Some(c) = loaded.as_ref().filter(|c| judgments(c) > 0) {
            export(c, format, &place.path(name)).unwrap();
        }
    }
}

fn config() -> ProptestConfig {
    common::fuzz_config(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/fuzz.txt"))
}

fn options(skip_invalid: bool, english: bool) -> Options {
    Options { skip_invalid, lang: english.then(|| common::lang("en")), ..Options::default() }
}

/// A property over damaged sources of one format.
macro_rules! importer {
    ($name:ident, $format:expr, $files:expr) => {
        proptest! {
            #![proptest_config(config())]
            #[test]
            fn $name(changes in changes(), skip in any::<bool>(), english in any::<bool>()) {
                import($format, &damaged($files, &changes), &options(skip, english));
            }
        }
    };
}

importer!(beir, Format::Beir, common::beir());
importer!(trec, Format::Trec, common::trec());
importer!(miracl, Format::Miracl, common::miracl());
importer!(tevatron_new, Format::Tevatron, common::tevatron_new());
importer!(tevatron_old, Format::Tevatron, common::tevatron_old());
importer!(flagembedding, Format::FlagEmbedding, common::flagembedding());
importer!(flagembedding_evaluation, Format::FlagEmbedding, common::flagembedding_evaluation());
importer!(sentence_transformers, Format::SentenceTransformers, common::sentence_transformers());
#[cfg(feature = "parquet")]
importer!(mteb, Format::Mteb, common::mteb());
importer!(squad, Format::Squad, common::squad());
importer!(lareqa, Format::Lareqa, common::lareqa());
importer!(topics, Format::Topics, common::topics());

proptest! {
    #![proptest_config(config())]

    #[test]
    fn native_collections(changes in changes()) {
        native(&damaged(common::native(), &changes));
    }

    #[test]
    fn pairs(changes in changes(), skip in any::<bool>(), parallel in any::<bool>(), how in 0u8..4) {
        let columns = (how & 1 == 1).then(|| ["sentence_A", "2", "4"].map(str::to_owned));
        let join = (how & 2 == 2).then(|| "pair".to_owned());
        let options = Options { parallel, columns, join, ..options(skip, false) };
        import(Format::Pairs, &damaged(common::pairs(), &changes), &options);
    }

    /// Nothing valid to begin with: the names of a format's files, random bytes within.
    #[test]
    fn random_files(bytes in prop::collection::vec(any::<u8>(), 0..400), which in any::<Index>(), skip in any::<bool>()) {
        let mut all = common::sources();
        let (format, mut files) = all.swap_remove(which.index(all.len()));
        files.iter_mut().for_each(|f| f.1.clone_from(&bytes));
        import(format, &files, &options(skip, false));
        let mut files = common::native();
        files.iter_mut().skip(1).for_each(|f| f.1.clone_from(&bytes));
        native(&files);
    }
}
