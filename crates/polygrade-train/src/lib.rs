//! Training: label policies, the batches that follow from them, losses, and the trainer.
//!
//! The way of a grade: [`labels`] says what it is under a policy (positive, negative, left out), [`labelled`] which
//! judged pairs meet; [`examples`] gathers what each query is trained on in a scenario, in batches that [`batches`]
//! deals; [`loss`] turns a batch's similarities into a loss and its gradient; [`align`] adds losses that bring
//! translations together; [`trainer`] runs the steps. [`mine`] finds hard negatives for a file of them, and [`guide`]
//! holds the vectors of a model that says which negatives are false.
//!
//! This crate knows nothing of the command line.

pub mod align;
pub mod batches;
pub mod benchmark;
pub mod evaluate;
pub mod examples;
pub mod guide;
pub mod labelled;
pub mod labels;
pub mod loss;
pub mod mine;
pub mod pretrain;
pub mod trainer;

pub use align::{AlignSettings, Parallel, ParallelBuilder};
pub use batches::{Batching, Composition};
pub use evaluate::{TokenizedCollection, evaluate};
pub use examples::{Examples, Scenario};
pub use labels::{Label, LabelPolicies, Policy};
pub use loss::{Loss, LossSettings, TeacherScores};
pub use trainer::{Settings, Trainer};
