//! Runs against judgments: the values of metrics by topic.
//!
//! Topics without judgments are passed over. Judged topics that the run lacks are passed over too, or under
//! `complete` count with an empty list, as trec_eval's `-c` has it. Topics come by query id in the order of
//! bytes and are computed in parallel; the values do not depend on the number of threads.

use crate::measure::{Measure, Topic};
use crate::qrels::{Judged, Qrels};
use crate::run::{Ranking, Run};
use rayon::prelude::*;
use serde::Serialize;

/// What of a run is measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScoreOptions {
    /// Judged topics that the run lacks count as well, with an empty list (trec_eval's `-c`).
    pub complete: bool,
    /// Only so many passages of each ranking (`-M`).
    pub depth: Option<usize>,
    /// Passages without a judgment, or with a negative grade, are taken out of rankings first (`-J`).
    pub judged_only: bool,
}

/// Values of metrics by topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Query ids, in the order of bytes.
    pub topics: Vec<String>,
    /// The metrics' names.
    pub measures: Vec<String>,
    /// `values[topic][measure]`.
    pub values: Vec<Vec<f64>>,
    /// For each metric, the mean over topics, or for counts the sum; 0 without topics.
    pub summary: Vec<f64>,
}

impl Scores {
    /// The values of a metric, by topic.
    pub fn column(&self, measure: usize) -> impl Iterator<Item = f64> {
        self.values.iter().map(move |row| row[measure])
    }
}

impl Topic {
    /// The topic of a ranking; a missing ranking is an empty one.
    pub fn new(judged: &Judged, ranking: Option<&Ranking>, options: &ScoreOptions) -> Topic {
        let depth = options.depth.unwrap_or(usize::MAX);
        let grades = ranking.into_iter().flat_map(Ranking::iter).take(depth).map(|(id, _)| judged.grade(id));
        let ranked = grades.filter(|g| !options.judged_only || g.is_some_and(|g| g >= 0.0)).collect();
        Topic { ranked, judged: judged.grades().to_vec() }
    }
}

/// Measures a run.
pub fn score(qrels: &Qrels, run: &Run, measures: &[Measure], options: &ScoreOptions) -> Scores {
    let topics: Vec<(&str, &Judged, Option<&Ranking>)> = qrels
        .iter()
        .map(|(id, judged)| (id, judged, run.get(id)))
        .filter(|(_, _, ranking)| options.complete || ranking.is_some())
        .collect();
    let value = |(_, judged, ranking): &(&str, &Judged, Option<&Ranking>)| -> Vec<f64> {
        let topic = Topic::new(judged, *ranking, options);
        measures.iter().map(|m| m.of(&topic)).collect()
    };
    let values: Vec<Vec<f64>> = topics.par_iter().map(value).collect();
    let summary = |(i, m): (usize, &Measure)| m.summary(values.iter().map(|row| row[i]));
    Scores {
        topics: topics.iter().map(|(id, ..)| (*id).to_owned()).collect(),
        measures: measures.iter().map(Measure::to_string).collect(),
        summary: measures.iter().enumerate().map(summary).collect(),
        values,
    }
}
