//! What labels and batches cost: `cargo run --release -p polygrade-train --example label_cost -- COLLECTION TAU
//! [EPOCHS]` gathers examples, draws all batches of a training with a static encoder, and trains; it prints the times
//! for each way of making batches, and the share of the first two in the whole. `RAYON_NUM_THREADS` sets the threads.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may panic, and prints")]

use polygrade_data::{Collection, Split};
use polygrade_encoder::{NewStatic, NewStaticBase};
use polygrade_nn::rng::CounterRng;
use polygrade_train::examples::Batch;
use polygrade_train::{
    Batching, Composition, Examples, LabelPolicies, Policy, Scenario, Settings, TokenizedCollection, Trainer,
};
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let collection = Collection::load(args[0].as_ref()).unwrap();
    let policies = LabelPolicies::uniform(Policy::parse(&args[1]).unwrap());
    let epochs = args.get(2).map_or(1, |n| n.parse().unwrap());
    let langs = collection.langs();
    let texts: Vec<_> = collection.passages.iter().map(|p| p.full_text()).collect();
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let documents: Vec<u32> = (0..texts.len() as u32).collect();
    let base = NewStaticBase::new(&texts, &documents, &NewStatic::default()).unwrap();
    let tokens = TokenizedCollection::new(&collection, &base.encoder(1)).unwrap();
    let hybrid = Composition::Hybrid(0.5);
    for (scenario, composition, lang_sampling, parallel_positives) in [
        (Scenario::Mixture, Composition::Homogeneous, 1.0, false),
        (Scenario::Mixture, Composition::Mixed, 2.0, false),
        (Scenario::Mixture, hybrid, 2.0, true),
        (Scenario::CrossLingual, Composition::Homogeneous, 1.0, false),
    ] {
        let batches = Batching { lang_sampling, composition, parallel_positives };
        let settings = Settings { epochs, batches, ..Settings::default() };
        let start = Instant::now();
        let graded = collection.graded(Split::Train);
        let examples = Examples::for_batches(&collection, &graded, scenario, &langs, &policies, &batches);
        let labels = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let (rng, mut batch, mut candidates, mut number) = (CounterRng::new(1), Batch::default(), 0, 0);
        for epoch in 0..epochs as u64 {
            for draw in examples.epoch(settings.batch, &rng.fork(1).fork(epoch)) {
                examples.batch(&draw, settings.per_query, &rng.fork(2).fork(number), &mut batch);
                candidates += batch.passages.len();
                number += 1;
            }
        }
        let drawing = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let encoder = base.encoder(1).into();
        let mut trainer = Trainer::new(encoder, &examples, &tokens, settings, true).unwrap();
        trainer.run();
        let training = start.elapsed().as_secs_f64();
        println!(
            "{} {composition}: labels {labels:.4} s, {number} batches of {} candidates {drawing:.4} s, \
             training with batches {training:.3} s: {:.2} %",
            scenario.name(),
            candidates / number.max(1) as usize,
            100.0 * (labels + drawing) / (labels + training)
        );
    }
}
