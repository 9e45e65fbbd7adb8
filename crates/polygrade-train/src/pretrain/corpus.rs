//! The texts of pretraining, as tokens of the student, and how they belong together.
//!
//! Texts stream by in blocks: of each, its tokens and a hash stay. Of texts in the pivot language the teacher's vectors
//! go to a file ([`TeacherStore`]).

use super::teacher::TeacherStore;
use polygrade_data::bitext::Aligned;
use polygrade_data::{Lang, Result};
use polygrade_encoder::{TextEncoder, TextKind};
use polygrade_nn::bag::Bags;
use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// No teacher's vector.
pub(super) const NONE: u32 = u32::MAX;

/// One in so many pivot texts is held out, with all its translations.
const HELD_OUT: u64 = 200;

/// At most so many held-out pairs of a language are looked at.
const HELD_OUT_MOST: usize = 500;

/// A text alone is cropped where it has so many tokens.
const CROPPED_FROM: usize = 16;

/// The texts.
pub struct Corpus {
    pub(super) tokens: Bags,
    /// A number that known translations share, directly or through others.
    pub(super) meaning: Vec<u32>,
    /// The row of the teacher's vector that a text is to have; [`NONE`] where there is none.
    pub(super) taught: Vec<u32>,
    /// Pairs of texts by language; a text with itself is one to crop.
    pub(super) pairs: Vec<Vec<[u32; 2]>>,
    pub(super) held: Vec<Vec<[u32; 2]>>,
    langs: Vec<Lang>,
    fingerprint: u64,
}

impl Corpus {
    /// The languages that there are texts of.
    pub fn langs(&self) -> &[Lang] {
        &self.langs
    }

    /// Pairs to train on, of each language; a pair of two languages without the pivot counts in both.
    pub fn pairs(&self) -> impl Iterator<Item = (&Lang, usize)> {
        self.langs.iter().zip(&self.pairs).map(|(lang, pairs)| (lang, pairs.len()))
    }

    /// Number of distinct texts.
    pub fn texts(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens of all texts.
    pub fn bags(&self) -> &Bags {
        &self.tokens
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens.tokens.len()
    }

    /// A number that other texts do not share.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// Gathers the texts.
pub struct CorpusBuilder<'a> {
    student: &'a dyn TextEncoder,
    teacher: Option<(&'a dyn TextEncoder, &'a mut TeacherStore)>,
    /// The pivot first.
    langs: Vec<Lang>,
    crops: bool,
    block: Vec<Aligned>,
    numbers: FxHashMap<u64, u32>,
    out: Corpus,
    seen: FxHashSet<(u32, u32)>,
    held_texts: FxHashSet<u32>,
    hash: Xxh3,
}

/// Groups that are looked at together.
const BLOCK: usize = 8192;

impl<'a> CorpusBuilder<'a> {
    /// Of the languages, the first is the pivot: the teacher's own.
    pub fn new(
        student: &'a dyn TextEncoder,
        teacher: Option<(&'a dyn TextEncoder, &'a mut TeacherStore)>,
        langs: &[Lang],
        crops: bool,
    ) -> Self {
        let none = || vec![Vec::new(); langs.len()];
        CorpusBuilder {
            student,
            teacher,
            langs: langs.to_vec(),
            crops,
            block: Vec::with_capacity(BLOCK),
            numbers: FxHashMap::default(),
            out: Corpus {
                tokens: Bags::new(),
                meaning: Vec::new(),
                taught: Vec::new(),
                pairs: none(),
                held: none(),
                langs: langs.to_vec(),
                fingerprint: 0,
            },
            seen: FxHashSet::default(),
            held_texts: FxHashSet::default(),
            hash: Xxh3::new(),
        }
    }

    /// Texts that the teacher has seen in this run or an earlier one.
    pub fn taught(&self) -> usize {
        self.teacher.as_ref().map_or(0, |(_, store)| store.len())
    }

