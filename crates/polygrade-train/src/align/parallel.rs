//! Parallel texts: what alignment losses are computed on, as tokens of the encoder in training.
//!
//! They come from the translation groups of the collection that is trained on, from all of another collection, and from
//! files with a text and its translation on a line. One language is the pivot; every triple and pair joins a text in it
//! with one in another language. Where no query is known for a passage, as in files, the pivot text stands for its
//! query, and InfoNCE becomes translation ranking (Yang et al. 2019).
//!
//! Invariant: of the collection that is trained on, only groups are used whose passages are judged in train and not in
//! dev or test. Which passages of dev and test are translations of one another is never learnt: what other collections
//! and files hold of the texts of dev and test is passed over, a group as a whole.

use crate::examples::Scenario;
use crate::labelled::Labelled;
use crate::labels::{Label, LabelPolicies};
use polygrade_data::io::Lines;
use polygrade_data::{At, Collection, Error, Index, Lang, Problems, Result, Split};
use polygrade_encoder::{TextEncoder, TextKind};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::l2_normalize;
use rustc_hash::{FxHashMap, FxHashSet};
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A query, a passage for it in the same language, the pivot, and their translations; numbers of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Triple {
    pub(crate) query: u32,
    pub(crate) pivot: u32,
    pub(crate) target: u32,
    /// The query in the language of `target`, where there is one.
    pub(crate) target_query: Option<u32>,
    lang: u32,
}

/// Parallel texts, ready for training.
pub struct Parallel {
    texts: Bags,
    relations: Relations,
    /// The triples of each pivot passage.
    triples_of: FxHashMap<u32, Vec<u32>>,
    teacher: Option<Matrix>,
    teacher_rows: Vec<u32>,
    fingerprint: u64,
}

/// How texts, by their numbers, belong together.
#[derive(Default)]
struct Relations {
    triples: Vec<Triple>,
    /// Pivot text and translation.
    pairs: Vec<[u32; 2]>,
    /// Query and a passage, in the pivot or a target language, that must not be its negative: one that answers it or
    /// that the policy leaves out.
    spared: FxHashSet<(u32, u32)>,
    /// Pivot passages that are judged negatives, by query.
    rejects: FxHashMap<u32, Vec<u32>>,
}

impl Parallel {
    /// Number of triples (query, passage, translation).
    pub fn triple_count(&self) -> usize {
        self.relations.triples.len()
    }

    /// Number of pairs (text, translation).
    pub fn pair_count(&self) -> usize {
        self.relations.pairs.len()
    }

    /// A number that other parallel texts do not share.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn triples(&self) -> &[Triple] {
        &self.relations.triples
    }

    pub(crate) fn pairs(&self) -> &[[u32; 2]] {
        &self.relations.pairs
    }

    pub(crate) fn tokens(&self, text: u32) -> &[u32] {
        self.texts.get(text as usize)
    }

    /// Whether the passages of a triple must not be negatives of a query: they answer it, or the policy leaves them out.
    pub(crate) fn spares(&self, query: u32, of: &Triple) -> bool {
        let spared = |passage: u32| self.relations.spared.contains(&(query, passage));
        query == of.query || spared(of.pivot) || spared(of.target)
    }

    /// The triples in the same target language whose passages are judged negatives of a triple's query.
    pub(crate) fn hard_negatives(&self, of: &Triple) -> Vec<Triple> {
        let rejects = self.relations.rejects.get(&of.query).into_iter().flatten();
        rejects
            .filter_map(|pivot| self.triples_of.get(pivot))
            .flatten()
            .map(|i| self.relations.triples[*i as usize])
            .filter(|t| t.lang == of.lang && t.target_query.is_some())
            .collect()
    }

    pub(crate) fn is_taught(&self) -> bool {
        self.teacher.is_some()
    }

    /// The teacher's unit vectors.
    pub(crate) fn teacher(&self) -> &Matrix {
        static NONE: Matrix = Matrix { cols: 0, data: Vec::new() };
        self.teacher.as_ref().unwrap_or(&NONE)
    }

    /// The teacher's row of a pivot text.
    pub(crate) fn teacher_row(&self, pivot: u32) -> u32 {
        self.teacher_rows.get(pivot as usize).copied().unwrap_or(0)
    }
}

