//! `polygrade shrink`: a collection and runs of several systems → a smaller collection that keeps the order of systems.

use crate::ui::{Ui, table};
use polygrade_data::record::RawText;
use polygrade_data::write::CollectionWriter;
use polygrade_data::{At, Collection, Error, Index, Judgment, Lang, Origin, Result, Split};
use polygrade_eval::hard_negatives::{Kept, System, Task, measured};
use polygrade_eval::{Measure, Pool};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade eval bm25 collections/mini --run bm25.trec\n  \
    polygrade eval model collections/mini --run model.trec\n  \
    polygrade shrink collections/mini --runs bm25.trec model.trec --top 100 --out mini-hard")]
pub(crate) struct Args {
    /// The collection
    collection: PathBuf,
    /// Run files of systems whose first passages stay
    #[arg(long, required = true, num_args = 1.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Run files of systems that are measured but bring no passages
    #[arg(long, num_args = 1.., value_name = "RUN")]
    check: Vec<PathBuf>,
    /// Passages of each system that stay for each query
    #[arg(long, default_value_t = 100, value_name = "N")]
    top: usize,
    /// Judgments to keep, with their queries: train, dev or test
    #[arg(long, default_value = "test")]
    split: String,
    /// Pool that each query was ranked against: mono-same, mono-cross:zh, multi, multi:en+zh
    #[arg(long, default_value = "mono-same")]
    pool: String,
    /// The metric that the order of systems is taken from
    #[arg(short, long = "metric", default_value = "nDCG@10")]
    metric: String,
    /// Folder of the new collection
    #[arg(long)]
    out: PathBuf,
}

#[derive(Serialize)]
struct Shrunken {
    out: String,
    /// Passages before and after.
    passages: (usize, usize),
    queries: usize,
    judgments: usize,
    metric: String,
    /// Those that are measured, in the order of the values below.
    systems: Vec<String>,
    /// Language by language, then their mean; empty where no system can be measured.
    order: Vec<Kept>,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let split = Split::parse(&args.split)
        .ok_or_else(|| Error::Usage(format!("{:?} is no split: train, dev, test", args.split)))?;
    let pool = Pool::parse(&args.pool).ok_or_else(|| {
        Error::Usage(format!("{:?} is no pool: mono-same, mono-cross:zh, multi, multi:en+zh", args.pool))
    })?;
    let measure = Measure::parse(&args.metric)
        .ok_or_else(|| Error::Usage(format!("{:?} is no metric; see docs/metrics.md", args.metric)))?;
    if args.top == 0 {
        return Err(Error::Usage("--top must be 1 or more".into()));
    }
    let collection = Collection::load(&args.collection)?;
    pool.check(&collection, &collection.langs())?;
    // A folder that cannot be written is said before the work.
    let writer = CollectionWriter::create(&args.out, collection.meta.grades.clone(), 20)?;
    let graded = collection.graded(split);
    let place = |q: &Index| pool.serves(&collection.queries[*q as usize].lang);
    let queries: Vec<Index> = graded.queries().iter().copied().filter(place).collect();
    if queries.is_empty() {
        let what = format!("nothing is judged in {}", split.name());
        return Err(Error::Usage(format!("{what}; see: polygrade profile {}", args.collection.display())));
    }
    let task = Task { collection: &collection, graded: &graded, queries: &queries, pool: &pool };
    let systems = systems(&args, &task, ui)?;
    let kept = task.keep(&systems, args.top, None);
    let order = task.compare(&systems, args.top, &measure);
    if args.runs.len() == 1 {
        let name = &systems[0].name;
        ui.note(&format!("{name} is not measured: there is no other run whose pool it could be measured on"));
    }
    let judgments = write(writer, &args, &task, split, &kept)?;
    let value = Shrunken {
        out: args.out.display().to_string(),
        passages: (kept.len(), kept.iter().filter(|k| **k).count()),
        queries: queries.len(),
        judgments,
        metric: measure.to_string(),
        systems: measured(&systems).into_iter().map(|i| systems[i].name.clone()).collect(),
        order,
    };
    ui.result(&value, text)
}

