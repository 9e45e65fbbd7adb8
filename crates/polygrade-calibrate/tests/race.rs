//! Races on collections whose truth is planted: what they find, and what they must not depend on.
#![allow(clippy::unwrap_used)]

use polygrade_calibrate::lab::{Entry, Lab, METRIC, Watch};
use polygrade_calibrate::plan::{Arm, ArmLabels, Equal, Part, RaceSettings, Search};
use polygrade_calibrate::planted::{self, Planted, Spec};
use polygrade_calibrate::{Alteration, Calibration, Made, Method, Plan, self_test};
use polygrade_data::Split;
use polygrade_encoder::{Encoder, NewStaticBase};
use polygrade_eval::Pool;
use polygrade_train::evaluate::{evaluate, queries_in};
use polygrade_train::examples::HardNegatives;
use polygrade_train::{Examples, LabelPolicies, Loss, Policy, Scenario, TokenizedCollection, Trainer};
use serde_json::Value;
use std::path::Path;

struct Silent;

impl Watch for Silent {
    fn total(&self, _: usize) {}
    fn done(&self, _: &str) {}
}

fn made() -> Made {
    Made {
        command: String::new(),
        version: String::new(),
        encoder: String::new(),
        settings: String::new(),
        date: String::new(),
        seconds: 0.0,
        threads: 1,
        machine: String::new(),
    }
}

fn threshold(t: f32) -> Method {
    Method::Policy(Policy::Threshold(t))
}

fn plan(planted: &Planted, scenarios: &[Scenario], grid: &[Method]) -> Plan {
    Plan {
        scenarios: scenarios.to_vec(),
        langs: planted.collection.langs(),
        pairs: Vec::new(),
        grid: grid.to_vec(),
        seeds: vec![1, 2, 3],
        settings: planted::settings(),
        level: 0.95,
        encoder: "planted".into(),
        search: Search::Race(RaceSettings::for_methods(grid.len())),
        equal: Equal::Steps,
        folds: 0,
        studies: Vec::new(),
        default: grid[0],
        teacher: None,
    }
}

struct Place {
    planted: Planted,
    encoders: NewStaticBase,
}

impl Place {
    fn new(spec: &Spec) -> Place {
        let planted = planted::collection(3, spec);
        let encoders = planted::encoder(&planted.collection).unwrap();
        Place { planted, encoders }
    }

    /// The calibration without what depends on the clock.
    fn run(&self, plan: &Plan, dir: &Path) -> Value {
        let base = |seed| Encoder::from(self.encoders.encoder(seed));
        let results = polygrade_calibrate::run(&self.planted.collection, plan, &base, dir, &Silent).unwrap();
        let found = Calibration::new(&self.planted.collection, plan, &results, made()).unwrap();
        let mut found: Value = serde_json::from_str(&found.to_json().unwrap()).unwrap();
        for cell in found["cells"].as_array_mut().unwrap() {
            for arm in cell["arms"].as_array_mut().unwrap() {
                arm.as_object_mut().unwrap().remove("seconds");
            }
        }
        found
    }
}

fn small() -> Spec {
    Spec { train: 128, dev: 40, test: 60, ..Spec::default() }
}

#[test]
fn the_race_finds_what_was_planted_and_nothing_where_nothing_was() {
    let dir = tempfile::tempdir().unwrap();
    let found = self_test::run(5, &Spec::default(), dir.path(), &Silent).unwrap();
    assert!(found.visible >= 12, "{found:?}");
    assert!(found.passed, "{found:?}");
    assert!(found.agrees_with_grid >= 0.95 && found.cost <= 0.45, "{found:?}");
    let weak = Spec { strength: 0.0, ..Spec::default() };
    let found = self_test::run(3, &weak, dir.path().join("weak").as_path(), &Silent).unwrap();
    assert!(found.visible == 0, "no strength, no effect: {found:?}");
}

