//! Bootstrap intervals of means and of paired differences (Efron and Tibshirani 1993; Sakai 2006).
//!
//! Values come by seed and query. Queries are the sample; where there are several seeds, they are drawn too,
//! so that the interval covers both which queries one has and which random start. Percentile intervals, from
//! a counter-based generator: the same values give the same interval.

use polygrade_nn::rng::CounterRng;
use serde::Serialize;

/// A mean with an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether 0 lies inside: a difference that may be none.
    pub fn holds_zero(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// Resamples drawn unless told otherwise.
pub const RESAMPLES: usize = 5000;

/// The means of resample `r` for several systems at once: the same seeds and queries for all of them, so that
/// they can be compared. `systems[system][seed][query]`.
fn resample(systems: &[&[Vec<f64>]], r: usize, out: &mut Vec<f64>) {
    let (seeds, queries) = shape(systems);
    let rng = CounterRng::new(0x706f_6c79).fork(r as u64);
    let mut weights = vec![0u32; seeds];
    (0..seeds).for_each(|s| weights[rng.below(s as u64, seeds)] += 1);
    let drawn: Vec<usize> = (0..queries).map(|q| rng.below((seeds + q) as u64, queries)).collect();
    out.clear();
    out.extend(systems.iter().map(|system| {
        let by_seed = weights.iter().zip(*system).filter(|(w, _)| **w > 0);
        let sum: f64 = by_seed.map(|(w, v)| f64::from(*w) * drawn.iter().map(|&q| v[q]).sum::<f64>()).sum();
        sum / (seeds * queries) as f64
    }));
}

fn shape(systems: &[&[Vec<f64>]]) -> (usize, usize) {
    let first = systems.first().copied().unwrap_or_default();
    (first.len(), first.first().map_or(0, Vec::len))
}

/// The mean over seeds and queries.
pub fn plain_mean(values: &[Vec<f64>]) -> f64 {
    let n: usize = values.iter().map(Vec::len).sum();
    if n == 0 { 0.0 } else { values.iter().flatten().sum::<f64>() / n as f64 }
}

/// The bootstrap interval of a mean at `level` (such as 0.95). `values[seed][query]`; all seeds have the same
/// queries. Empty input gives zeros; a single value an interval without width.
pub fn mean(values: &[Vec<f64>], level: f64) -> Interval {
    let (seeds, queries) = shape(&[values]);
    if seeds == 0 || queries == 0 {
        return Interval { mean: 0.0, low: 0.0, high: 0.0 };
    }
    let mut one = Vec::new();
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|r| {
            resample(&[values], r, &mut one);
            one[0]
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let (low, high) = percentiles(&means, level);
    Interval { mean: plain_mean(values), low, high }
}

/// The ends of a percentile interval: of n > 0 ascending values those at ⌊n(1 − level)/2⌋ and ⌊n(1 + level)/2⌋, from 0.
pub(crate) fn percentiles(sorted: &[f64], level: f64) -> (f64, f64) {
    let tail = (1.0 - level) / 2.0;
    let at = |p: f64| sorted[((p * sorted.len() as f64) as usize).min(sorted.len() - 1)];
    (at(tail), at(1.0 - tail))
}

/// The bootstrap interval of the mean of `a − b`, paired by seed and query.
///
/// # Panics
/// When the two have different numbers of seeds or queries.
pub fn paired(a: &[Vec<f64>], b: &[Vec<f64>], level: f64) -> Interval {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len()), "values are not paired");
    let differences: Vec<Vec<f64>> =
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x - y).collect()).collect();
    mean(&differences, level)
}

/// Shares 1 out equally among the places of the highest values.
pub(crate) fn share_best(values: &[f64], shares: &mut [f64]) {
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ties = values.iter().filter(|v| **v == best).count() as f64;
    shares.iter_mut().zip(values).filter(|(_, v)| **v == best).for_each(|(s, _)| *s += 1.0 / ties);
}

/// For each system the share of resamples in which it is the best: how sure one may be that it is. Ties are
/// shared out equally. `systems[system][seed][query]`.
pub fn best_share(systems: &[&[Vec<f64>]]) -> Vec<f64> {
    let mut shares = vec![0.0; systems.len()];
    let (seeds, queries) = shape(systems);
    if seeds == 0 || queries == 0 {
        return shares;
    }
    let mut means = Vec::new();
    for r in 0..RESAMPLES {
        resample(systems, r, &mut means);
        share_best(&means, &mut shares);
    }
    shares.iter_mut().for_each(|s| *s /= RESAMPLES as f64);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_cover_as_often_as_they_say() {
        let rng = CounterRng::new(5);
        let (trials, queries) = (300, 60);
        let covered = (0..trials)
            .filter(|&t| {
                let rng = rng.fork(t);
                let values: Vec<f64> = (0..queries).map(|i| 0.3 + rng.normal(i)).collect();
                let i = mean(&[values], 0.95);
                i.low <= 0.3 && i.high >= 0.3
            })
            .count();
        let share = covered as f64 / trials as f64;
        assert!((0.90..0.99).contains(&share), "{share}");
    }

    #[test]
    fn differences_are_paired() {
        let rng = CounterRng::new(6);
        let a: Vec<f64> = (0..50).map(|i| rng.normal(i) * 10.0).collect();
        let b: Vec<f64> = a.iter().map(|v| v - 0.1).collect();
        let shifted = [b];
        let a = [a];
        let d = paired(&a, &shifted, 0.95);
        assert!((d.mean - 0.1).abs() < 1e-9 && d.low > 0.099 && !d.holds_zero());
        assert!(paired(&a, &a, 0.95).holds_zero());
        assert_eq!(mean(&[], 0.95).mean, 0.0);
        let shares = best_share(&[&a, &shifted, &a]);
        assert!(
            (shares[0] - 0.5).abs() < 1e-9 && shares[1] == 0.0 && (shares[2] - 0.5).abs() < 1e-9,
            "{shares:?}"
        );
    }
}
