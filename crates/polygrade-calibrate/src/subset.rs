//! Parts of the training judgments, for curves of effectiveness against the amount of data.

use crate::alteration::{passage_key, query_key, share};
use polygrade_data::{Collection, Judgment, Lang};
use polygrade_nn::rng::CounterRng;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::fmt;

/// A part of the judgments, by its share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// So many of the queries with all their judgments; a query and its translations stay or go together. Units of
    /// queries are drawn within each set of languages that they have texts in, so every language keeps its share.
    Queries(f64),
    /// So many of each query's judged passages (units), at least one.
    Judgments(f64),
}

/// Purposes of random numbers.
const QUERIES: u64 = 0x7175;
const JUDGMENTS: u64 = 0x6a75;

impl Subset {
    /// Parses `queries:0.25` or `judgments:0.5`; `None` where it is neither, or the share is not in 0..1.
    pub fn parse(text: &str) -> Option<Subset> {
        let (kind, part) = text.trim().split_once(':')?;
        match kind {
            "queries" => share(part).map(Subset::Queries),
            "judgments" => share(part).map(Subset::Judgments),
            _ => None,
        }
    }

    /// The share, 0..1.
    pub fn share(&self) -> f64 {
        match *self {
            Subset::Queries(share) | Subset::Judgments(share) => share,
        }
    }

    /// The judgments that are kept, in the order given.
    pub fn select(&self, collection: &Collection, judgments: &[Judgment], seed: u64) -> Vec<Judgment> {
        let query = |j: &Judgment| query_key(&collection.queries[j.query as usize]);
        let passage = |j: &Judgment| passage_key(&collection.passages[j.passage as usize]);
        match *self {
            Subset::Queries(share) => {
                let rng = CounterRng::new(seed).fork(QUERIES);
                let judged: FxHashSet<u64> = judgments.iter().map(query).collect();
                let mut langs: FxHashMap<u64, Vec<&Lang>> = FxHashMap::default();
                for q in &collection.queries {
                    let unit = query_key(q);
                    if judged.contains(&unit) {
                        langs.entry(unit).or_default().push(&q.lang);
                    }
                }
                let mut strata: BTreeMap<Vec<&Lang>, Vec<u64>> = BTreeMap::new();
                for (unit, mut langs) in langs {
                    langs.sort();
                    langs.dedup();
                    strata.entry(langs).or_default().push(unit);
                }
                let kept: FxHashSet<u64> =
                    strata.into_values().flat_map(|units| first(units, share, &rng)).collect();
                judgments.iter().filter(|j| kept.contains(&query(j))).copied().collect()
            }
            Subset::Judgments(share) => {
                let rng = CounterRng::new(seed).fork(JUDGMENTS);
                let mut units: FxHashMap<u64, FxHashSet<u64>> = FxHashMap::default();
                for j in judgments {
                    units.entry(query(j)).or_default().insert(passage(j));
                }
                let kept: FxHashMap<u64, FxHashSet<u64>> = units
                    .into_iter()
                    .map(|(q, units)| (q, first(units.into_iter().collect(), share, &rng.fork(q)).collect()))
                    .collect();
                let stays = |j: &&Judgment| kept.get(&query(j)).is_some_and(|k| k.contains(&passage(j)));
                judgments.iter().filter(stays).copied().collect()
            }
        }
    }
}

/// The first `share` of the units in the random order of `rng`, rounded, and at least one where the share is not 0.
fn first(mut units: Vec<u64>, share: f64, rng: &CounterRng) -> impl Iterator<Item = u64> + use<> {
    units.sort_unstable_by_key(|u| (rng.bits(*u), *u));
    let least = usize::from(share > 0.0 && !units.is_empty());
    let count = ((share * units.len() as f64).round() as usize).max(least);
    units.into_iter().take(count)
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subset::Queries(share) => write!(f, "queries:{share}"),
            Subset::Judgments(share) => write!(f, "judgments:{share}"),
        }
    }
}
