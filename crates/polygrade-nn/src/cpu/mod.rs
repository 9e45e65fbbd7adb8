//! The CPU as a [`Device`]: rayon's threads share the rows of every kernel, and AVX-512, AVX2 or plain code is
//! chosen at run time.

mod attention;
pub(crate) mod math;
mod pooling;
mod prepared;
pub(crate) mod product;
pub(crate) mod rows;

use crate::bag::Bags;
use crate::device::{
    Activation, AttentionShape, Device, Dropout, Finish, Norm, Pooling, Precision, Tables, Weight,
};
use crate::optim::{Rates, widen};
use crate::rng::CounterRng;
use crate::simd::tile::Rows;
use crate::simd::{Buffer, Floats};
pub use prepared::Prepared;
use product::{Outputs, Panels, by_blocks, product, product_transposed};
use rayon::prelude::*;
use std::sync::Mutex;

/// The CPU.
#[derive(Debug, Default)]
pub struct Cpu {
    /// Whether rayon's threads share the work; the results are the same.
    pub threads: bool,
    /// Panels of weights that are packed for one product.
    scratch: Mutex<Vec<Panels>>,
}

impl Clone for Cpu {
    fn clone(&self) -> Self {
        Cpu { threads: self.threads, scratch: Mutex::default() }
    }
}

/// A packed batch on the CPU.
#[derive(Debug, Clone)]
pub struct CpuBatch {
    texts: Bags,
    names: Vec<u32>,
    /// For each token its text.
    text_of: Vec<u32>,
    /// (token id, place), ascending.
    by_token: Vec<(u32, u32)>,
}

/// Rows that element-wise kernels take at a time.
const BLOCK: usize = 64;
/// Rows that are summed before their sum is added to the others: fixed, so that threads change no bit.
const SUM: usize = 256;

impl Cpu {
    /// The CPU, with all of rayon's threads or one.
    pub fn new(threads: bool) -> Self {
        Cpu { threads, scratch: Mutex::default() }
    }

    /// Lends panels for the time of `work`.
    fn with_panels<T>(&self, work: impl FnOnce(&mut Panels) -> T) -> T {
        let lock = || self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        let mut panels = lock().pop().unwrap_or_default();
        let out = work(&mut panels);
        lock().push(panels);
        out
    }

    /// The product of a linear layer; `finish` gets each block of its rows.
    fn product(
        &self,
        x: &[f32],
        weight: Weight<Self>,
        (outputs, inputs): (usize, usize),
        to: Outputs,
        finish: &(impl Fn(usize, Outputs) + Sync),
    ) {
        let n = x.len() / inputs;
        match weight {
            Weight::Prepared(prepared) => prepared.product(x, n, to, self.threads, finish),
            Weight::Plain(values) => self.with_panels(|panels| {
                panels.pack_linear(values, outputs, inputs, self.threads);
                let a = Rows { values: x, row: inputs, col: 1 };
                product(a, n, panels, to, false, self.threads, finish);
            }),
        }
    }

