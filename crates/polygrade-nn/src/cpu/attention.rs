//! Multi-head self-attention over packed texts, forward and backward, a block of query rows at a time: the
//! whole table of scores never exists (Dao et al. 2022, on a CPU).
//!
//! Every text is done by one thread, head after head, so nothing depends on what else is in the batch.

use super::product::Panels;
use super::rows::{self, dot, drop, scaled, softmax, softmax_again, softmax_backward};
use crate::device::{AttentionShape, Dropout};
use crate::simd::Floats;
use crate::simd::tile::{self, COLS, ROWS, Rows};
use std::cell::RefCell;
use std::ops::Range;

/// Query rows of a block.
const QUERIES: usize = 4 * ROWS;

/// What a thread needs for a head.
#[derive(Default)]
struct Scratch {
    keys_across: Panels,
    values_across: Panels,
    keys: Panels,
    values: Panels,
    block: Panels,
    scores: Floats,
    grads: Floats,
    out: Floats,
    key_grads: Floats,
    value_grads: Floats,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A block of query rows and the keys that any of them sees.
struct Block {
    queries: Range<usize>,
    /// Of the keys, rounded down to the start of a panel.
    keys: Range<usize>,
    /// Columns of the table of scores, whole panels.
    stride: usize,
}

fn blocks(length: usize, window: Option<usize>) -> impl Iterator<Item = Block> {
    (0..length).step_by(QUERIES).map(move |first| {
        let queries = first..(first + QUERIES).min(length);
        let (low, high) = match window {
            None => (0, length),
            Some(w) => (first.saturating_sub(w), (queries.end + w).min(length)),
        };
        let keys = low / COLS * COLS..high;
        let stride = keys.len().next_multiple_of(COLS);
        Block { queries, keys, stride }
    })
}

/// The keys that a query row sees, within its block's.
fn seen(row: usize, block: &Block, window: Option<usize>, length: usize) -> Range<usize> {
    match window {
        None => 0..length - block.keys.start,
        Some(w) => row.saturating_sub(w) - block.keys.start..(row + w + 1).min(length) - block.keys.start,
    }
}

/// `out = a · panels` for all rows of a block, from panel `skip` on, `stride` columns.
fn tiles(
    a: Rows,
    rows: usize,
    panels: &Panels,
    skip: usize,
    k: Range<usize>,
    (out, stride): (&mut [f32], usize),
    add: bool,
) {
    for i in 0..stride / COLS {
        let panel = &panels.panel(skip + i)[k.start * COLS..k.end * COLS];
        for top in (0..rows).step_by(ROWS) {
            let height = (rows - top).min(ROWS);
            let a = Rows { values: &a.values[top * a.row..], ..a };
            tile::f32(height, a, panel, k.len(), (&mut out[top * stride + i * COLS..], stride), add);
        }
    }
}

/// A head's part of the packed [query | key | value] rows of one text.
fn part<'a>(qkv: &'a [f32], which: usize, head: usize, s: &AttentionShape) -> Rows<'a> {
    let width = s.heads * s.head_dim;
    Rows { values: &qkv[which * width + head * s.head_dim..], row: 3 * width, col: 1 }
}

fn across(r: Rows) -> Rows {
    Rows { row: r.col, col: r.row, ..r }
}

/// Decides which probabilities of a head's row are dropped.
fn row_key(key: u32, head: usize, row: usize) -> u32 {
    key ^ (head as u32).wrapping_mul(0x85eb_ca6b) ^ (row as u32).wrapping_mul(0xc2b2_ae35)
}

/// Attention of one text. `qkv` is rows × [query | key | value], `out` rows × width, `log_sums` rows × heads.
/// With `dropout`, the key of the text.
pub(super) fn forward(
    qkv: &[f32],
    s: &AttentionShape,
    dropout: Option<(Dropout, u32)>,
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    let width = s.heads * s.head_dim;
    let length = out.len() / width;
    let padded = s.head_dim.next_multiple_of(COLS);
    SCRATCH.with_borrow_mut(|scratch| {
        for head in 0..s.heads {
            scratch.keys_across.pack(across(part(qkv, 1, head, s)), s.head_dim, length, false);
            scratch.values.pack(part(qkv, 2, head, s), length, s.head_dim, false);
            for b in blocks(length, s.window) {
                let rows = b.queries.len();
                scratch.scores.resize(rows * b.stride);
                scratch.out.resize(rows * padded);
                let queries = part(&qkv[b.queries.start * 3 * width..], 0, head, s);
                let (scores, skip) = (&mut scratch.scores[..], b.keys.start / COLS);
                tiles(queries, rows, &scratch.keys_across, skip, 0..s.head_dim, (scores, b.stride), false);
                let mut totals = [0.0; QUERIES];
                for (i, row) in b.queries.clone().enumerate() {
                    let scores = &mut scratch.scores[i * b.stride..(i + 1) * b.stride];
                    let seen = seen(row, &b, s.window, length);
                    scores[..seen.start].fill(0.0);
                    scores[seen.end..].fill(0.0);
                    let (total, log_sum) = softmax(&mut scores[seen], s.scale);
                    totals[i] = total;
                    log_sums[row * s.heads + head] = log_sum;
                    if let Some((d, key)) = &dropout {
                        let key = row_key(*key, head, row);
                        drop(scores, key, b.keys.start as u32, d.threshold, d.factor);
                    }
                }
                let probabilities = Rows { values: &scratch.scores, row: b.stride, col: 1 };
                let to = (&mut scratch.out[..], padded);
                tiles(probabilities, rows, &scratch.values, 0, b.keys.clone(), to, false);
                for (i, row) in b.queries.clone().enumerate() {
                    let to = &mut out[row * width + head * s.head_dim..][..s.head_dim];
                    scaled(&scratch.out[i * padded..][..s.head_dim], 1.0 / totals[i], to);
                }
            }
        }
    });
}

