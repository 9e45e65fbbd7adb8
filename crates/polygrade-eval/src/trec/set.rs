//! Measures of the retrieved set, whatever its order: set_P, set_recall, set_relative_P, set_map, set_F,
//! utility.

use super::ranked::Ranked;

/// Relevant retrieved over retrieved.
pub(super) fn precision(r: &Ranked) -> f64 {
    if r.num_ret() > 0 { r.num_rel_ret as f64 / r.num_ret() as f64 } else { 0.0 }
}

/// Relevant retrieved over relevant.
pub(super) fn recall(r: &Ranked) -> f64 {
    if r.num_rel > 0 { r.num_rel_ret as f64 / r.num_rel as f64 } else { 0.0 }
}

/// Relevant retrieved over the most that a set of its size could have.
pub(super) fn relative_precision(r: &Ranked) -> f64 {
    let most = r.num_ret().min(r.num_rel);
    if most > 0 { r.num_rel_ret as f64 / most as f64 } else { 0.0 }
}

/// Precision times recall.
pub(super) fn map(r: &Ranked) -> f64 {
    let (ret, rel, both) = (r.num_ret() as f64, r.num_rel as f64, r.num_rel_ret as f64);
    if ret > 0.0 && rel > 0.0 { both * both / (ret * rel) } else { 0.0 }
}

/// (x + 1) P R / (x P + R).
pub(super) fn f(r: &Ranked, x: f64) -> f64 {
    if r.num_rel_ret == 0 {
        return 0.0;
    }
    let p = r.num_rel_ret as f64 / r.num_ret() as f64;
    let recall = r.num_rel_ret as f64 / r.num_rel as f64;
    (x + 1.0) * p * recall / (x * p + recall)
}

/// Weighted sum of relevant and irrelevant, retrieved and not, in a collection of `docs` passages.
pub(super) fn utility(r: &Ranked, weights: &[f64; 4], docs: i64) -> f64 {
    let [a, b, c, d] = weights;
    a * r.num_rel_ret as f64
        + b * (r.num_ret() - r.num_rel_ret) as f64
        + c * (r.num_rel - r.num_rel_ret) as f64
        + d * (docs + r.num_rel_ret - r.num_ret() - r.num_rel) as f64
}
