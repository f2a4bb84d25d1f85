//! The clock without a grid, at the rate where it begins to pay.

use super::{Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::engine::Lazy;
use crate::error::Result;
use crate::snn::neurons::Iaf;
use crate::snn::{Init, Network, Rule, Source};
use crate::units::{Hz, Ms};

/// Synapses of a neuron.
const FAN_OUT: usize = 100;
/// Exponential functions that an event of an exponential synapse cannot do without: membrane, current, and the current
/// again where the potential is computed.
const EXPONENTIALS: f64 = 3.0;
/// Cycles of one in double precision: some 20 operations, 4 lanes, 2 a cycle.
const EXPONENTIAL_CYCLES: f64 = 2.5;

/// Each neuron fires once a second by a train of its own, and sends its spikes to others with weak weights.
pub(super) fn exponential(scale: Scale, timer: &Timer) -> Result<Measured> {
    let (neurons, dt) = (scale.pick(10_000, 200), Ms(0.1));
    let time = Ms(if scale == Scale::Full { 500.0 } else { 20.0 });
    let mut net = Network::simulation(dt);
    let trains = Source::Poisson { rate: Hz(1.0), from: Ms(0.0), until: Ms(1e9) };
    let input = net.source("input", neurons, trains);
    let cells = net.population("cells", neurons, Iaf::psc_exp(Ms(20.0), Ms(5.0), 250.0, dt));
    net.connect(input, cells, Rule::OneToOne).weights(Init::Constant(2500.0)).delay(Ms(1.5));
    let weak = Init::Uniform { low: -80.0, high: 80.0 };
    net.connect(cells, cells, Rule::FixedOutDegree { k: FAN_OUT }).weights(weak).delay(Ms(1.5));
    let net = net.build(1)?;
    let mut lazy = Lazy::new(&net)?;
    let times = timer.measure(|| lazy.run(time))?;
    // The mean over all calls; those of the tiny form may be silent.
    let calls = lazy.time().0 / time.0;
    let events = (lazy.activity().synaptic_events as f64 / calls).max(1.0);
    let what = format!(
        "{events:.0} events, {EXPONENTIALS} exponential functions each, {EXPONENTIAL_CYCLES} cycles each"
    );
    let floor = Floor::of(events * EXPONENTIALS * EXPONENTIAL_CYCLES, what);
    Ok(Measured { times, unit: Unit::SynapticEventsPerSecond, amount: events, floor })
}
