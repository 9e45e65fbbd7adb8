//! An encoder measured on a collection.

use polygrade_data::{Collection, Graded, Index, Result};
use polygrade_encoder::{TextEncoder, TextKind};
use polygrade_eval::Pool;
use polygrade_index::{Rankings, TieOrder, rank};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::l2_normalize;

/// The texts of a collection as an encoder's tokens, made once for many models with the same tokeniser.
pub struct TokenizedCollection {
    /// The queries' tokens, in the collection's order.
    pub queries: Bags,
    /// The passages' tokens, title first.
    pub passages: Bags,
    /// The order of equal scores.
    pub ties: TieOrder,
}

impl TokenizedCollection {
    /// Tokenises all texts.
    pub fn new(collection: &Collection, encoder: &dyn TextEncoder) -> Result<Self> {
        let queries: Vec<&str> = collection.queries.iter().map(|q| q.text.as_str()).collect();
        let passages: Vec<_> = collection.passages.iter().map(|p| p.full_text()).collect();
        let passages: Vec<&str> = passages.iter().map(AsRef::as_ref).collect();
        let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
        Ok(TokenizedCollection {
            queries: encoder.tokenize(&queries, TextKind::Query)?,
            passages: encoder.tokenize(&passages, TextKind::Passage)?,
            ties: TieOrder::new(&ids),
        })
    }
}

/// The vectors of the texts `which` (ascending) at their places among `bags.len()` rows; the others are zero.
fn encode_some(encoder: &dyn TextEncoder, bags: &Bags, which: &[Index], threads: bool) -> Matrix {
    let unit = |mut vectors: Matrix| {
        // Ranking is by cosine, also with a model that leaves its vectors unscaled.
        if !encoder.normalizes() {
            let cols = vectors.cols;
            vectors.data.chunks_mut(cols).for_each(|row| {
                l2_normalize(row);
            });
        }
        vectors
    };
    if which.len() == bags.len() {
        return unit(encoder.encode_bags(bags, threads));
    }
    let mut some = Bags::new();
    which.iter().for_each(|&i| some.push(bags.get(i as usize)));
    let vectors = unit(encoder.encode_bags(&some, threads));
    let mut out = Matrix::zeros(bags.len(), vectors.cols);
    which.iter().enumerate().for_each(|(row, &i)| out.row_mut(i as usize).copy_from_slice(vectors.row(row)));
    out
}

/// Ranks `queries` (ascending) with `encoder`, each against each of `pools`, `depth` passages deep. Each text
/// is encoded once.
pub fn evaluate(
    encoder: &dyn TextEncoder,
    collection: &Collection,
    tokenized: &TokenizedCollection,
    queries: &[Index],
    pools: &[Pool],
    depth: usize,
    threads: bool,
) -> Vec<Rankings> {
    let mut needed = vec![false; collection.passages.len()];
    let mut langs: Vec<_> = queries.iter().map(|&q| &collection.queries[q as usize].lang).collect();
    langs.sort();
    langs.dedup();
    for (p, needed) in collection.passages.iter().zip(&mut needed) {
        *needed = pools.iter().any(|pool| langs.iter().any(|l| pool.holds(l, &p.lang)));
    }
    let passages: Vec<Index> = (0..needed.len() as Index).filter(|&i| needed[i as usize]).collect();
    let query_vectors = encode_some(encoder, &tokenized.queries, queries, threads);
    let passage_vectors = encode_some(encoder, &tokenized.passages, &passages, threads);
    let vectors = (&query_vectors, &passage_vectors);
    pools
        .iter()
        .map(|pool| rank(collection, queries, pool, vectors, depth, &tokenized.ties, threads))
        .collect()
}

/// The queries of `graded` in the given languages.
pub fn queries_in(collection: &Collection, graded: &Graded, langs: &[polygrade_data::Lang]) -> Vec<Index> {
    let inside = |q: &&Index| langs.contains(&collection.queries[**q as usize].lang);
    graded.queries().iter().filter(inside).copied().collect()
}
