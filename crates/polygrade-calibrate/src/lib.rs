//! Calibration: which threshold is best for each language in each scenario, and how sure that is.
//!
//! 1. [`plan`] lists the arms: one model for each scenario, policy and seed (and language, where models are
//!    monolingual).
//! 2. [`arms`] trains and measures each arm, keeps its result in a file, and so resumes where it stopped.
//! 3. [`choose`] turns the dev values into a choice with intervals; it never sees a test value.
//! 4. [`outcome`] measures the choice on test against fixed thresholds and writes `calibration.json` and
//!    `calibrated.toml`.
//! 5. [`report`] draws `report.html` from the same data.
//!
//! The metric is graded nDCG@10, which does not depend on any threshold. This crate knows nothing of the
//! command line.

pub mod alteration;
pub mod arms;
pub mod choose;
pub mod noise;
pub mod outcome;
pub mod plan;
pub mod planted;
pub mod prior;
pub mod report;
pub mod subset;

pub use alteration::{Alteration, altered};
pub use arms::run;
pub use noise::Noise;
pub use outcome::{Calibration, Made};
pub use plan::Plan;
pub use subset::Subset;
