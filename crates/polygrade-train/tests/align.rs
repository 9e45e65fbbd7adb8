//! Alignment in the trainer: it brings translations together, is off when it is off, and keeps the trainer's promises.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Lang, Split};
use polygrade_encoder::{Encoder, NewStatic, NewStaticBase, TextEncoder, TextKind, TransformerTraining};
use polygrade_nn::kernels::dot;
use polygrade_train::align::{Clear, Distance, Distil, Jsd};
use polygrade_train::{
    AlignSettings, Examples, LabelPolicies, Parallel, ParallelBuilder, Policy, Scenario, Settings,
    TokenizedCollection, Trainer,
};
use std::path::Path;

struct Setting {
    collection: Collection,
    langs: Vec<Lang>,
    encoder: Encoder,
    texts: TokenizedCollection,
    examples: Examples,
    parallel: Parallel,
}

/// The mini collection in English and Swahili; the teacher is a static encoder as wide as `encoder`.
fn setting(encoder: impl Fn(&[&str]) -> Encoder) -> Setting {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collections/mini");
    let collection = Collection::load(&dir).unwrap();
    let langs: Vec<Lang> = ["en", "sw"].iter().map(|l| Lang::parse(l).unwrap()).collect();
    let passages: Vec<&str> = collection.passages.iter().map(|p| p.text.as_str()).collect();
    let encoder = encoder(&passages);
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    let graded = collection.graded(Split::Train);
    let mut builder = ParallelBuilder::new(&*encoder, langs[0].clone(), &langs);
    builder.add_train(&collection, Scenario::Mixture, &policies);
    let parallel = builder.finish(Some(&*new_static(&passages, encoder.dim(), 5))).unwrap();
    Setting {
        texts: TokenizedCollection::new(&collection, &*encoder).unwrap(),
        examples: Examples::new(&collection, &graded, Scenario::Mixture, &langs, &policies),
        collection,
        langs,
        encoder,
        parallel,
    }
}

fn new_static(texts: &[&str], dim: usize, seed: u64) -> Encoder {
    // Documents apart, so that translations are not joined before training.
    let documents: Vec<u32> = (0..texts.len() as u32).collect();
    let settings = NewStatic { vocab_size: 3000, dim, ..NewStatic::default() };
    NewStaticBase::new(texts, &documents, &settings).unwrap().encoder(seed).into()
}

fn static_setting() -> Setting {
    setting(|texts| new_static(texts, 48, 1))
}

fn all_losses() -> AlignSettings {
    AlignSettings {
        jsd: Jsd { weight: 1.0, nce: 1.0, ..Jsd::default() },
        clear: Clear { weight: 0.5, negatives: 2, ..Clear::default() },
        distil: Distil { weight: 1.0, distance: Distance::Mse },
        batch: 12,
        ..AlignSettings::default()
    }
}

impl Setting {
    fn trainer(&self, settings: Settings, threads: bool) -> Trainer<'_> {
        let parallel = Some(&self.parallel);
        Trainer::with_parallel(self.encoder.clone(), &self.examples, &self.texts, settings, parallel, threads)
            .unwrap()
    }

    /// Of passages judged in train: their mean cosine with their translations, and the mean share of other passages'
    /// translations that are further from them.
    fn nearness(&self, encoder: &dyn TextEncoder) -> (f32, f32) {
        let graded = self.collection.graded(Split::Train);
        let mut groups: Vec<&str> = graded
            .queries()
            .iter()
            .flat_map(|&q| graded.judged(q))
            .filter_map(|(p, _)| self.collection.passages[p as usize].group.as_deref())
            .collect();
        groups.sort_unstable();
        groups.dedup();
        let texts = |lang: &Lang| -> Vec<&str> {
            let of = |g: &&str| {
                let mut all = self.collection.passages.iter();
                all.find(|p| p.lang == *lang && p.group.as_deref() == Some(*g)).map(|p| p.text.as_str())
            };
            groups.iter().filter_map(of).collect()
        };
        let [one, two] = [0, 1].map(|i| encoder.encode(&texts(&self.langs[i]), TextKind::Passage).unwrap());
        assert!(one.rows() == two.rows() && one.rows() > 20, "{} {}", one.rows(), two.rows());
        let n = one.rows();
        let ahead = |i: usize| {
            let own = dot(one.row(i), two.row(i));
            (0..n).filter(|j| dot(one.row(i), two.row(*j)) < own).count()
        };
        let cosine = (0..n).map(|i| dot(one.row(i), two.row(i))).sum::<f32>() / n as f32;
        (cosine, (0..n).map(ahead).sum::<usize>() as f32 / (n * (n - 1)) as f32)
    }
}

