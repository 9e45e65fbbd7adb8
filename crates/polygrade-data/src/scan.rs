//! One streaming pass over a collection on disk: every record checked and handed to a visitor.
//!
//! [`Collection::load`](crate::Collection::load) and [`profile`](crate::profile) are its visitors, so what
//! one calls valid the other does too.

use crate::check::{Checker, Index};
use crate::error::{At, Error, Problems, Report, Result};
use crate::io::{self, Lines};
use crate::lang::Lang;
use crate::qrels;
use crate::record::{Meta, Origin, RawText, Split};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Receives the valid records of a collection in file order: passages, then queries, then judgments.
pub trait Visitor {
    /// A passage with its index and language.
    fn passage(&mut self, index: Index, lang: Lang, raw: RawText);
    /// A query with its index and language.
    fn query(&mut self, index: Index, lang: Lang, raw: RawText);
    /// A judgment by the indices of its query and passage, with its origin.
    fn judgment(&mut self, split: Split, query: Index, passage: Index, grade: f32, origin: Origin);
}

/// The files of a collection.
#[derive(Debug)]
pub struct Files {
    /// `collection.toml`.
    pub meta: PathBuf,
    /// `corpus.jsonl`, perhaps compressed.
    pub corpus: PathBuf,
    /// `queries.jsonl`, perhaps compressed.
    pub queries: PathBuf,
    /// `qrels/{split}.tsv`, those that exist.
    pub qrels: Vec<(Split, PathBuf)>,
}

impl Files {
    /// Finds them, or says what is missing.
    pub fn of(dir: &Path) -> Result<Files> {
        if !dir.is_dir() {
            let what = if dir.exists() {
                "is a file, expected the folder of a collection"
            } else {
                "does not exist"
            };
            return Err(Error::input(At::file(dir), what, "give the folder that holds corpus.jsonl"));
        }
        let mut problems = Problems::default();
        let mut need = |name: &str, fix: &str| {
            let found = io::find(dir, name);
            if found.is_none() {
                problems.push(At::file(&dir.join(name)), "is missing", fix);
            }
            found.unwrap_or_default()
        };
        let import = "a BEIR folder becomes a collection with: polygrade import beir FOLDER --out NEW";
        let files = Files {
            meta: need("collection.toml", import),
            corpus: need("corpus.jsonl", "a collection holds its passages there, one JSON object a line"),
            queries: need("queries.jsonl", "a collection holds its queries there, one JSON object a line"),
            qrels: Split::ALL
                .iter()
                .filter_map(|&s| Some((s, io::find(&dir.join("qrels"), &format!("{}.tsv", s.name()))?)))
                .collect(),
        };
        if files.qrels.is_empty() {
            let fix = "a collection has judgments in qrels/train.tsv, qrels/dev.tsv or qrels/test.tsv";
            problems.push(At::file(&dir.join("qrels")), "holds no judgments", fix);
        }
        problems.into_result().map(|()| files)
    }
}

impl Files {
    /// Tells collections apart by what a measurement on `split` depends on: a hash (XXH3, 128 bits, as 32 hexadecimal
    /// digits) of passages, queries and that split's judgments, unpacked. `None` where nothing is judged in the split.
    pub fn fingerprint(&self, split: Split) -> Result<Option<String>> {
        let Some((_, qrels)) = self.qrels.iter().find(|(s, _)| *s == split) else {
            return Ok(None);
        };
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let mut buffer = vec![0; 1 << 16];
        for path in [&self.corpus, &self.queries, qrels] {
            let mut reader = io::open(path)?;
            let mut length = 0u64;
            loop {
                let n = reader.read(&mut buffer).map_err(|e| Error::io(path, e))?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
                length += n as u64;
            }
            hash.update(&length.to_le_bytes());
        }
        Ok(Some(format!("{:032x}", hash.digest128())))
    }
}

