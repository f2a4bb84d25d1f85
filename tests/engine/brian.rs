//! Recurrent networks as Brian2 ran them (exact integration): the spikes are equal, one by one.
//!
//! A spike that Brian2 emits in step k with a delay of d steps acts in its synapse slot of step k + d, after integration
//! and comparison. Our order for that is `Acts::Last` for jumps and the usual one for currents. Delays of zero are a
//! loop within a step; there, all delays are one longer and the input acts first, which is the same.

use ransnn::engine::{Options, Precision, Simulator};
use ransnn::snn::neurons::{Acts, Fires, Iaf, Receptors};
use ransnn::snn::{Init, Network, Pop, Rule, Source};
use ransnn::tensor::safetensors::File;
use ransnn::units::Ms;
use std::path::Path;

const DT: Ms = Ms(0.1);

struct Case {
    file: File,
    receptors: Receptors,
    acts: Acts,
    neurons: usize,
    external: usize,
    current: f64,
    steps: u64,
}

fn case(name: &str, receptors: Receptors, acts: Acts) -> Case {
    let path = Path::new("tests/fixtures/snn/brian_net").join(name);
    let tiny = name.starts_with("tiny");
    Case {
        file: File::open(&path).unwrap(),
        receptors,
        acts,
        neurons: if tiny { 3 } else { 200 },
        external: if tiny { 1 } else { 40 },
        current: if tiny { 0.0 } else { 10.0 },
        steps: if tiny { 200 } else { 5000 },
    }
}

impl Case {
    fn numbers(&self, name: &str) -> Vec<f64> {
        self.file.tensor(name).unwrap().to_f64().unwrap()
    }

    fn indices(&self, name: &str) -> Vec<u32> {
        self.numbers(name).into_iter().map(|n| n as u32).collect()
    }

    fn network(&self) -> Network {
        let model = Iaf {
            rest: -65.0,
            reset: -65.0,
            threshold: -50.0,
            fires: Fires::Above,
            current: self.current,
            refractory_steps: 49, // Brian2's 50 count the step of the spike
            receptors: self.receptors,
            acts: self.acts,
            ..Iaf::delta(Ms(20.0), DT)
        };
        let mut net = Network::simulation(DT);
        let spikes =
            self.indices("input_k").into_iter().map(u64::from).zip(self.indices("input_i")).collect();
        let external = net.source("external", self.external, Source::Spikes(spikes));
        let neurons = net.population("neurons", self.neurons, model);
        let later = u32::from(self.acts == Acts::First);
        for (from, pre) in [("edge", neurons), ("ext", external)] {
            let column = |what: &str| self.indices(&format!("{from}_{what}"));
            let (i, j, delays) = (column("i"), column("j"), column("delay_steps"));
            let weights = self.numbers(&format!("{from}_w"));
            // The two receptors of `net_exp2` are told apart by sign.
            let two = matches!(self.receptors, Receptors::Two(..));
            for (receptor, inhibitory) in [(0, false), (1, true)].into_iter().take(1 + usize::from(two)) {
                let mine: Vec<usize> =
                    (0..i.len()).filter(|&e| !two || (weights[e] < 0.0) == inhibitory).collect();
                let edges = mine.iter().map(|&e| (i[e], j[e])).collect();
                let delay = |&e: &usize| f64::from(delays[e] + later) * DT.0;
                let edge = net
                    .connect(pre, neurons, Rule::Explicit { edges })
                    .weights(Init::ListedF64(mine.iter().map(|&e| weights[e]).collect()))
                    .delays(Init::ListedF64(mine.iter().map(delay).collect()));
                if two {
                    edge.receptor(["excitatory", "inhibitory"][receptor]);
                }
            }
        }
        net.build(1).unwrap()
    }

    /// Spikes (step, neuron), and the trace of the recorded neurons.
    fn run(&self, precision: Precision, block: usize) -> (Vec<(u64, u32)>, Vec<f64>) {
        let net = self.network();
        let neurons = Pop(1);
        let mut simulator = Simulator::new(&net, Options { precision, block }).unwrap();
        simulator.record_spikes(neurons).unwrap();
        let recorded = self.indices("recorded");
        let trace = simulator.record(neurons, "membrane potential", &recorded, 1).unwrap();
        simulator.run_steps(self.steps);
        let spikes = simulator.spikes(neurons).unwrap().iter().collect();
        (spikes, simulator.traces()[trace].values.clone())
    }

    fn check(&self) {
        let steps = self.indices("spike_k").into_iter().map(u64::from);
        let expected: Vec<(u64, u32)> = steps.zip(self.indices("spike_i")).collect();
        assert!(expected.len() >= 3);
        for (precision, block) in [
            (Precision::Double, 4096),
            (Precision::Double, 7),
            (Precision::Single, 4096),
            (Precision::Single, 64),
        ] {
            let (spikes, trace) = self.run(precision, block);
            let first = spikes.iter().zip(&expected).position(|(a, b)| a != b);
            assert_eq!(first.map(|i| (spikes[i], expected[i])), None, "{precision:?} {block}");
            assert_eq!(spikes.len(), expected.len());
            let reference = self.numbers("v");
            // A jump that acts first is in Brian2's trace one step before it is in ours.
            if precision == Precision::Double
                && (self.acts != Acts::First || self.receptors != Receptors::Delta)
            {
                let worst = trace.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst <= 1e-9, "the membrane is off by {worst} mV");
            }
        }
    }
}

#[test]
fn jumps() {
    case("net_delta.safetensors", Receptors::Delta, Acts::Last).check();
}

#[test]
fn exponential_currents() {
    case("net_exp.safetensors", Receptors::Exponential(Ms(5.0)), Acts::BeforeComparison).check();
}

#[test]
fn two_currents_and_delays_of_zero() {
    case("net_exp2.safetensors", Receptors::Two(Ms(5.0), Ms(10.0)), Acts::First).check();
}

#[test]
fn a_chain_with_known_times() {
    case("tiny_chain.safetensors", Receptors::Delta, Acts::First).check();
}
