//! `polygrade export`: a collection → another format.

use crate::ui::Ui;
use polygrade_data::export::{ExportFormat, export};
use polygrade_data::{Collection, Error, Result};
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Example: polygrade export trec collections/mini --out mini-trec")]
pub(crate) struct Args {
    /// Format: beir, trec, sentence-transformers
    format: String,
    /// The collection
    collection: PathBuf,
    /// Folder to write
    #[arg(long)]
    out: PathBuf,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let format = ExportFormat::ALL.iter().find(|(name, _)| *name == args.format).map(|(_, f)| *f);
    let format = format.ok_or_else(|| {
        Error::Usage(format!(
            "{:?} is no format to export; choose beir, trec or sentence-transformers",
            args.format
        ))
    })?;
    let collection = Collection::load(&args.collection)?;
    export(&collection, format, &args.out)?;
    ui.result(&json!({ "out": args.out.display().to_string(), "format": args.format }), |_| {
        format!("{}", args.out.display())
    })
}
