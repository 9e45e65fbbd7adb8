//! `polygrade pretrain`: parallel text, and perhaps a teacher → a multilingual encoder.

mod report;

use super::common::{ModelOptions, prepare};
use crate::ui::{Ui, table};
use polygrade_data::bitext::{self, Source};
use polygrade_data::io::{self, AtomicDir};
use polygrade_data::{Error, Lang, Result};
use polygrade_encoder::checkpoint::Dtype;
use polygrade_encoder::{Encoder, StaticEncoder, TextTokenizer, TokenWeights, TransformerEncoder};
use polygrade_nn::optim::AdamW;
use polygrade_train::pretrain::{Corpus, CorpusBuilder, Pretrainer, Settings, TeacherStore};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade tokenizer news.en news.de tatoeba/ --langs en,de,sw --vocab-size 30000 --out tokenizer\n  \
    polygrade pretrain news.en news.de tatoeba/ --langs en,de,sw --tokenizer tokenizer \\\n    \
    --teacher sentence-transformers/all-MiniLM-L6-v2 --out encoder")]
pub(crate) struct Args {
    /// Parallel and plain text: .jsonl, .tsv, news.en with news.de, news.sw.txt, collections, or folders of these; see
    /// docs/guide-pretrain.md
    #[arg(required = true, num_args = 1..)]
    texts: Vec<PathBuf>,
    /// Languages to train on; the first is the pivot, the teacher's own
    #[arg(long, required = true, value_delimiter = ',', value_name = "LANGS")]
    langs: Vec<String>,
    /// Folder of a tokeniser, as `polygrade tokenizer` writes it, for a new static encoder
    #[arg(long, value_name = "DIR", conflicts_with = "encoder", required_unless_present = "encoder")]
    tokenizer: Option<PathBuf>,
    /// Start from this model in place of a new static encoder
    #[arg(long, value_name = "MODEL")]
    encoder: Option<String>,
    /// The model whose vectors of texts in the pivot language all their translations are to have
    #[arg(long, value_name = "MODEL")]
    teacher: Option<String>,
    /// Numbers in the teacher's products: f32, bf16 or int8
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16", "int8"])]
    teacher_precision: String,
    /// Width of a new encoder's embeddings; the teacher's unless given, 256 without one
    #[arg(long, value_name = "N")]
    dim: Option<usize>,
    /// Train a new transformer of so many layers on the embeddings of the new static encoder, or of --encoder
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    #[command(flatten)]
    training: Training,
    /// Folder for the teacher's vectors and checkpoints, of use to a run that goes on and to others; OUT.work unless given
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 500, value_name = "N")]
    save_steps: u64,
    /// Folder of the new model
    #[arg(long)]
    out: PathBuf,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
struct Training {
    /// Passes over the pairs of texts
    #[arg(long, default_value_t = Settings::default().epochs)]
    epochs: f64,
    /// Pairs in a batch
    #[arg(long, default_value_t = Settings::default().batch)]
    batch: usize,
    /// Weight of translation ranking
    #[arg(long, default_value_t = Settings::default().ranking)]
    ranking: f32,
    /// Weight of the distance to the teacher
    #[arg(long, default_value_t = Settings::default().distil)]
    distil: f32,
    /// Temperature of translation ranking
    #[arg(long, default_value_t = Settings::default().temperature)]
    temperature: f32,
    /// Languages are drawn by p ∝ n^(1/T)
    #[arg(long, default_value_t = Settings::default().lang_sampling, value_name = "T")]
    lang_sampling: f32,
    /// Probability with which a token is taken apart into the two that it was merged from; 0.1 for a static encoder
    #[arg(long, value_name = "P")]
    split: Option<f32>,
    /// Probability with which one text of a pair is joined with one to three others of its language, so that a sentence
    /// is to find a passage; 0.5 for a static encoder
    #[arg(long, value_name = "P")]
    join: Option<f32>,
    /// Share of its tokens that each text of a batch goes without
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    token_dropout: f32,
    /// AdamW's weight decay
    #[arg(long, default_value_t = Settings::default().adam.weight_decay)]
    weight_decay: f32,
    /// Highest learning rate; 0.03 for a static encoder, 2e-5 for a transformer, 5e-4 for a new one
    #[arg(long, value_name = "R")]
    learning_rate: Option<f32>,
    /// Highest learning rate of a static encoder's token weights
    #[arg(long, default_value_t = Settings::default().weight_rate)]
    weight_rate: f32,
    /// Crop texts without a translation: two parts of one are a pair
    #[arg(long)]
    crop: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = Settings::default().seed)]
    seed: u64,
}

/// A point of the learning curve.
#[derive(Serialize)]
struct Point {
    step: u64,
    ranking: f64,
    distil: f64,
    /// Share of held-out pairs that find each other, by language.
    held_out: Vec<(Lang, f64)>,
}

