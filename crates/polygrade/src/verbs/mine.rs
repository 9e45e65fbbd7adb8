//! `polygrade mine`: a collection and what ranks it → hard negatives for training.

use super::common::{LabelArgs, ModelOptions, langs, note_unmatched, scenario};
use super::training::reference;
use crate::ui::{Ui, table};
use polygrade_data::{Collection, Error, Lang, Result, Split};
use polygrade_train::mine::{
    Counts, Dense, Filter, Format, Lexical, NegativeLangs, RunFile, Select, Source, Task, mine, write,
};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade mine collections/mini --model model --tau 2 --out negatives.tsv\n  \
    polygrade mine collections/mini --vectors corpus.npy --query-vectors queries.npy --tau 2 --out negatives.tsv\n  \
    polygrade mine collections/mini --bm25 --run dense.trec --range 10:100 --select random --tau 2 --out negatives.tsv\n  \
    polygrade train collections/mini --tau 2 --hard-negatives negatives.tsv --out better")]
pub(crate) struct Args {
    /// The collection
    collection: PathBuf,
    /// File of the negatives
    #[arg(long)]
    out: PathBuf,
    /// Of what form it is: tsv, which train reads, or what other tools train on, with positives and texts: tevatron,
    /// flagembedding, sentence-transformers
    #[arg(long, default_value = "tsv", value_parser = ["tsv", "tevatron", "flagembedding", "sentence-transformers"])]
    format: String,
    /// Rank by a model: its folder, or its name on the Hugging Face hub
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Rank by vectors of the passages in these files, as encode writes them
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "query_vectors")]
    vectors: Vec<PathBuf>,
    /// The vectors of the queries for --vectors, of the same model: encode --query
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "vectors")]
    query_vectors: Vec<PathBuf>,
    /// Rank by BM25
    #[arg(long)]
    bm25: bool,
    /// Rank as these TREC run files do. What several sources give is merged by rank
    #[arg(long, num_args = 1.., value_name = "FILE")]
    run: Vec<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Which queries are mined for, and what is a positive.
#[derive(clap::Args)]
#[command(next_help_heading = "Positives")]
struct Labels {
    #[command(flatten)]
    positives: LabelArgs,
    /// The scenario that the negatives are for, which label policies may look at: monolingual, mixture, cross-lingual
    #[arg(long, default_value = "mixture")]
    scenario: String,
    /// Judgments whose queries are mined for: train, dev or test
    #[arg(long, default_value = "train")]
    split: String,
    /// Languages of the queries, separated by commas; all unless given
    #[arg(long)]
    langs: Option<String>,
}

/// What is dropped and what is picked.
#[derive(clap::Args)]
#[command(next_help_heading = "Negatives")]
struct FilterArgs {
    /// Negatives of each query, at most
    #[arg(long, default_value_t = Filter::default().negatives, value_name = "N")]
    negatives: usize,
    /// First and last rank, from 1; positives and passages of the same text are not counted
    #[arg(long, default_value = "1:100", value_name = "LO:HI")]
    range: String,
    /// Drop what scores more than the positive less this share of its magnitude; none to switch it off
    #[arg(long, default_value = "0.05", value_name = "R")]
    relative_margin: String,
    /// Drop what scores more than the positive less this
    #[arg(long, value_name = "M", allow_hyphen_values = true)]
    absolute_margin: Option<f32>,
    /// Which of several positives margins are measured from: lowest, highest, mean
    #[arg(long, default_value = "lowest", value_parser = ["lowest", "highest", "mean"], value_name = "WHICH")]
    positive: String,
    /// Drop what scores more than this
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    max_score: Option<f32>,
    /// Drop what scores less than this
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    min_score: Option<f32>,
    /// Languages of the negatives: the query's own (same), all but it (other), all ranked together (any), or as many
    /// from each (balanced)
    #[arg(long, default_value = "same", value_parser = ["same", "other", "any", "balanced"], value_name = "WHICH")]
    negative_langs: String,
    /// Pick the best ranked (top), or draw (random)
    #[arg(long, default_value = "top", value_parser = ["top", "random"], value_name = "HOW")]
    select: String,
    /// Seed of --select random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mine passages that are judged as negatives too; else only those without a judgment
    #[arg(long)]
    keep_judged: bool,
}

