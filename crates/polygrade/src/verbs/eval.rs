//! `polygrade eval`: rank in each pool, measure, write, report.

mod text;

use super::common::{ModelOptions, langs};
use crate::ui::Ui;
use polygrade_data::io::AtomicDir;
use polygrade_data::{Collection, Error, Graded, Index, Lang, Result, Split, io};
use polygrade_encoder::TextEncoder;
use polygrade_eval::evaluation::{Settings, Values};
use polygrade_eval::{Evaluation, Measure, Pool, PoolEvaluation, Rankings, bias, report, run as runs};
use polygrade_index::{Order, TieOrder, rank_bm25};
use polygrade_train::TokenizedCollection;
use polygrade_train::evaluate::{Encoded, queries_in};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade eval model collections/mini --split test\n  \
    polygrade eval bm25 collections/mini --pool all -m nDCG@10 -m 'P(rel=2)@5' --run bm25.trec\n  \
    polygrade eval model collections/mini --matrix --pool multi:own+en --out runs/bias")]
pub(crate) struct Args {
    /// Folder of a model, its name on the Hugging Face hub, or `bm25` for the lexical baseline
    model: String,
    /// The collection
    collection: PathBuf,
    /// Judgments to measure on: train, dev or test
    #[arg(long, default_value = "test")]
    split: String,
    /// Passages each query is ranked against; may be repeated: mono-same, mono-cross, mono-cross:zh, mono:zh,
    /// multi, multi:en+zh, multi:own+en. mono-same unless given
    #[arg(long = "pool", value_name = "POOL")]
    pools: Vec<String>,
    /// Every query language against every passage language: mono-same and mono-cross
    #[arg(long)]
    matrix: bool,
    /// The pools of LAReQA's settings: lareqa, x-x, x-x-mono, x-y
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Languages of the queries; all unless given
    #[arg(long)]
    langs: Option<String>,
    /// Metrics, by ir_measures' names
    #[arg(short, long = "metric", value_name = "METRIC")]
    metrics: Vec<String>,
    #[command(flatten)]
    options: ModelOptions,
    /// Write evaluation, pools, rankings, values of queries, report.html and worst.html to a new folder
    #[arg(long, value_name = "NEW")]
    out: Option<PathBuf>,
    /// Write the rankings of the pool to a TREC run file
    #[arg(long, value_name = "FILE")]
    run: Option<PathBuf>,
    /// Passages in each ranking; metrics with a cut-off, as R@100, see as many as they say
    #[arg(long, default_value_t = 1000, value_name = "N")]
    depth: usize,
    /// Lowest grade that is relevant in measures of language bias; the highest of the scale unless given
    #[arg(long, value_name = "GRADE")]
    bias_rel: Option<f32>,
    /// Passages that Comp@k, Inclination@k and Share@k look at
    #[arg(long, default_value_t = 10, value_name = "K")]
    bias_k: usize,
    /// Queries of each language and pool in worst.html
    #[arg(long, default_value_t = 5, value_name = "N")]
    worst: usize,
    /// Print every query's values as well
    #[arg(short = 'q', long)]
    per_query: bool,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let split = Split::parse(&args.split)
        .ok_or_else(|| Error::Usage(format!("{:?} is no split: train, dev, test", args.split)))?;
    let mut measures = measures(&args.metrics, args.scenario.as_deref())?;
    if args.depth == 0 || args.bias_k == 0 {
        return Err(Error::Usage("--depth and --bias-k must be 1 or more".into()));
    }
    let out = args.out.as_deref().map(AtomicDir::create).transpose()?;
    let collection = Collection::load(&args.collection)?;
    let langs = langs(args.langs.as_deref(), &collection)?;
    let pools = pools(&args, &collection, &langs)?;
    let rel = args.bias_rel.unwrap_or(collection.meta.grades.max);
    if rel.is_nan() || rel <= 0.0 || !collection.meta.grades.holds(rel) {
        let max = collection.meta.grades.max;
        return Err(Error::Usage(format!("--bias-rel must be above 0 and at most {max}, the highest grade")));
    }
    let graded = collection.graded(split);
    let queries = queries_in(&collection, &graded, &langs);
    if queries.is_empty() {
        let what = format!("no query in these languages is judged in {}", split.name());
        return Err(Error::Usage(format!("{what}; see: polygrade profile {}", args.collection.display())));
    }
    dedup(&mut measures);
    let rankings = rank(&args, &collection, &graded, &queries, &pools, &measures)?;
    let settings = Settings { measures, depth: args.depth, k: args.bias_k, rel, level: 0.95 };
    let bar = ui.progress("measuring", pools.len() as u64);
    let each = pools.iter().zip(&rankings).map(|(pool, r)| {
        bar.inc(1);
        PoolEvaluation::new(&collection, &graded, pool, r, &settings)
    });
    let measured: Vec<PoolEvaluation> = each.collect();
    bar.finish_and_clear();
    if let Some(path) = &args.run {
        write_run(path, &collection, &rankings[0], args.depth)?;
    }
    if let Some(dir) = out {
        save_queries(dir.path(), &collection, &measured, &settings)?;
        let e = Evaluation::new(&args.model, &collection, split, &settings, measured, args.per_query);
        save(dir.path(), &collection, &graded, &e, &rankings, &args)?;
        dir.commit()?;
        return ui.result(&e, |e| text::text(e, &args));
    }
    let e = Evaluation::new(&args.model, &collection, split, &settings, measured, args.per_query);
    ui.result(&e, |e| text::text(e, &args))
}

