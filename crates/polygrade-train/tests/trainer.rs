//! The trainer's promises: it learns, threads change no bit, and a resumed run equals the uninterrupted one.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Split};
use polygrade_encoder::{Encoder, NewStatic, NewStaticBase, TextEncoder, TransformerTraining};
use polygrade_eval::{Measure, Pool};
use polygrade_train::evaluate::{evaluate, queries_in};
use polygrade_train::{
    Batching, Composition, Examples, LabelPolicies, Policy, Scenario, Settings, TokenizedCollection, Trainer,
};
use std::path::Path;

struct Setting {
    collection: Collection,
    base: NewStaticBase,
    texts: TokenizedCollection,
    examples: Examples,
}

fn setting(projection: Option<usize>) -> Setting {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collections/mini");
    let collection = Collection::load(&dir).unwrap();
    let langs: Vec<_> =
        collection.langs().into_iter().filter(|l| ["en", "sw"].contains(&l.as_str())).collect();
    let texts: Vec<&str> = collection.passages.iter().map(|p| p.text.as_str()).collect();
    let documents: Vec<u32> = (0..texts.len() as u32).collect();
    let settings = NewStatic { vocab_size: 4000, dim: 48, projection, ..NewStatic::default() };
    let base = NewStaticBase::new(&texts, &documents, &settings).unwrap();
    let tokenized = TokenizedCollection::new(&collection, &base.encoder(1)).unwrap();
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    let examples =
        Examples::new(&collection, &collection.graded(Split::Train), Scenario::Mixture, &langs, &policies);
    Setting { collection, base, texts: tokenized, examples }
}

fn settings() -> Settings {
    Settings { epochs: 3, ..Settings::default() }
}

/// All bits of an encoder, as a hash.
fn parameters(e: &dyn TextEncoder) -> u64 {
    e.fingerprint()
}

#[test]
fn threads_and_their_number_change_no_bit() {
    for projection in [None, Some(32)] {
        let s = setting(projection);
        let run = |threads: bool| {
            let mut trainer =
                Trainer::new(s.base.encoder(7).into(), &s.examples, &s.texts, settings(), threads).unwrap();
            trainer.run();
            parameters(trainer.encoder())
        };
        let one = run(false);
        for n in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            assert!(pool.install(|| run(true)) == one, "{n} threads, projection {projection:?}");
        }
        let mut other =
            Trainer::new(s.base.encoder(8).into(), &s.examples, &s.texts, settings(), false).unwrap();
        other.run();
        assert!(parameters(other.encoder()) != one, "another seed gives another model");
    }
}

