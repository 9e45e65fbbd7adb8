//! Settings of the loss, with a default of its own for each loss.

use super::Loss;
use polygrade_data::{Error, Lang, Result};

/// What a grade is worth to [`Loss::Lambda`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gains {
    /// 2ᵍ − 1, as in the LambdaLoss paper.
    Exponential,
    /// The grade, as in our nDCG.
    Linear,
}

/// What training minimises, and how. docs/losses.md says which setting counts for which loss.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSettings {
    /// The loss.
    pub name: Loss,
    /// T: losses look at similarity / T. A loss that learns its scale starts from 1 / T.
    pub temperature: f32,
    /// Other temperatures for queries in these languages.
    pub lang_temperatures: Vec<(Lang, f32)>,
    /// Whether graded losses take pairs that are not judged, other queries' passages, as grade 0.
    pub in_batch: bool,
    /// Weights of the thresholds 1, 2, … under the policy `all`; none: equal ones. Scaled to sum to 1.
    pub threshold_weights: Vec<f32>,
    /// Temperature of the softmax over targets in 0..1 (grades over the highest, or a teacher's scores between the
    /// lowest and highest of their query).
    pub target_temperature: f32,
    /// Gains of [`Loss::Lambda`].
    pub gains: Gains,
    /// Where the bias of [`Loss::Bixse`] starts; the cut points of [`Loss::Ordinal`] start around its opposite.
    pub bias: f32,
    /// Highest learning rate of the loss's own parameters.
    pub parameter_rate: f32,
    /// Dimensions that vectors are cut to and the weight of the loss there; none: the whole vectors alone.
    pub matryoshka: Vec<(usize, f32)>,
}

impl LossSettings {
    /// The defaults of a loss, where InfoNCE has the temperature `usual`.
    pub fn new(name: Loss, usual: f32) -> Self {
        LossSettings {
            name,
            temperature: name.temperature().unwrap_or(usual),
            lang_temperatures: Vec::new(),
            in_batch: true,
            threshold_weights: Vec::new(),
            target_temperature: 0.1,
            gains: Gains::Exponential,
            bias: -10.0,
            parameter_rate: 0.01,
            matryoshka: Vec::new(),
        }
    }

    /// The same for another loss: its own temperature, all else as here.
    pub fn with(&self, name: Loss, usual: f32) -> Self {
        if name == self.name {
            return self.clone();
        }
        let LossSettings { temperature, .. } = LossSettings::new(name, usual);
        LossSettings { name, temperature, ..self.clone() }
    }

    /// The temperature for queries in a language.
    pub fn temperature_of(&self, lang: &Lang) -> f32 {
        self.lang_temperatures.iter().find(|(l, _)| l == lang).map_or(self.temperature, |(_, t)| *t)
    }

    /// Refuses what no loss can be computed with: for grades up to `max_grade` and vectors of `dim` numbers.
    pub fn check(&self, max_grade: f32, dim: usize) -> Result<()> {
        let fault = |what: String| Err(Error::Usage(what));
        let above_0 = |x: f32| x.is_finite() && x > 0.0;
        let langs = self.lang_temperatures.iter().map(|(_, t)| *t);
        if !langs.chain([self.temperature, self.target_temperature]).all(above_0) {
            return fault("temperatures must be numbers above 0".into());
        }
        if ![self.bias, self.parameter_rate].iter().all(|x| x.is_finite()) || self.parameter_rate < 0.0 {
            return fault("the loss's bias must be a number, its learning rate 0 or more".into());
        }
        let (weights, thresholds) = (&self.threshold_weights, thresholds(max_grade));
        if !weights.is_empty() {
            if weights.len() != thresholds {
                let n = weights.len();
                return fault(format!(
                    "{n} threshold weights for the {thresholds} thresholds 1 to {thresholds}"
                ));
            }
            if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) || weights.iter().sum::<f32>() <= 0.0 {
                return fault("threshold weights must be 0 or more, and one of them above 0".into());
            }
        }
        for (d, weight) in &self.matryoshka {
            if !(1..=dim).contains(d) || !above_0(*weight) {
                return fault(format!(
                    "matryoshka {d}:{weight}: dimensions 1 to {dim}, with weights above 0"
                ));
            }
        }
        Ok(())
    }
}

/// The whole thresholds of grades up to `max_grade`: 1, 2, …, at least one.
pub(crate) fn thresholds(max_grade: f32) -> usize {
    max_grade.floor().clamp(1.0, 1000.0) as usize
}
