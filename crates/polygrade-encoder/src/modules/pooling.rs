//! How the vectors of tokens become one, and the settings that say so.

use crate::json::{Object, brief};
use polygrade_data::Result;
use serde_json::{Value, json};

pub use polygrade_nn::device::Pooling;

/// In the order in which flags are joined, with the name of each and its flag.
const ALL: [(Pooling, &str, &str); 6] = [
    (Pooling::Cls, "cls", "pooling_mode_cls_token"),
    (Pooling::Max, "max", "pooling_mode_max_tokens"),
    (Pooling::Mean, "mean", "pooling_mode_mean_tokens"),
    (Pooling::MeanSqrtLen, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    (Pooling::WeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens"),
    (Pooling::LastToken, "lasttoken", "pooling_mode_lasttoken"),
];

/// The poolings of a module's settings, in the order in which their vectors are joined.
pub(super) fn of(config: &Object) -> Result<Vec<Pooling>> {
    let fault = |value: &Value| {
        let known = ALL.map(|(_, name, _)| name).join(", ");
        config.fault(&format!("pools by {}", brief(value)), &format!("pooling_mode is one of {known}"))
    };
    let named = |value: &Value| {
        let found = ALL.iter().find(|(_, name, _)| Some(*name) == value.as_str());
        found.map(|(pooling, ..)| *pooling).ok_or_else(|| fault(value))
    };
    match config.get("pooling_mode") {
        Some(Value::Array(list)) if !list.is_empty() => list.iter().map(named).collect(),
        Some(one) => Ok(vec![named(one)?]),
        None => {
            let mut on = Vec::new();
            for (pooling, _, flag) in ALL {
                if config.flag(flag)?.unwrap_or(false) {
                    on.push(pooling);
                }
            }
            // Both without any flag and with all of them off.
            Ok(if on.is_empty() { vec![Pooling::Mean] } else { on })
        }
    }
}

/// The settings of a pooling module: with flags, which all releases read; with `pooling_mode`, which release 6
/// does, where flags cannot say it: an order of their own, or a pooling twice.
pub(super) fn config(pooling: &[Pooling], width: usize, include_prompt: bool) -> Value {
    let flagged = ALL.iter().filter(|(p, ..)| pooling.contains(p)).map(|(p, ..)| *p);
    if flagged.eq(pooling.iter().copied()) {
        let mut config = serde_json::Map::new();
        config.insert("word_embedding_dimension".into(), width.into());
        for (one, _, flag) in ALL {
            config.insert(flag.into(), pooling.contains(&one).into());
        }
        config.insert("include_prompt".into(), include_prompt.into());
        return config.into();
    }
    let name = |p: &Pooling| ALL.iter().find(|(q, ..)| p == q).map(|(_, name, _)| *name);
    let names: Vec<_> = pooling.iter().filter_map(name).collect();
    json!({ "embedding_dimension": width, "pooling_mode": names, "include_prompt": include_prompt })
}
