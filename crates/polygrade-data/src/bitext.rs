//! Parallel and plain text, to train encoders and tokenisers from: texts that say the same in several languages, or texts
//! in one language, streamed from files.
//!
//! | what | how it looks |
//! |---|---|
//! | jsonl | a text for each language, `{"en": …, "de": …}` (other keys are passed over), or under `translation` as in Hugging Face's data sets; or `{"text": …, "lang": "sw"}`, one text alone |
//! | tsv | texts with tabs between them; the languages stand in the first line, or in the name: `news.en-de.tsv` |
//! | Moses | files of equal length whose names differ in the language at the end: `news.en`, `news.de` |
//! | plain | one text a line; the language stands in the name: `news.sw.txt` |
//! | collection | its passages and queries, translations joined by their groups |
//!
//! Languages of three letters are given two where ISO 639-1 has them, since corpora name them either way.

use crate::collection::Collection;
use crate::error::{At, Error, Problems, Result};
use crate::io::{self, Lines};
use crate::lang::Lang;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Texts that say the same, each with its language; one alone where there is no translation.
pub type Aligned = Vec<(Lang, String)>;

/// Where texts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A jsonl file.
    Json(PathBuf),
    /// Columns with tabs; the languages of the columns, where the name says them.
    Tsv(PathBuf, Option<Vec<Lang>>),
    /// Files of equal length.
    Moses(Vec<(Lang, PathBuf)>),
    /// A text a line.
    Plain(PathBuf, Lang),
    /// The folder of a collection.
    Collection(PathBuf),
}

impl Source {
    /// What is named in errors and reports.
    pub fn path(&self) -> &Path {
        match self {
            Source::Json(p) | Source::Tsv(p, _) | Source::Plain(p, _) | Source::Collection(p) => p,
            Source::Moses(files) => files.first().map_or(Path::new(""), |(_, p)| p),
        }
    }
}

/// The sources that paths name: files as they are, folders searched for all that [this module](self) knows. In folders,
/// files of other kinds are passed over, and so are READMEs and licences.
///
/// # Errors
/// A path that cannot be read, a file of no known kind, a folder without any.
pub fn find(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let (mut out, mut moses) = (Vec::new(), BTreeMap::new());
    for path in paths {
        let found = out.len() + moses.len();
        visit(path, true, &mut out, &mut moses)?;
        if path.is_dir() && out.len() + moses.len() == found {
            return Err(Error::input(At::file(path), "holds no text", KINDS));
        }
    }
    for (_, (mut files, named)) in moses {
        if files.len() < 2 {
            if named {
                let what = "has no file beside it with its translations";
                return Err(Error::input(At::file(&files[0].1), what, KINDS));
            }
            continue;
        }
        files.sort();
        let lines: Vec<u64> = files.iter().map(|(_, path)| count(path)).collect::<Result<_>>()?;
        match lines.iter().position(|n| *n != lines[0]) {
            None => out.push(Source::Moses(files)),
            Some(at) if named => {
                let what = format!(
                    "has {} lines, {} has {}: line by line they cannot be translations",
                    lines[at],
                    files[0].1.display(),
                    lines[0]
                );
                return Err(Error::input(At::file(&files[at].1), what, "give files of equal length"));
            }
            Some(_) => {}
        }
    }
    Ok(out)
}

const KINDS: &str = "give .jsonl, .tsv, two or more files such as news.en and news.de, a text such as news.sw.txt, a \
                     collection, or a folder of these";

/// Files by what stands before the language, and whether one was named on its own.
type Stems = BTreeMap<PathBuf, (Vec<(Lang, PathBuf)>, bool)>;

fn visit(path: &Path, named: bool, out: &mut Vec<Source>, moses: &mut Stems) -> Result<()> {
    if path.is_dir() {
        if io::find(path, "corpus.jsonl").is_some() {
            out.push(Source::Collection(path.to_owned()));
            return Ok(());
        }
        let inside = std::fs::read_dir(path).and_then(|dir| dir.map(|e| Ok(e?.path())).collect());
        let mut inside: Vec<PathBuf> = inside.map_err(|e| Error::io(path, e))?;
        inside.sort();
        return inside.iter().try_for_each(|p| visit(p, false, out, moses));
    }
    let name = io::plain_name(path);
    if !named && ["README", "LICENSE", "LICENCE", "."].iter().any(|n| name.starts_with(n)) {
        return Ok(());
    }
    let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
    let last = stem.rsplit(['.', '/']).next().unwrap_or(stem);
    match (ending, Lang::parse(ending)) {
        ("jsonl" | "ndjson", _) => out.push(Source::Json(path.to_owned())),
        ("tsv", _) => {
            let langs: Vec<Lang> = last.split('-').filter_map(Lang::parse).map(|l| l.short()).collect();
            let langs = (langs.len() > 1 && langs.len() == last.split('-').count()).then_some(langs);
            out.push(Source::Tsv(path.to_owned(), langs));
        }
        ("txt", _) => match Lang::parse(last) {
            Some(lang) => out.push(Source::Plain(path.to_owned(), lang.short())),
            None if named => {
                let what = "does not say its language in its name";
                return Err(Error::input(At::file(path), what, "name it as in news.sw.txt"));
            }
            None => {}
        },
        (_, Some(lang)) => {
            let (files, any) = moses.entry(path.with_file_name(stem)).or_default();
            files.push((lang.short(), path.to_owned()));
            *any |= named;
        }
        _ if named => return Err(Error::input(At::file(path), "is no text of a known kind", KINDS)),
        _ => {}
    }
    Ok(())
}

