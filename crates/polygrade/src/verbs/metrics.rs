//! `polygrade metrics`: judgments and runs → values of metrics.

use crate::ui::{Ui, table};
use polygrade_data::{At, Error, Result};
use polygrade_eval::{Faults, Measure, Qrels, Run, ScoreOptions, Scores, qrels, run, score};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade metrics qrels.txt bm25.trec dense.trec -m nDCG@10 -m 'P(rel=2)@5' -m AP\n  \
    polygrade metrics qrels.txt dense.trec.gz -q --complete --json\n\
    Metrics are in docs/metrics.md; what the program trec_eval prints: polygrade trec-eval")]
pub(crate) struct Args {
    /// Judgments: TREC's four columns or BEIR's three; plain, .gz or .zst
    qrels: PathBuf,
    /// Runs: query-id Q0 passage-id rank score tag; plain, .gz or .zst; - is standard input
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Metrics, by ir_measures' names
    #[arg(short, long = "metric", value_name = "METRIC")]
    metrics: Vec<String>,
    /// Print every query's values as well
    #[arg(short = 'q', long)]
    per_query: bool,
    /// Count judged queries that a run lacks, with an empty list
    #[arg(short, long)]
    complete: bool,
    /// Look at so many passages of each ranking
    #[arg(short = 'M', long, value_name = "N")]
    depth: Option<usize>,
    /// Take passages without a judgment out of rankings first
    #[arg(short = 'J', long)]
    judged_only: bool,
    #[command(flatten)]
    reading: Reading,
}

/// How files are read.
#[derive(clap::Args)]
pub(crate) struct Reading {
    /// Pass over bad lines; of a passage that comes twice keep the best place
    #[arg(long, conflicts_with = "strict")]
    lenient: bool,
    /// Take any fault in a file for an error (this is so unless --lenient is given)
    #[arg(long)]
    strict: bool,
    /// Read as trec_eval 9 (scores in single precision, which pytrec_eval shares) or 10
    #[arg(long, default_value = "10", value_parser = ["9", "10"], value_name = "9|10")]
    compat: String,
}

impl Reading {
    pub(crate) fn faults(&self) -> Faults {
        if self.lenient { Faults::Lenient } else { Faults::Strict }
    }

    pub(crate) fn old(&self) -> bool {
        self.compat == "9"
    }
}

#[derive(Serialize)]
struct Measured {
    run: String,
    tag: String,
    topics: usize,
    /// Judged queries that the run lacks.
    missing: usize,
    /// Metric → mean over queries; counts are summed.
    summary: BTreeMap<String, f64>,
    /// Query → metric → value.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_query: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    #[serde(skip)]
    scores: Scores,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let measures = Measure::parse_all(&args.metrics, &Measure::defaults())?;
    if args.depth == Some(0) {
        return Err(Error::Usage("--depth must be 1 or more".into()));
    }
    let options = ScoreOptions { complete: args.complete, depth: args.depth, judged_only: args.judged_only };
    let (faults, old) = (args.reading.faults(), args.reading.old());
    let (qrels, warnings) = Qrels::read(&args.qrels, &qrels::ReadOptions { faults, no_remarks: old })?;
    ui.warn(&warnings);
    if qrels.is_empty() {
        let fix = "give the file of judgments first, then the runs";
        return Err(Error::input(At::file(&args.qrels), "holds no judgments", fix));
    }
    let mut all = Vec::new();
    for path in &args.runs {
        // One run at a time is in memory.
        let read = run::ReadOptions { faults, single: old, no_remarks: old };
        let (run, warnings) = Run::read(path, &read)?;
        ui.warn(&warnings);
        let missing = qrels.iter().filter(|(id, _)| run.get(id).is_none()).count();
        if missing == qrels.len() {
            let fix = "query ids must be spelled as in the judgments";
            return Err(Error::input(At::file(path), "ranks no query that is judged", fix));
        }
        let scores = score(&qrels, &run, &measures, &options);
        if missing > 0 && !args.complete {
            let name = path.display();
            ui.note(&format!("{name}: judged queries that it lacks and that are left out: {missing}; --complete counts them"));
        }
        let named = |values: &[f64]| scores.measures.iter().cloned().zip(values.iter().copied()).collect();
        let by_query = || scores.topics.iter().cloned().zip(scores.values.iter().map(|v| named(v))).collect();
        all.push(Measured {
            run: path.display().to_string(),
            tag: run.tag.clone(),
            topics: scores.topics.len(),
            missing,
            summary: named(&scores.summary),
            by_query: args.per_query.then(by_query),
            scores,
        });
    }
    ui.result(&all, |all| text(all, &measures, args.per_query))
}

fn text(all: &[Measured], measures: &[Measure], per_query: bool) -> String {
    let names: Vec<String> = measures.iter().map(Measure::to_string).collect();
    let head = |first| -> Vec<&str> { [first].into_iter().chain(names.iter().map(String::as_str)).collect() };
    let row = |name: &str, values: &[f64]| -> Vec<String> {
        let shown = |(m, v): (&Measure, &f64)| if m.is_count() { format!("{v}") } else { format!("{v:.4}") };
        [name.to_owned()].into_iter().chain(measures.iter().zip(values).map(shown)).collect()
    };
    let rows: Vec<Vec<String>> = all.iter().map(|m| row(&m.run, &m.scores.summary)).collect();
    let mut out = table(&head("run"), &rows);
    for m in all.iter().filter(|_| per_query) {
        let rows: Vec<Vec<String>> =
            m.scores.topics.iter().zip(&m.scores.values).map(|(id, values)| row(id, values)).collect();
        out += &format!("\n{}, {} queries\n{}", m.run, m.topics, table(&head("query"), &rows));
    }
    out
}
