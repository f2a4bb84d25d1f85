//! Learning rates over time, as factors of the base rate.

use std::f64::consts::PI;

/// How the learning rate changes with the step, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Schedule {
    /// Always 1.
    #[default]
    Constant,
    /// Rises linearly over `warmup` steps, `(step + 1) / warmup`, then falls along half a cosine to `floor` at step `total`
    /// and stays there.
    Cosine {
        /// Steps of the rise; 0 for none.
        warmup: u64,
        /// Step at which the floor is reached.
        total: u64,
        /// Last factor.
        floor: f64,
    },
}

impl Schedule {
    /// The factor at a step.
    ///
    /// ```
    /// use ransnn::nn::Schedule;
    /// let cosine = Schedule::Cosine { warmup: 2, total: 10, floor: 0.1 };
    /// let close = |step, want: f64| (cosine.factor(step) - want).abs() < 1e-12;
    /// assert!(close(0, 0.5) && close(1, 1.0) && close(2, 1.0) && close(6, 0.55) && close(10, 0.1) && close(99, 0.1));
    /// ```
    pub fn factor(&self, step: u64) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Cosine { warmup, .. } if step < warmup => (step + 1) as f64 / warmup as f64,
            Self::Cosine { total, floor, .. } if step >= total => floor,
            Self::Cosine { warmup, total, floor } => {
                let progress = (step - warmup) as f64 / (total - warmup) as f64;
                floor + (1.0 - floor) * 0.5 * (1.0 + (PI * progress).cos())
            }
        }
    }
}
