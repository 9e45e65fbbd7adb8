//! A static encoder in one small file: embeddings in 8 bits, and the tokeniser as the merges that made it.
//!
//! The file is a safetensors file with
//!
//! | tensor | type and shape | |
//! |---|---|---|
//! | `embedding.weight` | I8, vocabulary × width | weights folded in; each row is its bytes times its scale |
//! | `embedding.scale` | F32, vocabulary | a row's largest magnitude / 127 |
//! | `linear.weight` | F16, width × output width | where there is a projection |
//! | `tokenizer.merges` | U32, merges × 2 | the tokens that each merge of the byte-pair encoding joins, in order |
//!
//! and, as metadata, `alphabet`: the characters that the merges begin with. The order of merges gives the tokens their
//! ids, so that neither texts nor ids of tokens are stored. Rounding moves a vector of length 1 by some 0.005.
//!
//! It is not for exchange: save the encoder as a folder for other tools.

use crate::static_encoder::{Prompts, StaticEncoder};
use crate::tokenizer::TextTokenizer;
use half::f16;
use polygrade_data::{Error, Result};
use polygrade_nn::Matrix;
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;

impl StaticEncoder {
    /// The bytes of the file.
    ///
    /// # Errors
    /// The tokeniser is not one of [`TextTokenizer::train`]'s.
    pub fn to_compact(&self) -> Result<Vec<u8>> {
        let (alphabet, merges) = self.tokenizer.merges()?;
        let (rows, cols) = (self.table.rows(), self.table.cols);
        let (mut bytes, mut scales) = (Vec::with_capacity(rows * cols), Vec::with_capacity(4 * rows));
        for (row, log_weight) in self.table.data.chunks(cols).zip(&self.log_weights) {
            let weight = log_weight.exp();
            let scale = row.iter().fold(0.0f32, |m, v| m.max((v * weight).abs())) / 127.0;
            let step = if scale > 0.0 { weight / scale } else { 0.0 };
            bytes.extend(row.iter().map(|v| (v * step).round() as i8 as u8));
            scales.extend(scale.to_le_bytes());
        }
        let merges: Vec<u8> = merges.iter().flatten().flat_map(|t| t.to_le_bytes()).collect();
        let shape = self.projection.as_ref().map(|p| vec![p.rows(), p.cols]);
        let linear = self.projection.iter().flat_map(|p| &p.data);
        let linear: Vec<u8> = linear.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let fault = |e: safetensors::SafeTensorError| Error::Internal(e.to_string());
        let pairs = merges.len() / 8;
        let mut tensors = vec![
            ("embedding.weight", TensorView::new(Dtype::I8, vec![rows, cols], &bytes).map_err(fault)?),
            ("embedding.scale", TensorView::new(Dtype::F32, vec![rows], &scales).map_err(fault)?),
            ("tokenizer.merges", TensorView::new(Dtype::U32, vec![pairs, 2], &merges).map_err(fault)?),
        ];
        if let Some(shape) = shape {
            tensors.push(("linear.weight", TensorView::new(Dtype::F16, shape, &linear).map_err(fault)?));
        }
        safetensors::serialize(tensors, Some(HashMap::from([("alphabet".into(), alphabet)]))).map_err(fault)
    }

