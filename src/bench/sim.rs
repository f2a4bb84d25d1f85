//! Simulations of the standard networks: synaptic events per second of wall-clock time.

use super::{CLOCK_HZ, Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::engine::{Options, Simulator, cuda};
use crate::error::{Error, Result};
use crate::snn::{Drive, Init, Network, Rule, Source, neurons::Iaf, plasticity::Pair, standard};
use crate::tensor::cuda::Gpu;
use crate::units::{Hz, Ms};

/// Updates of one neuron a cycle: eight lanes, about 24 instructions, of which a core starts three vector ones a cycle.
const UPDATES_PER_CYCLE: f64 = 1.0;
/// Synaptic events a cycle: one store each.
const EVENTS_PER_CYCLE: f64 = 1.0;

/// A network, and the steps that are timed.
type Work = (Network, u64);

pub(super) fn cuba(scale: Scale) -> Result<Work> {
    Ok((standard::vogels_abbott_cuba(1)?, scale.pick(5000, 500) as u64))
}

pub(super) fn coba(scale: Scale) -> Result<Work> {
    Ok((standard::vogels_abbott_coba(1)?, scale.pick(5000, 500) as u64))
}

pub(super) fn brunel(scale: Scale) -> Result<Work> {
    match scale {
        Scale::Full => Ok((standard::brunel(5.0, 2.0, 1)?, 2000)),
        // The full one has 15 million synapses.
        #[cfg(test)]
        Scale::Tiny => Ok((standard::vogels_abbott_cuba(2)?, 300)),
    }
}

pub(super) fn feedforward(scale: Scale) -> Result<Work> {
    Ok((standard::feedforward(scale.pick(10_000, 300), 1)?, scale.pick(5000, 300) as u64))
}

/// At so many thousandths of its size.
pub(super) fn microcircuit(scale: Scale, thousandths: usize) -> Result<Work> {
    let part = scale.pick(thousandths, 5) as f64 / 1000.0;
    Ok((standard::microcircuit(part, 1)?, scale.pick(2000, 300) as u64))
}

pub(super) fn plastic(scale: Scale) -> Result<Work> {
    let (size, dt) = (scale.pick(1000, 100), Ms(0.1));
    let mut net = Network::simulation(dt);
    let always = Source::Poisson { rate: Hz(10.0), from: Ms(0.0), until: Ms(1e9) };
    let input = net.source("input", size, always);
    let cells = net.population("cells", size, Iaf::delta(Ms(20.0), dt));
    // Weights begin with a mean input at the threshold, 20 mV, and the drive adds 18 mV: the cells fire often.
    let most = 200.0 / size as f64;
    net.drive(cells, Drive::Poisson { receptor: "jump".into(), rate: Hz(6000.0), weight: 0.15 });
    net.connect(input, cells, Rule::Dense)
        .weights(Init::Uniform { low: 0.0, high: most })
        .delay(Ms(1.5))
        .plasticity(Pair { a_plus: 1e-4, a_minus: 1.05e-4, bounds: [0.0, most], ..Pair::default() });
    Ok((net.build(1)?, scale.pick(5000, 300) as u64))
}

/// Steps that are made before the clock starts.
const WARM: u64 = 500;

/// Times the steps; the connectivity is built before.
pub(super) fn on_cpu((net, steps): Work, timer: &Timer) -> Result<Measured> {
    let mut simulator = Simulator::new(&net, Options::default())?;
    simulator.run_steps(WARM);
    let before = simulator.activity().synaptic_events;
    let times = timer.measure(|| {
        simulator.run_steps(steps);
        Ok(())
    })?;
    let runs = (simulator.steps() - WARM) as f64 / steps as f64;
    let events = must_fire((simulator.activity().synaptic_events - before) as f64 / runs)?;
    let neurons: usize = net.populations.iter().filter(|p| p.model.is_some()).map(|p| p.size()).sum();
    let updates = neurons as f64 * steps as f64;
    let bytes = bytes_per_synapse(simulator.synapses());
    let what = format!(
        "{:.1} M synaptic events, {EVENTS_PER_CYCLE} a cycle, and {:.1} M updates of a neuron, {UPDATES_PER_CYCLE} a cycle; {:.2} bytes a synapse, {:.2} GB/s at that",
        events / 1e6,
        updates / 1e6,
        bytes,
        bytes * EVENTS_PER_CYCLE * CLOCK_HZ / 1e9,
    );
    let floor = Floor::of(events / EVENTS_PER_CYCLE + updates / UPDATES_PER_CYCLE, what);
    Ok(Measured { times, unit: Unit::SynapticEventsPerSecond, amount: events, floor })
}

/// The same on a GPU.
pub(super) fn on_gpu((net, steps): Work, timer: &Timer, gpu: &Gpu) -> Result<Measured> {
    let mut simulator = cuda::Simulator::new(gpu, &net)?;
    simulator.run_steps(WARM)?;
    let before = simulator.activity()?.synaptic_events;
    let times = timer.measure(|| simulator.run_steps(steps))?;
    let runs = (simulator.steps() - WARM) as f64 / steps as f64;
    let events = must_fire((simulator.activity()?.synaptic_events - before) as f64 / runs)?;
    let launches = simulator.launches(steps);
    let bytes = bytes_per_synapse(simulator.synapses());
    let what = format!("{:.1} M synaptic events of {bytes:.2} bytes", events / 1e6);
    let floor = Floor::of_gpu_bytes(events * bytes, launches as f64, what);
    Ok(Measured { times, unit: Unit::SynapticEventsPerSecond, amount: events, floor })
}

fn bytes_per_synapse(projections: &[(u64, u64)]) -> f64 {
    let (synapses, bytes) = projections.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    bytes as f64 / synapses.max(1) as f64
}

/// A silent network would be measured as a very fast one.
fn must_fire(events: f64) -> Result<f64> {
    if events > 0.0 { Ok(events) } else { Err(Error::Internal("the benchmark's network is silent".into())) }
}
