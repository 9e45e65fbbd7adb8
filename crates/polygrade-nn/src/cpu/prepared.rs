//! Weights that were arranged once, for inference, and their products.
//!
//! In low precision the rows of a block are rounded once, into a buffer of the thread, and then meet all panels.
//! Whatever the precision, a row of the product depends on its own row alone.

use super::product::{BLOCK, Outputs, Panels, by_blocks, product, tiles};
use crate::device::Precision;
use crate::simd::bytes::{self, BytePanel, ByteRows, GROUP};
use crate::simd::tile::{self, COLS, Rows};
use crate::simd::{Buffer, Floats, pairs};
use rayon::prelude::*;
use std::cell::RefCell;

/// The weights of a linear layer, arranged for products in some precision.
#[derive(Debug, Clone)]
pub struct Prepared(Kind);

#[derive(Debug, Clone)]
enum Kind {
    F32(Panels),
    Bf16(Bf16),
    Int8(Int8),
}

/// Panels of bfloat16 pairs, as [`pairs`] multiplies them.
#[derive(Debug, Clone)]
struct Bf16 {
    /// Panel after panel, ⌈inputs / 2⌉ × `COLS`; filled up with zeros.
    values: Buffer<u32>,
    inputs: usize,
    outputs: usize,
}

/// Panels of bytes, as [`bytes`] multiplies them.
#[derive(Debug, Clone)]
struct Int8 {
    /// Panel after panel, ⌈inputs / 4⌉ × `COLS` × 4; filled up with zeros.
    values: Buffer<i8>,
    /// For each column, of filling too, its sum as [`bytes::split`] keeps it.
    sums: Buffer<i32>,
    /// For each column, of filling too, its factor.
    scales: Floats,
    inputs: usize,
    outputs: usize,
}

/// What a thread keeps for the block it is at.
#[derive(Default)]
struct Scratch {
    floats: Floats,
    panel: Floats,
    pairs: Buffer<u32>,
    bytes: Buffer<u8>,
    zeros: Buffer<i32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Prepared {
    /// Arranges weights (`outputs` × `inputs`, as PyTorch keeps them).
    pub(crate) fn new(
        weight: &[f32],
        outputs: usize,
        inputs: usize,
        precision: Precision,
        threads: bool,
    ) -> Self {
        assert_eq!(weight.len(), outputs * inputs);
        Prepared(match precision {
            Precision::Bf16 if inputs > 0 => Kind::Bf16(Bf16::new(weight, outputs, inputs)),
            // Sums of more values would not fit 32 bits.
            Precision::Int8 if (1..=bytes::MAX_INNER).contains(&inputs) => {
                Kind::Int8(Int8::new(weight, outputs, inputs))
            }
            _ => {
                let mut panels = Panels::default();
                panels.pack_linear(weight, outputs, inputs, threads);
                Kind::F32(panels)
            }
        })
    }

    /// `out = x · Wᵀ` for `rows` rows. Each block of rows is handed to `finish` (its first row, and its part of the
    /// outputs) while it is in cache.
    pub(crate) fn product(
        &self,
        x: &[f32],
        rows: usize,
        outputs: Outputs,
        threads: bool,
        finish: &(impl Fn(usize, Outputs) + Sync),
    ) {
        match &self.0 {
            Kind::F32(panels) => {
                let a = Rows { values: x, row: panels.k, col: 1 };
                product(a, rows, panels, outputs, false, threads, finish);
            }
            Kind::Bf16(w) => by_blocks(rows, BLOCK, threads, outputs, &|first, rows, outputs: Outputs| {
                let x = &x[first * w.inputs..(first + rows) * w.inputs];
                SCRATCH.with_borrow_mut(|s| w.block(x, rows, pairs::pays(), outputs.parts[0].0, s));
                finish(first, outputs);
            }),
            Kind::Int8(w) => by_blocks(rows, BLOCK, threads, outputs, &|first, rows, outputs: Outputs| {
                let x = &x[first * w.inputs..(first + rows) * w.inputs];
                SCRATCH.with_borrow_mut(|s| w.block(x, rows, outputs.parts[0].0, s));
                finish(first, outputs);
            }),
        }
    }
}

impl Bf16 {
    fn new(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        let size = inputs.div_ceil(2) * COLS;
        let mut values = Buffer::zeros(outputs.div_ceil(COLS) * size);
        values.par_chunks_mut(size).zip(weight.par_chunks(COLS * inputs)).for_each(|(panel, weight)| {
            for (j, row) in weight.chunks_exact(inputs).enumerate() {
                for (i, pair) in row.chunks(2).enumerate() {
                    panel[i * COLS + j] = pairs::pair(pair[0], pair.get(1).copied().unwrap_or_default());
                }
            }
        });
        Bf16 { values, inputs, outputs }
    }

