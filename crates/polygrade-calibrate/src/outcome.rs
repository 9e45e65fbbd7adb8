//! What a calibration found: the data of `calibration.json`, and the label policies of `calibrated.toml`.
//!
//! Every field is described in docs/calibration-json.md.

use crate::arms::{METRIC, Results};
use crate::choose::{Choice, Comparison, Values, by_unit, gather};
use crate::plan::{ArmLabels, ArmResult, Plan};
use polygrade_data::{Collection, Error, Graded, Index, Lang, Result, Split};
use polygrade_eval::bootstrap::{self, Interval, plain_mean};
use polygrade_train::labels::{Label, Rule};
use polygrade_train::{LabelPolicies, Policy, Scenario};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the format of `calibration.json`.
pub const FORMAT: u32 = 1;

/// A whole calibration.
#[derive(Debug, Serialize)]
pub struct Calibration {
    /// [`FORMAT`].
    pub format: u32,
    /// The collection's name.
    pub collection: String,
    /// Its licence.
    pub licence: String,
    /// Its highest grade.
    pub max_grade: f32,
    /// The metric of dev and test.
    pub metric: String,
    /// The competing policies.
    pub grid: Vec<Policy>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The level of all intervals.
    pub level: f64,
    /// The choice for each scenario and language; `query_lang` is `all` for the languages together.
    pub cells: Vec<Cell>,
    /// Each system on test.
    pub test: Vec<TestRow>,
    /// How it was made.
    pub made: Made,
}

/// One scenario and query language.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The scenario.
    pub scenario: Scenario,
    /// The language of the queries, or `all`.
    pub query_lang: String,
    /// The language of the passages: the query's own, `other` where each other language is a pool, or `all`.
    pub passage_lang: String,
    /// Dev queries behind it.
    pub queries: usize,
    /// The policy with the highest mean on dev.
    pub tau_best: Policy,
    /// Policies that cannot be told from it.
    pub tau_equivalent: Vec<Policy>,
    /// The policy in `calibrated.toml`.
    pub tau_chosen: Policy,
    /// The runner-up; `null` where the grid has one policy.
    pub runner_up: Option<Policy>,
    /// Mean difference to the runner-up.
    pub difference: f64,
    /// Its interval.
    pub ci: [f64; 2],
    /// What is known of each policy here.
    pub policies: Vec<PolicyRow>,
    /// Every model's value on dev.
    pub arms: Vec<ArmRow>,
}

/// One policy in a cell.
#[derive(Debug, Serialize)]
pub struct PolicyRow {
    /// The policy.
    pub policy: Policy,
    /// Mean on dev over seeds and queries.
    pub mean: f64,
    /// Its interval.
    pub ci: [f64; 2],
    /// Its paired difference to the best policy, with an interval; 0 for the best itself.
    pub minus_best: Interval,
    /// In how large a share of resamples it is the best.
    pub best_share: f64,
    /// Training judgments that are positives under it.
    pub positives: u64,
    /// Training judgments that are negatives.
    pub negatives: u64,
    /// Training judgments that are left out.
    pub dropped: u64,
    /// Training queries without a positive.
    pub queries_without_positive: u64,
}

/// One model in a cell.
#[derive(Debug, Serialize)]
pub struct ArmRow {
    /// Its policy.
    pub policy: Policy,
    /// Its seed.
    pub seed: u64,
    /// Its mean on dev.
    pub dev: f64,
    /// Its training steps.
    pub steps: u64,
    /// Seconds to train and measure it.
    pub seconds: f64,
}

/// One system on test, in one scenario and language.
#[derive(Debug, Serialize)]
pub struct TestRow {
    /// The scenario.
    pub scenario: Scenario,
    /// The language of the queries, or `all`.
    pub query_lang: String,
    /// `bm25`, `untrained`, `calibrated`, or `tau=…`.
    pub system: String,
    /// Test queries behind it.
    pub queries: usize,
    /// Mean over seeds and queries.
    pub mean: f64,
    /// Its interval.
    pub ci: [f64; 2],
    /// How much better the calibrated system is; `null` for itself.
    pub calibrated_minus_this: Option<Interval>,
}

