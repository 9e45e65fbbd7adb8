//! Products of 8-bit integers: quantisation of rows, and the tile. Sums are exact integers, so every CPU gives the
//! same bits.
//!
//! A row of values x becomes q = round(127 x / max|x|) with a factor of its own. `vpdpbusd` multiplies unsigned by
//! signed bytes, so rows are kept as q + 128, and what that adds to a sum is taken off where it starts:
//! Σ (q + 128) w − 128 Σ w.

use super::tile::{COLS, ROWS};
use super::vectorized;

/// Values that one word holds.
pub(crate) const GROUP: usize = 4;
/// The largest inner size whose sums fit 32 bits, in whole groups: 127² · `MAX_INNER` < 2³¹. Before the offset is
/// taken off they may wrap around, which cancels.
pub(crate) const MAX_INNER: usize = (i32::MAX as usize / (127 * 127)) / GROUP * GROUP;

/// Adding it to a number of at most ±127 leaves the number, rounded (ties to even) and plus 128, in the lowest
/// byte of the bits: a plain loop with it becomes vector code on every CPU.
const ROUND: f32 = 12_582_912.0 + 128.0;

/// What to divide and multiply by for the highest |x| that is given: (127 / max, max / 127). A NaN or an infinity
/// among the values reaches the second, and with it the products.
#[inline(always)]
pub(crate) fn factors(values: impl Iterator<Item = f32>) -> (f32, f32) {
    // As integers the bits of |x| are in the order of the numbers, with NaN above all.
    let top = f32::from_bits(values.map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max));
    ((127.0 / top).min(f32::MAX), top / 127.0)
}

/// `round(x * factor) + 128`
#[inline(always)]
pub(crate) fn quantized(x: f32, factor: f32) -> u8 {
    (x * factor + ROUND).to_bits() as u8
}

vectorized! {
    /// Quantises rows of `inputs` values to rows of ⌈`inputs` / 4⌉ · 4 bytes, and gives each row's factor. What
    /// fills a row up meets zeros in the panels.
    pub(crate) fn quantize(x: &[f32], inputs: usize, out: &mut [u8], scales: &mut [f32]) {
        let width = inputs.next_multiple_of(GROUP);
        for ((x, out), scale) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(width)).zip(scales) {
            let (factor, back) = factors(x.iter().copied());
            *scale = back;
            out.iter_mut().zip(x).for_each(|(o, x)| *o = quantized(*x, factor));
        }
    }
}

/// Rows that [`quantize`] made.
#[derive(Clone, Copy)]
pub(crate) struct ByteRows<'a> {
    pub(crate) values: &'a [u8],
    pub(crate) scales: &'a [f32],
}

/// `COLS` columns of weights.
#[derive(Clone, Copy)]
pub(crate) struct BytePanel<'a> {
    /// Group after group, [`GROUP`] values of each column.
    pub(crate) values: &'a [i8],
    /// −128 times each column's sum.
    pub(crate) starts: &'a [i32],
    pub(crate) scales: &'a [f32],
}

/// `out[i][j] = (Σ_p a[i][p] · panel[p][j] + start[j]) · scale[j] · scale[i]` for `rows ≤ ROWS` rows and `COLS`
/// columns; row `i` of `out` starts at `i * stride`.
///
/// # Panics
/// When a buffer is too short for the sizes.
pub(crate) fn tile(
    rows: usize,
    a: ByteRows,
    panel: BytePanel,
    groups: usize,
    (out, stride): (&mut [f32], usize),
) {
    assert!(rows > 0 && rows <= ROWS && a.scales.len() >= rows);
    assert!(a.values.len() >= rows * groups * GROUP && panel.values.len() >= groups * GROUP * COLS);
    assert!(panel.starts.len() >= COLS && panel.scales.len() >= COLS);
    assert!(out.len() >= (rows - 1) * stride + COLS);
    #[cfg(target_arch = "x86_64")]
    if super::has_vnni() {
        // SAFETY: the instructions were found on this CPU, and the assertions above cover every address.
        #[allow(unsafe_code)]
        return unsafe { x86::avx512(rows, a, panel, groups, out, stride) };
    }
    portable(rows, a, panel, groups, out, stride);
}

