//! Mined negatives as files: for our own training, and for that of other tools.

use super::{Mined, Task};
use polygrade_data::io::AtomicFile;
use polygrade_data::{Error, Index, Result};
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::path::Path;

/// How mined negatives are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A pair a line, `query-id<TAB>corpus-id<TAB>score<TAB>rank`, which training reads.
    Tsv,
    /// Tevatron's: a query a line with its positive and negative passages.
    Tevatron,
    /// FlagEmbedding's: a query a line with the texts of its positives and negatives.
    FlagEmbedding,
    /// sentence-transformers' triplets: a line for each positive with each negative.
    SentenceTransformers,
}

impl Format {
    /// All with the names they go by.
    pub const ALL: [(&'static str, Format); 4] = [
        ("tsv", Format::Tsv),
        ("tevatron", Format::Tevatron),
        ("flagembedding", Format::FlagEmbedding),
        ("sentence-transformers", Format::SentenceTransformers),
    ];
}

/// A line of triplets. Not `json!`: its maps sort their keys, and here the order of the columns counts.
#[derive(Serialize)]
struct Triplet<'a> {
    anchor: &'a str,
    positive: &'a str,
    negative: &'a str,
}

/// Writes what [`super::mine`] gave for a task. The formats of other tools hold texts, and the positives that the
/// query is trained with; a query without negatives has no line.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, format: Format, task: &Task, mined: &[Mined]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    let failed = |e| Error::io(path, e);
    let c = task.collection;
    if format == Format::Tsv {
        writeln!(file, "query-id\tcorpus-id\tscore\trank").map_err(failed)?;
        for m in mined {
            let (query, passage) = (&c.queries[m.query as usize].id, &c.passages[m.passage as usize].id);
            writeln!(file, "{query}\t{passage}\t{}\t{}", m.score, m.rank).map_err(failed)?;
        }
        return file.commit();
    }
    let text = |p: Index| c.passages[p as usize].full_text();
    let passage = |p: Index| {
        let p = &c.passages[p as usize];
        json!({ "docid": p.id, "title": p.title.as_deref().unwrap_or(""), "text": p.text })
    };
    let mut left = mined;
    for at in 0..task.len() {
        let number = task.query(at);
        let (own, rest) = left.split_at(left.partition_point(|m| m.query <= number));
        left = rest;
        if own.is_empty() {
            continue;
        }
        let (query, positives) = (&c.queries[number as usize], task.positives(at).iter().copied());
        let negatives = own.iter().map(|m| m.passage);
        let lines: Vec<String> = match format {
            Format::Tevatron => vec![
                json!({
                    "query_id": query.id,
                    "query": query.text,
                    "positive_passages": positives.map(passage).collect::<Vec<_>>(),
                    "negative_passages": negatives.map(passage).collect::<Vec<_>>(),
                })
                .to_string(),
            ],
            Format::FlagEmbedding => vec![
                json!({
                    "query": query.text,
                    "pos": positives.map(text).collect::<Vec<_>>(),
                    "neg": negatives.map(text).collect::<Vec<_>>(),
                })
                .to_string(),
            ],
            _ => positives
                .flat_map(|p| negatives.clone().map(move |n| (p, n)))
                .map(|(p, n)| {
                    let (positive, negative) = (&text(p), &text(n));
                    serde_json::to_string(&Triplet { anchor: &query.text, positive, negative })
                })
                .collect::<Result<_, _>>()
                .map_err(|e| Error::Internal(e.to_string()))?,
        };
        for line in lines {
            writeln!(file, "{line}").map_err(failed)?;
        }
    }
    file.commit()
}
