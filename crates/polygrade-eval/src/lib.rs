//! Evaluation: metrics as trec_eval defines them, runs and qrels in TREC's formats, the significance of differences
//! ([`stats`], [`compare`]), pools, measures of language bias, and the pages that show them; benchmarks over several
//! collections ([`suite`], [`mteb`], [`leaderboard`]) and pools of hard negatives.
//!
//! This crate knows nothing of encoders: it takes ranked lists.

pub mod bias;
pub mod bootstrap;
pub mod cluster;
mod columns;
pub mod compare;
pub mod evaluation;
pub mod hard_negatives;
pub mod html;
pub mod leaderboard;
pub mod measure;
pub mod mteb;
pub mod pool;
pub mod qrels;
pub mod rankings;
pub mod report;
pub mod run;
pub mod score;
pub mod standings;
pub mod stats;
pub mod suite;
pub mod trec;

pub use bias::Bias;
pub use evaluation::{Evaluation, PoolEvaluation};
pub use measure::{Measure, Topic};
pub use pool::Pool;
pub use qrels::Qrels;
pub use rankings::{Hit, Rankings};
pub use run::{Faults, Run};
pub use score::{ScoreOptions, Scores, score};
