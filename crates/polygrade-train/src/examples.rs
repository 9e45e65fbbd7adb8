//! What each query is trained on, in a scenario and under a label policy, and the roles in a batch.
//!
//! Invariants, kept by construction and tested: a judged positive of a query is never its negative, whether
//! it came with the query or with another one of the batch; nor is a passage that the policy leaves out, a
//! translation of either, or a passage of the same text.
//!
//! A batch keeps to one language of passages as far as it can: in a mixture its queries share their language,
//! across languages they meet passages of one drawn language. Passages in another language than the positive
//! are negatives that the language alone gives away, and teach little.

use crate::labels::{Label, LabelPolicies, Policy};
use crate::loss::{Role, TeacherScores};
use polygrade_data::{Collection, Graded, Index, Lang};
use polygrade_nn::rng::CounterRng;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// The language's place among those of the examples.
    lang: usize,
    policy: Policy,
    positives: Vec<Index>,
    negatives: Vec<Index>,
}

/// A query with its passages, by language where it meets several.
#[derive(Debug, Clone, PartialEq)]
struct Example {
    query: Index,
    /// The language of the query.
    lang: usize,
    variants: Vec<Variant>,
    /// Judged texts, sorted: see [`Examples::text_of`].
    judged: Vec<Judged>,
}

/// A judged text of a query; of several passages with this text, the highest grade and label.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Judged {
    text: u32,
    grade: f32,
    label: Label,
}

/// The training examples of a split.
#[derive(Debug, Clone)]
pub struct Examples {
    examples: Vec<Example>,
    /// For each passage a number that passages of the same text and language share.
    text_of: Vec<u32>,
    /// Queries of the scenario that have no positive under the policy, and so are not trained on.
    pub without_positive: usize,
    scenario: Scenario,
    max_grade: f32,
    /// Queries of each language, those without a positive included.
    queries_by_lang: Vec<usize>,
    langs: Vec<Lang>,
    teacher: Option<Arc<TeacherScores>>,
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
    /// The grade of each judged pair, NaN where it is not judged; queries × candidates.
    pub grades: Vec<f32>,
    /// The policy of each query.
    pub policies: Vec<Policy>,
    /// The place of each query's language among [`Examples::langs`].
    pub langs: Vec<usize>,
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
        let (queries_by_lang, max_grade) = (vec![0; langs.len()], collection.meta.grades.max);
        let mut out = Examples {
            examples: Vec::new(),
            text_of,
            without_positive: 0,
            scenario,
            max_grade,
            queries_by_lang,
            langs: langs.to_vec(),
            teacher: None,
        };
        for &query in graded.queries() {
            let lang = &collection.queries[query as usize].lang;
            let place = |lang: &Lang| langs.iter().position(|l| l == lang);
            let Some(query_lang) = place(lang) else { continue };
            let mut variants: Vec<Variant> = Vec::new();
            let mut judged = Vec::new();
            for (passage, grade) in graded.judged(query) {
                let passage_lang = &collection.passages[passage as usize].lang;
                let policy = policies.of(scenario, lang, passage_lang);
                let label = policy.label(grade);
                judged.push(Judged { text: out.text_of[passage as usize], grade, label });
                let Some(lang_place) = place(passage_lang).filter(|_| scenario.pairs(lang, passage_lang))
                else {
                    continue;
                };
                let at = variants.iter().position(|v| v.lang == lang_place).unwrap_or_else(|| {
                    variants.push(Variant {
                        lang: lang_place,
                        policy,
                        positives: Vec::new(),
                        negatives: Vec::new(),
                    });
                    variants.len() - 1
                });
                match label {
                    Label::Positive => variants[at].positives.push(passage),
                    Label::Negative => variants[at].negatives.push(passage),
                    Label::Dropped => {}
                }
            }
            if variants.is_empty() {
                continue;
            }
            out.queries_by_lang[query_lang] += 1;
            variants.retain(|v| !v.positives.is_empty());
            if variants.is_empty() {
                out.without_positive += 1;
                continue;
            }
            judged.sort_by_key(|j| j.text);
            judged.dedup_by(|next, kept| {
                let same = next.text == kept.text;
                if same {
                    kept.grade = kept.grade.max(next.grade);
                    kept.label = kept.label.max(next.label);
                }
                same
            });
            out.examples.push(Example { query, lang: query_lang, variants, judged });
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

    /// The highest grade of the scale.
    pub fn max_grade(&self) -> f32 {
        self.max_grade
    }

    /// The languages that the examples were gathered in.
    pub fn langs(&self) -> &[Lang] {
        &self.langs
    }

    /// Takes a teacher's scores along, for the losses that learn from them.
    pub fn set_teacher(&mut self, teacher: Arc<TeacherScores>) {
        self.teacher = Some(teacher);
    }

    /// How many pairs of a query and a judged passage are trained on, and how many of them have no teacher's score.
    pub fn without_teacher(&self) -> (usize, usize) {
        let (mut pairs, mut without) = (0, 0);
        for e in &self.examples {
            for passage in e.variants.iter().flat_map(|v| v.positives.iter().chain(&v.negatives)) {
                pairs += 1;
                let known = self.teacher.as_ref().is_some_and(|t| t.get(e.query, *passage).is_some());
                without += usize::from(!known);
            }
        }
        (pairs, without)
    }

    /// Writes the teacher's score of each pair of a batch, NaN where there is none; nothing without a teacher.
    pub fn teacher_scores(&self, batch: &Batch, out: &mut Vec<f32>) {
        out.clear();
        let Some(teacher) = &self.teacher else { return };
        for &q in &batch.queries {
            out.extend(batch.passages.iter().map(|p| teacher.get(q, *p).unwrap_or(f32::NAN)));
        }
    }

    /// The number of a passage's text, shared by passages of the same text and language.
    pub fn text_of(&self, passage: Index) -> u32 {
        self.text_of[passage as usize]
    }

    /// Feeds everything that decides the batches to `add`, to tell sets of examples apart.
    pub fn fingerprint(&self, mut add: impl FnMut(u64)) {
        add(self.scenario as u64);
        self.teacher.iter().for_each(|t| add(t.fingerprint()));
        self.queries_by_lang.iter().for_each(|n| add(*n as u64));
        for e in &self.examples {
            add(u64::from(e.query));
            for v in &e.variants {
                // Of a threshold or a band the labels say all; two that label alike train alike.
                if !matches!(v.policy, Policy::Threshold(_) | Policy::Band { .. }) {
                    v.policy.to_string().bytes().for_each(|b| add(u64::from(b)));
                }
                [v.lang, v.positives.len(), v.negatives.len()].into_iter().for_each(|n| add(n as u64));
                v.positives.iter().chain(&v.negatives).for_each(|p| add(u64::from(*p)));
            }
            e.judged.iter().for_each(|j| {
                [u64::from(j.text), u64::from(j.grade.to_bits()), j.label as u64]
                    .into_iter()
                    .for_each(&mut add);
            });
        }
    }

    /// Pairs of query and positive in an epoch; a query that meets several languages meets one of them at a time.
    pub fn pairs_per_epoch(&self, per_query: PerQuery) -> f64 {
        let of = |v: &Variant| v.positives.len().min(per_query.positives) as f64;
        let mean = |e: &Example| e.variants.iter().map(of).sum::<f64>() / e.variants.len() as f64;
        self.examples.iter().map(mean).sum()
    }

    /// Steps in an epoch. They follow from the scenario's queries alone, not from how many of them the policy
    /// left a positive, so that models under different policies train equally long.
    pub fn steps_per_epoch(&self, batch: usize) -> usize {
        self.parts().map(|(_, n)| n.div_ceil(batch.max(1))).sum()
    }

    /// The parts that batches do not cross: a language each in a mixture, else everything. (language, queries)
    fn parts(&self) -> impl Iterator<Item = (Option<usize>, usize)> + '_ {
        let by_lang = self.scenario == Scenario::Mixture;
        let whole = (!by_lang).then(|| (None, self.queries_by_lang.iter().sum()));
        let parts =
            self.queries_by_lang.iter().enumerate().filter(move |_| by_lang).map(|(l, n)| (Some(l), *n));
        parts.chain(whole).filter(|(_, n)| *n > 0)
    }

