//! A collection in memory, for training and evaluation.

use crate::check::Index;
use crate::error::{DEFAULT_PROBLEM_LIMIT, Result};
use crate::lang::Lang;
use crate::record::{Meta, Origin, Passage, Query, RawText, Split};
use crate::scan::{self, Visitor};
use crate::votes::Votes;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// One judgment by indices into [`Collection::queries`] and [`Collection::passages`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgment {
    /// The query.
    pub query: Index,
    /// The passage.
    pub passage: Index,
    /// The grade, 0..G.
    pub grade: f32,
}

/// A collection: passages, queries and the judgments of each split.
#[derive(Debug, Clone)]
pub struct Collection {
    /// What it says of itself.
    pub meta: Meta,
    /// The passages in file order.
    pub passages: Vec<Passage>,
    /// The queries in file order.
    pub queries: Vec<Query>,
    judgments: [Vec<Judgment>; 3],
    /// Of splits whose files name annotators or sources.
    votes: [Option<Votes>; 3],
}

impl Collection {
    /// Loads the collection in `dir`; any fault in it is an error that lists the first of them.
    pub fn load(dir: &Path) -> Result<Collection> {
        #[derive(Default)]
        struct Loader {
            passages: Vec<Passage>,
            queries: Vec<Query>,
            judgments: [Vec<Judgment>; 3],
            votes: [Option<Votes>; 3],
        }
        impl Visitor for Loader {
            fn passage(&mut self, _: Index, lang: Lang, raw: RawText) {
                let RawText { id, title, text, group, .. } = raw;
                self.passages.push(Passage { id, title, text, lang, group });
            }
            fn query(&mut self, _: Index, lang: Lang, raw: RawText) {
                self.queries.push(Query { id: raw.id, text: raw.text, lang, group: raw.group });
            }
            fn judgment(&mut self, split: Split, query: Index, passage: Index, grade: f32, origin: Origin) {
                let judgment = Judgment { query, passage, grade };
                let judgments = &mut self.judgments[split as usize];
                let votes = &mut self.votes[split as usize];
                if origin.is_none() && votes.is_none() {
                    return judgments.push(judgment);
                }
                let votes = votes.get_or_insert_with(|| {
                    let mut votes = Votes::default();
                    judgments.drain(..).for_each(|j| votes.push(j, Origin::default()));
                    votes
                });
                votes.push(judgment, origin);
            }
        }
        let mut loader = Loader::default();
        let (meta, problems) = scan::scan(dir, DEFAULT_PROBLEM_LIMIT, &mut loader)?;
        problems.into_result()?;
        let Loader { passages, queries, judgments, votes } = loader;
        let mut collection = Collection::from_parts(meta, passages, queries, judgments);
        for (split, votes) in Split::ALL.into_iter().zip(votes) {
            if let Some(votes) = votes {
                collection = collection.with_votes(split, votes);
            }
        }
        Ok(collection)
    }

    /// A collection from its parts, which are taken as valid. Judgments are those of train, dev and test.
    pub fn from_parts(
        meta: Meta,
        passages: Vec<Passage>,
        queries: Vec<Query>,
        judgments: [Vec<Judgment>; 3],
    ) -> Collection {
        Collection { meta, passages, queries, judgments, votes: Default::default() }
    }

    /// The same with these judgments in a split, in place of its own.
    pub fn with_votes(mut self, split: Split, mut votes: Votes) -> Collection {
        self.judgments[split as usize] = votes.merge();
        self.votes[split as usize] = Some(votes);
        self
    }

    /// The judgments of a split with their annotators and sources, where its file names any.
    pub fn votes(&self, split: Split) -> Option<&Votes> {
        self.votes[split as usize].as_ref()
    }

    /// The grades that single annotators and sources gave a pair; nothing where the files name none.
    pub fn votes_of(&self, query: Index, passage: Index) -> impl Iterator<Item = (f32, Origin<'_>)> {
        self.votes.iter().flatten().flat_map(move |votes| votes.of(query, passage))
    }

    /// Whether any split names annotators or sources.
    pub fn has_votes(&self) -> bool {
        self.votes.iter().any(Option::is_some)
    }

    /// The judgments of a split, one a pair, in file order. Where several judged a pair, the grade is their mean.
    pub fn judgments(&self, split: Split) -> &[Judgment] {
        &self.judgments[split as usize]
    }

    /// The languages of queries or passages, sorted.
    pub fn langs(&self) -> Vec<Lang> {
        let all: BTreeSet<&Lang> =
            self.queries.iter().map(|q| &q.lang).chain(self.passages.iter().map(|p| &p.lang)).collect();
        all.into_iter().cloned().collect()
    }

    /// A number that another collection does not share: of the highest grade and all texts, languages, groups and
    /// judgments, in order.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.meta.grades.max.to_le_bytes());
        let mut text = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        for p in &self.passages {
            let title = p.title.as_deref().unwrap_or("");
            [&p.id, title, &p.text, p.lang.as_str(), p.group.as_deref().unwrap_or("")]
                .into_iter()
                .for_each(&mut text);
        }
        for q in &self.queries {
            [&q.id, &q.text, q.lang.as_str(), q.group.as_deref().unwrap_or("")]
                .into_iter()
                .for_each(&mut text);
        }
        for judgments in &self.judgments {
            hash.update(&(judgments.len() as u64).to_le_bytes());
            for j in judgments {
                hash.update(
                    &[j.query.to_le_bytes(), j.passage.to_le_bytes(), j.grade.to_le_bytes()].concat(),
                );
            }
        }
        for votes in self.votes.iter().flatten() {
            for (j, origin) in votes.iter() {
                let names = [origin.annotator, origin.source].map(|n| n.unwrap_or("")).join("\t");
                hash.update(&j.grade.to_le_bytes());
                hash.update(&(names.len() as u64).to_le_bytes());
                hash.update(names.as_bytes());
            }
        }
        hash.digest()
    }

    /// The judgments of a split as a table that also answers for translations.
    pub fn graded(&self, split: Split) -> Graded {
        Graded::of(self, self.judgments(split))
    }
}

