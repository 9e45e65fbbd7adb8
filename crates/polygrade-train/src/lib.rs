//! Training: label policies, the batches that follow from them, losses, and the trainer.
//!
//! The way of a grade: [`labels`] says what it is under a policy (positive, negative, left out);
//! [`examples`] gathers what each query is trained on in a scenario; [`loss`] turns a batch's similarities
//! into a loss and its gradient; [`align`] adds losses that bring translations together; [`trainer`] runs the
//! steps.
//!
//! This crate knows nothing of the command line.

pub mod align;
pub mod benchmark;
pub mod evaluate;
pub mod examples;
pub mod labels;
pub mod loss;
pub mod trainer;

pub use align::{AlignSettings, Parallel, ParallelBuilder};
pub use evaluate::{TokenizedCollection, evaluate};
pub use examples::{Examples, Scenario};
pub use labels::{Label, LabelPolicies, Policy};
pub use loss::Loss;
pub use trainer::{Settings, Trainer};
