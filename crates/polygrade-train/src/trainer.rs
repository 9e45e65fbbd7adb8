//! The trainer: batches of queries with their judged passages, a loss under a label policy, AdamW.
//!
//! Everything random is a function of the seed and the step, so a run gives the same bits at any number of
//! threads, and a resumed run those of the uninterrupted one.

use crate::align::{AlignSettings, Alignment, Parallel};
use crate::batches::{Batching, Draw};
use crate::evaluate::TokenizedCollection;
use crate::examples::{Batch, Examples, HardNegatives, PerQuery};
use crate::guide::Guide;
use crate::loss::mask::{Mask, MaskSettings};
use crate::loss::{Loss, LossSettings, Objective, Targets};
use polygrade_data::{At, Error, Result};
use polygrade_encoder::{
    Encoder, FrozenEncoder, FrozenLearner, Learner, LoraSettings, StepSettings, TextEncoder,
    TransformerTraining,
};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::optim::{AdamW, Decay, Schedule};
use polygrade_nn::rng::CounterRng;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Settings of negatives; all off by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Negatives {
    /// Hard negatives. They are in [`Examples`] once [`Examples::add_negatives`] has put them there.
    pub hard: Option<HardNegatives>,
    /// Which negatives of a batch count as false.
    pub mask: MaskSettings,
    /// The model that the mask asks.
    pub guide: Option<Guide>,
}

/// Settings of training. The defaults are those of the static encoder, chosen on the dev split of
/// `collections/mini`; see docs/results.md.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What is minimised.
    pub loss: LossSettings,
    /// Passes over the queries.
    pub epochs: usize,
    /// Steps in all, in place of those that the epochs make.
    pub steps: Option<u64>,
    /// Queries in a batch.
    pub batch: usize,
    /// Passages that each query brings.
    pub per_query: PerQuery,
    /// Which queries share a batch; the examples must be gathered for the same.
    pub batches: Batching,
    /// Negatives from a file, and what is done about false ones.
    pub negatives: Negatives,
    /// Highest learning rate of embeddings and projection.
    pub rate: f32,
    /// Highest learning rate of the tokens' log-weights.
    pub weight_rate: f32,
    /// Share of the steps that warm up.
    pub warmup: f32,
    /// What follows.
    pub decay: Decay,
    /// AdamW.
    pub adam: AdamW,
    /// Seed of everything random.
    pub seed: u64,
    /// What counts for transformers alone.
    pub transformer: Option<TransformerTraining>,
    /// Trains adapters only; for transformers.
    pub lora: Option<LoraSettings>,
    /// Losses that bring translations together, with parallel texts.
    pub align: Option<AlignSettings>,
}

/// InfoNCE's temperature for static encoders and for transformers.
const USUAL_TEMPERATURE: (f32, f32) = (0.1, 0.05);

impl Default for Settings {
    fn default() -> Self {
        Settings {
            loss: LossSettings::new(Loss::InfoNce, USUAL_TEMPERATURE.0),
            epochs: 15,
            steps: None,
            batch: 32,
            per_query: PerQuery { positives: 4, negatives: 8 },
            batches: Batching::default(),
            negatives: Negatives::default(),
            rate: 0.001,
            weight_rate: 0.02,
            warmup: 0.1,
            decay: Decay::Linear,
            adam: AdamW::default(),
            seed: 1,
            transformer: None,
            lora: None,
            align: None,
        }
    }
}

impl Settings {
    /// The defaults for fine-tuning a transformer.
    pub fn for_transformers() -> Self {
        Settings {
            epochs: 3,
            loss: LossSettings::new(Loss::InfoNce, USUAL_TEMPERATURE.1),
            rate: 2e-5,
            adam: AdamW { weight_decay: 0.01, ..AdamW::default() },
            transformer: Some(TransformerTraining::default()),
            ..Settings::default()
        }
    }

