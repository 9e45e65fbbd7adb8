//! TREC and MIRACL: topics as `id<TAB>query`, qrels of four columns, the corpus as jsonl {docid, title, text}.
//!
//! Files are told apart by name (`topics*` or `queries*`, `qrels*`, and other `*.jsonl`); languages and
//! splits that the names mention are used. MIRACL numbers the passages of each language anew, so there the
//! language is put before each id.

use super::{Sink, Source, files_of, name_hints};
use crate::error::{At, Error, Report, Result};
use crate::io::{Lines, plain_name};
use crate::lang::Lang;
use crate::qrels;
use crate::record::RawText;
use crate::scan::json_lines;
use std::path::Path;

pub(super) fn import(sources: &[Source], sink: &mut Sink, prefix: bool) -> Result<()> {
    let (mut topics, mut judgments, mut corpora) = (Vec::new(), Vec::new(), Vec::new());
    for source in sources {
        for path in files_of(source, |_| true)? {
            let name = plain_name(&path);
            let (hint, split) = name_hints(&path);
            let lang = known(source, hint, sink);
            if name.starts_with("qrels") {
                judgments.push((split, lang, path));
            } else if name.starts_with("topics") || name.starts_with("queries") {
                topics.push((lang, path));
            } else if name.ends_with(".jsonl") {
                // MIRACL's ids need the language of their topics, not a guess.
                let lang = if prefix { source.lang.clone().or_else(|| name_hints(&path).0) } else { lang };
                corpora.push((lang, path));
            }
        }
    }
    if !sink.options.qrels.is_empty() {
        // Named by hand: what else the name mentions is not a split.
        let named = sink.options.qrels.iter();
        let lang = |path: &Path| sources.first().and_then(|s| known(s, name_hints(path).0, sink));
        judgments = named.map(|(split, path)| (*split, lang(path), path.clone())).collect();
    }
    // Where the split is named it also holds for judgments in files without one.
    judgments.sort_by_key(|(split, ..)| split.is_none());
    for (what, empty) in [
        ("topics*.tsv or queries*.tsv (id<TAB>query)", topics.is_empty()),
        ("qrels* (query-id 0 passage-id grade)", judgments.is_empty()),
        ("a corpus *.jsonl with docid and text", corpora.is_empty()),
    ] {
        if empty {
            let at = sources.first().map_or_else(|| At::file("".as_ref()), |s| At::file(&s.path));
            let fix = "put it there, or name the file so that it can be told apart";
            return Err(Error::input(at, format!("lacks {what}"), fix));
        }
    }
    let id_of = |lang: Option<&Lang>, id: &str| match lang {
        Some(lang) if prefix => format!("{lang}:{id}"),
        _ => id.to_owned(),
    };
    // MIRACL's corpus files name no language; their folder's topics do.
    if prefix
        && let [(Some(only), _), rest @ ..] = topics.as_slice()
        && rest.iter().all(|(l, _)| l.as_ref() == Some(only))
    {
        let unnamed = corpora.iter_mut().map(|(l, _)| l).filter(|l| l.is_none());
        unnamed.for_each(|l| *l = Some(only.clone()));
    }
    for (lang, path) in &corpora {
        json_lines(path, sink, |sink, at, mut raw: RawText| {
            raw.id = id_of(lang.as_ref(), &raw.id);
            sink.passage_again(&at, raw, lang.as_ref())
        })?;
    }
    for (lang, path) in &topics {
        if plain_name(path).ends_with(".jsonl") {
            json_lines(path, sink, |sink, at, mut raw: RawText| {
                raw.id = id_of(lang.as_ref(), &raw.id);
                sink.query(&at, raw, lang.as_ref())
            })?;
        } else {
            read_topics(path, sink, lang.as_ref(), id_of)?;
        }
    }
    for (fixed, lang, path) in &judgments {
        qrels::read_origins(path, sink, |sink, at, (q, p), grade, origin| {
            let (q, p) = (id_of(lang.as_ref(), q), id_of(lang.as_ref(), p));
            // A named file's split stands, so that a query in two of them is reported.
            let known = sink.split(&q, *fixed, &q);
            let split = fixed.unwrap_or(known);
            sink.judgment_of(&at, split, (&q, &p), grade, origin)
        })?;
    }
    Ok(())
}

/// In these formats the language in a file's name is part of the format, and stands above `--lang`.
fn known(source: &Source, hint: Option<Lang>, sink: &Sink) -> Option<Lang> {
    source.lang.clone().or(hint).or_else(|| sink.options.lang.clone())
}

fn read_topics(
    path: &Path,
    sink: &mut Sink,
    lang: Option<&Lang>,
    id_of: impl Fn(Option<&Lang>, &str) -> String,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line(sink.problems()) {
        let at = At::line(path, number);
        match line.split_once('\t') {
            // Fields after the text: the topic's group of translations, as `export trec` writes it.
            Some((id, rest)) => {
                let (text, group) = match rest.split_once('\t') {
                    Some((text, group)) => (text, Some(group.to_owned()).filter(|g| !g.is_empty())),
                    None => (rest, None),
                };
                let raw = RawText { group, ..RawText::new(id_of(lang, id.trim()), text) };
                sink.query(&at, raw, lang)?;
            }
            None => {
                let fix = "separate id and query by a tab";
                sink.problems().push(at, "has no tab, expected id<TAB>query", fix);
            }
        }
    }
    Ok(())
}
