//! Evaluation: metrics as trec_eval defines them, runs and qrels in TREC's formats, pools, and bootstrap
//! intervals.
//!
//! This crate knows nothing of encoders: it takes ranked lists.

pub mod bootstrap;
pub mod measure;
pub mod pool;
pub mod run;

pub use measure::{Measure, Topic};
pub use pool::Pool;
