//! LoRA (Hu et al. 2022): a matrix stays as it is, W₀, and what is learnt stands beside it in two thin ones,
//! W = W₀ + s·B·A with A r × in, B out × r and s = alpha / r.
//!
//! The network knows nothing of it: its parameter is W, written again whenever A or B moved, and backward gives
//! ∂L/∂W, from which ∂L/∂A = s·Bᵀ·∂L/∂W and ∂L/∂B = s·∂L/∂W·Aᵀ. The other way, two more products for every token,
//! would spare ∂L/∂W and cost a second path through every layer, forward and back.
//!
//! Query, key and value of many models are one parameter, one above the other. The adapters of a parameter are
//! kept joined: their A one above the other, their B as blocks of a matrix that is zero elsewhere and stays so,
//! since its gradient there is made zero.

mod peft;

pub(crate) use peft::base_of;

use crate::transformer_encoder::TransformerEncoder;
use polygrade_data::{Error, Result};
use polygrade_nn::bag::Bags;
use polygrade_nn::device::{Device, Finish, Weight};
use polygrade_nn::optim::AdamW;
use polygrade_nn::params::{Grads, Optimizer, Params};
use polygrade_nn::rng::CounterRng;
use polygrade_nn::transformer::Slot;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

/// What the stream of first values is forked by; dropout forks the same seed by steps, which never get there.
const STREAM: u64 = u64::MAX;

/// Settings of LoRA, by PEFT's names. There is no dropout of adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSettings {
    /// Rows of A: at least 1, at most the smaller side of each matrix.
    pub r: usize,
    /// The product B·A counts alpha / r times.
    pub alpha: f32,
    /// Which matrices get an adapter: those whose name is one of these or ends with a dot and one of these. In
    /// BERT for example `query`, `attention.self.query`, `dense`; in ModernBERT `Wqkv`.
    pub targets: Vec<String>,
}

impl LoraSettings {
    fn scale(&self) -> f32 {
        (f64::from(self.alpha) / self.r as f64) as f32
    }

    /// The matrices of a model that get an adapter.
    fn choose(&self, all: Vec<Module>) -> Result<Vec<Module>> {
        let fault = |what: String| Err(Error::Usage(format!("LoRA: {what}")));
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return fault(format!("alpha is {}; give a number above 0", self.alpha));
        }
        if self.targets.is_empty() {
            return fault(format!("there are no targets; the model has {}", kinds(&all)));
        }
        if let Some(t) = self.targets.iter().find(|t| !all.iter().any(|m| m.is_called(t))) {
            return fault(format!("the target {t:?} is no matrix of the model; it has {}", kinds(&all)));
        }
        let mut chosen = all;
        chosen.retain(|m| self.targets.iter().any(|t| m.is_called(t)));
        let most = chosen.iter().map(|m| m.rows.len().min(m.inputs)).min().unwrap_or(0);
        if self.r == 0 || self.r > most {
            return fault(format!("r is {}; give 1 to {most}, the smallest side of a target", self.r));
        }
        Ok(chosen)
    }
}

/// A matrix that an adapter can be put on: a parameter, or some rows of one.
#[derive(Debug, Clone)]
struct Module {
    name: String,
    place: usize,
    rows: Range<usize>,
    inputs: usize,
}

