//! What ranks candidates: an encoder or stored vectors by exact search, BM25, or a run file.

use super::Task;
use super::stored::Stored;
use crate::evaluate::unit;
use polygrade_data::{At, Error, Index, Result};
use polygrade_encoder::{TextEncoder, TextKind};
use polygrade_eval::run::{self, Run};
use polygrade_index::bm25::Bm25;
use polygrade_index::{Hit, Top};
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use std::path::{Path, PathBuf};

/// What a source found for a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// For each pool the best candidates, best first. None is banned, and each text comes once.
    pub candidates: Vec<Vec<Hit>>,
    /// The scores of [`Task::banned`], where the source has them.
    pub banned: Vec<Hit>,
}

/// Ranks candidates.
pub trait Source {
    /// The best `depth` candidates in each pool of each query of the task. `progress` hears of passages done.
    ///
    /// # Errors
    /// Texts or files that cannot be read.
    fn find(&self, task: &Task, depth: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<Found>>;
}

/// The best so far of a query, while passages stream by.
struct Seen<'a> {
    pools: Vec<Top<'a>>,
    banned: Vec<Hit>,
}

impl<'a> Seen<'a> {
    fn new(task: &'a Task, depth: usize) -> Self {
        Seen { pools: (0..task.pools()).map(|_| Top::new(depth, &task.ties)).collect(), banned: Vec::new() }
    }

    fn push(&mut self, task: &Task, at: usize, pool: usize, hit: Hit) {
        let top = &mut self.pools[pool];
        if top.takes(&hit) && !task.is_banned(at, hit.passage) {
            top.push(hit);
        }
    }

    fn found(mut self) -> Found {
        // A mean of them is to be the same in whatever order passages came.
        self.banned.sort_unstable_by_key(|hit| hit.passage);
        Found { candidates: self.pools.into_iter().map(Top::into_sorted).collect(), banned: self.banned }
    }
}

/// Queries that a thread scores at once.
const QUERIES: usize = 256;
/// Passages that are encoded or read, scored and forgotten at once.
pub(super) const PASSAGES: usize = 4096;

/// Takes a block of passages in one language, ascending, with their vectors.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[Index], &Matrix);

/// Gives vectors of length 1.
pub(super) trait Vectors: Sync {
    /// Those of queries, in their order.
    fn queries(&self, task: &Task, which: &[Index]) -> Result<Matrix>;

    /// Those of [`Task::needed`], each once.
    fn passages(&self, task: &Task, each: Each) -> Result<()>;
}

/// Encodes what is asked for.
struct Encoding<'a>(&'a dyn TextEncoder);

impl Vectors for Encoding<'_> {
    fn queries(&self, task: &Task, which: &[Index]) -> Result<Matrix> {
        let texts = which.iter().map(|&q| task.collection.queries[q as usize].text.as_str());
        let vectors = self.0.encode(&texts.collect::<Vec<_>>(), TextKind::Query)?;
        Ok(unit(self.0, vectors))
    }

    fn passages(&self, task: &Task, each: Each) -> Result<()> {
        for passages in task.by_language(&task.needed()).values() {
            for block in passages.chunks(PASSAGES) {
                let texts: Vec<_> =
                    block.iter().map(|&p| task.collection.passages[p as usize].full_text()).collect();
                let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
                each(block, &unit(self.0, self.0.encode(&texts, TextKind::Passage)?));
            }
        }
        Ok(())
    }
}

/// Exact search by cosine. Passages are encoded or read block by block, scored against all queries and forgotten, so that
/// memory holds the queries' vectors, `depth` hits for each pool of a query, and one block.
pub struct Dense<'a>(Box<dyn Vectors + 'a>);

impl<'a> Dense<'a> {
    /// Search with an encoder.
    pub fn new(encoder: &'a dyn TextEncoder) -> Self {
        Dense(Box::new(Encoding(encoder)))
    }

    /// Search among the vectors of files, as [`VectorReader`](polygrade_index::vectors::VectorReader) reads them, in any
    /// order. Vectors are scaled to length 1; those that are so keep their bits, so that an encoder's own vectors give
    /// what the encoder gives.
    ///
    /// # Errors
    /// A file cannot be read, has another width than the others, an id that the collection lacks or that another row
    /// has, or lacks a passage or query of the task. Values that are no finite numbers are told by [`Source::find`],
    /// where they are passages'.
    pub fn stored(task: &Task, passages: &[PathBuf], queries: &[PathBuf]) -> Result<Self> {
        Ok(Dense(Box::new(Stored::open(task, passages, queries)?)))
    }
}

impl Source for Dense<'_> {
    fn find(&self, task: &Task, depth: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<Found>> {
        // Queries of a language side by side, so that whole tiles can be passed over.
        let mut order: Vec<usize> = (0..task.len()).collect();
        order.sort_by_key(|&at| task.lang(at));
        let which: Vec<Index> = order.iter().map(|&at| task.query(at)).collect();
        let queries = self.0.queries(task, &which)?;
        let mut seen: Vec<Seen> = order.iter().map(|_| Seen::new(task, depth)).collect();
        let mut left = task.passages.len();
        self.0.passages(task, &mut |block, vectors| {
            let tiles = seen.par_chunks_mut(QUERIES).zip(order.par_chunks(QUERIES)).enumerate();
            tiles.for_each_init(Matrix::default, |scores, (i, (seen, order))| {
                tile(task, (block, vectors), (&queries, i * QUERIES), (order, seen), scores);
            });
            left -= block.len();
            progress(block.len() as u64);
        })?;
        progress(left as u64);
        let mut out = vec![Found::default(); order.len()];
        order.into_iter().zip(seen).for_each(|(at, seen)| out[at] = seen.found());
        Ok(out)
    }
}

