//! Which model of a training run is kept: the one that was best on dev, and when to stop for lack of a better one.

use polygrade_data::{At, Error, Result, io};
use polygrade_encoder::Encoder;
use polygrade_encoder::checkpoint::Dtype;
use polygrade_train::Trainer;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Selection {
    /// Measure nDCG@10 on dev every so many steps, and keep the best model; 0: keep the last
    #[arg(long, default_value_t = 0, value_name = "STEPS")]
    eval_steps: u64,
    /// Stop when so many measurements in a row are no better; 0: never
    #[arg(long, default_value_t = 0, value_name = "N", requires = "eval_steps")]
    patience: u64,
}

/// The best model so far, in a folder beside the one that is being made, so that a stopped run keeps it.
pub(crate) struct Best {
    selection: Selection,
    dir: PathBuf,
    /// (dev value, step)
    found: Option<(f64, u64)>,
}

const NOTE: &str = "best.txt";

/// The sub-folder of a model's folder with its adapters alone.
pub(crate) const ADAPTER: &str = "adapter";

impl Best {
    /// For the model that `out` will hold. `fresh`: of a run that starts now, not one that goes on.
    pub(crate) fn open(selection: &Selection, out: &Path, fresh: bool) -> Result<Self> {
        let mut dir = out.as_os_str().to_owned();
        dir.push(".best");
        let mut best = Best { selection: selection.clone(), dir: dir.into(), found: None };
        if !fresh && !best.dir.exists() && best.next().join(NOTE).exists() {
            best.replace()?;
        }
        let note = best.dir.join(NOTE);
        if fresh || !note.exists() {
            best.remove()?;
            return Ok(best);
        }
        let text = io::read_to_string(&note)?;
        let mut words = text.split_whitespace();
        let value = words.next().and_then(|w| w.parse().ok()).zip(words.next().and_then(|w| w.parse().ok()));
        best.found = Some(value.ok_or_else(|| {
            let fix = "remove this folder and the checkpoint beside it to start again";
            Error::input(At::file(&note), "is not as polygrade left it", fix)
        })?);
        Ok(best)
    }

    /// Whether the model is to be measured after this step.
    pub(crate) fn is_due(&self, step: u64, last: u64) -> bool {
        self.selection.eval_steps > 0 && (step.is_multiple_of(self.selection.eval_steps) || step == last)
    }

    /// Takes note of a measurement; true when it is time to stop.
    pub(crate) fn see(&mut self, step: u64, value: f64, trainer: &Trainer) -> Result<bool> {
        if self.found.is_none_or(|(best, _)| value > best) {
            // Beside the one before, which goes only when the new one is whole.
            let new = self.next();
            remove(&new)?;
            let card = "The best model so far of a training run.\n";
            trainer.snapshot().save(&new, card, Dtype::F32)?;
            trainer.save_adapter(&new.join(ADAPTER), card)?;
            io::write(&new.join(NOTE), format!("{value:?} {step}\n").as_bytes())?;
            self.replace()?;
            self.found = Some((value, step));
        }
        let since =
            self.found.map_or(0, |(_, at)| step.saturating_sub(at) / self.selection.eval_steps.max(1));
        Ok(self.selection.patience > 0 && since >= self.selection.patience)
    }

    /// The best value on dev, where one was kept.
    pub(crate) fn value(&self) -> Option<f64> {
        self.found.map(|(value, _)| value)
    }

    /// The best model and its step, where one was kept.
    pub(crate) fn take(&self) -> Result<Option<(Encoder, u64)>> {
        self.found.map(|(_, step)| Ok((Encoder::load(&self.dir)?, step))).transpose()
    }

    /// Moves the adapters of the best model into its new folder.
    pub(crate) fn move_adapter(&self, to: &Path) -> Result<()> {
        let from = self.dir.join(ADAPTER);
        match from.exists() {
            true => std::fs::rename(&from, to.join(ADAPTER)).map_err(|e| Error::io(&from, e)),
            false => Ok(()),
        }
    }

    /// Where the next best model is written.
    fn next(&self) -> PathBuf {
        self.dir.with_extension("best-next")
    }

    fn replace(&self) -> Result<()> {
        remove(&self.dir)?;
        std::fs::rename(self.next(), &self.dir).map_err(|e| Error::io(&self.dir, e))
    }

    /// Removes the folders.
    pub(crate) fn remove(&self) -> Result<()> {
        remove(&self.next())?;
        remove(&self.dir)
    }
}

fn remove(dir: &Path) -> Result<()> {
    match dir.exists() {
        true => std::fs::remove_dir_all(dir).map_err(|e| Error::io(dir, e)),
        false => Ok(()),
    }
}
