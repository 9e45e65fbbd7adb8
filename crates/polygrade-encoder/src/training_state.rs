//! Checkpoints of training: named vectors and notes in one safetensors file, written whole or not at all.

use crate::checkpoint::{Dtype, TensorWriter};
use polygrade_data::{At, Error, Result};
use safetensors::tensor::SafeTensors;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// What a checkpoint of training holds.
pub(crate) struct TrainingState {
    /// Vectors by name.
    pub(crate) vectors: HashMap<String, Vec<f32>>,
    /// Notes by name.
    pub(crate) notes: HashMap<String, String>,
}

/// Writes a checkpoint of what `state` gives, which is asked twice: for the sizes first, then for the values, one at
/// a time, so that no second copy of all is in memory.
pub(crate) fn save<'a, I: Iterator<Item = (String, Cow<'a, [f32]>)>>(
    path: &Path,
    state: impl Fn() -> I,
    notes: &[(&str, String)],
) -> Result<()> {
    let sizes = state().map(|(name, values)| (name, vec![values.len()])).collect();
    let notes: Vec<(&str, &str)> = notes.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let mut writer = TensorWriter::create(path, sizes, Dtype::F32, &notes)?;
    for (name, values) in state() {
        writer.push(&name, &values)?;
    }
    writer.finish()
}

/// Reads a checkpoint.
pub(crate) fn load(path: &Path) -> Result<TrainingState> {
    let fault = |e: safetensors::SafeTensorError| {
        let fix = "remove the checkpoint to start again";
        Error::input(At::file(path), format!("is no checkpoint: {e}"), fix)
    };
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(fault)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(fault)?;
    let values = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let vectors = file.iter().map(|(name, view)| (name.to_owned(), values(view.data()))).collect();
    Ok(TrainingState { vectors, notes: header.metadata().clone().unwrap_or_default() })
}
