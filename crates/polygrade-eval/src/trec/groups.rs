//! Measures averaged over the judgment groups of a topic: map_avgjg, P_avgjg, Rprec_mult_avgjg.

use super::ranked::Ranked;
use super::{average, precision};

/// Mean over groups of what `of` gives for each.
fn mean(groups: &[Ranked], n: usize, of: impl Fn(&Ranked) -> Vec<f64>) -> Vec<f64> {
    let mut sums = vec![0.0; n];
    for group in groups {
        sums.iter_mut().zip(of(group)).for_each(|(sum, v)| *sum += v);
    }
    if groups.len() > 1 {
        sums.iter_mut().for_each(|sum| *sum /= groups.len() as f64);
    }
    sums
}

/// Average precision.
pub(super) fn map(groups: &[Ranked]) -> f64 {
    mean(groups, 1, |r| vec![average::map(r)])[0]
}

/// Precision at cutoffs.
pub(super) fn precision(groups: &[Ranked], cutoffs: &[i64]) -> Vec<f64> {
    mean(groups, cutoffs.len(), |r| precision::precision(r, cutoffs))
}

/// Precision at multiples of the number of relevant.
pub(super) fn r_precision_multiples(groups: &[Ranked], multiples: &[f64]) -> Vec<f64> {
    mean(groups, multiples.len(), |r| precision::r_precision_multiples(r, multiples))
}
