//! Collections whose best threshold is known, because it was planted: for `polygrade calibrate --self-test` and tests.
//!
//! A language of such a collection has *concepts*, each with its own words for queries and for passages, so that
//! nothing but training tells which belong together. A query asks for three concepts; a passage is about three. The
//! true grade of a pair is the number of concepts that they share. Dev and test carry the true grades; what is planted
//! is in the training labels alone ([`Effect`]), in a share of the queries that [`Spec::strength`] says. The other
//! queries have labels under which every threshold is the same ([`Effect::Equal`]), so the planted effect grows from
//! nothing with the strength.
//!
//! Languages share neither letters nor words, and a language's texts and labels do not depend on the others: in a
//! mixture, each has the truth that it has alone.
//!
//! [`corrupt`] does the same to the labels of a real collection, where the truth is likely but not certain.

use crate::alteration::{passage_key, query_key};
use polygrade_data::{Collection, Index, Judgment, Lang, Meta, Passage, Query, Scale, Split};
use polygrade_encoder::{Init, NewStatic, NewStaticBase, TokenWeights};
use polygrade_nn::rng::CounterRng;
use polygrade_train::{Policy, Settings};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// What is wrong with a language's training labels, which lie on the scale 0..3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// A strict judge: related passages are called 1, and one query in five has a passage of a higher grade. τ = 1 is
    /// the best, as the others starve training.
    ScarceHigh,
    /// Grade 1 is given to unrelated passages, always those of the same wrong concepts, and grade 3 is scarce. τ = 2
    /// is the best.
    FalseOnes,
    /// Grades 1 and 2 are given to unrelated passages. τ = 3 is the best.
    FalseTwos,
    /// Every relevant text is there three times: with grade 3, again with grade 3, in one text of three with 1 or 2
    /// instead, and with grade 0. A passage of the same text as a positive is never a negative, so all thresholds have
    /// the same positive and the same negative texts. The models still differ, as which copies are drawn does.
    Equal,
}

impl Effect {
    /// All four, in the order of the thresholds that they favour.
    pub const ALL: [Effect; 4] = [Effect::ScarceHigh, Effect::FalseOnes, Effect::FalseTwos, Effect::Equal];

    /// Which threshold is the best.
    pub fn truth(self) -> Truth {
        match self {
            Effect::ScarceHigh => Truth::Best(Policy::Threshold(1.0)),
            Effect::FalseOnes => Truth::Best(Policy::Threshold(2.0)),
            Effect::FalseTwos => Truth::Best(Policy::Threshold(3.0)),
            Effect::Equal => Truth::Equivalent,
        }
    }
}

/// What is known of the thresholds 1, 2 and 3.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// This one is the best.
    Best(Policy),
    /// None is better than another.
    Equivalent,
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The languages, each with what is planted in it.
    pub langs: BTreeMap<Lang, Effect>,
    /// Share of the training queries that carry the effect, 0..1; at 0, all thresholds are equivalent.
    pub strength: f64,
    /// Training queries of each language.
    pub train: usize,
    /// Dev queries of each language.
    pub dev: usize,
    /// Test queries of each language.
    pub test: usize,
}

impl Default for Spec {
    /// Four languages, one for each effect, at half the strength.
    fn default() -> Self {
        let tags = ["sw", "de", "en", "fi"];
        let langs = tags.into_iter().filter_map(Lang::parse).zip(Effect::ALL).collect();
        Spec { langs, strength: 0.5, train: 384, dev: 80, test: 300 }
    }
}

/// A collection with what is known of it.
#[derive(Debug, Clone)]
pub struct Planted {
    /// The collection.
    pub collection: Collection,
    /// The truth of each language, in the monolingual scenario and in the mixture.
    pub truth: BTreeMap<Lang, Truth>,
}

/// Settings of training under which the effects show: the defaults, in fewer epochs at a higher rate.
pub fn settings() -> Settings {
    Settings { epochs: 6, rate: 0.01, ..Settings::default() }
}

