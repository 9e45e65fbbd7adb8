//! Comparison of runs with a baseline, and with one another, over measures and languages.
//!
//! Input is a [`Table`], such as [`input::read`] makes: the value of each measure for each system and topic. Output is a [`Comparison`]: for each
//! measure and scope (all topics, or those of one language) each run's difference from the baseline with its
//! intervals, p-values, effect sizes and the topics needed.
//!
//! - **Topics that are translations of one another are one observation.** Their values rise and fall together, so
//!   counting them as several topics would make p too small. Over all languages they are averaged to one value
//!   first ([`Topic::unit`]).
//! - **Families.** p-values are adjusted over runs × measures for the scope of all topics, and over runs ×
//!   measures × languages for the languages.
//! - The same pair of systems has the same p whatever else is compared with it, before adjustment.
//!
//! ```
//! use polygrade_eval::compare::{Options, Table, Topic, compare};
//!
//! let values = [[0.31, 0.52, 0.10, 0.77, 0.45, 0.38], [0.39, 0.50, 0.21, 0.80, 0.61, 0.47]];
//! let topic = |i: usize| Topic { id: format!("q{i}"), lang: None, unit: format!("q{i}") };
//! let table = Table {
//!     systems: vec!["bm25".into(), "dense".into()],
//!     measures: vec!["nDCG@10".into()],
//!     topics: (0..6).map(topic).collect(),
//!     values: vec![values.iter().map(|v| v.to_vec()).collect()],
//!     notes: vec![],
//! };
//! let found = compare(&table, 0, &Options::default())?;
//! let dense = &found.cells[0].runs[0];
//! assert!((dense.effect.difference - 0.075).abs() < 1e-12);
//! assert_eq!((dense.effect.wins, dense.effect.losses, dense.significant), (5, 1, true));
//! # Ok::<(), polygrade_data::Error>(())
//! ```

pub mod input;

use crate::bootstrap::Interval;
use crate::stats::correction::Correction;
use crate::stats::effect::{Effect, effect};
use crate::stats::randomization::{self, Randomization, randomization_test};
use crate::stats::rank::{OrderTest, sign_test, wilcoxon};
use crate::stats::resample::{RESAMPLES, Resamples};
use crate::stats::ttest::{TTest, t_test};
use crate::stats::tukey::{self, tukey_hsd};
use crate::stats::{differences, mean, power};
use polygrade_data::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A topic of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: String,
    /// Its language, where there is to be a table by language.
    pub lang: Option<String>,
    /// What it shares with its translations; its id where it has none.
    pub unit: String,
}

/// The values to compare.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The names of the systems; the first is no more than the others.
    pub systems: Vec<String>,
    /// The names of the measures.
    pub measures: Vec<String>,
    /// The topics.
    pub topics: Vec<Topic>,
    /// `values[measure][system][topic]`.
    pub values: Vec<Vec<Vec<f64>>>,
    /// What was found on the way here that a reader must know, such as topics that a run lacks.
    pub notes: Vec<String>,
}

/// The test whose p is adjusted and decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// Student's paired t.
    T,
    /// Sign flips.
    Randomization,
    /// Sakai's studentised bootstrap.
    Bootstrap,
    /// Wilcoxon's signed ranks.
    Wilcoxon,
    /// The sign test.
    Sign,
}

impl Test {
    /// Parses `t`, `randomization` (or `randomisation`), `bootstrap`, `wilcoxon`, `sign`.
    pub fn parse(text: &str) -> Option<Test> {
        Some(match text {
            "t" => Test::T,
            "randomization" | "randomisation" => Test::Randomization,
            "bootstrap" => Test::Bootstrap,
            "wilcoxon" => Test::Wilcoxon,
            "sign" => Test::Sign,
            _ => return None,
        })
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Test::T => "paired t test",
            Test::Randomization => "randomisation test",
            Test::Bootstrap => "bootstrap test",
            Test::Wilcoxon => "Wilcoxon signed-rank test",
            Test::Sign => "sign test",
        }
    }
}