/// The metrics asked for, or the usual ones.
fn measures(names: &[String], scenario: Option<&str>) -> Result<Vec<Measure>> {
    // LAReQA reports mean average precision.
    let first = scenario.map(|_| Measure::AveragePrecision(1.0));
    let others = Measure::defaults().into_iter().filter(|m| Some(*m) != first);
    Measure::parse_all(names, &first.into_iter().chain(others).collect::<Vec<_>>())
}

fn dedup(measures: &mut Vec<Measure>) {
    let mut seen = BTreeSet::new();
    measures.retain(|m| seen.insert(m.to_string()));
}

/// The pools asked for, each once, in order.
fn pools(args: &Args, collection: &Collection, query_langs: &[Lang]) -> Result<Vec<Pool>> {
    let langs: BTreeSet<&Lang> = collection.passages.iter().map(|p| &p.lang).collect();
    let langs: Vec<Lang> = langs.into_iter().cloned().collect();
    let mut names: Vec<&str> = args.pools.iter().map(String::as_str).collect();
    names.extend(match args.scenario.as_deref() {
        None => None,
        Some("lareqa" | "x-x") => Some("multi"),
        Some("x-x-mono") => Some("mono-same"),
        Some("x-y") => Some("mono-cross"),
        Some(other) => {
            return Err(Error::Usage(format!("{other:?} is no scenario: lareqa, x-x, x-x-mono, x-y")));
        }
    });
    if args.matrix {
        names.push("matrix");
    }
    if names.is_empty() {
        names.push("mono-same");
    }
    let mut pools: Vec<Pool> = Vec::new();
    for name in names {
        let found = Pool::parse_many(name, &langs).ok_or_else(|| {
            let known = "mono-same, mono-cross, mono-cross:zh, mono:zh, multi, multi:en+zh, multi:own+en";
            Error::Usage(format!("{name:?} is no pool: {known}"))
        })?;
        for pool in found {
            // One of many: a matrix of the languages asked for has no row for it.
            if matches!(name, "mono-cross" | "matrix") && !query_langs.iter().any(|l| pool.serves(l)) {
                continue;
            }
            pool.check(collection, query_langs)?;
            if !pools.contains(&pool) {
                pools.push(pool);
            }
        }
    }
    if pools.is_empty() {
        return Err(Error::Usage("--pool: no query is in another language than the passages".into()));
    }
    if args.run.is_some() && pools.len() > 1 {
        return Err(Error::Usage("--run takes one pool; --out writes the run of each".into()));
    }
    Ok(pools)
}

/// Ranks the queries in each pool; each text is encoded once.
fn rank(
    args: &Args,
    collection: &Collection,
    graded: &Graded,
    queries: &[Index],
    pools: &[Pool],
    measures: &[Measure],
) -> Result<Vec<Rankings>> {
    // A metric with a cut-off sees the list as deep as its name says, and so do measures of bias; runs and metrics without
    // a cut-off see `--depth` passages of it.
    let depth = measures.iter().filter_map(Measure::depth).fold(args.depth, usize::max);
    let depth = |pool: &Pool| {
        if pool.mixes() { depth.max(args.bias_k).max(bias::PEER_DEPTH) } else { depth }
    };
    if args.model == "bm25" {
        let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
        let ties = TieOrder::new(&ids);
        let order = |pool| Order { pool, depth: depth(pool), ties: &ties, placed: Some(graded) };
        return Ok(pools.iter().map(|pool| rank_bm25(collection, queries, &order(pool))).collect());
    }
    let encoder = args.options.load(&args.model)?;
    let encoder: &dyn TextEncoder = &*encoder;
    let texts = TokenizedCollection::new(collection, encoder)?;
    let encoded = Encoded::new(encoder, collection, &texts, queries, pools, true);
    Ok(pools.iter().map(|pool| encoded.rank(queries, pool, depth(pool), Some(graded))).collect())
}

