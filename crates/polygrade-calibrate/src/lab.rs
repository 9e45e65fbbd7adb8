//! Training and measuring arms, with their results in files, so that a calibration that was killed goes on where
//! it stopped.
//!
//! An arm is brought to a share of its steps, measured, and may go on from there later: the bits are those of a
//! training that was never interrupted. Its record is one file under `arms/`, written anew, atomically, after each
//! rung. Models stay in memory between rungs; transformers, and models that would take more than 2 GiB together, leave checkpoints
//! instead, which are removed when the arm is done. Arms run in parallel, each on one thread, and their results do not depend on that.
//!
//! Two methods that label every training pair alike make the same model, which is trained once.

use crate::plan::{Arm, ArmLabels, ArmResult, Equal, Fold, Measured, Method, Part, Plan, Rung};
use crate::records::Records;
use polygrade_data::{At, Collection, Error, Graded, Index, Judgment, Lang, Result, Split, io};
use polygrade_encoder::{Encoder, TextEncoder};
use polygrade_eval::{Measure, Pool};
use polygrade_index::{Order, Rankings, rank_bm25};
use polygrade_train::evaluate::{evaluate, queries_in};
use polygrade_train::{Examples, LabelPolicies, Loss, Scenario, Settings, TokenizedCollection, Trainer};
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Models that wait for their next rung are held in memory up to so many bytes, all in all.
const MEMORY: u64 = 2 << 30;

/// The metric, by which methods are compared.
pub const METRIC: Measure = Measure::Ndcg(Some(10));

/// What happens while it runs, for a progress bar.
pub trait Watch: Sync {
    /// So many rungs will be run in all, at most.
    fn total(&self, rungs: usize);
    /// An arm has reached a rung.
    fn done(&self, arm: &str);
}

/// Makes the encoder that training starts from, for a seed.
pub type Base<'a> = &'a (dyn Fn(u64) -> Encoder + Sync);

/// Where arms are trained and measured.
pub struct Lab<'a> {
    /// The collection.
    pub collection: &'a Collection,
    /// The plan.
    pub plan: &'a Plan,
    base: Base<'a>,
    all: View,
    /// For static encoders, what the model of each language sees. A model of a pair sees all: a view of each would hold
    /// every text many times.
    views: BTreeMap<Part, View>,
    graded: [Graded; 3],
    folds: Vec<(Graded, Graded)>,
    fingerprint: String,
    dir: PathBuf,
    /// Whether all threads share one arm, so that one model is in memory at a time; else each thread has its own.
    share: bool,
    records: Mutex<Records<'a>>,
    /// The fewest pairs of an epoch that any method of the grid has, by scenario and model.
    fewest_pairs: Mutex<BTreeMap<(Scenario, Part), f64>>,
    resumed: Mutex<usize>,
    watch: &'a dyn Watch,
}

/// The texts that a model sees.
struct View {
    /// Of a static encoder, the tokens that these texts hold: the others' embeddings would only take memory and time.
    tokens: Vec<u32>,
    texts: TokenizedCollection,
    /// Parameters of a model with their two moments.
    model_bytes: u64,
}

impl View {
    fn new(mut texts: TokenizedCollection, start: &Encoder) -> Self {
        let (tokens, parameters) = match start {
            Encoder::Static(e) => {
                let tokens = texts.renumber();
                let parameters = e.with_tokens(&tokens).parameters();
                (tokens, parameters)
            }
            Encoder::Transformer(e) => (Vec::new(), e.parameters()),
        };
        View { tokens, texts, model_bytes: 3 * 4 * parameters as u64 }
    }
}

/// An arm on its way.
pub struct Entry<'e> {
    /// The arm.
    pub arm: Arm,
    examples: Option<&'e Examples>,
    steps: Option<u64>,
    live: Option<Trainer<'e>>,
}

impl<'e> Entry<'e> {
    /// An arm that is trained on `examples`, for so many `steps` or as many as its epochs make.
    pub fn new(arm: Arm, examples: Option<&'e Examples>, steps: Option<u64>) -> Self {
        Entry { arm, examples, steps, live: None }
    }
}

