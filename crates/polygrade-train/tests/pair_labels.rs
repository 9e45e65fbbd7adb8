//! A pair's own label decides what losses of grades make of it, whatever the policy of its query's other pairs is.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Index, Judgment, Lang, Meta, Origin, Passage, Query, Scale, Split, Votes};
use polygrade_nn::Matrix;
use polygrade_nn::rng::CounterRng;
use polygrade_train::examples::{Batch, HardNegatives, PerQuery};
use polygrade_train::labelled::Labelled;
use polygrade_train::labels::Rule;
use polygrade_train::loss::{Loss, LossSettings, Objective, Role, Targets};
use polygrade_train::{
    Batching, Composition, Examples, Label, LabelPolicies, Policy, Scenario, TeacherScores,
};
use std::sync::Arc;

const LANGS: [&str; 3] = ["en", "sw", "zh"];

fn lang(tag: &str) -> Lang {
    Lang::parse(tag).unwrap()
}

/// Topics in three languages; queries share their passages with the next topic's, judged by two or three annotators.
fn collection(max_grade: f32) -> Collection {
    let (mut passages, mut queries) = (Vec::new(), Vec::new());
    let (topics, each) = (12, 5);
    for t in 0..topics {
        for tag in LANGS {
            let (text, group) = (format!("query {t}"), Some(format!("q{t}")));
            queries.push(Query { id: format!("q{t}{tag}"), text, lang: lang(tag), group });
            passages.extend((0..each).map(|p| Passage {
                id: format!("p{t}{p}{tag}"),
                title: None,
                text: format!("text {t} {p}"),
                lang: lang(tag),
                group: Some(format!("p{t}{p}")),
            }));
        }
    }
    let (rng, mut votes) = (CounterRng::new(3), Votes::default());
    for t in 0..topics {
        for near in [t, (t + 1) % topics] {
            for p in 0..each {
                let (query, passage) = (3 * t as Index, (15 * near + p) as Index);
                for (i, annotator) in ["strict", "mild", "third"].into_iter().enumerate() {
                    let n = ((t * 2 + usize::from(near != t)) * each + p) * 3 + i;
                    if i == 2 && n % 2 == 0 {
                        continue;
                    }
                    let grade = rng.below(n as u64, 4) as f32;
                    let origin = Origin { annotator: Some(annotator), source: None };
                    votes.push(Judgment { query, passage, grade }, origin);
                }
            }
        }
    }
    let grades = Scale::up_to(max_grade);
    let meta = Meta { name: "t".into(), licence: "x".into(), source: "x".into(), grades };
    Collection::from_parts(meta, passages, queries, Default::default()).with_votes(Split::Train, votes)
}

/// Cuts that differ by languages and annotators.
fn policies() -> LabelPolicies {
    let mut policies = LabelPolicies::uniform(Policy::Threshold(3.0));
    let to = |tag: &str, policy| Rule { passage_lang: Some(lang(tag)), ..Rule::new(policy) };
    let by = Rule { annotator: Some("mild".into()), ..Rule::new(Policy::Threshold(2.0)) };
    policies.rules = vec![to("sw", Policy::Threshold(1.0)), by, to("zh", Policy::Band { lo: 0.0, hi: 2.0 })];
    policies
}

