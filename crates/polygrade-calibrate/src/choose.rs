//! The choice, from dev values alone.
//!
//! For each scenario and query language: the *best* method is the one that no other is above, every two of them
//! compared at the greatest share of their steps that both were trained for. Another is *as good* where the race
//! left it in, or, where no race was run for the cell, where the interval of the paired difference to the best holds
//! 0; with k rivals that interval has the level 1 − (1 − level)/k (Bonferroni), so that the whole set is right as
//! often as `level` says.
//!
//! What is *chosen* for a model of its own is the best method of all languages together wherever a language cannot tell it from its own
//! best, and its own best elsewhere. A few dozen queries a language make its best mostly chance; only languages
//! that clearly want another method get it. The same holds for pairs of languages in the cross-lingual scenario.
//!
//! One model for several languages may still give each its own threshold. [`per_language`] starts from the
//! monolingual answers, takes one language back at a time, and keeps what comes out only where it is significantly
//! better than the best single threshold.

use crate::plan::{ArmLabels, Method, Part, Plan};
use crate::race::{self, End, Race};
use crate::records::{Cell, Records};
use polygrade_data::{Error, Lang, Result};
use polygrade_eval::bootstrap::{self, Interval};
use polygrade_eval::stats::contrast::Contrast;
use polygrade_train::labels::Rule;
use polygrade_train::{LabelPolicies, Scenario};
use serde::Serialize;
use std::collections::BTreeMap;

/// How sure a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// One method is better than all others.
    Settled,
    /// Those that are as good differ by less than the margin.
    Equivalent,
    /// Those that are as good cannot be told apart.
    Open,
}

/// The comparison of the methods in one cell.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The language of the queries; `None` for all together.
    pub lang: Option<Lang>,
    /// The language of the passages, where the cell is one of a pair of languages.
    pub passage_lang: Option<Lang>,
    /// Queries behind it.
    pub queries: usize,
    /// Mean and interval of each method, as far as it was trained.
    pub means: Vec<Interval>,
    /// The share of its steps that each method was trained for.
    pub reached: Vec<f64>,
    /// Each method's paired difference to the best, with its interval, at the share that both reached.
    pub minus_best: Vec<Interval>,
    /// In how many of the resamples each method is the best of those that went furthest.
    pub best_share: Vec<f64>,
    /// The best method, by its place in the grid.
    pub best: usize,
    /// The runner-up and the difference to it, where there are two methods.
    pub runner_up: Option<(usize, Interval)>,
    /// Methods that are as good as the best, itself included.
    pub equivalent: Vec<usize>,
    /// How sure that is.
    pub verdict: Verdict,
    /// The method to use.
    pub chosen: usize,
}

/// One model with a threshold for each language, against the best single one.
#[derive(Debug, Clone, Serialize)]
pub struct PerLanguage {
    /// The policies.
    pub policies: LabelPolicies,
    /// How much better it is than the best single method on dev, all languages together.
    pub over_single: Interval,
    /// The p-value of that.
    pub p: f64,
    /// Training tokens that it took to find out.
    pub tokens: u64,
    /// Whether it is what was chosen.
    pub chosen: bool,
}

/// The choice in one scenario.
#[derive(Debug, Clone)]
pub struct Choice {
    /// All languages together.
    pub overall: Comparison,
    /// Each language.
    pub by_lang: Vec<Comparison>,
    /// Each pair of languages, in the cross-lingual scenario.
    pub by_pair: Vec<Comparison>,
    /// One model with several thresholds, where it was tried.
    pub per_language: Option<PerLanguage>,
    grid: Vec<Method>,
}

impl Choice {
    /// The method for queries in a language, were each to have its own; that of all together where no dev query
    /// speaks for it.
    pub fn of(&self, lang: &Lang) -> Method {
        let own = self.by_lang.iter().find(|c| c.lang.as_ref() == Some(lang));
        self.grid[own.map_or(self.overall.chosen, |c| c.chosen)]
    }

