//! The paired difference of two ways of training, over queries and seeds.
//!
//! Two things are drawn at random: which queries one measures on, and which random start (and order of batches) a
//! model has. With d\[s\]\[q\] the difference at seed s and query q, its mean has the variance
//!
//! σ²_query / n + σ²_seed / S.
//!
//! σ²_query is the variance of the queries' means over seeds, which holds the chance in single pairs of seed and query.
//! σ²_seed is what seeds have beyond that: the variance of the seeds' means over queries, less the share of it that
//! single pairs make (the variance between seeds within a query, over n). Degrees of freedom are Welch's and
//! Satterthwaite's (1946), for a Student t test and interval. Two or three seeds say little of σ²_seed, so several
//! comparisons that train alike may pool it: see [`Contrast::of`]. The level holds as long as a seed's own effect is
//! no larger than the error of the mean over queries; where it is much larger (few queries cannot tell), more seeds
//! are needed than two.

use super::special::{t_critical, t_two_tails};
use crate::bootstrap::Interval;

/// A paired difference with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// The mean difference.
    pub mean: f64,
    /// Its standard error.
    pub se: f64,
    /// Degrees of freedom; infinite where nothing varies.
    pub df: f64,
}

/// A variance between seeds, with the degrees of freedom that it was found with.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SeedVariance {
    /// Variance of what a seed adds to the difference; an estimate may lie below 0.
    pub variance: f64,
    /// Degrees of freedom; 0 where it is not known.
    pub df: f64,
}

impl SeedVariance {
    /// That of one pair of systems; `a[seed][query]`. Unknown with one seed.
    pub fn of(a: &[Vec<f64>], b: &[Vec<f64>]) -> SeedVariance {
        let means: Vec<f64> = a.iter().zip(b).map(|(a, b)| mean_difference(a, b)).collect();
        let queries = a.first().map_or(0, Vec::len);
        if means.len() < 2 || queries == 0 {
            return SeedVariance::default();
        }
        let mut one = Vec::with_capacity(means.len());
        let single: f64 = (0..queries)
            .map(|q| {
                one.clear();
                one.extend(a.iter().zip(b).map(|(a, b)| a[q] - b[q]));
                variance(&one)
            })
            .sum();
        let within = single / (queries * queries) as f64;
        SeedVariance { variance: variance(&means) - within, df: (means.len() - 1) as f64 }
    }

    /// Pooled over several pairs that train alike. `systems` is the number of systems that the pairs are made of:
    /// pairs of the same systems are not independent, and count as `systems` − 1.
    pub fn pooled(of: &[SeedVariance], systems: usize) -> SeedVariance {
        let df: f64 = of.iter().map(|v| v.df).sum();
        if df == 0.0 {
            return SeedVariance::default();
        }
        let pairs = of.iter().filter(|v| v.df > 0.0).count();
        let mean = of.iter().map(|v| v.variance * v.df).sum::<f64>() / df;
        let independent = systems.saturating_sub(1).clamp(1, pairs) as f64;
        SeedVariance { variance: mean, df: df * independent / pairs as f64 }
    }
}

impl Contrast {
    /// Of `a` minus `b`, values by seed and query (`a[seed][query]`, the same seeds and queries in both). Where
    /// `seeds` knows the variance between seeds it is taken in place of the pair's own.
    pub fn of(a: &[Vec<f64>], b: &[Vec<f64>], seeds: Option<SeedVariance>) -> Contrast {
        let (count, n) = (a.len().min(b.len()), a.first().map_or(0, Vec::len));
        if count == 0 || n == 0 {
            return Contrast { mean: 0.0, se: f64::INFINITY, df: 1.0 };
        }
        let by_query: Vec<f64> =
            (0..n).map(|q| a.iter().zip(b).map(|(a, b)| a[q] - b[q]).sum::<f64>() / count as f64).collect();
        let mean = by_query.iter().sum::<f64>() / n as f64;
        let (query, query_df) = match n {
            1 => (f64::INFINITY, 1.0),
            n => (variance(&by_query) / n as f64, (n - 1) as f64),
        };
        let seeds = seeds.filter(|s| s.df > 0.0).unwrap_or_else(|| SeedVariance::of(a, b));
        let seed = seeds.variance.max(0.0) / count as f64;
        let total = query + seed;
        // Equal values everywhere: no chance is at work.
        if total == 0.0 {
            return Contrast { mean, se: 0.0, df: f64::INFINITY };
        }
        let spread = query * query / query_df + if seeds.df > 0.0 { seed * seed / seeds.df } else { 0.0 };
        Contrast { mean, se: total.sqrt(), df: if spread > 0.0 { total * total / spread } else { query_df } }
    }

