//! `polygrade eval`: a model and a collection → metrics, and a run file.

use super::common::{ModelOptions, langs};
use crate::ui::{Ui, table};
use polygrade_data::{Collection, Error, Lang, Result, Split};
use polygrade_eval::{Measure, Pool, run as runs};
use polygrade_index::{Rankings, TieOrder, rank_bm25};
use polygrade_train::TokenizedCollection;
use polygrade_train::evaluate::{evaluate, queries_in};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade eval model collections/mini --split test\n  \
    polygrade eval bm25 collections/mini --pool all -m nDCG@10 -m 'P(rel=2)@5' --run bm25.trec")]
pub(crate) struct Args {
    /// Folder of a model, its name on the Hugging Face hub, or `bm25` for the lexical baseline
    model: String,
    /// The collection
    collection: PathBuf,
    /// Judgments to measure on: train, dev or test
    #[arg(long, default_value = "test")]
    split: String,
    /// Passages each query is ranked against: same (its own language), all, or languages
    #[arg(long, default_value = "same", value_name = "same|all|LANGS")]
    pool: String,
    /// Languages of the queries; all unless given
    #[arg(long)]
    langs: Option<String>,
    /// Metrics, by ir_measures' names
    #[arg(short, long = "metric", value_name = "METRIC")]
    metrics: Vec<String>,
    #[command(flatten)]
    options: ModelOptions,
    /// Write the rankings to a TREC run file
    #[arg(long, value_name = "FILE")]
    run: Option<PathBuf>,
    /// Passages in each ranking
    #[arg(long, default_value_t = 1000, value_name = "N")]
    depth: usize,
    /// Print every query's values as well
    #[arg(short = 'q', long)]
    per_query: bool,
}

#[derive(Serialize)]
struct Evaluation {
    model: String,
    collection: String,
    split: Split,
    pool: String,
    queries: usize,
    /// Metric → mean over the languages' means.
    macro_mean: BTreeMap<String, f64>,
    /// Language → metric → mean over its queries.
    by_lang: BTreeMap<String, BTreeMap<String, f64>>,
    /// Query → metric → value.
    by_query: BTreeMap<String, BTreeMap<String, f64>>,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let split = Split::parse(&args.split)
        .ok_or_else(|| Error::Usage(format!("{:?} is no split: train, dev, test", args.split)))?;
    let pool = Pool::parse(&args.pool).ok_or_else(|| {
        Error::Usage(format!("{:?} is no pool: same, all, or languages such as en,zh", args.pool))
    })?;
    let measures = measures(&args.metrics)?;
    if args.depth == 0 {
        return Err(Error::Usage("--depth must be 1 or more".into()));
    }
    let collection = Collection::load(&args.collection)?;
    let langs = langs(args.langs.as_deref(), &collection)?;
    if let Pool::Langs(wanted) = &pool {
        let known = |l: &&Lang| !collection.passages.iter().any(|p| p.lang == **l);
        if let Some(missing) = wanted.iter().find(known) {
            return Err(Error::Usage(format!("--pool: the collection has no passages in {missing}")));
        }
    }
    // A metric must see the list as deep as its name says.
    let depth = measures.iter().filter_map(Measure::depth).fold(args.depth, usize::max);
    let graded = collection.graded(split);
    let queries = queries_in(&collection, &graded, &langs);
    if queries.is_empty() {
        let what = format!("no query in these languages is judged in {}", split.name());
        return Err(Error::Usage(format!("{what}; see: polygrade profile {}", args.collection.display())));
    }
    let rankings = if args.model == "bm25" {
        let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
        rank_bm25(&collection, &queries, &pool, depth, &TieOrder::new(&ids))
    } else {
        let encoder = args.options.load(&args.model)?;
        let texts = TokenizedCollection::new(&collection, &*encoder)?;
        evaluate(&*encoder, &collection, &texts, &queries, std::slice::from_ref(&pool), depth, true).remove(0)
    };
    if let Some(path) = &args.run {
        write_run(path, &collection, &rankings)?;
    }
    let topics = rankings.topics(&collection, &graded, &pool);
    let mut out = Evaluation {
        model: args.model.clone(),
        collection: collection.meta.name.clone(),
        split,
        pool: args.pool.clone(),
        queries: queries.len(),
        macro_mean: BTreeMap::new(),
        by_lang: BTreeMap::new(),
        by_query: BTreeMap::new(),
    };
    for measure in &measures {
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (topic, &q) in topics.iter().zip(&rankings.queries) {
            let query = &collection.queries[q as usize];
            let value = measure.of(topic);
            let sum = sums.entry(query.lang.as_str()).or_default();
            *sum = (sum.0 + value, sum.1 + 1.0);
            out.by_query.entry(query.id.clone()).or_default().insert(measure.to_string(), value);
        }
        let means: Vec<(&str, f64)> = sums.into_iter().map(|(l, (sum, n))| (l, sum / n)).collect();
        let macro_mean = means.iter().map(|(_, v)| v).sum::<f64>() / means.len() as f64;
        out.macro_mean.insert(measure.to_string(), macro_mean);
        for (lang, mean) in means {
            out.by_lang.entry(lang.to_owned()).or_default().insert(measure.to_string(), mean);
        }
    }
    ui.result(&out, |e| text(e, &measures, args.per_query))
}

/// The metrics asked for, or the usual ones.
fn measures(names: &[String]) -> Result<Vec<Measure>> {
    if names.is_empty() {
        return Ok(Measure::defaults());
    }
    let parse = |n: &String| {
        Measure::parse(n).ok_or_else(|| {
            Error::Usage(format!(
                "{n:?} is no metric: nDCG@10, P@5, P(rel=2)@5, R@100, RR, AP, Success@1, Judged@10"
            ))
        })
    };
    names.iter().map(parse).collect()
}

fn write_run(path: &Path, collection: &Collection, rankings: &Rankings) -> Result<()> {
    let id = |p: u32| collection.passages[p as usize].id.as_str();
    let rows = rankings.queries.iter().zip(&rankings.hits).map(|(&q, hits)| {
        let ranking = hits.iter().map(|h| (id(h.passage), h.score)).collect();
        (collection.queries[q as usize].id.as_str(), ranking)
    });
    runs::write(path, "polygrade", rows)
}

fn text(e: &Evaluation, measures: &[Measure], per_query: bool) -> String {
    let names: Vec<String> = measures.iter().map(Measure::to_string).collect();
    let head: Vec<&str> = ["language"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |name: &str, values: &BTreeMap<String, f64>| -> Vec<String> {
        [name.to_owned()].into_iter().chain(names.iter().map(|n| format!("{:.4}", values[n]))).collect()
    };
    let mut rows: Vec<Vec<String>> = e.by_lang.iter().map(|(l, v)| row(l, v)).collect();
    rows.push(row("mean", &e.macro_mean));
    let mut out = format!(
        "{} on {} {}, pool {}, {} queries\n",
        e.model,
        e.collection,
        e.split.name(),
        e.pool,
        e.queries
    );
    out += &table(&head, &rows);
    if per_query {
        let rows: Vec<Vec<String>> = e.by_query.iter().map(|(q, v)| row(q, v)).collect();
        out += "\n";
        out += &table(&[&["query"], &head[1..]].concat(), &rows);
    }
    out
}
