//! Rankings of a collection's queries, each against its pool.

use crate::bm25::Bm25;
use crate::exact;
use crate::top::{Hit, TieOrder};
use polygrade_data::{Collection, Graded, Index, Lang};
use polygrade_eval::pool::{Pool, topic};
use polygrade_eval::{Measure, Topic};
use polygrade_nn::Matrix;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The best passages of some queries.
#[derive(Debug, Clone, Default)]
pub struct Rankings {
    /// The queries, ascending.
    pub queries: Vec<Index>,
    /// The hits of each.
    pub hits: Vec<Vec<Hit>>,
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

/// Queries that share a pool, so that it is gathered once.
fn by_pool(collection: &Collection, queries: &[Index], pool: &Pool) -> Vec<(Vec<Index>, Vec<Index>)> {
    let mut groups: BTreeMap<Option<&Lang>, Vec<Index>> = BTreeMap::new();
    for &q in queries {
        let lang = &collection.queries[q as usize].lang;
        groups.entry((*pool == Pool::Same).then_some(lang)).or_default().push(q);
    }
    groups
        .into_values()
        .map(|queries| {
            let lang = &collection.queries[queries[0] as usize].lang;
            let passages = pool.passages(collection, lang);
            (queries, passages)
        })
        .collect()
}

fn ordered(mut pairs: Vec<(Index, Vec<Hit>)>) -> Rankings {
    pairs.sort_by_key(|(q, _)| *q);
    let (queries, hits) = pairs.into_iter().unzip();
    Rankings { queries, hits }
}

/// Ranks `queries` by scalar product; row i of the matrices is the vector of query or passage i.
pub fn rank(
    collection: &Collection,
    queries: &[Index],
    pool: &Pool,
    (query_vectors, passage_vectors): (&Matrix, &Matrix),
    k: usize,
    ties: &TieOrder,
    threads: bool,
) -> Rankings {
    let mut out = Vec::with_capacity(queries.len());
    for (queries, passages) in by_pool(collection, queries, pool) {
        let block = exact::Pool::new(passages, passage_vectors);
        let mut vectors = Matrix::zeros(queries.len(), query_vectors.cols);
        for (i, &q) in queries.iter().enumerate() {
            vectors.row_mut(i).copy_from_slice(query_vectors.row(q as usize));
        }
        let hits = block.search(&vectors, k, ties, threads);
        out.extend(queries.into_iter().zip(hits));
    }
    ordered(out)
}

/// Ranks `queries` by BM25, the lexical baseline.
pub fn rank_bm25(
    collection: &Collection,
    queries: &[Index],
    pool: &Pool,
    k: usize,
    ties: &TieOrder,
) -> Rankings {
    let mut out = Vec::with_capacity(queries.len());
    for (queries, passages) in by_pool(collection, queries, pool) {
        let texts: Vec<_> = passages.iter().map(|&p| collection.passages[p as usize].full_text()).collect();
        let langs = passages.iter().map(|&p| &collection.passages[p as usize].lang);
        let records = passages.iter().zip(&texts).zip(langs).map(|((&p, t), l)| (p, t.as_ref(), l));
        let index = Bm25::new(records);
        out.par_extend(queries.into_par_iter().map(|q| {
            let query = &collection.queries[q as usize];
            (q, index.search(&query.text, &query.lang, k, ties))
        }));
    }
    ordered(out)
}
