//! Conversion against SpikingJelly's `ann2snn` (2.0.0, torch 2.15.0), trained networks, and refusals.

use ransnn::data::{Samples, strokes};
use ransnn::engine::{Input, Presentation, Probe, Recording, Table, What};
use ransnn::learn::convert::{
    Ann, Description, Options, Thresholds, Training, convert, fit_readout, report, train,
};
use ransnn::snn::Encoding;
use ransnn::tensor::{Tensor, safetensors};
use std::collections::BTreeMap;
use std::path::Path;

const MLP: &str = r#"
    input = [64]
    [[layer]]
    kind = "linear"
    name = "net.0"
    outputs = 64
    [[layer]]
    kind = "relu"
    [[layer]]
    kind = "linear"
    name = "net.2"
    outputs = 10
"#;

const CONV: &str = r#"
    input = [1, 8, 8]
    [[layer]]
    kind = "conv2d"
    name = "net.0"
    outputs = 8
    kernel = 3
    padding = 1
    [[layer]]
    kind = "batch-norm"
    name = "net.1"
    [[layer]]
    kind = "relu"
    [[layer]]
    kind = "avg-pool"
    side = 2
    [[layer]]
    kind = "conv2d"
    name = "net.4"
    outputs = 12
    kernel = 3
    padding = 1
    [[layer]]
    kind = "batch-norm"
    name = "net.5"
    [[layer]]
    kind = "relu"
    [[layer]]
    kind = "avg-pool"
    side = 2
    [[layer]]
    kind = "flatten"
    [[layer]]
    kind = "linear"
    name = "net.9"
    outputs = 10
"#;

struct Fixture {
    file: safetensors::File,
    ann: Ann,
    folder: tempfile::TempDir,
}