    /// These settings with another loss, at that loss's own temperatures.
    pub fn with_loss(&self, loss: Loss) -> Self {
        let (fixed, transformers) = USUAL_TEMPERATURE;
        let usual = if self.transformer.is_some() { transformers } else { fixed };
        Settings { loss: self.loss.with(loss, usual), ..self.clone() }
    }

    /// The defaults for going on from a model. The weights of its tokens are learned already: at a new encoder's rate they are
    /// soon worse (docs/results.md).
    pub fn for_model(encoder: &Encoder) -> Self {
        Settings { weight_rate: 0.005, ..Settings::for_encoder(encoder) }
    }

    /// The defaults for a new encoder.
    pub fn for_encoder(encoder: &Encoder) -> Self {
        match encoder {
            Encoder::Static(_) => Settings::default(),
            Encoder::Transformer(_) => Settings::for_transformers(),
        }
    }
}

impl Settings {
    /// The defaults for a head on an encoder that stays as it is. The rate was chosen on dev of `collections/mini`; see
    /// docs/results.md.
    pub fn for_head(encoder: &Encoder) -> Self {
        let default = Settings::default();
        let own = Settings::for_encoder(encoder);
        Settings { epochs: default.epochs, rate: 1e-4, adam: default.adam, ..own }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The step, from 1.
    pub step: u64,
    /// The loss before it, a mean over pairs; with alignment the weighted sum of all losses.
    pub loss: f64,
    /// Pairs of query and positive in it, and texts that alignment was computed on.
    pub pairs: usize,
    /// Negatives that the mask dropped.
    pub masked: usize,
}

impl StepReport {
    /// An error where the loss is no number any more.
    pub fn check(&self) -> Result<()> {
        if self.loss.is_finite() {
            return Ok(());
        }
        let what = format!(
            "the loss is {} at step {}: lower the learning rates or raise the temperature",
            self.loss, self.step
        );
        Err(Error::Usage(what))
    }
}

/// A training run.
pub struct Trainer<'a> {
    learner: Learner,
    examples: &'a Examples,
    texts: &'a TokenizedCollection,
    settings: Settings,
    schedule: Schedule,
    step: u64,
    tokens: u64,
    epoch: Option<(u64, Vec<Draw>)>,
    batch: Batch,
    bags: Bags,
    /// Batches of a step, and in all.
    accumulate: u64,
    batches: u64,
    objective: Objective,
    mask: Mask,
    alignment: Option<Alignment<'a>>,
    buffers: Buffers,
    /// What a checkpoint must agree on: settings, examples, texts and the encoder that training started from.
    identity: String,
}

/// Raised whenever a change makes training give other numbers, so that results of before are not mixed in.
pub const TRAINING_VERSION: u32 = 3;

#[derive(Default)]
struct Buffers {
    queries: Matrix,
    passages: Matrix,
    grad_queries: Matrix,
    grad_passages: Matrix,
    /// Texts of alignment.
    parallel: Matrix,
    grad_parallel: Matrix,
    grad: Matrix,
    temperatures: Vec<f32>,
    teacher: Vec<f32>,
}

impl<'a> Trainer<'a> {
    /// Starts training `encoder` on `examples`; settings that do not fit the encoder are refused. With `threads`, rayon's threads share each step.
    pub fn new(
        encoder: Encoder,
        examples: &'a Examples,
        texts: &'a TokenizedCollection,
        settings: Settings,
        threads: bool,
    ) -> Result<Self> {
        Self::with_parallel(encoder, examples, texts, settings, None, threads)
    }

    /// [`Trainer::new`] with the parallel texts that [`Settings::align`] needs.
    pub fn with_parallel(
        mut encoder: Encoder,
        examples: &'a Examples,
        texts: &'a TokenizedCollection,
        settings: Settings,
        parallel: Option<&'a Parallel>,
        threads: bool,
    ) -> Result<Self> {
        // Similarity is the cosine: a model that left its vectors unscaled scales them from here on.
        encoder.normalize();
        let fingerprint = encoder.fingerprint();
        // A static encoder's step takes one batch.
        let accumulate = match (&encoder, &settings.transformer) {
            (Encoder::Transformer(_), Some(t)) => t.accumulate.max(1) as u64,
            _ => 1,
        };
        let transformer =
            TransformerTraining { seed: settings.seed, ..settings.transformer.clone().unwrap_or_default() };
        let learner = Learner::new(encoder, &transformer, settings.lora.as_ref(), threads)?;
        let data = (examples, texts, parallel);
        Self::with_learner((learner, fingerprint), accumulate, data, settings, threads)
    }

