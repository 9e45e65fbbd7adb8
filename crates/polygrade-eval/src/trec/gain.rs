//! Measures of graded gain: dcg, ideal_dcg, ndcg, ndcg_cut, ndcg_rel, Rndcg, G, rbp, rbp_resid.

use super::ranked::Ranked;

/// Gains named on the command line: `level=gain` pairs, and pairs whose name is no whole number.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs {
    pub(super) gains: Vec<(i64, f64)>,
    pub(super) named: Vec<(String, f64)>,
}

/// Levels with how often they are judged and what they are worth, in trec_eval's order of gains.
struct Gains {
    levels: Vec<Level>,
}

#[derive(Clone, Copy)]
struct Level {
    level: i64,
    count: i64,
    gain: f64,
}

/// Levels up to here that nothing is judged with stand among the others, as they can change the order of
/// gains that are less than 1 apart.
const DENSE: i64 = 4096;

impl Gains {
    fn new(r: &Ranked, pairs: &Pairs) -> Gains {
        let count =
            |level: i64| r.levels.binary_search_by_key(&level, |(l, _)| *l).map_or(0, |at| r.levels[at].1);
        let mut levels: Vec<Level> = pairs
            .gains
            .iter()
            .map(|(level, gain)| Level { level: *level, count: count(*level), gain: *gain })
            .collect();
        let given = levels.len();
        let mut add = |level: i64, count: i64| {
            if !levels[..given].iter().any(|l| l.level == level) {
                levels.push(Level { level, count, gain: level as f64 });
            }
        };
        let highest = r.levels.last().map_or(-1, |(l, _)| *l);
        if given > 0 && highest <= DENSE {
            (0..=highest).for_each(|level| add(level, count(level)));
        } else {
            r.levels.iter().for_each(|(level, count)| add(*level, *count));
        }
        let mut scratch = levels.clone();
        sort(&mut levels, &mut scratch);
        Gains { levels }
    }

    fn of(&self, value: i64) -> f64 {
        self.levels.iter().find(|l| l.level == value).map_or(0.0, |l| l.gain)
    }

    /// The best order: the gain at each place, as long as it is above 0.
    fn ideal(&self) -> Ideal<'_> {
        let at = self.levels.len();
        Ideal { levels: &self.levels[..at], taken: 0, gain: self.levels.last().map_or(0.0, |l| l.gain) }
    }
}

/// A difference as C makes a whole number of it on x86, where what does not fit becomes the least.
fn whole(difference: f64) -> i32 {
    if difference.abs() < 2_147_483_648.0 { difference as i32 } else { i32::MIN }
}

/// trec_eval compares gains by their difference, cut to a whole number, in glibc's merge sort. Gains that
/// differ by less than 1 are thereby equal, which is no order, so that the algorithm matters.
fn sort(levels: &mut [Level], scratch: &mut [Level]) {
    let n = levels.len();
    if n < 2 {
        return;
    }
    let half = n / 2;
    sort(&mut levels[..half], scratch);
    sort(&mut levels[half..], scratch);
    let (mut a, mut b) = (0, half);
    for slot in scratch[..n].iter_mut() {
        let left = b == n || a < half && whole(levels[a].gain - levels[b].gain) <= 0;
        let from = if left { &mut a } else { &mut b };
        *slot = levels[*from];
        *from += 1;
    }
    levels.copy_from_slice(&scratch[..n]);
}

struct Ideal<'a> {
    levels: &'a [Level],
    taken: i64,
    /// The gain of the place just taken; before the first, the highest.
    gain: f64,
}

impl Ideal<'_> {
    /// Goes to the next place.
    fn step(&mut self) {
        self.taken += 1;
        while let Some((last, rest)) = self.levels.split_last() {
            if self.taken <= last.count {
                break;
            }
            self.taken = 1;
            self.levels = rest;
            self.gain = rest.last().map_or(0.0, |l| l.gain);
        }
    }
}

