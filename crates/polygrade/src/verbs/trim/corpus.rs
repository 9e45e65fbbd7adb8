//! The texts that a vocabulary is trimmed for: of collections, jsonl, tsv and plain text files. Files are streamed.

use polygrade_data::io::{Lines, plain_name};
use polygrade_data::scan::json_lines;
use polygrade_data::{At, Collection, Error, Lang, Problems, Result};
use polygrade_encoder::{TextEncoder, TextKind};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Texts that are handed on together.
const BLOCK: usize = 4096;

/// A line of a jsonl file.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    title: Option<String>,
    #[serde(alias = "contents", alias = "document_text", alias = "query_text")]
    text: String,
    #[serde(default)]
    lang: Option<String>,
}

/// Where texts come from.
pub(super) struct Corpora {
    collections: Vec<Collection>,
    files: Vec<PathBuf>,
    /// The languages that are wanted; all where none is named.
    langs: Vec<Lang>,
    /// What a text of a file may be: the same to an encoder without prompts.
    kinds: Vec<TextKind>,
}

/// Gathers texts by kind and hands them on.
struct Blocks<'a> {
    blocks: [Vec<String>; 2],
    give: &'a mut dyn FnMut(&[&str], TextKind) -> Result<()>,
}

impl Blocks<'_> {
    fn push(&mut self, text: String, kind: TextKind) -> Result<()> {
        let block = &mut self.blocks[kind as usize];
        block.push(text);
        if block.len() == BLOCK { self.flush(kind) } else { Ok(()) }
    }

    fn flush(&mut self, kind: TextKind) -> Result<()> {
        let block = std::mem::take(&mut self.blocks[kind as usize]);
        let texts: Vec<&str> = block.iter().map(String::as_str).collect();
        if texts.is_empty() { Ok(()) } else { (self.give)(&texts, kind) }
    }
}

impl Corpora {
    /// Opens collections; files are read when their texts are asked for.
    pub(super) fn open(paths: &[PathBuf], langs: Option<&str>, encoder: &dyn TextEncoder) -> Result<Self> {
        let langs = match langs {
            None => Vec::new(),
            Some(text) => text
                .split(',')
                .map(|tag| {
                    Lang::parse(tag.trim()).ok_or_else(|| Error::Usage(format!("{tag:?} is no language tag")))
                })
                .collect::<Result<_>>()?,
        };
        let (folders, files): (Vec<_>, Vec<_>) = paths.iter().cloned().partition(|p| p.is_dir());
        let collections = folders.iter().map(|p| Collection::load(p)).collect::<Result<Vec<_>>>()?;
        let have: BTreeSet<Lang> = collections.iter().flat_map(Collection::langs).collect();
        if let Some(lacking) = langs.iter().find(|l| files.is_empty() && !have.contains(l)) {
            let have: Vec<&str> = have.iter().map(Lang::as_str).collect();
            let what = format!("no collection has texts in {lacking}; there are {}", have.join(", "));
            return Err(Error::Usage(what));
        }
        let prompts = encoder.prompts();
        let kinds = match prompts.query == prompts.passage {
            true => vec![TextKind::Passage],
            false => vec![TextKind::Query, TextKind::Passage],
        };
        Ok(Corpora { collections, files, langs, kinds })
    }

    fn wants(&self, lang: &Lang) -> bool {
        self.langs.is_empty() || self.langs.contains(lang)
    }

    /// Hands all texts on, in blocks of one kind; the same each time.
    pub(super) fn each(&self, give: &mut dyn FnMut(&[&str], TextKind) -> Result<()>) -> Result<()> {
        let mut to = Blocks { blocks: [Vec::new(), Vec::new()], give };
        for collection in &self.collections {
            for q in collection.queries.iter().filter(|q| self.wants(&q.lang)) {
                to.push(q.text.clone(), TextKind::Query)?;
            }
            for p in collection.passages.iter().filter(|p| self.wants(&p.lang)) {
                to.push(p.full_text().into_owned(), TextKind::Passage)?;
            }
        }
        for path in &self.files {
            self.file(path, &mut to)?;
        }
        to.flush(TextKind::Query)?;
        to.flush(TextKind::Passage)
    }

    fn file(&self, path: &Path, to: &mut Blocks) -> Result<()> {
        let name = plain_name(path).to_lowercase();
        let mut problems = Problems::default();
        let mut push = |text: String| self.kinds.iter().try_for_each(|kind| to.push(text.clone(), *kind));
        if name.ends_with(".jsonl") || name.ends_with(".json") {
            json_lines(path, &mut problems, |problems: &mut Problems, at: At, r: Record| {
                if let Some(tag) = r.lang.as_deref().filter(|_| !self.langs.is_empty()) {
                    match Lang::parse(tag) {
                        Some(lang) if !self.wants(&lang) => return Ok(()),
                        Some(_) => {}
                        None => {
                            problems.push(
                                at,
                                format!("{tag:?} is no language tag"),
                                "write one such as en, sw or zh",
                            );
                            return Ok(());
                        }
                    }
                }
                push(match r.title.filter(|t| !t.is_empty()) {
                    Some(title) => format!("{title} {}", r.text),
                    None => r.text,
                })
            })?;
        } else {
            let tabs = name.ends_with(".tsv");
            let mut lines = Lines::open(path)?;
            while let Some((_, line)) = lines.next_line(&mut problems) {
                match tabs {
                    true => line.split('\t').map(str::trim).try_for_each(|text| push(text.to_owned()))?,
                    false => push(line.to_owned())?,
                }
            }
        }
        problems.into_result()
    }
}
