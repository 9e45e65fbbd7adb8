//! Alignment losses against values and gradients that PyTorch computed (tools/make_align_fixtures.py), finite
//! differences, and at the ends of their range.
#![allow(clippy::unwrap_used)]

use polygrade_nn::Matrix;
use polygrade_nn::kernels::{l2_normalize, l2_normalize_backward};
use polygrade_nn::rng::CounterRng;
use polygrade_train::align::clear::Vectors;
use polygrade_train::align::{Clear, Distance, Distil, Jsd};
use polygrade_train::loss::Role;
use serde_json::Value;

fn fixture(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("fixtures/align.json")).unwrap();
    all[name].clone()
}

fn matrix(rows: &Value) -> Matrix {
    let rows: Vec<Vec<f32>> = serde_json::from_value(rows.clone()).unwrap();
    Matrix::new(rows[0].len(), rows.concat())
}

fn number(case: &Value, key: &str) -> f32 {
    case[key].as_f64().unwrap() as f32
}

/// Unit vectors, and their lengths before.
fn unit(mut m: Matrix) -> (Matrix, Vec<f32>) {
    let cols = m.cols;
    let norms = m.data.chunks_mut(cols).map(l2_normalize).collect();
    (m, norms)
}

fn zeros(m: &Matrix) -> Matrix {
    Matrix::zeros(m.rows(), m.cols)
}

/// Runs a loss on the unit vectors of a fixture's `inputs`, and compares its value and its gradient at the inputs.
fn check(case: &Value, inputs: &[&str], loss: impl Fn(&[Matrix], &mut [Matrix]) -> f64) {
    let (vectors, norms): (Vec<_>, Vec<_>) = inputs.iter().map(|i| unit(matrix(&case["inputs"][i]))).unzip();
    let mut grads: Vec<Matrix> = vectors.iter().map(zeros).collect();
    let value = loss(&vectors, &mut grads);
    assert!((value - case["value"].as_f64().unwrap()).abs() < 2e-6, "{value} {}", case["value"]);
    for (i, name) in inputs.iter().enumerate() {
        let cols = vectors[i].cols;
        let rows = grads[i].data.chunks_mut(cols).zip(vectors[i].data.chunks(cols)).zip(&norms[i]);
        rows.for_each(|((g, y), norm)| l2_normalize_backward(y, *norm, g));
        for (got, want) in grads[i].data.iter().zip(&matrix(&case["gradients"][name]).data) {
            assert!((got - want).abs() < 2e-6 + 2e-5 * want.abs(), "{name}: {got} {want}");
        }
    }
}

#[test]
fn root_of_jsd_equals_pytorch() {
    for name in ["root_wide", "root_flat", "root_sharp"] {
        let case = fixture(name);
        let jsd = Jsd { scale: Some(number(&case, "scale")), eps: number(&case, "eps"), ..Jsd::default() };
        check(&case, &["pivots", "targets"], |v, g| {
            let (a, b) = g.split_at_mut(1);
            jsd.root(&v[0], &v[1], 1.0, (&mut a[0], &mut b[0]))
        });
    }
    // The scale is the root of the width where it is not set.
    let case = fixture("root_wide");
    check(&case, &["pivots", "targets"], |v, g| {
        let (a, b) = g.split_at_mut(1);
        Jsd::default().root(&v[0], &v[1], 1.0, (&mut a[0], &mut b[0]))
    });
}

#[test]
fn info_nce_of_translations_equals_pytorch() {
    use Role::{Ignored as I, Negative as N, Positive as P};
    let case = fixture("nce");
    let jsd = Jsd { temperature: number(&case, "temperature"), ..Jsd::default() };
    check(&case, &["targets", "queries"], |v, g| {
        let (a, b) = g.split_at_mut(1);
        jsd.nce(&v[0], &v[1], &[P, N, P, N, I, P], 1.0, (&mut a[0], &mut b[0]))
    });
}

fn clear_value(clear: &Clear, v: &[Matrix], g: &mut [Matrix], masked: impl Fn(usize, usize) -> bool) -> f64 {
    let vectors = Vectors { queries: v[0].clone(), passages: v[1].clone(), targets: v[2].clone() };
    let mut grad = Vectors { queries: zeros(&v[0]), passages: zeros(&v[1]), targets: zeros(&v[2]) };
    let value = clear.value(&vectors, masked, 1.0, &mut grad);
    g.clone_from_slice(&[grad.queries, grad.passages, grad.targets]);
    value
}

