//! Evaluation: metrics as trec_eval defines them, runs and qrels in TREC's formats, pools, bootstrap
//! intervals, and the significance of differences ([`stats`], [`compare`]).
//!
//! This crate knows nothing of encoders: it takes ranked lists.

pub mod bootstrap;
mod columns;
pub mod compare;
pub mod measure;
pub mod pool;
pub mod qrels;
pub mod run;
pub mod score;
pub mod stats;
pub mod trec;

pub use measure::{Measure, Topic};
pub use pool::Pool;
pub use qrels::Qrels;
pub use run::{Faults, Run};
pub use score::{ScoreOptions, Scores, score};
