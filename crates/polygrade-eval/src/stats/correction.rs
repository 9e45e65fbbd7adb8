//! Corrections for asking several questions at once.
//!
//! With 20 true null hypotheses at 0.05, one false alarm is expected. Holm (1979) keeps the chance of any false
//! alarm in the family at α; Benjamini and Hochberg (1995) keep the expected share of false alarms among the
//! alarms at α, which finds more. Adjusted p-values are compared with α as they stand.

use serde::{Deserialize, Serialize};

/// How p-values of a family are adjusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Correction {
    /// Not at all.
    None,
    /// p · m. Never better than Holm.
    Bonferroni,
    /// The k-th smallest of m times m − k + 1, made ascending.
    Holm,
    /// The k-th smallest of m times m / k, made ascending from the largest down.
    Bh,
}

impl Correction {
    /// Parses `none`, `bonferroni`, `holm`, `bh`.
    pub fn parse(text: &str) -> Option<Correction> {
        Some(match text {
            "none" => Correction::None,
            "bonferroni" => Correction::Bonferroni,
            "holm" => Correction::Holm,
            "bh" => Correction::Bh,
            _ => return None,
        })
    }

    /// Whether p-values stay as they are.
    pub fn is_none(self) -> bool {
        self == Correction::None
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Correction::None => "no correction",
            Correction::Bonferroni => "Bonferroni",
            Correction::Holm => "Holm",
            Correction::Bh => "Benjamini–Hochberg",
        }
    }

    /// The adjusted p-values of a family, in the order given, at most 1.
    pub fn adjust(self, p: &[f64]) -> Vec<f64> {
        let m = p.len();
        let mut order: Vec<usize> = (0..m).collect();
        order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
        let mut out = p.to_vec();
        match self {
            Correction::None => {}
            Correction::Bonferroni => out.iter_mut().for_each(|p| *p = (*p * m as f64).min(1.0)),
            Correction::Holm => {
                let mut floor: f64 = 0.0;
                for (k, &i) in order.iter().enumerate() {
                    floor = floor.max((p[i] * (m - k) as f64).min(1.0));
                    out[i] = floor;
                }
            }
            Correction::Bh => {
                let mut roof: f64 = 1.0;
                for (k, &i) in order.iter().enumerate().rev() {
                    roof = roof.min(p[i] * m as f64 / (k + 1) as f64);
                    out[i] = roof;
                }
            }
        }
        out
    }
}