impl<'a> Lab<'a> {
    /// Tokenises all texts once. Results are kept under `dir`/arms.
    pub fn new(
        collection: &'a Collection,
        plan: &'a Plan,
        base: Base<'a>,
        dir: &Path,
        watch: &'a dyn Watch,
    ) -> Result<Self> {
        plan.check(collection)?;
        let first = plan.seeds.first().copied().unwrap_or(1);
        let folds = plan.fold_list().into_iter().flatten().map(|fold| folded(collection, fold)).collect();
        let start = base(first);
        let all = TokenizedCollection::new(collection, &*start)?;
        let one_language = |p: &Part| p.lang.is_some() && p.passage_lang.is_none();
        let parts = plan.scenarios.iter().flat_map(|s| plan.models(*s)).filter(one_language);
        let parts = parts.filter(|_| matches!(start, Encoder::Static(_)) && collection.langs().len() > 1);
        let views = parts.map(|part| {
            let query = |q: Index| Some(&collection.queries[q as usize].lang) == part.lang.as_ref();
            // Mined negatives may be in any language.
            let hard = plan.settings.negatives.hard.iter().flat_map(|h| h.pairs());
            let mined: FxHashSet<Index> = hard.filter(|(q, _)| query(*q)).map(|(_, p)| *p).collect();
            let passage = |p: Index| {
                Some(&collection.passages[p as usize].lang) == part.lang.as_ref() || mined.contains(&p)
            };
            let view = View::new(all.select(query, passage), &start);
            (part, view)
        });
        let views = views.collect();
        let lab = Lab {
            collection,
            plan,
            base,
            all: View::new(all, &start),
            views,
            graded: Split::ALL.map(|s| collection.graded(s)),
            folds,
            fingerprint: plan.fingerprint(collection),
            dir: dir.join("arms"),
            share: plan.settings.transformer.is_some(),
            records: Mutex::new(Records::new(collection, plan)),
            fewest_pairs: Mutex::default(),
            resumed: Mutex::new(0),
            watch,
        };
        std::fs::create_dir_all(&lab.dir).map_err(|e| Error::io(&lab.dir, e))?;
        Ok(lab)
    }

    fn view(&self, part: &Part) -> &View {
        self.views.get(part).unwrap_or(&self.all)
    }

    /// What training of an arm starts from.
    fn encoder(&self, arm: &Arm) -> Encoder {
        match (self.base)(arm.seed) {
            Encoder::Static(e) => e.with_tokens(&self.view(&arm.part).tokens).into(),
            transformer => transformer,
        }
    }

    /// The results so far.
    pub fn records(&self) -> MutexGuard<'_, Records<'a>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the work: the results, and the number of rungs that were there already.
    pub fn into_records(self) -> (Records<'a>, usize) {
        let resumed = *self.resumed.lock().unwrap_or_else(PoisonError::into_inner);
        (self.records.into_inner().unwrap_or_else(PoisonError::into_inner), resumed)
    }

    /// The training judgments.
    pub fn train(&self, fold: Option<Fold>) -> &Graded {
        match fold {
            None => &self.graded[Split::Train as usize],
            Some(fold) => &self.folds[fold.number as usize].0,
        }
    }

    fn dev(&self, fold: Option<Fold>) -> &Graded {
        match fold {
            None => &self.graded[Split::Dev as usize],
            Some(fold) => &self.folds[fold.number as usize].1,
        }
    }

    /// The steps of a training on `examples` where methods get equally many pairs: as many as give all the pairs of the
    /// grid's method that has the fewest. `None` where they get equally many steps.
    pub fn steps(&self, scenario: Scenario, part: &Part, examples: &Examples) -> Option<u64> {
        if self.plan.equal == Equal::Steps {
            return None;
        }
        let settings = &self.plan.settings;
        let key = (scenario, part.clone());
        let known = self.fewest_pairs.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let fewest = known.unwrap_or_else(|| {
            let pairs = |method: &Method| {
                let labels = ArmLabels::Method(*method);
                let arm = Arm { scenario, part: part.clone(), labels, seed: 0, fold: None, altered: None };
                self.examples(&arm).map_or(0.0, |e| e.pairs_per_epoch(settings.per_query))
            };
            let all = self.plan.grid.iter().map(pairs).filter(|p| *p > 0.0);
            let fewest = all.fold(f64::INFINITY, f64::min);
            self.fewest_pairs.lock().unwrap_or_else(PoisonError::into_inner).insert(key, fewest);
            fewest
        });
        let epochs = settings.epochs as f64 * fewest / examples.pairs_per_epoch(settings.per_query).max(1.0);
        let steps = examples.steps_per_epoch(settings.batch) as f64 * epochs;
        steps.is_finite().then_some((steps.round() as u64).max(1))
    }

