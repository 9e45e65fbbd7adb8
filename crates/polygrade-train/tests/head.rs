//! Heads on frozen encoders: gradients, the trainer's promises, and what is saved.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Lang, Split};
use polygrade_encoder::checkpoint::Dtype;
use polygrade_encoder::{
    Encoder, FrozenEncoder, FrozenLearner, HeadKind, HeadSettings, NewStatic, NewStaticBase, TextEncoder,
    TextKind,
};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_train::{
    AlignSettings, Examples, LabelPolicies, Loss, Policy, Scenario, Settings, TokenizedCollection, Trainer,
};
use std::path::Path;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture(name: &str) -> Encoder {
    Encoder::load(&root().join("crates/polygrade-encoder/tests/fixtures/encoders").join(name)).unwrap()
}

fn static_encoder(collection: &Collection, projection: Option<usize>) -> Encoder {
    let texts: Vec<&str> = collection.passages.iter().map(|p| p.text.as_str()).collect();
    let documents: Vec<u32> = (0..texts.len() as u32).collect();
    let settings = NewStatic { vocab_size: 2000, dim: 24, projection, ..NewStatic::default() };
    NewStaticBase::new(&texts, &documents, &settings).unwrap().encoder(1).into()
}

const LINEAR: HeadSettings = HeadSettings { kind: HeadKind::Linear, dim: None, seed: 3 };
const MLP: HeadSettings = HeadSettings { kind: HeadKind::Mlp, ..LINEAR };

fn mini() -> Collection {
    Collection::load(&root().join("collections/mini")).unwrap()
}

/// Every head that an encoder can have.
fn heads(encoder: &Encoder) -> Vec<HeadSettings> {
    let narrow = |s: HeadSettings| HeadSettings { dim: Some(12), ..s };
    match encoder {
        Encoder::Static(_) => vec![LINEAR, narrow(LINEAR)],
        Encoder::Transformer(_) => {
            vec![LINEAR, narrow(LINEAR), MLP, narrow(MLP), HeadSettings { dim: Some(50), ..MLP }]
        }
    }
}

