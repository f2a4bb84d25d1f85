//! Rules for the weights of a readout, and the window through which a presynaptic spike changes them.
//!
//! Traces of all pairs add up, so that what a presentation of `T` steps changes is a sum over presynaptic spikes:
//! `Δw_ij = Σ_t s_i(t) z_j(t)`, where the window `z_j(t)` knows all that neuron `j` did. A change therefore costs what
//! the spikes cost. With `λ = exp(−dt / τ)` for each time constant:
//!
//! **Supervised**, ReSuMe (Ponulak & Kasiński, Neural Computation 22:467, 2010) without its non-Hebbian term. Desired
//! spikes `d` potentiate by the presynaptic trace, the neuron's own spikes `s` depress by it:
//!
//! ```text
//! Δw_ij = Σ_t (d_j(t) − s_j(t)) x_i(t),  x_i(t) = λ x_i(t−1) + s_i(t)
//! z_j(t) = (d_j(t) − s_j(t)) + λ z_j(t+1)
//! ```
//!
//! The neuron of the right class is to fire in every `every`-th step, the others never.
//!
//! **Reward**, eligibility traces times reward (Florian's MSTDPET, Neural Computation 19:1468, 2007). After the last step the
//! neuron `a` with the most spikes decides; its spikes make its own synapses eligible, and those of the others the opposite
//! way, by their share `p` of the spikes: what REINFORCE (Williams, Machine Learning 8:229, 1992) asks for. Presynaptic
//! activity counts as far as it differs from its mean (covariance rule: Loewenstein & Seung, PNAS 103:15224, 2006). The
//! reward is 1 or −1, less the mean of the last ones:
//!
//! ```text
//! e_ij(t) = (x_i(t) − x̄_i(t)) (δ_ja − p_j) s_a(t),  p_j = (n_j + 1/10) / Σ_k (n_k + 1/10) for n_j spikes
//! Δw_ij = (r − r̄) E_ij,  E_ij = Σ_t λ_e^(T−1−t) e_ij(t)
//! z_j(t) = (r − r̄) q_j(t),  q_j(t) = λ_e^(T−1−t) (δ_ja − p_j) s_a(t) + λ q_j(t+1),  Δw_ij = Σ_t (s_i(t) − s̄_i(t)) z_j(t)
//! ```
//!
//! Noise in the neurons' currents while they learn lets others win now and then. Biases keep every neuron's rate near one
//! spike in as many steps as there are neurons (homeostasis), so that all take part. Nobody is told the right class.

use crate::error::{Error, Result};
use crate::units::Ms;

/// How the weights of a readout change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Towards desired spikes.
    Supervised(Supervised),
    /// Towards rewards.
    Reward(Reward),
}

/// ReSuMe with desired spikes in regular steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supervised {
    /// Of the presynaptic trace.
    pub tau: Ms,
    /// The neuron of the right class is to fire in every so many-th step.
    pub every: usize,
}

impl Default for Supervised {
    fn default() -> Self {
        Self { tau: Ms(10.0), every: 1 }
    }
}

/// Reward-modulated STDP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reward {
    /// Of the presynaptic trace.
    pub tau: Ms,
    /// Of the eligibility.
    pub tau_eligibility: Ms,
    /// Standard deviation of the noise in the current of a step.
    pub noise: f32,
    /// Samples over which rewards are averaged.
    pub window: usize,
    /// What a mini-batch takes from a neuron's bias for each spike per step above its share, or adds below.
    pub homeostasis: f32,
}

impl Default for Reward {
    fn default() -> Self {
        Self { tau: Ms(2.0), tau_eligibility: Ms(1e3), noise: 0.3, window: 1000, homeostasis: 0.1 }
    }
}

impl Rule {
    /// # Errors
    /// Names the first constant outside its range.
    pub fn validate(&self) -> Result<()> {
        let (taus, finite, counts) = match self {
            Self::Supervised(rule) => (vec![("tau", rule.tau)], vec![], ("every", rule.every)),
            Self::Reward(rule) => (
                vec![("tau", rule.tau), ("tau_eligibility", rule.tau_eligibility)],
                vec![("noise", rule.noise), ("homeostasis", rule.homeostasis)],
                ("window", rule.window),
            ),
        };
        for (name, tau) in taus {
            if !(tau.0 > 0.0 && tau.0.is_finite()) {
                return Err(Error::value(name, tau, "a time above 0"));
            }
        }
        for (name, value) in finite {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::value(name, value, "0 or more"));
            }
        }
        if counts.1 == 0 {
            return Err(Error::value(counts.0, 0, "at least 1"));
        }
        Ok(())
    }
}