    /// How the chosen model for a part is trained.
    pub fn labels_of(&self, part: &Part) -> ArmLabels {
        let Some(lang) = &part.lang else { return self.labels() };
        let pair = |c: &&Comparison| c.lang == part.lang && c.passage_lang == part.passage_lang;
        let own = part.passage_lang.as_ref().and_then(|_| self.by_pair.iter().find(pair));
        ArmLabels::Method(own.map_or_else(|| self.of(lang), |c| self.grid[c.chosen]))
    }

    /// The single method for all.
    pub fn single(&self) -> Method {
        self.grid[self.overall.chosen]
    }

    /// How the chosen model of several languages is trained.
    pub fn labels(&self) -> ArmLabels {
        match &self.per_language {
            Some(p) if p.chosen => ArmLabels::Policies(p.policies.clone()),
            _ => ArmLabels::Method(self.single()),
        }
    }

    /// Makes the cells of languages and pairs say what the one model is trained with.
    pub fn settle(&mut self, scenario: Scenario) {
        let overall = self.overall.chosen;
        let policies = match self.labels() {
            ArmLabels::Policies(policies) => Some(policies),
            _ => None,
        };
        for c in self.by_lang.iter_mut().chain(&mut self.by_pair) {
            let own = policies.as_ref().zip(c.lang.as_ref()).and_then(|(p, lang)| {
                let policy = p.of(scenario, lang, c.passage_lang.as_ref().unwrap_or(lang));
                self.grid.iter().position(|m| *m == Method::Policy(policy))
            });
            c.chosen = own.unwrap_or(overall);
        }
    }

    /// The policies that the comparisons by language and by pair ask for, where they differ from the single one and
    /// all are policies.
    pub fn wanted(&self, scenario: Scenario) -> Option<LabelPolicies> {
        let of = |m: Method| if let Method::Policy(p) = m { Some(p) } else { None };
        let default = of(self.single())?;
        let mut rules = Vec::new();
        for c in self.by_pair.iter().chain(&self.by_lang) {
            // What wants a loss of grades keeps the policy of all.
            let policy = of(self.grid[c.chosen]).unwrap_or(default);
            // A pair is asked first; it needs no rule where it wants what its language wants.
            let usual = match &c.passage_lang {
                Some(_) => of(c.lang.as_ref().map_or(self.single(), |l| self.of(l))).unwrap_or(default),
                None => default,
            };
            if policy != usual {
                rules.push(Rule {
                    scenario: Some(scenario),
                    query_lang: c.lang.clone(),
                    passage_lang: c.passage_lang.clone(),
                    ..Rule::new(policy)
                });
            }
        }
        (!rules.is_empty()).then_some(LabelPolicies { rules, ..LabelPolicies::uniform(default) })
    }
}

/// Chooses for one scenario. Where races were run, those that they left in are the ones that are as good.
pub fn choose(records: &Records, scenario: Scenario, races: &[Race], margin: f64) -> Result<Choice> {
    let plan = records.plan;
    let survivors = |cell: Cell| {
        let of = |r: &&Race| {
            let own = Cell::of(plan, scenario, &r.part);
            (own.lang, own.pool) == (cell.lang, cell.pool)
        };
        let race = races.iter().find(of)?;
        Some((race.survivors.as_slice(), race.end))
    };
    let compare = |cell: Cell, level: f64| compare(records, cell, survivors(cell), level, margin);
    let Some(mut overall) = compare(Cell::new(scenario, None), plan.level) else {
        let name = scenario.name();
        return Err(Error::Usage(format!(
            "no dev query has a relevant passage to find in the {name} scenario"
        )));
    };
    let mut by_lang = Vec::new();
    for lang in &plan.langs {
        let Some(mut c) = compare(Cell::new(scenario, Some(lang)), plan.level) else { continue };
        c.chosen = if c.equivalent.contains(&overall.best) { overall.best } else { c.best };
        by_lang.push(c);
    }
    // A lone language, or languages that all rule the overall best out, decide for the whole.
    if let Some(first) = by_lang.first().map(|c| c.chosen)
        && by_lang.iter().all(|c| c.chosen == first)
    {
        overall.chosen = first;
    }
    let mut by_pair = Vec::new();
    if scenario == Scenario::CrossLingual {
        // Many pairs of one model ask at once: each has to be surer. A model of its own only asks for itself.
        let pairs = (plan.langs.len() * plan.langs.len().saturating_sub(1)).max(1) as f64;
        let asking = if plan.pairs.is_empty() { pairs } else { 1.0 };
        let level = 1.0 - (1.0 - plan.level) / asking;
        for own in &by_lang {
            for (pool, passage) in plan.langs.iter().enumerate() {
                let cell = Cell { scenario, lang: own.lang.as_ref(), pool: Some(pool as u16) };
                let Some(mut c) = compare(cell, level) else { continue };
                c.chosen = if c.equivalent.contains(&own.chosen) { own.chosen } else { c.best };
                c.passage_lang = Some(passage.clone());
                by_pair.push(c);
            }
        }
    }
    Ok(Choice { overall, by_lang, by_pair, per_language: None, grid: plan.grid.clone() })
}

