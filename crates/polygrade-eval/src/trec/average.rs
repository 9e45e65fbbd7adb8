//! Measures over the places of relevant passages: map, gm_map, yaap, binG, bpref, gm_bpref, infAP,
//! recip_rank, iprec_at_recall, 11pt_avg.

use super::ranked::{NOT_IN_POOL, Ranked, UNJUDGED};
use super::{LEAST, Version};

/// Σ over relevant of the precision at their ranks.
fn precisions(r: &Ranked) -> f64 {
    let (mut found, mut sum) = (0, 0.0);
    for (i, v) in r.values.iter().enumerate() {
        if r.is_relevant(*v) {
            found += 1;
            sum += f64::from(found) / (i + 1) as f64;
        }
    }
    sum
}

/// Average precision.
pub(super) fn map(r: &Ranked) -> f64 {
    if r.num_rel_ret > 0 { precisions(r) / r.num_rel as f64 } else { 0.0 }
}

/// Its logarithm, for the geometric mean.
pub(super) fn log_map(r: &Ranked) -> f64 {
    map(r).max(LEAST).ln()
}

/// Yet another average precision (Robertson 2012).
pub(super) fn yaap(r: &Ranked) -> f64 {
    let sum = precisions(r);
    ((1.0 + sum) / (1.0 + r.num_rel as f64 - sum)).ln()
}

/// Mean over relevant of 1 / log₂(2 + irrelevant above).
pub(super) fn binary_gain(r: &Ranked) -> f64 {
    let (mut found, mut sum) = (0i64, 0.0);
    for (i, v) in r.values.iter().enumerate() {
        if r.is_relevant(*v) {
            found += 1;
            sum += 1.0 / ((3 + i as i64 - found) as f64).log2();
        }
    }
    if found > 0 { sum / r.num_rel as f64 } else { 0.0 }
}

/// Reciprocal of the first relevant passage's rank.
pub(super) fn reciprocal_rank(r: &Ranked) -> f64 {
    r.values.iter().position(|v| r.is_relevant(*v)).map_or(0.0, |i| 1.0 / (i + 1) as f64)
}

/// Binary preference.
pub(super) fn bpref(r: &Ranked) -> f64 {
    let pool: i64 = r.levels.iter().filter(|(l, _)| *l < r.level).map(|(_, n)| n).sum();
    let (mut above, mut sum) = (0i64, 0.0);
    for v in r.values.iter().filter(|v| **v != NOT_IN_POOL && **v != UNJUDGED) {
        if !r.is_relevant(*v) {
            above += 1;
        } else if above > 0 {
            sum += 1.0 - above.min(r.num_rel) as f64 / pool.min(r.num_rel) as f64;
        } else {
            sum += 1.0;
        }
    }
    if r.num_rel > 0 { sum / r.num_rel as f64 } else { sum }
}

/// Its logarithm, for the geometric mean.
pub(super) fn log_bpref(r: &Ranked) -> f64 {
    bpref(r).max(LEAST).ln()
}

/// Inferred average precision (Yilmaz and Aslam 2006).
pub(super) fn inferred(r: &Ranked) -> f64 {
    const EPSILON: f64 = 0.00001;
    let (mut relevant, mut irrelevant, mut unjudged, mut sum) = (0i64, 0i64, 0i64, 0.0);
    for (i, v) in r.values.iter().enumerate() {
        match *v {
            NOT_IN_POOL => {}
            UNJUDGED => unjudged += 1,
            v if !r.is_relevant(v) => irrelevant += 1,
            _ if i == 0 => {
                relevant += 1;
                sum += 1.0;
            }
            _ => {
                let above = i as f64;
                let pool = (relevant + irrelevant + unjudged) as f64 / above;
                let rate = (relevant as f64 + EPSILON) / ((relevant + irrelevant) as f64 + 2.0 * EPSILON);
                sum += 1.0 / (above + 1.0) + (above / (above + 1.0)) * pool * rate;
                relevant += 1;
            }
        }
    }
    if r.num_rel > 0 { sum / r.num_rel as f64 } else { sum }
}

/// Highest precision from each of the recalls on; the recalls are looked at from the last to the first, and
/// the place of one is rounded (10) or taken with 0.9 added (9).
fn interpolated(r: &Ranked, recalls: &[f64], version: Version) -> Vec<f64> {
    let place = |recall: &f64| {
        let place = recall * r.num_rel as f64;
        match version {
            Version::V9 => (place + 0.9) as i64,
            Version::V10 => place.round() as i64,
        }
    };
    let places: Vec<i64> = recalls.iter().map(place).collect();
    let mut out = vec![0.0; recalls.len()];
    // One past the recall looked for.
    let mut next = recalls.len();
    while next > 0 && places[next - 1] > r.num_rel_ret {
        next -= 1;
    }
    let mut best = r.num_rel_ret as f64 / r.num_ret() as f64;
    let mut found = r.num_rel_ret;
    for (i, v) in r.values.iter().enumerate().rev() {
        if found <= 0 {
            break;
        }
        let precision = found as f64 / (i + 1) as f64;
        if best < precision {
            best = precision;
        }
        if r.is_relevant(*v) {
            while next > 0 && found == places[next - 1] {
                out[next - 1] = best;
                next -= 1;
            }
            found -= 1;
        }
    }
    out[..next].fill(best);
    out
}

/// Interpolated precision at recalls.
pub(super) fn precision_at_recall(r: &Ranked, recalls: &[f64], version: Version) -> Vec<f64> {
    interpolated(r, recalls, version)
}

/// Its mean over the recalls.
pub(super) fn eleven_point(r: &Ranked, recalls: &[f64], version: Version) -> f64 {
    // From the last to the first, as the terms are found.
    let sum = interpolated(r, recalls, version).iter().rev().fold(0.0, |sum, v| sum + v);
    sum / recalls.len() as f64
}
