//! One tile of a product: up to [`ROWS`] rows of A times one panel of [`COLS`] columns of B.
//!
//! Every value is summed over k in ascending order with fused multiply-adds, whatever the tile's height and
//! the CPU: so a row's bits depend neither on the rows beside it nor on the machine.

use super::{Level, level};

/// Columns of a panel.
pub(crate) const COLS: usize = 32;
/// Rows of the largest tile.
pub(crate) const ROWS: usize = 12;

/// A's values: row `i`, column `p` is `values[i * row + p * col]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row: usize,
    pub(crate) col: usize,
}

/// `out[i][j] = Σ_p a[i][p] · panel[p][j]` for `rows ≤ ROWS` rows and `COLS` columns; row `i` of `out` starts at
/// `i * stride`. With `add`, the sum is added to what is there.
///
/// # Panics
/// When a buffer is too short for the sizes.
pub(crate) fn f32(
    rows: usize,
    a: Rows,
    panel: &[f32],
    k: usize,
    (out, stride): (&mut [f32], usize),
    add: bool,
) {
    assert!(rows > 0 && rows <= ROWS);
    assert!(k == 0 || a.values.len() > (rows - 1) * a.row + (k - 1) * a.col);
    assert!(panel.len() >= k * COLS && out.len() >= (rows - 1) * stride + COLS);
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: `level` found the instructions on this CPU; the assertions above cover every address that the
        // tiles touch: a[(rows-1)·row + (k-1)·col], panel[k·COLS - 1] and out[(rows-1)·stride + COLS - 1].
        #[allow(unsafe_code)]
        match level() {
            Level::Avx512 => return unsafe { x86::avx512(rows, a, panel, k, out, stride, add) },
            Level::Avx2 => return unsafe { x86::avx2(rows, a, panel, k, out, stride, add) },
            Level::Portable => {}
        }
    }
    let _ = Level::Portable;
    portable(rows, a, panel, k, out, stride, add);
}

fn portable(rows: usize, a: Rows, panel: &[f32], k: usize, out: &mut [f32], stride: usize, add: bool) {
    for i in 0..rows {
        let mut sums = [0.0f32; COLS];
        for (p, b) in panel.as_chunks::<COLS>().0[..k].iter().enumerate() {
            let x = a.values[i * a.row + p * a.col];
            for (s, b) in sums.iter_mut().zip(b) {
                *s = x.mul_add(*b, *s);
            }
        }
        let out = &mut out[i * stride..i * stride + COLS];
        for (o, s) in out.iter_mut().zip(sums) {
            *o = if add { *o + s } else { s };
        }
    }
}

/// Calls a tile compiled for just this number of rows.
#[cfg(target_arch = "x86_64")]
macro_rules! by_rows {
    ($rows:expr, $tile:ident, [$($n:literal),*], $args:tt) => {
        match $rows {
            $($n => $tile::<$n> $args,)*
            _ => unreachable!("the caller keeps to ROWS"),
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use by_rows;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{COLS, Rows};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Rows of the panel that are fetched before they are needed.
    const AHEAD: usize = 12;

    /// # Safety
    /// AVX-512 F is there, and the sizes are those that [`super::f32`] asserts.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(
        rows: usize,
        a: Rows,
        panel: &[f32],
        k: usize,
        out: &mut [f32],
        stride: usize,
        add: bool,
    ) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, tile512, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], (a, panel, k, out, stride, add));
        }
    }

    /// `N` rows of A times two vectors of columns, `$lanes` values each.
    macro_rules! tile {
        ($name:ident, $features:literal, $lanes:literal, $zero:ident, $load:ident, $all:ident, $fma:ident, $add:ident,
         $store:ident) => {
            #[allow(unsafe_code)]
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $name<const N: usize>(
                a: Rows,
                panel: &[f32],
                k: usize,
                out: &mut [f32],
                stride: usize,
                add: bool,
            ) {
                let mut sums = [[$zero(); 2]; N];
                // SAFETY: every offset lies inside what `super::f32` asserts; a prefetch may name any address.
                unsafe {
                    let mut b = panel.as_ptr();
                    // Four rows a pointer, which the compiler is kept from making of one another: addresses that
                    // wait for the one before them take as long as the sums.
                    let x = a.values.as_ptr();
                    let (mut x0, mut x4, mut x8) =
                        (x, black_box(x.wrapping_add(4 * a.row)), black_box(x.wrapping_add(8 * a.row)));
                    let rows = [0, a.row, 2 * a.row, black_box(3 * a.row)];
                    // Outputs are far apart and not read before the end: fetched while the sums are made, a row at a
                    // time, for a core waits when it has asked for more than a few lines.
                    for row in 0..=N {
                        let o = out.as_ptr().wrapping_add(row * stride);
                        _mm_prefetch(o.cast(), _MM_HINT_ET0);
                        _mm_prefetch(o.wrapping_add($lanes).cast(), _MM_HINT_ET0);
                        for _ in 0..(if row < N { k / N } else { k % N }) {
                            let ahead = b.wrapping_add(AHEAD * COLS);
                            _mm_prefetch(ahead.cast(), _MM_HINT_T0);
                            _mm_prefetch(ahead.wrapping_add($lanes).cast(), _MM_HINT_T0);
                            let (b0, b1) = ($load(b), $load(b.add($lanes)));
                            for (i, s) in sums.iter_mut().enumerate() {
                                let v = $all(*[x0, x4, x8][i / 4].add(rows[i % 4]));
                                s[0] = $fma(v, b0, s[0]);
                                s[1] = $fma(v, b1, s[1]);
                            }
                            b = b.wrapping_add(COLS);
                            (x0, x4, x8) =
                                (x0.wrapping_add(a.col), x4.wrapping_add(a.col), x8.wrapping_add(a.col));
                        }
                    }
                    for (i, s) in sums.iter().enumerate() {
                        for (half, s) in s.iter().enumerate() {
                            let o = out.as_mut_ptr().add(i * stride + $lanes * half);
                            $store(o, if add { $add($load(o), *s) } else { *s });
                        }
                    }
                }
            }
        };
    }

    tile!(
        tile512,
        "avx512f",
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_storeu_ps
    );
    tile!(
        tile256,
        "avx2,fma",
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_storeu_ps
    );

    /// # Safety
    /// AVX2 and FMA are there, and the sizes are those that [`super::f32`] asserts.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(
        rows: usize,
        a: Rows,
        panel: &[f32],
        k: usize,
        out: &mut [f32],
        stride: usize,
        add: bool,
    ) {
        // Sixteen registers hold six rows of sixteen columns, so a tile is done in quarters.
        for half in 0..2 {
            let mut from = 0;
            while from < rows {
                let n = (rows - from).min(6);
                let a = Rows { values: &a.values[from * a.row..], ..a };
                let panel = &panel[16 * half..];
                let out = &mut out[from * stride + 16 * half..];
                // SAFETY: the caller's, with the offsets taken off.
                unsafe { by_rows!(n, tile256, [1, 2, 3, 4, 5, 6], (a, panel, k, out, stride, add)) };
                from += n;
            }
        }
    }
}
