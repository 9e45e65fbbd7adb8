//! The embedding bag: the weighted mean of the embeddings of a text's tokens, and its gradient.
//!
//! A text with tokens t₁…tₙ gives (1/n) Σ `exp(a[tᵢ]) · E[tᵢ]`, with a table E (vocabulary × width) and a
//! learned log-weight a for each token. Texts are packed: token ids one after another, with offsets.

use crate::Matrix;
use crate::kernels::{axpy, dot};
use rayon::prelude::*;

/// Packed texts: text `i` has the tokens `tokens[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bags {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// One more than there are texts; starts with 0.
    pub offsets: Vec<usize>,
}

impl Bags {
    /// No texts.
    pub fn new() -> Self {
        Bags { tokens: Vec::new(), offsets: vec![0] }
    }

    /// Adds a text.
    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.offsets.push(self.tokens.len());
    }

    /// Removes all texts, keeping the allocations.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.offsets.truncate(1);
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the texts.
    pub fn part(&self, texts: std::ops::Range<usize>) -> Bags {
        let start = self.offsets[texts.start];
        let offsets = self.offsets[texts.start..=texts.end].iter().map(|o| o - start).collect();
        Bags { tokens: self.tokens[start..self.offsets[texts.end]].to_vec(), offsets }
    }

    /// Runs of texts of at most `budget` tokens, at least one text each.
    pub fn runs(&self, budget: usize) -> Vec<std::ops::Range<usize>> {
        let mut out: Vec<std::ops::Range<usize>> = Vec::new();
        for i in 0..self.len() {
            match out.last_mut() {
                Some(last) if self.offsets[i + 1] - self.offsets[last.start] <= budget => last.end = i + 1,
                _ => out.push(i..i + 1),
            }
        }
        out
    }

    /// Number of tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0)
    }

    /// The tokens of a text.
    pub fn get(&self, i: usize) -> &[u32] {
        &self.tokens[self.offsets[i]..self.offsets[i + 1]]
    }
}

/// A table that can be read row by row.
pub trait Rows: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Number of columns.
    fn cols(&self) -> usize;
    /// `out += factor · row`
    fn add(&self, row: usize, factor: f32, out: &mut [f32]);
}

