//! InfoNCE under a label policy (van den Oord et al. 2018): for each query q and each of its positives d⁺,
//!
//! −log exp(s(q,d⁺)/T) / (exp(s(q,d⁺)/T) + Σ_{d∈N} exp(s(q,d)/T)),
//!
//! averaged over all (q, d⁺) of the batch. N holds the negatives of q and never another of its positives:
//! several positives are separate terms. What each candidate is to each query comes as a table of
//! [`Role`]s.
//!
//! A query's policy may weigh the terms:
//! - `soft:τ`: each by g/G, and the weighted mean in place of the mean;
//! - `all`: Σ_τ w_τ · InfoNCE_τ over the thresholds τ = 1, 2, … G, each a mean over its own terms, w on the simplex. For τ, the
//!   query's positives below it are negatives; other candidates have one role for all τ. A positive below 1, which
//!   annotators' majority made one, counts as 1. The weight of a threshold without a term is not given to others.
//!
//! In a batch with several of them, each kind of policy counts by its share of the positives.

use super::settings::thresholds;
use super::{Role, Targets, Value};
use crate::labels::Policy;
use polygrade_nn::Matrix;
use rayon::prelude::*;

/// Buffers of [`info_nce`].
#[derive(Default)]
pub(crate) struct Buffers {
    /// Of the query at hand, its roles under a threshold, and the weights of its terms.
    roles: Vec<Role>,
    weights: Vec<f32>,
}

/// Writes ∂L/∂s to `grad`; the terms are the positives. `scores` is queries × candidates; `thresholds` holds the
/// highest grade and the weights of the thresholds, none for equal ones. A query without a positive adds nothing; nor
/// does a batch without one.
pub(crate) fn info_nce(
    scores: &Matrix,
    targets: &Targets,
    (max_grade, weights): (f32, &[f32]),
    grad: &mut Matrix,
    buffers: &mut Buffers,
) -> Value {
    let (Targets { roles, grades, policies, temperatures, .. }, cols) = (*targets, scores.cols);
    debug_assert_eq!(roles.len(), scores.data.len());
    grad.reset(scores.rows(), cols);
    let terms = roles.iter().filter(|r| **r == Role::Positive).count();
    if terms == 0 {
        return Value::default();
    }
    let share = 1.0 / terms as f32;
    let mut loss = 0.0f64;
    let positives = |i: usize| {
        let row = i * cols..(i + 1) * cols;
        let grades = grades[row.clone()].iter().map(|g| if g.is_nan() { max_grade } else { g.max(0.0) });
        grades.zip(&roles[row]).filter(|(_, r)| **r == Role::Positive).map(|(g, _)| g)
    };
    let of = |policy: fn(&Policy) -> bool| (0..scores.rows()).filter(move |i| policy(&policies[*i]));

    for i in of(|p| !matches!(p, Policy::Soft(_) | Policy::AllThresholds)) {
        let row = (scores.row(i), &roles[i * cols..(i + 1) * cols]);
        loss += add_row(row, None, (1.0 / temperatures[i], share), grad.row_mut(i));
    }

    let soft = of(|p| matches!(p, Policy::Soft(_))).flat_map(positives);
    let (count, sum) = soft.fold((0, 0.0), |(n, sum), g| (n + 1, sum + g));
    for i in of(|p| matches!(p, Policy::Soft(_))).filter(|_| sum > 0.0) {
        let weights = &mut buffers.weights;
        weights.clear();
        weights.extend(positives(i).map(|g| g / sum * count as f32));
        let row = (scores.row(i), &roles[i * cols..(i + 1) * cols]);
        loss += add_row(row, Some(weights), (1.0 / temperatures[i], share), grad.row_mut(i));
    }

    let all = || of(|p| matches!(p, Policy::AllThresholds));
    let (count, n) = (all().flat_map(positives).count(), thresholds(max_grade));
    let sum: f32 = weights.iter().sum();
    for t in (1..=n).filter(|_| count > 0) {
        let threshold = t as f32;
        let own = all().flat_map(positives).filter(|g| g.max(1.0) >= threshold).count();
        let weight = weights.get(t - 1).map_or(1.0 / n as f32, |w| w / sum);
        if own == 0 || weight == 0.0 {
            continue;
        }
        for i in all() {
            buffers.roles.clear();
            buffers.roles.extend_from_slice(&roles[i * cols..(i + 1) * cols]);
            let positive = buffers.roles.iter_mut().filter(|r| **r == Role::Positive);
            positive
                .zip(positives(i))
                .filter(|(_, g)| g.max(1.0) < threshold)
                .for_each(|(r, _)| *r = Role::Negative);
            let kept = buffers.roles.iter().filter(|r| **r == Role::Positive).count();
            buffers.weights.clear();
            buffers.weights.resize(kept, weight * count as f32 / own as f32);
            let row = (scores.row(i), &buffers.roles[..]);
            let scale = 1.0 / temperatures[i];
            loss += add_row(row, Some(&buffers.weights), (scale, share), grad.row_mut(i));
        }
    }
    Value { loss: loss / terms as f64, terms }
}