fn compare(
    records: &Records,
    cell: Cell,
    race: Option<(&[usize], End)>,
    level: f64,
    margin: f64,
) -> Option<Comparison> {
    let plan = records.plan;
    let methods = race::methods(&plan.grid);
    let all: Vec<usize> = (0..methods.len()).collect();
    let own: Vec<_> =
        methods.iter().map(|m| records.dev(cell, m).map(|v| records.sampled(cell, v))).collect();
    let own = own.into_iter().collect::<Option<Vec<_>>>()?;
    if own.first().is_none_or(|v| v.queries.is_empty()) {
        return None;
    }
    let pairs = race::contrasts(records, cell, &methods, &all);
    let difference = |a: usize, b: usize| match pairs.get(&(a.min(b), a.max(b))) {
        Some(c) if a < b => *c,
        Some(c) => Contrast { mean: -c.mean, ..*c },
        None => Contrast { mean: 0.0, se: 0.0, df: f64::INFINITY },
    };
    let candidates = race.map_or(all.as_slice(), |(survivors, _)| survivors);
    let mut order = candidates.to_vec();
    // Rounding aside, of equal ones the lower threshold comes first: it leaves more positives.
    let lead = |i: usize| {
        let rivals = candidates.iter().filter(|j| **j != i);
        let least = rivals.map(|j| difference(i, *j).mean).fold(f64::INFINITY, f64::min);
        (least.min(1.0) * 1e9).round()
    };
    let rank = |i: usize| plan.grid[i].order();
    order.sort_by(|a, b| {
        let lower = rank(*a).partial_cmp(&rank(*b)).unwrap_or(std::cmp::Ordering::Equal);
        lead(*b).total_cmp(&lead(*a)).then(lower)
    });
    let best = *order.first()?;
    let rivals = (all.len() - 1).max(1) as f64;
    let strict = 1.0 - (1.0 - level) / rivals;
    let equivalent: Vec<usize> = match race {
        Some((survivors, _)) => survivors.to_vec(),
        None => all
            .iter()
            .copied()
            .filter(|&i| i == best || difference(best, i).interval(strict).holds_zero())
            .collect(),
    };
    let tost = |a: usize, b: usize| {
        let i = difference(a, b).interval(1.0 - 2.0 * (1.0 - level) / rivals);
        i.low >= -margin && i.high <= margin
    };
    let verdict = match (equivalent.len(), race.map(|r| r.1)) {
        (1, _) => Verdict::Settled,
        (_, Some(End::Equivalent)) => Verdict::Equivalent,
        (_, Some(_)) => Verdict::Open,
        _ if equivalent.iter().all(|a| equivalent.iter().all(|b| a >= b || tost(*a, *b))) => {
            Verdict::Equivalent
        }
        _ => Verdict::Open,
    };
    let mut others: Vec<usize> = all.iter().copied().filter(|i| *i != best).collect();
    others.sort_by(|a, b| difference(best, *a).mean.total_cmp(&difference(best, *b).mean));
    let reached: Vec<f64> = methods.iter().map(|m| records.reached(cell, m)).collect();
    Some(Comparison {
        lang: cell.lang.cloned(),
        passage_lang: None,
        queries: own[best].queries.len(),
        means: own.iter().map(|v| bootstrap::mean(&v.by_seed, plan.level)).collect(),
        minus_best: all.iter().map(|&i| difference(i, best).interval(plan.level)).collect(),
        best_share: best_share(records, cell, &methods, &reached),
        reached,
        best,
        runner_up: others.first().map(|&i| (i, difference(best, i).interval(plan.level))),
        equivalent,
        verdict,
        chosen: best,
    })
}