impl Module {
    /// Whether PEFT's `target_modules` would mean it by `target`.
    fn is_called(&self, target: &str) -> bool {
        let before = self.name.strip_suffix(target);
        !target.is_empty() && before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

/// The names of the matrices, once for all layers, for a message.
fn kinds(modules: &[Module]) -> String {
    let mut out: Vec<String> = Vec::new();
    for module in modules {
        let parts: Vec<&str> = module.name.split('.').collect();
        let number = parts.iter().position(|p| p.parse::<usize>().is_ok());
        let kind = parts[number.map_or(0, |n| n + 1)..].join(".");
        if !out.contains(&kind) {
            out.push(kind);
        }
    }
    out.join(", ")
}

impl<D: Device> TransformerEncoder<D> {
    /// The matrices that adapters can be put on, in the network's order.
    fn adaptable(&self) -> Vec<Module> {
        let mut out = Vec::new();
        for (place, (slot, shape)) in self.slots.iter().enumerate() {
            let [outputs, inputs] = shape[..] else { continue };
            if matches!(slot, Slot::Tokens | Slot::Positions | Slot::Types) {
                continue;
            }
            let names = self.tensor_names(*slot);
            let size = outputs / names.len();
            for (i, name) in names.iter().enumerate() {
                let name = name.trim_end_matches(".weight").to_owned();
                out.push(Module { name, place, rows: i * size..(i + 1) * size, inputs });
            }
        }
        out
    }
}

/// The adapters of one parameter.
#[derive(Debug, Clone)]
struct Joined {
    place: usize,
    /// The parameter's.
    outputs: usize,
    inputs: usize,
    /// Of each adapter.
    r: usize,
    modules: Vec<Module>,
}

/// An adapter's values: A and B.
type Pair = (Vec<f32>, Vec<f32>);

impl Joined {
    /// Modules by the parameters they are in; they must be in the network's order.
    fn of(modules: Vec<Module>, r: usize, shape: impl Fn(usize) -> (usize, usize)) -> Vec<Joined> {
        let mut out: Vec<Joined> = Vec::new();
        for module in modules {
            match out.last_mut() {
                Some(last) if last.place == module.place => last.modules.push(module),
                _ => {
                    let (outputs, inputs) = shape(module.place);
                    out.push(Joined { place: module.place, outputs, inputs, r, modules: vec![module] });
                }
            }
        }
        out
    }

    /// Of all adapters together.
    fn rank(&self) -> usize {
        self.r * self.modules.len()
    }

    /// For state files.
    fn name(&self) -> String {
        self.modules.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join("+")
    }

    /// Where the rows of an adapter's block are in the joined B.
    fn block(&self, i: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rank, r) = (self.rank(), self.r);
        self.modules[i].rows.clone().map(move |row| row * rank + i * r..row * rank + (i + 1) * r)
    }

    /// A and B of all adapters from those of each.
    fn join(&self, pairs: impl IntoIterator<Item = Pair>) -> Pair {
        let (mut all_a, mut all_b) = (Vec::new(), vec![0.0; self.outputs * self.rank()]);
        for (i, (a, b)) in pairs.into_iter().enumerate() {
            all_a.extend_from_slice(&a);
            for (to, from) in self.block(i).zip(b.chunks(self.r)) {
                all_b[to].copy_from_slice(from);
            }
        }
        (all_a, all_b)
    }

    /// A and B of an adapter from those of all.
    fn part(&self, i: usize, a: &[f32], b: &[f32]) -> Pair {
        let size = self.r * self.inputs;
        (a[i * size..(i + 1) * size].to_vec(), self.block(i).flat_map(|at| b[at].to_vec()).collect())
    }

    /// `to += scale · B · A`
    fn add_product<D: Device>(
        &self,
        device: &D,
        (a, b): (&D::Floats, &D::Floats),
        scale: f32,
        to: &mut D::Floats,
    ) {
        let mut scaled = device.floats(&[]);
        device.copy(b, &mut scaled);
        device.scale(&mut scaled, scale);
        device.linear_backward(&scaled, a, (self.rank(), self.inputs), true, to);
    }

    /// Adds ∂L/∂A and ∂L/∂B to `grads`, from `dw` = ∂L/∂W.
    fn backward<D: Device>(
        &self,
        device: &D,
        (a, b): (&D::Floats, &D::Floats),
        scale: f32,
        dw: &D::Floats,
        (da, db): (&mut D::Floats, &mut D::Floats),
    ) {
        let sizes = (self.rank(), self.inputs);
        let mut scaled = device.floats(&[]);
        device.copy(b, &mut scaled);
        device.scale(&mut scaled, scale);
        device.weight_backward(&scaled, dw, sizes, Some(da), None);
        let mut product = scaled;
        // Rows of ∂L/∂W are no tokens; the batch counts for dropout alone.
        let none = device.batch(&Bags::new(), &[]);
        device.linear(&none, dw, Weight::Plain(a), sizes, Finish::default(), &mut product);
        device.scale(&mut product, scale);
        if self.modules.len() > 1 || self.modules[0].rows.len() < self.outputs {
            let all = device.read(&product);
            let mut blocks = vec![0.0; all.len()];
            for at in (0..self.modules.len()).flat_map(|i| self.block(i)) {
                blocks[at.clone()].copy_from_slice(&all[at]);
            }
            device.write(&mut product, &blocks);
        }
        device.add(&product, db);
    }
}

/// The adapters of an encoder in training.
pub(crate) struct Lora<D: Device> {
    settings: LoraSettings,
    /// The folder of the model that the adapters belong to.
    base: Option<PathBuf>,
    joined: Vec<Joined>,
    /// W₀ of each.
    frozen: Vec<D::Floats>,
    /// A of `joined[i]` at place 2i, B at 2i + 1.
    params: Params<D>,
    grads: Grads<D>,
    optimizer: Optimizer<D>,
}

impl<D: Device> Lora<D> {
    /// New adapters, which change nothing yet: A is random as PEFT has it (Kaiming-uniform with a = √5), B zero.
    pub(crate) fn new(
        encoder: &TransformerEncoder<D>,
        settings: &LoraSettings,
        seed: u64,
        threads: bool,
    ) -> Result<Self> {
        let chosen = settings.choose(encoder.adaptable())?;
        let network = &encoder.params;
        let device = network.device().with_threads(threads);
        let joined =
            Joined::of(chosen, settings.r, |place| (network.shape(place)[0], network.shape(place)[1]));
        let mut params = Params::new(&device);
        let mut frozen = Vec::new();
        for j in &joined {
            let first = |m: &Module| {
                // A stream for each matrix, so that its first values do not depend on the other targets.
                let rng = CounterRng::new(seed).fork(STREAM).fork(m.place as u64).fork(m.rows.start as u64);
                let bound = (6.0 / ((1.0 + 5.0) * m.inputs as f64)).sqrt();
                let value = |i: usize| (bound * (2.0 * rng.uniform(i as u64) - 1.0)) as f32;
                ((0..j.r * m.inputs).map(value).collect(), vec![0.0; m.rows.len() * j.r])
            };
            let (a, b) = j.join(j.modules.iter().map(first));
            params.push(&[j.rank(), j.inputs], &a);
            params.push(&[j.outputs, j.rank()], &b);
            let mut copy = device.floats(&[]);
            device.copy(network.value(j.place), &mut copy);
            frozen.push(copy);
        }
        let grads = Grads::new(&params, |_| true, &[]);
        let optimizer = Optimizer::new(&params, &grads, false);
        let base = encoder.origin.clone();
        Ok(Lora { settings: settings.clone(), base, joined, frozen, params, grads, optimizer })
    }

