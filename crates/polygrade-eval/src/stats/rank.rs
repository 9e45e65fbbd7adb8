//! Tests that look at order only: Wilcoxon's signed ranks (1945) and the sign test.
//!
//! They ask about the median or the number of topics won rather than about the mean. Urbano et al. (2019) and
//! Smucker et al. (2007) advise against them for means of retrieval measures; they are here because people
//! compare with papers that used them.

use super::all_finite;
use super::special::{ln_fair_binomial, normal_tail};
use serde::Serialize;

/// What a test of order says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OrderTest {
    /// Wilcoxon: the smaller of the two rank sums. Sign test: the smaller of wins and losses.
    pub statistic: f64,
    /// Topics with a difference other than 0; the others are left out.
    pub topics: usize,
    /// Two-sided p.
    pub p: f64,
    /// Whether p is exact; otherwise it is the normal approximation.
    pub exact: bool,
}

/// Topics up to which Wilcoxon's p is exact.
const EXACT: usize = 50;

/// Wilcoxon's signed-rank test. Equal sizes share their mean rank; p is exact up to 50 topics, also with such
/// ties, and the normal approximation with the variance corrected for ties above.
pub fn wilcoxon(differences: &[f64]) -> OrderTest {
    if !all_finite(differences) {
        return OrderTest { statistic: f64::NAN, topics: 0, p: f64::NAN, exact: false };
    }
    let mut moved: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let n = moved.len();
    moved.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Twice the ranks, so that shared ranks are whole. Sizes within rounding of each other are equal.
    let mut ranks = vec![0usize; n];
    let mut ties = 0.0;
    let mut start = 0;
    while start < n {
        let mut end = start + 1;
        while end < n && moved[end].abs() - moved[end - 1].abs() <= 1e-10 * moved[end].abs() {
            end += 1;
        }
        ranks[start..end].iter_mut().for_each(|r| *r = start + 1 + end);
        let size = (end - start) as f64;
        ties += size.powi(3) - size;
        start = end;
    }
    let total: usize = ranks.iter().sum();
    let up: usize = ranks.iter().zip(&moved).filter(|(_, d)| **d > 0.0).map(|(r, _)| r).sum();
    let smaller = up.min(total - up);
    let statistic = smaller as f64 / 2.0;
    if n == 0 {
        return OrderTest { statistic, topics: 0, p: 1.0, exact: true };
    }
    if n <= EXACT {
        // share[s]: share of the 2ⁿ choices of signs whose positive ranks sum to s.
        let mut share = vec![0.0; total + 1];
        share[0] = 1.0;
        for &rank in &ranks {
            for s in (0..=total).rev() {
                share[s] = 0.5 * (share[s] + if s >= rank { share[s - rank] } else { 0.0 });
            }
        }
        let p = 2.0 * share[..=smaller].iter().sum::<f64>();
        return OrderTest { statistic, topics: n, p: p.min(1.0), exact: true };
    }
    let count = n as f64;
    let middle = count * (count + 1.0) / 4.0;
    let variance = count * (count + 1.0) * (2.0 * count + 1.0) / 24.0 - ties / 48.0;
    let p = 2.0 * normal_tail((middle - statistic) / variance.sqrt());
    OrderTest { statistic, topics: n, p: p.min(1.0), exact: false }
}

/// The sign test: is the number of topics won that of a fair coin? Exact.
pub fn sign_test(differences: &[f64]) -> OrderTest {
    if !all_finite(differences) {
        return OrderTest { statistic: f64::NAN, topics: 0, p: f64::NAN, exact: false };
    }
    let wins = differences.iter().filter(|d| **d > 0.0).count();
    let losses = differences.iter().filter(|d| **d < 0.0).count();
    let (n, fewer) = (wins + losses, wins.min(losses));
    let tail: f64 = (0..=fewer).map(|k| ln_fair_binomial(n as f64, k as f64).exp()).sum();
    OrderTest { statistic: fewer as f64, topics: n, p: (2.0 * tail).min(1.0), exact: true }
}
