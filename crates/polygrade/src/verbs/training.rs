//! Settings of training, as `train` and `calibrate` take them.

mod align;
mod batches;
mod head;
mod loss;
mod negatives;

use super::common::Base;
pub(crate) use align::Align;
use batches::Batches;
pub(crate) use head::HeadArgs;
use loss::LossArgs;
pub(crate) use negatives::reference;
use polygrade_data::{Error, Result};
use polygrade_encoder::{Encoder, LoraSettings, TransformerTraining};
use polygrade_nn::optim::Decay;
use polygrade_train::{Composition, Settings};

/// Settings of training. Where nothing is given, the encoder decides: see `Settings` of polygrade-train.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Training")]
pub(crate) struct Training {
    /// Passes over the queries [default: 15 for a static encoder or a head, 3 for a transformer]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Queries in a batch
    #[arg(long, default_value_t = Settings::default().batch, value_name = "N")]
    batch_size: usize,
    /// Positives of each query in a batch, at most
    #[arg(long, default_value_t = Settings::default().per_query.positives, value_name = "N")]
    positives: usize,
    /// Judged negatives of each query in a batch, at most
    #[arg(long, default_value_t = Settings::default().per_query.negatives, value_name = "N")]
    negatives: usize,
    /// Highest learning rate [default: 0.001, transformer 2e-5, head 1e-4]
    #[arg(long)]
    learning_rate: Option<f32>,
    /// Highest learning rate of the tokens' weights of a static encoder [default: 0.02 for a new one, 0.005 for a model]
    #[arg(long)]
    weight_learning_rate: Option<f32>,
    /// Share of the steps that warm up
    #[arg(long, default_value_t = Settings::default().warmup)]
    warmup_ratio: f32,
    /// What follows: linear, cosine, constant, or wsd (constant, then the last fifth straight down)
    #[arg(long, default_value = "linear", value_parser = ["linear", "cosine", "constant", "wsd"])]
    schedule: String,
    /// Weight decay of AdamW [default: 0, transformer 0.01]
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    batches: Batches,
    #[command(flatten)]
    pub(crate) loss: LossArgs,
    #[command(flatten)]
    pub(crate) negative_settings: negatives::Negatives,
    #[command(flatten)]
    transformer: Transformer,
    #[command(flatten)]
    pub(crate) align: Align,
}

/// What counts for transformers alone.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Training of transformers")]
struct Transformer {
    /// Tokens of a micro-batch; a larger batch is cut by GradCache, with the same gradients
    #[arg(long, default_value_t = TransformerTraining::default().tokens, value_name = "N")]
    micro_batch_tokens: usize,
    /// Keep only what goes into each layer, and run layers again in backward: less memory, a third more time
    #[arg(long)]
    recompute: bool,
    /// Numbers of AdamW's memory: f32, or bf16 for half of it (not with LoRA, whose memory is small)
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16"])]
    optimizer_state: String,
    /// Switch the model's own dropout off
    #[arg(long)]
    no_dropout: bool,
    /// Leave the lowest layers as they are: 1 the embeddings, 2 the first layer as well, and so on
    #[arg(long, default_value_t = 0, value_name = "N")]
    freeze: usize,
    /// Each layer learns at this share of the rate of the one above it
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    layer_decay: f32,
    /// Scale gradients down to this length; 0 never
    #[arg(long, default_value_t = TransformerTraining::default().clip, value_name = "LENGTH")]
    clip: f32,
    /// Average the gradients of N batches for each step (negatives still come from one batch; to have more of
    /// them, raise --batch-size)
    #[arg(long, default_value_t = 1, value_name = "N")]
    accumulate: usize,
    /// The model is a running mean of the parameters with this decay, such as 0.99; 0: those of the last step
    #[arg(long, default_value_t = 0.0, value_name = "DECAY")]
    ema: f32,
    /// Train adapters of this rank only (LoRA); the model is saved with them added, and they alone in its folder
    /// adapter, as PEFT reads them
    #[arg(long, value_name = "RANK")]
    lora_r: Option<usize>,
    /// Scale of the adapters: alpha over the rank [default: twice the rank]
    #[arg(long, value_name = "ALPHA", requires = "lora_r")]
    lora_alpha: Option<f32>,
    /// Modules that get adapters, by the ends of their names [default: those of attention's queries and values]
    #[arg(long, value_name = "NAMES", requires = "lora_r", value_delimiter = ',')]
    lora_targets: Vec<String>,
}