fn discounted(gain: f64, i: usize) -> f64 {
    gain / ((i + 2) as f64).log2()
}

/// (DCG of the list, DCG of the best order).
fn dcgs(r: &Ranked, pairs: &Pairs) -> (f64, f64) {
    let gains = Gains::new(r, pairs);
    let (mut dcg, mut ideal_dcg) = (0.0, 0.0);
    for (i, v) in r.values.iter().enumerate() {
        let gain = gains.of(*v);
        if gain != 0.0 {
            dcg += discounted(gain, i);
        }
    }
    let (mut ideal, mut i) = (gains.ideal(), 0);
    while ideal.gain > 0.0 {
        ideal.step();
        if ideal.gain > 0.0 {
            ideal_dcg += discounted(ideal.gain, i);
        }
        i += 1;
    }
    (dcg, ideal_dcg)
}

/// Discounted cumulative gain.
pub(super) fn dcg(r: &Ranked, pairs: &Pairs) -> f64 {
    dcgs(r, pairs).0
}

/// That of the best order.
pub(super) fn ideal_dcg(r: &Ranked, pairs: &Pairs) -> f64 {
    dcgs(r, pairs).1
}

/// Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002).
pub(super) fn ndcg(r: &Ranked, pairs: &Pairs) -> f64 {
    let (dcg, ideal) = dcgs(r, pairs);
    if ideal > 0.0 { dcg / ideal } else { 0.0 }
}

/// The same at cutoffs; gains are the grades.
pub(super) fn ndcg_cut(r: &Ranked, cutoffs: &[i64]) -> Vec<f64> {
    let mut out = Vec::with_capacity(cutoffs.len());
    let see = |sum: &mut f64, i: usize, v: i64| {
        if v > 0 {
            *sum += discounted(v as f64, i);
        }
    };
    r.at_cutoffs(cutoffs, 0.0, see, |sum| out.push(sum));
    let best = r.levels.iter().rev().filter(|(l, _)| *l > 0);
    let mut best = best.flat_map(|(l, n)| std::iter::repeat_n(*l as f64, *n as usize)).enumerate().peekable();
    let mut ideal = 0.0;
    for (cutoff, value) in cutoffs.iter().zip(&mut out) {
        while let Some((i, gain)) = best.next_if(|(i, _)| (*i as i64) < *cutoff) {
            ideal += discounted(gain, i);
        }
        if ideal > 0.0 {
            *value /= ideal;
        }
    }
    out
}

/// nDCG averaged over the places at which the best order's gain changes.
pub(super) fn r_ndcg(r: &Ranked, pairs: &Pairs) -> f64 {
    if r.num_rel == 0 {
        return 0.0;
    }
    let gains = Gains::new(r, pairs);
    let mut ideal = gains.ideal();
    let (mut dcg, mut ideal_dcg, mut sum, mut changes, mut i) = (0.0, 0.0, 0.0, 0, 0);
    let mut old = ideal.gain;
    let mut change = |dcg: f64, ideal_dcg: f64| {
        if ideal_dcg > 0.0 {
            sum += dcg / ideal_dcg;
            changes += 1;
        }
    };
    let n = r.values.len();
    while i < n && ideal.gain > 0.0 {
        ideal.step();
        if old != ideal.gain {
            change(dcg, ideal_dcg);
            old = ideal.gain;
        }
        let gain = gains.of(r.values[i]);
        if gain != 0.0 {
            dcg += discounted(gain, i);
        }
        if ideal.gain > 0.0 {
            ideal_dcg += discounted(ideal.gain, i);
        }
        i += 1;
    }
    if i < n {
        for (i, v) in r.values.iter().enumerate().skip(i) {
            let gain = gains.of(*v);
            if gain != 0.0 {
                dcg += discounted(gain, i);
            }
        }
        i = n;
        change(dcg, ideal_dcg);
    }
    while ideal.gain > 0.0 {
        ideal.step();
        if old != ideal.gain {
            change(dcg, ideal_dcg);
            old = ideal.gain;
        }
        if ideal.gain > 0.0 {
            ideal_dcg += discounted(ideal.gain, i);
        }
        i += 1;
    }
    sum / f64::from(changes)
}

