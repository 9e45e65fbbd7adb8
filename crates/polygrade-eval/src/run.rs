//! Runs: the ranked passages of each query, in TREC's format `query-id Q0 passage-id rank score tag`.
//!
//! The order is trec_eval's, whatever the order of the lines and the rank column: score descending, then
//! passage id descending by bytes. Scores may be infinite, never NaN. In memory a run is columns: for each
//! query one text of all ids, their ends, and scores.

use crate::columns::{self, Columns, Fault, Ids, Table, Topics};
use polygrade_data::io::AtomicFile;
use polygrade_data::{At, Error, Problems, Result};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::io::Write;
use std::path::Path;

pub use crate::columns::Faults;

/// How a run is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// What becomes of bad lines and of passages that come twice for a query.
    pub faults: Faults,
    /// Scores are rounded to single precision, as trec_eval 9 and pytrec_eval do, which makes ties of close
    /// scores.
    pub single: bool,
    /// Lines that begin with `#` are lines like others (trec_eval 9) and not remarks (10).
    pub no_remarks: bool,
}

/// The ranked passages of one query.
#[derive(Debug, Clone, Default)]
pub struct Ranking {
    ids: Ids,
    scores: Vec<f64>,
    /// Places in the columns by rank.
    order: Vec<u32>,
}

impl Ranking {
    /// How many passages are ranked.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Passage ids and scores, from rank 1 on.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f64)> {
        self.order.iter().map(|&i| (self.ids.get(i as usize), self.scores[i as usize]))
    }

    /// Adds a passage. It has its rank after [`Ranking::sort`] alone.
    fn push(&mut self, id: &str, score: f64) -> bool {
        let room = self.ids.push(id);
        if room {
            // A sum makes 0 of -0, which are one score.
            self.scores.push(score + 0.0);
        }
        room
    }

    fn sort(&mut self) {
        let (ids, scores) = (&self.ids, &self.scores);
        self.order = (0..scores.len() as u32).collect();
        self.order.sort_unstable_by(|&a, &b| {
            let (a, b) = (a as usize, b as usize);
            let by_score = scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal);
            by_score.then_with(|| ids.get(b).cmp(ids.get(a)))
        });
    }

    /// Takes out all but the best place of each passage; the places taken out.
    fn take_duplicates(&mut self, table: &mut Table) -> Vec<usize> {
        let mut out = Vec::new();
        table.reset(self.len());
        let ids = &self.ids;
        self.order.retain(|&i| {
            let first = table.insert(ids, i as usize).is_none();
            if !first {
                out.push(i as usize);
            }
            first
        });
        out
    }
}

/// The rankings of a run, by query id in the order of bytes.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The tag (run id) of the last line; empty where there is none.
    pub tag: String,
    rankings: Vec<(String, Ranking)>,
    places: FxHashMap<String, usize>,
}

/// A query's columns with the number of each line.
#[derive(Default)]
struct Building {
    ranking: Ranking,
    lines: Vec<u32>,
}

impl Building {
    /// An empty one with room for as much as the last.
    fn like(last: Option<&Building>) -> Building {
        let mut new = Building::default();
        if let Some(last) = last {
            new.ranking.ids.reserve_like(&last.ranking.ids);
            new.ranking.scores.reserve(last.ranking.scores.len());
            new.lines.reserve(last.lines.len());
        }
        new
    }

    /// Adds what a later piece of the file has. False where ids would come to 4 GiB.
    fn append(&mut self, later: Building) -> bool {
        if self.lines.is_empty() {
            *self = later;
            return true;
        }
        let room = self.ranking.ids.append(&later.ranking.ids);
        if room {
            self.ranking.scores.extend(later.ranking.scores);
            self.lines.extend(later.lines);
        }
        room
    }
}

/// What a piece of the file holds.
#[derive(Default)]
struct Piece {
    topics: Topics<Building>,
    tag: String,
}

