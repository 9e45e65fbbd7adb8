//! Losses: values and gradients equal those recorded from PyTorch (tools/make_loss_fixtures.py) and finite differences, do
//! not depend on the order of a batch, and stay finite at extremes.
#![allow(clippy::unwrap_used)]

use polygrade_nn::Matrix;
use polygrade_nn::kernels::{dot, l2_normalize};
use polygrade_nn::optim::AdamW;
use polygrade_nn::rng::CounterRng;
use polygrade_train::loss::{Loss, LossSettings, Objective, Role, Targets, Value};
use polygrade_train::{Policy, Settings};
use serde_json::Value as Json;

/// A batch with everything that a loss may look at.
#[derive(Clone)]
struct Batch {
    queries: Matrix,
    passages: Matrix,
    roles: Vec<Role>,
    grades: Vec<f32>,
    policies: Vec<Policy>,
    temperatures: Vec<f32>,
    teacher: Vec<f32>,
}

impl Batch {
    /// What the queries' policies make of the grades.
    fn aims(&self, max_grade: f32) -> Vec<f64> {
        let cols = self.passages.rows().max(1);
        let aim = |(i, g): (usize, &f32)| {
            let policy = self.policies[i / cols];
            if g.is_nan() { f64::NAN } else { policy.aim(policy.label(*g), *g, max_grade) }
        };
        self.grades.iter().enumerate().map(aim).collect()
    }

    fn value(&self, objective: &mut Objective) -> (Value, Matrix, Matrix) {
        self.value_of(objective, &self.aims(3.0))
    }

    fn value_of(&self, objective: &mut Objective, aims: &[f64]) -> (Value, Matrix, Matrix) {
        let targets = Targets {
            roles: &self.roles,
            grades: &self.grades,
            aims,
            policies: &self.policies,
            temperatures: &self.temperatures,
            teacher: &self.teacher,
        };
        let (mut gq, mut gp) = (Matrix::default(), Matrix::default());
        let value = objective.value(&self.queries, &self.passages, &targets, 1.0, (&mut gq, &mut gp));
        (value, gq, gp)
    }
}

fn objective(settings: &LossSettings, dim: usize) -> Objective {
    Objective::new(settings, 3.0, dim, false).unwrap()
}

fn settings(loss: Loss) -> LossSettings {
    LossSettings::new(loss, 0.1)
}

fn floats(json: &Json) -> Vec<f64> {
    match json {
        Json::Array(items) => items.iter().flat_map(floats).collect(),
        Json::Null => vec![f64::NAN],
        number => vec![number.as_f64().unwrap()],
    }
}

fn matrix(json: &Json) -> Matrix {
    let cols = json[0].as_array().unwrap().len();
    Matrix::new(cols, floats(json).into_iter().map(|x| x as f32).collect())
}

fn singles(json: &Json) -> Vec<f32> {
    floats(json).into_iter().map(|x| x as f32).collect()
}

/// A recorded case: the batch, and the settings of its loss.
fn recorded(case: &Json) -> (Batch, LossSettings) {
    let text = |x: &Json| x.as_str().unwrap().to_owned();
    let role = |c: char| match c {
        'P' => Role::Positive,
        'N' => Role::Negative,
        _ => Role::Ignored,
    };
    let batch = Batch {
        queries: matrix(&case["queries"]),
        passages: matrix(&case["passages"]),
        roles: case["roles"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|r| text(r).chars().map(role).collect::<Vec<_>>())
            .collect(),
        grades: singles(&case["grades"]),
        policies: case["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| Policy::parse(&text(p)).unwrap())
            .collect(),
        temperatures: singles(&case["temperatures"]),
        teacher: if case["teacher"].is_null() { Vec::new() } else { singles(&case["teacher"]) },
    };
    let (asked, mut s) = (&case["settings"], settings(Loss::parse(case["loss"].as_str().unwrap()).unwrap()));
    let number = |key: &str, to: &mut f32| {
        if let Some(x) = asked[key].as_f64() {
            *to = x as f32;
        }
    };
    number("bias", &mut s.bias);
    number("target_temperature", &mut s.target_temperature);
    s.in_batch = asked["in_batch"].as_bool().unwrap_or(true);
    if !asked["threshold_weights"].is_null() {
        s.threshold_weights = singles(&asked["threshold_weights"]);
    }
    if let Some(dims) = asked["matryoshka"].as_array() {
        s.matryoshka =
            dims.iter().map(|d| (d[0].as_u64().unwrap() as usize, d[1].as_f64().unwrap() as f32)).collect();
    }
    (batch, s)
}

/// The part of a gradient along the unit sphere.
fn tangent(grad: &Matrix, vectors: &Matrix) -> Vec<f32> {
    let rows = (0..grad.rows()).flat_map(|i| {
        let (g, v) = (grad.row(i), vectors.row(i));
        let along = dot(g, v);
        g.iter().zip(v).map(move |(g, v)| g - along * v).collect::<Vec<_>>()
    });
    rows.collect()
}

fn assert_close(found: &[f32], wanted: &[f64], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let size = wanted.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
        assert!((f64::from(*f) - w).abs() <= 1e-5 * size, "{what}, {i}: {f} for {w}, of at most {size}");
    }
}

