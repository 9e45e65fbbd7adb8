//! Architectures: what a `config.json` says of a transformer, and how its checkpoint names the parameters.
//!
//! One file an architecture, which says only what differs; the network itself is
//! [`polygrade_nn::transformer`]. A new one needs a [`Spec`] from its config and names for its slots.

mod bert;
mod modernbert;
mod roberta;

use crate::json::Object;
use polygrade_data::Result;
use polygrade_nn::device::Activation;
use polygrade_nn::transformer::{Part, Slot, Spec};

/// An architecture.
pub(crate) struct Architecture {
    /// Values of `model_type` in `config.json`.
    pub(crate) model_types: &'static [&'static str],
    /// What a `config.json` says.
    pub(crate) spec: fn(&Object) -> Result<Spec>,
    /// The checkpoint's name of a parameter, without its `.weight` or `.bias`; of a parameter that is kept in
    /// parts, the parts' names from top to bottom.
    pub(crate) names: fn(Slot) -> Vec<String>,
    /// What may stand before all names.
    pub(crate) prefixes: &'static [&'static str],
    /// Tensors that an encoder does not need begin with one of these.
    pub(crate) ignorable: &'static [&'static str],
    /// Longest text in tokens that the positions allow; `None`: what the config says elsewhere.
    pub(crate) limit: fn(&Object) -> Result<Option<usize>>,
}

const ALL: [Architecture; 3] = [bert::ARCHITECTURE, roberta::ARCHITECTURE, modernbert::ARCHITECTURE];

impl Architecture {
    /// The architecture that a `config.json` names.
    pub(crate) fn of(config: &Object) -> Result<&'static Architecture> {
        static KNOWN: [Architecture; 3] = ALL;
        let known = || KNOWN.iter().flat_map(|a| a.model_types).copied().collect::<Vec<_>>().join(", ");
        let Some(name) = config.text("model_type")? else {
            let fix = format!("give a checkpoint of one of the architectures {}", known());
            return Err(config.fault("names no architecture (model_type)", &fix));
        };
        KNOWN.iter().find(|a| a.model_types.contains(&name)).ok_or_else(|| {
            let what = format!("names the architecture {name:?} (model_type), which is not known");
            config.fault(&what, &format!("known are {}", known()))
        })
    }

    /// The names of a parameter's parts in the checkpoint.
    pub(crate) fn tensors(&self, slot: Slot) -> Vec<String> {
        let end = match slot {
            Slot::Tokens | Slot::Positions | Slot::Types => "weight",
            Slot::EmbeddingNorm(p)
            | Slot::FinalNorm(p)
            | Slot::Qkv(_, p)
            | Slot::AttentionOut(_, p)
            | Slot::AttentionNorm(_, p)
            | Slot::Up(_, p)
            | Slot::Down(_, p)
            | Slot::MlpNorm(_, p) => match p {
                Part::Weight => "weight",
                Part::Bias => "bias",
            },
        };
        (self.names)(slot).into_iter().map(|name| format!("{name}.{end}")).collect()
    }
}

/// A size that the config must give, at most `most`: a larger one is a damaged file, not a model.
fn size(config: &Object, key: &str, most: usize) -> Result<usize> {
    match config.count(key)? {
        Some(n) if n <= most => Ok(n),
        Some(n) => {
            let what = format!("{key:?} is {n}, more than any model has ({most})");
            Err(config.fault(&what, "restore the file from where the model came from"))
        }
        None => {
            Err(config.fault(&format!("has no {key:?}"), "restore the file from where the model came from"))
        }
    }
}

/// A probability, 0 where the key is missing.
fn probability(config: &Object, key: &str) -> Result<f32> {
    let p = config.number(key)?.unwrap_or(0.0);
    match (0.0..1.0).contains(&p) {
        true => Ok(p as f32),
        false => Err(config.fault(&format!("{key:?} is {p}"), "set it to at least 0 and below 1")),
    }
}

/// Hugging Face's name of an activation.
fn activation(config: &Object, key: &str) -> Result<Activation> {
    let name = config.text(key)?.unwrap_or("gelu");
    Ok(match name {
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        _ => {
            let fix = "known are gelu, gelu_new, gelu_pytorch_tanh, relu and silu";
            return Err(config.fault(&format!("{key:?} is {name:?}"), fix));
        }
    })
}

/// The sizes that all architectures share.
struct Sizes {
    vocab: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    layers: usize,
}

fn sizes(config: &Object) -> Result<Sizes> {
    let sizes = Sizes {
        vocab: size(config, "vocab_size", 1 << 24)?,
        hidden: size(config, "hidden_size", 1 << 15)?,
        heads: size(config, "num_attention_heads", 1 << 10)?,
        intermediate: size(config, "intermediate_size", 1 << 18)?,
        layers: size(config, "num_hidden_layers", 1 << 10)?,
    };
    if !sizes.hidden.is_multiple_of(sizes.heads) {
        let what = format!("\"hidden_size\" {} is no multiple of {} heads", sizes.hidden, sizes.heads);
        return Err(config.fault(&what, "restore the file from where the model came from"));
    }
    Ok(sizes)
}

/// Settings that would give other vectors than this program computes.
fn refuse(config: &Object, key: &str, wanted: &[&str]) -> Result<()> {
    match config.text(key)? {
        Some(value) if !wanted.contains(&value) => {
            let what = format!("{key:?} is {value:?}");
            Err(config.fault(&what, &format!("only {} is computed", wanted.join(", "))))
        }
        _ => Ok(()),
    }
}
