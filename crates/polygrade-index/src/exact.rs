//! Exact search: every query against every passage of its pool, by scalar product.
//!
//! Scores are computed in tiles, so the table of them stays small; rayon's threads share the queries. A
//! score has the same bits whatever the tiles, the pool and the number of threads.

use crate::top::{TieOrder, Top};
use polygrade_eval::Hit;
use polygrade_eval::rankings::Placed;
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};
use rayon::prelude::*;

/// Queries in one tile.
const QUERIES: usize = 64;
/// Passages in one tile.
const PASSAGES: usize = 4096;

/// Passages to search, gathered into tiles.
pub struct Pool {
    tiles: Vec<(Vec<u32>, Matrix)>,
    bonus: Option<Vec<f32>>,
}

impl Pool {
    /// The passages `numbers` of a matrix of all vectors.
    pub fn new(numbers: Vec<u32>, all: &Matrix) -> Self {
        let tile = |numbers: &[u32]| {
            let mut vectors = Matrix::zeros(numbers.len(), all.cols);
            for (i, &p) in numbers.iter().enumerate() {
                vectors.row_mut(i).copy_from_slice(all.row(p as usize));
            }
            (numbers.to_vec(), vectors)
        };
        Pool { tiles: numbers.chunks(PASSAGES).map(tile).collect(), bonus: None }
    }

    /// Adds to the score of each passage what `bonus` has at its number, in searches from now on.
    pub fn set_bonus(&mut self, bonus: Vec<f32>) {
        self.bonus = Some(bonus);
    }

    fn score(&self, passage: u32, product: f32) -> f32 {
        self.bonus.as_ref().map_or(product, |b| product + b[passage as usize])
    }

    /// The best `k` passages for each row of `queries`.
    pub fn search(&self, queries: &Matrix, k: usize, ties: &TieOrder, threads: bool) -> Vec<Vec<Hit>> {
        let block = |from| self.block(queries, from, k, ties, None);
        blocks(queries.rows(), threads, &block).into_iter().map(|(hits, _)| hits).collect()
    }

    /// As [`Pool::search`]; and for each query, the ranks in the whole pool of some of its passages, in the order of
    /// their ranks. `all` has the vectors of all passages by number.
    pub fn search_placed(
        &self,
        queries: &Matrix,
        k: usize,
        ties: &TieOrder,
        wanted: &[Vec<u32>],
        all: &Matrix,
        threads: bool,
    ) -> Vec<(Vec<Hit>, Vec<Placed>)> {
        let block = |from| self.block(queries, from, k, ties, Some((wanted, all)));
        blocks(queries.rows(), threads, &block)
    }

    /// The queries of one tile, from row `from`.
    fn block(
        &self,
        queries: &Matrix,
        from: usize,
        k: usize,
        ties: &TieOrder,
        wanted: Option<(&[Vec<u32>], &Matrix)>,
    ) -> Vec<(Vec<Hit>, Vec<Placed>)> {
        let to = (from + QUERIES).min(queries.rows());
        let part = Matrix::new(queries.cols, queries.data[from * queries.cols..to * queries.cols].to_vec());
        let mut tops: Vec<Top> = (from..to).map(|_| Top::new(k, ties)).collect();
        let mut marks: Vec<Marks> = match wanted {
            Some((wanted, all)) => self.marks(&part, &wanted[from..to], all, ties),
            None => (from..to).map(|_| Marks::default()).collect(),
        };
        let mut scores = Matrix::default();
        for (numbers, tile) in &self.tiles {
            matmul(&part, tile, Transpose::Right, false, &mut scores);
            for (i, (top, marks)) in tops.iter_mut().zip(&mut marks).enumerate() {
                for (&passage, &product) in numbers.iter().zip(scores.row(i)) {
                    let hit = Hit { passage, score: self.score(passage, product) };
                    top.push(hit);
                    marks.count(&hit, ties);
                }
            }
        }
        tops.into_iter().zip(marks).map(|(top, marks)| (top.into_sorted(), marks.ranks())).collect()
    }

    /// The marks of each query of `part`, scored as the pool's tiles are: a score's bits do not depend on the tile.
    fn marks(&self, part: &Matrix, wanted: &[Vec<u32>], all: &Matrix, ties: &TieOrder) -> Vec<Marks> {
        let mut numbers: Vec<u32> = wanted.iter().flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut vectors = Matrix::zeros(numbers.len(), all.cols);
        for (i, &p) in numbers.iter().enumerate() {
            vectors.row_mut(i).copy_from_slice(all.row(p as usize));
        }
        let mut scores = Matrix::default();
        matmul(part, &vectors, Transpose::Right, false, &mut scores);
        let marks = wanted.iter().enumerate().map(|(i, wanted)| {
            let product = |p: &u32| numbers.binary_search(p).map_or(f32::NAN, |at| scores.row(i)[at]);
            let score = |p: &u32| self.score(*p, product(p));
            Marks::new(wanted.iter().map(|p| Hit { passage: *p, score: score(p) }).collect(), ties)
        });
        marks.collect()
    }
}

