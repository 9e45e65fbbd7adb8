//! Text encoders: tokenisers, architectures, and the folders they are kept in.
//!
//! So far one architecture, [`StaticEncoder`]. Folders follow sentence-transformers and model2vec, both ways:
//! [`checkpoint`] has the tensors, [`modules`] the settings, [`hub`] finds the folder of a model by its name.
//!
//! This crate knows nothing of losses or labels.

pub mod checkpoint;
pub mod hub;
mod json;
mod layout;
mod learner;
mod lsi;
pub mod modules;
mod static_encoder;
mod tensor_file;
mod tokenizer;

pub use learner::{StaticLearner, StepSettings};
pub use static_encoder::{Init, NewStatic, NewStaticBase, Prompts, StaticEncoder, TokenWeights};
pub use tokenizer::TextTokenizer;

/// What a text is, since queries and passages may have different prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// A query.
    Query,
    /// A passage.
    Passage,
}
