//! The plan of a calibration: which ways of training compete, on what, and how the search goes.

use crate::alteration::Alteration;
use polygrade_data::{Collection, Error, Graded, Lang, Result, Split};
use polygrade_train::{Label, LabelPolicies, Loss, Policy, Scenario, Settings, TeacherScores};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A way of training that competes: InfoNCE under a label policy, or a loss that takes the grades.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// InfoNCE under this policy.
    Policy(Policy),
    /// A graded loss.
    Loss(Loss),
}

impl Method {
    /// Parses a policy (`2`, `0:2`, `all`, `soft:2`) or the name of a graded loss (`bixse`).
    pub fn parse(text: &str) -> Option<Method> {
        let text = text.trim();
        match Loss::parse(text) {
            Some(Loss::InfoNce) => None,
            Some(loss) => Some(Method::Loss(loss)),
            // InfoNCE has no use for the grades themselves.
            None => Policy::parse(text).filter(|p| *p != Policy::Graded).map(Method::Policy),
        }
    }

    /// The label policy.
    pub fn policy(self) -> Policy {
        match self {
            Method::Policy(policy) => policy,
            Method::Loss(_) => Policy::Graded,
        }
    }

    /// The loss.
    pub fn loss(self) -> Loss {
        match self {
            Method::Policy(_) => Loss::InfoNce,
            Method::Loss(loss) => loss,
        }
    }

    /// Whether it is a threshold or a band, which gives each pair one label.
    pub fn is_cut(self) -> bool {
        matches!(self, Method::Policy(Policy::Threshold(_) | Policy::Band { .. }))
    }

    /// What orders methods in charts and breaks ties: thresholds from low to high, then bands, then the others.
    pub fn order(self) -> (u8, f32, f32) {
        match self {
            Method::Policy(Policy::Threshold(t)) => (0, t, t),
            Method::Policy(Policy::Band { lo, hi }) => (1, hi, lo),
            Method::Policy(Policy::Soft(t)) => (2, t, t),
            Method::Policy(_) => (3, 0.0, 0.0),
            Method::Loss(loss) => (4, loss as u8 as f32, 0.0),
        }
    }

    /// Its name with τ where it is a cut.
    pub fn title(self) -> String {
        if self.is_cut() { format!("τ = {self}") } else { self.to_string() }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Policy(policy) => policy.fmt(f),
            Method::Loss(loss) => f.write_str(loss.name()),
        }
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Method::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no method")))
    }
}

/// How the best method is looked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Search {
    /// Every method is trained to the end with every seed.
    Grid,
    /// See [`crate::race`].
    Race(RaceSettings),
}

/// Settings of a race.
#[derive(Debug, Clone, PartialEq)]
pub struct RaceSettings {
    /// The shares of the whole training at which methods are compared, ascending; the last is 1.
    pub rungs: Vec<f64>,
    /// Seeds that race, at most as many as the plan has. Two or more, so that chance between seeds is seen.
    pub seeds: usize,
    /// Training tokens at most, as a share of those of the full grid.
    pub budget: f64,
    /// Differences in nDCG@10 within ± this much are no difference.
    pub margin: f64,
}

impl RaceSettings {
    /// The defaults for so many methods: 45 % of the grid's tokens, and 30 % for six methods or more.
    pub fn for_methods(methods: usize) -> Self {
        let budget = if methods >= 6 { 0.30 } else { 0.45 };
        RaceSettings { rungs: vec![0.25, 0.5, 1.0], seeds: 2, budget, margin: 0.005 }
    }
}

/// What methods are given equally much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Equal {
    /// Optimiser steps: a method with more positives sees more pairs.
    Steps,
    /// Pairs of query and positive: a method with more positives takes fewer steps.
    Pairs,
}

/// What one model is for: whose queries, with which passages.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Part {
    /// The language of the queries; `None` for all.
    pub lang: Option<Lang>,
    /// The language of the passages, for a model of one pair of languages; `None` for all that the scenario has.
    pub passage_lang: Option<Lang>,
}

