//! Adapters in the files of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Read is what PEFT 0.4 and later write for plain LoRA. A setting that would give other vectors than this program
//! computes is an error, never passed over; settings of training alone, such as `lora_dropout`, are.

use super::{Joined, Lora, Module, Pair, kinds};
use crate::checkpoint::{Dtype, write_safetensors};
use crate::json::{FETCH_AGAIN, Object, brief, read_object, write_json};
use crate::modules::SentenceModules;
use crate::tensor_file::TensorFile;
use crate::transformer_encoder::TransformerEncoder;
use polygrade_data::{At, Error, Result};
use polygrade_nn::device::Device;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Settings that change what is computed, unless they are null, false or empty.
const FOREIGN: [&str; 9] = [
    "fan_in_fan_out",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
];

/// Settings of the adapters' first values, or of machinery that a saved adapter does not need.
const HARMLESS: [&str; 7] = [
    "use_rslora",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "megatron_config",
    "runtime_config",
];

/// The module that a tensor belongs to, and whether it is its A.
pub(super) fn split(name: &str) -> Option<(&str, bool)> {
    let a = name.strip_suffix(".lora_A.weight").map(|module| (module, true));
    a.or_else(|| name.strip_suffix(".lora_B.weight").map(|module| (module, false)))
}

/// The model that the adapter in a folder belongs to; `None` if the folder is a model itself or has no adapter.
pub(crate) fn base_of(dir: &Path) -> Result<Option<PathBuf>> {
    if dir.join("config.json").is_file() || !dir.join(CONFIG).is_file() {
        return Ok(None);
    }
    let config = read_object(&dir.join(CONFIG))?;
    let fix =
        "give base_model_name_or_path the path of the base model's folder, seen from the adapter's folder";
    let Some(name) = config.text("base_model_name_or_path")?.filter(|n| !n.trim().is_empty()) else {
        return Err(config.fault("does not say which model the adapter belongs to", fix));
    };
    let is_model = |p: &PathBuf| p.join("config.json").is_file() || p.join("modules.json").is_file();
    let places = [dir.join(name), PathBuf::from(name)];
    match places.iter().find(|p| is_model(p)) {
        Some(base) => Ok(Some(base.clone())),
        None => {
            let [there, here] = places.map(|p| p.display().to_string());
            let what = format!(
                "the adapter in {} belongs to the model {name:?}, and neither {there} nor {here} is a model's folder",
                dir.display()
            );
            Err(config.fault(&what, fix))
        }
    }
}

/// An adapter as its files hold it.
struct Adapter {
    r: usize,
    scale: f32,
    file: TensorFile,
    /// By module, the places of A and B in the file.
    pairs: BTreeMap<String, [Option<usize>; 2]>,
}

