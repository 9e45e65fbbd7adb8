//! Files of `-Z`: lines `query-id measure mean deviation`, against which values are shown as standard scores.

use crate::columns;
use polygrade_data::{At, Problems, Result};
use rustc_hash::FxHashMap;
use std::path::Path;

/// What stands for a value that the file says nothing of.
const MISSING: f64 = -1_000_000.0;

/// Means and standard deviations by query and measure.
pub(super) struct ZScores {
    by_query: FxHashMap<String, FxHashMap<String, (f64, f64)>>,
}

impl ZScores {
    pub(super) fn read(path: &Path) -> Result<ZScores> {
        let mut problems = Problems::default();
        let mut by_query: FxHashMap<String, FxHashMap<String, (f64, f64)>> = FxHashMap::default();
        columns::read(path, &mut problems, |problems, columns| {
            let number = |i: usize| columns.get(i).parse::<f64>().ok().filter(|v| v.is_finite());
            match (columns.count, number(2), number(3)) {
                (4, Some(mean), Some(deviation)) => {
                    let of = by_query.entry(columns.get(0).to_owned()).or_default();
                    of.insert(columns.get(1).to_owned(), (mean, deviation));
                }
                _ => {
                    let fix = "write query-id measure mean deviation";
                    problems.push(At::line(path, columns.line), "is no line of z-scores", fix);
                }
            }
        })?;
        problems.into_result().map(|()| ZScores { by_query })
    }

    pub(super) fn convert(&self, topic: &str, measure: &str, value: f64) -> f64 {
        match self.by_query.get(topic).and_then(|of| of.get(measure)) {
            Some((mean, deviation)) if *deviation != 0.0 => (value - mean) / deviation,
            Some((mean, _)) if value == *mean => 0.0,
            _ => MISSING,
        }
    }
}
