//! Rows of numbers in 2, 4 or 8 bits each, unpacked where they are read.
//!
//! A number is one of 2^bits levels, ±½, ±1½, …, times the scale of its row. The scale is the one with the least squared
//! error that a search finds, kept as a bfloat16. Nothing is between levels at zero: with four levels that loses less
//! than three levels and a zero do.

use crate::Matrix;
use crate::bag::Rows;
use crate::kernels::axpy;
use half::bf16;
use rayon::prelude::*;

/// A matrix of packed rows.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedRows {
    bits: u32,
    cols: usize,
    bytes: Vec<u8>,
    scales: Vec<bf16>,
}

/// Numbers that are unpacked together.
const STRIP: usize = 64;

/// The levels of the four 2-bit numbers in a byte, the lowest bits first.
const FOUR: [[f32; 4]; 256] = {
    let mut out = [[0.0; 4]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 4 {
            out[byte][i] = (byte >> (2 * i) & 3) as f32 - 1.5;
            i += 1;
        }
        byte += 1;
    }
    out
};

impl PackedRows {
    /// Packs a matrix.
    ///
    /// # Panics
    /// When `bits` is not 2, 4 or 8, or a row does not fill its last byte.
    pub fn pack(matrix: &Matrix, bits: u32) -> Self {
        assert!(Self::fits(bits, matrix.cols), "{} numbers of {bits} bits in a row", matrix.cols);
        let mut bytes = vec![0; matrix.data.len() * bits as usize / 8];
        let mut scales = vec![bf16::ZERO; matrix.rows()];
        let rows = matrix.data.par_chunks(matrix.cols).zip(scales.par_iter_mut());
        bytes.par_chunks_mut(matrix.cols * bits as usize / 8).with_min_len(64).zip(rows).for_each(
            |(bytes, (row, scale))| {
                *scale = best_scale(row, bits);
                let per_byte = 8 / bits as usize;
                for (byte, values) in bytes.iter_mut().zip(row.chunks(per_byte)) {
                    let codes = values.iter().map(|v| code(f64::from(*v), scale.to_f64(), bits));
                    *byte = codes.enumerate().fold(0, |all, (i, c)| all | c << (i as u32 * bits));
                }
            },
        );
        PackedRows { bits, cols: matrix.cols, bytes, scales }
    }

    /// From what [`PackedRows::bytes`] and [`PackedRows::scales`] gave; `None` if they do not belong together.
    pub fn from_parts(bits: u32, bytes: Vec<u8>, scales: Vec<bf16>) -> Option<Self> {
        let width = bytes.len().checked_div(scales.len())?;
        let cols = (width * 8).checked_div(bits as usize)?;
        let whole = width * scales.len() == bytes.len() && cols > 0 && Self::fits(bits, cols);
        whole.then_some(PackedRows { bits, cols, bytes, scales })
    }

    /// Whether rows of `cols` numbers can be packed so.
    pub fn fits(bits: u32, cols: usize) -> bool {
        matches!(bits, 2 | 4 | 8) && cols.is_multiple_of(8 / bits as usize)
    }

    /// Bits of a number.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The numbers' levels, counted from the lowest, row after row, the first in the lowest bits of a byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The scales of the rows.
    pub fn scales(&self) -> &[bf16] {
        &self.scales
    }

    /// Writes a row's numbers.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        self.strip(row, 0, out);
    }

    /// As plain numbers.
    pub fn unpack(&self) -> Matrix {
        let mut out = Matrix::zeros(self.rows(), self.cols);
        out.data.par_chunks_mut(self.cols).with_min_len(64).enumerate().for_each(|(i, row)| {
            self.copy_row(i, row);
        });
        out
    }

    /// Some of the numbers of a row, from column `from`, which begins a byte.
    fn strip(&self, row: usize, from: usize, out: &mut [f32]) {
        let width = self.cols * self.bits as usize / 8;
        let bytes = &self.bytes[row * width + from * self.bits as usize / 8..];
        let scale = self.scales[row].to_f32();
        match self.bits {
            2 => out.as_chunks_mut::<4>().0.iter_mut().zip(bytes).for_each(|(o, b)| {
                *o = FOUR[usize::from(*b)].map(|level| level * scale);
            }),
            4 => out.as_chunks_mut::<2>().0.iter_mut().zip(bytes).for_each(|(o, b)| {
                *o = [b & 15, b >> 4].map(|code| (f32::from(code) - 7.5) * scale);
            }),
            _ => out.iter_mut().zip(bytes).for_each(|(o, b)| *o = (f32::from(*b) - 127.5) * scale),
        }
    }
}

