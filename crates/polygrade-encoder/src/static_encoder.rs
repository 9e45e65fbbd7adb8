//! The static architecture: token embeddings, averaged with learned token weights, an optional projection,
//! and length 1.
//!
//! `v(text) = normalise( P · (1/n) Σ exp(a[tᵢ]) E[tᵢ] )`
//!
//! Weights and table are apart while it is trained; a saved model holds their product, which is the same
//! function, so that sentence-transformers' `StaticEmbedding` (a plain mean) reads it. Known elsewhere as
//! model2vec or static embeddings.

use crate::table::Table;
use crate::tokenizer::TextTokenizer;
use crate::{TextKind, lsi};
use polygrade_data::Result;
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::{self, Transpose, l2_normalize};
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;
use std::borrow::Cow;
use xxhash_rust::xxh3::Xxh3;

/// Texts put before queries and passages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Before each query.
    pub query: String,
    /// Before each passage.
    pub passage: String,
}

/// A static encoder.
#[derive(Debug, Clone)]
pub struct StaticEncoder {
    /// The tokeniser; its ids are rows of `table`.
    pub tokenizer: TextTokenizer,
    /// Token embeddings, vocabulary × width.
    pub table: Table,
    /// The logarithm of each token's weight.
    pub log_weights: Vec<f32>,
    /// Optional projection, width × output width.
    pub projection: Option<Matrix>,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// Prompts.
    pub prompts: Prompts,
}

/// How much each token counts before training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenWeights {
    /// All the same.
    Equal,
    /// Inverse document frequency, log(1 + N / df).
    Idf,
    /// Smooth inverse frequency, a / (a + p) with a = 0.001 (Arora et al. 2017).
    Sif,
}

/// Where a new encoder's embeddings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Drawn at random: the encoder matches words.
    Random,
    /// From co-occurrence in the texts, by latent semantic indexing.
    Lsi,
}

/// Settings of an encoder made from nothing but a collection's texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewStatic {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the embeddings.
    pub dim: usize,
    /// Output width of a projection, if there is to be one.
    pub projection: Option<usize>,
    /// Weights of the tokens before training.
    pub weights: TokenWeights,
    /// Where the embeddings come from.
    pub init: Init,
}

impl Default for NewStatic {
    fn default() -> Self {
        NewStatic {
            vocab_size: 32_000,
            dim: 256,
            projection: None,
            weights: TokenWeights::Idf,
            init: Init::Lsi,
        }
    }
}

/// Length of the random part of an embedding beside its co-occurrence part, which has length 1. It keeps rare
/// tokens apart that occur in the same texts.
const RANDOM_PART: f32 = 0.5;

/// What new encoders of a collection share, whatever their seed: the tokeniser, the weights, and the part of
/// the embeddings that comes from co-occurrence.
#[derive(Debug, Clone)]
pub struct NewStaticBase {
    tokenizer: TextTokenizer,
    meaning: Option<Matrix>,
    log_weights: Vec<f32>,
    settings: NewStatic,
}

impl NewStaticBase {
    /// Trains a tokeniser on `texts` and counts co-occurrence. Texts of one document, such as translations of
    /// one another, have the same number in `documents`.
    pub fn new(texts: &[&str], documents: &[u32], settings: &NewStatic) -> Result<Self> {
        let tokenizer = TextTokenizer::train(settings.vocab_size, texts)?;
        let bags = tokenizer.bags(texts)?;
        let vocab = tokenizer.vocab_size();
        let meaning =
            (settings.init == Init::Lsi).then(|| lsi::table(&bags, documents, vocab, settings.dim, 1));
        let log_weights = initial_weights(settings.weights, vocab, &bags);
        Ok(NewStaticBase { tokenizer, meaning, log_weights, settings: *settings })
    }

    /// An encoder with the random numbers of `seed`.
    pub fn encoder(&self, seed: u64) -> StaticEncoder {
        let settings = &self.settings;
        let mut out = StaticEncoder::random(self.tokenizer.clone(), settings.dim, settings.projection, seed);
        if let Some(meaning) = &self.meaning {
            out.table
                .plain_mut()
                .data
                .iter_mut()
                .zip(&meaning.data)
                .for_each(|(r, m)| *r = *r * RANDOM_PART + m);
        }
        out.log_weights.clone_from(&self.log_weights);
        out.silence_unknown();
        out
    }
}

impl StaticEncoder {
    /// Embeddings of width `dim` drawn at random, tokens of equal weight; with a width, a projection to it.
    pub fn random(tokenizer: TextTokenizer, dim: usize, projection: Option<usize>, seed: u64) -> Self {
        let rng = CounterRng::new(seed);
        let random = |rows: usize, cols: usize, purpose: u64| {
            let rng = rng.fork(purpose);
            let scale = 1.0 / (cols as f64).sqrt();
            let values = (0..rows * cols).into_par_iter().map(|i| (rng.normal(i as u64) * scale) as f32);
            Matrix::new(cols, values.collect())
        };
        let table = random(tokenizer.vocab_size(), dim, 1);
        let mut out = StaticEncoder {
            log_weights: vec![0.0; table.rows()],
            table: table.into(),
            projection: projection.map(|out| random(dim, out, 2)),
            tokenizer,
            normalize: true,
            prompts: Prompts::default(),
        };
        out.silence_unknown();
        out
    }

    /// The unknown token stands for unlike things: it says nothing, and other tools drop it.
    fn silence_unknown(&mut self) {
        if let Some(unknown) = self.tokenizer.unknown_id() {
            self.table.plain_mut().row_mut(unknown as usize).fill(0.0);
            self.log_weights[unknown as usize] = 0.0;
        }
    }

