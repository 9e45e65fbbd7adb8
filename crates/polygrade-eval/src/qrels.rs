//! Qrels: the judged passages of each query with their grades.
//!
//! TREC's four columns `query-id iteration passage-id grade` or BEIR's three `query-id passage-id grade` with
//! or without their header. Grades may be fractional and negative; trec_eval calls a negative one "in the
//! pool, but unjudged".

use crate::columns::{self, Columns, Faults, Ids, Table, Topics};
use polygrade_data::{At, Error, Problems, Result};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::path::Path;

/// The judged passages of one query.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    ids: Ids,
    grades: Vec<f32>,
    table: Table,
}

impl Judged {
    /// How many passages are judged.
    pub fn len(&self) -> usize {
        self.grades.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.grades.is_empty()
    }

    /// The grade of a passage.
    pub fn grade(&self, passage: &str) -> Option<f32> {
        self.table.get(&self.ids, passage).map(|i| self.grades[i])
    }

    /// All grades, in the order of the file.
    pub fn grades(&self) -> &[f32] {
        &self.grades
    }

    /// Passages and grades, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f32)> {
        self.ids.iter().zip(self.grades.iter().copied())
    }

    fn push(&mut self, passage: &str, grade: f32) {
        if self.ids.push(passage) {
            self.grades.push(grade);
        }
    }

    /// Makes passages findable and takes out all but the first line of each; the places of those taken out.
    fn finish(&mut self) -> Vec<usize> {
        self.table.reset(self.len());
        let twice: Vec<usize> =
            (0..self.len()).filter(|i| self.table.insert(&self.ids, *i).is_some()).collect();
        if !twice.is_empty() {
            let all = std::mem::take(self);
            let mut drop = twice.iter().copied().peekable();
            for (i, (id, grade)) in all.iter().enumerate() {
                if drop.next_if_eq(&i).is_none() {
                    self.push(id, grade);
                }
            }
            self.finish();
        }
        twice
    }
}

/// The judgments of a file, by query id in the order of bytes, as trec_eval takes them.
#[derive(Debug, Clone, Default)]
pub struct Qrels {
    topics: Vec<(String, Judged)>,
    places: FxHashMap<String, usize>,
}

#[derive(Default)]
struct Building {
    judged: Judged,
    lines: Vec<u32>,
}

/// How judgments are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// What becomes of bad lines and of passages that come twice for a query.
    pub faults: Faults,
    /// Lines that begin with `#` are lines like others (trec_eval 9) and not remarks (10).
    pub no_remarks: bool,
}

impl Qrels {
    /// Reads judgments, plain, gzip or zstd. What was passed over under [`Faults::Lenient`] comes beside them.
    ///
    /// # Errors
    /// The file cannot be read, or has faults and they are not to be passed over: not 3 or 4 columns, a grade
    /// that is no finite number, a passage twice for a query.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<(Qrels, Problems)> {
        let (groups, warnings) = read_grouped(path, options, false)?;
        let topics = groups.into_iter().map(|((topic, _), judged)| (topic, judged)).collect();
        Ok((Qrels::from_topics(topics), warnings))
    }

    /// Judgments of lists of passage ids and grades.
    ///
    /// # Errors
    /// A grade is not finite, a passage comes twice for a query, or a query twice.
    pub fn new<'a, L>(lists: impl IntoIterator<Item = (&'a str, L)>) -> Result<Qrels>
    where
        L: IntoIterator<Item = (&'a str, f32)>,
    {
        let mut topics = Vec::new();
        for (query, list) in lists {
            let mut judged = Judged::default();
            for (passage, grade) in list {
                if !grade.is_finite() {
                    let what = format!("query {query:?}: the grade of passage {passage:?} is {grade}");
                    return Err(Error::Usage(what));
                }
                judged.push(passage, grade);
            }
            if !judged.finish().is_empty() {
                return Err(Error::Usage(format!("query {query:?} has a passage judged twice")));
            }
            topics.push((query.to_owned(), judged));
        }
        let n = topics.len();
        let qrels = Qrels::from_topics(topics);
        if qrels.places.len() < n {
            return Err(Error::Usage("a query has two lists".into()));
        }
        Ok(qrels)
    }

    fn from_topics(mut topics: Vec<(String, Judged)>) -> Qrels {
        topics.sort_by(|a, b| a.0.cmp(&b.0));
        let places = topics.iter().enumerate().map(|(i, (id, _))| (id.clone(), i)).collect();
        Qrels { topics, places }
    }

    /// The judged passages of a query.
    pub fn get(&self, query: &str) -> Option<&Judged> {
        self.places.get(query).map(|i| &self.topics[*i].1)
    }

    /// The queries and their judged passages, by query id in the order of bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Judged)> {
        self.topics.iter().map(|(id, judged)| (id.as_str(), judged))
    }

    /// How many queries are judged.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