/// The interval of the mean difference that is shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IntervalKind {
    /// Student's t.
    T,
    /// Quantiles of the bootstrap.
    Percentile,
    /// The bootstrap, bias-corrected and accelerated.
    Bca,
}

impl IntervalKind {
    /// Parses `t`, `percentile`, `bca`.
    pub fn parse(text: &str) -> Option<IntervalKind> {
        Some(match text {
            "t" => IntervalKind::T,
            "percentile" => IntervalKind::Percentile,
            "bca" => IntervalKind::Bca,
            _ => return None,
        })
    }
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Options {
    /// Level of the tests; intervals have the level 1 − alpha. 10⁻⁶ or more and below 1.
    pub alpha: f64,
    /// The test that decides.
    pub test: Test,
    /// The interval that is shown first.
    pub interval: IntervalKind,
    /// Adjustment of p over a family.
    pub correction: Correction,
    /// Permutations of the randomisation test and of Tukey's; 100 to 10¹².
    pub permutations: u64,
    /// Resamples of the bootstrap; 100 to 10⁷. Each takes 24 bytes for a run and measure.
    pub resamples: usize,
    /// Seed of both.
    pub seed: u64,
    /// The difference for which the topics needed are told, in the measure's unit; above 0.
    pub detect: f64,
    /// The power for that; between 0 and 1.
    pub power: f64,
    /// Compare all pairs of systems too (Tukey HSD).
    pub all_pairs: bool,
    /// Keep every topic's values, in [`Comparison::by_topic`].
    #[serde(skip)]
    pub by_topic: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            alpha: 0.05,
            test: Test::T,
            interval: IntervalKind::T,
            correction: Correction::Holm,
            permutations: randomization::PERMUTATIONS,
            resamples: RESAMPLES,
            seed: 1,
            detect: 0.01,
            power: power::POWER,
            all_pairs: false,
            by_topic: false,
        }
    }
}

/// A run against the baseline, for a measure and a scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Versus {
    /// The run.
    pub system: String,
    /// Its mean.
    pub mean: f64,
    /// Sizes of the difference, run − baseline.
    #[serde(flatten)]
    pub effect: Effect,
    /// Student's t test, with its interval.
    pub t: TTest,
    /// The randomisation test.
    pub randomization: Randomization,
    /// p of the bootstrap test.
    pub bootstrap_p: f64,
    /// The percentile interval.
    pub percentile: Interval,
    /// The BCa interval.
    pub bca: Interval,
    /// Wilcoxon's test.
    pub wilcoxon: OrderTest,
    /// The sign test.
    pub sign: OrderTest,
    /// p of the test that decides, adjusted over the family.
    pub adjusted_p: f64,
    /// Whether that is at most alpha.
    pub significant: bool,
    /// Topics with which a difference of [`Options::detect`] would be seen; `None` where the differences do not
    /// vary, so that nothing can be said.
    pub topics_needed: Option<u64>,
    /// The smallest difference that these topics would show.
    pub detectable: Option<f64>,
}

impl Versus {
    /// p of a test before adjustment.
    pub fn p(&self, test: Test) -> f64 {
        match test {
            Test::T => self.t.p,
            Test::Randomization => self.randomization.p,
            Test::Bootstrap => self.bootstrap_p,
            Test::Wilcoxon => self.wilcoxon.p,
            Test::Sign => self.sign.p,
        }
    }

    /// Ends of an interval of the mean difference.
    pub fn interval(&self, kind: IntervalKind) -> (f64, f64) {
        match kind {
            IntervalKind::T => (self.t.low, self.t.high),
            IntervalKind::Percentile => (self.percentile.low, self.percentile.high),
            IntervalKind::Bca => (self.bca.low, self.bca.high),
        }
    }
}