/// The groups of a collection that are used.
#[derive(Clone, Copy)]
enum Groups<'a> {
    /// Of the collection that is trained on.
    Train(&'a FxHashSet<u32>),
    /// Of another one, where a passage that nothing asks for is its own query.
    Other(&'a FxHashSet<u32>),
}

/// Gathers parallel texts.
pub struct ParallelBuilder<'a> {
    student: &'a dyn TextEncoder,
    pivot: Lang,
    langs: Vec<Lang>,
    /// Each text once, with what it is.
    numbers: FxHashMap<(bool, String), u32>,
    relations: Relations,
    triples_seen: FxHashSet<Triple>,
    pairs_seen: FxHashSet<[u32; 2]>,
    /// What the pivot texts of pairs are, also where the student makes no difference.
    kinds: FxHashMap<u32, TextKind>,
    /// Hashes of the texts that dev or test of the collection trained on hold.
    held: FxHashSet<u64>,
    /// Groups and lines of other parallel texts that are passed over, since dev or test hold one of their texts.
    pub held_out: usize,
    /// Groups of the collection trained on that are judged in train, and of these the ones that dev or test judge too,
    /// which are not used.
    pub judged_groups: (usize, usize),
}

impl<'a> ParallelBuilder<'a> {
    /// Nothing yet, for the training of `student`. Collections give translations from `pivot` into the other `langs`.
    pub fn new(student: &'a dyn TextEncoder, pivot: Lang, langs: &[Lang]) -> Self {
        ParallelBuilder {
            student,
            langs: langs.iter().filter(|l| **l != pivot).cloned().collect(),
            pivot,
            numbers: FxHashMap::default(),
            relations: Relations::default(),
            triples_seen: FxHashSet::default(),
            pairs_seen: FxHashSet::default(),
            kinds: FxHashMap::default(),
            held: FxHashSet::default(),
            held_out: 0,
            judged_groups: (0, 0),
        }
    }

    /// Adds what the training split of the collection that is trained on knows of. Comes before other texts, of which
    /// those that its dev and test hold are then passed over.
    pub fn add_train(&mut self, collection: &Collection, scenario: Scenario, policies: &LabelPolicies) {
        let units = |split: Split| -> FxHashSet<u32> {
            let graded = collection.graded(split);
            let passages = graded.queries().iter().flat_map(|&q| graded.judged(q));
            passages
                .filter(|(p, _)| self.group(collection, *p))
                .map(|(p, _)| graded.passage_unit(p))
                .collect()
        };
        let mut known = units(Split::Train);
        let judged = known.len();
        for split in [Split::Dev, Split::Test] {
            units(split).iter().for_each(|u| {
                known.remove(u);
            });
        }
        self.judged_groups = (judged, judged - known.len());
        for graded in [Split::Dev, Split::Test].map(|split| collection.graded(split)) {
            for &q in graded.queries() {
                self.held.insert(xxh3_64(collection.queries[q as usize].text.trim().as_bytes()));
                for (p, _) in graded.judged(q) {
                    let passage = &collection.passages[p as usize];
                    for text in [passage.full_text().trim(), passage.text.trim()] {
                        self.held.insert(xxh3_64(text.as_bytes()));
                    }
                }
            }
        }
        self.add(collection, &[Split::Train], Groups::Train(&known), (scenario, policies));
    }

    fn is_held(&self, text: &str) -> bool {
        self.held.contains(&xxh3_64(text.trim().as_bytes()))
    }

    /// Adds all of another collection, in all of its languages, but groups with a text that dev or test of the
    /// collection trained on hold. A passage that is no query's positive is its own query.
    pub fn add_collection(&mut self, collection: &Collection, policies: &LabelPolicies) {
        let new = collection.langs().into_iter().filter(|l| *l != self.pivot && !self.langs.contains(l));
        let new: Vec<Lang> = new.collect();
        self.langs.extend(new);
        let splits = [Split::Train, Split::Dev, Split::Test];
        let graded = collection.graded(Split::Train);
        let (mut free, mut held) = (FxHashSet::default(), FxHashSet::default());
        for p in (0..collection.passages.len() as Index).filter(|p| self.group(collection, *p)) {
            let passage = &collection.passages[p as usize];
            let of = if self.is_held(&passage.full_text()) || self.is_held(&passage.text) {
                &mut held
            } else {
                &mut free
            };
            of.insert(graded.passage_unit(p));
        }
        free.retain(|unit| !held.contains(unit));
        self.held_out += held.len();
        self.add(collection, &splits, Groups::Other(&free), (Scenario::Mixture, policies));
    }

