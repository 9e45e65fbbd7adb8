//! The table of a benchmark: what each system scores on each task, and the ranks that follow.
//!
//! Systems may come from anywhere: ours, or results that mteb wrote. A task's score is the mean over the subsets of the
//! first system that has the task; another system's subsets are found by their languages, and by the same metric. A
//! system that lacks one has no score for the task. A result of ours counts only if it was made from the data and with
//! the settings that the suite asks for; of mteb's results neither is known.

use crate::mteb::{ModelId, SubsetScores, TaskResult};
use crate::standings::{Stability, Standing, TaskQueries, stability, standings};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Resamples that intervals come from.
pub const RESAMPLES: usize = 2000;

/// Level of the intervals.
pub const LEVEL: f64 = 0.95;

/// A task as the suite asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The split to measure on.
    pub split: String,
    /// The score that counts.
    pub main: String,
    /// The settings, as in [`Detail::settings`](crate::mteb::Detail::settings).
    pub settings: String,
    /// What tells versions of the data apart, as in [`TaskResult::dataset_revision`].
    pub revision: String,
}

impl Wanted {
    /// Why a result is none of this task; `None` where nothing is known against it.
    fn refuses(&self, result: &TaskResult) -> Option<String> {
        let detail = result.polygrade.as_ref()?;
        if result.dataset_revision != self.revision {
            return Some("it was measured on another version of the data".into());
        }
        let (theirs, wanted) = detail.differs(&self.settings)?;
        Some(format!("it was made with {theirs}, the suite asks for {wanted}"))
    }
}

/// A task of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The split it is measured on.
    pub split: String,
    /// The score that counts.
    pub main: String,
    /// The subsets that count; empty where no system has the task.
    pub subsets: Vec<String>,
}

/// A system of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The system.
    #[serde(flatten)]
    pub model: ModelId,
    /// Its score on each task; `None` where it has none.
    pub scores: Vec<Option<f64>>,
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Standing,
    /// How sure that is; `None` where a system's values of single queries are not known.
    pub stability: Option<Stability>,
}

/// The table.
#[derive(Debug, Clone, Serialize)]
pub struct Leaderboard {
    /// The tasks, in the order of [`Row::scores`].
    pub tasks: Vec<Task>,
    /// The systems, by Borda rank, then by mean.
    pub systems: Vec<Row>,
    /// What a reader should know: results that could not be compared, and why.
    pub notes: Vec<String>,
}

impl Leaderboard {
    /// The table of `systems` over `tasks`. Of several results of a system for a task, the first that fits counts.
    pub fn new(tasks: &[Wanted], systems: &[(ModelId, Vec<TaskResult>)]) -> Leaderboard {
        let mut notes = Vec::new();
        let mut heads = Vec::new();
        let mut scores = vec![Vec::new(); systems.len()];
        let mut queries = Vec::new();
        for task in tasks {
            let mut results: Vec<Option<&TaskResult>> = Vec::with_capacity(systems.len());
            for (model, all) in systems {
                let own = || all.iter().filter(|r| r.task_name == task.name);
                let fits = own().find(|r| task.refuses(r).is_none());
                if let (None, Some(why)) = (fits, own().find_map(|r| task.refuses(r))) {
                    notes.push(format!("{} has no score for {}: {why}", model.name, task.name));
                }
                results.push(fits);
            }
            let has = |r: &&TaskResult| r.scores.get(&task.split).is_some_and(|s| !s.is_empty());
            let ours = results.iter().flatten().copied().find(|r| has(r) && r.polygrade.is_some());
            let reference = ours.or_else(|| results.iter().flatten().copied().find(has));
            let subsets = reference.map_or(&[][..], |r| &r.scores[&task.split]);
            for (i, result) in results.iter().enumerate() {
                let found = result.map(|r| task_score(r, &task.split, &task.main, subsets));
                let name = &systems[i].0.name;
                if let Some(Err(why)) = &found {
                    notes.push(format!("{name} has no score for {}: {why}", task.name));
                }
                if let Some(other) = result.and_then(|r| other_main(r, &task.main)) {
                    let what = format!("knows {other} alone of single queries, not {}", task.main);
                    notes.push(format!("{name} {what}, for {}: measure again for intervals", task.name));
                }
                scores[i].push(found.and_then(Result::ok));
            }
            queries.push(task_queries(&results, &task.main, subsets));
            heads.push(Task {
                name: task.name.clone(),
                split: task.split.clone(),
                main: task.main.clone(),
                subsets: subsets.iter().map(|s| s.hf_subset.clone()).collect(),
            });
        }
        let queries: Option<Vec<TaskQueries>> = queries.into_iter().collect();
        let sure = queries.map(|q| stability(&q, RESAMPLES, LEVEL)).filter(|s| s.len() == systems.len());
        if sure.is_none() && systems.len() > 1 {
            notes.push("no intervals: not every system has values of the same single queries".into());
        }
        let rows = systems.iter().zip(scores.clone()).zip(standings(&scores)).enumerate();
        let mut rows: Vec<Row> = rows
            .map(|(i, (((model, _), scores), standing))| Row {
                model: model.clone(),
                scores,
                standing,
                stability: sure.as_ref().map(|s| s[i]),
            })
            .collect();
        let mean = |r: &Row| r.standing.mean.unwrap_or(f64::NEG_INFINITY);
        rows.sort_by(|a, b| {
            let order = a.standing.borda_rank.cmp(&b.standing.borda_rank);
            order.then(mean(b).total_cmp(&mean(a))).then_with(|| a.model.cmp(&b.model))
        });
        Leaderboard { tasks: heads, systems: rows, notes }
    }
}

