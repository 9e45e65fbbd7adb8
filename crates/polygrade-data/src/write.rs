//! Writing a collection: what every importer ends in.

use crate::check::Checker;
use crate::error::{At, Error, Problems, Result};
use crate::io::AtomicDir;
use crate::record::{Meta, Origin, Passage, Query, RawText, Scale, Split};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a collection record by record, checking each; nothing appears under the target's name before
/// [`CollectionWriter::finish`].
pub struct CollectionWriter {
    dir: AtomicDir,
    corpus: BufWriter<File>,
    queries: BufWriter<File>,
    qrels: [Option<Qrels>; 3],
    scale: Scale,
    /// The invariants and the problems found.
    pub check: Checker,
}

/// A file of judgments.
struct Qrels {
    path: PathBuf,
    file: BufWriter<File>,
    /// Whether it has columns for annotator and source.
    origins: bool,
}

impl Qrels {
    fn create(path: PathBuf) -> Result<Qrels> {
        let mut file = create(path.clone())?;
        line(&mut file, format_args!("{HEADER}"))?;
        Ok(Qrels { path, file, origins: false })
    }

    /// Gives the columns to a file that was begun without.
    fn add_origins(self) -> Result<Qrels> {
        let Qrels { path, file, .. } = self;
        let failed = |e| Error::io(&path, e);
        file.into_inner().map_err(|e| failed(e.into_error()))?;
        let old = path.with_extension("old");
        std::fs::rename(&path, &old).map_err(failed)?;
        let mut file = create(path.clone())?;
        let rows = BufReader::new(File::open(&old).map_err(failed)?).lines();
        for (i, row) in rows.enumerate() {
            let row = row.map_err(failed)?;
            match i {
                0 => line(&mut file, format_args!("{HEADER}\tannotator\tsource"))?,
                _ => line(&mut file, format_args!("{row}\t\t"))?,
            }
        }
        std::fs::remove_file(&old).map_err(failed)?;
        Ok(Qrels { path, file, origins: true })
    }
}

/// The columns that every file of judgments has.
pub(crate) const HEADER: &str = "query-id\tcorpus-id\tscore";

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Passages.
    pub passages: usize,
    /// Queries.
    pub queries: usize,
    /// Judgments.
    pub judgments: usize,
    /// Records left out, where that was asked for.
    pub skipped: Problems,
}

fn create(path: PathBuf) -> Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 16, File::create(&path).map_err(|e| Error::io(&path, e))?))
}

impl CollectionWriter {
    /// Starts a collection in `out`, which must not exist yet or be empty.
    pub fn create(out: &Path, scale: Scale, problem_limit: usize) -> Result<Self> {
        let dir = AtomicDir::create(out)?;
        let qrels_dir = dir.path().join("qrels");
        std::fs::create_dir(&qrels_dir).map_err(|e| Error::io(&qrels_dir, e))?;
        Ok(CollectionWriter {
            corpus: create(dir.path().join("corpus.jsonl"))?,
            queries: create(dir.path().join("queries.jsonl"))?,
            qrels: [None, None, None],
            dir,
            scale,
            check: Checker::new(problem_limit),
        })
    }

    /// The scale that grades are checked against.
    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    /// Adds a passage read at `at`.
    pub fn passage(&mut self, at: &At, raw: RawText) -> Result<()> {
        if let Some((_, lang)) = self.check.passage(at, &raw) {
            let RawText { id, title, text, group, .. } = raw;
            let title = title.filter(|t| !t.is_empty());
            json_line(&mut self.corpus, &Passage { id, title, text, lang, group })?;
        }
        Ok(())
    }

    /// Adds a query read at `at`.
    pub fn query(&mut self, at: &At, raw: RawText) -> Result<()> {
        if let Some((_, lang)) = self.check.query(at, &raw) {
            json_line(&mut self.queries, &Query { id: raw.id, text: raw.text, lang, group: raw.group })?;
        }
        Ok(())
    }

    /// Adds a judgment read at `at`, whose origin is not known. Whether it was valid.
    pub fn judgment(
        &mut self,
        at: &At,
        split: Split,
        query: &str,
        passage: &str,
        grade: f32,
    ) -> Result<bool> {
        self.judgment_of(at, split, (query, passage), grade, Origin::default())
    }

    /// Adds a judgment read at `at` with its origin. Whether it was valid.
    pub fn judgment_of(
        &mut self,
        at: &At,
        split: Split,
        (query, passage): (&str, &str),
        grade: f32,
        origin: Origin,
    ) -> Result<bool> {
        if self.check.judgment(at, split, (query, passage), grade, origin, &self.scale).is_none() {
            return Ok(false);
        }
        let slot = &mut self.qrels[split as usize];
        let mut qrels = match slot.take() {
            Some(qrels) => qrels,
            None => Qrels::create(self.dir.path().join("qrels").join(format!("{}.tsv", split.name())))?,
        };
        if !origin.is_none() && !qrels.origins {
            qrels = qrels.add_origins()?;
        }
        let qrels = slot.insert(qrels);
        if qrels.origins {
            let [annotator, source] = [origin.annotator, origin.source].map(|n| n.unwrap_or(""));
            line(&mut qrels.file, format_args!("{query}\t{passage}\t{grade}\t{annotator}\t{source}"))?;
        } else {
            line(&mut qrels.file, format_args!("{query}\t{passage}\t{grade}"))?;
        }
        Ok(true)
    }

    /// Writes `collection.toml` and puts the folder under its name. Problems stop it, unless `skip_invalid`.
    /// `source` is where the records came from, for the message where there were none.
    pub fn finish(mut self, meta: &Meta, source: &Path, skip_invalid: bool) -> Result<Summary> {
        let mut problems = std::mem::take(&mut self.check.problems);
        let (passages, queries, judgments) = self.check.counts();
        if !skip_invalid {
            problems.clone().into_result()?;
        }
        if passages == 0 || queries == 0 || judgments == 0 {
            let what = format!("gave {passages} passages, {queries} queries and {judgments} judgments");
            problems.push(At::file(source), what, "check the source and its format");
            return Err(Error::Input(problems));
        }
        let toml = toml::to_string(meta).map_err(|e| Error::Internal(e.to_string()))?;
        let path = self.dir.path().join("collection.toml");
        std::fs::write(&path, toml).map_err(|e| Error::io(&path, e))?;
        let qrels = self.qrels.into_iter().flatten().map(|q| q.file);
        for file in [self.corpus, self.queries].into_iter().chain(qrels) {
            let file = file.into_inner().map_err(|e| Error::io(self.dir.path(), e.into_error()))?;
            file.sync_all().map_err(|e| Error::io(self.dir.path(), e))?;
        }
        self.dir.commit()?;
        Ok(Summary { passages, queries, judgments, skipped: problems })
    }
}

fn line(out: &mut BufWriter<File>, text: std::fmt::Arguments) -> Result<()> {
    out.write_fmt(text).and_then(|()| out.write_all(b"\n")).map_err(|e| Error::io(Path::new("collection"), e))
}

/// Writes `value` as one line of JSON.
pub(crate) fn json_line(out: &mut impl Write, value: &impl serde::Serialize) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(Path::new("collection"), e);
    serde_json::to_writer(&mut *out, value).map_err(|e| failed(e.into()))?;
    out.write_all(b"\n").map_err(failed)
}
