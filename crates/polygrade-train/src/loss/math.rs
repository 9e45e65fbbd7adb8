//! Exponentials that neither overflow nor cancel.

/// ln(1 + eˣ)
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e⁻ˣ)
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// ln Σ eˣ, taken up one by one.
#[derive(Clone, Copy)]
pub(crate) struct LogSumExp {
    top: f64,
    sum: f64,
}

impl LogSumExp {
    pub(crate) const EMPTY: LogSumExp = LogSumExp { top: f64::NEG_INFINITY, sum: 0.0 };

    pub(crate) fn add(&mut self, x: f64) {
        if x <= self.top {
            if x > f64::NEG_INFINITY {
                self.sum += (x - self.top).exp();
            }
        } else {
            self.sum = self.sum * (self.top - x).exp() + 1.0;
            self.top = x;
        }
    }

    /// −∞ where nothing was added.
    pub(crate) fn value(&self) -> f64 {
        self.top + self.sum.ln()
    }
}

/// Makes a softmax of `values` in place; gives ln Σ eˣ.
pub(crate) fn softmax(values: &mut [f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for v in values.iter_mut() {
        *v = (*v - top).exp();
        sum += *v;
    }
    values.iter_mut().for_each(|v| *v /= sum);
    top + sum.ln()
}
