//! `polygrade benchmark`: a suite of collections and some models → results in mteb's layout, and a table of ranks.

use super::common::ModelOptions;
use crate::ui::{Ui, markdown, table};
use indicatif::ProgressBar;
use polygrade_data::scan::Files;
use polygrade_data::{Collection, Error, Result};
use polygrade_encoder::{Encoder, Prompts};
use polygrade_eval::Pool;
use polygrade_eval::leaderboard::{Leaderboard, Row, Wanted};
use polygrade_eval::mteb::{About, ModelId, TaskResult, read_results};
use polygrade_eval::suite::{Entry, ModelEntry, Suite};
use polygrade_train::benchmark::{System, measure, settings};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade benchmark benchmarks/mini.toml --model bm25 --model ours=model --out runs/mini\n  \
    polygrade benchmark suite.toml --results ~/.cache/mteb/remote/results --markdown\n\n\
    Results that are there already for the same model, data and settings are not computed again.")]
pub(crate) struct Args {
    /// A TOML file that lists collections, and perhaps models; docs/guide-benchmark.md has its keys
    suite: PathBuf,
    /// A model beside those of the suite: a folder, a name on the Hugging Face hub, or `bm25`; NAME=MODEL gives it
    /// another name. May be repeated
    #[arg(long = "model", value_name = "[NAME=]MODEL")]
    models: Vec<String>,
    /// Results go to results/MODEL/REVISION/TASK.json in this folder
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
    /// Other systems' results in mteb's layout, to stand in the table; may be repeated
    #[arg(long, value_name = "DIR")]
    results: Vec<PathBuf>,
    /// Print the tables as Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Serialize)]
struct Benchmark {
    suite: String,
    /// Results computed now.
    computed: usize,
    /// Results that were there.
    reused: usize,
    #[serde(flatten)]
    table: Leaderboard,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let suite = Suite::load(&args.suite)?;
    let models = models(&suite, &args)?;
    let data: Vec<Data> = suite.collections.iter().map(Data::of).collect::<Result<_>>()?;
    let tasks: Vec<Wanted> = data.iter().flat_map(tasks).collect();
    let names: Vec<String> = tasks.iter().map(|t| t.name.clone()).collect();
    let read: Vec<_> = args.results.iter().map(|dir| read_results(dir, &names)).collect::<Result<_>>()?;
    let mut systems: Vec<(ModelId, Vec<TaskResult>)> = Vec::new();
    let bar = ui.progress("benchmark", (models.len() * names.len()) as u64);
    let (mut computed, mut reused) = (0, 0);
    for model in &models {
        let model = Model::load(model)?;
        let mut results = Vec::new();
        for data in &data {
            let (there, new) = model.results(data, &args.out, &bar)?;
            reused += there.len();
            computed += new.len();
            results.extend(there.into_iter().chain(new));
        }
        systems.push((model.id, results));
    }
    // A system may be in several folders. Its results of this call come first, then those of earlier folders.
    for (id, results) in read.into_iter().flatten() {
        match systems.iter_mut().find(|(known, _)| *known == id) {
            Some((_, own)) => own.extend(results),
            None => systems.push((id, results)),
        }
    }
    bar.finish_and_clear();
    if reused > 0 {
        ui.note(&format!("{reused} results were there already, {computed} are new"));
    }
    if systems.is_empty() {
        let what = "the folders of --results hold nothing for the tasks of the suite: ";
        return Err(Error::Usage(format!("{what}{}", names.join(", "))));
    }
    let board = Leaderboard::new(&tasks, &systems);
    board.notes.iter().for_each(|n| ui.note(n));
    let value = Benchmark { suite: suite.name, computed, reused, table: board };
    let draw = if args.markdown { markdown } else { table };
    ui.result(&value, |b| text(b, draw))
}

/// The models of the suite and of the command, each under a name of its own.
fn models(suite: &Suite, args: &Args) -> Result<Vec<ModelEntry>> {
    let given = args.models.iter().map(|m| ModelEntry::parse(m, Path::new("")));
    let models: Vec<ModelEntry> = suite.models.iter().cloned().chain(given).collect();
    if models.is_empty() && args.results.is_empty() {
        let what = "names no model; add --model bm25, --model FOLDER, or [[model]] in the suite";
        return Err(Error::Usage(format!("{} {what}", args.suite.display())));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = models.iter().find(|m| !seen.insert(&m.name)) {
        let what =
            format!("two models are called {:?}; give one another name: --model NAME=MODEL", twice.name);
        return Err(Error::Usage(what));
    }
    Ok(models)
}

/// The tasks of a collection.
fn tasks<'a>(data: &'a Data) -> impl Iterator<Item = Wanted> + 'a {
    let entry = data.entry;
    entry.pools.iter().map(|pool| Wanted {
        name: entry.task(pool),
        split: entry.split.name().to_owned(),
        main: entry.main.clone(),
        settings: settings(entry, pool),
        revision: data.fingerprint.clone(),
    })
}

/// A collection of the suite that is known to be there.
struct Data<'a> {
    entry: &'a Entry,
    fingerprint: String,
}

