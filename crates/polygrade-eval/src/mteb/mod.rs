//! Results in mteb's layout: `results/MODEL/REVISION/TASK.json` with `model_meta.json` beside them, as mteb 1.11 and
//! later write and read it.
//!
//! A task's file holds, for each split, one entry for each subset (here: each query language) with its scores by
//! mteb's names ([`SCORES`]) and a `main_score`. What mteb does not know (values of single queries, the settings that a
//! result was made with) stands under one key, `polygrade`, which mteb passes over. Its `nauc_*` scores, which need a
//! model's confidence, are not written. Scores are not rounded.

pub mod lang;

use crate::measure::{Measure, Topic};
use polygrade_data::{At, Error, Result, io};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The ranks at which mteb cuts rankings.
pub const CUTS: [usize; 7] = [1, 3, 5, 10, 20, 100, 1000];

/// Families of scores, each at every one of [`CUTS`]: `ndcg_at_10` and so on. `map_at_k` is AP of the first k, over all
/// relevant passages (trec_eval's map_cut); `mrr_at_k` is RR@k; `hit_rate_at_k` is Success@k.
pub const SCORES: [&str; 6] = ["ndcg", "map", "recall", "precision", "mrr", "hit_rate"];

/// One task's results for one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Tells versions of the data apart.
    pub dataset_revision: String,
    /// The task's name, also the file's.
    pub task_name: String,
    /// The version of mteb that measured; `None` where it was not mteb.
    #[serde(default)]
    pub mteb_version: Option<String>,
    /// Split → subsets.
    pub scores: BTreeMap<String, Vec<SubsetScores>>,
    /// Seconds.
    #[serde(default)]
    pub evaluation_time: Option<f64>,
    /// Not measured by us.
    #[serde(default)]
    pub kg_co2_emissions: Option<f64>,
    /// What mteb has no place for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polygrade: Option<Detail>,
}

/// The scores of one subset of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubsetScores {
    /// The subset's name; `default` where there is one only.
    pub hf_subset: String,
    /// Languages of queries and passages, such as `eng-Latn`.
    pub languages: Vec<String>,
    /// The score that systems are compared by.
    pub main_score: Option<f64>,
    /// All scores by name.
    #[serde(flatten)]
    pub scores: BTreeMap<String, Value>,
}

/// What a result of ours holds beside mteb's keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The settings that the result depends on, beside model and data: a version and `KEY=VALUE`, with blanks between.
    pub settings: String,
    /// Subset → query → main score.
    pub by_query: BTreeMap<String, BTreeMap<String, f64>>,
    /// Query → group, where queries have translations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
}

impl Detail {
    /// The value of a key of [`Detail::settings`].
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.split(' ').find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
    }

    /// The settings that differ between this result and one made with `settings`, ours and theirs. Which of the scores
    /// is the main one, and which are there beside mteb's, does not change a score and is passed over.
    pub fn differs(&self, settings: &str) -> Option<(String, String)> {
        let counts = |part: &&str| !part.starts_with("main=") && !part.starts_with("metrics=");
        let less = |a: &str, b: &str| {
            let theirs: Vec<&str> = b.split(' ').collect();
            let own: Vec<&str> = a.split(' ').filter(counts).filter(|p| !theirs.contains(p)).collect();
            own.join(" ")
        };
        let both = (less(&self.settings, settings), less(settings, &self.settings));
        (both != (String::new(), String::new())).then_some(both)
    }
}

/// mteb's names of all scores that [`scores`] gives.
pub fn names() -> impl Iterator<Item = String> {
    SCORES.iter().flat_map(|family| CUTS.iter().map(move |k| format!("{family}_at_{k}")))
}

/// mteb's name of a metric, where it has one: nDCG@10 is `ndcg_at_10`.
pub fn name_of(measure: &Measure) -> Option<String> {
    let (family, cut) = match *measure {
        Measure::Ndcg(Some(k)) => ("ndcg", k),
        Measure::Recall(k, 1.0) => ("recall", k),
        Measure::Precision(k, 1.0) => ("precision", k),
        Measure::ReciprocalRank(Some(k), 1.0) => ("mrr", k),
        Measure::Success(k, 1.0) => ("hit_rate", k),
        _ => return None,
    };
    CUTS.contains(&cut).then(|| format!("{family}_at_{cut}"))
}

