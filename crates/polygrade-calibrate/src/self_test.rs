//! `polygrade calibrate --self-test`: does the race find what was planted, and does it keep quiet where there is
//! nothing to find?
//!
//! For each seed a collection of [`planted`] truth is generated, the race is run, and then the full grid, whose models
//! are measured on a large test split. A cell (a language, or one pair of seed and language, to be exact) is *visible*
//! where every rival of the planted threshold is worse on test by more than the margin, with certainty. There the race
//! has to name the planted threshold. A race is *falsely certain* where it has dropped a threshold that is no worse:
//! the planted one, or any where all are equivalent.

use crate::choose;
use crate::lab::{Base, Watch};
use crate::plan::{ArmLabels, Equal, Method, Plan, RaceSettings, Search};
use crate::planted::{self, Spec, Truth};
use crate::race::End;
use crate::records::Cell;
use polygrade_data::Result;
use polygrade_encoder::Encoder;
use polygrade_eval::stats::contrast::Contrast;
use polygrade_train::{Policy, Scenario};
use serde::Serialize;
use std::path::Path;

/// One language of one generated collection.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The seed of the collection.
    pub seed: u64,
    /// The language.
    pub lang: String,
    /// What was planted: a threshold, or `null` where all are equivalent.
    pub planted: Option<Method>,
    /// The thresholds that the race left in.
    pub left: Vec<Method>,
    /// The threshold of the race, before the languages' answers are brought together.
    pub named: Method,
    /// Whether the planted one is better than each rival on test, for certain and by more than the margin.
    pub visible: bool,
    /// Whether the race dropped one that is no worse.
    pub falsely_certain: bool,
    /// The thresholds that the full grid cannot tell from its best.
    pub grid_left: Vec<Method>,
    /// Training tokens of the race.
    pub tokens: u64,
    /// Training tokens of the grid.
    pub grid_tokens: u64,
}

/// What the self-test found.
#[derive(Debug, Clone, Serialize)]
pub struct SelfTest {
    /// Every language of every collection.
    pub cells: Vec<Found>,
    /// Share of the visible cells in which the race named the planted threshold alone.
    pub named: f64,
    /// Visible cells.
    pub visible: usize,
    /// Share of all cells in which the race was falsely certain.
    pub falsely_certain: f64,
    /// Cells in which nothing was planted.
    pub null: usize,
    /// Those of them in which the race was falsely certain.
    pub false_in_null: usize,
    /// Share of all cells in which the race's answer is among the ones that the full grid cannot tell apart.
    pub agrees_with_grid: f64,
    /// Training tokens of the races, as a share of the grids'.
    pub cost: f64,
    /// Whether all is as promised: the planted one named in 90 % of the visible cells or more; false certainty in 5 % of
    /// all cells or less, and where nothing was planted not more often than 5 % gives by chance (p ≥ 0.01); the grid's
    /// answer in 95 % or more, at 45 % of its cost or less.
    pub passed: bool,
}

/// Runs the test on collections generated from seeds 1 to `seeds`; what is trained is kept under `dir`.
pub fn run(seeds: u64, spec: &Spec, dir: &Path, watch: &(dyn Watch + Sync)) -> Result<SelfTest> {
    let mut cells = Vec::new();
    watch.total(seeds as usize);
    for seed in 1..=seeds {
        cells.extend(one(seed, spec, &dir.join(format!("seed{seed}")))?);
        watch.done(&format!("collection {seed}"));
    }
    let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    let visible: Vec<&Found> = cells.iter().filter(|c| c.visible).collect();
    let right = visible.iter().filter(|c| c.left.len() == 1 && c.planted == Some(c.left[0])).count();
    let named = share(right, visible.len());
    let falsely_certain = share(cells.iter().filter(|c| c.falsely_certain).count(), cells.len());
    let agree = cells.iter().filter(|c| c.grid_left.contains(&c.named)).count();
    let null: Vec<&Found> = cells.iter().filter(|c| c.planted.is_none()).collect();
    let false_in_null = null.iter().filter(|c| c.falsely_certain).count();
    let sum = |of: fn(&Found) -> u64| cells.iter().map(of).sum::<u64>() as f64;
    let agrees_with_grid = share(agree, cells.len());
    let cost = sum(|c| c.tokens) / sum(|c| c.grid_tokens).max(1.0);
    Ok(SelfTest {
        named,
        visible: visible.len(),
        falsely_certain,
        null: null.len(),
        false_in_null,
        agrees_with_grid,
        cost,
        passed: named >= 0.9
            && falsely_certain <= 0.05
            && at_least(false_in_null, null.len(), 0.05) >= 0.01
            && agrees_with_grid >= 0.95
            && cost <= 0.45,
        cells,
    })
}

