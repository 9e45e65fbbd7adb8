//! Matrix products over packed panels.

use crate::simd::Floats;
use crate::simd::tile::{self, COLS, ROWS, Rows};
use rayon::prelude::*;
use std::cell::RefCell;

/// The right side of a product, cut into panels of `COLS` columns: panel after panel, row after row. The last
/// panel is filled up with zeros.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panels {
    values: Floats,
    /// Inner size: rows.
    pub(crate) k: usize,
    /// Columns, without the filling.
    pub(crate) cols: usize,
}

/// Rows of the left side that a thread takes at a time: with k = 1536 they fill half of a 2 MiB cache.
pub(crate) const BLOCK: usize = 16 * ROWS;
/// Inner size that [`product_transposed`] takes at a time.
const DEPTH: usize = 1024;
/// Rows that are packed together: read along their length, and written where they belong while they are in cache.
const LINES: usize = 16;

impl Panels {
    /// Packs B (`k` × `cols`): row `p`, column `j` is `b.values[p * b.row + j * b.col]`.
    pub(crate) fn pack(&mut self, b: Rows, k: usize, cols: usize, threads: bool) {
        assert!(k * cols == 0 || b.values.len() > (k - 1) * b.row + (cols - 1) * b.col);
        (self.k, self.cols) = (k, cols);
        self.values.resize(cols.div_ceil(COLS) * k * COLS);
        if k == 0 {
            return;
        }
        let threads = threads && k * cols > 1 << 14;
        // Neighbouring panels together, so that rows of B are read along their length.
        let group = if threads {
            cols.div_ceil(COLS).div_ceil(2 * rayon::current_num_threads())
        } else {
            usize::MAX / (k * COLS)
        };
        let one = |(at, out): (usize, &mut [f32])| {
            let first = at * group * COLS;
            if b.col == 1 {
                return pack_rows(b, first, cols, k, out);
            }
            out.fill(0.0);
            // Columns are read along their length, sixteen rows at a time, so that both sides stay in cache.
            for (i, out) in out.chunks_exact_mut(k * COLS).enumerate() {
                let first = first + i * COLS;
                for from in (0..k).step_by(LINES) {
                    let to = (from + LINES).min(k);
                    for j in 0..(cols - first).min(COLS) {
                        let column = (first + j) * b.col;
                        for p in from..to {
                            out[p * COLS + j] = b.values[column + p * b.row];
                        }
                    }
                }
            }
        };
        if threads {
            self.values.par_chunks_mut(group * k * COLS).enumerate().for_each(one);
        } else {
            one((0, &mut self.values));
        }
    }

    /// The weights of a linear layer, as PyTorch keeps them (`outputs` × `inputs`), for `x · Wᵀ`.
    pub(crate) fn pack_linear(&mut self, weight: &[f32], outputs: usize, inputs: usize, threads: bool) {
        self.pack(Rows { values: weight, row: 1, col: inputs }, inputs, outputs, threads);
    }

    /// Panel `i`.
    pub(crate) fn panel(&self, i: usize) -> &[f32] {
        &self.values[i * self.k * COLS..(i + 1) * self.k * COLS]
    }
}

/// Packs columns `first..` of B, whose rows are whole, into the panels `out`.
fn pack_rows(b: Rows, first: usize, cols: usize, k: usize, out: &mut [f32]) {
    for from in (0..k).step_by(LINES) {
        let lines = from..(from + LINES).min(k);
        for (i, out) in out.chunks_exact_mut(k * COLS).enumerate() {
            let first = first + i * COLS;
            let width = (cols - first).min(COLS);
            for (p, out) in lines.clone().zip(&mut out.as_chunks_mut::<COLS>().0[lines.clone()]) {
                let from = &b.values[p * b.row + first..];
                // A whole row is a copy of known size, which needs no call.
                match from.first_chunk::<COLS>() {
                    Some(whole) if width == COLS => *out = *whole,
                    _ => {
                        out[..width].copy_from_slice(&from[..width]);
                        out[width..].fill(0.0);
                    }
                }
            }
        }
    }
}

