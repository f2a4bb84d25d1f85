//! Neuron models in physical units as they stand in an experiment file: `population.NAME.neuron.exp-lif = { … }`.

use super::config;
use crate::snn::Neuron;
use crate::snn::neurons::{
    AdEx, AdaptiveLif, AlphaLif, CondLif, Coupling, Iaf, Integrator, Izhikevich, Receptors,
};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// Tables of numbers with defaults, and the documentation of their keys.
macro_rules! tables {
    ($($(#[doc = $about:literal])* $name:ident = $kind:literal {
        $($key:ident: $default:literal, $doc:literal;)*
    })*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub struct $name {
                $(#[doc = $doc] pub $key: f64,)*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($key: $default,)* }
                }
            }
        )*

        /// Documentation by key path, as in [`annotate`](super::annotate).
        pub const KEYS: &[(&str, &str)] = &[
            $($((concat!("population.*.neuron.", $kind, ".", stringify!($key)), $doc),)*)*
        ];
    };
}

tables! {
    /// LIF whose membrane jumps with each spike (NEST `iaf_psc_delta`); weights in mV.
    DeltaLif = "delta-lif" {
        tau_mem_ms: 10.0, "membrane time constant";
        capacitance_pf: 250.0, "capacitance";
        rest_mv: -70.0, "resting potential";
        threshold_mv: -55.0, "firing threshold";
        reset_mv: -70.0, "potential after a spike";
        refractory_ms: 2.0, "refractory period";
        current_pa: 0.0, "constant current";
    }
    /// LIF with exponential currents (NEST `iaf_psc_exp`); weights in pA. Receptors: excitatory, inhibitory.
    ExpLif = "exp-lif" {
        tau_mem_ms: 10.0, "membrane time constant";
        capacitance_pf: 250.0, "capacitance";
        rest_mv: -70.0, "resting potential";
        threshold_mv: -55.0, "firing threshold";
        reset_mv: -70.0, "potential after a spike";
        refractory_ms: 2.0, "refractory period";
        tau_excitatory_ms: 2.0, "time constant of the excitatory current";
        tau_inhibitory_ms: 2.0, "time constant of the inhibitory current";
        current_pa: 0.0, "constant current";
    }
    /// LIF with alpha-shaped currents (NEST `iaf_psc_alpha`); weights are their peaks in pA.
    AlphaCurrentLif = "alpha-lif" {
        tau_mem_ms: 10.0, "membrane time constant";
        capacitance_pf: 250.0, "capacitance";
        rest_mv: -70.0, "resting potential";
        threshold_mv: -55.0, "firing threshold";
        reset_mv: -70.0, "potential after a spike";
        refractory_ms: 2.0, "refractory period";
        tau_excitatory_ms: 2.0, "time to the peak of the excitatory current";
        tau_inhibitory_ms: 2.0, "time to the peak of the inhibitory current";
        current_pa: 0.0, "constant current";
    }
    /// LIF with exponential conductances (NEST `iaf_cond_exp`, Brette's COBA); weights in nS, positive.
    ConductanceLif = "cond-lif" {
        capacitance_pf: 200.0, "capacitance";
        leak_ns: 10.0, "leak conductance";
        rest_mv: -60.0, "resting potential";
        threshold_mv: -50.0, "firing threshold";
        reset_mv: -60.0, "potential after a spike";
        refractory_ms: 5.0, "refractory period";
        reversal_excitatory_mv: 0.0, "reversal potential of excitatory synapses";
        reversal_inhibitory_mv: -80.0, "reversal potential of inhibitory synapses";
        tau_excitatory_ms: 5.0, "time constant of the excitatory conductance";
        tau_inhibitory_ms: 10.0, "time constant of the inhibitory conductance";
        current_pa: 0.0, "constant current";
    }
    /// LIF with exponential currents whose spikes raise a current and the threshold.
    Adaptive = "adaptive-lif" {
        tau_mem_ms: 10.0, "membrane time constant";
        capacitance_pf: 250.0, "capacitance";
        rest_mv: -70.0, "resting potential";
        threshold_mv: -55.0, "threshold without adaptation";
        reset_mv: -70.0, "potential after a spike";
        refractory_ms: 2.0, "refractory period";
        tau_excitatory_ms: 2.0, "time constant of the excitatory current";
        tau_inhibitory_ms: 2.0, "time constant of the inhibitory current";
        spike_current_pa: 40.0, "what a spike adds to the adaptation current";
        tau_current_ms: 100.0, "time constant of the adaptation current";
        spike_threshold_mv: 2.0, "what a spike adds to the threshold";
        tau_threshold_ms: 50.0, "time constant of the threshold";
        current_pa: 0.0, "constant current";
    }
    /// Adaptive exponential integrate-and-fire with exponential currents (NEST `aeif_psc_exp`).
    AdExCurrent = "adex" {
        capacitance_pf: 281.0, "capacitance";
        leak_ns: 30.0, "leak conductance";
        rest_mv: -70.6, "resting potential";
        threshold_mv: -50.4, "spike initiation threshold";
        slope_mv: 2.0, "slope factor of the upswing";
        peak_mv: 0.0, "potential at which a spike is counted";
        reset_mv: -60.0, "potential after a spike";
        a_ns: 4.0, "subthreshold adaptation";
        b_pa: 80.5, "spike-triggered adaptation";
        tau_w_ms: 144.0, "time constant of the adaptation";
        refractory_ms: 0.0, "refractory period";
        tau_excitatory_ms: 0.2, "time constant of the excitatory current";
        tau_inhibitory_ms: 2.0, "time constant of the inhibitory current";
        current_pa: 0.0, "constant current";
    }
    /// The same with exponential conductances (NEST `aeif_cond_exp`); weights in nS, positive.
    AdExConductance = "adex-cond" {
        capacitance_pf: 281.0, "capacitance";
        leak_ns: 30.0, "leak conductance";
        rest_mv: -70.6, "resting potential";
        threshold_mv: -50.4, "spike initiation threshold";
        slope_mv: 2.0, "slope factor of the upswing";
        peak_mv: 0.0, "potential at which a spike is counted";
        reset_mv: -60.0, "potential after a spike";
        a_ns: 4.0, "subthreshold adaptation";
        b_pa: 80.5, "spike-triggered adaptation";
        tau_w_ms: 144.0, "time constant of the adaptation";
        refractory_ms: 0.0, "refractory period";
        reversal_excitatory_mv: 0.0, "reversal potential of excitatory synapses";
        reversal_inhibitory_mv: -85.0, "reversal potential of inhibitory synapses";
        tau_excitatory_ms: 0.2, "time constant of the excitatory conductance";
        tau_inhibitory_ms: 2.0, "time constant of the inhibitory conductance";
        current_pa: 0.0, "constant current";
    }
    /// Izhikevich's neuron, by Euler steps (NEST `izhikevich`); weights in mV/ms.
    IzhikevichNeuron = "izhikevich" {
        a: 0.02, "rate of the recovery variable, 1/ms";
        b: 0.2, "sensitivity of the recovery variable, 1/ms";
        c_mv: -65.0, "potential after a spike";
        d: 8.0, "what a spike adds to the recovery variable, mV/ms";
        threshold_mv: 30.0, "potential at which a spike is counted";
        current: 0.0, "constant current, mV/ms";
    }
    /// Integrate-and-fire without a leak; weights in mV.
    IntegrateFire = "integrate-fire" {
        capacitance_pf: 250.0, "capacitance";
        rest_mv: -70.0, "initial potential";
        threshold_mv: -55.0, "firing threshold";
        reset_mv: -70.0, "potential after a spike";
        refractory_ms: 0.0, "refractory period";
        current_pa: 0.0, "constant current";
    }
    /// A leaky integrator that never fires; weights in mV.
    LeakyIntegrator = "leaky-integrator" {
        tau_mem_ms: 20.0, "membrane time constant";
        capacitance_pf: 250.0, "capacitance";
        rest_mv: 0.0, "resting potential";
        current_pa: 0.0, "constant current";
    }
}

