//! ModernBERT (Warner et al. 2024), with mmBERT and Granite's embedding models: rotary positions, norms before
//! the parts, gated feed-forward, and attention that is local in most layers.
//!
//! Key names of transformers 4 (`global_rope_theta`, `local_rope_theta`, `global_attn_every_n_layers`) and of
//! transformers 5 (`rope_parameters`, `layer_types`).

use super::{Architecture, activation, probability, refuse, sizes};
use crate::json::Object;
use polygrade_data::Result;
use polygrade_nn::transformer::{LayerSpec, Positions, Slot, Spec};
use serde_json::Value;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["modernbert"],
    spec,
    names,
    prefixes: &["model."],
    ignorable: &["head.", "decoder.", "classifier."],
    limit: |config| Ok(Some(config.count("max_position_embeddings")?.unwrap_or(8192))),
};

fn spec(config: &Object) -> Result<Spec> {
    refuse(config, "position_embedding_type", &["absolute", "rope", "sans_pos"])?;
    let s = sizes(config)?;
    if !(s.hidden / s.heads).is_multiple_of(2) {
        let what = format!("has heads of {} values, which cannot be rotated in pairs", s.hidden / s.heads);
        return Err(config.fault(&what, "restore the file from where the model came from"));
    }
    let flag = |key: &str| Ok::<_, polygrade_data::Error>(config.flag(key)?.unwrap_or(false));
    // A token sees half of the window to either side, itself in the middle.
    let window = config.count("local_attention")?.unwrap_or(128) / 2;
    let global = theta(config, "full_attention", "global_rope_theta", 160_000.0)?;
    let local = theta(config, "sliding_attention", "local_rope_theta", 10_000.0)?;
    let layers = local_layers(config, s.layers)?.into_iter().map(|is_local| match is_local {
        true => LayerSpec { window: Some(window), theta: local },
        false => LayerSpec { window: None, theta: global },
    });
    Ok(Spec {
        vocab: s.vocab,
        hidden: s.hidden,
        heads: s.heads,
        intermediate: s.intermediate,
        activation: activation(config, "hidden_activation")?,
        gated: true,
        layers: layers.collect(),
        positions: Positions::Rotary,
        types: 0,
        pre_norm: true,
        norm_bias: flag("norm_bias")?,
        attention_bias: flag("attention_bias")?,
        mlp_bias: flag("mlp_bias")?,
        eps: config.number("norm_eps")?.unwrap_or(1e-5) as f32,
        // The model drops in other places than the network here (embedding_dropout, mlp_dropout); released
        // checkpoints have 0 there, and other values are not applied.
        hidden_dropout: 0.0,
        attention_dropout: probability(config, "attention_dropout")?,
    })
}

fn theta(config: &Object, kind: &str, old: &str, default: f64) -> Result<f32> {
    let fault = |what: &str| config.fault(what, "restore the file from where the model came from");
    if let Some(parameters) = config.object("rope_parameters")? {
        let Some(own) = parameters.get(kind).and_then(Value::as_object) else {
            return Err(fault(&format!("\"rope_parameters\" lacks {kind:?}")));
        };
        let rope = own.get("rope_type").and_then(Value::as_str).unwrap_or("default");
        if rope != "default" {
            return Err(
                config.fault(&format!("{kind:?} has the rope_type {rope:?}"), "only default is computed")
            );
        }
        return match own.get("rope_theta").and_then(Value::as_f64).filter(|t| *t > 0.0) {
            Some(theta) => Ok(theta as f32),
            None => Err(fault(&format!("\"rope_parameters\" gives {kind:?} no rope_theta above 0"))),
        };
    }
    if config.get("rope_scaling").is_some() {
        return Err(config.fault("asks for rope_scaling", "only unscaled rotations are computed"));
    }
    match config.number(old)?.unwrap_or(default) {
        theta if theta > 0.0 => Ok(theta as f32),
        theta => Err(fault(&format!("{old:?} is {theta}"))),
    }
}

/// For each layer, whether its attention is local.
fn local_layers(config: &Object, layers: usize) -> Result<Vec<bool>> {
    let fix = "restore the file from where the model came from";
    if let Some(list) = config.get("layer_types") {
        let kinds = list.as_array().filter(|l| l.len() == layers);
        let kinds = kinds
            .ok_or_else(|| config.fault(&format!("\"layer_types\" is no list of {layers} kinds"), fix))?;
        return kinds
            .iter()
            .map(|kind| match kind.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(config.fault(&format!("\"layer_types\" holds {kind}"), fix)),
            })
            .collect();
    }
    let every = config.count("global_attn_every_n_layers")?.unwrap_or(3);
    Ok((0..layers).map(|i| i % every != 0).collect())
}

fn names(slot: Slot) -> Vec<String> {
    let layer = |i: usize, name: &str| vec![format!("layers.{i}.{name}")];
    match slot {
        Slot::Tokens => vec!["embeddings.tok_embeddings".into()],
        Slot::Positions => vec!["embeddings.position_embeddings".into()],
        Slot::Types => vec!["embeddings.token_type_embeddings".into()],
        Slot::EmbeddingNorm(_) => vec!["embeddings.norm".into()],
        Slot::Qkv(i, _) => layer(i, "attn.Wqkv"),
        Slot::AttentionOut(i, _) => layer(i, "attn.Wo"),
        Slot::AttentionNorm(i, _) => layer(i, "attn_norm"),
        Slot::Up(i, _) => layer(i, "mlp.Wi"),
        Slot::Down(i, _) => layer(i, "mlp.Wo"),
        Slot::MlpNorm(i, _) => layer(i, "mlp_norm"),
        Slot::FinalNorm(_) => vec!["final_norm".into()],
    }
}
