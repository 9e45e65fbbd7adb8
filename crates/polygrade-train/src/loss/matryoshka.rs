//! Matryoshka (Kusupati et al. 2022, arXiv 2205.13147): the sum of a loss over vectors cut to several dimensions and
//! scaled to length 1 again, each with its weight.

use super::Value;
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{axpy, l2_normalize, l2_normalize_backward};

/// The dimensions with their weights, and buffers.
#[derive(Default)]
pub(crate) struct Matryoshka {
    dims: Vec<(usize, f32)>,
    queries: Cut,
    passages: Cut,
}

/// Vectors cut and scaled, their lengths before that, and their gradient.
#[derive(Default)]
struct Cut {
    vectors: Matrix,
    norms: Vec<f32>,
    grad: Matrix,
}

impl Matryoshka {
    pub(crate) fn new(dims: &[(usize, f32)]) -> Self {
        Matryoshka { dims: dims.to_vec(), ..Matryoshka::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.dims.is_empty()
    }

    /// Sums `loss`, which takes vectors and a weight for their gradients, over the dimensions.
    pub(crate) fn value(
        &mut self,
        (queries, passages): (&Matrix, &Matrix),
        (grad_queries, grad_passages): (&mut Matrix, &mut Matrix),
        mut loss: impl FnMut((&Matrix, &Matrix), f32, (&mut Matrix, &mut Matrix)) -> Value,
    ) -> Value {
        grad_queries.reset(queries.rows(), queries.cols);
        grad_passages.reset(passages.rows(), passages.cols);
        let mut sum = Value::default();
        for &(dim, weight) in &self.dims {
            self.queries.take(queries, dim);
            self.passages.take(passages, dim);
            let grads = (&mut self.queries.grad, &mut self.passages.grad);
            let value = loss((&self.queries.vectors, &self.passages.vectors), weight, grads);
            self.queries.give(grad_queries);
            self.passages.give(grad_passages);
            sum.loss += f64::from(weight) * value.loss;
            sum.terms = sum.terms.max(value.terms);
        }
        sum
    }
}

impl Cut {
    fn take(&mut self, vectors: &Matrix, dim: usize) {
        self.vectors.reset(vectors.rows(), dim);
        self.norms.clear();
        for i in 0..vectors.rows() {
            let row = self.vectors.row_mut(i);
            row.copy_from_slice(&vectors.row(i)[..dim]);
            self.norms.push(l2_normalize(row));
        }
    }

    fn give(&mut self, grad: &mut Matrix) {
        for (i, norm) in self.norms.iter().enumerate() {
            let own = self.grad.row_mut(i);
            l2_normalize_backward(self.vectors.row(i), *norm, own);
            axpy(1.0, own, &mut grad.row_mut(i)[..own.len()]);
        }
    }
}