/// The factor over a step.
pub(super) fn factor(tau: Ms, dt: Ms) -> f32 {
    (-dt.0 / tau.0).exp() as f32
}

impl Supervised {
    /// Writes the windows `[T, stride]` for output spikes `[T, neurons]`; returns how many spikes were missing or too many.
    pub(super) fn windows(
        &self,
        dt: Ms,
        right: usize,
        spikes: &[u8],
        neurons: usize,
        windows: &mut [f32],
    ) -> u32 {
        let (steps, lambda) = (spikes.len() / neurons, factor(self.tau, dt));
        let stride = windows.len() / steps;
        let mut wrong = 0;
        for t in (0..steps).rev() {
            let (now, later) = windows[t * stride..].split_at_mut(stride);
            for (j, &spike) in spikes[t * neurons..][..neurons].iter().enumerate() {
                let desired = i32::from(j == right && (t + 1).is_multiple_of(self.every));
                let error = desired - i32::from(spike);
                wrong += error.unsigned_abs();
                now[j] = error as f32 + if later.is_empty() { 0.0 } else { lambda * later[j] };
            }
        }
        wrong
    }
}

impl Reward {
    /// Writes the windows `[T, stride]`, times `modulation`, where neuron `chosen` decided.
    pub(super) fn windows(
        &self,
        dt: Ms,
        chosen: usize,
        modulation: f32,
        spikes: &[u8],
        counts: &[u32],
        windows: &mut [f32],
    ) {
        let n = counts.len();
        let steps = spikes.len() / n;
        let stride = windows.len() / steps;
        let [lambda, late] = [self.tau, self.tau_eligibility].map(|tau| factor(tau, dt));
        let all = counts.iter().sum::<u32>() as f32 + 0.1 * n as f32;
        for (j, &count) in counts.iter().enumerate() {
            let own = if j == chosen { 1.0 } else { 0.0 };
            let credit = own - (count as f32 + 0.1) / all;
            let mut ahead = 0.0;
            for t in (0..steps).rev() {
                let fired = f32::from(spikes[t * n + chosen]);
                ahead = late.powi((steps - 1 - t) as i32) * credit * fired + lambda * ahead;
                windows[t * stride + j] = modulation * ahead;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_rules_are_refused_by_name() {
        let wrong = |rule: Rule| rule.validate().unwrap_err().to_string();
        let (supervised, reward) = (Supervised::default(), Reward::default());
        assert!(
            wrong(Rule::Supervised(Supervised { tau: Ms(0.0), ..supervised })).starts_with("tau is 0 ms")
        );
        assert!(wrong(Rule::Supervised(Supervised { every: 0, ..supervised })).starts_with("every is 0"));
        assert!(wrong(Rule::Reward(Reward { noise: f32::NAN, ..reward })).starts_with("noise is NaN"));
        let error = wrong(Rule::Reward(Reward { tau_eligibility: Ms(-1.0), ..reward }));
        assert!(error.starts_with("tau_eligibility is -1 ms"), "{error}");
        assert!(wrong(Rule::Reward(Reward { window: 0, ..reward })).starts_with("window is 0"));
        Rule::Reward(reward).validate().unwrap();
        Rule::Supervised(supervised).validate().unwrap();
    }

    #[test]
    fn windows_by_hand() {
        // τ so that λ = 1/2. Neuron 1 is right and should fire in steps 1 and 3; it fires in 2; neuron 0 fires in 0.
        let dt = Ms(1.0);
        let tau = Ms(1.0 / 2f64.ln());
        let spikes = [1, 0, 0, 0, 0, 1, 0, 0];
        let mut windows = vec![0.0; 8];
        let wrong = Supervised { tau, every: 2 }.windows(dt, 1, &spikes, 2, &mut windows);
        assert_eq!(wrong, 4);
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&windows, &[-1.0, 0.375, 0.0, 0.75, 0.0, -0.5, 0.0, 1.0]), "{windows:?}");
        // Neuron 0 decided with one spike of two, in step 0; modulation 2; λ_e³ of it is left after step 3.
        let mut windows = vec![0.0; 8];
        let rule = Reward { tau, tau_eligibility: tau, ..Reward::default() };
        rule.windows(dt, 0, 2.0, &spikes, &[1, 1], &mut windows);
        assert!(close(&windows, &[0.125, -0.125, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), "{windows:?}");
        // A later spike reaches back to earlier presynaptic ones.
        rule.windows(dt, 1, 2.0, &spikes, &[1, 1], &mut windows);
        assert!(close(&windows, &[-0.125, 0.125, -0.25, 0.25, -0.5, 0.5, 0.0, 0.0]), "{windows:?}");
    }
}
