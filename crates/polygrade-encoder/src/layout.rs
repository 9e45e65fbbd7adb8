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

use crate::checkpoint::{Checkpoint, Dtype, write_safetensors};
use crate::json::{read_json, write_json};
use crate::modules::{Activation, DenseSpec, SentenceConfig, module_list};
use crate::static_encoder::StaticEncoder;
use crate::tokenizer::TextTokenizer;
use polygrade_data::io::{self, AtomicDir};
use polygrade_data::{At, Error, Result};
use polygrade_nn::Matrix;
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
        self.write_as(dir, card, Dtype::F32)
    }

    /// [`StaticEncoder::write_into`] with numbers of another type.
    pub(crate) fn write_as(&self, dir: &Path, card: &str, dtype: Dtype) -> Result<()> {
        let mut folded = self.folded();
        // A token that is left out here is nothing to tools that count it, so that vectors keep their direction.
        if let Some(unknown) = self.tokenizer.drop.filter(|id| (*id as usize) < folded.rows()) {
            folded.row_mut(unknown as usize).fill(0.0);
        }
        save_tensor(&dir.join("model.safetensors"), "embedding.weight", &folded, dtype)?;
        io::write(&dir.join("tokenizer.json"), self.tokenizer.to_json()?.as_bytes())?;
        let module = |idx: usize, path: &str, class: &str| {
            let kind = format!("sentence_transformers.models.{class}");
            json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": kind })
        };
        let mut modules = vec![module(0, ".", "StaticEmbedding")];
        if let Some(p) = &self.projection {
            let dense = dir.join("1_Dense");
            std::fs::create_dir_all(&dense).map_err(|e| Error::io(&dense, e))?;
            // PyTorch keeps a linear layer as output × input.
            save_tensor(&dense.join("model.safetensors"), "linear.weight", &p.transposed(), dtype)?;
            let (in_features, out_features) = (p.rows(), p.cols);
            let activation = Activation::Identity;
            let bare = DenseSpec {
                path: dense.clone(),
                in_features,
                out_features,
                activation,
                bias: false,
                use_residual: false,
            };
            bare.write(&dense)?;
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
        write_json(&dir.join(SentenceConfig::FILE), &config)?;
        io::write(&dir.join("README.md"), card.as_bytes())
    }

    /// Loads a model folder.
    pub fn load(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let fix = "give the folder of a model, with modules.json and model.safetensors";
            return Err(Error::input(At::file(dir), "is no folder", fix));
        }
        let modules = modules(dir)?;
        let tensors = Checkpoint::open(&modules.embedding)?;
        let mut tokenizer = TextTokenizer::load(&modules.embedding.join("tokenizer.json"))?;
        let config = SentenceConfig::read(dir)?;
        if let Some(n) = config.truncate_dim {
            let what = format!("asks for vectors cut to {n} (truncate_dim)");
            let fix = "set it to null to use the full width; cut vectors are not supported yet";
            return Err(Error::input(At::file(&dir.join(SentenceConfig::FILE)), what, fix));
        }
        let table = if tensors.has("embedding.weight") {
            tensors.matrix("embedding.weight")?
        } else if tensors.has("embeddings") {
            let own = read_json(&modules.embedding.join("config.json"))?;
            let other = read_json(&dir.join(SentenceConfig::FILE))?;
            model2vec_rules(&mut tokenizer, own.as_ref().or(other.as_ref()))?;
            model2vec_table(&tensors)?
        } else {
            let fix = "a static model holds \"embedding.weight\" (sentence-transformers) or \"embeddings\" (model2vec)";
            let names: Vec<&str> = tensors.names().take(10).collect();
            let what = format!("holds neither of the expected tensors, but {}", names.join(", "));
            return Err(tensors.fault(&what, fix));
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
        let projection = modules.dense.map(|path| dense(&path, table.cols)).transpose()?;
        let log_weights = vec![0.0; table.rows()];
        let (normalize, prompts) = (modules.normalize, config.prompts);
        let table = table.into();
        Ok(StaticEncoder { tokenizer, table, log_weights, projection, normalize, prompts })
    }
}

/// What `modules.json` says.
struct Modules {
    embedding: PathBuf,
    dense: Option<PathBuf>,
    normalize: bool,
}

fn modules(dir: &Path) -> Result<Modules> {
    let mut found = Modules { embedding: dir.to_owned(), dense: None, normalize: false };
    let Some(list) = module_list(dir)? else {
        // model2vec alone writes no modules.json in its older releases.
        let normalize = read_json(&dir.join("config.json"))?.and_then(|c| c.get("normalize")?.as_bool());
        return Ok(Modules { normalize: normalize.unwrap_or(false), ..found });
    };
    for (i, module) in list.into_iter().enumerate() {
        let what = match module.kind.as_str() {
            "StaticEmbedding" if i == 0 => {
                found.embedding = module.path;
                continue;
            }
            "Dense" if i > 0 && found.dense.is_none() && !found.normalize => {
                found.dense = Some(module.path);
                continue;
            }
            "Normalize" if i > 0 => {
                found.normalize = true;
                continue;
            }
            other if i == 0 => format!("begins with {other:?}; here only static models are read"),
            other => format!("module {i} is {other:?}, which a static model cannot have there"),
        };
        let fix = "a static model has the modules StaticEmbedding, perhaps Dense, perhaps Normalize";
        return Err(Error::input(At::file(&dir.join("modules.json")), what, fix));
    }
    Ok(found)
}

fn dense(dir: &Path, width: usize) -> Result<Matrix> {
    let spec = DenseSpec::read(dir)?;
    let fault = |what: String| {
        let fix = "only Dense modules with Identity, without bias and residual are read in static models";
        Error::input(At::file(&dir.join("config.json")), what, fix)
    };
    if spec.activation != Activation::Identity {
        return Err(fault(format!("has the activation {:?}", spec.activation)));
    }
    if spec.use_residual {
        return Err(fault("has a residual connection".into()));
    }
    let tensors = Checkpoint::open(dir)?;
    if tensors.has("linear.bias") {
        return Err(fault("has a bias".into()));
    }
    let weight = tensors.matrix("linear.weight")?;
    if weight.cols != width {
        let what = format!("\"linear.weight\" takes {} values, the embeddings have {width}", weight.cols);
        return Err(tensors.fault(&what, "use the Dense module that was saved with the model"));
    }
    Ok(weight.transposed())
}

/// Unknown tokens are dropped, and texts are cut by characters and then tokens.
fn model2vec_rules(tokenizer: &mut TextTokenizer, config: Option<&Value>) -> Result<()> {
    *tokenizer = tokenizer.uncut()?.without_unknown();
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
fn model2vec_table(tensors: &Checkpoint) -> Result<Matrix> {
    let base = tensors.matrix("embeddings")?;
    let rows = tensors.has("mapping").then(|| tensors.numbers("mapping", |v| v)).transpose()?;
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
        let weights = tensors.numbers("weights", |v| v)?;
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

fn save_tensor(path: &Path, name: &str, matrix: &Matrix, dtype: Dtype) -> Result<()> {
    write_safetensors(path, [(name, [matrix.rows(), matrix.cols], &matrix.data)], dtype, &[])
}