/// Everything that decides the outcome.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scenarios, in order.
    pub scenarios: Vec<Scenario>,
    /// The languages, in order.
    pub langs: Vec<Lang>,
    /// In the cross-lingual scenario, the pairs of languages (of queries, of passages) that have a model and a race of their
    /// own each; where there are none, one model is for all.
    pub pairs: Vec<(Lang, Lang)>,
    /// The methods that compete.
    pub grid: Vec<Method>,
    /// The seeds; one model each.
    pub seeds: Vec<u64>,
    /// Settings of training; their seed and loss are replaced.
    pub settings: Settings,
    /// Level of the intervals.
    pub level: f64,
    /// What training starts from, in words, for the record and to tell runs apart.
    pub encoder: String,
    /// How the best is looked for.
    pub search: Search,
    /// What methods are given equally much of.
    pub equal: Equal,
    /// Cross-fitting: the queries of train and dev in so many folds, each measured by a model that was trained on the
    /// others. 0 for the collection's own dev split.
    pub folds: u32,
    /// Studies: what is done to the training judgments, each for every method. See [`crate::study`].
    pub studies: Vec<Alteration>,
    /// The method that studies of data compare others to.
    pub default: Method,
    /// A teacher's scores, for the losses that take them.
    pub teacher: Option<Arc<TeacherScores>>,
}

impl Plan {
    /// The thresholds to try where none are given: every grade above the lowest where grades are whole
    /// numbers, else every whole number up to G. At most nine, evenly chosen.
    pub fn default_grid(collection: &Collection, langs: &[Lang]) -> Vec<Method> {
        let train = collection.judgments(Split::Train).iter();
        let own = train.filter(|j| langs.contains(&collection.queries[j.query as usize].lang));
        let mut grades: Vec<f32> = own.map(|j| j.grade).collect();
        grades.sort_by(f32::total_cmp);
        grades.dedup();
        let whole = grades.iter().all(|g| g.fract() == 0.0);
        let mut steps: Vec<f32> = if whole || grades.last().is_none_or(|g| *g < 2.0) {
            grades.into_iter().filter(|g| *g > 0.0).collect()
        } else {
            let highest = grades.last().copied().unwrap_or(0.0);
            (1..=highest as u32).map(|g| g as f32).collect()
        };
        if steps.len() > 9 {
            steps = (0..9).map(|i| steps[i * (steps.len() - 1) / 8]).collect();
        }
        steps.into_iter().map(|t| Method::Policy(Policy::Threshold(t))).collect()
    }

