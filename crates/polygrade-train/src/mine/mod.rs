//! Mining of hard negatives: passages that rank high for a query and are not known to be relevant.
//!
//! A [`Source`] ranks (an encoder, stored vectors, BM25, a run file), a [`Task`] says what a query must never be given, and
//! [`mine`] filters and picks. Never mined, by construction: a passage that the label policy calls positive or leaves
//! out, its translations, passages of the same text as any of these, and passages of the query's own text. Each text is one candidate, however often
//! it is in the corpus.
//!
//! With s the score of a candidate and p that of the query's positive, a candidate is dropped where
//!
//! - its rank is outside the window. Ranks count from 1 and leave out what must never be mined, so that a window means
//!   the same whether or not the positives rank high;
//! - s > p − m, by an absolute margin m;
//! - s > p − |p|·r, by a relative margin r: 0.05 is TopK-PercPos 95 % of NV-Retriever (Moreira et al. 2024,
//!   arXiv 2407.15831) and sentence-transformers' `relative_margin`;
//! - s is above a maximum or below a minimum.

mod source;
mod stored;
mod task;
mod write;

pub use source::{Dense, Found, Lexical, RunFile, Source};
pub use task::{NegativeLangs, Task};
pub use write::{Format, write};

use crate::loss::mask::Reference;
use polygrade_data::{Index, Lang, Result};
use polygrade_index::Hit;
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use serde::Serialize;
use std::collections::BTreeMap;

/// How negatives are picked from those that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The best ranked.
    Top,
    /// Drawn without preference, by this seed and the query's number.
    Random(u64),
}

/// What is filtered, and how many are picked.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// First and last rank of the window, from 1.
    pub range: (usize, usize),
    /// Negatives of each query at most.
    pub negatives: usize,
    /// m: a negative scores at least so much below the positive.
    pub absolute_margin: Option<f32>,
    /// r: a negative scores below the positive by at least this share of the positive's magnitude.
    pub relative_margin: Option<f32>,
    /// Which of several positives the margins are measured from.
    pub reference: Reference,
    /// Highest score of a negative.
    pub max_score: Option<f32>,
    /// Lowest score of a negative.
    pub min_score: Option<f32>,
    /// Whether passages judged as negatives may be mined; else those without a judgment alone.
    pub keep_judged: bool,
    /// How the negatives are picked.
    pub select: Select,
}

impl Default for Filter {
    fn default() -> Self {
        Filter {
            range: (1, 100),
            negatives: 7,
            absolute_margin: None,
            relative_margin: Some(0.05),
            reference: Reference::Lowest,
            max_score: None,
            min_score: None,
            keep_judged: false,
            select: Select::Top,
        }
    }
}

/// A negative found for a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mined {
    /// The query.
    pub query: Index,
    /// The passage.
    pub passage: Index,
    /// The source's score.
    pub score: f32,
    /// The rank in the source, counted as the window counts.
    pub rank: usize,
}

/// What became of the candidates of some queries. A candidate counts for the first reason that drops it, in the order
/// of the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Queries mined for.
    pub queries: usize,
    /// Queries of the split that have no positive under the policy, which are passed over.
    pub without_positive: usize,
    /// Queries that got fewer negatives than were asked for.
    pub short: usize,
    /// Negatives found.
    pub mined: usize,
    /// Passages that rank as high as the window's last, and are positives or of a positive's text or group.
    pub positives: usize,
    /// The same for passages that the policy leaves out, or of the query's own text.
    pub left_out: usize,
    /// Ranked before the window.
    pub rank: usize,
    /// Judged as negatives.
    pub judged: usize,
    /// Inside a margin, but the source has no score for any positive of the query.
    pub no_positive_score: usize,
    /// Inside the absolute margin.
    pub absolute_margin: usize,
    /// Inside the relative margin.
    pub relative_margin: usize,
    /// Above the maximum.
    pub max_score: usize,
    /// Below the minimum.
    pub min_score: usize,
    /// Sums of scores, for the means: of the positives that margins were measured from, and of the mined.
    #[serde(skip)]
    sums: (f64, usize, f64),
}

