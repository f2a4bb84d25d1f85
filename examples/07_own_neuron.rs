//! A neuron model of one's own in one file: the quadratic integrate-and-fire neuron, τ v̇ = v² + x, in a network.
#![allow(clippy::print_stdout)]

use ransnn::engine::{Options, Simulator};
use ransnn::snn::{Drive, Init, Network, Neuron, Param, Rule, StateSpec};
use ransnn::units::Ms;

/// It fires when v reaches `peak`, and begins again at −`peak`; `rate` is the time step over τ.
#[derive(Debug)]
struct Quadratic {
    rate: f32,
    peak: f32,
}

impl Neuron for Quadratic {
    fn kind(&self) -> &'static str {
        "quadratic"
    }

    fn params(&self) -> Vec<Param> {
        vec![
            Param::ranged("rate", self.rate, 0.0, 0.1, "time step over time constant"),
            Param::positive("peak", self.peak, "potential at which it fires"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![StateSpec::membrane(-0.5)]
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        for ((v, &x), spike) in state[0].iter_mut().zip(input).zip(spikes) {
            *v += self.rate * (*v * *v + x);
            *spike = (*v >= self.peak).into();
            *v = if *spike == 1 { -self.peak } else { *v };
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn main() -> ransnn::Result<()> {
    let dt = Ms(0.1);
    let mut net = Network::simulation(dt);
    let cells = net.population("cells", 100, Quadratic { rate: 0.01, peak: 30.0 });
    let amplitude = Init::Uniform { low: -0.2, high: 1.0 };
    let (receptor, from, until) = ("input".into(), Ms(0.0), Ms(1000.0));
    net.drive(cells, Drive::Current { receptor, amplitude, from, until });
    net.connect(cells, cells, Rule::FixedProbability { p: 0.1 }).weights(Init::Constant(-2.0)).delay(Ms(1.0));
    let net = net.build(1)?;
    let mut simulator = Simulator::new(&net, Options::default())?;
    simulator.record_spikes(cells)?;
    simulator.run(Ms(1000.0))?;
    let spikes = simulator.spikes(cells).map_or(0, |train| train.len());
    println!("{spikes} spikes of 100 neurons in a second: {} Hz", spikes as f64 / 100.0);
    Ok(())
}
