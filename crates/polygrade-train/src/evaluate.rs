//! An encoder measured on a collection.

use polygrade_data::{Collection, Graded, Index, Result};
use polygrade_encoder::{Encoder, FrozenEncoder, HeadSettings, TextEncoder, TextKind};
use polygrade_eval::Pool;
use polygrade_index::{Order, Rankings, TieOrder, rank};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::{dot, l2_normalize};

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

impl TokenizedCollection {
    /// The texts that `query` and `passage` want, at their places; the others have no tokens.
    #[must_use]
    pub fn select(&self, query: impl Fn(Index) -> bool, passage: impl Fn(Index) -> bool) -> Self {
        let some = |bags: &Bags, wanted: &dyn Fn(Index) -> bool| {
            let mut out = Bags::new();
            (0..bags.len()).for_each(|i| out.push(if wanted(i as Index) { bags.get(i) } else { &[] }));
            out
        };
        TokenizedCollection {
            queries: some(&self.queries, &query),
            passages: some(&self.passages, &passage),
            ties: self.ties.clone(),
        }
    }

    /// Renumbers the tokens of all texts, in their order, so that none is left out: the tokens that there were. For
    /// [`StaticEncoder::with_tokens`](polygrade_encoder::StaticEncoder::with_tokens).
    pub fn renumber(&mut self) -> Vec<u32> {
        let highest = [&self.queries, &self.passages].into_iter().flat_map(|b| &b.tokens).max();
        let mut new = vec![u32::MAX; highest.map_or(0, |t| *t as usize + 1)];
        [&self.queries, &self.passages]
            .into_iter()
            .flat_map(|b| &b.tokens)
            .for_each(|t| new[*t as usize] = 0);
        let mut there = Vec::new();
        for (token, number) in new.iter_mut().enumerate().filter(|(_, n)| **n == 0) {
            *number = there.len() as u32;
            there.push(token as u32);
        }
        let renumber = |bags: &mut Bags| bags.tokens.iter_mut().for_each(|t| *t = new[*t as usize]);
        renumber(&mut self.queries);
        renumber(&mut self.passages);
        there
    }

    /// These texts for the training of a head: `encoder` as a [`FrozenEncoder`], which keeps the vectors of the texts
    /// that `query` and `passage` want, and the texts as it knows them. Other texts get vectors of zeros.
    pub fn frozen(
        &self,
        encoder: Encoder,
        settings: HeadSettings,
        query: impl Fn(Index) -> bool,
        passage: impl Fn(Index) -> bool,
        threads: bool,
    ) -> Result<(FrozenEncoder, TokenizedCollection)> {
        let TokenizedCollection { queries, passages, ties } = self.select(query, passage);
        let (frozen, mut named) = FrozenEncoder::new(encoder, &[&queries, &passages], settings, threads)?;
        let mut take = || named.pop().unwrap_or_default();
        let (passages, queries) = (take(), take());
        Ok((frozen, TokenizedCollection { queries, passages, ties }))
    }
}

/// Vectors as ranking by cosine wants them, also of a model that leaves its vectors unscaled.
pub(crate) fn unit(encoder: &dyn TextEncoder, mut vectors: Matrix) -> Matrix {
    if !encoder.normalizes() {
        let cols = vectors.cols;
        vectors.data.chunks_mut(cols.max(1)).for_each(|row| {
            l2_normalize(row);
        });
    }
    vectors
}

/// Lengths this close to 1 are those of vectors that were scaled to it, and rounded.
const ROUNDING: f32 = 1e-5;

/// Scales rows to length 1. Those that were scaled before keep their bits: scaling them again would round them again.
pub(crate) fn unit_rows(vectors: &mut Matrix) {
    for row in vectors.data.chunks_mut(vectors.cols.max(1)) {
        if (dot(row, row).sqrt() - 1.0).abs() > ROUNDING {
            l2_normalize(row);
        }
    }
}

