//! What a model is worth in each of several pools: metrics and language bias by query language, with intervals.
//!
//! Metrics are means over all queries that a pool serves, those without a relevant passage in it counting as 0, as in
//! trec_eval. Measures of bias are means over the queries that define them. The mean of a pool is the mean over its
//! query languages. Intervals are bootstraps over groups of translated queries ([`crate::cluster`]).

use crate::bias::{Bias, Seen, View, sentences};
use crate::cluster::{Estimate, Means, RESAMPLES, Table};
use crate::measure::{Measure, Topic};
use crate::pool::Pool;
use crate::rankings::Rankings;
use polygrade_data::{Collection, Graded, Index, Lang, Split};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The version of the format of `evaluation.json`.
pub const FORMAT: u32 = 1;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The metrics.
    pub measures: Vec<Measure>,
    /// Passages that a metric without a cut-off sees; one with a cut-off sees as many as it says.
    pub depth: usize,
    /// The depth of Comp@k, Inclination@k and Share@k.
    pub k: usize,
    /// The lowest grade that is relevant in measures of bias.
    pub rel: f32,
    /// The level of intervals, such as 0.95.
    pub level: f64,
    /// What the ranking added to the score of passages in the query's language; for the record.
    pub own_language_bonus: f64,
}

/// Values by the name of their measure.
pub type Values<T> = BTreeMap<String, T>;

/// A model on a collection, in one or more pools.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// The version of this format.
    pub format: u32,
    /// The model.
    pub model: String,
    /// The collection.
    pub collection: String,
    /// The split whose judgments were used.
    pub split: Split,
    /// Queries measured.
    pub queries: usize,
    /// What the ranking added to the score of passages in the query's language.
    pub own_language_bonus: f64,
    /// The level of intervals.
    pub level: f64,
    /// Resamples behind each interval.
    pub resamples: usize,
    /// The metrics in the order they were asked for.
    pub metrics: Vec<String>,
    /// What was found in each pool.
    pub pools: Vec<PoolEvaluation>,
    /// Metric → query language → passage language, from the pools that hold one language; empty where there are none.
    pub matrix: Values<BTreeMap<String, BTreeMap<String, Estimate>>>,
}

/// A model in one pool.
#[derive(Debug, Clone, Serialize)]
pub struct PoolEvaluation {
    /// The pool's name.
    pub pool: Pool,
    /// The same in words.
    pub description: String,
    /// Queries that the pool serves.
    pub queries: usize,
    /// Query language → queries.
    pub queries_by_lang: BTreeMap<String, usize>,
    /// Query language → passage language → passages in the pool.
    pub passages: BTreeMap<String, BTreeMap<String, usize>>,
    /// Metric → mean over the query languages' means.
    pub macro_mean: Values<f64>,
    /// Query language → metric → mean over its queries.
    pub by_lang: BTreeMap<String, Values<f64>>,
    /// Query language, or `mean` → metric → interval.
    pub intervals: BTreeMap<String, Values<Estimate>>,
    /// Query → metric → value; left out of JSON where it was not asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_query: BTreeMap<String, Values<f64>>,
    /// Language bias, in pools where a query meets several languages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<BiasReport>,
}

/// Language bias in one pool.
#[derive(Debug, Clone, Serialize)]
pub struct BiasReport {
    /// The lowest grade that counts as relevant.
    pub rel: f32,
    /// The depth of Comp@k, Inclination@k and Share@k.
    pub k: usize,
    /// Queries with a relevant passage in the pool; the others say nothing of bias.
    pub queries: usize,
    /// Measure → mean over the query languages' means.
    pub mean: Values<Estimate>,
    /// Query language → measure → mean over its queries.
    pub by_lang: BTreeMap<String, Values<Estimate>>,
    /// What that means, in sentences.
    pub sentences: Vec<String>,
    /// Query → measure → value, where it is defined.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_query: BTreeMap<String, Values<f64>>,
}

/// The queries' view of a pool's rankings.
pub fn views<'a>(
    collection: &'a Collection,
    graded: &Graded,
    sizes: &'a BTreeMap<Lang, BTreeMap<Lang, usize>>,
    rankings: &Rankings,
    rel: f32,
) -> Vec<View<'a>> {
    let lang = |p: Index| &collection.passages[p as usize].lang;
    let seen = |q: Index, passage: Index, rank: usize, ranked: bool| Seen {
        lang: lang(passage),
        grade: graded.grade(q, passage).unwrap_or(0.0),
        rank,
        ranked,
    };
    let each = rankings.queries.iter().zip(&rankings.hits).zip(&rankings.placed);
    each.map(|((&q, hits), placed)| {
        let own = &collection.queries[q as usize].lang;
        View {
            own,
            sizes: &sizes[own],
            top: hits.iter().enumerate().map(|(i, h)| seen(q, h.passage, i + 1, true)).collect(),
            graded: placed.iter().map(|p| seen(q, p.passage, p.rank, p.ranked)).collect(),
            rel,
        }
    })
    .collect()
}