fn write_run(path: &Path, collection: &Collection, rankings: &Rankings, depth: usize) -> Result<()> {
    let id = |p: u32| collection.passages[p as usize].id.as_str();
    let rows = rankings.queries.iter().zip(&rankings.hits).map(|(&q, hits)| {
        let ranking = hits.iter().take(depth).map(|h| (id(h.passage), h.score)).collect();
        (collection.queries[q as usize].id.as_str(), ranking)
    });
    runs::write(path, "polygrade", rows)
}

/// The pools of an evaluation, as they are saved with it: enough to make them again, and to see that they are the same.
#[derive(Serialize)]
struct SavedPools<'a> {
    collection: &'a str,
    /// Of the collection's texts and judgments.
    fingerprint: String,
    split: Split,
    pools: Vec<SavedPool<'a>>,
}

#[derive(Serialize)]
struct SavedPool<'a> {
    name: &'a Pool,
    description: &'a str,
    run: String,
    queries: &'a BTreeMap<String, usize>,
    passages: &'a BTreeMap<String, BTreeMap<String, usize>>,
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(e.to_string()))
}

/// Everything in the folder of `--out` but the values of queries.
fn save(
    dir: &Path,
    collection: &Collection,
    graded: &Graded,
    e: &Evaluation,
    rankings: &[Rankings],
    args: &Args,
) -> Result<()> {
    io::write(&dir.join("evaluation.json"), &json(e)?)?;
    let run = |p: &PoolEvaluation| format!("runs/{}.trec", p.pool.file_name());
    let pools = e.pools.iter().map(|p| SavedPool {
        name: &p.pool,
        description: &p.description,
        run: run(p),
        queries: &p.queries_by_lang,
        passages: &p.passages,
    });
    let saved = SavedPools {
        collection: &e.collection,
        fingerprint: format!("{:016x}", collection.fingerprint()),
        split: e.split,
        pools: pools.collect(),
    };
    io::write(&dir.join("pools.json"), &json(&saved)?)?;
    for (pool, rankings) in e.pools.iter().zip(rankings) {
        write_run(&dir.join(run(pool)), collection, rankings, args.depth)?;
    }
    let biased: Vec<(&Pool, &Rankings)> =
        e.pools.iter().zip(rankings).filter(|(p, _)| p.bias.is_some()).map(|(p, r)| (&p.pool, r)).collect();
    let has_worst = !biased.is_empty() && args.worst > 0;
    if has_worst {
        let rel = e.pools.iter().find_map(|p| p.bias.as_ref()).map_or(1.0, |b| b.rel);
        let page = report::worst(
            &format!("{} on {}", e.model, e.collection),
            collection,
            graded,
            &biased,
            rel,
            args.worst,
        );
        io::write(&dir.join("worst.html"), page.as_bytes())?;
    }
    io::write(&dir.join("report.html"), report::html(e, has_worst).as_bytes())
}

/// `queries/POOL.tsv`: one line a query, one column a measure; empty where it is undefined.
fn save_queries(
    dir: &Path,
    collection: &Collection,
    pools: &[PoolEvaluation],
    settings: &Settings,
) -> Result<()> {
    let langs: BTreeMap<&str, &Lang> = collection.queries.iter().map(|q| (q.id.as_str(), &q.lang)).collect();
    for pool in pools {
        let none = Values::new();
        let columns: Vec<String> = settings.measures.iter().map(Measure::to_string).collect();
        let biased: Vec<&String> = pool.bias.iter().flat_map(|b| b.mean.keys()).collect();
        let mut out = String::from("query\tlang");
        columns.iter().chain(biased.iter().copied()).for_each(|c| {
            let _ = write!(out, "\t{c}");
        });
        for (query, values) in &pool.by_query {
            let bias = pool.bias.as_ref().and_then(|b| b.by_query.get(query)).unwrap_or(&none);
            let _ = write!(out, "\n{query}\t{}", langs.get(query.as_str()).map_or("und", |l| l.as_str()));
            let cells = columns.iter().map(|c| values.get(c)).chain(biased.iter().map(|c| bias.get(*c)));
            for cell in cells {
                out.push('\t');
                if let Some(v) = cell {
                    let _ = write!(out, "{v}");
                }
            }
        }
        out.push('\n');
        io::write(&dir.join(format!("queries/{}.tsv", pool.pool.file_name())), out.as_bytes())?;
    }
    Ok(())
}