#[test]
fn values_and_gradients_equal_pytorchs() {
    let cases: Json = serde_json::from_str(include_str!("fixtures/losses.json")).unwrap();
    let mut seen = Vec::new();
    for (n, case) in cases.as_array().unwrap().iter().enumerate() {
        let (batch, s) = recorded(case);
        seen.push(s.name);
        let what = format!("case {n}, {}", s.name.name());
        let mut objective = objective(&s, batch.queries.cols);
        let (value, gq, gp) = batch.value(&mut objective);
        let wanted = case["value"].as_f64().unwrap();
        assert!(
            value.terms > 0 && (value.loss - wanted).abs() <= 2e-6 * (1.0 + wanted),
            "{what}: {} {wanted}",
            value.loss
        );
        assert_close(
            &tangent(&gq, &batch.queries),
            &floats(&case["grad_queries"]),
            &format!("{what}, queries"),
        );
        assert_close(
            &tangent(&gp, &batch.passages),
            &floats(&case["grad_passages"]),
            &format!("{what}, passages"),
        );
        if !objective.state().is_empty() {
            // The first step's mean of gradients is a tenth of the gradient.
            objective.step(&AdamW::default(), 1.0, 1);
            let state = objective.state();
            let k = state.len() / 3;
            let grads: Vec<f32> = state[k..2 * k].iter().map(|m| m * 10.0).collect();
            assert_close(&grads, &floats(&case["grad_parameters"]), &format!("{what}, parameters"));
        }
    }
    assert!(Loss::ALL.iter().all(|l| seen.contains(l)), "every loss is recorded");
}

/// A batch of 5 queries with three own candidates each, drawn from `seed`.
fn random(seed: u64, dim: usize) -> Batch {
    let (rng, n) = (CounterRng::new(seed), 5);
    let vectors = |rows: usize, fork: u64| {
        let rng = rng.fork(fork);
        let mut m = Matrix::new(dim, (0..rows * dim).map(|i| rng.normal(i as u64) as f32).collect());
        (0..rows).for_each(|i| {
            l2_normalize(m.row_mut(i));
        });
        m
    };
    let cols = 3 * n;
    let mut batch = Batch {
        queries: vectors(n, 1),
        passages: vectors(cols, 2),
        roles: vec![Role::Negative; n * cols],
        grades: vec![f32::NAN; n * cols],
        policies: vec![Policy::Graded; n],
        temperatures: (0..n).map(|i| 0.15 + 0.05 * i as f32).collect(),
        teacher: Vec::new(),
    };
    for i in 0..n {
        for (k, grade) in [3.0, 1.0, 0.0].into_iter().enumerate() {
            let at = i * cols + 3 * i + k;
            batch.grades[at] = if i == 4 && k == 1 { 2.5 } else { grade };
            batch.roles[at] = if grade > 0.0 { Role::Positive } else { Role::Negative };
        }
        batch.roles[i * cols + (3 * i + 7) % cols] = Role::Ignored;
    }
    batch
}

/// The least difference of two scores of a query.
fn apart(batch: &Batch) -> f32 {
    let rows = (0..batch.queries.rows()).map(|i| {
        let mut scores: Vec<f32> =
            (0..15).map(|j| dot(batch.queries.row(i), batch.passages.row(j))).collect();
        scores.sort_by(f32::total_cmp);
        scores.windows(2).fold(f32::INFINITY, |least, w| least.min(w[1] - w[0]))
    });
    rows.fold(f32::INFINITY, f32::min)
}