/// How many passages of each language are in the pool, by query language.
pub fn sizes(
    collection: &Collection,
    pool: &Pool,
    queries: &[Index],
) -> BTreeMap<Lang, BTreeMap<Lang, usize>> {
    let langs: BTreeSet<&Lang> = queries.iter().map(|q| &collection.queries[*q as usize].lang).collect();
    langs.into_iter().map(|l| (l.clone(), pool.sizes(collection, l))).collect()
}

impl PoolEvaluation {
    /// Measures the rankings of one pool. They must be as deep as `depth`, the deepest metric, `k` and
    /// [`crate::bias::PEER_DEPTH`]; what is deeper changes nothing. Without `placed` ranks there is no bias report.
    pub fn new(
        collection: &Collection,
        graded: &Graded,
        pool: &Pool,
        rankings: &Rankings,
        settings: &Settings,
    ) -> PoolEvaluation {
        let query = |q: &Index| &collection.queries[*q as usize];
        let sizes = sizes(collection, pool, &rankings.queries);
        let langs: Vec<&Lang> = sizes.keys().collect();
        let strata: Vec<usize> = rankings
            .queries
            .iter()
            .map(|q| langs.iter().position(|l| **l == query(q).lang).unwrap_or_default())
            .collect();
        let clusters = clusters(collection, &rankings.queries);
        let topics = rankings.topics(collection, graded, pool);
        let values: Vec<Vec<f64>> = topics.into_par_iter().map(|t| values(t, settings)).collect();
        let names: Vec<String> = settings.measures.iter().map(Measure::to_string).collect();
        let by_query = by_query(collection, rankings, &names, &values);
        let table = Table { clusters, strata, values };
        let means = table.intervals(langs.len(), settings.level);
        let (mean, by_lang) = named(&means, &langs, &names);
        let plain = |v: &Values<Estimate>| v.iter().map(|(m, i)| (m.clone(), i.mean)).collect();
        let mut counts = BTreeMap::new();
        rankings.queries.iter().for_each(|q| *counts.entry(query(q).lang.to_string()).or_default() += 1);
        let bias = bias(collection, graded, rankings, &sizes, &table, settings);
        PoolEvaluation {
            pool: pool.clone(),
            description: pool.describe(),
            queries: rankings.queries.len(),
            queries_by_lang: counts,
            passages: sizes
                .iter()
                .map(|(q, s)| (q.to_string(), s.iter().map(|(p, n)| (p.to_string(), *n)).collect()))
                .collect(),
            macro_mean: plain(&mean),
            by_lang: by_lang.iter().map(|(l, v)| (l.clone(), plain(v))).collect(),
            intervals: by_lang.into_iter().chain([("mean".to_owned(), mean)]).collect(),
            by_query,
            bias,
        }
    }

    /// The languages that a query in `lang` meets.
    pub fn meets(&self, lang: &str) -> impl Iterator<Item = &str> {
        self.passages.get(lang).into_iter().flat_map(|p| p.keys().map(String::as_str))
    }
}

impl Evaluation {
    /// Puts the pools together, with the matrix that follows from them. Without `per_query`, values of single queries
    /// are dropped.
    pub fn new(
        model: &str,
        collection: &Collection,
        split: Split,
        settings: &Settings,
        mut pools: Vec<PoolEvaluation>,
        per_query: bool,
    ) -> Evaluation {
        let mut matrix: Values<BTreeMap<String, BTreeMap<String, Estimate>>> = BTreeMap::new();
        let mut queries = BTreeMap::new();
        for pool in &mut pools {
            pool.queries_by_lang.iter().for_each(|(l, n)| {
                queries.insert(l.clone(), *n);
            });
            for (lang, values) in pool.intervals.iter().filter(|(l, _)| *l != "mean") {
                let mut met = pool.meets(lang);
                if let (Some(passages), None) = (met.next(), met.next()) {
                    for (measure, interval) in values {
                        let rows = matrix.entry(measure.clone()).or_default();
                        rows.entry(lang.clone()).or_default().insert(passages.to_owned(), *interval);
                    }
                }
            }
            if !per_query {
                pool.by_query.clear();
                pool.bias.iter_mut().for_each(|b| b.by_query.clear());
            }
        }
        // A matrix of single cells says no more than the tables do.
        matrix.retain(|_, rows| rows.values().any(|r| r.len() > 1));
        Evaluation {
            format: FORMAT,
            model: model.to_owned(),
            collection: collection.meta.name.clone(),
            split,
            queries: queries.values().sum(),
            own_language_bonus: settings.own_language_bonus,
            level: settings.level,
            resamples: RESAMPLES,
            metrics: settings.measures.iter().map(Measure::to_string).collect(),
            pools,
            matrix,
        }
    }
}

