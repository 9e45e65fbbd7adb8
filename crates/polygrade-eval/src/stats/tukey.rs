//! Randomised Tukey HSD: which of many systems differ (Carterette 2012; Sakai 2018).
//!
//! If no system differs from another, the values of a topic could stand in any order. Each permutation shuffles
//! every topic's values over the systems and notes the largest difference between two means. A pair's p is the
//! share of permutations whose largest difference reaches the pair's own: (b + 1) / (n + 1). Because it is the
//! largest, the chance of any false alarm over all pairs is held, and no further correction is needed.

use super::all_finite;
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;
use serde::Serialize;

/// Two of the systems.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pair {
    /// Number of one system.
    pub a: usize,
    /// Number of the other.
    pub b: usize,
    /// Mean of b − mean of a.
    pub difference: f64,
    /// The difference over the square root of the residual variance of a two-way analysis of variance, systems ×
    /// topics (Sakai's ES_HSD); `None` where that is 0.
    pub effect: Option<f64>,
    /// p over all pairs at once.
    pub p: f64,
}

/// Permutations that a thread takes at a time.
const BLOCK: u64 = 256;
/// Draws that one random word is good for: 12! is a 2⁻³⁵th of it.
const DRAWS: usize = 12;

/// All pairs of systems, in order. `systems[system][topic]`.
///
/// # Panics
/// When the systems have different numbers of topics.
pub fn tukey_hsd(systems: &[&[f64]], permutations: u64, seed: u64) -> Vec<Pair> {
    let m = systems.len();
    let n = systems.first().map_or(0, |s| s.len());
    assert!(systems.iter().all(|s| s.len() == n), "values are not paired");
    let means: Vec<f64> = systems.iter().map(|s| super::mean(s)).collect();
    let mut pairs: Vec<Pair> = (0..m)
        .flat_map(|a| (a + 1..m).map(move |b| (a, b)))
        .map(|(a, b)| Pair { a, b, difference: means[b] - means[a], effect: None, p: 1.0 })
        .collect();
    if !systems.iter().all(|s| all_finite(s)) {
        pairs.iter_mut().for_each(|p| p.p = f64::NAN);
        return pairs;
    }
    let residual = residual_variance(systems, &means).sqrt();
    if residual > 0.0 {
        pairs.iter_mut().for_each(|p| p.effect = Some(p.difference / residual));
    }
    if n == 0 {
        return pairs;
    }

    let rows: Vec<f64> = (0..n).flat_map(|t| systems.iter().map(move |s| s[t])).collect();
    let spread = |row: &[f64]| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most - row.iter().copied().fold(f64::INFINITY, f64::min)
    };
    let slack = 1e-9 * rows.chunks(m).map(spread).fold(0.0, f64::max);
    // Thresholds ascending, as sums: a permutation reaches those up to its own range.
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|&a, &b| pairs[a].difference.abs().total_cmp(&pairs[b].difference.abs()));
    let least: Vec<f64> = order.iter().map(|&i| pairs[i].difference.abs() * n as f64 - slack).collect();
    let rng = CounterRng::new(seed);
    let zero = || vec![0u64; pairs.len() + 1];
    let reached = (0..permutations.div_ceil(BLOCK)).into_par_iter().map(|block| {
        let (mut reached, mut row, mut sums) = (zero(), vec![0.0; m], vec![0.0; m]);
        for r in block * BLOCK..permutations.min((block + 1) * BLOCK) {
            let draws = rng.fork(r);
            let words = m.div_ceil(DRAWS) as u64;
            sums.fill(0.0);
            for (topic, values) in rows.chunks(m).enumerate() {
                row.copy_from_slice(values);
                shuffle(&mut row, |i| draws.bits(topic as u64 * words + i));
                sums.iter_mut().zip(&row).for_each(|(s, v)| *s += v);
            }
            reached[least.partition_point(|l| *l <= spread(&sums))] += 1;
        }
        reached
    });
    let reached = reached.reduce(zero, |a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect());
    let mut extreme = 0;
    for (k, &i) in order.iter().enumerate().rev() {
        extreme += reached[k + 1];
        pairs[i].p = (extreme + 1) as f64 / (permutations + 1) as f64;
    }
    pairs
}

/// Fisher and Yates, with `DRAWS` draws to a word: each takes the whole part of word · j and leaves the rest.
fn shuffle(row: &mut [f64], word: impl Fn(u64) -> u64) {
    let mut bits = 0;
    for j in 2..=row.len() {
        if (j - 2) % DRAWS == 0 {
            bits = word(((j - 2) / DRAWS) as u64);
        }
        let product = u128::from(bits) * j as u128;
        bits = product as u64;
        row.swap(j - 1, (product >> 64) as usize);
    }
}

/// Σ(x − system mean − topic mean + mean)² / ((m − 1)(n − 1)).
fn residual_variance(systems: &[&[f64]], means: &[f64]) -> f64 {
    let (m, n) = (systems.len(), systems.first().map_or(0, |s| s.len()));
    if m < 2 || n < 2 {
        return 0.0;
    }
    let grand = super::mean(means);
    let squares = (0..n).map(|t| {
        let topic = systems.iter().map(|s| s[t]).sum::<f64>() / m as f64;
        systems.iter().zip(means).map(|(s, mean)| (s[t] - mean - topic + grand).powi(2)).sum::<f64>()
    });
    squares.sum::<f64>() / ((m - 1) * (n - 1)) as f64
}
