//! Checkpoints of training: named vectors and notes in one safetensors file, written whole or not at all.

use polygrade_data::{At, Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;

/// What a checkpoint of training holds.
pub(crate) struct TrainingState {
    /// Vectors by name.
    pub(crate) vectors: HashMap<String, Vec<f32>>,
    /// Notes by name.
    pub(crate) notes: HashMap<String, String>,
}

/// Writes a checkpoint.
pub(crate) fn save<'a>(
    path: &Path,
    vectors: impl IntoIterator<Item = (String, std::borrow::Cow<'a, [f32]>)>,
    notes: &[(&str, String)],
) -> Result<()> {
    let bytes: Vec<(String, Vec<u8>)> = vectors
        .into_iter()
        .map(|(name, values)| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let internal = |e: safetensors::SafeTensorError| Error::Internal(format!("checkpoint: {e}"));
    let mut views = Vec::new();
    for (name, data) in &bytes {
        views.push((name, TensorView::new(Dtype::F32, vec![data.len() / 4], data).map_err(internal)?));
    }
    let notes = notes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let file = safetensors::serialize(views, Some(notes)).map_err(internal)?;
    polygrade_data::io::write(path, &file)
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