/// The values of a topic in the order of [`names`]. Rankings should be 1,000 deep.
pub fn scores(topic: &Topic) -> Vec<f64> {
    let cut = |k: usize| Topic {
        ranked: topic.ranked[..k.min(topic.ranked.len())].to_vec(),
        judged: topic.judged.clone(),
    };
    let of = |family: &str, k: usize| match family {
        "ndcg" => Measure::Ndcg(Some(k)).of(topic),
        "map" => Measure::AveragePrecision(1.0).of(&cut(k)),
        "recall" => Measure::Recall(k, 1.0).of(topic),
        "precision" => Measure::Precision(k, 1.0).of(topic),
        "mrr" => Measure::ReciprocalRank(Some(k), 1.0).of(topic),
        _ => Measure::Success(k, 1.0).of(topic),
    };
    SCORES.iter().flat_map(|family| CUTS.map(|k| of(family, k))).collect()
}

impl TaskResult {
    /// Reads a result, ours or mteb's. Numbers that are none (`NaN`, which Python writes) are read as absent.
    pub fn read(path: &Path) -> Result<TaskResult> {
        let text = without_nan(&io::read_to_string(path)?);
        serde_json::from_str(&text).map_err(|e| {
            let fix = "expected a task's result as mteb 1.11 or later writes it; mteb reads older ones and saves them anew";
            Error::input(At::line(path, e.line() as u64), format!("is no result of mteb: {e}"), fix)
        })
    }

    /// Writes the result to `folder/TASK.json`, atomically; gives the path.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{}.json", self.task_name));
        write_json(&path, self)?;
        Ok(path)
    }

    /// The subset of `split` that `like` is another system's result of: the one with the same languages; of several, that
    /// of the same name. A name alone says nothing: every task with one subset calls it `default`.
    pub fn subset(&self, split: &str, like: &SubsetScores) -> Option<&SubsetScores> {
        let all = self.scores.get(split)?;
        let same: Vec<&SubsetScores> =
            all.iter().filter(|s| lang::same(&s.languages, &like.languages)).collect();
        match same.as_slice() {
            [one] => Some(one),
            several => several.iter().copied().find(|s| s.hf_subset == like.hf_subset),
        }
    }
}

/// The model of a folder of results.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ModelId {
    /// Its name, such as `intfloat/multilingual-e5-small`.
    pub name: String,
    /// Its revision.
    pub revision: String,
}

impl ModelId {
    /// `out/results/MODEL/REVISION`, where MODEL is the name with `__` for `/` and `+` for what file names had better not
    /// have.
    pub fn folder(&self, out: &Path) -> PathBuf {
        let name = file_part(&self.name.replace('/', "__"));
        out.join("results").join(name.replace("..", "+")).join(&self.revision)
    }

    /// What `folder` says of its model: `model_meta.json`, or else the names of the folders, as in mteb.
    pub fn of_folder(folder: &Path) -> ModelId {
        let meta = folder.join("model_meta.json");
        let meta: Option<Value> =
            io::read_to_string(&meta).ok().and_then(|t| serde_json::from_str(&without_nan(&t)).ok());
        let said = |key: &str| meta.as_ref().and_then(|m| m[key].as_str()).map(str::to_owned);
        let part = |path: Option<&Path>| {
            path.and_then(Path::file_name).map_or(String::new(), |n| n.to_string_lossy().replace("__", "/"))
        };
        ModelId {
            name: said("name").unwrap_or_else(|| part(folder.parent())),
            revision: said("revision").unwrap_or_else(|| part(Some(folder))),
        }
    }

    /// Writes `model_meta.json` with mteb's keys; what is not known is null.
    pub fn write_meta(&self, folder: &Path, about: &About) -> Result<()> {
        let dense = about.dim.is_some();
        let meta = serde_json::json!({
            "name": self.name,
            "revision": self.revision,
            "release_date": null,
            "languages": null,
            "n_parameters": about.parameters,
            "memory_usage_mb": about.parameters.map(|n| n as f64 * 4.0 / f64::from(1u32 << 20)),
            "max_tokens": null,
            "embed_dim": about.dim,
            "license": null,
            "open_weights": null,
            "public_training_code": null,
            "public_training_data": null,
            "framework": [],
            "reference": null,
            "similarity_fn_name": if dense { Some("cosine") } else { None },
            "use_instructions": about.prompts,
            "training_datasets": null,
            "adapted_from": null,
            "superseded_by": null,
            "modalities": ["text"],
            "model_type": [if dense { "dense" } else { "sparse" }],
            "citation": null,
            "contacts": null,
            "loader": null,
        });
        write_json(&folder.join("model_meta.json"), &meta)
    }
}

/// What `model_meta.json` says of a model beside its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About {
    /// Parameters.
    pub parameters: Option<usize>,
    /// Width of the vectors; `None` for a lexical system.
    pub dim: Option<usize>,
    /// Whether something is put before queries or passages.
    pub prompts: bool,
}