vectorized! {
    fn portable(rows: usize, a: ByteRows, panel: BytePanel, groups: usize, out: &mut [f32], stride: usize) {
        let (starts, column_scales) = (&panel.starts[..COLS], &panel.scales[..COLS]);
        for i in 0..rows {
            let mut sums = [0i32; COLS];
            sums.copy_from_slice(starts);
            let row = a.values[i * groups * GROUP..].as_chunks::<GROUP>().0;
            let panel = panel.values.as_chunks::<{ GROUP * COLS }>().0;
            for (x, w) in row.iter().zip(&panel[..groups]) {
                let x = x.map(i32::from);
                for (s, w) in sums.iter_mut().zip(w.as_chunks::<GROUP>().0) {
                    let [a, b, c, d] = w.map(i32::from);
                    *s = s.wrapping_add(x[0] * a + x[1] * b + x[2] * c + x[3] * d);
                }
            }
            let out = &mut out[i * stride..][..COLS];
            for ((o, s), scale) in out.iter_mut().zip(sums).zip(column_scales) {
                *o = s as f32 * scale * a.scales[i];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BytePanel, ByteRows, COLS, GROUP};
    use crate::simd::tile::by_rows;
    use std::arch::x86_64::*;

    /// # Safety
    /// AVX-512 F and VNNI are there, and the sizes are those that [`super::tile`] asserts.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn avx512(
        rows: usize,
        a: ByteRows,
        panel: BytePanel,
        groups: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, tile, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], (a, panel, groups, out, stride));
        }
    }

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn tile<const N: usize>(
        a: ByteRows,
        panel: BytePanel,
        groups: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        // SAFETY: every offset lies inside what `super::tile` asserts.
        unsafe {
            let starts = panel.starts.as_ptr();
            let start = [_mm512_loadu_si512(starts.cast()), _mm512_loadu_si512(starts.add(16).cast())];
            let mut sums = [start; N];
            let (mut b, mut x) = (panel.values.as_ptr(), a.values.as_ptr());
            for _ in 0..groups {
                let (b0, b1) = (_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(64).cast()));
                for (i, s) in sums.iter_mut().enumerate() {
                    let v = _mm512_set1_epi32(x.add(i * groups * GROUP).cast::<i32>().read_unaligned());
                    s[0] = _mm512_dpbusd_epi32(s[0], v, b0);
                    s[1] = _mm512_dpbusd_epi32(s[1], v, b1);
                }
                b = b.wrapping_add(GROUP * COLS);
                x = x.wrapping_add(GROUP);
            }
            let scales = panel.scales.as_ptr();
            let scales = [_mm512_loadu_ps(scales), _mm512_loadu_ps(scales.add(16))];
            for (i, s) in sums.iter().enumerate() {
                let row = _mm512_set1_ps(*a.scales.as_ptr().add(i));
                for (half, s) in s.iter().enumerate() {
                    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(*s), scales[half]);
                    _mm512_storeu_ps(out.as_mut_ptr().add(i * stride + 16 * half), _mm512_mul_ps(value, row));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterRng;

    #[test]
    fn every_way_gives_the_same_bits() {
        let rng = CounterRng::new(1);
        for groups in [0, 1, 5, 96] {
            let bytes = |from: u64, n: usize| (from..).take(n).map(|i| rng.bits(i) as u8);
            let panel: Vec<i8> = bytes(0, groups * GROUP * COLS).map(|w| (w as i8).max(-127)).collect();
            let starts: Vec<i32> = (0..COLS as i32).map(|j| j * 1000 - 128).collect();
            let scales: Vec<f32> = (1..=COLS).map(|j| 0.01 / j as f32).collect();
            for rows in 1..=ROWS {
                let values: Vec<u8> = bytes(1 << 20, rows * groups * GROUP).collect();
                let a = ByteRows { values: &values, scales: &scales };
                let panel = BytePanel { values: &panel, starts: &starts, scales: &scales };
                let stride = COLS + 3;
                let (mut fast, mut slow) = (vec![7.0; rows * stride], vec![7.0; rows * stride]);
                tile(rows, a, panel, groups, (&mut fast, stride));
                portable(rows, a, panel, groups, &mut slow, stride);
                assert_eq!(fast, slow, "{rows} rows, {groups} groups");
            }
        }
    }

    #[test]
    fn quantising_rounds_ties_to_even() {
        let values = [127.0, 0.5, 1.5, -0.5, -1.5, 126.4, -127.0, 0.0];
        let (factor, scale) = factors(values.into_iter());
        assert_eq!((factor, scale), (1.0, 1.0));
        assert_eq!(values.map(|x| i32::from(quantized(x, factor)) - 128), [127, 0, 2, 0, -2, 126, -127, 0]);
    }
}