/// A model for time steps of `dt`.
trait Model {
    fn model(&self, dt: Ms) -> Box<dyn Neuron>;
}

impl config::Neuron {
    /// The model for time steps of `dt`, of those in physical units.
    pub fn physical(&self, dt: Ms) -> Option<Box<dyn Neuron>> {
        let model: &dyn Model = match self {
            Self::Input | Self::Lif(_) | Self::Synaptic(_) | Self::Alif(_) => return None,
            Self::Poisson(_) | Self::Spikes(_) => return None,
            Self::DeltaLif(table) => table,
            Self::ExpLif(table) => table,
            Self::AlphaLif(table) => table,
            Self::CondLif(table) => table,
            Self::AdaptiveLif(table) => table,
            Self::AdEx(table) => table,
            Self::AdExCond(table) => table,
            Self::Izhikevich(table) => table,
            Self::IntegrateFire(table) => table,
            Self::LeakyIntegrator(table) => table,
        };
        Some(model.model(dt))
    }
}

impl Model for DeltaLif {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        let base = Iaf::psc_exp(Ms(self.tau_mem_ms), Ms(1.0), self.capacitance_pf, dt);
        Box::new(Iaf {
            rest: self.rest_mv,
            threshold: self.threshold_mv,
            reset: self.reset_mv,
            refractory_steps: (self.refractory_ms / dt.0).round() as u32,
            current: self.current_pa,
            receptors: Receptors::Delta,
            ..base
        })
    }
}

