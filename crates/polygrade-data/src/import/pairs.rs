//! Graded sentence pairs (STS, SICK): the first sentence is the query, the second the passage, the score the
//! grade. Equal sentences of one language are one text.
//!
//! With `parallel`, the same row in several sources is one pair in several languages: rows are matched by a
//! `join` column, or by split and row number, and their texts share a group. A sentence that occurs in
//! several rows keeps the group of its first.

use super::table::rows;
use super::{Sink, Source, files_of, lang_of, name_hints};
use crate::error::{At, Error, Report, Result};
use crate::lang::Lang;
use crate::record::Split;
use std::path::Path;

pub(super) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
    let table = |name: &str| {
        [".csv", ".tsv", ".txt"].iter().any(|e| name.ends_with(e)) && !name.starts_with("README")
    };
    for path in files_of(source, table)? {
        let lang = lang_of(source, sink, &path);
        let split = name_hints(&path).1;
        let columns = source.columns.clone().or_else(|| sink.options.columns.clone());
        file(&path, sink, lang.as_ref(), split, columns.as_ref())?;
    }
    Ok(())
}

/// Where the columns of a table are.
struct Columns {
    first: usize,
    second: usize,
    score: usize,
    join: Option<usize>,
    split_by: Option<usize>,
}

fn file(
    path: &Path,
    sink: &mut Sink,
    lang: Option<&Lang>,
    split: Option<Split>,
    names: Option<&[String; 3]>,
) -> Result<()> {
    let mut columns: Option<Columns> = None;
    let mut row_number = 0u64;
    rows(path, None, sink, |sink, at, row| {
        let columns = match &columns {
            Some(c) => c,
            None => {
                let (found, is_header) = find_columns(row, sink, &at, names)?;
                let found = columns.insert(found);
                if is_header {
                    return Ok(());
                }
                found
            }
        };
        row_number += 1;
        let field = |i: usize| row.get(i).map(str::trim);
        let (Some(first), Some(second), Some(score)) =
            (field(columns.first), field(columns.second), field(columns.score))
        else {
            let what = format!("has {} columns, which is too few", row.len());
            sink.problems().push(at, what, "write first sentence, second sentence and score in each row");
            return Ok(());
        };
        if first.is_empty() && second.is_empty() && score.is_empty() {
            return Ok(());
        }
        let Ok(grade) = score.parse::<f32>() else {
            let fix = "write a number, or name the score's column with --columns FIRST,SECOND,SCORE";
            sink.problems().push(at, format!("has {score:?} for a score"), fix);
            return Ok(());
        };
        let key = match (sink.options.parallel, columns.join.and_then(field)) {
            (true, Some(value)) => Some(value.to_owned()),
            (true, None) => Some(format!("{}{row_number}", split.map_or("", Split::name))),
            _ => None,
        };
        let group = |side: &str| key.as_ref().map(|k| format!("{side}{k}"));
        let p = sink.passage_text(&at, second, lang, group("p").as_deref())?;
        let q = sink.query_text(&at, first, lang, group("q").as_deref())?;
        let split_key = columns.split_by.and_then(field).or(key.as_deref()).unwrap_or(first).to_owned();
        // The first source decides for a row in all languages: the others may lack the column to split by.
        let split = match &key {
            Some(key) => Some(sink.split(&format!("\u{1}{key}"), split, &split_key)),
            None => split,
        };
        let split = sink.split(&q, split, &split_key);
        sink.judgment_again(&at, split, (&q, &p), grade)
    })
}

/// The columns by name or number, and whether the first row is a header.
fn find_columns(
    row: &csv::StringRecord,
    sink: &Sink,
    at: &At,
    names: Option<&[String; 3]>,
) -> Result<(Columns, bool)> {
    let position = |name: &str| {
        let number = name.parse::<usize>().ok().filter(|n| (1..=row.len()).contains(n)).map(|n| n - 1);
        let clean = |c: &str| c.trim().eq_ignore_ascii_case(name);
        row.iter().position(clean).or(number).ok_or_else(|| {
            let what = format!("has no column {name:?} among {}", row.iter().collect::<Vec<_>>().join(", "));
            Error::input(at.clone(), what, "name columns as in the header, or by number from 1")
        })
    };
    let join = sink.options.join.as_deref().filter(|_| sink.options.parallel);
    // Languages may come from different files, and the column to split by may be in the first alone.
    let split_by = sink.options.split_by.as_deref().and_then(|n| position(n).ok());
    let rest = |first, second, score| {
        Ok(Columns { first, second, score, join: join.map(position).transpose()?, split_by })
    };
    let found = match names {
        Some([a, b, s]) => rest(position(a)?, position(b)?, position(s)?)?,
        None => {
            let known = |wanted: &[&str]| wanted.iter().find_map(|w| row.iter().position(|c| c.trim() == *w));
            let first = known(&["sentence1", "sentence_A", "anchor", "query"]);
            let second = known(&["sentence2", "sentence_B", "positive", "passage"]);
            let score = known(&["score", "similarity_score", "relatedness_score", "label"]);
            match (first, second, score) {
                (Some(a), Some(b), Some(s)) => rest(a, b, s)?,
                _ => rest(0, 1, 2)?,
            }
        }
    };
    let is_header = row.get(found.score).is_none_or(|s| s.trim().parse::<f32>().is_err());
    Ok((found, is_header))
}
