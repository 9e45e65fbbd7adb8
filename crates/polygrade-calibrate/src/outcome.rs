//! What a calibration found: the data of `calibration.json`, and the label policies of `calibrated.toml`.
//!
//! Every field is described in docs/calibration-json.md.

use crate::choose::{Choice, Comparison, PerLanguage, Verdict};
use crate::lab::METRIC;
use crate::plan::{ArmLabels, Equal, Method, Plan, Search};
use crate::prior;
use crate::race::{FEWEST_QUERIES, Race};
use crate::records::{Cell as At, Values};
use crate::run::Results;
use crate::study::{self, Point, Saving};
use polygrade_data::agreement::alpha;
use polygrade_data::{Collection, Error, Graded, Index, Lang, Result, Split};
use polygrade_eval::bootstrap::{self, Interval};
use polygrade_eval::stats::contrast::Contrast;
use polygrade_train::labels::{Label, Rule};
use polygrade_train::{LabelPolicies, Loss, Policy, Scenario};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the format of `calibration.json`.
pub const FORMAT: u32 = 2;

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
    /// The competing methods.
    pub grid: Vec<Method>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The level of all intervals.
    pub level: f64,
    /// What methods were given equally much of.
    pub equal: Equal,
    /// Folds of cross-fitting; 0 for the collection's own dev split.
    pub folds: u32,
    /// How the search went and what it cost.
    pub search: SearchReport,
    /// The pairs of languages (of queries, of passages) that had a model each in the cross-lingual scenario.
    pub pairs: Vec<(Lang, Lang)>,
    /// The choice for each scenario and language; `query_lang` is `all` for the languages together.
    pub cells: Vec<Cell>,
    /// One model with a threshold for each language, where it was tried.
    pub per_language: BTreeMap<Scenario, PerLanguage>,
    /// What was guessed before training, and whether it was right.
    pub prior: Vec<PriorRow>,
    /// What less data or noisier grades give, where studies were run.
    pub studies: Vec<Point>,
    /// How much data each method needs to equal the default with all of it.
    pub savings: Vec<Saving>,
    /// Each system on test.
    pub test: Vec<TestRow>,
    /// How it was made.
    pub made: Made,
}

/// How the search went.
#[derive(Debug, Serialize)]
pub struct SearchReport {
    /// `grid` or `race`.
    pub kind: &'static str,
    /// Shares of the steps at which a race compares.
    pub rungs: Vec<f64>,
    /// A race's budget, as a share of the grid's tokens.
    pub budget: Option<f64>,
    /// Differences within ± this are none.
    pub margin: f64,
    /// Training tokens of the search.
    pub tokens: u64,
    /// Training tokens of the full grid, estimated from those of the race.
    pub grid_tokens: u64,
    /// Training tokens of everything that was trained for the choice and for test: the search, models with several
    /// thresholds, and the chosen models to their end; studies apart.
    pub total_tokens: u64,
    /// The races, in order.
    pub races: Vec<Race>,
}

/// A guess made from the collection's profile alone, and what became of it.
#[derive(Debug, Serialize)]
pub struct PriorRow {
    /// The scenario.
    pub scenario: Scenario,
    /// The language of the queries, or `all`.
    pub query_lang: String,
    /// The guess.
    pub policy: Method,
    /// Why.
    pub reason: String,
    /// Whether it is the best or as good; `null` where the cell has no verdict.
    pub right: Option<bool>,
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
    pub tau_best: Method,
    /// Policies that cannot be told from it.
    pub tau_equivalent: Vec<Method>,
    /// How sure that is.
    pub verdict: Verdict,
    /// The policy in `calibrated.toml`.
    pub tau_chosen: Method,
    /// The runner-up; `null` where the grid has one policy.
    pub runner_up: Option<Method>,
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
    /// The policy, or the loss.
    pub policy: Method,
    /// The share of its steps that it was trained for.
    pub reached: f64,
    /// Mean on dev over seeds and queries.
    pub mean: f64,
    /// Its interval.
    pub ci: [f64; 2],
    /// Its paired difference to the best policy, with an interval; 0 for the best itself.
    pub minus_best: Interval,
    /// In how large a share of resamples it is the best.
    pub best_share: f64,
    /// What training under it adds to the encoder that training starts from, on dev; `null` with folds.
    pub minus_untrained: Option<Interval>,
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
    /// Its policy or loss.
    pub policy: Method,
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
    /// The language of the passages, where the row is of a pair of languages with a model of its own.
    pub passage_lang: Option<String>,
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

impl Cell {
    /// Of whose queries it is: `de`, or `de → en` for a pair of languages.
    pub fn name(&self) -> String {
        if self.is_pair() {
            format!("{} → {}", self.query_lang, self.passage_lang)
        } else {
            self.query_lang.clone()
        }
    }

