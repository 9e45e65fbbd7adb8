//! A whole calibration, in its order: the search in each scenario, the choice, the chosen models trained to the end,
//! and test.

use crate::choose::{self, Choice};
use crate::lab::{Base, Entry, Lab, Watch};
use crate::plan::{Arm, ArmLabels, Measured, Method, Part, Plan, RaceSettings, Search};
use crate::race::{self, Field, Race};
use crate::records::Records;
use crate::study;
use polygrade_data::{Collection, Lang, Result};
use polygrade_train::labels::Rule;
use polygrade_train::{LabelPolicies, Policy, Scenario};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Languages that the search for one model with several thresholds takes back to the single one, at most.
const TAKEN_BACK: usize = 4;

/// All results of a calibration.
#[derive(Debug)]
pub struct Results<'a> {
    /// Every arm.
    pub records: Records<'a>,
    /// What was chosen on dev, by scenario.
    pub choices: BTreeMap<Scenario, Choice>,
    /// The races, where there were any.
    pub races: Vec<Race>,
    /// BM25's values on test, for each scenario.
    pub bm25: BTreeMap<Scenario, Vec<Measured>>,
    /// The names of arms that studies trained on altered judgments.
    pub altered: BTreeSet<String>,
    /// Rungs whose result was there already.
    pub resumed: usize,
}

/// Runs the plan, keeping results under `dir`. `base` makes the encoder that training starts from.
pub fn run<'a>(
    collection: &'a Collection,
    plan: &'a Plan,
    base: Base<'a>,
    dir: &Path,
    watch: &'a dyn Watch,
) -> Result<Results<'a>> {
    let lab = Lab::new(collection, plan, base, dir, watch)?;
    watch.total(rungs(plan));
    untrained(&lab)?;
    let (mut choices, mut races) = (BTreeMap::new(), Vec::new());
    for &scenario in &plan.scenarios {
        let found = match &plan.search {
            Search::Grid => grid(&lab, scenario).map(|()| Vec::new())?,
            Search::Race(settings) => race_all(&lab, scenario, settings)?,
        };
        let margin = choose::margin(plan);
        let mut choice = choose::choose(&lab.records(), scenario, &found, margin)?;
        races.extend(found);
        if plan.has_one_model(scenario) {
            let monolingual: Option<&Choice> = choices.get(&Scenario::Monolingual);
            thresholds_by_language(&lab, scenario, &mut choice, monolingual)?;
            choice.settle(scenario);
        }
        finish(&lab, scenario, &choice)?;
        choices.insert(scenario, choice);
    }
    let chosen: BTreeSet<String> = lab.records().arms.keys().cloned().collect();
    if !plan.studies.is_empty() {
        study::run(&lab, &plan.studies)?;
    }
    let altered = lab.records().arms.keys().filter(|n| !chosen.contains(*n)).cloned().collect();
    lab.remove_checkpoints()?;
    let bm25 = plan.scenarios.iter().map(|&s| (s, lab.bm25(s))).collect();
    let (records, resumed) = lab.into_records();
    Ok(Results { records, choices, races, bm25, altered, resumed })
}

/// Rungs that are run at most.
fn rungs(plan: &Plan) -> usize {
    let (looks, seeds) = match &plan.search {
        Search::Grid => (1, plan.seeds.len()),
        Search::Race(race) => (race.rungs.len(), race.seeds.min(plan.seeds.len())),
    };
    let of = |s: &Scenario| plan.models(*s).len() * (plan.grid.len() * looks * seeds + plan.seeds.len());
    let studies = |s: &Scenario| match plan.studies.len() {
        0 => 0,
        n => plan.models(*s).len() * (n + 1) * plan.grid.len() * plan.seeds.len(),
    };
    plan.scenarios.iter().map(|s| of(s) + studies(s)).sum::<usize>() + plan.scenarios.len() * plan.seeds.len()
}

fn untrained(lab: &Lab) -> Result<()> {
    let pairs = lab.plan.scenarios.iter().flat_map(|s| lab.plan.seeds.iter().map(move |seed| (*s, *seed)));
    let arm = |(scenario, seed)| Arm {
        scenario,
        part: Part::default(),
        labels: ArmLabels::Untrained,
        seed,
        fold: None,
        altered: None,
    };
    let mut entries: Vec<Entry> = pairs.map(|p| Entry::new(arm(p), None, None)).collect();
    lab.advance(&mut entries, 0.0, true)
}

