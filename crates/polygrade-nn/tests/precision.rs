//! Products in low precision against the same arithmetic written plainly: bfloat16 with sums in f64, bytes with
//! exact integers.

use polygrade_nn::Cpu;
use polygrade_nn::bag::Bags;
use polygrade_nn::device::{Activation, Device, Finish, Norm, NormAfter, Precision, Weight};
use polygrade_nn::rng::CounterRng;

/// (rows, inputs, outputs): whole tiles, odd everything, one row, fewer columns than a panel, more than one block.
const SIZES: [(usize, usize, usize); 7] =
    [(24, 64, 64), (13, 67, 33), (1, 384, 97), (5, 1, 1), (7, 3, 31), (2, 770, 32), (403, 130, 70)];
const LOW: [Precision; 2] = [Precision::Bf16, Precision::Int8];

fn values(key: u64, n: usize) -> Vec<f32> {
    let rng = CounterRng::new(key);
    let part = |i: usize, k: u64| (rng.bits(4 * i as u64 + k) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..n).map(|i| (0..4).map(|k| part(i, k)).sum()).collect()
}

fn product(x: &[f32], w: &[f32], (outputs, inputs): (usize, usize), p: Precision, threads: bool) -> Vec<f32> {
    let cpu = Cpu::new(threads);
    let prepared = cpu.prepare(&cpu.floats(w), outputs, inputs, p);
    let (batch, mut out) = (cpu.batch(&Bags::new(), &[]), cpu.floats(&[]));
    let weight = Weight::Prepared(&prepared);
    cpu.linear(&batch, &cpu.floats(x), weight, (outputs, inputs), Finish::default(), &mut out);
    cpu.read(&out)
}

/// The nearest of two bfloat16, of equally near ones the even.
fn bf16(x: f32) -> f64 {
    let below = x.to_bits() & 0xffff_0000;
    let near = |bits: u32| (f64::from(x) - f64::from(f32::from_bits(bits))).abs();
    let above = below + 0x1_0000;
    let up = near(above) < near(below) || near(above) == near(below) && below & 0x1_0000 != 0;
    f64::from(f32::from_bits(if up { above } else { below }))
}

#[test]
fn bf16_sums_rounded_factors() {
    for (rows, inputs, outputs) in SIZES {
        let (x, w) = (values(1, rows * inputs), values(2, outputs * inputs));
        let got = product(&x, &w, (outputs, inputs), Precision::Bf16, true);
        let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        for (i, x) in x.chunks(inputs).enumerate() {
            for (j, w) in w.chunks(inputs).enumerate() {
                let wanted: f64 = x.iter().zip(w).map(|(x, w)| bf16(*x) * bf16(*w)).sum();
                let got = f64::from(got[i * outputs + j]);
                assert!((got - wanted).abs() <= 1e-6 * norm(x) * norm(w), "{got} for {wanted}");
            }
        }
    }
}

/// Weights as integers of at most ±127, and the factor to go back.
fn int8(w: &[f32]) -> (Vec<i64>, f32) {
    let top = w.iter().fold(0.0f32, |t, w| t.max(w.abs()));
    let factor = 127.0 / top;
    (w.iter().map(|w| (w * factor).round_ties_even() as i64).collect(), top / 127.0)
}

/// A row as integers that a byte can hold when shifted, and the factor to go back.
fn int8_row(x: &[f32]) -> (Vec<i64>, f32) {
    let (low, high) = x.iter().fold((0.0f32, 0.0f32), |(l, h), x| (l.min(*x), h.max(*x)));
    let factor = 254.0 / (high - low);
    let zero = (-low * factor).round_ties_even();
    // The sum is rounded in f64, where it is exact: as the engine's one rounding does it.
    let byte = |x: &f32| (f64::from(x * factor) + f64::from(zero)).round_ties_even() as i64;
    let bytes: Vec<i64> = x.iter().map(byte).collect();
    assert!(bytes.iter().all(|b| (0..=255).contains(b)));
    (bytes.iter().map(|b| b - zero as i64).collect(), (high - low) / 254.0)
}

#[test]
fn int8_sums_are_exact() {
    for (rows, inputs, outputs) in SIZES {
        let (mut x, w) = (values(3, rows * inputs), values(4, outputs * inputs));
        // Some rows of one sign, and some lopsided.
        for (i, x) in x.chunks_mut(inputs).enumerate() {
            let shift = [0.0, 3.0, -3.0, 0.9, -0.4][i % 5];
            x.iter_mut().for_each(|x| *x += shift);
        }
        let got = product(&x, &w, (outputs, inputs), Precision::Int8, true);
        let columns: Vec<_> = w.chunks(inputs).map(int8).collect();
        for (i, x) in x.chunks(inputs).enumerate() {
            let (x, row_scale) = int8_row(x);
            for (j, (w, scale)) in columns.iter().enumerate() {
                let sum: i64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                assert_eq!(got[i * outputs + j], sum as f32 * scale * row_scale);
            }
        }
    }
}

