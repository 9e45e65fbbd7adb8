//! How many topics show a difference, and which difference the topics at hand can show.
//!
//! For the two-sided paired t test: with true difference Δ and standard deviation σ of the topics' differences, t
//! follows the noncentral t with δ = √n Δ / σ and n − 1 degrees of freedom (Sakai's topic set size design, 2016).
//! σ is taken from the differences observed, so the answers are estimates: with 50 topics σ is known to about
//! ± 20 %, and the number of topics goes with σ².

use super::special::{bisect, noncentral_t, normal_quantile, t_critical};

/// Power unless told otherwise: the chance of seeing a difference that is there.
pub const POWER: f64 = 0.8;

/// Beyond so many topics the t is a normal distribution.
const MANY: f64 = 20_000.0;

/// The chance that a paired t test at `alpha` sees a difference of `ratio` = Δ / σ with n topics.
pub fn power(topics: usize, ratio: f64, alpha: f64) -> f64 {
    if topics < 2 {
        return 0.0;
    }
    let df = (topics - 1) as f64;
    let delta = (topics as f64).sqrt() * ratio.abs();
    let critical = t_critical(alpha, df);
    // The series underflows at 37; the chance is 1 long before, unless the critical value is as large.
    if delta > 36.0 {
        return f64::from(delta > critical);
    }
    (1.0 - noncentral_t(critical, df, delta) + noncentral_t(-critical, df, delta)).clamp(0.0, 1.0)
}

/// The fewest topics with which the test sees `difference` with the power asked for, where the topics'
/// differences have standard deviation `sd`. `None` where no number would do: a difference of 0, or no finite
/// one.
pub fn topics_needed(difference: f64, sd: f64, alpha: f64, wanted: f64) -> Option<u64> {
    let ratio = difference.abs() / sd;
    if !ratio.is_finite() || ratio == 0.0 {
        return (difference != 0.0 && sd == 0.0).then_some(2);
    }
    let z = -normal_quantile(alpha / 2.0);
    let normal = ((z + normal_quantile(wanted)) / ratio).powi(2);
    if normal > MANY {
        // Guenther's correction (1981) of the normal answer.
        return Some((normal + z * z / 2.0).ceil().min(u64::MAX as f64) as u64);
    }
    // The normal answer is too small, by a few topics or, where it is tiny, by a few times itself.
    let (mut low, mut high) = (1, 2.max(normal.ceil() as usize + 8));
    while power(high, ratio, alpha) < wanted {
        (low, high) = (high, 2 * high);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if power(middle, ratio, alpha) < wanted { low = middle } else { high = middle }
    }
    Some(high as u64)
}

/// The smallest difference that the test sees with n topics and the power asked for; `None` with fewer than two
/// topics.
pub fn detectable(topics: usize, sd: f64, alpha: f64, wanted: f64) -> Option<f64> {
    if topics < 2 || !sd.is_finite() {
        return None;
    }
    let mut high = 1.0;
    while power(topics, high, alpha) < wanted && high < 1e6 {
        high *= 2.0;
    }
    Some(sd * bisect(0.0, high, |ratio| power(topics, ratio, alpha) < wanted))
}
