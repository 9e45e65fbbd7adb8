//! Files of lines in columns: runs, qrels, preferences, z-scores.
//!
//! Read in blocks of a mebibyte, cut at newlines, with no allocation for a line. Columns are separated by
//! C's white space (space, tab, vertical tab, form feed, carriage return), as in trec_eval.

use polygrade_data::{At, Error, Problems, Result, io};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most columns of a line that are told apart.
pub(crate) const COLUMNS: usize = 6;
const BLOCK: usize = 1 << 20;
/// Longest line accepted, so that a binary file cannot fill the memory.
const MAX_LINE: usize = 64 << 20;

/// What becomes of faults in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Faults {
    /// A fault is an error, as for trec_eval.
    #[default]
    Strict,
    /// Bad lines are passed over, of a document that comes twice the best place (in a run) or the first line
    /// (in judgments) is kept; all of it is handed back as warnings.
    Lenient,
}

impl Faults {
    /// The problems as an error, or as warnings.
    pub(crate) fn settle(self, problems: Problems) -> Result<Problems> {
        match self {
            Faults::Strict => problems.into_result().map(|()| Problems::default()),
            Faults::Lenient => Ok(problems),
        }
    }
}

/// A line's columns.
pub(crate) struct Columns<'a> {
    /// The line's number, from 1.
    pub(crate) line: u64,
    text: &'a str,
    bounds: [(usize, usize); COLUMNS],
    /// How many there are; those past [`COLUMNS`] count as one more.
    pub(crate) count: usize,
}

impl<'a> Columns<'a> {
    /// Column `i`, from 0.
    pub(crate) fn get(&self, i: usize) -> &'a str {
        let (start, end) = self.bounds[i];
        &self.text[start..end]
    }

    /// Whether the line begins with `#`.
    pub(crate) fn is_remark(&self) -> bool {
        self.get(0).starts_with('#')
    }
}

/// Streams the lines of a file that hold anything; `-` is standard input.
pub(crate) fn read(
    path: &Path,
    problems: &mut Problems,
    mut each: impl FnMut(&mut Problems, Columns<'_>),
) -> Result<()> {
    let source = if path == Path::new("-") { PathBuf::from("/dev/stdin") } else { path.to_owned() };
    let mut reader = io::open(&source)?;
    let (mut buffer, mut filled, mut line) = (vec![0u8; BLOCK], 0, 0u64);
    loop {
        let n = match reader.read(&mut buffer[filled..]) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) if filled == 0 && line == 0 => return Err(Error::io(path, e)),
            Err(e) => {
                let fix = "the file may be cut short or damaged: fetch it again";
                problems.push(At::line(path, line + 1), format!("cannot be read on: {e}"), fix);
                return Ok(());
            }
        };
        let ended = n == 0;
        let fresh = filled;
        filled += n;
        let whole = match buffer[fresh..filled].iter().rposition(|b| *b == b'\n') {
            Some(at) => fresh + at + 1,
            None if ended => filled,
            None if filled > MAX_LINE => {
                let fix = "check that this is a text file";
                problems.push(At::line(path, line + 1), "the line is longer than 64 MiB", fix);
                return Ok(());
            }
            None => 0,
        };
        let mut block = &buffer[..whole];
        if line == 0 && whole > 0 {
            block = block.strip_prefix(b"\xef\xbb\xbf").unwrap_or(block);
        }
        if let Ok(text) = std::str::from_utf8(block) {
            line = split(text, line, |columns| each(problems, columns));
        } else {
            for bytes in block.split_inclusive(|b| *b == b'\n') {
                match std::str::from_utf8(bytes) {
                    Ok(text) => {
                        split(text, line, |columns| each(problems, columns));
                    }
                    Err(_) => problems.push(
                        At::line(path, line + 1),
                        "the text is not UTF-8",
                        "convert the file: iconv -f ENCODING -t UTF-8 FILE > NEW",
                    ),
                }
                line += 1;
            }
        }
        if ended {
            return Ok(());
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        if filled == buffer.len() {
            buffer.resize(2 * buffer.len(), 0);
        }
    }
}

