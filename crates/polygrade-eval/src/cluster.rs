//! Bootstrap intervals where queries come in clusters: translations of one query are drawn together.
//!
//! Eight translations of a question are not eight questions. So the clusters are the sample: as many are drawn as there
//! are, with replacement, and each draw takes all of a cluster's queries along. The mean of a stratum (a language) is
//! the sum over its queries drawn over their number; the overall mean is the mean of the strata's. Percentile
//! intervals from a counter-based generator, so the same values give the same interval at any number of threads.

use crate::bootstrap::percentiles;
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;
use serde::Serialize;

/// Resamples drawn.
pub const RESAMPLES: usize = 2000;

/// Values of several measures for some queries.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The cluster of each query, 0..clusters.
    pub clusters: Vec<u32>,
    /// The stratum of each query, 0..strata.
    pub strata: Vec<usize>,
    /// The values of each query, one a measure; NaN where undefined.
    pub values: Vec<Vec<f64>>,
}

/// A mean with its interval. Both ends are `None` where fewer than two clusters define the measure: resamples of one
/// are all alike, and say nothing of how far the mean can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl Estimate {
    /// Both ends, where there is an interval.
    pub fn ends(&self) -> Option<(f64, f64)> {
        self.low.zip(self.high)
    }

    /// ` [low, high]` as `number` writes them; nothing where there is no interval.
    pub(crate) fn range(&self, number: impl Fn(f64) -> String) -> String {
        self.ends().map_or(String::new(), |(low, high)| format!(" [{}, {}]", number(low), number(high)))
    }
}

/// Intervals of each measure; `None` where it is defined for no query.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// By stratum.
    pub strata: Vec<Vec<Option<Estimate>>>,
    /// The mean over the strata that have a value.
    pub overall: Vec<Option<Estimate>>,
}

/// Sums and counts of each stratum and measure under weights for the clusters.
struct Sums {
    sums: Vec<f64>,
    counts: Vec<f64>,
}