impl<'a> Data<'a> {
    fn of(entry: &'a Entry) -> Result<Self> {
        let fingerprint = Files::of(&entry.path)?.fingerprint(entry.split)?.ok_or_else(|| {
            let what = format!("{} has no judgments in {}", entry.name, entry.split.name());
            Error::input(entry.at.clone(), what, "set split to one that qrels/ has")
        })?;
        Ok(Data { entry, fingerprint })
    }
}

/// A model in memory; the lexical baseline has none.
struct Model {
    id: ModelId,
    encoder: Option<Encoder>,
    about: About,
}

impl Model {
    fn load(entry: &ModelEntry) -> Result<Self> {
        if entry.model == "bm25" {
            let id = ModelId { name: entry.name.clone(), revision: "k1-0.9-b-0.4".into() };
            return Ok(Model { id, encoder: None, about: About::default() });
        }
        let options = ModelOptions {
            query_prompt: entry.query_prompt.clone(),
            passage_prompt: entry.passage_prompt.clone(),
            truncate_dim: entry.truncate_dim,
        };
        let encoder = options.load(&entry.model)?;
        Ok(Model {
            id: ModelId { name: entry.name.clone(), revision: format!("{:016x}", encoder.fingerprint()) },
            about: About {
                parameters: Some(encoder.parameters()),
                dim: Some(encoder.dim()),
                prompts: *encoder.prompts() != Prompts::default(),
            },
            encoder: Some(encoder),
        })
    }

    /// The results for a collection: those that were there, and those computed and written now.
    fn results(
        &self,
        data: &Data,
        out: &Path,
        bar: &ProgressBar,
    ) -> Result<(Vec<TaskResult>, Vec<TaskResult>)> {
        let entry = data.entry;
        let folder = self.id.folder(out);
        bar.set_message(format!("{}, {},", self.id.name, entry.name));
        let mut there = Vec::new();
        let mut missing: Vec<Pool> = Vec::new();
        for pool in &entry.pools {
            match there_already(&folder, data, pool) {
                Some(result) => there.push(result),
                None => missing.push(pool.clone()),
            }
        }
        bar.inc(there.len() as u64);
        if missing.is_empty() {
            return Ok((there, Vec::new()));
        }
        let collection = Collection::load(&entry.path)?;
        let system = self.encoder.as_ref().map_or(System::Bm25, |e| System::Encoder(&**e));
        let new = measure(system, &collection, entry, &missing, &data.fingerprint)?;
        self.id.write_meta(&folder, &self.about)?;
        for result in &new {
            result.write(&folder)?;
            bar.inc(1);
        }
        Ok((there, new))
    }
}

/// A finished result of the same data and settings. One that cannot be read is computed again.
fn there_already(folder: &Path, data: &Data, pool: &Pool) -> Option<TaskResult> {
    let path = folder.join(format!("{}.json", data.entry.task(pool)));
    let result = TaskResult::read(&path).ok()?;
    let same = result.dataset_revision == data.fingerprint
        && result.polygrade.as_ref().is_some_and(|d| d.settings == settings(data.entry, pool));
    same.then_some(result)
}

type Draw = fn(&[&str], &[Vec<String>]) -> String;

fn text(b: &Benchmark, draw: Draw) -> String {
    let t = &b.table;
    let names: Vec<String> = t.systems.iter().map(|r| name(r, &t.systems)).collect();
    let number = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.4}"));
    let share = |v: Option<f64>| v.map_or("–".into(), |v| format!("{:.0} %", 100.0 * v));
    let rows: Vec<Vec<String>> = t
        .systems
        .iter()
        .zip(&names)
        .map(|(r, name)| {
            let (s, sure) = (&r.standing, r.stability);
            vec![
                name.clone(),
                s.borda_rank.to_string(),
                format!("{:.1}", s.borda),
                share(sure.map(|x| x.first_by_borda)),
                number(s.mean),
                sure.map_or("–".into(), |x| format!("[{:.4}, {:.4}]", x.mean.low, x.mean.high)),
                share(sure.map(|x| x.first_by_mean)),
                s.mean_rank.map_or("–".into(), |r| format!("{r:.2}")),
                format!("{}/{}", s.tasks, t.tasks.len()),
            ]
        })
        .collect();
    let head = ["system", "rank", "Borda", "first", "mean", "95 %", "first by mean", "mean rank", "tasks"];
    let mut out =
        format!("{}: {} systems, {} tasks\n\n{}\n", b.suite, rows.len(), t.tasks.len(), draw(&head, &rows));
    let head: Vec<&str> = ["task", "score"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let rows: Vec<Vec<String>> = t
        .tasks
        .iter()
        .enumerate()
        .map(|(i, task)| {
            let scores = t.systems.iter().map(|r| number(r.scores[i]));
            [task.name.clone(), task.main.clone()].into_iter().chain(scores).collect()
        })
        .collect();
    out += &draw(&head, &rows);
    out
}

/// The system's name, with its revision where another has the same.
fn name(row: &Row, all: &[Row]) -> String {
    let alone = all.iter().filter(|r| r.model.name == row.model.name).count() == 1;
    let revision: String = row.model.revision.chars().take(8).collect();
    if alone { row.model.name.clone() } else { format!("{}@{revision}", row.model.name) }
}
