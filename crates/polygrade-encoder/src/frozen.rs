//! An encoder that stays as it is, with a head that is trained on its vectors.
//!
//! The vectors of all texts are computed once; a step then costs a product or two. Texts are the numbers of their rows:
//! one "token" a text. The head is one or two dense layers, behind those that the encoder has and before the scaling to
//! length 1, so that what is saved is a model of modules that sentence-transformers knows:
//!
//! - [`HeadKind::Linear`]: `y = W x`, W the identity at first. A static encoder's projection takes it up.
//! - [`HeadKind::Mlp`]: `y = W₂ relu(W₁ x + b)` with W₁ = [I; −I], W₂ = [I, −I], b = 0 at first, which is the identity.
//!   A residual around two layers is no module of sentence-transformers, and one around a layer is refused by its
//!   releases before 5.7.
//!
//! With another width out, a narrower one begins as a random projection (Johnson and Lindenstrauss 1984), a wider one
//! with zeros behind.

use crate::checkpoint::Dtype;
use crate::encoder::{Encoder, TextEncoder};
use crate::head::{Dense, Head, HeadTape};
use crate::modules::{Activation, DenseSpec, DenseWeights};
use crate::static_encoder::{Prompts, StaticEncoder};
use crate::training_state::TrainingState;
use crate::transformer_learner::clip;
use crate::{StepSettings, TextKind, TextTokenizer};
use polygrade_data::{At, Error, Result};
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::{Transpose, matmul};
use polygrade_nn::params::{Grads, Optimizer, Params};
use polygrade_nn::rng::CounterRng;
use polygrade_nn::{Cpu, Matrix};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// What a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// One matrix.
    Linear,
    /// Two, with ReLU between them; for transformers.
    Mlp,
}

/// A head to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSettings {
    /// What it is.
    pub kind: HeadKind,
    /// Width of the vectors that come out; as wide as they go in where none is given.
    pub dim: Option<usize>,
    /// Seed of a random projection.
    pub seed: u64,
}

/// An encoder with a head in training, for texts whose vectors are kept. **A text is the number of its row**: bags hold
/// one number, or none for a text without tokens.
#[derive(Clone)]
pub struct FrozenEncoder {
    /// As it was, but for its scaling to length 1.
    base: Encoder,
    base_fingerprint: u64,
    settings: HeadSettings,
    rows: Matrix,
    params: Params<Cpu>,
    head: Head,
}

impl FrozenEncoder {
    /// Computes the vectors of all `texts`, which are tokens of `base`, the encoder. Gives the encoder with a new head,
    /// and the texts as it wants them, in the same groups. With `threads`, rayon's threads share the work.
    pub fn new(
        mut base: Encoder,
        texts: &[&Bags],
        settings: HeadSettings,
        threads: bool,
    ) -> Result<(Self, Vec<Bags>)> {
        let base_fingerprint = base.fingerprint();
        match &mut base {
            Encoder::Static(_) if settings.kind == HeadKind::Mlp => {
                let what =
                    "an mlp head is for transformers: a static model has one projection, which is linear";
                return Err(Error::Usage(what.into()));
            }
            Encoder::Static(e) => e.normalize = false,
            Encoder::Transformer(e) => e.without_scaling()?,
        }
        let mut rows = Matrix { cols: base.dim(), data: Vec::new() };
        let (mut next, mut named) = (0, Vec::new());
        for bags in texts {
            let (mut some, mut own) = (Bags::new(), Bags::new());
            for i in 0..bags.len() {
                if bags.get(i).is_empty() {
                    own.push(&[]);
                    continue;
                }
                some.push(bags.get(i));
                own.push(&[next]);
                next += 1;
            }
            rows.data.extend_from_slice(&base.encode_bags(&some, threads).data);
            named.push(own);
        }
        let (width, out) = (rows.cols, settings.dim.unwrap_or(rows.cols));
        let mut params = Params::new(&Cpu::new(true));
        let dense = layers(width, out, settings)
            .into_iter()
            .map(|(spec, weights)| Dense::new(spec, &weights, &mut params))
            .collect();
        let head = Head { dense, truncate: None, normalize: true, unit: false };
        Ok((FrozenEncoder { base, base_fingerprint, settings, rows, params, head }, named))
    }

