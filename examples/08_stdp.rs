//! Learning without labels: the network of Diehl & Cook, on digits that the library draws itself.

use ransnn::data::{Samples, strokes};
use ransnn::engine::Input;
use ransnn::learn::stdp::{DiehlCook, Labels, Trainer, Vote};

fn main() -> ransnn::Result<()> {
    let data = strokes(0, 2000, 200);
    let (Samples::U8(train), Samples::U8(test)) = (&data.train.samples, &data.test.samples) else {
        return Ok(());
    };
    let mut trainer = Trainer::new(DiehlCook::original(100), data.features(), 7)?;
    let report = trainer.train(Input::U8(train), 1, &mut ())?;
    println!("{} spikes on {} samples", report.spikes, report.samples);

    // Labels only now: each neuron stands for the class to which it responds most.
    let labels =
        Labels::assign(&trainer.responses(Input::U8(train), "train")?, &data.train.labels, data.classes)?;
    let guesses = labels.classify(&trainer.responses(Input::U8(test), "test")?, Vote::Proportion)?;
    let right = guesses.iter().zip(&data.test.labels).filter(|(a, b)| a == b).count();
    println!("{:.1} % of the test digits are right", right as f64 / 2.0);
    Ok(())
}
