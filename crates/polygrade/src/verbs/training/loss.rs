//! What training minimises, as `train` and `calibrate` take it.

use polygrade_data::{Collection, Error, Lang, Result};
use polygrade_train::loss::Gains;
use polygrade_train::{Loss, LossSettings, TeacherScores};
use std::path::PathBuf;
use std::sync::Arc;

/// The loss; docs/losses.md has formulas and says what each loss looks at.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Loss")]
pub(crate) struct LossArgs {
    /// info-nce, or a loss of grades: bixse, cosent, angle, listnet, ranknet, lambda, ws2, kl, margin-mse, ordinal
    #[arg(long, default_value = "info-nce", value_parser = parse_loss, value_name = "LOSS")]
    pub(crate) loss: Loss,
    /// Temperature T: losses look at cosine / T [default: the loss's own; info-nce 0.1, transformer 0.05]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Other temperatures for queries in these languages, such as sw=0.07,en=0.05
    #[arg(long, value_name = "LANG=T,…", value_delimiter = ',', value_parser = parse_lang_temperature)]
    lang_temperature: Vec<(Lang, f32)>,
    /// Graded losses look at judged pairs alone, not at other queries' passages as grade 0
    #[arg(long)]
    no_in_batch: bool,
    /// Weights of the thresholds 1, 2, … under the policy `all`, such as 1,2,1 [default: equal]
    #[arg(long, value_name = "W,…", value_delimiter = ',')]
    threshold_weights: Vec<f32>,
    /// Temperature of the softmax over grades (as shares of the highest) or teacher's scores in listnet, kl and ws2
    /// [default: 0.1]
    #[arg(long, value_name = "T")]
    target_temperature: Option<f32>,
    /// What a grade is worth to lambda: exponential (2^g - 1) or linear
    #[arg(long, default_value = "exponential", value_parser = ["exponential", "linear"])]
    gains: String,
    /// Where the bias of bixse starts; the cut points of ordinal start around its opposite
    #[arg(long, default_value_t = LossSettings::new(Loss::Bixse, 1.0).bias, allow_negative_numbers = true)]
    loss_bias: f32,
    /// Highest learning rate of what bixse and ordinal learn themselves
    #[arg(long, default_value_t = LossSettings::new(Loss::Bixse, 1.0).parameter_rate, value_name = "RATE")]
    loss_learning_rate: f32,
    /// Sum the loss over vectors cut to these dimensions, each with its weight, 1 unless given: 256,128:0.5
    #[arg(long, value_name = "DIM[:W],…", value_delimiter = ',', value_parser = parse_dimension)]
    matryoshka: Vec<(usize, f32)>,
    /// A teacher's scores for kl and margin-mse: a TREC run, or query-id, passage-id and score with tabs between
    #[arg(long, value_name = "FILE")]
    teacher_scores: Option<PathBuf>,
}

impl LossArgs {
    /// The settings, from those of InfoNCE with the encoder's own temperature or of this very loss.
    pub(crate) fn settings(&self, default: &LossSettings) -> Result<LossSettings> {
        if let Some(file) = self.teacher_scores.as_ref().filter(|_| !self.loss.takes_teacher()) {
            let loss = self.loss.name();
            let what =
                format!("--loss {loss} learns from grades, not from {}: kl, margin-mse", file.display());
            return Err(Error::Usage(what));
        }
        Ok(LossSettings {
            temperature: self.temperature.unwrap_or(default.temperature),
            lang_temperatures: self.lang_temperature.clone(),
            in_batch: !self.no_in_batch,
            threshold_weights: self.threshold_weights.clone(),
            target_temperature: self.target_temperature.unwrap_or(default.target_temperature),
            gains: if self.gains == "linear" { Gains::Linear } else { Gains::Exponential },
            bias: self.loss_bias,
            parameter_rate: self.loss_learning_rate,
            matryoshka: self.matryoshka.clone(),
            ..default.clone()
        })
    }

    /// The teacher's scores, where there are any.
    pub(crate) fn teacher(&self, collection: &Collection) -> Result<Option<Arc<TeacherScores>>> {
        let load = |file| TeacherScores::load(file, collection).map(Arc::new);
        self.teacher_scores.as_deref().map(load).transpose()
    }
}

fn parse_loss(text: &str) -> std::result::Result<Loss, String> {
    let names: Vec<&str> = Loss::ALL.iter().map(|l| l.name()).collect();
    Loss::parse(text).ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn parse_lang_temperature(text: &str) -> std::result::Result<(Lang, f32), String> {
    let parts =
        text.split_once('=').and_then(|(l, t)| Some((Lang::parse(l.trim())?, t.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected a language and its temperature, such as sw=0.07".into())
}

fn parse_dimension(text: &str) -> std::result::Result<(usize, f32), String> {
    let (dim, weight) = text.split_once(':').unwrap_or((text, "1"));
    let parts = dim.trim().parse().ok().zip(weight.trim().parse().ok());
    parts.ok_or_else(|| "expected a dimension, or one with its weight, such as 128:0.5".into())
}