impl Rows for PackedRows {
    fn rows(&self) -> usize {
        self.scales.len()
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn add(&self, row: usize, factor: f32, out: &mut [f32]) {
        let mut strip = [0.0; STRIP];
        for (i, out) in out.chunks_mut(STRIP).enumerate() {
            let strip = &mut strip[..out.len()];
            self.strip(row, i * STRIP, strip);
            axpy(factor, strip, out);
        }
    }
}

/// The level of a number, counted from the lowest.
fn code(value: f64, scale: f64, bits: u32) -> u8 {
    let half = f64::from(1u32 << (bits - 1));
    let level = if scale > 0.0 { (value / scale).floor() } else { 0.0 };
    (level.clamp(-half, half - 1.0) + half) as u8
}

/// The scale with the least squared error: from several begun with, each bettered by least squares.
fn best_scale(row: &[f32], bits: u32) -> bf16 {
    const BEGINNINGS: u32 = 12;
    let half = f64::from(1u32 << (bits - 1));
    let largest = row.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    // With the error, Σ(x − s·l)² − Σx².
    let fitted = |scale: f64| {
        let (mut xl, mut ll) = (0.0, 0.0);
        for v in row {
            let level = f64::from(code(f64::from(*v), scale, bits)) + 0.5 - half;
            xl += f64::from(*v) * level;
            ll += level * level;
        }
        (xl / ll, -xl * xl / ll)
    };
    let mut best = (0.0, f64::INFINITY);
    for i in 0..BEGINNINGS {
        let share = 1.0 - 0.75 * f64::from(i) / f64::from(BEGINNINGS);
        let mut scale = largest / (half - 0.5) * share;
        for _ in 0..3 {
            let (next, error) = fitted(scale);
            if error < best.1 {
                best = (next, error);
            }
            scale = next;
        }
    }
    bf16::from_f64(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bag::{self, Bags};
    use crate::rng::CounterRng;

    fn matrix(rows: usize, cols: usize) -> Matrix {
        let rng = CounterRng::new(3);
        let value = |i: usize| rng.normal(i as u64) as f32 * (1.0 + (i / cols) as f32);
        Matrix::new(cols, (0..rows * cols).map(value).collect())
    }

    /// Of normal numbers, the best uniform levels lose .1188 (2 bits) and .0115 (4 bits) of the variance (Max 1960).
    #[test]
    fn the_loss_is_that_of_the_best_levels() {
        let plain = matrix(400, 384);
        for (bits, most) in [(2, 0.1188), (4, 0.0116), (8, 0.0001)] {
            let back = PackedRows::pack(&plain, bits).unpack();
            let square = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v * v)).sum::<f64>();
            let lost = |i: usize| {
                let lost = square(&mut plain.row(i).iter().zip(back.row(i)).map(|(a, b)| a - b));
                lost / square(&mut plain.row(i).iter().copied())
            };
            let mean = (0..plain.rows()).map(lost).sum::<f64>() / plain.rows() as f64;
            assert!(mean < most && mean > most / 3.0, "{bits} bits: {mean}");
            let again = PackedRows::pack(&back, bits).unpack();
            assert_eq!(again, back, "what is on levels stays there");
        }
    }

    #[test]
    fn packed_rows_give_the_bits_of_unpacked_ones() {
        for cols in [4, 100, 384] {
            for bits in [2, 4, 8] {
                let packed = PackedRows::pack(&matrix(9, cols), bits);
                let mut bags = Bags::new();
                bags.push(&[1, 8, 1]);
                bags.push(&[]);
                bags.push(&[0, 2, 3, 4, 5, 6, 7]);
                let weights = vec![0.3; 9];
                let (mut a, mut b) = (Matrix::default(), Matrix::default());
                bag::forward(&packed, &weights, &bags, true, &mut a);
                bag::forward(&packed.unpack(), &weights, &bags, false, &mut b);
                assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn nothing_stays_nothing_and_parts_that_do_not_fit_are_refused() {
        let packed = PackedRows::pack(&Matrix::zeros(2, 8), 2);
        assert!(packed.unpack().data.iter().all(|v| *v == 0.0));
        let parts = |bits, bytes, rows| PackedRows::from_parts(bits, vec![0; bytes], vec![bf16::ONE; rows]);
        assert_eq!(parts(2, 4, 2).map(|p| p.cols()), Some(8));
        for (bits, bytes, rows) in [(3, 6, 2), (0, 4, 2), (2, 5, 2), (2, 0, 2), (2, 4, 0)] {
            assert_eq!(parts(bits, bytes, rows), None, "{bits} {bytes} {rows}");
        }
    }
}
