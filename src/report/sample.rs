//! Pages with made-up results that look like real ones, for tests and for the eye.

use super::*;
use crate::rng::Stream;

/// Uniform numbers in 0..1 that never change.
struct Dice(Stream, u32);

impl Dice {
    fn new(name: &str) -> Self {
        Self(Stream::named(7, name), 0)
    }

    fn roll(&mut self) -> f64 {
        self.1 += 1;
        f64::from(self.0.block([self.1, 0, 0, 0])[0]) / 4_294_967_296.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() * n as f64) as usize
    }
}

fn confusion(classes: Vec<String>, per_class: u64, accuracy: f64) -> Confusion {
    let k = classes.len();
    let mut dice = Dice::new("confusion");
    let mut counts = vec![0; k * k];
    for truth in 0..k {
        let favourite = [dice.below(k), dice.below(k)];
        for _ in 0..per_class {
            let predicted = match dice.roll() {
                r if r < accuracy => truth,
                r if r < accuracy + (1.0 - accuracy) * 0.6 => favourite[dice.below(2)],
                _ => dice.below(k),
            };
            counts[truth * k + predicted] += 1;
        }
    }
    Confusion { classes, counts }
}

/// A thick stroke on 28 × 28 pixels: a ring, open where a zero would be closed.
fn picture(dice: &mut Dice) -> Image {
    let (cx, cy, radius, gap) = (13.5, 13.5, 7.0 + 2.0 * dice.roll(), dice.roll() * 6.0);
    let pixels = (0..28 * 28)
        .map(|i| {
            let (x, y) = (f64::from(i % 28) - cx, f64::from(i / 28) - cy);
            let distance = ((x * 1.3).hypot(y) - radius).abs();
            let open = (y.atan2(x) + 3.2 - gap).abs() < 0.7;
            if open { 0 } else { (255.0 * (2.4 - distance).clamp(0.0, 1.0)) as u8 }
        })
        .collect();
    Image { width: 28, height: 28, pixels }
}

fn raster(dice: &mut Dice) -> Raster {
    let (steps, neurons) = (25, 120);
    let mut spikes = Vec::new();
    for neuron in 0..neurons {
        let rate = if dice.roll() < 0.25 { 0.0 } else { dice.roll().powi(3) };
        spikes.extend((2..steps).filter(|_| dice.roll() < rate).map(|step| (step, neuron)));
    }
    Raster { layer: "hidden".into(), steps, neurons, of: 2000, spikes }
}

fn layer(name: &str, neurons: u64, shift: f64) -> Layer {
    let mut dice = Dice::new(name);
    let mut counts = vec![0; 25];
    for _ in 0..neurons {
        let rate = (dice.roll() * dice.roll() + shift * dice.roll()).min(0.999);
        counts[(rate * 25.0) as usize] += 1;
    }
    Layer {
        name: name.into(),
        neurons,
        mean_rate: 0.2537,
        silent: 0.0415,
        saturated: 0.0,
        rates: Histogram { low: 0.0, high: 1.0, counts },
    }
}

/// Two populations of Poisson neurons, as a simulation shows them.
fn activity(dice: &mut Dice) -> Activity {
    let mut band = |name: &str, shown: u32, of| {
        let spikes = (0..shown).flat_map(|row| {
            let times: Vec<f64> = (0..4).map(|_| 100.0 + 400.0 * dice.roll()).collect();
            times.into_iter().map(move |time| (time, row))
        });
        Band { name: name.into(), shown, of, spikes: spikes.collect() }
    };
    let bands = vec![band("exc", 80, 800), band("inh", 20, 200)];
    let population = |(name, neurons): (&str, u64)| PopulationActivity {
        name: name.into(),
        neurons,
        rate_hz: 9.87,
        cv: Some(0.98),
        correlation: Some(0.0012),
        fano: None,
        intervals: Histogram { low: 0.0, high: 400.0, counts: (0..40).map(|i| 4000 >> (i / 4)).collect() },
    };
    let populations = [("exc", 800), ("inh", 200)].map(population).to_vec();
    Activity { from_ms: 100.0, until_ms: 500.0, bands, populations }
}