impl Model for ExpLif {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        let base = Iaf::psc_exp(Ms(self.tau_mem_ms), Ms(1.0), self.capacitance_pf, dt);
        Box::new(Iaf {
            rest: self.rest_mv,
            threshold: self.threshold_mv,
            reset: self.reset_mv,
            refractory_steps: (self.refractory_ms / dt.0).round() as u32,
            current: self.current_pa,
            receptors: Receptors::Two(Ms(self.tau_excitatory_ms), Ms(self.tau_inhibitory_ms)),
            ..base
        })
    }
}

impl Model for AlphaCurrentLif {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        Box::new(AlphaLif {
            tau_mem: Ms(self.tau_mem_ms),
            capacitance: self.capacitance_pf,
            rest: self.rest_mv,
            threshold: self.threshold_mv,
            reset: self.reset_mv,
            refractory: Ms(self.refractory_ms),
            tau_excitatory: Ms(self.tau_excitatory_ms),
            tau_inhibitory: Ms(self.tau_inhibitory_ms),
            current: self.current_pa,
            dt,
        })
    }
}

impl Model for ConductanceLif {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        Box::new(CondLif {
            capacitance: self.capacitance_pf,
            leak: self.leak_ns,
            rest: self.rest_mv,
            threshold: self.threshold_mv,
            reset: self.reset_mv,
            refractory: Ms(self.refractory_ms),
            reversal_excitatory: self.reversal_excitatory_mv,
            reversal_inhibitory: self.reversal_inhibitory_mv,
            tau_excitatory: Ms(self.tau_excitatory_ms),
            tau_inhibitory: Ms(self.tau_inhibitory_ms),
            current: self.current_pa,
            dt,
        })
    }
}

impl Model for Adaptive {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        Box::new(AdaptiveLif {
            tau_mem: Ms(self.tau_mem_ms),
            capacitance: self.capacitance_pf,
            rest: self.rest_mv,
            threshold: self.threshold_mv,
            reset: self.reset_mv,
            refractory: Ms(self.refractory_ms),
            tau_excitatory: Ms(self.tau_excitatory_ms),
            tau_inhibitory: Ms(self.tau_inhibitory_ms),
            spike_current: self.spike_current_pa,
            tau_current: Ms(self.tau_current_ms),
            spike_threshold: self.spike_threshold_mv,
            tau_threshold: Ms(self.tau_threshold_ms),
            current: self.current_pa,
            dt,
        })
    }
}

