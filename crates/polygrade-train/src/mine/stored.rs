//! Vectors from files, in place of an encoder.

use super::Task;
use super::source::{Each, PASSAGES, Vectors};
use crate::evaluate::unit_rows;
use polygrade_data::{At, Error, Index, Result};
use polygrade_index::vectors::VectorReader;
use polygrade_nn::Matrix;
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};

/// Marks a row of a file that is not needed.
const UNUSED: Index = Index::MAX;

/// Queries' vectors in memory; of the passages only which row is whose, 4 bytes a row.
pub(super) struct Stored {
    /// Ascending.
    asked: Vec<Index>,
    queries: Matrix,
    passages: Vec<(VectorReader, Vec<Index>)>,
}

impl Stored {
    /// See [`super::Dense::stored`].
    pub(super) fn open(task: &Task, passages: &[PathBuf], queries: &[PathBuf]) -> Result<Self> {
        let open =
            |paths: &[PathBuf]| paths.iter().map(|p| VectorReader::open(p)).collect::<Result<Vec<_>>>();
        let (passages, queries) = (open(passages)?, open(queries)?);
        // A file without rows may have no width.
        let mut wide = passages.iter().chain(&queries).filter(|f| f.rows() > 0);
        if let Some(first) = wide.next()
            && let Some(other) = wide.find(|f| f.dim() != first.dim())
        {
            let what = format!(
                "has vectors of width {}, but those of {} have {}",
                other.dim(),
                first.path().display(),
                first.dim()
            );
            let fix = "encode passages and queries with one model and one --truncate-dim";
            return Err(Error::input(At::file(other.path()), what, fix));
        }
        let c = task.collection;
        let mut asked: Vec<Index> = (0..task.len()).map(|at| task.query(at)).collect();
        asked.sort_unstable();
        let side = Side {
            one: "query",
            many: "queries",
            records: "queries.jsonl --query",
            ids: c.queries.iter().map(|q| q.id.as_str()).collect(),
            wanted: &asked,
        };
        let queries = query_vectors(&side.places(queries)?, &asked)?;
        let side = Side {
            one: "passage",
            many: "passages",
            records: "corpus.jsonl",
            ids: c.passages.iter().map(|p| p.id.as_str()).collect(),
            wanted: &task.needed(),
        };
        Ok(Stored { passages: side.places(passages)?, asked, queries })
    }
}

impl Vectors for Stored {
    fn queries(&self, _: &Task, which: &[Index]) -> Result<Matrix> {
        let row = |q| self.queries.row(self.asked.partition_point(|asked| asked < q));
        Ok(Matrix { cols: self.queries.cols, data: which.iter().flat_map(row).copied().collect() })
    }

    fn passages(&self, task: &Task, each: Each) -> Result<()> {
        for (file, owners) in &self.passages {
            let mut from = 0;
            file.blocks(PASSAGES, &mut |block| {
                let owners = &owners[from..from + block.rows()];
                from += block.rows();
                let mut used: Vec<(u32, Index, usize)> = owners
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| **p != UNUSED)
                    .map(|(row, &p)| (task.lang_of[p as usize], p, row))
                    .collect();
                used.sort_unstable();
                for lang in used.chunk_by(|a, b| a.0 == b.0) {
                    let numbers: Vec<Index> = lang.iter().map(|(_, p, _)| *p).collect();
                    let rows = lang.iter().flat_map(|(.., row)| block.row(*row)).copied().collect();
                    let mut vectors = Matrix::new(block.cols, rows);
                    unit_rows(&mut vectors);
                    each(&numbers, &vectors);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The vectors of `asked`, of length 1, in its order.
fn query_vectors(files: &[(VectorReader, Vec<Index>)], asked: &[Index]) -> Result<Matrix> {
    let dim = files.iter().map(|(file, _)| file.dim()).max().unwrap_or(0);
    let mut out = Matrix::zeros(asked.len(), dim);
    for (file, owners) in files {
        let mut from = 0;
        file.blocks(PASSAGES, &mut |block| {
            for (row, &owner) in owners[from..from + block.rows()].iter().enumerate() {
                if let Ok(at) = asked.binary_search(&owner) {
                    out.row_mut(at).copy_from_slice(block.row(row));
                }
            }
            from += block.rows();
            Ok(())
        })?;
    }
    unit_rows(&mut out);
    Ok(out)
}

/// Queries or passages of a collection, to check the ids of files against.
struct Side<'a> {
    one: &'static str,
    many: &'static str,
    /// What `encode` is given for them.
    records: &'static str,
    ids: Vec<&'a str>,
    /// Those that vectors are needed of; ascending.
    wanted: &'a [Index],
}

impl Side<'_> {
    /// The files with the number of each row's owner, or [`UNUSED`]. Every id must be known and come once, over all files,
    /// and all wanted be there.
    fn places(&self, files: Vec<VectorReader>) -> Result<Vec<(VectorReader, Vec<Index>)>> {
        let numbers: FxHashMap<&str, Index> =
            self.ids.iter().enumerate().map(|(i, id)| (*id, i as Index)).collect();
        let mut seen = vec![false; self.ids.len()];
        let mut out = Vec::with_capacity(files.len());
        for file in files {
            let (mut unknown, mut again) = (Faults::default(), Faults::default());
            let mut owners = Vec::new();
            let mut row = 0u64;
            file.ids(&mut |id| {
                row += 1;
                let number = numbers.get(id).copied();
                match number {
                    None => unknown.add(id, row),
                    Some(n) if std::mem::replace(&mut seen[n as usize], true) => again.add(id, row),
                    Some(_) => {}
                }
                let wanted = |n: &Index| self.wanted.binary_search(n).is_ok();
                owners.push(number.filter(wanted).unwrap_or(UNUSED));
            })?;
            let faults = [
                (unknown, "that the collection lacks"),
                (again, "that have come before, in it or another file"),
            ];
            for (found, which) in faults {
                if let Some((id, row)) = found.first {
                    let words = if found.count == 1 { self.one } else { self.many };
                    let what = format!(
                        "has vectors of {} {words} {which}, first of {id:?} in row {row}",
                        found.count
                    );
                    return Err(self.fault(file.path(), what));
                }
            }
            out.push((file, owners));
        }
        let missing: Vec<&Index> = self.wanted.iter().filter(|i| !seen[**i as usize]).collect();
        if let (Some(first), Some((file, _))) = (missing.first(), out.first()) {
            let words = if missing.len() == 1 { self.one } else { self.many };
            let more = if out.len() > 1 { ", and so do the others," } else { "" };
            let what = format!(
                "lacks{more} vectors of {} {words} that mining needs, first of {:?}",
                missing.len(),
                self.ids[**first as usize]
            );
            return Err(self.fault(file.path(), what));
        }
        Ok(out)
    }

    fn fault(&self, path: &Path, what: String) -> Error {
        let fix = format!(
            "encode the {} of this collection: polygrade encode MODEL COLLECTION/{} --out {}",
            self.many,
            self.records,
            path.display()
        );
        Error::input(At::file(path), what, fix)
    }
}

/// How many, and which was first in which row.
#[derive(Default)]
struct Faults {
    count: usize,
    first: Option<(String, u64)>,
}

impl Faults {
    fn add(&mut self, id: &str, row: u64) {
        self.count += 1;
        self.first.get_or_insert_with(|| (id.to_owned(), row));
    }
}