    /// The batches of an epoch, [`Examples::steps_per_epoch`] of them, in random order.
    pub fn epoch(&self, batch: usize, rng: &CounterRng) -> Vec<Vec<u32>> {
        let mut out = Vec::new();
        for (lang, queries) in self.parts() {
            let inside = |e: &u32| lang.is_none_or(|l| self.examples[*e as usize].lang == l);
            let mut order: Vec<u32> = (0..self.examples.len() as u32).filter(inside).collect();
            rng.fork(1 + lang.map_or(0, |l| l as u64)).shuffle(&mut order);
            let steps = queries.div_ceil(batch.max(1));
            // With fewer examples than queries the batches are smaller, never fewer.
            out.extend(
                (0..steps).map(|i| order[i * order.len() / steps..(i + 1) * order.len() / steps].to_vec()),
            );
        }
        rng.fork(0).shuffle(&mut out);
        out
    }

    /// The batch of the examples `which`. Where queries meet several languages, one is drawn for the batch, and
    /// another for a query that has none in it; where a query has more passages than fit, some are.
    pub fn batch(&self, which: &[u32], per_query: PerQuery, rng: &CounterRng, out: &mut Batch) {
        out.queries.clear();
        out.passages.clear();
        out.policies.clear();
        out.langs.clear();
        let target = rng.below(0, self.queries_by_lang.len().max(1));
        let mut column: FxHashMap<u32, u32> = FxHashMap::default();
        let mut own: Vec<(usize, u32)> = Vec::new();
        for (row, &at) in which.iter().enumerate() {
            let example = &self.examples[at as usize];
            let rng = rng.fork(u64::from(example.query));
            out.queries.push(example.query);
            let drawn = || &example.variants[rng.below(0, example.variants.len())];
            let variant = example.variants.iter().find(|v| v.lang == target).unwrap_or_else(drawn);
            out.policies.push(variant.policy);
            out.langs.push(example.lang);
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
        out.grades.clear();
        for &at in which {
            let judged = &self.examples[at as usize].judged;
            for &p in &out.passages {
                let found = judged.binary_search_by_key(&self.text_of(p), |j| j.text).ok().map(|i| judged[i]);
                out.grades.push(found.map_or(f32::NAN, |j| j.grade));
                out.roles.push(match found {
                    Some(j) if j.label != Label::Negative => Role::Ignored,
                    _ => Role::Negative,
                });
            }
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
