//! The Kruskal–Wallis test, for PEER.
//!
//! H = 12 / (N(N+1)) · Σᵢ Rᵢ²/nᵢ − 3(N+1), over groups of nᵢ values with rank sums Rᵢ, ties sharing their mean rank and
//! H divided by 1 − Σ(t³ − t)/(N³ − N) (Kruskal and Wallis 1952). Its p-value is the upper tail of χ² with one degree
//! of freedom less than there are groups.

use crate::stats::special::gamma_tail;

/// The p-value that values do not depend on their group. `None` with fewer than two groups; 1 where all values are
/// the same.
pub(super) fn kruskal_wallis(values: &[(usize, f64)], groups: usize) -> Option<f64> {
    let n = values.len() as f64;
    let mut sorted: Vec<&(usize, f64)> = values.iter().collect();
    sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (mut sums, mut counts) = (vec![0.0; groups], vec![0.0; groups]);
    let mut ties = 0.0;
    let mut from = 0;
    while from < sorted.len() {
        let same = sorted[from..].iter().take_while(|v| v.1 == sorted[from].1).count();
        let rank = from as f64 + (same as f64 + 1.0) / 2.0;
        for (group, _) in &sorted[from..from + same] {
            sums[*group] += rank;
            counts[*group] += 1.0;
        }
        ties += (same as f64).powi(3) - same as f64;
        from += same;
    }
    let present = counts.iter().filter(|c| **c > 0.0).count();
    if present < 2 {
        return None;
    }
    let correction = 1.0 - ties / (n.powi(3) - n);
    if correction <= 0.0 {
        return Some(1.0);
    }
    let squares: f64 = sums.iter().zip(&counts).filter(|(_, c)| **c > 0.0).map(|(s, c)| s * s / c).sum();
    let h = (12.0 / (n * (n + 1.0)) * squares - 3.0 * (n + 1.0)) / correction;
    Some(chi_square_tail(h.max(0.0), present - 1))
}

/// The chance that a χ² variable with `df` degrees of freedom is above `x`: Q(df/2, x/2).
fn chi_square_tail(x: f64, df: usize) -> f64 {
    gamma_tail(df as f64 / 2.0, x / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_scipys() {
        // scipy.stats.chi2.sf(x, df), SciPy 1.17.1.
        for (x, df, want) in [
            (0.0, 1, 1.0),
            (0.001, 1, 0.9747728793699604),
            (1.0, 1, 0.31731050786291115),
            (3.841458820694124, 1, 0.04999999999999989),
            (30.0, 1, 4.3204630578274955e-08),
            (0.5, 2, 0.7788007830714049),
            (7.0, 3, 0.07189777249646509),
            (2.0, 7, 0.9598403687301016),
            (14.067140449340169, 7, 0.049999999999999996),
            (80.0, 7, 1.377501829742618e-14),
            (20.0, 20, 0.4579297144718523),
            (700.0, 40, 1.8762675768328969e-121),
        ] {
            let got = chi_square_tail(x, df);
            assert!((got - want).abs() <= 1e-12 * want, "χ²({x}, {df}) = {got}, not {want}");
        }
    }

    #[test]
    fn the_test_is_scipys() {
        // scipy.stats.kruskal(*groups).pvalue, SciPy 1.17.1.
        let cases: [(&[&[f64]], f64); 4] = [
            (&[&[1.0, 5.0, 9.0], &[2.0, 3.0, 4.0, 8.0]], 0.7236736098317629),
            (&[&[1.0, 1.0, 2.0], &[2.0, 2.0, 3.0], &[7.0, 7.0]], 0.05575700999353555),
            (&[&[4.0], &[9.0]], 0.31731050786291115),
            (&[&[101.0, 101.0, 3.0], &[101.0, 5.0, 6.0, 7.0], &[1.0, 2.0]], 0.10941101831999021),
        ];
        for (groups, want) in cases {
            let each = groups.iter().enumerate();
            let values: Vec<(usize, f64)> = each.flat_map(|(g, v)| v.iter().map(move |x| (g, *x))).collect();
            let got = kruskal_wallis(&values, groups.len()).unwrap();
            assert!((got - want).abs() < 1e-12, "{groups:?}: {got}, not {want}");
        }
        assert_eq!(kruskal_wallis(&[(0, 1.0), (0, 2.0)], 3), None);
        assert_eq!(kruskal_wallis(&[], 3), None);
        assert_eq!(kruskal_wallis(&[(0, 7.0), (1, 7.0)], 2), Some(1.0));
    }
}
