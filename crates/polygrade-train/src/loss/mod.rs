//! Losses over a batch: queries × candidate passages, what each candidate is to each query, and its grade.
//!
//! [`Objective`] is the loss that training minimises: it takes the vectors of a batch's texts with the [`Targets`]
//! and gives the loss with its gradient for every vector. Each loss stands in a file of its own, beside its formula.

mod aims;
mod cosent;
pub(crate) mod info_nce;
mod listwise;
pub mod mask;
mod math;
mod matryoshka;
mod pairwise;
mod parameters;
mod pointwise;
mod settings;
mod teacher;
mod ws2;

pub use settings::{Gains, LossSettings};
pub use teacher::TeacherScores;

use crate::labels::Policy;
use matryoshka::Matryoshka;
use parameters::Parameters;
use polygrade_data::Result;
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

    /// Whether it takes the grades themselves (or a teacher's scores), and so needs no threshold.
    pub fn is_graded(self) -> bool {
        self != Loss::InfoNce
    }

    /// Whether it learns from a teacher's scores where there are any.
    pub fn takes_teacher(self) -> bool {
        matches!(self, Loss::Kl | Loss::MarginMse)
    }

    /// The temperature that the loss asks for; `None` where InfoNCE's does as well.
    fn temperature(self) -> Option<f32> {
        match self {
            // Chosen with the bias of −10: from a cosine of 0.5 on, a pair is more likely relevant than not.
            Loss::Bixse | Loss::Ordinal => Some(0.05),
            // A cosine difference of 1 stands for that of the lowest and the highest grade.
            Loss::MarginMse => Some(1.0),
            _ => None,
        }
    }
}

/// What a batch's candidates are to its queries; tables are queries × candidates.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The role of each candidate under the query's policy.
    pub roles: &'a [Role],
    /// The grade of each judged pair; NaN where a pair is not judged.
    pub grades: &'a [f32],
    /// What graded losses aim at for each judged pair, see [`Policy::aim`]; NaN where a pair is not judged or takes no part.
    pub aims: &'a [f64],
    /// The policy of each query.
    pub policies: &'a [Policy],
    /// T of each query.
    pub temperatures: &'a [f32],
    /// A teacher's score of each pair, NaN where it has none; empty without a teacher.
    pub teacher: &'a [f32],
}

/// A loss and the number of terms behind it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Value {
    /// The loss.
    pub loss: f64,
    /// Its terms, which are pairs, pairs of pairs or queries; 0 where the batch says nothing.
    pub terms: usize,
}

/// Similarities with what they should be; tables are queries × candidates.
#[derive(Clone, Copy)]
struct Scored<'a> {
    scores: &'a Matrix,
    /// See [`aims`].
    aims: &'a [f64],
    temperatures: &'a [f32],
}

impl Scored<'_> {
    fn aim(&self, i: usize, j: usize) -> f64 {
        self.aims[i * self.scores.cols + j]
    }

    /// The rows' numbers, and how many candidates take part in each.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let count = |row: &[f64]| row.iter().filter(|y| !y.is_nan()).count();
        self.aims.chunks(self.scores.cols.max(1)).map(count).enumerate()
    }

    /// Writes the places of the candidates that take part in row `i`.
    fn candidates(&self, i: usize, places: &mut Vec<usize>) {
        places.clear();
        places.extend((0..self.scores.cols).filter(|j| !self.aim(i, *j).is_nan()));
    }
}

/// The loss that training minimises, with its own parameters and buffers.
pub struct Objective {
    settings: LossSettings,
    max_grade: f32,
    threads: bool,
    parameters: Parameters,
    matryoshka: Matryoshka,
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    scores: Matrix,
    grad_scores: Matrix,
    /// Passages as AnglE looks at them.
    turned: Matrix,
    aims: Vec<f64>,
    info_nce: info_nce::Buffers,
    cosent: cosent::Buffers,
    listwise: listwise::Buffers,
    pairwise: pairwise::Buffers,
    ws2: ws2::Buffers,
}

impl Objective {
    /// The loss that `settings` ask for, on grades up to `max_grade` and vectors of `dim` numbers. With `threads`,
    /// rayon's threads share the products.
    pub fn new(settings: &LossSettings, max_grade: f32, dim: usize, threads: bool) -> Result<Self> {
        settings.check(max_grade, dim)?;
        let parameters = match settings.name {
            Loss::Bixse => pointwise::bixse_parameters(settings.bias),
            Loss::Ordinal => pointwise::ordinal_parameters(settings.bias, settings::thresholds(max_grade)),
            _ => Parameters::default(),
        };
        Ok(Objective {
            matryoshka: Matryoshka::new(&settings.matryoshka),
            settings: settings.clone(),
            max_grade,
            threads,
            parameters,
            buffers: Buffers::default(),
        })
    }

