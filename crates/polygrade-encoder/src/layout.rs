//! Model folders in the layout of sentence-transformers and model2vec, read and written.
//!
//! Written: `modules.json`, `model.safetensors` with `embedding.weight` (weights folded in), `tokenizer.json`,
//! `config_sentence_transformers.json`, and `1_Dense/` where there is a projection. Paths and type names are
//! those of sentence-transformers 3, which later releases read as well; there is no `config.json` beside
//! `embedding.weight`, as model2vec would then look for another tensor.
//!
//! Read: `embedding.weight` by sentence-transformers' rules (unknown tokens count, `tokenizer.json` cuts), or
//! `embeddings` with optional `mapping` and `weights` by model2vec's (unknown tokens are dropped, `config.json`
//! cuts); in the folder itself or in the sub-folder that `modules.json` names.

use crate::static_encoder::{Prompts, StaticEncoder};
use crate::tokenizer::TextTokenizer;
use half::{bf16, f16};
use polygrade_data::io::{self, AtomicDir};
use polygrade_data::{At, Error, Result};
use polygrade_nn::Matrix;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

impl StaticEncoder {
    /// Saves to the new folder `dir`, whole or not at all. `card` becomes the model card, `README.md`.
    pub fn save(&self, dir: &Path, card: &str) -> Result<()> {
        let new = AtomicDir::create(dir)?;
        self.write_into(new.path(), card)?;
        new.commit()
    }

    /// Writes the files of the model into a folder that exists.
    pub fn write_into(&self, dir: &Path, card: &str) -> Result<()> {
        let mut folded = self.table.clone();
        for (row, a) in folded.data.chunks_mut(self.table.cols).zip(&self.log_weights) {
            let weight = a.exp();
            row.iter_mut().for_each(|v| *v *= weight);
        }
        // A token that is left out here is nothing to tools that count it, so that vectors keep their direction.
        if let Some(unknown) = self.tokenizer.drop.filter(|id| (*id as usize) < folded.rows()) {
            folded.row_mut(unknown as usize).fill(0.0);
        }
        save_tensor(&dir.join("model.safetensors"), "embedding.weight", &folded)?;
        io::write(&dir.join("tokenizer.json"), self.tokenizer.to_json()?.as_bytes())?;
        let module = |idx: usize, path: &str, class: &str| {
            let kind = format!("sentence_transformers.models.{class}");
            json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": kind })
        };
        let mut modules = vec![module(0, ".", "StaticEmbedding")];
        if let Some(p) = &self.projection {
            // PyTorch keeps a linear layer as output × input.
            let mut transposed = Matrix::zeros(p.cols, p.rows());
            for i in 0..p.rows() {
                for j in 0..p.cols {
                    transposed.row_mut(j)[i] = p.row(i)[j];
                }
            }
            let dense = dir.join("1_Dense");
            std::fs::create_dir_all(&dense).map_err(|e| Error::io(&dense, e))?;
            save_tensor(&dense.join("model.safetensors"), "linear.weight", &transposed)?;
            let identity = "torch.nn.modules.linear.Identity";
            let config = json!({ "in_features": p.rows(), "out_features": p.cols, "bias": false, "activation_function": identity });
            write_json(&dense.join("config.json"), &config)?;
            modules.push(module(1, "1_Dense", "Dense"));
        }
        if self.normalize {
            let path = format!("{}_Normalize", modules.len());
            std::fs::create_dir_all(dir.join(&path)).map_err(|e| Error::io(dir, e))?;
            modules.push(module(modules.len(), &path, "Normalize"));
        }
        write_json(&dir.join("modules.json"), &Value::Array(modules))?;
        let config = json!({
            "__version__": { "sentence_transformers": "3.2.0", "polygrade": env!("CARGO_PKG_VERSION") },
            "prompts": { "query": self.prompts.query, "document": self.prompts.passage },
            "default_prompt_name": null,
            "similarity_fn_name": "cosine",
            // model2vec's keys; sentence-transformers ignores them.
            "normalize": self.normalize,
            "max_length": self.tokenizer.max_tokens,
        });
        write_json(&dir.join("config_sentence_transformers.json"), &config)?;
        io::write(&dir.join("README.md"), card.as_bytes())
    }

