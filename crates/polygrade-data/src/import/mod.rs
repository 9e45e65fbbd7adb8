//! From the formats that users have to a collection.
//!
//! Each format is one file with one `import` function that streams its source into a [`Sink`]. The sink does
//! what all formats need: languages (given, named by the file, or detected), splits, re-mapping of grades,
//! ids for texts that have none, and the checks of [`crate::check`].

mod beir;
mod flagembedding;
mod grade_map;
mod mteb;
mod pairs;
mod sentence_transformers;
mod sink;
mod squad;
mod table;
mod tevatron;
mod topics;
mod trec;

use crate::error::{At, Error, Report, Result};
use crate::lang::Lang;
use crate::record::{Meta, Scale, Split};
use crate::split::SplitRule;
use crate::write::Summary;
pub use grade_map::GradeMap;
pub use sink::Sink;
use std::path::{Path, PathBuf};

/// A format that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// BEIR: `corpus.jsonl`, `queries.jsonl`, `qrels/*.tsv`.
    Beir,
    /// TREC: topics in tsv, qrels of four columns, the corpus in jsonl.
    Trec,
    /// MIRACL: as TREC, with languages and splits in the file names.
    Miracl,
    /// Tevatron: documents by id (new) or passages inside each query (old).
    Tevatron,
    /// FlagEmbedding: `pos`/`neg` with scores, or its evaluation folder.
    FlagEmbedding,
    /// sentence-transformers: labelled pairs, labelled lists, triplets and tuples.
    SentenceTransformers,
    /// MTEB / Hugging Face retrieval data in parquet.
    Mteb,
    /// SQuAD and its translations, such as XQuAD.
    Squad,
    /// LAReQA's XQuAD-R: SQuAD with sentence breaks, sentences as passages.
    Lareqa,
    /// Graded sentence pairs, such as STS and SICK.
    Pairs,
    /// Graded topics in parallel languages, the layout that `collections/mini` was written in.
    Topics,
}

impl Format {
    /// All formats with the names they go by.
    pub const ALL: [(&'static str, Format); 11] = [
        ("beir", Format::Beir),
        ("trec", Format::Trec),
        ("miracl", Format::Miracl),
        ("tevatron", Format::Tevatron),
        ("flagembedding", Format::FlagEmbedding),
        ("sentence-transformers", Format::SentenceTransformers),
        ("mteb", Format::Mteb),
        ("squad", Format::Squad),
        ("lareqa", Format::Lareqa),
        ("pairs", Format::Pairs),
        ("topics", Format::Topics),
    ];
}

/// How to import. `Options::default()` detects languages and divides 60:20:20 where the source has no splits.
#[derive(Debug, Clone)]
pub struct Options {
    /// The language of every text, where the source does not say; detected where this is `None`.
    pub lang: Option<Lang>,
    /// The splits, where the source has none.
    pub split: SplitRule,
    /// The scale of the source's grades as (lowest, highest). The lowest becomes 0 and the others move with
    /// it. Where it is `None`, the scale is 0 to the highest grade found, rounded up.
    pub scale: Option<(f32, f32)>,
    /// Grades to replace, before the scale is applied.
    pub map: GradeMap,
    /// The collection's name; the output folder's where it is `None`.
    pub name: Option<String>,
    /// Its licence.
    pub licence: Option<String>,
    /// Leave invalid records out instead of stopping.
    pub skip_invalid: bool,
    /// How many problems to report in full.
    pub problem_limit: usize,
    /// Columns of tables: first text, second text, score, by header name or number from 1.
    pub columns: Option<[String; 3]>,
    /// Column whose equal values join rows across languages; row numbers where `None` and `parallel`.
    pub join: Option<String>,
    /// Column whose value decides a row's split, so that related rows stay together.
    pub split_by: Option<String>,
    /// Rows of the sources correspond: they are translations of one another.
    pub parallel: bool,
    /// Qrels files to use instead of those in the source folder (TREC), each with its split if named.
    pub qrels: Vec<(Option<Split>, PathBuf)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lang: None,
            split: SplitRule::default(),
            scale: None,
            map: GradeMap::default(),
            name: None,
            licence: None,
            skip_invalid: false,
            problem_limit: crate::error::DEFAULT_PROBLEM_LIMIT,
            columns: None,
            join: None,
            split_by: None,
            parallel: false,
            qrels: Vec::new(),
        }
    }
}

/// A source: a file or folder, with the language of its texts where `LANG=PATH` named one.
#[derive(Debug, Clone)]
pub struct Source {
    /// The language, if named.
    pub lang: Option<Lang>,
    /// The file or folder.
    pub path: PathBuf,
    /// Columns of this source alone (`LANG=PATH:FIRST,SECOND,SCORE`).
    pub columns: Option<[String; 3]>,
}

impl Source {
    /// Parses `PATH`, `LANG=PATH` or `LANG=PATH:FIRST,SECOND,SCORE`.
    pub fn parse(text: &str) -> Result<Source> {
        let (lang, rest) = match text.split_once('=') {
            Some((tag, rest)) if Lang::parse(tag).is_some() && !Path::new(text).exists() => {
                (Lang::parse(tag), rest)
            }
            _ => (None, text),
        };
        let (path, columns) = match rest.rsplit_once(':') {
            Some((path, columns)) if !Path::new(rest).exists() => {
                let columns: Vec<String> = columns.split(',').map(str::to_owned).collect();
                let columns: [String; 3] = columns.try_into().map_err(|_| {
                    Error::Usage(format!("{text:?}: name three columns after the colon: FIRST,SECOND,SCORE"))
                })?;
                (path, Some(columns))
            }
            _ => (rest, None),
        };
        let path = PathBuf::from(path);
        if !path.exists() {
            return Err(Error::input(At::file(&path), "does not exist", "give an existing file or folder"));
        }
        Ok(Source { lang, path, columns })
    }
}

