//! Transformers against PyTorch: vectors, gradients and training runs recorded by tools/make_encoder_fixtures.py.

#![allow(clippy::unwrap_used)]

use polygrade_encoder::{TransformerEncoder, TransformerLearner, TransformerTraining};
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::{Transpose, matmul};
use polygrade_nn::optim::AdamW;
use polygrade_nn::{Cpu, Matrix};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;

const CASES: [&str; 5] = ["bert", "xlm-roberta", "roberta", "modernbert", "bert-gelu-new"];

struct Case {
    name: &'static str,
    dir: PathBuf,
    about: Value,
    bytes: Vec<u8>,
}

impl Case {
    fn open(name: &'static str) -> Case {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoders").join(name);
        let about = serde_json::from_slice(&std::fs::read(dir.join("expected.json")).unwrap()).unwrap();
        let bytes = std::fs::read(dir.join("expected.safetensors")).unwrap();
        Case { name, dir, about, bytes }
    }

    fn expected(&self, tensor: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors.tensor(tensor).unwrap();
        view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn gradients(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.names().into_iter().filter_map(|n| n.strip_prefix("grad.")).map(str::to_owned).collect()
    }

    fn texts(&self) -> Vec<String> {
        serde_json::from_value(self.about["texts"].clone()).unwrap()
    }

    fn load(&self) -> TransformerEncoder {
        TransformerEncoder::load(&self.dir).unwrap()
    }

    fn bags(&self, encoder: &TransformerEncoder) -> Bags {
        encoder.tokenizer().bags(&self.texts()).unwrap()
    }

    /// The texts that the lists under `key` name: queries, then passages.
    fn batch(&self, bags: &Bags, at: &Value) -> (Bags, usize) {
        let list = |key: &str| -> Vec<usize> { serde_json::from_value(at[key].clone()).unwrap() };
        let (queries, passages) = (list("queries"), list("passages"));
        let mut out = Bags::new();
        queries.iter().chain(&passages).for_each(|i| out.push(bags.get(*i)));
        (out, queries.len())
    }
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Cross-entropy of the scores over the temperature, the diagonal being right; with ∂L/∂vectors.
fn info_nce(vectors: &Matrix, queries: usize, temperature: f64) -> (f64, Matrix) {
    let cols = vectors.cols;
    let q = Matrix::new(cols, vectors.data[..queries * cols].to_vec());
    let p = Matrix::new(cols, vectors.data[queries * cols..].to_vec());
    let mut scores = Matrix::default();
    matmul(&q, &p, Transpose::Right, false, &mut scores);
    let (mut loss, n) = (0.0, queries as f64);
    for i in 0..queries {
        let row = scores.row_mut(i);
        let logits: Vec<f64> = row.iter().map(|s| f64::from(*s) / temperature).collect();
        let top = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|l| (l - top).exp()).sum();
        loss += (sum.ln() + top - logits[i]) / n;
        for (j, s) in row.iter_mut().enumerate() {
            let target = if i == j { 1.0 } else { 0.0 };
            *s = (((logits[j] - top).exp() / sum - target) / temperature / n) as f32;
        }
    }
    let (mut gq, mut gp) = (Matrix::default(), Matrix::default());
    matmul(&scores, &p, Transpose::None, false, &mut gq);
    matmul(&scores, &q, Transpose::Left, false, &mut gp);
    gq.data.extend_from_slice(&gp.data);
    (loss, gq)
}

#[test]
fn tokens_are_those_of_the_library() {
    for name in CASES {
        let case = Case::open(name);
        let encoder = case.load();
        let bags = case.bags(&encoder);
        let tokens: Vec<u32> = case.expected("tokens").iter().map(|v| v.to_bits()).collect();
        let offsets: Vec<usize> = case.expected("offsets").iter().map(|v| v.to_bits() as usize).collect();
        assert_eq!((bags.tokens, bags.offsets), (tokens, offsets), "{name}");
    }
}

#[test]
fn vectors_equal_those_of_pytorch() {
    for name in CASES {
        let case = Case::open(name);
        let encoder = case.load();
        let bags = case.bags(&encoder);
        let vectors = encoder.encode_bags(&bags, true);
        let far = furthest(&vectors.data, &case.expected("sentence"));
        assert!(far < 1e-5, "{name}: {far}");
        // Alone, at one thread, and beside other texts a text has the same bits.
        assert_eq!(encoder.encode_bags(&bags, false), vectors, "{name}: at one thread");
        for i in 0..bags.len() {
            let mut one = Bags::new();
            one.push(bags.get(i));
            assert_eq!(encoder.encode_bags(&one, true).data, vectors.row(i), "{name}: text {i} alone");
        }
    }
}

#[test]
fn gradients_equal_those_of_pytorch() {
    for name in CASES {
        let case = Case::open(name);
        let encoder = case.load();
        let (texts, queries) = case.batch(&case.bags(&encoder), &case.about["gradient"]);
        let temperature = case.about["gradient"]["temperature"].as_f64().unwrap();
        let mut recorded: Option<Vec<f32>> = None;
        // In one pass; with layers run again; and by GradCache, in micro-batches of a few texts.
        for (tokens, recompute) in [(1 << 20, false), (1 << 20, true), (50, false)] {
            let settings =
                TransformerTraining { dropout: false, tokens, recompute, ..TransformerTraining::default() };
            // The recorded loss is over unit vectors.
            let mut unit = encoder.clone();
            unit.normalize();
            let mut learner = TransformerLearner::new(unit, settings, true);
            let (loss, grad) = info_nce(learner.forward(&texts, 1), queries, temperature);
            let want = f64::from(case.expected("loss")[0]);
            assert!((loss - want).abs() < 1e-4 * want.max(1.0), "{name}: loss {loss}, recorded {want}");
            learner.backward(&texts, &grad);
            let mut names = case.gradients();
            names.sort();
            assert!(names.len() > 15);
            let mut all = Vec::new();
            for tensor in &names {
                let stem = tensor.trim_start_matches("roberta.").trim_start_matches("bert.");
                let stem = stem
                    .replace("LayerNorm.gamma", "LayerNorm.weight")
                    .replace("LayerNorm.beta", "LayerNorm.bias");
                let got = learner.gradient(&stem).unwrap_or_else(|| panic!("{name}: no gradient of {stem}"));
                let want = case.expected(&format!("grad.{tensor}"));
                // Recorded tables of positions end after the last one in use.
                let (got, rest) = got.split_at(want.len());
                assert!(rest.iter().all(|g| *g == 0.0));
                let scale = want.iter().map(|w| w.abs()).fold(0.0f32, f32::max);
                let far = furthest(got, &want);
                // A key's bias shifts all scores of a query alike: its gradient is 0 but for rounding.
                let bound = if stem.ends_with("key.bias") { 1e-5 } else { 1e-4 * scale };
                assert!(far <= bound, "{name}: {stem} differs by {far}, largest value {scale}");
                all.extend_from_slice(got);
            }
            let first = recorded.get_or_insert_with(|| all.clone());
            assert!(!recompute || *first == all, "{name}: layers run again give the same bits");
            let far = furthest(first, &all);
            let scale = all.iter().map(|w| w.abs()).fold(0.0f32, f32::max);
            assert!(far <= 1e-6 * scale.max(1.0), "{name}: micro-batches differ by {far}");
        }
    }
}

#[test]
fn training_follows_pytorch() {
    for name in ["bert", "xlm-roberta", "modernbert"] {
        let case = Case::open(name);
        let encoder = case.load();
        let bags = case.bags(&encoder);
        let about = &case.about["training"];
        let number = |key: &str| about[key].as_f64().unwrap();
        let settings = TransformerTraining {
            dropout: false,
            clip: number("max_grad_norm") as f32,
            ..TransformerTraining::default()
        };
        let adam = AdamW { weight_decay: number("weight_decay") as f32, ..AdamW::default() };
        let mut learner = TransformerLearner::new(encoder, settings, true);
        let batches = about["batches"].as_array().unwrap();
        let losses = case.expected("train_loss");
        for (step, want) in losses.iter().enumerate() {
            let (texts, queries) = case.batch(&bags, &batches[step % batches.len()]);
            let step = step as u64 + 1;
            let (loss, grad) = info_nce(learner.forward(&texts, step), queries, number("temperature"));
            assert!((loss - f64::from(*want)).abs() < 1e-3, "{name} step {step}: {loss}, recorded {want}");
            learner.backward(&texts, &grad);
            let rate = number("lr") * (1.0 - (step - 1) as f64 / losses.len() as f64);
            learner.step(adam, rate as f32, step);
        }
        let trained = learner.encoder().encode_bags(&bags, true);
        let far = furthest(&trained.data, &case.expected("trained_sentence"));
        assert!(far < 1e-3, "{name}: {far}");
    }
}

#[test]
fn a_saved_model_is_the_same_model() {
    for name in CASES {
        let case = Case::open(name);
        let encoder = case.load();
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("model");
        encoder.save(&to, "# card", polygrade_encoder::checkpoint::Dtype::F32).unwrap();
        let again = TransformerEncoder::load(&to).unwrap();
        assert_eq!(again.fingerprint(), encoder.fingerprint(), "{}", case.name);
        let bags = case.bags(&encoder);
        assert_eq!(again.encode_bags(&bags, true), encoder.encode_bags(&bags, true));
    }
}

#[test]
fn old_and_new_key_names_mean_the_same() {
    let new = Case::open("modernbert");
    let old = new.dir.with_file_name("modernbert-old-keys");
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&new.dir).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    std::fs::remove_file(dir.path().join("modules.json")).unwrap();
    let plain = TransformerEncoder::load_on(dir.path(), &Cpu::new(true)).unwrap();
    std::fs::copy(old.join("config.json"), dir.path().join("config.json")).unwrap();
    let read = TransformerEncoder::load(dir.path()).unwrap();
    assert_eq!(read.spec(), plain.spec());
}

