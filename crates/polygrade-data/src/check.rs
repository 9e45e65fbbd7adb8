//! The invariants of a collection, checked one record at a time, in one place for readers and importers.
//!
//! Passage and query ids are unique, without white space and not empty; texts are not empty; languages are
//! tags; judgments name known queries and passages with a grade on the scale, once for each annotator and source; all judgments of a query,
//! and of its translations, lie in one split. Memory: about 40 bytes a passage or query and 16 a judgment.

use crate::error::{At, Problems, Report};
use crate::lang::Lang;
use crate::record::{Origin, RawText, Scale, Split};
use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

/// A passage or query as checked: its index in reading order.
pub type Index = u32;

/// Collects the [`Problems`] of a stream of records.
pub struct Checker {
    /// What was found so far.
    pub problems: Problems,
    passages: FxHashMap<u128, Index>,
    queries: FxHashMap<u128, Index>,
    query_split: Vec<Option<Split>>,
    /// For each query a hash of its group, or of itself.
    query_unit: Vec<u64>,
    unit_split: FxHashMap<u64, Split>,
    pairs: FxHashSet<u64>,
    /// Pairs with an origin, and a hash of it.
    votes: FxHashSet<(Index, Index, u64)>,
}

impl Report for Checker {
    fn problems(&mut self) -> &mut Problems {
        &mut self.problems
    }
}

impl Checker {
    /// A checker that keeps `limit` problems in full.
    pub fn new(limit: usize) -> Self {
        Checker {
            problems: Problems::with_limit(limit),
            passages: FxHashMap::default(),
            queries: FxHashMap::default(),
            query_split: Vec::new(),
            query_unit: Vec::new(),
            unit_split: FxHashMap::default(),
            pairs: FxHashSet::default(),
            votes: FxHashSet::default(),
        }
    }

    /// Checks a passage; its index, or `None` with a problem noted.
    pub fn passage(&mut self, at: &At, raw: &RawText) -> Option<(Index, Lang)> {
        let lang = self.text(at, "passage", raw)?;
        insert(&mut self.passages, &mut self.problems, at, "passage", &raw.id).map(|i| (i, lang))
    }

    /// Checks a query; its index, or `None` with a problem noted.
    pub fn query(&mut self, at: &At, raw: &RawText) -> Option<(Index, Lang)> {
        let lang = self.text(at, "query", raw)?;
        let index = insert(&mut self.queries, &mut self.problems, at, "query", &raw.id)?;
        self.query_split.push(None);
        self.query_unit.push(match &raw.group {
            Some(group) => xxh3_64_with_seed(group.as_bytes(), 1),
            None => xxh3_64_with_seed(raw.id.as_bytes(), 0),
        });
        Some((index, lang))
    }

