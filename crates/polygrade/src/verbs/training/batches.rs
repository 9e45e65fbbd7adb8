//! Which queries share a batch.

use polygrade_data::{Error, Result};
use polygrade_train::{Batching, Composition};

/// Which queries share a batch; see docs/guide-labels.md.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Batches of several languages")]
pub(crate) struct Batches {
    /// T of the languages' shares, n^(1/T) for n queries: 1 as they are, inf all equal
    #[arg(long, default_value_t = 1.0, value_name = "T")]
    lang_sampling: f32,
    /// Languages of a batch: homogeneous (as few as can be), mixed (all), or hybrid:SHARE (in the mixture, this share
    /// of the batches across languages)
    #[arg(long, default_value = "homogeneous", value_name = "HOW")]
    batches: String,
    /// A translation of each positive, in a language that is drawn, joins the batch as another positive
    #[arg(long)]
    parallel_positives: bool,
}

impl Batches {
    pub(crate) fn settings(&self) -> Result<Batching> {
        // Not a number is refused as well.
        if self.lang_sampling.is_nan() || self.lang_sampling < 1.0 {
            return Err(Error::Usage("--lang-sampling must be 1 or more, or inf".into()));
        }
        let composition = Composition::parse(&self.batches).ok_or_else(|| {
            let what = "expected homogeneous, mixed, or hybrid:SHARE with a share in 0..1";
            Error::Usage(format!("--batches {:?}: {what}", self.batches))
        })?;
        Ok(Batching {
            lang_sampling: self.lang_sampling,
            composition,
            parallel_positives: self.parallel_positives,
        })
    }
}
