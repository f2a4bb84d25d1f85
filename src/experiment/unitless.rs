//! Neurons without units, as deep learning writes them, in an experiment file: a factor a step, or the time constant that it
//! comes from. `population.NAME.neuron.lif = { … }`.

use super::check::Check;
use super::config;
use crate::snn::Neuron;
use crate::snn::neurons::{self, Fires, ResetActs};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// `neuron.lif`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lif {
    /// Membrane factor per step; or give `tau_mem_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Membrane time constant; the factor is exp(−dt / τ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tau_mem_ms: Option<f64>,
    /// Firing threshold.
    pub threshold: f64,
    /// What a spike does: `subtract`, `zero` or `none`.
    pub reset: Reset,
    /// Whose conventions (comparison, time of the reset): `ransnn`, `snntorch` or `spikingjelly`.
    pub dialect: Dialect,
}

impl Default for Lif {
    fn default() -> Self {
        Self {
            beta: None,
            tau_mem_ms: None,
            threshold: 1.0,
            reset: Reset::Subtract,
            dialect: Dialect::Ransnn,
        }
    }
}

/// What a spike does to the membrane potential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Subtracts the threshold.
    Subtract,
    /// Sets it to zero.
    Zero,
    /// Nothing.
    None,
}

/// Whose conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// `≥`, reset in the step of the spike.
    Ransnn,
    /// `>`, reset one step late.
    Snntorch,
    /// `≥`, reset in the step of the spike, input times 1 − β = 1/τ.
    Spikingjelly,
}

/// `neuron.synaptic`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Synaptic {
    /// Factor on the synaptic current per step; or give `tau_syn_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Synaptic time constant; the factor is exp(−dt / τ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tau_syn_ms: Option<f64>,
    /// Membrane factor per step; or give `tau_mem_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Membrane time constant; the factor is exp(−dt / τ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tau_mem_ms: Option<f64>,
    /// Firing threshold.
    pub threshold: f64,
    /// What a spike does: `subtract`, `zero` or `none`.
    pub reset: Reset,
}

impl Default for Synaptic {
    fn default() -> Self {
        let (alpha, tau_syn_ms, beta, tau_mem_ms) = (None, None, None, None);
        Self { alpha, tau_syn_ms, beta, tau_mem_ms, threshold: 1.0, reset: Reset::Subtract }
    }
}

/// `neuron.alif`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alif {
    /// Membrane factor per step; or give `tau_mem_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Membrane time constant; the factor is exp(−dt / τ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tau_mem_ms: Option<f64>,
    /// Factor on the adaptation per step; or give `tau_adaptation_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// Time constant of the adaptation; the factor is exp(−dt / τ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tau_adaptation_ms: Option<f64>,
    /// What a spike adds to the threshold.
    pub adaptation: f64,
    /// Firing threshold of a neuron that has not fired.
    pub threshold: f64,
    /// What a spike does: `subtract`, `zero` or `none`.
    pub reset: Reset,
}

impl Default for Alif {
    fn default() -> Self {
        let (beta, tau_mem_ms, rho, tau_adaptation_ms) = (None, None, None, None);
        let (adaptation, threshold, reset) = (0.1, 1.0, Reset::Subtract);
        Self { beta, tau_mem_ms, rho, tau_adaptation_ms, adaptation, threshold, reset }
    }
}

/// A factor per step, given as such or as a time constant.
struct Leak {
    key: &'static str,
    tau_key: &'static str,
    factor: Option<f64>,
    tau_ms: Option<f64>,
}

impl Leak {
    fn per_step(&self, dt: Ms) -> f32 {
        match (self.factor, self.tau_ms) {
            (Some(factor), _) => factor as f32,
            (None, Some(tau)) => (-dt.0 / tau).exp() as f32,
            (None, None) => 1.0,
        }
    }
}

fn membrane(beta: Option<f64>, tau_ms: Option<f64>) -> Leak {
    Leak { key: "beta", tau_key: "tau_mem_ms", factor: beta, tau_ms }
}

impl Synaptic {
    fn leaks(&self) -> [Leak; 2] {
        let current =
            Leak { key: "alpha", tau_key: "tau_syn_ms", factor: self.alpha, tau_ms: self.tau_syn_ms };
        [current, membrane(self.beta, self.tau_mem_ms)]
    }
}