fn count(path: &Path) -> Result<u64> {
    let mut reader = io::open(path)?;
    let (mut n, mut open) = (0, false);
    loop {
        let block = reader.fill_buf().map_err(|e| Error::io(path, e))?;
        let (Some(last), len) = (block.last(), block.len()) else { return Ok(n + u64::from(open)) };
        open = *last != b'\n';
        n += block.iter().filter(|b| **b == b'\n').count() as u64;
        reader.consume(len);
    }
}

/// Streams the texts of a source, in order, to `take`. Blank texts are left out.
///
/// # Errors
/// Lines that are not what the source's kind says, all of them together; what `take` says.
pub fn read(source: &Source, take: &mut dyn FnMut(Aligned) -> Result<()>) -> Result<()> {
    let mut problems = Problems::default();
    match source {
        Source::Json(path) => json(path, &mut problems, take)?,
        Source::Tsv(path, langs) => tsv(path, langs.clone(), &mut problems, take)?,
        Source::Plain(path, lang) => {
            let mut lines = Lines::open(path)?;
            while let Some((_, text)) = lines.next_line(&mut problems) {
                take(vec![(lang.clone(), text.trim().to_owned())])?;
            }
        }
        Source::Moses(files) => moses(files, &mut problems, take)?,
        Source::Collection(path) => collection(path, take)?,
    }
    problems.into_result()
}

fn json(path: &Path, problems: &mut Problems, take: &mut dyn FnMut(Aligned) -> Result<()>) -> Result<()> {
    const FIX: &str = r#"write {"en": "…", "de": "…"}, or {"text": "…", "lang": "sw"}"#;
    let mut lines = Lines::open(path)?;
    while let Some((line, text)) = lines.next_line(problems) {
        let at = || At::line(path, line);
        let record: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(text) {
            Ok(record) => record,
            Err(e) => {
                problems.push(at(), format!("is no JSON object: {e}"), FIX);
                continue;
            }
        };
        let get = |key| record.get(key).and_then(|v| v.as_str());
        let texts: Aligned = match (get("text"), get("lang").and_then(Lang::parse)) {
            (Some(text), Some(lang)) => vec![(lang.short(), text.trim().to_owned())],
            _ => {
                let inner = record.get("translation").and_then(|t| t.as_object()).unwrap_or(&record);
                let one = |(key, text): (&String, &serde_json::Value)| {
                    Some((Lang::parse(key)?.short(), text.as_str()?.trim().to_owned()))
                };
                inner.iter().filter_map(one).collect()
            }
        };
        let texts: Aligned = texts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        if texts.is_empty() {
            problems.push(at(), "has no text under the tag of a language", FIX);
        } else {
            take(texts)?;
        }
    }
    Ok(())
}

fn tsv(
    path: &Path,
    langs: Option<Vec<Lang>>,
    problems: &mut Problems,
    take: &mut dyn FnMut(Aligned) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let mut langs = langs;
    while let Some((line, text)) = lines.next_line(problems) {
        let Some(langs) = &langs else {
            let head: Option<Vec<Lang>> =
                text.split('\t').map(|tag| Lang::parse(tag.trim()).map(|l| l.short())).collect();
            let Some(head) = head.filter(|h| h.len() > 1) else {
                let fix = "write the languages into the first line, en<TAB>de, or into the name, as in news.en-de.tsv";
                return Err(Error::input(At::line(path, line), "does not say the columns' languages", fix));
            };
            langs = Some(head);
            continue;
        };
        let texts: Vec<&str> = text.split('\t').map(str::trim).collect();
        if texts.len() != langs.len() {
            let what = format!("has {} columns, expected {}", texts.len(), langs.len());
            problems.push(At::line(path, line), what, "write a text for each language, with tabs between");
            continue;
        }
        let texts = langs.iter().zip(texts).filter(|(_, t)| !t.is_empty());
        let texts: Aligned = texts.map(|(l, t)| (l.clone(), t.to_owned())).collect();
        if !texts.is_empty() {
            take(texts)?;
        }
    }
    Ok(())
}

