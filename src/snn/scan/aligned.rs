//! Numbers that begin where a cache line does, so that no vector of them lies in two.

use crate::tensor::dtype::Float;
use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A fixed number of them.
#[derive(Debug)]
pub(super) struct Aligned<F> {
    // Is never moved or grown, so that `first` stays right.
    numbers: Box<[F]>,
    first: usize,
    len: usize,
}

impl<F: Float> Aligned<F> {
    pub fn zeros(len: usize) -> Self {
        let numbers = vec![F::ZERO; len + LINE / size_of::<F>()].into_boxed_slice();
        let first = numbers.as_ptr().align_offset(LINE).min(LINE / size_of::<F>());
        Self { numbers, first, len }
    }
}

impl<F> Deref for Aligned<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &self.numbers[self.first..self.first + self.len]
    }
}

impl<F> DerefMut for Aligned<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        &mut self.numbers[self.first..self.first + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_a_line_and_has_its_length() {
        for len in [0, 1, 16, 1000] {
            let mut numbers = Aligned::<f32>::zeros(len);
            numbers.fill(1.0);
            assert_eq!((numbers.as_ptr() as usize % LINE, numbers.iter().sum::<f32>()), (0, len as f32));
            let moved = numbers;
            assert_eq!((moved.as_ptr() as usize % LINE, moved.len()), (0, len));
        }
    }
}
