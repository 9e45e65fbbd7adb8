//! LoRA: adapters of PEFT give PEFT's vectors, gradients are those of finite differences, training moves adapters
//! alone, and what is saved is what was trained.

#![allow(clippy::unwrap_used)]

use polygrade_data::Result;
use polygrade_encoder::checkpoint::{Dtype, write_safetensors};
use polygrade_encoder::{
    Encoder, Learner, LoraSettings, StepSettings, TextEncoder, TransformerEncoder, TransformerLearner,
    TransformerTraining,
};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::optim::AdamW;
use polygrade_nn::rng::CounterRng;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoders").join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The tensors of a safetensors file.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    file.iter().map(|(n, v)| (n.to_owned(), (v.shape().to_vec(), values(v.data())))).collect()
}

fn texts(name: &str) -> Vec<String> {
    serde_json::from_value(read_json(&fixture(name).join("expected.json"))["texts"].clone()).unwrap()
}

/// A base with its texts, packed.
fn base(name: &str) -> (TransformerEncoder, Bags) {
    let encoder = TransformerEncoder::load(&fixture(name)).unwrap();
    let bags = encoder.tokenizer().bags(&texts(name)[1..14]).unwrap();
    (encoder, bags)
}

fn settings() -> TransformerTraining {
    TransformerTraining { dropout: false, clip: 0.0, ..TransformerTraining::default() }
}

fn lora(r: usize, alpha: f32, targets: &[&str]) -> LoraSettings {
    LoraSettings { r, alpha, targets: targets.iter().map(|t| (*t).to_owned()).collect() }
}

/// ½ Σ (v − t)² with random t, and its gradient.
fn loss(vectors: &Matrix) -> (f64, Matrix) {
    let rng = CounterRng::new(5);
    let off = |(i, v): (usize, &f32)| f64::from(*v) - rng.normal(i as u64);
    let offs: Vec<f64> = vectors.data.iter().enumerate().map(off).collect();
    let grad = Matrix::new(vectors.cols, offs.iter().map(|o| *o as f32).collect());
    (offs.iter().map(|o| o * o / 2.0).sum(), grad)
}

