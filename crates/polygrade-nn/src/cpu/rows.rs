//! Kernels over rows: layer norm, softmax, activations, sums of columns.

use super::math::{self, Activation};
use crate::simd::vectorized;

/// Lanes of a sum: it is split over so many partial sums, whatever the CPU, so that its bits are the same.
const LANES: usize = 16;

/// Σ f(aᵢ, bᵢ) in a fixed order.
#[inline(always)]
pub(crate) fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], x[i], y[i]);
        }
    }
    for (i, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] = f(lanes[i], *x, *y);
    }
    fold(lanes, |a, b| a + b)
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn highest(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = a.as_chunks::<LANES>();
    for x in blocks {
        for i in 0..LANES {
            lanes[i] = lanes[i].max(x[i]);
        }
    }
    for (i, x) in rest.iter().enumerate() {
        lanes[i] = lanes[i].max(*x);
    }
    fold(lanes, f32::max)
}

vectorized! {
    /// Scalar product.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum(a, b, |s, x, y| x.mul_add(y, s))
    }
}

vectorized! {
    /// Adds `x` to `y`.
    pub(crate) fn add(y: &mut [f32], x: &[f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
}

vectorized! {
    /// Adds the row `bias` to every row.
    pub(crate) fn add_bias(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(r, b)| *r += b);
        }
    }
}

vectorized! {
    /// Adds a bias (empty: none) and applies an activation: `pre` keeps the sum, `out` gets the value.
    pub(crate) fn activate(pre: &mut [f32], bias: &[f32], kind: Activation, out: &mut [f32]) {
        if !bias.is_empty() {
            add_bias(pre, bias);
        }
        macro_rules! each {
            ($($kind:ident),*) => {
                match kind {
                    $(Activation::$kind => {
                        out.iter_mut().zip(&*pre).for_each(|(o, x)| *o = Activation::$kind.at(*x).0);
                    })*
                }
            };
        }
        each!(Gelu, GeluTanh, Relu, Silu, Sigmoid, Tanh, Identity);
    }
}

vectorized! {
    /// Backward of [`activate`]: `grad` becomes ∂L/∂pre, `pre` becomes the activation's value.
    pub(crate) fn activate_backward(pre: &mut [f32], kind: Activation, grad: &mut [f32]) {
        macro_rules! each {
            ($($kind:ident),*) => {
                match kind {
                    $(Activation::$kind => for (g, x) in grad.iter_mut().zip(pre.iter_mut()) {
                        let (value, slope) = Activation::$kind.at(*x);
                        *g *= slope;
                        *x = value;
                    })*
                }
            };
        }
        each!(Gelu, GeluTanh, Relu, Silu, Sigmoid, Tanh, Identity);
    }
}

vectorized! {
    /// The gated activation (GeGLU, SwiGLU; Shazeer 2020): `pre` is rows × [input | gate], and
    /// `out = f(input) · gate`.
    pub(crate) fn gate(pre: &[f32], width: usize, kind: Activation, out: &mut [f32]) {
        for (pre, out) in pre.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (input, gate) = pre.split_at(width);
            for ((o, x), g) in out.iter_mut().zip(input).zip(gate) {
                *o = kind.at(*x).0 * g;
            }
        }
    }
}

vectorized! {
    /// Backward of [`gate`]: `pre` becomes ∂L/∂pre, `grad` (∂L/∂out) becomes the value that [`gate`] gave.
    pub(crate) fn gate_backward(pre: &mut [f32], width: usize, kind: Activation, grad: &mut [f32]) {
        for (pre, grad) in pre.chunks_exact_mut(2 * width).zip(grad.chunks_exact_mut(width)) {
            let (input, gate) = pre.split_at_mut(width);
            for ((x, g), d) in input.iter_mut().zip(gate).zip(grad) {
                let (value, slope) = kind.at(*x);
                let (dx, dg) = (*d * *g * slope, *d * value);
                *d = value * *g;
                (*x, *g) = (dx, dg);
            }
        }
    }
}

vectorized! {
    /// Layer norm of each row: `x` becomes (x − mean) / √(variance + eps), `out = x · gamma + beta` (an empty beta
    /// is none), `scale` gets 1 / √(variance + eps) of each row.
    pub(crate) fn layer_norm(
        x: &mut [f32],
        gamma: &[f32],
        beta: &[f32],
        eps: f32,
        scale: &mut [f32],
        out: &mut [f32],
    ) {
        let width = gamma.len();
        let share = 1.0 / width as f32;
        for ((row, out), scale) in
            x.chunks_exact_mut(width).zip(out.chunks_exact_mut(width)).zip(scale)
        {
            let mean = sum(row, row, |s, x, _| s + x) * share;
            row.iter_mut().for_each(|x| *x -= mean);
            let variance = sum(row, row, |s, x, _| x.mul_add(x, s)) * share;
            let factor = 1.0 / (variance + eps).sqrt();
            *scale = factor;
            row.iter_mut().for_each(|x| *x *= factor);
            affine(row, gamma, beta, out);
        }
    }
}

#[inline(always)]
fn affine(row: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
    if beta.is_empty() {
        out.iter_mut().zip(row).zip(gamma).for_each(|((o, x), g)| *o = x * g);
    } else {
        for (((o, x), g), b) in out.iter_mut().zip(row).zip(gamma).zip(beta) {
            *o = x.mul_add(*g, *b);
        }
    }
}