/// How a calibration was made.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// The command.
    pub command: String,
    /// Version of polygrade.
    pub version: String,
    /// What training started from.
    pub encoder: String,
    /// Settings of training.
    pub settings: String,
    /// Day, UTC.
    pub date: String,
    /// Seconds it took, resumed arms not counted.
    pub seconds: f64,
    /// Threads.
    pub threads: usize,
    /// Processor and system.
    pub machine: String,
}

impl Calibration {
    /// Puts the results together.
    pub fn new(collection: &Collection, plan: &Plan, results: &Results, made: Made) -> Result<Self> {
        let train = collection.graded(Split::Train);
        let (mut cells, mut test) = (Vec::new(), Vec::new());
        for (&scenario, choice) in &results.choices {
            for c in [&choice.overall].into_iter().chain(&choice.by_lang) {
                cells.push(cell(collection, plan, &train, scenario, c, results)?);
            }
            test.extend(test_rows(collection, plan, scenario, choice, results)?);
        }
        Ok(Calibration {
            format: FORMAT,
            collection: collection.meta.name.clone(),
            licence: collection.meta.licence.clone(),
            max_grade: collection.meta.grades.max,
            metric: METRIC.to_string(),
            grid: plan.grid.clone(),
            seeds: plan.seeds.clone(),
            level: plan.level,
            cells,
            test,
            made,
        })
    }

    /// As JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::Internal(e.to_string()))
    }

    /// The label policies that were chosen, for `train --labels`.
    pub fn policies(&self) -> LabelPolicies {
        let of = |scenario: Scenario| {
            self.cells.iter().filter(move |c| c.scenario == scenario && c.query_lang != ALL)
        };
        let scenarios = Scenario::ALL.into_iter().filter(|s| of(*s).next().is_some());
        let default = self.cells.first().map_or(Policy::Threshold(1.0), |c| c.tau_chosen);
        let mut rules = Vec::new();
        for scenario in scenarios {
            let rule = |query_lang, policy| Rule {
                scenario: Some(scenario),
                query_lang,
                passage_lang: None,
                policy,
            };
            let overall = self.cells.iter().find(|c| c.scenario == scenario && c.query_lang == ALL);
            let usual = overall.map_or(default, |c| c.tau_chosen);
            let differing = of(scenario).filter(|c| c.tau_chosen != usual);
            rules.extend(differing.map(|c| rule(Lang::parse(&c.query_lang), c.tau_chosen)));
            if usual != default {
                rules.push(rule(None, usual));
            }
        }
        LabelPolicies { default, rules }
    }
}

/// The name of all languages together.
pub const ALL: &str = "all";

fn lang_name(lang: Option<&Lang>) -> String {
    lang.map_or_else(|| ALL.to_owned(), Lang::to_string)
}

fn ends(i: &Interval) -> [f64; 2] {
    [i.low, i.high]
}

