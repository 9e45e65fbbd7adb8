//! A transformer with its tokeniser, pooling and head: loaded from a Hugging Face or sentence-transformers
//! folder, run, and saved as such a folder again.

mod new;

use crate::arch::Architecture;
use crate::checkpoint::{Checkpoint, Dtype, TensorWriter};
use crate::head::{Dense, Head, HeadTape};
use crate::json::{read_object, write_json};
use crate::lora;
use crate::modules::{DenseSpec, DenseWeights, SentenceModules};
use crate::tokenizer::TextTokenizer;
use crate::trim;
use polygrade_data::io::{self, AtomicDir};
use polygrade_data::{At, Error, Result};
use polygrade_nn::bag::Bags;
use polygrade_nn::device::{Device, Precision};
use polygrade_nn::params::Params;
use polygrade_nn::transformer::{Mode, Slot, Spec, Tape, Transformer};
use polygrade_nn::{Cpu, Matrix, on_workers};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Tokens that are encoded at a time: enough that products run at full speed, few enough that the widest rows
/// stay in cache.
const CHUNK: usize = 4096;

/// Files of a tokeniser besides `tokenizer.json`, kept as they are for tools that want them.
const TOKENIZER_FILES: [&str; 7] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "added_tokens.json",
];

/// A transformer encoder of texts.
pub struct TransformerEncoder<D: Device = Cpu> {
    pub(crate) architecture: &'static Architecture,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) network: Transformer,
    pub(crate) params: Params<D>,
    pub(crate) slots: Vec<(Slot, Vec<usize>)>,
    pub(crate) head: Head,
    modules: SentenceModules,
    config: Value,
    files: Vec<(&'static str, Vec<u8>)>,
    /// The folder that holds the parameters as they are.
    pub(crate) origin: Option<PathBuf>,
}

impl<D: Device> Clone for TransformerEncoder<D> {
    fn clone(&self) -> Self {
        TransformerEncoder {
            architecture: self.architecture,
            tokenizer: self.tokenizer.clone(),
            network: self.network.clone(),
            params: self.params.clone(),
            slots: self.slots.clone(),
            head: self.head.clone(),
            modules: self.modules.clone(),
            config: self.config.clone(),
            files: self.files.clone(),
            origin: self.origin.clone(),
        }
    }
}

impl<D: Device> std::fmt::Debug for TransformerEncoder<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "TransformerEncoder({:?})", self.network.spec())
    }
}

impl TransformerEncoder<Cpu> {
    /// Loads a model folder onto the CPU.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::load_on(dir, &Cpu::new(true))
    }
}

impl<D: Device> TransformerEncoder<D> {
    /// Loads a model folder onto a device. The folder of a PEFT adapter is the model that it belongs to, with the
    /// adapter added.
    pub fn load_on(dir: &Path, device: &D) -> Result<Self> {
        let own = SentenceModules::read(dir)?;
        if let Some(base) = lora::base_of(&own.transformer)? {
            return Self::load_adapted(dir, own, &base, device);
        }
        let home = own.transformer.clone();
        let mut encoder = Self::load_parts(own, &home, device)?;
        encoder.origin = dir.canonicalize().ok();
        Ok(encoder)
    }

