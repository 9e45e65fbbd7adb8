//! From the vectors of a text's tokens to one, and back.

use super::rows;
use crate::device::Pooling;

/// The factor of token `i` of `n`, for poolings that are weighted sums.
fn weight(pooling: Pooling, i: usize, n: usize) -> f32 {
    match pooling {
        Pooling::Cls => f32::from(u8::from(i == 0)),
        Pooling::LastToken => f32::from(u8::from(i + 1 == n)),
        Pooling::Mean => 1.0 / n as f32,
        Pooling::MeanSqrtLen => 1.0 / (n as f32).sqrt(),
        Pooling::WeightedMean => (i + 1) as f32 / (n * (n + 1) / 2) as f32,
        Pooling::Max => 0.0,
    }
}

pub(super) fn forward(x: &[f32], pooling: Pooling, out: &mut [f32]) {
    let n = x.len() / out.len();
    out.fill(0.0);
    if pooling == Pooling::Max && n > 0 {
        out.copy_from_slice(&x[..out.len()]);
        for row in x.chunks_exact(out.len()) {
            out.iter_mut().zip(row).for_each(|(o, x)| *o = o.max(*x));
        }
        return;
    }
    for (i, row) in x.chunks_exact(out.len()).enumerate() {
        let w = weight(pooling, i, n);
        if w != 0.0 {
            rows::add_scaled(out, row, w);
        }
    }
}

pub(super) fn backward(x: &[f32], grad: &[f32], pooling: Pooling, out: &mut [f32]) {
    let width = grad.len();
    let n = x.len() / width;
    if pooling == Pooling::Max {
        out.fill(0.0);
        for (j, g) in grad.iter().enumerate() {
            // The first of the highest, as PyTorch.
            let best = (0..n).reduce(|a, b| if x[b * width + j] > x[a * width + j] { b } else { a });
            if let Some(i) = best {
                out[i * width + j] = *g;
            }
        }
        return;
    }
    for (i, row) in out.chunks_exact_mut(width).enumerate() {
        rows::scaled(grad, weight(pooling, i, n), row);
    }
}