    /// Runs `work(text, its part of each buffer)` over all texts.
    fn by_texts(&self, batch: &CpuBatch, outputs: Outputs, work: &(impl Fn(usize, Outputs) + Sync)) {
        fn go<'a>(
            offsets: &[usize],
            first: usize,
            threads: bool,
            outputs: Outputs<'a>,
            work: &(impl Fn(usize, Outputs<'a>) + Sync),
        ) {
            // Texts without tokens have nothing to do.
            let tokens = offsets.last().unwrap_or(&0) - offsets.first().unwrap_or(&0);
            match offsets.len() - 1 {
                _ if tokens == 0 => {}
                1 => work(first, outputs),
                n => {
                    // Halves of about as many tokens.
                    let half = (offsets[0] + offsets[n]) / 2;
                    let middle = offsets.partition_point(|o| *o < half).clamp(1, n - 1);
                    let (a, b) = outputs.split(offsets[middle] - offsets[0]);
                    let left = || go(&offsets[..=middle], first, threads, a, work);
                    let right = || go(&offsets[middle..], first + middle, threads, b, work);
                    if threads {
                        rayon::join(left, right);
                    } else {
                        left();
                        right();
                    }
                }
            }
        }
        go(&batch.texts.offsets, 0, self.threads, outputs, work);
    }

    /// Sums `add(rows, sums)` over blocks of rows, in an order that does not depend on threads.
    fn sum_blocks(
        &self,
        rows: usize,
        out: &mut [f32],
        add: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
    ) {
        let width = out.len();
        let blocks = rows.div_ceil(SUM);
        let mut parts = Floats::zeros(blocks * width);
        let one = |(i, part): (usize, &mut [f32])| add(i * SUM..((i + 1) * SUM).min(rows), part);
        if self.threads {
            parts.par_chunks_mut(width).enumerate().for_each(one);
        } else {
            parts.chunks_mut(width).enumerate().for_each(one);
        }
        parts.chunks(width).for_each(|part| rows::add(out, part));
    }
}

/// The 32-bit key of a text's place in the network.
fn text_key(key: u32, name: u32) -> u32 {
    CounterRng::new(u64::from(key)).bits(u64::from(name)) as u32
}

/// Finishes the rows from `first` on: bias, dropout, residual, norm.
struct RowFinish<'a> {
    bias: &'a [f32],
    dropout: Option<Dropout>,
    residual: &'a [f32],
    norm: Option<(&'a [f32], &'a [f32], f32)>,
}

impl RowFinish<'_> {
    fn run(&self, batch: &CpuBatch, first: usize, cols: usize, outputs: Outputs) {
        let [(x, _), (result, _), (scale, _)] = outputs.parts;
        if !self.bias.is_empty() {
            rows::add_bias(x, self.bias);
        }
        if let Some(d) = self.dropout {
            batch.drop_rows(first, cols, x, d);
        }
        if !self.residual.is_empty() {
            rows::add(x, &self.residual[first * cols..][..x.len()]);
        }
        if let Some((gamma, beta, eps)) = self.norm {
            rows::layer_norm(x, gamma, beta, eps, scale, result);
        }
    }
}

impl CpuBatch {
    fn drop_rows(&self, first: usize, cols: usize, rows: &mut [f32], d: Dropout) {
        for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
            let text = self.text_of[first + i] as usize;
            let position = first + i - self.texts.offsets[text];
            let key = text_key(d.key, self.names[text]);
            rows::drop(row, key, (position * cols) as u32, d.threshold, d.factor);
        }
    }
}

fn optional(floats: Option<&Floats>) -> &[f32] {
    floats.map_or(&[], |f| &f[..])
}

impl Device for Cpu {
    type Floats = Floats;
    type Batch = CpuBatch;
    type Prepared = Prepared;
    type Halves = Buffer<u16>;

    fn with_threads(&self, threads: bool) -> Self {
        Cpu::new(threads)
    }

    fn floats(&self, values: &[f32]) -> Floats {
        Floats::from_slice(values)
    }

    fn len(&self, floats: &Floats) -> usize {
        floats.len()
    }

    fn read(&self, floats: &Floats) -> Vec<f32> {
        floats.to_vec()
    }

    fn write(&self, floats: &mut Floats, values: &[f32]) {
        floats.resize(values.len());
        floats.copy_from_slice(values);
    }

    fn resize(&self, floats: &mut Floats, len: usize) {
        floats.resize(len);
    }

    fn zero(&self, floats: &mut Floats, len: usize) {
        floats.resize(len);
        floats.fill(0.0);
    }

    fn extend(&self, floats: &mut Floats, len: usize) {
        let old = floats.len().min(len);
        floats.resize(len);
        floats[old..].fill(0.0);
    }

    fn copy(&self, from: &Floats, to: &mut Floats) {
        self.write(to, from);
    }

