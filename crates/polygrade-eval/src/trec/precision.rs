//! Measures that count relevant passages down to a rank: P, recall, relative_P, success, map_cut, unj, Rprec,
//! Rprec_mult.

use super::ranked::Ranked;

fn ratio(a: i64, b: i64) -> f64 {
    a as f64 / b as f64
}

/// Relevant passages above each cutoff.
fn hits(r: &Ranked, cutoffs: &[i64]) -> Vec<i64> {
    let mut out = Vec::with_capacity(cutoffs.len());
    r.at_cutoffs(cutoffs, 0, |n, _, v| *n += i64::from(r.is_relevant(v)), |n| out.push(n));
    out
}

/// Relevant above the cutoff, over the cutoff.
pub(super) fn precision(r: &Ranked, cutoffs: &[i64]) -> Vec<f64> {
    hits(r, cutoffs).into_iter().zip(cutoffs).map(|(n, k)| ratio(n, *k)).collect()
}

/// Relevant above the cutoff, over all relevant.
pub(super) fn recall(r: &Ranked, cutoffs: &[i64]) -> Vec<f64> {
    if r.num_rel == 0 {
        return vec![0.0; cutoffs.len()];
    }
    hits(r, cutoffs).into_iter().map(|n| ratio(n, r.num_rel)).collect()
}

/// Relevant above the cutoff, over the most that could be there.
pub(super) fn relative_precision(r: &Ranked, cutoffs: &[i64]) -> Vec<f64> {
    if r.num_rel == 0 {
        return vec![0.0; cutoffs.len()];
    }
    hits(r, cutoffs).into_iter().zip(cutoffs).map(|(n, k)| ratio(n, r.num_rel.min(*k))).collect()
}

/// Whether anything relevant is above the cutoff.
pub(super) fn success(r: &Ranked, cutoffs: &[i64]) -> Vec<f64> {
    hits(r, cutoffs).into_iter().map(|n| f64::from(n > 0)).collect()
}

/// Average precision of the list down to the cutoff, over all relevant.
pub(super) fn map_cut(r: &Ranked, cutoffs: &[i64]) -> Vec<f64> {
    if r.num_rel == 0 {
        return vec![0.0; cutoffs.len()];
    }
    let mut out = Vec::with_capacity(cutoffs.len());
    let see = |(n, sum): &mut (i64, f64), i: usize, v: i64| {
        if r.is_relevant(v) {
            *n += 1;
            *sum += *n as f64 / (i + 1) as f64;
        }
    };
    r.at_cutoffs(cutoffs, (0, 0.0), see, |(_, sum)| out.push(sum / r.num_rel as f64));
    out
}

/// Share of unjudged passages above the cutoff.
pub(super) fn unjudged(r: &Ranked, cutoffs: &[i64]) -> Vec<f64> {
    let mut counts = Vec::with_capacity(cutoffs.len());
    r.at_cutoffs(cutoffs, 0, |n, _, v| *n += i64::from(v < 0), |n| counts.push(n));
    counts.into_iter().zip(cutoffs).map(|(n, k)| ratio(n, *k)).collect()
}

/// Precision at the rank that equals the number of relevant.
pub(super) fn r_precision(r: &Ranked) -> f64 {
    let top = r.num_ret().min(r.num_rel);
    if top == 0 {
        return 0.0;
    }
    let found = r.values[..top as usize].iter().filter(|v| r.is_relevant(**v)).count();
    found as f64 / r.num_rel as f64
}

/// Precision at multiples of the number of relevant, the place rounded with 0.9 added in both versions.
pub(super) fn r_precision_multiples(r: &Ranked, multiples: &[f64]) -> Vec<f64> {
    let mut before = Vec::with_capacity(r.values.len() + 1);
    before.push(0i64);
    for v in &r.values {
        before.push(before[before.len() - 1] + i64::from(r.is_relevant(*v)));
    }
    let at = |m: &f64| {
        let k = (m * r.num_rel as f64 + 0.9) as i64;
        match usize::try_from(k) {
            Ok(k) if k > r.values.len() => r.num_rel_ret as f64 / k as f64,
            Ok(k) if k > 0 => before[k] as f64 / k as f64,
            _ => 0.0,
        }
    };
    multiples.iter().map(at).collect()
}