    /// Checks a judgment; the indices of query and passage, or `None` with a problem noted.
    pub fn judgment(
        &mut self,
        at: &At,
        split: Split,
        (query, passage): (&str, &str),
        grade: f32,
        origin: Origin,
        scale: &Scale,
    ) -> Option<(Index, Index)> {
        let q = self.queries.get(&key(query)).copied();
        let p = self.passages.get(&key(passage)).copied();
        if q.is_none() {
            let fix = "add the query to queries.jsonl or remove the judgment";
            self.problems.push(at.clone(), format!("judges query {query:?}, which is unknown"), fix);
        }
        if p.is_none() {
            let fix = "add the passage to corpus.jsonl or remove the judgment";
            self.problems.push(at.clone(), format!("judges passage {passage:?}, which is unknown"), fix);
        }
        let (q, p) = (q?, p?);
        if !scale.holds(grade) {
            let off = match grade < 0.0 {
                true => format!("grade {grade} is negative"),
                false => format!("grade {grade} is off the scale 0..{}", scale.max),
            };
            self.problems.push(
                at.clone(),
                off,
                "correct the grade, raise grades.max in collection.toml, or import with --map OLD=NEW,…",
            );
            return None;
        }
        match self.query_split[q as usize] {
            Some(other) if other != split => {
                self.problems.push(
                    at.clone(),
                    format!("query {query:?} is judged in {} and in {}", other.name(), split.name()),
                    "keep all judgments of a query in one split, so that what is reported was not trained on",
                );
                return None;
            }
            _ => self.query_split[q as usize] = Some(split),
        }
        let unit = self.query_unit[q as usize];
        match *self.unit_split.entry(unit).or_insert(split) {
            own if own == split => {}
            other => {
                self.problems.push(
                    at.clone(),
                    format!(
                        "query {query:?} is judged in {}, a translation of it (the same group) in {}",
                        split.name(),
                        other.name()
                    ),
                    "keep a group's judgments in one split: a judgment holds for all translations, so test would leak",
                );
                return None;
            }
        }
        if [origin.annotator, origin.source].iter().flatten().any(|n| n.chars().any(char::is_control)) {
            let what = "names an annotator or source with a tab or another control character";
            self.problems.push(at.clone(), what, "use a plain name");
            return None;
        }
        let (fresh, fix) = if origin.is_none() {
            let fix = "keep one judgment for each pair, or name the annotators (docs/formats.md#qrels)";
            (self.pairs.insert(u64::from(q) << 32 | u64::from(p)), fix)
        } else {
            let name = [origin.annotator, origin.source].map(|n| n.unwrap_or("")).join("\t");
            let fix = "keep one judgment for each pair, annotator and source";
            (self.votes.insert((q, p, xxh3_64_with_seed(name.as_bytes(), 0))), fix)
        };
        if !fresh {
            let what = format!("judges query {query:?} and passage {passage:?} a second time");
            self.problems.push(at.clone(), what, fix);
            return None;
        }
        Some((q, p))
    }

    /// The split a query's judgments lie in so far.
    pub fn split_of(&self, query: &str) -> Option<Split> {
        self.queries.get(&key(query)).and_then(|&q| self.query_split[q as usize])
    }

    /// How many passages, queries and judgments passed.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.passages.len(), self.queries.len(), self.pairs.len() + self.votes.len())
    }

    fn text(&mut self, at: &At, kind: &str, raw: &RawText) -> Option<Lang> {
        let mut ok = true;
        let mut problem = |what: String, fix: &str| {
            self.problems.push(at.clone(), what, fix);
            ok = false;
        };
        if raw.id.is_empty() || raw.id.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let fix = "give it an id without white space: run files separate their columns by it";
            problem(format!("{kind} id {:?} is empty or holds white space", raw.id), fix);
        }
        // Queries have no title: one that stands there is not kept.
        let title = raw.title.as_deref().filter(|_| kind == "passage").is_some_and(|t| !t.trim().is_empty());
        if raw.text.trim().is_empty() && !title {
            problem(
                format!("{kind} {:?} has an empty text", raw.id),
                "give it a text or remove it with its judgments",
            );
        }
        let lang = match &raw.lang {
            None => {
                let fix = "add \"lang\": a BCP 47 tag such as \"en\", or import with --lang";
                problem(format!("{kind} {:?} has no language", raw.id), fix);
                None
            }
            Some(tag) => {
                let lang = Lang::parse(tag);
                if lang.is_none() {
                    let fix = "use a BCP 47 tag such as \"en\" or \"pt-BR\"";
                    problem(format!("{kind} {:?} has {tag:?} for a language", raw.id), fix);
                }
                lang
            }
        };
        if ok { lang } else { None }
    }
}

fn key(id: &str) -> u128 {
    xxh3_128(id.as_bytes())
}

fn insert(
    map: &mut FxHashMap<u128, Index>,
    problems: &mut Problems,
    at: &At,
    kind: &str,
    id: &str,
) -> Option<Index> {
    let next = map.len() as Index;
    match map.entry(key(id)) {
        std::collections::hash_map::Entry::Occupied(_) => {
            let fix = "give each its own id, or remove the repetition";
            problems.push(at.clone(), format!("{kind} id {id:?} occurs a second time"), fix);
            None
        }
        std::collections::hash_map::Entry::Vacant(slot) => Some(*slot.insert(next)),
    }
}
