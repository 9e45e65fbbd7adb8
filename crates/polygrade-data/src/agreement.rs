//! Agreement of annotators: Krippendorff's α for ordinal data (Krippendorff 2011, "Computing Krippendorff's
//! Alpha-Reliability").
//!
//! α = 1 − (n − 1) Σ_{c<k} o_ck δ²_ck / Σ_{c<k} n_c n_k δ²_ck, with o_ck the coincidences of grades c and k in pairs that
//! are judged more than once, each pair of m judgments counting 1/(m − 1) for every ordered two of them, n_c their sums,
//! and δ_ck = Σ_{g=c..k} n_g − (n_c + n_k)/2. It takes any number of annotators, each of whom may have judged only some
//! pairs: 1 is perfect agreement, 0 what chance gives, below 0 is systematic disagreement.

use std::collections::BTreeMap;

/// α of units, each with the grades that it was given. `None` where no unit has two, or all grades are the same.
pub fn alpha<'a>(units: impl IntoIterator<Item = &'a [f32]>) -> Option<f64> {
    let mut coincidences: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    for grades in units.into_iter().filter(|g| g.len() > 1) {
        let weight = 1.0 / (grades.len() - 1) as f64;
        for (i, a) in grades.iter().enumerate() {
            *sums.entry(key(*a)).or_default() += 1.0;
            for (_, b) in grades.iter().enumerate().filter(|(j, _)| *j != i) {
                *coincidences.entry((key(*a), key(*b))).or_default() += weight;
            }
        }
    }
    let grades: Vec<u32> = sums.keys().copied().collect();
    let counts: Vec<f64> = sums.values().copied().collect();
    let n: f64 = counts.iter().sum();
    let (mut observed, mut expected) = (0.0, 0.0);
    for c in 0..grades.len() {
        for k in c + 1..grades.len() {
            let distance = counts[c..=k].iter().sum::<f64>() - (counts[c] + counts[k]) / 2.0;
            let square = distance * distance;
            observed += coincidences.get(&(grades[c], grades[k])).unwrap_or(&0.0) * square;
            expected += counts[c] * counts[k] * square;
        }
    }
    (expected > 0.0).then(|| 1.0 - (n - 1.0) * observed / expected)
}

/// A number in the order of grades, which are never negative.
fn key(grade: f32) -> u32 {
    // Also −0.
    (grade + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Krippendorff 2011, section E: four observers, twelve units; ordinal α = 0.815.
    #[test]
    fn the_published_example() {
        let observers = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ];
        let unit = |u: usize| {
            observers.iter().map(|o| o[u]).filter(|g| *g > 0).map(|g| g as f32).collect::<Vec<f32>>()
        };
        let units: Vec<Vec<f32>> = (0..12).map(unit).collect();
        let found = alpha(units.iter().map(Vec::as_slice)).unwrap();
        assert!((found - 0.815).abs() < 0.0005, "{found}");
        // Only the order of grades counts.
        let squares: Vec<Vec<f32>> = units.iter().map(|u| u.iter().map(|g| g * g).collect()).collect();
        assert!((alpha(squares.iter().map(Vec::as_slice)).unwrap() - found).abs() < 1e-12);
    }

    #[test]
    fn perfect_agreement_and_nothing_to_say() {
        assert_eq!(alpha([&[1.0, 1.0][..], &[3.0, 3.0, 3.0]]), Some(1.0));
        assert_eq!(alpha([&[1.0][..], &[2.0]]), None);
        assert_eq!(alpha([&[1.0, 1.0][..]]), None);
        assert!(alpha([&[0.0, 3.0][..], &[3.0, 0.0]]).unwrap() < 0.0);
    }
}
