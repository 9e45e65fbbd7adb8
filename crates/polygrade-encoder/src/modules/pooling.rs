//! How the vectors of tokens become one, and the settings that say so.

use crate::json::{Object, brief};
use polygrade_data::Result;
use serde_json::{Value, json};

/// How the vectors of tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The largest value in each place.
    Max,
    /// The mean.
    Mean,
    /// The sum, divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// The mean, the token at position i (from 1) counting i times.
    WeightedMean,
    /// The vector of the last token.
    LastToken,
}

impl Pooling {
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
            let known = Pooling::ALL.map(|(_, name, _)| name).join(", ");
            config.fault(&format!("pools by {}", brief(value)), &format!("pooling_mode is one of {known}"))
        };
        let named = |value: &Value| {
            let found = Pooling::ALL.iter().find(|(_, name, _)| Some(*name) == value.as_str());
            found.map(|(pooling, ..)| *pooling).ok_or_else(|| fault(value))
        };
        match config.get("pooling_mode") {
            Some(Value::Array(list)) if !list.is_empty() => list.iter().map(named).collect(),
            Some(one) => Ok(vec![named(one)?]),
            None => {
                let mut on = Vec::new();
                for (pooling, _, flag) in Pooling::ALL {
                    if config.flag(flag)?.unwrap_or(false) {
                        on.push(pooling);
                    }
                }
                // Both without any flag and with all of them off.
                Ok(if on.is_empty() { vec![Pooling::Mean] } else { on })
            }
        }
    }
}

/// The settings of a pooling module: with flags, which all releases read; with `pooling_mode`, which release 6
/// does, where flags cannot say it: an order of their own, or a pooling twice.
pub(super) fn config(pooling: &[Pooling], width: usize, include_prompt: bool) -> Value {
    let flagged = Pooling::ALL.iter().filter(|(p, ..)| pooling.contains(p)).map(|(p, ..)| *p);
    if flagged.eq(pooling.iter().copied()) {
        let mut config = serde_json::Map::new();
        config.insert("word_embedding_dimension".into(), width.into());
        for (one, _, flag) in Pooling::ALL {
            config.insert(flag.into(), pooling.contains(&one).into());
        }
        config.insert("include_prompt".into(), include_prompt.into());
        return config.into();
    }
    let name = |p: &Pooling| Pooling::ALL.iter().find(|(q, ..)| p == q).map(|(_, name, _)| *name);
    let names: Vec<_> = pooling.iter().filter_map(name).collect();
    json!({ "embedding_dimension": width, "pooling_mode": names, "include_prompt": include_prompt })
}
