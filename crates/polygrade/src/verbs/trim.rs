//! `polygrade trim`: a model and texts → the same model with the pieces that the texts use.

mod corpus;

use super::common::{ModelOptions, folder};
use crate::ui::{Ui, table};
use corpus::Corpora;
use polygrade_data::io::AtomicDir;
use polygrade_data::{Collection, Error, Result, Split};
use polygrade_encoder::trim::{PieceCounts, TrimSettings, Trimmed, trim};
use polygrade_encoder::{Encoder, TextEncoder, TextKind};
use polygrade_eval::{Measure, Pool};
use polygrade_nn::Matrix;
use polygrade_train::TokenizedCollection;
use polygrade_train::evaluate::{evaluate, queries_in};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade trim model --corpus collections/mini --langs en,sw --out small\n  \
    polygrade trim intfloat/multilingual-e5-small --corpus texts.txt.zst pairs.tsv --vocab-size 30000 --out small\n  \
    polygrade trim model --corpus collections/mini --min-count 2 --eval collections/mini --out small")]
pub(crate) struct Args {
    /// Folder of a model, or its name on the Hugging Face hub
    model: String,
    /// Texts whose pieces stay: collections; files of one text a line, .tsv with a text in each column, .jsonl with
    /// `text`, perhaps `title` and `lang`; .gz and .zst are unpacked
    #[arg(long, required = true, num_args = 1.., value_name = "FILE|COLLECTION")]
    corpus: Vec<PathBuf>,
    /// Use the texts in these languages only; texts of files that say no language are all used
    #[arg(long)]
    langs: Option<String>,
    /// Keep at most N pieces, the most frequent
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Keep the pieces that occur N times or more
    #[arg(long, default_value_t = 1, value_name = "N")]
    min_count: u64,
    /// Measure nDCG@10 before and after on the test judgments of a collection
    #[arg(long, value_name = "COLLECTION")]
    eval: Option<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
    /// Folder of the new model
    #[arg(long)]
    out: PathBuf,
}

/// Texts whose vectors are compared.
const SAMPLE: usize = 500;

#[derive(Serialize)]
struct Report {
    out: String,
    /// Pieces in the vocabulary, before and after, as all pairs.
    pieces: [usize; 2],
    parameters: [usize; 2],
    /// Tensors and `tokenizer.json`.
    mib: [f64; 2],
    texts: u64,
    tokens: u64,
    /// Share of the tokens whose piece is cut.
    tokens_cut: f64,
    /// Share of the texts that have other tokens now.
    texts_changed: f64,
    vectors: Vectors,
    /// `null` without `--eval`.
    ndcg_10: Option<Vec<Quality>>,
}

/// Old and new vectors of some texts.
#[derive(Serialize, Default)]
struct Vectors {
    texts: usize,
    /// Of them, those with the same vector to the last bit.
    same: usize,
    mean_cosine: f64,
    least_cosine: f64,
}

#[derive(Serialize)]
struct Quality {
    /// `null` for the mean over languages.
    lang: Option<String>,
    queries: usize,
    before: f64,
    after: f64,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    if args.min_count == 0 || args.vocab_size == Some(0) {
        return Err(Error::Usage("--min-count and --vocab-size must be 1 or more".into()));
    }
    let new = AtomicDir::create(&args.out)?;
    let eval = args.eval.as_deref().map(Collection::load).transpose()?;
    let home = folder(&args.model)?;
    let encoder = args.options.load(&args.model)?;
    let corpora = Corpora::open(&args.corpus, args.langs.as_deref(), &*encoder)?;
    let mut counts = PieceCounts::new(&*encoder)?;
    corpora.each(&mut |texts, kind| counts.add(texts, kind))?;
    let settings = TrimSettings { min_count: args.min_count, vocab_size: args.vocab_size };
    let trimmed = trim(&encoder, &counts, &settings)?;
    trimmed.encoder.write_into(new.path(), &card(&args, &trimmed), Encoder::stored_dtype(&home))?;