    /// Adds texts that say the same; those in other languages are passed over.
    ///
    /// # Errors
    /// The teacher's vectors cannot be written.
    pub fn add(&mut self, mut texts: Aligned) -> Result<()> {
        texts.retain(|(lang, _)| lang.place_in(&self.langs).is_some());
        if texts.len() > usize::from(!self.crops) {
            self.block.push(texts);
        }
        if self.block.len() == BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.block);
        let (mut new, mut pivots) = (Vec::new(), Vec::new());
        let mut groups: Vec<Vec<(usize, u32)>> = Vec::with_capacity(block.len());
        for texts in &block {
            let mut group = Vec::with_capacity(texts.len());
            for (lang, text) in texts {
                let Some(place) = lang.place_in(&self.langs) else { continue };
                let key = xxh3_64(text.as_bytes());
                let next = self.numbers.len() as u32;
                let number = *self.numbers.entry(key).or_insert_with(|| {
                    new.push(text.as_str());
                    next
                });
                // A text alone is cropped, and crops have no teacher.
                if place == 0 && texts.len() > 1 {
                    pivots.push((key, text.as_str()));
                }
                group.push((place, number));
            }
            groups.push(group);
        }
        let bags = self.student.tokenize(&new, TextKind::Passage)?;
        for i in 0..bags.len() {
            self.out.tokens.push(bags.get(i));
            self.hash.update(&(bags.get(i).len() as u64).to_le_bytes());
            bags.get(i).iter().for_each(|t| self.hash.update(&t.to_le_bytes()));
            self.out.meaning.push(self.out.meaning.len() as u32);
            self.out.taught.push(NONE);
        }
        if let Some((teacher, store)) = &mut self.teacher {
            store.ensure(*teacher, &pivots)?;
            for (key, _) in &pivots {
                if let (Some(row), Some(&number)) = (store.row(*key), self.numbers.get(key)) {
                    self.out.taught[number as usize] = row;
                }
            }
        }
        let mut keys = pivots.iter().map(|(key, _)| *key);
        for group in &groups {
            let own = group.iter().filter(|(place, _)| *place == 0 && group.len() > 1).count();
            let held = keys.by_ref().take(own).any(|key| key % HELD_OUT == 0);
            self.group(group, held);
        }
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn group(&mut self, group: &[(usize, u32)], held: bool) {
        if let [(place, alone)] = group {
            let long = self.out.tokens.get(*alone as usize).len() >= CROPPED_FROM;
            if self.crops && long {
                self.pair(*place, [*alone; 2], false);
            }
            return;
        }
        let pivot = group.iter().find(|(place, _)| *place == 0);
        for (i, (place, text)) in group.iter().enumerate() {
            // A text that stands as it is in another language teaches nothing.
            let differs = |other: u32| other != *text;
            match pivot {
                Some((_, pivot)) if *place != 0 && differs(*pivot) => {
                    self.pair(*place, [*pivot, *text], held)
                }
                Some(_) => {}
                None => {
                    let before = group[..i].iter().filter(|(other, t)| other != place && differs(*t));
                    for (other, against) in before {
                        self.pair(*place, [*text, *against], false);
                        self.pair(*other, [*against, *text], false);
                    }
                }
            }
        }
    }

    fn pair(&mut self, place: usize, pair: [u32; 2], held: bool) {
        let empty = |t: u32| self.out.tokens.get(t as usize).is_empty();
        if pair.into_iter().any(empty) || !self.seen.insert((pair[0], pair[1])) {
            return;
        }
        if held {
            self.held_texts.extend(pair);
            if self.out.held[place].len() < HELD_OUT_MOST {
                self.out.held[place].push(pair);
            }
            return;
        }
        let roots = pair.map(|t| root(&mut self.out.meaning, t));
        self.out.meaning[roots[0].max(roots[1]) as usize] = roots[0].min(roots[1]);
        self.out.pairs[place].push(pair);
    }

    /// All texts.
    ///
    /// # Errors
    /// Those of [`CorpusBuilder::add`].
    pub fn finish(mut self) -> Result<Corpus> {
        self.flush()?;
        let mut out = self.out;
        for pairs in &mut out.pairs {
            pairs.retain(|pair| !pair.iter().any(|t| self.held_texts.contains(t)));
        }
        // A translation has the vector of its pivot text; one without a pivot text that of a translation's.
        for _ in 0..2 {
            let before = out.taught.clone();
            for [a, b] in out.pairs.iter().flatten() {
                for (to, from) in [(*b, *a), (*a, *b)] {
                    if out.taught[to as usize] == NONE {
                        out.taught[to as usize] = before[from as usize];
                    }
                }
            }
        }
        for text in 0..out.meaning.len() as u32 {
            out.meaning[text as usize] = root(&mut out.meaning, text);
        }
        for pair in out.pairs.iter().chain(&out.held).flatten() {
            pair.iter().for_each(|t| self.hash.update(&t.to_le_bytes()));
        }
        out.fingerprint = self.hash.digest();
        Ok(out)
    }
}

/// The least number of those that are joined with `text`.
fn root(parents: &mut [u32], text: u32) -> u32 {
    let mut at = text;
    while parents[at as usize] != at {
        parents[at as usize] = parents[parents[at as usize] as usize];
        at = parents[at as usize];
    }
    at
}
