//! The value of each metric for a topic.

use super::{Gains, Measure, RbpGain, Topic};
use std::cmp::Reverse;

fn discount(rank: usize) -> f64 {
    1.0 / ((rank + 1) as f64).log2()
}

/// A grade of 0 or below is never relevant, whatever the level.
fn is_relevant(grade: f32, rel: f32) -> bool {
    grade >= rel && grade > 0.0
}

fn over(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Gains {
    fn of(&self, grade: f32) -> f64 {
        match self {
            Gains::Exponential => f64::from(grade.max(0.0)).exp2() - 1.0,
            Gains::Map(pairs, n) => {
                let listed = pairs[..*n].iter().find(|(g, _)| *g == grade);
                listed.map_or(f64::from(grade.max(0.0)), |(_, gain)| f64::from(*gain))
            }
        }
    }
}

/// A topic seen at one level of relevance.
struct Seen<'a> {
    topic: &'a Topic,
    rel: f32,
}

impl Seen<'_> {
    fn top(&self, k: usize) -> &[Option<f32>] {
        &self.topic.ranked[..k.min(self.topic.ranked.len())]
    }

    fn relevant(&self, grade: &Option<f32>) -> bool {
        grade.is_some_and(|g| is_relevant(g, self.rel))
    }

    fn hits(&self, k: usize) -> f64 {
        self.top(k).iter().filter(|g| self.relevant(g)).count() as f64
    }

    fn all(&self) -> f64 {
        self.topic.judged.iter().filter(|g| is_relevant(**g, self.rel)).count() as f64
    }

    /// Σ over relevant of the precision at their ranks.
    fn precisions(&self, k: usize) -> f64 {
        let (mut found, mut sum) = (0.0, 0.0);
        for (i, _) in self.top(k).iter().enumerate().filter(|(_, g)| self.relevant(g)) {
            found += 1.0;
            sum += found / (i + 1) as f64;
        }
        sum
    }
}

impl Measure {
    /// The value for a topic.
    pub fn of(&self, topic: &Topic) -> f64 {
        let at = |rel: f32| Seen { topic, rel };
        let n = topic.ranked.len();
        match *self {
            Measure::Ndcg(cut) => ndcg(topic, cut, |g| f64::from(g.max(0.0))),
            Measure::NdcgWith(cut, gains) => ndcg(topic, cut, |g| gains.of(g)),
            Measure::Precision(k, rel) => at(rel).hits(k) / k as f64,
            Measure::Recall(k, rel) => over(at(rel).hits(k), at(rel).all()),
            Measure::ReciprocalRank(cut, rel) => {
                let seen = at(rel);
                let first = seen.top(cut.unwrap_or(n)).iter().position(|g| seen.relevant(g));
                first.map_or(0.0, |i| 1.0 / (i + 1) as f64)
            }
            Measure::AveragePrecision(rel) => over(at(rel).precisions(n), at(rel).all()),
            Measure::AveragePrecisionCut(k, rel) => over(at(rel).precisions(k), at(rel).all()),
            Measure::Success(k, rel) => f64::from(at(rel).hits(k) > 0.0),
            Measure::Judged(k) => {
                let k = k.min(n);
                over(topic.ranked[..k].iter().filter(|g| g.is_some()).count() as f64, k as f64)
            }
            Measure::Holes(k) => topic.ranked[..k.min(n)].iter().filter(|g| g.is_none()).count() as f64,
            Measure::RPrecision(rel) => over(at(rel).hits(at(rel).all() as usize), at(rel).all()),
            Measure::Bpref(rel) => bpref(&at(rel)),
            Measure::InferredAp(rel) => inferred_ap(&at(rel)),
            Measure::InterpolatedPrecision(recall, rel) => interpolated(&at(rel), recall),
            Measure::ExpectedReciprocalRank(cut, max) => expected_reciprocal_rank(topic, cut, max),
            Measure::RankBiasedPrecision { p, gain, cut } => {
                let gain = |g: f32| match gain {
                    RbpGain::Relevant(rel) => f64::from(is_relevant(g, rel)),
                    RbpGain::Graded(max) => f64::from(g.clamp(0.0, max) / max),
                };
                rank_biased(topic, p, cut, |g| g.map_or(0.0, gain)).0
            }
            Measure::RbpResidual { p, cut } => {
                let (unjudged, beyond) = rank_biased(topic, p, cut, |g| f64::from(g.is_none_or(|g| g < 0.0)));
                unjudged + beyond
            }
            Measure::Compatibility(p, normalize) => compatibility(topic, p, normalize),
            Measure::SetPrecision(rel) => over(at(rel).hits(n), n as f64),
            Measure::SetRelativePrecision(rel) => over(at(rel).hits(n), at(rel).all().min(n as f64)),
            Measure::SetRecall(rel) => over(at(rel).hits(n), at(rel).all()),
            Measure::SetF(rel, beta) => {
                let hits = at(rel).hits(n);
                let (p, r) = (over(hits, n as f64), over(hits, at(rel).all()));
                over((beta + 1.0) * p * r, beta * p + r)
            }
            Measure::SetAp(rel) => over(at(rel).hits(n) * at(rel).hits(n), at(rel).all() * n as f64),
            Measure::NumRet => n as f64,
            Measure::NumRel(rel) => at(rel).all(),
            Measure::NumRelRet(rel) => at(rel).hits(n),
            Measure::NumQ => 1.0,
        }
    }
}

/// Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002).
fn ndcg(topic: &Topic, cut: Option<usize>, gain: impl Fn(f32) -> f64) -> f64 {
    let k = cut.unwrap_or(usize::MAX);
    let sum = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
        // Not `sum`, whose value for nothing is -0.
        gains.enumerate().take(k).fold(0.0, |sum, (i, g)| sum + g * discount(i + 1))
    };
    let mut ideal: Vec<f64> = topic.judged.iter().map(|g| gain(*g)).filter(|g| *g > 0.0).collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    over(sum(&mut topic.ranked.iter().map(|g| g.map_or(0.0, &gain))), sum(&mut ideal.into_iter()))
}

/// Binary preference (Buckley and Voorhees 2004), as trec_eval has it since version 8.
fn bpref(seen: &Seen<'_>) -> f64 {
    let all = seen.all();
    let irrelevant = |g: f32| g >= 0.0 && !is_relevant(g, seen.rel);
    let pool = seen.topic.judged.iter().filter(|g| irrelevant(**g)).count() as f64;
    let (mut above, mut sum) = (0.0f64, 0.0);
    for grade in seen.topic.ranked.iter().flatten() {
        if is_relevant(*grade, seen.rel) {
            sum += if above > 0.0 { 1.0 - above.min(all) / pool.min(all) } else { 1.0 };
        } else if irrelevant(*grade) {
            above += 1.0;
        }
    }
    over(sum, all)
}

/// Inferred average precision (Yilmaz and Aslam 2006); a negative grade is a passage of the pool that was not
/// in the sample.
fn inferred_ap(seen: &Seen<'_>) -> f64 {
    const EPSILON: f64 = 0.00001;
    let (mut relevant, mut irrelevant, mut unjudged, mut sum) = (0.0, 0.0, 0.0, 0.0);
    for (i, grade) in seen.topic.ranked.iter().enumerate() {
        match grade {
            Some(g) if is_relevant(*g, seen.rel) => {
                let above = i as f64;
                let expected = if i == 0 {
                    0.0
                } else {
                    (relevant + irrelevant + unjudged) / above * (relevant + EPSILON)
                        / (relevant + irrelevant + 2.0 * EPSILON)
                };
                sum += 1.0 / (above + 1.0) + above / (above + 1.0) * expected;
                relevant += 1.0;
            }
            Some(g) if *g >= 0.0 => irrelevant += 1.0,
            Some(_) => unjudged += 1.0,
            None => {}
        }
    }
    over(sum, seen.all())
}

