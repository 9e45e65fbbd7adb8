//! √JSD + InfoNCE (Hong et al., arXiv 2604.05684) on triples of a pivot-language query, a passage for it and that
//! passage's translation:
//!
//! L = mean √(JSD(P, Q) + ε) + mean −log exp(s(d_tgt,q)/T) / Σ_{q'} exp(s(d_tgt,q')/T),
//!
//! P = softmax(c·z(d)) and Q = softmax(c·z(d_tgt)) over the dimensions of the vectors z, with
//! JSD(P, Q) = ½KL(P‖M) + ½KL(Q‖M), M = (P + Q)/2. In the second term the translation is the anchor, the query the
//! positive and the batch's other pivot-language queries the negatives, but for those that the passage answers too.
//!
//! The paper prints ε outside of the root, where the gradient at equal texts would be infinite; it is inside here.
//! Neither ε, nor T, nor whether z has unit length is known. Our vectors have: with c = 1 their softmax over n
//! dimensions is flat (JSD ≈ c²(1 − cos)/4n), so that c is √n unless set, which gives each dimension a mean square of
//! 1, as a layer norm does.

use crate::loss::Role;
use crate::loss::info_nce::of_roles;
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};

/// Settings of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jsd {
    /// Weight of the first term.
    pub weight: f32,
    /// Weight of the second.
    pub nce: f32,
    /// c: vectors are multiplied with it before the softmax. `None`: the root of their width.
    pub scale: Option<f32>,
    /// ε. The default's root is .001, the distance of two texts of cosine .999995 at the default scale: it takes no
    /// part before texts are as good as equal, and keeps the gradient finite where they are.
    pub eps: f32,
    /// T of the second term.
    pub temperature: f32,
}

impl Default for Jsd {
    /// Both terms off; equal weights are the paper's, T is CLEAR's.
    fn default() -> Self {
        Jsd { weight: 0.0, nce: 0.0, scale: None, eps: 1e-6, temperature: 0.05 }
    }
}

impl Jsd {
    /// The mean of √(JSD + ε) over the rows of `pivots` and `targets`, which are translations. Its gradient, times
    /// `share`, is added to `grads`.
    pub fn root(
        &self,
        pivots: &Matrix,
        targets: &Matrix,
        share: f32,
        (grad_pivots, grad_targets): (&mut Matrix, &mut Matrix),
    ) -> f64 {
        let (rows, cols) = (pivots.rows(), pivots.cols);
        let scale = f64::from(self.scale.unwrap_or((cols as f32).sqrt()));
        let share = f64::from(share) / rows.max(1) as f64;
        let (mut p, mut q) = (vec![0.0; cols], vec![0.0; cols]);
        let mut sum = 0.0;
        for i in 0..rows {
            log_softmax(pivots.row(i), scale, &mut p);
            log_softmax(targets.row(i), scale, &mut q);
            let (mut jsd, mut mean_p, mut mean_q) = (0.0, 0.0, 0.0);
            for (p, q) in p.iter().zip(&q) {
                let m = log_mean(*p, *q);
                let (a, b) = (p.exp() * (p - m), q.exp() * (q - m));
                jsd += 0.5 * (a + b);
                (mean_p, mean_q) = (mean_p + a, mean_q + b);
            }
            // Rounding can leave it a hair below 0.
            let root = (jsd.max(0.0) + f64::from(self.eps)).sqrt();
            sum += root;
            // ∂JSD/∂P = ½ log(P/M), through the softmax's P ∘ (g − ⟨P, g⟩).
            let factor = share * scale * 0.25 / root;
            let (gp, gq) = (grad_pivots.row_mut(i), grad_targets.row_mut(i));
            for (j, (p, q)) in p.iter().zip(&q).enumerate() {
                let m = log_mean(*p, *q);
                gp[j] += (factor * p.exp() * (p - m - mean_p)) as f32;
                gq[j] += (factor * q.exp() * (q - m - mean_q)) as f32;
            }
        }
        sum / rows.max(1) as f64
    }

    /// The second term: each row of `targets` against all of `queries`. `roles` says what each query (column) is to
    /// each anchor (row). Its gradient, times `share`, is added to `grads`.
    pub fn nce(
        &self,
        targets: &Matrix,
        queries: &Matrix,
        roles: &[Role],
        share: f32,
        (grad_targets, grad_queries): (&mut Matrix, &mut Matrix),
    ) -> f64 {
        let (mut scores, mut grad) = (Matrix::default(), Matrix::default());
        matmul(targets, queries, Transpose::Right, false, &mut scores);
        let loss = of_roles(&scores, roles, self.temperature, false, &mut grad);
        super::add_products(&mut grad, (share, false), (targets, queries), (grad_targets, grad_queries));
        loss
    }
}

/// log softmax(scale · x).
fn log_softmax(x: &[f32], scale: f64, out: &mut [f64]) {
    let highest = x.iter().map(|x| f64::from(*x) * scale).fold(f64::NEG_INFINITY, f64::max);
    out.iter_mut().zip(x).for_each(|(o, x)| *o = f64::from(*x) * scale - highest);
    let log_sum = out.iter().map(|o| o.exp()).sum::<f64>().ln();
    out.iter_mut().for_each(|o| *o -= log_sum);
}

/// log((eᵃ + eᵇ)/2).
fn log_mean(a: f64, b: f64) -> f64 {
    a.max(b) + (-(a - b).abs()).exp().ln_1p() - std::f64::consts::LN_2
}
