//! nDCG@10 of real runs on TREC Deep Learning and COVID, to the four digits that `data/INDEX.md` of the
//! shared folder gives; where the data set `trec_runs` is unpacked (`common::data`).
#![allow(clippy::unwrap_used)]

mod common;

use polygrade_eval::{Measure, ScoreOptions, qrels, run, score};

const SYSTEMS: [&str; 6] =
    ["BM25", "BM25_RM3", "D_BERT_KD_TASB", "SPLADE_P_P_ENSEMBLE_DISTIL", "OPEN_AI_ADA2", "REP_LLAMA"];

/// Judgments, the name in the run files, and the figures of the systems in their order.
const FIGURES: [(&str, &str, [&str; 6]); 4] = [
    ("qrels.dl19-passage.txt", "dl19", ["0.5058", "0.5216", "0.7210", "0.7308", "0.7035", "0.7384"]),
    ("qrels.dl20-passage.txt", "dl20", ["0.4796", "0.4896", "0.6854", "0.7197", "0.6759", "0.7195"]),
    ("qrels.dl21-passage.txt", "dl21", ["0.4458", "", "", "0.6846", "", ""]),
    ("qrels.beir-v1.0.0-trec-covid.test.txt", "covid", ["0.5947", "0.5927", "", "0.7274", "", ""]),
];

#[test]
fn published_figures_come_out_to_four_digits() {
    let Some(dir) = common::data("trec_runs") else {
        return;
    };
    for (judgments, name, figures) in FIGURES {
        let qrels = qrels::read(&dir.join(judgments)).unwrap();
        for (system, want) in SYSTEMS.iter().zip(figures).filter(|(_, want)| !want.is_empty()) {
            let run = run::read(&dir.join(system).join(format!("trec_results_{name}.txt"))).unwrap();
            let scores = score(&qrels, &run, &[Measure::Ndcg(Some(10))], &ScoreOptions::default());
            assert_eq!(format!("{:.4}", scores.summary[0]), want, "{system} {name}");
        }
    }
}
