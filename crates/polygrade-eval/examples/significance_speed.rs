//! Times the tests: `cargo run --release -p polygrade-eval --example significance_speed [TOPICS] [PERMUTATIONS]`.
#![allow(clippy::print_stdout)]

use polygrade_eval::stats::randomization::randomization_test;
use polygrade_eval::stats::resample::Resamples;
use polygrade_eval::stats::tukey::tukey_hsd;
use polygrade_nn::rng::CounterRng;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let (topics, draws) = (args.next().unwrap_or(1000), args.next().unwrap_or(100_000));
    let rng = CounterRng::new(1);
    let system = |s: u64| (0..topics as u64).map(|t| rng.fork(s).uniform(t)).collect::<Vec<f64>>();
    let systems: Vec<Vec<f64>> = (0..5).map(system).collect();
    let views: Vec<&[f64]> = systems.iter().map(Vec::as_slice).collect();
    let d = polygrade_eval::stats::differences(&systems[1], &systems[0]);
    let time = |what: &str, test: &dyn Fn() -> f64| {
        let mut seconds: Vec<f64> = (0..5)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(test());
                start.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        println!("{what}, {topics} topics, {draws} draws: {:.1} ms", 1000.0 * seconds[2]);
    };
    time("randomisation", &|| randomization_test(&d, draws as u64, 1).p);
    time("bootstrap", &|| Resamples::draw(&d, draws, 1).p());
    time("Tukey, 5 systems", &|| tukey_hsd(&views, draws as u64, 1)[0].p);
}
