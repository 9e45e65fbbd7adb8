//! Losses over pairs of a query's candidates.
//!
//! **RankNet** (Burges et al. 2005): mean of ln(1 + e^{−(s_i − s_j)/T}) over the pairs with y_i > y_j.
//!
//! **Lambda**: NDCG-Loss2++ (Wang et al. 2018, LambdaLoss, with μ = 10), mean over the same pairs of
//! w_ij log₂(1 + e^{−(s_i − s_j)/T}), w_ij = (μ |1/D(|i−j|) − 1/D(|i−j|+1)| + |1/D(i) − 1/D(j)|) |G_i − G_j|. i and j are
//! here the ranks by score (of equal scores the lower grade first), D(r) = log₂(1 + r), and G gains over the highest
//! DCG that the query's candidates allow. Ranks count as constants in the gradient.
//!
//! **MarginMSE** (Hofstätter et al. 2020, arXiv 2010.02666): mean of ((s_i − s_j)/T − (y_i − y_j))² over each positive i
//! and every other candidate j, each pair once.

use super::math::{sigmoid, softplus};
use super::{Gains, Role, Scored, Value};
use polygrade_nn::Matrix;
use std::f64::consts::LN_2;

/// Weight of the NDCG-Loss2 part.
const MU: f64 = 10.0;

/// Buffers of the losses here.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Places of the candidates that take part, by rank.
    places: Vec<usize>,
    scores: Vec<f64>,
    aims: Vec<f64>,
    gains: Vec<f64>,
    slopes: Vec<f64>,
    /// 1/D(r) at r − 1.
    discounts: Vec<f64>,
}

impl Buffers {
    /// Takes up a query's candidates by falling score; false where there are not two.
    fn take(&mut self, scored: &Scored, i: usize) -> bool {
        scored.candidates(i, &mut self.places);
        let row = scored.scores.row(i);
        self.places.sort_by(|a, b| {
            let by_score = row[*b].total_cmp(&row[*a]);
            by_score.then(scored.aim(i, *a).total_cmp(&scored.aim(i, *b)))
        });
        let temperature = f64::from(scored.temperatures[i]);
        self.scores.clear();
        self.scores.extend(self.places.iter().map(|j| f64::from(row[*j]) / temperature));
        self.aims.clear();
        self.aims.extend(self.places.iter().map(|j| scored.aim(i, *j)));
        self.slopes.clear();
        self.slopes.resize(self.places.len(), 0.0);
        self.places.len() > 1
    }

    fn give(&self, scored: &Scored, i: usize, grad: &mut Matrix) {
        let scale = 1.0 / f64::from(scored.temperatures[i]);
        let out = grad.row_mut(i);
        self.places.iter().zip(&self.slopes).for_each(|(j, slope)| out[*j] = (slope * scale) as f32);
    }

    /// Gains over the highest DCG, and discounts.
    fn take_gains(&mut self, gains: Gains, max_grade: f32) {
        let n = self.places.len();
        // One more than ranks: |i − j| + 1 is at most that.
        (self.discounts.len()..=n).for_each(|r| self.discounts.push(1.0 / (2.0 + r as f64).log2()));
        let gain = |y: &f64| match gains {
            Gains::Exponential => (y * f64::from(max_grade)).exp2() - 1.0,
            Gains::Linear => *y,
        };
        self.gains.clear();
        self.gains.extend(self.aims.iter().map(gain));
        self.gains.sort_unstable_by(|a, b| b.total_cmp(a));
        let best: f64 = self.gains.iter().zip(&self.discounts).map(|(g, d)| g * d).sum();
        self.gains.clear();
        self.gains.extend(self.aims.iter().map(|y| gain(y) / best.max(1e-10)));
    }
}

/// RankNet, or with gains NDCG-Loss2++.
pub(crate) fn ranking(
    scored: &Scored,
    gains: Option<(Gains, f32)>,
    grad: &mut Matrix,
    buffers: &mut Buffers,
) -> Value {
    grad.reset(scored.scores.rows(), scored.scores.cols);
    let (mut loss, mut pairs) = (0.0, 0usize);
    for i in 0..scored.scores.rows() {
        if !buffers.take(scored, i) {
            continue;
        }
        if let Some((gains, max_grade)) = gains {
            buffers.take_gains(gains, max_grade);
        }
        let Buffers { scores, aims, gains: worth, slopes, discounts, .. } = &mut *buffers;
        let lowest = aims.iter().copied().fold(f64::INFINITY, f64::min);
        for a in (0..aims.len()).filter(|a| aims[*a] > lowest) {
            for b in 0..aims.len() {
                if aims[b] >= aims[a] {
                    continue;
                }
                let weight = match gains {
                    None => 1.0,
                    Some(_) => {
                        let apart = a.abs_diff(b);
                        let delta = (discounts[apart - 1] - discounts[apart]).abs();
                        let swap = (discounts[a] - discounts[b]).abs();
                        (MU * delta + swap) * (worth[a] - worth[b]).abs() / LN_2
                    }
                };
                let lead = scores[a] - scores[b];
                loss += weight * softplus(-lead);
                let slope = weight * sigmoid(-lead);
                slopes[a] -= slope;
                slopes[b] += slope;
                pairs += 1;
            }
        }
        buffers.give(scored, i, grad);
    }
    mean(loss, pairs, grad)
}

pub(crate) fn margin_mse(scored: &Scored, roles: &[Role], grad: &mut Matrix, buffers: &mut Buffers) -> Value {
    grad.reset(scored.scores.rows(), scored.scores.cols);
    let (mut loss, mut pairs) = (0.0, 0usize);
    for i in 0..scored.scores.rows() {
        if !buffers.take(scored, i) {
            continue;
        }
        let roles = &roles[i * scored.scores.cols..(i + 1) * scored.scores.cols];
        let Buffers { scores, aims, slopes, places, .. } = &mut *buffers;
        let positive = |a: usize| roles[places[a]] == Role::Positive;
        for a in (0..aims.len()).filter(|a| positive(*a)) {
            for b in 0..aims.len() {
                if a == b || (positive(b) && b < a) {
                    continue;
                }
                let fault = (scores[a] - scores[b]) - (aims[a] - aims[b]);
                loss += fault * fault;
                slopes[a] += 2.0 * fault;
                slopes[b] -= 2.0 * fault;
                pairs += 1;
            }
        }
        buffers.give(scored, i, grad);
    }
    mean(loss, pairs, grad)
}

/// The mean of a sum over `terms`, its gradient with it.
fn mean(loss: f64, terms: usize, grad: &mut Matrix) -> Value {
    let share = 1.0 / terms.max(1) as f32;
    grad.data.iter_mut().for_each(|g| *g *= share);
    Value { loss: loss / terms.max(1) as f64, terms }
}
