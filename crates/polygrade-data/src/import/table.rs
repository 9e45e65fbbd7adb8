//! Rows of csv and tsv files with the lines they begin on.
//!
//! Lines come from [`Lines`], so encodings, byte-order marks and line ends are treated as everywhere, and
//! numbers are right; a row of csv goes on over lines for as long as a quote is open.

use crate::error::{At, Report, Result};
use crate::io::Lines;
use std::path::Path;

/// Longest quoted row, so that a stray quote does not swallow the file.
const MAX_ROW: usize = 1 << 20;

/// Streams the rows of a table. Tab-separated files quote nothing: a quotation mark there belongs to the text.
/// `delimiter` is told by the first line where it is `None`.
pub(super) fn rows<S: Report>(
    path: &Path,
    delimiter: Option<u8>,
    state: &mut S,
    mut each: impl FnMut(&mut S, At, &csv::StringRecord) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let mut delimiter = delimiter;
    let (mut open, mut begun) = (String::new(), 0);
    while let Some((number, line)) = lines.next_line(state.problems()) {
        let tabs = *delimiter.get_or_insert(if line.contains('\t') { b'\t' } else { b',' }) == b'\t';
        if tabs {
            let row: csv::StringRecord = line.split('\t').collect();
            each(state, At::line(path, number), &row)?;
            continue;
        }
        if open.is_empty() {
            begun = number;
        } else {
            open.push('\n');
        }
        open.push_str(line);
        if open.matches('"').count() % 2 == 1 {
            if open.len() > MAX_ROW {
                break;
            }
            continue;
        }
        let at = At::line(path, begun);
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(open.as_bytes());
        let mut row = csv::StringRecord::new();
        match reader.read_record(&mut row) {
            Ok(_) => each(state, at, &row)?,
            Err(e) => {
                state.problems().push(at, format!("is no row of csv: {e}"), "check its quotes and commas")
            }
        }
        open.clear();
    }
    if !open.is_empty() {
        state.problems().push(
            At::line(path, begun),
            "opens a quote that is never closed",
            "close or double the quote",
        );
    }
    Ok(())
}