    fn add(&self, from: &Floats, to: &mut Floats) {
        by_blocks(to.len(), 1 << 14, self.threads, Outputs::one(to, 1), &|first, _, outputs| {
            let [(to, _), ..] = outputs.parts;
            rows::add(to, &from[first..]);
        });
    }

    fn mix(&self, from: &Floats, share: f32, to: &mut Floats) {
        by_blocks(to.len(), 1 << 14, self.threads, Outputs::one(to, 1), &|first, _, outputs| {
            let [(to, _), ..] = outputs.parts;
            rows::mix(to, &from[first..], share);
        });
    }

    fn scale(&self, floats: &mut Floats, factor: f32) {
        by_blocks(floats.len(), 1 << 14, self.threads, Outputs::one(floats, 1), &|_, _, outputs| {
            let [(x, _), ..] = outputs.parts;
            x.iter_mut().for_each(|x| *x *= factor);
        });
    }

    fn square_sum(&self, floats: &Floats) -> f64 {
        let part = |x: &[f32]| f64::from(rows::dot(x, x));
        if self.threads {
            let parts: Vec<f64> = floats.par_chunks(4096).map(part).collect();
            parts.iter().sum()
        } else {
            floats.chunks(4096).map(part).sum()
        }
    }

    fn batch(&self, texts: &Bags, names: &[u32]) -> CpuBatch {
        assert_eq!(texts.len(), names.len());
        let mut text_of = Vec::with_capacity(texts.tokens.len());
        for i in 0..texts.len() {
            text_of.resize(texts.offsets[i + 1], i as u32);
        }
        let mut by_token: Vec<(u32, u32)> = texts.tokens.iter().copied().zip(0..).collect();
        by_token.sort_unstable();
        CpuBatch { texts: texts.clone(), names: names.to_vec(), text_of, by_token }
    }

    fn prepare(&self, weight: &Floats, outputs: usize, inputs: usize, p: Precision) -> Prepared {
        Prepared::new(weight, outputs, inputs, p, self.threads)
    }

