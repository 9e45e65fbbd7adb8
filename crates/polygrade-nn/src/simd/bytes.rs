//! Products of 8-bit integers: quantisation of rows, and the tile. Sums are exact integers, so every CPU gives the
//! same bits.
//!
//! Weights w are signed, symmetric, with a factor a column. A row of values x is unsigned, with a factor and a zero
//! z of its own, q = round(254 (x − min) / (max − min)) for a range that has 0 in it: what an activation gives
//! hardly goes below 0, and with symmetric rows a sentence encoder's vectors had twice the error. A product is
//! Σ q w − z Σ w.

use super::tile::{COLS, ROWS};
use super::vectorized;

/// Values that one word holds.
pub(crate) const GROUP: usize = 4;
/// The largest inner size: a column's sum has to fit [`split`], and the product's 32 bits. Before z Σ w is taken
/// off, sums may wrap around, which cancels.
pub(crate) const MAX_INNER: usize = 1 << 15;

/// Adding it to a number of at most 2²² rounds the number (ties to even) and leaves it in the lowest bits: a plain
/// loop with it becomes vector code on every CPU.
const ROUND: f32 = 12_582_912.0;

/// Two 16-bit numbers in a word; the sum of products of two such words is one instruction.
#[inline(always)]
fn halves(high: i32, low: i32) -> i32 {
    high << 16 | low & 0xffff
}

/// A column's sum s as 128 · high + low.
pub(crate) fn split(sum: i32) -> i32 {
    let high = (sum + 64) >> 7;
    halves(high, sum - (high << 7))
}

/// −z so that its product with [`split`]'s word is −z s.
#[inline(always)]
fn minus(zero: i32) -> i32 {
    halves(-128 * zero, -zero)
}

/// The product of such words.
#[inline(always)]
fn both(a: i32, b: i32) -> i32 {
    (a >> 16) * (b >> 16) + i32::from(a as i16) * i32::from(b as i16)
}

/// Writes a column of weights through `write`; gives its factor. NaN and infinities reach the factor.
pub(crate) fn quantize_column(weights: &[f32], mut write: impl FnMut(usize, i8)) -> f32 {
    // As integers the bits of |w| are in the order of the numbers, with NaN above all.
    let top = f32::from_bits(weights.iter().map(|w| w.to_bits() & 0x7fff_ffff).fold(0, u32::max));
    let factor = (127.0 / top).min(f32::MAX);
    for (p, w) in weights.iter().enumerate() {
        write(p, (w * factor).round_ties_even() as i8);
    }
    top / 127.0
}

vectorized! {
    /// Quantises rows of `inputs` values to rows of ⌈`inputs` / 4⌉ · 4 bytes, and gives each row's zero, for
    /// [`ByteRows`], and factor. What fills a row up meets zeros in the panels. NaN and infinities reach the factor.
    pub(crate) fn quantize(x: &[f32], inputs: usize, out: &mut [u8], zeros: &mut [i32], scales: &mut [f32]) {
        let width = inputs.next_multiple_of(GROUP);
        let rows = x.chunks_exact(inputs).zip(out.chunks_exact_mut(width));
        for ((x, out), (zero, scale)) in rows.zip(zeros.iter_mut().zip(scales)) {
            // An involution between the bits of numbers and integers in the same order, NaN outermost: the lowest
            // and highest of integers are vector code, and keep NaN.
            let key = |bits: i32| bits ^ (bits >> 31 & 0x7fff_ffff);
            let (mut low, mut high) = (0, 0);
            for x in x {
                let key = key(x.to_bits() as i32);
                (low, high) = (low.min(key), high.max(key));
            }
            let (low, high) = (f32::from_bits(key(low) as u32), f32::from_bits(key(high) as u32));
            let range = high - low;
            // 254, not 255: both ends may be rounded up.
            let factor = (254.0 / range).min(f32::MAX);
            *scale = range / 254.0;
            let from = ROUND - (low * factor).round_ties_even();
            *zero = minus(i32::from(from.to_bits() as u8));
            out.iter_mut().zip(x).for_each(|(o, x)| *o = (x * factor + from).to_bits() as u8);
        }
    }
}

/// Rows that [`quantize`] made.
#[derive(Clone, Copy)]
pub(crate) struct ByteRows<'a> {
    pub(crate) values: &'a [u8],
    pub(crate) zeros: &'a [i32],
    pub(crate) scales: &'a [f32],
}

/// `COLS` columns of weights.
#[derive(Clone, Copy)]
pub(crate) struct BytePanel<'a> {
    /// Group after group, [`GROUP`] values of each column.
    pub(crate) values: &'a [i8],
    /// [`split`] sums of each column.
    pub(crate) sums: &'a [i32],
    pub(crate) scales: &'a [f32],
}

