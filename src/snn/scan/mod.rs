//! Neurons over a whole sequence as one operation with its own gradient: the core of training by surrogate gradients.
//!
//! [`Scan::run`] takes currents `[T, B, N]` and returns spikes and membranes of the same shape. The equations stand in
//! the `kernel` module; [`Scan`] has a constructor for each dialect:
//!
//! | constructor | neuron |
//! |---|---|
//! | [`Scan::lif`] | snnTorch `Leaky`: `>`, subtracts one step late, reset detached |
//! | [`Scan::spikingjelly`] | SpikingJelly `LIFNode`, `IFNode`, `ParametricLIFNode`: `≥`, same step, reset in the gradient |
//! | [`Scan::of`] | what the engine runs: [`Lif`], [`Synaptic`], [`Alif`] |
//! | [`Scan::integrator`] | leaky integrator without spikes, for readouts |
//!
//! A synaptic current, an adaptive threshold and recurrent weights are there when [`Parameters`] has them. Every
//! parameter is a tensor of one number, or of one per neuron, and learns like any other tensor.
//!
//! ```
//! use ransnn::snn::scan::{Parameters, Scan};
//! use ransnn::tensor::{DType, Tensor};
//! let x = Tensor::from_f32(vec![0.6, 0.6, 0.6], &[3, 1, 1])?;
//! let out = Scan::lif().run(&x, &Parameters::new(0.9, 1.0, DType::F32)?)?;
//! assert_eq!(out.spikes.to_f32()?, [0.0, 1.0, 0.0]); // 0.6, 1.14, 1.626 − 1
//! # Ok::<(), ransnn::Error>(())
//! ```

mod blocks;
mod convolution;
mod cuda;
mod kept;
mod kernel;
mod layer;
mod operation;
mod patches;
mod product;
mod simd;
mod stretch;
mod turns;

pub use convolution::{LARGEST_WINDOW, spike_conv2d};
pub(crate) use cuda::Codes;
pub use kernel::{Acts, Reset};
pub use product::{Spikes, product_of, spike_product};
pub use stretch::Stretch;

use super::neuron::Neuron;
use super::neurons::{self, Alif, Fires, Lif, ResetActs, Synaptic};
use crate::tensor::{DType, Device, Surrogate, Tensor, apply};
use crate::{Error, Result};
use operation::{Operation, Sizes, part, rows_of, rows_of_planes};

const OP: &str = "scan";

/// How a population of neurons steps, resets and is differentiated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scan {
    /// Comparison with the threshold.
    pub fires: Fires,
    /// What a spike does to the potential.
    pub reset: Reset,
    /// When.
    pub acts: Acts,
    /// Whether the gradient leaves out the reset (snnTorch always, SpikingJelly with `detach_reset`).
    pub detach: bool,
    /// Potential at rest and in the beginning.
    pub rest: f64,
    /// The derivative of the spike.
    pub surrogate: Surrogate,
    /// Also return membranes.
    pub membrane: bool,
    /// Keep potentials for the way back in 16 bits, which is half the memory: bf16, on their side of the threshold, so that
    /// spikes stay as they are. For f32 currents on the CPU; no gradient goes through [`Scanned::potential`], which is so
    /// kept.
    pub half: bool,
    /// Replace the spike by the smooth function whose derivative the surrogate is. Then gradients are those of
    /// differences: for tests.
    pub smooth: bool,
}

/// The numbers of a population; each `[1]` or `[N]`, of the kind of the currents.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Factor β on the potential per step.
    pub decay: Tensor,
    /// Factor g on the input.
    pub gain: Tensor,
    /// Threshold θ.
    pub threshold: Tensor,
    /// Factor α on the synaptic current per step, where there is one.
    pub current_decay: Option<Tensor>,
    /// Adaptive threshold `θ + b a`: factor ρ on `a` per step, and b. `a` grows by 1 one step after a spike.
    pub adaptation: Option<(Tensor, Tensor)>,
    /// Weights `[N, N]` from neuron (row) to neuron, whose spikes act one step later.
    pub recurrent: Option<Tensor>,
}