    /// Loads what `modules` says onto a device, with the parameters in the folder `home`.
    pub(crate) fn load_parts(modules: SentenceModules, home: &Path, device: &D) -> Result<Self> {
        let path = home.join("config.json");
        if !path.is_file() {
            let fix = "give the folder of a model in the Hugging Face layout, with its config.json";
            return Err(Error::input(At::file(&path), "is missing", fix));
        }
        let config = read_object(&path)?;
        let architecture = Architecture::of(&config)?;
        let spec = (architecture.spec)(&config)?;
        let limit = (architecture.limit)(&config)?;
        if !modules.include_prompt && modules.prompts != crate::Prompts::default() {
            let fix = "give a model whose Pooling has include_prompt true";
            let at = At::file(&modules.transformer);
            return Err(Error::input(at, "pools without the tokens of its prompt", fix));
        }
        let own = modules.transformer.join("tokenizer.json");
        let tokenizer_path = if own.is_file() { own } else { home.join("tokenizer.json") };
        let max = match (modules.max_seq_length, limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let tokenizer =
            TextTokenizer::load_for_transformer(&tokenizer_path, max, modules.do_lower_case, spec.vocab)?;
        if tokenizer.vocab_size() > spec.vocab {
            let what = format!(
                "has {} tokens, the model's table {} rows (vocab_size in config.json)",
                tokenizer.vocab_size(),
                spec.vocab
            );
            let fix = "use the tokenizer.json that was saved with the model";
            return Err(Error::input(At::file(&tokenizer_path), what, fix));
        }
        let (params, slots) = read_params(home, architecture, &spec, device)?;
        let mut encoder = TransformerEncoder {
            architecture,
            tokenizer,
            network: Transformer::new(spec, 0),
            params,
            slots,
            head: Head {
                dense: Vec::new(),
                truncate: modules.truncate_dim,
                normalize: modules.normalize,
                unit: false,
            },
            config: config.into_value(),
            files: Vec::new(),
            origin: None,
            modules,
        };
        encoder.read_dense()?;
        for name in TOKENIZER_FILES {
            let path = tokenizer_path.with_file_name(name);
            if path.is_file() {
                encoder.files.push((name, std::fs::read(&path).map_err(|e| Error::io(&path, e))?));
            }
        }
        Ok(encoder)
    }

    fn read_dense(&mut self) -> Result<()> {
        let hidden = self.network.spec().hidden;
        let mut width = hidden * self.modules.pooling.len();
        if let Some(said) = self.modules.width.filter(|w| *w != hidden) {
            let what = format!("says that tokens' vectors have {said} values, they have {hidden}");
            let fix = "restore 1_Pooling/config.json from where the model came from";
            return Err(Error::input(At::file(&self.modules.transformer), what, fix));
        }
        for spec in &self.modules.dense {
            if spec.in_features != width {
                let what = format!("takes vectors of {} values, it gets {width}", spec.in_features);
                let fix = "use the Dense module that was saved with the model";
                return Err(Error::input(At::file(&spec.path), what, fix));
            }
            width = spec.out_features;
            let weights = spec.weights()?;
            self.head.dense.push(Dense::new(spec.clone(), &weights, &mut self.params));
        }
        Ok(())
    }

    /// The names in the checkpoint of a parameter's parts.
    pub(crate) fn tensor_names(&self, slot: Slot) -> Vec<String> {
        self.architecture.tensors(slot)
    }

    /// The tensors by their names in the checkpoint, with the number of their values.
    pub fn tensors(&self) -> Vec<(String, usize)> {
        let mut out = Vec::new();
        for (slot, shape) in &self.slots {
            let names = self.architecture.tensors(*slot);
            let size = shape.iter().product::<usize>() / names.len();
            out.extend(names.into_iter().map(|name| (name, size)));
        }
        for (i, dense) in self.head.dense.iter().enumerate() {
            for name in ["linear.weight", "linear.bias", "residual.weight"] {
                if let Some(place) = dense.place_of(name) {
                    let size = self.params.shape(place).iter().product();
                    out.push((format!("{}_Dense.{name}", i + 2), size));
                }
            }
        }
        out
    }

    /// Moves all parameters towards those of `other`, by a share of the way: 1/n makes a running mean of n models.
    ///
    /// # Panics
    /// When the two have other shapes.
    pub fn move_towards(&mut self, other: &Self, share: f32) {
        self.origin = None;
        let device = self.params.device().clone();
        for place in 0..self.params.len() {
            assert_eq!(self.params.shape(place), other.params.shape(place));
            device.mix(other.params.value(place), share, self.params.value_mut(place));
        }
    }

    /// Values in the buffers of encoding.
    pub fn run_floats(&self) -> usize {
        let s = self.spec();
        let up = if s.gated { 2 * s.intermediate } else { s.intermediate };
        CHUNK * (9 * s.hidden + up + s.intermediate)
    }

    /// Values in the buffers of training with full micro-batches of the default size.
    pub fn train_floats(&self) -> usize {
        let s = self.spec();
        let up = if s.gated { 2 * s.intermediate } else { s.intermediate };
        let kept = s.layers.len() * (6 * s.hidden + up + s.heads + 2);
        let shared = 10 * s.hidden + up + 2 * s.intermediate;
        crate::TransformerTraining::default().tokens * (kept + shared)
    }

    /// What the network is made of.
    pub fn spec(&self) -> &Spec {
        self.network.spec()
    }

    /// What follows and precedes the network.
    pub fn modules(&self) -> &SentenceModules {
        &self.modules
    }

    /// The architecture's name, `model_type` in `config.json`.
    pub fn architecture(&self) -> &str {
        self.config.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The tokeniser.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Width of the vectors.
    pub fn dim(&self) -> usize {
        self.head.width(self.network.spec().hidden * self.modules.pooling.len())
    }

    /// Whether vectors have length 1.
    pub fn normalizes(&self) -> bool {
        self.head.normalizes(self.network.spec().hidden * self.modules.pooling.len())
    }

    /// Makes vectors have length 1, as training with cosine similarity wants.
    pub fn normalize(&mut self) {
        (self.head.normalize, self.head.unit) = (true, true);
        self.modules.normalize = true;
    }

    /// Sets what is put before queries and passages.
    pub fn set_prompts(&mut self, prompts: crate::Prompts) {
        self.modules.prompts = prompts;
    }

    /// Leaves vectors as long as they are. Refused where they are cut.
    pub(crate) fn without_scaling(&mut self) -> Result<()> {
        if self.head.truncate.is_some() {
            let what = "the model cuts its vectors (truncate_dim), and a head would stand before the cut; set it to null \
                        and give the head that width";
            return Err(Error::Usage(what.into()));
        }
        self.head.normalize = false;
        self.modules.normalize = false;
        Ok(())
    }

    /// Puts a dense layer behind those that are there.
    pub(crate) fn append_dense(&mut self, spec: DenseSpec, weights: &DenseWeights) {
        self.head.dense.push(Dense::new(spec.clone(), weights, &mut self.params));
        self.modules.dense.push(spec);
        self.origin = None;
    }

    /// What `config.json` says.
    pub(crate) fn config(&self) -> &Value {
        &self.config
    }

    /// The tokeniser's files besides `tokenizer.json`, by name.
    pub(crate) fn tokenizer_files(&self) -> &[(&'static str, Vec<u8>)] {
        &self.files
    }

    /// The same encoder with some rows of its token table, in this order, and the tokeniser that they are for; `new_id`
    /// gives the rows' new numbers.
    pub(crate) fn with_rows(
        &self,
        rows: &[u32],
        tokenizer: TextTokenizer,
        files: Vec<(&'static str, Vec<u8>)>,
        new_id: impl Fn(u32) -> Option<u32>,
    ) -> Self {
        let device = self.params.device();
        let (mut params, mut slots) = (Params::new(device), self.slots.clone());
        for place in 0..self.params.len() {
            let (mut shape, mut values) =
                (self.params.shape(place).to_vec(), device.read(self.params.value(place)));
            if let Some((Slot::Tokens, own)) = slots.get_mut(place) {
                let width = shape[1];
                let of = |id: &u32| &values[*id as usize * width..(*id as usize + 1) * width];
                values = rows.iter().flat_map(of).copied().collect();
                shape[0] = rows.len();
                own.clone_from(&shape);
            }
            params.push(&shape, &values);
        }
        let mut config = self.config.clone();
        for (_, value) in config.as_object_mut().into_iter().flatten().filter(|(key, _)| trim::is_id(key)) {
            let one = |v: &mut Value| {
                let id = v.as_u64().and_then(|id| u32::try_from(id).ok());
                id.and_then(&new_id).into_iter().for_each(|id| *v = id.into());
            };
            match value {
                Value::Array(list) => list.iter_mut().for_each(one),
                value => one(value),
            }
        }
        config["vocab_size"] = rows.len().into();
        let spec = Spec { vocab: rows.len(), ..self.spec().clone() };
        TransformerEncoder {
            architecture: self.architecture,
            tokenizer,
            network: Transformer::new(spec, 0),
            params,
            slots,
            head: self.head.clone(),
            modules: self.modules.clone(),
            config,
            files,
            origin: None,
        }
    }

    /// Whether all parameters are finite numbers.
    pub fn is_finite(&self) -> bool {
        let device = self.params.device();
        (0..self.params.len()).all(|p| device.square_sum(self.params.value(p)).is_finite())
    }

    /// Cuts vectors to the first `dim` values (Matryoshka; Kusupati et al. 2022).
    pub fn truncate(&mut self, dim: usize) {
        self.head.truncate = Some(dim);
        self.modules.truncate_dim = Some(dim);
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        (0..self.params.len()).map(|i| self.params.shape(i).iter().product::<usize>()).sum()
    }

    /// Tells encoders apart: a hash of parameters, settings and tokeniser.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        for place in 0..self.params.len() {
            let values = self.params.device().read(self.params.value(place));
            values.iter().for_each(|v| hash.update(&v.to_bits().to_le_bytes()));
        }
        let m = &self.modules;
        let settings = (self.network.spec(), &m.pooling, &m.prompts, self.head.normalize, self.head.truncate);
        let dense = self.head.dense.iter().map(|d| (d.spec.activation, d.spec.use_residual));
        let dense: Vec<_> = dense.collect();
        hash.update(format!("{dense:?} {}", self.head.unit).as_bytes());
        hash.update(format!("{settings:?} {}", self.tokenizer.settings()).as_bytes());
        hash.update(self.tokenizer.to_json().unwrap_or_default().as_bytes());
        hash.digest()
    }

    /// Arranges the network's matrices for inference in the given precision. Training undoes it.
    pub fn prepare(&mut self, precision: Precision) {
        let matrices = self.slots.iter().enumerate().filter(|(_, (slot, shape))| {
            shape.len() == 2 && !matches!(slot, Slot::Tokens | Slot::Positions | Slot::Types)
        });
        self.params.prepare(matrices.map(|(i, _)| i).collect::<Vec<_>>(), precision);
    }

    /// The vectors of packed texts, one a row.
    pub fn encode_bags(&self, bags: &Bags, threads: bool) -> Matrix {
        on_workers(threads, || {
            let mut out = Matrix { cols: self.dim(), data: Vec::with_capacity(bags.len() * self.dim()) };
            let mut tape = Tape::new(&self.params.device().with_threads(threads));
            let mut head = HeadTape::default();
            for run in bags.runs(CHUNK) {
                let pooled = self.pooled(&bags.part(run), None, Mode::Inference, &mut tape);
                out.data.extend_from_slice(&self.head.forward(&self.params, pooled, threads, &mut head).data);
            }
            out
        })
    }

    /// The pooled vectors of a chunk; `names` for dropout.
    pub(crate) fn pooled(
        &self,
        texts: &Bags,
        names: Option<&[u32]>,
        mode: Mode,
        tape: &mut Tape<D>,
    ) -> Matrix {
        if texts.tokens.is_empty() {
            return Matrix::zeros(texts.len(), self.network.spec().hidden * self.modules.pooling.len());
        }
        let device = self.params.device();
        let numbers: Vec<u32>;
        let names = match names {
            Some(names) => names,
            None => {
                numbers = (0..texts.len() as u32).collect();
                &numbers
            }
        };
        let batch = device.batch(texts, names);
        self.network.forward(&self.params, &batch, texts.longest(), mode, tape);
        self.pool(&batch, texts.len(), tape)
    }

    /// Pools what [`Tape::hidden`] holds.
    pub(crate) fn pool(&self, batch: &D::Batch, texts: usize, tape: &Tape<D>) -> Matrix {
        let device = self.params.device();
        let hidden = self.network.spec().hidden;
        let width = hidden * self.modules.pooling.len();
        let mut out = Matrix::zeros(texts, width);
        let mut one = device.floats(&[]);
        for (i, pooling) in self.modules.pooling.iter().enumerate() {
            device.pool(batch, &tape.hidden, *pooling, &mut one);
            let values = device.read(&one);
            for (row, part) in out.data.chunks_mut(width).zip(values.chunks(hidden)) {
                row[i * hidden..(i + 1) * hidden].copy_from_slice(part);
            }
        }
        out
    }

    /// Saves to the new folder `dir`, whole or not at all. `card` becomes the model card, `README.md`.
    pub fn save(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        let new = AtomicDir::create(dir)?;
        self.write_into(new.path(), card, dtype)?;
        new.commit()
    }

    /// Writes the files of the model into a folder that exists.
    pub fn write_into(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        let read = |place: usize| self.params.device().read(self.params.value(place));
        let parts = self.slots.iter().flat_map(|(slot, shape)| {
            let names = self.architecture.tensors(*slot);
            let rows = shape[0] / names.len();
            names.into_iter().map(move |name| {
                let mut shape = shape.clone();
                shape[0] = rows;
                (name, shape)
            })
        });
        let mut writer = TensorWriter::create(&dir.join("model.safetensors"), parts.collect(), dtype, &[])?;
        for (place, (slot, _)) in self.slots.iter().enumerate() {
            let names = self.architecture.tensors(*slot);
            let values = read(place);
            for (name, part) in names.iter().zip(values.chunks(values.len() / names.len())) {
                writer.push(name, part)?;
            }
        }
        writer.finish()?;
        let mut config = self.config.clone();
        let stored = match dtype {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
        };
        for key in ["dtype", "torch_dtype"] {
            if config.get(key).is_some() {
                config[key] = stored.into();
            }
        }
        if let Some(Value::Array(list)) = config.get_mut("architectures") {
            // The heads are gone.
            for name in list {
                let base = name.as_str().and_then(|n| n.split_once("For")).map(|(b, _)| format!("{b}Model"));
                if let Some(base) = base {
                    *name = base.into();
                }
            }
        }
        write_json(&dir.join("config.json"), &config)?;
        self.write_rest(dir, card, dtype)
    }

    /// Writes what stands beside the network's parameters and its config.
    pub(crate) fn write_rest(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        io::write(&dir.join("tokenizer.json"), self.tokenizer.to_json()?.as_bytes())?;
        for (name, bytes) in &self.files {
            io::write(&dir.join(name), bytes)?;
        }
        let modules = SentenceModules {
            max_seq_length: self.modules.max_seq_length.or(self.tokenizer.max_tokens),
            dense: self.head.dense.iter().map(|d| d.spec.clone()).collect(),
            ..self.modules.clone()
        };
        let folders = modules.write(dir, self.network.spec().hidden)?;
        for (layer, folder) in self.head.dense.iter().zip(folders) {
            layer.spec.write_weights(&folder, &layer.weights(&self.params), dtype)?;
        }
        io::write(&dir.join("README.md"), card.as_bytes())
    }
}

type Slots = Vec<(Slot, Vec<usize>)>;

fn read_params<D: Device>(
    home: &Path,
    architecture: &Architecture,
    spec: &Spec,
    device: &D,
) -> Result<(Params<D>, Slots)> {
    let mut checkpoint = Checkpoint::open(home)?;
    let slots = spec.slots();
    let probe = architecture.tensors(Slot::Tokens).remove(0);
    checkpoint.strip_prefix(architecture.prefixes, &probe)?;
    let mut params = Params::new(device);
    let mut read = HashSet::new();
    for (slot, shape) in &slots {
        let names = architecture.tensors(*slot);
        let mut part = shape.clone();
        part[0] /= names.len();
        let mut values = Vec::new();
        for name in names {
            let mut one = checkpoint.read(&name, &part)?;
            match values.is_empty() {
                true => values = one,
                false => values.append(&mut one),
            }
            read.insert(name);
        }
        params.push(shape, &values);
    }
    let surplus = checkpoint.unused(&read, architecture.ignorable);
    if let Some(first) = surplus.first() {
        let what = format!(
            "holds {} tensors that the architecture has no place for, such as {first:?}",
            surplus.len()
        );
        return Err(checkpoint.fault(&what, "use the config.json that was saved with the model"));
    }
    Ok((params, slots))
}
