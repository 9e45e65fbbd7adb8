//! Label policies: what makes a grade a positive or a negative.
//!
//! A policy is a threshold τ (grades ≥ τ are positives, the others negatives), a band (lo, hi) (grades ≥ hi
//! are positives, grades ≤ lo negatives, what lies between is left out), a threshold whose positives count by
//! their grade, all thresholds at once, or the grades themselves, for losses that take them. Every grade has
//! exactly one label, and a higher grade never has a lower one. [`LabelPolicies`] holds one for all, or others for single pairs
//! of languages; its file is TOML:
//!
//! ```toml
//! default = "2"
//!
//! [[rule]]
//! scenario = "monolingual"   # optional, as are the languages: what is absent fits all
//! query-lang = "sw"
//! passage-lang = "sw"
//! policy = "1"               # a threshold, or a band "0:2"
//!
//! [[rule]]
//! annotator = "model-x"      # where judgments name who gave them, or a `source`
//! policy = "3"
//! ```
//!
//! "Only grade 0 is a negative" (arXiv 2509.09459) is the band `0:τ`. Where a pair was judged several times, each
//! judgment gets the label of its own policy, and the majority decides: see [`Label::majority`].

use crate::examples::Scenario;
use crate::loss::Loss;
use polygrade_data::{At, Collection, Error, Lang, Origin, Result, Split, io};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// What a judged passage is to its query in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// To be pushed away.
    Negative,
    /// Left out: neither one nor the other, and no negative for this query either.
    Dropped,
    /// To be drawn near.
    Positive,
}

impl Label {
    /// The label of a pair that was judged several times, each judgment labelled by its own policy: that of more than
    /// half of them, else dropped. What annotators do not agree on is neither drawn near nor pushed away.
    pub fn majority(labels: impl IntoIterator<Item = Label>) -> Label {
        let mut counts = [0usize; 3];
        labels.into_iter().for_each(|l| counts[l as usize] += 1);
        let all: usize = counts.iter().sum();
        let most = |l: &Label| 2 * counts[*l as usize] > all;
        [Label::Negative, Label::Positive].into_iter().find(most).unwrap_or(Label::Dropped)
    }
}

/// How one grade becomes a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// Grades at or above it are positives, the others negatives.
    Threshold(f32),
    /// Grades at or above `hi` are positives, at or below `lo` negatives; `lo < hi`.
    Band {
        /// Highest negative grade.
        lo: f32,
        /// Lowest positive grade.
        hi: f32,
    },
    /// A threshold whose positives count by their share of the highest grade.
    Soft(f32),
    /// The mean of InfoNCE under every threshold 1, 2, …, with weights of [`crate::Settings`]. As a label, grades from 1 on
    /// are positives, 0 is a negative, and what lies between, which no threshold reaches, is left out.
    AllThresholds,
    /// The grades themselves, for graded losses. As a label, every grade above 0 is a positive.
    Graded,
}

impl Policy {
    /// The label of a grade.
    pub fn label(&self, grade: f32) -> Label {
        match *self {
            Policy::Threshold(t) | Policy::Soft(t) if grade >= t => Label::Positive,
            Policy::Graded if grade > 0.0 => Label::Positive,
            Policy::AllThresholds if grade >= 1.0 => Label::Positive,
            Policy::AllThresholds if grade > 0.0 => Label::Dropped,
            Policy::Threshold(_) | Policy::Soft(_) | Policy::AllThresholds | Policy::Graded => {
                Label::Negative
            }
            Policy::Band { hi, .. } if grade >= hi => Label::Positive,
            Policy::Band { lo, .. } if grade <= lo => Label::Negative,
            Policy::Band { .. } => Label::Dropped,
        }
    }

    /// What graded losses aim at for a pair of this label and grade, in 0..=1; NaN where the pair takes no part.
    ///
    /// It is the label's 1 or 0, so that no positive is aimed at 0; with `soft:τ` a positive's share of the highest grade,
    /// and with `graded` and `all` that share whatever the label.
    pub fn aim(&self, label: Label, grade: f32, max_grade: f32) -> f64 {
        let share = || (f64::from(grade) / f64::from(max_grade)).clamp(0.0, 1.0);
        match (self, label) {
            (Policy::Graded | Policy::AllThresholds, _) | (Policy::Soft(_), Label::Positive) => share(),
            (_, Label::Positive) => 1.0,
            (_, Label::Negative) => 0.0,
            (_, Label::Dropped) => f64::NAN,
        }
    }

