//! The judged pairs that meet in training, each with its label: what [`Examples`](crate::Examples) trains on and what
//! `polygrade labels` shows are both made of these.

use crate::examples::Scenario;
use crate::labels::{Label, LabelPolicies, Policy};
use polygrade_data::{Collection, Graded, Index, Lang, Origin, mean};
use polygrade_nn::rng::CounterRng;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// A judged passage of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The passage.
    pub passage: Index,
    /// The grade, its own or that of a translation; the mean where several judged the pair.
    pub grade: f32,
    /// What the pair is in training.
    pub label: Label,
    /// The policy of its languages.
    pub policy: Policy,
    /// The place of the passage's language among those of training; `None` where the two do not meet in training,
    /// and the label only keeps the passage from being a negative.
    pub lang: Option<usize>,
}

/// The judgments of a split under policies, in a scenario.
pub struct Labelled<'a> {
    collection: &'a Collection,
    graded: &'a Graded,
    scenario: Scenario,
    langs: &'a [Lang],
    policies: &'a LabelPolicies,
    /// Whether queries also meet passages that the scenario alone keeps from them.
    all_pairs: bool,
    /// For each passage the number of its language; those of training come first.
    passage_lang: Vec<u32>,
    /// The languages of the passages, those of training first.
    numbered: Vec<&'a Lang>,
    /// The policies of a query language's pairs: training languages × numbered languages.
    table: Vec<Policy>,
}

impl<'a> Labelled<'a> {
    /// The judgments `graded` of queries in `langs`. With `all_pairs`, a query's passages in its own language and in
    /// others meet it, whatever the scenario says (hybrid batches).
    pub fn new(
        collection: &'a Collection,
        graded: &'a Graded,
        scenario: Scenario,
        langs: &'a [Lang],
        policies: &'a LabelPolicies,
        all_pairs: bool,
    ) -> Self {
        let mut numbers: FxHashMap<&Lang, u32> = langs.iter().zip(0..).collect();
        let mut numbered: Vec<&Lang> = langs.iter().collect();
        let passage_lang = collection.passages.iter().map(|p| {
            *numbers.entry(&p.lang).or_insert_with(|| {
                numbered.push(&p.lang);
                numbered.len() as u32 - 1
            })
        });
        let passage_lang = passage_lang.collect();
        let of = |q| numbered.iter().map(move |p| policies.of(scenario, q, p));
        let table = langs.iter().flat_map(of).collect();
        Labelled { collection, graded, scenario, langs, policies, all_pairs, passage_lang, numbered, table }
    }

