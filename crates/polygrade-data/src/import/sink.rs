//! Where every importer ends: languages, splits, grades and ids put in order on the way to the writer.

use super::Options;
use crate::error::{At, Error, Problems, Report, Result};
use crate::lang::{self, Lang};
use crate::record::{Meta, Origin, RawText, Scale, Split};
use crate::write::{CollectionWriter, Summary};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Takes records from an importer.
pub struct Sink {
    /// How to import.
    pub options: Options,
    writer: CollectionWriter,
    passages: FxHashMap<u128, u64>,
    queries: FxHashSet<u128>,
    query_splits: FxHashMap<String, Split>,
    /// The groups of queries that have one, by a hash of the query's id.
    query_groups: FxHashMap<u128, String>,
    grades: FxHashMap<u128, f32>,
    seen_langs: BTreeMap<Lang, u64>,
    top_grade: f32,
}

impl Report for Sink {
    fn problems(&mut self) -> &mut Problems {
        self.writer.check.problems()
    }
}

impl Sink {
    /// Starts a collection in `out`.
    pub fn create(out: &std::path::Path, options: &Options) -> Result<Sink> {
        if let Some((low, high)) = options.scale
            && !((high - low).is_finite() && low < high)
        {
            return Err(Error::Usage(format!(
                "a scale goes from a lower to a higher grade, not from {low} to {high}"
            )));
        }
        let max = options.scale.map_or(f32::MAX, |(low, high)| high - low);
        Ok(Sink {
            options: options.clone(),
            writer: CollectionWriter::create(out, Scale::up_to(max), options.problem_limit)?,
            passages: FxHashMap::default(),
            queries: FxHashSet::default(),
            query_splits: FxHashMap::default(),
            query_groups: FxHashMap::default(),
            grades: FxHashMap::default(),
            seen_langs: BTreeMap::new(),
            top_grade: 0.0,
        })
    }

    /// Adds a passage that has an id. `lang` is what the source says for all of its texts.
    pub fn passage(&mut self, at: &At, mut raw: RawText, lang: Option<&Lang>) -> Result<()> {
        fill(&mut raw);
        match raw.lang.as_deref().map(Lang::parse) {
            None => raw.lang = Some(self.passage_lang(&raw.text, lang).to_string()),
            Some(own) => own.into_iter().for_each(|own| *self.seen_langs.entry(own).or_default() += 1),
        }
        self.writer.passage(at, raw)
    }

    /// Adds a passage that may come again with the same id and text.
    pub fn passage_again(&mut self, at: &At, raw: RawText, lang: Option<&Lang>) -> Result<()> {
        let content = xxh3_64(format!("{}\u{1}{}", raw.title.as_deref().unwrap_or(""), raw.text).as_bytes());
        match self.passages.insert(xxh3_128(raw.id.as_bytes()), content) {
            None => self.passage(at, raw, lang),
            Some(old) if old == content => Ok(()),
            Some(_) => {
                let what = format!("passage {:?} occurs before with another text", raw.id);
                self.problems().push(at.clone(), what, "give different passages different ids");
                Ok(())
            }
        }
    }

    /// Adds a passage known by its text alone; equal texts of one language are one passage. Its id.
    pub fn passage_text(
        &mut self,
        at: &At,
        text: &str,
        lang: Option<&Lang>,
        group: Option<&str>,
    ) -> Result<String> {
        let lang = self.passage_lang(text, lang);
        let id = text_id('p', &lang, text);
        if self.passages.insert(xxh3_128(id.as_bytes()), 0).is_none() {
            let raw = RawText { group: group.map(str::to_owned), ..RawText::new(id.clone(), text) };
            self.writer.passage(at, RawText { lang: Some(lang.to_string()), ..raw })?;
        }
        Ok(id)
    }

    /// Adds a query that has an id.
    pub fn query(&mut self, at: &At, mut raw: RawText, lang: Option<&Lang>) -> Result<()> {
        fill(&mut raw);
        if raw.lang.is_none() {
            raw.lang = Some(self.query_lang(&raw.text, lang).to_string());
        }
        if let Some(group) = &raw.group {
            self.query_groups.insert(xxh3_128(raw.id.as_bytes()), group.clone());
        }
        self.writer.query(at, raw)
    }

    /// Adds a query known by its text alone; equal texts of one language are one query. Its id.
    pub fn query_text(
        &mut self,
        at: &At,
        text: &str,
        lang: Option<&Lang>,
        group: Option<&str>,
    ) -> Result<String> {
        let lang = self.query_lang(text, lang);
        let id = text_id('q', &lang, text);
        if self.queries.insert(xxh3_128(id.as_bytes())) {
            let raw = RawText { group: group.map(str::to_owned), ..RawText::new(id.clone(), text) };
            self.writer.query(at, RawText { lang: Some(lang.to_string()), ..raw })?;
        }
        Ok(id)
    }

