//! Significance: is the difference between two systems more than chance, how large is it, and how many topics
//! would show it?
//!
//! All functions take plain values by topic. A paired test takes `differences[topic]`, the value of a run minus
//! the value of the baseline on the same topic; [`differences()`] makes them. The topics are the sample: every
//! statement is about topics like these, for the judgments as they are.
//!
//! | module | holds |
//! |---|---|
//! | [`ttest`] | Student's paired t test and its interval |
//! | [`randomization`] | the sign-flip randomisation test |
//! | [`resample`] | the bootstrap over topics: percentile and BCa intervals, Sakai's studentised test |
//! | [`rank`] | Wilcoxon's signed-rank test and the sign test |
//! | [`effect`] | effect sizes, wins and losses |
//! | [`correction`] | Bonferroni, Holm, Benjamini and Hochberg |
//! | [`tukey`] | randomised Tukey HSD over many systems |
//! | [`contrast`] | the difference of two ways of training, over queries and seeds |
//! | [`power`] | topics needed, smallest difference to be seen |
//!
//! [`crate::compare`] puts them together. Smucker, Allan and Carterette (CIKM 2007) and Urbano, Lima and
//! Hanjalic (SIGIR 2019) compare the tests on retrieval data; docs/guide-compare.md says which to take when.
//!
//! Random numbers come from [`CounterRng`](polygrade_nn::rng::CounterRng) and counts are whole numbers, so that
//! the same values and seed give the same answer at any number of threads. Where a value is not finite, so is
//! no answer: p is NaN.
//!
//! ```
//! use polygrade_eval::stats::{differences, randomization, resample::Resamples, ttest};
//!
//! let baseline = [0.31, 0.52, 0.10, 0.77, 0.45, 0.38, 0.60, 0.25];
//! let run = [0.39, 0.50, 0.21, 0.80, 0.61, 0.47, 0.66, 0.30];
//! let d = differences(&run, &baseline);
//! let t = ttest::t_test(&d, 0.95);
//! assert!((t.p - 0.007_990_0).abs() < 1e-6); // scipy.stats.ttest_rel
//! let r = randomization::randomization_test(&d, 100_000, 1);
//! assert!(r.exact && r.p == 4.0 / 256.0); // all 2^8 ways to flip the signs
//! let interval = Resamples::draw(&d, 10_000, 1).bca(0.95);
//! assert!(interval.low > 0.0 && interval.high < 0.12);
//! ```

pub mod contrast;
pub mod correction;
pub mod effect;
pub mod power;
pub mod randomization;
pub mod rank;
pub mod resample;
pub(crate) mod special;
pub mod ttest;
pub mod tukey;

/// Values closer than this share of the larger one are equal: sums of the same gains in another order.
const SAME: f64 = 1e-12;

/// `run − baseline` by topic. Differences that are nothing but rounding are exactly 0, so that ties count as
/// ties in every test.
///
/// # Panics
/// When the two have different numbers of topics.
pub fn differences(run: &[f64], baseline: &[f64]) -> Vec<f64> {
    assert_eq!(run.len(), baseline.len(), "values are not paired");
    let minus = |(a, b): (&f64, &f64)| {
        let d = a - b;
        if d.abs() <= SAME * a.abs().max(b.abs()) { 0.0 } else { d }
    };
    run.iter().zip(baseline).map(minus).collect()
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The standard deviation of a sample (over n − 1); 0 of fewer than two values, and of values that are all
/// equal but for rounding.
pub fn sd(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let m = mean(values);
    let sd = (values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt();
    if sd <= SAME * m.abs() { 0.0 } else { sd }
}

/// How far a statistic may lie below the observed one and still count as equal: a sum of the same differences
/// in another order differs in its last digits. Counting such ties keeps tests conservative.
fn slack(differences: &[f64]) -> f64 {
    1e-9 * differences.iter().fold(0.0, |most: f64, d| most.max(d.abs()))
}

/// The exact sign-flip p of n equal differences other than 0: only the choices of one sign for all reach their
/// mean, 2 of 2ⁿ. It stands in for tests that divide by the standard deviation, which is 0 there.
fn constant_p(n: usize) -> f64 {
    2.0_f64.powf(1.0 - n as f64)
}

fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|v| v.is_finite())
}
