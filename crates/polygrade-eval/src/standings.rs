//! Systems ranked over many tasks: means, mean ranks, Borda counts, Kendall's τ between two orders, and how sure an
//! order is.
//!
//! Scores are `scores[system][task]`, higher is better; `None` where a system has no result for a task.
//!
//! | figure | definition |
//! |---|---|
//! | mean | mean over tasks, each with the same weight; none for a system that lacks a task (mteb's "Mean (Task)") |
//! | rank in a task | 1 for the best; equal scores share the mean of their ranks |
//! | mean rank | mean over the tasks that a system has |
//! | Borda points | Σ over its tasks of (systems − rank): each task is a voter (Colombo et al. 2022, arXiv 2202.03799) |
//! | Borda rank | by points descending; equal points share the lowest rank: 1, 2, 2, 4 |
//! | Kendall's τ-b | (concordant − discordant) / √((n₀ − ties of a)(n₀ − ties of b)), n₀ = n(n − 1)/2 (Kendall 1945) |
//!
//! Borda points and ranks are mteb's (`_get_borda_rank`): a missing task brings no points, while the number of systems
//! stays that of all.

use crate::bootstrap::{Interval, percentiles, share_best};
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;
use serde::Serialize;

/// Where a system stands among others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// Mean over all tasks; `None` where one is missing.
    pub mean: Option<f64>,
    /// Mean rank over the tasks it has; `None` where it has none.
    pub mean_rank: Option<f64>,
    /// Borda points.
    pub borda: f64,
    /// Rank by Borda points, from 1.
    pub borda_rank: usize,
    /// Tasks it has a result for.
    pub tasks: usize,
}

/// Ranks from 1, the highest value first; equal values share the mean of their ranks. `None` and NaN have no rank.
pub fn ranks(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known = |v: &Option<f64>| v.filter(|x| !x.is_nan());
    values
        .iter()
        .map(|v| {
            let v = known(v)?;
            let (mut above, mut equal) = (0.0, 0.0);
            for other in values.iter().filter_map(known) {
                above += f64::from(other > v);
                equal += f64::from(other == v);
            }
            Some(above + (equal + 1.0) / 2.0)
        })
        .collect()
}

/// The standing of each system. `scores[system][task]`.
///
/// # Panics
/// When the systems have different numbers of tasks.
pub fn standings(scores: &[Vec<Option<f64>>]) -> Vec<Standing> {
    let tasks = scores.first().map_or(0, Vec::len);
    assert!(scores.iter().all(|s| s.len() == tasks), "systems with different numbers of tasks");
    let by_task: Vec<Vec<Option<f64>>> =
        (0..tasks).map(|t| ranks(&scores.iter().map(|s| s[t]).collect::<Vec<_>>())).collect();
    let mut out: Vec<Standing> = scores
        .iter()
        .enumerate()
        .map(|(i, system)| {
            let own: Vec<f64> = by_task.iter().filter_map(|ranks| ranks[i]).collect();
            let values: Vec<f64> = system.iter().flatten().copied().filter(|v| !v.is_nan()).collect();
            Standing {
                mean: (values.len() == tasks && tasks > 0).then(|| mean(&values)),
                mean_rank: (!own.is_empty()).then(|| mean(&own)),
                // An empty sum of doubles is -0.
                borda: own.iter().map(|rank| scores.len() as f64 - rank).fold(0.0, |sum, p| sum + p),
                borda_rank: 0,
                tasks: own.len(),
            }
        })
        .collect();
    let points: Vec<f64> = out.iter().map(|s| s.borda).collect();
    out.iter_mut().for_each(|s| s.borda_rank = 1 + points.iter().filter(|p| **p > s.borda).count());
    out
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Kendall's τ-b of two scorings of the same things, from −1 to 1; `None` where either has no two different values.
///
/// # Panics
/// When the two have different lengths.
pub fn kendall(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "τ of two lists of different lengths");
    let (mut sum, mut pairs_a, mut pairs_b) = (0i64, 0i64, 0i64);
    for i in 0..a.len() {
        for j in 0..i {
            let (x, y) = (sign(a[i], a[j]), sign(b[i], b[j]));
            sum += x * y;
            pairs_a += x.abs();
            pairs_b += y.abs();
        }
    }
    (pairs_a > 0 && pairs_b > 0).then(|| sum as f64 / (pairs_a as f64 * pairs_b as f64).sqrt())
}

fn sign(a: f64, b: f64) -> i64 {
    i64::from(a > b) - i64::from(a < b)
}

