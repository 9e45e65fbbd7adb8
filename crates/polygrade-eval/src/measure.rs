//! The metrics, in trec_eval's definitions.
//!
//! A topic is a ranked list of grades with the grades of all judged passages. Passages without a judgment and
//! passages with a negative grade gain nothing and keep their rank. `rel` is the lowest grade that counts as
//! relevant where a metric is binary (trec_eval's `-l`, 1 by default); nDCG never uses it.
//!
//! | metric | definition |
//! |---|---|
//! | nDCG@k | Σᵢ₌₁ᵏ gᵢ / log₂(i + 1), over the same sum of the best order of all judged grades |
//! | P@k | relevant in the top k, over k even where the list is shorter |
//! | R@k | relevant in the top k, over all relevant |
//! | RR, RR@k | 1 / rank of the first relevant |
//! | AP | mean over all relevant of the precision at its rank; 0 where it is not retrieved |
//! | Success@k | 1 if a relevant passage is in the top k |
//! | Judged@k | judged in the top k, over the length of the list where that is below k |
//!
//! A topic without a relevant passage scores 0 and counts in the mean, as in trec_eval.

use std::fmt;

/// What a metric is computed from.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// The grades in rank order; `None` where there is no judgment.
    pub ranked: Vec<Option<f32>>,
    /// The grades of all judged passages of the pool, retrieved or not, in any order.
    pub judged: Vec<f32>,
}

/// A metric with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// nDCG with linear gains, cut at a rank or not.
    Ndcg(Option<usize>),
    /// Precision at a rank.
    Precision(usize, f32),
    /// Recall at a rank.
    Recall(usize, f32),
    /// Reciprocal rank, cut at a rank or not.
    ReciprocalRank(Option<usize>, f32),
    /// Average precision.
    AveragePrecision(f32),
    /// Success at a rank.
    Success(usize, f32),
    /// Share of judged passages at a rank.
    Judged(usize),
}

fn discount(rank: usize) -> f64 {
    1.0 / ((rank + 1) as f64).log2()
}

impl Measure {
    /// The metrics that `polygrade eval` shows unless others are asked for.
    pub fn defaults() -> Vec<Measure> {
        vec![
            Measure::Ndcg(Some(10)),
            Measure::Precision(10, 1.0),
            Measure::Recall(100, 1.0),
            Measure::ReciprocalRank(None, 1.0),
            Measure::AveragePrecision(1.0),
            Measure::Success(1, 1.0),
            Measure::Judged(10),
        ]
    }

    /// Parses ir_measures' names: `nDCG@10`, `P(rel=2)@5`, `R@100`, `RR`, `AP`, `Success@1`, `Judged@10`.
    /// `MRR` and `Recall` and `MAP` are taken too, in any case.
    pub fn parse(text: &str) -> Option<Measure> {
        let (head, cut) = match text.split_once('@') {
            Some((head, cut)) => (head, Some(cut.parse::<usize>().ok().filter(|k| *k > 0)?)),
            None => (text, None),
        };
        let (name, rel) = match head.split_once('(') {
            Some((name, rest)) => {
                let rel = rest.strip_suffix(')')?.strip_prefix("rel=")?.parse::<f32>().ok()?;
                (name, Some(rel).filter(|r| r.is_finite())?)
            }
            None => (head, 1.0),
        };
        let has_rel = head.contains('(');
        match (name.to_ascii_lowercase().as_str(), cut) {
            ("ndcg", cut) if !has_rel => Some(Measure::Ndcg(cut)),
            ("p" | "precision", Some(k)) => Some(Measure::Precision(k, rel)),
            ("r" | "recall", Some(k)) => Some(Measure::Recall(k, rel)),
            ("rr" | "mrr", cut) => Some(Measure::ReciprocalRank(cut, rel)),
            ("ap" | "map", None) => Some(Measure::AveragePrecision(rel)),
            ("success", Some(k)) => Some(Measure::Success(k, rel)),
            ("judged", Some(k)) if !has_rel => Some(Measure::Judged(k)),
            _ => None,
        }
    }

    /// The depth of the ranked list that the metric needs; `None` is all of it.
    pub fn depth(&self) -> Option<usize> {
        match *self {
            Measure::Ndcg(cut) | Measure::ReciprocalRank(cut, _) => cut,
            Measure::Precision(k, _)
            | Measure::Recall(k, _)
            | Measure::Success(k, _)
            | Measure::Judged(k) => Some(k),
            Measure::AveragePrecision(_) => None,
        }
    }

