//! Evaluation: metrics as trec_eval defines them, runs and qrels in TREC's formats, pools, measures of language bias,
//! bootstrap intervals, and the pages that show them.
//!
//! This crate knows nothing of encoders: it takes ranked lists.

pub mod bias;
pub mod bootstrap;
pub mod cluster;
pub mod evaluation;
pub mod hard_negatives;
pub mod html;
pub mod leaderboard;
pub mod measure;
pub mod mteb;
pub mod pool;
pub mod ranking;
pub mod rankings;
pub mod report;
pub mod run;
pub mod suite;

pub use bias::Bias;
pub use evaluation::{Evaluation, PoolEvaluation};
pub use measure::{Measure, Topic};
pub use pool::Pool;
pub use rankings::{Hit, Rankings};
