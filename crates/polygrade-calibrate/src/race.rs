//! The race: which ways of training are best, without training all of them to the end.
//!
//! All contenders start on a small share of their steps, with the same seeds (the same start, the same order of
//! queries), and go on from where they stand. At each rung every pair of those that are left is compared on dev
//! ([`Contrast`]: paired over queries, with the variance between seeds pooled over the pairs). A contender that is
//! significantly worse than any other leaves. The race ends when one is left, when the rest are equivalent (each
//! pair's interval lies within ± margin), when all rungs and seeds are done, or when the budget of training tokens
//! is spent; then those that are left cannot be told apart.
//!
//! **Error control.** The level α is divided evenly over the looks at the data (the rungs, and one with all seeds); a
//! look that is known to be the last gets what is left. Within a look it is divided over the pairs by Holm's method. So
//! the probability that any contender is ever dropped for one that is truly no better, as both stand at that rung, is at
//! most α in each cell, as long as a seed's own effect is no larger than what the sample of queries leaves open
//! ([`Contrast`] says more). That methods keep their order until the end of training is not covered; docs/results.md
//! measures it, against full grids. A race may end as equivalent from half of the steps on. Successive halving (Jamieson and Talwalkar 2016) drops half
//! at each rung whatever the evidence; racing (Maron and Moore 1997; F-race, Birattari et al. 2002) is what this is.
//!
//! A race depends on nothing but the plan: results that are there from an earlier run save time, and are read only
//! up to the rung that the race has reached.

use crate::lab::{Entry, Lab};
use crate::plan::{Arm, ArmLabels, Fold, Method, Part, RaceSettings};
use crate::records::{Cell, Meeting, Records, Values};
use polygrade_data::Result;
use polygrade_eval::stats::contrast::{Contrast, SeedVariance};
use polygrade_eval::stats::correction::Correction;
use polygrade_train::{Examples, Scenario};
use serde::Serialize;
use std::collections::BTreeMap;
use std::rc::Rc;
use xxhash_rust::xxh3::Xxh3;

/// Why a race ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// One contender is left.
    One,
    /// Those that are left are equivalent.
    Equivalent,
    /// The budget is spent.
    Budget,
    /// All steps with all seeds are done.
    Complete,
}

/// One look at the data.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Share of the steps.
    pub share: f64,
    /// Passes over the training queries by then, the fewest of those compared: below 1, a part of the data was seen.
    pub passes: f64,
    /// Seeds.
    pub seeds: usize,
    /// Contenders that were compared.
    pub alive: Vec<usize>,
    /// Those that left.
    pub dropped: Vec<Dropped>,
    /// Pairs that were found to be equivalent.
    pub equivalent: Vec<(usize, usize)>,
    /// Training tokens of the race up to here.
    pub tokens: u64,
}

/// A contender that left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Dropped {
    /// Which.
    pub worse: usize,
    /// The one that it is most clearly worse than.
    pub than: usize,
    /// The mean difference, below 0.
    pub difference: f64,
    /// Its p-value, adjusted by Holm's method for the pairs of this look.
    pub p: f64,
}

/// A race and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Race {
    /// The scenario.
    pub scenario: Scenario,
    /// What the models are for.
    #[serde(flatten)]
    pub part: Part,
    /// The looks, in order.
    pub rounds: Vec<Round>,
    /// The contenders that are left.
    pub survivors: Vec<usize>,
    /// Why it ended.
    pub end: End,
    /// Tokens that were trained on.
    pub tokens: u64,
    /// Tokens that the full grid trains on, from those of the race.
    pub grid_tokens: u64,
}

/// The share of the steps from which on a race may end because the rest are equivalent.
pub const EQUIVALENT_FROM: f64 = 0.5;

/// The verdict of one look on pairs of contenders.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Those that are worse than another one.
    pub dropped: Vec<Dropped>,
    /// Equivalent pairs.
    pub equivalent: Vec<(usize, usize)>,
}

