//! `polygrade eval`: rank in each pool, measure, write, report.

mod text;

use super::common::{ModelOptions, OwnLanguageBonus, langs};
use crate::ui::Ui;
use polygrade_data::io::AtomicDir;
use polygrade_data::{Collection, Error, Graded, Index, Lang, Result, Split};
use polygrade_encoder::TextEncoder;
use polygrade_eval::evaluation::Settings;
use polygrade_eval::report::folder::{self, Folder};
use polygrade_eval::{Evaluation, Measure, Pool, PoolEvaluation, Rankings, bias};
use polygrade_index::{Order, TieOrder, rank_bm25};
use polygrade_train::TokenizedCollection;
use polygrade_train::evaluate::{Encoded, queries_in};
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade eval model collections/mini --split test\n  \
    polygrade eval bm25 collections/mini --pool all -m nDCG@10 -m 'P(rel=2)@5' --run bm25.trec\n  \
    polygrade eval model collections/mini --matrix --pool multi:own+en --out runs/bias\n  \
    polygrade eval model collections/mini --pool multi:own+en --own-language-bonus 0.1")]
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
    #[command(flatten)]
    bonus: OwnLanguageBonus,
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
    let measures = measures(&args.metrics, args.scenario.as_deref())?;
    if args.depth == 0 || args.bias_k == 0 {
        return Err(Error::Usage("--depth and --bias-k must be 1 or more".into()));
    }
    if args.bonus.own_language_bonus != 0.0 && args.model == "bm25" {
        return Err(Error::Usage(
            "--own-language-bonus is added to a model's similarity; bm25 has none".into(),
        ));
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
    let rankings = rank(&args, &collection, &graded, &queries, &pools, &measures)?;
    let settings = Settings {
        measures,
        depth: args.depth,
        k: args.bias_k,
        rel,
        level: 0.95,
        own_language_bonus: args.bonus.own_language_bonus,
    };
    let bar = ui.progress("measuring", pools.len() as u64);
    let each = pools.iter().zip(&rankings).map(|(pool, r)| {
        bar.inc(1);
        PoolEvaluation::new(&collection, &graded, pool, r, &settings)
    });
    let measured: Vec<PoolEvaluation> = each.collect();
    bar.finish_and_clear();
    if let Some(path) = &args.run {
        folder::write_run(path, &collection, &rankings[0], args.depth)?;
    }
    if let Some(dir) = out {
        folder::write_queries(dir.path(), &collection, &measured, &settings.measures)?;
        let e = Evaluation::new(&args.model, &collection, split, &settings, measured, args.per_query);
        let (depth, worst) = (args.depth, args.worst);
        let all = Folder { collection: &collection, graded: &graded, rankings: &rankings, depth, worst };
        folder::write(dir.path(), &e, &all)?;
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
    let own_language_bonus = args.bonus.own_language_bonus as f32;
    let placed = Some(graded);
    let order = |pool, ties| Order { pool, depth: depth(pool), ties, own_language_bonus, placed };
    if args.model == "bm25" {
        let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
        let ties = TieOrder::new(&ids);
        let order = |pool| order(pool, &ties);
        return Ok(pools.iter().map(|pool| rank_bm25(collection, queries, &order(pool))).collect());
    }
    let encoder = args.options.load(&args.model)?;
    let encoder: &dyn TextEncoder = &*encoder;
    let texts = TokenizedCollection::new(collection, encoder)?;
    let encoded = Encoded::new(encoder, collection, &texts, queries, pools, true);
    Ok(pools.iter().map(|pool| encoded.rank(queries, &order(pool, &texts.ties))).collect())
}
