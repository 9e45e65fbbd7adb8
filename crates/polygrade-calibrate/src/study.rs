//! Studies: how effectiveness depends on the amount of training data and on noise in the grades, for each method.
//!
//! A study trains every method on altered training judgments ([`Alteration`]): a part of the queries or judgments, or
//! grades corrupted at a rate. Dev and test keep their grades. Every model takes the steps that the unaltered data
//! give, so that what differs is the data and not the time; seed s of a method draws the alteration with seed s. Values
//! are of test: nothing is chosen by a study.

use crate::alteration::{Alteration, altered};
use crate::choose;
use crate::lab::{Entry, Lab};
use crate::noise::Noise;
use crate::plan::{Arm, ArmLabels, Method};
use crate::records::{Cell, Records};
use polygrade_data::{Error, Graded, Result, Split};
use polygrade_eval::bootstrap::{self, Interval};
use polygrade_train::Scenario;
use rayon::prelude::*;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// One method under one alteration, in all languages together.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// The scenario.
    pub scenario: Scenario,
    /// What is altered: `queries`, `judgments`, `adjacent`, `uniform` or `confusion:FILE`.
    pub kind: String,
    /// The share that is kept, or the rate of corruption.
    pub amount: f64,
    /// The method.
    pub method: Method,
    /// Mean nDCG@10 on test over seeds and queries, with its interval.
    pub value: Interval,
    /// The paired difference to the same method without alteration.
    pub minus_unaltered: Interval,
}

/// How much data a method needs to do as well as the default does with all.
#[derive(Debug, Clone, Serialize)]
pub struct Saving {
    /// The scenario.
    pub scenario: Scenario,
    /// `queries` or `judgments`.
    pub kind: String,
    /// The method.
    pub method: Method,
    /// The default, to which it is compared.
    pub default: Method,
    /// The smallest of the tried shares from which on the mean stays at or above the default's with all data, less the
    /// margin; `null` where there is none.
    pub share: Option<f64>,
    /// The paired difference to the default with all data at that share.
    pub minus_default: Option<Interval>,
}

/// The kind and the amount of an alteration.
fn parts(alteration: &Alteration) -> (String, f64) {
    let text = alteration.to_string();
    let (kind, amount) = text.rsplit_once(':').unwrap_or((&text, ""));
    (kind.to_owned(), amount.parse().unwrap_or(0.0))
}

/// What tells an alteration from others: a file may hold another matrix tomorrow.
fn key(alteration: &Alteration) -> String {
    match alteration {
        Alteration::Noise(Noise::Confusion { matrix, .. }) => {
            format!("{alteration} {:016x}", xxh3_64(format!("{matrix:?}").as_bytes()))
        }
        plain => plain.to_string(),
    }
}

/// Trains and measures all methods of the plan under all alterations, in each scenario, and without.
pub fn run(lab: &Lab, alterations: &[Alteration]) -> Result<()> {
    let plan = lab.plan;
    let mut arms: Vec<(Arm, Option<&Alteration>)> = Vec::new();
    for &scenario in &plan.scenarios {
        for part in plan.models(scenario) {
            for alteration in [None].into_iter().chain(alterations.iter().map(Some)) {
                for &method in &plan.grid {
                    for &seed in &plan.seeds {
                        let (labels, altered) = (ArmLabels::Method(method), alteration.map(key));
                        let arm = Arm { scenario, part: part.clone(), labels, seed, fold: None, altered };
                        arms.push((arm, alteration));
                    }
                }
            }
        }
    }
    let one = |(arm, alteration): &(Arm, Option<&Alteration>)| -> Result<()> {
        let train = lab.train(None);
        let Some(whole) = lab.examples_of(arm, train) else { return Ok(()) };
        let every = (whole.steps_per_epoch(plan.settings.batch) * plan.settings.epochs) as u64;
        let steps = lab.steps(arm.scenario, &arm.part, &whole).unwrap_or(every);
        let Some(alteration) = alteration else {
            return lab.advance(&mut [Entry::new(arm.clone(), Some(&whole), Some(steps))], 1.0, true);
        };
        let judgments = altered(lab.collection, lab.collection.judgments(Split::Train), alteration, arm.seed);
        let graded = Graded::of(lab.collection, &judgments);
        let Some(examples) = lab.examples_of(arm, &graded) else { return Ok(()) };
        lab.advance(&mut [Entry::new(arm.clone(), Some(&examples), Some(steps))], 1.0, true)
    };
    match plan.settings.transformer.is_some() {
        true => arms.iter().try_for_each(one),
        false => arms.par_iter().with_max_len(1).try_for_each(one),
    }
}

