//! The plan of a calibration: what is trained, and what each model is measured on.

use polygrade_data::{Collection, Error, Graded, Lang, Result, Split};
use polygrade_train::{Label, LabelPolicies, Policy, Scenario, Settings};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Everything that decides the outcome.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scenarios, in order.
    pub scenarios: Vec<Scenario>,
    /// The languages, in order.
    pub langs: Vec<Lang>,
    /// The policies that compete.
    pub grid: Vec<Policy>,
    /// The seeds; one model each.
    pub seeds: Vec<u64>,
    /// Settings of training; their seed is replaced.
    pub settings: Settings,
    /// Level of the intervals.
    pub level: f64,
    /// What training starts from, in words, for the record and to tell runs apart.
    pub encoder: String,
}

impl Plan {
    /// The thresholds to try where none are given: every grade above the lowest where grades are whole
    /// numbers, else every whole number up to G. At most nine, evenly chosen.
    pub fn default_grid(collection: &Collection, langs: &[Lang]) -> Vec<Policy> {
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
        steps.into_iter().map(Policy::Threshold).collect()
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
        for split in [Split::Train, Split::Dev, Split::Test] {
            if collection.judgments(split).is_empty() {
                let name = split.name();
                return fault(format!(
                    "the collection has no {name} judgments, and calibrating needs train, dev and test; divide them \
                     with: polygrade import … --split 60:20:20"
                ));
            }
        }
        for &scenario in &self.scenarios {
            let name = scenario.name();
            let dev = collection.graded(Split::Dev);
            if !self.meets(collection, &dev, scenario, |_, _, grade| grade > 0.0) {
                return fault(format!("no dev query has a relevant passage to find in the {name} scenario"));
            }
            let train = collection.graded(Split::Train);
            for policy in &self.grid {
                if !self
                    .meets(collection, &train, scenario, |_, _, grade| policy.label(grade) == Label::Positive)
                {
                    return fault(format!(
                        "no training judgment of the {name} scenario is a positive under the policy {policy}; leave it out of --grid"
                    ));
                }
            }
        }
        if self.scenarios.contains(&Scenario::CrossLingual) && self.langs.len() < 2 {
            return fault("the cross-lingual scenario needs two languages or more".into());
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

    /// A fingerprint of collection, plan and program: results of another one are never mixed in.
    pub fn fingerprint(&self, collection: &Collection) -> String {
        let langs: Vec<&str> = self.langs.iter().map(Lang::as_str).collect();
        let version = (env!("CARGO_PKG_VERSION"), polygrade_train::trainer::TRAINING_VERSION);
        let plan = format!("{:?} {langs:?} {:?} {version:?}", self.settings, self.encoder);
        format!("{:016x}{:016x}", collection.fingerprint(), xxh3_64(plan.as_bytes()))
    }

    /// The arms of the grid, the longest first, so that no thread is left with a long one at the end.
    pub fn arms(&self) -> Vec<Arm> {
        let mut arms = Vec::new();
        for &scenario in self.scenarios.iter().rev() {
            for policy in &self.grid {
                for &seed in &self.seeds {
                    let labels = ArmLabels::Policy(*policy);
                    match scenario {
                        Scenario::Monolingual => arms.extend(self.langs.iter().map(|l| Arm {
                            scenario,
                            lang: Some(l.clone()),
                            labels: labels.clone(),
                            seed,
                        })),
                        _ => arms.push(Arm { scenario, lang: None, labels, seed }),
                    }
                }
            }
        }
        arms
    }

    /// The untrained encoder in each scenario, for comparison.
    pub fn untrained(&self) -> Vec<Arm> {
        let pairs = self.scenarios.iter().flat_map(|s| self.seeds.iter().map(move |seed| (*s, *seed)));
        pairs
            .map(|(scenario, seed)| Arm { scenario, lang: None, labels: ArmLabels::Untrained, seed })
            .collect()
    }
}

/// One model to train and measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// The scenario.
    pub scenario: Scenario,
    /// Its language, where models are monolingual.
    pub lang: Option<Lang>,
    /// How its labels are made.
    pub labels: ArmLabels,
    /// Its seed.
    pub seed: u64,
}

/// How an arm's labels are made.
#[derive(Debug, Clone, PartialEq)]
pub enum ArmLabels {
    /// It is not trained.
    Untrained,
    /// One policy for all.
    Policy(Policy),
    /// The calibrated ones.
    Calibrated(LabelPolicies),
}

impl Arm {
    /// A name that is unique in the plan and fit for a file.
    pub fn name(&self) -> String {
        let labels = match &self.labels {
            ArmLabels::Untrained => "untrained".to_owned(),
            ArmLabels::Policy(p) => format!("tau{}", p.to_string().replace(':', "to")),
            ArmLabels::Calibrated(_) => "calibrated".to_owned(),
        };
        let lang = self.lang.as_ref().map_or("all", Lang::as_str);
        format!("{}-{lang}-{labels}-seed{}", self.scenario.name(), self.seed)
    }
}

/// What an arm gave: values by query id, for dev and, unread until the choice is made, for test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// [`Plan::fingerprint`].
    pub fingerprint: String,
    /// The label policies in words.
    pub labels: String,
    /// Training steps.
    pub steps: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Mean loss of the last tenth of the steps.
    pub last_loss: f64,
    /// nDCG@10 by query index, on dev.
    pub dev: Vec<(u32, f64)>,
    /// nDCG@10 by query index, on test.
    pub test: Vec<(u32, f64)>,
}
