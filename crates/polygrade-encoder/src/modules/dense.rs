//! Dense layers after pooling: their settings and weights.

use crate::checkpoint::{Checkpoint, Dtype, write_safetensors};
use crate::json::{Object, need_object, write_json};
use polygrade_data::Result;
use serde_json::json;
use std::path::{Path, PathBuf};

const LINEAR: &str = "linear.weight";
const BIAS: &str = "linear.bias";
const RESIDUAL: &str = "residual.weight";

pub use polygrade_nn::device::Activation;

/// Functions after a dense layer, by PyTorch's names.
const ALL: [(Activation, &str); 6] = [
    (Activation::Identity, "torch.nn.modules.linear.Identity"),
    (Activation::Tanh, "torch.nn.modules.activation.Tanh"),
    (Activation::Relu, "torch.nn.modules.activation.ReLU"),
    (Activation::Gelu, "torch.nn.modules.activation.GELU"),
    (Activation::Silu, "torch.nn.modules.activation.SiLU"),
    (Activation::Sigmoid, "torch.nn.modules.activation.Sigmoid"),
];

/// The function that PyTorch calls so, by the last part of its name.
fn activation(name: &str) -> Option<Activation> {
    let last = |n: &str| n.rsplit('.').next().map(str::to_owned);
    let found = ALL.iter().find(|(_, known)| last(known) == last(name));
    found.filter(|_| name.starts_with("torch.")).map(|(a, _)| *a)
}

/// A dense layer after pooling: `y = f(W x + b)`, with a residual `y + x` or `y + R x`.
///
/// Its folder is a checkpoint with `linear.weight` (output × input), `linear.bias` if there is a bias, and
/// `residual.weight` if there is a residual and the widths differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseSpec {
    /// The folder of its weights.
    pub path: PathBuf,
    /// Width of x.
    pub in_features: usize,
    /// Width of y.
    pub out_features: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// f
    pub activation: Activation,
    /// Whether there is a residual.
    pub use_residual: bool,
}

impl DenseSpec {
    /// Reads `config.json` in the folder of the module.
    pub fn read(dir: &Path) -> Result<Self> {
        let config = need_object(&dir.join("config.json"))?;
        only_sentences(&config)?;
        let width = |key: &str| -> Result<usize> {
            let found = config.count(key)?;
            found.ok_or_else(|| config.fault(&format!("has no {key:?}"), "restore the file"))
        };
        let name = config.text("activation_function")?.unwrap_or("torch.nn.modules.activation.Tanh");
        let activation = self::activation(name).ok_or_else(|| {
            let known = ALL.map(|(_, n)| n.rsplit('.').next().unwrap_or(n)).join(", ");
            config.fault(&format!("has the activation {name}"), &format!("read are PyTorch's {known}"))
        })?;
        Ok(DenseSpec {
            path: dir.to_owned(),
            in_features: width("in_features")?,
            out_features: width("out_features")?,
            bias: config.flag("bias")?.unwrap_or(true),
            activation,
            use_residual: config.flag("use_residual")?.unwrap_or(false),
        })
    }

    /// Reads the weights from the folder of the module.
    pub fn weights(&self) -> Result<DenseWeights> {
        let tensors = Checkpoint::open(&self.path)?;
        let linear = [self.out_features, self.in_features];
        let mut found = DenseWeights { linear: tensors.read(LINEAR, &linear)?, bias: None, residual: None };
        if self.bias {
            found.bias = Some(tensors.read(BIAS, &linear[..1])?);
        } else if tensors.has(BIAS) {
            let fix = "set bias in config.json to true, or fetch the model again";
            return Err(tensors.fault("has a bias that config.json denies", fix));
        }
        if self.has_residual_weight() {
            found.residual = Some(tensors.read(RESIDUAL, &linear)?);
        }
        Ok(found)
    }

    /// Writes weights into a folder that [`SentenceModules::write`](super::SentenceModules::write) made for them.
    pub fn write_weights(&self, dir: &Path, weights: &DenseWeights, dtype: Dtype) -> Result<()> {
        let linear = vec![self.out_features, self.in_features];
        let mut tensors = vec![(LINEAR, linear.clone(), &weights.linear)];
        tensors.extend(weights.bias.as_ref().map(|b| (BIAS, vec![self.out_features], b)));
        tensors.extend(weights.residual.as_ref().map(|r| (RESIDUAL, linear, r)));
        write_safetensors(&dir.join("model.safetensors"), tensors, dtype, &[])
    }

    /// With equal widths, the residual is x itself.
    fn has_residual_weight(&self) -> bool {
        self.use_residual && self.in_features != self.out_features
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let name = ALL.iter().find(|(a, _)| *a == self.activation).map(|(_, n)| *n);
        let mut config = json!({
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "activation_function": name,
        });
        // Releases before 5.7 refuse a key that they do not know.
        if self.use_residual {
            config["use_residual"] = true.into();
        }
        write_json(&dir.join("config.json"), &config)
    }
}

/// The weights of a dense layer.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseWeights {
    /// W, output × input.
    pub linear: Vec<f32>,
    /// b, if there is one.
    pub bias: Option<Vec<f32>>,
    /// R, output × input, if the residual needs one.
    pub residual: Option<Vec<f32>>,
}

/// Dense and Normalize can be told to work on other things than the text's vector.
pub(super) fn only_sentences(config: &Object) -> Result<()> {
    for key in ["module_input_name", "module_output_name"] {
        if let Some(name) = config.text(key)?.filter(|n| *n != "sentence_embedding") {
            let fix = "only modules that turn sentence_embedding into sentence_embedding are read";
            return Err(config.fault(&format!("works on {name:?} ({key})"), fix));
        }
    }
    Ok(())
}