/// What the studies say.
pub fn points(records: &Records, alterations: &[Alteration]) -> Result<Vec<Point>> {
    let mut out = Vec::new();
    for &scenario in &records.plan.scenarios {
        let cell = Cell::new(scenario, None);
        let values = |method: Method, altered: Option<&str>| {
            let values = records.test_altered(cell, &ArmLabels::Method(method), altered);
            values.map(|v| records.sampled(cell, v)).ok_or_else(|| {
                Error::Internal(format!("{method} was not measured on test in a study of {altered:?}"))
            })
        };
        for alteration in alterations {
            let (kind, amount) = parts(alteration);
            for &method in &records.plan.grid {
                let (with, without) = (values(method, Some(&key(alteration)))?, values(method, None)?);
                out.push(Point {
                    scenario,
                    kind: kind.clone(),
                    amount,
                    method,
                    value: bootstrap::mean(&with.by_seed, records.plan.level),
                    minus_unaltered: bootstrap::paired(&with.by_seed, &without.by_seed, records.plan.level),
                });
            }
        }
        // The end of each curve: all data, no noise.
        let mut kinds: Vec<(String, f64)> = alterations
            .iter()
            .map(|a| (parts(a).0, f64::from(u8::from(matches!(a, Alteration::Subset(_))))))
            .collect();
        kinds.sort_by(|a, b| a.0.cmp(&b.0));
        kinds.dedup();
        for (kind, amount) in kinds {
            if alterations.iter().any(|a| parts(a) == (kind.clone(), amount)) {
                continue;
            }
            for &method in &records.plan.grid {
                let value = bootstrap::mean(&values(method, None)?.by_seed, records.plan.level);
                let minus_unaltered = Interval { mean: 0.0, low: 0.0, high: 0.0 };
                out.push(Point { scenario, kind: kind.clone(), amount, method, value, minus_unaltered });
            }
        }
    }
    out.sort_by(|a, b| {
        let key = |p: &Point| (p.scenario, p.kind.clone());
        key(a).cmp(&key(b)).then(a.amount.total_cmp(&b.amount))
    });
    Ok(out)
}

/// How much data each method needs to equal `default` with all of it.
pub fn savings(
    records: &Records,
    alterations: &[Alteration],
    points: &[Point],
    default: Method,
) -> Result<Vec<Saving>> {
    let margin = choose::margin(records.plan);
    let mut out: Vec<Saving> = Vec::new();
    for point in points.iter().filter(|p| p.kind == "queries" || p.kind == "judgments") {
        let (scenario, kind, method) = (point.scenario, point.kind.clone(), point.method);
        if out.iter().any(|s| (s.scenario, &s.kind, s.method) == (scenario, &kind, method)) {
            continue;
        }
        let curve = |method: Method| {
            let own = points
                .iter()
                .filter(move |p| (p.scenario, &p.kind, p.method) == (point.scenario, &point.kind, method));
            own.map(|p| (p.amount, p.value.mean)).collect::<Vec<(f64, f64)>>()
        };
        let Some(&(_, goal)) = curve(default).last() else { continue };
        // From the whole downwards, as long as the goal is met.
        let met = |(_, mean): &&(f64, f64)| *mean >= goal - margin;
        let share = curve(method).iter().rev().take_while(met).last().map(|(amount, _)| *amount);
        let minus_default = share.map(|share| {
            let cell = Cell::new(scenario, None);
            let altered = alterations.iter().find(|a| parts(a) == (kind.clone(), share)).map(key);
            let of = |method, altered: Option<&str>| {
                let values = records.test_altered(cell, &ArmLabels::Method(method), altered);
                values.map(|v| records.sampled(cell, v)).unwrap_or_default()
            };
            let (own, whole) = (of(method, altered.as_deref()), of(default, None));
            bootstrap::paired(&own.by_seed, &whole.by_seed, records.plan.level)
        });
        out.push(Saving { scenario, kind, method, default, share, minus_default });
    }
    Ok(out)
}
