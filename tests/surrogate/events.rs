//! Recordings of an event camera, straight into a convolutional network.

use std::path::PathBuf;

use ransnn::data::events::{EventSplit, nmnist_small};
use ransnn::engine::{Events, Input};
use ransnn::learn::surrogate::{Data, Gradient, Loss, Options, Trainer, classify, probe};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Lif, Reset};
use ransnn::snn::{Encoding, Init, Network, Rule};
use ransnn::units::Ms;

const STEPS: usize = 15;
const STEP_US: u64 = 20_000;

fn lists(split: &EventSplit) -> Vec<Events> {
    let list =
        |r: &ransnn::data::events::Recording| Events::new(r.inputs(), r.spikes(STEPS, STEP_US)).unwrap();
    split.recordings.iter().map(list).collect()
}

#[test]
fn a_convolutional_network_learns_from_recordings() {
    let path = std::env::var_os("RANSNN_DATA")
        .map(|folder| PathBuf::from(folder).join("nmnist-small/NMNISTsmall.tar.gz"))
        .filter(|path| path.is_file());
    let Some(path) = path else {
        println!("skipped: recordings need RANSNN_DATA");
        return;
    };
    let data = nmnist_small(&path).unwrap();
    let (train, test) = (lists(&data.train), lists(&data.test));

    let mut net = Network::builder(Ms(20.0));
    let sensor = net.input("sensor", data.shape);
    let maps = net.population("maps", [12, 15, 15], Lif { decay: 0.8, ..Lif::default() });
    let out = net.population("out", 10, Lif { decay: 1.0, reset: Reset::None, ..Lif::default() });
    net.connect(sensor, maps, Rule::Conv2d { kernel: 5, stride: 2, padding: 0, pool: 1, max_pool: 1 })
        .bias(Init::Constant(0.0))
        .precision(Precision::F32);
    net.connect(maps, out, Rule::Dense).bias(Init::Constant(0.0)).precision(Precision::F32);

    let base = Options::new();
    let options = Options {
        loss: Loss::CeMembraneLast,
        gradient: Gradient { normalize: true, ..base.gradient },
        lr: 3e-3,
        cosine: true,
        batch: 50,
        epochs: 6,
        ..base
    };
    let encoding = Encoding::Bernoulli { steps: STEPS, gain: 1.0 };
    let samples = Data { samples: Input::Events(&train), labels: &data.train.labels };
    let mut trainer = Trainer::new(net.build(1).unwrap(), encoding, out, samples, options).unwrap();
    while trainer.step().unwrap().is_some() {}
    let found = trainer.agreement(50).unwrap();
    assert_eq!((found.differ, found.of), (0, 50 * 12 * 15 * 15));
    let net = trainer.finish().unwrap();
    let (classes, _) =
        classify(&net, &encoding, probe(out, options.loss), Input::Events(&test), test.len(), "test")
            .unwrap();
    let right = classes.iter().zip(&data.test.labels).filter(|(a, b)| a == b).count();
    println!("{right} of {} recordings", test.len());
    assert!(right >= 75, "{right} of {} recordings", test.len());
}
