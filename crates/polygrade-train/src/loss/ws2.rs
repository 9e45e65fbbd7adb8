//! WS2 (SyCL, arXiv 2503.23239): the 2-Wasserstein distance, squared, of two Gaussians, one fitted to the rows
//! softmax(s / T) of the batch and one to the rows softmax(y / T_y) of its aims:
//!
//! |μ_X − μ_Y|² + tr(Σ_X) + tr(Σ_Y) − 2 tr((Σ_X Σ_Y)^½).
//!
//! Σ is candidates × candidates, but with X̃ = (X − μ_X)/√(b−1) of b rows, tr((Σ_X Σ_Y)^½) is the sum of the singular
//! values of A = X̃ Ỹᵀ, b × b (arXiv 2009.14075). The source adds ε = 1e-15 to their squares so that roots have
//! gradients; so Σ √(σ² + ε) here, whose gradient ∂/∂A is U diag(σ/√(σ² + ε)) Vᵀ.

use super::math::softmax;
use super::{Scored, Value};
use polygrade_nn::Matrix;

const EPS: f64 = 1e-15;

/// Buffers of [`ws2`].
#[derive(Default)]
pub(crate) struct Buffers {
    places: Vec<usize>,
    values: Vec<f64>,
    /// Softmax rows of scores and aims, then centred; rows × candidates.
    given: Vec<f64>,
    wanted: Vec<f64>,
    /// The softmax of the scores as it was.
    shares: Vec<f64>,
    svd: Svd,
}

pub(crate) fn ws2(
    scored: &Scored,
    target_temperature: f32,
    grad: &mut Matrix,
    buffers: &mut Buffers,
) -> Value {
    let cols = scored.scores.cols;
    grad.reset(scored.scores.rows(), cols);
    let rows = scored.rows().filter(|(_, n)| *n > 0).count();
    if rows == 0 {
        return Value::default();
    }
    let Buffers { places, values, given, wanted, shares, svd } = buffers;
    for table in [&mut *given, &mut *wanted] {
        table.clear();
        table.resize(rows * cols, 0.0);
    }
    for (row, (i, _)) in scored.rows().filter(|(_, n)| *n > 0).enumerate() {
        scored.candidates(i, places);
        let mut fill = |table: &mut [f64], of: &dyn Fn(usize) -> f64| {
            values.clear();
            values.extend(places.iter().map(|j| of(*j)));
            softmax(values);
            places.iter().zip(values.iter()).for_each(|(j, v)| table[row * cols + j] = *v);
        };
        let temperature = f64::from(scored.temperatures[i]);
        fill(given, &|j| f64::from(scored.scores.row(i)[j]) / temperature);
        fill(wanted, &|j| scored.aim(i, j) / f64::from(target_temperature));
    }
    shares.clear();
    shares.extend_from_slice(given);
    // From here on `values` is μ_X − μ_Y.
    values.clear();
    values.resize(cols, 0.0);
    centre(given, cols, |j, mean| values[j] += mean);
    centre(wanted, cols, |j, mean| values[j] -= mean);
    let fact = if rows < 2 { 1.0 } else { 1.0 / (rows - 1) as f64 };
    let squares = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    svd.reset(rows);
    for (i, x) in given.chunks(cols).enumerate() {
        for (j, y) in wanted.chunks(cols).enumerate() {
            // A's columns one after the other.
            svd.columns[j * rows + i] = fact * dot(x, y);
        }
    }
    let spread = fact * (squares(given) + squares(wanted));
    let roots = svd.smoothed();
    let loss = squares(values) + spread - 2.0 * roots;

    // ∂L/∂X = 2(μ_X − μ_Y)/b + 2/(b−1) (X̃ − W Ỹ), the second part less its mean over rows; then back through softmax.
    for (i, x) in given.chunks_mut(cols).enumerate() {
        for (j, y) in wanted.chunks(cols).enumerate() {
            let w = svd.gradient[i * rows + j];
            x.iter_mut().zip(y).for_each(|(x, y)| *x -= w * y);
        }
    }
    centre(given, cols, |_, _| {});
    for (row, (i, _)) in scored.rows().filter(|(_, n)| *n > 0).enumerate() {
        let (slopes, shares) = (&mut given[row * cols..][..cols], &shares[row * cols..][..cols]);
        slopes.iter_mut().zip(values.iter()).for_each(|(g, m)| *g = 2.0 * m / rows as f64 + 2.0 * fact * *g);
        let along = dot(slopes, shares);
        let temperature = f64::from(scored.temperatures[i]);
        for ((out, g), p) in grad.row_mut(i).iter_mut().zip(slopes.iter()).zip(shares) {
            *out = (p * (g - along) / temperature) as f32;
        }
    }
    Value { loss, terms: rows }
}

