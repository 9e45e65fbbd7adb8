//! Search: exact over vectors, and BM25 over words as the lexical baseline.
//!
//! Both give [`Hit`]s in trec_eval's order: score descending, then id descending. HNSW, index files and
//! hybrid search belong here when they come.
//!
//! This crate knows nothing of training.

pub mod bm25;
pub mod exact;
mod rank;
mod top;
pub mod vectors;

pub use polygrade_eval::{Hit, Rankings};
pub use rank::{Order, own_language, rank, rank_bm25};
pub use top::{TieOrder, Top};
