//! A teacher's scores of pairs of query and passage, from a file: a TREC run (`query-id Q0 passage-id rank score tag`)
//! or tab-separated `query-id passage-id score`, as it is or compressed.

use polygrade_data::{At, Collection, Error, Index, Problems, Result, io};
use rustc_hash::FxHashMap;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Scores by (query, passage).
#[derive(Debug, Clone, Default)]
pub struct TeacherScores {
    scores: FxHashMap<(Index, Index), f32>,
    fingerprint: u64,
}

impl TeacherScores {
    /// Reads a file of scores for pairs of `collection`. An id that the collection does not have, a pair that comes
    /// twice and a score that is no finite number are faults.
    pub fn load(path: &Path, collection: &Collection) -> Result<Self> {
        let queries: FxHashMap<&str, Index> =
            collection.queries.iter().zip(0..).map(|(q, i)| (q.id.as_str(), i)).collect();
        let passages: FxHashMap<&str, Index> =
            collection.passages.iter().zip(0..).map(|(p, i)| (p.id.as_str(), i)).collect();
        let (mut out, mut problems) = (TeacherScores::default(), Problems::default());
        let (mut lines, mut hash) = (io::Lines::open(path)?, Xxh3::new());
        while let Some((number, line)) = lines.next_line(&mut problems) {
            let at = || At::line(path, number);
            let Some((query, passage, score)) = fields(line) else {
                let fix = "write query-id, passage-id and score with tabs between, or the six columns of a TREC run";
                problems.push(at(), "is no score of a pair", fix);
                continue;
            };
            let ids = (queries.get(query).copied(), passages.get(passage).copied());
            let score = score.parse::<f32>().ok().filter(|s| s.is_finite());
            match (ids, score) {
                ((None, _), _) => {
                    problems.push(
                        at(),
                        format!("query {query:?} is not in the collection"),
                        "remove the line",
                    );
                }
                ((_, None), _) => {
                    let what = format!("passage {passage:?} is not in the collection");
                    problems.push(at(), what, "remove the line");
                }
                (_, None) => {
                    problems.push(at(), "the score is no finite number", "write a number such as 0.73")
                }
                ((Some(query), Some(passage)), Some(score)) => {
                    hash.update(&query.to_le_bytes());
                    hash.update(&passage.to_le_bytes());
                    hash.update(&score.to_bits().to_le_bytes());
                    if out.scores.insert((query, passage), score).is_some() {
                        problems.push(at(), "the pair has a score already", "keep one line of each pair");
                    }
                }
            }
        }
        problems.into_result()?;
        if out.scores.is_empty() {
            return Err(Error::input(At::file(path), "holds no score", "see docs/losses.md for its format"));
        }
        out.fingerprint = hash.digest();
        Ok(out)
    }

    /// The score of a pair.
    pub fn get(&self, query: Index, passage: Index) -> Option<f32> {
        self.scores.get(&(query, passage)).copied()
    }

    /// All pairs with their scores, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Index, Index, f32)> + '_ {
        self.scores.iter().map(|((q, p), s)| (*q, *p, *s))
    }

    /// Tells tables apart.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// Query, passage and score of a line.
fn fields(line: &str) -> Option<(&str, &str, &str)> {
    let mut tabs = line.split('\t').map(str::trim);
    if let (Some(query), Some(passage), Some(score), None) =
        (tabs.next(), tabs.next(), tabs.next(), tabs.next())
    {
        return Some((query, passage, score));
    }
    let mut words = line.split_whitespace();
    let found = (words.next()?, words.nth(1)?, words.nth(1)?);
    (words.next().is_some() && words.next().is_none()).then_some(found)
}
