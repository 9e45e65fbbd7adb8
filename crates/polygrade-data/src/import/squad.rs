//! SQuAD and its translations (XQuAD): a context is a passage, once per language and paragraph; a question
//! has grade 3 for its own paragraph and 1 for the others of the same article. A question marked impossible
//! has grade 1 for its own paragraph too. Articles are never divided between splits. Parallel files have the
//! same order of articles and paragraphs and the same question ids, which makes the groups.
//!
//! LAReQA's XQuAD-R is the same with `sentence_breaks`, pairs of character offsets: there a sentence is a passage, and a
//! question has grade 1 for the sentence in which its answer begins, in every language. Sentences are not parallel, so
//! they have no groups; the questions' groups carry the judgments over.

use super::{Sink, Source, files_of, lang_of, name_hints};
use crate::error::{At, Error, Report, Result};
use crate::io;
use crate::lang::Lang;
use crate::record::{RawText, Split};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
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
    /// Read where they are needed, so that SQuAD's files may have anything here.
    #[serde(default)]
    sentence_breaks: Value,
}

#[derive(Deserialize)]
struct Question {
    #[serde(deserialize_with = "crate::record::text_or_number")]
    id: String,
    question: String,
    #[serde(default)]
    is_impossible: bool,
    #[serde(default)]
    answers: Value,
}

#[derive(Deserialize)]
struct Answer {
    answer_start: usize,
}

/// `sentences`: the files are LAReQA's.
pub(super) fn import(source: &Source, sink: &mut Sink, sentences: bool) -> Result<()> {
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
            let place = Place { path: &path, lang: &lang, split, number };
            match if sentences { add_sentences(sink, &place, article) } else { add(sink, &place, article) } {
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

/// Where an article stands.
struct Place<'a> {
    path: &'a Path,
    lang: &'a Lang,
    /// The split that the file's name says.
    split: Option<Split>,
    number: usize,
}

impl Place<'_> {
    /// A paragraph's number, the same in all languages.
    fn group(&self, i: usize) -> String {
        // Files of different splits number their articles each from 1.
        let part = self.split.map_or("", Split::name);
        format!("{part}a{}p{}", self.number, i + 1)
    }

    /// The article's split; not by the question's group: an article stays whole.
    fn split(&self, sink: &Sink) -> Split {
        self.split.unwrap_or_else(|| sink.options.split.of(&format!("a{}", self.number)))
    }

    /// Adds a question and gives its id.
    fn query(&self, sink: &mut Sink, id: String, text: String) -> Result<String> {
        let name = format!("{}-{id}", self.lang);
        let raw = RawText { group: Some(id), ..RawText::new(name.clone(), text) };
        sink.query(&At::file(self.path), raw, Some(self.lang))?;
        Ok(name)
    }
}

fn add(sink: &mut Sink, place: &Place, article: Article) -> Result<()> {
    let at = At::file(place.path);
    let lang = place.lang;
    let group = |i: usize| place.group(i);
    let passage_id = |i: usize| format!("{lang}-{}", group(i));
    for (i, paragraph) in article.paragraphs.iter().enumerate() {
        let raw = RawText { group: Some(group(i)), ..RawText::new(passage_id(i), paragraph.context.clone()) };
        sink.passage(&at, raw, Some(lang))?;
    }
    let count = article.paragraphs.len();
    for (i, paragraph) in article.paragraphs.into_iter().enumerate() {
        for question in paragraph.qas {
            let impossible = question.is_impossible;
            let id = place.query(sink, question.id, question.question)?;
            let split = place.split(sink);
            for j in 0..count {
                let grade = if i == j && !impossible { 3.0 } else { 1.0 };
                sink.judgment(&at, split, (&id, &passage_id(j)), grade)?;
            }
        }
    }
    Ok(())
}

fn add_sentences(sink: &mut Sink, place: &Place, article: Article) -> Result<()> {
    let at = At::file(place.path);
    for (i, paragraph) in article.paragraphs.into_iter().enumerate() {
        let group = place.group(i);
        let breaks: Vec<[usize; 2]> = serde_json::from_value(paragraph.sentence_breaks).map_err(|e| {
            let fix = "take LAReQA's files (xquad-r/en.json …), or import them as squad";
            Error::input(at.clone(), format!("paragraph {group} has no sentence_breaks: {e}"), fix)
        })?;
        let chars: Vec<char> = paragraph.context.chars().collect();
        let id = |s: usize| format!("{}-{group}s{}", place.lang, s + 1);
        for (s, &[from, to]) in breaks.iter().enumerate() {
            let text: String = chars.get(from..to).unwrap_or_default().iter().collect();
            if text.trim().is_empty() {
                let what = format!("paragraph {group} has no sentence at {from}..{to}");
                let fix = "offsets are of characters, within the context";
                sink.problems().push(at.clone(), what, fix);
                continue;
            }
            sink.passage(&at, RawText::new(id(s), text), Some(place.lang))?;
        }
        for question in paragraph.qas {
            let answers: Vec<Answer> = serde_json::from_value(question.answers).unwrap_or_default();
            let starts = answers.first().map(|a| a.answer_start);
            let inside = |b: &[usize; 2]| starts.is_some_and(|s| b[0] <= s && s < b[1]);
            let Some(s) = breaks.iter().position(inside) else {
                let what = format!("question {:?} has no answer that begins in a sentence", question.id);
                sink.problems().push(at.clone(), what, "give answers: [{\"answer_start\": N, \"text\": …}]");
                continue;
            };
            let query = place.query(sink, question.id, question.question)?;
            let split = place.split(sink);
            sink.judgment(&at, split, (&query, &id(s)), 1.0)?;
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