/// What every system scored on the queries of one task.
#[derive(Debug, Clone, Default)]
pub struct TaskQueries {
    /// The subset (such as a query language) of each query; a task's score is the mean over its subsets' means.
    pub subset: Vec<u32>,
    /// What is drawn together: a query with its translations. Numbered from 0 without gaps.
    pub group: Vec<u32>,
    /// `values[system][query]`.
    pub values: Vec<Vec<f64>>,
}

/// How sure a system's place is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stability {
    /// Bootstrap interval of its mean over tasks.
    pub mean: Interval,
    /// Share of resamples in which its mean is the highest; ties are shared out.
    pub first_by_mean: f64,
    /// Share of resamples in which its Borda points are the highest; ties are shared out.
    pub first_by_borda: f64,
}

/// Bootstraps the table: in each of `resamples` resamples the queries of every task are drawn again with replacement,
/// translations of a query together and the same draws for all systems; tasks are taken as given. `level` such as 0.95
/// is that of the (percentile) intervals. The same input gives the same result, at any number of threads. Empty where
/// there are no tasks or no queries.
///
/// # Panics
/// When tasks have different numbers of systems.
pub fn stability(tasks: &[TaskQueries], resamples: usize, level: f64) -> Vec<Stability> {
    let systems = tasks.first().map_or(0, |t| t.values.len());
    assert!(tasks.iter().all(|t| t.values.len() == systems), "tasks with different numbers of systems");
    if systems == 0 || resamples == 0 || tasks.iter().any(|t| t.group.is_empty()) {
        return Vec::new();
    }
    let shapes: Vec<Shape> = tasks.iter().map(Shape::new).collect();
    let whole: Vec<Vec<f64>> = tasks.iter().zip(&shapes).map(|(t, s)| s.scores(t, None)).collect();
    let draws: Vec<(Vec<f64>, Vec<f64>)> = (0..resamples)
        .into_par_iter()
        .map(|r| {
            let rng = CounterRng::new(0x626f_7264).fork(r as u64);
            let draw = |(t, task): (usize, &TaskQueries)| {
                shapes[t].scores(task, Some(&shapes[t].draw(&rng.fork(t as u64))))
            };
            let by_task: Vec<Vec<f64>> = tasks.iter().enumerate().map(draw).collect();
            let scores: Vec<Vec<Option<f64>>> =
                (0..systems).map(|s| by_task.iter().map(|t| Some(t[s])).collect()).collect();
            let standings = standings(&scores);
            standings.iter().map(|s| (s.mean.unwrap_or(0.0), s.borda)).unzip()
        })
        .collect();
    let (mut by_mean, mut by_borda) = (vec![0.0; systems], vec![0.0; systems]);
    for (means, borda) in &draws {
        share_best(means, &mut by_mean);
        share_best(borda, &mut by_borda);
    }
    (0..systems)
        .map(|s| {
            let mut means: Vec<f64> = draws.iter().map(|(m, _)| m[s]).collect();
            means.sort_by(f64::total_cmp);
            let (low, high) = percentiles(&means, level);
            let own: Vec<f64> = whole.iter().map(|t| t[s]).collect();
            let mean = Interval { mean: mean(&own), low, high };
            let share = |of: &[f64]| of[s] / resamples as f64;
            Stability { mean, first_by_mean: share(&by_mean), first_by_borda: share(&by_borda) }
        })
        .collect()
}

/// How many groups and subsets a task has.
struct Shape {
    groups: usize,
    subsets: usize,
}

impl Shape {
    fn new(task: &TaskQueries) -> Shape {
        let count = |numbers: &[u32]| numbers.iter().max().map_or(0, |n| *n as usize + 1);
        Shape { groups: count(&task.group), subsets: count(&task.subset) }
    }

    /// How often each group is drawn.
    fn draw(&self, rng: &CounterRng) -> Vec<u32> {
        let mut weights = vec![0; self.groups];
        (0..self.groups).for_each(|i| weights[rng.below(i as u64, self.groups)] += 1);
        weights
    }

