//! Rankings of a collection's queries in a pool: what metrics and language-bias measures are computed from.

use crate::measure::{Measure, Topic};
use crate::pool::{Pool, topic};
use polygrade_data::{Collection, Graded, Index};

/// A passage found, by its number, with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The passage's number.
    pub passage: u32,
    /// Its score.
    pub score: f32,
}

/// Where a passage stands in the whole ranking of its pool, however deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The passage's number.
    pub passage: Index,
    /// Its rank, from 1. A passage that the system does not rank at all has the last rank, the pool's size.
    pub rank: usize,
    /// Whether the system ranks it; BM25 does not where query and passage share no term.
    pub ranked: bool,
}

/// The best passages of some queries.
#[derive(Debug, Clone, Default)]
pub struct Rankings {
    /// The queries, ascending.
    pub queries: Vec<Index>,
    /// The hits of each.
    pub hits: Vec<Vec<Hit>>,
    /// For each query the ranks of its passages with a grade above 0; empty lists where they were not asked for.
    pub placed: Vec<Vec<Placed>>,
}

impl Rankings {
    /// The topics to compute metrics from.
    pub fn topics(&self, collection: &Collection, graded: &Graded, pool: &Pool) -> Vec<Topic> {
        let pairs = self.queries.iter().zip(&self.hits);
        pairs.map(|(&q, hits)| topic(collection, graded, pool, q, hits.iter().map(|h| h.passage))).collect()
    }

    /// A metric's value for each query.
    pub fn values(
        &self,
        measure: &Measure,
        collection: &Collection,
        graded: &Graded,
        pool: &Pool,
    ) -> Vec<f64> {
        self.topics(collection, graded, pool).iter().map(|t| measure.of(t)).collect()
    }
}
