//! Smaller pools that keep the order of systems: judged passages and the hardest of the others.
//!
//! As in MMTEB's HardNegatives tasks (Enevoldsen et al. 2025, arXiv 2502.13595), a pool is cut down to every judged
//! passage and the first k passages of several systems for each query. A judged passage is never lost, so the ideal
//! ranking, and each relevant passage's competition among what those systems rank high, stay as they were.
//!
//! Invariant: what a system scores on the smaller pool is what it scores with its ranking less the passages that are
//! gone. This holds exactly for systems that score a pair by itself (dense encoders); BM25's idf depends on the pool.
//! So nDCG and the like can only rise, and for a system that took part they do not change down to rank k. That makes a
//! test on the same systems empty. [`Task::compare`] therefore measures each system on the pool that the **others** make.

use crate::measure::Measure;
use crate::pool::Pool;
use crate::run;
use crate::standings::kendall;
use polygrade_data::{At, Collection, Error, Graded, Index, Lang, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

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

/// What systems are compared on.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The full collection.
    pub collection: &'a Collection,
    /// Its judgments.
    pub graded: &'a Graded,
    /// The queries that count.
    pub queries: &'a [Index],
    /// Which passages a query is ranked against. Others in a ranking are passed over.
    pub pool: &'a Pool,
}

/// How well an order of systems is kept, over the queries of one language or the mean over languages. Systems stand in
/// the order of [`measured`].
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

/// The systems that can be measured: those for which another system makes a pool.
pub fn measured(systems: &[System]) -> Vec<usize> {
    let pooled = systems.iter().filter(|s| s.pooled).count();
    (0..systems.len()).filter(|&i| pooled > usize::from(systems[i].pooled)).collect()
}