/// Backward of [`forward`]: from `grad` (∂L/∂out) to `grad_qkv`.
pub(super) fn backward(
    (qkv, out, log_sums): (&[f32], &[f32], &[f32]),
    grad: &[f32],
    s: &AttentionShape,
    dropout: Option<(Dropout, u32)>,
    grad_qkv: &mut [f32],
) {
    let width = s.heads * s.head_dim;
    let length = out.len() / width;
    let padded = s.head_dim.next_multiple_of(COLS);
    SCRATCH.with_borrow_mut(|scratch| {
        let x = scratch;
        for head in 0..s.heads {
            let offset = head * s.head_dim;
            x.keys_across.pack(across(part(qkv, 1, head, s)), s.head_dim, length, false);
            x.values_across.pack(across(part(qkv, 2, head, s)), s.head_dim, length, false);
            x.keys.pack(part(qkv, 1, head, s), length, s.head_dim, false);
            x.key_grads.resize(length.next_multiple_of(COLS) * padded);
            x.value_grads.resize(length.next_multiple_of(COLS) * padded);
            x.key_grads.fill(0.0);
            x.value_grads.fill(0.0);
            for b in blocks(length, s.window) {
                let rows = b.queries.len();
                x.scores.resize(rows * b.stride);
                x.grads.resize(rows * b.stride);
                x.out.resize(rows * padded);
                let skip = b.keys.start / COLS;
                let queries = part(&qkv[b.queries.start * 3 * width..], 0, head, s);
                let outer = Rows { values: &grad[b.queries.start * width + offset..], row: width, col: 1 };
                let dims = 0..s.head_dim;
                let to = (&mut x.scores[..], b.stride);
                tiles(queries, rows, &x.keys_across, skip, dims.clone(), to, false);
                tiles(outer, rows, &x.values_across, skip, dims, (&mut x.grads[..], b.stride), false);
                for (i, row) in b.queries.clone().enumerate() {
                    let p = &mut x.scores[i * b.stride..(i + 1) * b.stride];
                    let g = &mut x.grads[i * b.stride..(i + 1) * b.stride];
                    let seen = seen(row, &b, s.window, length);
                    let here = row * width + offset..row * width + offset + s.head_dim;
                    let mean = dot(&grad[here.clone()], &out[here]);
                    for outside in [0..seen.start, seen.end..b.stride] {
                        p[outside.clone()].fill(0.0);
                        g[outside].fill(0.0);
                    }
                    softmax_again(&mut p[seen.clone()], s.scale, log_sums[row * s.heads + head]);
                    match &dropout {
                        None => softmax_backward(&p[seen.clone()], &mut g[seen], mean, s.scale),
                        Some((d, key)) => {
                            let (key, from) = (row_key(*key, head, row), b.keys.start as u32);
                            drop(g, key, from, d.threshold, d.factor);
                            softmax_backward(&p[seen.clone()], &mut g[seen], mean, s.scale);
                            drop(p, key, from, d.threshold, d.factor);
                        }
                    }
                }
                let scores = Rows { values: &x.grads, row: b.stride, col: 1 };
                tiles(scores, rows, &x.keys, 0, b.keys.clone(), (&mut x.out[..], padded), false);
                for (i, row) in b.queries.clone().enumerate() {
                    grad_qkv[row * 3 * width + offset..][..s.head_dim]
                        .copy_from_slice(&x.out[i * padded..][..s.head_dim]);
                }
                let into = b.keys.start * padded;
                let keys = b.keys.len();
                x.block.pack(outer, rows, s.head_dim, false);
                let probabilities = Rows { values: &x.scores, row: 1, col: b.stride };
                let to = (&mut x.value_grads[into..], padded);
                tiles(probabilities, keys, &x.block, 0, 0..rows, to, true);
                x.block.pack(queries, rows, s.head_dim, false);
                let scores = Rows { values: &x.grads, row: 1, col: b.stride };
                tiles(scores, keys, &x.block, 0, 0..rows, (&mut x.key_grads[into..], padded), true);
            }
            for row in 0..length {
                let to = &mut grad_qkv[row * 3 * width + offset..];
                let from = row * padded..row * padded + s.head_dim;
                to[width..width + s.head_dim].copy_from_slice(&x.key_grads[from.clone()]);
                to[2 * width..2 * width + s.head_dim].copy_from_slice(&x.value_grads[from]);
            }
        }
    });
}

/// Rotates each pair (i, i + half) of a head's first 2·half values by its position's angle (RoPE, Su et al. 2021,
/// in the halves layout of Hugging Face), in queries and keys; `back` by the opposite angle.
pub(super) fn rotate(qkv: &mut [f32], s: &AttentionShape, table: &[f32], half: usize, back: bool) {
    let width = s.heads * s.head_dim;
    for (position, row) in qkv.chunks_exact_mut(3 * width).enumerate() {
        let (cos, sin) = table[position * 2 * half..(position + 1) * 2 * half].split_at(half);
        for head in row[..2 * width].chunks_exact_mut(s.head_dim) {
            let (a, b) = head[..2 * half].split_at_mut(half);
            rows::rotate(a, b, cos, sin, if back { -1.0 } else { 1.0 });
        }
    }
}
