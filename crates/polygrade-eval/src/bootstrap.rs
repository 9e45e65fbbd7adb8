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
pub const RESAMPLES: usize = 2000;

/// The bootstrap interval of a mean at `level` (such as 0.95). `values[seed][query]`; all seeds have the same
/// queries. Empty input gives zeros; a single value an interval without width.
pub fn mean(values: &[Vec<f64>], level: f64) -> Interval {
    let (seeds, queries) = (values.len(), values.first().map_or(0, Vec::len));
    if seeds == 0 || queries == 0 {
        return Interval { mean: 0.0, low: 0.0, high: 0.0 };
    }
    let total: f64 = values.iter().flatten().sum();
    let rng = CounterRng::new(0x706f_6c79);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|r| {
            let rng = rng.fork(r as u64);
            let mut weights = vec![0u32; seeds];
            (0..seeds).for_each(|s| weights[rng.below(s as u64, seeds)] += 1);
            let mut sum = 0.0;
            for q in 0..queries {
                let query = rng.below((seeds + q) as u64, queries);
                for (w, v) in weights.iter().zip(values).filter(|(w, _)| **w > 0) {
                    sum += f64::from(*w) * v[query];
                }
            }
            sum / (seeds * queries) as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    let at = |p: f64| means[((p * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
    Interval { mean: total / (seeds * queries) as f64, low: at(tail), high: at(1.0 - tail) }
}

/// The bootstrap interval of the mean of `a − b`, paired by seed and query.
pub fn paired(a: &[Vec<f64>], b: &[Vec<f64>], level: f64) -> Interval {
    let differences: Vec<Vec<f64>> =
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x - y).collect()).collect();
    mean(&differences, level)
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
        let d = paired(&[a.clone()], &[b], 0.95);
        assert!((d.mean - 0.1).abs() < 1e-9 && d.low > 0.099 && !d.holds_zero());
        assert!(paired(&[a.clone()], &[a], 0.95).holds_zero());
        assert_eq!(mean(&[], 0.95).mean, 0.0);
    }
}