fn fixture(name: &str, description: &str) -> Fixture {
    let path = format!("{}/tests/fixtures/ann2snn/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let file = safetensors::File::open(Path::new(&path)).expect("the fixture is there");
    let weights: BTreeMap<String, Tensor> = file
        .names()
        .filter_map(|name| {
            Some((name.strip_prefix("ann.")?.to_string(), file.tensor(name).expect("readable")))
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ann.safetensors");
    safetensors::write(&path, &weights, &BTreeMap::new()).expect("written");
    let ann = Ann::read(&description.parse().expect("a description"), &path).expect("the network");
    Fixture { file, ann, folder }
}

impl Fixture {
    fn numbers(&self, name: &str) -> Vec<f32> {
        self.file.tensor(name).unwrap_or_else(|error| panic!("{error}")).to_f32().expect("numbers")
    }

    fn samples(&self, name: &str) -> usize {
        self.file.meta(name).expect("there").shape[0]
    }
}

#[test]
fn conversion_equals_spikingjelly() {
    let percentile = |percent, factor| Thresholds::Percentile { percent, factor };
    let recipes = [
        ("mlp_64_64_10", MLP, "max", percentile(100.0, 1.0), false, 0.0),
        ("mlp_64_64_10", MLP, "p999", percentile(99.9, 1.0), false, 0.0),
        ("mlp_64_64_10", MLP, "frac05", percentile(100.0, 0.5), false, 0.0),
        ("mlp_64_64_10", MLP, "chan_max", percentile(100.0, 1.0), true, 0.0),
        ("mlp_64_64_10", MLP, "chan_half", percentile(99.0, 1.0), true, 0.5),
        ("mlp_64_64_10", MLP, "ltb", Thresholds::TwiceMean, true, 0.5),
        ("conv_bn", CONV, "max", percentile(100.0, 1.0), false, 0.0),
        ("conv_bn", CONV, "p999", percentile(99.9, 1.0), false, 0.0),
        ("conv_bn", CONV, "chan_max", percentile(100.0, 1.0), true, 0.0),
    ];
    for (name, description, recipe, thresholds, per_channel, start) in recipes {
        let fixture = fixture(name, description);
        let (x, calibration) = (fixture.numbers("x_test"), fixture.numbers("x_calib"));
        let (n, m) = (fixture.samples("x_test"), fixture.samples("x_calib"));
        let logits = fixture.ann.forward(&fixture.file.tensor("x_test").expect("there")).expect("runs");
        let reference = fixture.numbers("ann_logits");
        assert!(logits.to_f32().expect("f32").iter().zip(&reference).all(|(a, b)| (a - b).abs() <= 2e-5));
        let options = Options { thresholds, per_channel, start, correct_bias: None };
        let snn = convert(&fixture.ann, Input::F32(&calibration), m, &options).expect("converts");
        for (i, layer) in snn.layers.iter().enumerate() {
            let suffix = format!("spiking_{i}.scaler1");
            let scale = fixture
                .file
                .names()
                .find(|at| at.starts_with(&format!("{recipe}.scale")) && at.ends_with(&suffix));
            let scale = fixture.numbers(scale.expect("a scale"));
            assert_eq!(scale.len(), layer.thresholds.len());
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1e-6) + 1e-12;
            assert!(scale.iter().zip(&layer.thresholds).all(near), "{name} {recipe} {i}");
            // Counts of a run in f64. Ours are f32: where a membrane comes within rounding of its threshold, a spike may
            // move by a step, and at the last step a count by one.
            let reference = fixture.numbers(&format!("{recipe}.counts{i}.T128"));
            let few = fixture.samples(&format!("{recipe}.counts{i}.T128"));
            let probes = [Probe { population: layer.population, what: What::Counts }];
            let engine = Presentation::compile(&snn.net, &Encoding::Constant { steps: 128 }, &probes)
                .expect("compiles");
            let (ids, mut recording) = ((0..few as u64).collect::<Vec<u64>>(), Recording::default());
            let input = Input::F32(&x[..x.len() / n * few]);
            engine.run(input, &ids, &engine.stream("test", 0), &mut recording).expect("runs");
            let Table::U8(counts) = &recording.tables[0] else { panic!("small counts") };
            assert_eq!(counts.len(), reference.len());
            assert!(counts.iter().map(|&c| u64::from(c)).sum::<u64>() > 1000, "there are spikes");
            let moved: Vec<f32> = counts
                .iter()
                .zip(&reference)
                .map(|(&a, &b)| (f32::from(a) - b).abs())
                .filter(|&d| d > 0.0)
                .collect();
            assert!(
                moved.len() <= 4 && moved.iter().all(|&d| d <= 1.0),
                "{name} {recipe} layer {i}: {moved:?}"
            );
        }
        for steps in [8, 128] {
            let (outputs, _) = snn.outputs(Input::F32(&x), n, steps).expect("runs");
            let reference = fixture.numbers(&format!("{recipe}.out.T{steps}"));
            let far = outputs
                .chunks(10)
                .zip(reference.chunks(10))
                .filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 1e-4));
            // Samples in which a spike moved.
            let far = far.count();
            assert!(far <= n / 50, "{name} {recipe} T = {steps}: {far} of {n} outputs differ");
        }
    }
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let fixture = fixture("mlp_64_64_10", MLP);
    let path = fixture.folder.path().join("ann.safetensors");
    let wrong = |description: &str| {
        let description: Description = description.parse().expect("a description");
        Ann::read(&description, &path).expect_err("refused").to_string()
    };
    assert!(
        wrong(&MLP.replace("outputs = 64", "outputs = 32")).contains("tensor `net.0.weight` is [64, 64]")
    );
    assert!(wrong(&MLP.replace("net.2", "net.3")).contains("`net.3.weight` is not in the file"));
    let short = MLP.rsplit_once("[[layer]]").expect("a last layer").0;
    assert!(wrong(short).contains("2 tensors belong to no layer, the first is `net.2.bias`"));
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    let refused = |layers: &str| {
        let layer = |kind: &str| match kind.split_once(' ') {
            Some((kind, rest)) => format!("[[layer]]\nkind = \"{kind}\"\n{}\n", rest.replace(';', "\n")),
            None => format!("[[layer]]\nkind = \"{kind}\"\n"),
        };
        let text =
            layers.split(", ").fold("input = [1, 7, 7]\n".to_string(), |text, kind| text + &layer(kind));
        let ann = Ann::draw(&text.parse().expect("a description"), 3).expect("a network");
        convert(&ann, Input::U8(&[100; 49]), 1, &Options::default())
            .map(|snn| snn.layers.len())
            .map_err(|e| e.to_string())
    };
    let conv = "conv2d name=\"c1\";outputs=2;kernel=3;padding=1, relu";
    let end = "flatten, linear name=\"out\";outputs=2";
    assert_eq!(refused(&format!("{conv}, avg-pool side=2, {end}")), Ok(1));
    let wrong = |layers: &str, name: &str, why: &str| {
        let message = refused(layers).expect_err("refused");
        assert!(message.contains(&format!("layer `{name}`")) && message.contains(why), "{message}");
    };
    assert_eq!(refused(&format!("{conv}, max-pool side=2, {end}")), Ok(1));
    let second = "conv2d name=\"c2\";outputs=2;kernel=3;padding=1";
    wrong(&format!("{conv}, {second}, relu, max-pool side=2, {end}"), "4", "average pooling");
    wrong(&format!("{conv}, {second}, max-pool side=2, relu, {end}"), "3", "average pooling");
    wrong(&format!("max-pool side=2, {conv}, {end}"), "0", "does not follow a convolution");
    wrong(&format!("{conv}, avg-pool side=2, max-pool side=2, {end}"), "3", "does not follow a convolution");
    wrong(&format!("relu, {end}"), "0", "follows no convolution");
    wrong(&format!("{conv}, batch-norm name=\"b\", {end}"), "b", "does not follow a convolution");
    wrong(
        "conv2d name=\"c1\";outputs=2;kernel=3, conv2d name=\"c2\";outputs=2;kernel=3, flatten, linear outputs=2",
        "c2",
        "no activation between `c1`",
    );
    wrong(
        &format!("{conv}, avg-pool side=2, conv2d name=\"c2\";outputs=2;kernel=3;padding=1, relu, {end}"),
        "c2",
        "pooling 7 × 7 by 2 leaves pixels over",
    );
    wrong(conv, "1", "must end with a linear layer");
}