#[test]
fn translations_come_nearer() {
    let s = static_setting();
    let trained = |align| {
        let mut trainer = s.trainer(Settings { epochs: 20, rate: 0.005, align, ..Settings::default() }, true);
        trainer.run();
        s.nearness(trainer.encoder())
    };
    let without = trained(None);
    for losses in ["jsd=1", "clear=1", "distil=1"] {
        let mut align = AlignSettings::default();
        align.set_weights(losses).unwrap();
        let with = trained(Some(align));
        // Distillation draws each text to its target and says nothing of other texts, which the two others push away.
        let ahead = if losses == "distil=1" { 0.0 } else { 0.05 };
        assert!(with.0 > without.0 + 0.1 && with.1 > without.1 + ahead, "{losses}: {without:?} → {with:?}");
    }
}

#[test]
fn without_alignment_nothing_changes() {
    let s = static_setting();
    let settings = Settings { epochs: 1, ..Settings::default() };
    let mut plain = Trainer::new(s.encoder.clone(), &s.examples, &s.texts, settings.clone(), true).unwrap();
    plain.run();
    let mut off = s.trainer(settings.clone(), true);
    off.run();
    assert_eq!(plain.encoder().fingerprint(), off.encoder().fingerprint());
    assert_eq!(plain.identity(), off.identity());

    let asked = Settings { align: Some(all_losses()), ..settings };
    let error = Trainer::new(s.encoder.clone(), &s.examples, &s.texts, asked, true).err().unwrap();
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_run_depends_on_neither_threads_nor_stops() {
    let s = static_setting();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    // With the retrieval loss and without it.
    for retrieval in [1.0, 0.0] {
        let align = AlignSettings { retrieval, ..all_losses() };
        let settings = || Settings { epochs: 2, align: Some(align), ..Settings::default() };
        let mut whole = s.trainer(settings(), true);
        whole.run();
        let mut single = s.trainer(settings(), false);
        single.run();
        assert_eq!(single.encoder().fingerprint(), whole.encoder().fingerprint());
        for stop in [1, whole.total() / 2, whole.total() - 1] {
            let mut first = s.trainer(settings(), true);
            (0..stop).for_each(|_| assert!(first.next_step().is_some()));
            first.save_checkpoint(&path).unwrap();
            let mut second = s.trainer(settings(), true);
            second.resume(&path).unwrap();
            second.run();
            assert_eq!(second.encoder().fingerprint(), whole.encoder().fingerprint(), "stopped after {stop}");
        }
        let other = Settings { align: Some(AlignSettings { batch: 13, ..align }), ..settings() };
        assert_eq!(s.trainer(other, true).resume(&path).unwrap_err().exit_code(), 1);
    }
}

#[test]
fn micro_batches_and_accumulated_batches_give_the_same_run() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../polygrade-encoder/tests/fixtures/encoders");
    let s = setting(|_| Encoder::load(&Path::new(fixtures).join("bert")).unwrap());
    let run = |tokens: usize, accumulate: usize, align| -> Vec<f64> {
        let training = TransformerTraining { tokens, accumulate, ..TransformerTraining::default() };
        let settings = Settings {
            batch: 4,
            rate: 1e-3,
            steps: Some(3),
            transformer: Some(training),
            align: Some(align),
            ..Settings::for_transformers()
        };
        let mut trainer = s.trainer(settings, true);
        (0..3).map(|_| trainer.next_step().unwrap().loss).collect()
    };
    let align = AlignSettings { batch: 4, ..all_losses() };
    for accumulate in [1, 2] {
        let whole = run(1 << 20, accumulate, align);
        for (a, b) in run(300, accumulate, align).iter().zip(&whole) {
            assert!((a - b).abs() < 5e-4, "{a} {b}");
        }
        assert!(whole[2] != whole[0]);
    }
}

#[test]
fn what_cannot_be_aligned_is_refused() {
    let s = static_setting();
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    let refused = |align: &str, pivot: &str, langs: &[Lang]| {
        let mut builder = ParallelBuilder::new(&*s.encoder, Lang::parse(pivot).unwrap(), langs);
        builder.add_train(&s.collection, Scenario::Mixture, &policies);
        let parallel = builder.finish(None).unwrap();
        let mut settings = AlignSettings::default();
        settings.set_weights(align).unwrap();
        let settings = Settings { align: Some(settings), ..Settings::default() };
        let encoder = s.encoder.clone();
        let made = Trainer::with_parallel(encoder, &s.examples, &s.texts, settings, Some(&parallel), false);
        made.err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(refused("jsd=1", "en", &s.langs), "");
    assert!(refused("distil=1", "en", &s.langs).contains("--teacher"));
    assert!(refused("jsd=1", "en", &s.langs[..1]).contains("there are none"));
    assert!(refused("distil=1", "xx", &s.langs).contains("--parallel"));
}
