//! Suites: the collections, and perhaps the models, that a benchmark is made of, in a TOML file.
//!
//! ```toml
//! name = "two collections"
//!
//! [[collection]]
//! name = "Mini"                  # the task's name
//! path = "../collections/mini"   # from the suite's folder
//! split = "test"                 # unless given
//! pools = ["mono-same", "multi"] # unless given: mono-same; with several, each is a task: Mini-mono-same, Mini-multi
//! languages = ["en", "sw"]       # of the queries; unless given: all
//! main = "nDCG@10"               # unless given; mteb's ndcg_at_10 is taken too
//! metrics = ["P(rel=2)@5"]       # beside mteb's
//!
//! [[model]]
//! model = "bm25"                 # or a folder from the suite's folder, or a name on the hub
//! name = "BM25"                  # unless given: the last part of the folder, or the name on the hub
//! ```
//!
//! A `[[model]]` may also have `query_prompt`, `passage_prompt` and `truncate_dim`.

use crate::measure::Measure;
use crate::mteb;
use crate::pool::Pool;
use polygrade_data::{At, Error, Lang, Problems, Result, Split, io};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Its name; the file's where it has none.
    pub name: String,
    /// The collections, in the file's order.
    pub collections: Vec<Entry>,
    /// The models that the file names.
    pub models: Vec<ModelEntry>,
}

/// A collection of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The task's name.
    pub name: String,
    /// The collection's folder.
    pub path: PathBuf,
    /// The judgments to measure on.
    pub split: Split,
    /// The pools.
    pub pools: Vec<Pool>,
    /// The languages of the queries; `None` for all.
    pub languages: Option<Vec<Lang>>,
    /// Metrics beside mteb's.
    pub metrics: Vec<Measure>,
    /// The name of the main score, among mteb's or those of `metrics`.
    pub main: String,
    /// Where the file says it.
    pub at: At,
}

/// A model of a suite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelEntry {
    /// What it is called in the results.
    pub name: String,
    /// `bm25`, a folder, or a name on the hub.
    pub model: String,
    /// Put before queries, in place of what the model says.
    pub query_prompt: Option<String>,
    /// Put before passages, in place of what the model says.
    pub passage_prompt: Option<String>,
    /// Vectors are cut to their first so many values.
    pub truncate_dim: Option<usize>,
}

impl ModelEntry {
    /// The model that `text` names: `MODEL` or `NAME=MODEL`; what is a folder as it stands has no name before it. A
    /// relative folder is looked for in `base`.
    pub fn parse(text: &str, base: &Path) -> ModelEntry {
        match text.split_once('=') {
            Some((name, model)) if !name.is_empty() && !base.join(text).is_dir() => {
                ModelEntry::new(model, Some(name.to_owned()), base)
            }
            _ => ModelEntry::new(text, None, base),
        }
    }

    fn new(model: &str, name: Option<String>, base: &Path) -> ModelEntry {
        let folder = base.join(model);
        let is_folder = model != "bm25" && folder.is_dir();
        let last =
            || folder.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        let usual = || if is_folder { last() } else { None }.unwrap_or_else(|| model.to_owned());
        ModelEntry {
            name: name.unwrap_or_else(usual),
            model: if is_folder { folder.to_string_lossy().into_owned() } else { model.to_owned() },
            ..ModelEntry::default()
        }
    }
}

