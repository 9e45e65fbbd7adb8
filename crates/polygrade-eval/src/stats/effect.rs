//! How large a difference is, whatever its p.

use super::{differences, mean, sd};
use serde::Serialize;

/// A difference in several units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    /// Mean of run − baseline, in the measure's unit.
    pub difference: f64,
    /// The difference over the baseline's mean; `None` where that is 0.
    pub relative: Option<f64>,
    /// Standard deviation of the differences.
    pub sd: f64,
    /// Cohen's d_z: difference / sd, how many standard deviations of the topics' differences it is. 0.2 is
    /// called small, 0.5 medium, 0.8 large (Cohen 1988). `None` where sd is 0.
    pub d: Option<f64>,
    /// d_z with Hedges' correction for few topics, times 1 − 3 / (4 (n − 1) − 1) (Hedges 1981).
    pub g: Option<f64>,
    /// Topics on which the run is above the baseline.
    pub wins: usize,
    /// Topics on which they are equal.
    pub ties: usize,
    /// Topics on which the run is below.
    pub losses: usize,
}

/// The sizes of `run − baseline`.
///
/// # Panics
/// When the two have different numbers of topics.
pub fn effect(run: &[f64], baseline: &[f64]) -> Effect {
    let d = differences(run, baseline);
    let (difference, sd, base) = (mean(&d), sd(&d), mean(baseline));
    let df = d.len().saturating_sub(1) as f64;
    let standardised = (sd > 0.0).then(|| difference / sd);
    let wins = d.iter().filter(|d| **d > 0.0).count();
    let losses = d.iter().filter(|d| **d < 0.0).count();
    Effect {
        difference,
        relative: (base != 0.0).then(|| difference / base),
        sd,
        d: standardised,
        g: standardised.map(|d| d * (1.0 - 3.0 / (4.0 * df - 1.0))),
        wins,
        ties: d.len() - wins - losses,
        losses,
    }
}
