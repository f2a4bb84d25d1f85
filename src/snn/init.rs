//! What weights are drawn from.

use serde::{Deserialize, Serialize};

/// A distribution of weights, with modifiers around it.
///
/// Random layers want a mean of zero: with any other, the common drive saturates or silences all neurons
/// (arXiv:2505.13622, sweeps over the mean). [`Init::ZeroMean`] makes it exact for each target.
///
/// ```
/// use ransnn::snn::Init;
/// let kernels = Init::Normal { mean: 0.0, std: 1.0 }.zero_mean();
/// let sparse = Init::Uniform { low: -0.05, high: 0.05 }.scaled_to_fan_in();
/// # let _ = (kernels, sparse);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Init {
    /// All the same.
    Constant(f64),
    /// Uniform in `low..high`.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in ±1/√fan-in, PyTorch's default for the weights and biases of `Linear` and `Conv2d`.
    KaimingUniform,
    /// As listed: by source, then target; for an explicit rule in the order of its edges; for a convolution
    /// `[channels_out, channels_in, kernel, kernel]`.
    Listed(Vec<f32>),
    /// As [`Init::Listed`], in the precision of simulations that run in it.
    ListedF64(Vec<f64>),
    /// Drawn again until it has the sign of the distribution's mean: strengths that vary but never change sides.
    KeepSign(Box<Init>),
    /// Drawn, then the mean of each target's incoming weights (of each output channel's kernel) is removed.
    ZeroMean(Box<Init>),
    /// Kernels of a convolution, smoothed with a Gaussian: random fields with a correlation length, drawn larger than
    /// the kernel so that its edges are like its middle.
    Smoothed {
        /// Standard deviation of the Gaussian in pixels.
        sigma: f64,
        /// What the field is drawn from.
        field: Box<Init>,
    },
    /// The second half of the targets (of the output channels) gets the first half's weights with the sign turned
    /// round: two neurons for each random direction, one for each sense of it. Needs an even number of them.
    Mirrored(Box<Init>),
    /// Drawn for the dense layer, then times √(sources / fan-in), so that a sparse layer is driven as much.
    ScaledToFanIn(Box<Init>),
    /// Dale's law: magnitudes are drawn, signs belong to the sources, a random share of which is excitatory.
    /// Inhibitory weights are scaled so that the mean over the sources is zero.
    Dale {
        /// Share of the sources that are excitatory, between 0 and 1.
        excitatory: f64,
        /// What the magnitudes are drawn from; signs in it are dropped.
        magnitude: Box<Init>,
    },
}

impl Init {
    /// Removes the mean of each target's incoming weights.
    pub fn zero_mean(self) -> Self {
        Self::ZeroMean(Box::new(self))
    }

    /// Smooths kernels with a Gaussian of `sigma` pixels.
    pub fn smoothed(self, sigma: f64) -> Self {
        Self::Smoothed { sigma, field: Box::new(self) }
    }

    /// Repeats the first half of the targets, negated, as the second.
    pub fn mirrored(self) -> Self {
        Self::Mirrored(Box::new(self))
    }

    /// Scales by √(sources / fan-in).
    pub fn scaled_to_fan_in(self) -> Self {
        Self::ScaledToFanIn(Box::new(self))
    }

    /// Draws again until the sign is that of the mean.
    pub fn keep_sign(self) -> Self {
        Self::KeepSign(Box::new(self))
    }

