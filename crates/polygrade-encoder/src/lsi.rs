//! Token embeddings from co-occurrence alone: latent semantic indexing (Deerwester et al. 1990), and across
//! languages where documents are joined by translation (Dumais et al. 1997).
//!
//! The table's columns span the leading left singular vectors of the token × document matrix of weights
//! (1 + log tf)·idf, with documents of length 1; rows are scaled to length 1. Found by subspace iteration from
//! a random start, so no singular value decomposition is needed: inner products do not change when a subspace
//! is turned.

use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::l2_normalize;
use polygrade_nn::rng::CounterRng;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

/// Rounds of the iteration; the subspace is stable after three.
const ROUNDS: usize = 4;

/// A sparse matrix by rows: (column, value).
type Sparse = Vec<Vec<(u32, f32)>>;

/// Embeddings of `vocab` tokens from texts; text `i` belongs to document `documents[i]`.
pub(crate) fn table(bags: &Bags, documents: &[u32], vocab: usize, dim: usize, seed: u64) -> Matrix {
    let (by_token, by_document) = weights(bags, documents, vocab);
    let rng = CounterRng::new(seed);
    let start = (0..by_document.len() * dim).map(|i| rng.normal(i as u64) as f32).collect();
    let mut basis = product(&by_token, &Matrix::new(dim, start));
    for _ in 0..ROUNDS {
        orthonormalize(&mut basis);
        basis = product(&by_token, &product(&by_document, &basis));
    }
    orthonormalize(&mut basis);
    basis.data.par_chunks_mut(dim).for_each(|row| {
        l2_normalize(row);
    });
    basis
}

fn weights(bags: &Bags, documents: &[u32], vocab: usize) -> (Sparse, Sparse) {
    let count = documents.iter().max().map_or(0, |d| *d as usize + 1);
    let mut frequencies: Vec<FxHashMap<u32, u32>> = vec![FxHashMap::default(); count];
    for (i, &d) in documents.iter().enumerate() {
        for &t in bags.get(i) {
            *frequencies[d as usize].entry(t).or_default() += 1;
        }
    }
    let mut df = vec![0u32; vocab];
    frequencies.iter().flat_map(|f| f.keys()).for_each(|&t| df[t as usize] += 1);
    let mut by_token: Sparse = vec![Vec::new(); vocab];
    let by_document: Sparse = frequencies
        .into_iter()
        .enumerate()
        .map(|(d, f)| {
            // Sorted, since a hash map's order must not reach the sums.
            let mut row: Vec<(u32, f32)> = f.into_iter().map(|(t, n)| (t, n as f32)).collect();
            row.sort_unstable_by_key(|(t, _)| *t);
            for (t, v) in &mut row {
                *v = (1.0 + v.ln()) * (count as f32 / df[*t as usize] as f32).ln().max(0.0);
            }
            let norm = row.iter().map(|(_, v)| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            row.iter_mut().for_each(|(_, v)| *v /= norm);
            row.iter().for_each(|&(t, v)| by_token[t as usize].push((d as u32, v)));
            row
        })
        .collect();
    (by_token, by_document)
}

fn product(a: &Sparse, b: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(a.len(), b.cols);
    out.data.par_chunks_mut(b.cols).zip(a).for_each(|(row, entries)| {
        entries.iter().for_each(|&(j, v)| polygrade_nn::kernels::axpy(v, b.row(j as usize), row));
    });
    out
}

/// Makes the columns orthonormal: y ← y·R⁻¹ with yᵀy = RᵀR (Cholesky), twice, in f64.
fn orthonormalize(y: &mut Matrix) {
    let k = y.cols;
    for _ in 0..2 {
        let mut r = gram(y);
        let largest = (0..k).map(|i| r[i * k + i]).fold(0.0, f64::max);
        for i in 0..k {
            let (above, row) = r.split_at_mut(i * k);
            let row = &mut row[..k];
            for done in above.chunks(k) {
                let f = done[i];
                row[i..].iter_mut().zip(&done[i..]).for_each(|(x, a)| *x -= f * a);
            }
            // Fewer documents than columns leave directions that hold only rounding: they become zero.
            let pivot = if row[i] > largest * 1e-9 { row[i].sqrt() } else { f64::INFINITY };
            row[i..].iter_mut().for_each(|x| *x /= pivot);
            row[i] = pivot;
        }
        y.data.par_chunks_mut(k).for_each_init(
            || vec![0f64; k],
            |x, row| {
                x.iter_mut().zip(&*row).for_each(|(x, v)| *x = f64::from(*v));
                for (i, r) in r.chunks(k).enumerate() {
                    let solved = x[i] / r[i];
                    x[i] = solved;
                    x[i + 1..].iter_mut().zip(&r[i + 1..]).for_each(|(x, r)| *x -= solved * r);
                }
                row.iter_mut().zip(&*x).for_each(|(v, x)| *v = *x as f32);
            },
        );
    }
}

/// The upper triangle of yᵀy, in f64. Threads share its rows, each summing over all of y in order.
fn gram(y: &Matrix) -> Vec<f64> {
    let k = y.cols;
    let mut out = vec![0f64; k * k];
    let band = 16;
    out.par_chunks_mut(k * band).enumerate().for_each(|(b, rows)| {
        for block in y.data.chunks(k * 64) {
            for (i, sum) in rows.chunks_mut(k).enumerate() {
                let i = b * band + i;
                for row in block.chunks(k) {
                    let f = f64::from(row[i]);
                    sum[i..].iter_mut().zip(&row[i..]).for_each(|(s, v)| *s += f * f64::from(*v));
                }
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_nn::kernels::dot;

    #[test]
    fn words_of_the_same_documents_come_close() {
        // Two subjects with three words each; no document holds all words of its subject.
        let texts: [&[u32]; 6] = [&[0, 1], &[1, 2], &[0, 2], &[3, 4], &[4, 5], &[3, 5]];
        let mut bags = Bags::new();
        texts.iter().for_each(|t| bags.push(t));
        let t = table(&bags, &[0, 1, 2, 3, 4, 5], 6, 2, 1);
        let cos = |a: usize, b: usize| dot(t.row(a), t.row(b));
        assert!(cos(0, 2) > 0.99 && cos(3, 5) > 0.99 && cos(0, 4).abs() < 0.05, "{t:?}");
        // Joined documents tie words that never meet: translations.
        let t = table(&bags, &[0, 1, 2, 0, 1, 2], 6, 3, 1);
        assert!(dot(t.row(0), t.row(3)) > 0.99 && dot(t.row(1), t.row(4)) > 0.99);
    }

    #[test]
    fn more_columns_than_documents_stay_finite() {
        let mut bags = Bags::new();
        [&[0u32, 1][..], &[1, 2], &[]].iter().for_each(|t| bags.push(t));
        let t = table(&bags, &[0, 0, 1], 4, 8, 1);
        assert!(t.data.iter().all(|v| v.abs() <= 1.0), "{t:?}");
    }

    #[test]
    fn columns_become_orthonormal() {
        let rng = CounterRng::new(1);
        let mut y =
            Matrix::new(4, (0..200).map(|i| rng.normal(i) as f32 * 1000f32.powi(i as i32 % 3)).collect());
        orthonormalize(&mut y);
        for a in 0..4 {
            for b in 0..4 {
                let d: f32 = (0..50).map(|i| y.row(i)[a] * y.row(i)[b]).sum();
                assert!((d - f32::from(a == b)).abs() < 1e-4, "{a} {b}: {d}");
            }
        }
    }
}