/// Two systems among all, for a measure and a scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// One system.
    pub a: String,
    /// The other.
    pub b: String,
    /// Mean of b − mean of a.
    pub difference: f64,
    /// The difference over the residual standard deviation (Sakai's ES_HSD).
    pub effect: Option<f64>,
    /// Randomised Tukey HSD's p: over all pairs at once.
    pub p: f64,
    /// Whether that is at most alpha.
    pub significant: bool,
}

/// A measure on all topics or on those of one language.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The measure.
    pub measure: String,
    /// The language; `None` for all topics.
    pub lang: Option<String>,
    /// Observations: topics, with translations of one another as one.
    pub topics: usize,
    /// The baseline's mean.
    pub baseline_mean: f64,
    /// Each other run, in the order given.
    pub runs: Vec<Versus>,
    /// All pairs of systems, where asked for.
    pub pairs: Vec<Pair>,
}

/// The values of one topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopicValues {
    /// The topic.
    pub topic: String,
    /// Its language.
    pub lang: Option<String>,
    /// System → value, for each measure.
    pub values: BTreeMap<String, BTreeMap<String, f64>>,
}

/// What a comparison says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The baseline.
    pub baseline: String,
    /// The other runs.
    pub runs: Vec<String>,
    /// The measures.
    pub measures: Vec<String>,
    /// The languages; empty where topics have none or all have the same.
    pub langs: Vec<String>,
    /// How it was made.
    pub options: Options,
    /// p-values adjusted together for all topics, and for the languages.
    pub families: [usize; 2],
    /// What to know before believing it.
    pub warnings: Vec<String>,
    /// All topics first, measure by measure; then measure by measure the languages.
    pub cells: Vec<Cell>,
    /// Every topic's values, where asked for ([`Options::by_topic`]).
    pub by_topic: Vec<TopicValues>,
}

impl Comparison {
    /// The cell of a measure on all topics.
    pub fn overall(&self, measure: &str) -> Option<&Cell> {
        self.cells.iter().find(|c| c.measure == measure && c.lang.is_none())
    }

    /// The cells of a measure by language.
    pub fn by_lang<'a>(&'a self, measure: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |c| c.measure == measure && c.lang.is_some())
    }
}

/// Fewer topics than this are warned of.
const FEW: usize = 10;
/// Below this, an interval is as wide as the scale of any measure and no number of draws resolves p.
const LEAST_ALPHA: f64 = 1e-6;
const MOST_PERMUTATIONS: u64 = 1_000_000_000_000;
/// Draws are kept: a quarter of a gigabyte.
const MOST_RESAMPLES: usize = 10_000_000;

/// Compares every system with the one at `baseline`, and all pairs where the options say so.
///
/// # Errors
/// [`Error::Usage`] where there are no topics or fewer than two systems, where options are out of range, or where
/// a value is not finite.
pub fn compare(table: &Table, baseline: usize, options: &Options) -> Result<Comparison> {
    check(table, baseline, options)?;
    let langs: BTreeSet<&str> = table.topics.iter().filter_map(|t| t.lang.as_deref()).collect();
    let langs: Vec<&str> = if langs.len() > 1 { langs.into_iter().collect() } else { Vec::new() };
    let measures = 0..table.measures.len();
    let whole = measures.clone().map(|m| (m, None));
    let parts = measures.flat_map(|m| langs.iter().map(move |l| (m, Some(*l))));
    let scopes: Vec<(usize, Option<&str>)> = whole.chain(parts).collect();
    let mut cells: Vec<Cell> =
        scopes.into_par_iter().map(|(m, lang)| cell(table, baseline, options, m, lang)).collect();
    let runs = table.systems.len() - 1;
    let (all, by_lang) = cells.split_at_mut(table.measures.len());
    adjust(all, options);
    adjust(by_lang, options);
    let families = [all.len() * runs, by_lang.len() * runs];
    let name = |s: &usize| table.systems[*s].clone();
    Ok(Comparison {
        baseline: name(&baseline),
        runs: (0..=runs).filter(|s| *s != baseline).map(|s| name(&s)).collect(),
        measures: table.measures.clone(),
        langs: langs.iter().map(|l| (*l).to_owned()).collect(),
        options: *options,
        families,
        warnings: warnings(table, &cells, options),
        cells,
        by_topic: if options.by_topic { by_topic(table) } else { Vec::new() },
    })
}