/// The static encoder that is small enough for a planted collection.
pub fn encoder(collection: &Collection) -> polygrade_data::Result<NewStaticBase> {
    let texts: Vec<&str> = collection.passages.iter().map(|p| p.text.as_str()).collect();
    let documents: Vec<u32> = (0..texts.len() as u32).collect();
    let settings = NewStatic {
        vocab_size: 1500,
        dim: 32,
        projection: None,
        weights: TokenWeights::Idf,
        init: Init::Random,
    };
    NewStaticBase::new(&texts, &documents, &settings)
}

/// Concepts of a language.
const CONCEPTS: usize = 32;
/// Words of a concept that queries use, and as many that passages use.
const WORDS: usize = 3;
/// Triples of concepts that training queries ask for.
const TRIPLES: usize = 48;
/// Triples that dev and test queries ask for, in turn: no two of so many queries ask for the same passages.
const HELD: usize = 80;
/// Passages about a triple.
const PASSAGES: usize = 4;
/// Relevant texts of a query in [`Effect::Equal`].
const TEXTS: usize = 3;

/// Generates a collection.
pub fn collection(seed: u64, spec: &Spec) -> Planted {
    let meta = Meta {
        name: "planted".into(),
        licence: "CC0".into(),
        source: format!("generated, seed {seed}"),
        grades: Scale::up_to(3.0),
    };
    let mut out = Texts::default();
    for (i, (lang, effect)) in spec.langs.iter().enumerate() {
        let rng = CounterRng::new(seed).fork(xxh3_64(lang.as_str().as_bytes()));
        Language::new(lang, i, rng, &mut out).fill(spec, *effect, &mut out);
    }
    let truth = |effect: Effect| if spec.strength > 0.0 { effect.truth() } else { Truth::Equivalent };
    Planted {
        collection: Collection::from_parts(meta, out.passages, out.queries, out.judgments),
        truth: spec.langs.iter().map(|(lang, effect)| (lang.clone(), truth(*effect))).collect(),
    }
}

/// The collection with an effect planted in the training labels of queries in `lang`, in a `strength` of them (0..1).
/// All other grades stay as they are; texts in other languages keep their labels.
///
/// Grades of 1 and more become 1 ([`Effect::ScarceHigh`]); passages with grades in 0..2 ([`Effect::FalseOnes`]) or 0..3
/// ([`Effect::FalseTwos`]), both ends left out, give way to relevant passages of another query, always the same one.
/// [`Effect::Equal`] changes nothing.
pub fn corrupt(collection: &Collection, lang: &Lang, effect: Effect, strength: f64, seed: u64) -> Collection {
    // Queries in the language leave their groups: what is said of them must not reach their translations.
    let mut queries = collection.queries.clone();
    queries.iter_mut().filter(|q| q.lang == *lang).for_each(|q| q.group = None);
    let judgments = Split::ALL.map(|split| {
        let graded = collection.graded(split);
        let inside = |q: Index| collection.queries[q as usize].lang == *lang;
        let (own, mut out): (Vec<Judgment>, Vec<Judgment>) =
            collection.judgments(split).iter().partition(|j| inside(j.query));
        keep_for_translations(collection, lang, &own, &mut out);
        let own: Vec<Index> = graded.queries().iter().copied().filter(|q| inside(*q)).collect();
        let rng = CounterRng::new(seed).fork(0x636f).fork(xxh3_64(lang.as_str().as_bytes()));
        let mut order: Vec<Index> = own.clone();
        order.sort_by_key(|q| (rng.bits(query_key(&collection.queries[*q as usize])), *q));
        let next: FxHashMap<Index, Index> =
            order.iter().copied().zip(order.iter().copied().cycle().skip(1)).collect();
        for query in own {
            let mut labels: Vec<(Index, f32)> = graded.judged(query).collect();
            let key = query_key(&collection.queries[query as usize]);
            if split == Split::Train && rng.fork(1).uniform(key) < strength {
                let other: Vec<(Index, f32)> = graded.judged(next[&query]).collect();
                mislabel(collection, effect, &mut labels, &other);
            }
            out.extend(labels.into_iter().map(|(passage, grade)| Judgment { query, passage, grade }));
        }
        out
    });
    Collection::from_parts(collection.meta.clone(), collection.passages.clone(), queries, judgments)
}