/// The outputs of a product that are written row block by row block: the product itself and what its finish
/// makes of it. A buffer that is not wanted has width 0.
pub(crate) struct Outputs<'a> {
    /// (values, columns)
    pub(crate) parts: [(&'a mut [f32], usize); 3],
}

impl<'a> Outputs<'a> {
    pub(crate) fn one(out: &'a mut [f32], cols: usize) -> Self {
        Outputs { parts: [(out, cols), (&mut [], 0), (&mut [], 0)] }
    }

    pub(crate) fn split(self, rows: usize) -> (Self, Self) {
        let [a, b, c] = self.parts.map(|(values, cols)| {
            let (head, tail) = values.split_at_mut(rows * cols);
            ((head, cols), (tail, cols))
        });
        (Outputs { parts: [a.0, b.0, c.0] }, Outputs { parts: [a.1, b.1, c.1] })
    }
}

/// Cuts `rows` rows into blocks and hands each, with its part of the outputs, to `work`. Blocks of `block` rows,
/// fewer where that keeps all threads busy.
pub(crate) fn by_blocks(
    rows: usize,
    block: usize,
    threads: bool,
    outputs: Outputs,
    work: &(impl Fn(usize, usize, Outputs) + Sync),
) {
    let each = if threads {
        // As many for each thread, two at least, in whole tiles: none waits long for the last block.
        let blocks = rows.div_ceil(block).next_multiple_of(2 * rayon::current_num_threads());
        rows.div_ceil(blocks).next_multiple_of(ROWS)
    } else {
        block
    };
    go(0, rows, each.max(1), threads, outputs, work);

    fn go(
        first: usize,
        rows: usize,
        each: usize,
        threads: bool,
        outputs: Outputs,
        work: &(impl Fn(usize, usize, Outputs) + Sync),
    ) {
        if rows <= each {
            if rows > 0 {
                work(first, rows, outputs);
            }
            return;
        }
        let left = (rows.div_ceil(each) / 2).max(1) * each;
        let (a, b) = outputs.split(left);
        if threads {
            rayon::join(
                || go(first, left, each, true, a, work),
                || go(first + left, rows - left, each, true, b, work),
            );
        } else {
            go(first, left, each, false, a, work);
            go(first + left, rows - left, each, false, b, work);
        }
    }
}

/// Cuts the output of a block into tiles, panel after panel: `tile(panel, first row, rows, (output, stride), add)`.
/// The last panel's goes through a buffer where it is not full.
pub(crate) fn tiles(
    rows: usize,
    cols: usize,
    (out, stride): (&mut [f32], usize),
    add: bool,
    mut tile: impl FnMut(usize, usize, usize, (&mut [f32], usize), bool),
) {
    for i in 0..cols.div_ceil(COLS) {
        let left = i * COLS;
        let width = (cols - left).min(COLS);
        for top in (0..rows).step_by(ROWS) {
            let height = (rows - top).min(ROWS);
            let at = top * stride + left;
            if width == COLS {
                tile(i, top, height, (&mut out[at..], stride), add);
            } else {
                let mut edge = [0.0; ROWS * COLS];
                tile(i, top, height, (&mut edge, COLS), false);
                for (i, edge) in edge.chunks_exact(COLS).take(height).enumerate() {
                    let out = &mut out[at + i * stride..][..width];
                    out.iter_mut().zip(edge).for_each(|(o, e)| *o = if add { *o + e } else { *e });
                }
            }
        }
    }
}

/// `out = a · b`, or `out += a · b` with `add`; `a` is rows × `b.k`. Each block of rows is handed to `finish`
/// (its first row, and its part of the outputs) while it is in cache.
pub(crate) fn product(
    a: Rows,
    rows: usize,
    b: &Panels,
    outputs: Outputs,
    add: bool,
    threads: bool,
    finish: &(impl Fn(usize, Outputs) + Sync),
) {
    let cols = b.cols;
    by_blocks(rows, BLOCK, threads, outputs, &|first, rows, outputs: Outputs| {
        tiles(rows, cols, (outputs.parts[0].0, cols), add, |i, top, height, out, add| {
            let a = Rows { values: &a.values[(first + top) * a.row..], ..a };
            tile::f32(height, a, b.panel(i), b.k, out, add);
        });
        finish(first, outputs);
    });
}

thread_local! {
    static LEFT: RefCell<Floats> = RefCell::default();
}

/// `out += aᵀ · b` for `a` (k × rows) and `b` (k × cols), both row after row: the gradient of a weight. Sums over
/// k in ascending order, `DEPTH` at a time. `panels` is scratch.
pub(crate) fn product_transposed(
    (a, rows): (&[f32], usize),
    (b, cols): (&[f32], usize),
    k: usize,
    out: &mut [f32],
    threads: bool,
    panels: &mut Panels,
) {
    assert!(a.len() == k * rows && b.len() == k * cols && out.len() == rows * cols);
    for from in (0..k).step_by(DEPTH) {
        let depth = (k - from).min(DEPTH);
        panels.pack(Rows { values: &b[from * cols..], row: cols, col: 1 }, depth, cols, threads);
        let a = &a[from * rows..(from + depth) * rows];
        let panels = &*panels;
        by_blocks(rows, BLOCK, threads, Outputs::one(out, cols), &|first, height, outputs| {
            LEFT.with_borrow_mut(|left| {
                // Tile after tile, each depth × ROWS: down a column of `a` every value lies in another page.
                left.resize(height.next_multiple_of(ROWS) * depth);
                let across = height.div_ceil(ROWS);
                for from in (0..depth).step_by(LINES) {
                    let lines = from..(from + LINES).min(depth);
                    for i in 0..across {
                        let top = first + i * ROWS;
                        let width = (first + height - top).min(ROWS);
                        let tile = &mut left[i * depth * ROWS..][..depth * ROWS];
                        for (p, out) in lines.clone().zip(&mut tile.as_chunks_mut::<ROWS>().0[lines.clone()])
                        {
                            let from = &a[p * rows + top..];
                            match from.first_chunk::<ROWS>() {
                                Some(whole) if width == ROWS => *out = *whole,
                                _ => out[..width].copy_from_slice(&from[..width]),
                            }
                        }
                    }
                }
                let [(out, _), ..] = outputs.parts;
                tiles(height, cols, (out, cols), true, |i, top, high, out, add| {
                    let view = Rows { values: &left[top * depth..], row: 1, col: ROWS };
                    tile::f32(high, view, panels.panel(i), depth, out, add);
                });
            });
        });
    }
}