const TEXTS: [&str; 4] = ["Where is the river?", "", "the old mill and the café", "Старая река"];

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn a_head_begins_as_the_encoder_itself() {
    let collection = mini();
    for encoder in [
        fixture("bert"),
        fixture("modernbert"),
        fixture("roberta"),
        static_encoder(&collection, None),
        static_encoder(&collection, Some(16)),
    ] {
        let bags = encoder.tokenize(&TEXTS, TextKind::Passage).unwrap();
        let mut unit = encoder.clone();
        unit.normalize();
        let expected = unit.encode_bags(&bags, false);
        for head in heads(&encoder).into_iter().filter(|h| h.dim.is_none()) {
            let (frozen, named) = FrozenEncoder::new(encoder.clone(), &[&bags], head, false).unwrap();
            let far = furthest(&frozen.encode_bags(&named[0], false).data, &expected.data);
            assert!(far < 1e-6, "{} {head:?}: {far}", encoder.kind());
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let encoder = fixture("bert");
    let bags = encoder.tokenize(&TEXTS, TextKind::Passage).unwrap();
    for head in heads(&encoder) {
        let (frozen, named) = FrozenEncoder::new(encoder.clone(), &[&bags], head, false).unwrap();
        let mut learner = FrozenLearner::new(frozen, 0.0, false);
        // Away from the start, where half of ReLU's inputs would be exactly at its corner.
        let mut place = 0;
        while let Some((_, mut values)) = learner.gradient(place) {
            values
                .iter_mut()
                .enumerate()
                .for_each(|(i, v)| *v += 0.05 * ((i * 37 % 101) as f32 / 50.0 - 1.0));
            learner.set(place, &values);
            place += 1;
        }
        // L = Σ c·y with fixed c.
        let dim = learner.encoder().dim();
        let weight: Vec<f32> = (0..TEXTS.len() * dim).map(|i| ((i * 29 % 83) as f32 / 41.0) - 1.0).collect();
        let loss = |l: &mut FrozenLearner| -> f64 {
            let y = l.forward(&named[0]);
            y.data.iter().zip(&weight).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum()
        };
        loss(&mut learner);
        learner.backward(&Matrix::new(dim, weight.clone()));
        for place in 0..place {
            let (gradient, values) = learner.gradient(place).unwrap();
            let largest = gradient.iter().fold(0f32, |m, g| m.max(g.abs()));
            assert!(largest > 0.0);
            for i in (0..values.len()).step_by(values.len() / 23 + 1) {
                let mut at = |delta: f32| {
                    let mut moved = values.clone();
                    moved[i] += delta;
                    learner.set(place, &moved);
                    loss(&mut learner)
                };
                let numeric = (at(2e-3) - at(-2e-3)) / 4e-3;
                learner.set(place, &values);
                let far = (numeric - f64::from(gradient[i])).abs();
                assert!(
                    far < 2e-2 * f64::from(largest) + 1e-4,
                    "{head:?} {place} {i}: {numeric} {}",
                    gradient[i]
                );
            }
        }
    }
}

struct Setting {
    collection: Collection,
    encoder: Encoder,
    tokens: TokenizedCollection,
    examples: Examples,
}

fn setting(encoder: impl Fn(&Collection) -> Encoder) -> Setting {
    let collection = mini();
    let langs: Vec<Lang> = ["en", "sw"].iter().map(|l| Lang::parse(l).unwrap()).collect();
    let encoder = encoder(&collection);
    let graded = collection.graded(Split::Train);
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    Setting {
        tokens: TokenizedCollection::new(&collection, &*encoder).unwrap(),
        examples: Examples::new(&collection, &graded, Scenario::Mixture, &langs, &policies),
        encoder,
        collection,
    }
}

impl Setting {
    fn frozen(&self, head: HeadSettings) -> (FrozenEncoder, TokenizedCollection) {
        let own = |lang: &Lang| ["en", "sw"].contains(&lang.as_str());
        let query = |q: u32| own(&self.collection.queries[q as usize].lang);
        let passage = |p: u32| own(&self.collection.passages[p as usize].lang);
        self.tokens.frozen(self.encoder.clone(), head, query, passage, true).unwrap()
    }

    fn settings(&self) -> Settings {
        Settings { epochs: 3, rate: 0.01, ..Settings::for_head(&self.encoder) }
    }
}

#[test]
fn runs_depend_on_neither_threads_nor_stops_and_what_is_saved_is_what_was_trained() {
    for (s, head) in [
        (setting(|_| fixture("bert")), HeadSettings { dim: Some(20), ..MLP }),
        (setting(|c| static_encoder(c, Some(16))), LINEAR),
    ] {
        let (frozen, texts) = s.frozen(head);
        let before = s.encoder.fingerprint();
        let new = |threads: bool| {
            Trainer::with_head(frozen.clone(), &s.examples, &texts, s.settings(), threads).unwrap()
        };
        let mut whole = new(false);
        let mut losses = Vec::new();
        while let Some(report) = whole.next_step() {
            losses.push(report.loss);
        }
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        // The transformer's weights are random: a few steps on it lead nowhere.
        let learns = mean(&losses[losses.len() - 4..]) < mean(&losses[..4]);
        assert!(learns || s.encoder.kind() == "bert", "{} {losses:?}", s.encoder.kind());
        let bits = whole.encoder().fingerprint();
        assert!(bits != frozen.fingerprint());
        for n in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            let run = || {
                let mut trainer = new(true);
                trainer.run();
                trainer.encoder().fingerprint()
            };
            assert!(pool.install(run) == bits, "{n} threads");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        for stop in [1, whole.total() / 2] {
            let mut first = new(true);
            (0..stop).for_each(|_| assert!(first.next_step().is_some()));
            first.save_checkpoint(&path).unwrap();
            let mut second = new(true);
            second.resume(&path).unwrap();
            second.run();
            assert!(second.encoder().fingerprint() == bits, "stopped after {stop}");
        }
        let other = HeadSettings { seed: 4, ..head };
        let (other, _) = s.frozen(other);
        let mut other = Trainer::with_head(other, &s.examples, &texts, s.settings(), true).unwrap();
        assert_eq!(other.resume(&path).unwrap_err().exit_code(), 1, "another head's checkpoint");

        // Whole again, saved and loaded: the vectors of training, from tokens.
        let wanted: Vec<usize> = (0..s.collection.passages.len())
            .filter(|p| !texts.passages.get(*p).is_empty())
            .take(40)
            .collect();
        let some = |bags: &Bags| {
            let mut out = Bags::new();
            wanted.iter().for_each(|p| out.push(bags.get(*p)));
            out
        };
        let trained = whole.encoder().encode_bags(&some(&texts.passages), true);
        assert_eq!(trained.cols, head.dim.unwrap_or(16));
        let model = whole.into_encoder();
        let folder = dir.path().join("model");
        model.save(&folder, "", Dtype::F32).unwrap();
        let loaded = Encoder::load(&folder).unwrap();
        assert!(loaded.normalizes());
        for encoder in [&model, &loaded] {
            let far = furthest(&encoder.encode_bags(&some(&s.tokens.passages), true).data, &trained.data);
            assert!(far < 2e-6, "{far}");
        }
        assert_eq!(s.encoder.fingerprint(), before);
    }
}

#[test]
fn every_loss_trains_a_head() {
    let s = setting(|c| static_encoder(c, None));
    let (frozen, texts) = s.frozen(LINEAR);
    // Those of a teacher's scores want such.
    for loss in Loss::ALL.into_iter().filter(|l| !matches!(l, Loss::Kl | Loss::MarginMse)) {
        let settings = Settings { steps: Some(3), ..s.settings().with_loss(loss) };
        let mut trainer = Trainer::with_head(frozen.clone(), &s.examples, &texts, settings, true).unwrap();
        trainer.run();
        assert!(
            trainer.encoder().is_finite() && trainer.encoder().fingerprint() != frozen.fingerprint(),
            "{loss:?}"
        );
    }
}

#[test]
fn what_does_not_go_with_a_head_is_refused() {
    let s = setting(|c| static_encoder(c, None));
    let bags = s.encoder.tokenize(&TEXTS, TextKind::Passage).unwrap();
    let mlp = FrozenEncoder::new(s.encoder.clone(), &[&bags], MLP, false);
    assert_eq!(mlp.map(|_| ()).unwrap_err().exit_code(), 2);
    let (frozen, texts) = s.frozen(LINEAR);
    let settings = Settings { align: Some(AlignSettings::default()), ..s.settings() };
    let aligned = Trainer::with_head(frozen.clone(), &s.examples, &texts, settings, true);
    assert_eq!(aligned.map(|_| ()).unwrap_err().exit_code(), 2);
    assert!(frozen.encode(&TEXTS, TextKind::Passage).is_err(), "it knows no texts, only their numbers");
    let mut cut = fixture("bert");
    if let Encoder::Transformer(e) = &mut cut {
        e.truncate(8);
    }
    assert_eq!(FrozenEncoder::new(cut, &[&bags], LINEAR, false).map(|_| ()).unwrap_err().exit_code(), 2);
}
