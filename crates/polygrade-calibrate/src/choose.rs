//! The choice, from dev values alone.
//!
//! For each scenario and query language: τ_best has the highest mean; a threshold is *equivalent* to it where
//! the bootstrap interval of the paired difference holds 0. With k rivals the interval has the level
//! 1 − (1 − level)/k (Bonferroni), so that the whole set is right as often as `level` says.
//!
//! What is *chosen* is τ_best of all languages together wherever a language cannot tell it from its own best,
//! and its own best elsewhere. A few dozen queries a language make its τ_best mostly chance; only languages
//! that clearly want another threshold get it.

use crate::plan::{Arm, ArmLabels, ArmResult, Plan};
use polygrade_data::{Collection, Error, Index, Lang, Result};
use polygrade_eval::bootstrap::{self, Interval};
use polygrade_train::labels::Rule;
use polygrade_train::{LabelPolicies, Policy, Scenario};
use std::collections::BTreeMap;

/// Values by seed and query, with the queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// The queries.
    pub queries: Vec<Index>,
    /// `by_seed[seed][query]`
    pub by_seed: Vec<Vec<f64>>,
}

/// The comparison of the policies for one query language, or for all of them together.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The language; `None` for all together.
    pub lang: Option<Lang>,
    /// Queries behind it.
    pub queries: usize,
    /// Mean and interval of each policy of the grid.
    pub means: Vec<Interval>,
    /// Each policy's paired difference to the best, with its interval.
    pub minus_best: Vec<Interval>,
    /// In how many of the resamples each policy is the best.
    pub best_share: Vec<f64>,
    /// The policy with the highest mean, by its place in the grid.
    pub best: usize,
    /// The runner-up and the difference to it, where there are two policies.
    pub runner_up: Option<(usize, Interval)>,
    /// Policies that cannot be told from the best, itself included.
    pub equivalent: Vec<usize>,
    /// The policy to use.
    pub chosen: usize,
}

/// The choice in one scenario.
#[derive(Debug, Clone)]
pub struct Choice {
    /// All languages together.
    pub overall: Comparison,
    /// Each language.
    pub by_lang: Vec<Comparison>,
    grid: Vec<Policy>,
}

impl Choice {
    /// The policy chosen for all languages, where it is one.
    pub fn uniform(&self) -> Option<Policy> {
        let usual = self.overall.chosen;
        self.by_lang.iter().all(|c| c.chosen == usual).then(|| self.grid[usual])
    }

    /// The policy for queries in a language; that of all together where no dev query speaks for it.
    pub fn of(&self, lang: &Lang) -> Policy {
        let own = self.by_lang.iter().find(|c| c.lang.as_ref() == Some(lang));
        self.grid[own.map_or(self.overall.chosen, |c| c.chosen)]
    }

    /// As label policies: the overall choice, and a rule for each language that differs.
    pub fn policies(&self, scenario: Scenario) -> LabelPolicies {
        let default = self.grid[self.overall.chosen];
        let differing = self.by_lang.iter().filter(|c| self.grid[c.chosen] != default);
        let rules = differing.map(|c| Rule {
            scenario: Some(scenario),
            query_lang: c.lang.clone(),
            passage_lang: None,
            policy: self.grid[c.chosen],
        });
        LabelPolicies { default, rules: rules.collect() }
    }
}

/// Chooses for one scenario.
pub fn choose(
    plan: &Plan,
    collection: &Collection,
    scenario: Scenario,
    arms: &BTreeMap<String, ArmResult>,
) -> Result<Choice> {
    let dev = |policy: &Policy, lang: Option<&Lang>| {
        gather(plan, collection, scenario, &ArmLabels::Policy(*policy), lang, arms, |r| &r.dev)
    };
    let compare_in = |lang: Option<&Lang>| -> Result<Comparison> {
        let values = plan.grid.iter().map(|p| dev(p, lang)).collect::<Result<Vec<_>>>()?;
        let values: Vec<Values> = match lang {
            Some(_) => values,
            None => values.iter().map(|v| by_unit(collection, v)).collect(),
        };
        Ok(compare(plan, lang.cloned(), &values))
    };
    let mut overall = compare_in(None)?;
    if overall.queries == 0 {
        let name = scenario.name();
        return Err(Error::Usage(format!(
            "no dev query has a relevant passage to find in the {name} scenario"
        )));
    }
    let mut by_lang = Vec::new();
    for lang in &plan.langs {
        let mut c = compare_in(Some(lang))?;
        if c.queries == 0 {
            continue;
        }
        c.chosen = if c.equivalent.contains(&overall.best) { overall.best } else { c.best };
        by_lang.push(c);
    }
    // A lone language, or languages that all rule the overall best out, decide for the whole.
    if let Some(first) = by_lang.first().map(|c| c.chosen)
        && by_lang.iter().all(|c| c.chosen == first)
    {
        overall.chosen = first;
    }
    Ok(Choice { overall, by_lang, grid: plan.grid.clone() })
}

