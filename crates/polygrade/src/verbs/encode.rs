//! `polygrade encode`: the texts of a jsonl file → vectors.

use super::common::ModelOptions;
use crate::ui::Ui;
use polygrade_data::io::AtomicFile;
use polygrade_data::record::RawText;
use polygrade_data::scan::json_lines;
use polygrade_data::{Error, Problems, Report, Result};
use polygrade_encoder::{TextEncoder, TextKind};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Example: polygrade encode model collections/mini/corpus.jsonl --out corpus.npy")]
pub(crate) struct Args {
    /// Folder of a model, or its name on the Hugging Face hub
    model: String,
    /// A jsonl file of records with `_id` and `text`, perhaps `title`; .gz and .zst are unpacked
    input: PathBuf,
    /// The .npy file: f32, one row a record, in order; ids go to the same name with .ids.txt
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    options: ModelOptions,
    /// The texts are queries, not passages
    #[arg(long)]
    query: bool,
}

/// Texts encoded at a time.
const BLOCK: usize = 4096;

/// numpy's header is padded to this size, so that the number of rows can be filled in at the end.
const HEADER: usize = 128;

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let encoder = args.options.load(&args.model)?;
    let kind = if args.query { TextKind::Query } else { TextKind::Passage };
    let ids_path = args.out.with_extension("ids.txt");
    let mut sink = Sink {
        encoder: &*encoder,
        kind,
        out: AtomicFile::create(&args.out)?,
        ids: AtomicFile::create(&ids_path)?,
        paths: (&args.out, &ids_path),
        pending: Vec::with_capacity(BLOCK),
        rows: 0,
        problems: Problems::default(),
    };
    // The number of rows is known only at the end; the input may be a pipe, so it is read once.
    sink.write(&header(0, encoder.dim()))?;
    let bar = ui.progress("encoding", 0);
    json_lines(&args.input, &mut sink, |sink, _, raw: RawText| {
        bar.inc(1);
        sink.push(raw)
    })?;
    let rows = sink.finish()?;
    bar.finish_and_clear();
    let value = json!({ "out": args.out.display().to_string(), "ids": ids_path.display().to_string(), "rows": rows, "dim": encoder.dim() });
    ui.result(&value, |_| format!("{}: {rows} × {}", args.out.display(), encoder.dim()))
}

struct Sink<'a> {
    encoder: &'a dyn TextEncoder,
    kind: TextKind,
    out: AtomicFile,
    ids: AtomicFile,
    paths: (&'a Path, &'a Path),
    pending: Vec<String>,
    rows: u64,
    problems: Problems,
}

impl Report for Sink<'_> {
    fn problems(&mut self) -> &mut Problems {
        &mut self.problems
    }
}

impl Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::io(self.paths.0, e))
    }

    fn push(&mut self, raw: RawText) -> Result<()> {
        self.rows += 1;
        writeln!(self.ids, "{}", raw.id).map_err(|e| Error::io(self.paths.1, e))?;
        self.pending.push(match raw.title.as_deref() {
            Some(title) if !title.is_empty() => format!("{title} {}", raw.text),
            _ => raw.text,
        });
        if self.pending.len() == BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let texts: Vec<&str> = self.pending.iter().map(String::as_str).collect();
        let vectors = self.encoder.encode(&texts, self.kind)?;
        self.pending.clear();
        let bytes: Vec<u8> = vectors.data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.write(&bytes)
    }

    /// The number of rows written. Faults in the input leave no file.
    fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.problems.into_result()?;
        self.out.rewrite_start(&header(self.rows, self.encoder.dim()))?;
        self.ids.commit()?;
        self.out.commit()?;
        Ok(self.rows)
    }
}

/// The header of a .npy file of version 1.0: f32, little-endian, row after row.
fn header(rows: u64, cols: usize) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(((HEADER - 10) as u16).to_le_bytes());
    out.extend(format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}").bytes());
    out.resize(HEADER - 1, b' ');
    out.push(b'\n');
    out
}