#[test]
fn under_cuts_aims_are_the_pairs_own_labels() {
    let c = collection(3.0);
    let graded = c.graded(Split::Train);
    let langs: Vec<Lang> = LANGS.map(lang).to_vec();
    let (policies, mut seen) = (policies(), [0; 3]);
    for (scenario, composition, parallel_positives) in Scenario::ALL.into_iter().flat_map(|s| {
        [Composition::Homogeneous, Composition::Mixed, Composition::Hybrid(0.5)]
            .into_iter()
            .flat_map(move |c| [false, true].map(|p| (s, c, p)))
    }) {
        let batching = Batching { lang_sampling: 1.0, composition, parallel_positives };
        let e = Examples::for_batches(&c, &graded, scenario, &langs, &policies, &batching);
        let labelled = Labelled::new(&c, &graded, scenario, &langs, &policies, true);
        for (step, draw) in e.epoch(8, &CounterRng::new(1)).iter().enumerate() {
            let mut batch = Batch::default();
            let per_query = PerQuery { positives: 2, negatives: 3 };
            e.batch(draw, per_query, &CounterRng::new(step as u64), &mut batch);
            for (i, &q) in batch.queries.iter().enumerate() {
                for (j, &p) in batch.passages.iter().enumerate() {
                    let at = i * batch.passages.len() + j;
                    let label = labelled.pairs(q, batch.langs[i]).find(|x| x.passage == p).map(|x| x.label);
                    let want = match label {
                        Some(Label::Positive) => 1.0,
                        Some(Label::Negative) => 0.0,
                        Some(Label::Dropped) | None => f64::NAN,
                    };
                    let aim = batch.aims[at];
                    assert!(aim == want || (aim.is_nan() && want.is_nan()), "{label:?} {aim} {batching:?}");
                    assert!(batch.roles[at] != Role::Positive || label == Some(Label::Positive));
                    label.iter().for_each(|l| seen[*l as usize] += 1);
                }
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 100), "{seen:?}");
}

/// ∂L/∂s of the candidates of one query with these aims, on vectors along axes.
fn slopes(loss: Loss, aims: &[f64; 2], max_grade: f32) -> (f64, [f32; 2]) {
    let (queries, passages) = (Matrix::new(3, vec![1.0, 0.0, 0.0]), vec![0.3, 0.5, 0.0, 0.4, 0.0, 0.6]);
    let targets = Targets {
        roles: &[Role::Positive, Role::Negative],
        grades: &[1.0, 0.0],
        aims,
        policies: &[Policy::Threshold(3.0)],
        temperatures: &[0.1],
        teacher: &[],
    };
    let settings = LossSettings::new(loss, 0.1);
    let mut objective = Objective::new(&settings, max_grade, 3, false).unwrap();
    let mut grads = (Matrix::default(), Matrix::default());
    let value =
        objective.value(&queries, &Matrix::new(3, passages), &targets, 1.0, (&mut grads.0, &mut grads.1));
    // ∂L/∂s is the share of the query's axis in the gradient of the passages.
    (value.loss, [grads.1.row(0)[0], grads.1.row(1)[0]])
}

#[test]
fn every_loss_of_grades_draws_a_positive_near_whatever_the_querys_policy() {
    for loss in Loss::ALL.into_iter().filter(|l| l.is_graded() && *l != Loss::Angle && *l != Loss::Ws2) {
        let (_, [positive, negative]) = slopes(loss, &[1.0, 0.0], 3.0);
        assert!(positive < 0.0 && negative >= 0.0, "{loss:?} {positive} {negative}");
    }
}

#[test]
fn the_ordinal_loss_counts_levels_from_0_also_where_the_highest_grade_is_between_two() {
    for (aims, whole) in [([0.4, 0.0], [0.5, 0.0]), ([0.8, 0.4], [1.0, 0.5]), ([1.0, 0.2], [1.0, 0.25])] {
        let (a, b) = (slopes(Loss::Ordinal, &aims, 2.5), slopes(Loss::Ordinal, &whole, 2.0));
        assert!((a.0 - b.0).abs() < 1e-9, "{aims:?}: {} {}", a.0, b.0);
    }
}

fn fingerprint(c: &Collection, policy: Policy) -> (Vec<u64>, Vec<u64>) {
    let graded = c.graded(Split::Train);
    let langs: Vec<Lang> = LANGS.map(lang).to_vec();
    let e = Examples::new(c, &graded, Scenario::Mixture, &langs, &LabelPolicies::uniform(policy));
    let (mut out, mut batches) = (Vec::new(), Vec::new());
    e.fingerprint(|n| out.push(n));
    for draw in e.epoch(8, &CounterRng::new(1)) {
        let mut batch = Batch::default();
        e.batch(&draw, PerQuery { positives: 2, negatives: 3 }, &CounterRng::new(2), &mut batch);
        batches.extend(batch.aims.iter().map(|a| a.to_bits()));
        batches.extend(batch.grades.iter().map(|g| u64::from(g.to_bits())));
        batches.extend(batch.roles.iter().map(|r| *r as u64));
    }
    (out, batches)
}

#[test]
fn cuts_that_label_alike_are_one_and_all_else_tells_apart() {
    let (c, wider) = (collection(3.0), collection(4.0));
    let of = |policy: &str| fingerprint(&c, Policy::parse(policy).unwrap());
    // Single grades are whole, so their votes are those of the next threshold.
    for (a, b) in [("2", "1.5"), ("1:2", "2"), ("0:2", "0.5:1.75")] {
        assert_eq!(of(a), of(b), "{a} {b}");
    }
    for (a, b) in [("2", "1"), ("2", "0:2"), ("2", "soft:2"), ("1", "graded"), ("1", "all")] {
        assert_ne!(of(a).0, of(b).0, "{a} {b}");
    }
    assert_ne!(of("2").0, fingerprint(&wider, Policy::Threshold(2.0)).0);
    assert_ne!(c.fingerprint(), wider.fingerprint());
}

#[test]
fn a_teachers_score_is_found_by_any_passage_of_the_text() {
    let mut c = collection(3.0);
    // The second passage says what the first says.
    c.passages[1].text = c.passages[0].text.clone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scores.tsv");
    std::fs::write(&path, "q0en\tp01en\t0.5\nq0en\tp02en\t0.25\n").unwrap();
    let teacher = Arc::new(TeacherScores::load(&path, &c).unwrap());
    let graded = c.graded(Split::Train);
    let mut e = Examples::new(
        &c,
        &graded,
        Scenario::Mixture,
        &[lang("en")],
        &LabelPolicies::uniform(Policy::Threshold(0.5)),
    );
    e.set_teacher(teacher);
    let batch = Batch { queries: vec![0], passages: vec![0, 2, 3], ..Batch::default() };
    let mut scores = Vec::new();
    e.teacher_scores(&batch, &mut scores);
    assert!(scores[..2] == [0.5, 0.25] && scores[2].is_nan(), "{scores:?}");
}

#[test]
fn hard_negatives_count_once() {
    let c = collection(3.0);
    let graded = c.graded(Split::Train);
    let policies = LabelPolicies::uniform(Policy::Threshold(1.0));
    let mut e = Examples::new(&c, &graded, Scenario::Mixture, &[lang("en")], &policies);
    // Of another topic, twice; a judged one, twice.
    let hard = HardNegatives::new(vec![(0, 90), (0, 90), (0, 0), (0, 0)], 2);
    let added = e.add_negatives(&c, &hard);
    assert_eq!((added.pairs, added.refused + added.judged, added.unused), (1, 1, 0), "{added:?}");
}
