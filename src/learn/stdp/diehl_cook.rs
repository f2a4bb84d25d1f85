//! The network of Diehl & Cook (Frontiers in Computational Neuroscience 9:99, 2015) as data: every constant, of the
//! authors' script and of BindsNET 0.3.
//!
//! | | [`DiehlCook::original`] | [`DiehlCook::bindsnet`] |
//! |---|---|---|
//! | input at full intensity | 63.75 Hz for 350 ms | 128 Hz for 250 ms |
//! | neuron | conductances, steps of 0.5 ms | currents, steps of 1 ms |
//! | rule | triplet: a rise needs an earlier spike | pair (`PostPre`) |
//! | sum of the weights of a neuron | 78 | 78.4 |
//! | inhibition by the others | conductance 17 | 120 mV |
//! | one spike a step | no | yes, of a random one that crosses |
//! | fewer than 5 spikes | again, brighter | goes on |
//!
//! What differs from both on purpose: input spikes are Bernoulli draws in each step (BindsNET draws intervals);
//! every sample begins from rest (the script waits 150 ms, which decay almost all); there are no random delays of the
//! input; of the weights only those of neurons that fired are scaled, as no others have changed; ϑ decays once a batch.
//!
//! **Inhibition is folded.** An excitatory spike of step `t` makes its own inhibitory neuron fire in `t + 1`, always and
//! once, and that one inhibits all other excitatory neurons in `t + 2`. So there are no inhibitory neurons here: a
//! spike inhibits all others two steps later. A test runs the unfolded network beside it.

use crate::error::{Error, Result};
use crate::snn::Neuron;
use crate::snn::neurons::DiehlCookLif;
use crate::snn::plasticity::AdaptiveThreshold;
use crate::units::{Hz, Ms};
use serde::{Deserialize, Serialize};

/// Steps from a spike until the others feel it.
pub const INHIBITION_DELAY: usize = 2;

/// A rule for the input weights. A spike sets its trace to 1; weights are cut to 0 and `most` at every change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Plasticity {
    /// `w ← w − ν₀ s_pre x_post + ν₁ x_pre s_post`, traces with the spikes of the step: BindsNET's `PostPre`.
    Pair {
        /// Of depression, of potentiation.
        rates: [f32; 2],
        /// Of the presynaptic, of the postsynaptic trace.
        tau: [Ms; 2],
    },
    /// `w ← w − ν₀ s_pre x₁ + ν₁ x_pre x₂ s_post` with both postsynaptic traces as they were before the step: the
    /// authors' script.
    Triplet {
        /// Of depression, of potentiation.
        rates: [f32; 2],
        /// Of the presynaptic trace.
        tau_pre: Ms,
        /// Of the postsynaptic traces, x₁ and x₂.
        tau_post: [Ms; 2],
    },
    /// `w ← w + rate (x_pre − offset) (most − w) s_post`: the rule of the paper with μ = 1, driven by postsynaptic
    /// spikes alone.
    PostOnly {
        /// Of both directions.
        rate: f32,
        /// Presynaptic trace below which weights fall.
        offset: f32,
        /// Of the presynaptic trace.
        tau_pre: Ms,
    },
}

/// Another presentation, brighter, of a sample that left the network silent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Enough spikes.
    pub least: u32,
    /// What each try adds to the intensity, as a share of the first.
    pub raise: f32,
    /// Most tries.
    pub most: u32,
}

/// How the changes of the samples of a batch come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Merge {
    /// They add up.
    Sum,
    /// Their mean.
    Mean,
}

/// Everything about the network and its training that is not learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiehlCook {
    /// Excitatory neurons.
    pub neurons: usize,
    /// Rate of an input at full intensity.
    pub rate: Hz,
    /// How long a sample is shown.
    pub presentation: Ms,
    /// Rest after it, in which only ϑ changes.
    pub rest: Ms,
    /// The excitatory neurons.
    pub neuron: DiehlCookLif,
    /// What a spike does to all other excitatory neurons: mV, or multiples of the leak conductance.
    pub inhibition: f32,
    /// Of those that cross in a step, a random one fires; the others are reset all the same.
    pub one_winner: bool,
    /// ϑ with every spike and over time.
    pub threshold: AdaptiveThreshold,
    /// ϑ in the beginning.
    pub first_shift: f32,
    /// Rule of the input weights.
    pub plasticity: Plasticity,
    /// Largest input weight.
    pub most: f32,
    /// Sum of the input weights of a neuron.
    pub total: f32,
    /// What silent samples lead to.
    pub retry: Option<Retry>,
    /// Samples that learn from the same weights.
    pub batch: usize,
    /// How their changes come together.
    pub merge: Merge,
}