/// Gives to translations what they had from judgments of queries in `lang` alone.
fn keep_for_translations(collection: &Collection, lang: &Lang, own: &[Judgment], out: &mut Vec<Judgment>) {
    let unit = |j: &Judgment| {
        let (q, p) = (&collection.queries[j.query as usize], &collection.passages[j.passage as usize]);
        (query_key(q), passage_key(p))
    };
    let mut known: FxHashSet<(u64, u64)> = out.iter().map(unit).collect();
    let mut translation: FxHashMap<u64, Index> = FxHashMap::default();
    for (i, q) in collection.queries.iter().enumerate().filter(|(_, q)| q.lang != *lang) {
        translation.entry(query_key(q)).or_insert(i as Index);
    }
    for j in own {
        if let Some(&query) = translation.get(&unit(j).0)
            && known.insert(unit(j))
        {
            out.push(Judgment { query, ..*j });
        }
    }
}

/// Plants an effect in the labels of a query; `other` are those of the query whose passages are taken for its own.
fn mislabel(collection: &Collection, effect: Effect, labels: &mut [(Index, f32)], other: &[(Index, f32)]) {
    let below = match effect {
        Effect::ScarceHigh => {
            return labels.iter_mut().filter(|l| l.1 > 1.0).for_each(|l| l.1 = 1.0);
        }
        Effect::Equal => return,
        Effect::FalseOnes => 2.0,
        Effect::FalseTwos => 3.0,
    };
    let mut judged: FxHashSet<Index> = labels.iter().map(|l| l.0).collect();
    for label in labels.iter_mut().filter(|l| l.1 > 0.0 && l.1 < below) {
        let lang = &collection.passages[label.0 as usize].lang;
        let fits = |(p, grade): &&(Index, f32)| {
            *grade > 0.0 && !judged.contains(p) && collection.passages[*p as usize].lang == *lang
        };
        if let Some(&(p, _)) = other.iter().find(fits) {
            judged.insert(p);
            label.0 = p;
        }
    }
}

#[derive(Default)]
struct Texts {
    passages: Vec<Passage>,
    queries: Vec<Query>,
    judgments: [Vec<Judgment>; 3],
}

/// Three concepts, ascending.
type Triple = [usize; 3];

/// The triples of a language and the passages about each; those for training come first, then those for dev and test,
/// then the wrong ones: for each of training the triple that a judge takes for it.
struct Language<'a> {
    lang: &'a Lang,
    rng: CounterRng,
    words: Vec<String>,
    triples: Vec<Triple>,
    passages: Vec<(Index, usize)>,
    /// Passages of the same text.
    copies: FxHashMap<Index, [Index; 2]>,
}

impl<'a> Language<'a> {
    fn new(lang: &'a Lang, place: usize, rng: CounterRng, out: &mut Texts) -> Self {
        let words = words(place, &rng.fork(1));
        let mut triples: Vec<Triple> = Vec::new();
        for i in 0u64.. {
            if triples.len() == TRIPLES + HELD {
                break;
            }
            let rng = rng.fork(2).fork(i);
            let mut triple = [0, 1, 2].map(|j| rng.below(j, CONCEPTS));
            triple.sort_unstable();
            let [a, b, c] = triple;
            // No concept is with its wrong one, or a passage would be right and wrong.
            let apart = a != b && b != c && shared(&triple, &wrong(&triple)) == 0;
            if apart && !triples.contains(&triple) {
                triples.push(triple);
            }
        }
        let errors: Vec<Triple> = triples[..TRIPLES].iter().map(wrong).collect();
        triples.extend(errors);
        let mut language =
            Language { lang, rng, words, triples, passages: Vec::new(), copies: FxHashMap::default() };
        for at in 0..language.triples.len() {
            for n in 0..PASSAGES {
                let text = language.passage(at, n);
                let index = language.add(text, out);
                language.passages.push((index, at));
            }
        }
        language
    }