/// The metrics of a query, each at its own depth, so that none depends on which others were asked for.
fn values(whole: Topic, settings: &Settings) -> Vec<f64> {
    let mut cut = whole.clone();
    cut.ranked.truncate(settings.depth);
    settings.measures.iter().map(|m| m.of(if m.depth().is_some() { &whole } else { &cut })).collect()
}

fn bias(
    collection: &Collection,
    graded: &Graded,
    rankings: &Rankings,
    sizes: &BTreeMap<Lang, BTreeMap<Lang, usize>>,
    metrics: &Table,
    settings: &Settings,
) -> Option<BiasReport> {
    if sizes.values().all(|s| s.len() < 2) || rankings.placed.iter().all(Vec::is_empty) {
        return None;
    }
    let all: BTreeSet<Lang> = sizes.values().flat_map(|s| s.keys().cloned()).collect();
    let views = views(collection, graded, sizes, rankings, settings.rel);
    let grades: BTreeSet<u32> = views.iter().flat_map(|v| &v.graded).map(|s| s.grade as u32).collect();
    let measures = Bias::all(&all, &grades, settings.k);
    let values: Vec<Vec<f64>> = views
        .par_iter()
        // A query whose pool has one language cannot show bias, nor one without a relevant passage.
        .map(|v| {
            let shows = v.sizes.len() > 1 && v.max_at_r().is_some();
            measures.iter().map(|m| if shows { m.of(v).unwrap_or(f64::NAN) } else { f64::NAN }).collect()
        })
        .collect();
    let names: Vec<String> = measures.iter().map(Bias::to_string).collect();
    let langs: Vec<&Lang> = sizes.keys().collect();
    let queries = values.iter().filter(|v| v.iter().any(|x| !x.is_nan())).count();
    let by_query = by_query(collection, rankings, &names, &values);
    let table = Table { clusters: metrics.clusters.clone(), strata: metrics.strata.clone(), values };
    let (mean, by_lang) = named(&table.intervals(langs.len(), settings.level), &langs, &names);
    let even = views.iter().all(View::is_even);
    let sentences = if queries == 0 {
        vec![format!(
            "No query has a passage of grade {} or more in a pool of several languages, so nothing can be said of bias; \
             --bias-rel sets the grade.",
            settings.rel
        )]
    } else {
        sentences::of(&by_lang, sizes, settings, even)
    };
    Some(BiasReport { rel: settings.rel, k: settings.k, queries, mean, by_lang, sentences, by_query })
}

/// A number shared by the translations of a query, 0..n.
fn clusters(collection: &Collection, queries: &[Index]) -> Vec<u32> {
    let mut numbers: HashMap<(bool, &str), u32> = HashMap::new();
    let each = queries.iter().map(|q| &collection.queries[*q as usize]);
    each.map(|q| {
        let next = numbers.len() as u32;
        *numbers.entry((q.group.is_some(), q.unit())).or_insert(next)
    })
    .collect()
}

type Named = (Values<Estimate>, BTreeMap<String, Values<Estimate>>);

fn named(means: &Means, langs: &[&Lang], names: &[String]) -> Named {
    let row = |row: &[Option<Estimate>]| -> Values<Estimate> {
        names.iter().zip(row).filter_map(|(n, i)| Some((n.clone(), (*i)?))).collect()
    };
    let by_lang = langs.iter().zip(&means.strata).map(|(l, s)| (l.to_string(), row(s)));
    (row(&means.overall), by_lang.filter(|(_, v)| !v.is_empty()).collect())
}

fn by_query(
    collection: &Collection,
    rankings: &Rankings,
    names: &[String],
    values: &[Vec<f64>],
) -> BTreeMap<String, Values<f64>> {
    let row = |row: &Vec<f64>| -> Values<f64> {
        names.iter().zip(row).filter(|(_, v)| !v.is_nan()).map(|(n, v)| (n.clone(), *v)).collect()
    };
    let id = |q: &Index| collection.queries[*q as usize].id.clone();
    let rows = rankings.queries.iter().zip(values).map(|(q, v)| (id(q), row(v)));
    rows.filter(|(_, v)| !v.is_empty()).collect()
}
