//! From judgments and run files to a [`Table`].

use super::{Table, Topic};
use crate::measure::Measure;
use crate::qrels::{self, Qrels};
use crate::run;
use crate::score::{ScoreOptions, score};
use polygrade_data::io::Lines;
use polygrade_data::record::RawText;
use polygrade_data::scan::{self, Visitor};
use polygrade_data::{At, Error, Index, Lang, Origin, Problems, Result, Split};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The language of each topic, and what it shares with its translations where that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicLangs {
    topics: BTreeMap<String, (Lang, Option<String>)>,
    /// Where that was read, for messages, and how a topic is added there.
    source: PathBuf,
    fix: &'static str,
}

impl TopicLangs {
    /// Reads `topic<TAB>language` or `topic<TAB>language<TAB>group`, a group being shared by translations.
    ///
    /// # Errors
    /// [`Error::Input`] with every line that is something else, and topics that come twice.
    pub fn read(path: &Path) -> Result<TopicLangs> {
        let fix = "add a line topic<TAB>language for it";
        let mut out = TopicLangs { topics: BTreeMap::new(), source: path.to_owned(), fix };
        let mut problems = Problems::default();
        let mut lines = Lines::open(path)?;
        while let Some((number, line)) = lines.next_line(&mut problems) {
            let at = At::line(path, number);
            let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
            let (topic, lang, group) = match fields[..] {
                [topic, lang] => (topic, lang, None),
                [topic, lang, group] => (topic, lang, Some(group.to_owned()).filter(|g| !g.is_empty())),
                _ => {
                    let fix = "write topic<TAB>language or topic<TAB>language<TAB>group";
                    problems.push(at, format!("has {} columns, expected 2 or 3", fields.len()), fix);
                    continue;
                }
            };
            let Some(lang) = Lang::parse(lang) else {
                problems.push(
                    at,
                    format!("has {lang:?} for a language"),
                    "write a tag such as en or zh-Hant",
                );
                continue;
            };
            if out.topics.insert(topic.to_owned(), (lang, group)).is_some() {
                problems.push(at, format!("names topic {topic:?} again"), "keep one line for each topic");
            }
        }
        problems.into_result().map(|()| out)
    }

    /// The queries of the collection in `dir`, with their groups of translations.
    ///
    /// # Errors
    /// Those of reading a collection.
    pub fn of_collection(dir: &Path) -> Result<TopicLangs> {
        struct Queries(TopicLangs);
        impl Visitor for Queries {
            fn passage(&mut self, _: Index, _: Lang, _: RawText) {}
            fn query(&mut self, _: Index, lang: Lang, raw: RawText) {
                self.0.topics.insert(raw.id, (lang, raw.group));
            }
            fn judgment(&mut self, _: Split, _: Index, _: Index, _: f32, _: Origin) {}
        }
        let fix = "name the collection that holds all judged topics as queries";
        let mut queries = Queries(TopicLangs { topics: BTreeMap::new(), source: dir.to_owned(), fix });
        let (_, problems) = scan::scan(dir, polygrade_data::error::DEFAULT_PROBLEM_LIMIT, &mut queries)?;
        problems.into_result().map(|()| queries.0)
    }
}

/// Scores runs on every judged topic. As with `trec_eval -c`, a judged topic that a run lacks counts as 0 and a
/// topic without judgments is left out; both are noted in [`Table::notes`].
///
/// # Errors
/// [`Error::Input`] for faults of the files, judged topics without a language where `langs` is given, and runs
/// that rank none of the judged topics.
pub fn read(
    qrels: &Path,
    runs: &[(String, PathBuf)],
    measures: &[Measure],
    langs: Option<&TopicLangs>,
) -> Result<Table> {
    let judged = qrels::read(qrels)?;
    if judged.is_empty() {
        return Err(Error::input(At::file(qrels), "holds no judgments", "name a file of judgments"));
    }
    let mut table = Table {
        systems: runs.iter().map(|(name, _)| name.clone()).collect(),
        measures: measures.iter().map(Measure::to_string).collect(),
        topics: topics(&judged, langs)?,
        values: vec![Vec::new(); measures.len()],
        notes: Vec::new(),
    };
    for (name, path) in runs {
        let run = run::read(path)?;
        let shared = run.iter().filter(|(topic, _)| judged.get(topic).is_some()).count();
        let (missing, unjudged) = (judged.len() - shared, run.len() - shared);
        if shared == 0 {
            let what = "ranks none of the judged topics";
            return Err(Error::input(At::file(path), what, "give a run and judgments of the same topics"));
        }
        let s = |n: usize| if n == 1 { "" } else { "s" };
        if missing > 0 {
            let s = s(missing);
            table.notes.push(format!("{name} ranks nothing for {missing} judged topic{s}: 0 there"));
        }
        if unjudged > 0 {
            let s = s(unjudged);
            table.notes.push(format!("{name} ranks {unjudged} topic{s} without judgments: left out"));
        }
        let scores = score(&judged, &run, measures, &ScoreOptions { complete: true, ..Default::default() });
        for (i, values) in table.values.iter_mut().enumerate() {
            values.push(scores.column(i).collect());
        }
    }
    Ok(table)
}

/// The judged topics in the order in which they are scored.
fn topics(judged: &Qrels, langs: Option<&TopicLangs>) -> Result<Vec<Topic>> {
    let mut problems = Problems::default();
    let topic = |(id, _): (&str, _)| {
        let known = langs.and_then(|l| l.topics.get(id));
        if let (Some(l), None) = (langs, known) {
            problems.push(At::file(&l.source), format!("has no language for judged topic {id:?}"), l.fix);
        }
        let (lang, group) = known.map_or((None, None), |(l, g)| (Some(l.to_string()), g.as_ref()));
        // An id and a group of the same name are different units.
        let unit = group.map_or_else(|| format!("topic {id}"), |g| format!("group {g}"));
        Topic { id: id.to_owned(), lang, unit }
    };
    let topics = judged.iter().map(topic).collect();
    problems.into_result().map(|()| topics)
}