    /// Parses a threshold (`2`, `2.5`), a band (`0:2`), `soft:2`, `all` or `graded`.
    pub fn parse(text: &str) -> Option<Policy> {
        let number = |t: &str| t.trim().parse::<f32>().ok().filter(|x| x.is_finite());
        match text.trim() {
            "all" => return Some(Policy::AllThresholds),
            "graded" => return Some(Policy::Graded),
            text => {
                if let Some(threshold) = text.strip_prefix("soft:") {
                    return number(threshold).map(Policy::Soft);
                }
            }
        }
        match text.split_once(':') {
            None => number(text).map(Policy::Threshold),
            Some((lo, hi)) => match (number(lo)?, number(hi)?) {
                (lo, hi) if lo < hi => Some(Policy::Band { lo, hi }),
                _ => None,
            },
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Threshold(t) => write!(f, "{t}"),
            Policy::Band { lo, hi } => write!(f, "{lo}:{hi}"),
            Policy::Soft(t) => write!(f, "soft:{t}"),
            Policy::AllThresholds => f.write_str("all"),
            Policy::Graded => f.write_str("graded"),
        }
    }
}

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let fault = || {
            serde::de::Error::custom(format!(
                "{text:?} is no policy: a threshold (2), a band (0:2), soft:2, all, graded"
            ))
        };
        Policy::parse(&text).ok_or_else(fault)
    }
}

/// One policy for all, with exceptions for scenarios and languages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LabelPolicies {
    /// Where no rule fits.
    pub default: Policy,
    /// The loss where no rule fits; InfoNCE unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Exceptions; the first that fits decides.
    #[serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// An exception.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Only in this scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Scenario>,
    /// Only for queries in this language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_lang: Option<Lang>,
    /// Only for passages in this language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passage_lang: Option<Lang>,
    /// Only for judgments of this annotator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotator: Option<String>,
    /// Only for judgments of this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The policy.
    pub policy: Policy,
    /// The loss of a model that the rule decides for; InfoNCE unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

impl Rule {
    /// A rule that fits everything.
    pub fn new(policy: Policy) -> Self {
        Rule {
            scenario: None,
            query_lang: None,
            passage_lang: None,
            annotator: None,
            source: None,
            policy,
            loss: None,
        }
    }
}

impl LabelPolicies {
    /// The same policy for all.
    pub fn uniform(policy: Policy) -> Self {
        LabelPolicies { default: policy, loss: None, rules: Vec::new() }
    }

    /// The loss of a model in a scenario: of one pair of languages, of queries and of passages, or of several, for which rules
    /// of single languages do not count. `None` where the file leaves it open.
    pub fn loss_of(&self, scenario: Scenario, pair: Option<(&Lang, &Lang)>) -> Option<Loss> {
        let fits = |r: &&Rule| {
            r.scenario.is_none_or(|s| s == scenario)
                && (r.annotator.is_none() && r.source.is_none())
                && r.query_lang.as_ref().is_none_or(|l| pair.is_some_and(|(query, _)| l == query))
                && r.passage_lang.as_ref().is_none_or(|l| pair.is_some_and(|(_, passage)| l == passage))
        };
        match self.rules.iter().find(fits) {
            // What a rule does not say of the loss is InfoNCE where the file speaks of losses at all.
            Some(rule) => rule.loss.or_else(|| self.loss.map(|_| Loss::InfoNce)),
            None => self.loss,
        }
    }

    /// The policy of a pair of languages in a scenario; rules for annotators and sources do not count.
    pub fn of(&self, scenario: Scenario, query: &Lang, passage: &Lang) -> Policy {
        self.of_judgment(scenario, query, passage, Origin::default())
    }

    /// The policy of a judgment of this origin.
    pub fn of_judgment(&self, scenario: Scenario, query: &Lang, passage: &Lang, origin: Origin) -> Policy {
        let fits = |r: &&Rule| {
            r.scenario.is_none_or(|s| s == scenario)
                && r.query_lang.as_ref().is_none_or(|l| l == query)
                && r.passage_lang.as_ref().is_none_or(|l| l == passage)
                && r.annotator.as_deref().is_none_or(|a| Some(a) == origin.annotator)
                && r.source.as_deref().is_none_or(|s| Some(s) == origin.source)
        };
        self.rules.iter().find(fits).map_or(self.default, |r| r.policy)
    }

    /// What rules ask for that no query, passage or judgment of a collection has, in words: such a rule decides nothing.
    pub fn unmatched(&self, collection: &Collection) -> Vec<String> {
        let origins = || {
            let votes = Split::ALL.into_iter().filter_map(|split| collection.votes(split));
            votes.flat_map(|votes| votes.iter().map(|(_, origin)| origin))
        };
        let mut out = Vec::new();
        for (i, rule) in self.rules.iter().enumerate() {
            let mut none = |what: &str, name: Option<&str>, found: bool| {
                if let Some(name) = name.filter(|_| !found) {
                    out.push(format!("rule {}: no {what} {name}", i + 1));
                }
            };
            let (query, passage) = (rule.query_lang.as_ref(), rule.passage_lang.as_ref());
            let found = query.is_some_and(|l| collection.queries.iter().any(|q| q.lang == *l));
            none("query in", query.map(Lang::as_str), found);
            let found = passage.is_some_and(|l| collection.passages.iter().any(|p| p.lang == *l));
            none("passage in", passage.map(Lang::as_str), found);
            let (annotator, source) = (rule.annotator.as_deref(), rule.source.as_deref());
            none("annotator", annotator, annotator.is_some() && origins().any(|o| o.annotator == annotator));
            none("source", source, source.is_some() && origins().any(|o| o.source == source));
        }
        out
    }

