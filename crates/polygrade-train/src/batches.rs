//! Which queries share a batch: languages by temperature, and batches of one language, of all, or of both kinds.
//!
//! **Languages.** A language ℓ with n_ℓ queries has the share p_ℓ ∝ n_ℓ^(1/T) of an epoch's batches (of its queries,
//! where a batch holds several languages): T = 1 takes languages as they are, a higher T raises the small ones, T = ∞
//! makes all equal (temperature sampling of mBERT, XLM-R and mT5: Devlin et al. 2019, arXiv 1911.02116, 2010.11934).
//! An epoch's length does not change: what a raised language repeats, it repeats in a new order, and a lowered one
//! leaves some of its queries to other epochs. Shares become whole numbers by systematic rounding: they sum to the
//! epoch's length, no share is off by one or more, and over epochs each is met exactly on average.
//!
//! **Composition.** See [`Composition`]. Everything is a function of the generator that is handed in.

use crate::examples::Scenario;
use polygrade_nn::rng::CounterRng;
use std::fmt;

/// How batches are made up of languages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batching {
    /// T of the languages' shares; 1 or more, perhaps infinite. With 1 each query is met once an epoch.
    pub lang_sampling: f32,
    /// Which languages share a batch.
    pub composition: Composition,
    /// Whether a translation of each positive, in a language that is drawn, joins the batch as another positive.
    pub parallel_positives: bool,
}

impl Default for Batching {
    fn default() -> Self {
        Batching { lang_sampling: 1.0, composition: Composition::Homogeneous, parallel_positives: false }
    }
}

impl Batching {
    /// As it is in a scenario: hybrid batches are for the mixture, elsewhere they are homogeneous.
    pub fn in_scenario(mut self, scenario: Scenario) -> Batching {
        if scenario != Scenario::Mixture && self.composition.is_hybrid() {
            self.composition = Composition::Homogeneous;
        }
        self
    }
}

/// Which languages share a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Composition {
    /// As few as the scenario allows: queries of one language with passages in it, and across languages passages of
    /// one language.
    Homogeneous,
    /// Queries of all languages; across languages each with passages of a language of its own.
    Mixed,
    /// In the mixture, this share of batches across languages, in which each query meets passages in one drawn other
    /// language; the rest as [`Composition::Homogeneous`] (arXiv 2408.10536; the share there is not known).
    Hybrid(f32),
}

impl Composition {
    /// Parses `homogeneous`, `mixed` or `hybrid:SHARE`, the share in 0..=1.
    pub fn parse(text: &str) -> Option<Composition> {
        match text.trim() {
            "homogeneous" => Some(Composition::Homogeneous),
            "mixed" => Some(Composition::Mixed),
            text => {
                let share = text.strip_prefix("hybrid:")?.parse().ok()?;
                (0.0..=1.0).contains(&share).then_some(Composition::Hybrid(share))
            }
        }
    }

    /// Whether queries meet passages of their own language and of others in one training.
    pub(crate) fn is_hybrid(self) -> bool {
        matches!(self, Composition::Hybrid(_))
    }
}

impl fmt::Display for Composition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Composition::Homogeneous => f.write_str("homogeneous"),
            Composition::Mixed => f.write_str("mixed"),
            Composition::Hybrid(share) => write!(f, "hybrid:{share}"),
        }
    }
}

/// What a batch is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draw {
    /// The examples, by their numbers; none twice.
    pub examples: Vec<u32>,
    /// Whether, in hybrid training, they meet passages in other languages.
    pub across: bool,
}

/// The shares p_ℓ ∝ n_ℓ^(1/T) of languages with so many queries; 0 where there are none. They sum to 1, unless all
/// are 0.
pub fn lang_shares(queries: &[usize], temperature: f32) -> Vec<f64> {
    let weight = |n: &usize| if *n == 0 { 0.0 } else { (*n as f64).powf(1.0 / f64::from(temperature)) };
    let weights: Vec<f64> = queries.iter().map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| if sum > 0.0 { w / sum } else { 0.0 }).collect()
}

/// Whole numbers near `total` · shares that sum to `total`; `u` in [0, 1) says which way they are rounded (systematic
/// sampling, Madow 1949).
pub(crate) fn rounded(shares: &[f64], total: usize, u: f64) -> Vec<usize> {
    let last = shares.iter().rposition(|s| *s > 0.0);
    let (mut sum, mut before) = (0.0, 0);
    let round = |(i, share): (usize, &f64)| {
        sum += share * total as f64;
        // The sum of all shares is 1 up to rounding errors, which must not lose a batch.
        let upto = if Some(i) == last { total } else { ((sum + u).floor() as usize).min(total) };
        // Languages without queries take none, whatever the errors.
        let n = if *share > 0.0 { upto - before } else { 0 };
        before += n;
        n
    };
    shares.iter().enumerate().map(round).collect()
}

