//! Losses between two distributions over a query's candidates: p = softmax(y / T_y) of the aims, q = softmax(s / T).
//! Means over queries with two candidates or more.
//!
//! **ListNet** (Cao et al. 2007): the cross-entropy −Σ p ln q.
//!
//! **KL** (Lin et al. 2020, arXiv 2010.11386): T² Σ p ln(p/q), where the aims, a teacher's scores or grades, are first
//! brought to 0..1 by their lowest and highest (Clavié 2024, arXiv 2407.20750). T² is Hinton's (2015).

use super::math::softmax;
use super::{Scored, Value};
use polygrade_nn::Matrix;

/// Buffers of [`listwise`].
#[derive(Default)]
pub(crate) struct Buffers {
    /// Places of the candidates that take part.
    places: Vec<usize>,
    wanted: Vec<f64>,
    given: Vec<f64>,
}

/// ListNet, or with `divergence` KL.
pub(crate) fn listwise(
    scored: &Scored,
    target_temperature: f32,
    divergence: bool,
    grad: &mut Matrix,
    buffers: &mut Buffers,
) -> Value {
    let scores = scored.scores;
    grad.reset(scores.rows(), scores.cols);
    let rows = scored.rows().filter(|(_, n)| *n > 1).count();
    let Buffers { places, wanted, given } = buffers;
    let mut loss = 0.0;
    for (i, n) in scored.rows() {
        if n < 2 {
            continue;
        }
        let temperature = f64::from(scored.temperatures[i]);
        scored.candidates(i, places);
        wanted.clear();
        wanted.extend(places.iter().map(|j| scored.aim(i, *j)));
        given.clear();
        given.extend(places.iter().map(|j| f64::from(scores.row(i)[*j]) / temperature));
        if divergence {
            let low = wanted.iter().copied().fold(f64::INFINITY, f64::min);
            let range = wanted.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low;
            wanted.iter_mut().for_each(|w| *w = if range > 0.0 { (*w - low) / range } else { 0.0 });
        }
        wanted.iter_mut().for_each(|w| *w /= f64::from(target_temperature));
        softmax(wanted);
        // −Σ p ln q = ln Σ eˢ − Σ p s
        let aimed: f64 = wanted.iter().zip(given.iter()).map(|(p, s)| p * s).sum();
        let cross = softmax(given) - aimed;
        let entropy: f64 =
            if divergence { wanted.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum() } else { 0.0 };
        let factor = if divergence { temperature * temperature } else { 1.0 };
        loss += factor * (cross + entropy);
        let factor = factor / temperature / rows as f64;
        let out = grad.row_mut(i);
        for ((j, p), q) in places.iter().zip(wanted.iter()).zip(given.iter()) {
            out[*j] = (factor * (q - p)) as f32;
        }
    }
    Value { loss: loss / rows.max(1) as f64, terms: rows }
}
