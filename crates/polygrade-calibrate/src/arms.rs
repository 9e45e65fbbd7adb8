//! Training and measuring the arms, with their results in files, so that a calibration that was killed goes on
//! where it stopped.
//!
//! A finished arm is one file under `arms/`, written atomically; an arm that was cut off has none and runs
//! again. Arms run in parallel, each on one thread, and their results do not depend on that.

use crate::choose::{self, Choice};
use crate::plan::{Arm, ArmLabels, ArmResult, Plan};
use polygrade_data::{At, Collection, Error, Graded, Index, Lang, Result, Split, io};
use polygrade_encoder::Encoder;
use polygrade_eval::{Measure, Pool};
use polygrade_index::{Order, Rankings, rank_bm25};
use polygrade_train::evaluate::{evaluate, queries_in};
use polygrade_train::{Examples, LabelPolicies, Scenario, TokenizedCollection, Trainer};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The metric, by which thresholds are compared.
pub const METRIC: Measure = Measure::Ndcg(Some(10));

/// All results of a calibration, by arm name.
#[derive(Debug)]
pub struct Results {
    /// The grid and the untrained encoder.
    pub arms: BTreeMap<String, ArmResult>,
    /// What was chosen on dev, by scenario.
    pub choices: BTreeMap<Scenario, Choice>,
    /// BM25's values on test by query, for each scenario.
    pub bm25: BTreeMap<Scenario, Vec<(Index, f64)>>,
    /// Arms whose result was there already.
    pub resumed: usize,
}

struct Context<'a> {
    collection: &'a Collection,
    plan: &'a Plan,
    base: &'a (dyn Fn(u64) -> Encoder + Sync),
    texts: TokenizedCollection,
    graded: [Graded; 3],
    fingerprint: String,
    dir: PathBuf,
    /// Whether all threads share one arm, so that one model is in memory at a time; else each thread has its own.
    share: bool,
}

/// What happens while it runs, for a progress bar.
pub trait Watch: Sync {
    /// So many arms will run in all, as far as is known.
    fn total(&self, arms: usize);
    /// One arm is done.
    fn done(&self, arm: &str);
}

/// Runs the plan, keeping results under `dir`. `base` makes the encoder that training starts from.
pub fn run(
    collection: &Collection,
    plan: &Plan,
    base: &(dyn Fn(u64) -> Encoder + Sync),
    dir: &Path,
    watch: &dyn Watch,
) -> Result<Results> {
    plan.check(collection)?;
    let first = plan.seeds.first().copied().unwrap_or(1);
    let context = Context {
        collection,
        plan,
        base,
        texts: TokenizedCollection::new(collection, &*base(first))?,
        graded: Split::ALL.map(|s| collection.graded(s)),
        fingerprint: plan.fingerprint(collection),
        dir: dir.join("arms"),
        share: plan.settings.transformer.is_some(),
    };
    std::fs::create_dir_all(&context.dir).map_err(|e| Error::io(&context.dir, e))?;
    let mut arms = plan.arms();
    arms.extend(plan.untrained());
    watch.total(arms.len() + plan.scenarios.len() * plan.seeds.len());
    let (mut results, mut resumed) = context.run_all(&arms, watch)?;

    let mut choices = BTreeMap::new();
    for &scenario in &plan.scenarios {
        choices.insert(scenario, choose::choose(plan, collection, scenario, &results)?);
    }
    // A choice that differs between languages is a model of its own, unless models are monolingual anyway.
    let mixed = choices.iter().filter(|(s, c)| **s != Scenario::Monolingual && c.uniform().is_none());
    let extra: Vec<Arm> = mixed
        .flat_map(|(&scenario, choice)| {
            let labels = ArmLabels::Calibrated(choice.policies(scenario));
            plan.seeds.iter().map(move |&seed| Arm { scenario, lang: None, labels: labels.clone(), seed })
        })
        .collect();
    watch.total(arms.len() + extra.len());
    let (more, resumed_more) = context.run_all(&extra, watch)?;
    results.extend(more);
    resumed += resumed_more;

    let bm25 = plan.scenarios.iter().map(|&s| (s, context.bm25(s))).collect();
    Ok(Results { arms: results, choices, bm25, resumed })
}