impl Training {
    /// Whether batches within languages and across them are asked for.
    pub(crate) fn is_hybrid(&self) -> Result<bool> {
        Ok(matches!(self.batches.settings()?.composition, Composition::Hybrid(_)))
    }

    pub(crate) fn settings(&self, base: &Base) -> Result<Settings> {
        let encoder = base.encoder(self.seed);
        let default = match base {
            Base::New(_) => Settings::for_encoder(&encoder),
            Base::Model(_) => Settings::for_model(&encoder),
        };
        self.settings_over(&encoder, default)
    }

    /// The settings with other defaults than those of the encoder.
    pub(crate) fn settings_over(&self, encoder: &Encoder, default: Settings) -> Result<Settings> {
        let fault = |what: &str| Err(Error::Usage(what.into()));
        let default = default.with_loss(self.loss.loss);
        let mut s = Settings {
            epochs: self.epochs.unwrap_or(default.epochs),
            batch: self.batch_size,
            loss: self.loss.settings(&default.loss)?,
            rate: self.learning_rate.unwrap_or(default.rate),
            weight_rate: self.weight_learning_rate.unwrap_or(default.weight_rate),
            warmup: self.warmup_ratio,
            decay: match self.schedule.as_str() {
                "cosine" => Decay::Cosine,
                "constant" => Decay::Constant,
                "wsd" => Decay::StableThenLinear,
                _ => Decay::Linear,
            },
            seed: self.seed,
            batches: self.batches.settings()?,
            align: self.align.settings()?,
            ..default
        };
        s.per_query.positives = self.positives;
        s.per_query.negatives = self.negatives;
        s.adam.weight_decay = self.weight_decay.unwrap_or(s.adam.weight_decay);
        let positive = s.rate.is_finite() && s.rate > 0.0;
        let not_negative = [s.weight_rate, s.adam.weight_decay].iter().all(|x| x.is_finite() && *x >= 0.0);
        let counts = [s.epochs, s.batch, self.positives].iter().all(|n| (1..=1_000_000).contains(n));
        if !positive || !not_negative || !counts || !(0.0..=1.0).contains(&s.warmup) {
            return fault(
                "epochs, batch size and positives must be 1 to a million, the learning rate above 0, the weights' rate and decay 0 or more, the warm-up in 0..1",
            );
        }
        s.lora = self.transformer.lora(encoder);
        if let Some(t) = &mut s.transformer {
            let o = &self.transformer;
            if o.micro_batch_tokens == 0 || !(o.layer_decay > 0.0 && o.layer_decay <= 1.0) {
                return fault("--micro-batch-tokens must be 1 or more, --layer-decay above 0 and at most 1");
            }
            if !(0.0..1.0).contains(&o.ema) {
                return fault("--ema must be 0 or more and below 1");
            }
            if !(o.clip.is_finite() && o.clip >= 0.0) {
                return fault("--clip must be 0 or more");
            }
            if let Encoder::Transformer(e) = encoder
                && o.freeze > e.spec().layers.len()
            {
                let what = format!(
                    "--freeze {} would leave nothing to train: 0 to {}",
                    o.freeze,
                    e.spec().layers.len()
                );
                return Err(Error::Usage(what));
            }
            t.tokens = o.micro_batch_tokens;
            t.recompute = o.recompute;
            t.half_moments = o.optimizer_state == "bf16";
            t.dropout = !o.no_dropout;
            t.freeze = o.freeze;
            t.layer_decay = o.layer_decay;
            t.clip = o.clip;
            t.accumulate = o.accumulate.max(1);
            t.ema = o.ema;
        }
        Ok(s)
    }
}

impl Transformer {
    fn lora(&self, encoder: &Encoder) -> Option<LoraSettings> {
        let r = self.lora_r?;
        let targets = match (self.lora_targets.is_empty(), encoder) {
            (false, _) => self.lora_targets.clone(),
            // ModernBERT keeps query, key and value in one matrix.
            (true, Encoder::Transformer(e)) if e.architecture() == "modernbert" => vec!["Wqkv".into()],
            (true, _) => vec!["query".into(), "value".into()],
        };
        Some(LoraSettings { r, alpha: self.lora_alpha.unwrap_or(2.0 * r as f32), targets })
    }
}