#[test]
fn clear_equals_pytorch() {
    for name in ["clear", "clear_hard", "clear_no_kl"] {
        let case = fixture(name);
        let clear = Clear { alpha: number(&case, "alpha"), beta: number(&case, "beta"), ..Clear::default() };
        let inputs = ["queries", "passages", "targets"];
        check(&case, &inputs, |v, g| clear_value(&clear, v, g, |_, _| false));
    }
}

#[test]
fn what_clear_masks_is_as_good_as_absent() {
    let case = fixture("clear");
    let inputs: Vec<Matrix> =
        ["queries", "passages", "targets"].iter().map(|i| unit(matrix(&case["inputs"][i])).0).collect();
    let run = |v: &[Matrix], masked: &dyn Fn(usize, usize) -> bool| {
        let mut g: Vec<Matrix> = v.iter().map(zeros).collect();
        (clear_value(&Clear::default(), v, &mut g, masked), g)
    };
    let (plain, _) = run(&inputs, &|_, _| false);
    // A candidate that all rows mask changes nothing, and gets no gradient.
    let mut more = inputs.clone();
    for m in &mut more[1..] {
        m.data.extend_from_slice(&inputs[0].data[..m.cols]);
    }
    let (value, grads) = run(&more, &|_, j| j == 4);
    assert!((value - plain).abs() < 1e-12);
    assert!(grads[1..].iter().all(|g| g.row(4).iter().all(|x| *x == 0.0)));
    assert!((run(&more, &|_, _| false).0 - plain).abs() > 1e-6);
}

#[test]
fn distillation_equals_pytorch() {
    for (name, distance) in [("mse", Distance::Mse), ("cosine", Distance::Cosine)] {
        let case = fixture(name);
        let teacher = matrix(&case["teacher"]);
        let distil = Distil { weight: 1.0, distance };
        check(&case, &["student"], |v, g| distil.value(&v[0], &teacher, 1.0, &mut g[0]));
    }
}

fn random(seed: u64, rows: usize, cols: usize) -> Matrix {
    let rng = CounterRng::new(seed);
    let values = (0..rows * cols).map(|i| rng.normal(i as u64) as f32).collect();
    unit(Matrix::new(cols, values)).0
}

type Run<'a> = (&'a str, Box<dyn Fn(&[Matrix], &mut [Matrix]) -> f64>);

/// All losses as functions of three tables of as many rows.
fn losses() -> Vec<Run<'static>> {
    let roles = |n: usize| -> Vec<Role> {
        (0..n * n).map(|i| if i / n == i % n { Role::Positive } else { Role::Negative }).collect()
    };
    let teacher = |m: &Matrix| {
        // A function of the row alone, so that it moves with it.
        let mut t = m.clone();
        t.data.chunks_mut(m.cols).for_each(|row| row.rotate_left(1));
        t
    };
    vec![
        (
            "root",
            Box::new(|v, g| {
                let (a, b) = g.split_at_mut(1);
                Jsd::default().root(&v[0], &v[1], 1.0, (&mut a[0], &mut b[0]))
            }),
        ),
        (
            "nce",
            Box::new(move |v, g| {
                let (a, b) = g.split_at_mut(1);
                Jsd::default().nce(&v[0], &v[1], &roles(v[0].rows()), 1.0, (&mut a[0], &mut b[0]))
            }),
        ),
        ("clear", Box::new(|v, g| clear_value(&Clear::default(), v, g, |_, _| false))),
        (
            "distil",
            Box::new(move |v, g| {
                Distil { weight: 1.0, distance: Distance::Mse }.value(&v[0], &teacher(&v[0]), 1.0, &mut g[0])
            }),
        ),
    ]
}