/// nDCG averaged over the passages with a gain; one that is not retrieved has the nDCG at the end.
pub(super) fn ndcg_rel(r: &Ranked, pairs: &Pairs) -> f64 {
    let gains = Gains::new(r, pairs);
    let mut ideal = gains.ideal();
    let (mut dcg, mut ideal_dcg, mut sum) = (0.0, 0.0, 0.0);
    let (mut found, mut all, mut i) = (0i64, 0i64, 0);
    while i < r.values.len() || ideal.gain > 0.0 {
        let gain = r.values.get(i).map_or(0.0, |v| gains.of(*v));
        if gain != 0.0 {
            dcg += discounted(gain, i);
        }
        if ideal.gain > 0.0 {
            ideal.step();
            if ideal.gain > 0.0 {
                all += 1;
                ideal_dcg += discounted(ideal.gain, i);
            }
        }
        if gain > 0.0 {
            sum += dcg / ideal_dcg;
            found += 1;
        }
        i += 1;
    }
    sum += (all - found) as f64 * dcg / ideal_dcg;
    if sum > 0.0 { sum / all as f64 } else { 0.0 }
}

/// Normalised gain (Buckley): each gain discounted by how much more the best order would have had.
pub(super) fn normalized_gain(r: &Ranked, pairs: &Pairs) -> f64 {
    let gains = Gains::new(r, pairs);
    let mut ideal = gains.ideal();
    let (mut sum, mut results, mut best, mut cost) = (0.0, 0.0, 0.0, 0.0);
    for v in &r.values {
        let gain = gains.of(*v);
        results += gain;
        if ideal.gain > 0.0 {
            ideal.step();
            if ideal.gain > 0.0 {
                best += ideal.gain;
            }
        }
        cost += if ideal.gain >= 1.0 { ideal.gain } else { 1.0 };
        if gain != 0.0 {
            sum += gain / (2.0 + cost - results).log2();
        }
    }
    while ideal.gain > 0.0 {
        ideal.step();
        if ideal.gain > 0.0 {
            best += ideal.gain;
        }
    }
    if best > 0.0 { sum / best } else { 0.0 }
}

fn persistence(pairs: &Pairs) -> f64 {
    pairs.named.iter().rev().find(|(name, _)| name == "p").map_or(0.9, |(_, p)| *p)
}

/// Rank-biased precision (Moffat and Zobel 2008). Gains are brought to 0..1 where any lies outside: less the
/// lowest, or 0 where that is above 0, over what then is the highest.
pub(super) fn rank_biased(r: &Ranked, pairs: &Pairs) -> f64 {
    let mut gains = Gains::new(r, pairs);
    let p = persistence(pairs);
    let (low, high) =
        gains.levels.iter().fold((0.0f64, 0.0f64), |(low, high), l| (low.min(l.gain), high.max(l.gain)));
    if low < 0.0 || high > 1.0 {
        gains.levels.iter_mut().for_each(|l| l.gain = (l.gain - low) / (high - low));
    }
    let (mut sum, mut weight) = (0.0, 1.0);
    for v in &r.values {
        let gain = gains.of(*v);
        if gain != 0.0 {
            sum += gain * weight;
        }
        weight *= p;
    }
    (1.0 - p) * sum
}

/// How much more unjudged passages could bring; 0 where all retrieved are judged.
pub(super) fn rank_biased_residual(r: &Ranked, pairs: &Pairs) -> f64 {
    let p = persistence(pairs);
    let (mut sum, mut weight, mut any) = (0.0, 1.0, false);
    for v in &r.values {
        if *v < 0 {
            any = true;
            sum += weight;
        }
        weight *= p;
    }
    if any { weight + (1.0 - p) * sum } else { 0.0 }
}
