//! Losses of single pairs, which learn a scale and what it is held against.
//!
//! Both look at a·s, with a = e^δ / T and δ learnt from 0 on, and are sums over a query's candidates, averaged over
//! the queries, as SigLIP normalises its own (Zhai et al. 2023, arXiv 2303.15343): a mean over all pairs would shrink
//! with each negative that is added.
//!
//! **BiXSE** (Tsirigotis et al. 2025, arXiv 2508.06781): binary cross-entropy of σ(a·s + b) against the aim y,
//! softplus(x) − y·x with x = a·s + b; b is learnt.
//!
//! **Ordinal** (proportional odds, McCullagh 1980): P(g ≥ k) = σ(a·s − θ_k) with θ_1 < θ_2 < … < θ_K learnt, as θ_1 and
//! the logarithms of the gaps. The loss is −ln P(g) = −ln (σ(a·s − θ_g) − σ(a·s − θ_{g+1})), θ_0 = −∞, θ_{K+1} = ∞. A
//! grade between two levels counts for both, by its distance.

use super::math::{sigmoid, softplus};
use super::parameters::Parameters;
use super::{Scored, Value};
use polygrade_nn::Matrix;

/// BiXSE's own numbers: δ and b.
pub(crate) fn bixse_parameters(bias: f32) -> Parameters {
    Parameters::new(vec![0.0, bias])
}

/// The ordinal loss's own numbers: δ, θ_1, and the logarithms of the gaps above it. The cut points start 2 apart
/// around −`bias`.
pub(crate) fn ordinal_parameters(bias: f32, levels: usize) -> Parameters {
    let mut values = vec![0.0, -bias - (levels as f32 - 1.0)];
    values.resize(levels + 1, std::f32::consts::LN_2);
    Parameters::new(values)
}

/// Runs `pair` on each pair that takes part: x = a·s and y give the loss and ∂/∂x. The gradient of δ and `share` of all
/// are seen to here.
fn each_pair(
    scored: &Scored,
    share: f32,
    parameters: &mut Parameters,
    grad: &mut Matrix,
    mut pair: impl FnMut(&Parameters, f64, f64, &mut [f64]) -> (f64, f64),
) -> Value {
    let Scored { scores, aims, temperatures } = *scored;
    grad.reset(scores.rows(), scores.cols);
    let rows = scored.rows().filter(|(_, n)| *n > 0).count();
    let (mut loss, mut delta, mut terms) = (0.0, 0.0, 0);
    let mut own = vec![0.0; parameters.grads.len()];
    for i in 0..scores.rows() {
        let scale = parameters.get(0).exp() / f64::from(temperatures[i]);
        let aims = &aims[i * scores.cols..(i + 1) * scores.cols];
        for ((s, y), g) in scores.row(i).iter().zip(aims).zip(grad.row_mut(i)) {
            if !y.is_nan() {
                let x = scale * f64::from(*s);
                let (value, slope) = pair(parameters, x, *y, &mut own);
                loss += value;
                delta += slope * x;
                *g = (slope * scale / rows as f64) as f32;
                terms += 1;
            }
        }
    }
    own[0] = delta;
    let factor = f64::from(share) / rows.max(1) as f64;
    parameters.grads.iter_mut().zip(&own).for_each(|(g, o)| *g += o * factor);
    Value { loss: loss / rows.max(1) as f64, terms }
}

pub(crate) fn bixse(scored: &Scored, share: f32, parameters: &mut Parameters, grad: &mut Matrix) -> Value {
    each_pair(scored, share, parameters, grad, |parameters, x, y, own| {
        let x = x + parameters.get(1);
        let slope = sigmoid(x) - y;
        own[1] += slope;
        (softplus(x) - y * x, slope)
    })
}

/// Grades above the highest cut point, the whole part of `max_grade`, count as it.
pub(crate) fn ordinal(
    scored: &Scored,
    max_grade: f32,
    share: f32,
    parameters: &mut Parameters,
    grad: &mut Matrix,
) -> Value {
    let levels = parameters.grads.len() - 1;
    let gaps: Vec<f64> = (2..=levels).map(|k| parameters.get(k).exp().max(1e-9)).collect();
    let mut cuts = vec![parameters.get(1)];
    gaps.iter().for_each(|gap| cuts.push(cuts[cuts.len() - 1] + gap));
    // ∂/∂θ_k; the chain to θ_1 and the gaps comes last.
    let mut by_cut = vec![0.0; levels];
    let value = each_pair(scored, share, parameters, grad, |_, x, y, own| {
        let place = (y * f64::from(max_grade)).min(levels as f64);
        let low = (place.floor() as usize).min(levels);
        let (mut loss, mut slope) = (0.0, 0.0);
        for (level, weight) in [(low, 1.0 - (place - low as f64)), (low + 1, place - low as f64)] {
            if weight <= 0.0 {
                continue;
            }
            // σ(u) − σ(v) = σ(u) σ(−v) (1 − e^(v−u)), so that nothing cancels.
            if level > 0 {
                let u = x - cuts[level - 1];
                loss += weight * softplus(-u);
                slope -= weight * sigmoid(-u);
                by_cut[level - 1] += weight * sigmoid(-u);
            }
            if level < levels {
                let v = x - cuts[level];
                loss += weight * softplus(v);
                slope += weight * sigmoid(v);
                by_cut[level] -= weight * sigmoid(v);
            }
            if 0 < level && level < levels {
                let gap = gaps[level - 1];
                loss -= weight * (-(-gap).exp_m1()).ln();
                own[level + 1] -= weight * gap / gap.exp_m1();
            }
        }
        (loss, slope)
    });
    let rows = scored.rows().filter(|(_, n)| *n > 0).count().max(1);
    let factor = f64::from(share) / rows as f64;
    // θ_k = θ_1 + the gaps below it.
    let mut above = 0.0;
    for k in (0..levels).rev() {
        above += by_cut[k];
        parameters.grads[k + 1] += factor * above * if k > 0 { gaps[k - 1] } else { 1.0 };
    }
    value
}
