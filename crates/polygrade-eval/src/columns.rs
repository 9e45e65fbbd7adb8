//! Files of lines in columns: runs, qrels, preferences, z-scores.
//!
//! Read in blocks of a mebibyte, cut at newlines, with no allocation for a line. Columns are separated by
//! C's white space (space, tab, vertical tab, form feed, carriage return), as in trec_eval.

use polygrade_data::{At, Error, Problems, Result, io};
use rayon::prelude::*;
use std::io::BufRead;
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

/// A fault of a line: its number, what is wrong, how to mend it.
pub(crate) type Fault = (u64, String, &'static str);

/// Streams the lines of a file that hold anything; `-` is standard input.
pub(crate) fn read(
    path: &Path,
    problems: &mut Problems,
    mut each: impl FnMut(&mut Problems, Columns<'_>) + Send,
) -> Result<()> {
    blocks(path, BLOCK, problems, |problems, block, line| {
        let mut bad = Vec::new();
        let last = split_bytes(block, line, &mut bad, |columns| each(problems, columns));
        bad.into_iter().for_each(|(line, what, fix)| problems.push(At::line(path, line), what, fix));
        last
    })
}

/// The same with pieces of the file parsed at once: `parse` adds lines, numbered from 1 in each piece, to a
/// `T` and its faults to the list, and `merge` takes the pieces in their order with the number of lines before.
pub(crate) fn read_pieces<T: Default + Send>(
    path: &Path,
    problems: &mut Problems,
    parse: impl Fn(&mut T, &mut Vec<Fault>, Columns<'_>) + Sync,
    mut merge: impl FnMut(T, u64) + Send,
) -> Result<()> {
    let threads = rayon::current_num_threads().min(64);
    blocks(path, threads * BLOCK, problems, |problems, block, mut line| {
        let mut pieces = Vec::with_capacity(threads);
        let (mut rest, size) = (block, block.len() / threads + 1);
        while !rest.is_empty() {
            let cut = rest.len().min(size);
            let end = rest[cut..].iter().position(|b| *b == b'\n').map_or(rest.len(), |at| cut + at + 1);
            let (piece, after) = rest.split_at(end);
            pieces.push(piece);
            rest = after;
        }
        let parsed: Vec<(T, Vec<Fault>, u64)> = pieces
            .into_par_iter()
            .map(|piece| {
                let (mut value, mut faults, mut bad) = (T::default(), Vec::new(), Vec::new());
                let lines =
                    split_bytes(piece, 0, &mut bad, |columns| parse(&mut value, &mut faults, columns));
                faults.append(&mut bad);
                (value, faults, lines)
            })
            .collect();
        for (value, faults, lines) in parsed {
            faults
                .into_iter()
                .for_each(|(at, what, fix)| problems.push(At::line(path, line + at), what, fix));
            merge(value, line);
            line += lines;
        }
        line
    })
}

/// Reads a file in blocks of whole lines of about `size` bytes, the next one (and its decompression) while
/// `each` has the last. `each` is given the lines before the block and gives those up to its end.
fn blocks(
    path: &Path,
    size: usize,
    problems: &mut Problems,
    mut each: impl FnMut(&mut Problems, &[u8], u64) -> u64 + Send,
) -> Result<()> {
    let source = if path == Path::new("-") { PathBuf::from("/dev/stdin") } else { path.to_owned() };
    let mut reader = io::open(&source)?;
    let (mut buffer, mut next, mut line) = (vec![0u8; size], vec![0u8; size], 0u64);
    let mut state = fill(&mut reader, &mut buffer, 0);
    if let (0, Err(e)) = state {
        return Err(Error::io(path, e));
    }
    loop {
        let (filled, ended) = state;
        let last = !matches!(ended, Ok(false));
        let whole = match buffer[..filled].iter().rposition(|b| *b == b'\n') {
            _ if matches!(ended, Ok(true)) => filled,
            Some(at) => at + 1,
            None => 0,
        };
        let mark: &[u8] = if line == 0 { b"\xef\xbb\xbf" } else { b"" };
        let block = &buffer[..whole];
        let block = block.strip_prefix(mark).unwrap_or(block);
        if let Err(e) = ended {
            // Not a bad line to pass over: what follows is lost, and figures of a part would look like those of all.
            line = each(problems, block, line);
            let fix = "the file may be cut short or damaged: fetch it again";
            return Err(Error::input(At::line(path, line + 1), format!("cannot be read on: {e}"), fix));
        }
        if last {
            each(problems, block, line);
            return Ok(());
        }
        let rest = &buffer[whole..filled];
        if rest.len() > MAX_LINE {
            let fix = "check that this is a text file";
            return Err(Error::input(At::line(path, line + 1), "the line is longer than 64 MiB", fix));
        }
        if next.len() < 2 * rest.len() {
            next.resize(2 * rest.len(), 0);
        }
        next[..rest.len()].copy_from_slice(rest);
        let (target, from) = (&mut next, rest.len());
        (line, state) = rayon::join(|| each(problems, block, line), || fill(&mut reader, target, from));
        std::mem::swap(&mut buffer, &mut next);
    }
}

/// Reads until the buffer is full or the file ends. How much is in the buffer, and whether the file ended.
fn fill(
    reader: &mut (impl BufRead + ?Sized),
    buffer: &mut [u8],
    from: usize,
) -> (usize, std::io::Result<bool>) {
    let mut filled = from;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => return (filled, Ok(true)),
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Err(e)),
        }
    }
    (filled, Ok(false))
}