    fn block(&self, x: &[f32], rows: usize, pays: bool, out: &mut [f32], scratch: &mut Scratch) {
        let words = self.inputs.div_ceil(2);
        let panel = |i: usize| &self.values[i * words * COLS..(i + 1) * words * COLS];
        let to = (out, self.outputs);
        if pays {
            scratch.pairs.resize(rows * words);
            pairs::round_pairs(x, self.inputs, &mut scratch.pairs);
            tiles(rows, self.outputs, to, false, |i, top, height, out, _| {
                pairs::tile(height, &scratch.pairs[top * words..], panel(i), words, out);
            });
            return;
        }
        scratch.floats.resize(x.len());
        pairs::round(x, &mut scratch.floats);
        scratch.panel.resize(self.inputs * COLS);
        tiles(rows, self.outputs, to, false, |i, top, height, out, add| {
            if top == 0 {
                pairs::widen(panel(i), &mut scratch.panel);
            }
            let a = Rows { values: &scratch.floats[top * self.inputs..], row: self.inputs, col: 1 };
            tile::f32(height, a, &scratch.panel, self.inputs, out, add);
        });
    }
}

impl Int8 {
    fn new(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        let size = inputs.next_multiple_of(GROUP) * COLS;
        let columns = outputs.next_multiple_of(COLS);
        let mut all = Int8 {
            values: Buffer::zeros(outputs.div_ceil(COLS) * size),
            sums: Buffer::zeros(columns),
            scales: Floats::zeros(columns),
            inputs,
            outputs,
        };
        let columns = all.sums.par_chunks_mut(COLS).zip(all.scales.par_chunks_mut(COLS));
        let panels = all.values.par_chunks_mut(size).zip(weight.par_chunks(COLS * inputs));
        panels.zip(columns).for_each(|((panel, weight), (sums, scales))| {
            for (j, row) in weight.chunks_exact(inputs).enumerate() {
                let mut sum = 0;
                scales[j] = bytes::quantize_column(row, |p, w| {
                    panel[(p / GROUP * COLS + j) * GROUP + p % GROUP] = w;
                    sum += i32::from(w);
                });
                sums[j] = bytes::split(sum);
            }
        });
        all
    }

    fn block(&self, x: &[f32], rows: usize, out: &mut [f32], scratch: &mut Scratch) {
        let width = self.inputs.next_multiple_of(GROUP);
        scratch.bytes.resize(rows * width);
        scratch.floats.resize(rows);
        scratch.zeros.resize(rows);
        let Scratch { floats: scales, bytes: values, zeros, .. } = scratch;
        bytes::quantize(x, self.inputs, values, zeros, scales);
        tiles(rows, self.outputs, (out, self.outputs), false, |i, top, height, out, _| {
            let a = ByteRows { values: &values[top * width..], zeros: &zeros[top..], scales: &scales[top..] };
            let panel = BytePanel {
                values: &self.values[i * width * COLS..(i + 1) * width * COLS],
                sums: &self.sums[i * COLS..],
                scales: &self.scales[i * COLS..],
            };
            bytes::tile(height, a, panel, width / GROUP, out);
        });
    }
}