/// Compares all pairs of contenders at level `alpha` together.
pub fn judge(pairs: &BTreeMap<(usize, usize), Contrast>, alpha: f64, margin: f64) -> Verdict {
    // Two one-sided tests at alpha: the interval at 1 − 2 alpha lies inside, divided over the pairs.
    let level = 1.0 - 2.0 * alpha / pairs.len().max(1) as f64;
    let inside = |c: &Contrast| {
        let i = c.interval(level);
        i.low >= -margin && i.high <= margin
    };
    let equivalent: Vec<(usize, usize)> =
        pairs.iter().filter(|(_, c)| inside(c)).map(|(pair, _)| *pair).collect();
    let p: Vec<f64> = pairs.values().map(Contrast::p).collect();
    let adjusted = Correction::Holm.adjust(&p);
    let mut dropped: BTreeMap<usize, Dropped> = BTreeMap::new();
    for ((&(a, b), contrast), &p) in pairs.iter().zip(&adjusted) {
        // What differs for certain, but by less than the margin, is no worse.
        if p >= alpha || equivalent.contains(&(a, b)) {
            continue;
        }
        let (worse, than) = if contrast.mean < 0.0 { (a, b) } else { (b, a) };
        let found = Dropped { worse, than, difference: -contrast.mean.abs(), p };
        let kept = dropped.entry(worse).or_insert(found);
        if found.p < kept.p {
            *kept = found;
        }
    }
    Verdict { dropped: dropped.into_values().collect(), equivalent }
}

/// Queries (or units) without which nothing is told apart.
pub const FEWEST_QUERIES: usize = 10;

/// The contrasts of all pairs among `alive`. The variance between seeds is pooled over the pairs of all contenders,
/// those that left too, since they train alike.
pub fn contrasts(
    records: &Records,
    cell: Cell,
    contenders: &[ArmLabels],
    alive: &[usize],
) -> BTreeMap<(usize, usize), Contrast> {
    let mut pairs: BTreeMap<(usize, usize), [Rc<Values>; 2]> = BTreeMap::new();
    // Most meet others at the same shares, and their values are gathered once.
    let mut known: Vec<Vec<(Meeting, Rc<Values>)>> = vec![Vec::new(); contenders.len()];
    let mut values = |c: usize, at: &Meeting| {
        if let Some((_, values)) = known[c].iter().find(|(other, _)| other == at) {
            return Some(values.clone());
        }
        let values = Rc::new(records.sampled(cell, records.values_at(cell, &contenders[c], at)?));
        known[c].push((at.clone(), values.clone()));
        Some(values)
    };
    for a in 0..contenders.len() {
        for b in a + 1..contenders.len() {
            let Some(at) = records.meeting(cell, &contenders[a], &contenders[b]) else { continue };
            if let (Some(of_a), Some(of_b)) = (values(a, &at), values(b, &at)) {
                pairs.insert((a, b), [of_a, of_b]);
            }
        }
    }
    // Twins never differ; they say nothing of what chance does.
    let differing: Vec<_> = pairs.values().filter(|[a, b]| a.by_seed != b.by_seed).collect();
    let variances: Vec<SeedVariance> =
        differing.iter().map(|[a, b]| SeedVariance::of(&a.by_seed, &b.by_seed)).collect();
    // Each twin class is one system.
    let twin = |b: &usize| (0..*b).any(|a| pairs.get(&(a, *b)).is_some_and(|[x, y]| x.by_seed == y.by_seed));
    let systems = contenders.len() - (0..contenders.len()).filter(twin).count();
    let pooled = SeedVariance::pooled(&variances, systems);
    let of = |[a, b]: &[Rc<Values>; 2]| {
        if a.by_seed == b.by_seed {
            return Contrast { mean: 0.0, se: 0.0, df: f64::INFINITY };
        }
        let contrast = Contrast::of(&a.by_seed, &b.by_seed, Some(pooled));
        // A handful of queries may agree by chance.
        let few = a.queries.len() < FEWEST_QUERIES;
        if few { Contrast { se: f64::INFINITY, ..contrast } } else { contrast }
    };
    let inside = |(a, b): &(usize, usize)| alive.contains(a) && alive.contains(b);
    pairs.iter().filter(|(pair, _)| inside(pair)).map(|(k, p)| (*k, of(p))).collect()
}

/// What contenders are trained on in one scenario (and language, or pair of languages): examples by contender and fold, steps that are fair,
/// and who trains like whom.
pub struct Field {
    scenario: Scenario,
    part: Part,
    /// The contenders.
    pub contenders: Vec<ArmLabels>,
    examples: Vec<Vec<(Option<Fold>, Examples)>>,
    steps: Vec<Option<u64>>,
    /// For each contender the first one that trains alike: itself, unless it is a twin.
    pub twin_of: Vec<usize>,
}

