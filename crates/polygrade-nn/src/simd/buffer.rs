//! Memory for values, aligned to cache lines: a vector load that straddles two lines costs two.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Numbers that a [`Buffer`] can hold.
///
/// # Safety
/// Every pattern of bits is a value, the size divides 64, and so the alignment does.
#[allow(unsafe_code)]
pub unsafe trait Number: Copy + Debug + Default + PartialEq {}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        // SAFETY: primitive numbers of 1 to 4 bytes without padding.
        #[allow(unsafe_code)]
        unsafe impl Number for $t {}
    )*};
}
numbers!(f32, i32, u32, i16, u16, i8, u8);

/// A growable buffer of numbers at an address divisible by 64.
#[derive(Debug, Clone)]
pub struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    kind: PhantomData<T>,
}

/// A growable buffer of `f32` at an address divisible by 64.
pub type Floats = Buffer<f32>;

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Buffer { lines: Vec::new(), len: 0, kind: PhantomData }
    }
}

impl<T: Number> Buffer<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Buffer::default();
        buffer.resize(len);
        buffer
    }

    /// A copy.
    pub fn from_slice(values: &[T]) -> Self {
        let mut buffer = Buffer::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Makes it `len` values long. Those that were there stay; new ones are zero or hold old values. Memory once
    /// taken is kept for the next time.
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(64 / size_of::<T>());
        if lines > self.lines.len() {
            // Not a doubling, for buffers are large. What grows a second time follows batches, no two of which have
            // the same size: an eighth more spares most of them new pages.
            let spare = if self.lines.is_empty() { 0 } else { lines / 8 };
            self.lines.reserve_exact(lines + spare - self.lines.len());
            self.lines.resize(lines, Line([0; 16]));
        }
        self.len = len;
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len` contiguous initialised values (`resize` is the only writer of both),
        // `Line` is 64 bytes without padding, and `Number` promises that any bits are a value and that `Line`'s
        // alignment is enough.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len)
        }
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len)
        }
    }
}

impl<T: Number> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
