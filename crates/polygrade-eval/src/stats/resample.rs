//! The bootstrap over topics: intervals of the mean difference and a test of it.
//!
//! Topics are drawn with replacement, as many as there are. The percentile interval cuts the drawn means at
//! their quantiles; BCa (Efron 1987) moves the cuts by the bias z₀ and the acceleration a, so that it fits skewed
//! differences. The test is Sakai's (2006): studentised means of draws from the differences shifted to mean 0.
//! Differences that are all equal are drawn as they are: the intervals have no width, and the test, whose t is
//! undefined, has the exact p of the sign flips, 2^(1 − n).
//! [`crate::bootstrap`] is the sibling for values that have several seeds.

use super::special::{normal_quantile, normal_tail};
use super::{SAME, all_finite, constant_p, mean, sd, slack};
use crate::bootstrap::Interval;
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;

/// Resamples unless told otherwise.
pub const RESAMPLES: usize = 10_000;

/// The drawn means of a sample of differences.
#[derive(Debug, Clone)]
pub struct Resamples {
    mean: f64,
    /// Ascending.
    means: Vec<f64>,
    /// z₀ as a share: drawn means below the mean, those equal to it by half.
    below: f64,
    acceleration: f64,
    extreme: usize,
    /// The least that p can be.
    least: f64,
}

impl Resamples {
    /// Draws `resamples` samples. The same differences and seed give the same draws.
    pub fn draw(differences: &[f64], resamples: usize, seed: u64) -> Resamples {
        let n = differences.len();
        let m = mean(differences);
        if n == 0 || resamples == 0 || !all_finite(differences) {
            let nothing = if all_finite(differences) { 0.0 } else { f64::NAN };
            return Resamples {
                mean: m,
                means: vec![],
                below: nothing,
                acceleration: 0.0,
                extreme: 0,
                least: 0.0,
            };
        }
        let centred: Vec<f64> = differences.iter().map(|d| d - m).collect();
        let rng = CounterRng::new(seed);
        let count = n as f64;
        let drawn: Vec<(f64, f64)> = (0..resamples)
            .into_par_iter()
            .map(|r| {
                let draws = rng.fork(r as u64);
                let (mut sum, mut squares) = (0.0, 0.0);
                // A random word is two draws of 32 bits.
                for i in 0..n.div_ceil(2) {
                    let word = draws.bits(i as u64);
                    for half in [word >> 32, word & 0xffff_ffff].into_iter().take(n - 2 * i) {
                        let e = centred[((half * n as u64) >> 32) as usize];
                        sum += e;
                        squares += e * e;
                    }
                }
                (sum / count, squares)
            })
            .collect();

        // Sakai's test: |t*| of a draw, mean over standard error, against |t| of the sample.
        let most = differences.iter().fold(0.0, |most: f64, d| most.max(d.abs()));
        let spread = sd(differences);
        let observed = m.abs() / (spread / count.sqrt());
        let least = if spread > 0.0 { 0.0 } else { constant_p(n) };
        let is_extreme = |(mean, squares): &(f64, f64)| {
            let variance = (squares - count * mean * mean) / (count - 1.0);
            if variance <= (SAME * most).powi(2) {
                // One topic drawn again and again: any mean but 0 lies infinitely far out.
                return mean.abs() > SAME * most;
            }
            mean.abs() / (variance / count).sqrt() >= observed * (1.0 - 1e-9)
        };
        let extreme = match n {
            1 => resamples,
            _ if m == 0.0 => resamples,
            _ => drawn.iter().filter(|d| is_extreme(d)).count(),
        };

        let tie = slack(differences) / count;
        let side = |mean: f64| if mean < -tie { 1.0 } else { f64::from(mean <= tie) / 2.0 };
        let below = drawn.iter().map(|(mean, _)| side(*mean)).sum::<f64>() / resamples as f64;
        let squares: f64 = centred.iter().map(|e| e * e).sum();
        let cubes: f64 = centred.iter().map(|e| e.powi(3)).sum();
        let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
        let mut means: Vec<f64> = drawn.into_iter().map(|(mean, _)| m + mean).collect();
        means.par_sort_unstable_by(f64::total_cmp);
        Resamples { mean: m, means, below, acceleration, extreme, least }
    }

    /// The interval between the quantiles of the drawn means, at `level` such as 0.95.
    pub fn percentile(&self, level: f64) -> Interval {
        let tail = (1.0 - level) / 2.0;
        self.cut(tail, 1.0 - tail)
    }

    /// The bias-corrected and accelerated interval. a = Σ(dᵢ − d̄)³ / (6 (Σ(dᵢ − d̄)²)^1.5) is the jackknife's
    /// for a mean.
    pub fn bca(&self, level: f64) -> Interval {
        let bias = normal_quantile(self.below);
        if !bias.is_finite() {
            return self.percentile(level);
        }
        let moved = |p: f64| {
            let z = bias + normal_quantile(p);
            normal_tail(-(bias + z / (1.0 - self.acceleration * z)))
        };
        let tail = (1.0 - level) / 2.0;
        self.cut(moved(tail), moved(1.0 - tail))
    }

    /// Two-sided p of a mean difference of 0: (b + 1) / (n + 1), b of n draws being as far out. 1 where there
    /// are fewer than two topics or the mean is 0.
    pub fn p(&self) -> f64 {
        if self.mean.is_nan() || self.below.is_nan() {
            return f64::NAN;
        }
        if self.means.is_empty() {
            return 1.0;
        }
        ((self.extreme + 1) as f64 / (self.means.len() + 1) as f64).max(self.least)
    }

    fn cut(&self, low: f64, high: f64) -> Interval {
        Interval { mean: self.mean, low: self.quantile(low), high: self.quantile(high) }
    }

    /// Between the two nearest drawn means, as numpy does by default.
    fn quantile(&self, p: f64) -> f64 {
        let Some(last) = self.means.len().checked_sub(1) else {
            return if self.below.is_nan() { f64::NAN } else { self.mean };
        };
        let at = p.clamp(0.0, 1.0) * last as f64;
        let (i, share) = (at as usize, at.fract());
        let (a, b) = (self.means[i], self.means[(i + 1).min(last)]);
        a + (b - a) * share
    }
}
