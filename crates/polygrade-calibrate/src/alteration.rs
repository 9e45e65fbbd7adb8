//! Judgments altered on purpose, to see what a policy still gives: grades corrupted at a stated rate ([`Noise`]), or a
//! part of the judgments ([`Subset`]).
//!
//! Invariants: an alteration is a function of the judgments and the seed, whatever their order in the file. It decides
//! by units (a text, or a group of translations), so copies of a pair stay consistent. Alterations nest: with one seed,
//! a higher rate of noise corrupts all that a lower one does, in the same way, and a smaller share of the data is part
//! of a larger one. Texts are not copied: train on `Graded::of(collection, &altered(…))`.

use crate::noise::Noise;
use crate::subset::Subset;
use polygrade_data::{Collection, Error, Judgment, Passage, Query, Result};
use polygrade_nn::rng::CounterRng;
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What is done to the training judgments.
#[derive(Debug, Clone, PartialEq)]
pub enum Alteration {
    /// Grades are corrupted.
    Noise(Noise),
    /// Only a part is kept.
    Subset(Subset),
}

impl Alteration {
    /// Parses a noise (`adjacent:0.2`, `uniform:0.1`, `confusion:FILE:1.0`) or a subset (`queries:0.25`,
    /// `judgments:0.5`). A confusion matrix is read from its file.
    pub fn parse(text: &str) -> Result<Alteration> {
        if let Some(subset) = Subset::parse(text) {
            return Ok(Alteration::Subset(subset));
        }
        Noise::parse(text)?.map(Alteration::Noise).ok_or_else(|| {
            Error::Usage(format!(
                "{text:?} is no alteration of the labels: adjacent:RATE, uniform:RATE, confusion:FILE:RATE, \
                 queries:SHARE or judgments:SHARE, with rates and shares in 0..1"
            ))
        })
    }
}

impl fmt::Display for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alteration::Noise(noise) => noise.fmt(f),
            Alteration::Subset(subset) => subset.fmt(f),
        }
    }
}

/// The judgments under an alteration, in the order given. Pass those of the training split alone: dev and test keep
/// the grades that they have.
pub fn altered(
    collection: &Collection,
    judgments: &[Judgment],
    alteration: &Alteration,
    seed: u64,
) -> Vec<Judgment> {
    match alteration {
        Alteration::Noise(noise) => noise.corrupt(collection, judgments, seed),
        Alteration::Subset(subset) => subset.select(collection, judgments, seed),
    }
}

/// A number for a query's unit that does not depend on where it stands in a file.
pub(crate) fn query_key(query: &Query) -> u64 {
    xxh3_64_with_seed(query.unit().as_bytes(), u64::from(query.group.is_some()))
}

/// The same for a passage's unit.
pub(crate) fn passage_key(passage: &Passage) -> u64 {
    xxh3_64_with_seed(passage.unit().as_bytes(), u64::from(passage.group.is_some()))
}

/// The random numbers of a judged pair, shared by all its translations.
pub(crate) fn pair_rng(rng: &CounterRng, collection: &Collection, j: &Judgment) -> CounterRng {
    let (query, passage) = (&collection.queries[j.query as usize], &collection.passages[j.passage as usize]);
    rng.fork(query_key(query)).fork(passage_key(passage))
}

/// Parses a number in 0..=1.
pub(crate) fn share(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|x| (0.0..=1.0).contains(x))
}