/// Takes the mean of its column from each value.
fn centre(table: &mut [f64], cols: usize, mut see: impl FnMut(usize, f64)) {
    let rows = (table.len() / cols) as f64;
    for j in 0..cols {
        let mean = table.iter().skip(j).step_by(cols).sum::<f64>() / rows;
        table.iter_mut().skip(j).step_by(cols).for_each(|x| *x -= mean);
        see(j, mean);
    }
}

/// A square matrix's singular values, by one-sided Jacobi rotations (Hestenes 1958), which are exact to the last bits
/// also for small ones.
#[derive(Default)]
struct Svd {
    n: usize,
    /// The matrix, column by column; afterwards σ_k u_k.
    columns: Vec<f64>,
    /// v_k, one after the other.
    right: Vec<f64>,
    /// Σ_k σ_k/√(σ_k² + ε) u_k v_kᵀ, row by row.
    gradient: Vec<f64>,
}

impl Svd {
    fn reset(&mut self, n: usize) {
        self.n = n;
        for table in [&mut self.columns, &mut self.right, &mut self.gradient] {
            table.clear();
            table.resize(n * n, 0.0);
        }
        (0..n).for_each(|k| self.right[k * n + k] = 1.0);
    }

    /// Σ √(σ² + ε); fills `gradient`.
    fn smoothed(&mut self) -> f64 {
        let n = self.n;
        // Columns below this length are nothing but rounding, and no rotation ends them.
        let floor = 1e-28 * self.columns.iter().map(|x| x * x).sum::<f64>();
        for _ in 0..60 {
            let mut turned = false;
            for p in 0..n {
                for q in p + 1..n {
                    turned |= self.rotate(p, q, floor);
                }
            }
            if !turned {
                break;
            }
        }
        let mut sum = 0.0;
        for k in 0..n {
            let (left, right) = (&self.columns[k * n..][..n], &self.right[k * n..][..n]);
            let root = (left.iter().map(|x| x * x).sum::<f64>() + EPS).sqrt();
            sum += root;
            for (row, l) in self.gradient.chunks_mut(n).zip(left) {
                row.iter_mut().zip(right).for_each(|(g, r)| *g += l * r / root);
            }
        }
        sum
    }

    /// Makes columns `p` < `q` orthogonal; false where they are.
    fn rotate(&mut self, p: usize, q: usize, floor: f64) -> bool {
        let n = self.n;
        let (head, tail) = self.columns.split_at_mut(q * n);
        let (a, b) = (&mut head[p * n..][..n], &mut tail[..n]);
        let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
        for (x, y) in a.iter().zip(b.iter()) {
            aa += x * x;
            bb += y * y;
            ab += x * y;
        }
        if aa <= floor || bb <= floor || ab.abs() <= 1e-15 * (aa * bb).sqrt() {
            return false;
        }
        let zeta = (bb - aa) / (2.0 * ab);
        let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
        let c = 1.0 / (1.0 + t * t).sqrt();
        let turn = |a: &mut [f64], b: &mut [f64]| {
            for (x, y) in a.iter_mut().zip(b) {
                (*x, *y) = (c * (*x - t * *y), c * (*y + t * *x));
            }
        };
        turn(a, b);
        let (head, tail) = self.right.split_at_mut(q * n);
        turn(&mut head[p * n..][..n], &mut tail[..n]);
        true
    }
}