/// Topic and group with what is judged in them.
pub(crate) type Grouped = Vec<((String, String), Judged)>;

/// Judgments by topic and, where `grouped`, by the iteration column (judgment group), sorted by both.
pub(crate) fn read_grouped(path: &Path, options: &ReadOptions, grouped: bool) -> Result<(Grouped, Problems)> {
    let mut problems = Problems::default();
    let mut topics = Topics::<Topics<Building>>::default();
    let mut first = true;
    columns::read(path, &mut problems, |problems, columns| {
        let first = std::mem::take(&mut first);
        if (!options.no_remarks && columns.is_remark()) || (first && is_header(&columns)) {
            return;
        }
        match parse(&columns) {
            Ok((passage, grade)) => {
                let group = if grouped && columns.count == 4 { columns.get(1) } else { "" };
                let building = topics.of(columns.get(0)).of(group);
                building.judged.push(passage, grade);
                building.lines.push(u32::try_from(columns.line).unwrap_or(u32::MAX));
            }
            Err(what) => problems.push(
                At::line(path, columns.line),
                what,
                "write query-id 0 passage-id grade (TREC) or query-id<TAB>passage-id<TAB>grade (BEIR)",
            ),
        }
    })?;
    let mut all: Vec<((String, String), Building)> = topics
        .all
        .into_iter()
        .flat_map(|(topic, groups)| groups.all.into_iter().map(move |(g, b)| ((topic.clone(), g), b)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let done: Vec<_> = all
        .into_par_iter()
        .map(|(key, Building { mut judged, lines })| {
            judged.ids.shrink();
            judged.grades.shrink_to_fit();
            let twice: Vec<u32> = judged.finish().into_iter().map(|i| lines[i]).collect();
            (key, judged, twice)
        })
        .collect();
    let mut out = Vec::with_capacity(done.len());
    for (key, judged, twice) in done {
        for line in twice {
            let what = format!("judges a passage of query {:?} that an earlier line judges", key.0);
            problems.push(At::line(path, u64::from(line)), what, "keep one line for each query and passage");
        }
        out.push((key, judged));
    }
    let warnings = options.faults.settle(problems)?;
    Ok((out, warnings))
}

fn is_header(columns: &Columns<'_>) -> bool {
    matches!(columns.get(0), "query-id" | "query_id" | "qid")
        || columns.count == 3 && matches!(columns.get(2), "score" | "grade" | "relevance" | "label")
}

fn parse<'a>(columns: &Columns<'a>) -> std::result::Result<(&'a str, f32), String> {
    let (passage, grade) = match columns.count {
        3 => (columns.get(1), columns.get(2)),
        4 => (columns.get(2), columns.get(3)),
        n => return Err(format!("has {n} columns, expected 3 or 4")),
    };
    match grade.parse::<f32>() {
        Ok(g) if g.is_finite() => Ok((passage, g)),
        _ => Err(format!("has {grade:?} for a grade, expected a number")),
    }
}

/// Reads judgments; any fault is an error. See [`Qrels::read`].
pub fn read(path: &Path) -> Result<Qrels> {
    Qrels::read(path, &ReadOptions::default()).map(|(qrels, _)| qrels)
}
