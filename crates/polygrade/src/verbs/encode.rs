//! `polygrade encode`: the texts of a file → vectors.

use super::common::{ModelOptions, prepare};
use crate::ui::Ui;
use indicatif::ProgressBar;
use polygrade_data::record::RawText;
use polygrade_data::scan::text_lines;
use polygrade_data::{At, Error, Problems, Report, Result, io};
use polygrade_encoder::{TextEncoder, TextKind};
use polygrade_index::vectors::{VectorWriter, ids_path};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade encode model collections/mini/corpus.jsonl --out corpus.npy\n  \
    polygrade encode intfloat/multilingual-e5-small big.jsonl.zst --out v.parquet --shard-size 100000 --precision bf16")]
pub(crate) struct Args {
    /// Folder of a model, or its name on the Hugging Face hub
    model: String,
    /// Records with `_id` and `text`, perhaps `title`, in .jsonl; id and text with a tab between in .tsv; a text a line in .txt,
    /// whose ids are its line numbers. .gz and .zst are unpacked
    input: PathBuf,
    /// A .npy file (f32, one row a record, in order; ids go to the same name with .ids.txt), or a .parquet file
    /// (columns id and vector)
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    options: ModelOptions,
    /// The texts are queries, not passages
    #[arg(long)]
    query: bool,
    /// Numbers in the products of a transformer: f32, bf16 or int8
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16", "int8"])]
    precision: String,
    /// Write files of N rows, numbered before the ending; the same command after a stop goes on behind the last
    /// whole one
    #[arg(long, value_name = "N")]
    shard_size: Option<u64>,
}

/// Texts encoded at a time.
const BLOCK: usize = 4096;

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    if args.shard_size == Some(0) {
        return Err(Error::Usage("--shard-size must be 1 or more".into()));
    }
    let started = Instant::now();
    let mut encoder = args.options.load(&args.model)?;
    prepare(&mut encoder, &args.precision)?;
    let shards = args.shard_size.map(|size| Shards::open(&args, &*encoder, size)).transpose()?;
    if let Some(shards) = shards.as_ref().filter(|s| s.done > 0) {
        ui.note(&format!("going on behind {} files of an earlier run", shards.done));
    }
    let bar = ui.progress("encoding", 0);
    let mut sink = Sink {
        encoder: &*encoder,
        kind: if args.query { TextKind::Query } else { TextKind::Passage },
        out: &args.out,
        skip: shards.as_ref().map_or(0, |s| s.done * s.size),
        written: shards.as_ref().map_or(0, |s| s.done),
        shards,
        writer: None,
        pending: Vec::with_capacity(BLOCK),
        ids: Vec::with_capacity(BLOCK),
        rows: 0,
        encoded: 0,
        started: Instant::now(),
        bar: &bar,
        problems: Problems::default(),
    };
    text_lines(&args.input, &mut sink, |sink, at, raw| sink.push(at, raw))?;
    let (rows, encoded, rate) = sink.finish()?;
    bar.finish_and_clear();
    // Parquet holds the ids; shards have them beside each file.
    let parquet = args.out.extension().is_some_and(|e| e == "parquet");
    let ids = (!parquet && args.shard_size.is_none()).then(|| ids_path(&args.out).display().to_string());
    let value = json!({
        "out": args.out.display().to_string(),
        "ids": ids,
        "rows": rows,
        "encoded": encoded,
        "dim": encoder.dim(),
        "precision": args.precision,
        "seconds": started.elapsed().as_secs_f64(),
        "texts_per_second": rate,
    });
    ui.result(&value, |_| format!("{}: {rows} × {}, {rate:.0} texts/s", args.out.display(), encoder.dim()))
}

/// Numbered files, and how many of them are there from an earlier run.
struct Shards {
    size: u64,
    done: u64,
}

