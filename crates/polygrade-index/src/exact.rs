//! Exact search: every query against every passage of its pool, by scalar product.
//!
//! Scores are computed in tiles, so the table of them stays small; rayon's threads share the queries. A
//! score has the same bits whatever the tiles, the pool and the number of threads.

use crate::top::{Hit, TieOrder, Top};
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
        Pool { tiles: numbers.chunks(PASSAGES).map(tile).collect() }
    }

    /// The best `k` passages for each row of `queries`.
    pub fn search(&self, queries: &Matrix, k: usize, ties: &TieOrder, threads: bool) -> Vec<Vec<Hit>> {
        let block = |from: usize| {
            let to = (from + QUERIES).min(queries.rows());
            let part =
                Matrix::new(queries.cols, queries.data[from * queries.cols..to * queries.cols].to_vec());
            let mut tops: Vec<Top> = (from..to).map(|_| Top::new(k, ties)).collect();
            let mut scores = Matrix::default();
            for (numbers, tile) in &self.tiles {
                matmul(&part, tile, Transpose::Right, false, &mut scores);
                for (i, top) in tops.iter_mut().enumerate() {
                    numbers
                        .iter()
                        .zip(scores.row(i))
                        .for_each(|(&passage, &score)| top.push(Hit { passage, score }));
                }
            }
            tops.into_iter().map(Top::into_sorted).collect::<Vec<_>>()
        };
        let blocks: Vec<usize> = (0..queries.rows()).step_by(QUERIES).collect();
        if threads {
            blocks.into_par_iter().map(block).collect::<Vec<_>>().into_iter().flatten().collect()
        } else {
            blocks.into_iter().flat_map(block).collect()
        }
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