    fn add(&self, text: String, out: &mut Texts) -> Index {
        let index = out.passages.len() as Index;
        let (id, lang) = (format!("{}-p{index}", self.lang), self.lang.clone());
        out.passages.push(Passage { id, title: None, text, lang, group: None });
        index
    }

    /// Two of the words of each concept, and a word of any kind.
    fn passage(&self, at: usize, n: usize) -> String {
        let rng = self.rng.fork(3).fork((at * PASSAGES + n) as u64);
        let mut words: Vec<&str> = Vec::new();
        for (i, concept) in self.triples[at].iter().enumerate() {
            let out = rng.below(i as u64, WORDS);
            let of = (0..WORDS).filter(|w| *w != out).map(|w| self.word(*concept, WORDS + w));
            words.extend(of);
        }
        words.push(&self.words[rng.below(10, CONCEPTS * 2 * WORDS)]);
        rng.fork(1).shuffle(&mut words);
        words.join(" ")
    }

    fn word(&self, concept: usize, n: usize) -> &str {
        &self.words[concept * 2 * WORDS + n]
    }

    /// The passages with so many of a triple's concepts, in random order.
    fn sharing(&self, triple: &Triple, count: usize, rng: &CounterRng) -> Vec<Index> {
        let all = self.passages.iter().filter(|(_, at)| shared(triple, &self.triples[*at]) == count);
        let mut found: Vec<Index> = all.map(|(p, _)| *p).collect();
        rng.shuffle(&mut found);
        found
    }

    fn fill(&mut self, spec: &Spec, effect: Effect, out: &mut Texts) {
        for (split, count) in Split::ALL.into_iter().zip([spec.train, spec.dev, spec.test]) {
            for n in 0..count {
                let rng = self.rng.fork(4 + split as u64).fork(n as u64);
                let at = match split {
                    Split::Train => rng.below(0, TRIPLES),
                    _ => TRIPLES + n % HELD,
                };
                let triple = self.triples[at];
                let words: Vec<&str> =
                    triple.iter().zip(1..).map(|(c, i)| self.word(*c, rng.below(i, WORDS))).collect();
                let query = out.queries.len() as Index;
                out.queries.push(Query {
                    id: format!("{}-{}{n}", self.lang, split.name()),
                    text: words.join(" "),
                    lang: self.lang.clone(),
                    group: None,
                });
                let graded = if split != Split::Train {
                    self.true_grades(&triple, &rng)
                } else if effect != Effect::Equal && rng.uniform(9) < spec.strength {
                    self.planted(at, effect, &rng)
                } else {
                    self.equal(&triple, &rng, out)
                };
                let judgments = graded.into_iter().map(|(passage, grade)| Judgment { query, passage, grade });
                out.judgments[split as usize].extend(judgments);
            }
        }
    }

    /// All passages that share two concepts or three, and some of those that share less, with their copies.
    fn true_grades(&self, triple: &Triple, rng: &CounterRng) -> Vec<(Index, f32)> {
        let most = [4, 8, usize::MAX, usize::MAX];
        let mut out = Vec::new();
        for count in (0..4).rev() {
            let found = self.sharing(triple, count, &rng.fork(count as u64));
            for p in found.into_iter().take(most[count]) {
                let copies = self.copies.get(&p).into_iter().flatten().copied();
                out.extend([p].into_iter().chain(copies).map(|p| (p, count as f32)));
            }
        }
        out
    }

