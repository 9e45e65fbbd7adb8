//! Products of whole matrices, and functions of vectors, for losses, search and the static encoder.

use crate::Matrix;
use crate::cpu::product::{Outputs, Panels, product, product_transposed};
use crate::cpu::rows;
use crate::simd::tile::Rows;
use std::cell::RefCell;

/// Which operand of [`matmul`] is taken transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transpose {
    /// `out = a · b`
    None,
    /// `out = a · bᵀ`, as for a table of similarities.
    Right,
    /// `out = aᵀ · b`, as for the gradient of a weight.
    Left,
}

thread_local! {
    static PANELS: RefCell<Panels> = RefCell::default();
}

/// The product of two matrices, in f32.
///
/// With `threads`, rayon's threads share the rows. A value is summed in a fixed order: its bits depend neither
/// on the threads nor on the other rows and columns (but for [`Transpose::Left`], which sums over rows).
///
/// # Panics
/// When the inner sizes differ.
pub fn matmul(a: &Matrix, b: &Matrix, transpose: Transpose, threads: bool, out: &mut Matrix) {
    let (a_inner, b_inner, rows, cols) = match transpose {
        Transpose::None => (a.cols, b.rows(), a.rows(), b.cols),
        Transpose::Right => (a.cols, b.cols, a.rows(), b.rows()),
        Transpose::Left => (a.rows(), b.rows(), a.cols, b.cols),
    };
    assert_eq!(a_inner, b_inner, "inner sizes of a product differ");
    out.reset(rows, cols);
    if rows == 0 || cols == 0 || a_inner == 0 {
        return;
    }
    let mut panels = PANELS.take();
    if transpose == Transpose::Left {
        let sides = ((&a.data[..], rows), (&b.data[..], cols));
        product_transposed(sides.0, sides.1, a_inner, &mut out.data, threads, &mut panels);
    } else {
        let (row, col) = if transpose == Transpose::Right { (1, b.cols) } else { (b.cols, 1) };
        panels.pack(Rows { values: &b.data, row, col }, b_inner, cols, threads);
        let a = Rows { values: &a.data, row: a.cols, col: 1 };
        product(a, rows, &panels, Outputs::one(&mut out.data, cols), false, threads, &|_, _| {});
    }
    PANELS.set(panels);
}

/// Scalar product, summed in a fixed order.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    rows::dot(a, b)
}

/// `y += factor · x`
pub fn axpy(factor: f32, x: &[f32], y: &mut [f32]) {
    rows::add_scaled(y, x, factor);
}

/// Below this length a vector counts as zero and stays zero when normalised, as in PyTorch.
pub const NORM_EPS: f32 = 1e-12;

/// Scales `x` to length 1 and returns its length before.
pub fn l2_normalize(x: &mut [f32]) -> f32 {
    let norm = dot(x, x).sqrt();
    let factor = 1.0 / norm.max(NORM_EPS);
    x.iter_mut().for_each(|v| *v *= factor);
    norm
}

/// Gradient of [`l2_normalize`]: from that of the unit vector `y` to that of the vector before, in place.
/// ∂L/∂x = (g − (g·y) y) / ‖x‖
pub fn l2_normalize_backward(y: &[f32], norm: f32, grad: &mut [f32]) {
    let along = dot(grad, y);
    let factor = 1.0 / norm.max(NORM_EPS);
    for (g, y) in grad.iter_mut().zip(y) {
        *g = (*g - along * y) * factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterRng;

    fn random(rows: usize, cols: usize, seed: u64) -> Matrix {
        let rng = CounterRng::new(seed);
        Matrix::new(cols, (0..rows * cols).map(|i| rng.normal(i as u64) as f32).collect())
    }

    #[test]
    fn products_equal_the_plain_ones() {
        for (m, k, n) in [(1, 3, 4), (2, 5, 1), (7, 64, 9), (33, 17, 40)] {
            let (a, b, bt, at) = (random(m, k, 1), random(k, n, 2), random(n, k, 3), random(k, m, 4));
            let mut out = Matrix::default();
            let want = |i: usize, j: usize, t: Transpose| -> f64 {
                let a_at = |i, l| f64::from(if t == Transpose::Left { at.row(l)[i] } else { a.row(i)[l] });
                let b_at = |l, j| f64::from(if t == Transpose::Right { bt.row(j)[l] } else { b.row(l)[j] });
                (0..k).map(|l| a_at(i, l) * b_at(l, j)).sum()
            };
            for t in [Transpose::None, Transpose::Right, Transpose::Left] {
                let left = if t == Transpose::Left { &at } else { &a };
                let right = if t == Transpose::Right { &bt } else { &b };
                matmul(left, right, t, false, &mut out);
                for i in 0..m {
                    for j in 0..n {
                        let (got, want) = (f64::from(out.row(i)[j]), want(i, j, t));
                        assert!((got - want).abs() < 1e-4, "{t:?} {m}×{k}×{n} at {i},{j}: {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_with_threads() {
        let (a, b) = (random(50, 96, 1), random(300, 96, 2));
        let (mut all, mut threaded, mut one) = (Matrix::default(), Matrix::default(), Matrix::default());
        matmul(&a, &b, Transpose::Right, false, &mut all);
        matmul(&a, &b, Transpose::Right, true, &mut threaded);
        assert_eq!(all, threaded);
        let block = |m: &Matrix, from: usize, to: usize| Matrix::new(96, m.data[from * 96..to * 96].to_vec());
        for (top, bottom) in [(0, 1), (17, 18), (0, 2), (3, 8), (0, 50), (49, 50)] {
            for (left, right) in [(0, 1), (0, 2), (7, 12), (0, 16), (100, 299), (299, 300), (0, 300)] {
                matmul(&block(&a, top, bottom), &block(&b, left, right), Transpose::Right, false, &mut one);
                for i in top..bottom {
                    let want = &all.row(i)[left..right];
                    assert_eq!(one.row(i - top), want, "rows {top}..{bottom}, columns {left}..{right}");
                }
            }
        }
    }

    #[test]
    fn normalisation_and_its_gradient() {
        let x: Vec<f32> = random(1, 11, 5).data;
        let g: Vec<f32> = random(1, 11, 6).data;
        let mut y = x.clone();
        let norm = l2_normalize(&mut y);
        assert!((dot(&y, &y) - 1.0).abs() < 1e-6);
        let mut grad = g.clone();
        l2_normalize_backward(&y, norm, &mut grad);
        let loss = |x: &[f64]| {
            let n = x.iter().map(|v| v * v).sum::<f64>().sqrt();
            x.iter().zip(&g).map(|(v, g)| v / n * f64::from(*g)).sum::<f64>()
        };
        for i in 0..x.len() {
            let mut hi: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
            let mut lo = hi.clone();
            hi[i] += 1e-5;
            lo[i] -= 1e-5;
            let want = (loss(&hi) - loss(&lo)) / 2e-5;
            assert!((f64::from(grad[i]) - want).abs() < 1e-5, "{i}: {} {want}", grad[i]);
        }
        let mut zero = [0.0f32; 4];
        assert_eq!(l2_normalize(&mut zero), 0.0);
        assert_eq!(zero, [0.0; 4]);
    }
}
