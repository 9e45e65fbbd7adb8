//! Graded topics in parallel languages: one `LANG.jsonl` a language, one topic a line, with two queries and
//! six passages whose role gives the grades. `collections/mini` comes from here.
//!
//! The division is by topic, so that parallel texts never cross splits, and by domain, so that every domain
//! is in every split: the topics of a domain are put in the order of a hash of their names and cut 60:20:20.

use super::{Sink, Source, files_of, name_hints};
use crate::error::{At, Error, Report, Result};
use crate::record::{RawText, Scale, Split};
use crate::scan::json_lines;
use serde::Deserialize;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    topic: String,
    domain: String,
    queries: BTreeMap<String, String>,
    passages: BTreeMap<String, String>,
}

/// Grade of a passage by its role for query a and query b.
const ROLES: [(&str, f32, f32); 6] = [
    ("a3", 3.0, 1.0),
    ("a2", 2.0, 1.0),
    ("b3", 1.0, 3.0),
    ("b2", 1.0, 2.0),
    ("on", 1.0, 1.0),
    ("off", 0.0, 0.0),
];

/// The scale that topics are written on: TREC's and UMBRELA's.
pub(super) fn scale() -> Scale {
    let meaning = [
        ("0", "nothing to do with the query"),
        ("1", "related, without an answer"),
        ("2", "a partial or buried answer"),
        ("3", "dedicated to the query, with the exact answer"),
    ];
    Scale { max: 3.0, map: Vec::new(), meaning: meaning.map(|(g, m)| (g.to_owned(), m.to_owned())).into() }
}

pub(super) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
    let files = files_of(source, |name| name.ends_with(".jsonl"))?;
    let mut domains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &files {
        let mut ignored = crate::error::Problems::default();
        json_lines(path, &mut ignored, |_, _, t: Topic| {
            let topics = domains.entry(t.domain).or_default();
            if !topics.contains(&t.topic) {
                topics.push(t.topic);
            }
            Ok(())
        })?;
    }
    let mut splits: BTreeMap<String, Split> = BTreeMap::new();
    for mut topics in domains.into_values() {
        topics.sort_by_key(|t| xxh3_64(t.as_bytes()));
        let n = topics.len();
        let (train, dev) = ((n * 6).div_ceil(10), n / 5);
        for (i, topic) in topics.into_iter().enumerate() {
            let split = if i < train {
                Split::Train
            } else if i < train + dev {
                Split::Dev
            } else {
                Split::Test
            };
            splits.insert(topic, split);
        }
    }
    for path in &files {
        let lang = source.lang.clone().or(name_hints(path).0).ok_or_else(|| {
            Error::input(At::file(path), "names no language", "call the file LANG.jsonl, such as en.jsonl")
        })?;
        json_lines(path, sink, |sink, at, t: Topic| {
            let id = |role: &str| format!("{lang}-{}-{role}", t.topic);
            let text = |role: &str, text: &str| RawText {
                group: Some(format!("{}-{role}", t.topic)),
                ..RawText::new(id(role), text)
            };
            for (role, ..) in ROLES {
                match t.passages.get(role) {
                    Some(p) => sink.passage(&at, text(role, p), Some(&lang))?,
                    None => {
                        let what = format!("topic {:?} has no passage {role:?}", t.topic);
                        sink.problems().push(at.clone(), what, "give all of a3, a2, b3, b2, on, off");
                    }
                }
            }
            let split = splits[&t.topic];
            for (name, is_a) in [("a", true), ("b", false)] {
                let Some(query) = t.queries.get(name) else {
                    let what = format!("topic {:?} has no query {name:?}", t.topic);
                    sink.problems().push(at.clone(), what, "give the queries a and b");
                    continue;
                };
                let q = format!("q{name}");
                sink.query(&at, text(&q, query), Some(&lang))?;
                for (role, a, b) in ROLES.iter().filter(|r| t.passages.contains_key(r.0)) {
                    sink.judgment(&at, split, (&id(&q), &id(role)), if is_a { *a } else { *b })?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