    /// The languages of a model's texts.
    fn langs(&self, part: &Part) -> Vec<Lang> {
        match part.lang {
            None => self.plan.langs.clone(),
            Some(_) => part.lang.iter().chain(&part.passage_lang).cloned().collect(),
        }
    }

    /// What an arm is trained on; `None` for an untrained one.
    pub fn examples(&self, arm: &Arm) -> Option<Examples> {
        self.examples_of(arm, self.train(arm.fold))
    }

    /// What an arm is trained on, of these judgments.
    pub fn examples_of(&self, arm: &Arm, train: &Graded) -> Option<Examples> {
        let policies = match &arm.labels {
            ArmLabels::Untrained => return None,
            ArmLabels::Method(m) => LabelPolicies::uniform(m.policy()),
            ArmLabels::Policies(p) => p.clone(),
        };
        let langs = self.langs(&arm.part);
        // Of a pair's two languages one has the queries.
        let one_way = arm.part.passage_lang.is_some().then(|| {
            train.for_queries(|q| Some(&self.collection.queries[q as usize].lang) == arm.part.lang.as_ref())
        });
        let train = one_way.as_ref().unwrap_or(train);
        let Settings { batches, negatives, .. } = &self.plan.settings;
        let mut examples =
            Examples::for_batches(self.collection, train, arm.scenario, &langs, &policies, batches);
        if let Some(teacher) = &self.plan.teacher {
            examples.set_teacher(teacher.clone());
        }
        if let Some(hard) = &negatives.hard {
            examples.add_negatives(self.collection, hard);
        }
        Some(examples)
    }

    /// The settings of an arm's training.
    pub fn settings(&self, arm: &Arm, steps: Option<u64>) -> Settings {
        let base = Settings { seed: arm.seed, ..self.plan.settings.clone() };
        let settings = match &arm.labels {
            ArmLabels::Method(m) => base.with_loss(m.loss()),
            _ => base.with_loss(Loss::InfoNce),
        };
        Settings { steps: steps.or(settings.steps), ..settings }
    }