    /// Loads a model folder.
    pub fn load(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let fix = "give the folder of a model, with modules.json and model.safetensors";
            return Err(Error::input(At::file(dir), "is no folder", fix));
        }
        let modules = modules(dir)?;
        let home = dir.join(&modules.embedding);
        let tensors = home.join("model.safetensors");
        let bytes = std::fs::read(&tensors).map_err(|e| Error::io(&tensors, e))?;
        let tensors = Tensors::new(&tensors, &bytes)?;
        let mut tokenizer = TextTokenizer::load(&home.join("tokenizer.json"))?;
        let config = read_json(&dir.join("config_sentence_transformers.json"))?;
        if let Some(n) = config.as_ref().and_then(|c| c.get("truncate_dim")).filter(|v| !v.is_null()) {
            let path = dir.join("config_sentence_transformers.json");
            let fix = "set it to null to use the full width; cut vectors are not supported yet";
            return Err(Error::input(
                At::file(&path),
                format!("asks for vectors cut to {n} (truncate_dim)"),
                fix,
            ));
        }
        let table = if tensors.has("embedding.weight") {
            tensors.matrix("embedding.weight")?
        } else if tensors.has("embeddings") {
            let own = read_json(&home.join("config.json"))?;
            model2vec_rules(&mut tokenizer, own.as_ref().or(config.as_ref()))?;
            model2vec_table(&tensors)?
        } else {
            let fix = "a static model holds \"embedding.weight\" (sentence-transformers) or \"embeddings\" (model2vec)";
            return Err(tensors
                .fault(&format!("holds neither of the expected tensors, but {}", tensors.names()), fix));
        };
        let vocab = tokenizer.vocab_size();
        if vocab > table.rows() {
            let what = format!("has {} embeddings, the tokeniser {vocab} tokens", table.rows());
            return Err(tensors.fault(&what, "use the tokenizer.json that was saved with the model"));
        }
        // An unknown token that means nothing stays so in training; leaving it out changes no direction.
        if modules.normalize && tokenizer.drop.is_none() {
            let is_zero = |id: &u32| table.row(*id as usize).iter().all(|v| *v == 0.0);
            tokenizer.drop = tokenizer.unknown_id().filter(is_zero);
        }
        let projection = modules.dense.map(|path| dense(&dir.join(path), table.cols)).transpose()?;
        let prompt = |names: &[&str]| {
            let prompts = config.as_ref().and_then(|c| c.get("prompts"));
            names.iter().find_map(|n| prompts?.get(n)?.as_str()).unwrap_or_default().to_owned()
        };
        let prompts =
            Prompts { query: prompt(&["query"]), passage: prompt(&["document", "passage", "corpus"]) };
        let log_weights = vec![0.0; table.rows()];
        Ok(StaticEncoder { tokenizer, table, log_weights, projection, normalize: modules.normalize, prompts })
    }
}

/// What `modules.json` says.
struct Modules {
    embedding: PathBuf,
    dense: Option<PathBuf>,
    normalize: bool,
}