#[derive(Serialize)]
struct Report {
    out: String,
    texts: usize,
    tokens: usize,
    /// Pairs by language.
    pairs: Vec<(Lang, usize)>,
    /// Held-out pairs by language.
    held_out: Vec<(Lang, usize)>,
    steps: u64,
    curve: Vec<Point>,
    seconds_reading: f64,
    seconds: f64,
}

/// Highest learning rate of a new transformer.
const NEW_LAYERS_RATE: f32 = 5e-4;

/// Points of the learning curve.
const POINTS: u64 = 20;

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let started = Instant::now();
    let langs = languages(&args.langs)?;
    if args.out.exists() {
        return Err(Error::Usage(format!("{} exists; choose another --out", args.out.display())));
    }
    let work = args.work.clone().unwrap_or_else(|| {
        let mut work = args.out.as_os_str().to_owned();
        work.push(".work");
        work.into()
    });
    let sources = bitext::find(&args.texts)?;
    let teacher = args.teacher.as_ref().map(|t| teacher(t, &args.teacher_precision)).transpose()?;
    let mut store =
        teacher.as_ref().map(|t| TeacherStore::open(&work, &**t, &args.teacher_precision)).transpose()?;
    let width = teacher.as_ref().map(|t| t.dim());
    let mut student = student(&args, width)?;
    let pair = teacher.as_deref().zip(store.as_mut());
    let corpus = read(&sources, CorpusBuilder::new(&*student, pair, &langs, args.training.crop), ui)?;
    let seconds_reading = started.elapsed().as_secs_f64();
    if let (Encoder::Static(e), None) = (&mut student, &args.encoder) {
        e.weigh_tokens(TokenWeights::Sif, corpus.bags());
    }
    let settings = args.training.settings(&student, args.layers.is_some());
    let mut trainer = Pretrainer::new(student, &corpus, store.as_mut(), settings.clone(), true)?;
    let checkpoint = work.join("checkpoint.safetensors");
    let mut curve = Vec::new();
    train(&mut trainer, (&checkpoint, args.save_steps), &mut curve, ui)?;
    let held_out = trainer.held_out();
    let steps = trainer.total();
    let encoder = trainer.into_encoder();
    if !encoder.is_finite() {
        return Err(Error::Usage(
            "training ended in values that are no numbers: lower the learning rate".into(),
        ));
    }
    let report = Report {
        out: args.out.display().to_string(),
        texts: corpus.texts(),
        tokens: corpus.tokens(),
        pairs: corpus.pairs().map(|(lang, n)| (lang.clone(), n)).collect(),
        held_out: held_out.iter().map(|(lang, _, n)| (lang.clone(), *n)).collect(),
        steps,
        curve,
        seconds_reading,
        seconds: started.elapsed().as_secs_f64(),
    };
    let new = AtomicDir::create(&args.out)?;
    encoder.write_into(new.path(), &card(&args, &settings, &report), Dtype::F32)?;
    let json = serde_json::to_vec_pretty(&report).map_err(|e| Error::Internal(e.to_string()))?;
    io::write(&new.path().join("pretraining.json"), &json)?;
    io::write(&new.path().join("pretraining.html"), report::html(&report).as_bytes())?;
    new.commit()?;
    if checkpoint.exists() {
        std::fs::remove_file(&checkpoint).map_err(|e| Error::io(&checkpoint, e))?;
    }
    ui.result(&report, |r| text(r, &held_out))
}

/// The languages, each once.
pub(crate) fn languages(tags: &[String]) -> Result<Vec<Lang>> {
    let mut out: Vec<Lang> = Vec::new();
    for tag in tags {
        let lang = Lang::parse(tag.trim())
            .ok_or_else(|| Error::Usage(format!("--langs: {tag:?} is no language tag")))?;
        if !out.contains(&lang) {
            out.push(lang);
        }
    }
    Ok(out)
}

fn teacher(model: &str, precision: &str) -> Result<Encoder> {
    let mut teacher = ModelOptions::default().load(model)?;
    prepare(&mut teacher, precision)?;
    Ok(teacher)
}

/// The encoder that is trained: a model or a new static one with vectors as wide as the teacher's, perhaps with layers
/// of a transformer on it.
fn student(args: &Args, width: Option<usize>) -> Result<Encoder> {
    let base = base(args, width)?;
    match (args.layers, &base) {
        (None, _) => Ok(base),
        (Some(layers), Encoder::Static(e)) => {
            Ok(TransformerEncoder::on(e, layers, args.training.seed)?.into())
        }
        (Some(_), Encoder::Transformer(_)) => Err(Error::Usage(
            "--layers builds a new transformer on the embeddings of a static model; --encoder is a transformer already"
                .into(),
        )),
    }
}