    /// Sets the tokens' weights by how often they occur in texts.
    pub fn weigh_tokens(&mut self, weights: TokenWeights, texts: &Bags) {
        self.log_weights = initial_weights(weights, self.table.rows(), texts);
        self.silence_unknown();
    }

    /// Width of the vectors.
    pub fn dim(&self) -> usize {
        self.projection.as_ref().map_or(self.table.cols(), |p| p.cols)
    }

    /// Tells encoders apart: a hash of parameters, prompts and tokeniser.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        let projection = self.projection.iter().flat_map(|p| &p.data);
        self.table.hash(&mut hash);
        self.log_weights.iter().chain(projection).for_each(|v| hash.update(&v.to_bits().to_le_bytes()));
        hash.update(format!("{:?} {} {}", self.prompts, self.normalize, self.dim()).as_bytes());
        hash.update(self.tokenizer.to_json().unwrap_or_default().as_bytes());
        hash.digest()
    }

    /// Moves the parameters by a share of the way to those of `other`. `false`, and nothing is moved, if the two have other
    /// tokens or shapes.
    pub fn move_towards(&mut self, other: &Self, share: f32) -> bool {
        let shape = |p: &Option<Matrix>| p.as_ref().map(|p| (p.rows(), p.cols));
        let same_shapes = (self.table.rows(), self.table.cols()) == (other.table.rows(), other.table.cols())
            && shape(&self.projection) == shape(&other.projection);
        let json = |e: &Self| e.tokenizer.to_json().ok();
        if !same_shapes || json(self).is_none_or(|own| Some(own) != json(other)) {
            return false;
        }
        let (from, to) = (self.table.plain_mut(), other.table.plain());
        let towards = |x: &mut f32, y: &f32| *x += share * (y - *x);
        from.data.par_iter_mut().zip(&to.data).for_each(|(x, y)| towards(x, y));
        self.log_weights.iter_mut().zip(&other.log_weights).for_each(|(x, y)| towards(x, y));
        if let (Some(from), Some(to)) = (&mut self.projection, &other.projection) {
            from.data.iter_mut().zip(&to.data).for_each(|(x, y)| towards(x, y));
        }
        true
    }

    /// The same encoder with these tokens alone, renumbered in their order, for texts whose tokens are renumbered so; its
    /// tokeniser stays as it was.
    #[must_use]
    pub fn with_tokens(&self, tokens: &[u32]) -> Self {
        StaticEncoder {
            tokenizer: self.tokenizer.clone(),
            table: self.table.select(tokens).into(),
            log_weights: tokens.iter().map(|t| self.log_weights[*t as usize]).collect(),
            projection: self.projection.clone(),
            normalize: self.normalize,
            prompts: self.prompts.clone(),
        }
    }

    /// The table with the tokens' weights in it.
    pub(crate) fn folded(&self) -> Matrix {
        let mut folded = self.table.plain().into_owned();
        folded.data.par_chunks_mut(self.table.cols()).zip(&self.log_weights).for_each(|(row, a)| {
            let weight = a.exp();
            row.iter_mut().for_each(|v| *v *= weight);
        });
        folded
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.table.values() + self.log_weights.len() + self.projection.as_ref().map_or(0, |p| p.data.len())
    }

    /// The texts as bags of tokens, prompts included.
    pub fn tokenize<S: AsRef<str> + Sync>(&self, texts: &[S], kind: TextKind) -> Result<Bags> {
        let prompt = match kind {
            TextKind::Query => &self.prompts.query,
            TextKind::Passage => &self.prompts.passage,
        };
        if prompt.is_empty() {
            return self.tokenizer.bags(texts);
        }
        let texts: Vec<Cow<str>> = texts.iter().map(|t| format!("{prompt}{}", t.as_ref()).into()).collect();
        self.tokenizer.bags(&texts)
    }

    /// The vectors of texts, one a row. A text without tokens gives zeros.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S], kind: TextKind) -> Result<Matrix> {
        Ok(self.encode_bags(&self.tokenize(texts, kind)?, true))
    }

    /// The vectors of texts that are tokenised already.
    pub fn encode_bags(&self, bags: &Bags, threads: bool) -> Matrix {
        let mut mean = Matrix::default();
        self.table.forward(&self.log_weights, bags, threads, &mut mean);
        let mut out = match &self.projection {
            None => mean,
            Some(p) => {
                let mut out = Matrix::default();
                kernels::matmul(&mean, p, Transpose::None, threads, &mut out);
                out
            }
        };
        if self.normalize && out.cols > 0 {
            let one = |row: &mut [f32]| {
                l2_normalize(row);
            };
            if threads {
                out.data.par_chunks_mut(out.cols).for_each(one);
            } else {
                out.data.chunks_mut(out.cols).for_each(one);
            }
        }
        out
    }
}

fn initial_weights(kind: TokenWeights, vocab: usize, bags: &Bags) -> Vec<f32> {
    let mut documents = vec![0u32; vocab];
    let mut occurrences = vec![0u32; vocab];
    let mut last = vec![usize::MAX; vocab];
    for i in 0..bags.len() {
        for &t in bags.get(i) {
            occurrences[t as usize] += 1;
            if std::mem::replace(&mut last[t as usize], i) != i {
                documents[t as usize] += 1;
            }
        }
    }
    let (n, all) = (bags.len() as f64, bags.tokens.len().max(1) as f64);
    let weight = |t: usize| match kind {
        TokenWeights::Equal => 1.0,
        TokenWeights::Idf => (1.0 + n / f64::from(documents[t].max(1))).ln(),
        TokenWeights::Sif => 1e-3 / (1e-3 + f64::from(occurrences[t]) / all),
    };
    (0..vocab).map(|t| weight(t).ln() as f32).collect()
}
