//! The special functions behind the tests: incomplete beta and gamma, normal, t and noncentral t.
//!
//! Continued fractions by Lentz's method (Press et al., Numerical Recipes, 6.2 and 6.4); the noncentral t is
//! Lenth's series (AS 243, 1989). Held to scipy in the tests. A crate for this brings a linear algebra library
//! along.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// Relative size of a term that changes nothing any more.
const EPS: f64 = 1e-16;
/// Keeps Lentz's denominators from 0.
const TINY: f64 = 1e-300;

/// lnΓ(x) − [(x − ½) ln x − x + ½ ln 2π], the rest of Stirling's formula, for x ≥ 10.
fn stirling_rest(x: f64) -> f64 {
    const C: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
    ];
    let y = 1.0 / (x * x);
    C.iter().rev().fold(0.0, |sum, c| sum * y + c) / x
}

/// lnΓ(x) for x > 0: Stirling's formula, from above 10.
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut z, mut product) = (x, 1.0);
    while z < 10.0 {
        product *= z;
        z += 1.0;
    }
    (z - 0.5) * z.ln() - z + 0.5 * (2.0 * PI).ln() + stirling_rest(z) - f64::ln(product)
}

/// ln B(a, b). Where one is large, lnΓ(a) and lnΓ(a + b) would cancel; what is left of them is written out.
fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = (a.min(b), a.max(b));
    if large < 10.0 {
        return ln_gamma(small) + ln_gamma(large) - ln_gamma(small + large);
    }
    let sum = small + large;
    ln_gamma(small) + stirling_rest(large) - stirling_rest(sum) + small - small * sum.ln()
        + (large - 0.5) * (-small / sum).ln_1p()
}

/// The regularised incomplete beta function I_x(a, b), with `y` = 1 − x given beside x, so that neither is
/// rounded away.
pub(super) fn beta_inc(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if y <= 0.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_inc(b, a, y, x);
    }
    let front = (a * x.ln() + b * y.ln() - ln_beta(a, b)).exp() / a;
    let term = |d: f64| if d.abs() < TINY { TINY } else { d };
    let (mut c, mut d) = (1.0, 1.0 / term(1.0 - (a + b) * x / (a + 1.0)));
    let mut f = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for step in [even, odd] {
            d = 1.0 / term(1.0 + step * d);
            c = term(1.0 + step / c);
            change = c * d;
            f *= change;
        }
        if (change - 1.0).abs() < EPS {
            break;
        }
    }
    front * f
}

/// The upper tail of the normal distribution, P(Z > z).
pub(super) fn normal_tail(z: f64) -> f64 {
    // ½ erfc(z / √2) = ½ Q(½, z² / 2).
    let half = 0.5 * gamma_tail(0.5, z * z / 2.0);
    if z >= 0.0 { half } else { 1.0 - half }
}

/// The regularised upper incomplete gamma function Q(a, x).
pub(crate) fn gamma_tail(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        let mut n = a;
        while term > sum * EPS {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - front * sum;
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut f = d;
    for i in 1..10_000 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        let change = c * d;
        f *= change;
        if (change - 1.0).abs() < EPS {
            break;
        }
    }
    front * f
}

/// The z with P(Z ≤ z) = p; infinite at 0 and 1.
pub(super) fn normal_quantile(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return if p <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let tail = p.min(1.0 - p);
    // Abramowitz and Stegun 26.2.23, then Halley's steps on the tail.
    let t = (-2.0 * tail.ln()).sqrt();
    let mut z = t
        - (2.515_517 + t * (0.802_853 + t * 0.010_328))
            / (1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308)));
    for _ in 0..3 {
        let density = (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
        let u = (normal_tail(z) - tail) / density;
        z += u / (1.0 - z * u / 2.0);
    }
    if p < 0.5 { -z } else { z }
}

/// The two tails of Student's t, P(|T| ≥ |t|), at `df` degrees of freedom.
pub(super) fn t_two_tails(t: f64, df: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    let square = t * t;
    beta_inc(df / 2.0, 0.5, df / (df + square), square / (df + square))
}

/// The t > 0 with P(|T| ≥ t) = `tails`; infinite for tails of 0.
pub(super) fn t_critical(tails: f64, df: f64) -> f64 {
    if tails >= 1.0 || tails <= 0.0 {
        return if tails >= 1.0 { 0.0 } else { f64::INFINITY };
    }
    let mut high = 1.0;
    while t_two_tails(high, df) > tails && high < 1e300 {
        high *= 2.0;
    }
    bisect(0.0, high, |t| t_two_tails(t, df) > tails)
}

/// The point of `low..high` up to which `below` holds, to the last digit.
pub(super) fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if below(middle) { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// P(T ≤ t) of the noncentral t with noncentrality `delta`, |delta| < 37.
pub(super) fn noncentral_t(t: f64, df: f64, delta: f64) -> f64 {
    if t < 0.0 {
        return 1.0 - noncentral_t(-t, df, -delta);
    }
    let square = t * t;
    let (x, y) = (square / (df + square), df / (df + square));
    let half = delta * delta / 2.0;
    // p_j = e^(−δ²/2) (δ²/2)^j / j!, q_j = δ e^(−δ²/2) (δ²/2)^j / (√2 Γ(j + 3/2)).
    let mut p = (-half).exp();
    let mut q = delta * (-half).exp() / (SQRT_2 * ln_gamma(1.5).exp());
    let (mut sum, mut left) = (0.0, 1.0);
    for j in 0..2000 {
        let j = f64::from(j);
        sum += p * beta_inc(j + 0.5, df / 2.0, x, y) + q * beta_inc(j + 1.0, df / 2.0, x, y);
        left -= p;
        if j > half && left < 1e-15 && p < 1e-16 {
            break;
        }
        p *= half / (j + 1.0);
        q *= half / (j + 1.5);
    }
    normal_tail(delta) + 0.5 * sum
}

/// ln of the binomial coefficient n over k, less n ln 2: the probability of k heads in n throws.
pub(super) fn ln_fair_binomial(n: f64, k: f64) -> f64 {
    ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) - n * LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_and_quantiles_equal_scipy() {
        let fixture = include_str!("../../tests/fixtures/significance.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        let rows = |key: &str| {
            let rows = fixture[key].as_array().unwrap().iter();
            rows.map(|r| r.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>())
        };
        for row in rows("t_tails") {
            let [t, df, p] = row[..] else { panic!("{row:?}") };
            let got = t_two_tails(t, df);
            assert!((got - p).abs() <= 1e-11 * p, "{row:?}: {got}");
            assert!((t_critical(p, df) - t).abs() <= 1e-9 * t, "{row:?}: {}", t_critical(p, df));
        }
        for row in rows("quantiles") {
            let [p, z] = row[..] else { panic!("{row:?}") };
            let got = normal_quantile(p);
            assert!((got - z).abs() <= 1e-12 * z.abs().max(1.0), "{row:?}: {got}");
            assert!((1.0 - normal_tail(got) - p).abs() <= 1e-15 + 1e-12 * p, "{row:?}");
        }
    }
}