impl Run {
    /// Reads a run, plain, gzip or zstd; `-` is standard input. Columns after the tag are ignored. What was
    /// passed over under [`Faults::Lenient`] comes beside it.
    ///
    /// # Errors
    /// The file cannot be read, or has faults and they are not to be passed over: fewer than 5 columns, a
    /// score that is no number, a passage twice for a query.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<(Run, Problems)> {
        let (mut problems, mut whole, mut full) = (Problems::default(), Piece::default(), None);
        let add = |piece: &mut Piece, faults: &mut Vec<Fault>, columns: Columns<'_>| {
            if !options.no_remarks && columns.is_remark() {
                return;
            }
            match parse(&columns) {
                Ok(score) => {
                    let score = if options.single { f64::from(score as f32) } else { score };
                    let building = piece.topics.of_or(columns.get(0), Building::like);
                    if building.ranking.push(columns.get(2), score) {
                        building.lines.push(u32::try_from(columns.line).unwrap_or(u32::MAX));
                    }
                    if columns.count > 5 && columns.get(5) != piece.tag {
                        columns.get(5).clone_into(&mut piece.tag);
                    }
                }
                Err((what, fix)) => faults.push((columns.line, what, fix)),
            }
        };
        columns::read_pieces(path, &mut problems, add, |piece, before| {
            if !piece.tag.is_empty() {
                whole.tag = piece.tag;
            }
            let before = u32::try_from(before).unwrap_or(u32::MAX);
            for (id, mut building) in piece.topics.all {
                building.lines.iter_mut().for_each(|line| *line = line.saturating_add(before));
                if !whole.topics.of(&id).append(building) {
                    full = Some(before);
                }
            }
        })?;
        let (topics, tag) = (whole.topics, whole.tag);
        if let Some(line) = full {
            let fix = "split the query's list";
            return Err(Error::input(
                At::line(path, u64::from(line)),
                "the ids of a query come to 4 GiB",
                fix,
            ));
        }
        let finish = |table: &mut Table, (id, mut building): (String, Building)| {
            let ranking = &mut building.ranking;
            ranking.ids.shrink();
            ranking.scores.shrink_to_fit();
            ranking.sort();
            let twice: Vec<(u32, String)> = ranking
                .take_duplicates(table)
                .into_iter()
                .map(|i| (building.lines[i], ranking.ids.get(i).to_owned()))
                .collect();
            ((id, building.ranking), twice)
        };
        let done: Vec<_> = topics.all.into_par_iter().map_init(Table::default, finish).collect();
        let mut rankings = Vec::with_capacity(done.len());
        for ((id, ranking), twice) in done {
            for (line, passage) in twice {
                let what = format!("ranks passage {passage:?} twice for query {id:?}");
                let fix = "keep one line for each query and passage";
                problems.push(At::line(path, u64::from(line)), what, fix);
            }
            rankings.push((id, ranking));
        }
        let warnings = options.faults.settle(problems)?;
        Ok((Run::from_rankings(tag, rankings), warnings))
    }

    /// A run of lists of passage ids and scores, in any order.
    ///
    /// # Errors
    /// A score is NaN, or a passage comes twice for a query, or a query twice.
    pub fn new<'a, L>(tag: &str, lists: impl IntoIterator<Item = (&'a str, L)>) -> Result<Run>
    where
        L: IntoIterator<Item = (&'a str, f64)>,
    {
        let (mut rankings, mut table) = (Vec::new(), Table::default());
        for (query, list) in lists {
            let mut ranking = Ranking::default();
            for (passage, score) in list {
                if score.is_nan() || !ranking.push(passage, score) {
                    let what = format!("query {query:?}: the score of passage {passage:?} is {score}");
                    return Err(Error::Usage(what));
                }
            }
            ranking.sort();
            if let Some(i) = ranking.take_duplicates(&mut table).first() {
                let passage = ranking.ids.get(*i);
                return Err(Error::Usage(format!("query {query:?} ranks passage {passage:?} twice")));
            }
            rankings.push((query.to_owned(), ranking));
        }
        let n = rankings.len();
        let run = Run::from_rankings(tag.to_owned(), rankings);
        if run.places.len() < n {
            return Err(Error::Usage("a query has two lists".into()));
        }
        Ok(run)
    }

    fn from_rankings(tag: String, mut rankings: Vec<(String, Ranking)>) -> Run {
        rankings.sort_by(|a, b| a.0.cmp(&b.0));
        let places = rankings.iter().enumerate().map(|(i, (id, _))| (id.clone(), i)).collect();
        Run { tag, rankings, places }
    }

    /// The ranking of a query.
    pub fn get(&self, query: &str) -> Option<&Ranking> {
        self.places.get(query).map(|i| &self.rankings[*i].1)
    }

    /// The queries and their rankings, by query id in the order of bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Ranking)> {
        self.rankings.iter().map(|(id, ranking)| (id.as_str(), ranking))
    }

    /// How many queries have a ranking.
    pub fn len(&self) -> usize {
        self.rankings.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.rankings.is_empty()
    }
}

