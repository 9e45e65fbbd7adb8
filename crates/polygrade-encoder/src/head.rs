//! What follows the transformer: dense layers, cutting, scaling to length 1; on a few vectors a text, so on the
//! host.

use crate::modules::{DenseSpec, DenseWeights};
use polygrade_nn::Matrix;
use polygrade_nn::device::Device;
use polygrade_nn::kernels::{Transpose, axpy, l2_normalize, l2_normalize_backward, matmul};
use polygrade_nn::params::{Grads, Params};

/// A dense layer and the places of its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    pub(crate) spec: DenseSpec,
    weight: usize,
    bias: Option<usize>,
    residual: Option<usize>,
}

/// The part of a model behind pooling.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) dense: Vec<Dense>,
    pub(crate) truncate: Option<usize>,
    pub(crate) normalize: bool,
    /// Whether cut vectors are scaled to length 1 as well; sentence-transformers scales before it cuts.
    pub(crate) unit: bool,
}

/// What [`Head::backward`] needs of a forward.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadTape {
    /// Before each dense layer, and after the last.
    inputs: Vec<Matrix>,
    /// Each layer's sums before its activation.
    sums: Vec<Matrix>,
    norms: Vec<f32>,
    out: Matrix,
}

impl Dense {
    pub(crate) fn new<D: Device>(spec: DenseSpec, weights: &DenseWeights, params: &mut Params<D>) -> Self {
        let shape = [spec.out_features, spec.in_features];
        let weight = params.push(&shape, &weights.linear);
        let bias = weights.bias.as_ref().map(|b| params.push(&shape[..1], b));
        let residual = weights.residual.as_ref().map(|r| params.push(&shape, r));
        Dense { spec, weight, bias, residual }
    }

    pub(crate) fn weights<D: Device>(&self, params: &Params<D>) -> DenseWeights {
        let read = |place: usize| params.device().read(params.value(place));
        DenseWeights {
            linear: read(self.weight),
            bias: self.bias.map(read),
            residual: self.residual.map(read),
        }
    }

    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        match name {
            "linear.weight" => Some(self.weight),
            "linear.bias" => self.bias,
            "residual.weight" => self.residual,
            _ => None,
        }
    }

    fn matrix<D: Device>(&self, params: &Params<D>, place: usize) -> Matrix {
        Matrix::new(self.spec.in_features, params.device().read(params.value(place)))
    }
}

impl Head {
    /// Width of the vectors that go in, given that of the ones that come out of pooling.
    pub(crate) fn width(&self, pooled: usize) -> usize {
        let full = self.dense.last().map_or(pooled, |d| d.spec.out_features);
        self.truncate.map_or(full, |n| n.min(full))
    }

    /// Whether the last thing done to vectors is scaling them to length 1.
    fn scales_last(&self, cut: bool) -> bool {
        self.normalize && (self.unit || !cut)
    }

    /// Whether vectors come out with length 1, given the width of those that come out of pooling.
    pub(crate) fn normalizes(&self, pooled: usize) -> bool {
        let full = self.dense.last().map_or(pooled, |d| d.spec.out_features);
        self.scales_last(self.truncate.is_some_and(|n| n < full))
    }