    /// The two-sided p-value of no difference.
    pub fn p(&self) -> f64 {
        if self.se == 0.0 {
            return if self.mean == 0.0 { 1.0 } else { 0.0 };
        }
        if !self.se.is_finite() { 1.0 } else { t_two_tails(self.mean / self.se, self.df) }
    }

    /// The interval at `level`, such as 0.95.
    pub fn interval(&self, level: f64) -> Interval {
        let half = if self.se == 0.0 { 0.0 } else { t_critical(1.0 - level, self.df) * self.se };
        Interval { mean: self.mean, low: self.mean - half, high: self.mean + half }
    }
}

fn mean_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a - b).sum::<f64>() / a.len().max(1) as f64
}

/// The sample variance.
fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::ttest::t_test;
    use polygrade_nn::rng::CounterRng;

    #[test]
    fn one_seed_is_the_paired_t_test() {
        let rng = CounterRng::new(3);
        let a: Vec<f64> = (0..30).map(|i| rng.normal(i)).collect();
        let b: Vec<f64> = (0..30).map(|i| rng.normal(100 + i) * 0.5).collect();
        let d: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        let (t, c) = (t_test(&d, 0.95), Contrast::of(&[a], &[b], None));
        assert!((c.p() - t.p).abs() < 1e-12);
        let i = c.interval(0.95);
        assert!((i.low - t.low).abs() < 1e-9 && (i.high - t.high).abs() < 1e-9);
    }

    /// Where seeds differ, the test must not reject more often than it says; a test that looks at queries alone does.
    #[test]
    fn the_level_holds_where_seeds_differ() {
        let rng = CounterRng::new(11);
        let (mut careful, mut blind) = (0, 0);
        let runs = 4000;
        for run in 0..runs {
            let rng = rng.fork(run);
            let value = |system: u64, seed: u64, query: u64| {
                rng.fork(1).normal(query)
                    + 0.03 * rng.fork(2 + system).normal(seed)
                    + 0.2 * rng.fork(10 + system).fork(seed).normal(query)
                    + 0.15 * rng.fork(20 + system).normal(query)
            };
            let system =
                |s| (0..3).map(|seed| (0..60).map(|q| value(s, seed, q)).collect()).collect::<Vec<_>>();
            let all = [system(0), system(1), system(2)];
            let pairs: Vec<SeedVariance> =
                [(0, 1), (0, 2), (1, 2)].iter().map(|(a, b)| SeedVariance::of(&all[*a], &all[*b])).collect();
            let pooled = SeedVariance::pooled(&pairs, 3);
            careful += u32::from(Contrast::of(&all[0], &all[1], Some(pooled)).p() < 0.05);
            let none = SeedVariance { variance: 0.0, df: 1.0 };
            blind += u32::from(Contrast::of(&all[0], &all[1], Some(none)).p() < 0.05);
        }
        let share = |n| f64::from(n) / runs as f64;
        assert!((0.03..0.06).contains(&share(careful)), "{}", share(careful));
        assert!(share(blind) > 0.08, "{}", share(blind));
    }

    /// What docs/calibration-json.md says of two seeds and two systems, where a seed's effect is so many times the error
    /// of the mean over 60 queries.
    #[test]
    fn two_seeds_are_too_few_where_they_differ_much() {
        let rate = |ratio: f64| {
            let (rng, runs) = (CounterRng::new(5), 4000);
            let mut hits = 0;
            for run in 0..runs {
                let rng = rng.fork(run);
                // Differences of unit error over queries; a seed's share is scaled to the error of their mean.
                let seed = |s: u64| ratio * (2.0f64 / 60.0).sqrt() * rng.fork(1).normal(s);
                let value = |s: u64, q: u64| rng.fork(2).normal(q) + seed(s) + rng.fork(3 + s).normal(q);
                let a: Vec<Vec<f64>> = (0..2).map(|s| (0..60).map(|q| value(s, q)).collect()).collect();
                let b = vec![vec![0.0; 60]; 2];
                hits += u32::from(Contrast::of(&a, &b, None).p() < 0.05);
            }
            f64::from(hits) / runs as f64
        };
        let rates = [0.0, 1.0, 2.0].map(rate);
        let near = |rate: f64, said: f64| (rate - said).abs() < 0.015;
        assert!(near(rates[0], 0.04) && near(rates[1], 0.07) && near(rates[2], 0.12), "{rates:?}");
    }

    #[test]
    fn equal_systems_are_equal_for_certain() {
        let a = vec![vec![0.1, 0.4], vec![0.3, 0.2]];
        let c = Contrast::of(&a, &a, None);
        assert_eq!((c.mean, c.p(), c.interval(0.95).high), (0.0, 1.0, 0.0));
    }
}