fn parse(columns: &Columns<'_>) -> Result<f64, (String, &'static str)> {
    if columns.count < 5 {
        let what = format!("has {} columns, expected 6", columns.count);
        return Err((what, "write query-id Q0 passage-id rank score tag"));
    }
    match number(columns.get(4)) {
        Some(score) if !score.is_nan() => Ok(score),
        _ => Err((format!("has {:?} for a score", columns.get(4)), "write a number")),
    }
}

/// A number. What most runs hold, up to 15 digits with a point among them, is read exactly by one division:
/// both the digits and the power of ten are doubles without error.
fn number(text: &str) -> Option<f64> {
    const TENS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (negative, plain) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mut digits, mut count, mut point) = (0u64, 0, None);
    for b in plain.bytes() {
        match b {
            b'0'..=b'9' if count < 15 => {
                digits = 10 * digits + u64::from(b - b'0');
                count += 1;
            }
            b'.' if point.is_none() => point = Some(count),
            _ => return text.parse().ok(),
        }
    }
    if count == 0 {
        return None;
    }
    let value = digits as f64 / TENS[count - point.unwrap_or(count)];
    Some(if negative { -value } else { value })
}

/// Reads a run; any fault is an error. See [`Run::read`].
pub fn read(path: &Path) -> Result<Run> {
    Run::read(path, &ReadOptions::default()).map(|(run, _)| run)
}

/// Writes rankings in the order given. Scores keep enough digits to read back the same.
pub fn write<'a>(
    path: &Path,
    tag: &str,
    rankings: impl Iterator<Item = (&'a str, Vec<(&'a str, f32)>)>,
) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    for (query, ranking) in rankings {
        for (i, (passage, score)) in ranking.into_iter().enumerate() {
            writeln!(file, "{query} Q0 {passage} {} {score} {tag}", i + 1).map_err(|e| Error::io(path, e))?;
        }
    }
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        let rng = polygrade_nn::rng::CounterRng::new(3);
        let texts = (0..20_000u64).map(|i| {
            let value = rng.normal(i) * 10f64.powi((i % 13) as i32 - 4);
            format!("{value:.*}", (i % 17) as usize)
        });
        let odd =
            ["0", "-0", ".5", "5.", "-.5", "+1", "1e5", "inf", "-inf", "999999999999999", "9999999999999999"];
        for text in texts.chain(odd.map(str::to_owned)) {
            assert_eq!(number(&text).map(f64::to_bits), text.parse::<f64>().ok().map(f64::to_bits), "{text}");
        }
        assert!(["", "-", ".", "1.2.3", "--1", "1_0", "x", "1,5"].iter().all(|t| number(t).is_none()));
    }
}
