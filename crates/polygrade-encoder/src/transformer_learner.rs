//! A transformer encoder in training: forward, backward, AdamW.
//!
//! A batch of more than [`TransformerTraining::tokens`] tokens is cut into micro-batches by GradCache (Gao et al.
//! 2021): vectors of all texts first, without keeping activations; then, from the loss's gradient at the vectors,
//! each micro-batch runs again, forward and backward. The gradients are those of the whole batch: dropout follows
//! from a text's place in the batch, not from micro-batches.

use crate::checkpoint::Dtype;
use crate::head::HeadTape;
use crate::lora::{Lora, LoraSettings};
use crate::training_state::TrainingState;
use crate::transformer_encoder::TransformerEncoder;
use polygrade_data::io::AtomicDir;
use polygrade_data::{At, Error, Result};
use polygrade_nn::bag::Bags;
use polygrade_nn::device::Device;
use polygrade_nn::optim::AdamW;
use polygrade_nn::params::{Grads, Optimizer};
use polygrade_nn::transformer::{Mode, Tape};
use polygrade_nn::{Cpu, Matrix, on_workers};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

/// Settings of a transformer's training.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerTraining {
    /// Tokens of a micro-batch; larger batches are cut. One text is never cut.
    pub tokens: usize,
    /// Whether layers keep only what goes into them and are run again in backward.
    pub recompute: bool,
    /// Whether AdamW's moments are kept in bfloat16 (but for the token table, of which only some rows have any).
    pub half_moments: bool,
    /// Whether dropout is on, with the model's own probabilities.
    pub dropout: bool,
    /// Lowest layers that are not trained: 0 none, 1 the embeddings, 2 the first layer as well …
    pub freeze: usize,
    /// Each layer learns at this share of the rate of the one above it.
    pub layer_decay: f32,
    /// Gradients are scaled down to this length together; 0: never.
    pub clip: f32,
    /// Decay of the running mean of the parameters that becomes the model (Polyak averaging); 0: no mean, the
    /// parameters of the last step.
    pub ema: f32,
    /// Batches whose gradients are averaged for a step.
    pub accumulate: usize,
    /// Seed of dropout, and of LoRA's first values.
    pub seed: u64,
}

impl Default for TransformerTraining {
    fn default() -> Self {
        TransformerTraining {
            tokens: 16_384,
            recompute: false,
            half_moments: false,
            dropout: true,
            freeze: 0,
            layer_decay: 1.0,
            clip: 1.0,
            ema: 0.0,
            accumulate: 1,
            seed: 1,
        }
    }
}

/// A transformer encoder with its gradients and its optimiser's memory.
pub struct TransformerLearner<D: Device = Cpu> {
    encoder: TransformerEncoder<D>,
    settings: TransformerTraining,
    grads: Grads<D>,
    optimizer: Optimizer<D>,
    lora: Option<Lora<D>>,
    /// Running means of the parameters, where they are wanted.
    means: Vec<D::Floats>,
    tape: Tape<D>,
    head_tape: HeadTape,
    threads: bool,
    /// Of the batch in hand.
    micro: Vec<Range<usize>>,
    out: Matrix,
    mode: Mode,
    step: u64,
}

impl<D: Device> TransformerLearner<D> {
    /// Starts training. With `threads`, rayon's threads share each step; the result is the same.
    pub fn new(encoder: TransformerEncoder<D>, settings: TransformerTraining, threads: bool) -> Self {
        Self::with(encoder, settings, None, threads)
    }

    /// Starts the training of adapters on an encoder that stays as it is. Settings that do not fit the encoder are
    /// refused. [`TransformerLearner::encoder`] has the adapters added, after every step anew.
    pub fn with_lora(
        encoder: TransformerEncoder<D>,
        settings: TransformerTraining,
        lora: &LoraSettings,
        threads: bool,
    ) -> Result<Self> {
        if settings.freeze > 0 {
            let what = "LoRA leaves all of the model as it is; freeze no layers beside it";
            return Err(Error::Usage(what.into()));
        }
        if settings.ema > 0.0 {
            // The mean of products B·A is no such product, and could not be saved as an adapter.
            let what = "LoRA keeps no running mean; leave it at 0 (ema), or train without LoRA";
            return Err(Error::Usage(what.into()));
        }
        let lora = Lora::new(&encoder, lora, settings.seed, threads)?;
        Ok(Self::with(encoder, settings, Some(lora), threads))
    }

