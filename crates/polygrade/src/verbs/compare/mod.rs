//! `polygrade compare`: judgments and runs → which differ, by how much, and how sure that is.

mod paper;
mod text;

use crate::ui::Ui;
use polygrade_data::io::plain_name;
use polygrade_data::{Error, Result};
use polygrade_eval::Measure;
use polygrade_eval::compare::input::{self, TopicLangs};
use polygrade_eval::compare::{IntervalKind, Options, Test, compare};
use polygrade_eval::stats::correction::Correction;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade compare qrels.txt bm25.trec dense.trec -m nDCG@10 -m AP\n  \
    polygrade compare qrels.tsv a.trec b.trec c.trec --collection collections/mini --all-pairs --latex")]
pub(crate) struct Args {
    /// Judgments: TREC's four columns or BEIR's three
    qrels: PathBuf,
    /// TREC run files; the first is the baseline
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Metrics, by ir_measures' names; nDCG@10 and AP unless given
    #[arg(short, long = "metric", value_name = "METRIC")]
    metrics: Vec<String>,
    /// The run, by name or path, that the others are compared with, in place of the first
    #[arg(long, value_name = "RUN")]
    baseline: Option<String>,
    /// Names of the runs, in their order, in place of their files' names
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    names: Vec<String>,
    /// Compare all pairs too (randomised Tukey HSD)
    #[arg(long)]
    all_pairs: bool,
    /// Collection that says the language of each topic, for tables by language
    #[arg(long, value_name = "DIR", conflicts_with = "langs")]
    collection: Option<PathBuf>,
    /// The same from a file: topic, language and perhaps group of translations, separated by tabs
    #[arg(long, value_name = "FILE")]
    langs: Option<PathBuf>,
    /// The test that decides: t, randomization, bootstrap, wilcoxon or sign
    #[arg(long, default_value = "t")]
    test: String,
    /// Interval of the difference to show: t, percentile or bca; --json has all
    #[arg(long, default_value = "t")]
    interval: String,
    /// Adjustment of p for several questions: holm, bh (Benjamini and Hochberg), bonferroni or none
    #[arg(long, default_value = "holm")]
    correction: String,
    /// Level of the tests, 0.000001 or more; intervals have 1 − ALPHA
    #[arg(long, default_value_t = Options::default().alpha)]
    alpha: f64,
    /// Permutations of the randomisation tests
    #[arg(long, default_value_t = Options::default().permutations, value_name = "N")]
    permutations: u64,
    /// Resamples of the bootstrap, at most 10,000,000
    #[arg(long, default_value_t = Options::default().resamples, value_name = "N")]
    resamples: usize,
    /// Seed of both
    #[arg(long, default_value_t = Options::default().seed, value_name = "N")]
    seed: u64,
    /// Tell how many topics would show a difference of this size
    #[arg(long, default_value_t = Options::default().detect, value_name = "SIZE")]
    detect: f64,
    /// With this chance
    #[arg(long, default_value_t = Options::default().power, value_name = "CHANCE")]
    power: f64,
    /// Print every topic's values as well
    #[arg(short = 'q', long)]
    per_topic: bool,
    /// Print Markdown
    #[arg(long, conflicts_with = "latex")]
    markdown: bool,
    /// Print LaTeX tables (package booktabs)
    #[arg(long)]
    latex: bool,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let options = Options { by_topic: args.per_topic || ui.json, ..options(&args)? };
    let default = [Measure::Ndcg(Some(10)), Measure::AveragePrecision(1.0)];
    let measures = Measure::parse_all(&args.metrics, &default)?;
    let names = names(&args)?;
    let baseline = baseline(&args, &names)?;
    let langs = match (&args.collection, &args.langs) {
        (Some(dir), _) => Some(TopicLangs::of_collection(dir)?),
        (None, Some(file)) => Some(TopicLangs::read(file)?),
        (None, None) => None,
    };
    let runs: Vec<(String, PathBuf)> = names.into_iter().zip(args.runs).collect();
    let table = input::read(&args.qrels, &runs, &measures, langs.as_ref())?;
    let found = compare(&table, baseline, &options)?;
    if !ui.json {
        found.warnings.iter().for_each(|w| ui.note(&format!("note: {w}")));
    }
    ui.result(&found, |c| match (args.markdown, args.latex) {
        (true, _) => paper::markdown(c),
        (_, true) => paper::latex(c),
        _ => text::text(c, args.per_topic),
    })
}

fn options(args: &Args) -> Result<Options> {
    fn known<T>(value: Option<T>, option: &str, text: &str, names: &str) -> Result<T> {
        value.ok_or_else(|| Error::Usage(format!("{option}: {text:?} is none of {names}")))
    }
    let tests = "t, randomization, bootstrap, wilcoxon, sign";
    let corrections = "holm, bh, bonferroni, none";
    Ok(Options {
        alpha: args.alpha,
        test: known(Test::parse(&args.test), "--test", &args.test, tests)?,
        interval: known(
            IntervalKind::parse(&args.interval),
            "--interval",
            &args.interval,
            "t, percentile, bca",
        )?,
        correction: known(
            Correction::parse(&args.correction),
            "--correction",
            &args.correction,
            corrections,
        )?,
        permutations: args.permutations,
        resamples: args.resamples,
        seed: args.seed,
        detect: args.detect,
        power: args.power,
        all_pairs: args.all_pairs,
        ..Options::default()
    })
}

/// What the runs are called: as told, or by the files' names without their ends; where those are not different, by
/// what is different in the paths.
fn names(args: &Args) -> Result<Vec<String>> {
    let distinct = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    if !args.names.is_empty() {
        if args.names.len() != args.runs.len() || !distinct(&args.names) {
            let n = args.runs.len();
            return Err(Error::Usage(format!("--names must give {n} different names, one for each run")));
        }
        return Ok(args.names.clone());
    }
    let stem = |path: &PathBuf| {
        let name = plain_name(path);
        Path::new(&name).file_stem().map_or(name.clone(), |s| s.to_string_lossy().into_owned())
    };
    let stems: Vec<String> = args.runs.iter().map(stem).collect();
    if distinct(&stems) {
        return Ok(stems);
    }
    let parts = |p: &PathBuf| p.iter().map(|c| c.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let mut paths: Vec<Vec<String>> = args.runs.iter().map(parts).collect();
    let shared = |paths: &[Vec<String>], part: fn(&Vec<String>) -> Option<&String>| {
        paths.iter().all(|p| p.len() > 1 && part(p) == part(&paths[0]))
    };
    while shared(&paths, |p| p.first()) {
        paths.iter_mut().for_each(|p| drop(p.remove(0)));
    }
    while shared(&paths, |p| p.last()) {
        paths.iter_mut().for_each(|p| drop(p.pop()));
    }
    let names: Vec<String> = paths.iter().map(|p| p.join("/")).collect();
    if distinct(&names) { Ok(names) } else { Err(Error::Usage("a run is named twice".into())) }
}

fn baseline(args: &Args, names: &[String]) -> Result<usize> {
    let Some(wanted) = &args.baseline else {
        return Ok(0);
    };
    let is_it = |i: &usize| names[*i] == *wanted || args.runs[*i] == Path::new(wanted);
    (0..names.len())
        .find(is_it)
        .ok_or_else(|| Error::Usage(format!("--baseline: {wanted:?} is none of {}", names.join(", "))))
}
