//! What a sentence-transformers folder says of its model: which transformer, how its token vectors become
//! one vector, what is put before texts.
//!
//! `modules.json` lists the modules, each with a folder for its settings. Read are the key names of releases 2
//! to 6: pooling is a flag for each mode up to release 5, one `pooling_mode` from then on; `max_seq_length`
//! is in `sentence_bert_config.json` or, later, the tokeniser's `model_max_length`. Written are the older
//! names, which all releases and text-embeddings-inference read. A setting that would give other vectors
//! than this program computes is an error, never passed over.

mod dense;
mod pooling;

pub use dense::{Activation, DenseSpec, DenseWeights};
pub use pooling::Pooling;

use crate::checkpoint::{Checkpoint, is_within};
use crate::json::{brief, need_object, read_json, read_object, write_json};
use crate::static_encoder::Prompts;
use polygrade_data::{At, Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A model of a transformer, pooling, dense layers and normalisation, in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentenceModules {
    /// The folder with the transformer's `config.json`, tokeniser and weights.
    pub transformer: PathBuf,
    /// Texts are cut to so many tokens, special ones included. `None`: as many as there are positions.
    pub max_seq_length: Option<usize>,
    /// Whether texts are put in lower case before the tokeniser sees them.
    pub do_lower_case: bool,
    /// The poolings, whose vectors are joined in this order; one in nearly all models.
    pub pooling: Vec<Pooling>,
    /// Whether pooling counts the tokens of the prompt.
    pub include_prompt: bool,
    /// Dense layers, in order.
    pub dense: Vec<DenseSpec>,
    /// Whether vectors are scaled to length 1 at the end.
    pub normalize: bool,
    /// Prompts.
    pub prompts: Prompts,
    /// Vectors are cut to so many values, after everything else.
    pub truncate_dim: Option<usize>,
    /// The similarity that the model was made for: `cosine`, `dot`, `euclidean` or `manhattan`.
    pub similarity: Option<String>,
    /// The width of a token's vector, where the pooling says it.
    pub width: Option<usize>,
}

/// One entry of `modules.json`.
pub(crate) struct Module {
    /// The class, without where it lives, which changes between releases.
    pub(crate) kind: String,
    /// Its folder.
    pub(crate) path: PathBuf,
}

/// What `modules.json` of the folder lists, at least one module; `None` where there is no such file.
pub(crate) fn module_list(dir: &Path) -> Result<Option<Vec<Module>>> {
    let path = dir.join("modules.json");
    let fault = |what: String| {
        let fix = "restore the file from where the model came from";
        Error::input(At::file(&path), what, fix)
    };
    let Some(list) = read_json(&path)? else { return Ok(None) };
    let list = list.as_array().ok_or_else(|| fault("is no list of modules".into()))?;
    if list.is_empty() {
        return Err(fault("lists no module".into()));
    }
    let one = |(i, module): (usize, &Value)| {
        let text = |key: &str| match module.get(key) {
            Some(Value::String(text)) => Ok(text.as_str()),
            other => Err(fault(format!("module {i} has the {key} {}", brief(other.unwrap_or(&Value::Null))))),
        };
        let sub = text("path")?;
        if !is_within(sub) {
            return Err(fault(format!("module {i} lies outside the folder: {sub:?}")));
        }
        let kind = text("type")?.rsplit('.').next().unwrap_or_default().to_owned();
        // "." in the middle of a path would be kept in messages.
        let path = if matches!(sub, "" | ".") { dir.to_owned() } else { dir.join(sub) };
        Ok(Module { kind, path })
    };
    list.iter().enumerate().map(one).collect::<Result<_>>().map(Some)
}

/// What `config_sentence_transformers.json` says.
pub(crate) struct SentenceConfig {
    pub(crate) prompts: Prompts,
    pub(crate) truncate_dim: Option<usize>,
    pub(crate) similarity: Option<String>,
}

impl SentenceConfig {
    pub(crate) const FILE: &str = "config_sentence_transformers.json";

    /// Reads it from the folder of the model; where it is missing, nothing is said.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let config = read_object(&dir.join(SentenceConfig::FILE))?;
        if let Some(other) = config.text("model_type")?.filter(|t| *t != "SentenceTransformer") {
            let what = format!("describes a {other} (model_type)");
            return Err(config.fault(&what, "give a dense model, a SentenceTransformer"));
        }
        let prompts = config.object("prompts")?;
        let prompt = |names: &[&str]| -> Result<String> {
            let mut found = String::new();
            for value in names.iter().filter_map(|n| prompts?.get(*n)).filter(|v| !v.is_null()) {
                let fault = || config.fault(&format!("has the prompt {}", brief(value)), "make it a text");
                let text = value.as_str().ok_or_else(fault)?;
                if found.is_empty() {
                    found = text.to_owned();
                }
            }
            Ok(found)
        };
        // Not default_prompt_name: encode_query and encode_document do not use it either. An empty document
        // prompt is what release 6 adds beside the passage prompt of older models, and then uses.
        let prompts =
            Prompts { query: prompt(&["query"])?, passage: prompt(&["document", "passage", "corpus"])? };
        let similarity = config.text("similarity_fn_name")?.map(str::to_owned);
        Ok(SentenceConfig { prompts, truncate_dim: config.count("truncate_dim")?, similarity })
    }
}