impl Entry {
    /// The name of the task that one of the pools makes: the collection's, and the pool's where there are several.
    pub fn task(&self, pool: &Pool) -> String {
        if self.pools.len() == 1 { self.name.clone() } else { format!("{}-{}", self.name, pool.file_name()) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSuite {
    name: Option<String>,
    #[serde(default, alias = "collections")]
    collection: Vec<Spanned<RawEntry>>,
    #[serde(default, alias = "models")]
    model: Vec<Spanned<RawModel>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: Spanned<String>,
    path: Spanned<String>,
    split: Option<Spanned<String>>,
    pools: Option<Vec<Spanned<String>>>,
    languages: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    metrics: Vec<Spanned<String>>,
    main: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    model: String,
    name: Option<String>,
    query_prompt: Option<String>,
    passage_prompt: Option<String>,
    truncate_dim: Option<usize>,
}

/// What went wrong, and where.
struct Faults<'a> {
    path: &'a Path,
    text: &'a str,
    problems: Problems,
}

impl Faults<'_> {
    fn at(&self, byte: usize) -> At {
        At::line(self.path, 1 + self.text[..byte.min(self.text.len())].matches('\n').count() as u64)
    }

    fn add<T>(&mut self, place: &Spanned<T>, what: String, fix: &str) {
        let at = self.at(place.span().start);
        self.problems.push(at, what, fix);
    }
}

impl Suite {
    /// Reads a suite. Paths in it begin at its own folder.
    pub fn load(path: &Path) -> Result<Suite> {
        let text = io::read_to_string(path)?;
        let mut faults = Faults { path, text: &text, problems: Problems::default() };
        let raw: RawSuite = toml::from_str(&text).map_err(|e| {
            let at = e.span().map_or(At::file(path), |s| faults.at(s.start));
            Error::input(
                at,
                format!("cannot be read: {}", e.message()),
                "see docs/guide-benchmark.md for its keys",
            )
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let mut seen = BTreeSet::new();
        let mut collections = Vec::new();
        for entry in &raw.collection {
            let Some(entry) = entry_of(entry, base, &mut faults) else { continue };
            for pool in &entry.pools {
                if !seen.insert(entry.task(pool)) {
                    let what = format!("makes the task {:?} a second time", entry.task(pool));
                    faults.problems.push(
                        entry.at.clone(),
                        what,
                        "give each collection a name of its own, and each pool once",
                    );
                }
            }
            collections.push(entry);
        }
        if raw.collection.is_empty() {
            let fix = "add one: [[collection]], with name = \"…\" and path = \"…\" below it";
            faults.problems.push(At::file(path), "names no collection", fix);
        }
        let mut models: Vec<ModelEntry> = Vec::new();
        for place in &raw.model {
            let RawModel { model, name, query_prompt, passage_prompt, truncate_dim } = place.as_ref();
            let new = ModelEntry::new(model, name.clone(), base);
            if new.name.trim().is_empty() {
                faults.add(place, "has an empty name".into(), "leave name out, or write one");
            }
            if models.iter().any(|m| m.name == new.name) {
                let what = format!("names a second model {:?}", new.name);
                faults.add(place, what, "tell them apart: name = \"…\"");
            }
            models.push(ModelEntry {
                query_prompt: query_prompt.clone(),
                passage_prompt: passage_prompt.clone(),
                truncate_dim: *truncate_dim,
                ..new
            });
        }
        let name =
            raw.name.unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        faults.problems.into_result()?;
        Ok(Suite { name, collections, models })
    }
}

/// An entry, or `None` where it has faults.
fn entry_of(place: &Spanned<RawEntry>, base: &Path, faults: &mut Faults) -> Option<Entry> {
    let raw = place.as_ref();
    let before = faults.problems.total();
    let name = raw.name.as_ref();
    if name.is_empty() || mteb::file_part(name) != *name || name.starts_with('.') {
        let what = format!("{name:?} is no name of a task, which is the name of a file too");
        faults.add(&raw.name, what, "use letters, digits, and . - _ + @");
    } else if name.eq_ignore_ascii_case("model_meta") {
        let what = format!("{name:?} is the name of mteb's file about the model");
        faults.add(&raw.name, what, "give the task another name");
    }
    let split = match &raw.split {
        None => Some(Split::Test),
        Some(s) => {
            let split = Split::parse(s.as_ref());
            if split.is_none() {
                faults.add(s, format!("{:?} is no split", s.as_ref()), "write train, dev or test");
            }
            split
        }
    };
    let mut pools = Vec::new();
    match &raw.pools {
        None => pools.push(Pool::Same),
        Some(list) => {
            for text in list {
                match Pool::parse(text.as_ref()) {
                    Some(pool) => pools.push(pool),
                    None => faults.add(
                        text,
                        format!("{:?} is no pool", text.as_ref()),
                        "write a pool of docs/metrics.md: mono-same, mono-cross:zh, multi, multi:en+zh",
                    ),
                }
            }
            if list.is_empty() {
                faults.add(
                    place,
                    "has an empty list of pools".into(),
                    "leave pools out, or name one: [\"mono-same\"]",
                );
            }
        }
    }
    let languages = raw.languages.as_ref().map(|list| {
        let mut out = Vec::new();
        for text in list {
            match Lang::parse(text.as_ref()) {
                Some(lang) => out.push(lang),
                None => {
                    faults.add(
                        text,
                        format!("{:?} is no language tag", text.as_ref()),
                        "write a tag such as en or pt-BR",
                    );
                }
            }
        }
        if list.is_empty() {
            faults.add(place, "has an empty list of languages".into(), "leave languages out for all");
        }
        out
    });
    let mut metrics = Vec::new();
    for text in &raw.metrics {
        match Measure::parse(text.as_ref()) {
            Some(measure) => metrics.push(measure),
            None => {
                let fix = "write a metric of docs/metrics.md, such as nDCG@10 or P(rel=2)@5";
                faults.add(text, format!("{:?} is no metric", text.as_ref()), fix);
            }
        }
    }
    let main = match &raw.main {
        None => "ndcg_at_10".to_owned(),
        Some(text) => main_score(text.as_ref(), &metrics).unwrap_or_else(|| {
            let fix = "write one of mteb's scores (ndcg_at_10, recall_at_100, …), or one of metrics = […]";
            faults.add(text, format!("{:?} is no score of this task", text.as_ref()), fix);
            String::new()
        }),
    };
    let at = faults.at(raw.path.span().start);
    (faults.problems.total() == before).then(|| Entry {
        name: name.clone(),
        path: base.join(raw.path.as_ref()),
        split: split.unwrap_or(Split::Test),
        pools,
        languages,
        metrics,
        main,
        at,
    })
}

/// The name in the results of the score that `text` means.
fn main_score(text: &str, metrics: &[Measure]) -> Option<String> {
    if mteb::names().any(|name| name == text) {
        return Some(text.to_owned());
    }
    let measure = Measure::parse(text)?;
    mteb::name_of(&measure).or_else(|| metrics.contains(&measure).then(|| measure.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Suite> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        Suite::load(&path)
    }

    #[test]
    fn a_suite_with_everything() {
        let suite = load(
            "[[collection]]\nname = \"A\"\npath = \"a\"\n\n[[collection]]\nname = \"B\"\npath = \"/b\"\nsplit = \"dev\"\n\
             pools = [\"same\", \"en,zh\"]\nlanguages = [\"en\"]\nmetrics = [\"P(rel=2)@5\"]\nmain = \"P(rel=2)@5\"\n\
             [[model]]\nmodel = \"bm25\"\n[[model]]\nmodel = \"org/m\"\nname = \"m\"\nquery_prompt = \"q: \"\n",
        )
        .unwrap();
        assert_eq!(suite.name, "s");
        let [a, b] = suite.collections.as_slice() else { panic!("{suite:?}") };
        assert!(a.path.ends_with("a") && a.path.is_absolute() && a.main == "ndcg_at_10");
        assert_eq!((a.task(&Pool::Same), b.task(&b.pools[1])), ("A".into(), "B-multi.en+zh".into()));
        assert_eq!(b.main, "P(rel=2)@5");
        assert_eq!(suite.models[1].query_prompt.as_deref(), Some("q: "));
        assert_eq!((suite.models[0].name.as_str(), suite.models[1].name.as_str()), ("bm25", "m"));
        let named = ModelEntry::parse("x=org/m", Path::new(""));
        assert_eq!((named.name.as_str(), named.model.as_str()), ("x", "org/m"));
        assert_eq!(
            ModelEntry::parse("org/m", Path::new("")),
            ModelEntry { model: "org/m".into(), ..named_as("org/m") }
        );
    }

    fn named_as(name: &str) -> ModelEntry {
        ModelEntry { name: name.into(), ..ModelEntry::default() }
    }

    #[test]
    fn faults_name_their_line() {
        for (text, line, what) in [
            ("[[collection]]\nname = \"A\"\n", 1, "missing field `path`"),
            ("[[collection]]\nname = \"A\"\npath = \"a\"\nsplits = 1\n", 4, "unknown field `splits`"),
            ("[[collection]]\nname = \"A/B\"\npath = \"a\"\n", 2, "no name of a task"),
            ("[[collection]]\nname = \"Model_meta\"\npath = \"a\"\n", 2, "file about the model"),
            (
                "[[collection]]\nname = \"A\"\npath = \"a\"\n[[model]]\nmodel=\"m\"\nname = \"\"\n",
                4,
                "an empty name",
            ),
            ("[[collection]]\nname = \"A\"\npath = \"a\"\nsplit = \"x\"\n", 4, "no split"),
            (
                "[[collection]]\nname = \"A\"\npath = \"a\"\npools = [\"same\",\n \"everything\"]\n",
                5,
                "no pool",
            ),
            ("[[collection]]\nname = \"A\"\npath = \"a\"\nlanguages = [\"english\"]\n", 4, "no language tag"),
            ("[[collection]]\nname = \"A\"\npath = \"a\"\nmetrics = [\"nope\"]\n", 4, "no metric"),
            ("[[collection]]\nname = \"A\"\npath = \"a\"\nmain = \"AP\"\n", 4, "no score"),
            (
                "[[collection]]\nname = \"A\"\npath = \"a\"\n[[collection]]\nname = \"A\"\npath = \"b\"\n",
                6,
                "second time",
            ),
            (
                "[[collection]]\nname = \"A\"\npath = \"a\"\n[[model]]\nmodel=\"m\"\n[[model]]\nmodel=\"m\"\n",
                6,
                "second model",
            ),
            ("name = 3\n", 1, "invalid type"),
        ] {
            let Err(Error::Input(problems)) = load(text) else { panic!("{text}") };
            let first = &problems.kept()[0];
            assert_eq!(first.at.line, Some(line), "{text}\n{problems}");
            assert!(first.what.contains(what) && !first.fix.is_empty(), "{text}\n{problems}");
        }
        assert!(matches!(load(""), Err(Error::Input(_))));
    }
}
