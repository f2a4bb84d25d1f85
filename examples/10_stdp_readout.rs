//! A spiking readout of a frozen layer learns by the times of spikes: told the class (ReSuMe), or only whether it was right.

use ransnn::data::{Samples, strokes};
use ransnn::engine::{Input, Probe, What};
use ransnn::learn::stdp::readout::{Options, Reward, Rule, Supervised, Trainer};
use ransnn::learn::surrogate::{Data, classify};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::Lif;
use ransnn::snn::{Encoding, Init, Network, Rule as Connect};
use ransnn::units::Ms;

fn main() -> ransnn::Result<()> {
    let digits = strokes(0, 2000, 500);
    let (Samples::U8(train), Samples::U8(test)) = (&digits.train.samples, &digits.test.samples) else {
        return Ok(());
    };
    let encoding = Encoding::Constant { steps: 10 };
    for (name, rule, rate) in [
        ("supervised", Rule::Supervised(Supervised::default()), 2e-2),
        ("rewarded", Rule::Reward(Reward::default()), 4e-3),
    ] {
        let mut net = Network::builder(Ms(1.0));
        let pixels = net.input("pixels", 784);
        let hidden = net.population("hidden", 400, Lif { decay: 0.9, ..Lif::default() });
        let output = net.population("output", 10, Lif { decay: 0.9, ..Lif::default() });
        let random = Init::Normal { mean: 0.0, std: 0.05 }.zero_mean();
        net.connect(pixels, hidden, Connect::Dense).weights(random).frozen();
        net.connect(hidden, output, Connect::Dense).bias(Init::Constant(0.0)).precision(Precision::F32);

        let data = Data { samples: Input::U8(train), labels: &digits.train.labels };
        let options = Options { rule, rate, cosine: true, bounds: [-1.0, 1.0], batch: 16, epochs: 8 };
        let mut trainer = Trainer::new(net.build(7)?, encoding, output, data, options)?;
        while trainer.step()?.is_some() {}

        // What is left is a network that the engine runs.
        let (net, counts) = (trainer.finish()?, Probe { population: output, what: What::Counts });
        let (guesses, _) = classify(&net, &encoding, counts, Input::U8(test), 500, "test")?;
        let right = guesses.iter().zip(&digits.test.labels).filter(|(a, b)| a == b).count();
        println!("{name}: {:.1} % of the test digits are right", right as f64 / 5.0);
    }
    Ok(())
}
