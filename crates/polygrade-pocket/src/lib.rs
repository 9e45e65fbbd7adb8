//! The encoder that is shipped with Polygrade: small, multilingual, made by `tools/make_pocket.sh` from openly licensed
//! text. What it can do and what it cannot stands in its card, [`CARD`].

use polygrade_data::Result;
use polygrade_encoder::StaticEncoder;

/// The name that verbs know it by.
pub const NAME: &str = "pocket";

/// What it is made of, what it is good for, licences.
pub const CARD: &str = include_str!("../model/README.md");

/// The file, as [`StaticEncoder::to_compact`] writes it.
pub const FILE: &[u8] = include_bytes!("../model/pocket.safetensors");

/// The encoder.
///
/// # Errors
/// The file was damaged before the program was built.
pub fn encoder() -> Result<StaticEncoder> {
    StaticEncoder::from_compact(FILE)
}
