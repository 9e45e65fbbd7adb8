//! Smaller pools that keep the order of systems: judged passages and the hardest of the others.
//!
//! As in MMTEB's HardNegatives tasks (Enevoldsen et al. 2025, arXiv 2502.13595), a pool is cut down to every judged
//! passage and the first k passages of several systems for each query. A judged passage is never lost, so the ideal
//! ranking, and each relevant passage's competition among what those systems rank high, stay as they were.
//!
//! Invariant: what a system scores on the smaller pool is what it scores with its ranking less the passages that are
//! gone. This holds exactly for systems that score a pair by itself (dense encoders); BM25's idf depends on the pool.
//! So nDCG and the like can only rise, and for a system that took part they do not change down to rank k. That makes a
//! test on the same systems empty. [`compare`] therefore measures each system on the pool that the **others** make.

use crate::measure::{Measure, Topic};
use crate::pool::Pool;
use crate::standings::kendall;
use polygrade_data::{Collection, Graded, Index, Lang};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// A system's ranked passages of some queries, best first.
pub type Ranked = BTreeMap<Index, Vec<Index>>;

/// A system whose rankings are known.
#[derive(Debug, Clone)]
pub struct System {
    /// What it is called.
    pub name: String,
    /// Its rankings.
    pub ranked: Ranked,
    /// Whether its first passages go into the pool; else it is measured only.
    pub pooled: bool,
}

/// Which passages of the collection stay: those judged for `queries`, with their translations, and the first `k` of
/// every pooled system but the one at `without`. Groups of translations stay whole: if one passage of a group stays, so
/// do the others, so that pools of several languages keep their mix and parallel pools stay parallel.
pub fn keep(
    collection: &Collection,
    graded: &Graded,
    queries: &[Index],
    systems: &[System],
    k: usize,
    without: Option<usize>,
) -> Vec<bool> {
    let units = (0..collection.passages.len() as Index).map(|p| graded.passage_unit(p) as usize).max();
    let mut units = vec![false; units.map_or(0, |n| n + 1)];
    let mut mark = |p: Index| units[graded.passage_unit(p) as usize] = true;
    for &q in queries {
        graded.judged(q).for_each(|(p, _)| mark(p));
        let others = systems.iter().enumerate().filter(|(i, s)| s.pooled && Some(*i) != without);
        others.filter_map(|(_, s)| s.ranked.get(&q)).for_each(|r| r.iter().take(k).for_each(|&p| mark(p)));
    }
    (0..collection.passages.len() as Index).map(|p| units[graded.passage_unit(p) as usize]).collect()
}

/// How well an order of systems is kept, over the queries of one language or the mean over languages.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    /// The language; `None` for the mean over languages.
    pub lang: Option<Lang>,
    /// Queries.
    pub queries: usize,
    /// What each system scores on the full pool.
    pub full: Vec<f64>,
    /// What each scores on the smaller pool that the other systems make.
    pub small: Vec<f64>,
    /// Kendall's τ-b of the two; `None` where either has no two different values.
    pub tau: Option<f64>,
    /// The largest difference between the two.
    pub max_change: f64,
}

/// Measures every system on the full pool and on the pool that the others make, for each language of the queries and
/// for their mean (last). Passages outside `pool` are passed over. A query that a system does not rank scores 0.
pub fn compare(
    (collection, graded): (&Collection, &Graded),
    queries: &[Index],
    systems: &[System],
    k: usize,
    pool: &Pool,
    measure: &Measure,
) -> Vec<Kept> {
    let values: Vec<[Vec<f64>; 2]> = systems
        .iter()
        .enumerate()
        .map(|(i, system)| {
            let small = keep(collection, graded, queries, systems, k, Some(i));
            let value = |&q: &Index, kept: Option<&[bool]>| {
                measure.of(&topic((collection, graded), pool, q, system, kept))
            };
            [
                queries.par_iter().map(|q| value(q, None)).collect(),
                queries.par_iter().map(|q| value(q, Some(&small))).collect(),
            ]
        })
        .collect();
    let mut by_lang: BTreeMap<&Lang, Vec<usize>> = BTreeMap::new();
    for (i, &q) in queries.iter().enumerate() {
        by_lang.entry(&collection.queries[q as usize].lang).or_default().push(i);
    }
    let mean =
        |values: &[f64], which: &[usize]| which.iter().map(|&i| values[i]).sum::<f64>() / which.len() as f64;
    let column =
        |side: usize, which: &[usize]| values.iter().map(|v| mean(&v[side], which)).collect::<Vec<f64>>();
    let mut out: Vec<Kept> = by_lang
        .into_iter()
        .map(|(lang, which)| kept(Some(lang.clone()), which.len(), column(0, &which), column(1, &which)))
        .collect();
    let over = |side: fn(&Kept) -> &Vec<f64>| {
        (0..systems.len()).map(|s| out.iter().map(|k| side(k)[s]).sum::<f64>() / out.len() as f64).collect()
    };
    if !out.is_empty() {
        let (full, small) = (over(|k| &k.full), over(|k| &k.small));
        out.push(kept(None, queries.len(), full, small));
    }
    out
}

fn kept(lang: Option<Lang>, queries: usize, full: Vec<f64>, small: Vec<f64>) -> Kept {
    let max_change = full.iter().zip(&small).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    Kept { lang, queries, tau: kendall(&full, &small), max_change, full, small }
}

/// The topic of a system's ranking, less the passages that are not `kept`.
fn topic(
    (collection, graded): (&Collection, &Graded),
    pool: &Pool,
    query: Index,
    system: &System,
    kept: Option<&[bool]>,
) -> Topic {
    let lang = &collection.queries[query as usize].lang;
    let ranked = system.ranked.get(&query).map_or(&[][..], Vec::as_slice);
    let inside = |p: &Index| {
        kept.is_none_or(|k| k[*p as usize]) && pool.holds(lang, &collection.passages[*p as usize].lang)
    };
    crate::pool::topic(collection, graded, pool, query, ranked.iter().copied().filter(inside))
}
