//! What the arms gave, and the values that a question about it needs: by seed and query, paired where two ways of
//! training are compared.
//!
//! Two methods of a race may have been trained to different shares of their steps. They are always compared at the
//! greatest share, and with the seeds, that both have.

use crate::plan::{Arm, ArmLabels, ArmResult, Measured, Method, Part, Plan};
use polygrade_data::{Collection, Index, Lang};
use polygrade_eval::bootstrap::plain_mean;
use polygrade_train::Scenario;
use std::collections::BTreeMap;

/// Values by seed and query, with the queries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Values {
    /// The queries.
    pub queries: Vec<Index>,
    /// `by_seed[seed][query]`
    pub by_seed: Vec<Vec<f64>>,
}

/// Values of two ways of training at the same share of their steps, for the same seeds and queries.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Of the first.
    pub a: Values,
    /// Of the second.
    pub b: Values,
    /// The share of the steps; the least over languages.
    pub share: f64,
}

/// Where models of two methods can be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Meeting {
    /// The models, each with the share of its steps.
    models: Vec<(Part, f64)>,
    /// The seeds that all of them have.
    seeds: Vec<u64>,
}

impl Meeting {
    /// The least share of the steps.
    pub fn share(&self) -> f64 {
        self.models.iter().map(|m| m.1).fold(f64::INFINITY, f64::min)
    }
}

/// Whose queries, and which passages.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// The scenario.
    pub scenario: Scenario,
    /// The language of the queries; `None` for all, with translations joined.
    pub lang: Option<&'a Lang>,
    /// The language of the passages, by its place in the plan, in the cross-lingual scenario; `None` for all pools.
    pub pool: Option<u16>,
}

impl<'a> Cell<'a> {
    /// All passages of the scenario.
    pub fn new(scenario: Scenario, lang: Option<&'a Lang>) -> Self {
        Cell { scenario, lang, pool: None }
    }

    /// What a model is for.
    pub fn of(plan: &Plan, scenario: Scenario, part: &'a Part) -> Self {
        let pool = part.passage_lang.as_ref().and_then(|l| plan.place(l));
        Cell { scenario, lang: part.lang.as_ref(), pool }
    }
}

/// A seed's models of a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    /// The seed.
    pub seed: u64,
    /// Mean on dev.
    pub dev: f64,
    /// Steps done.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds to train and measure.
    pub seconds: f64,
}

/// The results so far.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    /// The collection.
    pub collection: &'a Collection,
    /// The plan.
    pub plan: &'a Plan,
    /// Results by the name of their arm.
    pub arms: BTreeMap<String, ArmResult>,
}

impl<'a> Records<'a> {
    /// Nothing yet.
    pub fn new(collection: &'a Collection, plan: &'a Plan) -> Self {
        Records { collection, plan, arms: BTreeMap::new() }
    }

    fn result(
        &self,
        scenario: Scenario,
        part: &Part,
        labels: &ArmLabels,
        seed: u64,
        fold: Option<crate::plan::Fold>,
    ) -> Option<&ArmResult> {
        let arm = Arm { scenario, part: part.clone(), labels: labels.clone(), seed, fold, altered: None };
        self.arms.get(&arm.name())
    }

    /// The models that answer for a cell.
    fn models(&self, cell: Cell, labels: &ArmLabels) -> Vec<Part> {
        if *labels == ArmLabels::Untrained {
            return vec![Part::default()];
        }
        let passages = |p: &Part| p.passage_lang.as_ref().and_then(|l| self.plan.place(l));
        let answers = |p: &Part| {
            (cell.lang.is_none() || p.lang.is_none() || p.lang.as_ref() == cell.lang)
                && (cell.pool.is_none() || p.passage_lang.is_none() || passages(p) == cell.pool)
        };
        self.plan.models(cell.scenario).into_iter().filter(answers).collect()
    }

    /// The shares at which a model was measured on dev, with the seeds that reached each.
    fn shares(&self, scenario: Scenario, model: &Part, labels: &ArmLabels) -> Vec<(f64, Vec<u64>)> {
        let folds = self.plan.fold_list();
        let mut out: Vec<(f64, Vec<u64>)> = Vec::new();
        for &seed in &self.plan.seeds {
            let of = |fold| self.result(scenario, model, labels, seed, fold);
            let Some(first) = folds.first().and_then(|f| of(*f)) else { continue };
            for rung in &first.rungs {
                let everywhere = folds.iter().all(|f| of(*f).is_some_and(|r| r.at(rung.share).is_some()));
                match out.iter_mut().find(|(share, _)| *share == rung.share) {
                    _ if !everywhere => {}
                    Some((_, seeds)) => seeds.push(seed),
                    None => out.push((rung.share, vec![seed])),
                }
            }
        }
        out
    }

