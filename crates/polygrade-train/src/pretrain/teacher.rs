//! A teacher's vectors of many texts, in a file: half-precision rows and the hashes of their texts.
//!
//! Rows are only ever added, so that what was computed before a stop is there after it, and another run with the same
//! teacher finds them.

use half::f16;
use polygrade_data::{At, Error, Result};
use polygrade_encoder::{TextEncoder, TextKind};
use polygrade_nn::Matrix;
use polygrade_nn::kernels::l2_normalize;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The vectors.
pub struct TeacherStore {
    vectors: File,
    keys: File,
    path: PathBuf,
    rows: FxHashMap<u64, u32>,
    dim: usize,
}

impl TeacherStore {
    /// Opens the vectors of a teacher in `dir`, or begins them.
    ///
    /// # Errors
    /// The files cannot be opened or read.
    pub fn open(dir: &Path, teacher: &dyn TextEncoder, precision: &str) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let name = format!("teacher-{:016x}-{precision}", teacher.fingerprint());
        let open = |path: &Path| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path).map_err(|e| Error::io(path, e))
        };
        let path = dir.join(format!("{name}.f16"));
        let mut out = TeacherStore {
            vectors: open(&path)?,
            keys: open(&dir.join(format!("{name}.keys")))?,
            path,
            rows: FxHashMap::default(),
            dim: teacher.dim(),
        };
        out.read_keys().map_err(|e| Error::io(&out.path, e))?;
        Ok(out)
    }

    fn read_keys(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        self.keys.read_to_end(&mut bytes)?;
        let whole = (self.vectors.metadata()?.len() / self.row_bytes()).min(bytes.len() as u64 / 8);
        // What a stop cut short goes.
        self.vectors.set_len(whole * self.row_bytes())?;
        self.keys.set_len(whole * 8)?;
        let keys = bytes.as_chunks::<8>().0.iter().take(whole as usize).map(|k| u64::from_le_bytes(*k));
        self.rows = keys.zip(0..).collect();
        Ok(())
    }

    fn row_bytes(&self) -> u64 {
        2 * self.dim as u64
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Width of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The row of a text, by its hash.
    pub(super) fn row(&self, key: u64) -> Option<u32> {
        self.rows.get(&key).copied()
    }

    /// Encodes the texts that are not there yet.
    pub(super) fn ensure(&mut self, teacher: &dyn TextEncoder, texts: &[(u64, &str)]) -> Result<()> {
        let mut new: Vec<(u64, &str)> = Vec::new();
        for &(key, text) in texts {
            let next = self.rows.len() as u32;
            self.rows.entry(key).or_insert_with(|| {
                new.push((key, text));
                next
            });
        }
        for part in new.chunks(1024) {
            let texts: Vec<&str> = part.iter().map(|(_, t)| *t).collect();
            let mut vectors = teacher.encode(&texts, TextKind::Passage)?;
            vectors.data.par_chunks_mut(self.dim).for_each(|row| {
                l2_normalize(row);
            });
            let bytes: Vec<u8> = vectors.data.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            let keys: Vec<u8> = part.iter().flat_map(|(key, _)| key.to_le_bytes()).collect();
            let mut write = || {
                self.vectors.seek(SeekFrom::End(0))?;
                self.vectors.write_all(&bytes)?;
                self.keys.seek(SeekFrom::End(0))?;
                self.keys.write_all(&keys)
            };
            write().map_err(|e| Error::io(&self.path, e))?;
        }
        Ok(())
    }

    /// The vectors of rows, in their order.
    pub(super) fn read(&mut self, rows: &[u32], out: &mut Matrix) -> Result<()> {
        out.reset(rows.len(), self.dim);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|i| rows[*i]);
        let mut bytes = vec![0u8; self.row_bytes() as usize];
        let mut last = None;
        for i in order {
            if last != Some(rows[i]) {
                let mut read = || {
                    self.vectors.seek(SeekFrom::Start(u64::from(rows[i]) * 2 * self.dim as u64))?;
                    self.vectors.read_exact(&mut bytes)
                };
                read().map_err(|_| {
                    let what = "is shorter than it was";
                    Error::input(At::file(&self.path), what, "remove it, and start again")
                })?;
                last = Some(rows[i]);
            }
            let values = bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32());
            out.row_mut(i).iter_mut().zip(values).for_each(|(o, v)| *o = v);
        }
        Ok(())
    }
}