/// The systems of all run files, the pooled ones first.
fn systems(args: &Args, task: &Task, ui: &Ui) -> Result<Vec<System>> {
    let mut out: Vec<System> = Vec::new();
    let mut sizes: BTreeMap<&Lang, usize> = BTreeMap::new();
    let files = args.runs.iter().map(|r| (r, true)).chain(args.check.iter().map(|r| (r, false)));
    for (path, pooled) in files {
        let ranked = task.read(path)?;
        if let Some(same) = out.iter().find(|s| s.ranked == ranked) {
            let what = format!("ranks all queries as {} does", same.name);
            let fix = "give each system's run once: a system must not be measured on a pool of its own";
            return Err(Error::input(At::file(path), what, fix));
        }
        let all = task.queries.len();
        if ranked.len() < all {
            let lacking = all - ranked.len();
            ui.note(&format!("{} ranks nothing for {lacking} of {all} queries", path.display()));
        }
        let mut short = 0;
        for (&q, ranking) in &ranked {
            let lang = &task.collection.queries[q as usize].lang;
            let size = *sizes.entry(lang).or_insert_with(|| task.pool.passages(task.collection, lang).len());
            short += usize::from(ranking.len() < args.top.min(size));
        }
        if pooled && short > 0 {
            let what = format!("ranks fewer than --top passages in {} for {short} queries", task.pool);
            ui.note(&format!("{} {what}", path.display()));
        }
        out.push(System { name: system_name(path, &out), ranked, pooled });
    }
    Ok(out)
}

/// The file's name without its ending, or its path where another has that name.
fn system_name(path: &Path, others: &[System]) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if others.iter().any(|s| s.name == stem) { path.display().to_string() } else { stem }
}

/// Writes the passages kept, the queries judged in the split, and its judgments; gives their number.
fn write(
    mut writer: CollectionWriter,
    args: &Args,
    task: &Task,
    split: Split,
    kept: &[bool],
) -> Result<usize> {
    let (collection, queries) = (task.collection, task.queries);
    let mut meta = collection.meta.clone();
    let at = At::file(&args.collection);
    let raw = |id: &str, title: Option<&String>, text: &str, lang: &str, group: Option<&String>| RawText {
        title: title.cloned(),
        lang: Some(lang.to_owned()),
        group: group.cloned(),
        ..RawText::new(id, text)
    };
    for (p, _) in collection.passages.iter().zip(kept).filter(|(_, kept)| **kept) {
        writer.passage(&at, raw(&p.id, p.title.as_ref(), &p.text, p.lang.as_str(), p.group.as_ref()))?;
    }
    for &q in queries {
        let q = &collection.queries[q as usize];
        writer.query(&at, raw(&q.id, None, &q.text, q.lang.as_str(), q.group.as_ref()))?;
    }
    let inside: HashSet<Index> = queries.iter().copied().collect();
    let mut judgment = |j: &Judgment, origin: Origin| -> Result<()> {
        if inside.contains(&j.query) {
            let (q, p) = (&collection.queries[j.query as usize], &collection.passages[j.passage as usize]);
            writer.judgment_of(&at, split, (&q.id, &p.id), j.grade, origin)?;
        }
        Ok(())
    };
    match collection.votes(split) {
        Some(votes) => votes.iter().try_for_each(|(j, origin)| judgment(&j, origin))?,
        None => collection.judgments(split).iter().try_for_each(|j| judgment(j, Origin::default()))?,
    }
    let how = format!("judged passages and the first {} of {} systems", args.top, args.runs.len());
    meta.source = format!("{} ({how}, by polygrade shrink; from {})", meta.name, meta.source);
    meta.name = format!("{}-hard{}", meta.name, args.top);
    Ok(writer.finish(&meta, &args.collection, false)?.judgments)
}

fn text(s: &Shrunken) -> String {
    let (before, after) = s.passages;
    let share = 100.0 * after as f64 / before as f64;
    let mut out = format!(
        "{}: {after} of {before} passages ({share:.1} %), {} queries, {} judgments\n\n",
        s.out, s.queries, s.judgments
    );
    if s.order.is_empty() {
        return out.trim_end().to_owned() + "\n";
    }
    let number = |v: &f64| format!("{v:.4}");
    let mut rows = Vec::new();
    for k in &s.order {
        let lang = k.lang.as_ref().map_or("mean", |l| l.as_str());
        let tau = k.tau.map_or("–".into(), |t| format!("{t:.3}"));
        for (what, values, last) in [("full", &k.full, None), ("small", &k.small, Some((tau, k.max_change)))]
        {
            let mut row = vec![format!("{lang} {what}")];
            row.extend(values.iter().map(number));
            row.extend(last.map_or([String::new(), String::new()], |(t, c)| [t, number(&c)]));
            rows.push(row);
        }
    }
    let systems = s.systems.iter().map(String::as_str);
    let head: Vec<&str> =
        [s.metric.as_str()].into_iter().chain(systems).chain(["τ", "largest change"]).collect();
    out += &table(&head, &rows);
    out += "\nEach system is measured on the small pool that the other systems make.\n";
    out
}
