//! InfoNCE under a label policy (van den Oord et al. 2018): for each query q and each of its positives d⁺,
//!
//! −log exp(s(q,d⁺)/T) / (exp(s(q,d⁺)/T) + Σ_{d∈N} exp(s(q,d)/T)),
//!
//! averaged over all (q, d⁺) of the batch. N holds the negatives of q and never another of its positives:
//! several positives are separate terms. What each candidate is to each query comes as a table of [`Role`]s.

use super::Role;
use polygrade_nn::Matrix;

/// Writes ∂L/∂s to `grad` and returns the loss and its number of terms. `scores` and `roles` are queries ×
/// candidates. A query without a positive adds nothing; nor does a batch without one.
pub fn info_nce(scores: &Matrix, roles: &[Role], temperature: f32, grad: &mut Matrix) -> (f64, usize) {
    debug_assert_eq!(roles.len(), scores.data.len());
    grad.reset(scores.rows(), scores.cols);
    let terms = roles.iter().filter(|r| **r == Role::Positive).count();
    if terms == 0 {
        return (0.0, 0);
    }
    let mut loss = 0.0f64;
    let scale = 1.0 / temperature;
    let share = 1.0 / terms as f32;
    for i in 0..scores.rows() {
        let (row, out) = (scores.row(i), grad.row_mut(i));
        let roles = &roles[i * row.len()..(i + 1) * row.len()];
        let of = |role: Role| roles.iter().enumerate().filter(move |(_, r)| **r == role).map(|(j, _)| j);
        // Relative to the highest negative, so that neither another positive nor a low temperature makes a sum
        // vanish or overflow.
        let highest = of(Role::Negative).map(|j| row[j]).fold(f32::NEG_INFINITY, f32::max);
        if highest == f32::NEG_INFINITY {
            continue; // Without negatives every term is −log 1.
        }
        let weight = |j: usize| ((row[j] - highest) * scale).exp();
        let negatives: f32 = of(Role::Negative).map(weight).sum();
        let log_negatives = highest * scale + negatives.ln();
        // Σ over positives of the probability that the negatives take from each.
        let mut taken = 0.0f32;
        for j in of(Role::Positive) {
            let lead = log_negatives - row[j] * scale;
            // −log σ(−lead) and σ(lead), without overflow on either side.
            loss += f64::from(lead.max(0.0) + (-lead.abs()).exp().ln_1p());
            let lost =
                if lead >= 0.0 { 1.0 / (1.0 + (-lead).exp()) } else { lead.exp() / (1.0 + lead.exp()) };
            out[j] = -lost * scale * share;
            taken += lost;
        }
        for j in of(Role::Negative) {
            out[j] = weight(j) / negatives * taken * scale * share;
        }
    }
    (loss / terms as f64, terms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Ignored as I, Negative as N, Positive as P};
    use polygrade_nn::rng::CounterRng;

    /// The formula as it stands, in f64.
    fn plain(scores: &[f64], roles: &[Role], cols: usize, t: f64) -> f64 {
        let (mut sum, mut terms) = (0.0, 0.0);
        for i in 0..scores.len() / cols {
            for j in (0..cols).filter(|j| roles[i * cols + j] == P) {
                let e = |j: usize| (scores[i * cols + j] / t).exp();
                let negatives: f64 = (0..cols).filter(|j| roles[i * cols + j] == N).map(e).sum();
                sum -= (e(j) / (e(j) + negatives)).ln();
                terms += 1.0;
            }
        }
        sum / terms
    }

    #[test]
    fn value_and_gradient_equal_the_formula() {
        let rng = CounterRng::new(2);
        let roles = [P, N, N, I, P, N, I, P, N, N, N, N, N, I, N];
        let scores: Vec<f64> = (0..15).map(|i| rng.normal(i) * 0.3).collect();
        let matrix = Matrix::new(5, scores.iter().map(|s| *s as f32).collect());
        let mut grad = Matrix::default();
        let (loss, terms) = info_nce(&matrix, &roles, 0.1, &mut grad);
        assert_eq!(terms, 3);
        assert!((loss - plain(&scores, &roles, 5, 0.1)).abs() < 1e-5);
        for i in 0..15 {
            let (mut hi, mut lo) = (scores.clone(), scores.clone());
            hi[i] += 1e-6;
            lo[i] -= 1e-6;
            let want = (plain(&hi, &roles, 5, 0.1) - plain(&lo, &roles, 5, 0.1)) / 2e-6;
            assert!((f64::from(grad.data[i]) - want).abs() < 1e-3, "{i}: {} {want}", grad.data[i]);
        }
        // The third query has no positive and gets no gradient; ignored candidates get none either.
        assert!(grad.row(2).iter().all(|g| *g == 0.0) && grad.row(0)[3] == 0.0);
    }

    #[test]
    fn positives_are_never_each_others_negatives() {
        let mut grad = Matrix::default();
        let (loss, _) = info_nce(&Matrix::new(2, vec![0.1, 0.9]), &[P, P], 0.05, &mut grad);
        assert_eq!((loss, grad.data.as_slice()), (0.0, [0.0, 0.0].as_slice()));
    }

    #[test]
    fn extreme_scores_stay_finite() {
        let mut grad = Matrix::default();
        for scores in [[1.0, -1.0], [-1.0, 1.0]] {
            let (loss, _) = info_nce(&Matrix::new(2, scores.to_vec()), &[P, N], 0.005, &mut grad);
            assert!(loss.is_finite() && grad.data.iter().all(|g| g.is_finite()), "{scores:?} {loss}");
        }
        // A far better positive must not drown the others and the negatives.
        let (loss, _) = info_nce(&Matrix::new(3, vec![0.95, 0.1, 0.1]), &[P, P, N], 0.005, &mut grad);
        assert!((loss - 2f64.ln() / 2.0).abs() < 1e-6, "{loss}");
        let want = [0.0, -50.0, 50.0];
        grad.data.iter().zip(want).for_each(|(g, w)| assert!((g - w).abs() < 1e-3, "{:?}", grad.data));
        assert_eq!(info_nce(&Matrix::new(2, vec![0.0, 1.0]), &[N, N], 0.1, &mut grad), (0.0, 0));
    }
}