    // What is compared is what a reader of the folder gets.
    let small = Encoder::load(new.path())?;
    let (mut texts, mut changed) = (0, 0);
    let mut sample = BTreeSet::new();
    corpora.each(&mut |block, kind| {
        let differ = trimmed.changed(&*encoder, &*small, block, kind)?;
        texts += block.len() as u64;
        changed += differ.iter().filter(|d| **d).count() as u64;
        for text in block {
            sample.insert((xxh3_64(text.as_bytes()), kind as usize, (*text).to_owned()));
            if sample.len() > SAMPLE {
                sample.pop_last();
            }
        }
        Ok(())
    })?;
    let [tokens, cut] = trimmed.tokens;
    if cut == 0 && changed > 0 {
        let what = format!("{changed} texts have other tokens, though none of their pieces was cut");
        return Err(Error::Internal(what));
    }
    let report = Report {
        out: args.out.display().to_string(),
        pieces: trimmed.pieces,
        parameters: [encoder.parameters(), small.parameters()],
        mib: [mib(&home)?, mib(new.path())?],
        texts,
        tokens,
        tokens_cut: cut as f64 / tokens.max(1) as f64,
        texts_changed: changed as f64 / texts.max(1) as f64,
        vectors: compare(&*encoder, &*small, &sample)?,
        ndcg_10: eval.map(|c| quality(&c, &*encoder, &*small)).transpose()?,
    };
    new.commit()?;
    ui.result(&report, text)
}

/// Old and new vectors of a sample of the texts.
fn compare(
    old: &dyn TextEncoder,
    new: &dyn TextEncoder,
    sample: &BTreeSet<(u64, usize, String)>,
) -> Result<Vectors> {
    let mut out = Vectors { least_cosine: 1.0, ..Vectors::default() };
    for kind in [TextKind::Query, TextKind::Passage] {
        let texts: Vec<&str> = sample.iter().filter(|s| s.1 == kind as usize).map(|s| s.2.as_str()).collect();
        let (before, after): (Matrix, Matrix) = (old.encode(&texts, kind)?, new.encode(&texts, kind)?);
        for i in 0..texts.len() {
            let (a, b) = (before.row(i), after.row(i));
            let bits = a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
            };
            let lengths = (dot(a, a) * dot(b, b)).sqrt();
            // A text without tokens has a vector of zeros.
            let cosine = if bits {
                1.0
            } else if lengths > 0.0 {
                dot(a, b) / lengths
            } else {
                0.0
            };
            out.same += usize::from(bits);
            out.mean_cosine += cosine;
            out.least_cosine = out.least_cosine.min(cosine);
        }
        out.texts += texts.len();
    }
    out.mean_cosine /= out.texts.max(1) as f64;
    Ok(out)
}

/// nDCG@10 on test before and after, by language, each query against the passages in its own.
fn quality(collection: &Collection, old: &dyn TextEncoder, new: &dyn TextEncoder) -> Result<Vec<Quality>> {
    let graded = collection.graded(Split::Test);
    let queries = queries_in(collection, &graded, &collection.langs());
    if queries.is_empty() {
        return Err(Error::Usage("--eval: the collection judges nothing in test".into()));
    }
    let (pool, measure) = (Pool::Same, Measure::Ndcg(Some(10)));
    pool.check(collection, &collection.langs())?;
    let mut by_lang: BTreeMap<&str, (usize, [f64; 2])> = BTreeMap::new();
    for (which, encoder) in [old, new].into_iter().enumerate() {
        let texts = TokenizedCollection::new(collection, encoder)?;
        for rankings in evaluate(encoder, collection, &texts, &queries, std::slice::from_ref(&pool), 10, true)
        {
            let values = rankings.values(&measure, collection, &graded, &pool);
            for (q, value) in rankings.queries.iter().zip(values) {
                let lang = collection.queries[*q as usize].lang.as_str();
                let (n, sums) = by_lang.entry(lang).or_default();
                *n += 1 - which;
                sums[which] += value;
            }
        }
    }
    let row = |(lang, (n, sums)): (&&str, &(usize, [f64; 2]))| {
        let [before, after] = sums.map(|s| s / *n as f64);
        Quality { lang: Some((*lang).to_owned()), queries: *n, before, after }
    };
    let mut out: Vec<Quality> = by_lang.iter().map(row).collect();
    let mean = |of: fn(&Quality) -> f64| out.iter().map(of).sum::<f64>() / out.len() as f64;
    let (before, after) = (mean(|q| q.before), mean(|q| q.after));
    out.push(Quality { lang: None, queries: queries.len(), before, after });
    Ok(out)
}