/// The loss where roles are all there is: its mean over positives, and ∂L/∂s in `grad`. With `threads`, rayon's threads
/// share the rows; the result is the same.
pub(crate) fn of_roles(
    scores: &Matrix,
    roles: &[Role],
    temperature: f32,
    threads: bool,
    grad: &mut Matrix,
) -> f64 {
    grad.reset(scores.rows(), scores.cols);
    let terms = roles.iter().filter(|r| **r == Role::Positive).count();
    let share = (1.0 / temperature, 1.0 / terms.max(1) as f32);
    let cols = scores.cols;
    let row = |(i, out): (usize, &mut [f32])| {
        add_row((scores.row(i), &roles[i * cols..(i + 1) * cols]), None, share, out)
    };
    // Summed in the order of the rows, whatever the threads.
    let losses: Vec<f64> = match threads {
        true => grad.data.par_chunks_mut(cols.max(1)).enumerate().map(row).collect(),
        false => grad.data.chunks_mut(cols.max(1)).enumerate().map(row).collect(),
    };
    losses.iter().sum::<f64>() / terms.max(1) as f64
}

/// Adds a query's terms, the positives' in their order times `weights`; gives their sum, and `share` of their gradient
/// to `out`. `scale` is 1/T.
fn add_row(
    (row, roles): (&[f32], &[Role]),
    weights: Option<&[f32]>,
    (scale, share): (f32, f32),
    out: &mut [f32],
) -> f64 {
    let of = |role: Role| roles.iter().enumerate().filter(move |(_, r)| **r == role).map(|(j, _)| j);
    // Relative to the highest negative, so that neither another positive nor a low temperature makes a sum
    // vanish or overflow.
    let highest = of(Role::Negative).map(|j| row[j]).fold(f32::NEG_INFINITY, f32::max);
    if highest == f32::NEG_INFINITY {
        return 0.0; // Without negatives every term is −log 1.
    }
    let against = |j: usize| ((row[j] - highest) * scale).exp();
    let negatives: f32 = of(Role::Negative).map(against).sum();
    let log_negatives = highest * scale + negatives.ln();
    let mut loss = 0.0f64;
    // Σ over positives of the probability that the negatives take from each.
    let mut taken = 0.0f32;
    for (place, j) in of(Role::Positive).enumerate() {
        let weight = weights.map_or(1.0, |w| w[place]);
        let lead = log_negatives - row[j] * scale;
        // −log σ(−lead) and σ(lead), without overflow on either side.
        loss += f64::from(weight) * f64::from(lead.max(0.0) + (-lead.abs()).exp().ln_1p());
        let lost = if lead >= 0.0 { 1.0 / (1.0 + (-lead).exp()) } else { lead.exp() / (1.0 + lead.exp()) };
        out[j] += weight * (-lost * scale * share);
        taken += weight * lost;
    }
    for j in of(Role::Negative) {
        out[j] += against(j) / negatives * taken * scale * share;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Ignored as I, Negative as N, Positive as P};
    use polygrade_nn::rng::CounterRng;

    fn run(scores: &Matrix, roles: &[Role], temperature: f32, grad: &mut Matrix) -> (f64, usize) {
        let rows = scores.rows();
        let targets = Targets {
            roles,
            grades: &vec![f32::NAN; roles.len()],
            aims: &[],
            policies: &vec![Policy::Threshold(1.0); rows],
            temperatures: &vec![temperature; rows],
            teacher: &[],
        };
        let Value { loss, terms } = info_nce(scores, &targets, (3.0, &[]), grad, &mut Buffers::default());
        (loss, terms)
    }

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
        let (loss, terms) = run(&matrix, &roles, 0.1, &mut grad);
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
        let (loss, _) = run(&Matrix::new(2, vec![0.1, 0.9]), &[P, P], 0.05, &mut grad);
        assert_eq!((loss, grad.data.as_slice()), (0.0, [0.0, 0.0].as_slice()));
    }

    #[test]
    fn extreme_scores_stay_finite() {
        let mut grad = Matrix::default();
        for scores in [[1.0, -1.0], [-1.0, 1.0]] {
            let (loss, _) = run(&Matrix::new(2, scores.to_vec()), &[P, N], 0.005, &mut grad);
            assert!(loss.is_finite() && grad.data.iter().all(|g| g.is_finite()), "{scores:?} {loss}");
        }
        // A far better positive must not drown the others and the negatives.
        let (loss, _) = run(&Matrix::new(3, vec![0.95, 0.1, 0.1]), &[P, P, N], 0.005, &mut grad);
        assert!((loss - 2f64.ln() / 2.0).abs() < 1e-6, "{loss}");
        let want = [0.0, -50.0, 50.0];
        grad.data.iter().zip(want).for_each(|(g, w)| assert!((g - w).abs() < 1e-3, "{:?}", grad.data));
        assert_eq!(run(&Matrix::new(2, vec![0.0, 1.0]), &[N, N], 0.1, &mut grad), (0.0, 0));
    }
}