    /// Brings all entries to a share of their steps and measures them on dev, and after the last step on `test` too
    /// where that is asked for.
    pub fn advance<'e>(&'e self, entries: &mut [Entry<'e>], share: f64, test: bool) -> Result<()> {
        let one = |entry: &mut Entry<'e>, keep: bool| {
            let (name, resumed) = self.advance_one(entry, (share, keep), test)?;
            *self.resumed.lock().unwrap_or_else(PoisonError::into_inner) += usize::from(resumed);
            self.watch.done(&name);
            Ok(())
        };
        // Models that would crowd each other out go to disk between rungs.
        let bytes: u64 = entries.iter().map(|e| self.view(&e.arm.part).model_bytes).sum();
        let keep = !self.share && bytes <= MEMORY;
        let one = |entry: &mut Entry<'e>| one(entry, keep);
        match self.share {
            true => entries.iter_mut().try_for_each(one),
            false => entries.par_iter_mut().with_max_len(1).try_for_each(one),
        }
    }

    fn advance_one<'e>(
        &'e self,
        entry: &mut Entry<'e>,
        (share, keep): (f64, bool),
        test: bool,
    ) -> Result<(String, bool)> {
        let name = entry.arm.name();
        let path = self.dir.join(format!("{name}.json"));
        // One that was trained for another number of steps was another training.
        let other = |r: &ArmResult| entry.steps.is_some_and(|s| r.steps != s && !r.rungs.is_empty());
        let mut result = match self.load(&path, &entry.arm)?.filter(|r| !other(r)) {
            Some(result) => result,
            None => ArmResult {
                fingerprint: self.fingerprint.clone(),
                labels: entry.arm.labels.describe(),
                steps: 0,
                rungs: Vec::new(),
                test: None,
            },
        };
        let share = if entry.examples.is_none() { 0.0 } else { share };
        let test = test && (share == 1.0 || entry.examples.is_none());
        let there = result.at(share).is_some() && (!test || result.test.is_some());
        if !there {
            match self.same_as(&entry.arm) {
                Some(first) => result = first,
                None => self.run(entry, (share, keep), test, &mut result)?,
            }
            let json = serde_json::to_vec(&result).map_err(|e| Error::Internal(e.to_string()))?;
            io::write(&path, &json)?;
        }
        // What an earlier run found further on is not looked at before this one gets there.
        result.rungs.retain(|r| r.share <= share);
        if !test {
            result.test = None;
        }
        self.records().arms.insert(name.clone(), result);
        Ok((name, there))
    }

    /// Gives the results of an arm to another one, which trains alike.
    pub fn copy(&self, from: &Arm, to: &Arm) {
        let mut records = self.records();
        if let Some(result) = records.arms.get(&from.name()).cloned() {
            records.arms.insert(to.name(), result);
        }
    }

    fn run<'e>(
        &'e self,
        entry: &mut Entry<'e>,
        (share, keep): (f64, bool),
        test: bool,
        result: &mut ArmResult,
    ) -> Result<()> {
        let started = Instant::now();
        let arm = &entry.arm;
        let Some(examples) = entry.examples else {
            let encoder = self.encoder(arm);
            let (dev, on_test) = self.measure(arm, &*encoder, true, true);
            let rung = Rung {
                share: 0.0,
                step: 0,
                tokens: 0,
                seconds: started.elapsed().as_secs_f64(),
                loss: 0.0,
                dev,
            };
            *result = ArmResult { rungs: vec![rung], test: Some(on_test), ..result.clone() };
            return Ok(());
        };
        let checkpoint = self.checkpoint(arm);
        // Whole steps that the share pays for, so that a race keeps to its budget.
        let goal = |t: &Trainer| ((t.total() as f64 * share + 1e-6) as u64).clamp(1, t.total());
        // At the end test is measured whether it is asked for or not: a chosen model need not be trained again for it.
        let test = test || (share == 1.0 && arm.fold.is_none());
        let settings = self.settings(arm, entry.steps);
        let mut trainer = match entry.live.take() {
            Some(trainer) => trainer,
            None => {
                let texts = &self.view(&arm.part).texts;
                let new = || Trainer::new(self.encoder(arm), examples, texts, settings.clone(), self.share);
                let mut trainer = new()?;
                if checkpoint.exists() {
                    trainer.resume(&checkpoint)?;
                }
                // One that an earlier run left further on cannot go back.
                if trainer.done() > goal(&trainer) { new()? } else { trainer }
            }
        };
        result.steps = trainer.total();
        let goal = goal(&trainer);
        let (mut loss, mut steps) = (0.0, 0u32);
        while trainer.done() < goal {
            let Some(report) = trainer.next_step() else { break };
            report.check()?;
            (loss, steps) = (loss + report.loss, steps + 1);
        }
        let needed = result.at(share).is_none();
        let (dev, on_test) = {
            let snapshot;
            let encoder: &dyn TextEncoder = if self.share {
                snapshot = trainer.snapshot();
                &*snapshot
            } else {
                trainer.encoder()
            };
            self.measure(arm, encoder, needed, test)
        };
        if needed {
            result.rungs.push(Rung {
                share,
                step: trainer.done(),
                tokens: trainer.tokens(),
                seconds: started.elapsed().as_secs_f64(),
                loss: loss / f64::from(steps.max(1)),
                dev,
            });
            result.rungs.sort_by(|a, b| a.share.total_cmp(&b.share));
        }
        if test {
            result.test = Some(on_test);
        }
        if trainer.done() < trainer.total() {
            if keep {
                entry.live = Some(trainer);
            } else {
                trainer.save_checkpoint(&checkpoint)?;
            }
        } else if checkpoint.exists() {
            std::fs::remove_file(&checkpoint).map_err(|e| Error::io(&checkpoint, e))?;
        }
        Ok(())
    }

    fn checkpoint(&self, arm: &Arm) -> PathBuf {
        self.dir.join(format!("{}.checkpoint", arm.name()))
    }

    /// Removes what an arm that will not go on has left.
    pub fn forget(&self, arm: &Arm) -> Result<()> {
        let path = self.checkpoint(arm);
        if path.exists() { std::fs::remove_file(&path).map_err(|e| Error::io(&path, e)) } else { Ok(()) }
    }

    /// Removes what arms that did not go on have left.
    pub fn remove_checkpoints(&self) -> Result<()> {
        for entry in self.dir.read_dir().map_err(|e| Error::io(&self.dir, e))? {
            let path = entry.map_err(|e| Error::io(&self.dir, e))?.path();
            if path.extension().is_some_and(|e| e == "checkpoint") {
                std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(())
    }

    /// The values on dev and on test, where they are wanted.
    fn measure(
        &self,
        arm: &Arm,
        encoder: &dyn TextEncoder,
        dev: bool,
        test: bool,
    ) -> (Vec<Measured>, Vec<Measured>) {
        let langs = arm.part.lang.as_ref().map_or_else(|| self.plan.langs.clone(), |l| vec![l.clone()]);
        // Both together, so that passages are encoded once.
        let of =
            |graded, wanted| if wanted { queries_in(self.collection, graded, &langs) } else { Vec::new() };
        let (on_dev, on_test) = (self.dev(arm.fold), &self.graded[Split::Test as usize]);
        let mut queries: Vec<Index> = of(on_dev, dev);
        queries.extend(of(on_test, test));
        queries.sort_unstable();
        queries.dedup();
        let (places, pools) = self.pools(arm.scenario, &arm.part);
        let texts = &self.view(&arm.part).texts;
        let rankings = evaluate(encoder, self.collection, texts, &queries, &pools, 10, self.share);
        let values = |graded, wanted| {
            if wanted { self.values(arm.scenario, (&places, &pools), &rankings, graded) } else { Vec::new() }
        };
        (values(on_dev, dev), values(on_test, test))
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
        Ok(Some(result).filter(|r| r.labels == arm.labels.describe()))
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

    /// One pool in a query's own language, or one for each language where queries cross to others: their places in the
    /// plan, and the pools.
    fn pools(&self, scenario: Scenario, part: &Part) -> (Vec<u16>, Vec<Pool>) {
        if scenario != Scenario::CrossLingual {
            return (vec![0], vec![Pool::Same]);
        }
        let wanted = |l: &Lang| {
            part.passage_lang.as_ref().map_or_else(
                || self.plan.pairs.is_empty() || self.plan.pairs.iter().any(|(_, p)| p == l),
                |own| own == l,
            )
        };
        let pools = (0..).zip(&self.plan.langs).filter(|(_, l)| wanted(l));
        pools.map(|(place, l)| (place, Pool::Langs(vec![l.clone()]))).unzip()
    }

    /// Each query's value in each pool that it belongs to. A pool that holds no relevant passage for a query says
    /// nothing about it and is left out.
    fn values(
        &self,
        scenario: Scenario,
        (places, pools): (&[u16], &[Pool]),
        rankings: &[Rankings],
        graded: &Graded,
    ) -> Vec<Measured> {
        let mut out = Vec::new();
        let across = scenario == Scenario::CrossLingual;
        for ((&place, pool), ranking) in places.iter().zip(pools).zip(rankings) {
            let topics = ranking.topics(self.collection, graded, pool);
            for (&q, topic) in ranking.queries.iter().zip(&topics) {
                let lang = &self.collection.queries[q as usize].lang;
                let own = pool.holds(lang, lang);
                let asked = !across || self.plan.asks(lang, &self.plan.langs[place as usize]);
                if across == own || !asked || topic.judged.iter().all(|g| *g <= 0.0) {
                    continue;
                }
                out.push((q, place, METRIC.of(topic)));
            }
        }
        out
    }

    /// BM25's values on test.
    pub fn bm25(&self, scenario: Scenario) -> Vec<Measured> {
        let graded = &self.graded[Split::Test as usize];
        let queries = queries_in(self.collection, graded, &self.plan.langs);
        let (places, pools) = self.pools(scenario, &Part::default());
        let order = |pool| Order::new(pool, 10, &self.all.texts.ties);
        let rankings: Vec<Rankings> =
            pools.par_iter().map(|pool| rank_bm25(self.collection, &queries, &order(pool))).collect();
        self.values(scenario, (&places, &pools), &rankings, graded)
    }
}

/// The judgments of train and dev without a fold's queries, and of that fold's alone.
fn folded(collection: &Collection, fold: Fold) -> (Graded, Graded) {
    let all = [Split::Train, Split::Dev].into_iter().flat_map(|s| collection.judgments(s).iter().copied());
    let inside = |j: &Judgment| fold.holds(collection.queries[j.query as usize].unit());
    let (held, rest): (Vec<Judgment>, Vec<Judgment>) = all.partition(inside);
    (Graded::of(collection, &rest), Graded::of(collection, &held))
}