    /// The finished vectors of pooled ones; `tape` keeps what backward needs.
    pub(crate) fn forward<'t, D: Device>(
        &self,
        params: &Params<D>,
        pooled: Matrix,
        threads: bool,
        tape: &'t mut HeadTape,
    ) -> &'t mut Matrix {
        tape.inputs.clear();
        tape.sums.clear();
        let mut x = pooled;
        for layer in &self.dense {
            let mut sums = Matrix::default();
            matmul(&x, &layer.matrix(params, layer.weight), Transpose::Right, threads, &mut sums);
            if let Some(bias) = layer.bias {
                let bias = params.device().read(params.value(bias));
                sums.data.chunks_mut(bias.len()).for_each(|row| axpy(1.0, &bias, row));
            }
            let mut y = sums.clone();
            y.data.iter_mut().for_each(|v| *v = layer.spec.activation.at(*v).0);
            if let Some(residual) = layer.residual {
                let mut r = Matrix::default();
                matmul(&x, &layer.matrix(params, residual), Transpose::Right, threads, &mut r);
                axpy(1.0, &r.data, &mut y.data);
            } else if layer.spec.use_residual {
                axpy(1.0, &x.data, &mut y.data);
            }
            tape.sums.push(sums);
            tape.inputs.push(std::mem::replace(&mut x, y));
        }
        let cut = self.truncate.filter(|n| *n < x.cols);
        if cut.is_some() && self.normalize && !self.unit {
            let cols = x.cols;
            x.data.chunks_mut(cols).for_each(|row| {
                l2_normalize(row);
            });
        }
        if let Some(n) = cut {
            let cut = x.data.chunks(x.cols).flat_map(|row| row[..n].iter().copied()).collect();
            tape.inputs.push(std::mem::replace(&mut x, Matrix { cols: n, data: cut }));
        }
        tape.norms.clear();
        if self.scales_last(cut.is_some()) && x.cols > 0 {
            let cols = x.cols;
            tape.norms.extend(x.data.chunks_mut(cols).map(l2_normalize));
        }
        tape.out = x;
        &mut tape.out
    }

    /// From ∂L/∂vectors to ∂L/∂pooled; `grad` is used up.
    pub(crate) fn backward<D: Device>(
        &self,
        params: &Params<D>,
        mut grad: Matrix,
        threads: bool,
        tape: &HeadTape,
        grads: &mut Grads<D>,
    ) -> Matrix {
        let cols = grad.cols;
        for ((g, y), norm) in grad.data.chunks_mut(cols).zip(tape.out.data.chunks(cols)).zip(&tape.norms) {
            l2_normalize_backward(y, *norm, g);
        }
        if let Some(n) = self.truncate {
            let full = tape.inputs.get(self.dense.len()).map_or(n, |x| x.cols);
            if full > n {
                let mut wide = Matrix::zeros(grad.rows(), full);
                wide.data
                    .chunks_mut(full)
                    .zip(grad.data.chunks(n))
                    .for_each(|(w, g)| w[..n].copy_from_slice(g));
                grad = wide;
            }
        }
        let device = params.device();
        for (i, layer) in self.dense.iter().enumerate().rev() {
            let x = &tape.inputs[i];
            let skip = layer.spec.use_residual.then(|| grad.clone());
            grad.data
                .iter_mut()
                .zip(&tape.sums[i].data)
                .for_each(|(g, s)| *g *= layer.spec.activation.at(*s).1);
            let mut add = |place: Option<usize>, values: &[f32]| {
                if let Some(to) = place.and_then(|p| grads.dense(p)) {
                    device.add(&device.floats(values), to);
                }
            };
            let mut product = Matrix::default();
            matmul(&grad, x, Transpose::Left, threads, &mut product);
            add(Some(layer.weight), &product.data);
            let mut sums = vec![0.0; grad.cols];
            grad.data.chunks(grad.cols).for_each(|row| axpy(1.0, row, &mut sums));
            add(layer.bias, &sums);
            let mut below = Matrix::default();
            matmul(&grad, &layer.matrix(params, layer.weight), Transpose::None, threads, &mut below);
            match (skip, layer.residual) {
                (Some(skip), Some(residual)) => {
                    matmul(&skip, x, Transpose::Left, threads, &mut product);
                    add(Some(residual), &product.data);
                    let mut past = Matrix::default();
                    matmul(&skip, &layer.matrix(params, residual), Transpose::None, threads, &mut past);
                    axpy(1.0, &past.data, &mut below.data);
                }
                (Some(skip), None) => axpy(1.0, &skip.data, &mut below.data),
                (None, _) => {}
            }
            grad = below;
        }
        grad
    }
}