impl Adapter {
    fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            let fix = "give the folder of a PEFT adapter, with its adapter_config.json";
            return Err(Error::input(At::file(&path), "is missing", fix));
        }
        let config = read_object(&path)?;
        let (r, scale) = settings(&config)?;
        let path = dir.join(WEIGHTS);
        if !path.is_file() {
            let (what, fix) = match dir.join("adapter_model.bin").is_file() {
                true => (
                    "is missing; adapter_model.bin is not read, since it can run code",
                    "convert it with PEFT: PeftModel.from_pretrained(…).save_pretrained(NEW FOLDER)",
                ),
                false => ("is missing", FETCH_AGAIN),
            };
            return Err(Error::input(At::file(&path), what, fix));
        }
        let file = TensorFile::open(&path)?;
        let mut pairs: BTreeMap<String, [Option<usize>; 2]> = BTreeMap::new();
        for (i, (name, _)) in file.tensors.iter().enumerate() {
            let fault = |what: String, fix: &str| Err(Error::input(At::file(&path), what, fix));
            let Some((module, is_a)) = split(name) else {
                let what = format!("holds the tensor {name:?}, which is no lora_A or lora_B of a matrix");
                return fault(what, "give an adapter of linear layers only, without embeddings or biases");
            };
            let module = module.strip_prefix(PREFIX).unwrap_or(module);
            let slot = &mut pairs.entry(module.to_owned()).or_default()[usize::from(!is_a)];
            if slot.replace(i).is_some() {
                return fault(format!("holds {name:?} with and without {PREFIX:?}"), FETCH_AGAIN);
            }
        }
        Ok(Adapter { r, scale, file, pairs })
    }

    fn fault(&self, what: String, fix: &str) -> Error {
        Error::input(At::file(self.file.path()), what, fix)
    }

    /// A or B of a module, which must have the given shape.
    fn read(&self, module: &str, at: Option<usize>, kind: &str, shape: [usize; 2]) -> Result<Vec<f32>> {
        let Some(at) = at else {
            return Err(self.fault(format!("lacks {kind} of {module:?}"), FETCH_AGAIN));
        };
        let (name, info) = &self.file.tensors[at];
        if info.shape != shape {
            let what = format!("{name:?} has the shape {:?}, expected {shape:?}", info.shape);
            return Err(self.fault(what, "use the adapter_config.json and the base model of this adapter"));
        }
        let values = self.file.read(info, |v| v as f32)?;
        values.ok_or_else(|| {
            let what = format!("{name:?} has the type {:?}", info.dtype);
            self.fault(what, "save the adapter as f32, f16 or bf16")
        })
    }

    /// The matrices of the model that have an adapter, with its values.
    fn pairs<D: Device>(&self, encoder: &TransformerEncoder<D>) -> Result<Vec<(Module, Pair)>> {
        let all = encoder.adaptable();
        let mut found: BTreeMap<&str, (&str, [Option<usize>; 2])> = BTreeMap::new();
        for (module, pair) in &self.pairs {
            // A model with a head calls its encoder `bert.` and so on.
            let known = |name: &str| all.iter().any(|m| m.name == name);
            let prefixes = encoder.architecture.prefixes.iter();
            let short = prefixes.filter_map(|p| module.strip_prefix(p)).find(|name| known(name));
            let name = short.unwrap_or(module);
            if known(name) {
                if let Some((other, _)) = found.insert(name, (module, *pair)) {
                    return Err(self.fault(format!("holds both {other:?} and {module:?}"), FETCH_AGAIN));
                }
                continue;
            }
            let ignorable =
                |name: &str| encoder.architecture.ignorable.iter().any(|i| format!("{name}.").starts_with(i));
            let mut shorter = encoder.architecture.prefixes.iter().filter_map(|p| module.strip_prefix(p));
            if !ignorable(module) && !shorter.any(ignorable) {
                let what =
                    format!("adapts {module:?}, which is no matrix of the model; it has {}", kinds(&all));
                let fix = "use the model that the adapter was trained on (base_model_name_or_path)";
                return Err(self.fault(what, fix));
            }
        }
        if found.is_empty() {
            return Err(self.fault("adapts no matrix of the model".into(), FETCH_AGAIN));
        }
        let mut out = Vec::new();
        for module in all {
            if let Some((name, [a, b])) = found.get(module.name.as_str()) {
                let pair = (
                    self.read(name, *a, "lora_A", [self.r, module.inputs])?,
                    self.read(name, *b, "lora_B", [module.rows.len(), self.r])?,
                );
                out.push((module, pair));
            }
        }
        Ok(out)
    }
}

/// r and the factor of the product, from settings that must be those of plain LoRA.
fn settings(config: &Object) -> Result<(usize, f32)> {
    let fix = "give an adapter of plain LoRA, or merge this one into its base with PEFT's merge_and_unload";
    match config.text("peft_type")? {
        Some("LORA") => {}
        other => {
            let what = format!("describes the kind of adapter {:?} (peft_type)", other.unwrap_or_default());
            return Err(config.fault(&what, fix));
        }
    }
    let asks = |key: &str, value: &Value| Err(config.fault(&format!("{key:?} is {}", brief(value)), fix));
    for (key, value) in config.entries() {
        // PEFT adds variants as use_SOMETHING or SOMETHING_config.
        let variant = key.starts_with("use_") || key.ends_with("_config");
        let counts = FOREIGN.contains(&key) || variant && !HARMLESS.contains(&key);
        if counts && !is_neutral(value) {
            return asks(key, value);
        }
    }
    if let Some(bias) = config.get("bias").filter(|b| *b != "none") {
        return asks("bias", bias);
    }
    match config.get("target_modules") {
        Some(Value::Array(_)) => {}
        Some(Value::String(pattern)) => {
            let what = format!("\"target_modules\" is the regular expression {pattern:?}");
            return Err(config.fault(&what, "list the ends of the modules' names instead"));
        }
        _ => return Err(config.fault("has no list \"target_modules\"", FETCH_AGAIN)),
    }
    // Other ways to begin change the base's weights as well, and a saved adapter is beside those.
    let begin = config.get("init_lora_weights");
    if begin.is_some_and(|b| {
        !b.is_boolean() && b.as_str().is_none_or(|b| !["gaussian", "eva", "orthogonal"].contains(&b))
    }) {
        return asks("init_lora_weights", begin.unwrap_or(&Value::Null));
    }
    let missing = |key: &str| config.fault(&format!("has no {key:?}"), FETCH_AGAIN);
    let r = config.count("r")?.ok_or_else(|| missing("r"))?;
    let alpha = config.number("lora_alpha")?.ok_or_else(|| missing("lora_alpha"))?;
    let below = match config.flag("use_rslora")? {
        Some(true) => (r as f64).sqrt(),
        _ => r as f64,
    };
    Ok((r, (alpha / below) as f32))
}

fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

impl<D: Device> TransformerEncoder<D> {
    /// Loads the model `base` with the adapter in the folder `dir`, of which `own` says what it holds.
    pub(crate) fn load_adapted(dir: &Path, own: SentenceModules, base: &Path, device: &D) -> Result<Self> {
        let adapter = own.transformer.clone();
        let below = SentenceModules::read(base)?;
        let home = below.transformer.clone();
        // PEFT saves the adapter alone, sentence-transformers all of the model but the base's parameters.
        let modules = if dir.join("modules.json").is_file() { own } else { below };
        let mut encoder = Self::load_parts(modules, &home, device)?;
        encoder.apply_adapter(&adapter)?;
        Ok(encoder)
    }

    /// Adds the adapter in a folder, as PEFT saves it, to the parameters: W += s·B·A. At an error they are as before.
    pub fn apply_adapter(&mut self, dir: &Path) -> Result<()> {
        let adapter = Adapter::open(dir)?;
        let (modules, pairs): (Vec<_>, Vec<_>) = adapter.pairs(self)?.into_iter().unzip();
        let params = &mut self.params;
        let mut pairs = pairs.into_iter();
        let shape = |place: usize| (params.shape(place)[0], params.shape(place)[1]);
        let joined = Joined::of(modules, adapter.r, shape);
        let device = params.device().clone();
        for j in joined {
            let (a, b) = j.join(pairs.by_ref().take(j.modules.len()));
            let (a, b) = (device.floats(&a), device.floats(&b));
            j.add_product(&device, (&a, &b), adapter.scale, params.value_mut(j.place));
        }
        self.origin = None;
        Ok(())
    }
}

impl<D: Device> Lora<D> {
    /// Writes the adapter's two files into a folder that exists.
    pub(crate) fn write_into(&self, dir: &Path) -> Result<()> {
        let Some(base) = &self.base else {
            let what = "the adapter's base is in no folder, since it was trained or has an adapter added";
            let fix = "save the base, load it, and train the adapter on that";
            return Err(Error::Usage(format!("LoRA: {what}; {fix}")));
        };
        let Some(base) = base.to_str() else {
            let what = "is the base's folder, and JSON cannot name it";
            return Err(Error::input(At::file(base), what, "rename the folder so that its path is UTF-8"));
        };
        let device = self.params.device();
        let mut tensors = Vec::new();
        for (i, j) in self.joined.iter().enumerate() {
            let (a, b) = self.pair(i);
            let (a, b) = (device.read(a), device.read(b));
            for (k, module) in j.modules.iter().enumerate() {
                let (a, b) = j.part(k, &a, &b);
                let name = &module.name;
                tensors.push((format!("{PREFIX}{name}.lora_A.weight"), vec![j.r, j.inputs], a));
                tensors.push((format!("{PREFIX}{name}.lora_B.weight"), vec![module.rows.len(), j.r], b));
            }
        }
        write_safetensors(&dir.join(WEIGHTS), tensors, Dtype::F32, &[])?;
        let alpha = match self.settings.alpha {
            // PEFT has whole numbers, and readers may want them.
            alpha if alpha.fract() == 0.0 && alpha < 1e9 => json!(alpha as u64),
            alpha => json!(alpha),
        };
        let config = json!({
            "peft_type": "LORA",
            "task_type": "FEATURE_EXTRACTION",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": self.settings.r,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "target_modules": self.settings.targets,
            "modules_to_save": null,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "use_rslora": false,
            "use_dora": false,
            "rank_pattern": {},
            "alpha_pattern": {},
        });
        write_json(&dir.join(CONFIG), &config)
    }
}
