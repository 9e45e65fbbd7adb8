//! Masks for false negatives: candidates of a batch that look too much like the positive to be pushed away.
//!
//! With s the model's similarity of a candidate, p that of the query's positive, and g, h what a guide model gives for
//! the same two pairs, a negative is dropped where
//!
//! - s > p + m: an absolute margin above the positive (Qwen3-Embedding, arXiv 2506.05176, with m = 0.1);
//! - s > p − |p|·r: a relative margin below it, as sentence-transformers mines with;
//! - g > h − m, or g > h − |h|·r: the guide thinks so (GISTEmbed, arXiv 2402.16829; its margins as in
//!   sentence-transformers' `GISTEmbedLoss`).
//!
//! Of several positives of a query a [`Reference`] says which one counts. Judged negatives stay unless
//! [`MaskSettings::judged`] says otherwise: somebody has read them. Judged positives, passages that a policy leaves
//! out, their translations and equal texts need no mask, since [`crate::Examples`] never makes negatives of them.
//!
//! A masked candidate becomes [`Role::Ignored`] without an aim, so losses of labels and of grades pass it over; those
//! of a teacher's scores do not look at roles, and are not masked. The mask
//! sees the whole batch, however GradCache cuts it, and has no gradient.

use super::Role;
use crate::examples::Batch;
use crate::guide::Guide;
use crate::trainer::Negatives;
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};

/// Which of a query's positives a negative is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reference {
    /// The one with the lowest score, which drops most.
    #[default]
    Lowest,
    /// The one with the highest score, which drops least.
    Highest,
    /// The mean of their scores.
    Mean,
}

impl Reference {
    /// All with the names they go by.
    pub const ALL: [(&'static str, Reference); 3] =
        [("lowest", Reference::Lowest), ("highest", Reference::Highest), ("mean", Reference::Mean)];

    /// The score that counts; `None` where there is none.
    pub fn of(self, scores: &[f32]) -> Option<f32> {
        let values = scores.iter().copied();
        match self {
            Reference::Lowest => values.reduce(f32::min),
            Reference::Highest => values.reduce(f32::max),
            Reference::Mean => (!scores.is_empty()).then(|| values.sum::<f32>() / scores.len() as f32),
        }
    }
}

/// A margin of the guide, below its score of the positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GuideMargin {
    /// h − m
    Absolute(f32),
    /// h − |h|·r
    Relative(f32),
}

/// Which negatives are dropped; all off by default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MaskSettings {
    /// m above the positive.
    pub margin: Option<f32>,
    /// r below the positive.
    pub relative_margin: Option<f32>,
    /// The guide's margin.
    pub guide: Option<GuideMargin>,
    /// The positive that counts.
    pub reference: Reference,
    /// Whether judged negatives may be dropped too.
    pub judged: bool,
}

impl MaskSettings {
    /// Whether nothing is dropped.
    pub fn is_off(&self) -> bool {
        self.margin.is_none() && self.relative_margin.is_none() && self.guide.is_none()
    }
}

/// Scores of a batch's pairs, queries × candidates, and what the candidates are.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// The role of each candidate.
    pub roles: &'a [Role],
    /// The grade of each judged pair; NaN where a pair is not judged.
    pub grades: &'a [f32],
    /// The model's similarities; empty where no margin asks for them.
    pub scores: &'a [f32],
    /// The guide's similarities; empty where there is no guide.
    pub guide: &'a [f32],
}

/// Writes to `out` the roles that are left of a batch's, `cols` candidates a query, and gives the number of negatives
/// dropped. Each query is decided by itself; one without a positive keeps its roles.
pub fn mask(pairs: &Pairs, cols: usize, settings: &MaskSettings, out: &mut Vec<Role>) -> usize {
    out.clear();
    out.extend_from_slice(pairs.roles);
    let mut dropped = 0;
    let mut positives = Vec::new();
    for (i, roles) in out.chunks_exact_mut(cols.max(1)).enumerate() {
        let row = i * cols..(i + 1) * cols;
        let scores = pairs.scores.get(row.clone()).unwrap_or(&[]);
        let guide = pairs.guide.get(row.clone()).unwrap_or(&[]);
        let mut reference = |row: &[f32]| {
            positives.clear();
            positives.extend(row.iter().zip(&*roles).filter(|(_, r)| **r == Role::Positive).map(|(s, _)| *s));
            settings.reference.of(&positives)
        };
        let none = f32::INFINITY;
        let own = reference(scores).map_or(none, |p| {
            let above = settings.margin.map_or(none, |m| p + m);
            above.min(settings.relative_margin.map_or(none, |r| p - p.abs() * r))
        });
        let other = match (settings.guide, reference(guide)) {
            (Some(GuideMargin::Absolute(m)), Some(h)) => h - m,
            (Some(GuideMargin::Relative(r)), Some(h)) => h - h.abs() * r,
            _ => none,
        };
        for (j, (role, grade)) in roles.iter_mut().zip(&pairs.grades[row]).enumerate() {
            let over = scores.get(j).is_some_and(|s| *s > own) || guide.get(j).is_some_and(|g| *g > other);
            if over && *role == Role::Negative && (settings.judged || grade.is_nan()) {
                *role = Role::Ignored;
                dropped += 1;
            }
        }
    }
    dropped
}

/// The mask of a training run, with its buffers.
pub(crate) struct Mask {
    settings: MaskSettings,
    guide: Option<Guide>,
    threads: bool,
    scores: Matrix,
    guide_scores: Matrix,
    roles: Vec<Role>,
    aims: Vec<f64>,
    dropped: usize,
}

impl Mask {
    /// A mask under these settings. With `threads`, rayon's threads share the products.
    pub(crate) fn new(negatives: &Negatives, threads: bool) -> Self {
        Mask {
            settings: negatives.mask,
            guide: negatives.guide.clone(),
            threads,
            scores: Matrix::default(),
            guide_scores: Matrix::default(),
            roles: Vec::new(),
            aims: Vec::new(),
            dropped: 0,
        }
    }

    /// The roles and aims that are left of a batch, whose vectors are given. A pair that is dropped has no aim any more, so
    /// that losses of grades pass it over too.
    pub(crate) fn apply<'a>(
        &'a mut self,
        batch: &'a Batch,
        queries: &Matrix,
        passages: &Matrix,
    ) -> (&'a [Role], &'a [f64]) {
        if self.settings.is_off() {
            return (&batch.roles, &batch.aims);
        }
        // Always of whole vectors, also where a loss looks at their beginnings (Matryoshka).
        if self.settings.margin.is_some() || self.settings.relative_margin.is_some() {
            matmul(queries, passages, Transpose::Right, self.threads, &mut self.scores);
        }
        if let Some(guide) = &self.guide {
            guide.scores(&batch.queries, &batch.passages, self.threads, &mut self.guide_scores);
        }
        let pairs = Pairs {
            roles: &batch.roles,
            grades: &batch.grades,
            scores: &self.scores.data,
            guide: &self.guide_scores.data,
        };
        self.dropped = mask(&pairs, batch.passages.len(), &self.settings, &mut self.roles);
        if !self.settings.judged {
            return (&self.roles, &batch.aims);
        }
        let kept =
            |((aim, before), after): ((&f64, &Role), &Role)| if before == after { *aim } else { f64::NAN };
        self.aims.clear();
        self.aims.extend(batch.aims.iter().zip(&batch.roles).zip(&self.roles).map(kept));
        (&self.roles, &self.aims)
    }

    /// Forgets the last batch.
    pub(crate) fn clear(&mut self) {
        self.dropped = 0;
    }

    /// Negatives dropped from the last batch.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped
    }
}