/// Reads `collection.toml`.
pub fn read_meta(path: &Path) -> Result<Meta> {
    let text = io::read_to_string(path)?;
    let meta: Meta = toml::from_str(&text).map_err(|e| {
        let line = e.span().map(|s| 1 + text[..s.start.min(text.len())].matches('\n').count() as u64);
        let at = At { path: path.to_owned(), line };
        Error::input(at, format!("cannot be read: {}", e.message()), "see docs/formats.md for its keys")
    })?;
    if !(meta.grades.max.is_finite() && meta.grades.max > 0.0) {
        let what = format!("grades.max is {}, expected a number above 0", meta.grades.max);
        return Err(Error::input(At::file(path), what, "state the highest grade of the scale, such as 3"));
    }
    Ok(meta)
}

/// Passes over the collection in `dir`. Files that are missing are an error; faults in records are returned
/// as problems (`limit` of them in full) beside the collection's description.
pub fn scan(dir: &Path, limit: usize, visitor: &mut impl Visitor) -> Result<(Meta, Problems)> {
    let files = Files::of(dir)?;
    let meta = read_meta(&files.meta)?;
    let mut check = Checker::new(limit);
    texts(&files.corpus, &mut check, |check, at, raw| {
        if let Some((index, lang)) = check.passage(at, &raw) {
            visitor.passage(index, lang, raw);
        }
    })?;
    texts(&files.queries, &mut check, |check, at, raw| {
        if let Some((index, lang)) = check.query(at, &raw) {
            visitor.query(index, lang, raw);
        }
    })?;
    for (split, path) in &files.qrels {
        qrels::read_origins(path, &mut check, |check, at, pair, grade, origin| {
            if let Some((q, p)) = check.judgment(&at, *split, pair, grade, origin, &meta.grades) {
                visitor.judgment(*split, q, p, grade, origin);
            }
            Ok(())
        })?;
    }
    Ok((meta, check.problems))
}

fn texts(path: &Path, check: &mut Checker, mut each: impl FnMut(&mut Checker, &At, RawText)) -> Result<()> {
    json_lines(path, check, |check, at, raw| {
        each(check, &at, raw);
        Ok(())
    })
}

/// Streams a jsonl file as records of type `T`; lines that are none become problems.
pub fn json_lines<T: serde::de::DeserializeOwned, S: Report>(
    path: &Path,
    state: &mut S,
    mut each: impl FnMut(&mut S, At, T) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line(state.problems()) {
        let at = At::line(path, number);
        match serde_json::from_str::<T>(line) {
            Ok(record) => each(state, at, record)?,
            Err(e) => state.problems().push(
                at,
                format!("is not a valid record: {}", without_place(&e)),
                "write one JSON object a line with the fields of docs/formats.md",
            ),
        }
    }
    Ok(())
}

/// Streams the texts of a file: of one whose name ends in `.tsv`, id and text with a tab between; of a `.txt`, a text a line, whose
/// id is the line's number; of any other, [json_lines] as records.
///
/// # Errors
/// A file that cannot be read; what `each` says. Lines that are none of that kind become problems.
pub fn text_lines<S: Report>(
    path: &Path,
    state: &mut S,
    mut each: impl FnMut(&mut S, At, RawText) -> Result<()>,
) -> Result<()> {
    let name = io::plain_name(path).to_lowercase();
    let (tsv, txt) = (name.ends_with(".tsv"), name.ends_with(".txt"));
    if !tsv && !txt {
        return json_lines(path, state, each);
    }
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line(state.problems()) {
        let at = At::line(path, number);
        if txt {
            each(state, at, RawText::new(number.to_string(), line.trim()))?;
            continue;
        }
        match line.split_once('\t').filter(|(_, text)| !text.contains('\t')) {
            Some((id, text)) => each(state, at, RawText::new(id.trim(), text.trim()))?,
            None => {
                let what = format!("has {} columns, expected 2: id and text", line.split('\t').count());
                state.problems().push(at, what, "put a tab between id and text, and nowhere else");
            }
        }
    }
    Ok(())
}

/// What a JSON error says, with the column alone for its place: the line is known from elsewhere.
fn without_place(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("{what} (column {})", e.column())
}