    /// Whether the network's parameter at `place` has adapters.
    pub(crate) fn adapts(&self, place: usize) -> bool {
        self.joined.iter().any(|j| j.place == place)
    }

    fn pair(&self, i: usize) -> (&D::Floats, &D::Floats) {
        (self.params.value(2 * i), self.params.value(2 * i + 1))
    }

    /// One step along the network's gradients; `rate` is that of a place of the network, `most` the length that
    /// gradients are scaled down to. Returns their length before.
    pub(crate) fn step(
        &mut self,
        network: &mut Params<D>,
        network_grads: &mut Grads<D>,
        (adam, step): (AdamW, u64),
        most: f32,
        rate: impl Fn(usize) -> f32,
    ) -> f64 {
        self.take_gradients(network_grads);
        let norm = crate::transformer_learner::clip(&mut self.grads, most);
        let joined = &self.joined;
        // Both are matrices, which weight decay applies to.
        let rate = |place: usize| (rate(joined[place / 2].place), true);
        self.optimizer.step(&mut self.params, &self.grads, adam, step, rate);
        self.write(network);
        norm
    }

    fn take_gradients(&mut self, network_grads: &mut Grads<D>) {
        let device = self.params.device().clone();
        self.grads.clear();
        for (i, j) in self.joined.iter().enumerate() {
            let pair = (self.params.value(2 * i), self.params.value(2 * i + 1));
            let to = self.grads.pair(2 * i, Some(2 * i + 1));
            if let (Some(dw), (Some(da), Some(db))) = (network_grads.dense(j.place), to) {
                j.backward(&device, pair, self.settings.scale(), dw, (da, db));
            }
        }
    }

