//! The metrics, by ir_measures' names and in trec_eval's definitions.
//!
//! A topic is a ranked list of grades with the grades of all judged passages. Passages without a judgment and
//! passages with a negative grade (in the pool, but unjudged) gain nothing and keep their rank. `rel` is the
//! lowest grade that counts as relevant where a metric is binary (trec_eval's `-l`, 1 by default); metrics of
//! graded gain never use it. `docs/metrics.md` has every formula with its source and its edge cases.
//!
//! | metric | definition |
//! |---|---|
//! | nDCG@k | Σᵢ₌₁ᵏ gain(gᵢ) / log₂(i + 1), over the same sum of the best order of all judged grades |
//! | P@k | relevant in the top k, over k even where the list is shorter |
//! | R@k | relevant in the top k, over all relevant |
//! | RR, RR@k | 1 / rank of the first relevant |
//! | AP, AP@k | mean over all relevant of the precision at its rank; 0 where it is not retrieved |
//! | Success@k | 1 if a relevant passage is in the top k |
//! | Rprec | precision at rank R, the number of relevant |
//! | Bpref | mean over relevant of 1 − min(n, R) / min(N, R), n of the N judged irrelevant being above |
//! | infAP | average precision expected from a sampled pool |
//! | IPrec@r | highest precision at any rank from the one of recall r on |
//! | ERR@k | Σᵢ (1/i) pᵢ Πⱼ₍ⱼ<ᵢ₎ (1 − pⱼ), p = (2ᵍ − 1) / 2ᵐᵃˣ |
//! | RBP, RBPres | (1 − p) Σᵢ pⁱ⁻¹ gainᵢ, and how much more the unjudged could bring |
//! | Compat | rank-biased overlap with the nearest ideal list, over that of an ideal list with itself |
//! | Judged@k, Holes@k | share of judged, and number of unjudged, in the top k |
//! | SetP, SetR, SetF, SetAP, SetRelP | of the retrieved set, whatever its order |
//! | NumQ, NumRet, NumRel, NumRelRet | counts, summed over topics |
//!
//! A topic without a relevant passage scores 0 and counts in the mean, as in trec_eval.

mod compute;
mod names;

/// What a metric is computed from.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// The grades in rank order; `None` where there is no judgment.
    pub ranked: Vec<Option<f32>>,
    /// The grades of all judged passages of the pool, retrieved or not, in any order.
    pub judged: Vec<f32>,
}

/// Most grades to which [`Gains::Map`] can give gains.
pub const MAX_GAINS: usize = 16;

/// What a grade g is worth to nDCG.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gains {
    /// 2ᵍ − 1 (Burges et al. 2005), ir_measures' `dcg='exp-log2'`.
    Exponential,
    /// The gain of each grade that is listed as (grade, gain), the grade itself for others; the first `usize`
    /// pairs count. ir_measures' `gains={…}`, trec_eval's `-m ndcg.1=3,2=9`.
    Map([(f32, f32); MAX_GAINS], usize),
}

/// A metric with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// nDCG with linear gains, cut at a rank or not.
    Ndcg(Option<usize>),
    /// nDCG with other gains, cut at a rank or not.
    NdcgWith(Option<usize>, Gains),
    /// Precision at a rank.
    Precision(usize, f32),
    /// Recall at a rank.
    Recall(usize, f32),
    /// Reciprocal rank, cut at a rank or not.
    ReciprocalRank(Option<usize>, f32),
    /// Average precision.
    AveragePrecision(f32),
    /// Average precision of a list cut at a rank; still over all relevant.
    AveragePrecisionCut(usize, f32),
    /// Success at a rank.
    Success(usize, f32),
    /// Share of judged passages at a rank.
    Judged(usize),
    /// Number of passages without a judgment down to a rank.
    Holes(usize),
    /// Precision at the rank that equals the number of relevant.
    RPrecision(f32),
    /// Binary preference.
    Bpref(f32),
    /// Inferred average precision.
    InferredAp(f32),
    /// Interpolated precision at a recall of 0 to 1.
    InterpolatedPrecision(f64, f32),
    /// Expected reciprocal rank, cut or not, with the highest grade of the scale.
    ExpectedReciprocalRank(Option<usize>, f32),
    /// Rank-biased precision with persistence p.
    RankBiasedPrecision {
        /// Chance to look at the next passage, above 0 and below 1.
        p: f64,
        /// What is a gain.
        gain: RbpGain,
        /// Cut at a rank or not.
        cut: Option<usize>,
    },
    /// What rank-biased precision could still gain from unjudged passages, and from those past the list.
    RbpResidual {
        /// Chance to look at the next passage, above 0 and below 1.
        p: f64,
        /// Cut at a rank or not.
        cut: Option<usize>,
    },
    /// Compatibility with persistence p, normalised or not.
    Compatibility(f64, bool),
    /// Precision of the retrieved set.
    SetPrecision(f32),
    /// Precision of the retrieved set over the best that a set of its size could have.
    SetRelativePrecision(f32),
    /// Recall of the retrieved set.
    SetRecall(f32),
    /// Weighted harmonic mean of the set's precision and recall; the weight of recall.
    SetF(f32, f64),
    /// Precision times recall of the retrieved set.
    SetAp(f32),
    /// Number of retrieved passages; summed over topics.
    NumRet,
    /// Number of relevant passages; summed over topics.
    NumRel(f32),
    /// Number of relevant passages retrieved; summed over topics.
    NumRelRet(f32),
    /// Number of topics.
    NumQ,
}

/// The gain of a passage in rank-biased precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RbpGain {
    /// 1 for a grade from this on.
    Relevant(f32),
    /// The grade over the scale's highest.
    Graded(f32),
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

    /// The depth of the ranked list that the metric needs; `None` is all of it.
    pub fn depth(&self) -> Option<usize> {
        match *self {
            Measure::Ndcg(cut)
            | Measure::NdcgWith(cut, _)
            | Measure::ReciprocalRank(cut, _)
            | Measure::ExpectedReciprocalRank(cut, _)
            | Measure::RankBiasedPrecision { cut, .. }
            | Measure::RbpResidual { cut, .. } => cut,
            Measure::Precision(k, _)
            | Measure::Recall(k, _)
            | Measure::AveragePrecisionCut(k, _)
            | Measure::Success(k, _)
            | Measure::Judged(k)
            | Measure::Holes(k) => Some(k),
            Measure::NumQ | Measure::NumRel(_) => Some(0),
            _ => None,
        }
    }

    /// Whether a collection's value is the sum over topics and not the mean.
    pub fn is_count(&self) -> bool {
        matches!(self, Measure::NumQ | Measure::NumRet | Measure::NumRel(_) | Measure::NumRelRet(_))
    }

    /// A collection's value from those of its topics: their mean, or for counts their sum; 0 without topics.
    pub fn summary(&self, values: impl IntoIterator<Item = f64>) -> f64 {
        let (sum, n) = values.into_iter().fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
        if self.is_count() || n == 0.0 { sum } else { sum / n }
    }
}