    /// Adds a file with a text in the pivot language and a translation on each line, with a tab between them, but lines
    /// with a text that dev or test of the collection trained on hold.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let (mut lines, mut problems) = (Lines::open(path)?, Problems::default());
        let mut read = Vec::new();
        while let Some((line, text)) = lines.next_line(&mut problems) {
            let mut parts = text.split('\t').map(str::trim);
            match (parts.next(), parts.next(), parts.next()) {
                (Some(a), Some(b), None) if !a.is_empty() && !b.is_empty() => {
                    read.push((a.to_owned(), b.to_owned()));
                }
                _ => problems.push(
                    At::line(path, line),
                    "is not a text and its translation",
                    format!("write: text in {}<TAB>translation", self.pivot),
                ),
            }
        }
        problems.into_result()?;
        if read.is_empty() {
            let what = "holds no text";
            return Err(Error::input(
                At::file(path),
                what,
                "write a text, a tab and its translation on each line",
            ));
        }
        for (pivot, target) in read {
            if self.is_held(&pivot) || self.is_held(&target) {
                self.held_out += 1;
                continue;
            }
            self.own_query(&pivot, &target, u32::MAX);
        }
        Ok(())
    }

    /// A text that stands for its query, and a translation.
    fn own_query(&mut self, pivot: &str, target: &str, lang: u32) {
        let query = self.number(TextKind::Query, pivot);
        let target_query = Some(self.number(TextKind::Query, target));
        let (pivot, target) = (self.number(TextKind::Passage, pivot), self.number(TextKind::Passage, target));
        self.relations.spared.extend([(query, pivot), (query, target)]);
        self.triple(Triple { query, pivot, target, target_query, lang });
        self.pair(TextKind::Passage, pivot, target);
    }

    fn triple(&mut self, triple: Triple) {
        if self.triples_seen.insert(triple) {
            self.relations.triples.push(triple);
        }
    }

    fn pair(&mut self, kind: TextKind, pivot: u32, translation: u32) {
        self.kinds.entry(pivot).or_insert(kind);
        if self.pairs_seen.insert([pivot, translation]) {
            self.relations.pairs.push([pivot, translation]);
        }
    }

    fn number(&mut self, kind: TextKind, text: &str) -> u32 {
        // Where the encoder makes no difference between them, a text is encoded once.
        let prompts = self.student.prompts();
        let query = kind == TextKind::Query && prompts.query != prompts.passage;
        let next = self.numbers.len() as u32;
        *self.numbers.entry((query, text.to_owned())).or_insert(next)
    }

    /// The place of a target language, from 0.
    fn place(&self, lang: &Lang) -> Option<u32> {
        self.langs.iter().position(|l| l == lang).map(|i| i as u32)
    }

    fn group(&self, collection: &Collection, passage: Index) -> bool {
        collection.passages[passage as usize].group.is_some()
    }

    /// Adds the groups of a collection.
    fn add(
        &mut self,
        collection: &Collection,
        splits: &[Split],
        groups: Groups,
        (scenario, policies): (Scenario, &LabelPolicies),
    ) {
        let (Groups::Train(known) | Groups::Other(known)) = groups;
        let graded: Vec<_> = splits.iter().map(|s| collection.graded(*s)).collect();
        // Translations of each group, by its number, with the place of their language.
        let unit_of = |p: Index| graded[0].passage_unit(p);
        let mut targets: FxHashMap<u32, Vec<(Index, u32)>> = FxHashMap::default();
        let mut pivots: Vec<Index> = Vec::new();
        for p in 0..collection.passages.len() as Index {
            if !self.group(collection, p) || !known.contains(&unit_of(p)) {
                continue;
            }
            let lang = &collection.passages[p as usize].lang;
            match self.place(lang) {
                Some(place) => targets.entry(unit_of(p)).or_default().push((p, place)),
                None if *lang == self.pivot => pivots.push(p),
                None => {}
            }
        }
        pivots.retain(|p| targets.contains_key(&unit_of(*p)));
        let usable: FxHashSet<Index> = pivots.iter().copied().collect();
        let text = |p: Index| collection.passages[p as usize].full_text();

        let mut asked: FxHashSet<Index> = FxHashSet::default();
        let translations = self.translated_queries(collection);
        let pivot_lang = [self.pivot.clone()];
        for graded in &graded {
            let labelled = Labelled::new(collection, graded, scenario, &pivot_lang, policies, false);
            for (q, at) in labelled.queries() {
                let query = &collection.queries[q as usize];
                let own =
                    query.group.as_deref().and_then(|g| translations.get(g)).map_or(&[][..], Vec::as_slice);
                let text_of = |q: Index| collection.queries[q as usize].text.as_str();
                if matches!(groups, Groups::Other(_))
                    && [q].into_iter().chain(own.iter().map(|(t, _)| *t)).any(|q| self.is_held(text_of(q)))
                {
                    self.held_out += 1;
                    continue;
                }
                let number = self.number(TextKind::Query, &query.text);
                for &(other, _) in own {
                    let other = self.number(TextKind::Query, &collection.queries[other as usize].text);
                    self.pair(TextKind::Query, number, other);
                }
                for pair in labelled.pairs(q, at).filter(|pair| usable.contains(&pair.passage)) {
                    let p = pair.passage;
                    let pivot = self.number(TextKind::Passage, &text(p));
                    if pair.label == Label::Negative {
                        self.relations.rejects.entry(number).or_default().push(pivot);
                        continue;
                    }
                    self.relations.spared.insert((number, pivot));
                    for &(target, lang) in &targets[&unit_of(p)] {
                        let target = self.number(TextKind::Passage, &text(target));
                        self.relations.spared.insert((number, target));
                        if pair.label == Label::Dropped {
                            continue;
                        }
                        asked.insert(p);
                        let target_query = own.iter().find(|(_, l)| *l == lang).map(|(t, _)| *t);
                        let target_query = target_query
                            .map(|t| self.number(TextKind::Query, &collection.queries[t as usize].text));
                        self.triple(Triple { query: number, pivot, target, target_query, lang });
                    }
                }
            }
        }
        for p in pivots {
            for &(target, lang) in &targets[&unit_of(p)] {
                if matches!(groups, Groups::Other(_)) && !asked.contains(&p) {
                    self.own_query(&text(p), &text(target), lang);
                } else {
                    let pivot = self.number(TextKind::Passage, &text(p));
                    let target = self.number(TextKind::Passage, &text(target));
                    self.pair(TextKind::Passage, pivot, target);
                }
            }
        }
    }

    /// The queries in target languages of each group, with the places of their languages.
    fn translated_queries<'c>(&self, collection: &'c Collection) -> FxHashMap<&'c str, Vec<(Index, u32)>> {
        let mut out: FxHashMap<&str, Vec<(Index, u32)>> = FxHashMap::default();
        for (i, query) in collection.queries.iter().enumerate() {
            if let (Some(group), Some(place)) = (query.group.as_deref(), self.place(&query.lang)) {
                out.entry(group).or_default().push((i as Index, place));
            }
        }
        out
    }

    /// Tokenises, and encodes the pivot texts of all pairs with `teacher`, whose vectors must be as wide as the student's.
    pub fn finish(self, teacher: Option<&dyn TextEncoder>) -> Result<Parallel> {
        let student = self.student;
        if let Some(teacher) = teacher
            && teacher.dim() != student.dim()
        {
            return Err(Error::Usage(format!(
                "the teacher's vectors have {} values and the encoder's {}: take a teacher of the same width, or a \
                 static encoder with --projection {} (or --dim)",
                teacher.dim(),
                student.dim(),
                teacher.dim()
            )));
        }
        let mut texts = vec![(TextKind::Passage, ""); self.numbers.len()];
        for ((query, text), number) in &self.numbers {
            let kind = if *query { TextKind::Query } else { TextKind::Passage };
            texts[*number as usize] = (kind, text.as_str());
        }
        let bags = in_order(&texts, |kind, texts| student.tokenize(texts, kind))?;
        let mut teacher_rows = Vec::new();
        let teacher_vectors = match teacher {
            None => None,
            Some(teacher) => {
                let mut row_of: FxHashMap<u32, u32> = FxHashMap::default();
                let mut needed = Vec::new();
                teacher_rows.resize(texts.len(), 0);
                for [pivot, _] in &self.relations.pairs {
                    teacher_rows[*pivot as usize] = *row_of.entry(*pivot).or_insert_with(|| {
                        let kind = self.kinds.get(pivot).copied().unwrap_or(TextKind::Passage);
                        needed.push((kind, texts[*pivot as usize].1));
                        needed.len() as u32 - 1
                    });
                }
                let tokens = in_order(&needed, |kind, texts| teacher.tokenize(texts, kind))?;
                let mut vectors = teacher.encode_bags(&tokens, true);
                let cols = vectors.cols.max(1);
                vectors.data.chunks_mut(cols).for_each(|row| {
                    l2_normalize(row);
                });
                Some(vectors)
            }
        };
        let relations = self.relations;
        let mut triples_of: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for (i, t) in relations.triples.iter().enumerate() {
            triples_of.entry(t.pivot).or_default().push(i as u32);
        }
        let mut hash = Xxh3::new();
        bags.offsets.iter().for_each(|n| hash.update(&n.to_le_bytes()));
        bags.tokens.iter().for_each(|n| hash.update(&n.to_le_bytes()));
        for t in &relations.triples {
            let [a, b, c, d] = [t.query, t.pivot, t.target, t.target_query.unwrap_or(u32::MAX)];
            [a, b, c, d, t.lang].iter().for_each(|n| hash.update(&n.to_le_bytes()));
            // Their order is that of the judgments.
            let rejects = relations.rejects.get(&t.query).map_or(&[][..], Vec::as_slice);
            rejects.iter().for_each(|n| hash.update(&n.to_le_bytes()));
        }
        relations.pairs.iter().flatten().for_each(|n| hash.update(&n.to_le_bytes()));
        let mut spared: Vec<(u32, u32)> = relations.spared.iter().copied().collect();
        spared.sort_unstable();
        spared.iter().for_each(|(q, p)| hash.update(&[q.to_le_bytes(), p.to_le_bytes()].concat()));
        let teacher_vectors = teacher_vectors.inspect(|v: &Matrix| {
            v.data.iter().for_each(|x| hash.update(&x.to_le_bytes()));
        });
        Ok(Parallel {
            texts: bags,
            relations,
            triples_of,
            teacher: teacher_vectors,
            teacher_rows,
            fingerprint: hash.digest(),
        })
    }
}

