//! What a person or a machine sees: tables, JSON, progress, errors.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use polygrade_data::{Error, Problems, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Options of every verb.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Threads to use; all cores unless given. The result does not depend on it
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Show no progress
    #[arg(long, global = true)]
    quiet: bool,
}

/// How to talk.
pub(crate) struct Ui {
    /// Results as JSON.
    pub(crate) json: bool,
    quiet: bool,
}

impl Ui {
    pub(crate) fn new(common: &Common) -> Result<Ui> {
        if let Some(n) = common.threads {
            if !(1..=1024).contains(&n) {
                return Err(Error::Usage("--threads must be 1 to 1024".into()));
            }
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
            pool.map_err(|e| Error::Internal(e.to_string()))?;
        }
        Ok(Ui { json: common.json, quiet: common.quiet })
    }

    /// Prints a result: as JSON, or as the text that `text` makes of it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let out = if self.json {
            serde_json::to_string_pretty(value).map_err(|e| Error::Internal(e.to_string()))?
        } else {
            text(value)
        };
        self.print(&out)
    }

    /// Prints a line.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        self.write(&format!("{}\n", text.trim_end()))
    }

    /// Prints a text as it is. A reader that has gone away, as `head` does, is no fault.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        match std::io::stdout().write_all(text.as_bytes()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::io("standard output".as_ref(), e))
            }
            _ => Ok(()),
        }
    }

    /// Says what was passed over.
    pub(crate) fn warn(&self, warnings: &Problems) {
        if warnings.total() > 0 {
            self.note(&format!("passed over:\n{warnings}"));
        }
    }

    /// Says what is going on, beside the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            // Standard error that cannot be written to is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// A progress bar of so many steps, on standard error; hidden where that is no terminal.
    pub(crate) fn progress(&self, what: &str, total: u64) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        bar
    }
}

/// Reports an error and gives its exit code.
pub(crate) fn fail(e: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "polygrade: {e}");
    ExitCode::from(e.exit_code())
}

/// A table in plain text: the first column to the left, the others to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
        cells.chain([head[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: &[String]| {
        for (i, (cell, w)) in cells.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(w.saturating_sub(cell.chars().count()));
            let _ = if i == 0 { write!(out, "{cell}{pad}") } else { write!(out, "  {pad}{cell}") };
        }
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    };
    line(&head.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|r| line(r));
    out
}

/// The same table in Markdown.
pub(crate) fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.map(|c| c.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut out = line(&mut head.iter().copied());
    out += &format!("|---|{}\n", "--:|".repeat(head.len() - 1));
    rows.iter().for_each(|row| out += &line(&mut row.iter().map(String::as_str)));
    out
}