/// Whether the folder of a model holds a static model, token vectors without a transformer.
pub fn is_static(dir: &Path) -> Result<bool> {
    match module_list(dir)? {
        Some(modules) => Ok(modules.iter().take(1).any(|m| m.kind == "StaticEmbedding")),
        // model2vec alone writes no modules.json in its older releases.
        None if dir.join("model.safetensors").is_file() => Ok(Checkpoint::open(dir)?.has("embeddings")),
        None => Ok(false),
    }
}

/// Names of the transformer's settings: the first of them that exists is read.
const TRANSFORMER_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

impl SentenceModules {
    /// Reads what the folder of a model says. One without `modules.json` is a plain Hugging Face checkpoint,
    /// and means what sentence-transformers makes of it: mean pooling and nothing after.
    pub fn read(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::input(At::file(dir), "is no folder", "give the folder of a model"));
        }
        let config = SentenceConfig::read(dir)?;
        let mut out = SentenceModules {
            transformer: dir.to_owned(),
            max_seq_length: None,
            do_lower_case: false,
            pooling: Vec::new(),
            include_prompt: true,
            dense: Vec::new(),
            normalize: false,
            prompts: config.prompts,
            truncate_dim: config.truncate_dim,
            similarity: config.similarity,
            width: None,
        };
        match module_list(dir)? {
            None => out.pooling = vec![Pooling::Mean],
            Some(modules) => out.take(&dir.join("modules.json"), modules)?,
        }
        if out.max_seq_length.is_none() {
            let tokenizer = read_object(&out.transformer.join("tokenizer_config.json"))?;
            out.max_seq_length = tokenizer.get("model_max_length").and_then(limit);
        }
        Ok(out)
    }

    fn take(&mut self, file: &Path, modules: Vec<Module>) -> Result<()> {
        for (i, Module { kind, path }) in modules.into_iter().enumerate() {
            match kind.as_str() {
                "Transformer" if i == 0 => {
                    self.transformer = path;
                    self.take_transformer()?;
                }
                "Pooling" if i == 1 => {
                    let config = need_object(&path.join("config.json"))?;
                    self.pooling = pooling::of(&config)?;
                    self.include_prompt = config.flag("include_prompt")?.unwrap_or(true);
                    let old = config.count("word_embedding_dimension")?;
                    self.width = config.count("embedding_dimension")?.or(old);
                }
                "Dense" if i > 1 && !self.normalize => self.dense.push(DenseSpec::read(&path)?),
                "Normalize" if i > 1 => {
                    dense::only_sentences(&read_object(&path.join("config.json"))?)?;
                    self.normalize = true;
                }
                _ => {
                    let what = format!("module {i} is {kind:?}, which is not read there");
                    let fix =
                        "give a model of Transformer, Pooling, any number of Dense, and perhaps Normalize";
                    return Err(Error::input(At::file(file), what, fix));
                }
            }
        }
        match self.pooling.is_empty() {
            false => Ok(()),
            true => {
                let fix = "add a Pooling module to the model, with sentence-transformers";
                Err(Error::input(At::file(file), "has no Pooling", fix))
            }
        }
    }

    fn take_transformer(&mut self) -> Result<()> {
        let names = TRANSFORMER_CONFIGS.iter().map(|name| self.transformer.join(name));
        let Some(path) = names.into_iter().find(|path| path.is_file()) else { return Ok(()) };
        let config = read_object(&path)?;
        let fault = |key: &str| {
            let what = format!("has the setting {key:?}: {}", config.get(key).map(brief).unwrap_or_default());
            config.fault(&what, "give a model whose transformer gives the vectors of text tokens")
        };
        for (key, wanted) in
            [("transformer_task", "feature-extraction"), ("module_output_name", "token_embeddings")]
        {
            if config.text(key)?.is_some_and(|v| v != wanted) {
                return Err(fault(key));
            }
        }
        if let Some(all) = config.object("modality_config")? {
            let text = all.get("text");
            let says = |key: &str, value: &str| text.and_then(|t| t.get(key)?.as_str()) == Some(value);
            if !says("method", "forward") || !says("method_output_name", "last_hidden_state") {
                return Err(fault("modality_config"));
            }
        }
        // Of models with a vector for each token, and of calls of the tokeniser that other tools do not know.
        for key in ["query_length", "document_length", "query_expansion", "processing_kwargs"] {
            let empty = |v: &Value| v.as_object().is_some_and(|o| o.values().all(is_empty));
            if config.get(key).is_some_and(|v| !empty(v)) {
                return Err(fault(key));
            }
        }
        self.do_lower_case = config.flag("do_lower_case")?.unwrap_or(false);
        self.max_seq_length = config.count("max_seq_length")?;
        for key in ["processor_kwargs", "tokenizer_args"] {
            let own = config.object(key)?.and_then(|o| limit(o.get("model_max_length")?));
            self.max_seq_length = own.or(self.max_seq_length);
        }
        Ok(())
    }

    /// Writes the settings into the folder `dir`, whose transformer lies in `dir` itself and has token
    /// vectors of `width` values. Returns the folders where the weights of the dense layers go, which exist.
    pub fn write(&self, dir: &Path, width: usize) -> Result<Vec<PathBuf>> {
        let mut modules: Vec<Value> = Vec::new();
        let mut add = |path: &str, class: &str| -> Result<PathBuf> {
            let idx = modules.len();
            let kind = format!("sentence_transformers.models.{class}");
            modules.push(json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": kind }));
            let folder = dir.join(path);
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
            Ok(folder)
        };
        add("", "Transformer")?;
        let pooling = add("1_Pooling", "Pooling")?.join("config.json");
        write_json(&pooling, &pooling::config(&self.pooling, width, self.include_prompt))?;
        let mut folders = Vec::new();
        for (i, dense) in self.dense.iter().enumerate() {
            let folder = add(&format!("{}_Dense", i + 2), "Dense")?;
            dense.write(&folder)?;
            folders.push(folder);
        }
        if self.normalize {
            add(&format!("{}_Normalize", self.dense.len() + 2), "Normalize")?;
        }
        write_json(&dir.join("modules.json"), &Value::Array(modules))?;
        // text-embeddings-inference refuses the file without a number in it.
        if self.do_lower_case || self.max_seq_length.is_some() {
            let config =
                json!({ "max_seq_length": self.max_seq_length, "do_lower_case": self.do_lower_case });
            write_json(&dir.join(TRANSFORMER_CONFIGS[0]), &config)?;
        }
        let mut config = json!({
            "__version__": { "sentence_transformers": "3.2.0", "polygrade": env!("CARGO_PKG_VERSION") },
            "prompts": { "query": self.prompts.query, "document": self.prompts.passage },
            "default_prompt_name": null,
            "similarity_fn_name": self.similarity,
        });
        if let Some(n) = self.truncate_dim {
            config["truncate_dim"] = n.into();
        }
        write_json(&dir.join(SentenceConfig::FILE), &config)?;
        Ok(folders)
    }
}

/// Whether a setting says nothing: null, or an object without entries.
fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|o| o.is_empty())
}

/// A tokeniser's limit, if it is one: those without say 1e30.
fn limit(value: &Value) -> Option<usize> {
    value.as_u64().filter(|n| (1..1 << 31).contains(n)).map(|n| n as usize)
}
