//! Memory for values, aligned to cache lines: a vector load that straddles two lines costs two.

use std::ops::{Deref, DerefMut};

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growable buffer of `f32` at an address divisible by 64.
#[derive(Debug, Clone, Default)]
pub struct Floats {
    lines: Vec<Line>,
    len: usize,
}

impl Floats {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut floats = Floats::default();
        floats.resize(len);
        floats
    }

    /// A copy.
    pub fn from_slice(values: &[f32]) -> Self {
        let mut floats = Floats::zeros(values.len());
        floats.copy_from_slice(values);
        floats
    }

    /// Makes it `len` values long. Those that were there stay; new ones are zero or hold old values. Memory once
    /// taken is kept for the next time.
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(16);
        if lines > self.lines.len() {
            // Not a doubling: buffers take their final size within a step or two, and are large.
            self.lines.reserve_exact(lines - self.lines.len());
            self.lines.resize(lines, Line([0.0; 16]));
        }
        self.len = len;
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` contiguous initialised f32 (`resize` is the only writer of both),
        // `Line` is `repr(C)` over `[f32; 16]` with a size of 64 and so without padding.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len)
        }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len)
        }
    }
}

impl PartialEq for Floats {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
