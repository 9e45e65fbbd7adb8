//! `polygrade model`: what a model is made of; how two differ; the average of several.

use super::common::ModelOptions;
use crate::ui::{Ui, table};
use polygrade_data::{Error, Result};
use polygrade_encoder::checkpoint::Dtype;
use polygrade_encoder::{Encoder, TransformerEncoder};
use polygrade_nn::transformer::Positions;
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade model info model\n  \
    polygrade model diff before after\n  \
    polygrade model average seed1 seed2 seed3 --out soup\n  \
    polygrade model save pocket --out pocket-folder\n  \
    polygrade model compact static-model --out small.safetensors")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Architecture, parameters, memory, prompts, limits
    Info {
        /// Folder of a model, or its name on the Hugging Face hub
        model: String,
    },
    /// Where two models of the same shapes differ, tensor by tensor
    Diff {
        /// The first model
        a: String,
        /// The second
        b: String,
        /// Show only the N tensors that differ most
        #[arg(long, default_value_t = 20, value_name = "N")]
        top: usize,
    },
    /// The mean of several models' parameters (model soup; Wortsman et al. 2022)
    Average {
        /// The models, of the same shapes
        #[arg(required = true, num_args = 2..)]
        models: Vec<String>,
        /// Folder of the new model
        #[arg(long)]
        out: PathBuf,
    },
    /// Save a model as a folder for sentence-transformers: `pocket`, or a compact file
    Save {
        /// The model
        model: String,
        /// Folder of the new model
        #[arg(long)]
        out: PathBuf,
    },
    /// Write a static model to one small file: embeddings in few bits, and the tokeniser as its merges
    Compact {
        /// The model, with a tokeniser that polygrade trained
        model: String,
        /// Bits of a number: 2, 4 or 8
        #[arg(long, default_value_t = 8, value_name = "N")]
        bits: u32,
        /// The file; verbs take it as a model
        #[arg(long)]
        out: PathBuf,
    },
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    match args.what {
        What::Info { model } => info(&model, ui),
        What::Diff { a, b, top } => diff(&a, &b, top, ui),
        What::Average { models, out } => average(&models, &out, ui),
        What::Save { model, out } => save(&model, &out, ui),
        What::Compact { model, bits, out } => compact(&model, bits, &out, ui),
    }
}

#[derive(Serialize)]
struct Info {
    model: String,
    /// `static`, or the architecture's name in config.json.
    kind: String,
    parameters: usize,
    /// Of them, in the table of tokens.
    token_parameters: usize,
    vocabulary: usize,
    dim: usize,
    layers: Option<usize>,
    hidden: Option<usize>,
    heads: Option<usize>,
    intermediate: Option<usize>,
    positions: Option<String>,
    /// Layers whose attention is local.
    local_layers: Option<usize>,
    max_tokens: Option<usize>,
    pooling: Vec<String>,
    dense: Vec<String>,
    normalizes: bool,
    query_prompt: String,
    passage_prompt: String,
    /// MiB that encoding takes: parameters, the layers' once more as they are arranged for products, and the buffers
    /// of one chunk.
    memory_to_run_mib: f64,
    /// MiB that training takes with full micro-batches: the model it starts from, parameters, gradients, moments and
    /// activations. Gradients and moments of the token table grow with the tokens met; here all are counted. A
    /// running mean (`--ema`) and measuring on dev (`--eval-steps`) take the parameters once more each.
    memory_to_train_mib: f64,
    fingerprint: String,
}

fn info(model: &str, ui: &Ui) -> Result<()> {
    let encoder = ModelOptions::default().load(model)?;
    let prompts = encoder.prompts();
    let mut out = Info {
        model: model.to_owned(),
        kind: encoder.kind().to_owned(),
        parameters: encoder.parameters(),
        token_parameters: 0,
        vocabulary: encoder.tokenizer().vocab_size(),
        dim: encoder.dim(),
        layers: None,
        hidden: None,
        heads: None,
        intermediate: None,
        positions: None,
        local_layers: None,
        max_tokens: encoder.tokenizer().max_tokens,
        pooling: vec!["mean".into()],
        dense: Vec::new(),
        normalizes: encoder.normalizes(),
        query_prompt: prompts.query.clone(),
        passage_prompt: prompts.passage.clone(),
        memory_to_run_mib: 0.0,
        memory_to_train_mib: 0.0,
        fingerprint: format!("{:016x}", encoder.fingerprint()),
    };
    match &encoder {
        Encoder::Static(e) => {
            out.token_parameters = e.table.values();
            out.memory_to_run_mib = mib(out.parameters);
            out.memory_to_train_mib = mib(3 * out.parameters);
        }
        Encoder::Transformer(e) => describe(e, &mut out),
    }
    ui.result(&out, text)
}