/// How often each of the methods that went furthest is the best in resamples; 0 for the others.
fn best_share(records: &Records, cell: Cell, methods: &[ArmLabels], reached: &[f64]) -> Vec<f64> {
    let furthest = reached.iter().copied().fold(0.0, f64::max);
    let which: Vec<usize> = (0..methods.len()).filter(|i| reached[*i] == furthest).collect();
    let values: Vec<_> = which
        .iter()
        .filter_map(|&i| records.pair(cell, &methods[i], &methods[which[0]]))
        .map(|p| records.sampled(cell, p.a))
        .collect();
    let mut out = vec![0.0; methods.len()];
    let same = values.iter().all(|v| v.by_seed.len() == values[0].by_seed.len());
    if values.len() == which.len() && same {
        let systems: Vec<&[Vec<f64>]> = values.iter().map(|v| v.by_seed.as_slice()).collect();
        for (i, share) in which.iter().zip(bootstrap::best_share(&systems)) {
            out[*i] = share;
        }
    }
    out
}

/// Candidates for one model with a threshold for each language: what languages want one by one, and the same with one
/// language at a time taken back to the single threshold (a sweep of coordinate search). At most `most` languages are
/// taken back, those that come first.
pub fn candidates(single: Method, wanted: &LabelPolicies, most: usize) -> Vec<LabelPolicies> {
    let mut out = vec![wanted.clone()];
    let langs: BTreeMap<Option<&Lang>, ()> =
        wanted.rules.iter().map(|r| (r.query_lang.as_ref(), ())).collect();
    if langs.len() > 1 && matches!(single, Method::Policy(_)) {
        for lang in langs.keys().take(most) {
            let rules = wanted.rules.iter().filter(|r| r.query_lang.as_ref() != *lang).cloned().collect();
            out.push(LabelPolicies { rules, ..wanted.clone() });
        }
    }
    out
}

/// What a race between the best single method (the first contender) and models with several thresholds says: the one
/// with the highest mean of those that are left, and whether it is significantly better than the single one.
pub fn per_language(records: &Records, race: &Race, contenders: &[ArmLabels]) -> Option<PerLanguage> {
    let cell = Cell::new(race.scenario, None);
    let all: Vec<usize> = (0..contenders.len()).collect();
    let pairs = race::contrasts(records, cell, contenders, &all);
    // Those that left the race were worse than another one; where all but the single one left, it is the better.
    let best = race
        .survivors
        .iter()
        .copied()
        .filter(|c| *c != 0)
        .filter_map(|c| Some((c, pairs.get(&(0, c))?)))
        .max_by(|a, b| (-a.1.mean).total_cmp(&-b.1.mean))?;
    let (which, contrast) = (best.0, Contrast { mean: -best.1.mean, ..*best.1 });
    let ArmLabels::Policies(policies) = &contenders[which] else { return None };
    // The one that is best of several was picked for its mean: its p counts for all of them.
    let p = (contrast.p() * (contenders.len() - 1) as f64).min(1.0);
    Some(PerLanguage {
        policies: policies.clone(),
        over_single: contrast.interval(records.plan.level),
        p,
        tokens: race.tokens,
        // The other half of the level is the race's.
        chosen: contrast.mean > 0.0 && p < (1.0 - records.plan.level) / 2.0,
    })
}

/// The margin of equivalence of a plan.
pub fn margin(plan: &Plan) -> f64 {
    match &plan.search {
        crate::plan::Search::Race(race) => race.margin,
        crate::plan::Search::Grid => crate::plan::RaceSettings::for_methods(plan.grid.len()).margin,
    }
}
