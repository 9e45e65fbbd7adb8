//! Several judgments of one pair: who gave each, and where it comes from.
//!
//! Judgments that say so (columns `annotator` and `source`) are kept as they are beside the one judgment of each pair
//! that everything else sees: the mean of its grades.

use crate::check::Index;
use crate::collection::Judgment;
use crate::record::Origin;
use rustc_hash::FxHashMap;

/// Stands for no name.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Row {
    judgment: Judgment,
    annotator: u32,
    source: u32,
}

/// The judgments of a split with their origins.
#[derive(Debug, Clone, Default)]
pub struct Votes {
    names: Vec<String>,
    numbers: FxHashMap<String, u32>,
    /// In file order.
    rows: Vec<Row>,
    /// Numbers of rows by pair, each pair's in file order; made by [`Votes::merge`].
    order: Vec<u32>,
}

impl Votes {
    /// Adds a judgment.
    pub fn push(&mut self, judgment: Judgment, origin: Origin) {
        let row =
            Row { judgment, annotator: self.number(origin.annotator), source: self.number(origin.source) };
        self.rows.push(row);
    }

    fn number(&mut self, name: Option<&str>) -> u32 {
        let Some(name) = name else { return NONE };
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn origin(&self, row: &Row) -> Origin<'_> {
        let name = |number: u32| self.names.get(number as usize).map(String::as_str);
        Origin { annotator: name(row.annotator), source: name(row.source) }
    }

    /// All judgments with their origins, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (Judgment, Origin<'_>)> {
        self.rows.iter().map(|row| (row.judgment, self.origin(row)))
    }

    /// The grades of a pair with their origins, in file order.
    pub fn of(&self, query: Index, passage: Index) -> impl Iterator<Item = (f32, Origin<'_>)> {
        let pair = |i: &u32| pair(&self.rows[*i as usize]);
        let from = self.order.partition_point(|i| pair(i) < (query, passage));
        let same = self.order[from..].iter().take_while(move |i| pair(i) == (query, passage));
        same.map(|i| &self.rows[*i as usize]).map(|row| (row.judgment.grade, self.origin(row)))
    }

    /// One judgment a pair, in the order of the first, with the mean of the grades.
    pub(crate) fn merge(&mut self) -> Vec<Judgment> {
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        order.sort_by_key(|i| pair(&self.rows[*i as usize]));
        let mut merged: Vec<(u32, Judgment)> = order
            .chunk_by(|a, b| pair(&self.rows[*a as usize]) == pair(&self.rows[*b as usize]))
            .map(|same| {
                let grade = mean(same.iter().map(|i| self.rows[*i as usize].judgment.grade));
                (same[0], Judgment { grade, ..self.rows[same[0] as usize].judgment })
            })
            .collect();
        merged.sort_unstable_by_key(|(first, _)| *first);
        self.order = order;
        merged.into_iter().map(|(_, judgment)| judgment).collect()
    }
}

fn pair(row: &Row) -> (Index, Index) {
    (row.judgment.query, row.judgment.passage)
}

/// The grade of a pair that several judged.
pub fn mean(grades: impl Iterator<Item = f32>) -> f32 {
    let (sum, n) = grades.fold((0.0, 0u32), |(sum, n), g| (sum + f64::from(g), n + 1));
    (sum / f64::from(n)) as f32
}