/// The vectors of the texts `which` (ascending) at their places among `bags.len()` rows; the others are zero.
fn encode_some(encoder: &dyn TextEncoder, bags: &Bags, which: &[Index], threads: bool) -> Matrix {
    if which.len() == bags.len() {
        return unit(encoder, encoder.encode_bags(bags, threads));
    }
    let mut some = Bags::new();
    which.iter().for_each(|&i| some.push(bags.get(i as usize)));
    let vectors = unit(encoder, encoder.encode_bags(&some, threads));
    let mut out = Matrix::zeros(bags.len(), vectors.cols);
    which.iter().enumerate().for_each(|(row, &i)| out.row_mut(i as usize).copy_from_slice(vectors.row(row)));
    out
}

/// The vectors of queries and passages, at their places among all texts of a collection; those of texts that no pool
/// needs are zero.
pub struct Encoded<'a> {
    collection: &'a Collection,
    queries: Matrix,
    passages: Matrix,
    threads: bool,
}

impl<'a> Encoded<'a> {
    /// Encodes `queries` (ascending) and the passages that any of `pools` holds for them, each text once.
    pub fn new(
        encoder: &dyn TextEncoder,
        collection: &'a Collection,
        tokenized: &TokenizedCollection,
        queries: &[Index],
        pools: &[Pool],
        threads: bool,
    ) -> Encoded<'a> {
        let mut langs: Vec<_> = queries.iter().map(|&q| &collection.queries[q as usize].lang).collect();
        langs.sort();
        langs.dedup();
        let needed = |p: &&(usize, &polygrade_data::Passage)| {
            pools.iter().any(|pool| langs.iter().any(|l| pool.holds(l, &p.1.lang)))
        };
        let passages: Vec<(usize, &polygrade_data::Passage)> =
            collection.passages.iter().enumerate().collect();
        let passages: Vec<Index> = passages.iter().filter(needed).map(|(i, _)| *i as Index).collect();
        Encoded {
            collection,
            queries: encode_some(encoder, &tokenized.queries, queries, threads),
            passages: encode_some(encoder, &tokenized.passages, &passages, threads),
            threads,
        }
    }

    /// Ranks `queries`, which must have been encoded, as `order` says.
    pub fn rank(&self, queries: &[Index], order: &Order) -> Rankings {
        rank(self.collection, queries, (&self.queries, &self.passages), order, self.threads)
    }
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
    let encoded = Encoded::new(encoder, collection, tokenized, queries, pools, threads);
    let order = |pool| Order::new(pool, depth, &tokenized.ties);
    pools.iter().map(|pool| encoded.rank(queries, &order(pool))).collect()
}

/// The queries of `graded` in the given languages.
pub fn queries_in(collection: &Collection, graded: &Graded, langs: &[polygrade_data::Lang]) -> Vec<Index> {
    let inside = |q: &&Index| langs.contains(&collection.queries[**q as usize].lang);
    graded.queries().iter().filter(inside).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_nn::rng::CounterRng;

    #[test]
    fn rows_of_length_1_keep_their_bits_and_others_are_scaled() {
        for dim in [1, 2, 7, 64, 384, 1024, 4096] {
            let value = |i: usize| CounterRng::new(dim as u64).normal(i as u64) as f32;
            let raw = Matrix::new(dim, (0..dim * 50).map(value).collect());
            let mut once = raw.clone();
            once.data.chunks_mut(dim).for_each(|row| {
                l2_normalize(row);
            });
            for (i, before) in [raw, once.clone()].into_iter().enumerate() {
                let mut after = before.clone();
                unit_rows(&mut after);
                assert_eq!(after, once, "width {dim}, {i}");
            }
        }
        let mut zero = Matrix::zeros(2, 3);
        unit_rows(&mut zero);
        assert_eq!(zero, Matrix::zeros(2, 3), "a text without tokens");
    }
}