    /// What there is to draw, flattened, or every mistake in it.
    pub(super) fn recipe(&self) -> Result<Recipe<'_>, Vec<String>> {
        let mut recipe = Recipe {
            base: Base::Constant(0.0),
            zero_mean: false,
            mirrored: false,
            smooth: None,
            scaled: false,
            dale: None,
            keep_sign: false,
        };
        let mut problems = Vec::new();
        let mut at = self;
        let fits = |value: f64| (value as f32).is_finite();
        loop {
            match at {
                Self::ZeroMean(inner) => {
                    recipe.zero_mean = true;
                    at = inner;
                }
                Self::Smoothed { sigma, field } => {
                    if !(*sigma > 0.0 && *sigma <= 16.0) {
                        problems
                            .push(format!("smoothing is {sigma} pixels; it must be above 0 and at most 16"));
                    }
                    recipe.smooth = Some(*sigma);
                    at = field;
                }
                Self::Mirrored(inner) => {
                    recipe.mirrored = true;
                    at = inner;
                }
                Self::KeepSign(inner) => {
                    recipe.keep_sign = true;
                    at = inner;
                }
                Self::ScaledToFanIn(inner) => {
                    recipe.scaled = true;
                    at = inner;
                }
                Self::Dale { excitatory, magnitude } => {
                    if !(0.0..=1.0).contains(excitatory) || *excitatory == 0.0 || *excitatory == 1.0 {
                        problems
                            .push(format!("excitatory share is {excitatory}; it must be between 0 and 1"));
                    }
                    recipe.dale = Some(*excitatory);
                    at = magnitude;
                }
                Self::Constant(value) => {
                    if !fits(*value) {
                        problems.push(format!("weight is {value}; it must be a finite number"));
                    }
                    recipe.base = Base::Constant(*value);
                    break;
                }
                Self::Uniform { low, high } => {
                    if !(fits(*low) && fits(*high) && low <= high) {
                        problems.push(format!(
                            "uniform bounds are {low} and {high}; they must be finite and in order"
                        ));
                    }
                    recipe.base = Base::Uniform { low: *low, high: *high };
                    break;
                }
                Self::Normal { mean, std } => {
                    if !(fits(*mean) && fits(*std) && *std >= 0.0) {
                        problems.push(format!(
                            "normal mean is {mean} and standard deviation {std}; they must be finite, the latter at least 0"
                        ));
                    }
                    recipe.base = Base::Normal { mean: *mean, std: *std };
                    break;
                }
                Self::KaimingUniform => {
                    recipe.base = Base::Kaiming;
                    break;
                }
                Self::Listed(values) => {
                    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                        problems
                            .push(format!("listed weight {i} is {}; it must be a finite number", values[i]));
                    }
                    recipe.base = Base::Listed(values);
                    break;
                }
                Self::ListedF64(values) => {
                    if let Some(i) = values.iter().position(|v| !fits(*v)) {
                        problems
                            .push(format!("listed weight {i} is {}; it must be a finite number", values[i]));
                    }
                    recipe.base = Base::ListedF64(values);
                    break;
                }
            }
        }
        if recipe.keep_sign {
            let sound = match recipe.base {
                Base::Normal { mean, std } => mean.abs() > 1e-3 * std || std == 0.0,
                Base::Uniform { low, high } => low + high != 0.0,
                _ => true,
            };
            if !sound {
                problems.push("a distribution around zero has no sign to keep".into());
            }
            if recipe.zero_mean || recipe.smooth.is_some() {
                problems.push("zero mean and smoothing would undo the sign that is to be kept".into());
            }
        }
        if recipe.dale.is_some() && recipe.zero_mean {
            problems.push("zero mean of each target would undo the signs of Dale's law".into());
        }
        if problems.is_empty() { Ok(recipe) } else { Err(problems) }
    }
}

/// An [`Init`] without nesting.
#[derive(Clone, Debug)]
pub(super) struct Recipe<'a> {
    pub base: Base<'a>,
    pub zero_mean: bool,
    pub mirrored: bool,
    pub smooth: Option<f64>,
    pub scaled: bool,
    pub dale: Option<f64>,
    pub keep_sign: bool,
}

/// The distribution inside the modifiers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base<'a> {
    Constant(f64),
    Uniform { low: f64, high: f64 },
    Normal { mean: f64, std: f64 },
    Kaiming,
    Listed(&'a [f32]),
    ListedF64(&'a [f64]),
}
