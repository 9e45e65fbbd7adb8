//! Products of bfloat16: rounding, and the tile for CPUs whose instruction for pairs is the faster way.
//!
//! Products of two bfloat16 are exact in f32, so a fused multiply-add of the widened factors gives what
//! `vdpbf16ps` gives, which adds a pair's upper half first. That is where [`pair`] puts the lower k; so both ways
//! sum over k in ascending order, and they differ only in that the instruction takes subnormal numbers as zero.

use super::vectorized;

/// `x` rounded to bfloat16 (to nearest, ties to even), as the upper half of a word. NaN stays NaN.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let up = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 0x0040_0000 } else { up }) & 0xffff_0000
}

/// Two values as bfloat16 in one word.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    rounded(first) | rounded(second) >> 16
}

vectorized! {
    /// Rounds to bfloat16, kept as f32.
    pub(crate) fn round(x: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(x).for_each(|(o, x)| *o = f32::from_bits(rounded(*x)));
    }
}

vectorized! {
    /// Rounds each row of `inputs` values to ⌈`inputs` / 2⌉ pairs; an odd row's last pair ends in zero.
    pub(crate) fn round_pairs(x: &[f32], inputs: usize, out: &mut [u32]) {
        for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(inputs.div_ceil(2))) {
            let (pairs, rest) = x.as_chunks::<2>();
            out.iter_mut().zip(pairs).for_each(|(o, [a, b])| *o = pair(*a, *b));
            if let [last] = rest {
                out[pairs.len()] = pair(*last, 0.0);
            }
        }
    }
}

vectorized! {
    /// Writes a panel of pairs (⌈k / 2⌉ × `COLS`) as k rows of f32; `out` may stop before an odd k's last row.
    pub(crate) fn widen(panel: &[u32], out: &mut [f32]) {
        const COLS: usize = super::tile::COLS;
        for (pairs, out) in panel.chunks_exact(COLS).zip(out.chunks_mut(2 * COLS)) {
            let (first, second) = out.split_at_mut(COLS);
            first.iter_mut().zip(pairs).for_each(|(o, w)| *o = f32::from_bits(w & 0xffff_0000));
            second.iter_mut().zip(pairs).for_each(|(o, w)| *o = f32::from_bits(w << 16));
        }
    }
}