    /// The labels that carry an effect.
    fn planted(&self, at: usize, effect: Effect, rng: &CounterRng) -> Vec<(Index, f32)> {
        let triple = self.triples[at];
        let of = |count: usize| self.sharing(&triple, count, &rng.fork(count as u64));
        let (exact, nothing) = (of(3), of(0));
        let related: Vec<Index> = of(2).into_iter().chain(exact.iter().rev().copied()).collect();
        let errors = self.sharing(&wrong(&triple), 3, &rng.fork(4));
        let mut out: Vec<(Index, f32)> = Vec::new();
        let mut give = |from: &[Index], count: usize, grade: f32| {
            let new = from.iter().filter(|p| out.iter().all(|(known, _)| known != *p));
            let new: Vec<(Index, f32)> = new.take(count).map(|p| (*p, grade)).collect();
            out.extend(new);
        };
        match effect {
            Effect::ScarceHigh => {
                let high = (rng.uniform(10) * 10.0) as usize;
                give(&exact, usize::from(high == 0), 3.0);
                give(&related, usize::from(high <= 1), 2.0);
                give(&related, 3, 1.0);
                give(&nothing, 3, 0.0);
            }
            Effect::FalseOnes => {
                let high = usize::from(rng.uniform(10) < 0.25);
                give(&exact, high, 3.0);
                give(&related, 2, 2.0);
                give(&errors, 4, 1.0);
                give(&nothing, 2, 0.0);
            }
            Effect::FalseTwos => {
                give(&exact, 2, 3.0);
                give(&errors, 2, 2.0);
                give(&errors, 2, 1.0);
                give(&nothing, 2, 0.0);
            }
            Effect::Equal => {}
        }
        out
    }

    /// The labels of [`Effect::Equal`]; copies are made where there are none yet.
    fn equal(&mut self, triple: &Triple, rng: &CounterRng, out: &mut Texts) -> Vec<(Index, f32)> {
        let mut graded = Vec::new();
        for (i, p) in self.sharing(triple, 3, &rng.fork(3)).into_iter().take(TEXTS).enumerate() {
            let [a, b] = self.copies.get(&p).copied().unwrap_or_else(|| {
                let text = &out.passages[p as usize].text.clone();
                [text, text].map(|text| self.add(text.clone(), out))
            });
            self.copies.insert(p, [a, b]);
            let mut same = [p, a, b];
            rng.fork(20).fork(i as u64).shuffle(&mut same);
            let second = if i == 0 { [1.0, 2.0][rng.below(11, 2)] } else { 3.0 };
            // The copy of grade 0 brings the text into the batch even where none of its positives is drawn.
            graded.extend(same.into_iter().zip([3.0, second, 0.0]));
        }
        graded.extend(self.sharing(triple, 0, &rng.fork(0)).into_iter().take(2).map(|p| (p, 0.0)));
        graded
    }
}

/// The concepts that a judge takes for these.
fn wrong(triple: &Triple) -> Triple {
    let mut out = triple.map(|c| (c + CONCEPTS / 2) % CONCEPTS);
    out.sort_unstable();
    out
}

fn shared(a: &Triple, b: &Triple) -> usize {
    a.iter().filter(|c| b.contains(c)).count()
}

/// Words of two syllables, in letters that the languages at other places do not use.
fn words(place: usize, rng: &CounterRng) -> Vec<String> {
    const CONSONANTS: usize = 5;
    const VOWELS: usize = 4;
    let letters: Vec<char> =
        ('a'..='z').chain('α'..='ρ').chain('б'..='щ').chain('ա'..='ֆ').chain('ა'..='ჰ').collect();
    let from = place * (CONSONANTS + VOWELS) % (letters.len() - CONSONANTS - VOWELS + 1);
    let (consonants, vowels) = letters[from..from + CONSONANTS + VOWELS].split_at(CONSONANTS);
    let syllables: Vec<String> =
        consonants.iter().flat_map(|c| vowels.iter().map(move |v| format!("{c}{v}"))).collect();
    let mut words: Vec<String> =
        syllables.iter().flat_map(|a| syllables.iter().map(move |b| format!("{a}{b}"))).collect();
    rng.shuffle(&mut words);
    words
}
