//! BERT (Devlin et al. 2019), and what has its layout: MiniLM, multilingual E5 small, GTE and BGE of the first
//! generation.

use super::{Architecture, activation, probability, refuse, size, sizes};
use crate::json::Object;
use polygrade_data::Result;
use polygrade_nn::transformer::{LayerSpec, Positions, Slot, Spec};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["bert"],
    spec,
    names,
    prefixes: &["bert.", "model."],
    ignorable: &["pooler.", "cls.", "classifier.", "embeddings.position_ids"],
    limit: |config| config.count("max_position_embeddings"),
};

fn spec(config: &Object) -> Result<Spec> {
    absolute(config, 0)
}

/// The layout with learned positions, the first of them `first`.
pub(super) fn absolute(config: &Object, first: usize) -> Result<Spec> {
    refuse(config, "position_embedding_type", &["absolute"])?;
    if config.flag("is_decoder")? == Some(true) {
        return Err(config.fault("says that the model is a decoder", "give an encoder"));
    }
    let s = sizes(config)?;
    let rows = size(config, "max_position_embeddings", 1 << 20)?;
    if rows <= first {
        let what = format!("\"max_position_embeddings\" is {rows}, and the first token takes row {first}");
        return Err(config.fault(&what, "restore the file from where the model came from"));
    }
    Ok(Spec {
        vocab: s.vocab,
        hidden: s.hidden,
        heads: s.heads,
        intermediate: s.intermediate,
        activation: activation(config, "hidden_act")?,
        gated: false,
        layers: vec![LayerSpec { window: None, theta: 0.0 }; s.layers],
        positions: Positions::Learned { rows, first },
        types: config.count("type_vocab_size")?.unwrap_or(2).min(1 << 16),
        pre_norm: false,
        norm_bias: true,
        attention_bias: true,
        mlp_bias: true,
        eps: config.number("layer_norm_eps")?.unwrap_or(1e-12) as f32,
        hidden_dropout: probability(config, "hidden_dropout_prob")?,
        attention_dropout: probability(config, "attention_probs_dropout_prob")?,
    })
}

pub(super) fn names(slot: Slot) -> Vec<String> {
    let layer = |i: usize, name: &str| vec![format!("encoder.layer.{i}.{name}")];
    match slot {
        Slot::Tokens => vec!["embeddings.word_embeddings".into()],
        Slot::Positions => vec!["embeddings.position_embeddings".into()],
        Slot::Types => vec!["embeddings.token_type_embeddings".into()],
        Slot::EmbeddingNorm(_) => vec!["embeddings.LayerNorm".into()],
        Slot::Qkv(i, _) => {
            ["query", "key", "value"].map(|name| format!("encoder.layer.{i}.attention.self.{name}")).to_vec()
        }
        Slot::AttentionOut(i, _) => layer(i, "attention.output.dense"),
        Slot::AttentionNorm(i, _) => layer(i, "attention.output.LayerNorm"),
        Slot::Up(i, _) => layer(i, "intermediate.dense"),
        Slot::Down(i, _) => layer(i, "output.dense"),
        Slot::MlpNorm(i, _) => layer(i, "output.LayerNorm"),
        Slot::FinalNorm(_) => vec!["final_norm".into()],
    }
}