/// 0: part of a column, 1: white space, 2: the end of the line.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut b = 9;
    while b <= 13 {
        class[b] = 1;
        b += 1;
    }
    class[b' ' as usize] = 1;
    class[b'\n' as usize] = 2;
    class
};

/// Cuts a block into lines and columns. Returns the number of the last line.
fn split(text: &str, mut line: u64, mut each: impl FnMut(Columns<'_>)) -> u64 {
    let bytes = text.as_bytes();
    let class = |at: usize| bytes.get(at).map_or(2, |b| CLASS[usize::from(*b)]);
    let mut at = 0;
    while at < bytes.len() {
        line += 1;
        let (mut bounds, mut count) = ([(0, 0); COLUMNS], 0);
        loop {
            while class(at) == 1 {
                at += 1;
            }
            if class(at) == 2 {
                break;
            }
            let start = at;
            while class(at) == 0 {
                at += 1;
            }
            if count == COLUMNS {
                count += 1;
                // What follows is nobody's.
                while class(at) != 2 {
                    at += 1;
                }
                break;
            }
            bounds[count] = (start, at);
            count += 1;
        }
        at += 1;
        if count > 0 {
            each(Columns { line, text, bounds, count });
        }
    }
    line
}

/// Many short texts behind one another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    text: String,
    ends: Vec<u32>,
}

impl Ids {
    /// Adds a text. False, and nothing added, where they would come to 4 GiB.
    pub(crate) fn push(&mut self, id: &str) -> bool {
        match u32::try_from(self.text.len() + id.len()) {
            Ok(end) => {
                self.text.push_str(id);
                self.ends.push(end);
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.text[start..self.ends[i] as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i))
    }

    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

fn hash(id: &str) -> u64 {
    use std::hash::Hasher;
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// Places in [`Ids`] by text: open addressing, at most half full.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    slots: Vec<u32>,
}

const FREE: u32 = u32::MAX;

impl Table {
    /// Empties the table and makes room for `n` texts.
    pub(crate) fn reset(&mut self, n: usize) {
        self.slots.clear();
        self.slots.resize((2 * n).next_power_of_two().max(2), FREE);
    }

    fn slot(&self, ids: &Ids, id: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash(id) as usize & mask;
        while self.slots[at] != FREE && ids.get(self.slots[at] as usize) != id {
            at = (at + 1) & mask;
        }
        at
    }

    /// Notes place `i` under its text, or gives the place that has the same text.
    pub(crate) fn insert(&mut self, ids: &Ids, i: usize) -> Option<usize> {
        let at = self.slot(ids, ids.get(i));
        match self.slots[at] {
            FREE => {
                self.slots[at] = i as u32;
                None
            }
            other => Some(other as usize),
        }
    }

    /// The place of a text.
    pub(crate) fn get(&self, ids: &Ids, id: &str) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        Some(self.slots[self.slot(ids, id)]).filter(|i| *i != FREE).map(|i| i as usize)
    }
}

/// Topics in the order of their first line, found by name; the last one named is found at once.
pub(crate) struct Topics<T> {
    pub(crate) all: Vec<(String, T)>,
    places: rustc_hash::FxHashMap<String, usize>,
    last: usize,
}

impl<T> Default for Topics<T> {
    fn default() -> Self {
        Topics { all: Vec::new(), places: Default::default(), last: 0 }
    }
}

impl<T: Default> Topics<T> {
    pub(crate) fn of(&mut self, id: &str) -> &mut T {
        if self.all.get(self.last).is_none_or(|(last, _)| last != id) {
            self.last = match self.places.get(id) {
                Some(place) => *place,
                None => {
                    self.places.insert(id.to_owned(), self.all.len());
                    self.all.push((id.to_owned(), T::default()));
                    self.all.len() - 1
                }
            };
        }
        &mut self.all[self.last].1
    }
}