impl Task<'_> {
    /// Reads a run file: its rankings of the queries that count, of passages in their pools.
    ///
    /// # Errors
    /// The file cannot be read, ranks passages that the collection lacks, or ranks none of the queries.
    pub fn read(&self, path: &Path) -> Result<Ranked> {
        let c = self.collection;
        let queries: HashMap<&str, Index> =
            self.queries.iter().map(|&q| (c.queries[q as usize].id.as_str(), q)).collect();
        let passages: HashMap<&str, Index> =
            c.passages.iter().enumerate().map(|(i, p)| (p.id.as_str(), i as Index)).collect();
        let (mut ranked, mut strange) = (Ranked::new(), BTreeSet::new());
        for (query, ranking) in run::read(path)?.iter() {
            // A run may rank the queries of other splits too.
            let Some(&q) = queries.get(query) else { continue };
            let mut list = Vec::with_capacity(ranking.len());
            for (id, _) in ranking.iter() {
                match passages.get(id) {
                    Some(&p) if self.holds(q, p) => list.push(p),
                    Some(_) => {}
                    None => drop(strange.insert(id.to_owned())),
                }
            }
            if !list.is_empty() {
                ranked.insert(q, list);
            }
        }
        let fail = |what: String, fix: &str| Err(Error::input(At::file(path), what, fix));
        if let Some(id) = strange.first() {
            let what = format!("ranks {} passages that the collection lacks, such as {id:?}", strange.len());
            return fail(what, "give a run over this collection");
        }
        if ranked.is_empty() {
            let what = format!("ranks no passage in {} for the queries judged in the split", self.pool);
            let fix = "rank them: polygrade eval MODEL COLLECTION --split SPLIT --pool POOL --run FILE";
            return fail(what, fix);
        }
        Ok(ranked)
    }

    /// Whether a passage is in the pool of a query.
    pub fn holds(&self, query: Index, passage: Index) -> bool {
        let c = self.collection;
        self.pool.holds(&c.queries[query as usize].lang, &c.passages[passage as usize].lang)
    }

    /// Which passages of the collection stay: those judged for the queries, with their translations, and the first `k`
    /// in the pool of every pooled system but the one at `without`. Groups of translations stay whole: if one passage of
    /// a group stays, so do the others, so that pools of several languages keep their mix and parallel pools stay
    /// parallel.
    pub fn keep(&self, systems: &[System], k: usize, without: Option<usize>) -> Vec<bool> {
        let passages = 0..self.collection.passages.len() as Index;
        let unit = |p: Index| self.graded.passage_unit(p) as usize;
        let mut units = vec![false; passages.clone().map(unit).max().map_or(0, |n| n + 1)];
        for &q in self.queries {
            self.graded.judged(q).for_each(|(p, _)| units[unit(p)] = true);
            let others = systems.iter().enumerate().filter(|(i, s)| s.pooled && Some(*i) != without);
            for ranking in others.filter_map(|(_, s)| s.ranked.get(&q)) {
                let inside = ranking.iter().filter(|p| self.holds(q, **p));
                inside.take(k).for_each(|&p| units[unit(p)] = true);
            }
        }
        passages.map(|p| units[unit(p)]).collect()
    }

    /// Measures the systems of [`measured`] on the full pool and on the pool that the others make, for each language of
    /// the queries and for their mean (last). A query that a system does not rank scores 0; a language that no system
    /// ranks is left out. Empty where no system can be measured.
    pub fn compare(&self, systems: &[System], k: usize, measure: &Measure) -> Vec<Kept> {
        let which = measured(systems);
        let values: Vec<[Vec<f64>; 2]> = which
            .iter()
            .map(|&i| {
                let small = self.keep(systems, k, Some(i));
                let of = |kept: Option<&[bool]>| -> Vec<f64> {
                    self.queries.par_iter().map(|&q| self.value(&systems[i], q, kept, measure)).collect()
                };
                [of(None), of(Some(&small))]
            })
            .collect();
        if values.is_empty() {
            return Vec::new();
        }
        let mut by_lang: BTreeMap<&Lang, Vec<usize>> = BTreeMap::new();
        for (i, &q) in self.queries.iter().enumerate() {
            by_lang.entry(&self.collection.queries[q as usize].lang).or_default().push(i);
        }
        by_lang.retain(|_, own| own.iter().any(|&i| ranks(systems, self.queries[i])));
        let column = |side: usize, own: &[usize]| -> Vec<f64> {
            let mean = |v: &[f64]| own.iter().map(|&i| v[i]).sum::<f64>() / own.len() as f64;
            values.iter().map(|v| mean(&v[side])).collect()
        };
        let mut out: Vec<Kept> = by_lang
            .into_iter()
            .map(|(lang, own)| kept(Some(lang.clone()), own.len(), column(0, &own), column(1, &own)))
            .collect();
        let over = |side: fn(&Kept) -> &Vec<f64>| -> Vec<f64> {
            let mean = |s: usize| out.iter().map(|k| side(k)[s]).sum::<f64>() / out.len() as f64;
            (0..which.len()).map(mean).collect()
        };
        if !out.is_empty() {
            let (full, small) = (over(|k| &k.full), over(|k| &k.small));
            out.push(kept(None, out.iter().map(|k| k.queries).sum(), full, small));
        }
        out
    }

    /// What a system's ranking is worth, less the passages that are not `kept`.
    fn value(&self, system: &System, query: Index, kept: Option<&[bool]>, measure: &Measure) -> f64 {
        let ranked = system.ranked.get(&query).map_or(&[][..], Vec::as_slice);
        let inside = |p: &Index| kept.is_none_or(|k| k[*p as usize]) && self.holds(query, *p);
        let left = ranked.iter().copied().filter(inside);
        measure.of(&crate::pool::topic(self.collection, self.graded, self.pool, query, left))
    }
}

/// Whether any system ranks a query.
fn ranks(systems: &[System], query: Index) -> bool {
    systems.iter().any(|s| s.ranked.get(&query).is_some_and(|r| !r.is_empty()))
}

fn kept(lang: Option<Lang>, queries: usize, full: Vec<f64>, small: Vec<f64>) -> Kept {
    let max_change = full.iter().zip(&small).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    Kept { lang, queries, tau: kendall(&full, &small), max_change, full, small }
}
