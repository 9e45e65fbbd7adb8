//! CLEAR (arXiv 2604.05821), as class `CLEARLoss` of its code computes it: for triples of a pivot-language query q, a
//! passage d for it and the query's translation q_tgt,
//!
//! L = (1 − α − β)·CE(q → passages) + α·CE(d → target-language queries) + β·KL(p_cross ‖ p_origin),
//!
//! p_origin the softmax of 20·cos(qᵢ, dⱼ), p_cross that of 20·cos(dᵢ, q_tgt,ⱼ), both over the batch, and KL a mean over
//! rows. The gradient flows through both sides of KL. Candidates beyond the rows of the batch are hard negatives: a
//! passage and a target-language query each. Pairs that are relevant though not each other's are left out of all
//! three; the paper's sampler keeps such batches from coming up.

use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};

/// Settings of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clear {
    /// Weight of the whole; 0 switches it off.
    pub weight: f32,
    /// α, the weight of the reverse cross-entropy.
    pub alpha: f32,
    /// β, the weight of KL.
    pub beta: f32,
    /// What cosines are multiplied with.
    pub scale: f32,
    /// Hard negatives that each row brings, at most.
    pub negatives: usize,
}

impl Default for Clear {
    /// Off, with the settings of the paper's code; its 5 hard negatives need negatives that are judged.
    fn default() -> Self {
        Clear { weight: 0.0, alpha: 0.4, beta: 0.2, scale: 20.0, negatives: 0 }
    }
}

/// The vectors of a batch, or the gradients for them. Rows of the candidates are those of the batch first, then hard
/// negatives.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Vectors {
    /// Pivot-language queries: one a row of the batch.
    pub queries: Matrix,
    /// Pivot-language passages: the candidates of queries; the first are the anchors of the reverse direction.
    pub passages: Matrix,
    /// Target-language queries: the candidates of passages.
    pub targets: Matrix,
}

impl Clear {
    /// The loss. `masked(i, j)` says that candidate `j` is left out for row `i`; `i == j` must not be. The gradient,
    /// times `share`, is added to `grad`.
    pub fn value(
        &self,
        v: &Vectors,
        masked: impl Fn(usize, usize) -> bool,
        share: f32,
        grad: &mut Vectors,
    ) -> f64 {
        let (rows, cols) = (v.queries.rows(), v.passages.rows());
        if rows == 0 {
            return 0.0;
        }
        let anchors =
            Matrix { cols: v.passages.cols, data: v.passages.data[..v.queries.data.len()].to_vec() };
        let (mut origin, mut cross) = (Matrix::default(), Matrix::default());
        matmul(&v.queries, &v.passages, Transpose::Right, false, &mut origin);
        matmul(&anchors, &v.targets, Transpose::Right, false, &mut cross);
        let (alpha, beta, scale) = (f64::from(self.alpha), f64::from(self.beta), f64::from(self.scale));
        let each = 1.0 / rows as f64;
        let (mut p, mut r) = (vec![0.0; cols], vec![0.0; cols]);
        let mut loss = 0.0;
        for i in 0..rows {
            let left = |j: usize| j == i || !masked(i, j);
            log_softmax(origin.row(i), scale, left, &mut p);
            log_softmax(cross.row(i), scale, left, &mut r);
            let kl: f64 = (0..cols).filter(|j| left(*j)).map(|j| r[j].exp() * (r[j] - p[j])).sum();
            loss += each * (-(1.0 - alpha - beta) * p[i] - alpha * r[i] + beta * kl);
            let (go, gc) = (origin.row_mut(i), cross.row_mut(i));
            for j in 0..cols {
                if !left(j) {
                    (go[j], gc[j]) = (0.0, 0.0);
                    continue;
                }
                let (a, b, own) = (p[j].exp(), r[j].exp(), f64::from(u8::from(i == j)));
                // ∂KL/∂origin = p_origin − p_cross; ∂KL/∂cross = p_cross ∘ (log p_cross − log p_origin − KL).
                go[j] = (each * scale * ((1.0 - alpha - beta) * (a - own) + beta * (a - b))) as f32;
                gc[j] = (each * scale * (alpha * (b - own) + beta * b * (r[j] - p[j] - kl))) as f32;
            }
        }
        super::add_products(
            &mut origin,
            (share, false),
            (&v.queries, &v.passages),
            (&mut grad.queries, &mut grad.passages),
        );
        let mut grad_anchors = Matrix::zeros(rows, anchors.cols);
        super::add_products(
            &mut cross,
            (share, false),
            (&anchors, &v.targets),
            (&mut grad_anchors, &mut grad.targets),
        );
        grad.passages.data.iter_mut().zip(&grad_anchors.data).for_each(|(g, a)| *g += a);
        loss
    }
}

/// log softmax(scale · x) over the columns that are `left`.
fn log_softmax(x: &[f32], scale: f64, left: impl Fn(usize) -> bool, out: &mut [f64]) {
    let value = |j: usize| f64::from(x[j]) * scale;
    let columns = || (0..x.len()).filter(|j| left(*j));
    let highest = columns().map(value).fold(f64::NEG_INFINITY, f64::max);
    let log_sum = highest + columns().map(|j| (value(j) - highest).exp()).sum::<f64>().ln();
    columns().for_each(|j| out[j] = value(j) - log_sum);
}