impl Rows for Matrix {
    fn rows(&self) -> usize {
        Matrix::rows(self)
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn add(&self, row: usize, factor: f32, out: &mut [f32]) {
        axpy(factor, self.row(row), out);
    }
}

/// The bags' vectors, one a row. A text without tokens gives zeros.
///
/// # Panics
/// When a token id is outside the table.
pub fn forward<R: Rows>(table: &R, log_weights: &[f32], bags: &Bags, threads: bool, out: &mut Matrix) {
    let cols = table.cols();
    out.reset(bags.len(), cols);
    let one = |(i, row): (usize, &mut [f32])| {
        let tokens = bags.get(i);
        let scale = 1.0 / tokens.len().max(1) as f32;
        for &t in tokens {
            table.add(t as usize, log_weights[t as usize].exp() * scale, row);
        }
    };
    if threads {
        out.data.par_chunks_mut(cols).with_min_len(16).enumerate().for_each(one);
    } else {
        out.data.chunks_mut(cols).enumerate().for_each(one);
    }
}

/// Gradients of the rows that a batch touches.
#[derive(Debug, Clone, Default)]
pub struct RowGrads {
    /// The tokens, ascending.
    pub rows: Vec<u32>,
    /// ∂L/∂E, a row for each of `rows`.
    pub table: Matrix,
    /// ∂L/∂a, a value for each of `rows`.
    pub log_weights: Vec<f32>,
    occurrences: Vec<u64>,
    starts: Vec<usize>,
}

/// The gradient of [`forward`]. `grad` holds ∂L/∂out. A row sums over its occurrences in the order of the
/// texts, whatever the number of threads.
pub fn backward(
    table: &Matrix,
    log_weights: &[f32],
    bags: &Bags,
    grad: &Matrix,
    threads: bool,
    out: &mut RowGrads,
) {
    let RowGrads { rows, table: table_grad, log_weights: weight_grad, occurrences, starts } = out;
    occurrences.clear();
    for i in 0..bags.len() {
        occurrences.extend(bags.get(i).iter().map(|&t| u64::from(t) << 32 | i as u64));
    }
    occurrences.sort_unstable();
    rows.clear();
    starts.clear();
    for (i, &o) in occurrences.iter().enumerate() {
        let token = (o >> 32) as u32;
        if rows.last() != Some(&token) {
            rows.push(token);
            starts.push(i);
        }
    }
    starts.push(occurrences.len());
    table_grad.reset(rows.len(), table.cols);
    weight_grad.clear();
    weight_grad.resize(rows.len(), 0.0);
    let (occurrences, starts, rows) = (&*occurrences, &*starts, &*rows);
    let one = |((i, row), weight): ((usize, &mut [f32]), &mut f32)| {
        let token = rows[i] as usize;
        for &o in &occurrences[starts[i]..starts[i + 1]] {
            let text = (o & u64::from(u32::MAX)) as usize;
            axpy(1.0 / bags.get(text).len() as f32, grad.row(text), row);
        }
        let w = log_weights[token].exp();
        row.iter_mut().for_each(|g| *g *= w);
        // ∂/∂a of exp(a)·E is exp(a)·E itself.
        *weight = dot(row, table.row(token));
    };
    if threads {
        let rows = table_grad.data.par_chunks_mut(table.cols).with_min_len(32).enumerate();
        rows.zip(weight_grad.par_iter_mut()).for_each(one);
    } else {
        table_grad.data.chunks_mut(table.cols).enumerate().zip(weight_grad.iter_mut()).for_each(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterRng;

    fn case() -> (Matrix, Vec<f32>, Bags, Matrix) {
        let rng = CounterRng::new(1);
        let table = Matrix::new(3, (0..30).map(|i| rng.normal(i) as f32).collect());
        let weights = (0..10).map(|i| rng.normal(100 + i) as f32 * 0.5).collect();
        let mut bags = Bags::new();
        bags.push(&[1, 4, 1, 9]);
        bags.push(&[]);
        bags.push(&[4]);
        bags.push(&[0, 1, 2, 3, 4, 5, 5, 5]);
        let grad = Matrix::new(3, (0..12).map(|i| rng.normal(200 + i) as f32).collect());
        (table, weights, bags, grad)
    }

    /// The same in f64, the plain way.
    fn loss(table: &[f64], weights: &[f64], bags: &Bags, grad: &Matrix) -> f64 {
        let mut sum = 0.0;
        for i in 0..bags.len() {
            for &t in bags.get(i) {
                for c in 0..3 {
                    let e = table[t as usize * 3 + c] * weights[t as usize].exp();
                    sum += e / bags.get(i).len() as f64 * f64::from(grad.row(i)[c]);
                }
            }
        }
        sum
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (table, weights, bags, grad) = case();
        let mut grads = RowGrads::default();
        backward(&table, &weights, &bags, &grad, false, &mut grads);
        assert_eq!(grads.rows, [0, 1, 2, 3, 4, 5, 9]);
        let t64: Vec<f64> = table.data.iter().map(|v| f64::from(*v)).collect();
        let w64: Vec<f64> = weights.iter().map(|v| f64::from(*v)).collect();
        let h = 1e-5;
        for (i, &token) in grads.rows.iter().enumerate() {
            for c in 0..3 {
                let at = token as usize * 3 + c;
                let (mut hi, mut lo) = (t64.clone(), t64.clone());
                hi[at] += h;
                lo[at] -= h;
                let want = (loss(&hi, &w64, &bags, &grad) - loss(&lo, &w64, &bags, &grad)) / (2.0 * h);
                assert!((f64::from(grads.table.row(i)[c]) - want).abs() < 1e-5);
            }
            let (mut hi, mut lo) = (w64.clone(), w64.clone());
            hi[token as usize] += h;
            lo[token as usize] -= h;
            let want = (loss(&t64, &hi, &bags, &grad) - loss(&t64, &lo, &bags, &grad)) / (2.0 * h);
            assert!((f64::from(grads.log_weights[i]) - want).abs() < 1e-5);
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let (table, weights, bags, grad) = case();
        let (mut a, mut b) = (Matrix::default(), Matrix::default());
        forward(&table, &weights, &bags, false, &mut a);
        forward(&table, &weights, &bags, true, &mut b);
        assert_eq!(a, b);
        assert_eq!(a.row(1), [0.0; 3]);
        let (mut x, mut y) = (RowGrads::default(), RowGrads::default());
        backward(&table, &weights, &bags, &grad, false, &mut x);
        backward(&table, &weights, &bags, &grad, true, &mut y);
        assert_eq!((x.table, x.log_weights), (y.table, y.log_weights));
    }
}
