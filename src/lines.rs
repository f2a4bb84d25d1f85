//! Numbers that begin at a cache line: a vector of them that is read or written then touches one line and not two.

use std::ops::{Deref, DerefMut};

/// Bytes of a line.
const LINE: usize = 64;

/// A slice of fixed length.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    values: Vec<T>,
    first: usize,
    len: usize,
}

impl<T: Copy + Default> Lines<T> {
    pub fn zeros(len: usize) -> Self {
        let room = LINE / size_of::<T>();
        let values = vec![T::default(); len + room];
        let first = values.as_ptr().align_offset(LINE).min(room);
        Self { values, first, len }
    }
}

impl<T: Copy + Default> FromIterator<T> for Lines<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values: Vec<T> = values.into_iter().collect();
        let mut lines = Self::zeros(values.len());
        lines.copy_from_slice(&values);
        lines
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.values[self.first..self.first + self.len]
    }
}

impl<T> DerefMut for Lines<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.first..self.first + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_begin_at_a_line() {
        for len in [0, 1, 5, 16, 1000, 70_000] {
            let mut lines: Lines<f32> = (0..len).map(|i| i as f32).collect();
            assert!(lines.len() == len && (lines.as_ptr() as usize).is_multiple_of(LINE));
            lines.iter_mut().enumerate().for_each(|(i, x)| *x -= i as f32);
            assert!(lines.iter().all(|&x| x == 0.0));
        }
    }
}
