//! RoBERTa (Liu et al. 2019) and XLM-R (Conneau et al. 2020), with multilingual E5 base and large, and BGE-M3's
//! dense vectors: BERT whose positions begin behind that of the padding token.

use super::{Architecture, bert};
use crate::json::Object;
use polygrade_data::Result;
use polygrade_nn::transformer::Spec;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["roberta", "xlm-roberta", "camembert"],
    spec,
    names: bert::names,
    prefixes: &["roberta.", "model."],
    ignorable: &["pooler.", "lm_head.", "classifier.", "embeddings.position_ids"],
    limit: |config| Ok(config.count("max_position_embeddings")?.map(|n| n.saturating_sub(first(config)))),
};

/// Position of the first token.
fn first(config: &Object) -> usize {
    config.get("pad_token_id").and_then(|v| v.as_u64()).map_or(1, |id| id.min(1 << 20) as usize) + 1
}

fn spec(config: &Object) -> Result<Spec> {
    bert::absolute(config, first(config))
}
