//! Settings of cross-lingual alignment.

use crate::ui::Ui;
use crate::verbs::common::ModelOptions;
use polygrade_data::{Collection, Error, Lang, Result};
use polygrade_encoder::TextEncoder;
use polygrade_train::align::{Clear, Distance, Distil, Jsd};
use polygrade_train::{AlignSettings, LabelPolicies, Parallel, ParallelBuilder, Scenario};
use std::path::PathBuf;

/// Losses that bring translations together.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Cross-lingual alignment")]
pub(crate) struct Align {
    /// Losses beside the retrieval loss, with their weights, as in jsd=1,distil=0.5: jsd (√JSD + InfoNCE, arXiv
    /// 2604.05684; nce is the weight of its second term, if another), clear (arXiv 2604.05821), distil (a teacher's
    /// vectors; see --teacher). They use translations that training queries are judged with, and --parallel
    #[arg(long, value_name = "LOSSES")]
    align: Option<String>,
    /// Weight of the retrieval loss beside them; 0 leaves it out
    #[arg(long, default_value_t = 1.0, value_name = "WEIGHT", requires = "align")]
    retrieval_weight: f32,
    /// Triples of a query, a passage and its translation in each batch, and as many pairs for distil
    #[arg(long, default_value_t = AlignSettings::default().batch, value_name = "N", requires = "align")]
    align_batch: usize,
    /// The language that the others are aligned with
    #[arg(long, default_value = "en", value_name = "LANG", requires = "align")]
    align_pivot: String,
    /// More parallel texts: a file with a text in the pivot language, a tab and its translation on each line, or
    /// another collection, all of whose splits are used. What dev or test of the collection trained on hold is
    /// passed over; may be repeated
    #[arg(long, value_name = "FILE|COLLECTION", requires = "align")]
    parallel: Vec<PathBuf>,
    /// The model that distil learns from: its folder, or its name on the hub
    #[arg(long, value_name = "MODEL", requires = "align")]
    teacher: Option<String>,
    /// Distance of distil to the teacher: mse, or cosine, which is half of it
    #[arg(long, default_value = "mse", value_parser = ["mse", "cosine"], requires = "align")]
    distil_distance: String,
    /// Vectors are multiplied with it before jsd's softmax [default: the root of their width]
    #[arg(long, value_name = "SCALE", requires = "align")]
    jsd_scale: Option<f32>,
    /// Added to jsd's divergence under the root
    #[arg(long, default_value_t = Jsd::default().eps, value_name = "EPS", requires = "align")]
    jsd_eps: f32,
    /// Temperature of jsd's second term
    #[arg(long, default_value_t = Jsd::default().temperature, value_name = "T", requires = "align")]
    align_temperature: f32,
    /// Weight in clear of passages against translated queries
    #[arg(long, default_value_t = Clear::default().alpha, value_name = "ALPHA", requires = "align")]
    clear_alpha: f32,
    /// Weight in clear of the divergence of the two directions
    #[arg(long, default_value_t = Clear::default().beta, value_name = "BETA", requires = "align")]
    clear_beta: f32,
    /// What clear multiplies cosines with
    #[arg(long, default_value_t = Clear::default().scale, value_name = "SCALE", requires = "align")]
    clear_scale: f32,
    /// Judged negatives of each query in clear, at most
    #[arg(long, default_value_t = Clear::default().negatives, value_name = "N", requires = "align")]
    clear_negatives: usize,
}

impl Align {
    /// The settings, where alignment is asked for.
    pub(crate) fn settings(&self) -> Result<Option<AlignSettings>> {
        let Some(losses) = &self.align else { return Ok(None) };
        let distance = if self.distil_distance == "cosine" { Distance::Cosine } else { Distance::Mse };
        let mut settings = AlignSettings {
            retrieval: self.retrieval_weight,
            jsd: Jsd {
                scale: self.jsd_scale,
                eps: self.jsd_eps,
                temperature: self.align_temperature,
                ..Jsd::default()
            },
            clear: Clear {
                alpha: self.clear_alpha,
                beta: self.clear_beta,
                scale: self.clear_scale,
                negatives: self.clear_negatives,
                ..Clear::default()
            },
            distil: Distil { distance, ..Distil::default() },
            batch: self.align_batch,
        };
        settings.set_weights(losses)?;
        if settings.distil.weight == 0.0 && self.teacher.is_some() {
            return Err(Error::Usage("--teacher is for distil, which --align does not name".into()));
        }
        Ok(Some(settings))
    }

    /// The parallel texts of a run for the training of `student`, where alignment is asked for.
    pub(crate) fn parallel(
        &self,
        collection: &Collection,
        langs: &[Lang],
        (scenario, policies): (Scenario, &LabelPolicies),
        student: &dyn TextEncoder,
        ui: &Ui,
    ) -> Result<Option<Parallel>> {
        if self.align.is_none() {
            return Ok(None);
        }
        if scenario == Scenario::Monolingual {
            let what =
                "--align brings languages together in one model: use --scenario mixture or cross-lingual";
            return Err(Error::Usage(what.into()));
        }
        let pivot = Lang::parse(&self.align_pivot).ok_or_else(|| {
            Error::Usage(format!("--align-pivot {:?} is no language tag", self.align_pivot))
        })?;
        let mut builder = ParallelBuilder::new(student, pivot, langs);
        builder.add_train(collection, scenario, policies);
        for path in &self.parallel {
            if path.is_dir() {
                builder.add_collection(&Collection::load(path)?, policies);
            } else {
                builder.add_file(path)?;
            }
        }
        let ((judged, left_out), held_out) = (builder.judged_groups, builder.held_out);
        let teacher = self.teacher.as_ref().map(|t| ModelOptions::default().load(t)).transpose()?;
        let parallel = builder.finish(teacher.as_deref())?;
        if held_out > 0 {
            ui.note(&format!(
                "alignment: {held_out} groups, queries and lines of --parallel are passed over, whose texts dev or test hold"
            ));
        }
        ui.note(&format!(
            "alignment: {} triples, {} pairs; of {judged} groups judged in train {left_out} are left out, which dev or \
             test judge too",
            parallel.triple_count(),
            parallel.pair_count()
        ));
        Ok(Some(parallel))
    }
}
