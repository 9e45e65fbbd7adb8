//! What each query is trained on, in a scenario and under a label policy, and the roles in a batch.
//!
//! Invariants, kept by construction and tested: a judged positive of a query is never its negative, whether
//! it came with the query or with another one of the batch; nor is a passage that the policy leaves out, a
//! translation of either, or a passage of the same text.
//!
//! Unless [`Batching`] says otherwise, a batch keeps to one language of passages as far as it can: in a mixture its
//! queries share their language, across languages they meet passages of one drawn language. Passages in another
//! language than the positive are negatives that the language alone gives away, and teach little.

mod negatives;
mod table;

pub use negatives::{Added, HardNegatives};

use crate::batches::{Batching, Composition, Deck, Draw, lang_shares, rounded};
use crate::labelled::Labelled;
use crate::labels::{Label, LabelPolicies, Policy};
use crate::loss::{Role, TeacherScores};
use polygrade_data::{Collection, Graded, Index, Lang};
use polygrade_nn::rng::CounterRng;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use table::{Example, Gather, Table, Variant};

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

/// A positive: the number that it shares with its translations, its language's place, itself.
type Translation = (u32, usize, Index);

/// A judged text of a query; of several passages with this text, the highest grade and label.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Judged {
    text: u32,
    grade: f32,
    label: Label,
    /// That of the languages of query and passage.
    policy: Policy,
}

/// The training examples of a split.
#[derive(Debug, Clone)]
pub struct Examples {
    table: Table,
    /// For each passage a number that passages of the same text and language share.
    text_of: Vec<u32>,
    /// For each passage a number that its translations share; empty unless parallel positives are asked for.
    unit_of: Vec<u32>,
    scenario: Scenario,
    batching: Batching,
    max_grade: f32,
    langs: Vec<Lang>,
    teacher: Option<Arc<TeacherScores>>,
    /// The teacher's scores by query and text, of texts that several passages share.
    teacher_of_text: FxHashMap<(Index, u32), f32>,
    /// Examples of each language that have a positive where their batches look for it: in the scenario or, in hybrid
    /// batches, in their own language; and those with one in another language.
    decks: [Vec<Vec<u32>>; 2],
    /// Hard negatives from a file that each query brings to a batch, at most.
    mined_per_query: usize,
}

/// For each passage a number, from 0, that passages of the same text and language share.
pub(crate) fn text_numbers(collection: &Collection) -> Vec<u32> {
    // With room for all: a table that grows hashes every text again.
    let mut texts: FxHashMap<(&Lang, std::borrow::Cow<str>), u32> =
        FxHashMap::with_capacity_and_hasher(collection.passages.len(), Default::default());
    let number = collection.passages.iter().map(|p| {
        let next = texts.len() as u32;
        *texts.entry((&p.lang, p.full_text())).or_insert(next)
    });
    number.collect()
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
    /// What graded losses aim at for each judged pair, as its own label and policy say ([`Policy::aim`]); NaN where it is
    /// not judged or takes no part. Queries × candidates.
    pub aims: Vec<f64>,
    /// The policy of each query.
    pub policies: Vec<Policy>,
    /// The place of each query's language among [`Examples::langs`].
    pub langs: Vec<usize>,
    /// Room that is kept from batch to batch.
    pub scratch: Scratch,
}

/// Bits of a filter of the texts in a batch.
const BITS: usize = 2048;

/// Room that one batch leaves to the next; it says nothing of either.
#[derive(Debug, Default, Clone)]
pub struct Scratch {
    /// The column of each text.
    column: FxHashMap<u32, u32>,
    /// Rows and columns of positives.
    own: Vec<(usize, u32)>,
    picked: Vec<Index>,
}