/// Whether [`tile`] is there and faster than [`widen`] and f32 tiles. It has twice their rate on AMD's Zen 4 and
/// 5 and half of it on Intel's Sapphire and Emerald Rapids, where bfloat16 is left to AMX.
pub(crate) fn pays() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::sync::OnceLock;
        static PAYS: OnceLock<bool> = OnceLock::new();
        *PAYS.get_or_init(|| {
            let vendor = std::arch::x86_64::__cpuid(0);
            super::has_bf16() && (vendor.ebx, vendor.edx, vendor.ecx) == x86::AMD
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `out[i][j] = Σ_p a[i][p] · panel[p][j]` for `rows ≤ ROWS` rows of `pairs` pairs and `COLS` columns; row `i` of
/// `out` starts at `i * stride`.
///
/// # Panics
/// When a buffer is too short for the sizes, or the CPU lacks the instruction.
#[cfg(target_arch = "x86_64")]
pub(crate) fn tile(rows: usize, a: &[u32], panel: &[u32], pairs: usize, (out, stride): (&mut [f32], usize)) {
    use super::tile::{COLS, ROWS};
    assert!(super::has_bf16() && rows > 0 && rows <= ROWS);
    assert!(a.len() >= rows * pairs);
    assert!(panel.len() >= pairs * COLS && out.len() >= (rows - 1) * stride + COLS);
    // SAFETY: the instructions were found on this CPU, and the assertions above cover every address.
    #[allow(unsafe_code)]
    unsafe {
        x86::avx512(rows, a, panel, pairs, out, stride);
    }
}

/// As on other architectures: never called, for want of the instruction.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn tile(_: usize, _: &[u32], _: &[u32], _: usize, _: (&mut [f32], usize)) {
    unreachable!("`pays` is false here")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::simd::tile::{COLS, by_rows};
    use std::arch::x86_64::*;

    /// "AuthenticAMD" in the registers of CPUID leaf 0: ebx, edx, ecx.
    pub(super) const AMD: (u32, u32, u32) = (0x6874_7541, 0x6974_6e65, 0x444d_4163);

    /// # Safety
    /// AVX-512 F and BF16 are there, and the sizes are those that [`super::tile`] asserts.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn avx512(
        rows: usize,
        a: &[u32],
        panel: &[u32],
        pairs: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, tile, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], (a, panel, pairs, out, stride));
        }
    }

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const N: usize>(a: &[u32], panel: &[u32], pairs: usize, out: &mut [f32], stride: usize) {
        /// # Safety
        /// None: both types are 512 bits of plain data.
        #[allow(unsafe_code)]
        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn halves(x: __m512i) -> __m512bh {
            // SAFETY: any bits are a value of either type, and the sizes are equal.
            unsafe { std::mem::transmute(x) }
        }
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        // SAFETY: every offset lies inside what `super::tile` asserts.
        unsafe {
            let (mut b, mut x) = (panel.as_ptr().cast::<i32>(), a.as_ptr().cast::<i32>());
            for _ in 0..pairs {
                let b0 = halves(_mm512_loadu_si512(b.cast()));
                let b1 = halves(_mm512_loadu_si512(b.add(16).cast()));
                for (i, s) in sums.iter_mut().enumerate() {
                    let v = halves(_mm512_set1_epi32(*x.add(i * pairs)));
                    s[0] = _mm512_dpbf16_ps(s[0], v, b0);
                    s[1] = _mm512_dpbf16_ps(s[1], v, b1);
                }
                b = b.wrapping_add(COLS);
                x = x.wrapping_add(1);
            }
            for (i, s) in sums.iter().enumerate() {
                for (half, s) in s.iter().enumerate() {
                    _mm512_storeu_ps(out.as_mut_ptr().add(i * stride + 16 * half), *s);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tile::{self, COLS, ROWS, Rows};
    use super::*;
    use crate::rng::CounterRng;

    #[test]
    fn rounding_keeps_what_is_special() {
        let rounds_to = |x: f32, to: u32| assert_eq!(rounded(x), to << 16, "{x}");
        rounds_to(1.0, 0x3f80);
        rounds_to(f32::from_bits(0x3f80_8000), 0x3f80);
        rounds_to(f32::from_bits(0x3f81_8000), 0x3f82);
        rounds_to(f32::from_bits(0x3f80_8001), 0x3f81);
        rounds_to(-0.0, 0x8000);
        rounds_to(f32::MAX, 0x7f80);
        rounds_to(f32::NEG_INFINITY, 0xff80);
        assert!(f32::from_bits(rounded(f32::from_bits(0x7f80_0001))).is_nan());
        assert!(f32::from_bits(rounded(f32::from_bits(0x7fff_ffff))).is_nan());
    }

    #[test]
    fn both_ways_agree() {
        if !super::super::has_bf16() {
            return;
        }
        let rng = CounterRng::new(2);
        let number = |i: usize| (rng.bits(i as u64) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        for k in [1, 2, 7, 96] {
            let pairs = k / 2 + k % 2;
            let panel: Vec<u32> = (0..pairs * COLS)
                .map(|i| {
                    pair(number(2 * i), if k % 2 == 1 && i / COLS == k / 2 { 0.0 } else { number(2 * i + 1) })
                })
                .collect();
            let mut wide = vec![0.0; k * COLS];
            widen(&panel, &mut wide);
            for rows in 1..=ROWS {
                let x: Vec<f32> = (0..rows * k).map(|i| number(i + (1 << 20))).collect();
                let (mut words, mut rounded) = (vec![0; rows * pairs], vec![0.0; rows * k]);
                round_pairs(&x, k, &mut words);
                round(&x, &mut rounded);
                let (mut a, mut b) = (vec![0.0; rows * COLS], vec![0.0; rows * COLS]);
                tile(rows, &words, &panel, pairs, (&mut a, COLS));
                tile::f32(rows, Rows { values: &rounded, row: k, col: 1 }, &wide, k, (&mut b, COLS), false);
                // Equal bits are not asked for: the instruction may round a pair's sum otherwise on other CPUs.
                let near = a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * (k as f32).sqrt());
                assert!(near, "{rows} rows, {k}");
            }
        }
    }
}
