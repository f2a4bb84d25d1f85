//! A network of one's own: an image, a random convolution, and a recurrent pair of excitatory and inhibitory neurons.
//!
//! `cargo run --example 03_network`
#![allow(clippy::print_stdout)]

use ransnn::snn::neurons::{CurrentLif, Lif, Reset};
use ransnn::snn::{Init, Network, Rule};
use ransnn::units::Ms;

fn main() -> ransnn::Result<()> {
    let dt = Ms(1.0);
    let mut net = Network::builder(dt);

    // Populations: a name, a size or [channels, height, width], and a model in the dialect you know.
    let pixels = net.input("pixels", [1, 28, 28]);
    let maps =
        net.population("maps", [8, 24, 24], Lif { reset: Reset::To(0.0), ..Lif::with_tau(Ms(20.0), dt) });
    let exc = net.population("exc", 800, Lif::snntorch(0.95));
    let current = CurrentLif { refractory_steps: 2, ..Lif::norse(Ms(10.0), Ms(5.0), dt) };
    let inh = net.population("inh", 200, current);

    // Frozen projections are drawn from the seed and their own name, and stored in eight bits.
    let normal = Init::Normal { mean: 0.0, std: 1.0 };
    let kernels = Rule::Conv2d { kernel: 5, stride: 1, padding: 0, pool: 1, max_pool: 1 };
    net.connect(pixels, maps, kernels).name("kernels").weights(normal.clone().zero_mean()).frozen();
    net.connect(maps, exc, Rule::FixedInDegree { k: 100 }).weights(Init::KaimingUniform).frozen();
    net.connect(exc, inh, Rule::FixedProbability { p: 0.1 })
        .weights(Init::Constant(0.6))
        .delay(Ms(2.0))
        .frozen();
    net.connect(inh, exc, Rule::FixedProbability { p: 0.2 })
        .weights(Init::Constant(-0.9))
        .delay(Ms(1.0))
        .frozen();

    // A trainable readout is a projection like any other.
    let classes = net.population("classes", 10, Lif::default());
    net.connect(exc, classes, Rule::Dense).name("readout").bias(Init::KaimingUniform);

    let net = net.build(7)?;
    print!("{}", net.describe());

    // Mistakes are reported together, by name, before anything is drawn.
    let mut wrong = Network::builder(dt);
    let a = wrong.input("a", 100);
    let b = wrong.population("b", 50, Lif { decay: 1.2, ..Lif::default() });
    wrong.connect(a, b, Rule::FixedInDegree { k: 200 }).delay(Ms(0.5));
    if let Err(error) = wrong.build(7) {
        println!("{error}");
    }
    Ok(())
}
