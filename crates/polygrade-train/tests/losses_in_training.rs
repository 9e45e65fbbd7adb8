//! Every loss in the trainer: GradCache gives the gradient of the whole batch, and what a loss learns itself goes into
//! checkpoints.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Split};
use polygrade_encoder::{Encoder, TransformerTraining};
use polygrade_train::examples::PerQuery;
use polygrade_train::{
    Examples, LabelPolicies, Loss, LossSettings, Policy, Scenario, Settings, TeacherScores,
    TokenizedCollection, Trainer,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Setting {
    collection: Collection,
    encoder: Encoder,
    texts: TokenizedCollection,
    examples: Examples,
}

/// `mini` in two languages, graded, with a small transformer of random weights whose tokeniser knows ten scripts.
fn setting() -> Setting {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let collection = Collection::load(&root.join("collections/mini")).unwrap();
    let langs: Vec<_> =
        collection.langs().into_iter().filter(|l| ["en", "sw"].contains(&l.as_str())).collect();
    let fixtures = root.join("crates/polygrade-encoder/tests/fixtures/encoders");
    let encoder = Encoder::load(&fixtures.join("bert")).unwrap();
    let texts = TokenizedCollection::new(&collection, &*encoder).unwrap();
    let policies = LabelPolicies::uniform(Policy::Graded);
    let graded = collection.graded(Split::Train);
    let examples = Examples::new(&collection, &graded, Scenario::Mixture, &langs, &policies);
    Setting { collection, encoder, texts, examples }
}

fn settings(loss: LossSettings, tokens: usize) -> Settings {
    Settings {
        loss,
        batch: 3,
        per_query: PerQuery { positives: 2, negatives: 2 },
        rate: 1e-3,
        steps: Some(4),
        transformer: Some(TransformerTraining { tokens, ..TransformerTraining::default() }),
        ..Settings::for_transformers()
    }
}

fn trainer<'a>(s: &'a Setting, settings: Settings) -> Trainer<'a> {
    Trainer::new(s.encoder.clone(), &s.examples, &s.texts, settings, true).unwrap()
}

fn run(trainer: &mut Trainer, steps: usize) -> Vec<f64> {
    (0..steps).map(|_| trainer.next_step().unwrap().loss).collect()
}

#[test]
fn gradients_from_micro_batches_equal_those_of_the_whole_batch() {
    let s = setting();
    let base = Settings::for_transformers();
    let mut all: Vec<LossSettings> = Loss::ALL.iter().map(|l| base.with_loss(*l).loss).collect();
    all.push(LossSettings { matryoshka: vec![(16, 1.0), (8, 0.5)], ..base.loss.clone() });
    for loss in all {
        let mut whole = trainer(&s, settings(loss.clone(), 1 << 20));
        let mut cut = trainer(&s, settings(loss.clone(), 100));
        // The second loss is that of what the first gradient made.
        let (a, b) = (run(&mut whole, 2), run(&mut cut, 2));
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 2e-4 * (1.0 + a.abs()), "{loss:?}: {a} {b}");
        }
        let moved = whole.encoder().fingerprint() != polygrade_encoder::TextEncoder::fingerprint(&*s.encoder);
        assert!(moved && a.iter().all(|l| l.is_finite()), "{loss:?} {a:?}");
    }
}

#[test]
fn what_a_loss_learns_itself_goes_into_checkpoints() {
    let s = setting();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    for loss in [Loss::Bixse, Loss::Ordinal] {
        let loss = Settings::for_transformers().with_loss(loss).loss;
        let new = || trainer(&s, settings(loss.clone(), 1 << 20));
        let (mut whole, mut first, mut second) = (new(), new(), new());
        let losses = run(&mut whole, 4);
        run(&mut first, 2);
        first.save_checkpoint(&path).unwrap();
        second.resume(&path).unwrap();
        assert_eq!(run(&mut second, 2), losses[2..]);
        assert_eq!(second.encoder().fingerprint(), whole.encoder().fingerprint());
        // Its bits, not its start: without them the run would go another way.
        second.save_checkpoint(&path).unwrap();
        let mut other = trainer(&s, settings(LossSettings { parameter_rate: 0.5, ..loss.clone() }, 1 << 20));
        assert_eq!(other.resume(&path).unwrap_err().exit_code(), 1);
    }
}

#[test]
fn temperatures_by_language_and_teachers_reach_the_loss() {
    let mut s = setting();
    let sw = s.collection.langs().into_iter().find(|l| l.as_str() == "sw").unwrap();
    let first = |s: &Setting, loss: LossSettings| run(&mut trainer(s, settings(loss, 1 << 20)), 4);
    let base = Settings::for_transformers();
    let plain = first(&s, base.loss.clone());
    let other = first(&s, LossSettings { lang_temperatures: vec![(sw, 0.5)], ..base.loss.clone() });
    assert!(plain != other);

    // A teacher that is the grades gives what grades give, for the pairs that it knows.
    let kl = LossSettings { in_batch: false, ..base.with_loss(Loss::Kl).loss };
    let by_grades = first(&s, kl.clone());
    let mut lines = String::new();
    let graded = s.collection.graded(Split::Train);
    for &q in graded.queries() {
        for (p, grade) in graded.judged(q) {
            let (q, p) = (&s.collection.queries[q as usize].id, &s.collection.passages[p as usize].id);
            lines += &format!("{q}\t{p}\t{grade}\n");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("teacher.tsv");
    std::fs::write(&file, &lines).unwrap();
    s.examples.set_teacher(Arc::new(TeacherScores::load(&file, &s.collection).unwrap()));
    assert_eq!(s.examples.without_teacher().1, 0);
    for (a, b) in first(&s, kl).iter().zip(&by_grades) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn faults_of_a_teachers_file_have_file_and_line() {
    let s = setting();
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("teacher.run");
    let (q, p) = (&s.collection.queries[0].id, &s.collection.passages[0].id);
    let refused = |text: String| {
        std::fs::write(&file, text).unwrap();
        let error = TeacherScores::load(&file, &s.collection).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        error.to_string()
    };
    let good = format!("{q} Q0 {p} 1 0.5 tag\n");
    for (bad, what) in [
        (format!("nobody\t{p}\t1\n"), "nobody"),
        (format!("{q}\tnothing\t1\n"), "nothing"),
        (format!("{q}\t{p}\tinf\n"), "finite"),
        (format!("{q}\t{p}\t1\n"), "already"),
        (format!("{q} {p}\n"), "no score of a pair"),
    ] {
        let message = refused(good.clone() + &bad);
        assert!(message.contains(what) && message.contains("teacher.run:2"), "{message}");
    }
    assert!(refused(String::new()).contains("holds no score"));
    std::fs::write(&file, good).unwrap();
    assert_eq!(TeacherScores::load(&file, &s.collection).unwrap().get(0, 0), Some(0.5));
}