/// Interpolated precision at a recall, its place rounded to whole passages as in trec_eval 10.
fn interpolated(seen: &Seen<'_>, recall: f64) -> f64 {
    let needed = (recall * seen.all()).round();
    let n = seen.topic.ranked.len();
    let mut found = seen.hits(n);
    if n == 0 || found < needed {
        return 0.0;
    }
    let mut best = 0.0f64;
    for (i, grade) in seen.topic.ranked.iter().enumerate().rev() {
        if found < needed {
            break;
        }
        best = best.max(found / (i + 1) as f64);
        found -= f64::from(seen.relevant(grade));
    }
    best
}

/// Expected reciprocal rank (Chapelle et al. 2009).
fn expected_reciprocal_rank(topic: &Topic, cut: Option<usize>, max: f32) -> f64 {
    let (mut on, mut sum) = (1.0, 0.0);
    for (i, grade) in topic.ranked.iter().enumerate().take(cut.unwrap_or(usize::MAX)) {
        let grade = f64::from(grade.unwrap_or(0.0).clamp(0.0, max));
        let stop = (grade.exp2() - 1.0) / f64::from(max).exp2();
        sum += on * stop / (i + 1) as f64;
        on *= 1.0 - stop;
    }
    sum
}

/// Rank-biased precision (Moffat and Zobel 2008) and the weight of what lies past the list.
fn rank_biased(topic: &Topic, p: f64, cut: Option<usize>, gain: impl Fn(Option<f32>) -> f64) -> (f64, f64) {
    let (mut weight, mut sum) = (1.0, 0.0);
    for grade in topic.ranked.iter().take(cut.unwrap_or(usize::MAX)) {
        sum += weight * gain(*grade);
        weight *= p;
    }
    ((1.0 - p) * sum, weight)
}

/// Compatibility (Clarke, Vtyurina and Smucker 2021): rank-biased overlap of the list with the ideal list
/// that agrees with it most: grades descending, equal grades in the list's order.
fn compatibility(topic: &Topic, p: f64, normalize: bool) -> f64 {
    let relevant = |g: &f32| *g > 0.0;
    // (grade, rank), those not retrieved after all others.
    let mut ideal: Vec<(f32, usize)> = Vec::new();
    for (i, grade) in topic.ranked.iter().enumerate() {
        ideal.extend(grade.filter(relevant).map(|g| (g, i)));
    }
    let mut missing: Vec<f32> = topic.judged.iter().copied().filter(relevant).collect();
    missing.sort_by(f32::total_cmp);
    for (grade, _) in &ideal {
        if let Ok(at) = missing.binary_search_by(|g| g.total_cmp(grade)) {
            missing.remove(at);
        }
    }
    ideal.extend(missing.into_iter().map(|g| (g, usize::MAX)));
    ideal.sort_by(|a, b| b.0.total_cmp(&a.0).then(Reverse(b.1).cmp(&Reverse(a.1))));
    let depth = topic.ranked.len().max(ideal.len());
    let mut met = vec![0u32; depth];
    for (place, (_, rank)) in ideal.iter().enumerate().filter(|(_, (_, rank))| *rank < depth) {
        met[place.max(*rank)] += 1;
    }
    let overlap = |met: &dyn Fn(usize) -> u32| {
        let (mut weight, mut common, mut sum, mut norm) = (1.0, 0u32, 0.0, 0.0);
        for i in 0..depth {
            common += met(i);
            sum += weight * f64::from(common) / (i + 1) as f64;
            norm += weight;
            weight *= p;
        }
        over(sum, norm)
    };
    let value = overlap(&|i| met[i]);
    let best = if normalize { overlap(&|i| u32::from(i < ideal.len())) } else { 1.0 };
    over(value, best)
}
