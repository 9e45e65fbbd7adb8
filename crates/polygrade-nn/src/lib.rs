//! Numeric parts: matrices over flat buffers, the kernels that encoders and losses are made of, their
//! gradients, AdamW and learning-rate schedules.
//!
//! Two promises hold everywhere and are tested: the same input gives the same bits at any number of threads,
//! and no result depends on what else is in the batch. Kernels therefore never split a sum between threads;
//! they split the rows of the output.
//!
//! This crate knows nothing of text or retrieval.

pub mod bag;
pub mod cpu;
pub mod device;
pub mod kernels;
pub mod optim;
pub mod packed;
pub mod params;
pub mod rng;
pub mod simd;
pub mod transformer;

pub use cpu::Cpu;
pub use device::Device;

use rayon::prelude::*;

/// A matrix of `f32`, row after row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    /// Number of columns.
    pub cols: usize,
    /// The values; `rows * cols` of them.
    pub data: Vec<f32>,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Matrix { cols, data: vec![0.0; rows * cols] }
    }

    /// A matrix of the given values.
    ///
    /// # Panics
    /// When their number is no multiple of `cols`.
    pub fn new(cols: usize, data: Vec<f32>) -> Self {
        assert!(cols > 0 && data.len().is_multiple_of(cols), "{} values in rows of {cols}", data.len());
        Matrix { cols, data }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.data.len().checked_div(self.cols).unwrap_or(0)
    }

    /// One row.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// One row, to write.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// The transpose, tile by tile; rayon's threads share the work.
    #[must_use]
    pub fn transposed(&self) -> Matrix {
        const TILE: usize = 32;
        let (rows, cols) = (self.rows(), self.cols);
        let mut out = Matrix::zeros(cols, rows);
        out.data.par_chunks_mut(rows.max(1) * TILE).enumerate().for_each(|(block, lines)| {
            for from in (0..rows).step_by(TILE) {
                for (i, line) in lines.chunks_mut(rows).enumerate() {
                    for (j, value) in line[from..rows.min(from + TILE)].iter_mut().enumerate() {
                        *value = self.data[(from + j) * cols + block * TILE + i];
                    }
                }
            }
        });
        out
    }

    /// Makes it `rows` × `cols` of zeros, keeping the allocation.
    pub fn reset(&mut self, rows: usize, cols: usize) {
        self.cols = cols;
        self.data.clear();
        self.data.resize(rows * cols, 0.0);
    }
}

/// Does `work` on one of rayon's threads, where the kernels that it calls share their parts with the others at
/// once. Called from outside, each kernel would put its caller to sleep and wake it again.
pub fn on_workers<T: Send>(threads: bool, work: impl FnOnce() -> T + Send) -> T {
    if threads { rayon::scope(|_| work()) } else { work() }
}