fn moses(
    files: &[(Lang, PathBuf)],
    problems: &mut Problems,
    take: &mut dyn FnMut(Aligned) -> Result<()>,
) -> Result<()> {
    let mut all: Vec<Lines> = files.iter().map(|(_, path)| Lines::open(path)).collect::<Result<_>>()?;
    // Blank lines are passed over, so each file may be at another line.
    let mut next: Vec<Option<(u64, String)>> = vec![None; all.len()];
    let mut ended = vec![false; all.len()];
    loop {
        for (i, lines) in all.iter_mut().enumerate() {
            if next[i].is_none() && !ended[i] {
                next[i] = lines.next_line(problems).map(|(n, text)| (n, text.trim().to_owned()));
                ended[i] = next[i].is_none();
            }
        }
        let Some(line) = next.iter().flatten().map(|(n, _)| *n).min() else { return Ok(()) };
        let mut texts = Aligned::new();
        for (slot, (lang, _)) in next.iter_mut().zip(files) {
            if let Some((_, text)) = slot.take_if(|(n, _)| *n == line) {
                texts.push((lang.clone(), text));
            }
        }
        take(texts)?;
    }
}

fn collection(path: &Path, take: &mut dyn FnMut(Aligned) -> Result<()>) -> Result<()> {
    let collection = Collection::load(path)?;
    let mut groups: BTreeMap<(bool, &str), Aligned> = BTreeMap::new();
    let passages = collection.passages.iter().map(|p| ((false, p.unit()), &p.lang, p.full_text()));
    let queries = collection.queries.iter().map(|q| ((true, q.unit()), &q.lang, q.text.as_str().into()));
    for (unit, lang, text) in passages.chain(queries) {
        groups.entry(unit).or_default().push((lang.short(), text.trim().to_owned()));
    }
    groups.into_values().try_for_each(take)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(paths: &[PathBuf]) -> Result<Vec<Aligned>> {
        let mut out = Vec::new();
        for source in find(paths)? {
            read(&source, &mut |texts| {
                out.push(texts);
                Ok(())
            })?;
        }
        Ok(out)
    }

    fn told(texts: &[Aligned]) -> Vec<String> {
        texts
            .iter()
            .map(|t| t.iter().map(|(l, t)| format!("{l}:{t}")).collect::<Vec<_>>().join("|"))
            .collect()
    }

    #[test]
    fn every_kind_of_a_folder_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "a.jsonl",
            "{\"file\": \"x\", \"en\": \"one\", \"zh-cn\": \"一\"}\n{\"text\": \"moja\", \"lang\": \"swa\"}\n{\"translation\": {\"en\": \"two\", \"de\": \"zwei\"}}\n",
        );
        write("b.eng-deu.tsv", "three\tdrei\n");
        write("c.tsv", "en\tfr\nfour\tquatre\n");
        write("d.en", "five\n\nsix\n");
        write("d.es", "cinco\nnada\nseis\n");
        write("e.sw.txt", "saba\n");
        // Not of one length, no language, not text.
        write("f.en", "x\n");
        write("f.de", "x\ny\n");
        write("README.md", "no");
        write("notes.txt", "no");
        write("d.en.labels", "no\n");
        let got = told(&all(&[dir.path().to_owned()]).unwrap());
        let want = [
            "en:one|zh-CN:一",
            "sw:moja",
            "de:zwei|en:two",
            "en:three|de:drei",
            "en:four|fr:quatre",
            "sw:saba",
            "en:five|es:cinco",
            "es:nada",
            "en:six|es:seis",
        ];
        let mut got_sorted = got.clone();
        got_sorted.sort();
        let mut want: Vec<String> = want.iter().map(|w| (*w).to_owned()).collect();
        want.sort();
        assert_eq!(got_sorted, want);
    }

    #[test]
    fn faults_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let fault = |paths: &[PathBuf]| all(paths).unwrap_err().to_string();
        assert!(fault(&[at("a.jsonl", "{\"en\": \"x\"}\n[1]\n{\"word\": \"x\"}\n")]).contains("a.jsonl:2"));
        assert!(fault(&[at("b.tsv", "hello\tworld\n")]).contains("languages"));
        assert!(fault(&[at("b.en-de.tsv", "one\n")]).contains("1 columns, expected 2"));
        assert!(fault(&[at("c.en", "x\n")]).contains("no file beside it"));
        let (x, y) = (at("d.en", "x\n"), at("d.de", "x\ny"));
        assert!(fault(&[x, y]).contains("has 1 lines"), "a last line without an end counts");
        assert!(fault(&[at("e.txt", "x\n")]).contains("language"));
        assert!(fault(&[at("e.html", "x\n")]).contains("known kind"));
    }
}
