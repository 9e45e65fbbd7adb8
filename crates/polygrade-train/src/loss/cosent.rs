//! CoSENT (Huang et al. 2024, doi 10.1109/TASLP.2024.3402087): ln(1 + Σ e^{(s_i − s_j)/T}) over all pairs i, j of the
//! batch with y_i < y_j; T = 1/20 in the source. Pairs of other queries are compared too, as in sentence-transformers.
//!
//! **AnglE** (Li and Li 2023, arXiv 2309.12871) is CoSENT on another similarity: with both vectors as complex numbers,
//! x = a + ib and y = c + id (a and c the first halves), |Re Σ x/y| after scaling, which is |x·y + b·c − a·d|. That is
//! x · y′ with y′ = (c − d, d + c): see [`turn`].

use super::math::LogSumExp;
use super::{Scored, Value};
use polygrade_nn::Matrix;

/// Buffers of [`cosent`].
#[derive(Default)]
pub(crate) struct Buffers {
    /// Places in the scores, by aim.
    order: Vec<u32>,
    /// ln Σ_{y_j > y_i} e^{u_i − u_j}
    above: Vec<f64>,
}

/// With `absolute`, of the scores' absolute values.
pub(crate) fn cosent(scored: &Scored, absolute: bool, grad: &mut Matrix, buffers: &mut Buffers) -> Value {
    let Scored { scores, aims, temperatures } = *scored;
    grad.reset(scores.rows(), scores.cols);
    let Buffers { order, above } = buffers;
    order.clear();
    order.extend((0..aims.len() as u32).filter(|i| !aims[*i as usize].is_nan()));
    order.sort_unstable_by(|a, b| aims[*a as usize].total_cmp(&aims[*b as usize]).then(a.cmp(b)));
    above.clear();
    above.resize(order.len(), 0.0);
    let scale = |i: usize| 1.0 / f64::from(temperatures[i / scores.cols]);
    let scaled = |i: usize| {
        let s = f64::from(scores.data[i]);
        scale(i) * if absolute { s.abs() } else { s }
    };
    let same = |a: &u32, b: &u32| aims[*a as usize] == aims[*b as usize];

    let mut all = LogSumExp::EMPTY;
    all.add(0.0);
    let (mut higher, mut end) = (LogSumExp::EMPTY, order.len());
    for group in order.chunk_by(same).rev() {
        let start = end - group.len();
        for (i, a) in group.iter().zip(&mut above[start..end]) {
            *a = scaled(*i as usize) + higher.value();
            all.add(*a);
        }
        group.iter().for_each(|i| higher.add(-scaled(*i as usize)));
        end = start;
    }
    let loss = all.value();
    let (mut lower, mut place) = (LogSumExp::EMPTY, 0);
    for group in order.chunk_by(same) {
        for i in group {
            let i = *i as usize;
            let below = lower.value() - scaled(i);
            let slope = scale(i) * ((above[place] - loss).exp() - (below - loss).exp());
            grad.data[i] = if absolute { slope * sign(scores.data[i]) } else { slope } as f32;
            place += 1;
        }
        group.iter().for_each(|i| lower.add(scaled(*i as usize)));
    }
    let ordered = order.first().zip(order.last()).is_some_and(|(a, b)| !same(a, b));
    Value { loss, terms: if ordered { order.len() } else { 0 } }
}

/// 0 at 0, unlike `signum`.
fn sign(x: f32) -> f64 {
    if x == 0.0 { 0.0 } else { f64::from(x.signum()) }
}

/// Writes y′ of each row y: see the module. The second half of an odd number of dimensions is one shorter.
pub(crate) fn turn(vectors: &Matrix, out: &mut Matrix) {
    out.reset(vectors.rows(), vectors.cols);
    let half = vectors.cols.div_ceil(2);
    for i in 0..vectors.rows() {
        let (first, second) = vectors.row(i).split_at(half);
        let (first_out, second_out) = out.row_mut(i).split_at_mut(half);
        first_out.copy_from_slice(first);
        second_out.copy_from_slice(second);
        first_out.iter_mut().zip(second).for_each(|(o, d)| *o -= d);
        second_out.iter_mut().zip(first).for_each(|(o, c)| *o += c);
    }
}

/// From the gradient of y′ to that of y, in place.
pub(crate) fn turn_back(grad: &mut Matrix) {
    let half = grad.cols.div_ceil(2);
    for i in 0..grad.rows() {
        let (first, second) = grad.row_mut(i).split_at_mut(half);
        for (c, d) in first.iter_mut().zip(second) {
            (*c, *d) = (*c + *d, *d - *c);
        }
    }
}