    /// Writes W = W₀ + s·B·A into the network.
    fn write(&self, network: &mut Params<D>) {
        let device = self.params.device();
        for (i, j) in self.joined.iter().enumerate() {
            let to = network.value_mut(j.place);
            device.copy(&self.frozen[i], to);
            j.add_product(device, self.pair(i), self.settings.scale(), to);
        }
    }

    /// The values of a tensor, by PEFT's name without `base_model.model.`.
    pub(crate) fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        self.find(name, |i| {
            let (a, b) = self.pair(i);
            (self.params.device().read(a), self.params.device().read(b))
        })
    }

    /// The gradient of a tensor, by the same name.
    pub(crate) fn gradient(&self, name: &str, network: &Params<D>, grads: &Grads<D>) -> Option<Vec<f32>> {
        let device = self.params.device();
        self.find(name, |i| {
            let j = &self.joined[i];
            let (mut da, mut db) = (device.floats(&[]), device.floats(&[]));
            device.zero(&mut da, j.rank() * j.inputs);
            device.zero(&mut db, j.outputs * j.rank());
            let dw = device.floats(&grads.read(network, j.place));
            j.backward(device, self.pair(i), self.settings.scale(), &dw, (&mut da, &mut db));
            (device.read(&da), device.read(&db))
        })
    }

    /// The part of the joined values, of which `all` gives A and B, that a name means.
    fn find(&self, name: &str, all: impl Fn(usize) -> Pair) -> Option<Vec<f32>> {
        let (module, is_a) = peft::split(name)?;
        let at = |j: &Joined| j.modules.iter().position(|m| m.name == module);
        let (i, part) = self.joined.iter().enumerate().find_map(|(i, j)| Some((i, at(j)?)))?;
        let (a, b) = all(i);
        let (a, b) = self.joined[i].part(part, &a, &b);
        Some(if is_a { a } else { b })
    }

    /// Adapters and moments, to save.
    pub(crate) fn state(&self) -> Vec<(String, Vec<f32>)> {
        let device = self.params.device();
        let values = (0..self.params.len())
            .map(|place| (self.key(place, "value"), device.read(self.params.value(place))));
        let moments = self.optimizer.save().map(|(place, kind, v)| (self.key(place, kind), v));
        let scale = ("lora.scale".to_owned(), vec![self.settings.scale()]);
        values.chain(moments).chain([scale]).collect()
    }

    fn key(&self, place: usize, kind: &str) -> String {
        key(&self.joined, place, kind)
    }

    /// Takes up what [`Lora::state`] gave and writes the network's parameters; false where it does not fit.
    pub(crate) fn load_state(
        &mut self,
        vectors: &mut HashMap<String, Vec<f32>>,
        network: &mut Params<D>,
    ) -> bool {
        if vectors.remove("lora.scale").is_none_or(|s| s != [self.settings.scale()]) {
            return false;
        }
        let device = self.params.device().clone();
        for place in 0..self.params.len() {
            match vectors.remove(&self.key(place, "value")) {
                Some(v) if v.len() == self.params.shape(place).iter().product::<usize>() => {
                    device.write(self.params.value_mut(place), &v);
                }
                _ => return false,
            }
        }
        let joined = &self.joined;
        if !self.optimizer.load(&self.params, |place, kind| vectors.remove(&key(joined, place, kind))) {
            return false;
        }
        self.write(network);
        true
    }
}

fn key(joined: &[Joined], place: usize, kind: &str) -> String {
    let matrix = if place.is_multiple_of(2) { "lora_A" } else { "lora_B" };
    format!("{}.{matrix}.{kind}", joined[place / 2].name())
}