impl Table {
    fn measures(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Means of each stratum and measure, NaN where undefined, then the overall ones; `weights` by cluster.
    fn means(&self, strata: usize, dense: &[(Vec<f64>, Vec<f64>)], weights: &[f64]) -> Vec<f64> {
        let m = self.measures();
        let mut s = Sums { sums: vec![0.0; strata * m], counts: vec![0.0; strata * m] };
        for (i, (values, defined)) in dense.iter().enumerate() {
            let w = weights[self.clusters[i] as usize];
            if w == 0.0 {
                continue;
            }
            let at = self.strata[i] * m;
            s.sums[at..at + m].iter_mut().zip(values).for_each(|(s, v)| *s += w * v);
            s.counts[at..at + m].iter_mut().zip(defined).for_each(|(c, d)| *c += w * d);
        }
        let mut means: Vec<f64> = s.sums.iter().zip(&s.counts).map(|(s, c)| s / c).collect();
        let overall: Vec<f64> = (0..m)
            .map(|j| {
                let each = (0..strata).map(|l| means[l * m + j]).filter(|v| !v.is_nan());
                let (sum, n) = each.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
                sum / n
            })
            .collect();
        means.extend(overall);
        means
    }

    /// For each value of [`Table::means`], whether two clusters or more define it.
    fn several(&self, strata: usize) -> Vec<bool> {
        let m = self.measures();
        let mut first = vec![None; (strata + 1) * m];
        let mut several = vec![false; (strata + 1) * m];
        for ((&cluster, &stratum), values) in self.clusters.iter().zip(&self.strata).zip(&self.values) {
            for j in (0..m).filter(|j| !values[*j].is_nan()) {
                for at in [stratum * m + j, strata * m + j] {
                    several[at] |= *first[at].get_or_insert(cluster) != cluster;
                }
            }
        }
        several
    }

    /// The intervals at `level`, such as 0.95.
    pub fn intervals(&self, strata: usize, level: f64) -> Means {
        let m = self.measures();
        let clusters = self.clusters.iter().max().map_or(0, |c| *c as usize + 1);
        let dense: Vec<(Vec<f64>, Vec<f64>)> = self
            .values
            .iter()
            .map(|row| {
                let values = row.iter().map(|v| if v.is_nan() { 0.0 } else { *v }).collect();
                (values, row.iter().map(|v| f64::from(!v.is_nan())).collect())
            })
            .collect();
        let point = self.means(strata, &dense, &vec![1.0; clusters]);
        let drawn: Vec<Vec<f64>> = (0..RESAMPLES as u64)
            .into_par_iter()
            .map(|r| {
                let rng = CounterRng::new(0x6269_6173).fork(r);
                let mut weights = vec![0.0; clusters];
                (0..clusters).for_each(|i| weights[rng.below(i as u64, clusters)] += 1.0);
                self.means(strata, &dense, &weights)
            })
            .collect();
        let several = self.several(strata);
        let interval = |j: usize| {
            let mean = point[j];
            // A measure that only a few clusters define is undefined in resamples without them.
            let mut means: Vec<f64> = drawn.iter().map(|d| d[j]).filter(|v| !v.is_nan()).collect();
            means.sort_by(f64::total_cmp);
            let ends = (several[j] && !means.is_empty()).then(|| percentiles(&means, level)).unzip();
            (!mean.is_nan()).then_some(Estimate { mean, low: ends.0, high: ends.1 })
        };
        let all: Vec<Option<Estimate>> = (0..point.len()).into_par_iter().map(interval).collect();
        let mut rows = all.chunks(m.max(1)).map(<[_]>::to_vec);
        let by_stratum = rows.by_ref().take(strata).collect();
        Means { strata: by_stratum, overall: rows.next().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means of clusters of equal size are all there is to know: the interval of copies is that of the clusters.
    #[test]
    fn copies_of_a_query_narrow_nothing() {
        let rng = CounterRng::new(4);
        let single = Table {
            clusters: (0..50).collect(),
            strata: vec![0; 50],
            values: (0..50).map(|i| vec![rng.normal(i)]).collect(),
        };
        let copies = Table {
            clusters: (0..400).map(|i| i % 50).collect(),
            strata: (0..400).map(|i| i / 50).collect(),
            values: (0..400).map(|i| vec![rng.normal(i % 50)]).collect(),
        };
        let (a, b) = (single.intervals(1, 0.95), copies.intervals(8, 0.95));
        let (a, b) = (a.overall[0].unwrap(), b.overall[0].unwrap());
        let (mean, (a, b)) = (a.mean, (a.ends().unwrap(), b.ends().unwrap()));
        assert!((a.0 - b.0).abs() < 1e-12 && (a.1 - b.1).abs() < 1e-12 && a.0 < mean);
    }

    #[test]
    fn intervals_cover_and_undefined_values_are_left_out() {
        let covered = (0..200u64)
            .filter(|&t| {
                let rng = CounterRng::new(9).fork(t);
                // Three translations share most of their value; one query in five is undefined.
                let value = |i: u64| {
                    if i.is_multiple_of(5) {
                        f64::NAN
                    } else {
                        1.0 + rng.normal(1000 + i / 3) + 0.3 * rng.normal(i)
                    }
                };
                let table = Table {
                    clusters: (0..120).map(|i| i / 3).collect(),
                    strata: (0..120).map(|i| i % 3).collect(),
                    values: (0..120).map(|i| vec![value(i)]).collect(),
                };
                let i = table.intervals(3, 0.95).overall[0].unwrap();
                i.ends().is_some_and(|(low, high)| low <= 1.0 && high >= 1.0)
            })
            .count();
        assert!((178..=198).contains(&covered), "{covered} of 200");
        let none = Table { clusters: vec![0], strata: vec![0], values: vec![vec![f64::NAN, 2.0]] };
        let means = none.intervals(1, 0.95);
        assert_eq!(means.overall[0], None);
        assert_eq!(means.strata[0][1], Some(Estimate { mean: 2.0, low: None, high: None }));
    }

    /// Two translations of one question are one cluster; the second measure is defined by one cluster alone.
    #[test]
    fn one_cluster_has_no_interval() {
        let table = Table {
            clusters: vec![0, 0, 1],
            strata: vec![0, 1, 1],
            values: vec![vec![1.0, 1.0], vec![1.0, 0.0], vec![0.0, f64::NAN]],
        };
        let means = table.intervals(2, 0.95);
        let has =
            |row: &[Option<Estimate>]| row.iter().map(|e| e.unwrap().ends().is_some()).collect::<Vec<_>>();
        assert_eq!(has(&means.strata[0]), [false, false]);
        assert_eq!(has(&means.strata[1]), [true, false]);
        assert_eq!(has(&means.overall), [true, false]);
    }
}
