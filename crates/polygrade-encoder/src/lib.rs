//! Text encoders: tokenisers, architectures, and the folders they are kept in.
//!
//! So far one architecture, [`StaticEncoder`]. Folders follow sentence-transformers and model2vec, both ways.
//!
//! This crate knows nothing of losses or labels.

mod arch;
pub mod checkpoint;
mod encoder;
mod head;
mod json;
mod layout;
mod learner;
mod lsi;
pub mod modules;
mod static_encoder;
mod tensor_file;
mod tokenizer;
mod training;
mod training_state;
mod transformer_encoder;
mod transformer_learner;

pub use encoder::{Encoder, TextEncoder};
pub use learner::{StaticLearner, StepSettings};
pub use static_encoder::{Init, NewStatic, NewStaticBase, Prompts, StaticEncoder, TokenWeights};
pub use tokenizer::TextTokenizer;
pub use training::Learner;
pub use transformer_encoder::TransformerEncoder;
pub use transformer_learner::{TransformerLearner, TransformerTraining};

/// What a text is, since queries and passages may have different prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// A query.
    Query,
    /// A passage.
    Passage,
}
