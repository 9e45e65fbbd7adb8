//! The table of a static encoder's token embeddings, as plain numbers or packed.

use polygrade_nn::Matrix;
use polygrade_nn::bag::{self, Bags, Rows};
use polygrade_nn::packed::PackedRows;
use rayon::prelude::*;
use std::borrow::Cow;
use xxhash_rust::xxh3::Xxh3;

/// Values that are hashed together.
const HASHED: usize = 1024;

/// Token embeddings, vocabulary × width.
#[derive(Debug, Clone, PartialEq)]
pub enum Table {
    /// Plain numbers; what is trained is always so.
    Plain(Matrix),
    /// A few bits a number, as compact files hold them.
    Packed(PackedRows),
}

impl Table {
    /// Number of tokens.
    pub fn rows(&self) -> usize {
        match self {
            Table::Plain(t) => t.rows(),
            Table::Packed(t) => t.rows(),
        }
    }

    /// Width of the embeddings.
    pub fn cols(&self) -> usize {
        match self {
            Table::Plain(t) => t.cols,
            Table::Packed(t) => t.cols(),
        }
    }

    /// Number of values.
    pub fn values(&self) -> usize {
        self.rows() * self.cols()
    }

    /// As plain numbers.
    pub fn plain(&self) -> Cow<'_, Matrix> {
        match self {
            Table::Plain(t) => Cow::Borrowed(t),
            Table::Packed(t) => Cow::Owned(t.unpack()),
        }
    }

    /// As plain numbers, to change; a packed table is unpacked for good.
    pub fn plain_mut(&mut self) -> &mut Matrix {
        if let Table::Packed(t) = self {
            *self = Table::Plain(t.unpack());
        }
        match self {
            Table::Plain(t) => t,
            Table::Packed(_) => unreachable!("it was unpacked above"),
        }
    }

    /// Some of the rows, in this order.
    pub(crate) fn select(&self, rows: &[u32]) -> Matrix {
        let mut out = Matrix::zeros(rows.len(), self.cols());
        let copy = |(out, row): (&mut [f32], &u32)| match self {
            Table::Plain(t) => out.copy_from_slice(t.row(*row as usize)),
            Table::Packed(t) => t.copy_row(*row as usize, out),
        };
        out.data.par_chunks_mut(self.cols()).with_min_len(256).zip(rows).for_each(copy);
        out
    }

    /// The values, row after row.
    pub(crate) fn data(&self) -> Cow<'_, [f32]> {
        match self {
            Table::Plain(t) => Cow::Borrowed(&t.data),
            Table::Packed(t) => Cow::Owned(t.unpack().data),
        }
    }

    /// See [`bag::forward`].
    pub(crate) fn forward(&self, log_weights: &[f32], bags: &Bags, threads: bool, out: &mut Matrix) {
        match self {
            Table::Plain(t) => bag::forward(t, log_weights, bags, threads, out),
            Table::Packed(t) => bag::forward(t, log_weights, bags, threads, out),
        }
    }

    /// Whether all values are finite.
    pub(crate) fn is_finite(&self) -> bool {
        match self {
            Table::Plain(t) => t.data.iter().all(|v| v.is_finite()),
            Table::Packed(t) => t.scales().iter().all(|s| s.is_finite()),
        }
    }

    /// Adds the values to a hash; the same values packed and plain give different hashes.
    pub(crate) fn hash(&self, hash: &mut Xxh3) {
        match self {
            Table::Plain(t) => {
                // In runs, which is much faster and the same hash.
                let mut bytes = Vec::with_capacity(4 * HASHED);
                for values in t.data.chunks(HASHED) {
                    bytes.clear();
                    bytes.extend(values.iter().flat_map(|v| v.to_bits().to_le_bytes()));
                    hash.update(&bytes);
                }
            }
            Table::Packed(t) => {
                hash.update(t.bytes());
                t.scales().iter().for_each(|s| hash.update(&s.to_bits().to_le_bytes()));
            }
        }
    }
}

impl From<Matrix> for Table {
    fn from(table: Matrix) -> Self {
        Table::Plain(table)
    }
}