    /// The loss of a batch of unit vectors; ∂L/∂vectors, times `share`, goes to `grad_queries` and `grad_passages`. The
    /// gradient of the loss's own parameters is kept for [`Objective::step`].
    pub fn value(
        &mut self,
        queries: &Matrix,
        passages: &Matrix,
        targets: &Targets,
        share: f32,
        (grad_queries, grad_passages): (&mut Matrix, &mut Matrix),
    ) -> Value {
        if targets.roles.is_empty() {
            grad_queries.reset(queries.rows(), queries.cols);
            grad_passages.reset(passages.rows(), passages.cols);
            return Value::default();
        }
        if self.matryoshka.is_empty() {
            return self.whole(queries, passages, targets, share, (grad_queries, grad_passages));
        }
        let mut matryoshka = std::mem::take(&mut self.matryoshka);
        let value = matryoshka.value(
            (queries, passages),
            (grad_queries, grad_passages),
            |(queries, passages), weight, grads| {
                self.whole(queries, passages, targets, share * weight, grads)
            },
        );
        self.matryoshka = matryoshka;
        value
    }

    /// The loss of whole vectors.
    fn whole(
        &mut self,
        queries: &Matrix,
        passages: &Matrix,
        targets: &Targets,
        share: f32,
        (grad_queries, grad_passages): (&mut Matrix, &mut Matrix),
    ) -> Value {
        let angle = self.settings.name == Loss::Angle;
        let Buffers { scores, turned, .. } = &mut self.buffers;
        if angle {
            cosent::turn(passages, turned);
        }
        let against = if angle { &*turned } else { passages };
        matmul(queries, against, Transpose::Right, self.threads, scores);
        let value = self.of_scores(targets, share);
        let Buffers { grad_scores, turned, .. } = &mut self.buffers;
        if share != 1.0 {
            grad_scores.data.iter_mut().for_each(|g| *g *= share);
        }
        let against = if angle { &*turned } else { passages };
        matmul(grad_scores, against, Transpose::None, self.threads, grad_queries);
        matmul(grad_scores, queries, Transpose::Left, self.threads, grad_passages);
        if angle {
            cosent::turn_back(grad_passages);
        }
        value
    }

    /// The loss of the scores in the buffers; ∂L/∂scores goes there too, without `share`, which is for the loss's own
    /// parameters.
    fn of_scores(&mut self, targets: &Targets, share: f32) -> Value {
        let Objective { settings, max_grade, parameters, buffers: b, .. } = self;
        if settings.name == Loss::InfoNce {
            let weights = &settings.threshold_weights;
            return info_nce::info_nce(
                &b.scores,
                targets,
                (*max_grade, weights),
                &mut b.grad_scores,
                &mut b.info_nce,
            );
        }
        if settings.name.takes_teacher() && !targets.teacher.is_empty() {
            aims::of_teacher(targets, &mut b.aims);
        } else {
            aims::of_grades(targets, settings.in_batch, &mut b.aims);
        }
        let scored = Scored { scores: &b.scores, aims: &b.aims, temperatures: targets.temperatures };
        let (grad, target_temperature) = (&mut b.grad_scores, settings.target_temperature);
        match settings.name {
            Loss::InfoNce | Loss::Cosent => cosent::cosent(&scored, false, grad, &mut b.cosent),
            Loss::Angle => cosent::cosent(&scored, true, grad, &mut b.cosent),
            Loss::Bixse => pointwise::bixse(&scored, share, parameters, grad),
            Loss::Ordinal => pointwise::ordinal(&scored, *max_grade, share, parameters, grad),
            Loss::Listnet => listwise::listwise(&scored, target_temperature, false, grad, &mut b.listwise),
            Loss::Kl => listwise::listwise(&scored, target_temperature, true, grad, &mut b.listwise),
            Loss::Ranknet => pairwise::ranking(&scored, None, grad, &mut b.pairwise),
            Loss::Lambda => {
                pairwise::ranking(&scored, Some((settings.gains, *max_grade)), grad, &mut b.pairwise)
            }
            Loss::MarginMse => pairwise::margin_mse(&scored, targets.roles, grad, &mut b.pairwise),
            Loss::Ws2 => ws2::ws2(&scored, target_temperature, grad, &mut b.ws2),
        }
    }

    /// Moves the loss's own parameters, where it has any, at the share `factor` of their highest learning rate; `step`
    /// counts from 1.
    pub fn step(&mut self, adam: &AdamW, factor: f32, step: u64) {
        self.parameters.step(adam, self.settings.parameter_rate * factor, step);
    }

    /// The loss's own parameters and their moments, for a checkpoint; empty where it has none. BiXSE: δ and b; ordinal:
    /// δ, θ_1 and the logarithms of the gaps between cut points (a = e^δ / T); then first and second moments.
    pub fn state(&self) -> Vec<f32> {
        self.parameters.state()
    }

    /// Takes up what [`Objective::state`] gave; false where it does not fit.
    pub fn load_state(&mut self, state: &[f32]) -> bool {
        self.parameters.load(state)
    }
}