    /// Starts training the head of `encoder` alone. `texts` are those that [`TokenizedCollection::frozen`] gave with
    /// it. Alignment and LoRA are refused, as they train the encoder.
    pub fn with_head(
        encoder: FrozenEncoder,
        examples: &'a Examples,
        texts: &'a TokenizedCollection,
        settings: Settings,
        threads: bool,
    ) -> Result<Self> {
        let whole = settings.transformer.as_ref().is_some_and(|t| t.freeze > 0 || t.ema > 0.0);
        if settings.align.is_some() || settings.lora.is_some() || whole {
            let what = "only a head is trained on a frozen encoder: leave out alignment, LoRA, frozen layers and running \
                        means, or train the encoder";
            return Err(Error::Usage(what.into()));
        }
        let fingerprint = encoder.fingerprint();
        let (accumulate, clip) =
            settings.transformer.as_ref().map_or((1, 0.0), |t| (t.accumulate.max(1) as u64, t.clip));
        let learner = FrozenLearner::new(encoder, clip, threads).into();
        Self::with_learner((learner, fingerprint), accumulate, (examples, texts, None), settings, threads)
    }

    fn with_learner(
        (learner, fingerprint): (Learner, u64),
        accumulate: u64,
        (examples, texts, parallel): (&'a Examples, &'a TokenizedCollection, Option<&'a Parallel>),
        settings: Settings,
        threads: bool,
    ) -> Result<Self> {
        let alignment = match (settings.align, parallel) {
            (None, _) => None,
            (Some(align), Some(parallel)) => Some(Alignment::new(align, parallel)?),
            (Some(_), None) => {
                return Err(Error::Usage("alignment needs parallel texts, and none are given".into()));
            }
        };
        let batches = match settings.steps {
            Some(steps) => steps * accumulate,
            None => {
                let own =
                    alignment.as_ref().filter(|a| a.retrieval() == 0.0).map(Alignment::batches_per_pass);
                let per_epoch = own.unwrap_or_else(|| examples.steps_per_epoch(settings.batch));
                (settings.epochs * per_epoch) as u64
            }
        };
        let total = batches.div_ceil(accumulate);
        let warmup = (total as f32 * settings.warmup) as u64;
        if !examples.are_for(&settings.batches) {
            let what = "the examples were gathered for other batches than those of the settings";
            return Err(Error::Internal(what.into()));
        }
        let mut hash = Xxh3::new();
        examples.fingerprint(|n| hash.update(&n.to_le_bytes()));
        for bags in [&texts.queries, &texts.passages] {
            bags.offsets.iter().for_each(|n| hash.update(&n.to_le_bytes()));
            bags.tokens.iter().for_each(|n| hash.update(&n.to_le_bytes()));
        }
        hash.update(&fingerprint.to_le_bytes());
        if let (Some(_), Some(parallel)) = (&alignment, parallel) {
            hash.update(&parallel.fingerprint().to_le_bytes());
        }
        let identity = format!(
            "{settings:?}, data and encoder {:016x}, training version {TRAINING_VERSION}",
            hash.digest()
        );
        let schedule = Schedule { peak: 1.0, warmup, total, decay: settings.decay };
        Ok(Trainer {
            identity,
            objective: Objective::new(
                &settings.loss,
                examples.max_grade(),
                learner.encoder().dim(),
                threads,
            )?,
            mask: Mask::new(&settings.negatives, threads),
            alignment,
            learner,
            examples,
            texts,
            settings,
            schedule,
            step: 0,
            tokens: 0,
            epoch: None,
            batch: Batch::default(),
            bags: Bags::new(),
            accumulate,
            batches,
            buffers: Buffers::default(),
        })
    }

    /// What tells this run from others, in words.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Steps in all.
    pub fn total(&self) -> u64 {
        self.schedule.total
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.step
    }

    /// Tokens trained on so far, those of queries and of passages.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The encoder as trained so far; for the texts that training began with, where only a head is trained.
    pub fn encoder(&self) -> &dyn TextEncoder {
        self.learner.encoder()
    }

    /// Saves the adapters of LoRA to the new folder `dir`; false where there are none.
    pub fn save_adapter(&self, dir: &Path, card: &str) -> Result<bool> {
        self.learner.save_adapter(dir, card)
    }

    /// What [`Trainer::into_encoder`] would give now, as a copy.
    pub fn snapshot(&self) -> Encoder {
        self.learner.snapshot()
    }

    /// Ends training.
    pub fn into_encoder(self) -> Encoder {
        self.learner.into_encoder()
    }

    /// Runs all steps that are left.
    pub fn run(&mut self) {
        while self.next_step().is_some() {}
    }

    /// One step; `None` when training is over, or when there is nothing to train on.
    pub fn next_step(&mut self) -> Option<StepReport> {
        let idle = self.examples.is_empty() && self.alignment.is_none();
        if self.step >= self.schedule.total || idle {
            return None;
        }
        self.step += 1;
        let (mut loss, mut pairs, mut masked) = (0.0, 0, 0);
        let first = (self.step - 1) * self.accumulate;
        let parts = self.accumulate.min(self.batches - first);
        for number in first..first + parts {
            let (part_loss, part_pairs) = self.add_batch(number, parts);
            loss += part_loss * part_pairs as f64;
            pairs += part_pairs;
            masked += self.mask.dropped();
        }
        if pairs > 0 {
            let factor = self.schedule.rate(self.step);
            self.objective.step(&self.settings.adam, factor, self.step);
            self.learner.step(&StepSettings {
                adam: self.settings.adam,
                rate: self.settings.rate * factor,
                weight_rate: self.settings.weight_rate * factor,
                step: self.step,
            });
        }
        Some(StepReport { step: self.step, loss: loss / pairs.max(1) as f64, pairs, masked })
    }

    /// Adds the gradients of a batch, counted from 0, one of so many `parts` of a step; gives its loss and number of
    /// pairs.
    fn add_batch(&mut self, number: u64, parts: u64) -> (f64, usize) {
        let rng = CounterRng::new(self.settings.seed);
        let weight = self.alignment.as_ref().map_or(1.0, Alignment::retrieval);
        let draw = if weight > 0.0 { self.next_draw(number, &rng) } else { Draw::default() };
        self.examples.batch(&draw, self.settings.per_query, &rng.fork(2).fork(number), &mut self.batch);
        self.bags.clear();
        for &q in &self.batch.queries {
            self.bags.push(self.texts.queries.get(q as usize));
        }
        for &p in &self.batch.passages {
            self.bags.push(self.texts.passages.get(p as usize));
        }
        self.mask.clear();
        if let Some(alignment) = &mut self.alignment {
            alignment.draw(number, &rng.fork(3)).for_each(|tokens| self.bags.push(tokens));
        }
        if self.bags.is_empty() {
            return (0.0, 0);
        }
        self.tokens += self.bags.tokens.len() as u64;
        let b = &mut self.buffers;
        let vectors = self.learner.forward(&self.bags, number + 1);
        let (cols, queries) = (vectors.cols, self.batch.queries.len() * vectors.cols);
        let retrieval = queries + self.batch.passages.len() * cols;
        copy(&vectors.data[..queries], cols, &mut b.queries);
        copy(&vectors.data[queries..retrieval], cols, &mut b.passages);
        copy(&vectors.data[retrieval..], cols, &mut b.parallel);
        let share = 1.0 / parts as f32;
        let (mut loss, mut terms) = (0.0, 0);
        b.grad.cols = cols;
        b.grad.data.clear();
        if queries > 0 {
            b.temperatures.clear();
            let langs = self.examples.langs();
            let of = |l: &usize| self.settings.loss.temperature_of(&langs[*l]);
            b.temperatures.extend(self.batch.langs.iter().map(of));
            self.examples.teacher_scores(&self.batch, &mut b.teacher);
            let (roles, aims) = self.mask.apply(&self.batch, &b.queries, &b.passages);
            let targets = Targets {
                roles,
                grades: &self.batch.grades,
                aims,
                policies: &self.batch.policies,
                temperatures: &b.temperatures,
                teacher: &b.teacher,
            };
            let grads = (&mut b.grad_queries, &mut b.grad_passages);
            let value = self.objective.value(&b.queries, &b.passages, &targets, share * weight, grads);
            (loss, terms) = (value.loss * f64::from(weight), value.terms);
            b.grad.data.extend_from_slice(&b.grad_queries.data);
            b.grad.data.extend_from_slice(&b.grad_passages.data);
        }
        if let Some(alignment) = &mut self.alignment {
            b.grad_parallel.reset(b.parallel.rows(), cols);
            let (value, n) = alignment.value(&b.parallel, share, &mut b.grad_parallel);
            (loss, terms) = (loss + value, terms + n);
            b.grad.data.extend_from_slice(&b.grad_parallel.data);
        }
        self.learner.backward(&self.bags, &mut b.grad);
        (loss, terms)
    }

    fn next_draw(&mut self, number: u64, rng: &CounterRng) -> Draw {
        let per_epoch = self.examples.steps_per_epoch(self.settings.batch).max(1) as u64;
        let (epoch, place) = (number / per_epoch, (number % per_epoch) as usize);
        let (_, batches) = match self.epoch.take() {
            Some(e) if e.0 == epoch => self.epoch.insert(e),
            _ => {
                self.epoch.insert((epoch, self.examples.epoch(self.settings.batch, &rng.fork(1).fork(epoch))))
            }
        };
        batches.get_mut(place).map(std::mem::take).unwrap_or_default()
    }

    /// Writes a checkpoint, atomically.
    pub fn save_checkpoint(&self, path: &Path) -> Result<()> {
        // The bits of the loss's own parameters, which are few.
        let objective: Vec<String> =
            self.objective.state().iter().map(|x| format!("{:08x}", x.to_bits())).collect();
        let notes = [
            ("step", self.step.to_string()),
            ("tokens", self.tokens.to_string()),
            ("run", self.identity.clone()),
            ("objective", objective.join(" ")),
        ];
        self.learner.save_state(path, &notes)
    }

    /// Goes on from a checkpoint of the same run; one of another run is refused.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let own = self.identity.clone();
        let (step, tokens, objective) = self.learner.load_state(path, |note| {
            let bits = |text: &str| u32::from_str_radix(text, 16).ok().map(f32::from_bits);
            let objective: Option<Vec<f32>> =
                note("objective").and_then(|o| o.split_whitespace().map(bits).collect());
            let number = |key| note(key).and_then(|n| n.parse().ok());
            let (step, run) = (number("step").zip(number("tokens")), note("run"));
            match (step, objective, run) {
                (Some((step, tokens)), Some(objective), Some(run)) if run == own => {
                    Ok((step, tokens, objective))
                }
                (_, _, run) => {
                    let run = run.unwrap_or_else(|| "no known run".into());
                    let what = format!("belongs to another run\n    there: {run}\n    here:  {own}");
                    Err(Error::input(At::file(path), what, "use the same settings, or another --out"))
                }
            }
        })?;
        if !self.objective.load_state(&objective) {
            let what = "holds no state of this loss";
            return Err(Error::input(At::file(path), what, "remove the checkpoint to start again"));
        }
        (self.step, self.tokens) = (step, tokens);
        Ok(())
    }
}

fn copy(values: &[f32], cols: usize, to: &mut Matrix) {
    to.cols = cols;
    to.data.clear();
    to.data.extend_from_slice(values);
}
