//! Text encoders: tokenisers, architectures, and the folders they are kept in.
//!
//! Two kinds: a [`StaticEncoder`] is a table of token vectors, a [`TransformerEncoder`] one of the architectures of
//! `arch`. Folders follow Hugging Face, sentence-transformers and model2vec, both ways:
//! [`checkpoint`] has the tensors, [`modules`] the settings, [`hub`] finds the folder of a model by its name.
//!
//! This crate knows nothing of losses or labels.

mod arch;
pub mod checkpoint;
mod compact;
mod encoder;
mod frozen;
mod head;
pub mod hub;
mod json;
mod layout;
mod learner;
mod lora;
mod lsi;
pub mod modules;
mod static_encoder;
mod table;
mod tensor_file;
mod tokenizer;
mod training;
mod training_state;
mod transformer_encoder;
mod transformer_learner;
pub mod trim;

pub use encoder::{Encoder, TextEncoder};
pub use frozen::{FrozenEncoder, FrozenLearner, HeadKind, HeadSettings};
pub use learner::{StaticLearner, StepSettings};
pub use lora::LoraSettings;
pub use static_encoder::{Init, NewStatic, NewStaticBase, Prompts, StaticEncoder, TokenWeights};
pub use table::Table;
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