    /// The judged queries with the places of their languages; those in other languages are left out.
    pub fn queries(&self) -> impl Iterator<Item = (Index, usize)> + '_ {
        let places: FxHashMap<&Lang, usize> = self.langs.iter().zip(0..).collect();
        let lang = |q: Index| &self.collection.queries[q as usize].lang;
        self.graded.queries().iter().filter_map(move |&q| Some((q, *places.get(lang(q))?)))
    }

    /// The place of a passage's language among those of training, if it is one of them.
    pub(crate) fn place_of(&self, passage: Index) -> Option<usize> {
        let lang = self.passage_lang[passage as usize] as usize;
        (lang < self.langs.len()).then_some(lang)
    }

    /// The judged passages of a query, whose language is at place `query_lang`, in file order.
    pub fn pairs(&self, query: Index, query_lang: usize) -> impl Iterator<Item = Pair> + '_ {
        let across = self.scenario == Scenario::CrossLingual;
        self.graded.judged(query).map(move |(passage, grade)| {
            let lang = self.passage_lang[passage as usize] as usize;
            let policy = self.table[query_lang * self.numbered.len() + lang];
            let meets = lang < self.langs.len() && (self.all_pairs || across != (lang == query_lang));
            let label = self.voted(query, passage, grade, query_lang).unwrap_or_else(|| policy.label(grade));
            Pair { passage, grade, label, policy, lang: meets.then_some(lang) }
        })
    }

    /// The single judgments behind a grade, each with the label of its own policy: nothing where the collection names
    /// no annotators or sources, or where the grade is one that was put in place of theirs.
    pub fn votes(
        &self,
        query: Index,
        query_lang: usize,
        passage: Index,
        grade: f32,
    ) -> impl Iterator<Item = (f32, Origin<'_>, Label)> {
        let of = move |(q, p)| self.collection.votes_of(q, p);
        let given_to = self.graded.given_to(query, passage);
        let theirs = |pair: &(Index, Index)| {
            of(*pair).next().is_some() && mean(of(*pair).map(|v| v.0)).to_bits() == grade.to_bits()
        };
        let langs = (&self.langs[query_lang], &self.collection.passages[passage as usize].lang);
        let label = move |grade: f32, origin| {
            self.policies.of_judgment(self.scenario, langs.0, langs.1, origin).label(grade)
        };
        let votes = given_to.filter(theirs).into_iter().flat_map(of);
        votes.map(move |(grade, origin)| (grade, origin, label(grade, origin)))
    }

    fn voted(&self, query: Index, passage: Index, grade: f32, query_lang: usize) -> Option<Label> {
        if !self.collection.has_votes() {
            return None;
        }
        let mut labels = self.votes(query, query_lang, passage, grade).map(|(_, _, label)| label).peekable();
        labels.peek()?;
        Some(Label::majority(labels))
    }

    /// How the judgments of each annotator and source are labelled, wherever they are used: by [`Label`].
    pub fn counts_by_origin(&self) -> BTreeMap<(String, String), [u64; 3]> {
        let mut out: BTreeMap<(String, String), [u64; 3]> = BTreeMap::new();
        for (query, query_lang) in self.queries() {
            for pair in self.pairs(query, query_lang).filter(|p| p.lang.is_some()) {
                for (_, origin, label) in self.votes(query, query_lang, pair.passage, pair.grade) {
                    let name = |name: Option<&str>| name.unwrap_or("").to_owned();
                    out.entry((name(origin.annotator), name(origin.source))).or_default()[label as usize] +=
                        1;
                }
            }
        }
        out
    }

    /// What the labels come to, for each pair of languages that meet: by the places of query and passage language.
    pub fn counts(&self) -> BTreeMap<(usize, usize), Counts> {
        let mut out: BTreeMap<(usize, usize), Counts> = BTreeMap::new();
        for (query, query_lang) in self.queries() {
            let mut with_positive: BTreeMap<usize, bool> = BTreeMap::new();
            for pair in self.pairs(query, query_lang) {
                let Some(lang) = pair.lang else { continue };
                let counts = out.entry((query_lang, lang)).or_insert_with(|| Counts::new(pair.policy));
                counts.pairs[pair.label as usize] += 1;
                *with_positive.entry(lang).or_default() |= pair.label == Label::Positive;
            }
            for (lang, positive) in with_positive {
                if let Some(counts) = out.get_mut(&(query_lang, lang)) {
                    counts.queries += 1;
                    counts.without_positive += u64::from(!positive);
                }
            }
        }
        out
    }

    /// Up to `most` pairs of each label, drawn evenly among those that meet, in the order of the draw.
    pub fn samples(&self, most: usize, seed: u64) -> [Vec<(Index, Pair)>; 3] {
        let rng = CounterRng::new(seed);
        let mut kept: [BTreeMap<(u64, Index, Index), Pair>; 3] = Default::default();
        for (query, query_lang) in self.queries() {
            let rng = rng.fork(u64::from(query));
            for pair in self.pairs(query, query_lang).filter(|p| p.lang.is_some()) {
                let kept = &mut kept[pair.label as usize];
                kept.insert((rng.bits(u64::from(pair.passage)), query, pair.passage), pair);
                if kept.len() > most {
                    kept.pop_last();
                }
            }
        }
        kept.map(|k| k.into_iter().map(|((_, query, _), pair)| (query, pair)).collect())
    }
}

/// The labels of one query language's judgments of passages in one language.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// The policy of the two languages.
    pub policy: Policy,
    /// Judged queries that meet passages of the language.
    pub queries: u64,
    /// Those of them without a positive, which are not trained on with these passages.
    pub without_positive: u64,
    /// Pairs by [`Label`]: negatives, dropped, positives.
    pub pairs: [u64; 3],
}

impl Counts {
    fn new(policy: Policy) -> Self {
        Counts { policy, queries: 0, without_positive: 0, pairs: [0; 3] }
    }
}
