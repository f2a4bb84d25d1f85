//! At which rates each clock wins: processor seconds per simulated second, printed as the table of `docs/clocks.md`.
//!
//! `cargo bench --bench clocks`, on one thread. Each of 10,000 neurons is made to fire by a Poisson train of its own,
//! and sends its spikes to 100 random others with weak weights of both signs and a delay of 1.5 ms; the grid has steps
//! of 0.1 ms and single precision. Building is not counted. The clocks run in turn.
#![allow(clippy::print_stdout)]

use ransnn::engine::{Lazy, Options, Simulator};
use ransnn::snn::neurons::{AlphaLif, Iaf};
use ransnn::snn::{Init, Network, Neuron, Pop, Rule, Source};
use ransnn::units::{Hz, Ms};

const DT: Ms = Ms(0.1);
const NEURONS: usize = 10_000;

/// A network whose neurons fire at about `rate`; `strong` makes one fire, `weak` is a thirtieth of that.
fn network(model: Box<dyn Neuron>, receptor: &str, strong: f64, rate: f64) -> ransnn::Result<(Network, Pop)> {
    let mut net = Network::simulation(DT);
    let trains = Source::Poisson { rate: Hz(rate), from: Ms(0.0), until: Ms(1e9) };
    let input = net.source("input", NEURONS, trains);
    let cells = net.population("cells", NEURONS, model);
    net.connect(input, cells, Rule::OneToOne)
        .weights(Init::Constant(strong))
        .delay(Ms(1.5))
        .receptor(receptor);
    let weak = strong / 30.0;
    let edge = net.connect(cells, cells, Rule::FixedOutDegree { k: 100 });
    edge.weights(Init::Uniform { low: -weak, high: weak }).delay(Ms(1.5)).receptor(receptor);
    Ok((net.build(1)?, cells))
}

/// Processor time of this process so far, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: Vec<f64> = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
    ticks.iter().sum::<f64>() / 100.0
}

/// Least processor seconds per simulated second over three runs of at least 0.4 s each, after one that warms up.
fn cost(seconds: f64, mut run: impl FnMut(Ms) -> ransnn::Result<()>) -> ransnn::Result<f64> {
    run(Ms(100.0))?;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let (start, mut simulated) = (cpu(), 0.0);
        while cpu() - start < 0.4 {
            run(Ms(seconds * 1000.0))?;
            simulated += seconds;
        }
        best = best.min((cpu() - start) / simulated);
    }
    Ok(best)
}

fn table() -> ransnn::Result<()> {
    println!("| synapses | rate, Hz | events/s | grid, s | lazy, s | lazy, ns/event | faster |");
    println!("|---|---|---|---|---|---|---|");
    for rate in [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0] {
        let exp = Iaf::psc_exp(Ms(20.0), Ms(5.0), 250.0, DT);
        let models: [(&str, &str, Box<dyn Neuron>, f64); 3] = [
            ("delta", "jump", Box::new(Iaf::delta(Ms(20.0), DT)), 25.0),
            ("exponential", "synapse", Box::new(exp), 2500.0),
            ("alpha", "excitatory", Box::new(AlphaLif { tau_mem: Ms(20.0), ..AlphaLif::nest(DT) }), 2500.0),
        ];
        for (name, receptor, model, strong) in models {
            let (net, cells) = network(model, receptor, strong, rate)?;
            let mut grid = Simulator::new(&net, Options::default())?;
            let mut lazy = Lazy::new(&net)?;
            let seconds = if rate < 3.0 { 0.5 } else { 0.1 };
            let on_grid = cost(seconds, |time| grid.run(time))?;
            let off_grid = cost(seconds, |time| lazy.run(time))?;
            let activity = lazy.activity();
            let simulated = lazy.time().0 / 1000.0;
            let fired = activity.spikes[cells.0] as f64 / simulated / NEURONS as f64;
            let events = activity.synaptic_events as f64 / simulated;
            let (winner, times) =
                if on_grid < off_grid { ("grid", off_grid / on_grid) } else { ("lazy", on_grid / off_grid) };
            println!(
                "| {name} | {fired:.2} | {events:.1e} | {on_grid:.4} | {off_grid:.4} | {:.0} | {winner}, {times:.1} times |",
                1e9 * off_grid / events
            );
        }
    }
    Ok(())
}

fn main() -> ransnn::Result<()> {
    // `cargo test --benches` only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.map_err(|e| ransnn::Error::Internal(e.to_string()))?.install(table)
}
