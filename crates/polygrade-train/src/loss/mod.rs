//! Losses over a batch: queries × candidate passages, what each candidate is to each query, and its grade.
//!
//! [`Objective`] is the loss that training minimises: it takes the vectors of a batch's texts with the [`Targets`]
//! and gives the loss with its gradient for every vector. Each loss stands in a file of its own, beside its formula.

pub mod info_nce;

pub use info_nce::info_nce;

use crate::labels::Policy;
use crate::trainer::Settings;
use polygrade_data::{Error, Result};
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};
use polygrade_nn::optim::AdamW;
use serde::{Deserialize, Serialize};

/// What a candidate passage of the batch is to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Drawn near.
    Positive,
    /// Pushed away: judged a negative, or another query's passage.
    Negative,
    /// Not looked at by losses of labels.
    Ignored,
}

/// A loss by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy of each positive against the negatives; takes labels.
    InfoNce,
    /// Binary cross-entropy with the grade as a soft target.
    Bixse,
    /// Pairs of pairs in the order of their grades.
    Cosent,
    /// CoSENT on angles in complex space.
    Angle,
    /// Cross-entropy of the softmax of grades and of similarities.
    Listnet,
    /// Logistic loss over pairs of different grades.
    Ranknet,
    /// NDCG-Loss2++.
    Lambda,
    /// 2-Wasserstein distance of Gaussians over the batch's rows.
    Ws2,
    /// Kullback-Leibler divergence from a teacher's scores.
    Kl,
    /// Squared error of the differences of a teacher's scores.
    MarginMse,
    /// Proportional odds with cut points that are learnt.
    Ordinal,
}

impl Loss {
    /// All of them.
    pub const ALL: [Loss; 11] = [
        Loss::InfoNce,
        Loss::Bixse,
        Loss::Cosent,
        Loss::Angle,
        Loss::Listnet,
        Loss::Ranknet,
        Loss::Lambda,
        Loss::Ws2,
        Loss::Kl,
        Loss::MarginMse,
        Loss::Ordinal,
    ];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        [
            "info-nce",
            "bixse",
            "cosent",
            "angle",
            "listnet",
            "ranknet",
            "lambda",
            "ws2",
            "kl",
            "margin-mse",
            "ordinal",
        ][self as usize]
    }

    /// Parses a name.
    pub fn parse(text: &str) -> Option<Loss> {
        Loss::ALL.into_iter().find(|l| l.name() == text)
    }
}

/// What a batch's candidates are to its queries; tables are queries × candidates.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The role of each candidate under the query's policy.
    pub roles: &'a [Role],
    /// The grade of each judged pair; NaN where a pair is not judged.
    pub grades: &'a [f32],
    /// The policy of each query.
    pub policies: &'a [Policy],
}

/// A loss and the number of terms that it is a mean of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Value {
    /// The loss.
    pub loss: f64,
    /// Its terms; 0 where the batch says nothing.
    pub terms: usize,
}

/// The loss that training minimises, with its own parameters and buffers.
pub struct Objective {
    loss: Loss,
    temperature: f32,
    threads: bool,
    scores: Matrix,
    grad_scores: Matrix,
}

impl Objective {
    /// The loss that `settings` ask for, on grades up to `max_grade`.
    pub fn new(settings: &Settings, max_grade: f32, threads: bool) -> Result<Self> {
        let _ = max_grade;
        if settings.loss != Loss::InfoNce {
            return Err(Error::Usage(format!("--loss {} is not there yet", settings.loss.name())));
        }
        Ok(Objective {
            loss: settings.loss,
            temperature: settings.temperature,
            threads,
            scores: Matrix::default(),
            grad_scores: Matrix::default(),
        })
    }

    /// The loss of a batch; ∂L/∂vectors, times `share`, goes to `grad_queries` and `grad_passages`.
    pub fn value(
        &mut self,
        queries: &Matrix,
        passages: &Matrix,
        targets: &Targets,
        share: f32,
        (grad_queries, grad_passages): (&mut Matrix, &mut Matrix),
    ) -> Value {
        matmul(queries, passages, Transpose::Right, self.threads, &mut self.scores);
        let (loss, terms) = match self.loss {
            _ => info_nce(&self.scores, targets.roles, self.temperature, &mut self.grad_scores),
        };
        if share != 1.0 {
            self.grad_scores.data.iter_mut().for_each(|g| *g *= share);
        }
        matmul(&self.grad_scores, passages, Transpose::None, self.threads, grad_queries);
        matmul(&self.grad_scores, queries, Transpose::Left, self.threads, grad_passages);
        Value { loss, terms }
    }

    /// Moves the loss's own parameters, where it has any.
    pub fn step(&mut self, adam: &AdamW, rate: f32, step: u64) {
        let _ = (adam, rate, step);
    }

    /// The loss's own parameters and their moments, for a checkpoint; empty where it has none.
    pub fn state(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Takes up what [`Objective::state`] gave; false where it does not fit.
    pub fn load_state(&mut self, state: &[f32]) -> bool {
        state.is_empty()
    }
}
