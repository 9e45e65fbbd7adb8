//! AdamW (Loshchilov and Hutter 2019) on whole tensors and on single rows, and learning-rate schedules.

use crate::Matrix;
use crate::cpu::rows::scramble;
use crate::simd::vectorized;
use rayon::prelude::*;

/// Settings of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root, against division by nearly nothing.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW's memory of one tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Mean of gradients.
    pub first: Vec<f32>,
    /// Mean of squared gradients.
    pub second: Vec<f32>,
}

impl Moments {
    /// For `n` values.
    pub fn new(n: usize) -> Self {
        Moments { first: vec![0.0; n], second: vec![0.0; n] }
    }
}

impl AdamW {
    /// One step on a whole tensor; `step` counts from 1.
    pub fn step(&self, weights: &mut [f32], grad: &[f32], moments: &mut Moments, lr: f32, step: u64) {
        self.rates(lr, step).update(weights, Some(grad), &mut moments.first, &mut moments.second);
    }

    /// One step on the given rows of a table, as PyTorch's SparseAdam does it, with decay: rows without a gradient keep
    /// their weights and moments. `rows` ascends, without repetition; row `i` of `grad` belongs to `rows[i]`.
    pub fn step_rows(
        &self,
        table: &mut Matrix,
        rows: &[u32],
        grad: &Matrix,
        moments: &mut Moments,
        (lr, step): (f32, u64),
    ) {
        debug_assert!(rows.windows(2).all(|w| w[0] < w[1]));
        let cols = table.cols;
        let rates = self.rates(lr, step);
        // Disjoint mutable rows without unsafe code: walk down the buffers and split off what is asked for.
        let mut parts = Vec::with_capacity(rows.len());
        let (mut w, mut m, mut v) = (&mut table.data[..], &mut moments.first[..], &mut moments.second[..]);
        let mut start = 0;
        for &row in rows {
            let skip = row as usize * cols - start;
            let (wr, rest) = w.split_at_mut(skip).1.split_at_mut(cols);
            w = rest;
            let (mr, rest) = m.split_at_mut(skip).1.split_at_mut(cols);
            m = rest;
            let (vr, rest) = v.split_at_mut(skip).1.split_at_mut(cols);
            v = rest;
            start = (row as usize + 1) * cols;
            parts.push((wr, mr, vr));
        }
        type Part<'a> = (&'a mut [f32], &'a mut [f32], &'a mut [f32]);
        let one = |((w, m, v), g): (Part, &[f32])| rates.update(w, Some(g), m, v);
        if parts.len() * cols > 1 << 16 {
            parts.into_par_iter().zip(grad.data.par_chunks(cols)).with_min_len(64).for_each(one);
        } else {
            parts.into_iter().zip(grad.data.chunks(cols)).for_each(one);
        }
    }

    /// What a step at learning rate `lr` multiplies with; `step` counts from 1.
    pub fn rates(&self, lr: f32, step: u64) -> Rates {
        let power = step.min(i32::MAX as u64) as i32;
        let c1 = 1.0 - f64::from(self.beta1).powi(power);
        let c2 = 1.0 - f64::from(self.beta2).powi(power);
        Rates {
            rate: (f64::from(lr) / c1) as f32,
            root: (1.0 / c2.sqrt()) as f32,
            keep: 1.0 - lr * self.weight_decay,
            adam: *self,
        }
    }
}

/// One step's numbers of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate over the first moment's correction.
    pub rate: f32,
    /// Correction of the root of the second moment.
    pub root: f32,
    /// What weight decay leaves of a weight.
    pub keep: f32,
    /// The settings.
    pub adam: AdamW,
}

impl Rates {
    /// Moves weights `w` with moments `m` and `v` along the gradient `g`; without one it counts as zero.
    pub fn update(&self, w: &mut [f32], g: Option<&[f32]>, m: &mut [f32], v: &mut [f32]) {
        match g {
            Some(g) => adamw(w, g, m, v, *self),
            None => coast(w, m, v, *self),
        }
    }
}

vectorized! {
    fn adamw(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], r: Rates) {
        let AdamW { beta1, beta2, eps, .. } = r.adam;
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = *w * r.keep - r.rate * *m / (v.sqrt() * r.root + eps);
        }
    }
}

impl Rates {
    /// [`Rates::update`] with moments in bfloat16, rounded by chance; `key` and `from`, the place of the first value in
    /// its tensor, decide how.
    pub(crate) fn update_halves(
        &self,
        w: &mut [f32],
        g: &[f32],
        (m, v): (&mut [u16], &mut [u16]),
        key: u32,
        from: u32,
    ) {
        adamw_halves(w, g, m, v, *self, key, from);
    }
}

vectorized! {
    fn adamw_halves(
        w: &mut [f32],
        g: &[f32],
        m: &mut [u16],
        v: &mut [u16],
        r: Rates,
        key: u32,
        from: u32,
    ) {
        let AdamW { beta1, beta2, eps, .. } = r.adam;
        for (i, (((w, g), m), v)) in w.iter_mut().zip(g).zip(m).zip(v).enumerate() {
            let first = beta1 * widen(*m) + (1.0 - beta1) * g;
            let second = beta2 * widen(*v) + (1.0 - beta2) * g * g;
            *w = *w * r.keep - r.rate * first / (second.sqrt() * r.root + eps);
            let bits = scramble(from.wrapping_add(i as u32).wrapping_mul(0x9e37_79b9) ^ key);
            *m = narrow(first, bits & 0xffff);
            *v = narrow(second, bits >> 16);
        }
    }
}

