//! A topic as trec_eval's measures see it: relevance values by rank, and counts.

use crate::qrels::Judged;
use crate::run::Ranking;

/// The relevance value of a passage that is not in the judgments.
pub(super) const NOT_IN_POOL: i64 = -1;
/// The relevance value of a passage whose grade is negative: in the pool, but unjudged.
pub(super) const UNJUDGED: i64 = -2;

/// What measures are computed from.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranked {
    /// Relevance values by rank: a grade from 0 on, [`NOT_IN_POOL`] or [`UNJUDGED`].
    pub(super) values: Vec<i64>,
    /// Grades from 0 on that occur in the judgments with how often, ascending.
    pub(super) levels: Vec<(i64, i64)>,
    /// The lowest relevance value that counts as relevant.
    pub(super) level: i64,
    /// Relevant in the judgments.
    pub(super) num_rel: i64,
    /// Relevant and retrieved.
    pub(super) num_rel_ret: i64,
    /// Retrieved with a judgment that calls them irrelevant; unjudged ones taken out count as well.
    pub(super) num_nonrel_judged_ret: i64,
}

/// What of a ranking is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) level: i64,
    pub(super) depth: usize,
    pub(super) judged_only: bool,
}

impl Ranked {
    /// A topic of a ranking; without one, the list that trec_eval 10 puts in its place: one passage that
    /// nobody judged.
    pub(super) fn new(judged: &Judged, ranking: Option<&Ranking>, view: &View) -> Ranked {
        let value = |grade: Option<f32>| match grade {
            None => NOT_IN_POOL,
            Some(g) if whole(g) < 0 => UNJUDGED,
            Some(g) => whole(g),
        };
        let mut values: Vec<i64> = match ranking {
            Some(r) => r.iter().take(view.depth).map(|(id, _)| value(judged.grade(id))).collect(),
            None => std::iter::once(NOT_IN_POOL).take(view.depth).collect(),
        };
        if view.judged_only {
            values.retain(|v| *v >= 0);
        }
        let mut grades: Vec<i64> = judged.grades().iter().map(|g| whole(*g)).filter(|g| *g >= 0).collect();
        grades.sort_unstable();
        let levels: Vec<(i64, i64)> =
            grades.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as i64)).collect();
        let count = |of: &dyn Fn(i64) -> bool| values.iter().filter(|v| of(**v)).count() as i64;
        let num_rel_ret = count(&|v| v >= view.level.max(0));
        let judged_ret = count(&|v| v >= 0);
        Ranked {
            level: view.level,
            num_rel: levels.iter().filter(|(l, _)| *l >= view.level).map(|(_, n)| n).sum(),
            num_rel_ret,
            num_nonrel_judged_ret: judged_ret - num_rel_ret,
            levels,
            values,
        }
    }

    /// How many passages were retrieved.
    pub(super) fn num_ret(&self) -> i64 {
        self.values.len() as i64
    }

    /// Whether a relevance value counts as relevant.
    pub(super) fn is_relevant(&self, value: i64) -> bool {
        value >= self.level
    }

    /// For each cutoff, ascending, what `state` had become before the passage at that place was seen, or at
    /// the end of the list.
    pub(super) fn at_cutoffs<S: Copy>(
        &self,
        cutoffs: &[i64],
        mut state: S,
        mut see: impl FnMut(&mut S, usize, i64),
        mut out: impl FnMut(S),
    ) {
        let mut cutoffs = cutoffs.iter().peekable();
        for (i, value) in self.values.iter().enumerate() {
            if cutoffs.next_if(|c| **c == i as i64).is_some() {
                out(state);
            }
            if cutoffs.peek().is_none() {
                return;
            }
            see(&mut state, i, *value);
        }
        cutoffs.for_each(|_| out(state));
    }
}

/// A grade as the whole number that trec_eval reads: its fraction is dropped.
fn whole(grade: f32) -> i64 {
    grade as i64
}

/// The relevant judgments of all topics, whatever the level: grades above 0.
pub(super) fn positive(judged: &Judged) -> i64 {
    judged.grades().iter().filter(|g| whole(**g) > 0).count() as i64
}
