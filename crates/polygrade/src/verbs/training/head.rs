//! Training of a head on an encoder that stays as it is.

use polygrade_data::{Collection, Error, Lang, Result, Split};
use polygrade_encoder::{Encoder, FrozenEncoder, HeadKind, HeadSettings};
use polygrade_train::{Settings, TokenizedCollection};
use std::collections::HashSet;

/// What is trained in place of the encoder.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "A head on a frozen encoder")]
pub(crate) struct HeadArgs {
    /// Leave the encoder as it is and train a head on its vectors, which are computed once
    #[arg(long)]
    freeze_encoder: bool,
    /// The head: linear, one matrix that begins as the identity; or mlp, two layers with ReLU that begin as it
    #[arg(long, default_value = "linear", value_parser = ["linear", "mlp"], requires = "freeze_encoder")]
    head: String,
    /// Width of the head's vectors [default: that of the encoder's]
    #[arg(long, value_name = "N", requires = "freeze_encoder")]
    head_dim: Option<usize>,
}

impl HeadArgs {
    /// Whether a head is trained.
    pub(crate) fn is_wanted(&self) -> bool {
        self.freeze_encoder
    }

    /// In words, for the model card.
    pub(crate) fn describe(&self) -> String {
        let width = self.head_dim.map_or(String::new(), |n| format!(" {n} wide"));
        format!(", frozen under a new {} head{width}", self.head)
    }

    /// The frozen encoder with a new head, and the texts of train and dev as it knows them.
    pub(crate) fn freeze(
        &self,
        encoder: Encoder,
        (collection, texts): (&Collection, &TokenizedCollection),
        langs: &[Lang],
        settings: &Settings,
    ) -> Result<(FrozenEncoder, TokenizedCollection)> {
        if settings.lora.is_some() {
            return Err(Error::Usage("--freeze-encoder trains no adapters: leave --lora-r out".into()));
        }
        if settings.align.is_some() {
            let what =
                "--freeze-encoder knows the collection's texts only, not those of --align: leave it out";
            return Err(Error::Usage(what.into()));
        }
        if settings.transformer.as_ref().is_some_and(|t| t.freeze > 0 || t.ema > 0.0) {
            return Err(Error::Usage("--freeze and --ema are for an encoder in training, not a head".into()));
        }
        if self.head_dim.is_some_and(|n| !(1..=16_384).contains(&n)) {
            return Err(Error::Usage("--head-dim must be 1 to 16384".into()));
        }
        let kind = if self.head == "mlp" { HeadKind::Mlp } else { HeadKind::Linear };
        let head = HeadSettings { kind, dim: self.head_dim, seed: settings.seed };
        let graded = [Split::Train, Split::Dev].map(|split| collection.graded(split));
        let judged: HashSet<u32> = graded.iter().flat_map(|g| g.queries().iter().copied()).collect();
        let query = |q: u32| judged.contains(&q) && langs.contains(&collection.queries[q as usize].lang);
        // Mined negatives may be in any language.
        let all = settings.negatives.hard.is_some();
        let passage = |p: u32| all || langs.contains(&collection.passages[p as usize].lang);
        texts.frozen(encoder, head, query, passage, true)
    }
}