fn compare(plan: &Plan, lang: Option<Lang>, values: &[Values]) -> Comparison {
    let systems: Vec<&[Vec<f64>]> = values.iter().map(|v| v.by_seed.as_slice()).collect();
    let means: Vec<Interval> = systems.iter().map(|s| bootstrap::mean(s, plan.level)).collect();
    let mut order: Vec<usize> = (0..means.len()).collect();
    // Of equal means, rounding aside, the lower threshold comes first: it leaves more positives.
    let rounded = |i: usize| (means[i].mean * 1e9).round();
    let lowest = |i: usize| match plan.grid[i] {
        Policy::Threshold(t) | Policy::Soft(t) => t,
        Policy::Band { hi, .. } => hi,
        Policy::AllThresholds | Policy::Graded => 0.0,
    };
    order.sort_by(|a, b| {
        rounded(*b).total_cmp(&rounded(*a)).then(lowest(*a).total_cmp(&lowest(*b))).then(a.cmp(b))
    });
    let best = order[0];
    let difference = |other: usize, level: f64| bootstrap::paired(systems[best], systems[other], level);
    let rivals = (means.len() - 1).max(1) as f64;
    let strict = 1.0 - (1.0 - plan.level) / rivals;
    let equivalent = (0..means.len()).filter(|&i| i == best || difference(i, strict).holds_zero()).collect();
    Comparison {
        lang,
        queries: values[0].queries.len(),
        minus_best: systems.iter().map(|s| bootstrap::paired(s, systems[best], plan.level)).collect(),
        best_share: bootstrap::best_share(&systems),
        best,
        runner_up: order.get(1).map(|&i| (i, difference(i, plan.level))),
        equivalent,
        chosen: best,
        means,
    }
}

/// The values of one kind of arm, for the queries in `lang` or for all.
pub fn gather<'a>(
    plan: &Plan,
    collection: &Collection,
    scenario: Scenario,
    labels: &ArmLabels,
    lang: Option<&Lang>,
    arms: &'a BTreeMap<String, ArmResult>,
    split: impl Fn(&'a ArmResult) -> &'a Vec<(Index, f64)>,
) -> Result<Values> {
    let per_lang = scenario == Scenario::Monolingual && *labels != ArmLabels::Untrained;
    let models: Vec<Option<Lang>> = match (per_lang, lang) {
        (false, _) => vec![None],
        (true, Some(lang)) => vec![Some(lang.clone())],
        (true, None) => plan.langs.iter().cloned().map(Some).collect(),
    };
    let mut out = Values { queries: Vec::new(), by_seed: Vec::new() };
    for &seed in &plan.seeds {
        let mut row: Vec<(Index, f64)> = Vec::new();
        for model in &models {
            let name = Arm { scenario, lang: model.clone(), labels: labels.clone(), seed }.name();
            let arm = arms.get(&name).ok_or_else(|| Error::Internal(format!("no result of arm {name}")))?;
            let inside = |q: Index| lang.is_none_or(|l| collection.queries[q as usize].lang == *l);
            row.extend(split(arm).iter().filter(|(q, _)| inside(*q)));
        }
        row.sort_by_key(|(q, _)| *q);
        out.queries = row.iter().map(|(q, _)| *q).collect();
        out.by_seed.push(row.into_iter().map(|(_, v)| v).collect());
    }
    Ok(out)
}