impl Field {
    /// Prepares the contenders. With `folds`, one model a fold; else one on the whole training split.
    pub fn new(lab: &Lab, scenario: Scenario, part: &Part, contenders: Vec<ArmLabels>, folds: bool) -> Field {
        let plan = lab.plan;
        let folds = if folds { plan.fold_list() } else { vec![None] };
        let arm = |labels: &ArmLabels, fold| Arm {
            scenario,
            part: part.clone(),
            labels: labels.clone(),
            seed: 0,
            fold,
            altered: None,
        };
        let examples: Vec<Vec<(Option<Fold>, Examples)>> = contenders
            .iter()
            .map(|c| folds.iter().filter_map(|f| Some((*f, lab.examples(&arm(c, *f))?))).collect())
            .collect();
        let mut seen: Vec<(u64, usize)> = Vec::new();
        let mut twin_of = Vec::new();
        for (i, (labels, of)) in contenders.iter().zip(&examples).enumerate() {
            let mut hash = Xxh3::new();
            if let ArmLabels::Method(m) = labels {
                hash.update(m.loss().name().as_bytes());
            }
            of.iter().for_each(|(_, e)| e.fingerprint(|n| hash.update(&n.to_le_bytes())));
            let hash = hash.digest();
            match seen.iter().find(|(h, _)| *h == hash) {
                Some((_, first)) => twin_of.push(*first),
                None => {
                    seen.push((hash, i));
                    twin_of.push(i);
                }
            }
        }
        let steps = steps(lab, scenario, part, &examples);
        Field { scenario, part: part.clone(), contenders, examples, steps, twin_of }
    }

    /// The arms of these contenders and seeds that have to be trained.
    pub fn entries(&self, which: &[usize], seeds: &[u64]) -> Vec<(usize, Entry<'_>)> {
        let mut out = Vec::new();
        for &c in which.iter().filter(|c| self.twin_of[**c] == **c) {
            for &seed in seeds {
                for (fold, examples) in &self.examples[c] {
                    let arm = self.arm(c, seed, *fold);
                    out.push((c, Entry::new(arm, Some(examples), self.steps[c])));
                }
            }
        }
        out
    }

    /// Passes over the training queries in a whole training, the fewest among these contenders.
    fn passes(&self, lab: &Lab, which: &[usize]) -> f64 {
        let settings = &lab.plan.settings;
        let of = |c: &usize| {
            let (_, examples) = self.examples[*c].first()?;
            let steps = self.steps[*c].or(settings.steps);
            let each = examples.steps_per_epoch(settings.batch).max(1) as f64;
            Some(steps.map_or(settings.epochs as f64, |s| s as f64 / each))
        };
        which.iter().filter_map(of).fold(f64::INFINITY, f64::min)
    }

    /// The arm of a contender.
    pub fn arm(&self, contender: usize, seed: u64, fold: Option<Fold>) -> Arm {
        Arm {
            scenario: self.scenario,
            part: self.part.clone(),
            labels: self.contenders[contender].clone(),
            seed,
            fold,
            altered: None,
        }
    }

    /// Gives twins among `which` the results of the ones that they train like.
    pub fn share(&self, lab: &Lab, which: &[usize], seeds: &[u64]) {
        for &c in which.iter().filter(|c| self.twin_of[**c] != **c) {
            for &seed in seeds {
                for (fold, _) in &self.examples[c] {
                    lab.copy(&self.arm(self.twin_of[c], seed, *fold), &self.arm(c, seed, *fold));
                }
            }
        }
    }
}

/// The steps of each contender: those of its epochs, or as many as give all the pairs of the grid's method that has the
/// fewest.
fn steps(
    lab: &Lab,
    scenario: Scenario,
    part: &Part,
    examples: &[Vec<(Option<Fold>, Examples)>],
) -> Vec<Option<u64>> {
    let of = |of: &Vec<(Option<Fold>, Examples)>| lab.steps(scenario, part, &of.first()?.1);
    examples.iter().map(of).collect()
}