fn base(args: &Args, width: Option<usize>) -> Result<Encoder> {
    if let Some(model) = &args.encoder {
        return ModelOptions::default().load(model);
    }
    let Some(dir) = &args.tokenizer else {
        return Err(Error::Usage("give --tokenizer or --encoder".into()));
    };
    let file = if dir.is_dir() { dir.join("tokenizer.json") } else { dir.clone() };
    let dim = args.dim.or(width).unwrap_or(256);
    let projection = width.filter(|w| *w != dim && args.layers.is_none());
    let tokenizer = TextTokenizer::load(&file)?.without_unknown();
    Ok(StaticEncoder::random(tokenizer, dim, projection, args.training.seed).into())
}

fn read(sources: &[Source], mut builder: CorpusBuilder, ui: &Ui) -> Result<Corpus> {
    let bar = ui.progress("reading", sources.len() as u64);
    for (i, source) in sources.iter().enumerate() {
        bar.set_position(i as u64);
        let mut read = 0u64;
        bitext::read(source, &mut |texts| {
            read += 1;
            if read.is_multiple_of(1000) {
                let name = source.path().file_name().unwrap_or_default().to_string_lossy();
                bar.set_message(format!("{name} {read}, {} taught,", builder.taught()));
            }
            builder.add(texts)
        })?;
    }
    let corpus = builder.finish();
    bar.finish_and_clear();
    corpus
}

fn train(
    trainer: &mut Pretrainer,
    (checkpoint, save_steps): (&Path, u64),
    curve: &mut Vec<Point>,
    ui: &Ui,
) -> Result<()> {
    if checkpoint.exists() {
        trainer.resume(checkpoint)?;
        ui.note(&format!("going on from {} at step {}", checkpoint.display(), trainer.done()));
    }
    let total = trainer.total();
    let bar = ui.progress("training", total);
    while let Some(step) = trainer.next_step()? {
        bar.set_position(step.step);
        bar.set_message(format!("ranking {:.3}, distance {:.3},", step.ranking, step.distil));
        if step.step * POINTS / total > (step.step - 1) * POINTS / total {
            let held_out = trainer.held_out().into_iter().map(|(lang, found, _)| (lang, found)).collect();
            curve.push(Point { step: step.step, ranking: step.ranking, distil: step.distil, held_out });
        }
        if save_steps > 0 && step.step.is_multiple_of(save_steps) && step.step < total {
            trainer.save_checkpoint(checkpoint)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

impl Training {
    fn settings(&self, student: &Encoder, new_layers: bool) -> Settings {
        let own = Settings::default();
        let (split, join, rate) = match student {
            Encoder::Static(_) => (own.split, own.join, own.rate),
            Encoder::Transformer(_) if new_layers => (0.0, 0.0, NEW_LAYERS_RATE),
            Encoder::Transformer(_) => (0.0, 0.0, polygrade_train::Settings::for_transformers().rate),
        };
        Settings {
            split: self.split.unwrap_or(split),
            join: self.join.unwrap_or(join),
            token_dropout: self.token_dropout,
            adam: AdamW { weight_decay: self.weight_decay, ..Settings::default().adam },
            epochs: self.epochs,
            batch: self.batch,
            ranking: self.ranking,
            distil: self.distil,
            temperature: self.temperature,
            lang_sampling: self.lang_sampling,
            rate: self.learning_rate.unwrap_or(rate),
            weight_rate: self.weight_rate,
            seed: self.seed,
            ..Settings::default()
        }
    }
}

fn card(args: &Args, settings: &Settings, report: &Report) -> String {
    let list =
        |of: &[(Lang, usize)]| of.iter().map(|(l, n)| format!("{l} {n}")).collect::<Vec<_>>().join(", ");
    format!(
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\nlanguage: [{}]\n---\n\n# Multilingual \
         encoder\n\nPretrained by polygrade {} on {} texts; teacher: {}.\n\nPairs by language: {}.\n\nSettings: `{settings:?}`\n",
        args.langs.join(", "),
        env!("CARGO_PKG_VERSION"),
        report.texts,
        args.teacher.as_deref().unwrap_or("none"),
        list(&report.pairs),
    )
}

fn text(report: &Report, held_out: &[(Lang, f64, usize)]) -> String {
    let rows = report.pairs.iter().map(|(lang, pairs)| {
        let found = held_out.iter().find(|(l, _, _)| l == lang);
        vec![
            lang.to_string(),
            pairs.to_string(),
            found.map_or("–".into(), |(_, _, n)| n.to_string()),
            found.map_or("–".into(), |(_, share, _)| format!("{:.1} %", 100.0 * share)),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    format!(
        "{}{}: {} texts, {} steps, {:.0} s",
        table(&["language", "pairs", "held out", "of them found"], &rows),
        report.out,
        report.texts,
        report.steps,
        report.seconds
    )
}