    fn with(
        mut encoder: TransformerEncoder<D>,
        settings: TransformerTraining,
        lora: Option<Lora<D>>,
        threads: bool,
    ) -> Self {
        encoder.params.forget_prepared();
        if encoder.head.truncate.is_some() && encoder.head.normalize {
            // Scaled last, so that a gradient sees the length that counts.
            encoder.normalize();
        }
        encoder.origin = None;
        let layers = encoder.spec().layers.len();
        let slots = &encoder.slots;
        let trained = |place: usize| match &lora {
            Some(lora) => lora.adapts(place),
            None => slots.get(place).is_none_or(|(slot, _)| slot.depth(layers) >= settings.freeze),
        };
        let grads = Grads::new(&encoder.params, trained, &[0]);
        let optimizer = match &lora {
            // The parameters move by their adapters alone.
            Some(_) => Optimizer::new(&encoder.params, &Grads::new(&encoder.params, |_| false, &[]), false),
            None => Optimizer::new(&encoder.params, &grads, settings.half_moments),
        };
        let copy = |place: usize| {
            let mut mean = encoder.params.device().floats(&[]);
            encoder.params.device().copy(encoder.params.value(place), &mut mean);
            mean
        };
        let averaged = if settings.ema > 0.0 { encoder.params.len() } else { 0 };
        let means = (0..averaged).map(copy).collect();
        let tape = Tape::new(&encoder.params.device().with_threads(threads));
        TransformerLearner {
            encoder,
            settings,
            grads,
            optimizer,
            lora,
            means,
            tape,
            head_tape: HeadTape::default(),
            threads,
            micro: Vec::new(),
            out: Matrix::default(),
            mode: Mode::Inference,
            step: 0,
        }
    }

    /// The encoder as trained so far.
    pub fn encoder(&self) -> &TransformerEncoder<D> {
        &self.encoder
    }

    /// Ends training: the encoder of the running means, where there are such, else that of the last step.
    pub fn into_encoder(mut self) -> TransformerEncoder<D> {
        self.put_means();
        self.encoder
    }

    /// What [`TransformerLearner::into_encoder`] would give now, as a copy.
    pub fn snapshot(&self) -> TransformerEncoder<D> {
        let mut encoder = self.encoder.clone();
        for (place, mean) in self.means.iter().enumerate() {
            encoder.params.device().clone().copy(mean, encoder.params.value_mut(place));
        }
        encoder
    }

    fn put_means(&mut self) {
        for (place, mean) in self.means.drain(..).enumerate() {
            *self.encoder.params.value_mut(place) = mean;
        }
    }

    /// The vectors of a step's texts, one a row. The step decides what dropout drops.
    pub fn forward(&mut self, texts: &Bags, step: u64) -> &Matrix {
        self.step = step;
        let key = polygrade_nn::rng::CounterRng::new(self.settings.seed).fork(step).bits(0);
        let recompute = self.settings.recompute;
        self.mode = Mode::Training { dropout: self.settings.dropout.then_some(key), recompute };
        self.micro = texts.runs(self.settings.tokens);
        let mut out = Matrix { cols: self.encoder.dim(), data: Vec::new() };
        on_workers(self.threads, || {
            for range in self.micro.clone() {
                let vectors = self.run(texts, range);
                out.data.extend_from_slice(&vectors);
            }
        });
        self.out = out;
        &self.out
    }

    /// Forward of a micro-batch.
    fn run(&mut self, texts: &Bags, range: Range<usize>) -> Vec<f32> {
        let names: Vec<u32> = range.clone().map(|i| i as u32).collect();
        let part = texts.part(range);
        let encoder = &self.encoder;
        let pooled = encoder.pooled(&part, Some(&names), self.mode, &mut self.tape);
        encoder.head.forward(&encoder.params, pooled, self.threads, &mut self.head_tape).data.clone()
    }

    /// Adds gradients from ∂L/∂vectors of the texts last given to [`TransformerLearner::forward`].
    pub fn backward(&mut self, texts: &Bags, grad: &Matrix) {
        let again = self.micro.len() > 1;
        on_workers(self.threads, || {
            for range in self.micro.clone() {
                let rows = range.start * grad.cols..range.end * grad.cols;
                if grad.data[rows.clone()].iter().all(|g| *g == 0.0) {
                    continue;
                }
                if again {
                    self.run(texts, range.clone());
                }
                let part_grad = Matrix { cols: grad.cols, data: grad.data[rows].to_vec() };
                self.backward_micro(texts, range, part_grad);
            }
        });
    }