/// The results of `tasks` (names) below `root`, which is a folder of results of mteb or of `polygrade benchmark`, at
/// any height: a cache, its `results` folder, or one model's. Sorted by model.
pub fn read_results(root: &Path, tasks: &[String]) -> Result<Vec<(ModelId, Vec<TaskResult>)>> {
    if !root.is_dir() {
        return Err(Error::input(
            At::file(root),
            "is no folder",
            "give a folder of results in mteb's layout: MODEL/REVISION/TASK.json",
        ));
    }
    let mut out: BTreeMap<ModelId, Vec<TaskResult>> = BTreeMap::new();
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let files: Vec<PathBuf> =
            tasks.iter().map(|t| folder.join(format!("{t}.json"))).filter(|p| p.is_file()).collect();
        if !files.is_empty() {
            let read: Vec<TaskResult> = files.iter().map(|p| read_named(p)).collect::<Result<_>>()?;
            out.entry(ModelId::of_folder(&folder)).or_default().extend(read);
        }
        // mteb's cache with its remote results is five folders high.
        if depth < 5 {
            let mut inner: Vec<PathBuf> = std::fs::read_dir(&folder)
                .map_err(|e| Error::io(&folder, e))?
                .filter_map(|e| e.ok().map(|e| e.path()))
                .filter(|p| {
                    p.is_dir() && !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
                })
                .collect();
            inner.sort();
            open.extend(inner.into_iter().map(|p| (p, depth + 1)));
        }
    }
    Ok(out.into_iter().collect())
}

/// Reads a result whose file has the task's name.
fn read_named(path: &Path) -> Result<TaskResult> {
    let result = TaskResult::read(path)?;
    if path.file_stem().is_some_and(|stem| stem.to_string_lossy() == result.task_name) {
        return Ok(result);
    }
    let what = format!("holds the result of another task, {:?}", result.task_name);
    Err(Error::input(At::file(path), what, "give the file the task's name, or take it out of the folder"))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Internal(e.to_string()))?;
    io::write(path, format!("{text}\n").as_bytes())
}

/// A text as part of a file's name: `+` stands for all but letters, digits and `. - _ + @`.
pub(crate) fn file_part(text: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@');
    text.chars().map(|c| if safe(c) { c } else { '+' }).collect()
}

/// JSON with the bare words `NaN`, `Infinity` and `-Infinity`, which Python writes, made `null`.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|w| !quoted && rest.starts_with(w));
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        let taken = match c {
            '\\' if quoted => rest.chars().take(2).map(char::len_utf8).sum(),
            _ => c.len_utf8(),
        };
        quoted ^= c == '"';
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_are_null_outside_of_texts() {
        let text = r#"{"a": NaN, "b\"NaN": -Infinity, "NaN": "Infinity \\", "c": [Infinity, 1]}"#;
        let value: Value = serde_json::from_str(&without_nan(text)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"a": null, "b\"NaN": null, "NaN": "Infinity \\", "c": [null, 1]})
        );
    }

    #[test]
    fn folders_stay_where_they_belong() {
        let folder = |name: &str| ModelId { name: name.into(), revision: "r".into() }.folder(Path::new("o"));
        assert_eq!(folder("org/m@v1"), Path::new("o/results/org__m@v1/r"));
        assert_eq!(folder("../a b"), Path::new("o/results/+__a+b/r"));
        assert_eq!(folder(".."), Path::new("o/results/+/r"));
    }

    #[test]
    fn scores_by_hand() {
        // Relevant at ranks 2 and 4 of three relevant; grades 1, 2 (missed) and 1.
        let topic =
            Topic { ranked: vec![Some(0.0), Some(1.0), None, Some(1.0)], judged: vec![0.0, 1.0, 2.0, 1.0] };
        let got: BTreeMap<String, f64> = names().zip(scores(&topic)).collect();
        assert_eq!(got.len(), 42);
        let ideal = 2.0 + 1.0 / 3f64.log2() + 0.5;
        for (name, want) in [
            ("ndcg_at_3", (1.0 / 3f64.log2()) / ideal),
            ("ndcg_at_1", 0.0),
            ("map_at_3", 0.5 / 3.0),
            ("map_at_1000", (0.5 + 0.5) / 3.0),
            ("recall_at_3", 1.0 / 3.0),
            ("precision_at_5", 0.4),
            ("mrr_at_1", 0.0),
            ("mrr_at_10", 0.5),
            ("hit_rate_at_1", 0.0),
            ("hit_rate_at_3", 1.0),
        ] {
            assert!((got[name] - want).abs() < 1e-12, "{name}: {} {want}", got[name]);
        }
        assert_eq!(name_of(&Measure::Ndcg(Some(10))).unwrap(), "ndcg_at_10");
        assert_eq!(name_of(&Measure::Precision(5, 2.0)), None);
        assert_eq!(name_of(&Measure::Ndcg(Some(7))), None);
    }
}