type Found = (Vec<Hit>, Vec<Placed>);

/// All blocks of queries, in order.
fn blocks(queries: usize, threads: bool, block: &(impl Fn(usize) -> Vec<Found> + Sync)) -> Vec<Found> {
    let starts: Vec<usize> = (0..queries).step_by(QUERIES).collect();
    if threads {
        starts.into_par_iter().map(block).collect::<Vec<_>>().into_iter().flatten().collect()
    } else {
        starts.into_iter().flat_map(block).collect()
    }
}

/// Passages of one query whose ranks are wanted, best first, and how many of those seen come before each: so a rank
/// is known without sorting the pool.
#[derive(Default)]
pub(crate) struct Marks {
    hits: Vec<Hit>,
    counts: Vec<usize>,
}

impl Marks {
    /// Marks these hits.
    pub(crate) fn new(mut hits: Vec<Hit>, ties: &TieOrder) -> Marks {
        hits.sort_by(|a, b| ties.compare(a, b));
        Marks { counts: vec![0; hits.len()], hits }
    }

    /// Counts a hit of the pool; every one, the marked ones too, is to be counted once.
    pub(crate) fn count(&mut self, hit: &Hit, ties: &TieOrder) {
        let before = self.hits.partition_point(|mark| ties.compare(mark, hit).is_lt());
        if let Some(count) = self.counts.get_mut(before) {
            *count += 1;
        }
    }

    /// Each mark counts itself, so ranks begin with 1.
    pub(crate) fn ranks(self) -> Vec<Placed> {
        let mut rank = 0;
        let placed = self.hits.iter().zip(self.counts).map(|(hit, count)| {
            rank += count;
            Placed { passage: hit.passage, rank, ranked: true }
        });
        placed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_nn::kernels::dot;
    use polygrade_nn::rng::CounterRng;

    #[test]
    fn the_best_come_first_and_ties_by_id_descending() {
        let rng = CounterRng::new(1);
        let n = 9000;
        let mut all = Matrix::new(16, (0..n * 16).map(|i| rng.normal(i as u64) as f32).collect());
        for copy in [5, 17, 8999] {
            let row = all.row(3).to_vec();
            all.row_mut(copy).copy_from_slice(&row);
        }
        let ids: Vec<String> = (0..n).map(|i| format!("d{i}")).collect();
        let ties = TieOrder::new(&ids);
        let pool = Pool::new((0..n as u32).collect(), &all);
        let queries = Matrix::new(16, [all.row(3), all.row(100), all.row(200)].concat());
        let found = pool.search(&queries, 50, &ties, true);
        assert_eq!(found, pool.search(&queries, 50, &ties, false));
        // Ranks by counting are the places in the whole ranking, ties included.
        let whole = pool.search(&queries, n, &ties, true);
        let wanted: Vec<Vec<u32>> = (0..3u32).map(|i| vec![8999, 5, 3, 17, 4000 + i, 0]).collect();
        let placed = pool.search_placed(&queries, 7, &ties, &wanted, &all, true);
        for ((hits, placed), whole) in placed.iter().zip(&whole) {
            assert_eq!(hits[..], whole[..7]);
            assert_eq!(placed.len(), 6);
            for p in placed {
                assert_eq!(whole[p.rank - 1].passage, p.passage);
            }
        }
        let copies: Vec<u32> = found[0].iter().take(4).map(|h| h.passage).collect();
        // By bytes: d8999 > d5 > d3 > d17.
        assert_eq!(copies, [8999, 5, 3, 17]);
        for (i, hits) in found.iter().enumerate() {
            let mut want: Vec<Hit> = (0..n as u32)
                .map(|p| Hit { passage: p, score: dot(queries.row(i), all.row(p as usize)) })
                .collect();
            want.sort_by(|a, b| ties.compare(a, b));
            let worst = hits.last().unwrap().score;
            assert!(hits.windows(2).all(|w| ties.compare(&w[0], &w[1]).is_lt()));
            assert!((worst - want[49].score).abs() < 1e-4);
        }
    }
}