fn check(table: &Table, baseline: usize, options: &Options) -> Result<()> {
    let usage = |what: &str| Err(Error::Usage(what.into()));
    let shape = table.values.len() == table.measures.len()
        && table.values.iter().all(|m| m.len() == table.systems.len())
        && table.values.iter().flatten().all(|v| v.len() == table.topics.len());
    let inside = |p: f64| p > 0.0 && p < 1.0;
    match () {
        () if !shape || baseline >= table.systems.len() => usage(
            "each measure needs a value for each system and topic, and the baseline must be one of them",
        ),
        () if table.systems.len() < 2 => usage("a comparison needs a baseline and a run"),
        () if table.topics.is_empty() => usage("a comparison needs topics"),
        () if table.measures.is_empty() => usage("a comparison needs a measure"),
        () if !(LEAST_ALPHA..1.0).contains(&options.alpha) => {
            usage("alpha must be 0.000001 or more, and below 1")
        }
        () if !inside(options.power) => usage("the power must lie between 0 and 1"),
        () if !(options.detect > 0.0 && options.detect.is_finite()) => {
            usage("the difference to detect must be above 0")
        }
        () if options.permutations < 100 || options.resamples < 100 => {
            usage("permutations and resamples must be 100 or more")
        }
        () if options.permutations > MOST_PERMUTATIONS || options.resamples > MOST_RESAMPLES => {
            usage("permutations must be at most 10^12, resamples at most 10^7")
        }
        () => {
            for (m, by_system) in table.measures.iter().zip(&table.values) {
                for (s, values) in table.systems.iter().zip(by_system) {
                    if let Some(t) = values.iter().position(|v| !v.is_finite()) {
                        let (topic, value) = (&table.topics[t].id, values[t]);
                        return usage(&format!(
                            "{m} of {s} is {value} for topic {topic}; no test takes that"
                        ));
                    }
                }
            }
            Ok(())
        }
    }
}

/// The values of each system in a scope, translations of one another averaged.
fn observations(table: &Table, measure: usize, lang: Option<&str>) -> Vec<Vec<f64>> {
    let mut units: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, topic) in table.topics.iter().enumerate() {
        if lang.is_none() || topic.lang.as_deref() == lang {
            units.entry(&topic.unit).or_default().push(i);
        }
    }
    let value = |values: &[f64], topics: &[usize]| {
        topics.iter().map(|&t| values[t]).sum::<f64>() / topics.len() as f64
    };
    table.values[measure].iter().map(|v| units.values().map(|t| value(v, t)).collect()).collect()
}

