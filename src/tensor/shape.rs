//! Shapes, axes and broadcasting. Layout is always row-major and contiguous.

use super::DType;
use crate::{Error, Result};

/// Shape and kind of number of a tensor: all that [`Op::infer`](super::Op::infer) sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Size of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// Kind of number.
    pub dtype: DType,
}

impl Meta {
    /// A shape of a kind of number.
    pub fn new(shape: impl Into<Vec<usize>>, dtype: DType) -> Self {
        Self { shape: shape.into(), dtype }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

/// Number of elements of a shape, refused where it cannot be addressed. For shapes that come from outside.
pub(crate) fn checked_len(op: &'static str, shape: &[usize]) -> Result<usize> {
    let len =
        shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= isize::MAX as usize / 8);
    len.ok_or_else(|| mismatch(op, shape, &[], "more elements than memory can address"))
}

/// The error for operands that do not fit.
pub(crate) fn mismatch(op: &'static str, lhs: &[usize], rhs: &[usize], why: impl Into<String>) -> Error {
    Error::Shape { op, lhs: lhs.to_vec(), rhs: rhs.to_vec(), why: why.into() }
}

/// The shape that two shapes broadcast to, by NumPy's rule: aligned at the last axis, sizes equal or one of them 1.
pub(crate) fn broadcast(op: &'static str, lhs: &[usize], rhs: &[usize]) -> Result<Vec<usize>> {
    let rank = lhs.len().max(rhs.len());
    let at =
        |shape: &[usize], i: usize| if i + shape.len() < rank { 1 } else { shape[i + shape.len() - rank] };
    (0..rank)
        .map(|i| match (at(lhs, i), at(rhs, i)) {
            (a, b) if a == b => Ok(a),
            (1, b) => Ok(b),
            (a, 1) => Ok(a),
            _ => Err(mismatch(op, lhs, rhs, "sizes must be equal or 1, counted from the last axis")),
        })
        .collect()
}

/// Row-major strides in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Strides with which `shape` is read as `target`: 0 along every axis that is repeated.
pub(crate) fn broadcast_strides(shape: &[usize], target: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let skip = target.len() - shape.len();
    (0..target.len()).map(|i| if i < skip || shape[i - skip] == 1 { 0 } else { own[i - skip] }).collect()
}

/// An axis counted from the front (0, 1, …) or from the back (-1, -2, …).
pub(crate) fn axis(op: &'static str, shape: &[usize], axis: isize) -> Result<usize> {
    let rank = shape.len() as isize;
    let at = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&at) {
        Ok(at as usize)
    } else {
        Err(mismatch(op, shape, &[], format!("there is no axis {axis}")))
    }
}

/// `[before, axis, after]`: the sizes around an axis.
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(broadcast("t", &[3, 1, 5], &[4, 1]).unwrap(), [3, 4, 5]);
        assert_eq!(broadcast("t", &[], &[2]).unwrap(), [2]);
        assert_eq!(broadcast("t", &[0], &[1]).unwrap(), [0]);
        assert!(broadcast("t", &[2], &[3]).is_err());
        assert_eq!(broadcast_strides(&[4, 1], &[3, 4, 5]), [0, 1, 0]);
    }

    #[test]
    fn axes_count_from_both_ends() {
        assert_eq!(axis("t", &[2, 3], -1).unwrap(), 1);
        assert!(axis("t", &[2, 3], 2).is_err());
        assert!(axis("t", &[], 0).is_err());
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        assert!(checked_len("t", &[usize::MAX, 2]).is_err());
    }
}
