//! sentence-transformers training data in jsonl, csv or tsv: the order of the columns counts, not their names.
//!
//! - labelled pairs: query, passage, and a column `label`, `labels`, `score` or `scores`;
//! - labelled lists: query, list of passages, list of labels;
//! - triplets and tuples: query, positive, negatives; positives become grade 1, negatives grade 0.

use super::table::rows;
use super::{Sink, Source, files_of, lang_of, name_hints};
use crate::error::{At, Report, Result};
use crate::io;
use crate::lang::Lang;
use crate::record::Split;
use crate::scan::json_lines;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The fields of a JSON object in their order.
struct Row(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Row;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Row, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Row(fields))
            }
        }
        d.deserialize_map(Fields)
    }
}

fn is_label(name: &str) -> bool {
    matches!(name, "label" | "labels" | "score" | "scores")
}

pub(super) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
    let known = |name: &str| [".jsonl", ".csv", ".tsv"].iter().any(|e| name.ends_with(e));
    for path in files_of(source, known)? {
        let name = io::plain_name(&path);
        let split = name_hints(&path).1.or(Split::parse(name.split('.').next().unwrap_or("")));
        let lang = lang_of(source, sink, &path);
        let take = |sink: &mut Sink, at: At, row: Row| match graded(row) {
            Ok((query, passages)) => record(sink, &at, &query, &passages, lang.as_ref(), split),
            Err(what) => {
                let fix = "write (query, passage, label), (query, passages, labels) or (query, positive, negatives…)";
                sink.problems().push(at, what, fix);
                Ok(())
            }
        };
        if name.ends_with(".jsonl") {
            json_lines(&path, sink, take)?;
            continue;
        }
        let delimiter = if name.ends_with(".tsv") { b'\t' } else { b',' };
        let mut headers: Option<Vec<String>> = None;
        rows(&path, Some(delimiter), sink, |sink, at, row| {
            let Some(headers) = &headers else {
                headers = Some(row.iter().map(|h| h.trim().to_owned()).collect());
                return Ok(());
            };
            if row.len() != headers.len() {
                let what = format!("has {} columns, the header {}", row.len(), headers.len());
                sink.problems().push(at, what, "give every row the columns of the header");
                return Ok(());
            }
            let value = |h: &str, v: &str| match v.parse::<f64>() {
                Ok(n) if is_label(h) => Value::from(n),
                _ => Value::from(v),
            };
            take(sink, at, Row(headers.iter().zip(row).map(|(h, v)| (h.clone(), value(h, v))).collect()))
        })?;
    }
    Ok(())
}

type Graded = (String, Vec<(String, f32)>);

fn graded(Row(fields): Row) -> std::result::Result<Graded, String> {
    let label = fields.iter().position(|(name, _)| is_label(name));
    let texts: Vec<&Value> =
        fields.iter().enumerate().filter(|(i, _)| Some(*i) != label).map(|(_, (_, v))| v).collect();
    let text =
        |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| format!("has {v} where a text is expected"));
    let number = |v: &Value| {
        let n = v.as_f64().or(v.as_bool().map(f64::from));
        n.map(|n| n as f32).ok_or_else(|| format!("has {v} for a label, expected a number"))
    };
    match (texts.as_slice(), label.map(|i| &fields[i].1)) {
        ([query, Value::Array(passages)], Some(Value::Array(labels))) => {
            if passages.len() != labels.len() {
                return Err(format!("has {} passages and {} labels", passages.len(), labels.len()));
            }
            let pairs = passages.iter().zip(labels).map(|(p, l)| Ok((text(p)?, number(l)?)));
            Ok((text(query)?, pairs.collect::<std::result::Result<_, String>>()?))
        }
        ([query, passage], Some(label)) => Ok((text(query)?, vec![(text(passage)?, number(label)?)])),
        ([query, positive, negatives @ ..], None) => {
            let mut pairs = vec![(text(positive)?, 1.0)];
            for n in negatives {
                match n {
                    Value::Array(list) => {
                        for n in list {
                            pairs.push((text(n)?, 0.0));
                        }
                    }
                    n => pairs.push((text(n)?, 0.0)),
                }
            }
            Ok((text(query)?, pairs))
        }
        (texts, _) => {
            Err(format!("has {} text columns and {} label column", texts.len(), label.iter().count()))
        }
    }
}

fn record(
    sink: &mut Sink,
    at: &At,
    query: &str,
    passages: &[(String, f32)],
    lang: Option<&Lang>,
    split: Option<Split>,
) -> Result<()> {
    let mut ids = Vec::with_capacity(passages.len());
    for (text, grade) in passages {
        ids.push((sink.passage_text(at, text, lang, None)?, *grade));
    }
    let q = sink.query_text(at, query, lang, None)?;
    let split = sink.split(&q, split, &q);
    ids.iter().try_for_each(|(p, grade)| sink.judgment_again(at, split, (&q, p), *grade))
}