    fn backward_micro(&mut self, texts: &Bags, range: Range<usize>, grad: Matrix) {
        if texts.offsets[range.start] == texts.offsets[range.end] {
            return;
        }
        let encoder = &self.encoder;
        let pooled_grad =
            encoder.head.backward(&encoder.params, grad, self.threads, &self.head_tape, &mut self.grads);
        let names: Vec<u32> = range.clone().map(|i| i as u32).collect();
        let part = texts.part(range);
        let device = encoder.params.device().with_threads(self.threads);
        let batch = device.batch(&part, &names);
        let hidden = encoder.spec().hidden;
        let mut total = device.floats(&[]);
        let mut one = device.floats(&[]);
        for (i, pooling) in encoder.modules().pooling.iter().enumerate() {
            let rows = pooled_grad.data.chunks(pooled_grad.cols);
            let slice: Vec<f32> = rows.flat_map(|row| row[i * hidden..(i + 1) * hidden].to_vec()).collect();
            let grad = device.floats(&slice);
            match i {
                0 => device.pool_backward(&batch, &self.tape.hidden, &grad, *pooling, &mut total),
                _ => {
                    device.pool_backward(&batch, &self.tape.hidden, &grad, *pooling, &mut one);
                    device.add(&one, &mut total);
                }
            }
        }
        encoder.network.backward(
            &encoder.params,
            &batch,
            self.mode,
            &mut self.tape,
            &mut total,
            &mut self.grads,
        );
    }

    /// Moves the parameters along the gradients, which are then zero. `rate` is that of the highest layer.
    /// Returns the length of the gradients before clipping.
    pub fn step(&mut self, adam: AdamW, rate: f32, step: u64) -> f64 {
        on_workers(self.threads, || self.update(adam, rate, step))
    }

    fn update(&mut self, adam: AdamW, rate: f32, step: u64) -> f64 {
        let layers = self.encoder.spec().layers.len();
        let (slots, decay) = (&self.encoder.slots, self.settings.layer_decay);
        let rate_of = |place: usize| match slots.get(place) {
            None => rate,
            Some((slot, _)) => {
                // The highest layer, and what stands above it, learn at the full rate.
                rate * decay.powi(layers.saturating_sub(slot.depth(layers)) as i32)
            }
        };
        let params = &mut self.encoder.params;
        let norm = if let Some(lora) = &mut self.lora {
            lora.step(params, &mut self.grads, (adam, step), self.settings.clip, rate_of)
        } else {
            let norm = clip(&mut self.grads, self.settings.clip);
            let lone: Vec<bool> = (0..params.len()).map(|p| params.shape(p).len() == 1).collect();
            self.optimizer.step(params, &self.grads, adam, step, |place| {
                let decays = slots.get(place).map_or(!lone[place], |(slot, _)| !slot.no_decay());
                (rate_of(place), decays)
            });
            norm
        };
        self.grads.clear();
        if !self.means.is_empty() {
            // At the start the mean follows more closely: it would remember the untrained model for too long.
            let decay = self.settings.ema.min((1.0 + step as f32) / (10.0 + step as f32));
            let params = &self.encoder.params;
            for (place, mean) in self.means.iter_mut().enumerate().filter(|(p, _)| self.grads.trained(*p)) {
                params.device().mix(params.value(place), 1.0 - decay, mean);
            }
        }
        norm
    }

    /// The gradient summed so far of a tensor, by its name in the checkpoint, or in an adapter
    /// (`encoder.layer.0.attention.self.query.lora_A.weight`).
    pub fn gradient(&self, name: &str) -> Option<Vec<f32>> {
        let adapter = self.lora.as_ref();
        if let Some(found) = adapter.and_then(|l| l.gradient(name, &self.encoder.params, &self.grads)) {
            return Some(found);
        }
        let (place, range) = self.encoder.place_of(name)?;
        Some(self.grads.read(&self.encoder.params, place)[range].to_vec())
    }

    /// The values of a tensor of the adapters, by the same name.
    pub fn adapter_tensor(&self, name: &str) -> Option<Vec<f32>> {
        self.lora.as_ref()?.tensor(name)
    }

    /// Whether it is adapters that are trained.
    pub fn has_adapters(&self) -> bool {
        self.lora.is_some()
    }