/// Every method with every seed to the end. With folds, dev is cross-fitted, and test is measured with models of the
/// whole training split.
fn grid(lab: &Lab, scenario: Scenario) -> Result<()> {
    let one = |part: &Part| {
        let contenders = race::methods(&lab.plan.grid);
        let all: Vec<usize> = (0..contenders.len()).collect();
        for folds in if lab.plan.folds > 0 { vec![true, false] } else { vec![false] } {
            let field = Field::new(lab, scenario, part, contenders.clone(), folds);
            let entries = field.entries(&all, &lab.plan.seeds);
            let mut entries: Vec<Entry> = entries.into_iter().map(|(_, e)| e).collect();
            lab.advance(&mut entries, 1.0, !folds)?;
            field.share(lab, &all, &lab.plan.seeds);
        }
        Ok(())
    };
    in_parallel(lab, &lab.plan.models(scenario), one).map(|_| ())
}

fn race_all(lab: &Lab, scenario: Scenario, settings: &RaceSettings) -> Result<Vec<Race>> {
    // One race after the other: its own arms keep all threads busy, and models wait in memory for their next rung.
    let one = |part: &Part| {
        let contenders = race::methods(&lab.plan.grid);
        let field = Field::new(lab, scenario, part, contenders, true);
        race::race(lab, &field, settings)
    };
    lab.plan.models(scenario).iter().map(one).collect()
}

fn in_parallel<T: Send>(
    lab: &Lab,
    models: &[Part],
    one: impl Fn(&Part) -> Result<T> + Sync + Send,
) -> Result<Vec<T>> {
    // A transformer has all threads for itself.
    match lab.plan.settings.transformer.is_some() {
        true => models.iter().map(one).collect(),
        false => models.par_iter().with_max_len(1).map(one).collect(),
    }
}

/// One model with a threshold for each language: see [`choose::candidates`].
fn thresholds_by_language(
    lab: &Lab,
    scenario: Scenario,
    choice: &mut Choice,
    monolingual: Option<&Choice>,
) -> Result<()> {
    let single = choice.single();
    let wanted = match (scenario, monolingual) {
        (Scenario::Mixture, Some(own)) => policies_of(own, single, scenario, &lab.plan.langs),
        _ => choice.wanted(scenario),
    };
    let (Some(wanted), Method::Policy(_)) = (wanted, single) else { return Ok(()) };
    let mut contenders = vec![ArmLabels::Method(single)];
    contenders.extend(choose::candidates(single, &wanted, TAKEN_BACK).into_iter().map(ArmLabels::Policies));
    let field = Field::new(lab, scenario, &Part::default(), contenders, true);
    let settings = match &lab.plan.search {
        Search::Race(settings) => settings.clone(),
        // The grid spares nothing.
        Search::Grid => RaceSettings {
            rungs: vec![1.0],
            seeds: lab.plan.seeds.len(),
            budget: f64::INFINITY,
            ..RaceSettings::for_methods(2)
        },
    };
    let race = race::race(lab, &field, &settings)?;
    choice.per_language = choose::per_language(&lab.records(), &race, &field.contenders);
    Ok(())
}

/// The monolingual answers as policies of one model, where they differ from the single one.
fn policies_of(own: &Choice, single: Method, scenario: Scenario, langs: &[Lang]) -> Option<LabelPolicies> {
    let policy = |m: Method| if let Method::Policy(p) = m { Some(p) } else { None };
    let default: Policy = policy(single)?;
    let mut out = LabelPolicies::uniform(default);
    for lang in langs {
        // A language that wants a loss of grades keeps the threshold of all.
        let Some(wanted) = policy(own.of(lang)) else { continue };
        if wanted != default {
            out.rules.push(Rule {
                scenario: Some(scenario),
                query_lang: Some(lang.clone()),
                ..Rule::new(wanted)
            });
        }
    }
    // All languages with one other answer are a single threshold, which has been tried.
    let first = out.rules.first()?.policy;
    (out.rules.len() < langs.len() || out.rules.iter().any(|r| r.policy != first)).then_some(out)
}

/// Trains the chosen models to the end with all seeds and measures them on test.
fn finish(lab: &Lab, scenario: Scenario, choice: &Choice) -> Result<()> {
    in_parallel(lab, &lab.plan.models(scenario), |part| {
        let labels = choice.labels_of(part);
        let mut contenders = race::methods(&lab.plan.grid);
        let place = contenders.iter().position(|c| *c == labels).unwrap_or_else(|| {
            contenders.push(labels.clone());
            contenders.len() - 1
        });
        let field = Field::new(lab, scenario, part, contenders, false);
        let which = [field.twin_of[place], place];
        let entries = field.entries(&which[..1], &lab.plan.seeds);
        let mut entries: Vec<Entry> = entries.into_iter().map(|(_, e)| e).collect();
        lab.advance(&mut entries, 1.0, true)?;
        field.share(lab, &which, &lab.plan.seeds);
        Ok(())
    })
    .map(|_| ())
}
