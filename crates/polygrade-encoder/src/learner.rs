//! A static encoder in training: forward with what the gradient needs, backward, and AdamW's step.

use crate::static_encoder::StaticEncoder;
use crate::training_state::TrainingState;
use polygrade_data::{At, Error, Result};
use polygrade_nn::Matrix;
use polygrade_nn::bag::{self, Bags, RowGrads};
use polygrade_nn::kernels::{self, Transpose, l2_normalize, l2_normalize_backward};
use polygrade_nn::optim::{AdamW, Moments};
use std::borrow::Cow;
use std::path::Path;

/// Learning rates of weights and table differ: a weight is one number for a whole row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSettings {
    /// AdamW.
    pub adam: AdamW,
    /// Rate of the embeddings and of the projection.
    pub rate: f32,
    /// Rate of the log-weights of tokens.
    pub weight_rate: f32,
    /// The step, from 1.
    pub step: u64,
}

/// An encoder with its optimiser's memory and the buffers of one step.
pub struct StaticLearner {
    encoder: StaticEncoder,
    table: Moments,
    weights: Moments,
    projection: Option<Moments>,
    threads: bool,
    mean: Matrix,
    out: Matrix,
    norms: Vec<f32>,
    grad_mean: Matrix,
    grad_projection: Matrix,
    rows: RowGrads,
    row_weights: Vec<f32>,
}

impl StaticLearner {
    /// Starts training. With `threads`, rayon's threads share each step; the result is the same.
    pub fn new(mut encoder: StaticEncoder, threads: bool) -> Self {
        encoder.table.plain_mut();
        StaticLearner {
            table: Moments::new(encoder.table.values()),
            weights: Moments::new(encoder.log_weights.len()),
            projection: encoder.projection.as_ref().map(|p| Moments::new(p.data.len())),
            encoder,
            threads,
            mean: Matrix::default(),
            out: Matrix::default(),
            norms: Vec::new(),
            grad_mean: Matrix::default(),
            grad_projection: Matrix::default(),
            rows: RowGrads::default(),
            row_weights: Vec::new(),
        }
    }

    /// The encoder as trained so far.
    pub fn encoder(&self) -> &StaticEncoder {
        &self.encoder
    }

    /// Ends training.
    pub fn into_encoder(self) -> StaticEncoder {
        self.encoder
    }

    /// Unit vectors of the texts, one a row.
    pub fn forward(&mut self, bags: &Bags) -> &Matrix {
        let e = &self.encoder;
        e.table.forward(&e.log_weights, bags, self.threads, &mut self.mean);
        match &e.projection {
            Some(p) => kernels::matmul(&self.mean, p, Transpose::None, self.threads, &mut self.out),
            None => self.out.clone_from(&self.mean),
        }
        self.norms.clear();
        let cols = self.out.cols;
        self.norms.extend(self.out.data.chunks_mut(cols).map(l2_normalize));
        &self.out
    }

    /// Gradients from ∂L/∂vectors of the texts last given to [`StaticLearner::forward`]; `grad` is used up.
    pub fn backward(&mut self, bags: &Bags, grad: &mut Matrix) {
        let cols = grad.cols;
        for ((g, y), norm) in grad.data.chunks_mut(cols).zip(self.out.data.chunks(cols)).zip(&self.norms) {
            l2_normalize_backward(y, *norm, g);
        }
        let e = &self.encoder;
        let grad_mean = match &e.projection {
            Some(p) => {
                kernels::matmul(&self.mean, grad, Transpose::Left, self.threads, &mut self.grad_projection);
                kernels::matmul(grad, p, Transpose::Right, self.threads, &mut self.grad_mean);
                &self.grad_mean
            }
            None => &*grad,
        };
        bag::backward(&e.table.plain(), &e.log_weights, bags, grad_mean, self.threads, &mut self.rows);
    }

    /// Moves the parameters along the gradients of the last [`StaticLearner::backward`].
    pub fn step(&mut self, s: &StepSettings) {
        let e = &mut self.encoder;
        s.adam.step_rows(
            e.table.plain_mut(),
            &self.rows.rows,
            &self.rows.table,
            &mut self.table,
            (s.rate, s.step),
        );
        // Weights are a table of one column; decay would pull them towards 1, not towards nothing.
        let plain = AdamW { weight_decay: 0.0, ..s.adam };
        let mut column = Matrix { cols: 1, data: std::mem::take(&mut e.log_weights) };
        self.row_weights.clone_from(&self.rows.log_weights);
        let grads = Matrix { cols: 1, data: std::mem::take(&mut self.row_weights) };
        plain.step_rows(&mut column, &self.rows.rows, &grads, &mut self.weights, (s.weight_rate, s.step));
        e.log_weights = column.data;
        self.row_weights = grads.data;
        if let (Some(p), Some(m)) = (&mut e.projection, &mut self.projection) {
            s.adam.step(&mut p.data, &self.grad_projection.data, m, s.rate, s.step);
        }
    }

    /// Parameters and moments, to save.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, Cow<'_, [f32]>)> {
        let e = &self.encoder;
        let mut all: Vec<(&'static str, Cow<[f32]>)> = vec![
            ("table", e.table.data()),
            ("table.first", (&self.table.first).into()),
            ("table.second", (&self.table.second).into()),
            ("log_weights", (&e.log_weights).into()),
            ("log_weights.first", (&self.weights.first).into()),
            ("log_weights.second", (&self.weights.second).into()),
        ];
        if let (Some(p), Some(m)) = (&e.projection, &self.projection) {
            all.extend([
                ("projection", (&p.data).into()),
                ("projection.first", (&m.first).into()),
                ("projection.second", (&m.second).into()),
            ]);
        }
        all.into_iter().map(|(name, values)| (name.to_owned(), values))
    }

    /// Takes up what [`StaticLearner::state`] gave.
    pub(crate) fn load_state(&mut self, state: &mut TrainingState, path: &Path) -> Result<()> {
        let fault = |what: String| Error::input(At::file(path), what, "remove the checkpoint to start again");
        let mut read = |name: &str, into: &mut Vec<f32>| {
            let values = state.vectors.remove(name).ok_or_else(|| fault(format!("lacks {name:?}")))?;
            if values.len() != into.len() {
                return Err(fault(format!("{name:?} has {} values, expected {}", values.len(), into.len())));
            }
            *into = values;
            Ok(())
        };
        read("table", &mut self.encoder.table.plain_mut().data)?;
        read("table.first", &mut self.table.first)?;
        read("table.second", &mut self.table.second)?;
        read("log_weights", &mut self.encoder.log_weights)?;
        read("log_weights.first", &mut self.weights.first)?;
        read("log_weights.second", &mut self.weights.second)?;
        if let (Some(p), Some(m)) = (&mut self.encoder.projection, &mut self.projection) {
            read("projection", &mut p.data)?;
            read("projection.first", &mut m.first)?;
            read("projection.second", &mut m.second)?;
        }
        Ok(())
    }
}
