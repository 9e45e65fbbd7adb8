//! How long the shipped encoder, or a compact file, takes to load: `cargo run --release -p polygrade-pocket --example load
//! -- [FILE]` prints the median of 21 times in this process, the first apart.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may panic, and prints")]

use polygrade_encoder::StaticEncoder;
use std::time::Instant;

fn main() {
    let file = std::env::args().nth(1).map(|path| std::fs::read(path).unwrap());
    let bytes = file.as_deref().unwrap_or(polygrade_pocket::FILE);
    let mut times: Vec<f64> = (0..22)
        .map(|_| {
            let start = Instant::now();
            let encoder = StaticEncoder::from_compact(bytes).unwrap();
            let taken = start.elapsed().as_secs_f64() * 1e3;
            drop(encoder);
            taken
        })
        .collect();
    let first = times.remove(0);
    times.sort_unstable_by(f64::total_cmp);
    println!(
        "{:.1} MiB: first {first:.1} ms, median {:.1} ms",
        bytes.len() as f64 / f64::from(1 << 20),
        times[10]
    );
}
