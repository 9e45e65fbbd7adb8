//! Judgment files: BEIR's three columns with a header, and TREC's four.

use crate::error::{At, Report, Result};
use crate::io::Lines;
use std::path::Path;

/// Streams the judgments of a file as (place, query id, passage id, grade). Each line's form is told by its
/// columns: `query-id<TAB>corpus-id<TAB>score` or `query-id iteration passage-id grade`. Lines that begin
/// with `#` are comments (trec_eval 10), and a first line that names columns is skipped.
pub fn read<S: Report>(
    path: &Path,
    state: &mut S,
    mut each: impl FnMut(&mut S, At, (&str, &str), f32) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let mut first = true;
    while let Some((number, line)) = lines.next_line(state.problems()) {
        let header = std::mem::take(&mut first) && is_header(line);
        if header {
            continue;
        }
        let at = At::line(path, number);
        match parse(line) {
            Ok((query, passage, grade)) => each(state, at, (query, passage), grade)?,
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

fn parse(line: &str) -> std::result::Result<(&str, &str, f32), String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (query, passage, grade) = match fields.as_slice() {
        [q, p, g] => (*q, *p, *g),
        [q, _, p, g] => (*q, *p, *g),
        other => return Err(format!("has {} columns, expected 3 or 4", other.len())),
    };
    match grade.parse::<f32>() {
        Ok(g) if g.is_finite() => Ok((query, passage, g)),
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
