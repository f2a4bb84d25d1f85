//! Any topology: excitatory and inhibitory neurons around each other and a slow output, described once, trained by surrogate
//! gradients, and run by the engine with the same spikes.

use ransnn::data::{Samples, strokes};
use ransnn::engine::Input;
use ransnn::learn::surrogate::{Data, Loss, Options, Trainer, classify, probe};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Alif, Lif, Reset};
use ransnn::snn::{Encoding, Init, Network, Rule};
use ransnn::units::Ms;

fn main() -> ransnn::Result<()> {
    let digits = strokes(0, 1000, 500);
    let (Samples::U8(train), Samples::U8(test)) = (&digits.train.samples, &digits.test.samples) else {
        return Ok(());
    };
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", 784);
    let exc = net.population("excitatory", 80, Alif::new(0.9, 0.95, 0.1));
    let inh = net.population("inhibitory", 20, Lif { decay: 0.8, ..Lif::default() });
    let output = net.population("output", 10, Lif { decay: 1.0, reset: Reset::None, ..Lif::default() });
    let sparse = Rule::FixedProbability { p: 0.2 };
    for (from, to, rule, delay) in [
        (pixels, exc, Rule::Dense, 0.0),
        (exc, exc, sparse.clone(), 3.0),
        (exc, inh, sparse.clone(), 1.0),
        (inh, exc, sparse, 2.0),
        (exc, output, Rule::Dense, 0.0),
    ] {
        let edge = net.connect(from, to, rule).weights(Init::KaimingUniform).precision(Precision::F32);
        if delay > 0.0 {
            edge.delay(Ms(delay));
        }
    }
    let encoding = Encoding::Constant { steps: 12 };
    let data = Data { samples: Input::U8(train), labels: &digits.train.labels };
    let loss = Loss::CeMembraneLast;
    let options = Options { loss, lr: 3e-3, batch: 50, epochs: 8, ..Options::new() };
    let mut trainer = Trainer::new(net.build(7)?, encoding, output, data, options)?;
    while trainer.step()?.is_some() {}

    let found = trainer.agreement(200)?;
    println!("training and engine: {} of {} spike counts differ", found.differ, found.of);
    let net = trainer.finish()?;
    let (guesses, activity) = classify(&net, &encoding, probe(output, loss), Input::U8(test), 500, "test")?;
    let right = guesses.iter().zip(&digits.test.labels).filter(|(a, b)| a == b).count();
    println!("{:.1} % of the test digits are right", right as f64 / 5.0);
    println!("{:.0} spikes a digit", activity.spikes.iter().sum::<u64>() as f64 / 500.0);
    Ok(())
}