/// Behind the first convolution currents are constant, and the rates of pooled neurons are pooled activations, rounded
/// to the steps; before and after the activation it is the same.
#[test]
fn max_pooling_of_constant_currents_is_exact() {
    let text = |middle: &str| {
        format!(
            "input = [2, 9, 9]\n[[layer]]\nkind = \"conv2d\"\noutputs = 5\nkernel = 3\npadding = 1\n{middle}\
             [[layer]]\nkind = \"flatten\"\n[[layer]]\nkind = \"linear\"\noutputs = 4\n"
        )
    };
    let pool = "[[layer]]\nkind = \"max-pool\"\nside = 2\n";
    let act = "[[layer]]\nkind = \"qcfs\"\nlevels = 16\nthreshold = 0.5\n";
    let relu = "[[layer]]\nkind = \"relu\"\n";
    let n = 50;
    let pixels: Vec<u8> = (0..n * 162).map(|i| (i * 7919 % 251) as u8).collect();
    let x = Tensor::from_f32(pixels.iter().map(|&p| f32::from(p) / 255.0).collect(), &[n, 2, 9, 9]);
    let x = x.expect("a batch");
    let gap = |middle: String, thresholds, steps| {
        let ann = Ann::draw(&text(&middle).parse().expect("a description"), 5).expect("a network");
        let wanted = ann.forward(&x).expect("runs").to_f32().expect("numbers");
        let options = Options { thresholds, ..Options::default() };
        let snn = convert(&ann, Input::U8(&pixels), n, &options).expect("converts");
        let (got, _) = snn.outputs(Input::U8(&pixels), n, steps).expect("runs");
        let size = wanted.iter().map(|y| y.abs()).sum::<f32>();
        wanted.iter().zip(&got).map(|(a, b)| (a - b).abs()).sum::<f32>() / size
    };
    // QCFS with as many levels as steps is met exactly, where f32 does not round to another level.
    for order in [format!("{act}{pool}"), format!("{pool}{act}")] {
        let off = gap(order, Thresholds::Qcfs, 16);
        assert!(off < 1e-3, "{off}");
    }
    // Rectified activations as closely as steps allow, and ever closer.
    let largest = Thresholds::Percentile { percent: 100.0, factor: 1.0 };
    let off = [8, 64, 512].map(|steps| gap(format!("{relu}{pool}"), largest, steps));
    assert!(off[0] < 0.2 && off[1] < off[0] / 4.0 && off[2] < off[1] / 4.0, "{off:?}");
}