/// `out[i][j] = (Σ_p a[i][p] · panel[p][j] − zero[i] · sum[j]) · scale[j] · scale[i]` for `rows ≤ ROWS` rows and
/// `COLS` columns; row `i` of `out` starts at `i * stride`.
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
    assert!(rows > 0 && rows <= ROWS && a.scales.len() >= rows && a.zeros.len() >= rows);
    assert!(a.values.len() >= rows * groups * GROUP && panel.values.len() >= groups * GROUP * COLS);
    assert!(panel.sums.len() >= COLS && panel.scales.len() >= COLS);
    assert!(out.len() >= (rows - 1) * stride + COLS);
    #[cfg(target_arch = "x86_64")]
    {
        use super::{Level, level};
        // SAFETY: the instructions were found on this CPU, and the assertions above cover every address.
        #[allow(unsafe_code)]
        unsafe {
            if super::has_vnni() {
                return x86::avx512(rows, a, panel, groups, out, stride);
            } else if level() >= Level::Avx2 && std::arch::is_x86_feature_detected!("avxvnni") {
                return x86::avx_vnni(rows, a, panel, groups, out, stride);
            } else if level() >= Level::Avx2 {
                return x86::avx2(rows, a, panel, groups, out, stride);
            }
        }
    }
    portable(rows, a, panel, groups, out, stride);
}