/// Size of what is read of a model's folder: its tensors, in the folder and those of its modules, and `tokenizer.json`.
fn mib(dir: &Path) -> Result<f64> {
    let fault = |e| Error::io(dir, e);
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let read = name == "tokenizer.json" || name.ends_with(".safetensors");
        if path.is_dir() && path.join("config.json").is_file() {
            bytes += std::fs::metadata(path.join("model.safetensors")).map_or(0, |m| m.len());
        } else if read && path.is_file() {
            bytes += std::fs::metadata(&path).map_err(fault)?.len();
        }
    }
    Ok(bytes as f64 / f64::from(1 << 20))
}

fn card(args: &Args, trimmed: &Trimmed) -> String {
    let [before, after] = trimmed.pieces;
    let names: Vec<String> = args
        .corpus
        .iter()
        .map(|p| p.file_name().unwrap_or(p.as_os_str()).to_string_lossy().into_owned())
        .collect();
    let langs = args.langs.as_deref().map_or(String::new(), |l| format!(", languages {l}"));
    format!(
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n\n\
         # {}, trimmed\n\nMade by polygrade {}: {after} of {before} pieces of the vocabulary, those that {} use{langs}. \
         The licence is that of the model.\n",
        args.model,
        env!("CARGO_PKG_VERSION"),
        names.join(", "),
    )
}

fn text(r: &Report) -> String {
    let share = |[before, after]: [f64; 2]| format!("{:.1} %", 100.0 * after / before);
    let counted = |name: &str, pair: [usize; 2]| {
        let [before, after] = pair;
        vec![name.into(), before.to_string(), after.to_string(), share(pair.map(|n| n as f64))]
    };
    let mib = r.mib.map(|m| format!("{m:.1}"));
    let rows = [
        counted("pieces", r.pieces),
        counted("parameters", r.parameters),
        vec!["MiB on disk".into(), mib[0].clone(), mib[1].clone(), share(r.mib)],
    ];
    let mut out = format!("{}\n\n{}\n", r.out, table(&["", "before", "after", "share"], &rows));
    out += &format!(
        "Of {} tokens, {:.3} % are of pieces that were cut; {:.3} % of {} texts have other tokens.\n\
         Cosine of old and new vectors of {} texts: mean {:.6}, least {:.6}; {} are the same to the last bit.\n",
        r.tokens,
        100.0 * r.tokens_cut,
        100.0 * r.texts_changed,
        r.texts,
        r.vectors.texts,
        r.vectors.mean_cosine,
        r.vectors.least_cosine,
        r.vectors.same,
    );
    match &r.ndcg_10 {
        None => out += "\nWhat that costs: polygrade eval OUT COLLECTION, or --eval COLLECTION here.\n",
        Some(rows) => {
            let row = |q: &Quality| {
                let values = [q.before, q.after, q.after - q.before].map(|v| format!("{v:.4}"));
                let lang = q.lang.clone().unwrap_or_else(|| "mean".into());
                [vec![lang, q.queries.to_string()], values.to_vec()].concat()
            };
            let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
            out += "\n";
            out += &table(&["nDCG@10 on test", "queries", "before", "after", "change"], &rows);
        }
    }
    out
}