#[test]
fn a_race_does_not_look_at_what_an_earlier_run_found_further_on() {
    let place = Place::new(&small());
    let plan = plan(&place.planted, &Scenario::ALL[..2], &[1.0, 2.0, 3.0].map(threshold));
    let (alone, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fresh = place.run(&plan, alone.path());
    let full = place.run(&Plan { search: Search::Grid, ..plan.clone() }, after.path());
    assert_eq!(place.run(&plan, after.path()), fresh, "after the grid");
    // And the grid does not depend on the race that was there before it.
    assert_eq!(place.run(&Plan { search: Search::Grid, ..plan }, alone.path()), full);
    // It keeps to its budget, and what it says of the grid's cost is what the grid costs.
    let of = |v: &Value, key: &str| v["search"][key].as_f64().unwrap();
    assert!(of(&fresh, "tokens") <= 0.45 * of(&fresh, "grid_tokens"), "{}", fresh["search"]);
    let off = of(&fresh, "grid_tokens") / of(&full, "tokens") - 1.0;
    assert!(off.abs() < 0.05, "{off}");
}

#[test]
fn all_that_competes_runs_with_folds_pairs_and_studies() {
    let place = Place::new(&small());
    let grid = [
        threshold(1.0),
        threshold(3.0),
        Method::Policy(Policy::Band { lo: 0.0, hi: 2.0 }),
        Method::Policy(Policy::Soft(1.0)),
        Method::Policy(Policy::AllThresholds),
        Method::Loss(Loss::Bixse),
        Method::Loss(Loss::Cosent),
    ];
    let dir = tempfile::tempdir().unwrap();
    let studies = ["queries:0.5", "adjacent:0.5"].map(|s| Alteration::parse(s).unwrap()).to_vec();
    let base = plan(&place.planted, &[Scenario::Mixture], &grid);
    let plan = Plan { folds: 3, equal: Equal::Pairs, studies, seeds: vec![1, 2], ..base };
    let found = place.run(&plan, dir.path());
    let overall = &found["cells"][0];
    // Every query of train and dev that has something to find speaks, once.
    let units = [Split::Train, Split::Dev].map(|s| {
        let graded = place.planted.collection.graded(s);
        let found = |q: &&u32| graded.judged(**q).any(|(_, grade)| grade > 0.0);
        graded.queries().iter().filter(found).count() as u64
    });
    assert_eq!(overall["queries"].as_u64().unwrap(), units.iter().sum::<u64>());
    let points = found["studies"].as_array().unwrap();
    assert_eq!(points.len(), 2 * grid.len() * 2, "both kinds, as altered and whole");
    assert!(found["savings"].as_array().unwrap().len() == grid.len());
    // With equal pairs, the threshold with fewer positives takes more steps.
    let steps = |method: &str| {
        let arms = overall["arms"].as_array().unwrap();
        arms.iter().find(|a| a["policy"] == method).unwrap()["steps"].as_u64().unwrap() as f64
            / overall["policies"]
                .as_array()
                .unwrap()
                .iter()
                .find(|p| p["policy"] == method)
                .unwrap()["reached"]
                .as_f64()
                .unwrap()
    };
    // As many as give both the same pairs.
    let pairs = |tau: f32| {
        let policies = LabelPolicies::uniform(Policy::Threshold(tau));
        let c = &place.planted.collection;
        let examples = Examples::new(c, &c.graded(Split::Train), Scenario::Mixture, &plan.langs, &policies);
        examples.pairs_per_epoch(plan.settings.per_query)
    };
    let (ratio, want) = (steps("3") / steps("1"), pairs(1.0) / pairs(3.0));
    assert!(want > 1.1 && (ratio - want).abs() < 0.1 * want, "{ratio} {want}");
}

/// A model of one language is trained with that language's texts and tokens alone; negatives that were mined in others are
/// among them, and it is the model that all texts give.
#[test]
fn a_models_part_of_the_texts_is_all_that_it_needs() {
    let place = Place::new(&small());
    let collection = &place.planted.collection;
    let mut plan = plan(&place.planted, &Scenario::ALL[..1], &[threshold(2.0)]);
    let part = plan.models(Scenario::Monolingual).remove(0);
    let lang = part.lang.clone().unwrap();
    let queries = collection.queries.iter().zip(0..).filter(|(q, _)| q.lang == lang).map(|(_, i)| i);
    let foreign = collection.passages.iter().zip(0..).filter(|(p, _)| p.lang != lang).map(|(_, i)| i);
    plan.settings.negatives.hard = Some(HardNegatives::new(queries.zip(foreign).collect(), 2));
    let labels = ArmLabels::Method(threshold(2.0));
    let arm = Arm { scenario: Scenario::Monolingual, part, labels, seed: 1, fold: None, altered: None };

    let dir = tempfile::tempdir().unwrap();
    let base = |seed| Encoder::from(place.encoders.encoder(seed));
    let lab = Lab::new(collection, &plan, &base, dir.path(), &Silent).unwrap();
    let examples = lab.examples(&arm).unwrap();
    lab.advance(&mut [Entry::new(arm.clone(), Some(&examples), None)], 1.0, false).unwrap();
    let found = lab.records().arms[&arm.name()].rungs.last().unwrap().dev.clone();

    let direct = |examples: &Examples| -> Vec<(u32, u16, f64)> {
        let texts = TokenizedCollection::new(collection, &*base(1)).unwrap();
        let mut trainer = Trainer::new(base(1), examples, &texts, lab.settings(&arm, None), false).unwrap();
        trainer.run();
        let dev = collection.graded(Split::Dev);
        let queries = queries_in(collection, &dev, std::slice::from_ref(&lang));
        let ranked = evaluate(trainer.encoder(), collection, &texts, &queries, &[Pool::Same], 10, false);
        let topics = ranked[0].topics(collection, &dev, &Pool::Same);
        ranked[0].queries.iter().zip(topics).map(|(q, t)| (*q, 0, METRIC.of(&t))).collect()
    };
    assert!(found.len() == 40 && found == direct(&examples));
    let train = collection.graded(Split::Train);
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    let langs = std::slice::from_ref(&lang);
    let without = Examples::new(collection, &train, Scenario::Monolingual, langs, &policies);
    assert_ne!(found, direct(&without), "the mined negatives are used");
}

#[test]
fn a_handful_of_queries_says_nothing_of_what_training_adds() {
    let place = Place::new(&Spec { dev: 6, ..small() });
    let plan = plan(&place.planted, &Scenario::ALL[..1], &[1.0, 2.0].map(threshold));
    let dir = tempfile::tempdir().unwrap();
    let found = place.run(&plan, dir.path());
    let cells = found["cells"].as_array().unwrap();
    assert!(cells.len() > 2);
    for cell in cells {
        let all = cell["query_lang"] == "all";
        for policy in cell["policies"].as_array().unwrap() {
            assert_eq!(policy["minus_untrained"].is_null(), !all, "{cell}");
        }
    }
}

#[test]
fn one_method_needs_no_race_and_twins_are_one() {
    let place = Place::new(&small());
    let dir = tempfile::tempdir().unwrap();
    let one = place.run(&plan(&place.planted, &[Scenario::Mixture], &[threshold(1.0)]), dir.path());
    assert_eq!(one["cells"][0]["verdict"], "settled");
    assert_eq!(one["cells"][0]["policies"][0]["reached"], 1.0);
    // 2 and 2.5 label whole grades alike only from 3 on: 2.5 and 3 are twins.
    let grid = [1.0, 2.5, 3.0].map(threshold);
    let twins = place.run(&plan(&place.planted, &[Scenario::Mixture], &grid), dir.path());
    let policies = twins["cells"][0]["policies"].as_array().unwrap();
    assert_eq!(policies[1]["mean"], policies[2]["mean"]);
    let names: Vec<String> = std::fs::read_dir(dir.path().join("arms"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        names.iter().any(|n| n.contains("tau2.5")) && !names.iter().any(|n| n.contains("tau3-")),
        "{names:?}"
    );
}

#[test]
fn arms_have_names_of_their_own() {
    let methods: Vec<ArmLabels> = ["1", "0:1", "soft:1", "all", "bixse", "ordinal"]
        .map(|m| ArmLabels::Method(Method::parse(m).unwrap()))
        .into_iter()
        .collect();
    let mut names = std::collections::BTreeSet::new();
    for labels in &methods {
        for altered in [None, Some("queries:0.5".to_owned()), Some("judgments:0.5".to_owned())] {
            let arm = polygrade_calibrate::plan::Arm {
                scenario: Scenario::Mixture,
                part: Part::default(),
                labels: labels.clone(),
                seed: 1,
                fold: None,
                altered,
            };
            assert!(names.insert(arm.name()), "{}", arm.name());
        }
    }
    assert!(Method::parse("info-nce").is_none() && Method::parse("graded").is_none());
}
