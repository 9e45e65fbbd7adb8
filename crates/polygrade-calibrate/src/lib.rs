//! Calibration: which threshold, or which other way to train on grades, is best for each language in each
//! scenario, and how sure that is, without training everything to the end.
//!
//! 1. [`plan`] says what competes: methods, seeds, languages, scenarios, and how the best is looked for.
//! 2. [`lab`] trains and measures arms (a scenario, a method, a seed, and a language where models are monolingual),
//!    keeps their results in files, and so resumes where it stopped.
//! 3. [`race`] drops the methods that are significantly worse, rung by rung.
//! 4. [`choose`] turns the dev values of [`records`] into a choice with intervals; it never sees a test value.
//! 5. [`mod@run`] is all of that in its order; [`outcome`] measures the choice on test and writes `calibration.json`
//!    and `calibrated.toml`; [`report`] draws `report.html` from the same data.
//!
//! [`prior`] guesses before anything is trained; [`study`] asks what less data or noisier grades would give
//! ([`alteration`]: [`noise`], [`subset`]); [`self_test`] runs races on collections of [`planted`] truth.
//!
//! The metric is graded nDCG@10, which does not depend on any threshold. This crate knows nothing of the
//! command line.

pub mod alteration;
pub mod choose;
pub mod lab;
pub mod noise;
pub mod outcome;
pub mod plan;
pub mod planted;
pub mod prior;
pub mod race;
pub mod records;
pub mod report;
pub mod run;
pub mod self_test;
pub mod study;
pub mod subset;

pub use alteration::{Alteration, altered};
pub use noise::Noise;
pub use outcome::{Calibration, Made};
pub use plan::{Method, Plan};
pub use run::run;
pub use subset::Subset;