    /// The greatest share of the steps that a method reached in a cell; the least over its models.
    pub fn reached(&self, cell: Cell, labels: &ArmLabels) -> f64 {
        let models = self.models(cell, labels);
        let of = |model: &Part| {
            let shares = self.shares(cell.scenario, model, labels);
            shares.iter().map(|(s, _)| *s).fold(0.0, f64::max)
        };
        models.iter().map(of).fold(f64::INFINITY, f64::min)
    }

    /// Each seed's models of a method in a cell, at most at this share of their steps: the models of all languages together
    /// in the cell of all.
    pub fn models_of(&self, cell: Cell, method: Method, share: f64) -> Vec<Model> {
        let labels = ArmLabels::Method(method);
        let models = self.models(cell, &labels);
        let of = |seed: u64| {
            let mut out = Model { seed, dev: 0.0, steps: 0, tokens: 0, seconds: 0.0 };
            let mut measured = Vec::new();
            for model in &models {
                for fold in self.plan.fold_list() {
                    let result = self.result(cell.scenario, model, &labels, seed, fold)?;
                    let last = result.rungs.iter().rfind(|r| r.share <= share)?;
                    out.steps += last.step;
                    out.tokens += last.tokens;
                    out.seconds +=
                        result.rungs.iter().filter(|r| r.share <= share).map(|r| r.seconds).sum::<f64>();
                    measured.extend_from_slice(&last.dev);
                }
            }
            let (queries, values) = self.by_query(cell, &measured);
            let values = self.sampled(cell, Values { queries, by_seed: vec![values] });
            out.dev = plain_mean(&values.by_seed);
            Some(out)
        };
        self.plan.seeds.iter().filter_map(|s| of(*s)).collect()
    }

    /// One method's dev values where it stands, with the seeds that got there.
    pub fn dev(&self, cell: Cell, labels: &ArmLabels) -> Option<Values> {
        self.pair(cell, labels, labels).map(|p| p.a)
    }

    /// Where the models of two methods meet: at the greatest share, and with the seeds, that both have.
    pub fn meeting(&self, cell: Cell, a: &ArmLabels, b: &ArmLabels) -> Option<Meeting> {
        let mut parts: Vec<(Part, f64, Vec<u64>)> = Vec::new();
        for model in self.models(cell, a) {
            let (of_a, of_b) = (self.shares(cell.scenario, &model, a), self.shares(cell.scenario, &model, b));
            let mut best: Option<(f64, Vec<u64>)> = None;
            for (share, seeds) in of_a {
                let Some((_, others)) = of_b.iter().find(|(s, _)| *s == share) else { continue };
                let common: Vec<u64> = seeds.into_iter().filter(|s| others.contains(s)).collect();
                if !common.is_empty() && best.as_ref().is_none_or(|(s, _)| *s < share) {
                    best = Some((share, common));
                }
            }
            let (share, seeds) = best?;
            parts.push((model, share, seeds));
        }
        let common = |s: &u64| parts.iter().all(|(_, _, seeds)| seeds.contains(s));
        let seeds = self.plan.seeds.iter().copied().filter(common).collect();
        Some(Meeting { seeds, models: parts.into_iter().map(|(model, share, _)| (model, share)).collect() })
    }

    /// A method's dev values there.
    pub fn values_at(&self, cell: Cell, labels: &ArmLabels, at: &Meeting) -> Option<Values> {
        self.join(cell, &at.seeds, |seed| {
            let mut row = Vec::new();
            for (model, share) in &at.models {
                for fold in self.plan.fold_list() {
                    let result = self.result(cell.scenario, model, labels, seed, fold)?;
                    row.extend_from_slice(&result.at(*share)?.dev);
                }
            }
            Some(row)
        })
    }

    /// Dev values of two methods, paired.
    pub fn pair(&self, cell: Cell, a: &ArmLabels, b: &ArmLabels) -> Option<Pair> {
        let at = self.meeting(cell, a, b)?;
        Some(Pair { a: self.values_at(cell, a, &at)?, b: self.values_at(cell, b, &at)?, share: at.share() })
    }