fn modules(dir: &Path) -> Result<Modules> {
    let path = dir.join("modules.json");
    let Some(list) = read_json(&path)? else {
        // model2vec alone writes no modules.json in its older releases.
        let normalize = read_json(&dir.join("config.json"))?.and_then(|c| c.get("normalize")?.as_bool());
        return Ok(Modules { embedding: PathBuf::new(), dense: None, normalize: normalize.unwrap_or(false) });
    };
    let fault = |what: String| {
        let fix = "a static model has the modules StaticEmbedding, perhaps Dense, perhaps Normalize";
        Error::input(At::file(&path), what, fix)
    };
    let list = list.as_array().cloned().ok_or_else(|| fault("is no list of modules".into()))?;
    let mut found = Modules { embedding: PathBuf::new(), dense: None, normalize: false };
    for (i, module) in list.iter().enumerate() {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        let sub = PathBuf::from(text("path"));
        if sub.is_absolute() || sub.components().any(|c| c == std::path::Component::ParentDir) {
            return Err(fault(format!("module {i} lies outside the folder: {:?}", text("path"))));
        }
        match text("type").rsplit('.').next().unwrap_or_default() {
            "StaticEmbedding" if i == 0 => found.embedding = sub,
            "Dense" if i > 0 && found.dense.is_none() && !found.normalize => found.dense = Some(sub),
            "Normalize" if i > 0 => found.normalize = true,
            other if i == 0 => {
                return Err(fault(format!("begins with {other:?}; only static models are read so far")));
            }
            other => {
                return Err(fault(format!(
                    "module {i} is {other:?}, which a static model cannot have there"
                )));
            }
        }
    }
    if list.is_empty() { Err(fault("lists no module".into())) } else { Ok(found) }
}

fn dense(dir: &Path, width: usize) -> Result<Matrix> {
    let path = dir.join("config.json");
    let config =
        read_json(&path)?.ok_or_else(|| Error::input(At::file(&path), "is missing", "restore it"))?;
    let activation = config
        .get("activation_function")
        .and_then(Value::as_str)
        .unwrap_or("torch.nn.modules.activation.Tanh");
    if !activation.ends_with(".Identity") {
        let what = format!("has the activation {activation}");
        return Err(Error::input(
            At::file(&path),
            what,
            "only Dense modules with Identity are read in static models",
        ));
    }
    if config.get("use_residual").and_then(Value::as_bool) == Some(true) {
        let fix = "only Dense modules without a residual are read in static models";
        return Err(Error::input(At::file(&path), "has a residual connection", fix));
    }
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let tensors = Tensors::new(&path, &bytes)?;
    if tensors.has("linear.bias") {
        return Err(tensors.fault("has a bias", "only Dense modules without bias are read in static models"));
    }
    let weight = tensors.matrix("linear.weight")?;
    if weight.cols != width {
        let what = format!("\"linear.weight\" takes {} values, the embeddings have {width}", weight.cols);
        return Err(tensors.fault(&what, "use the Dense module that was saved with the model"));
    }
    let mut out = Matrix::zeros(weight.cols, weight.rows());
    for i in 0..weight.rows() {
        for j in 0..weight.cols {
            out.row_mut(j)[i] = weight.row(i)[j];
        }
    }
    Ok(out)
}

/// Unknown tokens are dropped, and texts are cut by characters and then tokens.
fn model2vec_rules(tokenizer: &mut TextTokenizer, config: Option<&Value>) -> Result<()> {
    tokenizer.drop = tokenizer.unknown_id();
    tokenizer.without_truncation()?;
    let max_length = match config.and_then(|c| c.get("max_length")) {
        None => Some(512),
        Some(value) => value.as_u64().map(|n| n as usize),
    };
    if let Some(n) = max_length {
        let mut lengths = tokenizer.token_lengths();
        lengths.sort_unstable();
        let half = lengths.len() / 2;
        let median = match lengths.len() {
            0 => 0,
            n if n % 2 == 1 => lengths[half],
            _ => (lengths[half - 1] + lengths[half]) / 2,
        };
        tokenizer.max_chars = Some(n.saturating_mul(median));
        tokenizer.max_tokens = Some(n);
    }
    Ok(())
}

