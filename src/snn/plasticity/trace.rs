//! An exponential trace of spikes.
//!
//! `x(t) = x(t₀) · exp(−(t − t₀) / τ)` between spikes. A spike adds 1 (every pair counts) or sets it to 1 (only the
//! nearest spike counts). A [`Decay`] knows the factors of many steps, so that a trace is only touched when it is read.

use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// Which pairs of spikes count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// Every spike with every other: a spike adds 1 to its trace.
    #[default]
    AllToAll,
    /// Every spike with the last one of the other side: a spike sets its trace to 1.
    Nearest,
}

/// What a trace is: its time constant and what a spike does to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trace {
    /// Time constant τ.
    pub tau: Ms,
    /// What a spike does.
    pub pairing: Pairing,
}

impl Pairing {
    /// The trace after a spike.
    ///
    /// ```
    /// use ransnn::snn::plasticity::Pairing;
    /// assert_eq!([Pairing::AllToAll, Pairing::Nearest].map(|p| p.spike(0.5)), [1.5, 1.0]);
    /// ```
    #[inline]
    pub fn spike(self, value: f64) -> f64 {
        match self {
            Self::AllToAll => value + 1.0,
            Self::Nearest => 1.0,
        }
    }
}

/// Steps whose factors are kept.
const TABLE: u64 = 4096;

/// Factors `exp(−steps · dt / τ)`.
///
/// ```
/// use ransnn::{snn::plasticity::Decay, units::Ms};
/// let decay = Decay::new(Ms(20.0), Ms(0.1));
/// assert_eq!(decay.over(0), 1.0);
/// assert!((decay.over(200) - (-1f64).exp()).abs() < 1e-15);
/// assert!((decay.over(10_000) - (-50f64).exp()).abs() < 1e-30);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Decay {
    rate: f64,
    table: Vec<f64>,
}

impl Decay {
    /// For a time constant and a time step.
    pub fn new(tau: Ms, dt: Ms) -> Self {
        let rate = dt.0 / tau.0;
        Self { rate, table: (0..TABLE).map(|k| (-(k as f64) * rate).exp()).collect() }
    }

    /// The factor over so many steps.
    #[inline]
    pub fn over(&self, steps: u64) -> f64 {
        match self.table.get(steps as usize) {
            Some(&factor) => factor,
            None => (-(steps as f64) * self.rate).exp(),
        }
    }
}

/// When something happens, counted in time steps: whole ones on a grid (`u64`), any number without one (`f64`).
pub trait Moment: Copy + Default + PartialOrd + std::fmt::Debug + std::fmt::Display {
    /// The factor of a trace from `since` to `now`.
    fn decay(decay: &Decay, since: Self, now: Self) -> f64;
    /// As a number; steps below 2^53 are exact.
    fn steps(self) -> f64;
    /// From a number of steps.
    fn at(steps: f64) -> Self;
}

impl Moment for u64 {
    #[inline]
    fn decay(decay: &Decay, since: Self, now: Self) -> f64 {
        decay.over(now - since)
    }
    fn steps(self) -> f64 {
        self as f64
    }
    fn at(steps: f64) -> Self {
        steps as u64
    }
}

impl Moment for f64 {
    #[inline]
    fn decay(decay: &Decay, since: Self, now: Self) -> f64 {
        (-(now - since) * decay.rate).exp()
    }
    fn steps(self) -> f64 {
        self
    }
    fn at(steps: f64) -> Self {
        steps
    }
}
