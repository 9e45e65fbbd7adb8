//! Collections of passages, queries and graded judgments in many languages: reading and writing every format
//! that users bring, validation, and a profile of what is there.
//!
//! The native layout is BEIR's with languages; see [`record`] for the fields and [`check`] for what makes a
//! collection valid. [`import`] turns other formats into it, [`export`] the other way round, [`profile`]
//! describes it, and [`Collection`] holds it in memory. Everything but [`Collection`] streams.
//!
//! This crate knows nothing of vectors.

pub mod agreement;
pub mod bitext;
pub mod check;
mod collection;
pub mod error;
pub mod export;
pub mod import;
pub mod io;
pub mod lang;
pub mod profile;
pub mod qrels;
pub mod record;
pub mod scan;
pub mod split;
mod votes;
pub mod write;

pub use check::Index;
pub use collection::{Collection, Graded, Judgment};
pub use error::{At, Error, Problem, Problems, Report, Result};
pub use lang::Lang;
pub use record::{Meta, Origin, Passage, Query, Scale, Split};
pub use votes::{Votes, mean};
