//! Judgment files: BEIR's three columns with a header, perhaps with columns for annotator and source, and TREC's four.

use crate::error::{At, Report, Result};
use crate::io::Lines;
use crate::record::Origin;
use std::path::Path;

/// Streams the judgments of a file as (place, query id, passage id, grade). Each line's form is told by its
/// columns: `query-id<TAB>corpus-id<TAB>score` or `query-id iteration passage-id grade`. Lines that begin
/// with `#` are comments (trec_eval 10), and a first line that names columns is skipped.
pub fn read<S: Report>(
    path: &Path,
    state: &mut S,
    mut each: impl FnMut(&mut S, At, (&str, &str), f32) -> Result<()>,
) -> Result<()> {
    read_origins(path, state, |state, at, pair, grade, _| each(state, at, pair, grade))
}

/// As [`read`], with the origin of each judgment. Where the first line names a column `annotator` or `source` behind
/// the three of BEIR, all columns are separated by tabs; an empty field is no name.
pub fn read_origins<S: Report>(
    path: &Path,
    state: &mut S,
    mut each: impl FnMut(&mut S, At, (&str, &str), f32, Origin) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let mut first = true;
    let mut columns: Option<Columns> = None;
    while let Some((number, line)) = lines.next_line(state.problems()) {
        let header = std::mem::take(&mut first) && is_header(line);
        if header {
            columns = Columns::named(line);
            continue;
        }
        let at = At::line(path, number);
        let found = match &columns {
            Some(columns) => columns.parse(line),
            None => parse(line).map(|judgment| (judgment, Origin::default())),
        };
        match found {
            Ok(((query, passage, grade), origin)) => each(state, at, (query, passage), grade, origin)?,
            // Only what is no judgment is a comment: an id may begin with #.
            Err(_) if line.starts_with('#') => {}
            Err(what) => state.problems().push(
                at,
                what,
                "write query-id<TAB>corpus-id<TAB>score (BEIR) or query-id 0 passage-id grade (TREC)",
            ),
        }
    }
    Ok(())
}

fn is_header(line: &str) -> bool {
    let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
    matches!(fields.as_slice(), ["query-id" | "query_id" | "qid", ..])
        || matches!(fields.as_slice(), [_, _, "score" | "grade" | "relevance" | "label"])
}

/// The columns of a file that names annotators or sources.
struct Columns {
    number: usize,
    annotator: Option<usize>,
    source: Option<usize>,
}

impl Columns {
    fn named(header: &str) -> Option<Columns> {
        let names: Vec<&str> = header.split('\t').map(str::trim).collect();
        let place = |name: &str| names.iter().skip(3).position(|n| *n == name).map(|i| i + 3);
        let (annotator, source) = (place("annotator"), place("source"));
        (annotator.is_some() || source.is_some()).then_some(Columns {
            number: names.len(),
            annotator,
            source,
        })
    }

    fn parse<'a>(&self, line: &'a str) -> std::result::Result<(Row<'a>, Origin<'a>), String> {
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [query, passage, grade, ..] = fields.as_slice() else {
            return Err(format!("has {} columns between tabs, expected {}", fields.len(), self.number));
        };
        if fields.len() > self.number {
            return Err(format!("has {} columns, expected {} as in the header", fields.len(), self.number));
        }
        let name = |place: Option<usize>| fields.get(place?).copied().filter(|n| !n.is_empty());
        let origin = Origin { annotator: name(self.annotator), source: name(self.source) };
        Ok(((query, passage, number(grade)?), origin))
    }
}

/// Query, passage and grade.
type Row<'a> = (&'a str, &'a str, f32);

fn parse(line: &str) -> std::result::Result<Row<'_>, String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (query, passage, grade) = match fields.as_slice() {
        [q, p, g] => (*q, *p, *g),
        [q, _, p, g] => (*q, *p, *g),
        other => return Err(format!("has {} columns, expected 3 or 4", other.len())),
    };
    Ok((query, passage, number(grade)?))
}

fn number(grade: &str) -> std::result::Result<f32, String> {
    match grade.parse::<f32>() {
        Ok(g) if g.is_finite() => Ok(g),
        _ => Err(format!("has {grade:?} for a grade, expected a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Problems;

    #[test]
    fn both_forms_and_bad_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.tsv");
        let text = "query-id\tcorpus-id\tscore\nq1\td1\t2.5\n# a remark\nq1 0 d2 -1\nq1\td3\tNaN\nq1\td4\n";
        std::fs::write(&path, text).unwrap();
        let (mut problems, mut got) = (Problems::default(), Vec::new());
        read(&path, &mut problems, |_, at, (q, p), g| {
            got.push((at.line.unwrap(), q.to_owned(), p.to_owned(), g));
            Ok(())
        })
        .unwrap();
        assert_eq!(got, [(2, "q1".into(), "d1".into(), 2.5), (4, "q1".into(), "d2".into(), -1.0)]);
        assert_eq!(problems.kept().iter().map(|p| p.at.line.unwrap()).collect::<Vec<_>>(), [5, 6]);
    }
}
