//! A neuron that hears the same volley of spikes again and again learns to answer to its beginning.

use ransnn::engine::{Options, Simulator};
use ransnn::snn::{Init, Network, Rule, Source, neurons::Iaf, plasticity::Pair};
use ransnn::units::Ms;

fn main() -> ransnn::Result<()> {
    // Input i fires 0.2 · i ms after the beginning of each volley; a volley begins every 100 ms.
    let (dt, inputs, volleys) = (Ms(0.1), 100, 200);
    let volley = |v: u64| (0..inputs).map(move |i| (1000 * v + 2 * u64::from(i), i));
    let mut net = Network::simulation(dt);
    let input = net.source("input", inputs as usize, Source::Spikes((0..volleys).flat_map(volley).collect()));
    let cell = net.population("cell", 1, Iaf { refractory_steps: 500, ..Iaf::delta(Ms(10.0), dt) });
    net.connect(input, cell, Rule::Dense)
        .name("synapses")
        .weights(Init::Uniform { low: 0.5, high: 0.7 })
        .delay(Ms(1.0))
        .plasticity(Pair { a_plus: 0.02, a_minus: 0.021, ..Pair::default() });
    let net = net.build(1)?;

    let mut simulator = Simulator::new(&net, Options::default())?;
    simulator.record_spikes(cell)?;
    let trace = simulator.record_weights("synapses", &[0, 50, 99], 5000)?;
    simulator.run(Ms(100.0 * volleys as f64))?;

    println!("weights of the first, middle and last input, every 2.5 s:");
    for row in simulator.weight_traces()[trace].values.chunks_exact(3).step_by(5) {
        println!("  {:.2}  {:.2}  {:.2}", row[0], row[1], row[2]);
    }
    let answers = &simulator.spikes(cell).expect("it is recorded").steps;
    let latency = |step: u64| (step % 1000) as f64 * dt.0;
    let (first, last) = (answers[0], answers[answers.len() - 1]);
    println!("it answers after {:.1} ms at first, {:.1} ms in the end", latency(first), latency(last));
    Ok(())
}
