//! A RanSNN from the library: random frozen convolution, spike counts, closed-form readout.

use ransnn::data::{Samples, strokes};
use ransnn::engine::{Input, Pool, Probe, What};
use ransnn::learn::ransnn::{Coding, Reservoir, Transform, Tune, calibrate};
use ransnn::learn::ridge::NormalEquations;
use ransnn::snn::{Encoding, Init, Network, Rule, neurons::Lif};
use ransnn::units::Ms;

fn main() -> ransnn::Result<()> {
    let data = strokes(0, 2000, 500); // 28×28 digits that the library draws itself
    let (Samples::U8(train), Samples::U8(test)) = (&data.train.samples, &data.test.samples) else {
        return Ok(());
    };
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", [1, 28, 28]);
    let maps = net.population("maps", [16, 24, 24], Lif::default());
    let kernels = Init::Normal { mean: 0.0, std: 1.0 }.zero_mean();
    net.connect(pixels, maps, Rule::Conv2d { kernel: 5, stride: 1, padding: 0, pool: 1, max_pool: 1 })
        .name("random")
        .weights(kernels)
        .frozen();
    let (mut net, encoding, few) =
        (net.build(0)?, Encoding::Constant { steps: 8 }, Input::U8(&train[..200 * 784]));
    calibrate(&mut net, &encoding, &[("random".into(), Tune::RmsDrive(1.0))], few, 200)?;
    let probes = [Probe { population: maps, what: What::Pool(Pool::Grid { cells: 4 }) }];
    let coding = Coding { transform: Transform::Sqrt, levels: 32 };
    let reservoir = Reservoir::new(&net, &encoding, &probes, coding, few, 200)?;
    let mut equations = NormalEquations::new(reservoir.width(), data.classes, 31)?;
    equations.add(&reservoir.codes_of("train", Input::U8(train), 2000)?, &data.train.labels)?;
    let guesses = equations.solve(30.0)?.classify(&reservoir.codes_of("test", Input::U8(test), 500)?)?;
    let right = guesses.iter().zip(&data.test.labels).filter(|(a, b)| a == b).count();
    println!("{:.1} % of the test digits are right", right as f64 / 5.0);
    Ok(())
}