fn portable(rows: usize, a: ByteRows, panel: BytePanel, groups: usize, out: &mut [f32], stride: usize) {
    for i in 0..rows {
        let mut sums = [0; COLS];
        sums.iter_mut().zip(panel.sums).for_each(|(s, sum)| *s = both(a.zeros[i], *sum));
        let row = a.values[i * groups * GROUP..].as_chunks::<GROUP>().0;
        let weights = panel.values.as_chunks::<{ GROUP * COLS }>().0;
        for (x, w) in row.iter().zip(&weights[..groups]) {
            let x = x.map(i32::from);
            for (s, w) in sums.iter_mut().zip(w.as_chunks::<GROUP>().0) {
                let [a, b, c, d] = w.map(i32::from);
                *s = s.wrapping_add(x[0] * a + x[1] * b + x[2] * c + x[3] * d);
            }
        }
        let out = &mut out[i * stride..][..COLS];
        for ((o, s), scale) in out.iter_mut().zip(sums).zip(panel.scales) {
            *o = s as f32 * scale * a.scales[i];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BytePanel, ByteRows, COLS, GROUP};
    use crate::simd::tile::by_rows;
    use std::arch::x86_64::*;

    /// # Safety
    /// AVX-512 F, BW and VNNI are there, and the sizes are those that [`super::tile`] asserts.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
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
            by_rows!(rows, tile512, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], (a, panel, groups, out, stride));
        }
    }

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn tile512<const N: usize>(
        a: ByteRows,
        panel: BytePanel,
        groups: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        // SAFETY: every offset lies inside what `super::tile` asserts.
        unsafe {
            let sums_of = |half: usize| _mm512_loadu_si512(panel.sums.as_ptr().add(16 * half).cast());
            let columns = [sums_of(0), sums_of(1)];
            let mut sums = [[_mm512_setzero_si512(); 2]; N];
            for (i, s) in sums.iter_mut().enumerate() {
                let zero = _mm512_set1_epi32(*a.zeros.as_ptr().add(i));
                *s = columns.map(|c| _mm512_madd_epi16(zero, c));
            }
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

    /// A tile of registers of 256 bits, two rows at a time. `start(zero)` is the word whose product with the
    /// columns' sums a sum starts with, `dot(sum, x, w)` adds the groups' products.
    macro_rules! tile256 {
        ($name:ident, $features:literal, $start:expr, $dot:expr) => {
            /// # Safety
            /// The instructions are there, and the sizes are those that [`super::tile`] asserts.
            #[allow(unsafe_code)]
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(
                rows: usize,
                a: ByteRows,
                panel: BytePanel,
                groups: usize,
                out: &mut [f32],
                stride: usize,
            ) {
                for top in (0..rows).step_by(2) {
                    // An odd last row is done twice.
                    let row = |i: usize| (top + i).min(rows - 1);
                    // SAFETY: every offset lies inside what `super::tile` asserts.
                    unsafe {
                        let part = |j: usize| _mm256_loadu_si256(panel.sums.as_ptr().add(8 * j).cast());
                        let columns = [part(0), part(1), part(2), part(3)];
                        let mut sums = [[_mm256_setzero_si256(); 4]; 2];
                        for (i, s) in sums.iter_mut().enumerate() {
                            let zero = $start(_mm256_set1_epi32(*a.zeros.as_ptr().add(row(i))));
                            *s = columns.map(|c| _mm256_madd_epi16(zero, c));
                        }
                        let mut b = panel.values.as_ptr();
                        let mut x = [0, 1].map(|i| a.values.as_ptr().add(row(i) * groups * GROUP));
                        for _ in 0..groups {
                            let w = [0, 32, 64, 96].map(|at| _mm256_loadu_si256(b.add(at).cast()));
                            for (x, s) in x.iter_mut().zip(&mut sums) {
                                let v = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
                                for (s, w) in s.iter_mut().zip(w) {
                                    *s = $dot(*s, v, w);
                                }
                                *x = x.wrapping_add(GROUP);
                            }
                            b = b.wrapping_add(GROUP * COLS);
                        }
                        for (i, s) in sums.iter().enumerate() {
                            let scale = _mm256_set1_ps(*a.scales.as_ptr().add(row(i)));
                            for (j, s) in s.iter().enumerate() {
                                let columns = _mm256_loadu_ps(panel.scales.as_ptr().add(8 * j));
                                let value = _mm256_mul_ps(_mm256_cvtepi32_ps(*s), columns);
                                let to = out.as_mut_ptr().add(row(i) * stride + 8 * j);
                                _mm256_storeu_ps(to, _mm256_mul_ps(value, scale));
                            }
                        }
                    }
                }
            }
        };
    }

    tile256!(avx_vnni, "avx2,avxvnni", |zero| zero, _mm256_dpbusd_avx_epi32);
    // Without such a dot product: `maddubs` adds pairs in 16 bits, too few for 255 · 127, but enough for |q − 128|
    // times w of its sign. So q − 128 stands for q and z − 128 for z.
    tile256!(
        avx2,
        "avx2",
        |zero| _mm256_add_epi16(zero, _mm256_set1_epi32(super::halves(128 * 128, 128))),
        |sum, x, w| {
            let x = _mm256_xor_si256(x, _mm256_set1_epi8(-128));
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterRng;

    type Tile = fn(usize, ByteRows, BytePanel, usize, &mut [f32], usize);

    /// The tiles that this CPU can run.
    fn ways() -> Vec<Tile> {
        let mut ways: Vec<Tile> = vec![|rows, a, b, k, out, stride| tile(rows, a, b, k, (out, stride))];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            // SAFETY: each is called only where its instructions are, with sizes for which `tile` was called before.
            #[allow(unsafe_code)]
            {
                if has!("avx512bw") && has!("avx512vnni") {
                    ways.push(|rows, a, b, k, out, stride| unsafe {
                        x86::avx512(rows, a, b, k, out, stride)
                    });
                }
                if has!("avx2") && has!("avxvnni") {
                    ways.push(|rows, a, b, k, out, stride| unsafe {
                        x86::avx_vnni(rows, a, b, k, out, stride)
                    });
                }
                if has!("avx2") {
                    ways.push(|rows, a, b, k, out, stride| unsafe { x86::avx2(rows, a, b, k, out, stride) });
                }
            }
        }
        ways
    }

    #[test]
    fn every_way_gives_the_same_bits() {
        let rng = CounterRng::new(1);
        // Bytes of all values, and the outermost ones.
        for (groups, extreme) in [(0, false), (1, false), (5, false), (96, false), (5, true), (300, true)] {
            let byte = |i: u64| if extreme { [0, 255][rng.bits(i) as usize % 2] } else { rng.bits(i) as u8 };
            let bytes = |from: u64, n: usize| (from..).take(n).map(byte);
            let panel: Vec<i8> = bytes(0, groups * GROUP * COLS)
                .map(|w| {
                    if extreme && w == 0 {
                        -127
                    } else if extreme {
                        127
                    } else {
                        (w as i8).max(-127)
                    }
                })
                .collect();
            let mut sums = vec![0; COLS];
            panel.iter().enumerate().for_each(|(i, w)| sums[i / GROUP % COLS] += i32::from(*w));
            let exact = sums.clone();
            let sums: Vec<i32> = sums.into_iter().map(split).collect();
            let scales: Vec<f32> = (1..=COLS).map(|j| 0.01 / j as f32).collect();
            for rows in 1..=ROWS {
                let values: Vec<u8> = bytes(1 << 20, rows * groups * GROUP).collect();
                let zeros = [0, 255, 128, 7, 100, 1, 254, 127, 129, 64, 200, 30];
                let words = zeros.map(minus);
                let a = ByteRows { values: &values, zeros: &words, scales: &scales };
                let panel = BytePanel { values: &panel, sums: &sums, scales: &scales };
                let stride = COLS + 3;
                let mut slow = vec![7.0; rows * stride];
                portable(rows, a, panel, groups, &mut slow, stride);
                for way in ways() {
                    let mut fast = vec![7.0; rows * stride];
                    way(rows, a, panel, groups, &mut fast, stride);
                    assert_eq!(fast, slow, "{rows} rows, {groups} groups");
                }
                for (i, j) in [(0, 0), (rows - 1, 5), (rows / 2, COLS - 1)] {
                    let product: i32 = (0..groups * GROUP)
                        .map(|p| {
                            let w = panel.values[(p / GROUP * COLS + j) * GROUP + p % GROUP];
                            i32::from(values[i * groups * GROUP + p]) * i32::from(w)
                        })
                        .sum();
                    let wanted = (product - zeros[i] * exact[j]) as f32 * scales[j] * scales[i];
                    assert_eq!(slow[i * stride + j], wanted);
                }
            }
        }
    }

    #[test]
    fn sums_survive_their_split() {
        let most = 127 * MAX_INNER as i32;
        for sum in [0, 1, -1, 63, 64, -64, -65, 127, 128, 12_345, most, -most] {
            for zero in [0, 1, 128, 255] {
                assert_eq!(both(minus(zero), split(sum)), -zero * sum, "{zero} {sum}");
            }
        }
    }
}