fn cell(
    collection: &Collection,
    plan: &Plan,
    train: &Graded,
    scenario: Scenario,
    c: &Comparison,
    results: &Results,
) -> Result<Cell> {
    let lang = c.lang.as_ref();
    let mut policies = Vec::new();
    let mut arms = Vec::new();
    for (i, &policy) in plan.grid.iter().enumerate() {
        let balance = balance(collection, train, plan, scenario, lang, policy);
        policies.push(PolicyRow {
            policy,
            mean: c.means[i].mean,
            ci: ends(&c.means[i]),
            minus_best: c.minus_best[i],
            best_share: c.best_share[i],
            positives: balance[0],
            negatives: balance[1],
            dropped: balance[2],
            queries_without_positive: balance[3],
        });
        let labels = ArmLabels::Policy(policy);
        let values = joined(collection, plan, scenario, &labels, lang, results, |r| &r.dev)?;
        for (seed, row) in plan.seeds.iter().zip(&values.by_seed) {
            let models = results.arms.iter().filter(|(name, _)| {
                let (head, tail) = (format!("{}-", scenario.name()), format!("-{}", arm_tail(policy, *seed)));
                let own = lang.is_none_or(|l| {
                    scenario != Scenario::Monolingual || **name == format!("{head}{l}{tail}")
                });
                name.starts_with(&head) && name.ends_with(&tail) && own
            });
            let (steps, seconds) = models.fold((0, 0.0), |(n, s), (_, r)| (n + r.steps, s + r.seconds));
            arms.push(ArmRow {
                policy,
                seed: *seed,
                dev: plain_mean(std::slice::from_ref(row)),
                steps,
                seconds,
            });
        }
    }
    let (runner_up, difference, ci) = match &c.runner_up {
        Some((i, d)) => (Some(plan.grid[*i]), d.mean, ends(d)),
        None => (None, 0.0, [0.0, 0.0]),
    };
    let passage_lang = match (scenario, lang) {
        (Scenario::CrossLingual, _) => "other".to_owned(),
        (_, lang) => lang_name(lang),
    };
    Ok(Cell {
        scenario,
        query_lang: lang_name(lang),
        passage_lang,
        queries: c.queries,
        tau_best: plan.grid[c.best],
        tau_equivalent: c.equivalent.iter().map(|i| plan.grid[*i]).collect(),
        tau_chosen: plan.grid[c.chosen],
        runner_up,
        difference,
        ci,
        policies,
        arms,
    })
}

/// The end of an arm's name, as [`crate::plan::Arm::name`] makes it.
fn arm_tail(policy: Policy, seed: u64) -> String {
    let arm =
        crate::plan::Arm { scenario: Scenario::Mixture, lang: None, labels: ArmLabels::Policy(policy), seed };
    arm.name().trim_start_matches("mixture-all-").to_owned()
}

/// Positives, negatives and left-out judgments of the training split, and queries without a positive.
fn balance(
    collection: &Collection,
    train: &Graded,
    plan: &Plan,
    scenario: Scenario,
    lang: Option<&Lang>,
    policy: Policy,
) -> [u64; 4] {
    let mut out = [0; 4];
    for &q in train.queries() {
        let query_lang = &collection.queries[q as usize].lang;
        if !plan.langs.contains(query_lang) || lang.is_some_and(|l| l != query_lang) {
            continue;
        }
        let (mut judged, mut positive) = (false, false);
        for (p, grade) in train.judged(q) {
            let passage_lang = &collection.passages[p as usize].lang;
            if !plan.langs.contains(passage_lang) || !scenario.pairs(query_lang, passage_lang) {
                continue;
            }
            judged = true;
            let label = policy.label(grade);
            positive |= label == Label::Positive;
            out[match label {
                Label::Positive => 0,
                Label::Negative => 1,
                Label::Dropped => 2,
            }] += 1;
        }
        out[3] += u64::from(judged && !positive);
    }
    out
}

fn joined<'a>(
    collection: &Collection,
    plan: &Plan,
    scenario: Scenario,
    labels: &ArmLabels,
    lang: Option<&Lang>,
    results: &'a Results,
    split: impl Fn(&'a ArmResult) -> &'a Vec<(Index, f64)>,
) -> Result<Values> {
    let values = gather(plan, collection, scenario, labels, lang, &results.arms, split)?;
    Ok(if lang.is_none() { by_unit(collection, &values) } else { values })
}