    /// Checks that the plan fits the collection.
    pub fn check(&self, collection: &Collection) -> Result<()> {
        let fault = |what: String| Err(Error::Usage(what));
        if self.grid.is_empty() || self.seeds.is_empty() || self.scenarios.is_empty() || self.langs.is_empty()
        {
            return fault(
                "a calibration needs at least one policy, one seed, one scenario and one language".into(),
            );
        }
        if self.folds == 1 {
            return fault("--folds must be 0 or 2 and more".into());
        }
        if let Search::Race(race) = &self.search {
            let ascending = race.rungs.windows(2).all(|w| w[0] < w[1]);
            let ends = race.rungs.first().is_some_and(|r| *r > 0.0) && race.rungs.last() == Some(&1.0);
            if !ascending || !ends {
                return fault("the rungs of a race must ascend from above 0 to 1".into());
            }
            let positive = |x: f64| x.is_finite() && x > 0.0;
            if race.seeds == 0 || !positive(race.budget) || !race.margin.is_finite() || race.margin < 0.0 {
                return fault("a race needs a seed, a budget above 0 and a margin of 0 or more".into());
            }
        }
        for split in [Split::Train, Split::Dev, Split::Test] {
            if collection.judgments(split).is_empty() {
                let name = split.name();
                return fault(format!(
                    "the collection has no {name} judgments, and calibrating needs train, dev and test; divide them \
                     with: polygrade import … --split 60:20:20"
                ));
            }
        }
        if self.scenarios.contains(&Scenario::CrossLingual) && self.langs.len() < 2 {
            return fault("the cross-lingual scenario needs two languages or more".into());
        }
        if !self.pairs.is_empty() && !self.scenarios.contains(&Scenario::CrossLingual) {
            return fault(
                "--pairs is for the cross-lingual scenario, which is not among those asked for".into(),
            );
        }
        for (query, passage) in &self.pairs {
            if query == passage || !self.langs.contains(query) || !self.langs.contains(passage) {
                return fault(format!(
                    "--pairs {query}:{passage}: give two different languages of the calibration"
                ));
            }
        }
        let (train, dev) = (collection.graded(Split::Train), collection.graded(Split::Dev));
        for &scenario in &self.scenarios {
            // A language without judgments of its own is passed over; a pair was asked for.
            let asked = if scenario == Scenario::CrossLingual { self.pairs.as_slice() } else { &[] };
            let each = asked.iter().map(Some).chain(asked.is_empty().then_some(None));
            for pair in each {
                let name = match pair {
                    Some((query, passage)) => format!("pair {query}:{passage}"),
                    None => format!("{} scenario", scenario.name()),
                };
                let of = |q: &Lang, p: &Lang| pair.is_none_or(|(query, passage)| q == query && p == passage);
                if !self.meets(collection, &dev, scenario, |q, p, grade| grade > 0.0 && of(q, p)) {
                    return fault(format!("no dev query has a relevant passage to find in the {name}"));
                }
                for method in &self.grid {
                    let policy = method.policy();
                    let positive =
                        |q: &Lang, p: &Lang, grade| of(q, p) && policy.label(grade) == Label::Positive;
                    if !self.meets(collection, &train, scenario, positive) {
                        return fault(format!(
                            "no training judgment of the {name} is a positive under the policy {policy}; leave it out of --grid"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a judgment between texts that meet in the scenario satisfies `wanted` (query, passage, grade).
    fn meets(
        &self,
        collection: &Collection,
        graded: &Graded,
        scenario: Scenario,
        wanted: impl Fn(&Lang, &Lang, f32) -> bool,
    ) -> bool {
        graded.queries().iter().any(|&q| {
            let query = &collection.queries[q as usize].lang;
            self.langs.contains(query)
                && graded.judged(q).any(|(p, grade)| {
                    let passage = &collection.passages[p as usize].lang;
                    self.langs.contains(passage)
                        && scenario.pairs(query, passage)
                        && wanted(query, passage, grade)
                })
        })
    }

    /// A fingerprint of collection, plan and program: results of another one are never mixed in. Scenarios, methods,
    /// seeds, folds and the search are in the names and records of the arms, and may change.
    pub fn fingerprint(&self, collection: &Collection) -> String {
        let langs: Vec<&str> = self.langs.iter().map(Lang::as_str).collect();
        let version = (env!("CARGO_PKG_VERSION"), polygrade_train::trainer::TRAINING_VERSION);
        let teacher = self.teacher.as_ref().map(|t| t.fingerprint());
        let mut plan = format!(
            "{:?} {langs:?} {:?} {version:?} {:?} {teacher:?}",
            self.settings, self.encoder, self.equal
        );
        if !self.pairs.is_empty() {
            plan += &format!(" {:?}", self.pairs);
        }
        format!("{:016x}{:016x}", collection.fingerprint(), xxh3_64(plan.as_bytes()))
    }

    /// What the models of a scenario are for: one language or one pair of languages each, or all at once.
    pub fn models(&self, scenario: Scenario) -> Vec<Part> {
        match scenario {
            Scenario::Monolingual => {
                self.langs.iter().map(|l| Part { lang: Some(l.clone()), passage_lang: None }).collect()
            }
            Scenario::CrossLingual if !self.pairs.is_empty() => {
                let part =
                    |(q, p): &(Lang, Lang)| Part { lang: Some(q.clone()), passage_lang: Some(p.clone()) };
                self.pairs.iter().map(part).collect()
            }
            _ => vec![Part::default()],
        }
    }

    /// Whether one model of a scenario is for all its languages.
    pub fn has_one_model(&self, scenario: Scenario) -> bool {
        self.models(scenario) == [Part::default()]
    }

    /// The place of a language.
    pub fn place(&self, lang: &Lang) -> Option<u16> {
        self.langs.iter().position(|l| l == lang).map(|p| p as u16)
    }

    /// Whether queries in one language are asked for passages in another, where the scenario lets them meet.
    pub fn asks(&self, query: &Lang, passage: &Lang) -> bool {
        self.pairs.is_empty() || self.pairs.iter().any(|(q, p)| q == query && p == passage)
    }

    /// The folds that are trained, each a model of its own.
    pub fn fold_list(&self) -> Vec<Option<Fold>> {
        match self.folds {
            0 => vec![None],
            of => (0..of).map(|number| Some(Fold { number, of })).collect(),
        }
    }
}

/// One part of the queries of train and dev, left out of training and measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fold {
    /// Which, from 0.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

impl Fold {
    /// The fold that a query's unit belongs to, the same for all its translations.
    pub fn holds(self, unit: &str) -> bool {
        xxh3_64(unit.as_bytes()) % u64::from(self.of) == u64::from(self.number)
    }
}

/// One model to train and measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// The scenario.
    pub scenario: Scenario,
    /// What it is for.
    pub part: Part,
    /// How it is trained.
    pub labels: ArmLabels,
    /// Its seed.
    pub seed: u64,
    /// What is left out of its training, in cross-fitting.
    pub fold: Option<Fold>,
    /// How its training judgments are changed, in a study: the alteration's text, `None` for none.
    pub altered: Option<String>,
}

/// How an arm is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum ArmLabels {
    /// It is not.
    Untrained,
    /// One method for all.
    Method(Method),
    /// InfoNCE under policies that differ between languages.
    Policies(LabelPolicies),
}

impl ArmLabels {
    /// In words, for the record.
    pub fn describe(&self) -> String {
        match self {
            ArmLabels::Untrained => "untrained".into(),
            ArmLabels::Method(method) => method.to_string(),
            ArmLabels::Policies(policies) => format!("{policies:?}"),
        }
    }
}

impl Arm {
    /// A name that is unique and fit for a file.
    pub fn name(&self) -> String {
        let labels = match &self.labels {
            ArmLabels::Untrained => "untrained".to_owned(),
            ArmLabels::Method(m) if m.is_cut() => format!("tau{}", m.to_string().replace(':', "to")),
            ArmLabels::Method(Method::Policy(Policy::AllThresholds)) => "all-thresholds".to_owned(),
            ArmLabels::Method(m) => m.to_string().replace(':', ""),
            ArmLabels::Policies(p) => format!("policies{:016x}", xxh3_64(format!("{p:?}").as_bytes())),
        };
        let lang = match (&self.part.lang, &self.part.passage_lang) {
            (None, _) => "all".to_owned(),
            (Some(lang), None) => lang.to_string(),
            (Some(query), Some(passage)) => format!("{query}-to-{passage}"),
        };
        let mut name = format!("{}-{lang}-{labels}-seed{}", self.scenario.name(), self.seed);
        if let Some(fold) = self.fold {
            name += &format!("-fold{}of{}", fold.number + 1, fold.of);
        }
        if let Some(altered) = &self.altered {
            let plain: String =
                altered.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '-' }).collect();
            name += &format!("-{plain}");
            // What became a dash may have told it from another.
            if altered.contains(['/', '\\', '_', ' ']) || !altered.is_ascii() {
                name += &format!("-{:08x}", xxh3_64(altered.as_bytes()) as u32);
            }
        }
        name
    }
}

/// A measured value: query, pool (the place of the passages' language where pools are single languages, else 0),
/// nDCG@10.
pub type Measured = (u32, u16, f64);

/// What an arm gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// [`Plan::fingerprint`].
    pub fingerprint: String,
    /// How it is trained, in words.
    pub labels: String,
    /// Steps of the whole training.
    pub steps: u64,
    /// What was measured on the way, by rising share of the steps.
    pub rungs: Vec<Rung>,
    /// nDCG@10 on test after the last step; `null` where it was not measured.
    pub test: Option<Vec<Measured>>,
}

/// An arm as it stood after a share of its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Share of the steps, 0 for an untrained encoder.
    pub share: f64,
    /// Steps done.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Wall-clock seconds since the rung before, measuring included.
    pub seconds: f64,
    /// Mean loss since the rung before.
    pub loss: f64,
    /// nDCG@10 on dev, or on the fold that was left out.
    pub dev: Vec<Measured>,
}

impl ArmResult {
    /// The rung at this share of the steps.
    pub fn at(&self, share: f64) -> Option<&Rung> {
        self.rungs.iter().find(|r| r.share == share)
    }

    /// The rung that was reached.
    pub fn last(&self) -> Option<&Rung> {
        self.rungs.last()
    }
}