impl Shards {
    /// Looks for files of an earlier run of the same command; those of another are refused.
    fn open(args: &Args, encoder: &dyn TextEncoder, size: u64) -> Result<Self> {
        let about = std::fs::metadata(&args.input).map_err(|e| Error::io(&args.input, e))?;
        let changed = about.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let identity = json!({
            "model": format!("{:016x}", encoder.fingerprint()),
            "input": args.input.display().to_string(),
            "input_bytes": about.len(),
            "input_changed": changed.map(|d| d.as_secs()),
            "query": args.query,
            "precision": args.precision,
            "dim": encoder.dim(),
            "shard_size": size,
        });
        let path = args.out.with_extension("encode.json");
        if path.exists() {
            let there: Option<Value> = serde_json::from_str(&io::read_to_string(&path)?).ok();
            if there.as_ref() != Some(&identity) {
                let what = "belongs to an encoding with another model, input or settings";
                return Err(Error::input(At::file(&path), what, "choose another --out, or remove its files"));
            }
        } else {
            let first = shard(&args.out, 0);
            if first.exists() {
                let what = format!("is there, but not {}, which says what made it", path.display());
                return Err(Error::input(
                    At::file(&first),
                    what,
                    "choose another --out, or remove its files",
                ));
            }
            io::write(&path, format!("{identity:#}\n").as_bytes())?;
        }
        let done = (0..).take_while(|i| shard(&args.out, *i).exists()).count() as u64;
        Ok(Shards { size, done })
    }
}

/// `vectors.npy` → `vectors-00007.npy`
fn shard(out: &Path, i: u64) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let ending = out.extension().map_or("npy".into(), |e| e.to_string_lossy());
    out.with_file_name(format!("{stem}-{i:05}.{ending}"))
}

struct Sink<'a> {
    encoder: &'a dyn TextEncoder,
    kind: TextKind,
    out: &'a Path,
    shards: Option<Shards>,
    /// Rows that earlier runs have written.
    skip: u64,
    /// Files written, by earlier runs too.
    written: u64,
    writer: Option<VectorWriter>,
    pending: Vec<String>,
    ids: Vec<String>,
    rows: u64,
    encoded: u64,
    started: Instant,
    bar: &'a ProgressBar,
    problems: Problems,
}

impl Report for Sink<'_> {
    fn problems(&mut self) -> &mut Problems {
        &mut self.problems
    }
}

impl Sink<'_> {
    fn push(&mut self, at: At, raw: RawText) -> Result<()> {
        self.rows += 1;
        self.bar.inc(1);
        if raw.id.is_empty() || raw.id.contains(['\n', '\r']) {
            let what = format!("has the id {:?}, which is no line of a list of ids", raw.id);
            self.problems.push(at, what, "give the record an id without line breaks");
        }
        // Once there is a fault nothing will be written: the rest is read for more of them only.
        if self.rows <= self.skip || self.problems.total() > 0 {
            return Ok(());
        }
        self.ids.push(raw.id);
        self.pending.push(match raw.title.as_deref() {
            Some(title) if !title.is_empty() => format!("{title} {}", raw.text),
            _ => raw.text,
        });
        let full = self.shards.as_ref().is_some_and(|s| self.rows.is_multiple_of(s.size));
        if self.pending.len() == BLOCK || full {
            self.flush()?;
        }
        if full { self.close() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let texts: Vec<&str> = self.pending.iter().map(String::as_str).collect();
        let vectors = self.encoder.encode(&texts, self.kind)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let path = match &self.shards {
                    Some(_) => shard(self.out, self.written),
                    None => self.out.to_owned(),
                };
                self.writer.insert(VectorWriter::create(&path, self.encoder.dim())?)
            }
        };
        writer.push(&self.ids, &vectors)?;
        self.encoded += self.ids.len() as u64;
        self.bar.set_message(format!("{:.0} texts/s,", self.rate()));
        self.pending.clear();
        self.ids.clear();
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.encoded as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Puts the file in hand under its name. Faults in the input leave none.
    fn close(&mut self) -> Result<()> {
        if self.problems.total() > 0 {
            return Ok(());
        }
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
            self.written += 1;
        }
        Ok(())
    }

    /// (rows in all, rows encoded now, texts a second)
    fn finish(mut self) -> Result<(u64, u64, f64)> {
        std::mem::take(&mut self.problems).into_result()?;
        if !self.pending.is_empty() || self.written == 0 {
            self.flush()?;
        }
        self.close()?;
        Ok((self.rows, self.encoded, self.rate()))
    }
}
