//! A system measured on a collection of a suite, with results in mteb's layout.
//!
//! Every pool of a suite's collection is a task; every language of its queries is a subset of it. Each text is encoded
//! once, whatever the number of pools.

use crate::evaluate::{TokenizedCollection, evaluate, queries_in};
use polygrade_data::{Collection, Error, Graded, Index, Lang, Result};
use polygrade_encoder::TextEncoder;
use polygrade_eval::mteb::{self, Detail, SubsetScores, TaskResult};
use polygrade_eval::suite::Entry;
use polygrade_eval::{Pool, Rankings, Topic};
use polygrade_index::{Order, TieOrder, rank_bm25};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Passages in each ranking: mteb's deepest cut.
pub const DEPTH: usize = 1000;

/// Raised when measuring gives other values than before, so that older results are not taken for new ones.
const VERSION: u32 = 1;

/// What ranks.
#[derive(Clone, Copy)]
pub enum System<'a> {
    /// The lexical baseline.
    Bm25,
    /// An encoder, by cosine.
    Encoder(&'a dyn TextEncoder),
}

/// What a result of `entry` with `pool` depends on, beside system and data, in words.
pub fn settings(entry: &Entry, pool: &Pool) -> String {
    let languages = match &entry.languages {
        Some(langs) => langs.iter().map(Lang::as_str).collect::<Vec<_>>().join(","),
        None => "all".into(),
    };
    let metrics: Vec<String> = entry.metrics.iter().map(ToString::to_string).collect();
    format!(
        "v{VERSION} split={} pool={pool} languages={languages} main={} metrics={} depth={DEPTH}",
        entry.split.name(),
        entry.main,
        metrics.join(",")
    )
}

/// Measures `system` on the pools of `entry` that `which` names. `collection` is the entry's, `revision` its
/// fingerprint. The results come in the order of `which`; their times are shares of the whole, which encodes once.
///
/// Fails where the entry names languages that the collection lacks, or where a language's queries have no passages to
/// be ranked against.
pub fn measure(
    system: System,
    collection: &Collection,
    entry: &Entry,
    which: &[Pool],
    revision: &str,
) -> Result<Vec<TaskResult>> {
    let started = Instant::now();
    let graded = collection.graded(entry.split);
    let queries = queries_of(collection, &graded, entry, which)?;
    let rankings: Vec<Rankings> = match system {
        System::Bm25 => {
            let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
            let ties = TieOrder::new(&ids);
            let order = |pool| Order::new(pool, DEPTH, &ties);
            which.iter().map(|pool| rank_bm25(collection, &queries, &order(pool))).collect()
        }
        System::Encoder(encoder) => {
            let texts = TokenizedCollection::new(collection, encoder)?;
            evaluate(encoder, collection, &texts, &queries, which, DEPTH, true)
        }
    };
    let seconds = started.elapsed().as_secs_f64() / which.len().max(1) as f64;
    let result = |(pool, ranked): (&Pool, &Rankings)| {
        let topics = ranked.topics(collection, &graded, pool);
        let mut result = result(collection, entry, &ranked.queries, &topics, pool);
        result.task_name = entry.task(pool);
        result.dataset_revision = revision.to_owned();
        result.evaluation_time = Some(seconds);
        if let Some(detail) = &mut result.polygrade {
            detail.settings = settings(entry, pool);
        }
        result
    };
    Ok(which.iter().zip(&rankings).map(result).collect())
}

