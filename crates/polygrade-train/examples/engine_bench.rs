//! The engine as a peer in benches/peers/encoder.py: a process that does one unit of work for each line "go" on
//! standard input, and prints what it took.
//!
//!     engine_bench train  --model DIR --batches FILE.jsonl [--threads N] [--no-dropout] [--tokens N]
//!     engine_bench encode --model DIR --texts FILE.jsonl [--threads N] [--precision P] [--out FILE.npy]
//!
//! A unit is the next training step of the batches, or the encoding of all texts, tokenisation included.

#![allow(clippy::print_stdout)]

use polygrade_encoder::{TransformerEncoder, TransformerLearner, TransformerTraining};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::device::Precision;
use polygrade_nn::kernels::{Transpose, matmul};
use polygrade_nn::optim::AdamW;
use polygrade_train::Policy;
use polygrade_train::loss::{Loss, LossSettings, Objective, Role, Targets};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let mut options = HashMap::new();
    while let Some(key) = arguments.next() {
        let value = if key == "--no-dropout" { String::new() } else { arguments.next().unwrap_or_default() };
        options.insert(key, value);
    }
    if let Some(threads) = options.get("--threads") {
        rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    }
    match mode.as_str() {
        "train" => train(&options),
        "encode" => encode(&options),
        _ => Err("the first argument is train or encode".into()),
    }
}

fn option<'a>(options: &'a HashMap<String, String>, key: &str) -> Result<&'a str> {
    Ok(options.get(key).ok_or_else(|| format!("{key} is missing"))?)
}

fn lines(path: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|l| Ok(serde_json::from_str(l)?)).collect()
}

/// Says that loading is over, then runs `unit` for each "go".
fn serve(mut unit: impl FnMut() -> Result<Value>) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", json!({ "ready": true, "gemm_gflops": product_rate() }))?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        if line?.trim() == "go" {
            writeln!(out, "{}", unit()?)?;
            out.flush()?;
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse::<f64>().ok());
    writeln!(out, "{}", json!({ "peak_mib": peak.map(|kib| kib / 1024.0) }))?;
    Ok(())
}

/// The rate of large products on this machine, in GFLOP/s: the best of some.
fn product_rate() -> f64 {
    let (m, k, n) = (2048, 1536, 1536);
    let value = |i: usize| (i * 7919 % 1000) as f32 / 1000.0 - 0.5;
    let a = Matrix::new(k, (0..m * k).map(value).collect());
    let b = Matrix::new(n, (0..k * n).map(value).collect());
    let mut out = Matrix::default();
    let mut best = 0.0f64;
    for _ in 0..8 {
        let start = Instant::now();
        matmul(&a, &b, Transpose::None, true, &mut out);
        best = best.max(2e-9 * (m * k * n) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

fn train(options: &HashMap<String, String>) -> Result<()> {
    let mut encoder = TransformerEncoder::load(Path::new(option(options, "--model")?))?;
    encoder.normalize();
    let mut settings = TransformerTraining {
        dropout: !options.contains_key("--no-dropout"),
        ..TransformerTraining::default()
    };
    if let Some(tokens) = options.get("--tokens") {
        settings.tokens = tokens.parse()?;
    }
    let mut batches = Vec::new();
    for line in lines(option(options, "--batches")?)? {
        let list = |key: &str| serde_json::from_value::<Vec<Vec<u32>>>(line[key].clone());
        let (queries, passages) = (list("queries")?, list("passages")?);
        let mut bags = Bags::new();
        queries.iter().chain(&passages).for_each(|t| bags.push(t));
        batches.push((bags, queries.len()));
    }
    let mut learner = TransformerLearner::new(encoder, settings, true);
    let adam = AdamW { weight_decay: 0.01, ..AdamW::default() };
    let mut step = 0;
    serve(|| {
        let (texts, queries) = &batches[step % batches.len()];
        step += 1;
        let start = Instant::now();
        let vectors = learner.forward(texts, step as u64);
        let split = queries * vectors.cols;
        let q = Matrix::new(vectors.cols, vectors.data[..split].to_vec());
        let p = Matrix::new(vectors.cols, vectors.data[split..].to_vec());
        let role = |i: usize| if i / queries == i % queries { Role::Positive } else { Role::Negative };
        let roles: Vec<Role> = (0..queries * queries).map(role).collect();
        let targets = Targets {
            roles: &roles,
            grades: &vec![f32::NAN; roles.len()],
            aims: &[],
            policies: &vec![Policy::Threshold(1.0); *queries],
            temperatures: &vec![0.05; *queries],
            teacher: &[],
        };
        let (mut grad, mut below) = (Matrix::default(), Matrix::default());
        let mut objective = Objective::new(&LossSettings::new(Loss::InfoNce, 0.05), 1.0, q.cols, true)?;
        let loss = objective.value(&q, &p, &targets, 1.0, (&mut grad, &mut below)).loss;
        grad.data.extend_from_slice(&below.data);
        learner.backward(texts, &grad);
        learner.step(adam, 2e-5, step as u64);
        Ok(json!({ "seconds": start.elapsed().as_secs_f64(), "loss": loss }))
    })
}

fn encode(options: &HashMap<String, String>) -> Result<()> {
    let mut encoder = TransformerEncoder::load(Path::new(option(options, "--model")?))?;
    let precision = match options.get("--precision").map(String::as_str) {
        None | Some("f32") => Precision::F32,
        Some("bf16") => Precision::Bf16,
        Some("int8") => Precision::Int8,
        Some(other) => return Err(format!("no precision {other}").into()),
    };
    encoder.prepare(precision);
    let texts = lines(option(options, "--texts")?)?;
    let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
    let mut last = Matrix::default();
    serve(|| {
        let start = Instant::now();
        last = encoder.encode_bags(&encoder.tokenizer().bags(&texts)?, true);
        let seconds = start.elapsed().as_secs_f64();
        if let Some(path) = options.get("--out") {
            let shape = format!(
                "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                last.rows(),
                last.cols
            );
            let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
            bytes.extend(format!("{shape:<117}\n").bytes());
            bytes.extend(last.data.iter().flat_map(|v| v.to_le_bytes()));
            std::fs::write(path, bytes)?;
        }
        Ok(json!({ "seconds": seconds }))
    })
}
