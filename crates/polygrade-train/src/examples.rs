//! What each query is trained on, in a scenario and under a label policy, and the roles in a batch.
//!
//! Invariants, kept by construction and tested: a judged positive of a query is never its negative, whether
//! it came with the query or with another one of the batch; nor is a passage that the policy leaves out, a
//! translation of either, or a passage of the same text.

use crate::labels::{Label, LabelPolicies};
use crate::loss::Role;
use polygrade_data::{Collection, Graded, Index, Lang};
use polygrade_nn::rng::CounterRng;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Which languages meet in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Queries and passages in one language, one model a language.
    Monolingual,
    /// One model trained on all languages, each query with passages in its own.
    Mixture,
    /// Queries with passages in another language.
    CrossLingual,
}

impl Scenario {
    /// All three.
    pub const ALL: [Scenario; 3] = [Scenario::Monolingual, Scenario::Mixture, Scenario::CrossLingual];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        ["monolingual", "mixture", "cross-lingual"][self as usize]
    }

    /// Parses a name.
    pub fn parse(text: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|s| s.name() == text)
    }

    /// Whether a query and a passage in these languages meet.
    pub fn pairs(self, query: &Lang, passage: &Lang) -> bool {
        (self == Scenario::CrossLingual) != (query == passage)
    }
}

/// A query's passages in one language.
#[derive(Debug, Clone, PartialEq)]
struct Variant {
    positives: Vec<Index>,
    negatives: Vec<Index>,
}

/// A query with its passages, by language where it meets several.
#[derive(Debug, Clone, PartialEq)]
struct Example {
    query: Index,
    variants: Vec<Variant>,
    /// Texts that are no negatives of the query, sorted: see [`Examples::text_of`].
    excluded: Vec<u32>,
}

/// The training examples of a split.
#[derive(Debug, Clone)]
pub struct Examples {
    examples: Vec<Example>,
    /// For each passage a number that passages of the same text and language share.
    text_of: Vec<u32>,
    /// Queries of the scenario that have no positive under the policy, and so are not trained on.
    pub without_positive: usize,
}

/// One step's queries and candidate passages with their roles.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Batch {
    /// The queries.
    pub queries: Vec<Index>,
    /// The candidates, without repetition of texts.
    pub passages: Vec<Index>,
    /// Queries × candidates.
    pub roles: Vec<Role>,
}

/// How many passages each query brings to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerQuery {
    /// Positives at most.
    pub positives: usize,
    /// Judged negatives at most.
    pub negatives: usize,
}

impl Examples {
    /// Gathers the examples of `split` in the given languages.
    pub fn new(
        collection: &Collection,
        graded: &Graded,
        scenario: Scenario,
        langs: &[Lang],
        policies: &LabelPolicies,
    ) -> Self {
        let mut texts: FxHashMap<(&Lang, std::borrow::Cow<str>), u32> = FxHashMap::default();
        let text_of = collection
            .passages
            .iter()
            .map(|p| {
                let next = texts.len() as u32;
                *texts.entry((&p.lang, p.full_text())).or_insert(next)
            })
            .collect::<Vec<u32>>();
        let mut out = Examples { examples: Vec::new(), text_of, without_positive: 0 };
        for &query in graded.queries() {
            let lang = &collection.queries[query as usize].lang;
            if !langs.contains(lang) {
                continue;
            }
            let mut by_lang: Vec<(&Lang, Variant)> = Vec::new();
            let mut excluded = Vec::new();
            for (passage, grade) in graded.judged(query) {
                let passage_lang = &collection.passages[passage as usize].lang;
                let label = policies.of(scenario, lang, passage_lang).label(grade);
                if label != Label::Negative {
                    excluded.push(out.text_of[passage as usize]);
                }
                if !langs.contains(passage_lang) || !scenario.pairs(lang, passage_lang) {
                    continue;
                }
                let at = by_lang.iter().position(|(l, _)| *l == passage_lang).unwrap_or_else(|| {
                    by_lang.push((passage_lang, Variant { positives: Vec::new(), negatives: Vec::new() }));
                    by_lang.len() - 1
                });
                match label {
                    Label::Positive => by_lang[at].1.positives.push(passage),
                    Label::Negative => by_lang[at].1.negatives.push(passage),
                    Label::Dropped => {}
                }
            }
            excluded.sort_unstable();
            excluded.dedup();
            if by_lang.is_empty() {
                continue;
            }
            by_lang.retain(|(_, v)| !v.positives.is_empty());
            if by_lang.is_empty() {
                out.without_positive += 1;
                continue;
            }
            let variants = by_lang.into_iter().map(|(_, v)| v).collect();
            out.examples.push(Example { query, variants, excluded });
        }
        out
    }

    /// Number of queries trained on.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is nothing to train on.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The number of a passage's text, shared by passages of the same text and language.
    pub fn text_of(&self, passage: Index) -> u32 {
        self.text_of[passage as usize]
    }

    /// The order of an epoch.
    pub fn order(&self, rng: &CounterRng) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        rng.shuffle(&mut order);
        order
    }

    /// The batch of the examples `which`. Where a query meets several languages, one is drawn; where it has
    /// more passages than fit, some are.
    pub fn batch(&self, which: &[u32], per_query: PerQuery, rng: &CounterRng, out: &mut Batch) {
        out.queries.clear();
        out.passages.clear();
        let mut column: FxHashMap<u32, u32> = FxHashMap::default();
        let mut own: Vec<(usize, u32)> = Vec::new();
        for (row, &at) in which.iter().enumerate() {
            let example = &self.examples[at as usize];
            let rng = rng.fork(u64::from(example.query));
            out.queries.push(example.query);
            let variant = &example.variants[rng.below(0, example.variants.len())];
            let picked = [
                (draw(&variant.positives, per_query.positives, &rng.fork(1)), true),
                (draw(&variant.negatives, per_query.negatives, &rng.fork(2)), false),
            ];
            for (passages, positive) in picked {
                for passage in passages {
                    let next = out.passages.len() as u32;
                    let slot = *column.entry(self.text_of(passage)).or_insert_with(|| {
                        out.passages.push(passage);
                        next
                    });
                    if positive {
                        own.push((row, slot));
                    }
                }
            }
        }
        let cols = out.passages.len();
        out.roles.clear();
        for &at in which {
            let excluded = &self.examples[at as usize].excluded;
            out.roles.extend(out.passages.iter().map(|&p| match excluded.binary_search(&self.text_of(p)) {
                Ok(_) => Role::Ignored,
                Err(_) => Role::Negative,
            }));
        }
        for (row, slot) in own {
            out.roles[row * cols + slot as usize] = Role::Positive;
        }
    }
}

/// Up to `most` of the items, in an order that the generator decides where there are more.
fn draw(items: &[Index], most: usize, rng: &CounterRng) -> Vec<Index> {
    let mut items = items.to_vec();
    if items.len() > most {
        rng.shuffle(&mut items);
        items.truncate(most);
    }
    items
}
