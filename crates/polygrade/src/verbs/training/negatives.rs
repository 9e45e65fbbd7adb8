//! Settings of negatives: those from a file, and masks of false ones.

use crate::verbs::common::ModelOptions;
use polygrade_data::{Collection, Error, Index, Lang, Result, Split};
use polygrade_train::evaluate::queries_in;
use polygrade_train::examples::HardNegatives;
use polygrade_train::guide::Guide;
use polygrade_train::loss::mask::{GuideMargin, MaskSettings, Reference};
use polygrade_train::trainer;
use std::path::PathBuf;

/// Hard negatives, and masks of false ones. Unless given, negatives are judged ones and the passages of the batch's
/// other queries.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Negatives")]
pub(crate) struct Negatives {
    /// Hard negatives, as polygrade mine writes them
    #[arg(long, value_name = "FILE")]
    hard_negatives: Option<PathBuf>,
    /// Hard negatives of each query in a batch, at most, beside the judged ones of --negatives
    #[arg(long, default_value_t = 4, value_name = "N", requires = "hard_negatives")]
    hard_negatives_per_query: usize,
    /// Drop negatives that score more than this above the positive, such as 0.1
    #[arg(long, value_name = "M", allow_hyphen_values = true)]
    mask_margin: Option<f32>,
    /// Drop negatives that score more than the positive less this share of it, such as 0.05
    #[arg(long, value_name = "R")]
    mask_relative_margin: Option<f32>,
    /// Drop negatives that this model (a folder, or a name on the hub) scores above the positive
    #[arg(long, value_name = "MODEL")]
    guide: Option<String>,
    /// The guide drops what it scores above the positive less this
    #[arg(long, value_name = "M", requires = "guide", allow_hyphen_values = true)]
    guide_margin: Option<f32>,
    /// The guide drops what it scores above the positive less this share of it
    #[arg(long, value_name = "R", requires = "guide", conflicts_with = "guide_margin")]
    guide_relative_margin: Option<f32>,
    /// What the guide wants before queries, in place of what it says itself
    #[arg(long, value_name = "TEXT", requires = "guide")]
    guide_query_prompt: Option<String>,
    /// What the guide wants before passages, in place of what it says itself
    #[arg(long, value_name = "TEXT", requires = "guide")]
    guide_passage_prompt: Option<String>,
    /// Which of several positives masks compare with: lowest, highest, mean
    #[arg(long, default_value = "lowest", value_parser = ["lowest", "highest", "mean"], value_name = "WHICH")]
    mask_positive: String,
    /// Let masks drop judged negatives too
    #[arg(long)]
    mask_judged: bool,
}

/// What a name on the command line stands for.
pub(crate) fn reference(name: &str) -> Reference {
    Reference::ALL.iter().find(|(n, _)| *n == name).map_or(Reference::Lowest, |(_, r)| *r)
}

impl Negatives {
    /// Reads the hard negatives, and lets the guide encode the train queries in `langs` with their passages.
    pub(crate) fn load(&self, collection: &Collection, langs: &[Lang]) -> Result<trainer::Negatives> {
        let shares = [self.mask_relative_margin, self.guide_relative_margin];
        if shares.iter().flatten().any(|r| !(0.0..=1.0).contains(r))
            || [self.mask_margin, self.guide_margin].iter().flatten().any(|m| !m.is_finite())
        {
            return Err(Error::Usage("margins must be numbers, and relative ones 0 to 1".into()));
        }
        let hard = match &self.hard_negatives {
            Some(path) => Some(HardNegatives::read(path, collection, self.hard_negatives_per_query)?),
            None => None,
        };
        let guide = match &self.guide {
            Some(model) => Some(self.encode(model, collection, langs, hard.as_ref())?),
            None => None,
        };
        let guide_margin = match self.guide_relative_margin {
            Some(r) => GuideMargin::Relative(r),
            None => GuideMargin::Absolute(self.guide_margin.unwrap_or(0.0)),
        };
        let mask = MaskSettings {
            margin: self.mask_margin,
            relative_margin: self.mask_relative_margin,
            guide: guide.is_some().then_some(guide_margin),
            reference: reference(&self.mask_positive),
            judged: self.mask_judged,
        };
        Ok(trainer::Negatives { hard, mask, guide })
    }

    /// The guide's vectors of all texts that a batch may hold.
    fn encode(
        &self,
        model: &str,
        collection: &Collection,
        langs: &[Lang],
        hard: Option<&HardNegatives>,
    ) -> Result<Guide> {
        let options = ModelOptions {
            query_prompt: self.guide_query_prompt.clone(),
            passage_prompt: self.guide_passage_prompt.clone(),
            truncate_dim: None,
        };
        let encoder = options.load(model)?;
        let graded = collection.graded(Split::Train);
        let queries = queries_in(collection, &graded, langs);
        let judged = queries.iter().flat_map(|&q| graded.judged(q)).map(|(p, _)| p);
        let mined = hard.into_iter().flat_map(|h| h.pairs()).map(|(_, p)| *p);
        let mut passages: Vec<Index> = judged.chain(mined).collect();
        passages.sort_unstable();
        passages.dedup();
        Guide::new(&*encoder, collection, &queries, &passages)
    }
}