#[derive(Serialize)]
struct Row {
    /// `null` for all languages together.
    lang: Option<Lang>,
    #[serde(flatten)]
    counts: Counts,
    /// Mean score of the positives that margins are measured from; `null` where there is none.
    mean_positive: Option<f64>,
    /// Mean score of the negatives; `null` where there is none.
    mean_mined: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    out: String,
    /// By language of the query, then all together.
    langs: Vec<Row>,
    seconds: f64,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let started = Instant::now();
    let split = Split::parse(&args.labels.split)
        .ok_or_else(|| Error::Usage(format!("{:?} is no split: train, dev, test", args.labels.split)))?;
    let scenario = scenario(&args.labels.scenario)?;
    let policies = args.labels.positives.policies()?;
    let filter = args.filter.filter()?;
    if args.model.is_none() && args.vectors.is_empty() && !args.bm25 && args.run.is_empty() {
        let what = "say what ranks: --model MODEL, --vectors FILE, --bm25 or --run FILE";
        return Err(Error::Usage(what.into()));
    }
    let collection = Collection::load(&args.collection)?;
    let langs = langs(args.labels.langs.as_deref(), &collection)?;
    note_unmatched(&policies, &collection, ui);
    let graded = collection.graded(split);
    let which = NegativeLangs::ALL.iter().find(|(name, _)| *name == args.filter.negative_langs);
    let which = which.map_or(NegativeLangs::Same, |(_, which)| *which);
    let task = Task::new(&collection, &graded, (scenario, &policies), &langs, which);
    if task.is_empty() {
        let what = "has a positive under this policy; see: polygrade profile, or lower --tau";
        return Err(Error::Usage(format!("no query of {} {what}", split.name())));
    }

    let mut encoder = args.model.as_deref().map(|model| args.options.load(model)).transpose()?;
    if let Some(encoder) = &mut encoder {
        encoder.normalize();
    }
    let runs = args.run.iter().map(|path| RunFile::read(path)).collect::<Result<Vec<_>>>()?;
    let stored = (!args.vectors.is_empty()).then(|| Dense::stored(&task, &args.vectors, &args.query_vectors));
    let dense = encoder.as_ref().map(|encoder| Dense::new(&**encoder));
    let dense: Vec<Dense> = dense.into_iter().chain(stored.transpose()?).collect();
    let mut sources: Vec<&dyn Source> = Vec::new();
    sources.extend(dense.iter().map(|d| d as &dyn Source));
    sources.extend(args.bm25.then_some(&Lexical as &dyn Source));
    sources.extend(runs.iter().map(|r| r as &dyn Source));
    let bar = ui.progress("passages", (sources.len() * task.passages().len()) as u64);
    let (mined, by_lang) = mine(&task, &sources, &filter, &|n| bar.inc(n))?;
    bar.finish_and_clear();

    let format = Format::ALL.iter().find(|(name, _)| *name == args.format).map_or(Format::Tsv, |(_, f)| *f);
    write(&args.out, format, &task, &mined)?;
    let mut all = Counts::default();
    by_lang.values().for_each(|counts| all.add(counts));
    if 2 * all.short > all.queries && all.absolute_margin + all.relative_margin > all.mined {
        ui.note(
            "most queries have fewer negatives than asked for, because of the margins; smaller ones, --positive highest, or \
             a window with --relative-margin none leave more",
        );
    }
    let rows = by_lang.into_iter().map(|(lang, counts)| (Some(lang), counts)).chain([(None, all)]);
    let finite = |x: f64| x.is_finite().then_some(x);
    let row = |(lang, counts): (_, Counts)| Row {
        lang,
        mean_positive: finite(counts.mean_positive()),
        mean_mined: finite(counts.mean_mined()),
        counts,
    };
    let report = Report {
        out: args.out.display().to_string(),
        langs: rows.map(row).collect(),
        seconds: started.elapsed().as_secs_f64(),
    };
    ui.result(&report, text)
}

