//! Dividing judgments into train, dev and test where the source does not.

use crate::record::Split;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How records without a split get one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SplitRule {
    /// All of them go to one split.
    Fixed(Split),
    /// By a hash of a key (a query's group, an article, an image), so that what shares the key stays
    /// together and adding records moves none. The shares hold on average, not exactly.
    Shares {
        /// Share of train, 0..1.
        train: f64,
        /// Share of dev, 0..1; the rest is test.
        dev: f64,
        /// Another seed gives another division.
        seed: u64,
    },
}

impl Default for SplitRule {
    fn default() -> Self {
        SplitRule::Shares { train: 0.6, dev: 0.2, seed: 1 }
    }
}

impl SplitRule {
    /// Parses `train`, `dev`, `test`, or shares such as `60:20:20`.
    pub fn parse(text: &str, seed: u64) -> Option<SplitRule> {
        if let Some(split) = Split::parse(text) {
            return Some(SplitRule::Fixed(split));
        }
        let parts: Vec<f64> = text.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
        let sum: f64 = parts.iter().sum();
        if parts.len() != 3 || parts.iter().any(|p| p.is_nan() || *p < 0.0) || !(sum > 0.0 && sum.is_finite())
        {
            return None;
        }
        Some(SplitRule::Shares { train: parts[0] / sum, dev: parts[1] / sum, seed })
    }

    /// The split of a key.
    pub fn of(&self, key: &str) -> Split {
        match *self {
            SplitRule::Fixed(split) => split,
            SplitRule::Shares { train, dev, seed } => {
                let u = xxh3_64_with_seed(key.as_bytes(), seed) as f64 / u64::MAX as f64;
                if u < train {
                    Split::Train
                } else if u < train + dev {
                    Split::Dev
                } else {
                    Split::Test
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_on_average_and_keys_stay_put() {
        let rule = SplitRule::parse("60:20:20", 7).unwrap();
        let mut counts = [0; 3];
        for i in 0..10_000 {
            let key = format!("k{i}");
            assert_eq!(rule.of(&key), rule.of(&key));
            counts[rule.of(&key) as usize] += 1;
        }
        for (got, want) in counts.into_iter().zip([6000, 2000, 2000]) {
            assert!((got as i64 - want).abs() < 200, "{counts:?}");
        }
        for bad in ["", "60", "1:2", "a:b:c", "0:0:0", "-1:1:1", "1:inf:1", "NaN:1:1"] {
            assert_eq!(SplitRule::parse(bad, 1), None, "{bad}");
        }
        assert_eq!(SplitRule::parse("validation", 1), Some(SplitRule::Fixed(Split::Dev)));
    }
}