/// The mean over `subsets` of the score `main`, or why there is none.
fn task_score(result: &TaskResult, split: &str, main: &str, subsets: &[SubsetScores]) -> Result<f64, String> {
    let mut sum = 0.0;
    for like in subsets {
        let Some(own) = result.subset(split, like) else {
            return Err(format!(
                "nothing for the subset {} ({}) of {split}",
                like.hf_subset,
                like.languages.join(", ")
            ));
        };
        match own.scores.get(main).and_then(Value::as_f64) {
            Some(value) => sum += value,
            None => return Err(format!("no {main} for the subset {}", own.hf_subset)),
        }
    }
    if subsets.is_empty() { Err(format!("nothing for {split}")) } else { Ok(sum / subsets.len() as f64) }
}

/// The score that a result of ours has by query, where it is not `main`.
fn other_main<'a>(result: &'a TaskResult, main: &str) -> Option<&'a str> {
    let own = result.polygrade.as_ref()?.setting("main").unwrap_or("an unknown score");
    (own != main).then_some(own)
}

/// What each system scored on each query; `None` unless all have values of `main` for the same queries.
fn task_queries(
    results: &[Option<&TaskResult>],
    main: &str,
    subsets: &[SubsetScores],
) -> Option<TaskQueries> {
    if results.iter().flatten().any(|r| other_main(r, main).is_some()) {
        return None;
    }
    let details: Vec<_> =
        results.iter().map(|r| r.and_then(|r| r.polygrade.as_ref())).collect::<Option<_>>()?;
    let first = details.first()?;
    let mut out = TaskQueries { values: vec![Vec::new(); details.len()], ..TaskQueries::default() };
    let mut numbers: HashMap<(bool, &str), u32> = HashMap::new();
    for (s, subset) in subsets.iter().enumerate() {
        let lists: Vec<&BTreeMap<String, f64>> =
            details.iter().map(|d| d.by_query.get(&subset.hf_subset)).collect::<Option<_>>()?;
        for query in lists[0].keys() {
            let group = first.groups.get(query);
            let next = numbers.len() as u32;
            out.group.push(*numbers.entry((group.is_some(), group.unwrap_or(query))).or_insert(next));
            out.subset.push(s as u32);
        }
        for (values, list) in out.values.iter_mut().zip(&lists) {
            if !list.keys().eq(lists[0].keys()) {
                return None;
            }
            values.extend(list.values());
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mteb::Detail;

    fn result(task: &str, ours: bool, subsets: &[(&str, &str, f64)]) -> TaskResult {
        let entry = |(name, lang, score): &(&str, &str, f64)| SubsetScores {
            hf_subset: (*name).into(),
            languages: vec![(*lang).into()],
            main_score: Some(0.99),
            scores: BTreeMap::from([("ndcg_at_10".into(), Value::from(*score))]),
        };
        let values = |score: f64| BTreeMap::from([("q1".into(), score - 0.1), ("q2".into(), score + 0.1)]);
        TaskResult {
            dataset_revision: "r".into(),
            task_name: task.into(),
            mteb_version: None,
            scores: BTreeMap::from([("test".into(), subsets.iter().map(entry).collect())]),
            evaluation_time: None,
            kg_co2_emissions: None,
            polygrade: ours.then(|| Detail {
                settings: "v1 pool=mono-same main=ndcg_at_10 metrics=".into(),
                by_query: subsets.iter().map(|(n, _, s)| ((*n).to_owned(), values(*s))).collect(),
                ..Detail::default()
            }),
        }
    }

    fn model(name: &str) -> ModelId {
        ModelId { name: name.into(), revision: "1".into() }
    }

    fn wanted(name: &str, main: &str) -> Wanted {
        Wanted {
            name: name.into(),
            split: "test".into(),
            main: main.into(),
            settings: format!("v1 pool=mono-same main={main} metrics=P@5"),
            revision: "r".into(),
        }
    }

    #[test]
    fn results_of_other_settings_or_data_do_not_count() {
        let one = [("en", "eng-Latn", 0.5)];
        let with = |change: &dyn Fn(&mut TaskResult)| {
            let mut other = result("A", true, &one);
            change(&mut other);
            Leaderboard::new(
                &[wanted("A", "ndcg_at_10")],
                &[(model("other"), vec![other.clone()]), (model("ours"), vec![result("A", true, &one)])],
            )
        };
        let score =
            |t: &Leaderboard, name: &str| t.systems.iter().find(|r| r.model.name == name).unwrap().scores[0];
        let set = |settings: &'static str| {
            move |r: &mut TaskResult| r.polygrade.as_mut().unwrap().settings = settings.into()
        };
        // Another pool, and other data: no score, and why; ours stays.
        let pool = with(&set("v1 pool=multi main=ndcg_at_10 metrics="));
        assert!(pool.notes.iter().any(|n| n.contains("pool=multi, the suite asks for pool=mono-same")));
        let data = with(&|r| r.dataset_revision = "s".into());
        assert!(data.notes.iter().any(|n| n.contains("another version")), "{:?}", data.notes);
        for table in [pool, data] {
            assert_eq!((score(&table, "other"), score(&table, "ours")), (None, Some(0.5)));
            assert!(table.systems.iter().all(|r| r.stability.is_none()));
        }
        // Other metrics beside it do not matter.
        let metrics = with(&set("v1 pool=mono-same main=ndcg_at_10 metrics=AP"));
        assert!(metrics.notes.is_empty() && score(&metrics, "other") == Some(0.5), "{:?}", metrics.notes);
        // A subset of the same name but in another language is another subset.
        let lang = with(&|r| r.scores.get_mut("test").unwrap()[0].languages = vec!["swa-Latn".into()]);
        assert_eq!(lang.systems.iter().filter(|r| r.scores[0].is_some()).count(), 1);
        assert!(lang.notes.iter().any(|n| n.contains("nothing for the subset en")), "{:?}", lang.notes);
        // Of two results of a system, the one that fits.
        let mut old = result("A", true, &[("en", "eng-Latn", 0.1)]);
        old.dataset_revision = "s".into();
        let both = vec![old, result("A", true, &one)];
        let table = Leaderboard::new(&[wanted("A", "ndcg_at_10")], &[(model("x"), both)]);
        assert!(table.notes.is_empty() && score(&table, "x") == Some(0.5), "{:?}", table.notes);
    }

    #[test]
    fn values_of_another_score_give_no_intervals() {
        let mut a = result("A", true, &[("en", "eng-Latn", 0.3)]);
        for subset in a.scores.get_mut("test").unwrap() {
            subset.scores.insert("recall_at_100".into(), Value::from(0.7));
        }
        // All values of single queries are nDCG's, around .3: they say nothing of a mean of .7.
        let table = Leaderboard::new(&[wanted("A", "recall_at_100")], &[(model("x"), vec![a])]);
        assert_eq!((table.systems[0].scores[0], table.systems[0].stability), (Some(0.7), None));
        assert!(table.notes.iter().any(|n| n.contains("knows ndcg_at_10 alone")), "{:?}", table.notes);
    }

    #[test]
    fn published_results_stand_beside_ours() {
        let tasks = [wanted("A", "ndcg_at_10"), wanted("B", "ndcg_at_10")];
        let two = [("en", "eng-Latn", 0.5), ("zh", "zho-Hans", 0.3)];
        let ours = (
            model("ours"),
            vec![result("A", true, &two), result("B", true, &[("default", "eng-Latn", 0.6)])],
        );
        // Other names of subsets, another code of Chinese, one subset more; and only one of the two tasks.
        let theirs = [("eng", "eng-Latn", 0.7), ("cmn", "cmn-Hans", 0.5), ("deu", "deu-Latn", 0.0)];
        let theirs = (model("theirs"), vec![result("A", false, &theirs)]);
        let table = Leaderboard::new(&tasks, &[theirs.clone(), ours.clone()]);
        assert_eq!(table.tasks[0].subsets, ["en", "zh"]);
        let by_name = |name: &str| table.systems.iter().find(|r| r.model.name == name).unwrap();
        assert!((by_name("theirs").scores[0].unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(by_name("theirs").scores[1], None);
        assert!(by_name("theirs").standing.mean.is_none() && by_name("ours").stability.is_none());
        assert!(table.notes.iter().any(|n| n.contains("no intervals")), "{:?}", table.notes);
        // Ours alone, twice: intervals are there, and the better one is first in all resamples.
        let better = [("en", "eng-Latn", 0.6), ("zh", "zho-Hans", 0.4)];
        let b = (
            model("b"),
            vec![result("A", true, &better), result("B", true, &[("default", "eng-Latn", 0.7)])],
        );
        let table = Leaderboard::new(&tasks, &[ours, b]);
        assert_eq!(table.systems[0].model.name, "b");
        assert_eq!(table.systems[0].stability.unwrap().first_by_mean, 1.0);
        assert!((table.systems[0].standing.mean.unwrap() - 0.6).abs() < 1e-12 && table.notes.is_empty());
        // A subset that is not there is said.
        let less = (model("less"), vec![result("A", false, &[("x", "fra-Latn", 0.7)])]);
        let table = Leaderboard::new(&tasks, &[less, theirs]);
        assert!(table.notes.iter().any(|n| n.contains("theirs has no score for A")), "{:?}", table.notes);
    }
}