impl DiehlCook {
    /// The constants of the authors' script.
    pub fn original(neurons: usize) -> Self {
        Self {
            neurons,
            rate: Hz(63.75),
            presentation: Ms(350.0),
            rest: Ms(150.0),
            neuron: DiehlCookLif::original(),
            inhibition: 17.0,
            one_winner: false,
            threshold: AdaptiveThreshold { plus: 0.05, tau: Ms(1e7) },
            first_shift: 20.0,
            plasticity: Plasticity::Triplet {
                rates: [1e-4, 1e-2],
                tau_pre: Ms(20.0),
                tau_post: [Ms(20.0), Ms(40.0)],
            },
            most: 1.0,
            total: 78.0,
            retry: Some(Retry { least: 5, raise: 0.5, most: 16 }),
            batch: 1,
            merge: Merge::Sum,
        }
    }

    /// The constants of BindsNET's `DiehlAndCook2015` and its MNIST example.
    pub fn bindsnet(neurons: usize) -> Self {
        Self {
            rate: Hz(128.0),
            presentation: Ms(250.0),
            rest: Ms(0.0),
            neuron: DiehlCookLif::bindsnet(),
            inhibition: 120.0,
            one_winner: true,
            first_shift: 0.0,
            plasticity: Plasticity::Pair { rates: [1e-4, 1e-2], tau: [Ms(20.0); 2] },
            total: 78.4,
            retry: None,
            ..Self::original(neurons)
        }
    }

    /// Steps of a presentation.
    pub fn steps(&self) -> usize {
        (self.presentation.0 / self.neuron.dt.0).round() as usize
    }

    /// Checks every number.
    ///
    /// # Errors
    /// Names the first that makes no sense, and what would.
    pub fn validate(&self) -> Result<()> {
        self.neuron.validate()?;
        let above = |what: &str, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::value(what, value, "above 0 and finite")),
        };
        above("number of neurons", self.neurons as f64)?;
        above("batch", self.batch as f64)?;
        above("rate of the input", self.rate.0)?;
        above("largest weight", self.most.into())?;
        above("sum of the weights of a neuron", self.total.into())?;
        above("time constant of the threshold", self.threshold.tau.0)?;
        let taus = match self.plasticity {
            Plasticity::Pair { tau, .. } => tau.to_vec(),
            Plasticity::Triplet { tau_pre, tau_post, .. } => vec![tau_pre, tau_post[0], tau_post[1]],
            Plasticity::PostOnly { tau_pre, .. } => vec![tau_pre],
        };
        taus.into_iter().try_for_each(|tau| above("time constant of a trace", tau.0))?;
        let rates = match self.plasticity {
            Plasticity::Pair { rates, .. } | Plasticity::Triplet { rates, .. } => rates,
            Plasticity::PostOnly { rate, offset, .. } => [rate, offset],
        };
        let others = [self.inhibition, self.threshold.plus, self.first_shift, rates[0], rates[1]];
        if let Some(wrong) = others.iter().find(|x| !x.is_finite()) {
            return Err(Error::value("a constant of the network", wrong, "a finite number"));
        }
        if !(1..=usize::from(u16::MAX)).contains(&self.steps()) {
            let what = "steps of a presentation";
            return Err(Error::value(what, self.steps(), format!("1 to {}", u16::MAX)));
        }
        match self.retry {
            Some(retry) if !(retry.raise > 0.0 && retry.raise.is_finite()) || retry.most > 1000 => {
                Err(Error::value("retry", format!("{retry:?}"), "a positive raise and at most 1000 tries"))
            }
            _ => Ok(()),
        }
    }
}