#[test]
fn gradients_equal_finite_differences() {
    for loss in Loss::ALL {
        // Scores in f32 are coarse, InfoNCE in f32 too: long steps.
        let s = LossSettings { bias: -2.0, ..settings(loss) };
        let batch = match loss {
            // Its gradient takes ranks as they are: nowhere may the steps below make two change places.
            Loss::Lambda => (7..).map(|seed| random(seed, 4)).find(|b| apart(b) > 2.5e-3).unwrap(),
            _ => random(7, 4),
        };
        let (_, gq, gp) = batch.value(&mut objective(&s, 4));
        let size = gq.data.iter().chain(&gp.data).fold(0.0f32, |m, g| m.max(g.abs()));
        let check = |grad: &Matrix, of: fn(&mut Batch) -> &mut Matrix, what: &str| {
            for at in 0..grad.data.len() {
                let moved = |by: f32| {
                    let mut batch = batch.clone();
                    of(&mut batch).data[at] += by;
                    batch.value(&mut objective(&s, 4)).0.loss
                };
                let h = if loss == Loss::InfoNce { 2e-3f32 } else { 5e-4 };
                let slope = (8.0 * (moved(h) - moved(-h)) - (moved(2.0 * h) - moved(-2.0 * h)))
                    / (12.0 * f64::from(h));
                let fault = (f64::from(grad.data[at]) - slope).abs();
                assert!(fault < 1e-3 * f64::from(size), "{loss:?}, {what} {at}: {} {slope}", grad.data[at]);
            }
        };
        check(&gq, |b| &mut b.queries, "queries");
        check(&gp, |b| &mut b.passages, "passages");
    }
}

/// The batch with queries and candidates in another order.
fn permuted(batch: &Batch, rows: &[usize], cols: &[usize]) -> Batch {
    let n = cols.len();
    let vectors = |m: &Matrix, order: &[usize]| {
        Matrix::new(m.cols, order.iter().flat_map(|i| m.row(*i).to_vec()).collect())
    };
    let places: Vec<usize> = rows.iter().flat_map(|i| cols.iter().map(move |j| i * n + j)).collect();
    Batch {
        queries: vectors(&batch.queries, rows),
        passages: vectors(&batch.passages, cols),
        roles: places.iter().map(|p| batch.roles[*p]).collect(),
        grades: places.iter().map(|p| batch.grades[*p]).collect(),
        policies: rows.iter().map(|i| batch.policies[*i]).collect(),
        temperatures: rows.iter().map(|i| batch.temperatures[*i]).collect(),
        teacher: Vec::new(),
    }
}

#[test]
fn the_order_of_a_batch_does_not_matter() {
    let (rows, cols) = ([3, 0, 4, 1, 2], [8, 2, 14, 0, 6, 11, 1, 3, 13, 5, 9, 4, 12, 7, 10]);
    for loss in Loss::ALL {
        for policy in ["graded", "2", "soft:1", "all"] {
            let mut batch = random(11, 6);
            batch.policies.fill(Policy::parse(policy).unwrap());
            let (a, gq, gp) = batch.value(&mut objective(&settings(loss), 6));
            let (b, hq, hp) = permuted(&batch, &rows, &cols).value(&mut objective(&settings(loss), 6));
            assert!(
                (a.loss - b.loss).abs() < 1e-6 * (1.0 + a.loss) && a.terms == b.terms,
                "{loss:?} {a:?} {b:?}"
            );
            let size = gp.data.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            let sides: [(&Matrix, &Matrix, &[usize]); 2] = [(&gq, &hq, &rows), (&gp, &hp, &cols)];
            for (g, h, order) in sides {
                for (i, from) in order.iter().enumerate() {
                    for (x, y) in h.row(i).iter().zip(g.row(*from)) {
                        assert!((x - y).abs() <= 1e-5 * size, "{loss:?} {policy}: {x} {y}");
                    }
                }
            }
        }
    }
}