const SMALL: &str = r#"
    input = [1, 28, 28]
    [[layer]]
    kind = "conv2d"
    outputs = 6
    kernel = 5
    [[layer]]
    kind = "batch-norm"
    [[layer]]
    kind = "ACTIVATION"
    [[layer]]
    kind = "avg-pool"
    side = 4
    [[layer]]
    kind = "flatten"
    [[layer]]
    kind = "linear"
    outputs = 10
"#;

#[test]
fn a_trained_network_keeps_its_accuracy() {
    let data = strokes(1, 1200, 200);
    let (Samples::U8(x), Samples::U8(test)) = (&data.train.samples, &data.test.samples) else {
        panic!("bytes")
    };
    let training = Training { epochs: 8, batch: 40, learning_rate: 0.01, ..Training::default() };
    for (activation, thresholds, correct_bias) in [
        ("relu", Thresholds::Percentile { percent: 99.9, factor: 1.0 }, None),
        ("relu", Thresholds::LeastSquares { steps: 16 }, Some(16)),
        ("qcfs", Thresholds::Qcfs, None),
    ] {
        let mut ann = Ann::draw(&SMALL.replace("ACTIVATION", activation).parse().expect("layers"), 5)
            .expect("a network");
        let curve =
            train(&mut ann, Input::U8(x), &data.train.labels, &training, None, &mut ()).expect("trains");
        assert!(curve[7] < 0.5 * curve[0], "{curve:?}");
        let options = Options { thresholds, correct_bias, ..Options::default() };
        let snn = convert(&ann, Input::U8(x), 200, &options).expect("converts");
        let report = report(&ann, &snn, Input::U8(test), &data.test.labels, &[2, 16]).expect("a report");
        assert!(report.ann_accuracy > 0.85, "{report}");
        assert!(report.ann_accuracy - report.at[1].accuracy <= 0.015, "{report}");
        assert!(report.at[1].spikes > report.at[0].spikes && report.at[0].spikes > 0.0, "{report}");
        assert!(report.layers[0].rate > 0.0 && report.layers[0].rate < 0.2, "{report}");
        // One constant-driven layer of continuous activations: what is not clipped is rounding, and nothing else.
        let (error, _) = report.worst().expect("a layer");
        let continuous = activation == "relu" && correct_bias.is_none();
        assert!(!continuous || error.rate <= error.clipped + error.rounded + 0.01, "{report}");
    }
}

#[test]
fn counts_of_a_converted_ransnn_are_the_codes_of_its_readout() {
    let data = strokes(2, 500, 200);
    let (Samples::U8(x), Samples::U8(test)) = (&data.train.samples, &data.test.samples) else {
        panic!("bytes")
    };
    let description = r#"
        input = [1, 28, 28]
        [[layer]]
        kind = "conv2d"
        outputs = 8
        kernel = 7
        [[layer]]
        kind = "qcfs"
        levels = 8
        [[layer]]
        kind = "avg-pool"
        side = 4
        [[layer]]
        kind = "flatten"
        [[layer]]
        kind = "linear"
        outputs = 10
    "#;
    let mut ann = Ann::draw(&description.parse().expect("layers"), 7).expect("a network");
    fit_readout(&mut ann, Input::U8(x), &data.train.labels, 100, 10.0).expect("fits");
    let options = Options { thresholds: Thresholds::Qcfs, ..Options::default() };
    let snn = convert(&ann, Input::U8(x), 100, &options).expect("converts");
    let report = report(&ann, &snn, Input::U8(test), &data.test.labels, &[8]).expect("a report");
    assert!(report.ann_accuracy > 0.85, "{report}");
    // Both round to the nearest of eight levels; only values within rounding of a half may differ.
    assert!(
        (report.ann_accuracy - report.at[0].accuracy).abs() <= 0.005
            && report.layers[0].rate < 1e-3 + report.layers[0].clipped,
        "{report}"
    );
}