impl PartialEq for Scratch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
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
    /// Gathers the examples of `split` in the given languages, for batches as [`Batching::default`] makes them.
    pub fn new(
        collection: &Collection,
        graded: &Graded,
        scenario: Scenario,
        langs: &[Lang],
        policies: &LabelPolicies,
    ) -> Self {
        Self::for_batches(collection, graded, scenario, langs, policies, &Batching::default())
    }

    /// Gathers the examples of `split` in the given languages. Hybrid batches are for the mixture: in another scenario
    /// they are taken as homogeneous.
    pub fn for_batches(
        collection: &Collection,
        graded: &Graded,
        scenario: Scenario,
        langs: &[Lang],
        policies: &LabelPolicies,
        batching: &Batching,
    ) -> Self {
        let batching = batching.in_scenario(scenario);
        let hybrid = batching.composition.is_hybrid();
        let passages = 0..collection.passages.len() as Index;
        let unit_of = passages.filter(|_| batching.parallel_positives).map(|p| graded.passage_unit(p));
        let (text_of, unit_of) = (text_numbers(collection), unit_of.collect::<Vec<u32>>());
        let labelled = Labelled::new(collection, graded, scenario, langs, policies, hybrid);
        let (all, langs) = (langs.len(), langs.to_vec());
        let gather =
            Gather { labelled: &labelled, scenario, langs: all, text_of: &text_of, unit_of: &unit_of };
        let table = gather.table();
        let mut decks = [vec![Vec::new(); all], vec![Vec::new(); all]];
        for (number, example) in (0..).zip(&table.examples) {
            let own = |v: &Variant| !hybrid || v.lang == example.lang;
            let variants = table.variants(example);
            if variants.iter().any(own) {
                decks[0][example.lang].push(number);
            }
            if !variants.iter().all(own) {
                decks[1][example.lang].push(number);
            }
        }
        Examples {
            table,
            text_of,
            unit_of,
            scenario,
            langs,
            teacher: None,
            teacher_of_text: FxHashMap::default(),
            batching,
            max_grade: collection.meta.grades.max,
            decks,
            mined_per_query: 0,
        }
    }

    /// Queries of the scenario that have no positive under the policy, and so are not trained on.
    pub fn without_positive(&self) -> usize {
        self.table.without_positive
    }

    /// Number of queries trained on.
    pub fn len(&self) -> usize {
        self.table.examples.len()
    }

    /// Whether there is nothing to train on.
    pub fn is_empty(&self) -> bool {
        self.table.examples.is_empty()
    }

    /// Whether they were gathered for such batches.
    pub fn are_for(&self, batching: &Batching) -> bool {
        batching.in_scenario(self.scenario) == self.batching
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
        let mut passages_of = vec![0u32; self.text_of.len()];
        self.text_of.iter().for_each(|t| passages_of[*t as usize] += 1);
        let shared = teacher.iter().filter(|(_, p, _)| passages_of[self.text_of[*p as usize] as usize] > 1);
        let mut shared: Vec<(Index, Index, f32)> = shared.collect();
        // The last entry of a key stays: that of the first passage.
        shared.sort_unstable_by_key(|(q, p, _)| (*q, std::cmp::Reverse(*p)));
        self.teacher_of_text =
            shared.into_iter().map(|(q, p, s)| ((q, self.text_of[p as usize]), s)).collect();
        self.teacher = Some(teacher);
    }

    /// The teacher's score of a pair: that of the passage, else that of another one with its text.
    fn teacher_score(&self, query: Index, passage: Index) -> Option<f32> {
        let of_text = || self.teacher_of_text.get(&(query, self.text_of[passage as usize])).copied();
        self.teacher.as_ref().and_then(|t| t.get(query, passage)).or_else(of_text)
    }

    /// How many pairs of a query and a judged passage are trained on, and how many of them have no teacher's score.
    pub fn without_teacher(&self) -> (usize, usize) {
        let (mut pairs, mut without) = (0, 0);
        for e in &self.table.examples {
            let lists = |v: &Variant| [v.positives, v.negatives].map(|l| l.of(&self.table.passages));
            for passage in self.table.variants(e).iter().flat_map(lists).flatten() {
                pairs += 1;
                without += usize::from(self.teacher_score(e.query, *passage).is_none());
            }
        }
        (pairs, without)
    }

    /// Writes the teacher's score of each pair of a batch, NaN where there is none; nothing without a teacher.
    pub fn teacher_scores(&self, batch: &Batch, out: &mut Vec<f32>) {
        out.clear();
        if self.teacher.is_none() {
            return;
        }
        for &q in &batch.queries {
            out.extend(batch.passages.iter().map(|p| self.teacher_score(q, *p).unwrap_or(f32::NAN)));
        }
    }

    /// The number of a passage's text, shared by passages of the same text and language.
    pub fn text_of(&self, passage: Index) -> u32 {
        self.text_of[passage as usize]
    }

    /// Feeds everything that decides the batches to `add`, to tell sets of examples apart.
    pub fn fingerprint(&self, mut add: impl FnMut(u64)) {
        add(self.scenario as u64);
        add(u64::from(self.max_grade.to_bits()));
        self.langs.iter().flat_map(|l| l.as_str().bytes().chain([0])).for_each(|b| add(u64::from(b)));
        self.teacher.iter().for_each(|t| add(t.fingerprint()));
        self.table.queries_by_lang.iter().for_each(|n| add(*n as u64));
        add(self.mined_per_query as u64);
        for e in &self.table.examples {
            add(u64::from(e.query));
            for v in self.table.variants(e) {
                // Of a threshold or a band the labels and aims say all; two that label alike train alike.
                if !matches!(v.policy, Policy::Threshold(_) | Policy::Band { .. }) {
                    v.policy.to_string().bytes().for_each(|b| add(u64::from(b)));
                }
                let t = &self.table;
                let lists = [v.positives.of(&t.passages), v.negatives.of(&t.passages), v.mined.of(&t.mined)];
                add(v.lang as u64);
                lists.iter().for_each(|list| add(list.len() as u64));
                lists.into_iter().flatten().for_each(|p| add(u64::from(*p)));
            }
            e.parallel.of(&self.table.parallel).iter().for_each(|(_, _, p)| add(u64::from(*p)));
            e.judged.of(&self.table.judged).iter().for_each(|j| {
                let aim = j.policy.aim(j.label, j.grade, self.max_grade);
                [u64::from(j.text), u64::from(j.grade.to_bits()), j.label as u64, aim.to_bits()]
                    .into_iter()
                    .for_each(&mut add);
            });
        }
    }

    /// Pairs of query and positive in an epoch; a query that meets several languages meets one of them at a time.
    pub fn pairs_per_epoch(&self, per_query: PerQuery) -> f64 {
        let of = |v: &Variant| v.positives.of(&self.table.passages).len().min(per_query.positives) as f64;
        let mean = |e: &Example| {
            let variants = self.table.variants(e);
            variants.iter().map(of).sum::<f64>() / variants.len() as f64
        };
        self.table.examples.iter().map(mean).sum()
    }

    /// Steps in an epoch. They follow from the scenario's queries alone, not from how many of them the policy
    /// left a positive, so that models under different policies train equally long.
    pub fn steps_per_epoch(&self, batch: usize) -> usize {
        self.parts().map(|(_, n)| n.div_ceil(batch.max(1))).sum()
    }

    /// The parts that batches do not cross: a language each in a mixture, else everything. (language, queries)
    fn parts(&self) -> impl Iterator<Item = (Option<usize>, usize)> + '_ {
        let by_lang = self.by_lang();
        let whole = (!by_lang).then(|| (None, self.table.queries_by_lang.iter().sum()));
        let parts = self
            .table
            .queries_by_lang
            .iter()
            .enumerate()
            .filter(move |_| by_lang)
            .map(|(l, n)| (Some(l), *n));
        parts.chain(whole).filter(|(_, n)| *n > 0)
    }

    /// Whether the queries of a batch share their language.
    fn by_lang(&self) -> bool {
        self.scenario == Scenario::Mixture && self.batching.composition != Composition::Mixed
    }

    /// The batches of an epoch, [`Examples::steps_per_epoch`] of them, in random order.
    pub fn epoch(&self, batch: usize, rng: &CounterRng) -> Vec<Draw> {
        let batch = batch.max(1);
        let Batching { lang_sampling, composition, .. } = self.batching;
        let plain = self.is_empty() || (lang_sampling == 1.0 && !composition.is_hybrid());
        let mut out = if plain { self.each_once(batch, rng) } else { self.sampled(batch, rng) };
        rng.fork(0).shuffle(&mut out);
        out
    }

    /// Batches in which every example occurs once.
    fn each_once(&self, batch: usize, rng: &CounterRng) -> Vec<Draw> {
        let mut out = Vec::new();
        for (lang, queries) in self.parts() {
            let mut order: Vec<u32> = match lang {
                Some(lang) => self.decks[0][lang].clone(),
                None => (0..self.table.examples.len() as u32).collect(),
            };
            rng.fork(1 + lang.map_or(0, |l| l as u64)).shuffle(&mut order);
            let steps = queries.div_ceil(batch);
            // With fewer examples than queries the batches are smaller, never fewer.
            out.extend((0..steps).map(|i| Draw {
                examples: order[i * order.len() / steps..(i + 1) * order.len() / steps].to_vec(),
                across: false,
            }));
        }
        out
    }

    /// Batches by the languages' shares, in hybrid training some of them across languages.
    fn sampled(&self, batch: usize, rng: &CounterRng) -> Vec<Draw> {
        let steps = self.steps_per_epoch(batch);
        let [own, others] = &self.decks;
        let across = match self.batching.composition {
            _ if others.iter().all(Vec::is_empty) => 0,
            _ if own.iter().all(Vec::is_empty) => steps,
            Composition::Hybrid(share) => {
                let share = f64::from(share);
                rounded(&[share, 1.0 - share], steps, rng.fork(1).uniform(0))[0]
            }
            _ => 0,
        };
        let mut out = Vec::with_capacity(steps);
        if self.by_lang() {
            self.batches_of_one_language(batch, steps - across, &rng.fork(2), &mut out);
        } else {
            self.batches_of_all_languages(own, batch, steps, &rng.fork(2), &mut out);
        }
        let mut mixed = Vec::new();
        self.batches_of_all_languages(others, batch, across, &rng.fork(3), &mut mixed);
        out.extend(mixed.into_iter().map(|draw| Draw { across: true, ..draw }));
        out
    }

    /// The languages' shares, of those that have members.
    fn shares(&self, members: &[Vec<u32>]) -> Vec<f64> {
        let some = |(n, members): (&usize, &Vec<u32>)| if members.is_empty() { 0 } else { *n };
        let queries: Vec<usize> = self.table.queries_by_lang.iter().zip(members).map(some).collect();
        lang_shares(&queries, self.batching.lang_sampling)
    }

    /// `steps` batches by the languages' shares, each as large as the language's batches are when every example
    /// occurs once.
    fn batches_of_one_language(&self, batch: usize, steps: usize, rng: &CounterRng, out: &mut Vec<Draw>) {
        let members = &self.decks[0];
        let steps = rounded(&self.shares(members), steps, rng.fork(0).uniform(0));
        for (lang, steps) in steps.into_iter().enumerate() {
            let (size, all) = (members[lang].len(), self.table.queries_by_lang[lang].div_ceil(batch).max(1));
            let mut deck = Deck::new(&members[lang], rng.fork(1 + lang as u64));
            out.extend((0..steps).map(|i| {
                let i = i % all;
                let mut draw = Draw::default();
                deck.deal(((i + 1) * size / all - i * size / all).max(1), &mut draw.examples);
                draw
            }));
        }
    }

    /// `steps` batches of the members of all languages, which have their shares of the queries.
    fn batches_of_all_languages(
        &self,
        members: &[Vec<u32>],
        batch: usize,
        steps: usize,
        rng: &CounterRng,
        out: &mut Vec<Draw>,
    ) {
        let (size, queries) =
            (members.iter().map(Vec::len).sum::<usize>(), self.table.queries_by_lang.iter().sum());
        let all = usize::div_ceil(queries, batch).max(1);
        let counts = rounded(&self.shares(members), steps * size / all, rng.fork(0).uniform(0));
        let mut order: Vec<usize> =
            counts.iter().enumerate().flat_map(|(lang, n)| std::iter::repeat_n(lang, *n)).collect();
        rng.fork(1).shuffle(&mut order);
        let mut decks: Vec<Deck> =
            members.iter().enumerate().map(|(l, m)| Deck::new(m, rng.fork(2 + l as u64))).collect();
        for i in 0..steps {
            let here = &order[i * order.len() / steps..(i + 1) * order.len() / steps];
            let mut draw = Draw::default();
            for (lang, deck) in decks.iter_mut().enumerate() {
                deck.deal(here.iter().filter(|l| **l == lang).count(), &mut draw.examples);
            }
            out.push(draw);
        }
    }

    /// The passages that a query meets in a batch whose language is `target`.
    fn variant<'e>(
        &'e self,
        example: &'e Example,
        across: bool,
        target: usize,
        rng: &CounterRng,
    ) -> &'e Variant {
        let hybrid = self.batching.composition.is_hybrid();
        let fits = |v: &&Variant| !hybrid || (v.lang != example.lang) == across;
        let at_target = |v: &&Variant| v.lang == target && self.batching.composition != Composition::Mixed;
        let variants = self.table.variants(example);
        let among = variants.iter().filter(fits);
        let drawn = || among.clone().nth(rng.below(0, among.clone().count()));
        // Only examples that have one are dealt to a batch.
        among.clone().find(at_target).or_else(drawn).unwrap_or(&variants[0])
    }

    /// The batch of a draw. Where queries meet several languages, one is drawn for the batch, and another for a query
    /// that has none in it; where a query has more passages than fit, some are.
    pub fn batch(&self, draw: &Draw, per_query: PerQuery, rng: &CounterRng, out: &mut Batch) {
        out.queries.clear();
        out.passages.clear();
        out.policies.clear();
        out.langs.clear();
        let target = rng.below(0, self.table.queries_by_lang.len().max(1));
        let Scratch { mut column, mut own, mut picked } = std::mem::take(&mut out.scratch);
        column.clear();
        own.clear();
        for (row, &at) in draw.examples.iter().enumerate() {
            let example = &self.table.examples[at as usize];
            let rng = rng.fork(u64::from(example.query));
            out.queries.push(example.query);
            let variant = self.variant(example, draw.across, target, &rng);
            out.policies.push(variant.policy);
            out.langs.push(example.lang);
            let mut add = |passage: Index, positive: bool| {
                let next = out.passages.len() as u32;
                let slot = *column.entry(self.text_of(passage)).or_insert_with(|| {
                    out.passages.push(passage);
                    next
                });
                if positive {
                    own.push((row, slot));
                }
            };
            pick(variant.positives.of(&self.table.passages), per_query.positives, &rng.fork(1), &mut picked);
            picked.iter().for_each(|p| add(*p, true));
            if self.batching.parallel_positives {
                for &p in &picked {
                    self.translation(example, variant.lang, p, &rng.fork(4))
                        .into_iter()
                        .for_each(|t| add(t, true));
                }
            }
            pick(variant.negatives.of(&self.table.passages), per_query.negatives, &rng.fork(2), &mut picked);
            picked.iter().for_each(|p| add(*p, false));
            pick(variant.mined.of(&self.table.mined), self.mined_per_query, &rng.fork(3), &mut picked);
            picked.iter().for_each(|p| add(*p, false));
        }
        let mut filter = [0u64; BITS / 64];
        column.keys().for_each(|t| filter[*t as usize % BITS / 64] |= 1 << (t % 64));
        let cols = out.passages.len();
        out.roles.clear();
        out.roles.resize(draw.examples.len() * cols, Role::Negative);
        out.grades.clear();
        out.grades.resize(draw.examples.len() * cols, f32::NAN);
        out.aims.clear();
        out.aims.resize(draw.examples.len() * cols, f64::NAN);
        for (row, &at) in draw.examples.iter().enumerate() {
            for judged in self.table.examples[at as usize].judged.of(&self.table.judged) {
                // Most judged texts are not in the batch, and a bit tells most of these.
                if filter[judged.text as usize % BITS / 64] & (1 << (judged.text % 64)) == 0 {
                    continue;
                }
                let Some(&slot) = column.get(&judged.text) else { continue };
                let place = row * cols + slot as usize;
                out.grades[place] = judged.grade;
                out.aims[place] = judged.policy.aim(judged.label, judged.grade, self.max_grade);
                if judged.label != Label::Negative {
                    out.roles[place] = Role::Ignored;
                }
            }
        }
        for &(row, slot) in &own {
            out.roles[row * cols + slot as usize] = Role::Positive;
        }
        out.scratch = Scratch { column, own, picked };
    }

    /// A translation of a positive in another language than `lang`, drawn evenly; it is a positive itself.
    fn translation(
        &self,
        example: &Example,
        lang: usize,
        positive: Index,
        rng: &CounterRng,
    ) -> Option<Index> {
        let unit = self.unit_of[positive as usize];
        let parallel = example.parallel.of(&self.table.parallel);
        let from = parallel.partition_point(|(u, _, _)| *u < unit);
        let others =
            parallel[from..].iter().take_while(|(u, _, _)| *u == unit).filter(|(_, l, _)| *l != lang);
        let n = others.clone().count();
        others.clone().nth(rng.below(u64::from(positive), n)).map(|(_, _, p)| *p)
    }
}

/// Puts up to `most` of the items to `picked`, in an order that the generator decides where there are more.
fn pick(items: &[Index], most: usize, rng: &CounterRng, picked: &mut Vec<Index>) {
    picked.clear();
    picked.extend_from_slice(items);
    if items.len() > most {
        rng.shuffle(picked);
        picked.truncate(most);
    }
}
