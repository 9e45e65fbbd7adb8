//! From judgments and run files to a [`Table`].

use super::{Table, Topic};
use crate::measure::Measure;
use crate::run;
use polygrade_data::io::Lines;
use polygrade_data::record::RawText;
use polygrade_data::scan::{self, Visitor};
use polygrade_data::{At, Error, Index, Lang, Problems, Result, Split, qrels};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The language of each topic, and what it shares with its translations where that is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopicLangs(BTreeMap<String, (Lang, Option<String>)>);

impl TopicLangs {
    /// Reads `topic<TAB>language` or `topic<TAB>language<TAB>group`, a group being shared by translations.
    ///
    /// # Errors
    /// [`Error::Input`] with every line that is something else, and topics that come twice.
    pub fn read(path: &Path) -> Result<TopicLangs> {
        let (mut out, mut problems) = (TopicLangs::default(), Problems::default());
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
            if out.0.insert(topic.to_owned(), (lang, group)).is_some() {
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
        struct Queries(TopicLangs, Problems);
        impl Visitor for Queries {
            fn passage(&mut self, _: Index, _: Lang, _: RawText) {}
            fn query(&mut self, _: Index, lang: Lang, raw: RawText) {
                self.0.0.insert(raw.id, (lang, raw.group));
            }
            fn judgment(&mut self, _: Split, _: Index, _: Index, _: f32) {}
        }
        let mut queries = Queries(TopicLangs::default(), Problems::default());
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
    let judged = read_qrels(qrels)?;
    let mut problems = Problems::default();
    let topics = judged.keys().map(|id| {
        let known = langs.map(|l| l.0.get(id));
        if known == Some(None) {
            let fix = "give each judged topic a language";
            problems.push(At::file(qrels), format!("topic {id:?} has no language"), fix);
        }
        let (lang, group) = known.flatten().map_or((None, None), |(l, g)| (Some(l.to_string()), g.as_ref()));
        // An id and a group of the same name are different units.
        let unit = group.map_or_else(|| format!("topic {id}"), |g| format!("group {g}"));
        Topic { id: id.clone(), lang, unit }
    });
    let mut table = Table {
        systems: runs.iter().map(|(name, _)| name.clone()).collect(),
        measures: measures.iter().map(Measure::to_string).collect(),
        topics: topics.collect(),
        values: vec![Vec::new(); measures.len()],
        notes: Vec::new(),
    };
    problems.into_result()?;
    for (name, path) in runs {
        let run = run::read(path)?;
        let missing = judged.keys().filter(|t| !run.contains_key(*t)).count();
        let unjudged = run.keys().filter(|t| !judged.contains_key(*t)).count();
        if missing == judged.len() {
            let what = "ranks none of the judged topics";
            return Err(Error::input(At::file(path), what, "give a run and judgments of the same topics"));
        }
        if missing > 0 {
            let s = if missing == 1 { "" } else { "s" };
            table.notes.push(format!("{name} ranks nothing for {missing} judged topic{s}, which count as 0"));
        }
        if unjudged > 0 {
            let s = if unjudged == 1 { "" } else { "s" };
            table.notes.push(format!("{name} ranks {unjudged} topic{s} without judgments, left out"));
        }
        let none = Vec::new();
        let topics: Vec<crate::Topic> = judged
            .iter()
            .map(|(id, grades)| crate::Topic {
                ranked: run.get(id).unwrap_or(&none).iter().map(|(p, _)| grades.get(p).copied()).collect(),
                judged: grades.values().copied().collect(),
            })
            .collect();
        for (measure, values) in measures.iter().zip(&mut table.values) {
            values.push(topics.iter().map(|t| measure.of(t)).collect());
        }
    }
    Ok(table)
}

type Judged = BTreeMap<String, BTreeMap<String, f32>>;

fn read_qrels(path: &Path) -> Result<Judged> {
    let mut state = Problems::default();
    let mut judged = Judged::new();
    qrels::read(path, &mut state, |problems, at, (query, passage), grade| {
        let grades = judged.entry(query.to_owned()).or_default();
        if grades.insert(passage.to_owned(), grade).is_some() {
            let what = format!("judges passage {passage:?} twice for query {query:?}");
            problems.push(at, what, "keep one line for each query and passage");
        }
        Ok(())
    })?;
    state.into_result()?;
    if judged.is_empty() {
        return Err(Error::input(At::file(path), "holds no judgments", "name a file of judgments"));
    }
    Ok(judged)
}
