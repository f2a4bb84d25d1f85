//! The two precisions that a simulation runs in.

use crate::tensor::cpu::math;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Sub};

/// `f32`, the default of simulations, or `f64`, for comparison with simulators that compute in it.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// Rounds.
    fn of(value: f64) -> Self;
    /// The value, exactly.
    fn to_f64(self) -> f64;
    /// A number of spikes.
    fn count(n: u16) -> Self;
    /// The next number below: `u ≥ θ` is `u > below(θ)`.
    fn below(self) -> Self;
    /// e to the power of it: the same bits everywhere.
    fn exp(self) -> Self;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn count(n: u16) -> Self {
        n.into()
    }
    fn below(self) -> Self {
        self.next_down()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        math::f32::exp(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn count(n: u16) -> Self {
        n.into()
    }
    fn below(self) -> Self {
        self.next_down()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        math::f64::exp(self)
    }
}