impl Context<'_> {
    fn run_all(&self, arms: &[Arm], watch: &dyn Watch) -> Result<(BTreeMap<String, ArmResult>, usize)> {
        let one = |arm: &Arm| {
            let name = arm.name();
            let path = self.dir.join(format!("{name}.json"));
            let (result, resumed) = match self.load(&path, arm)? {
                Some(result) => (result, true),
                None => {
                    let result = match self.same_as(arm) {
                        Some(first) => first,
                        None => self.run_one(arm)?,
                    };
                    let json = serde_json::to_vec(&result).map_err(|e| Error::Internal(e.to_string()))?;
                    io::write(&path, &json)?;
                    (result, false)
                }
            };
            watch.done(&name);
            Ok((name, result, resumed))
        };
        let done: Vec<(String, ArmResult, bool)> = match self.share {
            true => arms.iter().map(one).collect::<Result<_>>()?,
            false => arms.par_iter().with_max_len(1).map(one).collect::<Result<_>>()?,
        };
        let resumed = done.iter().filter(|d| d.2).count();
        Ok((done.into_iter().map(|(name, result, _)| (name, result)).collect(), resumed))
    }

    /// The result in a file, if there is one; one of another collection or plan is refused.
    fn load(&self, path: &Path, arm: &Arm) -> Result<Option<ArmResult>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = io::read_to_string(path)?;
        let result: ArmResult = serde_json::from_str(&text).map_err(|e| {
            Error::input(
                At::file(path),
                format!("is no result of an arm: {e}"),
                "remove the file to run the arm again",
            )
        })?;
        if result.fingerprint != self.fingerprint {
            let what = "belongs to another collection, settings or version of polygrade";
            return Err(Error::input(At::file(path), what, "choose another --out, or remove this folder"));
        }
        // A calibrated arm may have been cut off in a run whose choice was another, with other seeds.
        Ok(Some(result).filter(|r| r.labels == describe(arm)))
    }

    /// An untrained transformer is the same one whatever the seed: the result of the first seed, where it is there.
    fn same_as(&self, arm: &Arm) -> Option<ArmResult> {
        let first = *self.plan.seeds.first().filter(|s| **s != arm.seed)?;
        if !self.share || arm.labels != ArmLabels::Untrained {
            return None;
        }
        let path = self.dir.join(format!("{}.json", Arm { seed: first, ..arm.clone() }.name()));
        self.load(&path, arm).ok().flatten()
    }

    fn langs(&self, arm: &Arm) -> Vec<Lang> {
        arm.lang.clone().map_or_else(|| self.plan.langs.clone(), |l| vec![l])
    }

    fn run_one(&self, arm: &Arm) -> Result<ArmResult> {
        let started = Instant::now();
        let langs = self.langs(arm);
        let policies = match &arm.labels {
            ArmLabels::Untrained => None,
            ArmLabels::Policy(p) => Some(LabelPolicies::uniform(*p)),
            ArmLabels::Calibrated(p) => Some(p.clone()),
        };
        let mut encoder = (self.base)(arm.seed);
        let (mut steps, mut last_loss) = (0, 0.0);
        if let Some(policies) = policies {
            let train = &self.graded[Split::Train as usize];
            let examples = Examples::new(self.collection, train, arm.scenario, &langs, &policies);
            let settings = polygrade_train::Settings { seed: arm.seed, ..self.plan.settings.clone() };
            let mut trainer = Trainer::new(encoder, &examples, &self.texts, settings, self.share)?;
            let tail = trainer.total() - trainer.total() / 10;
            let mut losses = (0.0, 0.0);
            while let Some(report) = trainer.next_step() {
                report.check()?;
                steps = report.step;
                if report.step >= tail {
                    losses = (losses.0 + report.loss, losses.1 + 1.0);
                }
            }
            last_loss = if losses.1 > 0.0 { losses.0 / losses.1 } else { 0.0 };
            encoder = trainer.into_encoder();
        }
        // Dev and test queries together, so that passages are encoded once.
        let measured = [Split::Dev, Split::Test].map(|s| &self.graded[s as usize]);
        let mut queries: Vec<Index> =
            measured.iter().flat_map(|graded| queries_in(self.collection, graded, &langs)).collect();
        queries.sort_unstable();
        queries.dedup();
        let pools = self.pools(arm.scenario);
        let rankings = evaluate(&*encoder, self.collection, &self.texts, &queries, &pools, 10, self.share);
        let [dev, test] = measured.map(|graded| self.values(arm.scenario, &pools, &rankings, graded));
        let seconds = started.elapsed().as_secs_f64();
        Ok(ArmResult {
            fingerprint: self.fingerprint.clone(),
            labels: describe(arm),
            steps,
            seconds,
            last_loss,
            dev,
            test,
        })
    }

    /// One pool in a query's own language, or one for each language where queries cross to all others.
    fn pools(&self, scenario: Scenario) -> Vec<Pool> {
        match scenario {
            Scenario::CrossLingual => self.plan.langs.iter().map(|l| Pool::Langs(vec![l.clone()])).collect(),
            _ => vec![Pool::Same],
        }
    }

    /// Each query's value: its mean over the pools that it belongs to. A pool that holds no relevant passage
    /// for a query says nothing about it and is left out; a query without any is left out as well.
    fn values(
        &self,
        scenario: Scenario,
        pools: &[Pool],
        rankings: &[Rankings],
        graded: &Graded,
    ) -> Vec<(Index, f64)> {
        let mut sums: BTreeMap<Index, (f64, f64)> = BTreeMap::new();
        for (pool, ranking) in pools.iter().zip(rankings) {
            let topics = ranking.topics(self.collection, graded, pool);
            for (&q, topic) in ranking.queries.iter().zip(&topics) {
                let lang = &self.collection.queries[q as usize].lang;
                let own = pool.holds(lang, lang);
                if (scenario == Scenario::CrossLingual) == own || topic.judged.iter().all(|g| *g <= 0.0) {
                    continue;
                }
                let sum = sums.entry(q).or_default();
                *sum = (sum.0 + METRIC.of(topic), sum.1 + 1.0);
            }
        }
        sums.into_iter().map(|(q, (sum, n))| (q, sum / n)).collect()
    }

    fn bm25(&self, scenario: Scenario) -> Vec<(Index, f64)> {
        let graded = &self.graded[Split::Test as usize];
        let queries = queries_in(self.collection, graded, &self.plan.langs);
        let pools = self.pools(scenario);
        let order = |pool| Order { pool, depth: 10, ties: &self.texts.ties, placed: None };
        let rankings: Vec<Rankings> =
            pools.par_iter().map(|pool| rank_bm25(self.collection, &queries, &order(pool))).collect();
        self.values(scenario, &pools, &rankings, graded)
    }
}

fn describe(arm: &Arm) -> String {
    match &arm.labels {
        ArmLabels::Untrained => "untrained".into(),
        ArmLabels::Policy(p) => p.to_string(),
        ArmLabels::Calibrated(p) => format!("{p:?}"),
    }
}
