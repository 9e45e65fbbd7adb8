//! An encoder of either kind, and an encoder of either kind in training.

use crate::checkpoint::{Checkpoint, Dtype};
use crate::static_encoder::{Prompts, StaticEncoder};
use crate::transformer_encoder::TransformerEncoder;
use crate::{TextKind, TextTokenizer, modules};
use polygrade_data::Result;
use polygrade_data::io::AtomicDir;
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// What turns texts into vectors.
pub trait TextEncoder: Send + Sync {
    /// What it is, in a word or two: `static`, or the architecture of a transformer.
    fn kind(&self) -> &str;
    /// Width of the vectors.
    fn dim(&self) -> usize;
    /// Number of parameters.
    fn parameters(&self) -> usize;
    /// Tells encoders apart: a hash of parameters, settings and tokeniser.
    fn fingerprint(&self) -> u64;
    /// The tokeniser.
    fn tokenizer(&self) -> &TextTokenizer;
    /// What is put before queries and passages.
    fn prompts(&self) -> &Prompts;
    /// Sets what is put before queries and passages.
    fn set_prompts(&mut self, prompts: Prompts);
    /// Whether vectors have length 1.
    fn normalizes(&self) -> bool;
    /// Makes vectors have length 1.
    fn normalize(&mut self);
    /// Whether all parameters are finite numbers.
    fn is_finite(&self) -> bool;
    /// The vectors of packed texts, one a row. With `threads`, rayon's threads share the work; the result is the
    /// same.
    fn encode_bags(&self, bags: &Bags, threads: bool) -> Matrix;
    /// Writes the files of the model into a folder that exists; `card` becomes `README.md`.
    fn write_into(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()>;

    /// Saves to the new folder `dir`, whole or not at all.
    fn save(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        let new = AtomicDir::create(dir)?;
        self.write_into(new.path(), card, dtype)?;
        new.commit()
    }

    /// The texts as packed tokens, prompts included.
    fn tokenize(&self, texts: &[&str], kind: TextKind) -> Result<Bags> {
        let prompts = self.prompts();
        let prompt = match kind {
            TextKind::Query => &prompts.query,
            TextKind::Passage => &prompts.passage,
        };
        if prompt.is_empty() {
            return self.tokenizer().bags(texts);
        }
        let texts: Vec<Cow<str>> = texts.iter().map(|t| format!("{prompt}{t}").into()).collect();
        self.tokenizer().bags(&texts)
    }

    /// The vectors of texts, one a row.
    fn encode(&self, texts: &[&str], kind: TextKind) -> Result<Matrix> {
        Ok(self.encode_bags(&self.tokenize(texts, kind)?, true))
    }
}

impl TextEncoder for StaticEncoder {
    fn kind(&self) -> &str {
        "static"
    }
    fn dim(&self) -> usize {
        StaticEncoder::dim(self)
    }
    fn parameters(&self) -> usize {
        StaticEncoder::parameters(self)
    }
    fn fingerprint(&self) -> u64 {
        StaticEncoder::fingerprint(self)
    }
    fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }
    fn prompts(&self) -> &Prompts {
        &self.prompts
    }
    fn set_prompts(&mut self, prompts: Prompts) {
        self.prompts = prompts;
    }
    fn normalizes(&self) -> bool {
        self.normalize
    }
    fn normalize(&mut self) {
        self.normalize = true;
    }
    fn is_finite(&self) -> bool {
        self.table.is_finite() && self.log_weights.iter().all(|v| v.is_finite())
    }
    fn encode_bags(&self, bags: &Bags, threads: bool) -> Matrix {
        StaticEncoder::encode_bags(self, bags, threads)
    }
    fn write_into(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        self.write_as(dir, card, dtype)
    }
}

impl TextEncoder for TransformerEncoder {
    fn kind(&self) -> &str {
        self.architecture()
    }
    fn dim(&self) -> usize {
        TransformerEncoder::dim(self)
    }
    fn parameters(&self) -> usize {
        TransformerEncoder::parameters(self)
    }
    fn fingerprint(&self) -> u64 {
        TransformerEncoder::fingerprint(self)
    }
    fn tokenizer(&self) -> &TextTokenizer {
        TransformerEncoder::tokenizer(self)
    }
    fn prompts(&self) -> &Prompts {
        &self.modules().prompts
    }
    fn set_prompts(&mut self, prompts: Prompts) {
        TransformerEncoder::set_prompts(self, prompts);
    }
    fn normalizes(&self) -> bool {
        TransformerEncoder::normalizes(self)
    }
    fn normalize(&mut self) {
        TransformerEncoder::normalize(self);
    }
    fn is_finite(&self) -> bool {
        TransformerEncoder::is_finite(self)
    }
    fn encode_bags(&self, bags: &Bags, threads: bool) -> Matrix {
        TransformerEncoder::encode_bags(self, bags, threads)
    }
    fn write_into(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        TransformerEncoder::write_into(self, dir, card, dtype)
    }
}

/// An encoder of either kind.
#[derive(Debug, Clone)]
pub enum Encoder {
    /// A table of token vectors.
    Static(Box<StaticEncoder>),
    /// A transformer.
    Transformer(Box<TransformerEncoder>),
}

impl Encoder {
    /// Loads the model in a folder, whichever kind it is.
    pub fn load(dir: &Path) -> Result<Self> {
        match modules::is_static(dir)? {
            true => StaticEncoder::load(dir).map(Encoder::from),
            false => TransformerEncoder::load(dir).map(Encoder::from),
        }
    }

    /// The type that the tensors of the model in a folder have, which they can be saved as without loss; `F32` where
    /// they differ, or are computed from what the folder holds.
    pub fn stored_dtype(dir: &Path) -> Dtype {
        let modules = modules::module_list(dir).ok().flatten().unwrap_or_default();
        let mut homes: Vec<_> = modules.into_iter().map(|m| m.path).collect();
        homes.push(dir.to_owned());
        let found: Vec<Dtype> = homes
            .iter()
            .filter_map(|home| Checkpoint::open(home).ok())
            .map(|tensors| if tensors.has("embeddings") { Dtype::F32 } else { tensors.dtype() })
            .collect();
        match found.split_first() {
            Some((first, rest)) if rest.iter().all(|other| other == first) => *first,
            _ => Dtype::F32,
        }
    }
}

impl From<StaticEncoder> for Encoder {
    fn from(encoder: StaticEncoder) -> Self {
        Encoder::Static(Box::new(encoder))
    }
}

impl From<TransformerEncoder> for Encoder {
    fn from(encoder: TransformerEncoder) -> Self {
        Encoder::Transformer(Box::new(encoder))
    }
}

impl Deref for Encoder {
    type Target = dyn TextEncoder;

    fn deref(&self) -> &(dyn TextEncoder + 'static) {
        match self {
            Encoder::Static(e) => &**e,
            Encoder::Transformer(e) => &**e,
        }
    }
}

impl DerefMut for Encoder {
    fn deref_mut(&mut self) -> &mut (dyn TextEncoder + 'static) {
        match self {
            Encoder::Static(e) => &mut **e,
            Encoder::Transformer(e) => &mut **e,
        }
    }
}
