//! Brunel's network of excitatory and inhibitory neurons, in its asynchronous irregular state.

use ransnn::engine::clock::statistics::Statistics;
use ransnn::engine::{Options, Simulator};
use ransnn::snn::{Drive, Init, Network, Rule, neurons::Iaf};
use ransnn::units::{Hz, Ms};

fn main() -> ransnn::Result<()> {
    // A fifth of the paper's size: a fifth of the synapses, each five times as strong.
    let (dt, jump, g) = (Ms(0.1), 0.5, 5.0);
    let mut net = Network::simulation(dt);
    let exc = net.population("exc", 2000, Iaf::delta(Ms(20.0), dt));
    let inh = net.population("inh", 500, Iaf::delta(Ms(20.0), dt));
    for post in [exc, inh] {
        net.initial(post, "membrane potential", Init::Uniform { low: 0.0, high: 20.0 });
        net.drive(post, Drive::Poisson { receptor: "jump".into(), rate: Hz(4000.0), weight: jump });
        for (pre, k, weight) in [(exc, 200, jump), (inh, 50, -g * jump)] {
            net.connect(pre, post, Rule::FixedInDegreeMultapses { k })
                .weights(Init::Constant(weight))
                .delay(Ms(1.5));
        }
    }
    let net = net.build(1)?;

    let mut simulator = Simulator::new(&net, Options::default())?;
    simulator.record_spikes(exc)?;
    simulator.run(Ms(500.0))?;

    let train = simulator.spikes(exc).expect("it is recorded");
    let statistics = Statistics::of(train, 2000, 1000, simulator.steps(), dt);
    println!("{} spikes, {:.1} Hz", train.len(), statistics.rate.0);
    println!("CV of the intervals {:.2}", statistics.cv.unwrap_or(0.0));
    println!("{} synaptic events", simulator.activity().synaptic_events);
    Ok(())
}
