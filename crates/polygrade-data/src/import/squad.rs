//! SQuAD and its translations (XQuAD): a context is a passage, once per language and paragraph; a question
//! has grade 3 for its own paragraph and 1 for the others of the same article. A question marked impossible
//! has grade 1 for its own paragraph too. Articles are never divided between splits. Parallel files have the
//! same order of articles and paragraphs and the same question ids, which makes the groups.

use super::{Sink, Source, files_of, lang_of, name_hints};
use crate::error::{At, Error, Result};
use crate::io;
use crate::lang::Lang;
use crate::record::{RawText, Split};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::path::Path;

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    #[serde(default)]
    qas: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    #[serde(deserialize_with = "crate::record::text_or_number")]
    id: String,
    question: String,
    #[serde(default)]
    is_impossible: bool,
}

pub(super) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
    for path in files_of(source, |name| name.ends_with(".json"))? {
        let lang = lang_of(source, sink, &path);
        let split = name_hints(&path).1;
        // A wrong or missing language would give parallel files the same ids.
        let lang = lang.ok_or_else(|| {
            let fix = "name it in the file (xquad.de.json), as LANG=FILE, or with --lang";
            Error::input(At::file(&path), "names no language", fix)
        })?;
        let mut number = 0;
        let mut failure = None;
        let mut each = |article: Article| {
            number += 1;
            match add(sink, &path, &lang, split, number, article) {
                Ok(()) => true,
                Err(e) => {
                    failure = Some(e);
                    false
                }
            }
        };
        let mut json = serde_json::Deserializer::from_reader(io::open_text(&path)?);
        let read = Document(&mut each).deserialize(&mut json).and_then(|()| json.end());
        match (failure, read) {
            (Some(e), _) => return Err(e),
            (None, Err(e)) => {
                let at = At::line(&path, e.line() as u64);
                let fix = "expected {\"data\": [{\"paragraphs\": [{\"context\", \"qas\": [{\"id\", \"question\"}]}]}]}";
                return Err(Error::input(at, format!("is not SQuAD: {e}"), fix));
            }
            _ => {}
        }
    }
    Ok(())
}

fn add(
    sink: &mut Sink,
    path: &Path,
    lang: &Lang,
    split: Option<Split>,
    number: usize,
    article: Article,
) -> Result<()> {
    let at = At::file(path);
    // Files of different splits number their articles each from 1.
    let part = split.map_or("", Split::name);
    let group = |i: usize| format!("{part}a{number}p{}", i + 1);
    let passage_id = |i: usize| format!("{lang}-{}", group(i));
    for (i, paragraph) in article.paragraphs.iter().enumerate() {
        let raw = RawText { group: Some(group(i)), ..RawText::new(passage_id(i), paragraph.context.clone()) };
        sink.passage(&at, raw, Some(lang))?;
    }
    let count = article.paragraphs.len();
    for (i, paragraph) in article.paragraphs.into_iter().enumerate() {
        for question in paragraph.qas {
            let id = format!("{lang}-{}", question.id);
            let raw = RawText { group: Some(question.id), ..RawText::new(id.clone(), question.question) };
            sink.query(&at, raw, Some(lang))?;
            // Not by the question's group: an article stays whole.
            let split = split.unwrap_or_else(|| sink.options.split.of(&format!("a{number}")));
            for j in 0..count {
                let grade = if i == j && !question.is_impossible { 3.0 } else { 1.0 };
                sink.judgment(&at, split, (&id, &passage_id(j)), grade)?;
            }
        }
    }
    Ok(())
}

/// Streams the articles of a file: `data` may be long, one article is in memory at a time. The closure says
/// whether to go on.
struct Document<'a, F: FnMut(Article) -> bool>(&'a mut F);

impl<'de, F: FnMut(Article) -> bool> DeserializeSeed<'de> for Document<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> std::result::Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Article) -> bool> Visitor<'de> for Document<'_, F> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object with the key data")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "data" {
                found = true;
                map.next_value_seed(Articles(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("data")) }
    }
}

struct Articles<'a, F: FnMut(Article) -> bool>(&'a mut F);

impl<'de, F: FnMut(Article) -> bool> DeserializeSeed<'de> for Articles<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> std::result::Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Article) -> bool> Visitor<'de> for Articles<'_, F> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a list of articles")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(article) = seq.next_element::<Article>()? {
            if !(self.0)(article) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
