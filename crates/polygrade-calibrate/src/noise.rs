//! Models of annotation noise: grades corrupted at a rate.
//!
//! - *adjacent*: a grade moves one step up or down, each as likely; an end of the scale moves inward. The scale is that
//!   of the judgments: the steps are the grades that occur. Where grades are fractional (means of annotators), a step
//!   is the nearest grade at least 1 away.
//! - *uniform*: a grade becomes another of those that occur, each as likely.
//! - *confusion*: the errors of a real annotator. With C the share of each observed grade (columns) for each true
//!   grade (rows), the rate r mixes it with no error: (1 − r)·I + r·C.
//!
//! See [`crate::alteration`] for what all of them keep to.

use crate::alteration::{pair_rng, share};
use polygrade_data::error::DEFAULT_PROBLEM_LIMIT;
use polygrade_data::{At, Collection, Error, Judgment, Problems, Result, io, qrels};
use polygrade_nn::rng::CounterRng;
use rustc_hash::FxHashMap;
use std::fmt;
use std::path::Path;

/// A model of noise with its rate, 0..1.
#[derive(Debug, Clone, PartialEq)]
pub enum Noise {
    /// To a neighbour on the scale.
    Adjacent(f64),
    /// To any other grade.
    Uniform(f64),
    /// By a confusion matrix; the rate is its part in the mixture with the identity.
    Confusion {
        /// Where the matrix comes from, as [`Noise::parse`] reads it.
        source: String,
        /// The matrix.
        matrix: Confusion,
        /// r.
        rate: f64,
    },
}

/// A purpose of random numbers.
const NOISE: u64 = 0x6e6f;

impl Noise {
    /// Parses `adjacent:RATE`, `uniform:RATE`, or `confusion:FILE:RATE` with the matrix in a file
    /// ([`Confusion::load`]), or with two judgment files of the same pairs in place of it, `TRUE=OBSERVED`
    /// ([`Confusion::between_files`]). `None` where it is none of these.
    pub fn parse(text: &str) -> Result<Option<Noise>> {
        let Some((kind, rest)) = text.trim().split_once(':') else { return Ok(None) };
        Ok(match kind {
            "adjacent" => share(rest).map(Noise::Adjacent),
            "uniform" => share(rest).map(Noise::Uniform),
            "confusion" => match rest.rsplit_once(':').and_then(|(file, rate)| Some((file, share(rate)?))) {
                Some((source, rate)) => {
                    let matrix = match source.split_once('=') {
                        Some((truth, observed)) => {
                            Confusion::between_files(Path::new(truth), Path::new(observed))?
                        }
                        None => Confusion::load(Path::new(source))?,
                    };
                    Some(Noise::Confusion { source: source.to_owned(), matrix, rate })
                }
                None => None,
            },
            _ => None,
        })
    }

    /// The rate, 0..1.
    pub fn rate(&self) -> f64 {
        match *self {
            Noise::Adjacent(rate) | Noise::Uniform(rate) | Noise::Confusion { rate, .. } => rate,
        }
    }

    /// The judgments with corrupted grades, in the order given.
    pub fn corrupt(&self, collection: &Collection, judgments: &[Judgment], seed: u64) -> Vec<Judgment> {
        let rng = CounterRng::new(seed).fork(NOISE);
        let mut scale: Vec<f32> = judgments.iter().map(|j| j.grade).collect();
        scale.sort_by(f32::total_cmp);
        scale.dedup();
        let corrupt = |j: &Judgment| {
            let rng = pair_rng(&rng, collection, j);
            let hit = rng.uniform(0) < self.rate();
            Judgment { grade: if hit { self.other(&scale, j.grade, rng.uniform(1)) } else { j.grade }, ..*j }
        };
        judgments.iter().map(corrupt).collect()
    }

