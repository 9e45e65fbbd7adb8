//! The paired randomisation test (Fisher 1935; Smucker, Allan and Carterette 2007).
//!
//! If two systems do not differ, each topic's difference could as well have had the other sign. The test flips
//! signs by chance and counts how often the mean difference becomes at least as large, in either direction, as
//! the one observed: p = (b + 1) / (n + 1) of n random flips, which is never 0 and holds its level at any n
//! (Phipson and Smyth 2010). Where all flips are no more than the permutations asked for, they are all tried,
//! and p is exact.

use super::{all_finite, slack};
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;
use serde::Serialize;

/// Permutations unless told otherwise: the error of p = 0.05 is then 0.0007.
pub const PERMUTATIONS: u64 = 100_000;

/// What the test says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Randomization {
    /// Two-sided p.
    pub p: f64,
    /// Flips that gave a mean difference at least as large as the observed one.
    pub extreme: u64,
    /// Flips tried.
    pub permutations: u64,
    /// Whether these were all there are.
    pub exact: bool,
}

/// Permutations that a thread takes at a time.
const BLOCK: u64 = 1024;

/// The sums of eight differences under all 256 choices of signs. A permutation of n topics is then n / 8 looked
/// up sums, and 64 topics cost one random word.
struct SignedSums(Vec<[f64; 256]>);

impl SignedSums {
    fn new(differences: &[f64]) -> SignedSums {
        let table = |eight: &[f64]| {
            let mut sums = [0.0; 256];
            for (signs, sum) in sums.iter_mut().enumerate() {
                let signed = |(i, d): (usize, &f64)| if (signs >> i) & 1 == 1 { -d } else { *d };
                *sum = eight.iter().enumerate().map(signed).sum();
            }
            sums
        };
        SignedSums(differences.chunks(8).map(table).collect())
    }

    /// The sum under the signs that `word(i)` gives for topics 64 i and on.
    fn sum(&self, word: impl Fn(u64) -> u64) -> f64 {
        let mut sum = 0.0;
        for (i, tables) in self.0.chunks(8).enumerate() {
            let mut signs = word(i as u64);
            for table in tables {
                sum += table[(signs & 255) as usize];
                signs >>= 8;
            }
        }
        sum
    }
}

/// The test of a mean difference of 0. Differences of 0 change nothing and are passed over.
pub fn randomization_test(differences: &[f64], permutations: u64, seed: u64) -> Randomization {
    if !all_finite(differences) {
        return Randomization { p: f64::NAN, extreme: 0, permutations: 0, exact: false };
    }
    let moved: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let all = 1u64.checked_shl(moved.len() as u32).filter(|_| moved.len() < 63);
    let exact = all.filter(|n| *n <= permutations);
    let sums = SignedSums::new(&moved);
    let least = sums.sum(|_| 0).abs() - slack(&moved);
    let rng = CounterRng::new(seed);
    let n = exact.unwrap_or(permutations);
    let extreme = (0..n.div_ceil(BLOCK)).into_par_iter().map(|block| {
        let flips = block * BLOCK..n.min((block + 1) * BLOCK);
        let sum = |r: u64| match exact {
            Some(_) => sums.sum(|_| r),
            None => {
                let signs = rng.fork(r);
                sums.sum(|i| signs.bits(i))
            }
        };
        flips.filter(|r| sum(*r).abs() >= least).count() as u64
    });
    let extreme: u64 = extreme.sum();
    let p = match exact {
        Some(all) => extreme as f64 / all as f64,
        None => (extreme + 1) as f64 / (n + 1) as f64,
    };
    Randomization { p, extreme, permutations: n, exact: exact.is_some() }
}
