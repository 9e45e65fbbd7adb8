//! The vectors of a guide model, for masks of false negatives.

use crate::evaluate::unit;
use polygrade_data::{Collection, Index, Result};
use polygrade_encoder::{TextEncoder, TextKind};
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};
use std::fmt;
use std::sync::Arc;

/// The vectors that a guide model gives to the texts of training, made once before it.
#[derive(Clone)]
pub struct Guide {
    sides: Arc<[Side; 2]>,
    fingerprint: u64,
}

/// Vectors of queries or passages.
struct Side {
    /// The row of each text, `u32::MAX` where it has none.
    row: Vec<u32>,
    vectors: Matrix,
}

impl Side {
    fn new(
        encoder: &dyn TextEncoder,
        texts: &[&str],
        which: &[Index],
        all: usize,
        kind: TextKind,
    ) -> Result<Side> {
        let mut row = vec![u32::MAX; all];
        which.iter().enumerate().for_each(|(i, &text)| row[text as usize] = i as u32);
        Ok(Side { row, vectors: unit(encoder, encoder.encode(texts, kind)?) })
    }

    /// The vectors of some texts; those of texts that were not encoded are NaN.
    fn gather(&self, which: &[Index]) -> Matrix {
        let mut out = Matrix::zeros(which.len(), self.vectors.cols);
        for (i, &text) in which.iter().enumerate() {
            match self.row.get(text as usize) {
                Some(&row) if row != u32::MAX => {
                    out.row_mut(i).copy_from_slice(self.vectors.row(row as usize))
                }
                _ => out.row_mut(i).fill(f32::NAN),
            }
        }
        out
    }
}

/// Short, for what tells training runs apart.
impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guide {:016x}", self.fingerprint)
    }
}

impl PartialEq for Guide {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Guide {
    /// Encodes the queries and passages that training may meet, each once.
    ///
    /// # Errors
    /// Texts that cannot be tokenised.
    pub fn new(
        encoder: &dyn TextEncoder,
        collection: &Collection,
        queries: &[Index],
        passages: &[Index],
    ) -> Result<Guide> {
        let texts: Vec<&str> =
            queries.iter().map(|&q| collection.queries[q as usize].text.as_str()).collect();
        let query = Side::new(encoder, &texts, queries, collection.queries.len(), TextKind::Query)?;
        let texts: Vec<_> = passages.iter().map(|&p| collection.passages[p as usize].full_text()).collect();
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let passage = Side::new(encoder, &texts, passages, collection.passages.len(), TextKind::Passage)?;
        Ok(Guide { sides: Arc::new([query, passage]), fingerprint: encoder.fingerprint() })
    }

    /// The similarities of a batch's queries and passages, queries × passages, to `out`. A pair of which a text was not
    /// encoded has NaN, which masks nothing.
    pub fn scores(&self, queries: &[Index], passages: &[Index], threads: bool, out: &mut Matrix) {
        let [query, passage] = &*self.sides;
        matmul(&query.gather(queries), &passage.gather(passages), Transpose::Right, threads, out);
    }
}