    /// What a corrupted grade becomes; `u` is uniform in 0..1.
    fn other(&self, scale: &[f32], grade: f32, u: f64) -> f32 {
        match self {
            Noise::Adjacent(_) => match neighbours(scale, grade) {
                (Some(below), Some(above)) => [below, above][usize::from(u >= 0.5)],
                (below, above) => below.or(above).unwrap_or(grade),
            },
            Noise::Uniform(_) => {
                let others: Vec<f32> = scale.iter().copied().filter(|g| *g != grade).collect();
                others.get((u * others.len() as f64) as usize).copied().unwrap_or(grade)
            }
            Noise::Confusion { matrix, .. } => matrix.observe(grade, u),
        }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Noise::Adjacent(rate) => write!(f, "adjacent:{rate}"),
            Noise::Uniform(rate) => write!(f, "uniform:{rate}"),
            Noise::Confusion { source, rate, .. } => write!(f, "confusion:{source}:{rate}"),
        }
    }
}

/// The nearest grades of the scale one step below and above: at least 1 away, or, where the scale has none on either
/// side, the next.
fn neighbours(scale: &[f32], grade: f32) -> (Option<f32>, Option<f32>) {
    let within = |step: f32| {
        let below = scale.iter().rev().copied().find(|g| *g < grade && grade - g >= step);
        let above = scale.iter().copied().find(|g| *g > grade && g - grade >= step);
        (below, above)
    };
    match within(1.0) {
        (None, None) => within(0.0),
        found => found,
    }
}

/// What an annotator calls each true grade: a row for each true grade, ascending, whose shares add up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    truth: Vec<f32>,
    observed: Vec<f32>,
    /// truth × observed
    shares: Vec<f64>,
}

impl Confusion {
    /// Counts pairs (true grade, observed grade); `None` without any.
    pub fn count(pairs: impl IntoIterator<Item = (f32, f32)>) -> Option<Confusion> {
        let pairs: Vec<(f32, f32)> = pairs.into_iter().collect();
        let grades = |of: fn(&(f32, f32)) -> f32| {
            let mut grades: Vec<f32> = pairs.iter().map(of).collect();
            grades.sort_by(f32::total_cmp);
            grades.dedup();
            grades
        };
        let (truth, observed) = (grades(|p| p.0), grades(|p| p.1));
        let mut shares = vec![0.0; truth.len() * observed.len()];
        for (t, o) in &pairs {
            let (row, col) = (place(&truth, *t), place(&observed, *o));
            shares[row * observed.len() + col] += 1.0;
        }
        normalise(&mut shares, observed.len());
        (!pairs.is_empty()).then_some(Confusion { truth, observed, shares })
    }

    /// From two sets of judgments of one collection, over the pairs that both judge; `None` where there are none.
    pub fn between(truth: &[Judgment], observed: &[Judgment]) -> Option<Confusion> {
        let observed: FxHashMap<(u32, u32), f32> =
            observed.iter().map(|j| ((j.query, j.passage), j.grade)).collect();
        let both = |j: &Judgment| Some((j.grade, *observed.get(&(j.query, j.passage))?));
        Confusion::count(truth.iter().filter_map(both))
    }

    /// From two judgment files (BEIR's or TREC's columns), over the pairs that both judge.
    pub fn between_files(truth: &Path, observed: &Path) -> Result<Confusion> {
        let read = |path: &Path| {
            let (mut problems, mut out) =
                (Problems::with_limit(DEFAULT_PROBLEM_LIMIT), FxHashMap::<(String, String), f32>::default());
            qrels::read(path, &mut problems, |_, _, (q, p), grade| {
                out.insert((q.to_owned(), p.to_owned()), grade);
                Ok(())
            })?;
            problems.into_result().map(|()| out)
        };
        let (a, b) = (read(truth)?, read(observed)?);
        Confusion::count(a.iter().filter_map(|(pair, grade)| Some((*grade, *b.get(pair)?)))).ok_or_else(
            || {
                let what = format!("judges no pair of {}", truth.display());
                Error::input(At::file(observed), what, "give two files that judge the same pairs")
            },
        )
    }

