//! BEIR: `corpus.jsonl` {_id, title, text}, `queries.jsonl` {_id, text}, `qrels/{split}.tsv`.

use super::{Sink, Source, name_hints};
use crate::error::{At, Error, Report, Result};
use crate::record::{RawText, Split};
use crate::scan::json_lines;
use crate::{io, qrels};

pub(super) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
    let need = |name: &str| {
        io::find(&source.path, name).ok_or_else(|| {
            let at = At::file(&source.path.join(name));
            Error::input(at, "is missing", "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/*.tsv")
        })
    };
    let (corpus, queries) = (need("corpus.jsonl")?, need("queries.jsonl")?);
    let lang = source.lang.as_ref();
    json_lines(&corpus, sink, |sink, at, raw: RawText| sink.passage(&at, raw, lang))?;
    json_lines(&queries, sink, |sink, at, raw: RawText| sink.query(&at, raw, lang))?;
    let dir = source.path.join("qrels");
    let files = if dir.is_dir() { io::list(&dir)? } else { Vec::new() };
    if files.is_empty() {
        return Err(Error::input(
            At::file(&dir),
            "holds no judgments",
            "put train.tsv, dev.tsv or test.tsv there",
        ));
    }
    for path in files {
        let stem = io::plain_name(&path);
        let named = Split::parse(stem.split('.').next().unwrap_or(&stem)).or(name_hints(&path).1);
        if named.is_none() && !stem.ends_with(".tsv") && !stem.ends_with(".txt") {
            let fix = "name judgment files train.tsv, dev.tsv or test.tsv";
            sink.problems().push(At::file(&path), "is not a judgment file", fix);
            continue;
        }
        qrels::read_origins(&path, sink, |sink, at, (q, p), grade, origin| {
            let split = named.unwrap_or_else(|| sink.split(q, None, q));
            sink.judgment_of(&at, split, (q, p), grade, origin)
        })?;
    }
    Ok(())
}