#[test]
fn extremes_stay_finite() {
    for loss in Loss::ALL {
        let check = |what: &str, batch: &Batch| {
            let mut objective = objective(&settings(loss), batch.passages.cols.max(1));
            for step in 1..4 {
                let (value, gq, gp) = batch.value(&mut objective);
                assert!(value.loss.is_finite() && value.loss >= -1e-6, "{loss:?}, {what}: {value:?}");
                let finite = gq.data.iter().chain(&gp.data).all(|g| g.is_finite());
                assert!(finite && gp.data.len() == batch.passages.data.len(), "{loss:?}, {what}");
                objective.step(&AdamW::default(), 1.0, step);
                assert!(objective.state().iter().all(|x| x.is_finite()), "{loss:?}, {what}");
            }
        };
        for policy in ["graded", "1", "0:3", "soft:2", "all"] {
            let mut batch = random(3, 6);
            batch.policies.fill(Policy::parse(policy).unwrap());
            check(policy, &batch);
            // Temperatures near 0 with cosines of 1 and −1, on the right side and on the wrong one.
            let mut extreme = batch.clone();
            extreme.temperatures.fill(1e-4);
            for i in 0..5 {
                let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
                let query = extreme.queries.row(0).to_vec();
                extreme.queries.row_mut(i).copy_from_slice(&query);
                for j in 0..3 {
                    let to = extreme.passages.row_mut(3 * i + j);
                    to.iter_mut().zip(&query).for_each(|(p, q)| *p = if j == 0 { sign } else { -sign } * q);
                }
            }
            check("near 0", &extreme);
            // All scores equal.
            let mut equal = batch.clone();
            let one = equal.passages.row(0).to_vec();
            (0..15).for_each(|j| equal.passages.row_mut(j).copy_from_slice(&one));
            check("equal scores", &equal);
            // All grades equal, among them the lowest and the highest.
            for grade in [0.0, 2.0, 3.0] {
                let mut equal = batch.clone();
                equal.grades.fill(grade);
                check("equal grades", &equal);
            }
            // Nothing takes part.
            let mut empty = batch.clone();
            empty.grades.fill(f32::NAN);
            empty.roles.fill(Role::Ignored);
            check("ignored", &empty);
            let terms = empty.value(&mut objective(&settings(loss), 6)).0.terms;
            assert_eq!(terms, 0, "{loss:?}");
            // One query with one candidate; a query without any.
            let one = |m: &Matrix| Matrix::new(m.cols, m.row(0).to_vec());
            let mut single =
                Batch { queries: one(&batch.queries), passages: one(&batch.passages), ..batch.clone() };
            single.roles = vec![Role::Positive];
            (single.grades, single.policies, single.temperatures) =
                (vec![3.0], vec![batch.policies[0]], vec![0.1]);
            check("one candidate", &single);
            single.passages = Matrix::new(6, Vec::new());
            (single.roles, single.grades) = (Vec::new(), Vec::new());
            check("no candidate", &single);
        }
        // A teacher whose scores are all the same, and one that knows nothing.
        for teacher in [5.0, f32::NAN, 1e30] {
            let mut batch = random(3, 6);
            batch.teacher = vec![teacher; 75];
            check("teacher", &batch);
        }
    }
}

#[test]
fn the_losses_own_parameters_learn_and_are_taken_up_again() {
    for loss in [Loss::Bixse, Loss::Ordinal] {
        let batch = random(5, 6);
        let s = LossSettings { parameter_rate: 0.05, ..settings(loss) };
        let mut whole = objective(&s, 6);
        let run = |o: &mut Objective, steps: std::ops::Range<u64>| -> Vec<f64> {
            steps
                .map(|step| {
                    let value = batch.value(o).0.loss;
                    o.step(&AdamW::default(), 1.0, step);
                    value
                })
                .collect()
        };
        let losses = run(&mut whole, 1..60);
        assert!(losses[58] < 0.8 * losses[0], "{loss:?} {losses:?}");
        let mut first = objective(&s, 6);
        run(&mut first, 1..20);
        let mut second = objective(&s, 6);
        assert!(second.load_state(&first.state()));
        assert_eq!(run(&mut second, 20..60), losses[19..]);
        assert_eq!(second.state(), whole.state());
        assert!(!second.load_state(&[1.0]) && !objective(&settings(Loss::Kl), 6).load_state(&[1.0]));
    }
}

#[test]
fn settings_of_a_loss_follow_the_encoder_and_are_checked() {
    let (fixed, transformer) = (Settings::default(), Settings::for_transformers());
    assert_eq!(fixed.with_loss(Loss::InfoNce), fixed);
    assert_eq!(transformer.with_loss(Loss::Cosent).with_loss(Loss::InfoNce), transformer);
    assert_eq!(fixed.with_loss(Loss::Listnet).loss.temperature, 0.1);
    assert_eq!(transformer.with_loss(Loss::Listnet).loss.temperature, 0.05);
    assert_eq!(transformer.with_loss(Loss::Cosent).loss.temperature, 0.05);
    assert_eq!(fixed.with_loss(Loss::Bixse).loss.temperature, 0.05);
    assert_eq!(fixed.with_loss(Loss::MarginMse).loss.temperature, 1.0);
    let s = settings(Loss::InfoNce);
    let bad = [
        LossSettings { temperature: 0.0, ..s.clone() },
        LossSettings { threshold_weights: vec![1.0, 2.0], ..s.clone() },
        LossSettings { threshold_weights: vec![0.0; 3], ..s.clone() },
        LossSettings { matryoshka: vec![(9, 1.0)], ..s.clone() },
        LossSettings { bias: f32::NAN, ..s.clone() },
    ];
    for bad in bad {
        assert_eq!(Objective::new(&bad, 3.0, 8, false).err().unwrap().exit_code(), 2, "{bad:?}");
    }
}