/// Cuts a block into lines and columns; lines that are not UTF-8 are faults. Returns the last line's number.
fn split_bytes(block: &[u8], mut line: u64, bad: &mut Vec<Fault>, mut each: impl FnMut(Columns<'_>)) -> u64 {
    if let Ok(text) = std::str::from_utf8(block) {
        return split(text, line, each);
    }
    for bytes in block.split_inclusive(|b| *b == b'\n') {
        if let Ok(text) = std::str::from_utf8(bytes) {
            split(text, line, &mut each);
        } else {
            let fix = "convert the file: iconv -f ENCODING -t UTF-8 FILE > NEW";
            bad.push((line + 1, "the text is not UTF-8".to_owned(), fix));
        }
        line += 1;
    }
    line
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

    /// Adds another's texts. False, and nothing added, where they would come to 4 GiB.
    pub(crate) fn append(&mut self, other: &Ids) -> bool {
        let before = self.text.len();
        if u32::try_from(before + other.text.len()).is_err() {
            return false;
        }
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|end| end + before as u32));
        true
    }

    /// Makes room for as much as another holds.
    pub(crate) fn reserve_like(&mut self, other: &Ids) {
        self.text.reserve(other.text.len());
        self.ends.reserve(other.ends.len());
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

/// Places in [`Ids`] by text: open addressing, at most half full. A slot has the upper half of the hash above
/// the place, so that texts are compared only where they are most likely the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    slots: Vec<u64>,
}

const FREE: u64 = u64::MAX;

impl Table {
    /// Empties the table and makes room for `n` texts.
    pub(crate) fn reset(&mut self, n: usize) {
        self.slots.clear();
        self.slots.resize((2 * n).next_power_of_two().max(2), FREE);
    }

    /// Where the text is, or would be, and what its slot has above the place.
    fn slot(&self, ids: &Ids, id: &str) -> (usize, u64) {
        let (mask, hash) = (self.slots.len() - 1, hash(id));
        let (mut at, upper) = (hash as usize & mask, hash & 0xffff_ffff_0000_0000);
        loop {
            let slot = self.slots[at];
            let same = slot & 0xffff_ffff_0000_0000 == upper;
            if slot == FREE || same && ids.get(slot as u32 as usize) == id {
                return (at, upper);
            }
            at = (at + 1) & mask;
        }
    }

    /// Notes place `i` under its text, or gives the place that has the same text.
    pub(crate) fn insert(&mut self, ids: &Ids, i: usize) -> Option<usize> {
        let (at, upper) = self.slot(ids, ids.get(i));
        if self.slots[at] != FREE {
            return Some(self.slots[at] as u32 as usize);
        }
        self.slots[at] = upper | i as u64;
        None
    }

    /// The place of a text.
    pub(crate) fn get(&self, ids: &Ids, id: &str) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        Some(self.slots[self.slot(ids, id).0]).filter(|slot| *slot != FREE).map(|slot| slot as u32 as usize)
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
    /// The topic of a name.
    pub(crate) fn of(&mut self, id: &str) -> &mut T {
        self.of_or(id, |_| T::default())
    }

    /// The same; a new topic is made from the one named last.
    pub(crate) fn of_or(&mut self, id: &str, new: impl FnOnce(Option<&T>) -> T) -> &mut T {
        if self.all.get(self.last).is_none_or(|(last, _)| last != id) {
            self.last = match self.places.get(id) {
                Some(place) => *place,
                None => {
                    let made = new(self.all.get(self.last).map(|(_, last)| last));
                    self.places.insert(id.to_owned(), self.all.len());
                    self.all.push((id.to_owned(), made));
                    self.all.len() - 1
                }
            };
        }
        &mut self.all[self.last].1
    }
}