#[test]
fn int8_holds_the_largest_sums_and_refuses_larger() {
    // All factors at their highest, up to what bytes are used for and past it.
    for inputs in [32_767, 32_768, 32_769, 140_000] {
        for sign in [1.0, -1.0] {
            let (x, w) = (vec![sign; inputs], vec![1.0; inputs]);
            let got = product(&x, &w, (1, inputs), Precision::Int8, false);
            assert!((got[0] / inputs as f32 - sign).abs() < 1e-5, "{inputs}: {}", got[0]);
        }
    }
}

#[test]
fn errors_are_those_of_the_precision() {
    let (rows, inputs, outputs) = (64, 768, 96);
    let (x, w) = (values(5, rows * inputs), values(6, outputs * inputs));
    let exact = product(&x, &w, (outputs, inputs), Precision::F32, true);
    let size = exact.iter().map(|v| v * v).sum::<f32>();
    for (p, limit) in [(Precision::Bf16, 3e-3), (Precision::Int8, 1e-2)] {
        let got = product(&x, &w, (outputs, inputs), p, true);
        let error = exact.iter().zip(&got).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        assert!((error / size).sqrt() < limit, "{p:?}: {}", (error / size).sqrt());
    }
}

#[test]
fn rows_depend_neither_on_the_batch_nor_on_threads() {
    let (rows, inputs, outputs) = (403, 130, 70);
    let (x, w) = (values(7, rows * inputs), values(8, outputs * inputs));
    for p in LOW {
        let all = product(&x, &w, (outputs, inputs), p, true);
        assert_eq!(all, product(&x, &w, (outputs, inputs), p, false), "{p:?}");
        for (from, to) in [(0, 1), (1, 8), (11, 14), (190, 195), (402, 403)] {
            let part = product(&x[from * inputs..to * inputs], &w, (outputs, inputs), p, true);
            assert_eq!(part, all[from * outputs..to * outputs], "{p:?} {from}..{to}");
        }
    }
}

#[test]
fn finishes_are_those_of_plain_weights() {
    let (rows, inputs, outputs) = (29, 66, 34);
    let cpu = Cpu::new(true);
    let floats = |key, n| cpu.floats(&values(key, n));
    let x = floats(9, rows * inputs);
    let w = values(10, outputs * inputs);
    let (bias, residual, gamma, beta) =
        (floats(11, outputs), floats(12, rows * outputs), floats(13, outputs), floats(14, outputs));
    let batch = cpu.batch(&Bags::new(), &[]);
    for p in LOW {
        let prepared = cpu.prepare(&cpu.floats(&w), outputs, inputs, p);
        let weight = Weight::Prepared(&prepared);
        // The bare product, then the finish alone: an identity's product leaves it as it is.
        let mut bare = cpu.floats(&[]);
        cpu.linear(&batch, &x, weight, (outputs, inputs), Finish::default(), &mut bare);
        let mut one = vec![0.0; outputs * outputs];
        one.iter_mut().step_by(outputs + 1).for_each(|d| *d = 1.0);
        let one = cpu.floats(&one);
        let norm = Norm { gamma: &gamma, beta: Some(&beta), eps: 1e-5 };
        let normed = |x: &_, weight, inputs| {
            let [mut normal, mut scale, mut out] = std::array::from_fn(|_| cpu.floats(&[]));
            let after = NormAfter { norm, normal: &mut normal, scale: &mut scale };
            let finish =
                Finish { bias: Some(&bias), dropout: None, residual: Some(&residual), norm: Some(after) };
            cpu.linear(&batch, x, weight, (outputs, inputs), finish, &mut out);
            [normal, scale, out].map(|f| cpu.read(&f))
        };
        assert_eq!(normed(&x, weight, inputs), normed(&bare, Weight::Plain(&one), outputs), "{p:?}");
        for gated in [false, true] {
            let activated = |x: &_, weight, inputs| {
                let [mut pre, mut out] = std::array::from_fn(|_| cpu.floats(&[]));
                let how = (Activation::Gelu, gated);
                cpu.linear_activate(x, weight, (outputs, inputs), Some(&bias), how, &mut pre, &mut out);
                [pre, out].map(|f| cpu.read(&f))
            };
            assert_eq!(
                activated(&x, weight, inputs),
                activated(&bare, Weight::Plain(&one), outputs),
                "{p:?}"
            );
        }
    }
}

#[test]
fn extreme_rows_stay_apart() {
    let (inputs, outputs) = (9, 33);
    let w = values(15, outputs * inputs);
    let mut x = values(16, 5 * inputs);
    x[..inputs].fill(0.0);
    x[inputs..2 * inputs].fill(1e-42);
    x[2 * inputs + 4] = f32::NAN;
    x[3 * inputs + 4] = f32::INFINITY;
    for p in LOW {
        let all = product(&x, &w, (outputs, inputs), p, false);
        assert!(all[..outputs].iter().all(|v| *v == 0.0), "{p:?}");
        assert!(all[outputs..2 * outputs].iter().all(|v| v.abs() < 1e-36), "{p:?}");
        assert!(all[2 * outputs..4 * outputs].iter().all(|v| !v.is_finite()), "{p:?}");
        assert_eq!(all[4 * outputs..], product(&x[4 * inputs..], &w, (outputs, inputs), p, false), "{p:?}");
    }
}