    /// Saves the adapters to the new folder `dir`, whole or not at all: as PEFT does, and beside it what
    /// sentence-transformers needs to read the folder as a model. The base is named by its folder. `card` becomes
    /// the model card, `README.md`.
    pub fn save_adapter(&self, dir: &Path, card: &str) -> Result<()> {
        let Some(lora) = &self.lora else {
            return Err(Error::Usage("the encoder was trained without LoRA; save all of it instead".into()));
        };
        let new = AtomicDir::create(dir)?;
        lora.write_into(new.path())?;
        self.encoder.write_rest(new.path(), card, Dtype::F32)?;
        new.commit()
    }

    /// Parameters and moments, to save. With LoRA those of the adapters: the rest is the base's.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, Cow<'_, [f32]>)> {
        let params = &self.encoder.params;
        let own = if self.lora.is_some() { 0 } else { params.len() };
        let values = (0..own)
            .map(|place| (format!("{place}.value"), Cow::Owned(params.device().read(params.value(place)))));
        let means = self.means.iter().enumerate();
        let means = means.map(|(place, m)| (format!("{place}.mean"), Cow::Owned(params.device().read(m))));
        let moments = self.optimizer.save();
        let moments = moments.map(|(place, kind, v)| (format!("{place}.{kind}"), Cow::Owned(v)));
        let adapters = self.lora.iter().flat_map(Lora::state).map(|(name, v)| (name, Cow::Owned(v)));
        values.chain(means).chain(moments).chain(adapters)
    }

    /// Takes up what [`TransformerLearner::state`] gave.
    pub(crate) fn load_state(&mut self, state: &mut TrainingState, path: &Path) -> Result<()> {
        let params = &mut self.encoder.params;
        let device = params.device().clone();
        let mut fits = true;
        let own = if self.lora.is_some() { 0 } else { params.len() };
        for place in 0..own {
            match state.vectors.remove(&format!("{place}.value")) {
                Some(v) if v.len() == params.shape(place).iter().product::<usize>() => {
                    device.write(params.value_mut(place), &v);
                }
                _ => fits = false,
            }
        }
        for (place, mean) in self.means.iter_mut().enumerate() {
            match state.vectors.remove(&format!("{place}.mean")) {
                Some(v) if v.len() == device.len(mean) => device.write(mean, &v),
                _ => fits = false,
            }
        }
        if let Some(lora) = &mut self.lora {
            fits = lora.load_state(&mut state.vectors, params);
        }
        let find = |place: usize, kind: &str| state.vectors.remove(&format!("{place}.{kind}"));
        if fits && self.optimizer.load(&self.encoder.params, find) {
            return Ok(());
        }
        let fix = "remove the checkpoint to start again";
        Err(Error::input(At::file(path), "holds the state of another model", fix))
    }
}

/// Scales gradients down to the length `most` together, if that is above 0; returns their length before.
pub(crate) fn clip<D: Device>(grads: &mut Grads<D>, most: f32) -> f64 {
    let (norm, most) = (grads.norm(), f64::from(most));
    if most > 0.0 && norm > most {
        // PyTorch adds this in clip_grad_norm_.
        grads.scale((most / (norm + 1e-6)) as f32);
    }
    norm
}

impl<D: Device> TransformerEncoder<D> {
    /// Where a tensor of the checkpoint is: the parameter's place and the range of its values.
    pub(crate) fn place_of(&self, name: &str) -> Option<(usize, Range<usize>)> {
        for (place, (slot, shape)) in self.slots.iter().enumerate() {
            let names = self.tensor_names(*slot);
            let size = shape.iter().product::<usize>() / names.len();
            if let Some(i) = names.iter().position(|n| n == name) {
                return Some((place, i * size..(i + 1) * size));
            }
        }
        for (i, dense) in self.head.dense.iter().enumerate() {
            let own = name.strip_prefix(&format!("{}_Dense.", i + 2));
            if let Some(place) = own.and_then(|own| dense.place_of(own)) {
                let size = self.params.shape(place).iter().product();
                return Some((place, 0..size));
            }
        }
        None
    }

    /// The values of a tensor, by its name in the checkpoint; of a dense layer, `2_Dense.linear.weight` and so on.
    pub fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        let (place, range) = self.place_of(name)?;
        Some(self.params.device().read(self.params.value(place))[range].to_vec())
    }
}