    /// The encoder with its head as a whole: a model like any other.
    pub fn to_encoder(&self) -> Encoder {
        let mut out = self.base.clone();
        match &mut out {
            Encoder::Static(e) => self.fold(e),
            Encoder::Transformer(e) => {
                for layer in &self.head.dense {
                    e.append_dense(layer.spec.clone(), &layer.weights(&self.params));
                }
            }
        }
        out.normalize();
        out
    }

    /// Puts the head into the projection.
    fn fold(&self, e: &mut StaticEncoder) {
        for layer in &self.head.dense {
            let width = layer.spec.in_features;
            let weight = Matrix::new(width, layer.weights(&self.params).linear);
            let folded = match &e.projection {
                Some(p) => {
                    let mut folded = Matrix::default();
                    matmul(p, &weight, Transpose::Right, true, &mut folded);
                    folded
                }
                None => weight.transposed(),
            };
            e.projection = Some(folded);
        }
    }

    /// The rows of the texts; zeros for one without tokens.
    fn gather(&self, texts: &Bags) -> Matrix {
        let mut out = Matrix::zeros(texts.len(), self.rows.cols);
        for i in 0..texts.len() {
            if let [row] = texts.get(i) {
                out.row_mut(i).copy_from_slice(self.rows.row(*row as usize));
            }
        }
        out
    }
}

/// The layers of a new head.
fn layers(width: usize, out: usize, settings: HeadSettings) -> Vec<(DenseSpec, DenseWeights)> {
    let rng = CounterRng::new(settings.seed).fork(4);
    let scale = 1.0 / (out as f64).sqrt();
    let start = |o: usize, i: usize| match out < width {
        true => (rng.normal((o * width + i) as u64) * scale) as f32,
        false => f32::from(u8::from(o == i)),
    };
    let layer = |shape: [usize; 2], bias: bool, activation, value: &dyn Fn(usize, usize) -> f32| {
        let [out_features, in_features] = shape;
        let linear = (0..out_features).flat_map(|o| (0..in_features).map(move |i| value(o, i))).collect();
        let weights = DenseWeights { linear, bias: bias.then(|| vec![0.0; out_features]), residual: None };
        let path = PathBuf::new();
        (DenseSpec { path, in_features, out_features, bias, activation, use_residual: false }, weights)
    };
    match settings.kind {
        HeadKind::Linear => vec![layer([out, width], false, Activation::Identity, &start)],
        HeadKind::Mlp => {
            let split = |o: usize, i: usize| match o % width == i {
                true if o < width => 1.0,
                true => -1.0,
                false => 0.0,
            };
            let join = |o: usize, i: usize| if i < width { start(o, i) } else { -start(o, i - width) };
            vec![
                layer([2 * width, width], true, Activation::Relu, &split),
                layer([out, 2 * width], false, Activation::Identity, &join),
            ]
        }
    }
}

impl TextEncoder for FrozenEncoder {
    fn kind(&self) -> &str {
        self.base.kind()
    }
    fn dim(&self) -> usize {
        self.head.width(self.rows.cols)
    }
    fn parameters(&self) -> usize {
        let head = (0..self.params.len()).map(|i| self.params.shape(i).iter().product::<usize>());
        self.base.parameters() + head.sum::<usize>()
    }
    fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(format!("{:016x} {:?}", self.base_fingerprint, self.settings).as_bytes());
        for place in 0..self.params.len() {
            self.params.value(place).iter().for_each(|v| hash.update(&v.to_bits().to_le_bytes()));
        }
        hash.digest()
    }
    fn tokenizer(&self) -> &TextTokenizer {
        self.base.tokenizer()
    }
    fn prompts(&self) -> &Prompts {
        self.base.prompts()
    }
    fn set_prompts(&mut self, prompts: Prompts) {
        self.base.set_prompts(prompts);
    }
    fn normalizes(&self) -> bool {
        true
    }
    fn normalize(&mut self) {}
    fn is_finite(&self) -> bool {
        (0..self.params.len()).all(|p| self.params.value(p).iter().all(|v| v.is_finite()))
    }
    fn encode_bags(&self, bags: &Bags, threads: bool) -> Matrix {
        let mut tape = HeadTape::default();
        std::mem::take(self.head.forward(&self.params, self.gather(bags), threads, &mut tape))
    }
    fn write_into(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        self.to_encoder().write_into(dir, card, dtype)
    }
    /// Refused: it knows texts by their numbers only.
    fn tokenize(&self, _: &[&str], _: TextKind) -> Result<Bags> {
        Err(Error::Internal("an encoder that is frozen in training takes no new texts".into()))
    }
}

