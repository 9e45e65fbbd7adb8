//! Our side of tools/check_lora.py: prints texts and their vectors as JSON, those of a model, or those after an
//! adapter was trained for a few steps and saved.
//!
//!     lora_steps MODEL
//!     lora_steps BASE OUT R ALPHA TARGET[,TARGET…]

#![allow(clippy::print_stdout)]

use polygrade_encoder::{LoraSettings, TransformerEncoder, TransformerLearner, TransformerTraining};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::optim::AdamW;
use polygrade_nn::rng::CounterRng;
use serde_json::json;
use std::error::Error;
use std::path::Path;

const USAGE: &str = "usage: lora_steps MODEL, or lora_steps BASE OUT R ALPHA TARGET[,TARGET…]";

const TEXTS: [&str; 6] = [
    "Where is the river?",
    "The river is behind the mountain.",
    "Где течёт река?",
    "नदी कहाँ है?",
    "A café, 3 trees and 😀!",
    "",
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, rest @ ..] = &arguments[..] else { return Err(USAGE.into()) };
    let encoder = TransformerEncoder::load(Path::new(base))?;
    let texts = encoder.tokenizer().bags(&TEXTS)?;
    let encoder = match rest {
        [] => encoder,
        [out, r, alpha, targets] => train(encoder, &texts, Path::new(out), &settings(r, alpha, targets)?)?,
        _ => return Err(USAGE.into()),
    };
    let vectors = encoder.encode_bags(&texts, true);
    let rows: Vec<&[f32]> = (0..vectors.rows()).map(|i| vectors.row(i)).collect();
    println!("{}", json!({ "texts": TEXTS, "vectors": rows }));
    Ok(())
}

fn settings(r: &str, alpha: &str, targets: &str) -> Result<LoraSettings, Box<dyn Error>> {
    let targets = targets.split(',').map(str::to_owned).collect();
    Ok(LoraSettings { r: r.parse()?, alpha: alpha.parse()?, targets })
}

fn train(
    encoder: TransformerEncoder,
    texts: &Bags,
    out: &Path,
    lora: &LoraSettings,
) -> Result<TransformerEncoder, Box<dyn Error>> {
    let training = TransformerTraining::default();
    let mut learner = TransformerLearner::with_lora(encoder, training, lora, true)?;
    let rng = CounterRng::new(1);
    for step in 1..=10 {
        let vectors = learner.forward(texts, step);
        let off = |(i, v): (usize, &f32)| v - rng.normal(i as u64) as f32;
        let grad = Matrix::new(vectors.cols, vectors.data.iter().enumerate().map(off).collect());
        learner.backward(texts, &grad);
        learner.step(AdamW::default(), 1e-2, step);
    }
    learner.save_adapter(out, "---\nlibrary_name: peft\n---\n")?;
    Ok(learner.into_encoder())
}