impl Counts {
    /// Adds others.
    pub fn add(&mut self, other: &Counts) {
        let Counts { queries, without_positive, short, mined, positives, left_out, rank, .. } = other;
        self.queries += queries;
        self.without_positive += without_positive;
        self.short += short;
        self.mined += mined;
        self.positives += positives;
        self.left_out += left_out;
        self.rank += rank;
        self.judged += other.judged;
        self.no_positive_score += other.no_positive_score;
        self.absolute_margin += other.absolute_margin;
        self.relative_margin += other.relative_margin;
        self.max_score += other.max_score;
        self.min_score += other.min_score;
        self.sums.0 += other.sums.0;
        self.sums.1 += other.sums.1;
        self.sums.2 += other.sums.2;
    }

    /// Mean score of the positives that margins are measured from; NaN where there is none.
    pub fn mean_positive(&self) -> f64 {
        self.sums.0 / self.sums.1 as f64
    }

    /// Mean score of the mined negatives; NaN where there is none.
    pub fn mean_mined(&self) -> f64 {
        self.sums.2 / self.mined as f64
    }
}

/// Mines negatives from `sources` for all queries of `task`: the negatives by query, and what became of the
/// candidates by language of the query. Of several sources each is filtered by itself, and what is left is merged by
/// rank, the earlier source first; scores of different sources are never compared. `progress` hears of passages done.
///
/// # Errors
/// What the sources give.
pub fn mine(
    task: &Task,
    sources: &[&dyn Source],
    filter: &Filter,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(Vec<Mined>, BTreeMap<Lang, Counts>)> {
    let found = sources.iter().map(|s| s.find(task, filter.range.1, progress)).collect::<Result<Vec<_>>>()?;
    let each: Vec<(Vec<Mined>, Counts)> = (0..task.len())
        .into_par_iter()
        .map(|at| {
            let mut counts = Counts { queries: 1, ..Counts::default() };
            let pools = (0..task.pools()).map(|pool| {
                let lists = found.iter().map(|f| filter.apply(task, at, pool, &f[at], &mut counts));
                merged(lists.collect())
            });
            let mined = filter.pick(task.query(at), pools.collect());
            counts.mined = mined.len();
            counts.short = usize::from(mined.len() < filter.negatives);
            counts.sums.2 = mined.iter().map(|m| f64::from(m.score)).sum();
            (mined, counts)
        })
        .collect();
    let mut by_lang: BTreeMap<Lang, Counts> = BTreeMap::new();
    for (lang, without_positive) in task.without_positive() {
        by_lang.entry(lang.clone()).or_default().without_positive = *without_positive;
    }
    let mut out = Vec::with_capacity(each.iter().map(|(m, _)| m.len()).sum());
    for (at, (mined, counts)) in each.into_iter().enumerate() {
        out.extend(mined);
        by_lang.entry(task.lang(at).clone()).or_default().add(&counts);
    }
    Ok((out, by_lang))
}

/// Lists of (rank, hit) as one, by rank, then by the order of the lists; each passage once.
fn merged(mut lists: Vec<Vec<(usize, Hit)>>) -> Vec<(usize, Hit)> {
    if lists.len() == 1 {
        return lists.remove(0);
    }
    let mut all: Vec<(usize, Hit)> = lists.into_iter().flatten().collect();
    // Stable, so that the earlier list stays first.
    all.sort_by_key(|(rank, _)| *rank);
    let mut seen = FxHashSet::default();
    all.retain(|(_, hit)| seen.insert(hit.passage));
    all
}

impl Filter {
    /// What passes of a query's candidates in a pool, with its ranks; the others are counted.
    fn apply(
        &self,
        task: &Task,
        at: usize,
        pool: usize,
        found: &Found,
        counts: &mut Counts,
    ) -> Vec<(usize, Hit)> {
        let list = &found.candidates[pool];
        // What would stand in the window: with room left in it, all that was scored.
        let last = list.get(self.range.1 - 1).map_or(f32::NEG_INFINITY, |hit| hit.score);
        let (mut own, mut all) = (Vec::new(), Vec::new());
        for hit in &found.banned {
            let (inside, positive) =
                (task.pool_of(at, hit.passage) == Some(pool), task.is_positive(at, hit.passage));
            if inside && hit.score >= last {
                *(if positive { &mut counts.positives } else { &mut counts.left_out }) += 1;
            }
            if positive {
                all.push(hit.score);
                own.extend(inside.then_some(hit.score));
            }
        }
        // Positives in the pool's languages, where there are any: scores in other languages run on another scale.
        let reference = self.reference.of(if own.is_empty() { &all } else { &own });
        if let Some(p) = reference {
            counts.sums.0 += f64::from(p);
            counts.sums.1 += 1;
        }
        let mut out = Vec::new();
        for (i, &hit) in list.iter().enumerate() {
            match self.reason(task, at, i + 1, hit, reference) {
                None => out.push((i + 1, hit)),
                Some(count) => *count(counts) += 1,
            }
        }
        out
    }

    /// Why a candidate is dropped, as the count to raise; `None` where it passes.
    fn reason(
        &self,
        task: &Task,
        at: usize,
        rank: usize,
        hit: Hit,
        reference: Option<f32>,
    ) -> Option<fn(&mut Counts) -> &mut usize> {
        let s = hit.score;
        if rank < self.range.0 {
            return Some(|c| &mut c.rank);
        }
        if !self.keep_judged && task.is_judged(at, hit.passage) {
            return Some(|c| &mut c.judged);
        }
        if reference.is_none() && (self.absolute_margin.is_some() || self.relative_margin.is_some()) {
            return Some(|c| &mut c.no_positive_score);
        }
        let p = reference.unwrap_or(f32::INFINITY);
        // As sentence-transformers writes it, so that the same candidates fall on the edge.
        if self.absolute_margin.is_some_and(|m| s + m > p) {
            return Some(|c| &mut c.absolute_margin);
        }
        if self.relative_margin.is_some_and(|r| s > p - p.abs() * r) {
            return Some(|c| &mut c.relative_margin);
        }
        if self.max_score.is_some_and(|max| s > max) {
            return Some(|c| &mut c.max_score);
        }
        self.min_score.is_some_and(|min| s < min).then_some(|c| &mut c.min_score)
    }

    /// Picks a query's negatives from what passed in each pool. With several pools the places are dealt out one by one,
    /// in an order of the pools that the query's number decides, so that each gets as many where it has them.
    fn pick(&self, query: Index, mut pools: Vec<Vec<(usize, Hit)>>) -> Vec<Mined> {
        let seed = if let Select::Random(seed) = self.select { seed } else { 0 };
        let rng = CounterRng::new(seed).fork(u64::from(query));
        let mut order: Vec<usize> = (0..pools.len()).collect();
        rng.fork(0).shuffle(&mut order);
        let mut places = vec![0; pools.len()];
        let mut left = self.negatives.min(pools.iter().map(Vec::len).sum());
        while left > 0 {
            for &pool in &order {
                if left > 0 && places[pool] < pools[pool].len() {
                    (places[pool], left) = (places[pool] + 1, left - 1);
                }
            }
        }
        for (i, (pool, places)) in pools.iter_mut().zip(&places).enumerate() {
            if self.select != Select::Top && pool.len() > *places {
                rng.fork(1 + i as u64).shuffle(pool);
                pool.truncate(*places);
                pool.sort_by_key(|(rank, _)| *rank);
            }
            pool.truncate(*places);
        }
        let mined =
            |&(rank, hit): &(usize, Hit)| Mined { query, passage: hit.passage, score: hit.score, rank };
        pools.iter().flatten().map(mined).collect()
    }
}