/// The tokens of texts of both kinds, in their order.
fn in_order(
    texts: &[(TextKind, &str)],
    tokenize: impl Fn(TextKind, &[&str]) -> Result<Bags>,
) -> Result<Bags> {
    let of = |kind: TextKind| {
        let own: Vec<&str> = texts.iter().filter(|(k, _)| *k == kind).map(|(_, t)| *t).collect();
        tokenize(kind, &own)
    };
    let (queries, passages) = (of(TextKind::Query)?, of(TextKind::Passage)?);
    let (mut q, mut p) = (0..queries.len(), 0..passages.len());
    let mut out = Bags::new();
    for (kind, _) in texts {
        let next = match kind {
            TextKind::Query => q.next().map(|i| queries.get(i)),
            TextKind::Passage => p.next().map(|i| passages.get(i)),
        };
        out.push(next.unwrap_or(&[]));
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::labels::Policy;
    use polygrade_data::{Judgment, Meta, Passage, Query, Scale};
    use polygrade_encoder::{NewStatic, NewStaticBase, StaticEncoder};

    pub(crate) fn lang(tag: &str) -> Lang {
        Lang::parse(tag).unwrap()
    }

    /// Six groups of a passage in English, German and Swahili; queries in English and German. Group 0 is judged in
    /// train, 1 in dev, 2 in train and in test, 3 nowhere, 4 a negative in train, 5 has a second query.
    pub(crate) fn collection() -> Collection {
        let mut passages = Vec::new();
        let mut queries = Vec::new();
        for group in 0..6 {
            for tag in ["en", "de", "sw"] {
                passages.push(Passage {
                    id: format!("{tag}{group}"),
                    title: None,
                    text: format!("passage {tag} {group}"),
                    lang: lang(tag),
                    group: Some(format!("g{group}")),
                });
            }
        }
        for (group, tags) in [(0, &["en", "de"][..]), (1, &["en", "de"]), (2, &["en", "de"]), (5, &["en"])] {
            for tag in tags {
                queries.push(Query {
                    id: format!("{tag}-q{group}"),
                    text: format!("query {tag} {group}"),
                    lang: lang(tag),
                    group: Some(format!("q{group}")),
                });
            }
        }
        let judged = |query, passage, grade| Judgment { query, passage, grade };
        // Queries 0 and 1 are the first's, 2 and 3 the second's, 4 and 5 the third's, 6 the last.
        let train = vec![
            judged(0, 0, 2.0),
            judged(0, 6, 2.0),
            judged(0, 12, 0.0),
            judged(6, 15, 2.0),
            judged(6, 0, 2.0),
        ];
        let judgments = [train, vec![judged(2, 3, 2.0)], vec![judged(4, 6, 2.0)]];
        let meta = Meta {
            name: "made".into(),
            licence: "none".into(),
            source: "a test".into(),
            grades: Scale::up_to(2.0),
        };
        Collection::from_parts(meta, passages, queries, judgments)
    }

    pub(crate) fn student() -> StaticEncoder {
        let texts = ["passage query 0 1 2 3 4 5 en de sw"; 4];
        let settings = NewStatic { vocab_size: 60, dim: 8, ..NewStatic::default() };
        NewStaticBase::new(&texts, &[0, 1, 2, 3], &settings).unwrap().encoder(1)
    }

    pub(crate) fn policies() -> LabelPolicies {
        LabelPolicies::uniform(Policy::Threshold(1.0))
    }

    /// The texts of triples and pairs, in words.
    fn words(builder: &ParallelBuilder) -> (Vec<String>, Vec<String>) {
        let mut text = vec![""; builder.numbers.len()];
        builder.numbers.iter().for_each(|((_, t), n)| text[*n as usize] = t);
        let of = |n: u32| text[n as usize].replace("passage ", "").replace("query ", "?");
        let triple = |t: &Triple| {
            let target_query = t.target_query.map_or("–".into(), of);
            format!("{}, {}, {}, {target_query}", of(t.query), of(t.pivot), of(t.target))
        };
        let triples = builder.relations.triples.iter().map(triple).collect();
        let pairs = builder.relations.pairs.iter().map(|[a, b]| format!("{}, {}", of(*a), of(*b))).collect();
        (triples, pairs)
    }

    #[test]
    fn only_groups_judged_in_train_alone_are_used() {
        let student = student();
        let mut builder = ParallelBuilder::new(&student, lang("en"), &["de", "en", "sw"].map(lang));
        builder.add_train(&collection(), Scenario::Mixture, &policies());
        let (triples, pairs) = words(&builder);
        let want = ["?en 0, en 0, de 0, ?de 0", "?en 0, en 0, sw 0, –", "?en 5, en 5, de 5, –"];
        assert_eq!(triples[..3], want);
        assert_eq!(triples[3..], ["?en 5, en 5, sw 5, –", "?en 5, en 0, de 0, –", "?en 5, en 0, sw 0, –"]);
        let queries = ["?en 0, ?de 0"];
        let passages = ["en 0, de 0", "en 0, sw 0", "en 4, de 4", "en 4, sw 4", "en 5, de 5", "en 5, sw 5"];
        assert_eq!(pairs, [&queries[..], &passages[..]].concat());
        assert_eq!(builder.judged_groups, (4, 1));

        let parallel = builder.finish(None).unwrap();
        let [first, last] = [parallel.triples()[0], parallel.triples()[2]];
        assert!(parallel.spares(last.query, &first) && !parallel.spares(first.query, &last));
    }

    #[test]
    fn languages_are_those_asked_for_and_any_can_be_the_pivot() {
        let student = student();
        let mut builder = ParallelBuilder::new(&student, lang("de"), &["de", "en"].map(lang));
        builder.add_train(&collection(), Scenario::Mixture, &policies());
        // The German query has the judgments of its translation.
        assert_eq!(words(&builder).0, ["?de 0, de 0, en 0, ?en 0"]);
    }

    #[test]
    fn other_collections_are_used_whole() {
        let student = student();
        let mut builder = ParallelBuilder::new(&student, lang("en"), &[]);
        builder.add_collection(&collection(), &policies());
        let (triples, pairs) = words(&builder);
        for want in ["?en 1, en 1, de 1, ?de 1", "?en 2, en 2, sw 2, –", "en 3, en 3, sw 3, sw 3"] {
            assert!(triples.contains(&want.to_owned()), "{want} {triples:?}");
        }
        for want in ["?en 1, ?de 1", "en 2, sw 2", "en 3, de 3"] {
            assert!(pairs.contains(&want.to_owned()), "{want} {pairs:?}");
        }
    }

    /// Whatever holds texts of dev or test, nothing is learnt of them.
    #[test]
    fn other_texts_of_dev_and_test_are_passed_over() {
        let student = student();
        let mut builder = ParallelBuilder::new(&student, lang("en"), &["de", "sw"].map(lang));
        builder.add_train(&collection(), Scenario::Mixture, &policies());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.tsv");
        std::fs::write(&path, "new en\tpassage sw 1\nquery en 2\tx\npassage en 3\tx\n").unwrap();
        builder.add_collection(&collection(), &policies());
        // The groups and the queries 1 and 2.
        assert_eq!(builder.held_out, 4);
        builder.add_file(&path).unwrap();
        assert_eq!(builder.held_out, 6);
        let (triples, pairs) = words(&builder);
        assert!(
            triples.contains(&"en 3, en 3, x, x".into())
                && triples.contains(&"en 3, en 3, sw 3, sw 3".into())
        );
        let held = |text: &String| text.split([' ', ',']).any(|word| word == "1" || word == "2");
        assert!(!triples.iter().chain(&pairs).any(held), "{triples:?} {pairs:?}");
        // Alone, it is used.
        let mut builder = ParallelBuilder::new(&student, lang("en"), &[]);
        builder.add_file(&path).unwrap();
        assert_eq!((builder.held_out, words(&builder).1.len()), (0, 3));
    }

    #[test]
    fn what_a_band_drops_and_equal_translations_are_no_negatives() {
        let student = student();
        let mut collection = collection();
        let mut train = collection.judgments(Split::Train).to_vec();
        train.push(Judgment { query: 0, passage: 15, grade: 1.0 });
        // Groups 3 and 5 say the same in German.
        train.push(Judgment { query: 0, passage: 9, grade: 2.0 });
        collection.passages[16].text = collection.passages[10].text.clone();
        let Collection { meta, passages, queries, .. } = collection;
        let collection = Collection::from_parts(meta, passages, queries, [train, vec![], vec![]]);
        let mut builder = ParallelBuilder::new(&student, lang("en"), &["de", "sw"].map(lang));
        let band = LabelPolicies::uniform(Policy::Band { lo: 0.0, hi: 2.0 });
        builder.add_train(&collection, Scenario::Mixture, &band);
        let names = words(&builder).0;
        assert!(!names.contains(&"?en 0, en 5, sw 5, –".into()), "{names:?}");
        let place = |name: &str| names.iter().position(|n| n == name).unwrap();
        let places =
            ["?en 0, en 0, de 0, ?de 0", "?en 0, en 3, de 3, ?de 0", "?en 5, en 5, de 3, –"].map(place);
        let parallel = builder.finish(None).unwrap();
        let [first, third, last] = places.map(|i| parallel.triples()[i]);
        assert!(parallel.spares(first.query, &last), "left out by the band");
        assert!(parallel.spares(last.query, &third), "another pivot, the same translation");
    }

    /// The teacher's prompts count also where the student has none.
    #[test]
    fn teachers_see_queries_as_queries() {
        let student = student();
        let mut teacher = student.clone();
        teacher.prompts.query = "sw ".into();
        let mut builder = ParallelBuilder::new(&student, lang("en"), &["de"].map(lang));
        builder.add_train(&collection(), Scenario::Mixture, &policies());
        let parallel = builder.finish(Some(&teacher)).unwrap();
        let row = |pivot: u32| parallel.teacher().row(parallel.teacher_row(pivot) as usize).to_vec();
        for (text, kind) in [("query en 0", TextKind::Query), ("passage en 0", TextKind::Passage)] {
            let mut want = teacher.encode(&[text], kind).unwrap();
            l2_normalize(want.row_mut(0));
            let tokens = student.tokenize(&[text], kind).unwrap();
            let pair =
                parallel.pairs().iter().find(|[pivot, _]| parallel.tokens(*pivot) == tokens.get(0)).unwrap();
            assert_eq!(row(pair[0]), want.row(0), "{text}");
        }
    }

    #[test]
    fn negatives_come_with_the_queries_of_their_passages() {
        let mut collection = collection();
        // A German and an English query for the passage that is a negative of the first query.
        for tag in ["en", "de"] {
            let (id, text, group) = (format!("{tag}-q4"), format!("query {tag} 4"), Some("q4".into()));
            collection.queries.push(Query { id, text, lang: lang(tag), group });
        }
        let mut train = collection.judgments(Split::Train).to_vec();
        train.push(Judgment { query: 7, passage: 12, grade: 2.0 });
        let Collection { meta, passages, queries, .. } = collection;
        let collection = Collection::from_parts(meta, passages, queries, [train, vec![], vec![]]);
        let student = student();
        let mut builder = ParallelBuilder::new(&student, lang("en"), &["de", "sw"].map(lang));
        builder.add_train(&collection, Scenario::Mixture, &policies());
        let names = words(&builder).0;
        let place = |name: &str| names.iter().position(|n| n == name).unwrap();
        let (first, hard) = (place("?en 0, en 0, de 0, ?de 0"), place("?en 4, en 4, de 4, ?de 4"));
        let parallel = builder.finish(None).unwrap();
        assert_eq!(parallel.hard_negatives(&parallel.triples()[first]), [parallel.triples()[hard]]);
        assert!(parallel.hard_negatives(&parallel.triples()[hard]).is_empty());
    }

    #[test]
    fn files_have_a_translation_a_line() {
        let student = student();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.tsv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut builder = ParallelBuilder::new(&student, lang("en"), &[]);
            builder.add_file(&path).map(|()| words(&builder))
        };
        let (triples, pairs) = read("en 1\tsw 1\r\n\nen 2\tsw 2\nen 1\tsw 1\n").unwrap();
        assert_eq!(triples, ["en 1, en 1, sw 1, sw 1", "en 2, en 2, sw 2, sw 2"]);
        assert_eq!(pairs, ["en 1, sw 1", "en 2, sw 2"]);
        for (bad, at) in [("a\tb\nno tab\n", ":2"), ("a\tb\tc\n", ":1"), ("a\t \n", ":1"), ("", "pairs.tsv")]
        {
            let error = read(bad).unwrap_err();
            assert!(error.exit_code() == 1 && error.to_string().contains(at), "{error}");
        }
    }

    #[test]
    fn teachers_of_another_width_are_refused() {
        let student = student();
        let settings = NewStatic { vocab_size: 60, dim: 6, ..NewStatic::default() };
        let teacher = NewStaticBase::new(&["one two three"; 3], &[0, 1, 2], &settings).unwrap().encoder(1);
        let mut builder = ParallelBuilder::new(&student, lang("en"), &["de"].map(lang));
        builder.add_train(&collection(), Scenario::Mixture, &policies());
        let error = builder.finish(Some(&teacher)).err().unwrap();
        assert!(error.exit_code() == 2 && error.to_string().contains("--projection 6"), "{error}");
    }
}
