//! Runs: the ranked passages of each query, in TREC's format `query-id Q0 passage-id rank score tag`.
//!
//! The order is trec_eval's, whatever the order of the lines and the rank column: score descending, then
//! passage id descending by bytes. Scores may be infinite, never NaN. In memory a run is columns: for each
//! query one text of all ids, their ends, and scores.

use crate::columns::{self, Columns, Ids, Table, Topics};
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

impl Run {
    /// Reads a run, plain, gzip or zstd; `-` is standard input. Columns after the tag are ignored. What was
    /// passed over under [`Faults::Lenient`] comes beside it.
    ///
    /// # Errors
    /// The file cannot be read, or has faults and they are not to be passed over: fewer than 5 columns, a
    /// score that is no number, a passage twice for a query.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<(Run, Problems)> {
        let (mut problems, mut topics, mut tag) =
            (Problems::default(), Topics::<Building>::default(), String::new());
        columns::read(path, &mut problems, |problems, columns| {
            if !options.no_remarks && columns.is_remark() {
                return;
            }
            match parse(&columns) {
                Ok(score) => {
                    let score = if options.single { f64::from(score as f32) } else { score };
                    let building = topics.of(columns.get(0));
                    if building.ranking.push(columns.get(2), score) {
                        building.lines.push(u32::try_from(columns.line).unwrap_or(u32::MAX));
                    } else {
                        let fix = "split the query's list";
                        problems.push(At::line(path, columns.line), "the ids of a query come to 4 GiB", fix);
                    }
                    if columns.count > 5 && columns.get(5) != tag {
                        columns.get(5).clone_into(&mut tag);
                    }
                }
                Err((what, fix)) => problems.push(At::line(path, columns.line), what, fix),
            }
        })?;
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

type Fault = (String, &'static str);

fn parse(columns: &Columns<'_>) -> Result<f64, Fault> {
    if columns.count < 5 {
        let what = format!("has {} columns, expected 6", columns.count);
        return Err((what, "write query-id Q0 passage-id rank score tag"));
    }
    match columns.get(4).parse::<f64>() {
        Ok(score) if !score.is_nan() => Ok(score),
        _ => Err((format!("has {:?} for a score", columns.get(4)), "write a number")),
    }
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