fn cell(table: &Table, baseline: usize, o: &Options, measure: usize, lang: Option<&str>) -> Cell {
    let values = observations(table, measure, lang);
    let base = &values[baseline];
    let runs = values.par_iter().enumerate().filter(|(s, _)| *s != baseline).map(|(s, run)| {
        let d = differences(run, base);
        let drawn = Resamples::draw(&d, o.resamples, o.seed);
        let effect = effect(run, base);
        Versus {
            system: table.systems[s].clone(),
            mean: mean(run),
            effect,
            t: t_test(&d, 1.0 - o.alpha),
            randomization: randomization_test(&d, o.permutations, o.seed),
            bootstrap_p: drawn.p(),
            percentile: drawn.percentile(1.0 - o.alpha),
            bca: drawn.bca(1.0 - o.alpha),
            wilcoxon: wilcoxon(&d),
            sign: sign_test(&d),
            adjusted_p: 1.0,
            significant: false,
            topics_needed: if effect.sd > 0.0 {
                power::topics_needed(o.detect, effect.sd, o.alpha, o.power)
            } else {
                None
            },
            detectable: power::detectable(d.len(), effect.sd, o.alpha, o.power).filter(|_| effect.sd > 0.0),
        }
    });
    let runs = runs.collect();
    let mut pairs = Vec::new();
    if o.all_pairs {
        let systems: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
        pairs = tukey_hsd(&systems, o.permutations, o.seed).iter().map(|p| pair(p, table, o)).collect();
    }
    Cell {
        measure: table.measures[measure].clone(),
        lang: lang.map(str::to_owned),
        topics: base.len(),
        baseline_mean: mean(base),
        runs,
        pairs,
    }
}

fn pair(p: &tukey::Pair, table: &Table, o: &Options) -> Pair {
    let name = |s: usize| table.systems[s].clone();
    let tukey::Pair { a, b, difference, effect, p } = *p;
    Pair { a: name(a), b: name(b), difference, effect, p, significant: p <= o.alpha }
}

/// Adjusts the p-values of a family.
fn adjust(cells: &mut [Cell], o: &Options) {
    let p: Vec<f64> = cells.iter().flat_map(|c| c.runs.iter().map(|r| r.p(o.test))).collect();
    let adjusted = o.correction.adjust(&p);
    for (run, p) in cells.iter_mut().flat_map(|c| &mut c.runs).zip(adjusted) {
        run.adjusted_p = p;
        run.significant = p <= o.alpha;
    }
}

fn warnings(table: &Table, cells: &[Cell], o: &Options) -> Vec<String> {
    let mut out = table.notes.clone();
    let all = cells[0].topics;
    if all < table.topics.len() {
        out.push(format!(
            "over all languages, translations of one another count as one: {} topics are {all} observations",
            table.topics.len()
        ));
    }
    let few: BTreeSet<(String, usize)> = cells
        .iter()
        .filter(|c| c.topics < FEW)
        .map(|c| (c.lang.as_deref().map_or(String::new(), |l| format!(" in {l}")), c.topics))
        .collect();
    for (scope, n) in few {
        let least = 2.0_f64.powi(1 - n as i32);
        let no = if least > o.alpha { "; no randomisation test can reach alpha" } else { "" };
        out.push(format!("few topics{scope} ({n}): tests see only large differences{no}"));
    }
    for run in &cells[0].runs {
        let same =
            |c: &Cell| c.runs.iter().any(|r| r.system == run.system && r.effect.wins + r.effect.losses == 0);
        if cells.iter().all(same) {
            out.push(format!("{} and the baseline have the same values on every topic", run.system));
        }
    }
    out
}