/// Runs a race between the contenders of `field`.
pub fn race(lab: &Lab, field: &Field, settings: &RaceSettings) -> Result<Race> {
    let plan = lab.plan;
    let few = &plan.seeds[..settings.seeds.min(plan.seeds.len())];
    let looks = looks(settings, few.len(), plan.seeds.len());
    let (mut alpha_left, even) = (1.0 - plan.level, (1.0 - plan.level) / looks.len() as f64);
    let cell = Cell::of(plan, field.scenario, &field.part);
    let first: Vec<usize> = (0..field.contenders.len()).filter(|c| field.twin_of[*c] == *c).collect();
    let mut alive: Vec<usize> = (0..field.contenders.len()).collect();
    let mut entries = field.entries(&alive, few);
    let mut race = Race {
        scenario: field.scenario,
        part: field.part.clone(),
        rounds: Vec::new(),
        survivors: Vec::new(),
        end: End::Complete,
        tokens: 0,
        grid_tokens: 0,
    };
    // What one arm's whole training costs, by contender, once it is known.
    let mut whole: BTreeMap<usize, f64> = BTreeMap::new();
    let mut reached = 0.0;
    if first.len() < 2 {
        // Nothing differs, so that there is nothing to find out; the one model is still measured.
        let mut only: Vec<Entry> = entries.into_iter().map(|(_, e)| e).collect();
        lab.advance(&mut only, 1.0, false)?;
        field.share(lab, &alive, few);
        race.end = if alive.len() == 1 { End::One } else { End::Equivalent };
        race.survivors = alive;
        return Ok(race);
    }
    for (number, &(share, seeds)) in looks.iter().enumerate() {
        let runners = alive.iter().filter(|c| field.twin_of[**c] == **c);
        let (mut share, mut last) = (share, false);
        let seeds_now = &plan.seeds[..seeds];
        if number == 0 {
            // Nothing is known of the cost yet, but the grid's is in the same unit: arms, seeds and shares.
            share = share.min(settings.budget * plan.seeds.len() as f64 / seeds as f64);
        } else {
            let grid: f64 = whole.values().sum::<f64>() * plan.seeds.len() as f64;
            let left = settings.budget * grid - race.tokens as f64;
            let rate: f64 = runners.map(|c| whole.get(c).copied().unwrap_or(0.0)).sum();
            let more = |share: f64| match seeds > few.len() {
                true => rate * (seeds - few.len()) as f64,
                false => rate * seeds as f64 * (share - reached),
            };
            if more(share) > left {
                // What is left buys a part of the way, in whole hundredths.
                let part = reached + left / (rate * seeds as f64).max(1.0);
                share = (part * 100.0).floor() / 100.0;
                if seeds > few.len() || share < reached + 0.05 {
                    race.end = End::Budget;
                    break;
                }
                last = true;
            }
        }
        if seeds > few.len() {
            entries = field.entries(&alive, seeds_now);
        }
        let mut going: Vec<Entry> =
            entries.drain(..).filter(|(c, _)| alive.contains(c)).map(|(_, e)| e).collect();
        lab.advance(&mut going, share, false)?;
        field.share(lab, &alive, seeds_now);
        entries = going
            .into_iter()
            .filter_map(|e| Some((field.contenders.iter().position(|c| *c == e.arm.labels)?, e)))
            .collect();
        reached = share;
        let records = lab.records();
        (race.tokens, whole) = spent(&records, field, &first, &plan.seeds);
        let alpha = if last || number + 1 == looks.len() { alpha_left } else { even };
        alpha_left -= alpha;
        let pairs = contrasts(&records, cell, &field.contenders, &alive);
        drop(records);
        let verdict = judge(&pairs, alpha, settings.margin);
        let before = alive.clone();
        alive.retain(|c| verdict.dropped.iter().all(|d| d.worse != *c));
        race.rounds.push(Round {
            share,
            passes: share * field.passes(lab, &before),
            seeds,
            alive: before,
            dropped: verdict.dropped,
            equivalent: verdict.equivalent.clone(),
            tokens: race.tokens,
        });
        for (c, entry) in &entries {
            if !alive.contains(c) {
                lab.forget(&entry.arm)?;
            }
        }
        let all_equivalent = alive.iter().enumerate().all(|(i, a)| {
            alive[i + 1..].iter().all(|b| verdict.equivalent.contains(&(*a.min(b), *a.max(b))))
        });
        race.end = match alive.len() {
            1 => End::One,
            // Before training has moved them, all methods are alike.
            _ if all_equivalent && share >= EQUIVALENT_FROM => End::Equivalent,
            _ if last => End::Budget,
            _ => continue,
        };
        break;
    }
    race.grid_tokens = (whole.values().sum::<f64>() * plan.seeds.len() as f64) as u64;
    race.survivors = alive;
    Ok(race)
}

/// The looks at the data: each rung with the few seeds, and the last with all.
fn looks(settings: &RaceSettings, few: usize, all: usize) -> Vec<(f64, usize)> {
    let mut looks: Vec<(f64, usize)> = settings.rungs.iter().map(|r| (*r, few)).collect();
    if all > few {
        looks.push((1.0, all));
    }
    looks
}