    /// Whether it is that of a pair of languages, which lies within the cell of its query language.
    pub fn is_pair(&self) -> bool {
        self.scenario == Scenario::CrossLingual && !["other", ALL].contains(&self.passage_lang.as_str())
    }
}

impl Calibration {
    /// Puts the results together.
    pub fn new(collection: &Collection, plan: &Plan, results: &Results, made: Made) -> Result<Self> {
        let train = collection.graded(Split::Train);
        let (mut cells, mut test) = (Vec::new(), Vec::new());
        for (&scenario, choice) in &results.choices {
            let all = [&choice.overall].into_iter().chain(&choice.by_lang).chain(&choice.by_pair);
            cells.extend(all.map(|c| cell(collection, plan, &train, scenario, c, results)));
            test.extend(test_rows(plan, scenario, choice, results)?);
        }
        let per_language =
            results.choices.iter().filter_map(|(s, c)| Some((*s, c.per_language.clone()?))).collect();
        let studies = study::points(&results.records, &plan.studies)?;
        Ok(Calibration {
            prior: prior_rows(collection, plan, &cells),
            savings: study::savings(&results.records, &plan.studies, &studies, plan.default)?,
            studies,
            format: FORMAT,
            collection: collection.meta.name.clone(),
            licence: collection.meta.licence.clone(),
            max_grade: collection.meta.grades.max,
            metric: METRIC.to_string(),
            grid: plan.grid.clone(),
            seeds: plan.seeds.clone(),
            level: plan.level,
            equal: plan.equal,
            folds: plan.folds,
            pairs: if plan.has_one_model(Scenario::CrossLingual) { Vec::new() } else { plan.pairs.clone() },
            search: search(plan, results),
            cells,
            per_language,
            test,
            made,
        })
    }

    /// The cells that a reader asks about first, without that of all together: the pairs of languages where each has its own
    /// model, else the languages of the queries.
    pub fn parts(&self, scenario: Scenario) -> impl Iterator<Item = &Cell> {
        let pairs = scenario == Scenario::CrossLingual && !self.pairs.is_empty();
        self.cells
            .iter()
            .filter(move |c| c.scenario == scenario && c.query_lang != ALL && c.is_pair() == pairs)
    }

    /// The cell of all languages together.
    pub fn overall(&self, scenario: Scenario) -> Option<&Cell> {
        self.cells.iter().find(|c| c.scenario == scenario && c.query_lang == ALL)
    }

    /// As JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::Internal(e.to_string()))
    }

    /// The label policies that were chosen, for `train --labels`.
    pub fn policies(&self) -> LabelPolicies {
        let single = |scenario: Scenario| self.overall(scenario).map(|c| c.tau_chosen);
        let mut scenarios = Scenario::ALL.into_iter().filter(|s| single(*s).is_some());
        let first = scenarios.next();
        let default = first.and_then(single).unwrap_or(Method::Policy(Policy::Threshold(1.0)));
        let mut out = LabelPolicies { loss: loss_of(default), ..LabelPolicies::uniform(default.policy()) };
        for scenario in first.into_iter().chain(scenarios) {
            let usual = single(scenario).unwrap_or(default);
            let rule = |query_lang, passage_lang, method: Method| Rule {
                scenario: Some(scenario),
                query_lang,
                passage_lang,
                loss: loss_of(method),
                ..Rule::new(method.policy())
            };
            if scenario == Scenario::Monolingual {
                let own = self.cells.iter().filter(|c| c.scenario == scenario && c.query_lang != ALL);
                let differing = own.filter(|c| c.tau_chosen != usual);
                out.rules.extend(differing.map(|c| rule(Lang::parse(&c.query_lang), None, c.tau_chosen)));
            } else if scenario == Scenario::CrossLingual && !self.pairs.is_empty() {
                let own = self.cells.iter().filter(|c| c.is_pair() && c.tau_chosen != usual);
                let pair =
                    |c: &Cell| rule(Lang::parse(&c.query_lang), Lang::parse(&c.passage_lang), c.tau_chosen);
                out.rules.extend(own.map(pair));
            } else if let Some(per_language) = self.per_language.get(&scenario).filter(|p| p.chosen) {
                out.rules.extend(per_language.policies.rules.iter().cloned());
            }
            if usual != default {
                out.rules.push(rule(None, None, usual));
            }
        }
        out
    }
}