fn step(learner: &mut TransformerLearner, bags: &Bags, step: u64) -> f64 {
    let (loss, grad) = loss(learner.forward(bags, step));
    learner.backward(bags, &grad);
    learner.step(AdamW { weight_decay: 0.01, ..AdamW::default() }, 1e-2, step);
    loss
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

type Pairs = BTreeMap<String, (Vec<f32>, Vec<f32>)>;

/// A and B of the given modules.
fn pairs(learner: &TransformerLearner, modules: &[String]) -> Pairs {
    let get = |m: &str, kind: &str| learner.adapter_tensor(&format!("{m}.lora_{kind}.weight")).unwrap();
    modules.iter().map(|m| (m.clone(), (get(m, "A"), get(m, "B")))).collect()
}

/// An adapter as PEFT would have written it.
fn write_adapter(dir: &Path, r: usize, alpha: f32, pairs: &Pairs) {
    let mut out = Vec::new();
    for (module, (a, b)) in pairs {
        let name = |kind: &str| format!("base_model.model.{module}.lora_{kind}.weight");
        out.push((name("A"), vec![r, a.len() / r], a));
        out.push((name("B"), vec![b.len() / r, r], b));
    }
    write_safetensors(&dir.join("adapter_model.safetensors"), out, Dtype::F32, &[]).unwrap();
    let config = json!({"peft_type": "LORA", "r": r, "lora_alpha": alpha, "target_modules": ["any"]});
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            copy_dir(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

#[test]
fn an_adapter_of_peft_gives_its_vectors() {
    let want = tensors(&fixture("bert-lora").join("expected.safetensors"))["sentence"].1.clone();
    let mut added = TransformerEncoder::load(&fixture("bert")).unwrap();
    let bags = added.tokenizer().bags(&texts("bert-lora")).unwrap();
    let plain = added.encode_bags(&bags, true);
    added.apply_adapter(&fixture("bert-lora")).unwrap();
    let loaded = TransformerEncoder::load(&fixture("bert-lora")).unwrap();
    for encoder in [&added, &loaded] {
        let far = furthest(&encoder.encode_bags(&bags, true).data, &want);
        assert!(far < 1e-5, "{far}");
    }
    assert!(furthest(&plain.data, &want) > 0.05);
    assert_eq!(added.fingerprint(), loaded.fingerprint());
}

/// The targets of two architectures, and the modules that they mean.
fn cases() -> [(&'static str, LoraSettings, Vec<String>); 2] {
    let of = |layers: usize, stem: &str, names: &[&str]| -> Vec<String> {
        (0..layers).flat_map(|i| names.iter().map(move |n| format!("{stem}.{i}.{n}"))).collect()
    };
    let bert = ["attention.self.query", "attention.self.value", "attention.output.dense", "output.dense"];
    let modern = ["attn.Wqkv", "attn.Wo", "mlp.Wo"];
    [
        (
            "bert",
            lora(3, 7.0, &["query", "attention.self.value", "output.dense"]),
            of(3, "encoder.layer", &bert),
        ),
        ("modernbert", lora(2, 5.0, &["Wqkv", "Wo"]), of(4, "layers", &modern)),
    ]
}

#[test]
fn gradients_are_those_of_finite_differences_and_follow_from_the_dense_ones() {
    for (name, lora, modules) in cases() {
        let (encoder, bags) = base(name);
        let mut learner = TransformerLearner::with_lora(encoder.clone(), settings(), &lora, true).unwrap();
        // B is zero at first, and with it the gradient of A.
        (1..4).for_each(|i| {
            step(&mut learner, &bags, i);
        });
        let now = pairs(&learner, &modules);
        let (_, grad) = loss(learner.forward(&bags, 4));
        learner.backward(&bags, &grad);
        let gradient = |m: &str, kind: &str| learner.gradient(&format!("{m}.lora_{kind}.weight")).unwrap();

        let mut dense = TransformerLearner::new(learner.encoder().clone(), settings(), true);
        dense.forward(&bags, 4);
        dense.backward(&bags, &grad);
        let scale = f64::from(lora.alpha) / lora.r as f64;
        for module in &modules {
            let weight = format!("{module}.weight");
            let dw = dense.gradient(&weight).unwrap();
            assert_eq!(learner.gradient(&weight).unwrap(), dw);
            let (a, b) = &now[module];
            let (inputs, outputs, r) = (a.len() / lora.r, b.len() / lora.r, lora.r);
            let f = |v: &[f32], i: usize| f64::from(v[i]);
            let da = |k: usize, i: usize| {
                scale * (0..outputs).map(|o| f(b, o * r + k) * f(&dw, o * inputs + i)).sum::<f64>()
            };
            let db = |o: usize, k: usize| {
                scale * (0..inputs).map(|i| f(&dw, o * inputs + i) * f(a, k * inputs + i)).sum::<f64>()
            };
            let want_a: Vec<f32> = (0..r * inputs).map(|x| da(x / inputs, x % inputs) as f32).collect();
            let want_b: Vec<f32> = (0..outputs * r).map(|x| db(x / r, x % r) as f32).collect();
            for (got, want) in [(gradient(module, "A"), want_a), (gradient(module, "B"), want_b)] {
                let top = want.iter().fold(0.0f32, |m, w| m.max(w.abs()));
                assert!(top > 0.0 && furthest(&got, &want) < 1e-5 * top, "{name}: {module}");
            }
        }

        // Along the gradient the loss must rise by its length, and that only if its direction is right.
        let dir = tempfile::tempdir().unwrap();
        for kind in ["A", "B"] {
            let grads: Vec<Vec<f32>> = modules.iter().map(|m| gradient(m, kind)).collect();
            let length = grads.iter().flatten().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let h = 1e-2;
            let at = |by: f64| {
                let mut moved = now.clone();
                for (module, grad) in modules.iter().zip(&grads) {
                    let pair = moved.get_mut(module).unwrap();
                    let values = if kind == "A" { &mut pair.0 } else { &mut pair.1 };
                    let along = grad.iter().map(|g| (f64::from(*g) / length * by) as f32);
                    values.iter_mut().zip(along).for_each(|(v, a)| *v += a);
                }
                write_adapter(dir.path(), lora.r, lora.alpha, &moved);
                let mut encoder = encoder.clone();
                encoder.apply_adapter(dir.path()).unwrap();
                loss(&encoder.encode_bags(&bags, true)).0
            };
            // Of fourth order.
            let rise = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            assert!((rise / length - 1.0).abs() < 2e-3, "{name}: {kind} rises by {rise}, gradient {length}");
        }
    }
}

#[test]
fn training_moves_the_adapters_alone_and_what_is_saved_is_what_was_trained() {
    for (name, lora, modules) in cases() {
        let (encoder, bags) = base(name);
        let mut learner = TransformerLearner::with_lora(encoder.clone(), settings(), &lora, true).unwrap();
        assert_eq!(learner.encoder().encode_bags(&bags, true), encoder.encode_bags(&bags, true));
        let bounds = |a: &[f32]| {
            let bound = 1.0 / (a.len() as f32 / lora.r as f32).sqrt();
            let most = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(most <= bound && most > 0.9 * bound, "{most} of {bound}");
        };
        pairs(&learner, &modules).values().for_each(|(a, _)| bounds(a));
        let losses: Vec<f64> = (1..=10).map(|i| step(&mut learner, &bags, i)).collect();
        assert!(losses[9] < 0.97 * losses[0], "{name}: {losses:?}");

        for tensor in tensors(&fixture(name).join("model.safetensors")).keys() {
            let Some(before) = encoder.tensor(tensor) else { continue };
            let adapted = modules.iter().any(|m| *tensor == format!("{m}.weight"));
            assert_eq!(learner.encoder().tensor(tensor).unwrap() != before, adapted, "{name}: {tensor}");
        }

        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("adapter");
        learner.save_adapter(&to, "# card").unwrap();
        let saved = tensors(&to.join("adapter_model.safetensors"));
        let now = pairs(&learner, &modules);
        assert_eq!(saved.len(), 2 * now.len());
        for (module, (a, b)) in now {
            assert_eq!(saved[&format!("base_model.model.{module}.lora_A.weight")].1, a);
            assert_eq!(saved[&format!("base_model.model.{module}.lora_B.weight")].1, b);
        }
        let mut added = encoder.clone();
        added.apply_adapter(&to).unwrap();
        let loaded = TransformerEncoder::load(&to).unwrap();
        assert_eq!(loaded.modules().prompts, encoder.modules().prompts);
        for again in [added, loaded] {
            assert_eq!(again.encode_bags(&bags, true), learner.encoder().encode_bags(&bags, true), "{name}");
            assert_eq!(again.fingerprint(), learner.encoder().fingerprint(), "{name}");
        }
        // An adapter of what has an adapter already would have no base to name.
        let twice = TransformerEncoder::load(&to).unwrap();
        let twice = TransformerLearner::with_lora(twice, settings(), &lora, true).unwrap();
        assert!(twice.save_adapter(&dir.path().join("twice"), "").is_err());
    }
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let (name, lora, modules) = &cases()[0];
    let (encoder, bags) = base(name);
    let settings = TransformerTraining { layer_decay: 0.9, ..TransformerTraining::default() };
    let new = |lora: &LoraSettings, threads| {
        Learner::new(Encoder::from(encoder.clone()), &settings, Some(lora), threads).unwrap()
    };
    let run = |learner: &mut Learner, steps: std::ops::RangeInclusive<u64>| {
        for step in steps {
            let (_, mut grad) = loss(learner.forward(&bags, step));
            learner.backward(&bags, &mut grad);
            learner.step(&StepSettings { adam: AdamW::default(), rate: 1e-2, weight_rate: 0.0, step });
        }
    };
    let mut whole = new(lora, true);
    run(&mut whole, 1..=8);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut first = new(lora, false);
    run(&mut first, 1..=3);
    first.save_state(&path, &[]).unwrap();
    let mut second = new(lora, true);
    second.load_state(&path, |_| Ok(())).unwrap();
    run(&mut second, 4..=8);
    let (Learner::Transformer(whole), Learner::Transformer(second)) = (whole, second) else { panic!() };
    assert_eq!(pairs(&whole, modules), pairs(&second, modules));
    assert_eq!(whole.encoder().fingerprint(), second.encoder().fingerprint());

    let mut others = vec![lora.clone(), lora.clone(), lora.clone()];
    others[0].r = 2;
    others[1].alpha = 2.0;
    others[2].targets[0] = "key".into();
    for other in others {
        let error = new(&other, true).load_state(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("another model"), "{error}");
    }
}

#[test]
fn micro_batches_give_the_same_gradients() {
    let (name, lora, modules) = &cases()[0];
    let (encoder, bags) = base(name);
    let gradients = |tokens| {
        let settings = TransformerTraining { tokens, ..TransformerTraining::default() };
        let mut learner = TransformerLearner::with_lora(encoder.clone(), settings, lora, true).unwrap();
        let (_, grad) = loss(learner.forward(&bags, 1));
        learner.backward(&bags, &grad);
        let of = |m: &String| learner.gradient(&format!("{m}.lora_B.weight")).unwrap();
        modules.iter().flat_map(of).collect::<Vec<f32>>()
    };
    let (whole, cut) = (gradients(1 << 20), gradients(50));
    let top = whole.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    assert!(furthest(&whole, &cut) < 1e-6 * top.max(1.0));
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let (encoder, _) = base("bert");
    let error = |lora: &LoraSettings, freeze| {
        let settings = TransformerTraining { freeze, ..settings() };
        TransformerLearner::with_lora(encoder.clone(), settings, lora, true).err().unwrap().to_string()
    };
    let all = "attention.self.query, attention.self.key, attention.self.value, attention.output.dense, \
               intermediate.dense, output.dense";
    for wrong in ["Wqkv", "uery", "word_embeddings", "pooler.dense", ""] {
        let error = error(&lora(4, 8.0, &["query", wrong]), 0);
        assert!(error.contains(&format!("{wrong:?}")) && error.contains(all), "{error}");
    }
    assert!(error(&lora(4, 8.0, &[]), 0).contains(all));
    assert!(error(&lora(0, 8.0, &["query"]), 0).contains("r is 0; give 1 to 36"));
    assert!(error(&lora(37, 8.0, &["query"]), 0).contains("r is 37"));
    assert!(error(&lora(4, f32::NAN, &["query"]), 0).contains("alpha"));
    assert!(error(&lora(4, 8.0, &["query"]), 1).contains("freeze"));
    assert!(
        TransformerLearner::with_lora(encoder.clone(), settings(), &lora(36, 1.0, &["dense"]), true).is_ok()
    );
}

/// What becomes of the fixture when its config is edited.
fn edited(edit: impl Fn(&mut Value)) -> Result<TransformerEncoder> {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("adapter");
    copy_dir(&fixture("bert-lora"), &to);
    let mut config = read_json(&to.join("adapter_config.json"));
    config["base_model_name_or_path"] = fixture("bert").display().to_string().into();
    edit(&mut config);
    std::fs::write(to.join("adapter_config.json"), config.to_string()).unwrap();
    TransformerEncoder::load(&to)
}

#[test]
fn adapters_that_would_give_other_vectors_are_refused() {
    let plain = edited(|_| {}).unwrap().fingerprint();
    for (key, value) in [
        ("peft_type", json!("LOHA")),
        ("use_dora", json!(true)),
        ("use_something_new", json!(true)),
        ("velora_config", json!({"rank": 1})),
        ("fan_in_fan_out", json!(true)),
        ("rank_pattern", json!({"query": 2})),
        ("alpha_pattern", json!({"query": 2})),
        ("modules_to_save", json!(["pooler"])),
        ("bias", json!("all")),
        ("lora_bias", json!(true)),
        ("target_modules", json!("encoder.*query")),
        ("init_lora_weights", json!("pissa")),
        ("layer_replication", json!([[0, 1]])),
        ("r", json!(0)),
        ("r", json!(5)),
        ("r", json!(null)),
        ("lora_alpha", json!("8")),
        ("base_model_name_or_path", json!(null)),
    ] {
        let error = edited(|c| c[key] = value.clone()).unwrap_err().to_string();
        assert!(error.contains("adapter_") && error.contains("mend"), "{key}: {error}");
        assert!(error.contains(key) || error.contains("lora_A"), "{key}: {error}");
    }
    for (key, value) in [
        ("lora_dropout", json!(0.3)),
        ("init_lora_weights", json!("gaussian")),
        ("loftq_config", json!({"bits": 4})),
        ("modules_to_save", json!([])),
        ("task_type", json!(null)),
    ] {
        assert_eq!(edited(|c| c[key] = value.clone()).unwrap().fingerprint(), plain, "{key}");
    }
    // alpha/√r: with 4 in place of 8 and r = 4 the same product.
    let root = edited(|c| (c["use_rslora"], c["lora_alpha"]) = (true.into(), 4.into())).unwrap();
    assert_eq!(root.fingerprint(), plain);
    let error = edited(|c| c["base_model_name_or_path"] = "no/such-model".into()).unwrap_err().to_string();
    assert!(error.contains("no/such-model") && error.contains("the adapter in"), "{error}");
}

#[test]
fn tensors_are_found_under_any_prefix_and_wrong_ones_refused() {
    let from = tensors(&fixture("bert-lora").join("adapter_model.safetensors"));
    let (encoder, _) = base("bert");
    let apply = |edit: &dyn Fn(&str) -> Option<String>, extra: &[(&str, [usize; 2])]| {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(&fixture("bert-lora"), dir.path());
        let mut out: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for (name, (shape, values)) in &from {
            out.extend(edit(name).map(|name| (name, shape.clone(), values.clone())));
        }
        out.extend(extra.iter().map(|(n, s)| ((*n).to_owned(), s.to_vec(), vec![0.5; s[0] * s[1]])));
        write_safetensors(&dir.path().join("adapter_model.safetensors"), out, Dtype::F32, &[]).unwrap();
        let mut encoder = encoder.clone();
        let before = encoder.fingerprint();
        let result = encoder.apply_adapter(dir.path());
        assert!(result.is_ok() || encoder.fingerprint() == before);
        result.map(|()| encoder.fingerprint()).map_err(|e| e.to_string())
    };
    let same = |name: &str| Some(name.to_owned());
    let plain = apply(&same, &[]).unwrap();
    assert_eq!(apply(&|n| n.strip_prefix("base_model.model.").map(str::to_owned), &[]).unwrap(), plain);
    assert_eq!(apply(&|n| Some(n.replace(".encoder", ".bert.encoder")), &[]).unwrap(), plain);
    // AutoModel has a pooler, which "dense" means too, and no vector depends on.
    let pooler = "base_model.model.pooler.dense.lora_A.weight";
    assert_eq!(apply(&same, &[(pooler, [4, 36])]).unwrap(), plain);

    let error =
        apply(&|n| (!n.contains("0.attention.self.query.lora_B")).then(|| n.into()), &[]).unwrap_err();
    assert!(error.contains("lacks lora_B of \"encoder.layer.0.attention.self.query\""), "{error}");
    let other = "encoder.layer.9.attention.self.query.lora_A.weight";
    let error = apply(&same, &[(other, [4, 36])]).unwrap_err();
    assert!(error.contains("no matrix of the model; it has attention.self.query"), "{error}");
    let table = "base_model.model.embeddings.word_embeddings.lora_embedding_A";
    let error = apply(&same, &[(table, [4, 36])]).unwrap_err();
    assert!(error.contains("no lora_A or lora_B"), "{error}");
    let twice = "encoder.layer.0.attention.self.query.lora_A.weight";
    let error = apply(&same, &[(twice, [4, 36])]).unwrap_err();
    assert!(error.contains("with and without"), "{error}");
    assert!(apply(&|_| None, &[]).unwrap_err().contains("adapts no matrix"));
}

#[test]
fn a_missing_file_is_named() {
    let (mut encoder, _) = base("bert");
    let dir = tempfile::tempdir().unwrap();
    let error = encoder.apply_adapter(dir.path()).unwrap_err().to_string();
    assert!(error.contains("adapter_config.json: is missing"), "{error}");
    std::fs::copy(fixture("bert-lora").join("adapter_config.json"), dir.path().join("adapter_config.json"))
        .unwrap();
    std::fs::write(dir.path().join("adapter_model.bin"), "").unwrap();
    let error = encoder.apply_adapter(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("adapter_model.safetensors: is missing") && error.contains("save_pretrained"),
        "{error}"
    );
    let plain = TransformerLearner::new(encoder, settings(), true);
    assert!(plain.save_adapter(&dir.path().join("x"), "").unwrap_err().to_string().contains("without LoRA"));
}

#[test]
fn an_adapter_folder_of_sentence_transformers_has_its_own_modules() {
    // The base pools without scaling; the run scales, and so must the saved adapter.
    let (mut encoder, bags) = base("bert-gelu-new");
    assert!(!encoder.normalizes());
    encoder.normalize();
    let lora = lora(2, 4.0, &["query"]);
    let mut learner = TransformerLearner::with_lora(encoder, settings(), &lora, true).unwrap();
    step(&mut learner, &bags, 1);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("adapter");
    learner.save_adapter(&to, "").unwrap();
    let loaded = Encoder::load(&to).unwrap();
    assert!(loaded.normalizes());
    assert_eq!(loaded.encode_bags(&bags, true), learner.encoder().encode_bags(&bags, true));
    assert_eq!(TextEncoder::kind(learner.encoder()), loaded.kind());
}