vectorized! {
    /// The last stage of [`layer_norm`] again, from its normalised rows.
    pub(crate) fn scale_shift(x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
        let width = gamma.len();
        for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            affine(row, gamma, beta, out);
        }
    }
}

vectorized! {
    /// Backward of [`layer_norm`] for the rows of one block: `grad` (∂L/∂out) becomes ∂L/∂x, or is added to with
    /// `skip` (the gradient that went past the norm); the sums for gamma and beta are added to `sums`
    /// ([gamma | beta], beta's part perhaps empty).
    pub(crate) fn layer_norm_backward(
        normal: &[f32],
        scale: &[f32],
        gamma: &[f32],
        grad: &mut [f32],
        skip: &[f32],
        sums: &mut [f32],
    ) {
        let width = gamma.len();
        let share = 1.0 / width as f32;
        let (gamma_sums, beta_sums) = sums.split_at_mut(width);
        for (i, ((g, x), scale)) in
            grad.chunks_exact_mut(width).zip(normal.chunks_exact(width)).zip(scale).enumerate()
        {
            for ((s, g), x) in gamma_sums.iter_mut().zip(&*g).zip(x) {
                *s = g.mul_add(*x, *s);
            }
            beta_sums.iter_mut().zip(&*g).for_each(|(s, g)| *s += g);
            g.iter_mut().zip(gamma).for_each(|(g, w)| *g *= w);
            let mean = sum(g, g, |s, g, _| s + g) * share;
            let along = sum(g, x, |s, g, x| g.mul_add(x, s)) * share;
            for (g, x) in g.iter_mut().zip(x) {
                *g = (*g - mean - x * along) * *scale;
            }
            if !skip.is_empty() {
                g.iter_mut().zip(&skip[i * width..(i + 1) * width]).for_each(|(g, s)| *g += s);
            }
        }
    }
}

vectorized! {
    /// Adds the rows' column sums to `sums`.
    pub(crate) fn column_sums(rows: &[f32], sums: &mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            sums.iter_mut().zip(row).for_each(|(s, r)| *s += r);
        }
    }
}

vectorized! {
    /// Softmax of `scale · row` without its division: the row becomes exp(scale · (x − highest)); gives the sum
    /// and the logarithm of the whole sum Σ exp(scale · x).
    pub(crate) fn softmax(row: &mut [f32], scale: f32) -> (f32, f32) {
        let top = highest(row);
        let shift = -top * scale;
        row.iter_mut().for_each(|x| *x = math::exp(x.mul_add(scale, shift)));
        let total = sum(row, row, |s, x, _| s + x);
        (total, total.ln() - shift)
    }
}

vectorized! {
    /// Softmax again, from the logarithm of the sum that [`softmax`] gave.
    pub(crate) fn softmax_again(row: &mut [f32], scale: f32, log_sum: f32) {
        row.iter_mut().for_each(|x| *x = math::exp(x.mul_add(scale, -log_sum)));
    }
}

vectorized! {
    /// `grad` (∂L/∂probabilities) becomes ∂L/∂scores: `p · (grad − mean) · scale`.
    pub(crate) fn softmax_backward(p: &[f32], grad: &mut [f32], mean: f32, scale: f32) {
        grad.iter_mut().zip(p).for_each(|(g, p)| *g = p * (*g - mean) * scale);
    }
}

vectorized! {
    /// `out = factor · x`
    pub(crate) fn scaled(x: &[f32], factor: f32, out: &mut [f32]) {
        out.iter_mut().zip(x).for_each(|(o, x)| *o = x * factor);
    }
}

vectorized! {
    /// Drops values: keeps `x / (1 − p)` with probability 1 − p, else 0. Whether value `i` of the row is kept is a
    /// function of `key` and `from + i` alone; `threshold` is p · 2³², `factor` is 1 / (1 − p).
    pub(crate) fn drop(row: &mut [f32], key: u32, from: u32, threshold: u32, factor: f32) {
        for (i, x) in row.iter_mut().enumerate() {
            let bits = scramble(from.wrapping_add(i as u32).wrapping_mul(0x9e37_79b9) ^ key);
            *x = if bits >= threshold { *x * factor } else { 0.0 };
        }
    }
}

/// A 32-bit mixer (Wellons' `lowbias32`).
#[inline(always)]
pub(crate) fn scramble(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

vectorized! {
    /// Rotates the pairs (aᵢ, bᵢ) by the angles given as cosines and sines; `sign` −1 turns back.
    pub(crate) fn rotate(a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            let (x, y, sin) = (*a, *b, sin * sign);
            *a = x.mul_add(*cos, -(y * sin));
            *b = y.mul_add(*cos, x * sin);
        }
    }
}

vectorized! {
    /// `y += factor · x`
    pub(crate) fn add_scaled(y: &mut [f32], x: &[f32], factor: f32) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x.mul_add(factor, *y));
    }
}

vectorized! {
    /// `y += share · (x − y)`
    pub(crate) fn mix(y: &mut [f32], x: &[f32], share: f32) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - *y).mul_add(share, *y));
    }
}
