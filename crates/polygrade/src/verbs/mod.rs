//! The verbs, one a file.

pub(crate) mod benchmark;
pub(crate) mod calibrate;
pub(crate) mod common;
pub(crate) mod compare;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod labels;
pub(crate) mod metrics;
pub(crate) mod mine;
pub(crate) mod model;
pub(crate) mod pretrain;
pub(crate) mod profile;
pub(crate) mod search;
mod select;
pub(crate) mod shrink;
pub(crate) mod tokenizer;
pub(crate) mod train;
mod training;
pub(crate) mod trec_eval;
pub(crate) mod trim;
