//! From a collection to formats that other tools read.

use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::io::AtomicDir;
use crate::lang::Lang;
use crate::record::Split;
use crate::write::{HEADER, json_line};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A format that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// BEIR; language and group go to `metadata`.
    Beir,
    /// TREC: `topics.LANG.tsv` (id, text, group), `qrels.SPLIT.txt`, `corpus.jsonl` with docid, title, text.
    Trec,
    /// sentence-transformers labelled lists: `SPLIT.jsonl` with query, docs, labels.
    SentenceTransformers,
}

impl ExportFormat {
    /// All formats with the names they go by.
    pub const ALL: [(&'static str, ExportFormat); 3] = [
        ("beir", ExportFormat::Beir),
        ("trec", ExportFormat::Trec),
        ("sentence-transformers", ExportFormat::SentenceTransformers),
    ];
}

/// Writes `collection` to the new folder `out`.
pub fn export(collection: &Collection, format: ExportFormat, out: &Path) -> Result<()> {
    let dir = AtomicDir::create(out)?;
    match format {
        ExportFormat::Beir => beir(collection, dir.path())?,
        ExportFormat::Trec => trec(collection, dir.path())?,
        ExportFormat::SentenceTransformers => lists(collection, dir.path())?,
    }
    dir.commit()
}

fn file(dir: &Path, name: &str, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let path = dir.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    }
    let mut out = BufWriter::new(File::create(&path).map_err(|e| Error::io(&path, e))?);
    fill(&mut out)?;
    out.flush().map_err(|e| Error::io(&path, e))
}

fn judgments(
    c: &Collection,
    dir: &Path,
    name: impl Fn(Split) -> String,
    header: &str,
    iteration: bool,
) -> Result<()> {
    for split in Split::ALL.into_iter().filter(|s| !c.judgments(*s).is_empty()) {
        let name = name(split);
        file(dir, &name, |out| {
            let mut text = header.to_owned();
            // TREC's columns have no place for origins: there the mean stands.
            if let Some(votes) = c.votes(split).filter(|_| !iteration) {
                text = format!("{HEADER}\tannotator\tsource\n");
                for (j, origin) in votes.iter() {
                    let (q, p) = (&c.queries[j.query as usize].id, &c.passages[j.passage as usize].id);
                    let [a, s] = [origin.annotator, origin.source].map(|n| n.unwrap_or(""));
                    text.push_str(&format!("{q}\t{p}\t{}\t{a}\t{s}\n", j.grade));
                }
                return out.write_all(text.as_bytes()).map_err(|e| Error::io(Path::new(&name), e));
            }
            for j in c.judgments(split) {
                let (q, p) = (&c.queries[j.query as usize].id, &c.passages[j.passage as usize].id);
                let sep = if iteration { " 0 " } else { "\t" };
                let end = if iteration { ' ' } else { '\t' };
                text.push_str(&format!("{q}{sep}{p}{end}{}\n", j.grade));
            }
            out.write_all(text.as_bytes()).map_err(|e| Error::io(Path::new(&name), e))
        })?;
    }
    Ok(())
}

fn beir(c: &Collection, dir: &Path) -> Result<()> {
    file(dir, "corpus.jsonl", |out| {
        c.passages.iter().try_for_each(|p| {
            let metadata = json!({ "lang": p.lang, "group": p.group });
            let title = p.title.as_deref().unwrap_or("");
            json_line(out, &json!({ "_id": p.id, "title": title, "text": p.text, "metadata": metadata }))
        })
    })?;
    file(dir, "queries.jsonl", |out| {
        c.queries.iter().try_for_each(|q| {
            let metadata = json!({ "lang": q.lang, "group": q.group });
            json_line(out, &json!({ "_id": q.id, "text": q.text, "metadata": metadata }))
        })
    })?;
    judgments(c, dir, |s| format!("qrels/{}.tsv", s.name()), &format!("{HEADER}\n"), false)
}

fn trec(c: &Collection, dir: &Path) -> Result<()> {
    file(dir, "corpus.jsonl", |out| {
        c.passages.iter().try_for_each(|p| {
            let title = p.title.as_deref().unwrap_or("");
            let group = p.group.as_deref();
            let record =
                json!({ "docid": p.id, "title": title, "text": p.text, "lang": p.lang, "group": group });
            json_line(out, &record)
        })
    })?;
    let mut topics: BTreeMap<&Lang, String> = BTreeMap::new();
    for q in &c.queries {
        let text = q.text.replace(['\t', '\n', '\r'], " ");
        let line = format!("{}\t{text}\t{}\n", q.id, q.group.as_deref().unwrap_or(""));
        topics.entry(&q.lang).or_default().push_str(&line);
    }
    for (lang, text) in topics {
        let name = format!("topics.{lang}.tsv");
        file(dir, &name, |out| out.write_all(text.as_bytes()).map_err(|e| Error::io(Path::new(&name), e)))?;
    }
    judgments(c, dir, |s| format!("qrels.{}.txt", s.name()), "", true)
}

fn lists(c: &Collection, dir: &Path) -> Result<()> {
    for split in Split::ALL.into_iter().filter(|s| !c.judgments(*s).is_empty()) {
        let mut by_query: BTreeMap<u32, (Vec<&str>, Vec<f32>)> = BTreeMap::new();
        let texts: Vec<_> = c.passages.iter().map(|p| p.full_text()).collect();
        for j in c.judgments(split) {
            let (docs, labels) = by_query.entry(j.query).or_default();
            docs.push(&texts[j.passage as usize]);
            labels.push(j.grade);
        }
        file(dir, &format!("{}.jsonl", split.name()), |out| {
            by_query.iter().try_for_each(|(q, (docs, labels))| {
                let query = &c.queries[*q as usize].text;
                // Not `json!`: its maps sort their keys, and here the order of the columns counts.
                #[derive(serde::Serialize)]
                struct List<'a> {
                    query: &'a str,
                    docs: &'a [&'a str],
                    labels: &'a [f32],
                }
                json_line(out, &List { query, docs, labels })
            })
        })?;
    }
    Ok(())
}
