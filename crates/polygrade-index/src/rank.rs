//! Rankings of a collection's queries, each against its pool.

use crate::bm25::Bm25;
use crate::exact;
use crate::top::TieOrder;
use polygrade_data::{Collection, Graded, Index, Lang};
use polygrade_eval::rankings::Placed;
use polygrade_eval::{Hit, Pool, Rankings};
use polygrade_nn::Matrix;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What is ranked, and how deep.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The pool.
    pub pool: &'a Pool,
    /// Passages in each ranking.
    pub depth: usize,
    /// The order of equal scores.
    pub ties: &'a TieOrder,
    /// Added to the scalar product where query and passage are in one language, in pools that mix languages; in others it
    /// would cost digits and change nothing. BM25 does not add it.
    pub own_language_bonus: f32,
    /// Where given, the ranks of all passages with a grade above 0 are found too, however deep they are.
    pub placed: Option<&'a Graded>,
}

impl<'a> Order<'a> {
    /// Without a bonus, and without ranks beyond `depth`.
    pub fn new(pool: &'a Pool, depth: usize, ties: &'a TieOrder) -> Self {
        Order { pool, depth, ties, own_language_bonus: 0.0, placed: None }
    }

    fn raises(&self) -> bool {
        self.own_language_bonus != 0.0 && self.pool.mixes()
    }

    /// The passages of a query whose ranks are wanted.
    fn wanted(&self, collection: &Collection, query: Index) -> Vec<Index> {
        let lang = &collection.queries[query as usize].lang;
        let inside = |p: Index| self.pool.holds(lang, &collection.passages[p as usize].lang);
        let Some(graded) = self.placed else { return Vec::new() };
        graded.judged(query).filter(|(p, g)| *g > 0.0 && inside(*p)).map(|(p, _)| p).collect()
    }
}

/// Queries that share a pool and the scores' bonus, so that it is gathered once; those without a place in it are left out.
fn by_pool(
    collection: &Collection,
    queries: &[Index],
    pool: &Pool,
    raised: bool,
) -> Vec<(Vec<Index>, Vec<Index>)> {
    let by_lang = pool.depends_on_query() || raised;
    let mut groups: BTreeMap<Option<&Lang>, Vec<Index>> = BTreeMap::new();
    for &q in queries {
        let lang = &collection.queries[q as usize].lang;
        if pool.serves(lang) {
            groups.entry(by_lang.then_some(lang)).or_default().push(q);
        }
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

/// `bonus` at the number of each passage in `lang`, 0 at the others: for [`exact::Pool::set_bonus`].
pub fn own_language(collection: &Collection, lang: &Lang, bonus: f32) -> Vec<f32> {
    collection.passages.iter().map(|p| if p.lang == *lang { bonus } else { 0.0 }).collect()
}

/// A query with its hits and the ranks that were wanted.
type Ranked = (Index, (Vec<Hit>, Vec<Placed>));

fn ordered(mut found: Vec<Ranked>) -> Rankings {
    found.sort_by_key(|(q, _)| *q);
    let (queries, both): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let (hits, placed) = both.into_iter().unzip();
    Rankings { queries, hits, placed }
}

/// Ranks `queries` by scalar product; row i of the matrices is the vector of query or passage i.
pub fn rank(
    collection: &Collection,
    queries: &[Index],
    (query_vectors, passage_vectors): (&Matrix, &Matrix),
    order: &Order,
    threads: bool,
) -> Rankings {
    let mut out = Vec::with_capacity(queries.len());
    for (queries, passages) in by_pool(collection, queries, order.pool, order.raises()) {
        let mut block = exact::Pool::new(passages, passage_vectors);
        if order.raises() {
            let lang = &collection.queries[queries[0] as usize].lang;
            block.set_bonus(own_language(collection, lang, order.own_language_bonus));
        }
        let mut vectors = Matrix::zeros(queries.len(), query_vectors.cols);
        for (i, &q) in queries.iter().enumerate() {
            vectors.row_mut(i).copy_from_slice(query_vectors.row(q as usize));
        }
        let wanted: Vec<Vec<Index>> = queries.iter().map(|q| order.wanted(collection, *q)).collect();
        let found = block.search_placed(&vectors, order.depth, order.ties, &wanted, passage_vectors, threads);
        out.extend(queries.into_iter().zip(found));
    }
    ordered(out)
}

/// Ranks `queries` by BM25, the lexical baseline. Passages that share no term with the query are not ranked.
pub fn rank_bm25(collection: &Collection, queries: &[Index], order: &Order) -> Rankings {
    let mut out = Vec::with_capacity(queries.len());
    for (queries, passages) in by_pool(collection, queries, order.pool, false) {
        let texts: Vec<_> = passages.iter().map(|&p| collection.passages[p as usize].full_text()).collect();
        let langs = passages.iter().map(|&p| &collection.passages[p as usize].lang);
        let records = passages.iter().zip(&texts).zip(langs).map(|((&p, t), l)| (p, t.as_ref(), l));
        let index = Bm25::new(records);
        out.par_extend(queries.into_par_iter().map(|q| {
            let query = &collection.queries[q as usize];
            let wanted = order.wanted(collection, q);
            (q, index.search_placed(&query.text, &query.lang, order.depth, order.ties, &wanted))
        }));
    }
    ordered(out)
}