    /// The score of each system, with groups counted as often as `weights` says. A subset of which nothing was drawn
    /// is left out of the mean.
    fn scores(&self, task: &TaskQueries, weights: Option<&[u32]>) -> Vec<f64> {
        let weight = |q: usize| weights.map_or(1.0, |w| f64::from(w[task.group[q] as usize]));
        let mut drawn = vec![0.0; self.subsets];
        task.subset.iter().enumerate().for_each(|(q, &s)| drawn[s as usize] += weight(q));
        let one = |values: &Vec<f64>| {
            let mut sums = vec![0.0; self.subsets];
            task.subset
                .iter()
                .zip(values)
                .enumerate()
                .for_each(|(q, (&s, v))| sums[s as usize] += weight(q) * v);
            let means: Vec<f64> =
                sums.iter().zip(&drawn).filter(|(_, n)| **n > 0.0).map(|(sum, n)| sum / n).collect();
            mean(&means)
        };
        task.values.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(rows: &[&[f64]]) -> Vec<Vec<Option<f64>>> {
        rows.iter().map(|r| r.iter().map(|v| Some(*v)).collect()).collect()
    }

    #[test]
    fn borda_by_hand() {
        // Three systems, three tasks; points n − rank. Task 1: a 2, b 1, c 0. Task 2: b 2, a and c share ranks 2 and 3:
        // 0.5 each. Task 3 has no result of c: a 2 (rank 1 of two, n stays 3), b 1.
        let mut scores = some(&[&[0.9, 0.3, 0.5], &[0.8, 0.6, 0.4], &[0.1, 0.3, 0.0]]);
        scores[2][2] = None;
        let s = standings(&scores);
        assert_eq!(s.iter().map(|s| s.borda).collect::<Vec<_>>(), [4.5, 4.0, 0.5]);
        assert_eq!(s.iter().map(|s| s.borda_rank).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(
            s.iter().map(|s| s.mean_rank).collect::<Vec<_>>(),
            [Some(4.5 / 3.0), Some(5.0 / 3.0), Some(2.75)]
        );
        assert!((s[0].mean.unwrap() - 1.7 / 3.0).abs() < 1e-12 && s[2].mean.is_none() && s[2].tasks == 2);
        // Equal points share the lower rank.
        let s = standings(&some(&[&[1.0, 0.0], &[0.0, 1.0], &[-1.0, -1.0]]));
        assert_eq!(s.iter().map(|s| s.borda_rank).collect::<Vec<_>>(), [1, 1, 3]);
        assert!(standings(&[]).is_empty());
        let none = &standings(&[vec![None], vec![Some(1.0)]])[0];
        assert!(
            none.borda.is_sign_positive() && none.borda == 0.0,
            "a system without tasks has 0 points, not -0"
        );
        assert_eq!(ranks(&[Some(f64::NAN), None, Some(0.0)]), [None, None, Some(1.0)]);
    }

    #[test]
    fn a_sure_order_is_sure_and_a_tie_is_shared() {
        let rng = CounterRng::new(3);
        let base: Vec<f64> = (0..80).map(|i| rng.uniform(i)).collect();
        let better: Vec<f64> = base.iter().map(|v| v + 0.01).collect();
        let task = TaskQueries {
            subset: (0..80).map(|q| q % 2).collect(),
            group: (0..80).map(|q| q / 2).collect(),
            values: vec![base.clone(), better, base],
        };
        let s = stability(&[task.clone(), task.clone()], 500, 0.95);
        assert_eq!((s[1].first_by_mean, s[1].first_by_borda), (1.0, 1.0), "paired: better on every query");
        assert!(s[0].mean.low < s[0].mean.mean && s[0].mean.mean < s[0].mean.high);
        let tie = TaskQueries { values: vec![task.values[0].clone(), task.values[0].clone()], ..task };
        let s = stability(&[tie], 200, 0.95);
        assert!(
            s.iter().all(|s| (s.first_by_mean - 0.5).abs() < 1e-9 && (s.first_by_borda - 0.5).abs() < 1e-9)
        );
        assert!(stability(&[], 10, 0.95).is_empty());
    }

    #[test]
    fn translations_are_drawn_together() {
        // 40 groups of 25 equal values are 40 observations, not 1,000: the interval is that of the 40.
        let rng = CounterRng::new(8);
        let once: Vec<f64> = (0..40).map(|i| rng.uniform(i)).collect();
        let many: Vec<f64> = (0..1000).map(|i| once[i / 25]).collect();
        let task = |values: &[f64], group: Vec<u32>| TaskQueries {
            subset: vec![0; values.len()],
            group,
            values: vec![values.to_vec()],
        };
        let a = stability(&[task(&once, (0..40).collect())], 400, 0.95)[0].mean;
        let b = stability(&[task(&many, (0..1000).map(|i| i / 25).collect())], 400, 0.95)[0].mean;
        assert!((a.low - b.low).abs() < 1e-9 && (a.high - b.high).abs() < 1e-9, "{a:?} {b:?}");
    }
}