    /// A method's dev values where it stands in all languages of a cell, beside those of the encoder that its training began
    /// with. With folds there is none: the latter was not measured on them.
    pub fn beside_untrained(&self, cell: Cell, labels: &ArmLabels) -> Option<Pair> {
        if self.plan.folds > 0 {
            return None;
        }
        let share = self.reached(cell, labels);
        let values = |labels: &ArmLabels, share: f64, seeds: &[u64]| {
            let models = self.models(cell, labels);
            let row = |seed: u64| {
                let mut row = Vec::new();
                for model in &models {
                    let result = self.result(cell.scenario, model, labels, seed, None)?;
                    row.extend_from_slice(&result.at(share)?.dev);
                }
                Some(row)
            };
            let there: Vec<u64> = seeds.iter().copied().filter(|s| row(*s).is_some()).collect();
            Some((self.sampled(cell, self.join(cell, &there, row)?), there))
        };
        let (a, seeds) = values(labels, share, &self.plan.seeds)?;
        let (b, _) = values(&ArmLabels::Untrained, 0.0, &seeds)?;
        (a.queries == b.queries && a.by_seed.len() == b.by_seed.len()).then_some(Pair { a, b, share })
    }

    /// A method's values on test, of all seeds; `None` where one was not measured.
    pub fn test(&self, cell: Cell, labels: &ArmLabels) -> Option<Values> {
        self.test_altered(cell, labels, None)
    }

    /// The same for models of a study, that were trained on altered judgments.
    pub fn test_altered(&self, cell: Cell, labels: &ArmLabels, altered: Option<&str>) -> Option<Values> {
        self.test_of(cell, |_| labels.clone(), altered)
    }

    /// The values on test of models that are each trained in a way of its own.
    pub fn test_chosen(&self, cell: Cell, labels: impl Fn(&Part) -> ArmLabels) -> Option<Values> {
        self.test_of(cell, labels, None)
    }

    fn test_of(
        &self,
        cell: Cell,
        labels: impl Fn(&Part) -> ArmLabels,
        altered: Option<&str>,
    ) -> Option<Values> {
        // Only the untrained encoder is another model than those of the scenario.
        let models = self.models(cell, &labels(&Part::default()));
        self.join(cell, &self.plan.seeds, |seed| {
            let mut row = Vec::new();
            for model in &models {
                let (scenario, part, labels) = (cell.scenario, model.clone(), labels(model));
                let altered = altered.map(str::to_owned);
                let arm = Arm { scenario, part, labels, seed, fold: None, altered };
                row.extend_from_slice(self.arms.get(&arm.name())?.test.as_ref()?);
            }
            Some(row)
        })
    }

    /// Rows by seed as values of the cell. All rows have the same queries.
    fn join(&self, cell: Cell, seeds: &[u64], row: impl Fn(u64) -> Option<Vec<Measured>>) -> Option<Values> {
        let mut out = Values::default();
        for &seed in seeds {
            let (queries, values) = self.by_query(cell, &row(seed)?);
            out.queries = queries;
            out.by_seed.push(values);
        }
        (!out.by_seed.is_empty()).then_some(out)
    }

    /// Each query's mean over the cell's pools.
    pub fn by_query(&self, cell: Cell, measured: &[Measured]) -> (Vec<Index>, Vec<f64>) {
        let mut sums: BTreeMap<Index, (f64, f64)> = BTreeMap::new();
        for &(query, pool, value) in measured {
            let inside = || cell.lang.is_none_or(|l| self.collection.queries[query as usize].lang == *l);
            if cell.pool.is_none_or(|p| p == pool) && inside() {
                let sum = sums.entry(query).or_default();
                *sum = (sum.0 + value, sum.1 + 1.0);
            }
        }
        sums.into_iter().map(|(q, (sum, n))| (q, sum / n)).unzip()
    }

    /// Values as they are sampled: by query in a language, and with translations of one query joined in all.
    pub fn sampled(&self, cell: Cell, values: Values) -> Values {
        if cell.lang.is_none() { by_unit(self.collection, &values) } else { values }
    }
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
    use polygrade_data::{Meta, Query, Scale};

    #[test]
    fn joined_units_keep_the_mean_over_languages() {
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
