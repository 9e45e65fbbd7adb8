//! `polygrade shrink`: a collection and runs of several systems → a smaller collection that keeps the order of systems.

use crate::ui::{Ui, table};
use polygrade_data::record::RawText;
use polygrade_data::write::CollectionWriter;
use polygrade_data::{At, Collection, Error, Index, Problems, Result, Split};
use polygrade_eval::hard_negatives::{Kept, Ranked, System, compare, keep};
use polygrade_eval::{Measure, Pool, run as runs};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};
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
    systems: Vec<String>,
    /// Language by language, then their mean.
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
    let graded = collection.graded(split);
    let place = |q: &Index| pool.serves(&collection.queries[*q as usize].lang);
    let queries: Vec<Index> = graded.queries().iter().copied().filter(place).collect();
    if queries.is_empty() {
        let what = format!("nothing is judged in {}", split.name());
        return Err(Error::Usage(format!("{what}; see: polygrade profile {}", args.collection.display())));
    }
    let systems = systems(&args, &collection, &queries, ui)?;
    let kept = keep(&collection, &graded, &queries, &systems, args.top, None);
    let order = compare((&collection, &graded), &queries, &systems, args.top, &pool, &measure);
    let judgments = write(&args, &collection, &queries, split, &kept)?;
    let value = Shrunken {
        out: args.out.display().to_string(),
        passages: (kept.len(), kept.iter().filter(|k| **k).count()),
        queries: queries.len(),
        judgments,
        metric: measure.to_string(),
        systems: systems.into_iter().map(|s| s.name).collect(),
        order,
    };
    ui.result(&value, text)
}

/// The systems of all run files.
fn systems(args: &Args, collection: &Collection, judged: &[Index], ui: &Ui) -> Result<Vec<System>> {
    let queries: HashMap<&str, Index> =
        judged.iter().map(|&q| (collection.queries[q as usize].id.as_str(), q)).collect();
    let passages: HashMap<&str, Index> =
        collection.passages.iter().enumerate().map(|(i, p)| (p.id.as_str(), i as Index)).collect();
    let mut problems = Problems::default();
    let mut out: Vec<System> = Vec::new();
    let files = args.runs.iter().map(|r| (r, true)).chain(args.check.iter().map(|r| (r, false)));
    for (path, pooled) in files {
        let run = runs::read(path)?;
        let mut ranked = Ranked::new();
        let mut strange = BTreeSet::new();
        for (query, ranking) in run.iter() {
            // A run may rank the queries of other splits too.
            let Some(&q) = queries.get(query) else { continue };
            let place = |(id, _): (&str, f64)| {
                let found = passages.get(id).copied();
                if found.is_none() {
                    strange.insert(id.to_owned());
                }
                found
            };
            ranked.insert(q, ranking.iter().filter_map(place).collect());
        }
        if let Some(id) = strange.first() {
            let what = format!("ranks {} passages that the collection lacks, such as {id:?}", strange.len());
            problems.push(At::file(path), what, "give a run over this collection");
        } else if ranked.is_empty() {
            let what = "ranks none of the queries that are judged in the split";
            problems.push(
                At::file(path),
                what,
                "rank them: polygrade eval MODEL COLLECTION --split SPLIT --run FILE",
            );
        }
        let lacking = queries.len() - ranked.len();
        if lacking > 0 && !ranked.is_empty() {
            ui.note(&format!("{} ranks nothing for {lacking} of {} queries", path.display(), queries.len()));
        }
        let short = ranked.values().filter(|r| r.len() < args.top.min(collection.passages.len())).count();
        if pooled && short > 0 {
            ui.note(&format!("{} ranks fewer than --top passages for {short} queries", path.display()));
        }
        out.push(System { name: system_name(path, &out), ranked, pooled });
    }
    problems.into_result()?;
    Ok(out)
}

/// The file's name without its ending, or its path where another has that name.
fn system_name(path: &Path, others: &[System]) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if others.iter().any(|s| s.name == stem) { path.display().to_string() } else { stem }
}

/// Writes the passages kept, the queries judged in the split, and its judgments; gives their number.
fn write(
    args: &Args,
    collection: &Collection,
    queries: &[Index],
    split: Split,
    kept: &[bool],
) -> Result<usize> {
    let mut meta = collection.meta.clone();
    let mut writer = CollectionWriter::create(&args.out, meta.grades.clone(), 20)?;
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
    for j in collection.judgments(split).iter().filter(|j| inside.contains(&j.query)) {
        let (q, p) = (&collection.queries[j.query as usize], &collection.passages[j.passage as usize]);
        writer.judgment(&at, split, &q.id, &p.id, j.grade)?;
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