/// The probability of `hits` or more among `n` at rate `p`.
fn at_least(hits: usize, n: usize, p: f64) -> f64 {
    let mut term = (1.0 - p).powi(n as i32);
    let mut below = 0.0;
    for k in 0..hits {
        below += term;
        term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
    }
    1.0 - below
}

fn one(seed: u64, spec: &Spec, dir: &Path) -> Result<Vec<Found>> {
    let planted = planted::collection(seed, spec);
    let encoders = planted::encoder(&planted.collection)?;
    let base: Base = &|seed| Encoder::from(encoders.encoder(seed));
    let grid: Vec<Method> = [1.0, 2.0, 3.0].map(|t| Method::Policy(Policy::Threshold(t))).to_vec();
    let race = RaceSettings::for_methods(grid.len());
    let plan = Plan {
        scenarios: vec![Scenario::Monolingual],
        langs: planted.collection.langs(),
        pairs: Vec::new(),
        default: grid[0],
        grid,
        seeds: vec![1, 2, 3],
        settings: planted::settings(),
        level: 0.95,
        encoder: "planted".into(),
        search: Search::Race(race.clone()),
        equal: Equal::Steps,
        folds: 0,
        studies: Vec::new(),
        teacher: None,
    };
    let raced = crate::run(&planted.collection, &plan, base, dir, &Silent)?;
    let full = Plan { search: Search::Grid, ..plan.clone() };
    let full = crate::run(&planted.collection, &full, base, dir, &Silent)?;
    let scenario = Scenario::Monolingual;
    let mut out = Vec::new();
    for lang in &plan.langs {
        let Some(race) = raced.races.iter().find(|r| r.part.lang.as_ref() == Some(lang)) else { continue };
        let truth = planted.truth.get(lang).copied().unwrap_or(Truth::Equivalent);
        let best = if let Truth::Best(p) = truth { Some(Method::Policy(p)) } else { None };
        let left: Vec<Method> = race.survivors.iter().map(|i| plan.grid[*i]).collect();
        let own = |results: &crate::run::Results, of: fn(&choose::Comparison) -> Vec<usize>| {
            let choice = results.choices.get(&scenario);
            let cell = choice.and_then(|c| c.by_lang.iter().find(|c| c.lang.as_ref() == Some(lang)));
            cell.map_or(Vec::new(), |c| of(c).iter().map(|i| plan.grid[*i]).collect::<Vec<_>>())
        };
        let rivals = |best: Method| plan.grid.iter().copied().filter(move |m| *m != best);
        let worse = |rival: Method, best: Method| {
            let test = |m| full.records.test(Cell::new(scenario, Some(lang)), &ArmLabels::Method(m));
            let (Some(a), Some(b)) = (test(best), test(rival)) else { return false };
            Contrast::of(&a.by_seed, &b.by_seed, None).interval(0.95).low > choose::margin(&plan)
        };
        let visible = best.is_some_and(|b| rivals(b).all(|r| worse(r, b)));
        out.push(Found {
            seed,
            lang: lang.to_string(),
            planted: best,
            named: own(&raced, |c| vec![c.best]).first().copied().unwrap_or(plan.grid[0]),
            falsely_certain: match best {
                Some(best) => !left.contains(&best) || (visible && race.end == End::Equivalent),
                None => left.len() < plan.grid.len(),
            },
            visible,
            left,
            grid_left: own(&full, |c| c.equivalent.clone()),
            tokens: race.tokens,
            grid_tokens: race.grid_tokens,
        });
    }
    Ok(out)
}

struct Silent;

impl Watch for Silent {
    fn total(&self, _: usize) {}
    fn done(&self, _: &str) {}
}