    /// Reads a file of policies.
    pub fn load(path: &Path) -> Result<Self> {
        let text = io::read_to_string(path)?;
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map(|s| 1 + text[..s.start.min(text.len())].matches('\n').count() as u64);
            let at = At { path: path.to_owned(), line };
            Error::input(
                at,
                format!("is no label policy: {}", e.message()),
                "see docs/formats.md for its keys",
            )
        })
    }

    /// As the text of a file, under the comment lines `head`.
    pub fn to_toml(&self, head: &str) -> Result<String> {
        let body = toml::to_string(self).map_err(|e| Error::Internal(e.to_string()))?;
        let head: String = head.lines().map(|l| format!("# {l}\n")).collect();
        Ok(format!("{head}{body}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn labels_never_fall_as_grades_rise(t in 0.0f32..5.0, width in 0.01f32..3.0, a in 0.0f32..5.0, b in 0.0f32..5.0) {
            let (low, high) = if a <= b { (a, b) } else { (b, a) };
            for policy in [Policy::Threshold(t), Policy::Band { lo: t, hi: t + width }, Policy::AllThresholds] {
                prop_assert!(policy.label(low) <= policy.label(high));
            }
            prop_assert!(Policy::Threshold(t).label(a) != Label::Dropped);
        }

        #[test]
        fn a_threshold_is_the_band_just_below_it(t in 1u8..=3, g in 0u8..=3) {
            let band = Policy::Band { lo: f32::from(t) - 1.0, hi: f32::from(t) };
            prop_assert_eq!(Policy::Threshold(f32::from(t)).label(f32::from(g)), band.label(f32::from(g)));
        }

        #[test]
        fn policies_read_back(lo in -10.0f32..10.0, width in 0.001f32..10.0) {
            for policy in [Policy::Threshold(lo), Policy::Band { lo, hi: lo + width }] {
                prop_assert_eq!(Policy::parse(&policy.to_string()), Some(policy));
            }
        }
    }

    #[test]
    fn all_thresholds_leave_out_what_none_reaches() {
        use Label::{Dropped, Negative, Positive};
        for (grade, label) in
            [(0.0, Negative), (0.25, Dropped), (0.99, Dropped), (1.0, Positive), (2.5, Positive)]
        {
            assert_eq!(Policy::AllThresholds.label(grade), label, "{grade}");
        }
    }

    #[test]
    fn more_than_half_decide() {
        use Label::{Dropped as D, Negative as N, Positive as P};
        for (labels, want) in [
            (&[P][..], P),
            (&[N, N, P], N),
            (&[P, P, N], P),
            (&[P, N], D),
            (&[P, D], D),
            (&[P, P, D, N], D),
            (&[D, D, N], D),
            (&[P, D, N], D),
        ] {
            assert_eq!(Label::majority(labels.iter().copied()), want, "{labels:?}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let text = "default = \"2\"\n[[rule]]\nscenario = \"monolingual\"\nquery-lang = \"sw\"\npolicy = \"1\"\n\
                    [[rule]]\nquery-lang = \"sw\"\npassage-lang = \"en\"\npolicy = \"0:3\"\n";
        let p: LabelPolicies = toml::from_str(text).unwrap();
        let lang = |l: &str| Lang::parse(l).unwrap();
        let of = |s, q: &str, d: &str| p.of(s, &lang(q), &lang(d)).to_string();
        assert_eq!(of(Scenario::Monolingual, "sw", "sw"), "1");
        assert_eq!(of(Scenario::Mixture, "sw", "sw"), "2");
        assert_eq!(of(Scenario::CrossLingual, "sw", "en"), "0:3");
        assert_eq!(of(Scenario::CrossLingual, "en", "sw"), "2");
        let again: LabelPolicies = toml::from_str(&p.to_toml("made by a test").unwrap()).unwrap();
        assert_eq!(again, p);
        let by_annotator = "default = \"2\"\n[[rule]]\nannotator = \"ann\"\npolicy = \"3\"\n\
                            [[rule]]\nsource = \"crowd\"\npolicy = \"1\"\n";
        let p: LabelPolicies = toml::from_str(by_annotator).unwrap();
        let of = |annotator, source| {
            p.of_judgment(Scenario::Mixture, &lang("en"), &lang("en"), Origin { annotator, source })
                .to_string()
        };
        assert_eq!(of(Some("ann"), Some("crowd")), "3");
        assert_eq!((of(None, Some("crowd")), of(Some("bob"), None)), ("1".into(), "2".into()));
        assert_eq!(p.of(Scenario::Mixture, &lang("en"), &lang("en")).to_string(), "2");
        assert_eq!(toml::from_str::<LabelPolicies>(&p.to_toml("").unwrap()).unwrap(), p);
        for bad in ["", "default = 2", "default = \"2:1\"", "default = \"x\"", "default = \"2\"\nfoo = 1"] {
            assert!(toml::from_str::<LabelPolicies>(bad).is_err(), "{bad}");
        }
    }
}