#[test]
fn texts_without_tokens_give_zeros_and_no_gradient() {
    let case = Case::open("bert");
    let encoder = case.load();
    let bags = case.bags(&encoder);
    let mut texts = Bags::new();
    [&[][..], bags.get(3), &[], &[], bags.get(4)].into_iter().for_each(|t| texts.push(t));
    let vectors = encoder.encode_bags(&texts, true);
    assert!([0, 2, 3].iter().all(|i| vectors.row(*i).iter().all(|v| *v == 0.0)));
    assert_eq!(vectors.row(4), encoder.encode_bags(&bags, true).row(4));
    for tokens in [1 << 20, 1] {
        let settings = TransformerTraining { tokens, ..TransformerTraining::default() };
        let mut learner = TransformerLearner::new(encoder.clone(), settings, true);
        let grad = Matrix::new(36, vec![0.5; 5 * 36]);
        learner.forward(&texts, 1);
        learner.backward(&texts, &grad);
        assert!(learner.step(AdamW::default(), 1e-3, 1).is_finite() && learner.encoder().is_finite());
    }
    let mut none = Bags::new();
    none.push(&[]);
    assert_eq!(encoder.encode_bags(&none, true).data, [0.0; 36]);
}

#[test]
fn a_tokeniser_that_does_not_fit_is_refused() {
    let from = Case::open("bert").dir;
    let with = |edit: &dyn Fn(&std::path::Path)| {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&from).unwrap().map(|e| e.unwrap()).filter(|e| e.path().is_file()) {
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        std::fs::remove_file(dir.path().join("modules.json")).unwrap();
        edit(dir.path());
        TransformerEncoder::load(dir.path()).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let swap = |dir: &std::path::Path, file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(dir.join(file)).unwrap();
        assert!(text.contains(from), "{file} holds {from}");
        std::fs::write(dir.join(file), text.replace(from, to)).unwrap();
    };
    assert_eq!(with(&|_| ()), "");
    let short = with(&|d| {
        swap(d, "config.json", "\"max_position_embeddings\": 512", "\"max_position_embeddings\": 2")
    });
    assert!(short.contains("special tokens") || short.contains("shape"), "{short}");
    let few = with(&|d| swap(d, "config.json", "\"vocab_size\": 400", "\"vocab_size\": 300"));
    assert!(few.contains("tokens") && few.contains("300"), "{few}");
    let unknown = with(&|d| swap(d, "config.json", "\"model_type\": \"bert\"", "\"model_type\": \"mamba\""));
    assert!(unknown.contains("mamba") && unknown.contains("xlm-roberta"), "{unknown}");
    let wide = with(&|d| swap(d, "config.json", "\"hidden_size\": 36", "\"hidden_size\": 30000"));
    assert!(wide.contains("embeddings.word_embeddings.weight") && wide.contains("30000"), "{wide}");
    let gone = with(&|d| std::fs::remove_file(d.join("tokenizer.json")).unwrap());
    assert!(gone.contains("tokenizer.json") && gone.contains("save_pretrained"), "{gone}");
}
