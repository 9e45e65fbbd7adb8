//! A static encoder in one small file: embeddings in 2, 4 or 8 bits, and the tokeniser as the merges that made it.
//!
//! The file is a safetensors file with
//!
//! | tensor | type and shape | |
//! |---|---|---|
//! | `embedding.weight` | U8, vocabulary × bytes of a row | weights folded in; [`PackedRows`] tells what the bytes mean |
//! | `embedding.scale` | BF16, vocabulary | the scales of the rows |
//! | `embedding.bits` | U8, 1 | bits of a number |
//! | `linear.weight` | F16, width × output width | where there is a projection |
//! | `tokenizer.merges` | U32, merges × 2 | the tokens that each merge of the byte-pair encoding joins, in order |
//! | `tokenizer.repeated` | U32, n | places of merges that make a token that an earlier one makes |
//!
//! and, as metadata, `alphabet`: the characters that the merges begin with. The order of merges gives the tokens their
//! ids, so that neither texts nor ids of tokens are stored. Embeddings stay packed in memory until the encoder is
//! trained. How much rounding moves rankings stands in docs/results.md.
//!
//! It is not for exchange: save the encoder as a folder for other tools.

use crate::static_encoder::{Prompts, StaticEncoder};
use crate::table::Table;
use crate::tokenizer::{Merges, TextTokenizer};
use half::{bf16, f16};
use polygrade_data::{Error, Result};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Rows;
use polygrade_nn::packed::PackedRows;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;

impl StaticEncoder {
    /// The bytes of the file, with numbers of 2, 4 or 8 bits. What has so many already is not rounded again.
    ///
    /// # Errors
    /// The tokeniser is not one of [`TextTokenizer::train`]'s, or the width does not fill whole bytes.
    pub fn to_compact(&self, bits: u32) -> Result<Vec<u8>> {
        let merges = self.tokenizer.merges()?;
        let (rows, cols) = (self.table.rows(), self.table.cols());
        if !PackedRows::fits(bits, cols) {
            let what = format!(
                "embeddings of {cols} numbers cannot be written in {bits} bits each: 2, 4 and 8 bits, whole bytes"
            );
            return Err(Error::Usage(what));
        }
        let packed = match &self.table {
            Table::Packed(t) if t.bits() == bits && self.log_weights.iter().all(|w| *w == 0.0) => t.clone(),
            _ => PackedRows::pack(&self.folded(), bits),
        };
        let scales: Vec<u8> = packed.scales().iter().flat_map(|s| s.to_le_bytes()).collect();
        let bytes = |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|t| t.to_le_bytes()).collect() };
        let (pairs, repeated) = (bytes(merges.pairs.as_flattened()), bytes(&merges.repeated));
        let shape = self.projection.as_ref().map(|p| vec![p.rows(), p.cols]);
        let linear = self.projection.iter().flat_map(|p| &p.data);
        let linear: Vec<u8> = linear.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let fault = |e: safetensors::SafeTensorError| Error::Internal(e.to_string());
        let number = [bits as u8];
        let mut tensors = vec![
            (
                "embedding.weight",
                TensorView::new(Dtype::U8, vec![rows, cols * bits as usize / 8], packed.bytes())
                    .map_err(fault)?,
            ),
            ("embedding.scale", TensorView::new(Dtype::BF16, vec![rows], &scales).map_err(fault)?),
            ("embedding.bits", TensorView::new(Dtype::U8, vec![1], &number).map_err(fault)?),
            (
                "tokenizer.merges",
                TensorView::new(Dtype::U32, vec![pairs.len() / 8, 2], &pairs).map_err(fault)?,
            ),
            (
                "tokenizer.repeated",
                TensorView::new(Dtype::U32, vec![repeated.len() / 4], &repeated).map_err(fault)?,
            ),
        ];
        if let Some(shape) = shape {
            tensors.push(("linear.weight", TensorView::new(Dtype::F16, shape, &linear).map_err(fault)?));
        }
        // One key alone: a map has no order that would give the same bytes each time.
        safetensors::serialize(tensors, Some(HashMap::from([("alphabet".into(), merges.alphabet)])))
            .map_err(fault)
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
        let (_, weights) = tensor("embedding.weight", Dtype::U8, 2)?;
        let (_, scales) = tensor("embedding.scale", Dtype::BF16, 1)?;
        let (_, bits) = tensor("embedding.bits", Dtype::U8, 1)?;
        let bits = bits.first().map_or(0, |b| u32::from(*b));
        let numbers = |name: &str, dims: usize| -> Result<Vec<u32>> {
            let (_, bytes) = tensor(name, Dtype::U32, dims)?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
        };
        let merges = Merges {
            alphabet: alphabet.clone(),
            pairs: numbers("tokenizer.merges", 2)?.as_chunks::<2>().0.to_vec(),
            repeated: numbers("tokenizer.repeated", 1)?,
        };
        let table = || {
            let scales: Vec<bf16> =
                scales.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b)).collect();
            let finite = scales.iter().all(|s| s.is_finite());
            PackedRows::from_parts(bits, weights.to_vec(), scales).filter(|_| finite)
        };
        let (tokenizer, table) = rayon::join(|| TextTokenizer::from_merges(merges), table);
        let tokenizer = tokenizer?;
        let tokens = tokenizer.vocab_size();
        let table =
            table.ok_or_else(|| fault("the scales are no numbers, or do not fit the embeddings".into()))?;
        let (rows, cols) = (table.rows(), table.cols());
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
            table: Table::Packed(table),
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
        for (bits, least) in [(8, 0.9995), (4, 0.98), (2, 0.85)] {
            let bytes = encoder.to_compact(bits).unwrap();
            let back = StaticEncoder::from_compact(&bytes).unwrap();
            assert_eq!(back.tokenizer.to_json().unwrap(), encoder.tokenizer.to_json().unwrap());
            let encode = |e: &StaticEncoder| e.encode(&texts, TextKind::Query).unwrap();
            let (a, b) = (encode(&encoder), encode(&back));
            for (i, text) in texts.iter().enumerate() {
                let cos: f32 = a.row(i).iter().zip(b.row(i)).map(|(x, y)| x * y).sum();
                assert!(cos > least, "{bits} bits, {text} {cos}");
            }
            assert!(back.to_compact(bits).unwrap() == bytes, "it is not rounded again");
        }
        assert!(encoder.to_compact(3).unwrap_err().to_string().contains("2, 4 and 8 bits"));
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let (encoder, _) = encoder();
        let bytes = encoder.to_compact(4).unwrap();
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