impl Parameters {
    /// A leak and a threshold, gain 1.
    pub fn new(decay: f64, threshold: f64, dtype: DType) -> Result<Self> {
        let number = |x| Tensor::full(&[1], x, dtype);
        Ok(Self {
            decay: number(decay)?,
            gain: number(1.0)?,
            threshold: number(threshold)?,
            current_decay: None,
            adaptation: None,
            recurrent: None,
        })
    }
}

/// What a scan returns, each `[T, B, N]`.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// 0 or 1.
    pub spikes: Tensor,
    /// Potential that was compared with the threshold, before a reset in the same step.
    pub potential: Tensor,
    /// Membrane as the framework shows it, with [`Scan::membrane`].
    pub membrane: Option<Tensor>,
}

impl Scan {
    /// snnTorch's `Leaky`: strict comparison, subtracting reset one step late, detached; arctangent, α = 2.
    pub fn lif() -> Self {
        Self {
            fires: Fires::Above,
            reset: Reset::Subtract,
            acts: Acts::NextStep,
            detach: true,
            rest: 0.0,
            surrogate: Surrogate::Arctan { alpha: 2.0 },
            membrane: false,
            half: false,
            smooth: false,
        }
    }

    /// SpikingJelly's nodes: `≥`, reset in the same step to `v_reset` or, with none, by subtraction.
    ///
    /// With `1/τ = k`: decay 1 − k and gain k (`decay_input`) or 1; `IFNode` has decay 1 and gain 1;
    /// `ParametricLIFNode` learns k = σ(w).
    pub fn spikingjelly(v_reset: Option<f64>, detach: bool) -> Self {
        Self {
            fires: Fires::AtOrAbove,
            reset: v_reset.map_or(Reset::Subtract, Reset::To),
            acts: Acts::SameStep,
            detach,
            rest: v_reset.unwrap_or(0.0),
            ..Self::lif()
        }
    }

    /// A leaky integrator: no reset, and nobody looks at its spikes.
    pub fn integrator() -> Self {
        Self { reset: Reset::None, membrane: true, ..Self::lif() }
    }

    /// The model that the engine runs, with its parameters in `dtype`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming a model or a setting without a gradient here.
    pub fn of(
        model: &dyn Neuron,
        surrogate: Surrogate,
        detach: bool,
        dtype: DType,
    ) -> Result<(Self, Parameters)> {
        let refuse = |what: String| Error::Unsupported { op: "training by surrogate gradients", on: what };
        let when = |acts| match acts {
            ResetActs::SameStep => Acts::SameStep,
            ResetActs::NextStep => Acts::NextStep,
            ResetActs::BeforeNextStep => Acts::BeforeNextStep,
        };
        let base = Self { detach, surrogate, ..Self::lif() };
        if let Some(lif) = model.as_any().downcast_ref::<Lif>() {
            if lif.refractory_steps > 0 {
                return Err(refuse("on neurons with a refractory period".into()));
            }
            let mut parameters = Parameters::new(lif.decay.into(), lif.threshold.into(), dtype)?;
            parameters.gain = Tensor::full(&[1], lif.gain.into(), dtype)?;
            let scan = Self {
                fires: lif.fires,
                reset: lif.reset.into(),
                acts: when(lif.acts),
                rest: lif.rest.into(),
                ..base
            };
            return Ok((scan, parameters));
        }
        if let Some(neuron) = model.as_any().downcast_ref::<Synaptic>() {
            let mut parameters = Parameters::new(neuron.beta.into(), neuron.threshold.into(), dtype)?;
            parameters.current_decay = Some(Tensor::full(&[1], neuron.alpha.into(), dtype)?);
            let acts = if neuron.acts == ResetActs::SameStep { Acts::Corrected } else { Acts::NextStep };
            return Ok((Self { reset: neuron.reset.into(), acts, ..base }, parameters));
        }
        if let Some(neuron) = model.as_any().downcast_ref::<Alif>() {
            let mut parameters = Parameters::new(neuron.decay.into(), neuron.threshold.into(), dtype)?;
            let number = |x: f32| Tensor::full(&[1], x.into(), dtype);
            parameters.adaptation = Some((number(neuron.adaptation_decay)?, number(neuron.strength)?));
            let (fires, acts) = (Fires::AtOrAbove, Acts::SameStep);
            return Ok((Self { fires, reset: neuron.reset.into(), acts, ..base }, parameters));
        }
        Err(refuse(format!("on neurons of the model `{}`", model.kind())))
    }

