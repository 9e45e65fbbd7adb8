//! An encoder of either kind in training, or a head on one.

use crate::encoder::{Encoder, TextEncoder};
use crate::frozen::FrozenLearner;
use crate::learner::{StaticLearner, StepSettings};
use crate::lora::LoraSettings;
use crate::training_state;
use crate::transformer_learner::{TransformerLearner, TransformerTraining};
use polygrade_data::{Error, Result};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use std::path::Path;

/// An encoder of either kind in training, or a head on one.
pub enum Learner {
    /// A table of token vectors.
    Static(Box<StaticLearner>),
    /// A transformer.
    Transformer(Box<TransformerLearner>),
    /// A head on an encoder of either kind, which stays as it is.
    Frozen(Box<FrozenLearner>),
}

impl From<FrozenLearner> for Learner {
    fn from(learner: FrozenLearner) -> Self {
        Learner::Frozen(Box::new(learner))
    }
}

impl Learner {
    /// Starts training. `transformer` counts for transformers only, and with `lora` only adapters are trained;
    /// settings that do not fit the encoder are refused. With `threads`, rayon's threads share each step; the
    /// result is the same.
    pub fn new(
        encoder: Encoder,
        transformer: &TransformerTraining,
        lora: Option<&LoraSettings>,
        threads: bool,
    ) -> Result<Self> {
        let learner = match (encoder, lora) {
            (Encoder::Static(_), Some(_)) => {
                let what = "LoRA is for transformers; a static encoder has no matrices to adapt";
                return Err(Error::Usage(what.into()));
            }
            (Encoder::Static(e), None) => {
                return Ok(Learner::Static(Box::new(StaticLearner::new(*e, threads))));
            }
            (Encoder::Transformer(e), None) => TransformerLearner::new(*e, transformer.clone(), threads),
            (Encoder::Transformer(e), Some(_)) if e.origin.is_none() => {
                let what = "LoRA needs a base in a folder of its own, which the adapter names: save the model first, \
                            then train on the saved folder";
                return Err(Error::Usage(what.into()));
            }
            (Encoder::Transformer(e), Some(lora)) => {
                TransformerLearner::with_lora(*e, transformer.clone(), lora, threads)?
            }
        };
        Ok(Learner::Transformer(Box::new(learner)))
    }

    /// Saves the adapters of LoRA to the new folder `dir`; false where there are none.
    pub fn save_adapter(&self, dir: &Path, card: &str) -> Result<bool> {
        match self {
            Learner::Transformer(l) if l.has_adapters() => l.save_adapter(dir, card).map(|()| true),
            _ => Ok(false),
        }
    }

    /// The encoder as trained so far. Under a head, it knows texts by their numbers only: see [`FrozenEncoder`](crate::FrozenEncoder).
    pub fn encoder(&self) -> &dyn TextEncoder {
        match self {
            Learner::Static(l) => l.encoder(),
            Learner::Transformer(l) => l.encoder(),
            Learner::Frozen(l) => l.encoder(),
        }
    }

    /// Ends training.
    pub fn into_encoder(self) -> Encoder {
        match self {
            Learner::Static(l) => l.into_encoder().into(),
            Learner::Transformer(l) => l.into_encoder().into(),
            Learner::Frozen(l) => l.encoder().to_encoder(),
        }
    }

    /// What [`Learner::into_encoder`] would give now, as a copy.
    pub fn snapshot(&self) -> Encoder {
        match self {
            Learner::Static(l) => l.encoder().clone().into(),
            Learner::Transformer(l) => l.snapshot().into(),
            Learner::Frozen(l) => l.encoder().to_encoder(),
        }
    }

    /// The vectors of a step's texts, one a row.
    pub fn forward(&mut self, texts: &Bags, step: u64) -> &Matrix {
        match self {
            Learner::Static(l) => l.forward(texts),
            Learner::Transformer(l) => l.forward(texts, step),
            Learner::Frozen(l) => l.forward(texts),
        }
    }

    /// Gradients from ∂L/∂vectors of the texts last given to [`Learner::forward`]; `grad` is used up.
    pub fn backward(&mut self, texts: &Bags, grad: &mut Matrix) {
        match self {
            Learner::Static(l) => l.backward(texts, grad),
            Learner::Transformer(l) => l.backward(texts, grad),
            Learner::Frozen(l) => l.backward(grad),
        }
    }

    /// Moves the parameters along the gradients.
    pub fn step(&mut self, s: &StepSettings) {
        match self {
            Learner::Static(l) => l.step(s),
            Learner::Transformer(l) => {
                l.step(s.adam, s.rate, s.step);
            }
            Learner::Frozen(l) => l.step(s),
        }
    }

    /// Writes parameters and moments, with `notes` beside them, so that training can go on from here.
    pub fn save_state(&self, path: &Path, notes: &[(&str, String)]) -> Result<()> {
        match self {
            Learner::Static(l) => training_state::save(path, || l.state(), notes),
            Learner::Transformer(l) => training_state::save(path, || l.state(), notes),
            Learner::Frozen(l) => training_state::save(path, || l.state(), notes),
        }
    }

    /// Takes up parameters and moments written by [`Learner::save_state`]; `check` sees the notes first and may
    /// refuse them.
    pub fn load_state<T>(
        &mut self,
        path: &Path,
        check: impl FnOnce(&dyn Fn(&str) -> Option<String>) -> Result<T>,
    ) -> Result<T> {
        let mut state = training_state::load(path)?;
        let checked = check(&|key| state.notes.get(key).cloned())?;
        match self {
            Learner::Static(l) => l.load_state(&mut state, path)?,
            Learner::Transformer(l) => l.load_state(&mut state, path)?,
            Learner::Frozen(l) => l.load_state(&mut state, path)?,
        }
        Ok(checked)
    }
}