    /// The value for a topic.
    pub fn of(&self, topic: &Topic) -> f64 {
        let Topic { ranked, judged } = topic;
        let top = |k: usize| &ranked[..k.min(ranked.len())];
        let relevant = |g: &Option<f32>, rel: f32| g.is_some_and(|g| is_relevant(g, rel));
        let hits = |k: usize, rel: f32| top(k).iter().filter(|g| relevant(g, rel)).count() as f64;
        let all = |rel: f32| judged.iter().filter(|g| is_relevant(**g, rel)).count() as f64;
        let over = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        match *self {
            Measure::Ndcg(cut) => {
                let k = cut.unwrap_or(usize::MAX);
                let gains = |grades: &mut dyn Iterator<Item = f32>| -> f64 {
                    // Not `sum`, whose value for nothing is -0.
                    grades.enumerate().fold(0.0, |sum, (i, g)| sum + f64::from(g.max(0.0)) * discount(i + 1))
                };
                let mut ideal: Vec<f32> = judged.iter().copied().filter(|g| *g > 0.0).collect();
                ideal.sort_by(|a, b| b.total_cmp(a));
                over(
                    gains(&mut top(k).iter().map(|g| g.unwrap_or(0.0))),
                    gains(&mut ideal.into_iter().take(k)),
                )
            }
            Measure::Precision(k, rel) => hits(k, rel) / k as f64,
            Measure::Recall(k, rel) => over(hits(k, rel), all(rel)),
            Measure::ReciprocalRank(cut, rel) => {
                let first = top(cut.unwrap_or(usize::MAX)).iter().position(|g| relevant(g, rel));
                first.map_or(0.0, |i| 1.0 / (i + 1) as f64)
            }
            Measure::AveragePrecision(rel) => {
                let (mut found, mut sum) = (0.0, 0.0);
                for (i, _) in ranked.iter().enumerate().filter(|(_, g)| relevant(g, rel)) {
                    found += 1.0;
                    sum += found / (i + 1) as f64;
                }
                over(sum, all(rel))
            }
            Measure::Success(k, rel) => f64::from(hits(k, rel) > 0.0),
            Measure::Judged(k) => {
                over(top(k).iter().filter(|g| g.is_some()).count() as f64, k.min(ranked.len()) as f64)
            }
        }
    }
}

/// A grade of 0 or below is never relevant, whatever the level.
fn is_relevant(grade: f32, rel: f32) -> bool {
    grade >= rel && grade > 0.0
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rel = |r: f32| if r == 1.0 { String::new() } else { format!("(rel={r})") };
        match *self {
            Measure::Ndcg(None) => write!(f, "nDCG"),
            Measure::Ndcg(Some(k)) => write!(f, "nDCG@{k}"),
            Measure::Precision(k, r) => write!(f, "P{}@{k}", rel(r)),
            Measure::Recall(k, r) => write!(f, "R{}@{k}", rel(r)),
            Measure::ReciprocalRank(None, r) => write!(f, "RR{}", rel(r)),
            Measure::ReciprocalRank(Some(k), r) => write!(f, "RR{}@{k}", rel(r)),
            Measure::AveragePrecision(r) => write!(f, "AP{}", rel(r)),
            Measure::Success(k, r) => write!(f, "Success{}@{k}", rel(r)),
            Measure::Judged(k) => write!(f, "Judged@{k}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "nDCG@10",
            "nDCG",
            "P@5",
            "P(rel=2)@5",
            "R@100",
            "RR",
            "RR@10",
            "RR(rel=3)@10",
            "AP",
            "AP(rel=2)",
            "Success@1",
            "Judged@10",
        ] {
            assert_eq!(Measure::parse(name).unwrap().to_string(), name);
        }
        for bad in
            ["", "nDCG@0", "nDCG@x", "P", "AP@10", "nDCG(rel=2)@10", "P(rel=)@5", "P(rel=NaN)@5", "bpref"]
        {
            assert_eq!(Measure::parse(bad), None, "{bad}");
        }
        assert_eq!(Measure::parse("MRR@10"), Measure::parse("rr@10"));
    }
}