/// Values of all languages with translations of one query joined, so that they are resampled together. Their
/// mean is the mean over languages of the languages' means, whatever their numbers of queries.
pub fn by_unit(collection: &Collection, values: &Values) -> Values {
    let lang = |q: &Index| &collection.queries[*q as usize].lang;
    let mut counts: BTreeMap<&Lang, f64> = BTreeMap::new();
    values.queries.iter().for_each(|q| *counts.entry(lang(q)).or_default() += 1.0);
    let mut places: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    let place_of: Vec<usize> = values
        .queries
        .iter()
        .map(|q| {
            let query = &collection.queries[*q as usize];
            let next = places.len();
            *places.entry((query.group.is_some(), query.unit())).or_insert(next)
        })
        .collect();
    let units = places.len();
    let mut queries = vec![0; units];
    place_of.iter().zip(&values.queries).for_each(|(u, q)| queries[*u] = *q);
    let by_seed = values.by_seed.iter().map(|row| {
        let mut out = vec![0.0; units];
        for ((u, q), v) in place_of.iter().zip(&values.queries).zip(row) {
            out[*u] += v * units as f64 / (counts.len() as f64 * counts[lang(q)]);
        }
        out
    });
    let by_seed = by_seed.collect();
    Values { queries, by_seed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_eval::bootstrap::plain_mean;
    use polygrade_nn::rng::CounterRng;
    use polygrade_train::Settings;

    fn plan() -> Plan {
        Plan {
            scenarios: vec![Scenario::Mixture],
            langs: vec![Lang::unknown()],
            grid: [1.0, 2.0, 3.0].map(Policy::Threshold).to_vec(),
            seeds: vec![1, 2],
            settings: Settings::default(),
            level: 0.95,
            encoder: "test".into(),
        }
    }

    fn values(means: [f64; 3], noise: f64) -> Vec<Values> {
        let rng = CounterRng::new(7);
        let one = |(i, m): (usize, f64)| {
            let value = |s: u64, q: u64| {
                m + rng.fork(q).normal(0) + noise * rng.fork(100 + s).fork(i as u64).normal(q)
            };
            let by_seed = (0..2).map(|s| (0..40).map(|q| value(s, q)).collect()).collect();
            Values { queries: (0..40).collect(), by_seed }
        };
        means.into_iter().enumerate().map(one).collect()
    }

    #[test]
    fn clear_differences_are_found_and_small_ones_left_open() {
        let c = compare(&plan(), None, &values([0.1, 0.5, 0.2], 0.05));
        assert_eq!((c.best, c.equivalent.as_slice(), c.runner_up.unwrap().0), (1, [1].as_slice(), 2));
        assert!(c.best_share[1] > 0.99);
        let c = compare(&plan(), None, &values([0.1, 0.11, -0.9], 0.5));
        assert!(c.equivalent.contains(&0) && c.equivalent.contains(&1) && !c.equivalent.contains(&2));
    }

    #[test]
    fn equal_arms_prefer_the_lower_threshold() {
        let same = values([0.3, 0.3, 0.3], 0.0);
        let c = compare(&plan(), None, &[same[0].clone(), same[0].clone(), same[0].clone()]);
        assert_eq!((c.best, c.equivalent.len()), (0, 3));
    }

    #[test]
    fn joined_units_keep_the_mean_over_languages() {
        use polygrade_data::{Meta, Query, Scale};
        let query = |id: &str, lang: &str, group: Option<&str>| Query {
            id: id.into(),
            text: id.into(),
            lang: Lang::parse(lang).unwrap(),
            group: group.map(Into::into),
        };
        let queries = vec![query("a", "en", Some("g")), query("b", "en", None), query("c", "sw", Some("g"))];
        let meta =
            Meta { name: "t".into(), licence: "".into(), source: "".into(), grades: Scale::up_to(3.0) };
        let collection = Collection::from_parts(meta, Vec::new(), queries, Default::default());
        let v = Values { queries: vec![0, 1, 2], by_seed: vec![vec![0.2, 0.4, 0.9]] };
        let joined = by_unit(&collection, &v);
        assert_eq!(joined.by_seed[0].len(), 2);
        assert!((plain_mean(&joined.by_seed) - (0.3 + 0.9) / 2.0).abs() < 1e-12);
    }
}
