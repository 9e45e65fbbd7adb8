//! MTEB and Hugging Face retrieval data in parquet: files of a corpus (`_id`, `title`, `text`), of queries
//! (`_id`, `text`) and of qrels (`query-id`, `corpus-id`, `score`), in any arrangement of folders.
//!
//! The kind of a file is told by its columns, and between corpus and queries by its path. Folders or files
//! whose name holds a language tag (`de-corpus`, `queries/de-00000.parquet`) give the language, which is then
//! also put before each id, since MTEB numbers each language anew.

use super::{Sink, Source};
use crate::error::{At, Error, Result};
#[cfg(not(feature = "parquet"))]
pub(super) fn import(source: &Source, _: &mut Sink) -> Result<()> {
    let _ = At::file(&source.path);
    Err(Error::Usage("this polygrade was built without parquet; build it with --features parquet".into()))
}

#[cfg(feature = "parquet")]
pub(super) use with_parquet::import;

#[cfg(feature = "parquet")]
mod with_parquet {
    use super::*;
    use crate::error::Report;
    use crate::lang::Lang;
    use crate::record::{RawText, Split};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, Row};
    use std::fs::File;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};

    #[derive(PartialEq, Clone, Copy, PartialOrd, Eq, Ord)]
    enum Kind {
        Corpus,
        Queries,
        Qrels,
    }

    struct Table {
        kind: Kind,
        path: PathBuf,
        lang: Option<Lang>,
        split: Option<Split>,
    }

    pub(crate) fn import(source: &Source, sink: &mut Sink) -> Result<()> {
        let mut tables = Vec::new();
        walk(&source.path, &mut |path| {
            tables.push(table(&source.path, path)?);
            Ok(())
        })?;
        tables.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
        for (kind, name) in [(Kind::Corpus, "corpus"), (Kind::Queries, "queries"), (Kind::Qrels, "qrels")] {
            if !tables.iter().any(|t| t.kind == kind) {
                let what = format!("holds no parquet file of {name}");
                let fix = "expected corpus and queries (_id, text) and qrels (query-id, corpus-id, score)";
                return Err(Error::input(At::file(&source.path), what, fix));
            }
        }
        tables.iter().try_for_each(|t| rows(t, sink, source.lang.as_ref()))
    }

    fn walk(dir: &Path, each: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
        if dir.is_file() {
            return each(dir);
        }
        let entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                walk(&path, each)?;
            } else if path.extension().is_some_and(|e| e == "parquet") {
                each(&path)?;
            }
        }
        Ok(())
    }

    fn open(path: &Path) -> Result<SerializedFileReader<File>> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        SerializedFileReader::new(file).map_err(|e| broken(path, &e))
    }

    fn broken(path: &Path, e: &parquet::errors::ParquetError) -> Error {
        Error::input(At::file(path), format!("is not readable parquet: {e}"), "fetch the file again")
    }

    fn table(root: &Path, path: &Path) -> Result<Table> {
        let reader = open(path)?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let has =
            |name: &str| schema.columns().iter().any(|c| c.path().parts().first().is_some_and(|p| p == name));
        let relative = path.strip_prefix(root).unwrap_or(path).to_string_lossy().to_lowercase();
        let parts: Vec<&str> = relative.split(['/', '\\', '-', '_', '.']).collect();
        let kind = if has("query-id") || has("query_id") {
            Kind::Qrels
        } else if parts.contains(&"queries") || parts.contains(&"query") {
            Kind::Queries
        } else {
            Kind::Corpus
        };
        let is_lang =
            |p: &&&str| p.len() == 2 && Lang::parse(p).is_some() && !super::super::NOT_LANGS.contains(*p);
        let lang = parts.iter().find(is_lang).and_then(|p| Lang::parse(p));
        let split = parts.iter().find_map(|p| Split::parse(p));
        Ok(Table { kind, path: path.to_owned(), lang, split })
    }

    fn rows(table: &Table, sink: &mut Sink, named: Option<&Lang>) -> Result<()> {
        let reader = open(&table.path)?;
        let lang = table.lang.as_ref().or(named);
        let prefix = |id: String| table.lang.as_ref().map_or(id.clone(), |l| format!("{l}:{id}"));
        let mut iter = reader.get_row_iter(None).map_err(|e| broken(&table.path, &e))?;
        for i in 0.. {
            // The parquet crate panics on some damaged files; for us they are input at fault like any other.
            let next = catch_unwind(AssertUnwindSafe(|| iter.next()));
            let row = match next {
                Ok(None) => break,
                Ok(Some(row)) => row.map_err(|e| broken(&table.path, &e))?,
                Err(_) => {
                    let fix = "fetch the file again";
                    return Err(Error::input(
                        At::line(&table.path, i + 1),
                        "is not readable parquet: damaged",
                        fix,
                    ));
                }
            };
            // Parquet has rows, not lines; the number is the row's.
            let at = At::line(&table.path, i + 1);
            let text = |names: &[&str]| text_of(&row, names);
            if table.kind == Kind::Qrels {
                let (Some(q), Some(p), Some(grade)) =
                    (text(&["query-id", "query_id"]), text(&["corpus-id", "corpus_id"]), number(&row))
                else {
                    sink.problems().push(at, "lacks query-id, corpus-id or score", "fill in the row");
                    continue;
                };
                let (q, p) = (prefix(q), prefix(p));
                let split = sink.split(&q, table.split, &q);
                sink.judgment(&at, split, (&q, &p), grade)?;
                continue;
            }
            let (Some(id), Some(body)) = (text(&["_id", "id"]), text(&["text"])) else {
                sink.problems().push(at, "lacks _id or text", "fill in the row");
                continue;
            };
            let raw = RawText {
                title: text(&["title"]).filter(|t| !t.is_empty()),
                ..RawText::new(prefix(id), body)
            };
            match table.kind {
                Kind::Corpus => sink.passage(&at, raw, lang)?,
                _ => sink.query(&at, raw, lang)?,
            }
        }
        Ok(())
    }

    fn text_of(row: &Row, names: &[&str]) -> Option<String> {
        row.get_column_iter().find(|(name, _)| names.contains(&name.as_str())).and_then(|(_, field)| {
            match field {
                Field::Str(s) => Some(s.clone()),
                Field::Bytes(b) => b.as_utf8().ok().map(str::to_owned),
                Field::Int(n) => Some(n.to_string()),
                Field::Long(n) => Some(n.to_string()),
                Field::UInt(n) => Some(n.to_string()),
                Field::ULong(n) => Some(n.to_string()),
                _ => None,
            }
        })
    }

    fn number(row: &Row) -> Option<f32> {
        row.get_column_iter().find(|(name, _)| name.as_str() == "score").and_then(|(_, field)| match field {
            Field::Float(x) => Some(*x),
            Field::Double(x) => Some(*x as f32),
            Field::Byte(n) => Some(f32::from(*n)),
            Field::Short(n) => Some(f32::from(*n)),
            Field::Int(n) => Some(*n as f32),
            Field::Long(n) => Some(*n as f32),
            Field::UInt(n) => Some(*n as f32),
            Field::ULong(n) => Some(*n as f32),
            _ => None,
        })
    }
}