fn prior_rows(collection: &Collection, plan: &Plan, cells: &[Cell]) -> Vec<PriorRow> {
    let of = |m: &Method| if let Method::Policy(p) = m { Some(*p) } else { None };
    let grid: Vec<Policy> = plan.grid.iter().filter_map(of).collect();
    let agreement = agreement(collection);
    let mut rows = Vec::new();
    for &scenario in &plan.scenarios {
        for guess in prior::suggest(collection, &plan.langs, scenario, &grid, agreement) {
            let (query_lang, policy) = (lang_name(guess.lang.as_ref()), Method::Policy(guess.policy));
            let cell =
                cells.iter().find(|c| c.scenario == scenario && c.query_lang == query_lang && !c.is_pair());
            let right = cell.map(|c| c.tau_equivalent.contains(&policy));
            rows.push(PriorRow { scenario, query_lang, policy, reason: guess.reason, right });
        }
    }
    rows
}

/// Krippendorff's α of the training judgments, where pairs were judged by several.
fn agreement(collection: &Collection) -> Option<f64> {
    let mut votes: BTreeMap<(Index, Index), Vec<f32>> = BTreeMap::new();
    for (j, _) in collection.votes(Split::Train)?.iter() {
        votes.entry((j.query, j.passage)).or_default().push(j.grade);
    }
    alpha(votes.values().filter(|v| v.len() > 1).map(Vec::as_slice))
}

fn loss_of(method: Method) -> Option<Loss> {
    Some(method.loss()).filter(|l| *l != Loss::InfoNce)
}