    /// Adds a judgment whose origin is not known.
    pub fn judgment(&mut self, at: &At, split: Split, pair: (&str, &str), grade: f32) -> Result<()> {
        self.judgment_of(at, split, pair, grade, Origin::default())
    }

    /// Adds a judgment. The grade is re-mapped and moved to a scale that begins at 0.
    pub fn judgment_of(
        &mut self,
        at: &At,
        split: Split,
        pair: (&str, &str),
        grade: f32,
        origin: Origin,
    ) -> Result<()> {
        let mut grade = match self.options.map.of(&at.path, grade) {
            Some(grade) => grade,
            None => {
                let fix = format!(
                    "name it in --map, such as --map {grade}=0, or let what is not named stay with ,*"
                );
                self.problems().push(
                    at.clone(),
                    format!("has grade {grade}, which --map does not name"),
                    fix,
                );
                return Ok(());
            }
        };
        if let Some((low, _)) = self.options.scale {
            // Three decimals are more than any annotator gives, and 4.7 - 1 should read 3.7.
            grade = ((f64::from(grade) - f64::from(low)) * 1000.0).round() as f32 / 1000.0;
        }
        if self.writer.judgment_of(at, split, pair, grade, origin)? {
            self.top_grade = self.top_grade.max(grade);
        }
        Ok(())
    }

    /// Adds a judgment of a pair that may come again: the same grade is taken once, another is a problem.
    pub fn judgment_again(&mut self, at: &At, split: Split, pair: (&str, &str), grade: f32) -> Result<()> {
        let key = xxh3_128(format!("{}\u{1}{}", pair.0, pair.1).as_bytes());
        match self.grades.insert(key, grade) {
            None => self.judgment(at, split, pair, grade),
            Some(old) if old == grade => Ok(()),
            Some(old) => {
                let what = format!("the same two texts have grade {grade} here and {old} before");
                self.problems().push(at.clone(), what, "keep one grade for a pair, or average them");
                Ok(())
            }
        }
    }

    /// The split of a query: where its judgments already lie, else the file's, else the rule's for the query's
    /// group, or for `key` where it has none.
    pub fn split(&mut self, query: &str, file: Option<Split>, key: &str) -> Split {
        let rule = self.options.split;
        let key = self.query_groups.get(&xxh3_128(query.as_bytes())).map_or(key, String::as_str);
        *self.query_splits.entry(query.to_owned()).or_insert_with(|| file.unwrap_or_else(|| rule.of(key)))
    }

    /// Finishes the collection. `meta.grades` is filled in from what was seen where no scale was given.
    pub fn finish(self, mut meta: Meta, source: &std::path::Path) -> Result<Summary> {
        let unused: Vec<&str> = self.options.map.unused().collect();
        if !unused.is_empty() {
            let what = format!("--map {}: no grade came from a file of this name", unused.join(", "));
            return Err(Error::Usage(what));
        }
        if meta.grades.max == 0.0 {
            meta.grades.max =
                self.options.scale.map_or(self.top_grade.ceil().max(1.0), |(low, high)| high - low);
        }
        meta.grades.map = self.options.map.to_strings();
        self.writer.finish(&meta, source, self.options.skip_invalid)
    }

    fn passage_lang(&mut self, text: &str, known: Option<&Lang>) -> Lang {
        let lang = match known.or(self.options.lang.as_ref()) {
            Some(lang) => lang.clone(),
            None => lang::detect(text).unwrap_or_else(|| self.commonest_lang()),
        };
        *self.seen_langs.entry(lang.clone()).or_default() += 1;
        lang
    }

    /// Queries are too short for a sure answer, so only the languages of the passages are considered.
    fn query_lang(&mut self, text: &str, known: Option<&Lang>) -> Lang {
        match known.or(self.options.lang.as_ref()) {
            Some(lang) => lang.clone(),
            None => {
                // A language that not one passage in a hundred looks like is more likely the detector's mistake.
                let all: u64 = self.seen_langs.values().sum();
                let common = self.seen_langs.iter().filter(|(_, n)| **n * 100 >= all).map(|(l, _)| l);
                lang::detect_among(text, common).unwrap_or_else(|| self.commonest_lang())
            }
        }
    }

    fn commonest_lang(&self) -> Lang {
        self.seen_langs.iter().max_by_key(|(_, n)| **n).map_or_else(Lang::unknown, |(l, _)| l.clone())
    }
}

/// Takes language and group from BEIR's `metadata` where the record itself has none.
fn fill(raw: &mut RawText) {
    if let Some(meta) = raw.metadata.take() {
        raw.lang = raw.lang.take().or(meta.lang);
        raw.group = raw.group.take().or(meta.group);
    }
}

/// An id made from the text, so that it does not depend on the order of the source.
fn text_id(kind: char, lang: &Lang, text: &str) -> String {
    format!("{kind}-{lang}-{:016x}", xxh3_128(text.as_bytes()) as u64)
}