    /// Whether the way back finds the spikes again in potentials of 16 bits: where one comparison with one threshold makes
    /// them.
    pub fn keeps_half(&self, parameters: &Parameters) -> bool {
        parameters.adaptation.is_none() && self.acts != Acts::Corrected && !self.smooth
    }

    fn check_half(&self, parameters: &Parameters) -> Result<()> {
        if self.half && !self.keeps_half(parameters) {
            let on = "keeping potentials in 16 bits of thresholds that adapt, resets that act twice, or smooth spikes";
            return Err(Error::Unsupported { op: OP, on: on.into() });
        }
        Ok(())
    }

    /// Runs all steps over currents `[T, B, N]` (more axes after B count as neurons).
    ///
    /// # Errors
    /// Shapes or kinds of number that do not fit.
    pub fn run(&self, x: &Tensor, parameters: &Parameters) -> Result<Scanned> {
        self.scan(x, None, parameters, None)
    }

    /// [`run`](Self::run) over currents `[1, B, N]` that are the same in each of so many steps: equal to the last bit, and
    /// no copy is made for each step.
    ///
    /// # Errors
    /// As [`run`](Self::run); no steps; recurrent weights, whose gradient needs that of each step.
    pub fn run_held(&self, x: &Tensor, steps: usize, parameters: &Parameters) -> Result<Scanned> {
        self.check_held(Some(steps), parameters)?;
        self.scan(x, Some(steps), parameters, None)
    }

    /// [`run`](Self::run) or, with a number of steps, [`run_held`](Self::run_held) over some of the steps, between others.
    ///
    /// # Errors
    /// As those; neurons or samples that are not those of the stretch before; recurrent weights on a GPU.
    pub fn run_stretch(
        &self,
        x: &Tensor,
        held: Option<usize>,
        parameters: &Parameters,
        stretch: &Stretch,
    ) -> Result<Scanned> {
        self.check_held(held, parameters)?;
        self.scan(x, held, parameters, Some(stretch))
    }

    fn check_held(&self, held: Option<usize>, parameters: &Parameters) -> Result<()> {
        if held.is_some() && parameters.recurrent.is_some() {
            return Err(Error::Unsupported { op: OP, on: "on a held current with recurrent weights".into() });
        }
        Ok(())
    }

    fn scan(
        &self,
        x: &Tensor,
        held: Option<usize>,
        parameters: &Parameters,
        stretch: Option<&Stretch>,
    ) -> Result<Scanned> {
        self.check_half(parameters)?;
        if let (Some(weights), Device::Cuda(_)) = (&parameters.recurrent, x.device()) {
            return self.in_turns(x, weights, parameters, stretch);
        }
        let (operation, inputs) = Operation::new(self, held, x, parameters, stretch);
        let mut outputs = apply(operation, &inputs)?.into_iter();
        let lost = || Error::Internal("scan lost an output".into());
        let (spikes, potential) = outputs.next().zip(outputs.next()).ok_or_else(lost)?;
        Ok(Scanned { spikes, potential, membrane: outputs.next() })
    }
}

impl From<neurons::Reset> for Reset {
    fn from(reset: neurons::Reset) -> Self {
        match reset {
            neurons::Reset::Subtract => Self::Subtract,
            neurons::Reset::To(value) => Self::To(value.into()),
            neurons::Reset::None => Self::None,
        }
    }
}