    /// The encoder of a file's bytes; its vectors have length 1, and it has no prompts.
    ///
    /// # Errors
    /// They are no such file.
    pub fn from_compact(bytes: &[u8]) -> Result<Self> {
        let fault = |what: String| Error::Usage(format!("the compact model is damaged: {what}"));
        let wrong = |e: safetensors::SafeTensorError| fault(e.to_string());
        let (_, about) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
        let alphabet = about.metadata().as_ref().and_then(|m| m.get("alphabet"));
        let alphabet = alphabet.ok_or_else(|| fault("it has no alphabet".into()))?;
        let file = SafeTensors::deserialize(bytes).map_err(wrong)?;
        let tensor = |name: &str, dtype: Dtype, dims: usize| -> Result<(Vec<usize>, &[u8])> {
            let view = file.tensor(name).map_err(wrong)?;
            let right = view.dtype() == dtype && view.shape().len() == dims;
            let found = (view.shape().to_vec(), view.data());
            if right { Ok(found) } else { Err(fault(format!("{name:?} has another type or shape"))) }
        };
        let (shape, weights) = tensor("embedding.weight", Dtype::I8, 2)?;
        let (rows, cols) = (shape[0], shape[1]);
        let (scale_shape, scales) = tensor("embedding.scale", Dtype::F32, 1)?;
        let (_, merges) = tensor("tokenizer.merges", Dtype::U32, 2)?;
        let ids: Vec<u32> = merges.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let merges = ids.as_chunks::<2>().0;
        if scale_shape != [rows] || cols == 0 {
            return Err(fault("the scales do not fit the embeddings".into()));
        }
        // The tokeniser's maps take about as long as the embeddings do.
        let (table, tokenizer) = rayon::join(
            || {
                let scales = scales.as_chunks::<4>().0.par_iter();
                let rows = weights.par_chunks(cols).zip(scales);
                let mut table = Matrix::zeros(scale_shape[0], cols);
                table.data.par_chunks_mut(cols).with_min_len(256).zip(rows).for_each(
                    |(out, (row, scale))| {
                        let scale = f32::from_le_bytes(*scale);
                        out.iter_mut().zip(row).for_each(|(o, b)| *o = f32::from(*b as i8) * scale);
                    },
                );
                table
            },
            || TextTokenizer::from_merges(alphabet, merges),
        );
        let (tokenizer, tokens) = tokenizer?;
        if tokens != rows {
            return Err(fault(format!("{tokens} tokens and {rows} embeddings")));
        }
        let projection = match file.tensor("linear.weight") {
            Err(_) => None,
            Ok(_) => {
                let (shape, values) = tensor("linear.weight", Dtype::F16, 2)?;
                if shape[0] != cols || shape[1] == 0 {
                    return Err(fault("the projection does not fit the embeddings".into()));
                }
                let values = values.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32());
                Some(Matrix::new(shape[1], values.collect()))
            }
        };
        Ok(StaticEncoder {
            tokenizer,
            table,
            log_weights: vec![0.0; rows],
            projection,
            normalize: true,
            prompts: Prompts::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TextKind;

    fn encoder() -> (StaticEncoder, Vec<&'static str>) {
        let texts = vec![
            "how high is a desk",
            "a desk is high",
            "wie hoch ist ein Tisch",
            "桌子应该多高",
            "a bc abc ab c",
        ];
        let mut encoder = StaticEncoder::random(TextTokenizer::train(90, &texts).unwrap(), 24, Some(16), 5);
        let lengths = (0..encoder.log_weights.len()).map(|i| (i % 7) as f32 * 0.3 - 1.0);
        encoder.log_weights = lengths.collect();
        (encoder, texts)
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let (encoder, texts) = encoder();
        let bytes = encoder.to_compact().unwrap();
        let back = StaticEncoder::from_compact(&bytes).unwrap();
        assert_eq!(back.tokenizer.to_json().unwrap(), encoder.tokenizer.to_json().unwrap());
        let (a, b) =
            (encoder.encode(&texts, TextKind::Query).unwrap(), back.encode(&texts, TextKind::Query).unwrap());
        for (i, text) in texts.iter().enumerate() {
            let cos: f32 = a.row(i).iter().zip(b.row(i)).map(|(x, y)| x * y).sum();
            assert!(cos > 0.9995, "{text} {cos}");
        }
        assert_eq!(back.to_compact().unwrap(), bytes, "rounding again changes nothing");
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let (encoder, _) = encoder();
        let bytes = encoder.to_compact().unwrap();
        for cut in 0..bytes.len() {
            assert!(StaticEncoder::from_compact(&bytes[..cut]).is_err());
        }
        let mut refused = 0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            refused += usize::from(StaticEncoder::from_compact(&damaged).is_err());
        }
        assert!(refused > 100, "{refused}");
    }
}