/// `E[id] = embeddings[mapping[id]] · weights[id]`
fn model2vec_table(tensors: &Tensors) -> Result<Matrix> {
    let base = tensors.matrix("embeddings")?;
    let rows: Option<Vec<f64>> = tensors.has("mapping").then(|| tensors.vector("mapping")).transpose()?;
    let mut table = match rows {
        None => base,
        Some(rows) => {
            let mut table = Matrix::zeros(rows.len(), base.cols);
            for (i, &row) in rows.iter().enumerate() {
                if !(row >= 0.0 && row < base.rows() as f64) {
                    let what = format!("\"mapping\" points to row {row} of {}", base.rows());
                    return Err(tensors.fault(&what, "fetch the model again"));
                }
                table.row_mut(i).copy_from_slice(base.row(row as usize));
            }
            table
        }
    };
    if tensors.has("weights") {
        let weights = tensors.vector("weights")?;
        if weights.len() != table.rows() {
            let what = format!("\"weights\" has {} values for {} tokens", weights.len(), table.rows());
            return Err(tensors.fault(&what, "fetch the model again"));
        }
        let cols = table.cols;
        for (row, w) in table.data.chunks_mut(cols).zip(weights) {
            row.iter_mut().for_each(|v| *v *= w as f32);
        }
    }
    Ok(table)
}

/// The tensors of a safetensors file, read as numbers with errors that name file and tensor.
struct Tensors<'a> {
    path: &'a Path,
    inner: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let inner = SafeTensors::deserialize(bytes).map_err(|e| {
            Error::input(At::file(path), format!("is not readable safetensors: {e}"), "fetch the model again")
        })?;
        Ok(Tensors { path, inner })
    }

    fn fault(&self, what: &str, fix: &str) -> Error {
        Error::input(At::file(self.path), what, fix)
    }

    fn has(&self, name: &str) -> bool {
        self.inner.names().contains(&name)
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.inner.names().into_iter().collect();
        names.sort_unstable();
        names.join(", ")
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        self.inner.tensor(name).map_err(|_| {
            let what = format!("lacks the tensor {name:?}; it holds {}", self.names());
            self.fault(&what, "use a file that was saved with the model")
        })
    }

    fn vector(&self, name: &str) -> Result<Vec<f64>> {
        let view = self.view(name)?;
        let data = view.data();
        fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.as_chunks::<N>().0.iter().map(|b| f(*b)).collect()
        }
        Ok(match view.dtype() {
            Dtype::F32 => each(data, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F64 => each(data, f64::from_le_bytes),
            Dtype::F16 => each(data, |b| f16::from_le_bytes(b).to_f64()),
            Dtype::BF16 => each(data, |b| bf16::from_le_bytes(b).to_f64()),
            Dtype::I64 => each(data, |b| i64::from_le_bytes(b) as f64),
            Dtype::I32 => each(data, |b| f64::from(i32::from_le_bytes(b))),
            Dtype::U32 => each(data, |b| f64::from(u32::from_le_bytes(b))),
            Dtype::I8 => each(data, |b| f64::from(i8::from_le_bytes(b))),
            other => {
                return Err(
                    self.fault(&format!("{name:?} has the type {other:?}"), "save it as f32, f16 or bf16")
                );
            }
        })
    }

    fn matrix(&self, name: &str) -> Result<Matrix> {
        let view = self.view(name)?;
        let shape = view.shape().to_vec();
        let [_, cols] = shape[..] else {
            return Err(self.fault(&format!("{name:?} has the shape {shape:?}"), "expected rows × columns"));
        };
        if shape.contains(&0) {
            return Err(self.fault(&format!("{name:?} has the shape {shape:?}"), "fetch the model again"));
        }
        let data = if view.dtype() == Dtype::F32 {
            view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        } else {
            self.vector(name)?.into_iter().map(|v| v as f32).collect()
        };
        Ok(Matrix::new(cols, data))
    }
}

fn save_tensor(path: &Path, name: &str, matrix: &Matrix) -> Result<()> {
    let bytes: Vec<u8> = matrix.data.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![matrix.rows(), matrix.cols], &bytes);
    let view = view.map_err(|e| Error::Internal(format!("{name}: {e}")))?;
    let file =
        safetensors::serialize([(name, view)], None).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
    io::write(path, &file)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    io::write(path, format!("{value:#}\n").as_bytes())
}

/// A JSON file, `None` where it does not exist.
fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = io::read_to_string(path)?;
    serde_json::from_str(&text).map(Some).map_err(|e| {
        let at = At::line(path, e.line() as u64);
        Error::input(at, format!("is not valid JSON: {e}"), "restore the file from where the model came from")
    })
}
