//! `polygrade import`: another format → a collection.

use crate::ui::Ui;
use polygrade_data::import::{Format, GradeMap, Options, Source, import};
use polygrade_data::split::SplitRule;
use polygrade_data::{Error, Lang, Result, Split};
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade import beir nfcorpus --out nfc --lang en\n  \
    polygrade import squad xquad --out xq\n  \
    polygrade import pairs stsb_multi_mt --parallel --scale 0:5 --skip-invalid --out sts\n  \
    polygrade import trec dl19 dl20 --lang en --split 60:20:20 --out dl\n  \
    polygrade import beir nfcorpus --out binary --lang en --map 0=0,1..2=1\n\n\
    docs/formats.md lists the files that each format needs.")]
pub(crate) struct Args {
    /// Format: beir, trec, miracl, tevatron, flagembedding, sentence-transformers, mteb, squad, lareqa, pairs, topics
    format: String,
    /// Files or folders: PATH, LANG=PATH, or LANG=PATH:FIRST,SECOND,SCORE with columns
    #[arg(required = true)]
    source: Vec<String>,
    /// Folder of the new collection
    #[arg(long)]
    out: PathBuf,
    /// Language of all texts; detected where neither this nor the source says it
    #[arg(long)]
    lang: Option<String>,
    /// Split of judgments that have none: train, dev, test, or shares
    #[arg(long, default_value = "60:20:20")]
    split: String,
    /// Seed of the division into splits
    #[arg(long, default_value_t = 1)]
    split_seed: u64,
    /// Column whose value decides the split of a row, so that related rows stay together (pairs)
    #[arg(long, value_name = "COLUMN")]
    split_by: Option<String>,
    /// Lowest and highest grade of the source; the lowest becomes 0
    #[arg(long, value_name = "LOW:HIGH", allow_hyphen_values = true)]
    scale: Option<String>,
    /// What grades become first, such as 0..1=0,2=1,3=3; every grade must be named, unless a last * lets the others
    /// stay. For the files of one name alone: FILE:OLD=NEW,…
    #[arg(long, value_name = "OLD=NEW,…", allow_hyphen_values = true)]
    map: Vec<String>,
    /// As --map with a last *
    #[arg(long, value_name = "OLD=NEW,…", allow_hyphen_values = true, conflicts_with = "map", hide = true)]
    grade_map: Option<String>,
    /// Columns of the two texts and the score, by name or number (pairs)
    #[arg(long, value_name = "FIRST,SECOND,SCORE")]
    columns: Option<String>,
    /// Rows of the sources are translations of one another (pairs)
    #[arg(long)]
    parallel: bool,
    /// Column that joins parallel rows, instead of their number (pairs)
    #[arg(long, value_name = "COLUMN", requires = "parallel")]
    join: Option<String>,
    /// Judgments to use instead of the source's own, perhaps with their split (trec)
    #[arg(long, value_name = "[SPLIT=]FILE")]
    qrels: Vec<String>,
    /// Name of the collection; the folder's unless given
    #[arg(long)]
    name: Option<String>,
    /// Licence of the collection
    #[arg(long)]
    licence: Option<String>,
    /// Leave invalid records out instead of stopping at them
    #[arg(long)]
    skip_invalid: bool,
    /// Problems to show in full
    #[arg(long, default_value_t = polygrade_data::error::DEFAULT_PROBLEM_LIMIT, value_name = "N")]
    limit: usize,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let format =
        Format::ALL.iter().find(|(name, _)| *name == args.format).map(|(_, f)| *f).ok_or_else(|| {
            let names: Vec<&str> = Format::ALL.iter().map(|(n, _)| *n).collect();
            Error::Usage(format!("{:?} is no format; choose one of {}", args.format, names.join(", ")))
        })?;
    let options = options(&args)?;
    let sources = args.source.iter().map(|s| Source::parse(s)).collect::<Result<Vec<_>>>()?;
    let done = import(format, &sources, &args.out, &options)?;
    if done.skipped.total() > 0 {
        ui.note(&format!("left out {} invalid records:\n{}", done.skipped.total(), done.skipped));
    }
    let (passages, queries, judgments) = (done.passages, done.queries, done.judgments);
    let skipped = done.skipped.total();
    let value = json!({ "out": args.out.display().to_string(), "passages": passages, "queries": queries, "judgments": judgments, "skipped": skipped });
    ui.result(&value, |_| {
        let out = args.out.display();
        format!("{out}: {passages} passages, {queries} queries, {judgments} judgments\nnext: polygrade profile {out}")
    })
}

fn options(args: &Args) -> Result<Options> {
    let usage = |what: &str, value: &str, wanted: &str| {
        Error::Usage(format!("--{what} {value:?}: expected {wanted}"))
    };
    let number = |t: &str| t.trim().parse::<f32>().ok().filter(|x| x.is_finite());
    let pair = |t: &str, by: char| t.split_once(by).and_then(|(a, b)| Some((number(a)?, number(b)?)));
    let lang = match &args.lang {
        Some(t) => Some(Lang::parse(t).ok_or_else(|| usage("lang", t, "a BCP 47 tag such as en"))?),
        None => None,
    };
    let scale = match &args.scale {
        Some(t) => {
            let scale = pair(t, ':').filter(|(low, high)| low < high);
            Some(scale.ok_or_else(|| usage("scale", t, "LOW:HIGH such as 1:5"))?)
        }
        None => None,
    };
    let mut map = GradeMap::default();
    let wanted = "OLD=NEW,… such as 0..1=0,2=1,*, each old grade once";
    for t in &args.map {
        map.add(t).ok_or_else(|| usage("map", t, wanted))?;
    }
    if let Some(t) = &args.grade_map {
        map.add(&format!("{t},*")).ok_or_else(|| usage("grade-map", t, wanted))?;
    }
    let columns = match &args.columns {
        Some(t) => {
            let columns: Vec<String> = t.split(',').map(str::to_owned).collect();
            Some(columns.try_into().map_err(|_| usage("columns", t, "FIRST,SECOND,SCORE"))?)
        }
        None => None,
    };
    let qrels = args.qrels.iter().map(|text| match text.split_once('=') {
        Some((split, file)) if Split::parse(split).is_some() => (Split::parse(split), PathBuf::from(file)),
        _ => (None, PathBuf::from(text)),
    });
    let split = SplitRule::parse(&args.split, args.split_seed);
    Ok(Options {
        lang,
        split: split
            .ok_or_else(|| usage("split", &args.split, "train, dev, test or shares such as 60:20:20"))?,
        scale,
        map,
        name: args.name.clone(),
        licence: args.licence.clone(),
        skip_invalid: args.skip_invalid,
        problem_limit: args.limit,
        columns,
        join: args.join.clone(),
        split_by: args.split_by.clone(),
        parallel: args.parallel,
        qrels: qrels.collect(),
    })
}