#[test]
fn tokens_that_no_text_holds_change_no_bit() {
    let s = setting(Some(32));
    // More tokens than the texts hold: those of one language alone are kept.
    let english = |i: &usize| s.collection.passages[*i].lang.as_str() == "en";
    let mut part = TokenizedCollection::new(&s.collection, &s.base.encoder(1)).unwrap();
    let mut passages = polygrade_nn::bag::Bags::new();
    (0..part.passages.len())
        .for_each(|i| passages.push(if english(&i) { part.passages.get(i) } else { &[] }));
    part.passages = passages;
    let langs: Vec<_> = s.collection.langs().into_iter().filter(|l| l.as_str() == "en").collect();
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    let graded = s.collection.graded(Split::Train);
    let examples = Examples::new(&s.collection, &graded, Scenario::Monolingual, &langs, &policies);
    let run = |encoder: polygrade_encoder::StaticEncoder, texts: &TokenizedCollection| {
        let mut trainer = Trainer::new(encoder.into(), &examples, texts, settings(), true).unwrap();
        trainer.run();
        trainer.encoder().encode_bags(&texts.passages, true).data
    };
    let whole = run(s.base.encoder(1), &part);
    let tokens = part.renumber();
    assert!(tokens.len() < s.base.encoder(1).table.rows() && tokens.is_sorted());
    assert!(run(s.base.encoder(1).with_tokens(&tokens), &part) == whole);
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_one() {
    let s = setting(Some(32));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let new =
        |settings| Trainer::new(s.base.encoder(1).into(), &s.examples, &s.texts, settings, true).unwrap();
    let mut whole = new(settings());
    whole.run();
    for stop in [1, 5, whole.total() - 1] {
        let mut first = new(settings());
        (0..stop).for_each(|_| assert!(first.next_step().is_some()));
        first.save_checkpoint(&path).unwrap();
        drop(first);
        let mut second = new(settings());
        second.resume(&path).unwrap();
        assert_eq!(second.done(), stop);
        second.run();
        assert!(parameters(second.encoder()) == parameters(whole.encoder()), "stopped after {stop}");
    }
    let refused = new(Settings { rate: 0.5, ..settings() }).resume(&path).unwrap_err();
    assert_eq!(refused.exit_code(), 1);
    std::fs::write(&path, b"garbage").unwrap();
    assert_eq!(new(settings()).resume(&path).unwrap_err().exit_code(), 1);
}

#[test]
fn batches_of_several_languages_resume_too() {
    let s = setting(None);
    let langs: Vec<_> = s.collection.langs().into_iter().take(3).collect();
    let batches = Batching {
        lang_sampling: f32::INFINITY,
        composition: Composition::Hybrid(0.5),
        parallel_positives: true,
    };
    let graded = s.collection.graded(Split::Train);
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    let examples =
        Examples::for_batches(&s.collection, &graded, Scenario::Mixture, &langs, &policies, &batches);
    let settings = Settings { batches, epochs: 2, ..Settings::default() };
    let new = || Trainer::new(s.base.encoder(1).into(), &examples, &s.texts, settings.clone(), true).unwrap();
    let mut whole = new();
    whole.run();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let mut first = new();
    (0..whole.total() / 2 + 1).for_each(|_| assert!(first.next_step().is_some()));
    first.save_checkpoint(&path).unwrap();
    let mut second = new();
    second.resume(&path).unwrap();
    second.run();
    assert!(parameters(second.encoder()) == parameters(whole.encoder()));
    let other = Settings { batches: Batching::default(), ..settings };
    let refused = Trainer::new(s.base.encoder(1).into(), &examples, &s.texts, other, true);
    assert_eq!(refused.map(|_| ()).unwrap_err().exit_code(), 3, "examples for other batches");
}

#[test]
fn training_improves_the_ranking_of_the_training_queries() {
    let s = setting(None);
    let graded = s.collection.graded(Split::Train);
    let langs = s.collection.langs();
    let queries = queries_in(&s.collection, &graded, &langs[2..3]);
    let ndcg = |e: &dyn TextEncoder| {
        let rankings = evaluate(e, &s.collection, &s.texts, &queries, &[Pool::Same], 10, true).remove(0);
        let values = rankings.values(&Measure::Ndcg(Some(10)), &s.collection, &graded, &Pool::Same);
        values.iter().sum::<f64>() / values.len() as f64
    };
    let untrained: Encoder = s.base.encoder(1).into();
    let mut trainer =
        Trainer::new(untrained.clone(), &s.examples, &s.texts, Settings { epochs: 10, ..settings() }, true)
            .unwrap();
    let mut losses = Vec::new();
    while let Some(report) = trainer.next_step() {
        losses.push(report.loss);
    }
    assert!(losses.last() < losses.first(), "{losses:?}");
    let (before, after) = (ndcg(&*untrained), ndcg(trainer.encoder()));
    assert!(after > 2.0 * before, "{before} → {after}");
}

/// A small transformer whose tokeniser knows ten scripts, with random weights.
fn transformer() -> Encoder {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../polygrade-encoder/tests/fixtures/encoders");
    Encoder::load(&std::path::Path::new(fixtures).join("bert")).unwrap()
}

#[test]
fn a_transformers_run_depends_on_neither_threads_micro_batches_nor_stops() {
    let s = setting(None);
    let encoder = transformer();
    let texts = TokenizedCollection::new(&s.collection, &*encoder).unwrap();
    let settings = |tokens: usize| Settings {
        epochs: 1,
        batch: 8,
        seed: 3,
        rate: 1e-3,
        transformer: Some(TransformerTraining { tokens, ..TransformerTraining::default() }),
        ..Settings::for_transformers()
    };
    let new = |tokens, threads| {
        Trainer::new(encoder.clone(), &s.examples, &texts, settings(tokens), threads).unwrap()
    };
    let steps = 6;
    let run = |trainer: &mut Trainer, n: usize| -> Vec<f64> {
        (0..n).map(|_| trainer.next_step().unwrap().loss).collect()
    };
    let mut whole = new(1 << 20, true);
    let losses = run(&mut whole, steps);
    assert!(parameters(whole.encoder()) != parameters(&*encoder));

    // The same bits at one thread, dropout included.
    let mut single = new(1 << 20, false);
    assert_eq!(run(&mut single, steps), losses);
    assert_eq!(parameters(single.encoder()), parameters(whole.encoder()));

    // Layers run again in backward drop what they dropped before.
    let mut again = settings(1 << 20);
    again.transformer.as_mut().unwrap().recompute = true;
    let mut again = Trainer::new(encoder.clone(), &s.examples, &texts, again, true).unwrap();
    assert_eq!(run(&mut again, 3), losses[..3]);

    // With moments in bfloat16, stopped and gone on as well.
    let halves = || {
        let mut s = settings(1 << 20);
        s.transformer.as_mut().unwrap().half_moments = true;
        s
    };
    let new_halves = || Trainer::new(encoder.clone(), &s.examples, &texts, halves(), true).unwrap();
    let (mut one, mut two) = (new_halves(), new_halves());
    let rounded = run(&mut one, 4);
    for (a, b) in rounded.iter().zip(&losses) {
        assert!((a - b).abs() < 0.02 * b, "{a} {b}");
    }
    let dir = tempfile::tempdir().unwrap();
    run(&mut two, 2);
    two.save_checkpoint(&dir.path().join("halves")).unwrap();
    let mut two = new_halves();
    two.resume(&dir.path().join("halves")).unwrap();
    assert_eq!(run(&mut two, 2), rounded[2..]);
    assert_eq!(parameters(two.encoder()), parameters(one.encoder()));

    // Micro-batches sum in another order; but what is dropped is the same, so the run is as good as equal.
    let mut cached = new(600, true);
    for (a, b) in run(&mut cached, steps).iter().zip(&losses) {
        assert!((a - b).abs() < 2e-4, "{a} {b}");
    }

    // Stopped and gone on: the same bits as in one go.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let mut first = new(1 << 20, true);
    run(&mut first, 2);
    first.save_checkpoint(&path).unwrap();
    let mut second = new(1 << 20, true);
    second.resume(&path).unwrap();
    assert_eq!(second.done(), 2);
    assert_eq!(run(&mut second, steps - 2), losses[2..]);
    assert_eq!(parameters(second.encoder()), parameters(whole.encoder()));
}