/// Deals the members of a language again and again, in a new random order each time, none twice in a hand.
pub(crate) struct Deck {
    order: Vec<u32>,
    at: usize,
    rounds: u64,
    rng: CounterRng,
}

impl Deck {
    pub(crate) fn new(members: &[u32], rng: CounterRng) -> Deck {
        Deck { order: members.to_vec(), at: members.len(), rounds: 0, rng }
    }

    /// Adds `most` members to `hand`, or all where there are fewer.
    pub(crate) fn deal(&mut self, most: usize, hand: &mut Vec<u32>) {
        let most = most.min(self.order.len());
        let left = (self.order.len() - self.at).min(most);
        let before = hand.len();
        hand.extend_from_slice(&self.order[self.at..self.at + left]);
        self.at += left;
        if left == most {
            return;
        }
        self.rng.fork(self.rounds).shuffle(&mut self.order);
        self.rounds += 1;
        // What is in the hand already goes to the end of the new order.
        let held = &hand[before..];
        let (mut fresh, again): (Vec<u32>, Vec<u32>) = self.order.iter().partition(|m| !held.contains(m));
        fresh.extend(again);
        self.order = fresh;
        self.at = most - left;
        hand.extend_from_slice(&self.order[..self.at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounding_keeps_the_total_and_is_fair(
            queries in prop::collection::vec(0usize..500, 1..9),
            t in 1.0f32..9.0,
            total in 0usize..400,
        ) {
            let shares = lang_shares(&queries, t);
            prop_assume!(queries.iter().any(|n| *n > 0));
            // Over evenly spaced u the mean is the share itself.
            let rounds = 1000;
            let mut sums = vec![0usize; shares.len()];
            for i in 0..rounds {
                let n = rounded(&shares, total, (i as f64 + 0.5) / f64::from(rounds));
                prop_assert_eq!(n.iter().sum::<usize>(), total);
                for (l, n) in n.iter().enumerate() {
                    prop_assert!((*n as f64 - shares[l] * total as f64).abs() < 1.0 + 1e-6);
                    sums[l] += n;
                }
            }
            for (sum, share) in sums.iter().zip(&shares) {
                let mean = *sum as f64 / f64::from(rounds);
                prop_assert!((mean - share * total as f64).abs() <= 2.0 / f64::from(rounds) + 1e-6);
            }
        }

        #[test]
        fn a_deck_deals_all_before_any_again(n in 1u32..40, hands in prop::collection::vec(0usize..50, 1..20), seed in 0u64..99) {
            let members: Vec<u32> = (0..n).map(|m| m * 3).collect();
            let mut deck = Deck::new(&members, CounterRng::new(seed));
            let mut times = vec![0usize; n as usize];
            for most in hands {
                let mut hand = vec![u32::MAX];
                deck.deal(most, &mut hand);
                prop_assert_eq!(hand.len() - 1, most.min(n as usize));
                let mut seen = hand[1..].to_vec();
                seen.iter().for_each(|m| times[(m / 3) as usize] += 1);
                seen.sort_unstable();
                prop_assert!(seen.windows(2).all(|w| w[0] < w[1]), "none twice in a hand");
                // All are dealt before any is dealt again.
                let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
                prop_assert!(most - least <= 1, "{:?}", times);
            }
        }
    }

    #[test]
    fn shares_follow_the_formula() {
        assert_eq!(lang_shares(&[30, 10, 0], 1.0), [0.75, 0.25, 0.0]);
        assert_eq!(lang_shares(&[30, 10, 0], f32::INFINITY), [0.5, 0.5, 0.0]);
        let at_2 = lang_shares(&[900, 100], 2.0);
        assert!((at_2[0] - 30.0 / 40.0).abs() < 1e-12, "{at_2:?}");
        assert_eq!(lang_shares(&[0, 0], 2.0), [0.0, 0.0]);
    }

    #[test]
    fn compositions_read_back() {
        for c in [Composition::Homogeneous, Composition::Mixed, Composition::Hybrid(0.25)] {
            assert_eq!(Composition::parse(&c.to_string()), Some(c));
        }
        for bad in ["", "hybrid", "hybrid:", "hybrid:1.1", "hybrid:NaN", "hybrid:-0.1", "one"] {
            assert_eq!(Composition::parse(bad), None, "{bad}");
        }
    }
}