/// Tokens that the arms of a field have been trained on, and those of one arm's whole training by contender.
fn spent(records: &Records, field: &Field, first: &[usize], seeds: &[u64]) -> (u64, BTreeMap<usize, f64>) {
    let mut total = 0;
    let mut whole = BTreeMap::new();
    for &c in first {
        let (mut tokens, mut seeds_seen) = (0.0, 0);
        for &seed in seeds {
            let mut any = false;
            for (fold, _) in &field.examples[c] {
                let result = records.arms.get(&field.arm(c, seed, *fold).name());
                if let Some((result, rung)) = result.and_then(|r| Some((r, r.last()?))) {
                    total += rung.tokens;
                    // Not by the share, which a rung of whole steps is a little beyond.
                    tokens += rung.tokens as f64 * result.steps as f64 / rung.step.max(1) as f64;
                    any = true;
                }
            }
            seeds_seen += usize::from(any);
        }
        whole.insert(c, tokens / seeds_seen.max(1) as f64);
    }
    (total, whole)
}

/// All methods as contenders.
pub fn methods(grid: &[Method]) -> Vec<ArmLabels> {
    grid.iter().map(|m| ArmLabels::Method(*m)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_nn::rng::CounterRng;

    /// Of a model's mean, where the error of a difference over 50 queries is about 0.017.
    const SEED_EFFECT: f64 = 0.01;

    /// Contrasts of contenders with these means, as a look with so many queries and two seeds sees them.
    fn pairs(
        rng: &CounterRng,
        means: &[f64],
        queries: usize,
        share: f64,
    ) -> BTreeMap<(usize, usize), Contrast> {
        let value = |i: usize, s: u64, q: u64| {
            let own = rng.fork(1 + i as u64);
            // What a model is at a share of its steps goes on being so: looks are not independent.
            let grown =
                share.sqrt() * own.fork(s).normal(q) + (1.0 - share).sqrt() * own.fork(99 + s).normal(q);
            means[i]
                + 0.2 * rng.normal(q)
                + SEED_EFFECT * own.normal(1000 + s)
                + 0.05 * own.normal(q)
                + 0.1 * grown
        };
        let all: Vec<Vec<Vec<f64>>> = (0..means.len())
            .map(|i| (0..2).map(|s| (0..queries as u64).map(|q| value(i, s, q)).collect()).collect())
            .collect();
        let of = |a: usize, b: usize| SeedVariance::of(&all[a], &all[b]);
        let every: Vec<(usize, usize)> =
            (0..means.len()).flat_map(|a| (a + 1..means.len()).map(move |b| (a, b))).collect();
        let variances: Vec<SeedVariance> = every.iter().map(|(a, b)| of(*a, *b)).collect();
        let pooled = SeedVariance::pooled(&variances, means.len());
        every.iter().map(|&(a, b)| ((a, b), Contrast::of(&all[a], &all[b], Some(pooled)))).collect()
    }

    #[test]
    fn the_worse_leave_and_the_equal_are_equivalent() {
        let rng = CounterRng::new(5);
        let verdict = judge(&pairs(&rng, &[0.6, 0.1, 0.6], 4000, 1.0), 0.05, 0.2);
        assert_eq!(verdict.dropped.iter().map(|d| d.worse).collect::<Vec<_>>(), [1]);
        assert!(verdict.dropped[0].difference < -0.3);
        assert_eq!(verdict.equivalent, [(0, 2)]);
        // A few queries say neither.
        let verdict = judge(&pairs(&rng, &[0.5, 0.49, 0.5], 8, 1.0), 0.05 / 4.0, 0.005);
        assert_eq!((verdict.dropped.len(), verdict.equivalent.len()), (0, 0));
    }

    /// Contenders that are truly alike, looked at three times while they grow: one is dropped in no more than α of the
    /// races, although models of one seed differ from those of another.
    #[test]
    fn races_of_equals_drop_none_more_often_than_promised() {
        for contenders in [2, 4] {
            let (races, looks) = (1500, [0.25, 0.5, 1.0]);
            let mut dropped = 0;
            for race in 0..races {
                let rng = CounterRng::new(77).fork(race);
                let means = vec![0.5; contenders];
                let any = looks.iter().any(|share| {
                    let pairs = pairs(&rng, &means, 50, *share);
                    !judge(&pairs, 0.05 / looks.len() as f64, 0.005).dropped.is_empty()
                });
                dropped += u32::from(any);
            }
            let share = f64::from(dropped) / races as f64;
            assert!(share <= 0.05, "{contenders} contenders: {share}");
        }
    }

    #[test]
    fn looks_end_with_all_seeds() {
        let settings = RaceSettings::for_methods(3);
        assert_eq!(looks(&settings, 2, 3), [(0.25, 2), (0.5, 2), (1.0, 2), (1.0, 3)]);
        assert_eq!(looks(&settings, 2, 2).len(), 3);
    }
}