/// What both kinds of AdEx have in common.
macro_rules! adex {
    ($table:expr, $dt:expr, $synapses:expr) => {
        Box::new(AdEx {
            capacitance: $table.capacitance_pf,
            leak: $table.leak_ns,
            rest: $table.rest_mv,
            threshold: $table.threshold_mv,
            slope: $table.slope_mv,
            peak: $table.peak_mv,
            reset: $table.reset_mv,
            a: $table.a_ns,
            b: $table.b_pa,
            tau_w: Ms($table.tau_w_ms),
            refractory: Ms($table.refractory_ms),
            tau_excitatory: Ms($table.tau_excitatory_ms),
            tau_inhibitory: Ms($table.tau_inhibitory_ms),
            synapses: $synapses,
            current: $table.current_pa,
            ..AdEx::nest($dt)
        })
    };
}

impl Model for AdExCurrent {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        adex!(self, dt, Coupling::Current)
    }
}

impl Model for AdExConductance {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        let (excitatory, inhibitory) = (self.reversal_excitatory_mv, self.reversal_inhibitory_mv);
        adex!(self, dt, Coupling::Conductance { excitatory, inhibitory })
    }
}

impl Model for IzhikevichNeuron {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        Box::new(Izhikevich {
            a: self.a,
            b: self.b,
            c: self.c_mv,
            d: self.d,
            threshold: self.threshold_mv,
            current: self.current,
            ..Izhikevich::regular_spiking(dt)
        })
    }
}

impl Model for IntegrateFire {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        Box::new(Integrator {
            tau_mem: None,
            capacitance: self.capacitance_pf,
            rest: self.rest_mv,
            threshold: Some(self.threshold_mv),
            reset: self.reset_mv,
            refractory: Ms(self.refractory_ms),
            current: self.current_pa,
            dt,
        })
    }
}

impl Model for LeakyIntegrator {
    fn model(&self, dt: Ms) -> Box<dyn Neuron> {
        Box::new(Integrator {
            capacitance: self.capacitance_pf,
            rest: self.rest_mv,
            reset: self.rest_mv,
            current: self.current_pa,
            ..Integrator::leaky(Ms(self.tau_mem_ms), dt)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    #[test]
    fn every_kind_has_sound_defaults_and_documented_keys() {
        let kinds: std::collections::BTreeSet<&str> =
            KEYS.iter().filter_map(|(path, _)| path.split('.').nth(3)).collect();
        assert_eq!(kinds.len(), 10);
        for kind in kinds {
            let text = format!("shape = 3\nneuron.{kind} = {{}}");
            let population: config::Population = document::parse(&text).expect("a model with defaults");
            let model = population.neuron.physical(Ms(0.1)).expect("a model");
            model.validate().expect("sound defaults");
            assert!(
                kind == "adex-cond" && model.kind() == "adex"
                    || kind.ends_with("lif")
                    || model.kind() == kind
            );
            let wrong = format!("shape = 3\nneuron.{kind} = {{ bogus = 1 }}");
            assert!(document::parse::<config::Population>(&wrong).is_err());
        }
    }

    #[test]
    fn keys_reach_the_model() {
        let text =
            "shape = 3\nneuron.exp-lif = { tau_mem_ms = 20, tau_excitatory_ms = 5, refractory_ms = 5 }";
        let population: config::Population = document::parse(text).expect("right");
        let model = population.neuron.physical(Ms(0.1)).expect("a model");
        let iaf = model.as_any().downcast_ref::<Iaf>().expect("of this kind");
        assert_eq!((iaf.tau_mem, iaf.refractory_steps), (Ms(20.0), 50));
        assert_eq!(iaf.receptors, Receptors::Two(Ms(5.0), Ms(2.0)));
        assert!((iaf.resistance - 20.0 / 250.0).abs() < 1e-15);
        let text = "shape = 3\nneuron.cond-lif = { capacitance_pf = 0 }";
        let population: config::Population = document::parse(text).expect("parses");
        let error = population.neuron.physical(Ms(0.1)).expect("a model").validate().expect_err("refused");
        assert_eq!(error.to_string(), "capacitance is 0 pF; it must be above 0");
    }
}
