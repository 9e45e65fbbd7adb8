//! `polygrade trec-eval`: what the program trec_eval prints.

use super::metrics::Reading;
use crate::ui::Ui;
use polygrade_data::{Error, Result};
use polygrade_eval::trec::{Format, Options, Request, Version, evaluate};
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade trec-eval -q -c -M100 -m all_trec qrels.txt run.trec\n  \
    polygrade trec-eval -m P.5,7,3 -m ndcg.1=3,2=9 -l2 qrels.txt run.trec\n\
    Exit codes are Polygrade's, not trec_eval's: 0 done, 1 a file is at fault, 2 the command is.")]
pub(crate) struct Args {
    /// Judgments
    qrels: PathBuf,
    /// The run; - is standard input
    run: PathBuf,
    /// Print every query's values as well
    #[arg(short = 'q', long, alias = "query_eval_wanted")]
    per_query: bool,
    /// A measure, one with parameters (P.5,10), or a set: official (unless given), all_trec, set, prefs,
    /// all_prefs, qrels_jg
    #[arg(short, long = "measure", value_name = "NAME[.PARAMETERS]")]
    measures: Vec<String>,
    /// Average over all judged queries, those that the run lacks with an empty list
    #[arg(short, long, alias = "complete_rel_info_wanted")]
    complete: bool,
    /// The lowest grade that is relevant
    #[arg(
        short,
        long,
        alias = "level_for_rel",
        default_value_t = 1,
        value_name = "GRADE",
        allow_hyphen_values = true
    )]
    level: i64,
    /// Print no summary
    #[arg(short, long, alias = "nosummary")]
    no_summary: bool,
    /// Look at so many passages of each ranking
    #[arg(short = 'M', long, alias = "Max_retrieved_per_topic", value_name = "N")]
    depth: Option<usize>,
    /// Take passages without a judgment out of rankings first
    #[arg(short = 'J', long, alias = "Judged_docs_only")]
    judged_only: bool,
    /// Passages in the collection, for utility
    #[arg(
        short = 'N',
        long,
        alias = "Number_docs_in_coll",
        default_value_t = 0,
        value_name = "N",
        allow_hyphen_values = true
    )]
    collection: i64,
    /// Taken and without effect, as trec_eval has them: debug level, and output in the old form
    #[arg(short = 'D', long = "Debug_level", value_name = "N", hide = true)]
    debug: Option<i64>,
    #[arg(short = 'o', hide = true)]
    old_form: bool,
    /// Format of the judgments: qrels, qrels_jg (the second column is a judgment group), prefs, qrels_prefs
    #[arg(short = 'R', long, alias = "Rel_info_format", default_value = "qrels")]
    rel_format: String,
    /// Format of the run
    #[arg(short = 'T', long, alias = "Results_format", default_value = "trec_results", value_parser = ["trec_results"], hide = true)]
    results_format: String,
    /// Print z-scores by this file of lines: query-id measure mean deviation
    #[arg(short = 'Z', long, alias = "Zscore", value_name = "FILE")]
    zscores: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

/// A printed line.
#[derive(Serialize)]
struct Line<'a> {
    measure: &'a str,
    query: &'a str,
    value: serde_json::Value,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    if args.level < 0 {
        return Err(Error::Usage("-l must be 0 or more".into()));
    }
    let standard_input = |path: &PathBuf| path.as_os_str() == "-";
    if standard_input(&args.qrels) && standard_input(&args.run) {
        return Err(Error::Usage("only one of the judgments and the run can be standard input".into()));
    }
    let format = Format::parse(&args.rel_format).ok_or_else(|| {
        Error::Usage(format!("-R {}: takes qrels, qrels_jg, prefs or qrels_prefs", args.rel_format))
    })?;
    let request = Request::parse(&args.measures)?;
    let options = Options {
        version: if args.reading.old() { Version::V9 } else { Version::V10 },
        per_query: args.per_query,
        summary: !args.no_summary,
        complete: args.complete,
        level: args.level,
        depth: args.depth.unwrap_or(usize::MAX),
        judged_only: args.judged_only,
        collection: args.collection,
        format,
        faults: args.reading.faults(),
    };
    let report = evaluate(&args.qrels, &args.run, args.zscores.as_deref(), &request, &options)?;
    ui.warn(&report.warnings);
    let note = |n: usize, what: &str| {
        if n > 0 {
            ui.note(&format!("{n} {what}"));
        }
    };
    note(report.missing, "judged queries are not in the run and are left out; -c counts them");
    note(report.fractions, "grades have a fraction, which trec_eval drops; polygrade metrics keeps it");
    if !ui.json {
        return ui.write(&report.text);
    }
    let lines: Vec<Line<'_>> = report.text.lines().filter_map(line).collect();
    ui.result(&lines, |_| String::new())
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut fields = text.splitn(3, '\t');
    let (measure, query, value) = (fields.next()?.trim_end(), fields.next()?, fields.next()?);
    let text = || serde_json::Value::from(value.trim_matches('\''));
    let number = value.trim_start().parse::<f64>().ok().filter(|v| v.is_finite());
    let value = match (measure.starts_with("relstring") || measure == "runid", number) {
        (false, Some(v)) => serde_json::Value::from(v),
        (false, None) => serde_json::Value::Null,
        (true, _) => text(),
    };
    Some(Line { measure, query, value })
}