    /// Reads a matrix from a table with tabs: the first line names the observed grades, each further line begins with
    /// a true grade; cells are counts or shares. Lines that begin with `#` and the first cell are not looked at.
    ///
    /// ```text
    /// true    0       1       2       3
    /// 0       90      10      0       0
    /// 3       0       5       15      80
    /// ```
    pub fn load(path: &Path) -> Result<Confusion> {
        let text = io::read_to_string(path)?;
        let mut problems = Problems::default();
        let mut observed: Option<Vec<f32>> = None;
        let mut rows: Vec<(f32, Vec<f64>)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let at = At::line(path, number as u64 + 1);
            let mut cells = line.split('\t').map(str::trim);
            let head = cells.next().unwrap_or_default();
            let grade = |c: &str| c.parse::<f32>().ok().filter(|g| g.is_finite());
            let Some(columns) = &observed else {
                let grades: Option<Vec<f32>> = cells.map(grade).collect();
                match grades.filter(|g| !g.is_empty() && g.windows(2).all(|w| w[0] < w[1])) {
                    Some(grades) => observed = Some(grades),
                    None => {
                        let fix =
                            "begin with a line: true<TAB>0<TAB>1<TAB>2 …, the observed grades ascending";
                        return Err(Error::input(at, format!("has {line:?} for the observed grades"), fix));
                    }
                }
                continue;
            };
            let counts: Option<Vec<f64>> = cells
                .map(|c| c.parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0))
                .collect::<Option<Vec<f64>>>()
                .filter(|c| c.len() == columns.len() && c.iter().sum::<f64>() > 0.0);
            match (grade(head), counts) {
                (Some(grade), Some(counts)) if rows.iter().all(|(g, _)| *g != grade) => {
                    rows.push((grade, counts))
                }
                _ => problems.push(
                    at,
                    format!("{line:?} is no row of the matrix"),
                    format!("write a true grade, once, and {} counts that are not all 0", columns.len()),
                ),
            }
        }
        if rows.is_empty() {
            problems.push(At::file(path), "holds no row of a confusion matrix", "add a row for each grade");
        }
        problems.into_result()?;
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let observed = observed.unwrap_or_default();
        let truth = rows.iter().map(|(g, _)| *g).collect();
        let mut shares: Vec<f64> = rows.into_iter().flat_map(|(_, counts)| counts).collect();
        normalise(&mut shares, observed.len());
        Ok(Confusion { truth, observed, shares })
    }

    /// The true grades, ascending: the rows.
    pub fn truth(&self) -> &[f32] {
        &self.truth
    }

    /// The observed grades, ascending: the columns.
    pub fn observed(&self) -> &[f32] {
        &self.observed
    }

    /// The shares of the observed grades for the `row`-th true grade.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.shares[row * self.observed.len()..(row + 1) * self.observed.len()]
    }

    /// The observed grade of a true one, by inverting the row's distribution at `u` in 0..1. A grade without a row has
    /// that of the nearest, of two the lower.
    fn observe(&self, grade: f32, u: f64) -> f32 {
        let row = self.row(place(&self.truth, grade));
        let mut left = u;
        for (share, observed) in row.iter().zip(&self.observed) {
            if left < *share {
                return *observed;
            }
            left -= share;
        }
        // Rounding left a little: the last grade that occurs.
        let last = row.iter().rposition(|s| *s > 0.0);
        last.map_or(grade, |i| self.observed[i])
    }
}

/// The place of the nearest grade, of two the lower.
fn place(grades: &[f32], grade: f32) -> usize {
    let nearest =
        |(_, a): &(usize, &f32), (_, b): &(usize, &f32)| (*a - grade).abs().total_cmp(&(*b - grade).abs());
    grades.iter().enumerate().min_by(nearest).map_or(0, |(i, _)| i)
}

fn normalise(shares: &mut [f64], cols: usize) {
    for row in shares.chunks_mut(cols.max(1)) {
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
}
