//! A new transformer on the tokens of a static encoder: what `polygrade pretrain --layers` trains.
//!
//! It has ModernBERT's layout: rotary positions, which need no table and reach beyond the texts of training, norms before
//! the parts, so that layers begin as small additions to the embeddings, and a gated feed-forward part.

use super::TransformerEncoder;
use crate::arch::Architecture;
use crate::head::Head;
use crate::json::Object;
use crate::modules::{Pooling, SentenceModules};
use crate::static_encoder::StaticEncoder;
use polygrade_data::{Error, Result};
use polygrade_nn::Cpu;
use polygrade_nn::params::Params;
use polygrade_nn::rng::CounterRng;
use polygrade_nn::transformer::{Slot, Transformer};
use serde_json::json;
use std::path::PathBuf;

/// Values of a head: what MiniLM has.
const HEAD: usize = 32;

/// Standard deviation of a new matrix (BERT's).
const SPREAD: f64 = 0.02;

/// Tokens of a text at most.
const TOKENS: usize = 512;

impl TransformerEncoder {
    /// A transformer of so many layers on the tokeniser and the embeddings of a static encoder: as wide as these, the mean
    /// of a text's tokens its vector. The layers' matrices are drawn at random, N(0, 0.02²).
    ///
    /// # Errors
    /// There are no layers, or the embeddings are no multiple of 32 wide.
    pub fn on(base: &StaticEncoder, layers: usize, seed: u64) -> Result<Self> {
        let width = base.table.cols();
        if layers == 0 || !width.is_multiple_of(HEAD) {
            let what = format!(
                "{layers} layers on embeddings of {width} values: there must be a layer, and a multiple of {HEAD} values"
            );
            return Err(Error::Usage(what));
        }
        let tokenizer = base.tokenizer.for_transformer(TOKENS)?;
        let id = |token: &str| tokenizer.id(token).unwrap_or_default();
        let vocab = tokenizer.vocab_size();
        let config = json!({
            "architectures": ["ModernBertModel"],
            "model_type": "modernbert",
            "vocab_size": vocab,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width / HEAD,
            "hidden_activation": "gelu",
            "max_position_embeddings": TOKENS,
            "norm_eps": 1e-5,
            "norm_bias": false,
            "attention_bias": false,
            "mlp_bias": false,
            "attention_dropout": 0.0,
            "embedding_dropout": 0.0,
            "mlp_dropout": 0.0,
            "global_attn_every_n_layers": 3,
            "local_attention": 128,
            "global_rope_theta": 160_000.0,
            "local_rope_theta": 10_000.0,
            "pad_token_id": id("[PAD]"),
            "cls_token_id": id("[CLS]"),
            "bos_token_id": id("[CLS]"),
            "sep_token_id": id("[SEP]"),
            "eos_token_id": id("[SEP]"),
            "dtype": "float32",
        });
        let tokens = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": tokenizer.unknown(),
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "model_max_length": TOKENS,
            "clean_up_tokenization_spaces": false,
        });
        let object = Object::of("config.json", config.clone());
        let architecture = Architecture::of(&object)?;
        let spec = (architecture.spec)(&object)?;
        let rng = CounterRng::new(seed).fork(7);
        let slots = spec.slots();
        let mut params = Params::new(&Cpu::new(true));
        for (place, (slot, shape)) in slots.iter().enumerate() {
            let count = shape.iter().product::<usize>();
            let rng = rng.fork(place as u64);
            let values: Vec<f32> = match slot {
                _ if shape.len() == 1 => vec![1.0; count],
                Slot::Tokens => embeddings(base, count, &rng),
                _ => (0..count as u64).map(|i| (SPREAD * rng.normal(i)) as f32).collect(),
            };
            params.push(shape, &values);
        }
        Ok(TransformerEncoder {
            architecture,
            tokenizer,
            network: Transformer::new(spec, 0),
            params,
            slots,
            head: Head { dense: Vec::new(), truncate: None, normalize: true, unit: false },
            modules: SentenceModules {
                transformer: PathBuf::new(),
                max_seq_length: Some(TOKENS),
                do_lower_case: false,
                pooling: vec![Pooling::Mean],
                include_prompt: true,
                dense: Vec::new(),
                normalize: true,
                prompts: base.prompts.clone(),
                truncate_dim: None,
                similarity: Some("cosine".into()),
                width: None,
            },
            config,
            files: vec![("tokenizer_config.json", tokens.to_string().into_bytes())],
            origin: None,
        })
    }
}

/// The static encoder's embeddings, scaled to the spread of new ones, and as many new ones as are missing.
fn embeddings(base: &StaticEncoder, count: usize, rng: &CounterRng) -> Vec<f32> {
    let mut values = base.table.data().into_owned();
    let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len().max(1) as f64;
    let scale = (SPREAD / square.sqrt().max(1e-12)) as f32;
    values.iter_mut().for_each(|v| *v *= scale);
    values.extend((values.len() as u64..count as u64).map(|i| (SPREAD * rng.normal(i)) as f32));
    values.truncate(count);
    values
}
