//! Functions of single values, branch-free so that loops over them become vector code.

/// `eˣ` to about one unit in the last place (the polynomial of Moshier's Cephes); 1e-38 below −87.3.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer in the low bits.
    let x = x.clamp(-87.3, 88.3);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The standard normal's distribution function and density at `x`: Φ(x) to 1e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
    let p = 1.061_405_4f32;
    let p = p.mul_add(t, -1.453_152);
    let p = p.mul_add(t, 1.421_413_7);
    let p = p.mul_add(t, -0.284_496_74);
    let p = p.mul_add(t, 0.254_829_6) * t;
    let e = exp(-z * z);
    let tail = 0.5 * p * e;
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (distribution, e * 0.398_942_3)
}

/// tanh to about 1e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // Near zero the quotient loses digits; there tanh is its series.
    let small = x * x;
    let series = x * small.mul_add(small.mul_add(small.mul_add(-17.0 / 315.0, 2.0 / 15.0), -1.0 / 3.0), 1.0);
    let e = exp(2.0 * x.abs().min(20.0));
    let quotient = (1.0 - 2.0 / (e + 1.0)).copysign(x);
    if x.abs() < 0.1 { series } else { quotient }
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · Φ(x), exactly: `gelu` of Hugging Face.
    Gelu,
    /// Its approximation by tanh: `gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`.
    GeluTanh,
    /// max(x, 0)
    Relu,
    /// x · σ(x): `silu`, `swish`.
    Silu,
    /// σ(x)
    Sigmoid,
    /// tanh
    Tanh,
    /// x
    Identity,
}

impl Activation {
    /// The value and the slope at `x`.
    #[inline(always)]
    pub fn at(self, x: f32) -> (f32, f32) {
        match self {
            Activation::Gelu => {
                let (distribution, density) = normal(x);
                (x * distribution, x.mul_add(density, distribution))
            }
            Activation::GeluTanh => {
                let inner = 0.797_884_6 * x * (0.044_715 * x).mul_add(x, 1.0);
                let t = tanh(inner);
                let slope = 0.797_884_6 * (3.0 * 0.044_715 * x).mul_add(x, 1.0);
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
            }
            Activation::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
            Activation::Silu => {
                let s = 1.0 / (1.0 + exp(-x));
                (x * s, s * (x * (1.0 - s) + 1.0))
            }
            Activation::Sigmoid => {
                let s = 1.0 / (1.0 + exp(-x));
                (s, s * (1.0 - s))
            }
            Activation::Tanh => {
                let t = tanh(x);
                (t, 1.0 - t * t)
            }
            Activation::Identity => (x, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_equal_those_of_f64() {
        let mut worst = [0.0f64; 4];
        for i in -200_000..200_000 {
            let x = i as f32 / 2500.0;
            let wide = f64::from(x);
            worst[0] = worst[0].max((f64::from(exp(x)) / wide.exp() - 1.0).abs());
            worst[1] = worst[1].max((f64::from(tanh(x)) - wide.tanh()).abs());
            let (value, slope) = Activation::Silu.at(x);
            let s = 1.0 / (1.0 + (-wide).exp());
            worst[2] = worst[2].max((f64::from(value) - wide * s).abs() / (1.0 + wide.abs()));
            let want = s * (1.0 + wide * (1.0 - s));
            worst[3] = worst[3].max((f64::from(slope) - want).abs() / (1.0 + wide.abs()));
        }
        assert!(worst.iter().all(|w| *w < 5e-7), "{worst:?}");
        assert_eq!((exp(0.0), tanh(0.0)), (1.0, 0.0));
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn the_normal_distribution_is_that_of_tables() {
        // Φ at these points, from tables to nine digits.
        let table = [(0.0, 0.5), (1.0, 0.841_344_746), (-1.0, 0.158_655_254), (2.5, 0.993_790_335)];
        for (x, want) in table {
            assert!((f64::from(normal(x).0) - want).abs() < 2e-7, "{x}");
        }
        assert!((f64::from(normal(-5.0).0) - 2.866_515_7e-7).abs() < 2e-7);
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Tanh, Activation::Silu] {
            for i in -40..40 {
                let x = i as f32 / 8.0 + 0.01;
                let h = 1e-2;
                let rise = (kind.at(x + h).0 - kind.at(x - h).0) / (2.0 * h);
                assert!((rise - kind.at(x).1).abs() < 1e-4, "{kind:?} {x}: {rise} {}", kind.at(x).1);
            }
        }
    }
}