#[test]
fn gradients_equal_finite_differences() {
    let inputs: Vec<Matrix> = (0..3).map(|i| random(10 + i, 4, 6)).collect();
    // The teacher of `losses` follows the student; distillation has PyTorch's gradients above.
    for (name, loss) in losses().into_iter().filter(|(name, _)| *name != "distil") {
        let mut grads: Vec<Matrix> = inputs.iter().map(zeros).collect();
        loss(&inputs, &mut grads);
        for table in 0..3 {
            for at in 0..inputs[table].data.len() {
                let step = 2f32.powi(-9);
                let value = |by: f32| {
                    let mut moved = inputs.clone();
                    moved[table].data[at] += by;
                    loss(&moved, &mut inputs.iter().map(zeros).collect::<Vec<_>>())
                };
                // Values are of f32 scores, hence wide steps, and the error of third order taken off.
                let wide = (value(2.0 * step) - value(-2.0 * step)) / (4.0 * f64::from(step));
                let narrow = (value(step) - value(-step)) / (2.0 * f64::from(step));
                let want = (4.0 * narrow - wide) / 3.0;
                let got = f64::from(grads[table].data[at]);
                assert!((got - want).abs() < 2e-3 * (1.0 + want.abs()), "{name} {table} {at}: {got} {want}");
            }
        }
    }
}

#[test]
fn the_order_of_a_batch_does_not_matter() {
    let inputs: Vec<Matrix> = (0..3).map(|i| random(20 + i, 5, 8)).collect();
    let order = [3, 0, 4, 1, 2];
    let moved = |m: &Matrix| Matrix::new(m.cols, order.iter().flat_map(|r| m.row(*r)).copied().collect());
    let other: Vec<Matrix> = inputs.iter().map(moved).collect();
    for (name, loss) in losses() {
        let mut grads: Vec<Matrix> = inputs.iter().map(zeros).collect();
        let mut other_grads = grads.clone();
        let (one, two) = (loss(&inputs, &mut grads), loss(&other, &mut other_grads));
        assert!((one - two).abs() < 1e-6, "{name}: {one} {two}");
        for (a, b) in grads.iter().map(moved).zip(&other_grads) {
            assert!(a.data.iter().zip(&b.data).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
        }
    }
}

#[test]
fn equal_texts_have_no_divergence_and_a_finite_gradient() {
    let same = random(3, 4, 16);
    for scale in [None, Some(1.0), Some(1e4)] {
        let jsd = Jsd { scale, eps: 1e-12, ..Jsd::default() };
        let (mut a, mut b) = (zeros(&same), zeros(&same));
        let value = jsd.root(&same, &same, 1.0, (&mut a, &mut b));
        assert!((value - 1e-6).abs() < 1e-8, "{value}: the root of ε is left");
        assert!(a.data.iter().chain(&b.data).all(|g| g.abs() < 1e-3), "{a:?}");
    }
}

#[test]
fn extreme_vectors_and_scales_stay_finite() {
    let axis = |sign: f32| Matrix::new(4, vec![sign, 0.0, 0.0, 0.0, 0.0, sign, 0.0, 0.0]);
    let inputs = [[axis(1.0), axis(1.0), axis(-1.0)], [axis(1.0), axis(-1.0), axis(1.0)]];
    for v in &inputs {
        for sharp in [1e-3f32, 1.0, 1e4, 1e8] {
            let mut g: Vec<Matrix> = v.iter().map(zeros).collect();
            let jsd = Jsd { scale: Some(sharp), temperature: 1.0 / sharp, ..Jsd::default() };
            let (a, b) = g.split_at_mut(1);
            let mut values = vec![jsd.root(&v[0], &v[1], 1.0, (&mut a[0], &mut b[0]))];
            // √log 2 is the most that it can be.
            assert!(values[0] <= (2f64.ln() + 1e-6).sqrt() + 1e-9, "{values:?}");
            let roles = [Role::Positive, Role::Negative, Role::Negative, Role::Positive];
            values.push(jsd.nce(&v[0], &v[1], &roles, 1.0, (&mut a[0], &mut b[0])));
            values.push(clear_value(&Clear { scale: sharp, ..Clear::default() }, v, &mut g, |_, _| false));
            assert!(values.iter().all(|x| x.is_finite()), "{values:?} at {sharp}");
            assert!(g.iter().flat_map(|g| &g.data).all(|x| x.is_finite()), "{g:?} at {sharp}");
        }
    }
}