/// Imports `sources` of one format into a new collection in `out`.
pub fn import(format: Format, sources: &[Source], out: &Path, options: &Options) -> Result<Summary> {
    let first = sources.first().ok_or_else(|| Error::Usage("name a source to import".into()))?;
    let mut sink = Sink::create(out, options)?;
    for source in sources {
        let done = match format {
            Format::Beir => beir::import(source, &mut sink),
            // Judgments may be of another source's passages, so these read all sources' texts first.
            Format::Trec | Format::Miracl => trec::import(sources, &mut sink, format == Format::Miracl),
            Format::Tevatron => tevatron::import(source, &mut sink),
            Format::FlagEmbedding => flagembedding::import(source, &mut sink),
            Format::SentenceTransformers => sentence_transformers::import(source, &mut sink),
            Format::Mteb => mteb::import(source, &mut sink),
            Format::Squad => squad::import(source, &mut sink, false),
            Format::Lareqa => squad::import(source, &mut sink, true),
            Format::Pairs => pairs::import(source, &mut sink),
            Format::Topics => topics::import(source, &mut sink),
        };
        if let Err(Error::Input(problems)) = done {
            // What was found before comes first.
            sink.problems().append(problems);
            return Err(Error::Input(sink.problems().clone()));
        }
        done?;
        if matches!(format, Format::Trec | Format::Miracl) {
            break;
        }
    }
    let folder = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = first.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let licence = options.licence.clone().unwrap_or_else(|| "unknown".into());
    let grades = if format == Format::Topics { topics::scale() } else { Scale::up_to(0.0) };
    let meta = Meta { name: options.name.clone().unwrap_or(folder), licence, source, grades };
    sink.finish(meta, &first.path)
}

/// The files to read of a source: itself, or the files of the folder whose plain names satisfy `wanted`.
fn files_of(source: &Source, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    if source.path.is_file() {
        return Ok(vec![source.path.clone()]);
    }
    let files = crate::io::list(&source.path)?;
    let files: Vec<PathBuf> = files.into_iter().filter(|p| wanted(&crate::io::plain_name(p))).collect();
    if files.is_empty() {
        let fix = "check the folder and the format's name; docs/formats.md lists the files each format needs";
        return Err(Error::input(At::file(&source.path), "holds no file of this format", fix));
    }
    Ok(files)
}

/// Words in file names that look like language tags and are none.
const NOT_LANGS: &[&str] = &["of", "gz", "dl", "md", "hn", "all"];

/// The language of a file's texts, as far as it is known without looking at them: the source's, else that of
/// the options, else the one in the file's name.
fn lang_of(source: &Source, sink: &Sink, path: &Path) -> Option<Lang> {
    source.lang.clone().or_else(|| sink.options.lang.clone()).or_else(|| name_hints(path).0)
}

/// The language and split that a file's name mentions, as in `stsb-zh-dev.csv` or `xquad.ar.json`.
fn name_hints(path: &Path) -> (Option<Lang>, Option<Split>) {
    let name = crate::io::plain_name(path);
    // `topics.zh-Hant.tsv`: what stands between dots is the tag, whole.
    let whole = ["topics.", "queries."].iter().find_map(|head| name.strip_prefix(head)).and_then(|rest| {
        let (tag, _) =
            rest.split_once('.').filter(|(t, _)| Split::parse(t).is_none() && !NOT_LANGS.contains(t))?;
        Lang::parse(tag)
    });
    // A tag with a region elsewhere: the capitals tell it from `zh-dev`.
    let with_region = |part: &&str| {
        part.split_once('-').is_some_and(|(l, r)| l.len() == 2 && r.len() == 2 && r == r.to_uppercase())
    };
    let region = || name.split(['.', '_', ' ']).find(with_region).and_then(Lang::parse);
    let mut lang = whole.or_else(region);
    let split = name.split(['.', '-', '_', ' ']).find_map(Split::parse);
    for part in name.split(['.', '-', '_', ' ']).skip(1).chain(name.split('.').next()) {
        if lang.is_none()
            && part.len() == 2
            && part == part.to_ascii_lowercase()
            && !NOT_LANGS.contains(&part)
        {
            // Between underscores stand words as well (`qrels_as_in_source`): only common languages count there.
            let alone = name.split(['.', '-']).any(|p| p == part);
            lang = Lang::parse(part).filter(|l| alone || crate::lang::detectable(l));
        }
    }
    (lang, split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hint_at_language_and_split() {
        let hint = |n: &str| {
            let (l, s) = name_hints(Path::new(n));
            (l.map(|l| l.to_string()), s)
        };
        assert_eq!(hint("stsb-zh-dev.csv"), (Some("zh".into()), Some(Split::Dev)));
        assert_eq!(hint("xquad.ar.json.gz"), (Some("ar".into()), None));
        assert_eq!(hint("topics.miracl-v1.0-sw-test.tsv"), (Some("sw".into()), Some(Split::Test)));
        assert_eq!(hint("qrels_as_in_source.txt"), (None, None));
        assert_eq!(hint("en.jsonl"), (Some("en".into()), None));
        assert_eq!(hint("topics.pt-BR.tsv"), (Some("pt-BR".into()), None));
        assert_eq!(hint("queries.tsv"), (None, None));
        assert_eq!(hint("topics.zh-Hant-TW.tsv.gz"), (Some("zh-Hant-TW".into()), None));
    }
}
