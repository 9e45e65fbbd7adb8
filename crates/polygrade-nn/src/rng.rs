//! Random numbers by counter: number `i` of a stream is a function of the seed and `i` alone, so threads,
//! batching and resuming cannot change it.

/// A stream of random numbers, addressed by index.
#[derive(Debug, Clone, Copy)]
pub struct CounterRng {
    key: u64,
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl CounterRng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        CounterRng { key: mix(seed.wrapping_add(GOLDEN)) }
    }

    /// A stream of its own for a purpose, such as an epoch or a query.
    pub fn fork(&self, purpose: u64) -> Self {
        CounterRng { key: mix(self.key ^ mix(purpose.wrapping_add(GOLDEN))) }
    }

    /// 64 random bits.
    pub fn bits(&self, i: u64) -> u64 {
        mix(self.key.wrapping_add(i.wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1).
    pub fn uniform(&self, i: u64) -> f64 {
        (self.bits(i) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n.
    pub fn below(&self, i: u64, n: usize) -> usize {
        ((u128::from(self.bits(i)) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&self, i: u64) -> f64 {
        let u = 1.0 - self.uniform(2 * i);
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * self.uniform(2 * i + 1)).cos()
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64, i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_right_and_streams_differ() {
        let rng = CounterRng::new(3);
        let n = 100_000;
        let mean = (0..n).map(|i| rng.uniform(i)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let square = (0..n).map(|i| rng.normal(i).powi(2)).sum::<f64>() / n as f64;
        assert!((square - 1.0).abs() < 0.02, "{square}");
        let same = (0..1000).filter(|&i| rng.below(i, 10) == rng.fork(1).below(i, 10)).count();
        assert!((50..150).contains(&same), "{same}");
        let mut items: Vec<u32> = (0..100).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
