//! Evaluation: metrics as trec_eval defines them, runs and qrels in TREC's formats, pools, bootstrap
//! intervals, and the significance of differences ([`stats`], [`compare`]).
//!
//! This crate knows nothing of encoders: it takes ranked lists.

pub mod bootstrap;
pub mod compare;
pub mod measure;
pub mod pool;
pub mod run;
pub mod stats;

pub use measure::{Measure, Topic};
pub use pool::Pool;
