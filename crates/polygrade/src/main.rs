//! `polygrade`: from graded relevance judgments to a calibrated, fine-tuned, measured dense retriever.
//!
//! One verb, one file under `verbs/`; each lists its stages in order.

mod ui;
mod verbs;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "polygrade", version, about, long_about = None, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 1 the input is at fault, 2 the command is, 3 polygrade is.\n\
    Start with: polygrade calibrate collections/mini --out runs/mini")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: ui::Common,
}

#[derive(Subcommand)]
enum Verb {
    /// Find the best threshold for each language and scenario, and write a report
    Calibrate(verbs::calibrate::Args),
    /// Train an encoder under a threshold, a band or calibrated labels
    Train(verbs::train::Args),
    /// Measure a model on a collection, as trec_eval would
    Eval(verbs::eval::Args),
    /// Compare runs: significance, intervals, effect sizes, topics needed
    Compare(verbs::compare::Args),
    /// Measure run files against judgments
    Metrics(verbs::metrics::Args),
    /// Print what trec_eval prints for a run file
    TrecEval(verbs::trec_eval::Args),
    /// Measure models on several collections: results in mteb's layout, means and Borda ranks
    Benchmark(verbs::benchmark::Args),
    /// Cut a collection down to judged passages and hard negatives, and say whether systems keep their order
    #[command(visible_alias = "hard-negatives")]
    Shrink(verbs::shrink::Args),
    /// Make a multilingual encoder from parallel text and a teacher
    Pretrain(verbs::pretrain::Args),
    /// Train a tokeniser that serves several languages evenly
    Tokenizer(verbs::tokenizer::Args),
    /// Find hard negatives to train with
    Mine(verbs::mine::Args),
    /// Show the best passages for a query
    Search(verbs::search::Args),
    /// Write the vectors of a jsonl file's texts
    Encode(verbs::encode::Args),
    /// Cut a model's vocabulary down to the pieces that given texts use
    Trim(verbs::trim::Args),
    /// Describe a model, compare two, or average several
    Model(verbs::model::Args),
    /// Describe a collection: languages, grades, class balance, faults
    Profile(verbs::profile::Args),
    /// Show what a label policy makes of a collection's judgments
    Labels(verbs::labels::Args),
    /// Turn another format into a collection
    Import(verbs::import::Args),
    /// Turn a collection into another format
    Export(verbs::export::Args),
}

fn main() -> ExitCode {
    let Cli { verb, common } = Cli::parse();
    let done = ui::Ui::new(&common).and_then(|ui| match verb {
        Verb::Calibrate(args) => verbs::calibrate::run(args, &ui),
        Verb::Train(args) => verbs::train::run(args, &ui),
        Verb::Eval(args) => verbs::eval::run(args, &ui),
        Verb::Compare(args) => verbs::compare::run(args, &ui),
        Verb::Metrics(args) => verbs::metrics::run(args, &ui),
        Verb::TrecEval(args) => verbs::trec_eval::run(args, &ui),
        Verb::Benchmark(args) => verbs::benchmark::run(args, &ui),
        Verb::Shrink(args) => verbs::shrink::run(args, &ui),
        Verb::Pretrain(args) => verbs::pretrain::run(args, &ui),
        Verb::Tokenizer(args) => verbs::tokenizer::run(args, &ui),
        Verb::Mine(args) => verbs::mine::run(args, &ui),
        Verb::Search(args) => verbs::search::run(args, &ui),
        Verb::Encode(args) => verbs::encode::run(args, &ui),
        Verb::Trim(args) => verbs::trim::run(args, &ui),
        Verb::Model(args) => verbs::model::run(args, &ui),
        Verb::Profile(args) => verbs::profile::run(args, &ui),
        Verb::Labels(args) => verbs::labels::run(args, &ui),
        Verb::Import(args) => verbs::import::run(args, &ui),
        Verb::Export(args) => verbs::export::run(args, &ui),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => ui::fail(&e),
    }
}
