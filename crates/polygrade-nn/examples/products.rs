//! The rates of products with prepared weights, in each precision: medians of interleaved rounds, rounding of the
//! activations included.
//!
//!     cargo run --release -p polygrade-nn --example products [-- ROUNDS [ROWS]]

#![allow(clippy::print_stdout)]

use polygrade_nn::bag::Bags;
use polygrade_nn::device::{Device, Finish, Precision, Weight};
use polygrade_nn::rng::CounterRng;
use polygrade_nn::{Cpu, simd};
use std::time::Instant;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse().expect("a number"));
    let (rounds, rows) = (arguments.next().unwrap_or(15), arguments.next().unwrap_or(2048));
    let cpu = Cpu::new(true);
    let batch = cpu.batch(&Bags::new(), &[]);
    println!("{:?}, bfloat16 pairs {}, VNNI {}", simd::level(), simd::has_bf16(), simd::has_vnni());
    println!("{rows} rows; GFLOP/s (times f32)");
    for (inputs, outputs) in [(384, 1536), (1536, 384), (384, 1152), (384, 384), (768, 3072), (3072, 768)] {
        let x = cpu.floats(&values(1, rows * inputs));
        let w = cpu.floats(&values(2, outputs * inputs));
        let weights = PRECISIONS.map(|p| cpu.prepare(&w, outputs, inputs, p));
        let mut out = cpu.floats(&[]);
        let mut seconds = [const { Vec::new() }; PRECISIONS.len()];
        // Small products several times, so that the clock's steps do not matter.
        let repeat = (1 << 31) / (2 * rows * inputs * outputs) + 1;
        for _ in 0..rounds {
            for (weight, seconds) in weights.iter().zip(&mut seconds) {
                let start = Instant::now();
                for _ in 0..repeat {
                    let weight = Weight::Prepared(weight);
                    cpu.linear(&batch, &x, weight, (outputs, inputs), Finish::default(), &mut out);
                }
                seconds.push(start.elapsed().as_secs_f64() / repeat as f64);
            }
        }
        let medians = seconds.map(|mut s| {
            s.sort_by(f64::total_cmp);
            s[s.len() / 2]
        });
        print!("{inputs:5} -> {outputs:4}");
        for (p, m) in PRECISIONS.iter().zip(medians) {
            let rate = 2e-9 * (rows * inputs * outputs) as f64 / m;
            print!("   {p:?} {rate:6.0} ({:.2})", medians[0] / m);
        }
        println!();
    }
}

/// Sums of uniform numbers, about normal.
fn values(key: u64, n: usize) -> Vec<f32> {
    let rng = CounterRng::new(key);
    let part = |i: usize, k: u64| (rng.bits(4 * i as u64 + k) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..n).map(|i| (0..4).map(|k| part(i, k)).sum()).collect()
}