impl FilterArgs {
    fn filter(&self) -> Result<Filter> {
        let range =
            self.range.split_once(':').and_then(|(lo, hi)| Some((lo.parse().ok()?, hi.parse().ok()?)));
        let range = range.filter(|(lo, hi)| 1 <= *lo && lo <= hi && *hi <= 1_000_000).ok_or_else(|| {
            Error::Usage(format!("--range {:?}: expected two ranks from 1, such as 10:100", self.range))
        })?;
        let relative_margin = match self.relative_margin.as_str() {
            "none" => None,
            text => Some(text.parse().ok().filter(|r| (0.0..=1.0).contains(r)).ok_or_else(|| {
                Error::Usage(format!("--relative-margin {text:?}: expected 0 to 1, or none"))
            })?),
        };
        let scores = [self.absolute_margin, self.max_score, self.min_score];
        if self.negatives == 0 || scores.iter().flatten().any(|s| !s.is_finite()) {
            return Err(Error::Usage("--negatives must be 1 or more, margins and scores numbers".into()));
        }
        Ok(Filter {
            range,
            negatives: self.negatives,
            absolute_margin: self.absolute_margin,
            relative_margin,
            reference: reference(&self.positive),
            max_score: self.max_score,
            min_score: self.min_score,
            keep_judged: self.keep_judged,
            select: if self.select == "random" { Select::Random(self.seed) } else { Select::Top },
        })
    }
}

/// A row of counts: its name, and the count of each language.
type Line = (&'static str, fn(&Counts) -> usize);

/// Counts that stand in the table even where they are 0.
const ALWAYS: [Line; 2] = [("queries", |c| c.queries), ("negatives mined", |c| c.mined)];

/// Counts that stand in the table where any is not.
const WHERE_ANY: [Line; 11] = [
    ("queries with fewer than asked for", |c| c.short),
    ("queries without a positive", |c| c.without_positive),
    ("dropped: positives, with their texts and translations", |c| c.positives),
    ("dropped: left out by the policy, or the query's own text", |c| c.left_out),
    ("dropped: ranked before --range", |c| c.rank),
    ("dropped: judged as negatives", |c| c.judged),
    ("dropped: no score of a positive for the margin", |c| c.no_positive_score),
    ("dropped: inside --absolute-margin", |c| c.absolute_margin),
    ("dropped: inside --relative-margin", |c| c.relative_margin),
    ("dropped: above --max-score", |c| c.max_score),
    ("dropped: below --min-score", |c| c.min_score),
];

fn text(report: &Report) -> String {
    // A single language needs no sum.
    let rows = if report.langs.len() == 2 { &report.langs[..1] } else { &report.langs[..] };
    let name = |row: &Row| row.lang.as_ref().map_or("all".to_owned(), ToString::to_string);
    let names: Vec<String> = rows.iter().map(name).collect();
    let head: Vec<&str> = [""].into_iter().chain(names.iter().map(String::as_str)).collect();
    let counts = |(name, count): &Line| -> Vec<String> {
        [(*name).to_owned()].into_iter().chain(rows.iter().map(|r| count(&r.counts).to_string())).collect()
    };
    let any = |(_, count): &&Line| rows.iter().any(|r| count(&r.counts) > 0);
    let mut lines: Vec<Vec<String>> = ALWAYS.iter().chain(WHERE_ANY.iter().filter(any)).map(counts).collect();
    let score = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.3}"));
    for (name, of) in [
        ("mean score of positives", (|r: &Row| r.mean_positive) as fn(&Row) -> Option<f64>),
        ("mean score of negatives", |r| r.mean_mined),
    ] {
        lines.push([name.to_owned()].into_iter().chain(rows.iter().map(|r| score(of(r)))).collect());
    }
    format!("{}negatives: {}", table(&head, &lines), report.out)
}