fn search(plan: &Plan, results: &Results) -> SearchReport {
    let (kind, rungs, budget) = match &plan.search {
        Search::Grid => ("grid", vec![1.0], None),
        Search::Race(race) => ("race", race.rungs.clone(), Some(race.budget)),
    };
    // The grid's own arms: not those of a study, nor of models with several thresholds.
    let own = |scenario: &Scenario| {
        let all = At::new(*scenario, None);
        plan.grid
            .iter()
            .flat_map(move |m| results.records.models_of(all, *m, 1.0))
            .map(|m| m.tokens)
            .sum::<u64>()
    };
    let grid: u64 = plan.scenarios.iter().map(own).sum();
    let sum = |of: fn(&Race) -> u64| results.races.iter().map(of).sum::<u64>();
    SearchReport {
        kind,
        rungs,
        budget,
        margin: crate::choose::margin(plan),
        tokens: if results.races.is_empty() { grid } else { sum(|r| r.tokens) },
        grid_tokens: if results.races.is_empty() { grid } else { sum(|r| r.grid_tokens) },
        total_tokens: results
            .records
            .arms
            .iter()
            .filter(|(name, _)| !results.altered.contains(*name))
            .filter_map(|(_, a)| a.last().map(|r| r.tokens))
            .sum(),
        races: results.races.clone(),
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
) -> Cell {
    let lang = c.lang.as_ref();
    let at = At { pool: c.passage_lang.as_ref().and_then(|l| plan.place(l)), ..At::new(scenario, lang) };
    let (mut policies, mut arms) = (Vec::new(), Vec::new());
    for (i, &policy) in plan.grid.iter().enumerate() {
        let balance =
            balance(collection, train, plan, scenario, (lang, c.passage_lang.as_ref()), policy.policy());
        policies.push(PolicyRow {
            policy,
            reached: c.reached[i],
            mean: c.means[i].mean,
            ci: ends(&c.means[i]),
            minus_best: c.minus_best[i],
            best_share: c.best_share[i],
            minus_untrained: results
                .records
                .beside_untrained(at, &ArmLabels::Method(policy))
                // A handful of queries may agree by chance.
                .filter(|p| p.a.queries.len() >= FEWEST_QUERIES)
                .map(|p| Contrast::of(&p.a.by_seed, &p.b.by_seed, None).interval(plan.level)),
            positives: balance[0],
            negatives: balance[1],
            dropped: balance[2],
            queries_without_positive: balance[3],
        });
        // The models of all pairs are told of once, by language.
        if c.passage_lang.is_none() || !plan.pairs.is_empty() {
            arms.extend(results.records.models_of(at, policy, c.reached[i]).into_iter().map(|m| ArmRow {
                policy,
                seed: m.seed,
                dev: m.dev,
                steps: m.steps,
                seconds: m.seconds,
            }));
        }
    }
    let (runner_up, difference, ci) = match &c.runner_up {
        Some((i, d)) => (Some(plan.grid[*i]), d.mean, ends(d)),
        None => (None, 0.0, [0.0, 0.0]),
    };
    let passage_lang = match (scenario, &c.passage_lang, lang) {
        (_, Some(passage), _) => passage.to_string(),
        (Scenario::CrossLingual, ..) => "other".to_owned(),
        (.., lang) => lang_name(lang),
    };
    Cell {
        scenario,
        query_lang: lang_name(lang),
        passage_lang,
        queries: c.queries,
        tau_best: plan.grid[c.best],
        tau_equivalent: c.equivalent.iter().map(|i| plan.grid[*i]).collect(),
        verdict: c.verdict,
        tau_chosen: plan.grid[c.chosen],
        runner_up,
        difference,
        ci,
        policies,
        arms,
    }
}

/// Positives, negatives and left-out judgments of the training split, and queries without a positive.
fn balance(
    collection: &Collection,
    train: &Graded,
    plan: &Plan,
    scenario: Scenario,
    (lang, passages): (Option<&Lang>, Option<&Lang>),
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
            let asked = scenario != Scenario::CrossLingual || plan.asks(query_lang, passage_lang);
            let outside = !asked || passages.is_some_and(|l| l != passage_lang);
            if outside || !plan.langs.contains(passage_lang) || !scenario.pairs(query_lang, passage_lang) {
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

/// The systems on test: of the methods, those that were trained to the end in every language.
fn test_rows(plan: &Plan, scenario: Scenario, choice: &Choice, results: &Results) -> Result<Vec<TestRow>> {
    let records = &results.records;
    let bm25 = |at: At| {
        let measured = results.bm25.get(&scenario).map_or(&[][..], Vec::as_slice);
        let (queries, values) = records.by_query(at, measured);
        // The same for every seed, so that differences are paired.
        Some(Values { queries, by_seed: vec![values; plan.seeds.len()] })
    };
    let name = |m: &Method| if m.is_cut() { format!("tau={m}") } else { m.to_string() };
    type Of<'a> = Box<dyn Fn(At) -> Option<Values> + 'a>;
    let mut systems: Vec<(String, Of)> = vec![
        ("bm25".into(), Box::new(bm25)),
        ("untrained".into(), Box::new(|at| records.test(at, &ArmLabels::Untrained))),
    ];
    for &method in &plan.grid {
        let of = move |at: At| records.test(at, &ArmLabels::Method(method));
        systems.push((name(&method), Box::new(of)));
    }
    systems
        .push(("calibrated".into(), Box::new(|at| records.test_chosen(at, |part| choice.labels_of(part)))));
    let all = At::new(scenario, None);
    systems.retain(|(_, of)| of(all).is_some());
    let Some((_, calibrated)) = systems.last().filter(|(name, _)| name == "calibrated") else {
        return Err(Error::Internal("the chosen models were not measured on test".into()));
    };
    let langs = plan.langs.iter().map(|l| (Some(l), None));
    let of_pairs = plan.models(scenario);
    let pairs = of_pairs.iter().filter(|p| p.passage_lang.is_some());
    let pairs = pairs.map(|p| (p.lang.as_ref(), p.passage_lang.as_ref()));
    let mut rows = Vec::new();
    for (lang, passages) in [(None, None)].into_iter().chain(langs).chain(pairs) {
        let at = At { pool: passages.and_then(|l| plan.place(l)), ..At::new(scenario, lang) };
        let sampled = |of: &Of| of(at).map(|v| records.sampled(at, v));
        let Some(reference) = sampled(calibrated).filter(|v| !v.queries.is_empty()) else { continue };
        for (name, of) in &systems {
            let values = sampled(of).filter(|v| v.queries == reference.queries).ok_or_else(|| {
                Error::Internal(format!("{name} was measured on other queries than the calibrated system"))
            })?;
            let i = bootstrap::mean(&values.by_seed, plan.level);
            let difference = bootstrap::paired(&reference.by_seed, &values.by_seed, plan.level);
            rows.push(TestRow {
                scenario,
                query_lang: lang_name(lang),
                passage_lang: passages.map(Lang::to_string),
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

/// The rows of the test table of one cell, by system.
pub fn test_of<'a>(c: &'a Calibration, cell: &Cell) -> BTreeMap<&'a str, &'a TestRow> {
    let passages = Some(&cell.passage_lang).filter(|_| cell.is_pair());
    let own = |r: &&TestRow| {
        (r.scenario, &r.query_lang, r.passage_lang.as_ref()) == (cell.scenario, &cell.query_lang, passages)
    };
    c.test.iter().filter(own).map(|r| (r.system.as_str(), r)).collect()
}