impl Alif {
    fn leaks(&self) -> [Leak; 2] {
        let tau_ms = self.tau_adaptation_ms;
        let adaptation = Leak { key: "rho", tau_key: "tau_adaptation_ms", factor: self.rho, tau_ms };
        [membrane(self.beta, self.tau_mem_ms), adaptation]
    }
}

impl From<Reset> for neurons::Reset {
    fn from(reset: Reset) -> Self {
        match reset {
            Reset::Subtract => Self::Subtract,
            Reset::Zero => Self::To(0.0),
            Reset::None => Self::None,
        }
    }
}

impl config::Neuron {
    /// Whether gradients go through it.
    pub fn has_gradient(&self) -> bool {
        matches!(self, Self::Lif(_) | Self::Synaptic(_) | Self::Alif(_))
    }

    /// The model for time steps of `dt`, of those without units.
    pub fn unitless(&self, dt: Ms) -> Option<Box<dyn Neuron>> {
        Some(match self {
            Self::Lif(lif) => {
                let (fires, acts) = match lif.dialect {
                    Dialect::Ransnn | Dialect::Spikingjelly => (Fires::AtOrAbove, ResetActs::SameStep),
                    Dialect::Snntorch => (Fires::Above, ResetActs::NextStep),
                };
                let decay = membrane(lif.beta, lif.tau_mem_ms).per_step(dt);
                Box::new(neurons::Lif {
                    decay,
                    gain: if lif.dialect == Dialect::Spikingjelly { 1.0 - decay } else { 1.0 },
                    threshold: lif.threshold as f32,
                    fires,
                    acts,
                    reset: lif.reset.into(),
                    ..neurons::Lif::default()
                })
            }
            Self::Synaptic(neuron) => {
                let [alpha, beta] = neuron.leaks().map(|leak| leak.per_step(dt));
                Box::new(neurons::Synaptic {
                    threshold: neuron.threshold as f32,
                    reset: neuron.reset.into(),
                    ..neurons::Synaptic::new(alpha, beta)
                })
            }
            Self::Alif(neuron) => {
                let [beta, rho] = neuron.leaks().map(|leak| leak.per_step(dt));
                Box::new(neurons::Alif {
                    threshold: neuron.threshold as f32,
                    reset: neuron.reset.into(),
                    ..neurons::Alif::new(beta, rho, neuron.adaptation as f32)
                })
            }
            _ => return None,
        })
    }
}

impl Check<'_> {
    /// The leaks and thresholds of a population of neurons without units.
    pub(super) fn unitless(&mut self, name: &str, neuron: &config::Neuron) {
        let (kind, leaks, threshold) = match neuron {
            config::Neuron::Lif(lif) => ("lif", vec![membrane(lif.beta, lif.tau_mem_ms)], lif.threshold),
            config::Neuron::Synaptic(neuron) => ("synaptic", neuron.leaks().into(), neuron.threshold),
            config::Neuron::Alif(neuron) => {
                let path = format!("population.{name}.neuron.alif.adaptation");
                self.range(&path, neuron.adaptation, neuron.adaptation >= 0.0, "0 or more");
                ("alif", neuron.leaks().into(), neuron.threshold)
            }
            _ => return,
        };
        let path = format!("population.{name}.neuron.{kind}");
        for Leak { key, tau_key, factor, tau_ms } in leaks {
            match (factor, tau_ms) {
                (Some(factor), None) => {
                    let ok = (0.0..=1.0).contains(&factor);
                    self.range(&format!("{path}.{key}"), factor, ok, "from 0 (no memory) to 1 (no leak)");
                }
                (None, Some(tau)) => {
                    self.range(&format!("{path}.{tau_key}"), tau, tau > 0.0, "a time above 0");
                }
                (Some(_), Some(_)) => {
                    self.wrong(&path, format!("both `{key}` and `{tau_key}` are given"), None);
                }
                (None, None) => {
                    let help = format!("give `{key}` (factor per step) or `{tau_key}`");
                    self.wrong(&path, format!("the leak of `{name}` is not given"), Some(help));
                }
            }
        }
        self.range(&format!("{path}.threshold"), threshold, threshold > 0.0, "more than 0");
    }
}
