//! Tevatron: new form with documents by id beside a corpus, old form with the passages inside each query.
//! Both are binary: positives become grade 1, negatives grade 0.

use super::{Sink, Source, files_of, lang_of, name_hints};
use crate::error::{At, Problems, Report, Result};
use crate::lang::Lang;
use crate::record::{RawText, Split, text_or_number, texts_or_numbers};
use crate::scan::json_lines;
use serde::Deserialize;

#[derive(Deserialize)]
struct Passage {
    #[serde(deserialize_with = "text_or_number")]
    docid: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(alias = "document_text")]
    text: String,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected query_id with query_text and positive_document_ids, query_id with query and positive_passages, or docid with text"
)]
enum Record {
    New {
        #[serde(deserialize_with = "text_or_number")]
        query_id: String,
        query_text: String,
        #[serde(deserialize_with = "texts_or_numbers")]
        positive_document_ids: Vec<String>,
        #[serde(default, deserialize_with = "texts_or_numbers")]
        negative_document_ids: Vec<String>,
    },
    Old {
        #[serde(deserialize_with = "text_or_number")]
        query_id: String,
        query: String,
        positive_passages: Vec<Passage>,
        #[serde(default)]
        negative_passages: Vec<Passage>,
    },
    Document(Passage),
}

pub(super) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
    let files = files_of(source, |name| name.ends_with(".jsonl") || name.ends_with(".json"))?;
    // Documents and queries may stand in any order of files, so judgments wait for the second pass.
    for path in &files {
        let lang = lang_of(source, sink, path);
        json_lines(path, sink, |sink, at, record: Record| texts(sink, &at, record, lang.as_ref()))?;
    }
    // Lines that are no records have been reported by now; here they are passed over.
    let mut second = SecondPass { sink, reported: Problems::default() };
    for path in &files {
        let named =
            name_hints(path).1.or(Split::parse(crate::io::plain_name(path).split('.').next().unwrap_or("")));
        json_lines(path, &mut second, |s, at, record: Record| judgments(s.sink, &at, record, named))?;
    }
    Ok(())
}

struct SecondPass<'a> {
    sink: &'a mut Sink,
    reported: Problems,
}

impl Report for SecondPass<'_> {
    fn problems(&mut self) -> &mut Problems {
        &mut self.reported
    }
}

fn passage(sink: &mut Sink, at: &At, p: Passage, lang: Option<&Lang>) -> Result<()> {
    let raw = RawText { title: p.title.filter(|t| !t.is_empty()), ..RawText::new(p.docid, p.text) };
    sink.passage_again(at, raw, lang)
}

fn texts(sink: &mut Sink, at: &At, record: Record, lang: Option<&Lang>) -> Result<()> {
    match record {
        Record::Document(p) => passage(sink, at, p, lang),
        Record::New { query_id, query_text, .. } => sink.query(at, RawText::new(query_id, query_text), lang),
        Record::Old { query_id, query, positive_passages, negative_passages } => {
            for p in positive_passages.into_iter().chain(negative_passages) {
                passage(sink, at, p, lang)?;
            }
            sink.query(at, RawText::new(query_id, query), lang)
        }
    }
}

fn judgments(sink: &mut Sink, at: &At, record: Record, named: Option<Split>) -> Result<()> {
    let ids = |ps: Vec<Passage>| ps.into_iter().map(|p| p.docid).collect::<Vec<_>>();
    let (query, positive, negative) = match record {
        Record::Document(_) => return Ok(()),
        Record::New { query_id, positive_document_ids, negative_document_ids, .. } => {
            (query_id, positive_document_ids, negative_document_ids)
        }
        Record::Old { query_id, positive_passages, negative_passages, .. } => {
            (query_id, ids(positive_passages), ids(negative_passages))
        }
    };
    let split = sink.split(&query, named, &query);
    let grades = positive.iter().map(|p| (p, 1.0)).chain(negative.iter().map(|p| (p, 0.0)));
    grades.into_iter().try_for_each(|(p, grade)| sink.judgment_again(at, split, (&query, p), grade))
}