/// A run of three seeds on ten classes, with every section.
pub(super) fn page() -> Page {
    let mut dice = Dice::new("examples");
    let curve = |name: &str, top: f64| {
        Series::new(name, (1..=20).map(|e| (f64::from(e), top - 14.0 * (-f64::from(e) / 3.5).exp())))
    };
    let lambda = |name: &str, best: f64, width: f64| {
        let point = |i: i32| (10f64.powi(i), best + width * (f64::from(i) + 1.0).powi(2));
        Series::new(name, (-6..=4).map(point))
    };
    let run = |seed, train_accuracy, test_accuracy, seconds| Run {
        seed,
        train_accuracy,
        test_accuracy,
        spikes_per_sample: 9812.3 + seed as f64,
        seconds,
    };
    let plot = |title: &str, x_label: &str, y_label: &str, log_x, series| Plot {
        title: title.into(),
        x_label: x_label.into(),
        y_label: y_label.into(),
        log_x,
        series,
    };
    let digits: Vec<String> = (0..10).map(|d| d.to_string()).collect();
    let examples = (0..6)
        .map(|i| Example {
            image: Some(picture(&mut dice)),
            raster: raster(&mut dice),
            label: digits[i].clone(),
            predicted: digits[if i == 4 { 9 } else { i }].clone(),
        })
        .collect();
    Page {
        title: "mnist".into(),
        subtitle: "784 → 2000 LIF → 10, random frozen hidden layer, ridge readout, 25 steps".into(),
        status: "done".into(),
        dataset: "strokes".into(),
        notices: vec!["MNIST could not be fetched: these results are on the built-in strokes digits.".into()],
        details: vec!["layer <1>: rates are off by 1.5 %".into()],
        pictures: vec![Picture { caption: "What 3 neurons \"learnt\"".into(), image: picture(&mut dice) }],
        tiles: vec![],
        tables: vec![],
        runs: vec![
            run(0, 0.99514, 0.9867, 18.31),
            run(1, 0.99498, 0.9878, 17.96),
            run(2, 0.99531, 0.9871, 18.12),
        ],
        parameters: Some(Parameters { trained: 20_010, frozen: 1_568_000 }),
        activity: Some(activity(&mut dice)),
        curves: vec![
            plot("Learning curve", "epoch", "accuracy (%)", false, vec![curve("train", 99.5), curve("test", 98.6)]),
            plot(
                "Choice of the regularisation",
                "λ",
                "leave-one-out error (%)",
                true,
                vec![lambda("validation", 1.42, 0.09)],
            ),
        ],
        confusion: Some(confusion(digits, 1000, 0.985)),
        examples,
        layers: vec![layer("hidden", 2000, 0.1), layer("second", 1000, 0.6)],
        time: vec![
            Part::new("data", 0.41),
            Part::new("features", 11.92),
            Part::new("fit", 3.77),
            Part::new("test", 2.02),
        ],
        memory: vec![
            Part::new("data set", 55e6),
            Part::new("frozen weights", 1.6e6),
            Part::new("feature codes", 120e6),
            Part::new("normal equations", 32e6),
            Part::new("working memory", 21e6),
        ],
        peak_rss_bytes: Some(298_000_000),
        energy: Some(Energy {
            synaptic_operations_per_sample: 4.93e6,
            dense_macs_per_sample: Some(1_588_000),
            measured: Some(Measured {
                joules: 143.2,
                samples: 10_000,
                what: "RAPL, package domain, during the test".into(),
            }),
        }),
        files: ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"]
            .map(|name| FileRecord {
                name: name.into(),
                bytes: 47_040_016,
                sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db".into(),
            })
            .to_vec(),
        config: "name = \"mnist\"\nseed = 0\n\n[data]\nname = \"mnist\"\nfallback = \"strokes\"\n\n[network]\ndt_ms = \
                 1.0\nsteps = 25\n\n[[network.layer]]\nname = \"hidden\"\nneurons = 2000\nmodel = \"lif\"\nbeta = \
                 0.95\nthreshold = 1.0\nfrozen = true\n\n[readout]\nkind = \"ridge\"\nlambda = \"loo\"\n"
            .into(),
        environment: [
            ("program", "ransnn 0.1.0"),
            ("compiler", "rustc 1.89.0"),
            ("system", "Linux 6.1, x86_64"),
            ("processor", "2 cores, AVX2"),
            ("threads", "2"),
            ("command", "ransnn run mnist.toml"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    }
}

/// One seed on 62 classes, interrupted, without pictures.
pub(super) fn letters() -> Page {
    let classes = ('0'..='9').chain('A'..='Z').chain('a'..='z').map(String::from).collect();
    let whole = page();
    Page {
        title: "emnist-byclass".into(),
        status: "interrupted".into(),
        dataset: "emnist-byclass".into(),
        notices: vec![],
        runs: whole.runs[..1].to_vec(),
        confusion: Some(confusion(classes, 420, 0.86)),
        curves: vec![whole.curves[0].clone()],
        examples: whole.examples.into_iter().take(2).map(|e| Example { image: None, ..e }).collect(),
        energy: whole.energy.map(|e| Energy { measured: None, ..e }),
        ..page()
    }
}

/// Ten classes with names of different lengths, and errors that are not rare.
pub(super) fn clothes() -> Page {
    let names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot";
    let classes = names.split(',').map(String::from).collect();
    Page { title: "fashion".into(), confusion: Some(confusion(classes, 1000, 0.7)), ..page() }
}

/// A sweep with error bars.
pub(super) fn sweep() -> Plot {
    let mut dice = Dice::new("sweep");
    let series = ["MNIST", "Fashion-MNIST", "KMNIST"].iter().enumerate().map(|(i, name)| {
        let mut series = Series::new(
            *name,
            [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
                .map(|beta: f64| (beta, 95.0 - 8.0 * i as f64 - 30.0 * (beta - 0.9).powi(2))),
        );
        series.points.iter_mut().for_each(|p| p.spread = 0.3 + dice.roll());
        series
    });
    Plot {
        title: "Test accuracy against the leak of the membrane".into(),
        x_label: "β".into(),
        y_label: "test accuracy (%)".into(),
        log_x: false,
        series: series.collect(),
    }
}