/// A bfloat16 as `f32`.
#[inline(always)]
pub(crate) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bfloat16 above or below; `chance` in 0..2¹⁶ is added to what is cut off.
#[inline(always)]
fn narrow(x: f32, chance: u32) -> u16 {
    (x.to_bits().wrapping_add(chance) >> 16) as u16
}

vectorized! {
    fn coast(w: &mut [f32], m: &mut [f32], v: &mut [f32], r: Rates) {
        let AdamW { beta1, beta2, eps, .. } = r.adam;
        for ((w, m), v) in w.iter_mut().zip(m).zip(v) {
            *m *= beta1;
            *v *= beta2;
            *w = *w * r.keep - r.rate * *m / (v.sqrt() * r.root + eps);
        }
    }
}

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// It stays.
    Constant,
    /// Straight down to 0.
    Linear,
    /// Half a cosine down to 0.
    Cosine,
    /// It stays, and goes straight down to 0 in the last fifth (warm-up, stable, decay; Hu et al. 2024).
    StableThenLinear,
}

/// A learning-rate schedule: linear warm-up, then decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f32,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of a step; steps count from 1.
    pub fn rate(&self, step: u64) -> f32 {
        if step <= self.warmup {
            return self.peak * step as f32 / self.warmup as f32;
        }
        let left = self.total.saturating_sub(self.warmup).max(1);
        let done = (step - self.warmup - 1).min(left) as f64 / left as f64;
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::StableThenLinear => ((1.0 - done) / 0.2).min(1.0),
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        (f64::from(self.peak) * factor) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_equal_the_formula() {
        let adam = AdamW { weight_decay: 0.1, ..AdamW::default() };
        let (mut w, mut moments) = (vec![0.5f32], Moments::new(1));
        let (mut x, mut m, mut v) = (0.5f64, 0.0f64, 0.0f64);
        for (t, g) in [(1, 0.3f64), (2, -0.7)] {
            adam.step(&mut w, &[g as f32], &mut moments, 0.01, t);
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mh, vh) = (m / (1.0 - 0.9f64.powi(t as i32)), v / (1.0 - 0.999f64.powi(t as i32)));
            x = x * (1.0 - 0.01 * 0.1) - 0.01 * mh / (vh.sqrt() + 1e-8);
        }
        assert!((f64::from(w[0]) - x).abs() < 1e-6, "{} {x}", w[0]);
    }

    #[test]
    fn rows_get_what_the_whole_tensor_would() {
        let adam = AdamW::default();
        let start = Matrix::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let (mut sparse, mut dense) = (start.clone(), start.clone());
        let (mut ms, mut md) = (Moments::new(6), Moments::new(6));
        adam.step_rows(&mut sparse, &[0, 2], &Matrix::new(2, vec![0.1, -0.2, 0.3, 0.4]), &mut ms, (0.1, 1));
        adam.step(&mut dense.data, &[0.1, -0.2, 0.0, 0.0, 0.3, 0.4], &mut md, 0.1, 1);
        assert_eq!(sparse, dense);
        assert_eq!(ms, md);
        assert_eq!(sparse.row(1), start.row(1));
    }

    #[test]
    fn moments_in_bfloat16_follow_those_in_f32() {
        let adam = AdamW { weight_decay: 0.01, ..AdamW::default() };
        let rng = crate::rng::CounterRng::new(5);
        let n = 4000;
        let mut w: Vec<f32> = (0..n).map(|i| rng.normal(i) as f32).collect();
        let (mut exact, mut moments) = (w.clone(), Moments::new(n as usize));
        let (mut m, mut v) = (vec![0u16; n as usize], vec![0u16; n as usize]);
        for step in 1..=1500u64 {
            // Gradients about a mean, whose second moment settles at 1.25.
            let g: Vec<f32> = (0..n).map(|i| 0.5 + rng.fork(step).normal(i) as f32).collect();
            let rates = adam.rates(1e-3, step);
            rates.update_halves(&mut w, &g, (&mut m, &mut v), step as u32, 0);
            rates.update(&mut exact, Some(&g), &mut moments.first, &mut moments.second);
        }
        let mean = |x: &mut dyn Iterator<Item = f32>| x.map(f64::from).sum::<f64>() / n as f64;
        let second = (mean(&mut v.iter().map(|v| widen(*v))), mean(&mut moments.second.iter().copied()));
        assert!((second.0 / second.1 - 1.0).abs() < 0.01, "{second:?}: rounding has no bias");
        let apart = mean(&mut w.iter().zip(&exact).map(|(a, b)| (a - b).abs()));
        let moved = mean(&mut exact.iter().zip(0..).map(|(w, i)| (w - rng.normal(i) as f32).abs()));
        assert!(apart < 0.02 * moved, "{apart} apart after moving {moved}");
    }

    #[test]
    fn schedules_rise_and_fall() {
        let s = Schedule { peak: 1.0, warmup: 10, total: 110, decay: Decay::Linear };
        assert_eq!((s.rate(1), s.rate(10), s.rate(11)), (0.1, 1.0, 1.0));
        assert!((s.rate(61) - 0.5).abs() < 1e-6 && s.rate(110) > 0.0 && s.rate(1000) == 0.0);
        let c = Schedule { decay: Decay::Cosine, ..s };
        assert!((c.rate(61) - 0.5).abs() < 1e-6);
        let w = Schedule { decay: Decay::StableThenLinear, ..s };
        assert!(w.rate(90) == 1.0 && (w.rate(101) - 0.5).abs() < 1e-6 && w.rate(111) == 0.0);
        assert_eq!(Schedule { warmup: 0, decay: Decay::Constant, ..s }.rate(50), 1.0);
    }
}