/// The values of the calibrated system on test: for each language those of the model that the choice asks for.
fn calibrated(
    collection: &Collection,
    plan: &Plan,
    scenario: Scenario,
    choice: &Choice,
    results: &Results,
) -> Result<Values> {
    if let Some(policy) = choice.uniform() {
        return gather(plan, collection, scenario, &ArmLabels::Policy(policy), None, &results.arms, |r| {
            &r.test
        });
    }
    if scenario != Scenario::Monolingual {
        let labels = ArmLabels::Calibrated(choice.policies(scenario));
        return gather(plan, collection, scenario, &labels, None, &results.arms, |r| &r.test);
    }
    let mut rows: Vec<Vec<(Index, f64)>> = vec![Vec::new(); plan.seeds.len()];
    for lang in &plan.langs {
        let labels = ArmLabels::Policy(choice.of(lang));
        let v = gather(plan, collection, scenario, &labels, Some(lang), &results.arms, |r| &r.test)?;
        for (row, values) in rows.iter_mut().zip(&v.by_seed) {
            row.extend(v.queries.iter().copied().zip(values.iter().copied()));
        }
    }
    rows.iter_mut().for_each(|r| r.sort_by_key(|(q, _)| *q));
    let queries = rows.first().map_or(Vec::new(), |r| r.iter().map(|(q, _)| *q).collect());
    Ok(Values {
        queries,
        by_seed: rows.into_iter().map(|r| r.into_iter().map(|(_, v)| v).collect()).collect(),
    })
}

fn test_rows(
    collection: &Collection,
    plan: &Plan,
    scenario: Scenario,
    choice: &Choice,
    results: &Results,
) -> Result<Vec<TestRow>> {
    let bm25 = results.bm25.get(&scenario).cloned().unwrap_or_default();
    let bm25 = Values {
        queries: bm25.iter().map(|(q, _)| *q).collect(),
        // The same for every seed, so that differences are paired.
        by_seed: vec![bm25.iter().map(|(_, v)| *v).collect(); plan.seeds.len()],
    };
    let of =
        |labels: &ArmLabels| gather(plan, collection, scenario, labels, None, &results.arms, |r| &r.test);
    let mut systems: Vec<(String, Values)> =
        vec![("bm25".into(), bm25), ("untrained".into(), of(&ArmLabels::Untrained)?)];
    for &policy in &plan.grid {
        systems.push((format!("tau={policy}"), of(&ArmLabels::Policy(policy))?));
    }
    systems.push(("calibrated".into(), calibrated(collection, plan, scenario, choice, results)?));
    let langs = [None].into_iter().chain(plan.langs.iter().map(Some));
    let mut rows = Vec::new();
    for lang in langs {
        let part = |values: &Values| match lang {
            None => by_unit(collection, values),
            Some(lang) => only(collection, values, lang),
        };
        let reference = part(&systems[systems.len() - 1].1);
        if reference.queries.is_empty() {
            continue;
        }
        for (name, values) in &systems {
            let values = part(values);
            if values.queries != reference.queries {
                return Err(Error::Internal(format!(
                    "{name} was measured on other queries than the calibrated system"
                )));
            }
            let i = bootstrap::mean(&values.by_seed, plan.level);
            let difference = bootstrap::paired(&reference.by_seed, &values.by_seed, plan.level);
            rows.push(TestRow {
                scenario,
                query_lang: lang_name(lang),
                system: name.clone(),
                queries: values.queries.len(),
                mean: i.mean,
                ci: ends(&i),
                calibrated_minus_this: (name != "calibrated").then_some(difference),
            });
        }
    }
    Ok(rows)
}

fn only(collection: &Collection, values: &Values, lang: &Lang) -> Values {
    let keep: Vec<usize> = (0..values.queries.len())
        .filter(|i| collection.queries[values.queries[*i] as usize].lang == *lang)
        .collect();
    Values {
        queries: keep.iter().map(|i| values.queries[*i]).collect(),
        by_seed: values.by_seed.iter().map(|row| keep.iter().map(|i| row[*i]).collect()).collect(),
    }
}

/// The rows of the test table of one scenario and language, by system.
pub fn test_of<'a>(c: &'a Calibration, scenario: Scenario, lang: &str) -> BTreeMap<&'a str, &'a TestRow> {
    let rows = c.test.iter().filter(|r| r.scenario == scenario && r.query_lang == lang);
    rows.map(|r| (r.system.as_str(), r)).collect()
}