/// The queries to measure, checked.
fn queries_of(collection: &Collection, graded: &Graded, entry: &Entry, which: &[Pool]) -> Result<Vec<Index>> {
    let fail = |what: String, fix: &str| Err(Error::input(entry.at.clone(), what, fix));
    let all = collection.langs();
    let langs = entry.languages.as_ref().unwrap_or(&all);
    let queries = queries_in(collection, graded, langs);
    let asked: BTreeSet<&Lang> = queries.iter().map(|&q| &collection.queries[q as usize].lang).collect();
    let asked: Vec<Lang> = asked.into_iter().cloned().collect();
    if let Some(missing) = entry.languages.iter().flatten().find(|l| !asked.contains(*l)) {
        let what =
            format!("{} has no query in {missing} that is judged in {}", entry.name, entry.split.name());
        return fail(what, "change languages or split; polygrade profile shows what there is");
    }
    if queries.is_empty() {
        let what = format!("{} has no query that is judged in {}", entry.name, entry.split.name());
        return fail(what, "change split; polygrade profile shows what there is");
    }
    let held: BTreeSet<&Lang> = collection.passages.iter().map(|p| &p.lang).collect();
    for pool in which {
        if let Err(e) = pool.check(collection, &asked) {
            return fail(format!("{}: {e}", entry.name), "change pools or languages");
        }
        let lonely = |q: &&Lang| pool.serves(q) && !held.iter().any(|p| pool.holds(q, p));
        if let Some(lang) = asked.iter().find(lonely) {
            let what = format!("{} has no passages for queries in {lang} in the pool {pool}", entry.name);
            return fail(what, "change pools, or name the languages that have passages: languages = […]");
        }
    }
    Ok(queries)
}

/// The result of one pool, without names, revision and time.
fn result(
    collection: &Collection,
    entry: &Entry,
    queries: &[Index],
    topics: &[Topic],
    pool: &Pool,
) -> TaskResult {
    let names: Vec<String> = mteb::names().chain(entry.metrics.iter().map(ToString::to_string)).collect();
    let main = names.iter().position(|n| *n == entry.main).unwrap_or(0);
    let values: Vec<Vec<f64>> = topics
        .par_iter()
        .map(|t| mteb::scores(t).into_iter().chain(entry.metrics.iter().map(|m| m.of(t))).collect())
        .collect();
    let mut by_lang: BTreeMap<&Lang, Vec<usize>> = BTreeMap::new();
    let mut detail = Detail::default();
    for (i, &q) in queries.iter().enumerate() {
        let query = &collection.queries[q as usize];
        by_lang.entry(&query.lang).or_default().push(i);
        if let Some(group) = &query.group {
            detail.groups.insert(query.id.clone(), group.clone());
        }
    }
    let one = by_lang.len() == 1;
    let mut subsets = Vec::with_capacity(by_lang.len());
    for (lang, which) in by_lang {
        let hf_subset = if one { "default".to_owned() } else { lang.to_string() };
        let mean = |s: usize| which.iter().map(|&i| values[i][s]).sum::<f64>() / which.len() as f64;
        let scores = names.iter().enumerate().map(|(s, n)| (n.clone(), Value::from(mean(s)))).collect();
        let by_query =
            which.iter().map(|&i| (collection.queries[queries[i] as usize].id.clone(), values[i][main]));
        detail.by_query.insert(hf_subset.clone(), by_query.collect());
        subsets.push(SubsetScores {
            hf_subset,
            languages: languages(collection, lang, pool),
            main_score: Some(mean(main)),
            scores,
        });
    }
    TaskResult {
        dataset_revision: String::new(),
        task_name: String::new(),
        mteb_version: None,
        scores: BTreeMap::from([(entry.split.name().to_owned(), subsets)]),
        evaluation_time: None,
        kg_co2_emissions: None,
        polygrade: Some(detail),
    }
}

/// mteb's codes of a query language and of the passage languages in its pool, the query's first.
fn languages(collection: &Collection, query: &Lang, pool: &Pool) -> Vec<String> {
    let passages: BTreeSet<&Lang> = collection.passages.iter().map(|p| &p.lang).collect();
    let mut out = vec![mteb::lang::code(query)];
    for code in passages.iter().filter(|l| pool.holds(query, l)).map(|l| mteb::lang::code(l)) {
        if !out.contains(&code) {
            out.push(code);
        }
    }
    out
}