/// Grades by query and passage, carried over to translations.
///
/// A judgment of (q, d) holds for every query that is a translation of q and every passage that is a
/// translation of d. Where a pair is judged itself, that judgment wins; where two translations of a pair are
/// judged differently, the first in the file does.
#[derive(Debug, Clone)]
pub struct Graded {
    grades: Arc<Grades>,
    judged_queries: Vec<Index>,
}

#[derive(Debug)]
struct Grades {
    query_unit: Vec<u32>,
    passage_unit: Vec<u32>,
    direct: FxHashMap<(Index, Index), f32>,
    by_unit: FxHashMap<(u32, u32), f32>,
    /// The pair that a grade of translations was given to; empty where the collection names no annotators or sources.
    given_to: FxHashMap<(u32, u32), (Index, Index)>,
    /// Judged passage units of each query unit, in file order.
    units_of: FxHashMap<u32, Vec<u32>>,
    members: Vec<Vec<Index>>,
}

impl Graded {
    /// The table of any judgments between texts of the collection, such as a part of a split.
    pub fn of(collection: &Collection, judgments: &[Judgment]) -> Graded {
        let mut query_units = FxHashMap::default();
        let query_unit =
            collection.queries.iter().map(|q| intern(&mut query_units, q.unit(), q.group.is_some()));
        let query_unit: Vec<u32> = query_unit.collect();
        let mut passage_units = FxHashMap::default();
        let passage_unit =
            collection.passages.iter().map(|p| intern(&mut passage_units, p.unit(), p.group.is_some()));
        let passage_unit: Vec<u32> = passage_unit.collect();
        let mut members = vec![Vec::new(); passage_units.len()];
        for (i, &u) in passage_unit.iter().enumerate() {
            members[u as usize].push(i as Index);
        }
        let mut graded = Grades {
            query_unit,
            passage_unit,
            direct: FxHashMap::default(),
            by_unit: FxHashMap::default(),
            given_to: FxHashMap::default(),
            units_of: FxHashMap::default(),
            members,
        };
        for j in judgments {
            let (qu, pu) = (graded.query_unit[j.query as usize], graded.passage_unit[j.passage as usize]);
            graded.direct.insert((j.query, j.passage), j.grade);
            if let std::collections::hash_map::Entry::Vacant(slot) = graded.by_unit.entry((qu, pu)) {
                slot.insert(j.grade);
                if collection.has_votes() {
                    graded.given_to.insert((qu, pu), (j.query, j.passage));
                }
                graded.units_of.entry(qu).or_default().push(pu);
            }
        }
        let units_of = &graded.units_of;
        let judged_queries = (0..graded.query_unit.len() as Index)
            .filter(|&q| units_of.contains_key(&graded.query_unit[q as usize]))
            .collect();
        Graded { grades: Arc::new(graded), judged_queries }
    }

    /// The grade of a pair, its own or its translations'; `None` where it is not judged.
    pub fn grade(&self, query: Index, passage: Index) -> Option<f32> {
        if let Some(&g) = self.grades.direct.get(&(query, passage)) {
            return Some(g);
        }
        self.grades
            .by_unit
            .get(&(self.grades.query_unit[query as usize], self.grades.passage_unit[passage as usize]))
            .copied()
    }

    /// The pair whose judgment a grade is: the pair itself, or the translation of it that was judged. `None` where it is
    /// not judged, and in collections that name no annotators or sources.
    pub fn given_to(&self, query: Index, passage: Index) -> Option<(Index, Index)> {
        let unit = (self.grades.query_unit[query as usize], self.grades.passage_unit[passage as usize]);
        let pair = self.grades.given_to.get(&unit)?;
        Some(if self.grades.direct.contains_key(&(query, passage)) { (query, passage) } else { *pair })
    }

    /// The queries with a judgment (their own or a translation's), ascending.
    pub fn queries(&self) -> &[Index] {
        &self.judged_queries
    }

    /// The judged passages of a query with their grades, translations included, in file order.
    pub fn judged(&self, query: Index) -> impl Iterator<Item = (Index, f32)> + '_ {
        let units =
            self.grades.units_of.get(&self.grades.query_unit[query as usize]).map_or(&[][..], Vec::as_slice);
        units
            .iter()
            .flat_map(|&u| self.grades.members[u as usize].iter().copied())
            .filter_map(move |p| Some((p, self.grade(query, p)?)))
    }

    /// The same table for these queries alone.
    #[must_use]
    pub fn for_queries(&self, keep: impl Fn(Index) -> bool) -> Graded {
        let kept = self.judged_queries.iter().copied().filter(|q| keep(*q));
        Graded { grades: self.grades.clone(), judged_queries: kept.collect() }
    }

    /// A number shared by the translations of a passage.
    pub fn passage_unit(&self, passage: Index) -> u32 {
        self.grades.passage_unit[passage as usize]
    }
}

/// Numbers units in the order of their first text. An id and a group of the same name are different units.
fn intern<'a>(map: &mut FxHashMap<(bool, &'a str), u32>, unit: &'a str, is_group: bool) -> u32 {
    let next = map.len() as u32;
    *map.entry((is_group, unit)).or_insert(next)
}
