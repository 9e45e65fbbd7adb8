//! FlagEmbedding: {"query", "pos", "neg", "pos_scores", "neg_scores"}, or its evaluation folder.
//!
//! Scores, where there are any, are the grades; without them positives have grade 1 and negatives 0. The
//! evaluation folder holds `corpus.jsonl`, `{split}_queries.jsonl` and `{split}_qrels.jsonl`.

use super::{Sink, Source, files_of, lang_of, name_hints};
use crate::error::{At, Report, Result};
use crate::io::{find, list, plain_name};
use crate::record::{Origin, RawText, Split, text_or_number};
use crate::scan::json_lines;
use serde::Deserialize;

#[derive(Deserialize)]
struct Record {
    query: String,
    pos: Vec<String>,
    #[serde(default)]
    neg: Vec<String>,
    #[serde(default)]
    pos_scores: Option<Vec<f32>>,
    #[serde(default)]
    neg_scores: Option<Vec<f32>>,
}

#[derive(Deserialize)]
struct Qrel {
    #[serde(deserialize_with = "text_or_number")]
    qid: String,
    #[serde(deserialize_with = "text_or_number")]
    docid: String,
    relevance: f32,
    #[serde(default)]
    annotator: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

pub(super) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
    if let Some(corpus) = find(&source.path, "corpus.jsonl") {
        return evaluation(source, &corpus, sink);
    }
    for path in files_of(source, |name| name.ends_with(".jsonl"))? {
        let split = name_hints(&path).1.or(Split::parse(plain_name(&path).split('.').next().unwrap_or("")));
        let lang = lang_of(source, sink, &path);
        let lang = lang.as_ref();
        json_lines(&path, sink, |sink, at, record: Record| {
            let Record { query, pos, neg, pos_scores, neg_scores } = record;
            let graded = [("pos", pos, pos_scores, 1.0), ("neg", neg, neg_scores, 0.0)];
            for (name, texts, scores, _) in &graded {
                if scores.as_ref().is_some_and(|s| s.len() != texts.len()) {
                    let what = format!("{name} and {name}_scores differ in length");
                    sink.problems().push(at, what, "give one score for each passage, or none at all");
                    return Ok(());
                }
            }
            // Passages first: the languages of queries are looked for among theirs.
            let mut pairs = Vec::new();
            for (_, texts, scores, plain) in &graded {
                for (i, text) in texts.iter().enumerate() {
                    let grade = scores.as_ref().map_or(*plain, |s| s[i]);
                    pairs.push((sink.passage_text(&at, text, lang, None)?, grade));
                }
            }
            let q = sink.query_text(&at, &query, lang, None)?;
            let split = sink.split(&q, split, &q);
            pairs.iter().try_for_each(|(p, grade)| sink.judgment_again(&at, split, (&q, p), *grade))
        })?;
    }
    Ok(())
}

fn evaluation(source: &Source, corpus: &std::path::Path, sink: &mut Sink) -> Result<()> {
    let lang = source.lang.as_ref();
    json_lines(corpus, sink, |sink, at, raw: RawText| sink.passage(&at, raw, lang))?;
    let files = list(&source.path)?;
    let of = |suffix: &str| -> Vec<_> {
        let name = |p: &std::path::PathBuf| plain_name(p);
        files.iter().filter(|p| name(p).ends_with(suffix)).map(|p| (p, name(p))).collect()
    };
    for (path, _) in of("_queries.jsonl") {
        json_lines(path, sink, |sink, at, raw: RawText| sink.query(&at, raw, lang))?;
    }
    for (path, name) in of("_qrels.jsonl") {
        let split = Split::parse(name.trim_end_matches("_qrels.jsonl"));
        if split.is_none() {
            let fix = "name it train_qrels.jsonl, dev_qrels.jsonl or test_qrels.jsonl";
            sink.problems().push(At::file(path), "names no split", fix);
        }
        json_lines(path, sink, |sink, at, qrel: Qrel| {
            let Qrel { qid, docid, relevance, annotator, source } = qrel;
            let origin = Origin { annotator: annotator.as_deref(), source: source.as_deref() };
            let split = sink.split(&qid, split, &qid);
            sink.judgment_of(&at, split, (&qid, &docid), relevance, origin)
        })?;
    }
    Ok(())
}