/// Scores a tile of queries, which begins with a row of all, against a block of passages in one language.
fn tile(
    task: &Task,
    (block, vectors): (&[Index], &Matrix),
    (queries, from): (&Matrix, usize),
    (order, seen): (&[usize], &mut [Seen]),
    scores: &mut Matrix,
) {
    let banned = |at: usize| {
        let all = task.banned(at);
        let from = all.partition_point(|p| *p < block[0]);
        all[from..].iter().filter_map(|p| block.binary_search(p).ok())
    };
    if order.iter().all(|&at| task.pool_of(at, block[0]).is_none() && banned(at).next().is_none()) {
        return;
    }
    let rows = from * queries.cols..(from + order.len()) * queries.cols;
    let part = Matrix::new(queries.cols, queries.data[rows].to_vec());
    matmul(&part, vectors, Transpose::Right, false, scores);
    for (i, (&at, seen)) in order.iter().zip(seen).enumerate() {
        let row = scores.row(i);
        seen.banned.extend(banned(at).map(|j| Hit { passage: block[j], score: row[j] }));
        if let Some(pool) = task.pool_of(at, block[0]) {
            for (&passage, &score) in block.iter().zip(row) {
                seen.push(task, at, pool, Hit { passage, score });
            }
        }
    }
}

/// BM25. Where every pool is in one language, each language has an index of its own, else all share one, whose word
/// frequencies are those of all passages. What shares no word with the query has no score.
pub struct Lexical;

impl Source for Lexical {
    fn find(&self, task: &Task, depth: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<Found>> {
        let mut seen: Vec<Seen> = (0..task.len()).map(|_| Seen::new(task, depth)).collect();
        let indices: Vec<Vec<Index>> = match task.by_lang() {
            true => task.by_language(&task.passages).into_values().collect(),
            false => vec![task.passages.clone()],
        };
        let c = task.collection;
        for passages in indices {
            let texts: Vec<_> = passages.iter().map(|&p| c.passages[p as usize].full_text()).collect();
            let records =
                passages.iter().zip(&texts).map(|(&p, t)| (p, t.as_ref(), &c.passages[p as usize].lang));
            let index = Bm25::new(records);
            seen.par_iter_mut().enumerate().for_each(|(at, seen)| {
                let wanted = |p: &Index| task.banned(at).binary_search(p).is_ok();
                let outside = task.by_lang() && task.pool_of(at, passages[0]).is_none();
                if outside && !task.banned(at).iter().any(|p| passages.binary_search(p).is_ok()) {
                    return;
                }
                let query = &c.queries[task.query(at) as usize];
                for hit in index.hits(&query.text, &query.lang) {
                    if wanted(&hit.passage) {
                        seen.banned.push(hit);
                    } else if let Some(pool) = task.pool_of(at, hit.passage) {
                        seen.push(task, at, pool, hit);
                    }
                }
            });
            progress(passages.len() as u64);
        }
        Ok(seen.into_iter().map(Seen::found).collect())
    }
}

/// A run file, in TREC's format. Ranks are those of its passages in a pool; what it does not rank has no score.
pub struct RunFile {
    path: PathBuf,
    run: Run,
}

impl RunFile {
    /// Reads a run.
    ///
    /// # Errors
    /// The file cannot be read or is no run.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(RunFile { path: path.to_owned(), run: run::read(path)? })
    }
}

impl Source for RunFile {
    fn find(&self, task: &Task, depth: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<Found>> {
        let c = task.collection;
        let numbers: FxHashMap<&str, Index> =
            c.passages.iter().enumerate().map(|(i, p)| (p.id.as_str(), i as Index)).collect();
        let one = |at: usize| {
            let mut found = Found { candidates: vec![Vec::new(); task.pools()], banned: Vec::new() };
            let Some(ranking) = self.run.get(&c.queries[task.query(at) as usize].id) else {
                return Ok(found);
            };
            let mut seen = FxHashSet::default();
            for (id, score) in ranking.iter() {
                let Some(&number) = numbers.get(id) else { return Err(id.to_owned()) };
                let passage = task.first[number as usize];
                let hit = Hit { passage, score: score as f32 };
                if !seen.insert(passage) {
                    continue;
                }
                if task.banned(at).binary_search(&passage).is_ok() {
                    found.banned.push(hit);
                } else if let Some(pool) = task.pool_of(at, passage)
                    && !task.is_banned(at, passage)
                    && found.candidates[pool].len() < depth
                {
                    found.candidates[pool].push(hit);
                }
            }
            Ok(found)
        };
        let found: Result<Vec<Found>, String> = (0..task.len()).into_par_iter().map(one).collect();
        progress(task.passages.len() as u64);
        let found = found.map_err(|id| {
            let what = format!("ranks passage {id:?}, which the collection lacks");
            Error::input(At::file(&self.path), what, "give a run over this collection")
        })?;
        if !task.is_empty() && found.iter().all(|f| f.candidates.iter().all(Vec::is_empty)) {
            let what = "ranks no passage that could be mined for any query of the split";
            let fix =
                "rank them: polygrade eval MODEL COLLECTION --split SPLIT --pool POOL --depth 100 --run FILE";
            return Err(Error::input(At::file(&self.path), what, fix));
        }
        Ok(found)
    }
}