/// MiB of so many `f32`.
fn mib(values: usize) -> f64 {
    values as f64 * 4.0 / f64::from(1 << 20)
}

fn describe(e: &TransformerEncoder, out: &mut Info) {
    let spec = e.spec();
    out.token_parameters = spec.vocab * spec.hidden;
    out.layers = Some(spec.layers.len());
    out.hidden = Some(spec.hidden);
    out.heads = Some(spec.heads);
    out.intermediate = Some(spec.intermediate);
    out.positions = Some(match spec.positions {
        Positions::Learned { rows, .. } => format!("learned, {rows} rows"),
        Positions::Rotary => "rotary".into(),
    });
    out.local_layers = Some(spec.layers.iter().filter(|l| l.window.is_some()).count());
    out.pooling = e.modules().pooling.iter().map(|p| format!("{p:?}").to_lowercase()).collect();
    let dense = |d: &polygrade_encoder::modules::DenseSpec| {
        format!("{} → {}, {:?}", d.in_features, d.out_features, d.activation)
    };
    out.dense = e.modules().dense.iter().map(dense).collect();
    let layers = out.parameters - out.token_parameters;
    out.memory_to_run_mib = mib(out.parameters + layers + e.run_floats());
    out.memory_to_train_mib = mib(5 * out.parameters + e.train_floats());
}