    fn embed(&self, batch: &CpuBatch, tables: &Tables<Self>, width: usize, out: &mut Floats) {
        let n = batch.texts.tokens.len();
        out.resize(n * width);
        by_blocks(n, BLOCK, self.threads, Outputs::one(out, width), &|first, _, outputs| {
            let [(out, _), ..] = outputs.parts;
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let token = batch.texts.tokens[first + i] as usize;
                out.copy_from_slice(&tables.tokens[token * width..(token + 1) * width]);
                if let Some((positions, start)) = tables.positions {
                    let text = batch.text_of[first + i] as usize;
                    let position = start + first + i - batch.texts.offsets[text];
                    rows::add(out, &positions[position * width..(position + 1) * width]);
                }
                if let Some(kind) = tables.kind {
                    rows::add(out, &kind[..width]);
                }
            }
        });
    }

    fn embed_backward(
        &self,
        batch: &CpuBatch,
        grad: &Floats,
        width: usize,
        rows: &mut Vec<u32>,
        sums: &mut Floats,
    ) {
        let mut merged: Vec<u32> = batch.by_token.iter().map(|(token, _)| *token).collect();
        merged.dedup();
        let mut from = Vec::new();
        if !rows.is_empty() {
            merged.extend_from_slice(rows);
            merged.sort_unstable();
            merged.dedup();
            // Sums of earlier batches move to their new places, from the back.
            from.extend(rows.iter().map(|r| merged.binary_search(r).unwrap_or_default()));
        }
        let old = rows.len();
        sums.resize(merged.len() * width);
        for i in (0..old).rev() {
            sums.copy_within(i * width..(i + 1) * width, from[i] * width);
        }
        let mut kept = from.iter().copied().peekable();
        for i in 0..merged.len() {
            if kept.next_if_eq(&i).is_none() {
                sums[i * width..(i + 1) * width].fill(0.0);
            }
        }
        *rows = merged;
        let rows = &*rows;
        by_blocks(rows.len(), BLOCK, self.threads, Outputs::one(sums, width), &|first, _, outputs| {
            let [(sums, _), ..] = outputs.parts;
            for (i, sum) in sums.chunks_exact_mut(width).enumerate() {
                let token = rows[first + i];
                let start = batch.by_token.partition_point(|(t, _)| *t < token);
                let places = batch.by_token[start..].iter().take_while(|(t, _)| *t == token);
                for &(_, place) in places {
                    rows::add(sum, &grad[place as usize * width..][..width]);
                }
            }
        });
    }

    fn position_backward(
        &self,
        batch: &CpuBatch,
        grad: &Floats,
        positions: Option<(&mut Floats, usize)>,
        kind: Option<&mut Floats>,
    ) {
        let Some(n) = batch.texts.tokens.len().checked_sub(1).map(|n| n + 1) else { return };
        let width = grad.len() / n;
        if let Some((table, start)) = positions {
            let longest = batch.texts.longest();
            let part = &mut table[start * width..(start + longest) * width];
            by_blocks(longest, 8, self.threads, Outputs::one(part, width), &|first, _, outputs| {
                let [(out, _), ..] = outputs.parts;
                for (i, out) in out.chunks_exact_mut(width).enumerate() {
                    for w in batch.texts.offsets.windows(2).filter(|w| first + i < w[1] - w[0]) {
                        rows::add(out, &grad[(w[0] + first + i) * width..][..width]);
                    }
                }
            });
        }
        if let Some(kind) = kind {
            self.sum_blocks(n, &mut kind[..width], |range, sums| {
                rows::column_sums(&grad[range.start * width..range.end * width], sums);
            });
        }
    }

    fn linear(
        &self,
        batch: &CpuBatch,
        x: &Floats,
        weight: Weight<Self>,
        (outputs, inputs): (usize, usize),
        finish: Finish<Self>,
        out: &mut Floats,
    ) {
        let n = x.len() / inputs;
        out.resize(n * outputs);
        let Finish { bias, dropout, residual, norm } = finish;
        let mut end = RowFinish { bias: optional(bias), dropout, residual: optional(residual), norm: None };
        let to = match norm {
            None => Outputs::one(out, outputs),
            Some(norm) => {
                end.norm = Some((norm.norm.gamma, optional(norm.norm.beta), norm.norm.eps));
                norm.normal.resize(n * outputs);
                norm.scale.resize(n);
                let parts =
                    [(&mut norm.normal[..], outputs), (&mut out[..], outputs), (&mut norm.scale[..], 1)];
                Outputs { parts }
            }
        };
        self.product(x, weight, (outputs, inputs), to, &|first, o| end.run(batch, first, outputs, o));
    }

    fn linear_activate(
        &self,
        x: &Floats,
        weight: Weight<Self>,
        (outputs, inputs): (usize, usize),
        bias: Option<&Floats>,
        (kind, gated): (Activation, bool),
        pre: &mut Floats,
        out: &mut Floats,
    ) {
        let n = x.len() / inputs;
        let width = if gated { outputs / 2 } else { outputs };
        pre.resize(n * outputs);
        out.resize(n * width);
        let bias = optional(bias);
        let to = Outputs { parts: [(pre, outputs), (out, width), (&mut [], 0)] };
        self.product(x, weight, (outputs, inputs), to, &|_, outputs: Outputs| {
            let [(pre, _), (out, _), _] = outputs.parts;
            if gated {
                if !bias.is_empty() {
                    rows::add_bias(pre, bias);
                }
                rows::gate(pre, width, kind, out);
            } else {
                rows::activate(pre, bias, kind, out);
            }
        });
    }

    fn activate_backward(
        &self,
        pre: &mut Floats,
        outputs: usize,
        (kind, gated): (Activation, bool),
        grad: &mut Floats,
    ) {
        let n = pre.len() / outputs;
        let width = if gated { outputs / 2 } else { outputs };
        let to = Outputs { parts: [(pre, outputs), (grad, width), (&mut [], 0)] };
        by_blocks(n, BLOCK, self.threads, to, &|_, _, outputs| {
            let [(pre, _), (grad, _), _] = outputs.parts;
            if gated {
                rows::gate_backward(pre, width, kind, grad);
            } else {
                rows::activate_backward(pre, kind, grad);
            }
        });
    }

    fn linear_backward(
        &self,
        grad: &Floats,
        weight: &Floats,
        (outputs, inputs): (usize, usize),
        add: bool,
        out: &mut Floats,
    ) {
        let n = grad.len() / outputs;
        out.resize(n * inputs);
        let a = Rows { values: grad, row: outputs, col: 1 };
        self.with_panels(|panels| {
            panels.pack(Rows { values: weight, row: inputs, col: 1 }, outputs, inputs, self.threads);
            product(a, n, panels, Outputs::one(out, inputs), add, self.threads, &|_, _| {});
        });
    }

    fn weight_backward(
        &self,
        grad: &Floats,
        x: &Floats,
        (outputs, inputs): (usize, usize),
        weight_grad: Option<&mut Floats>,
        bias_grad: Option<&mut Floats>,
    ) {
        let n = grad.len() / outputs;
        if let Some(out) = weight_grad {
            self.with_panels(|panels| {
                product_transposed((grad, outputs), (x, inputs), n, out, self.threads, panels);
            });
        }
        if let Some(out) = bias_grad {
            self.sum_blocks(n, out, |range, sums| {
                rows::column_sums(&grad[range.start * outputs..range.end * outputs], sums);
            });
        }
    }

    fn drop(&self, batch: &CpuBatch, x: &mut Floats, dropout: Dropout) {
        let n = batch.texts.tokens.len();
        let cols = x.len() / n.max(1);
        by_blocks(n, BLOCK, self.threads, Outputs::one(x, cols), &|first, _, outputs| {
            let [(x, _), ..] = outputs.parts;
            batch.drop_rows(first, cols, x, dropout);
        });
    }

    fn layer_norm(&self, x: &mut Floats, norm: Norm<Self>, scale: &mut Floats, out: &mut Floats) {
        let width = norm.gamma.len();
        let n = x.len() / width;
        out.resize(x.len());
        scale.resize(n);
        let to = Outputs { parts: [(x, width), (out, width), (scale, 1)] };
        by_blocks(n, BLOCK, self.threads, to, &|_, _, outputs| {
            let [(x, _), (out, _), (scale, _)] = outputs.parts;
            rows::layer_norm(x, norm.gamma, optional(norm.beta), norm.eps, scale, out);
        });
    }

    fn scale_shift(&self, normal: &Floats, norm: Norm<Self>, out: &mut Floats) {
        let width = norm.gamma.len();
        out.resize(normal.len());
        by_blocks(
            normal.len() / width,
            BLOCK,
            self.threads,
            Outputs::one(out, width),
            &|first, _, outputs| {
                let [(out, _), ..] = outputs.parts;
                let normal = &normal[first * width..][..out.len()];
                rows::scale_shift(normal, norm.gamma, optional(norm.beta), out);
            },
        );
    }

    fn layer_norm_backward(
        &self,
        normal: &Floats,
        scale: &Floats,
        norm: Norm<Self>,
        skip: Option<&Floats>,
        grad: &mut Floats,
        gamma_grad: Option<&mut Floats>,
        beta_grad: Option<&mut Floats>,
    ) {
        let width = norm.gamma.len();
        let n = scale.len();
        let blocks = n.div_ceil(SUM);
        let mut parts = Floats::zeros(blocks * 2 * width);
        let skip = optional(skip);
        let one = |((i, part), grad): ((usize, &mut [f32]), &mut [f32])| {
            let from = i * SUM * width;
            let skip = if skip.is_empty() { skip } else { &skip[from..from + grad.len()] };
            let scale = &scale[i * SUM..(i * SUM + SUM).min(n)];
            rows::layer_norm_backward(&normal[from..from + grad.len()], scale, norm.gamma, grad, skip, part);
        };
        if self.threads {
            let parts = parts.par_chunks_mut(2 * width).enumerate();
            parts.zip(grad.par_chunks_mut(SUM * width)).for_each(one);
        } else {
            parts.chunks_mut(2 * width).enumerate().zip(grad.chunks_mut(SUM * width)).for_each(one);
        }
        if let Some(out) = gamma_grad {
            parts.chunks(2 * width).for_each(|p| rows::add(out, &p[..width]));
        }
        if let Some(out) = beta_grad {
            parts.chunks(2 * width).for_each(|p| rows::add(out, &p[width..]));
        }
    }

    fn rotate(
        &self,
        batch: &CpuBatch,
        qkv: &mut Floats,
        shape: AttentionShape,
        (table, half): (&Floats, usize),
        back: bool,
    ) {
        let width = 3 * shape.heads * shape.head_dim;
        self.by_texts(batch, Outputs::one(qkv, width), &|_, outputs: Outputs| {
            let [(qkv, _), ..] = outputs.parts;
            attention::rotate(qkv, &shape, table, half, back);
        });
    }

    fn attention(
        &self,
        batch: &CpuBatch,
        qkv: &Floats,
        shape: AttentionShape,
        dropout: Option<Dropout>,
        out: &mut Floats,
        log_sums: &mut Floats,
    ) {
        let n = batch.texts.tokens.len();
        let width = shape.heads * shape.head_dim;
        out.resize(n * width);
        log_sums.resize(n * shape.heads);
        let to = Outputs { parts: [(out, width), (log_sums, shape.heads), (&mut [], 0)] };
        self.by_texts(batch, to, &|text, outputs: Outputs| {
            let [(out, _), (log_sums, _), _] = outputs.parts;
            let range = batch.texts.offsets[text]..batch.texts.offsets[text + 1];
            let qkv = &qkv[range.start * 3 * width..range.end * 3 * width];
            let dropout = dropout.map(|d| (d, text_key(d.key, batch.names[text])));
            attention::forward(qkv, &shape, dropout, out, log_sums);
        });
    }

    fn attention_backward(
        &self,
        batch: &CpuBatch,
        (qkv, out, log_sums): (&Floats, &Floats, &Floats),
        grad: &Floats,
        shape: AttentionShape,
        dropout: Option<Dropout>,
        grad_qkv: &mut Floats,
    ) {
        let width = shape.heads * shape.head_dim;
        grad_qkv.resize(qkv.len());
        self.by_texts(batch, Outputs::one(grad_qkv, 3 * width), &|text, outputs: Outputs| {
            let [(grad_qkv, _), ..] = outputs.parts;
            let r = batch.texts.offsets[text]..batch.texts.offsets[text + 1];
            let part = |x: &'_ Floats, width: usize| r.start * width..(r.end * width).min(x.len());
            let forward =
                (&qkv[part(qkv, 3 * width)], &out[part(out, width)], &log_sums[part(log_sums, shape.heads)]);
            let dropout = dropout.map(|d| (d, text_key(d.key, batch.names[text])));
            attention::backward(forward, &grad[part(grad, width)], &shape, dropout, grad_qkv);
        });
    }

    fn pool(&self, batch: &CpuBatch, x: &Floats, pooling: Pooling, out: &mut Floats) {
        let width = x.len() / batch.texts.tokens.len().max(1);
        out.resize(batch.texts.len() * width);
        by_blocks(batch.texts.len(), 4, self.threads, Outputs::one(out, width), &|first, _, outputs| {
            let [(out, _), ..] = outputs.parts;
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let offsets = &batch.texts.offsets[first + i..];
                pooling::forward(&x[offsets[0] * width..offsets[1] * width], pooling, out);
            }
        });
    }

    fn pool_backward(
        &self,
        batch: &CpuBatch,
        x: &Floats,
        grad: &Floats,
        pooling: Pooling,
        grad_x: &mut Floats,
    ) {
        let width = x.len() / batch.texts.tokens.len().max(1);
        grad_x.resize(x.len());
        self.by_texts(batch, Outputs::one(grad_x, width), &|text, outputs: Outputs| {
            let [(grad_x, _), ..] = outputs.parts;
            let range = batch.texts.offsets[text] * width..batch.texts.offsets[text + 1] * width;
            pooling::backward(&x[range], &grad[text * width..(text + 1) * width], pooling, grad_x);
        });
    }

    fn adamw(
        &self,
        weights: &mut Floats,
        grad: &Floats,
        (first, second): (&mut Floats, &mut Floats),
        rates: Rates,
    ) {
        let n = weights.len();
        let to = Outputs { parts: [(weights, 1), (first, 1), (second, 1)] };
        by_blocks(n, 1 << 14, self.threads, to, &|from, _, outputs| {
            let [(w, _), (m, _), (v, _)] = outputs.parts;
            let grad = &grad[from..from + w.len()];
            rates.update(w, Some(grad), m, v);
        });
    }

    fn halves(&self, len: usize) -> Buffer<u16> {
        Buffer::zeros(len)
    }

    fn read_halves(&self, halves: &Buffer<u16>) -> Vec<f32> {
        halves.iter().map(|h| widen(*h)).collect()
    }

    fn write_halves(&self, halves: &mut Buffer<u16>, values: &[f32]) {
        halves.resize(values.len());
        halves.iter_mut().zip(values).for_each(|(h, v)| *h = (v.to_bits() >> 16) as u16);
    }

    fn adamw_halves(
        &self,
        weights: &mut Floats,
        grad: &Floats,
        (first, second): (&mut Buffer<u16>, &mut Buffer<u16>),
        rates: Rates,
        key: u32,
    ) {
        const PART: usize = 1 << 14;
        type Part<'a> = ((&'a mut [f32], &'a mut [u16]), &'a mut [u16]);
        let one = |(i, ((w, m), v)): (usize, Part)| {
            let from = i * PART;
            rates.update_halves(w, &grad[from..from + w.len()], (m, v), key, from as u32);
        };
        if self.threads {
            let moments = first.par_chunks_mut(PART).zip(second.par_chunks_mut(PART));
            let all = weights.par_chunks_mut(PART).zip(moments).map(|(w, (m, v))| ((w, m), v));
            all.enumerate().for_each(one);
        } else {
            let moments = first.chunks_mut(PART).zip(second.chunks_mut(PART));
            let all = weights.chunks_mut(PART).zip(moments).map(|(w, (m, v))| ((w, m), v));
            all.enumerate().for_each(one);
        }
    }

    fn adamw_rows(
        &self,
        table: &mut Floats,
        (rows, slots, grads): (&[u32], &[u32], &[u32]),
        grad: &Floats,
        (first, second): (&mut Floats, &mut Floats),
        width: usize,
        rates: Rates,
    ) {
        for ((&row, &slot), &g) in rows.iter().zip(slots).zip(grads) {
            let range = |i: u32| i as usize * width..(i as usize + 1) * width;
            let grad = (g != u32::MAX).then(|| &grad[range(g)]);
            rates.update(&mut table[range(row)], grad, &mut first[range(slot)], &mut second[range(slot)]);
        }
    }

    fn decay_rows(&self, table: &mut Floats, except: &[u32], rows: usize, width: usize, keep: f32) {
        let table = &mut table[..rows * width];
        by_blocks(rows, 1 << 10, self.threads, Outputs::one(table, width), &|first, _, outputs| {
            let [(table, _), ..] = outputs.parts;
            for (i, row) in table.chunks_exact_mut(width).enumerate() {
                if except.binary_search(&((first + i) as u32)).is_err() {
                    row.iter_mut().for_each(|w| *w *= keep);
                }
            }
        });
    }
}
