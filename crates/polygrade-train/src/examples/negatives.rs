//! Hard negatives from a file, beside the judged ones of each query.
//!
//! A pair that the policy calls a positive or leaves out never becomes a negative, whatever the file says; nor does one
//! whose text or translation is judged so.

use super::Examples;
use polygrade_data::io::Lines;
use polygrade_data::{At, Collection, Index, Problems, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Hard negatives of queries, as `polygrade mine` writes them, and how many of them a batch takes.
#[derive(Clone, PartialEq)]
pub struct HardNegatives {
    /// By query, then in the order of the file.
    pairs: Arc<Vec<(Index, Index)>>,
    per_query: usize,
}

/// Short, for what tells training runs apart.
impl fmt::Debug for HardNegatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hash = Xxh3::new();
        self.pairs.iter().for_each(|(q, p)| hash.update(&[q.to_le_bytes(), p.to_le_bytes()].concat()));
        write!(f, "{} hard negatives {:016x}, {} a query", self.pairs.len(), hash.digest(), self.per_query)
    }
}

impl HardNegatives {
    /// From pairs of query and passage; a batch takes up to `per_query` for each query.
    pub fn new(mut pairs: Vec<(Index, Index)>, per_query: usize) -> Self {
        // A pair that comes again is none more.
        let mut seen = FxHashSet::default();
        pairs.retain(|pair| seen.insert(*pair));
        // Stable: the order within a query is the file's.
        pairs.sort_by_key(|(q, _)| *q);
        HardNegatives { pairs: Arc::new(pairs), per_query }
    }

    /// Reads a file of `query-id<TAB>corpus-id` and further columns, which are passed over; a first line that names
    /// columns is skipped.
    ///
    /// # Errors
    /// The file cannot be read, a line has fewer columns, or names what the collection lacks.
    pub fn read(path: &Path, collection: &Collection, per_query: usize) -> Result<Self> {
        let number = |ids: Vec<&'_ str>| -> FxHashMap<String, Index> {
            ids.into_iter().enumerate().map(|(i, id)| (id.to_owned(), i as Index)).collect()
        };
        let queries = number(collection.queries.iter().map(|q| q.id.as_str()).collect());
        let passages = number(collection.passages.iter().map(|p| p.id.as_str()).collect());
        let (mut lines, mut problems, mut pairs) = (Lines::open(path)?, Problems::default(), Vec::new());
        let mut first = true;
        while let Some((line, text)) = lines.next_line(&mut problems) {
            let mut fields = text.split_ascii_whitespace();
            let (query, passage) = (fields.next().unwrap_or(""), fields.next());
            if std::mem::take(&mut first) && matches!(query, "query-id" | "query_id" | "qid") {
                continue;
            }
            let at = At::line(path, line);
            let fix = "give the file that polygrade mine wrote for this collection";
            match (queries.get(query), passage.map(|p| (p, passages.get(p)))) {
                (_, None) => problems.push(at, "has one column, expected query-id and corpus-id", fix),
                (None, _) => problems.push(at, format!("the collection has no query {query:?}"), fix),
                (_, Some((id, None))) => {
                    problems.push(at, format!("the collection has no passage {id:?}"), fix);
                }
                (Some(&q), Some((_, Some(&p)))) => pairs.push((q, p)),
            }
        }
        problems.into_result()?;
        Ok(HardNegatives::new(pairs, per_query))
    }

    /// All pairs, by query.
    pub fn pairs(&self) -> &[(Index, Index)] {
        &self.pairs
    }

    /// The passages of a query.
    fn of(&self, query: Index) -> impl Iterator<Item = Index> + '_ {
        let from = self.pairs.partition_point(|(q, _)| *q < query);
        self.pairs[from..].iter().take_while(move |(q, _)| *q == query).map(|(_, p)| *p)
    }
}

/// What became of hard negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Added {
    /// Pairs that training uses.
    pub pairs: usize,
    /// Pairs that it must not use, since the policy calls them positives or leaves them out.
    pub refused: usize,
    /// Pairs that are there already as judged negatives.
    pub judged: usize,
    /// Pairs of queries that are not trained on.
    pub unused: usize,
}

impl Examples {
    /// Adds hard negatives to the examples; those of an earlier call are forgotten. A query meets them beside its judged
    /// negatives. Where it meets passages in another language than its own, those in that language go first, if there
    /// are any: another language alone would give them away.
    pub fn add_negatives(&mut self, collection: &Collection, hard: &HardNegatives) -> Added {
        let mut added = Added::default();
        self.mined_per_query = hard.per_query;
        let mut mined = Vec::new();
        let mut last = None;
        let (text_of, langs) = (&self.text_of, &self.langs);
        self.table.set_mined(|example, table, variant, out| {
            // The variants of an example come one after the other.
            if last.replace(example.query) != Some(example.query) {
                mined.clear();
                let judged = example.judged.of(&table.judged);
                for passage in hard.of(example.query) {
                    let text = text_of[passage as usize];
                    match judged.binary_search_by_key(&text, |j| j.text).ok().map(|i| &judged[i]) {
                        None => mined.push(passage),
                        Some(j) if j.label == crate::Label::Negative => added.judged += 1,
                        Some(_) => added.refused += 1,
                    }
                }
                added.pairs += mined.len();
            }
            let inside = |p: &&Index| collection.passages[**p as usize].lang == langs[variant.lang];
            let narrow = variant.lang != example.lang && mined.iter().any(|p| inside(&p));
            out.extend(mined.iter().filter(|p| !narrow || inside(p)));
        });
        added.unused = hard.pairs.len() - added.pairs - added.refused - added.judged;
        added
    }
}