fn text(i: &Info) -> String {
    let number = |n: Option<usize>| n.map_or("–".into(), |n| n.to_string());
    let mut rows = vec![
        ("kind", i.kind.clone()),
        ("parameters", format!("{} ({} in the token table)", i.parameters, i.token_parameters)),
        ("tokens in the vocabulary", i.vocabulary.to_string()),
        ("width of the vectors", i.dim.to_string()),
        ("longest text in tokens", number(i.max_tokens)),
        ("pooling", i.pooling.join(", ")),
        ("vectors of length 1", if i.normalizes { "yes" } else { "no" }.into()),
        ("query prompt", format!("{:?}", i.query_prompt)),
        ("passage prompt", format!("{:?}", i.passage_prompt)),
    ];
    if i.layers.is_some() {
        rows.push(("layers × width", format!("{} × {}", number(i.layers), number(i.hidden))));
        rows.push(("heads", number(i.heads)));
        rows.push(("feed-forward width", number(i.intermediate)));
        rows.push(("positions", i.positions.clone().unwrap_or_default()));
        rows.push(("layers with local attention", number(i.local_layers)));
    }
    if !i.dense.is_empty() {
        rows.push(("dense layers", i.dense.join("; ")));
    }
    rows.push(("memory to run", format!("{:.0} MiB", i.memory_to_run_mib)));
    rows.push(("memory to train", format!("{:.0} MiB at most", i.memory_to_train_mib)));
    rows.push(("fingerprint", i.fingerprint.clone()));
    let width = rows.iter().map(|(k, _)| k.chars().count()).max().unwrap_or(0);
    let line = |(k, v): &(&str, String)| format!("{k}{}  {v}", " ".repeat(width - k.chars().count()));
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[derive(Serialize)]
struct TensorDiff {
    tensor: String,
    /// |a − b| / |a|, lengths as vectors.
    relative: f64,
    /// Largest difference of two values.
    largest: f64,
    values: usize,
}

fn load_transformer(model: &str) -> Result<Box<TransformerEncoder>> {
    match ModelOptions::default().load(model)? {
        Encoder::Transformer(e) => Ok(e),
        Encoder::Static(_) => {
            Err(Error::Usage(format!("{model} is a static model; this is for transformers")))
        }
    }
}

fn same_shapes(names: [&str; 2], a: &TransformerEncoder, b: &TransformerEncoder) -> Result<()> {
    if a.tensors() == b.tensors() {
        return Ok(());
    }
    let what =
        format!("{} and {} have other tensors or shapes; see: polygrade model info", names[0], names[1]);
    Err(Error::Usage(what))
}

fn diff(a: &str, b: &str, top: usize, ui: &Ui) -> Result<()> {
    let (first, second) = (load_transformer(a)?, load_transformer(b)?);
    same_shapes([a, b], &first, &second)?;
    let mut rows = Vec::new();
    for (name, _) in first.tensors() {
        let (Some(x), Some(y)) = (first.tensor(&name), second.tensor(&name)) else { continue };
        let length = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>().sqrt();
        let pairs = || x.iter().zip(&y).map(|(a, b)| f64::from(*a) - f64::from(*b));
        let norm = length(&mut x.iter().map(|v| f64::from(*v)));
        rows.push(TensorDiff {
            relative: length(&mut pairs()) / norm.max(f64::MIN_POSITIVE),
            largest: pairs().map(f64::abs).fold(0.0, f64::max),
            values: x.len(),
            tensor: name,
        });
    }
    rows.sort_by(|a, b| b.relative.total_cmp(&a.relative));
    let changed = rows.iter().filter(|r| r.largest > 0.0).count();
    let all = rows.len();
    rows.truncate(top);
    ui.result(&rows, |rows| {
        let line = |r: &TensorDiff| {
            vec![
                r.tensor.clone(),
                format!("{:.2e}", r.relative),
                format!("{:.2e}", r.largest),
                r.values.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(line).collect();
        let head = ["tensor", "relative", "largest", "values"];
        format!("{changed} of {all} tensors differ\n{}", table(&head, &rows))
    })
}

fn average(models: &[String], out: &std::path::Path, ui: &Ui) -> Result<()> {
    let load = |model: &str| ModelOptions::default().load(model);
    let mut mean = load(&models[0])?;
    for (i, model) in models.iter().enumerate().skip(1) {
        let share = 1.0 / (i as f32 + 1.0);
        let fits = match (&mut mean, load(model)?) {
            (Encoder::Transformer(mean), Encoder::Transformer(next)) => {
                same_shapes([&models[0], model], mean, &next)?;
                mean.move_towards(&next, share);
                true
            }
            (Encoder::Static(mean), Encoder::Static(next)) => mean.move_towards(&next, share),
            _ => false,
        };
        if !fits {
            let what =
                format!("{} and {model} have other tokens or shapes; see: polygrade model info", models[0]);
            return Err(Error::Usage(what));
        }
    }
    let card = format!(
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n\n# Average of {} models\n\n\
         Made by polygrade {}: the mean of the parameters of {}.\n",
        models.len(),
        env!("CARGO_PKG_VERSION"),
        models.join(", ")
    );
    mean.save(out, &card, Dtype::F32)?;
    let value = serde_json::json!({ "out": out.display().to_string(), "models": models });
    ui.result(&value, |_| format!("{}: the mean of {} models", out.display(), models.len()))
}

fn save(model: &str, out: &std::path::Path, ui: &Ui) -> Result<()> {
    let encoder = ModelOptions::default().load(model)?;
    let card = match model == polygrade_pocket::NAME {
        true => polygrade_pocket::CARD.to_owned(),
        false => format!("Saved by polygrade {} from {model}.\n", env!("CARGO_PKG_VERSION")),
    };
    encoder.save(out, &card, Dtype::F32)?;
    let value = serde_json::json!({ "out": out.display().to_string(), "model": model });
    ui.result(&value, |_| format!("{}: {model}", out.display()))
}

fn compact(model: &str, bits: u32, out: &std::path::Path, ui: &Ui) -> Result<()> {
    let Encoder::Static(encoder) = ModelOptions::default().load(model)? else {
        return Err(Error::Usage(format!(
            "{model} is a transformer; only static models have a compact form"
        )));
    };
    if encoder.prompts != polygrade_encoder::Prompts::default() || !encoder.normalize {
        let what = "the compact form has no prompts, and vectors of length 1: this model differs";
        return Err(Error::Usage(what.into()));
    }
    let bytes = encoder.to_compact(bits)?;
    polygrade_data::io::write(out, &bytes)?;
    let value = serde_json::json!({ "out": out.display().to_string(), "model": model, "bits": bits, "bytes": bytes.len() });
    ui.result(&value, |_| format!("{}: {:.1} MiB", out.display(), bytes.len() as f64 / f64::from(1 << 20)))
}