/// A head in training.
pub struct FrozenLearner {
    encoder: FrozenEncoder,
    grads: Grads<Cpu>,
    optimizer: Optimizer<Cpu>,
    /// Gradients are scaled down to this length; 0: never.
    clip: f32,
    tape: HeadTape,
    out: Matrix,
    threads: bool,
}

impl FrozenLearner {
    /// Starts training. Gradients are scaled down to the length `clip`, if that is above 0. With `threads`, rayon's
    /// threads share each step; the result is the same.
    pub fn new(encoder: FrozenEncoder, clip: f32, threads: bool) -> Self {
        let grads = Grads::new(&encoder.params, |_| true, &[]);
        FrozenLearner {
            optimizer: Optimizer::new(&encoder.params, &grads, false),
            grads,
            encoder,
            clip,
            tape: HeadTape::default(),
            out: Matrix::default(),
            threads,
        }
    }

    /// The encoder as trained so far.
    pub fn encoder(&self) -> &FrozenEncoder {
        &self.encoder
    }

    /// Unit vectors of texts, which are numbers of rows.
    pub fn forward(&mut self, texts: &Bags) -> &Matrix {
        let e = &self.encoder;
        self.out.clone_from(e.head.forward(&e.params, e.gather(texts), self.threads, &mut self.tape));
        &self.out
    }

    /// Adds gradients from ∂L/∂vectors of the texts last given to [`FrozenLearner::forward`].
    pub fn backward(&mut self, grad: &Matrix) {
        let e = &self.encoder;
        e.head.backward(&e.params, grad.clone(), self.threads, &self.tape, &mut self.grads);
    }

    /// Moves the head along the gradients, which are then zero.
    pub fn step(&mut self, s: &StepSettings) {
        clip(&mut self.grads, self.clip);
        let params = &mut self.encoder.params;
        let lone: Vec<bool> = (0..params.len()).map(|p| params.shape(p).len() == 1).collect();
        self.optimizer.step(params, &self.grads, s.adam, s.step, |place| (s.rate, !lone[place]));
        self.grads.clear();
    }

    /// The gradient summed so far of the head's parameter at a place, and its values.
    pub fn gradient(&self, place: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let params = &self.encoder.params;
        (place < params.len()).then(|| (self.grads.read(params, place), params.value(place).to_vec()))
    }

    /// Sets the values of the head's parameter at a place.
    pub fn set(&mut self, place: usize, values: &[f32]) {
        self.encoder.params.value_mut(place).copy_from_slice(values);
    }

    /// Parameters of the head and moments, to save.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, Cow<'_, [f32]>)> {
        let params = &self.encoder.params;
        let values =
            (0..params.len()).map(|place| (format!("{place}.value"), Cow::Borrowed(&**params.value(place))));
        let moments = self.optimizer.save();
        values.chain(moments.map(|(place, kind, v)| (format!("{place}.{kind}"), Cow::Owned(v))))
    }

    /// Takes up what [`FrozenLearner::state`] gave.
    pub(crate) fn load_state(&mut self, state: &mut TrainingState, path: &Path) -> Result<()> {
        let params = &mut self.encoder.params;
        let mut fits = true;
        for place in 0..params.len() {
            match state.vectors.remove(&format!("{place}.value")) {
                Some(v) if v.len() == params.value(place).len() => {
                    params.value_mut(place).copy_from_slice(&v)
                }
                _ => fits = false,
            }
        }
        let find = |place: usize, kind: &str| state.vectors.remove(&format!("{place}.{kind}"));
        if fits && self.optimizer.load(&self.encoder.params, find) {
            return Ok(());
        }
        let fix = "remove the checkpoint to start again";
        Err(Error::input(At::file(path), "holds the state of another head", fix))
    }
}