fn by_topic(table: &Table) -> Vec<TopicValues> {
    let values = |t: usize| {
        let systems = |by_system: &Vec<Vec<f64>>| {
            table.systems.iter().cloned().zip(by_system.iter().map(|v| v[t])).collect()
        };
        table.measures.iter().cloned().zip(table.values.iter().map(systems)).collect()
    };
    let topics = table.topics.iter().enumerate();
    topics
        .map(|(i, t)| TopicValues { topic: t.id.clone(), lang: t.lang.clone(), values: values(i) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_nn::rng::CounterRng;

    /// 3 systems, 2 measures, `n` units in two languages; the second system is better in `sw`, the third is the
    /// first again.
    fn table(n: u64) -> Table {
        let rng = CounterRng::new(4);
        let topics: Vec<Topic> = (0..n)
            .flat_map(|u| ["en", "sw"].map(|l| (u, l)))
            .map(|(u, l)| Topic { id: format!("{l}-{u}"), lang: Some(l.into()), unit: format!("{u}") })
            .collect();
        let value = |m: u64, s: usize, t: usize| {
            let base = rng.fork(m).uniform(t as u64 / 2);
            base + if s == 1 && t % 2 == 1 { 0.05 + 0.02 * rng.fork(9 + m).normal(t as u64) } else { 0.0 }
        };
        let values = (0..2)
            .map(|m| (0..3).map(|s| (0..topics.len()).map(|t| value(m, s, t)).collect()).collect())
            .collect();
        Table {
            systems: vec!["base".into(), "better".into(), "same".into()],
            measures: vec!["M1".into(), "M2".into()],
            topics,
            values,
            notes: Vec::new(),
        }
    }

    #[test]
    fn scopes_families_and_translations() {
        let table = table(30);
        let few = Options { permutations: 1000, resamples: 1000, ..Options::default() };
        let o = Options { all_pairs: true, by_topic: true, ..few };
        let c = compare(&table, 0, &o).unwrap();
        assert_eq!((c.families, c.cells.len(), c.by_topic.len()), ([4, 8], 6, 60));
        assert!(compare(&table, 0, &few).unwrap().by_topic.is_empty());
        let all = c.overall("M1").unwrap();
        assert_eq!((all.topics, all.runs.len(), all.pairs.len()), (30, 2, 3));
        // Half of the topics gain 0.05.
        assert!((all.runs[0].effect.difference - 0.025).abs() < 0.005 && all.runs[0].significant);
        assert_eq!((all.runs[1].t.p, all.runs[1].adjusted_p, all.runs[1].topics_needed), (1.0, 1.0, None));
        let by_lang: Vec<&Cell> = c.by_lang("M2").collect();
        assert!(by_lang[0].runs[0].t.p == 1.0 && by_lang[1].runs[0].significant);
        let p: Vec<f64> = c.cells[2..].iter().flat_map(|c| c.runs.iter().map(|r| r.t.p)).collect();
        let adjusted: Vec<f64> =
            c.cells[2..].iter().flat_map(|c| c.runs.iter().map(|r| r.adjusted_p)).collect();
        assert_eq!(adjusted, Correction::Holm.adjust(&p));
        assert!(c.warnings.iter().any(|w| w.contains("60 topics are 30")), "{:?}", c.warnings);
        assert!(c.warnings.iter().any(|w| w.starts_with("same and the baseline")), "{:?}", c.warnings);
        // The other way round, signs change and p does not.
        let back = compare(&table, 1, &o).unwrap();
        let (there, here) = (&all.runs[0], &back.overall("M1").unwrap().runs[0]);
        assert_eq!((there.effect.difference, there.t.p), (-here.effect.difference, here.t.p));
        assert_eq!(there.randomization.p, here.randomization.p);
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let good = table(4);
        let o = Options { permutations: 1000, resamples: 1000, ..Options::default() };
        let says = |t: &Table, o: &Options, words: &str| {
            let e = compare(t, 0, o).unwrap_err();
            assert!(matches!(e, Error::Usage(_)) && e.to_string().contains(words), "{e}");
        };
        let mut bad = good.clone();
        bad.values[1][2][3] = f64::NAN;
        says(&bad, &o, "M2 of same is NaN for topic sw-1");
        bad.values.pop();
        says(&bad, &o, "needs a value");
        for alpha in [0.0, 9e-7, 1.0, f64::NAN] {
            says(&good, &Options { alpha, ..o }, "alpha");
        }
        assert!(compare(&good, 0, &Options { alpha: 1e-6, ..o }).is_ok());
        says(&good, &Options { resamples: 10_000_001, ..o }, "resamples at most 10^7");
        says(&good, &Options { permutations: 1 << 41, ..o }, "permutations");
        says(&good, &Options { permutations: 10, ..o }, "permutations");
        let few = compare(&good, 0, &o).unwrap();
        assert!(few.warnings.iter().any(|w| w.contains("no randomisation test")), "{:?}", few.warnings);
    }
}
