//! Losses, gradients and trajectories recorded from snnTorch and SpikingJelly.

use ransnn::learn::surrogate::{Encoded, Gradient, Loss, Model};
use ransnn::nn::{Adam, Optimizer, Sgd};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{self, Fires, Lif};
use ransnn::snn::scan::{Acts, Parameters, Reset, Scan, Spikes, spike_product};
use ransnn::snn::{Init, Network, Rule};
use ransnn::tensor::{DType, Surrogate, Tensor, grad, safetensors};
use ransnn::units::Ms;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

fn path(name: &str) -> PathBuf {
    PathBuf::from("tests/fixtures/surrogate").join(name)
}

fn open(name: &str) -> (safetensors::File, Vec<Value>) {
    let text = std::fs::read_to_string(path(&format!("{name}.json"))).unwrap();
    (
        safetensors::File::open(&path(&format!("{name}.safetensors"))).unwrap(),
        serde_json::from_str(&text).unwrap(),
    )
}

fn surrogate(of: &Value) -> Surrogate {
    let x = of[1].as_f64().unwrap_or(0.0);
    match of[0].as_str().unwrap() {
        "atan" | "ATan" => Surrogate::Arctan { alpha: x },
        "fast_sigmoid" => Surrogate::FastSigmoid { slope: x },
        "sigmoid" | "Sigmoid" => Surrogate::Sigmoid { slope: x },
        "ste" => Surrogate::StraightThrough,
        "triangular" => Surrogate::SignedStep { height: x },
        "PiecewiseQuadratic" => Surrogate::Triangle { alpha: x },
        "SoftSign" => Surrogate::SoftSign { alpha: x },
        "Rect" => Surrogate::Boxcar { width: 0.5 / x },
        other => panic!("unknown surrogate {other}"),
    }
}

fn loss(of: &Value) -> Loss {
    match of.as_str().unwrap() {
        "ce_rate" => Loss::CeRate,
        "ce_count" => Loss::CeCount,
        "ce_mean_rate" => Loss::CeMeanRate,
        "ce_mem" => Loss::CeMembrane,
        "ce_mem_max" => Loss::CeMembraneMax,
        "ce_mem_last" => Loss::CeMembraneLast,
        "ce_mem_mean" => Loss::CeMembraneMean,
        "mse_count" => Loss::MseCount { correct: 0.8, incorrect: 0.2 },
        other => panic!("unknown loss {other}"),
    }
}

type Named = BTreeMap<String, Tensor>;

/// The neuron of a case, layer 1 or 2, and its numbers; `params` has those that learn.
fn neuron(case: &Value, params: &Named, layer: usize, dtype: DType) -> (Scan, Parameters) {
    let number = |x: f64| Tensor::full(&[1], x, dtype).unwrap();
    let threshold = case["thr"].as_f64().unwrap_or(1.0);
    if case["lib"] == "spikingjelly" {
        let scan = Scan::spikingjelly(case["v_reset"].as_f64(), case["detach"].as_bool().unwrap());
        let mut parameters = Parameters::new(1.0, threshold, dtype).unwrap();
        if case["neuron"] != "if" {
            let k = match params.get(&format!("pw{layer}")) {
                Some(w) => w.sigmoid().unwrap(),
                None => number(1.0 / case["tau"].as_f64().unwrap()),
            };
            parameters.decay = k.affine(-1.0, 1.0).unwrap();
            if case["decay_input"] == true {
                parameters.gain = k;
            }
        }
        return (Scan { surrogate: surrogate(&case["surr"]), ..scan }, parameters);
    }
    let reset =
        if layer == 2 && case["readout"] == "none" { "none" } else { case["reset"].as_str().unwrap() };
    let simple = case["neuron"] == "leaky";
    let (reset, acts) = match (reset, case["reset_delay"] == false) {
        ("none", _) => (Reset::None, Acts::NextStep),
        ("subtract", true) => (Reset::Subtract, Acts::Corrected),
        ("subtract", false) => (Reset::Subtract, Acts::NextStep),
        ("zero", true) => (Reset::To(0.0), Acts::Corrected),
        ("zero", false) => (Reset::To(0.0), if simple { Acts::BeforeNextStep } else { Acts::NextStep }),
        other => panic!("unknown reset {other:?}"),
    };
    let scan = Scan { fires: Fires::Above, reset, acts, surrogate: surrogate(&case["surr"]), ..Scan::lif() };
    let mut parameters = Parameters::new(case["beta"].as_f64().unwrap(), threshold, dtype).unwrap();
    if let Some(beta) = params.get("beta") {
        parameters.decay = beta.clone();
    }
    if let Some(theta) = params.get("thr") {
        parameters.threshold = theta.clone();
    }
    if let Some(alpha) = case["alpha"].as_f64() {
        parameters.current_decay = Some(params.get("alpha").cloned().unwrap_or_else(|| number(alpha)));
    }
    if let Some(v) = params.get(&format!("v{layer}")) {
        parameters.recurrent = Some(v.transpose(0, 1).unwrap());
    }
    (scan, parameters)
}

/// Spikes of both layers, and the loss.
fn network(case: &Value, params: &Named, x: &Tensor, y: &Tensor) -> ([Tensor; 2], Tensor) {
    let dtype = x.dtype();
    let mut spikes = vec![];
    let mut input = x.clone();
    let loss = loss(&case["loss"]);
    let mut output = None;
    for layer in 1..=2 {
        let (scan, parameters) = neuron(case, params, layer, dtype);
        let weights = params[&format!("w{layer}")].transpose(0, 1).unwrap();
        let mut current = spike_product(&input, &weights, Some(&params[&format!("b{layer}")])).unwrap();
        if let Some(bias) = params.get(&format!("c{layer}")) {
            current = current.add(bias).unwrap();
        }
        let out = Scan { membrane: true, ..scan }.run(&current, &parameters).unwrap();
        output = Some(if loss.reads_membrane() { out.membrane.unwrap() } else { out.spikes.clone() });
        input = out.spikes.clone();
        spikes.push(out.spikes);
    }
    let value = loss.of(&output.unwrap(), y).unwrap();
    (spikes.try_into().unwrap(), value)
}

fn unpack(packed: &Tensor, shape: &[usize], dtype: DType) -> Tensor {
    let bits = packed.to_u32().unwrap();
    let n = shape.iter().product();
    let values = (0..n).map(|i| f64::from(bits[i / 8] >> (i % 8) & 1)).collect();
    Tensor::from_f64(values, shape).unwrap().to_dtype(dtype).unwrap()
}

#[test]
fn losses_spikes_and_gradients_are_those_of_the_frameworks() {
    let (file, cases) = open("bptt");
    assert!(cases.len() > 60);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        for dtype in [DType::F64, DType::F32] {
            let load = |key: &str| file.tensor(key).unwrap().to_dtype(dtype).unwrap();
            let wanted: Vec<&str> =
                case["grads"].as_array().unwrap().iter().map(|g| g.as_str().unwrap()).collect();
            let prefix = if case["neuron"] == "rleaky" { "rec." } else { "" };
            let mut params = Named::new();
            for &p in &wanted {
                let given = case["extra"][p].as_f64();
                params.insert(
                    p.into(),
                    match given {
                        Some(x) => Tensor::full(&[1], x, dtype).unwrap(),
                        None => load(&format!("{prefix}{p}")),
                    },
                );
            }
            let (x, y) = (load("x"), file.tensor("y").unwrap().to_dtype(DType::U32).unwrap());
            let mut spikes = None;
            let (value, grads) = grad(&params, || {
                let (fired, value) = network(case, &params, &x, &y);
                spikes = Some(fired);
                Ok(value)
            })
            .unwrap();
            let ours: Vec<f64> = spikes.unwrap().iter().flat_map(|s| s.to_f64().unwrap()).collect();
            let theirs = unpack(&file.tensor(&format!("{name}.spikes")).unwrap(), &[ours.len()], DType::F64);
            assert!(theirs.to_f64().unwrap() == ours, "{name} {dtype}: spikes differ");
            let reference = file.tensor(&format!("{name}.loss")).unwrap().to_f64().unwrap()[0];
            let allowed = if dtype == DType::F64 { 1e-12 } else { 1e-5 };
            let value = value.to_scalar().unwrap();
            assert!(
                (value - reference).abs() <= allowed * reference,
                "{name} {dtype}: loss {value}, not {reference}"
            );
            let all = file.tensor(&format!("{name}.grads")).unwrap().to_f64().unwrap();
            let mut at = 0;
            for p in wanted {
                let ours = grads.get(p).unwrap().to_f64().unwrap();
                let theirs = &all[at..at + ours.len()];
                at += ours.len();
                let largest = theirs.iter().fold(0.0f64, |m, g| m.max(g.abs()));
                // The references were rounded to f32 to be stored.
                let allowed = if dtype == DType::F64 { 1e-7 * largest } else { 1e-5 * largest + 1e-7 };
                let off = ours.iter().zip(theirs).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                assert!(off <= allowed, "{name} {dtype}: gradient by {p} is off by {off}, allowed {allowed}");
            }
            assert_eq!(at, all.len());
        }
    }
}

/// As a network with `Gradient::time_constant`, whose gain goes along where it is 1/τ.
#[test]
fn time_constants_learn_as_in_spikingjelly() {
    let (file, cases) = open("bptt");
    let mut seen = vec![];
    for case in cases.iter().filter(|case| case["neuron"] == "plif") {
        let name = case["name"].as_str().unwrap();
        let load = |key: &str| file.tensor(key).unwrap().to_dtype(DType::F32).unwrap();
        let x = load("x");
        let &[_, _, inputs] = x.shape() else { panic!("{:?}", x.shape()) };
        let mut builder = Network::builder(Ms(1.0));
        let mut pre = builder.input("pixels", inputs);
        for layer in 1..=2 {
            let w = case["extra"][format!("pw{layer}")].as_f64().unwrap();
            let k = 1.0 / (1.0 + (-w).exp());
            let v_reset = case["v_reset"].as_f64();
            let lif = Lif {
                decay: (1.0 - k) as f32,
                gain: if case["decay_input"] == true { k as f32 } else { 1.0 },
                threshold: case["thr"].as_f64().unwrap() as f32,
                reset: v_reset.map_or(neurons::Reset::Subtract, |v| neurons::Reset::To(v as f32)),
                ..Lif::default()
            };
            let [weights, bias] = ["w", "b"].map(|of| load(&format!("{of}{layer}")));
            let post = builder.population(&format!("layer{layer}"), weights.shape()[0], lif);
            let turned = weights.transpose(0, 1).unwrap().to_f32().unwrap();
            builder
                .connect(pre, post, Rule::Dense)
                .name(format!("onto{layer}"))
                .weights(Init::Listed(turned))
                .bias(Init::Listed(bias.to_f32().unwrap()))
                .precision(Precision::F32);
            pre = post;
        }
        let gradient = Gradient {
            detach: case["detach"].as_bool().unwrap(),
            time_constant: true,
            ..Gradient::of(surrogate(&case["surr"]))
        };
        let loss = loss(&case["loss"]);
        let model = Model::new(&builder.build(0).unwrap(), pre, loss.reads_membrane(), gradient).unwrap();
        let labels = file.tensor("y").unwrap().to_dtype(DType::U32).unwrap();
        let input = Encoded::Spikes(Arc::new(Spikes::of(&x).unwrap()));
        let (_, grads) = grad(&model, || loss.of(&model.forward(&input, None)?.outputs, &labels)).unwrap();
        let all = file.tensor(&format!("{name}.grads")).unwrap().to_f64().unwrap();
        let mut at = 0;
        for wanted in case["grads"].as_array().unwrap() {
            let (what, layer) = wanted.as_str().unwrap().split_at(wanted.as_str().unwrap().len() - 1);
            let path = match what {
                "pw" => format!("population.layer{layer}.rate"),
                "b" => format!("projection.onto{layer}.bias"),
                _ => format!("projection.onto{layer}.weights"),
            };
            let mut ours = grads.get(&path).unwrap();
            let turned;
            if what == "w" {
                turned = ours.transpose(0, 1).unwrap();
                ours = &turned;
            }
            let ours = ours.to_f64().unwrap();
            let theirs = &all[at..at + ours.len()];
            at += ours.len();
            let largest = theirs.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            let off = ours.iter().zip(theirs).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= 1e-5 * largest + 1e-7, "{name}: gradient by {path} is off by {off} of {largest}");
            seen.push(what.to_string());
        }
        assert_eq!(at, all.len());
    }
    assert_eq!(seen.iter().filter(|what| *what == "pw").count(), 8);
}

#[test]
fn ten_steps_of_training_end_where_the_frameworks_do() {
    let (file, cases) = open("train");
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let tensor = |key: &str| file.tensor(&format!("{name}.{key}")).unwrap();
        let x = unpack(&tensor("x"), &[20, 40, 20], DType::F64);
        let y = tensor("y").to_dtype(DType::U32).unwrap();
        let mut params: Named =
            ["b1", "b2", "w1", "w2"].map(|p| (p.to_string(), tensor(&format!("first.{p}")))).into();
        let lr = case["optimizer"]["lr"].as_f64().unwrap();
        let mut optimizer: Box<dyn Optimizer> = match case["optimizer"]["momentum"].as_f64() {
            Some(momentum) => Box::new(Sgd::new(lr, momentum)),
            None => Box::new(Adam::new(lr)),
        };
        let (losses, counts) = (tensor("loss").to_f64().unwrap(), tensor("counts").to_f64().unwrap());
        for step in 0..losses.len() {
            let mut fired = [0.0; 2];
            let (value, grads) = grad(&params, || {
                let (spikes, value) = network(case, &params, &x, &y);
                fired = spikes.map(|s| s.to_f64().unwrap().iter().sum());
                Ok(value)
            })
            .unwrap();
            assert_eq!(fired[..], counts[2 * step..][..2], "{name} step {step}");
            let value = value.to_scalar().unwrap();
            assert!((value - losses[step]).abs() <= 1e-10 * losses[step], "{name} step {step}: {value}");
            optimizer.step(&mut params, &grads).unwrap();
        }
        for (p, ours) in &params {
            let theirs = tensor(&format!("last.{p}")).to_f64().unwrap();
            let off =
                ours.to_f64().unwrap().iter().zip(theirs).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= 1e-9, "{name}: {p} is off by {off}");
        }
    }
}

#[test]
fn derivatives_are_those_of_the_frameworks() {
    let file = safetensors::File::open(&path("derivatives.safetensors")).unwrap();
    let x = file.tensor("x").unwrap().to_f64().unwrap();
    let named = [
        ("spikingjelly.PiecewiseQuadratic", Surrogate::Triangle { alpha: 1.0 }),
        ("spikingjelly.PiecewiseExp", Surrogate::Exponential { alpha: 1.0 }),
        ("spikingjelly.Sigmoid", Surrogate::Sigmoid { slope: 4.0 }),
        ("spikingjelly.SoftSign", Surrogate::SoftSign { alpha: 2.0 }),
        ("spikingjelly.ATan", Surrogate::Arctan { alpha: 2.0 }),
        ("spikingjelly.Erf", Surrogate::Gaussian { alpha: 2.0 }),
        ("spikingjelly.PiecewiseLeakyReLU", Surrogate::LeakyBoxcar { width: 1.0, outside: 0.01 }),
        ("spikingjelly.Rect", Surrogate::Boxcar { width: 0.5 }),
        ("spikingjelly.DeterministicPass", Surrogate::StraightThrough),
        ("snntorch.fast_sigmoid_25", Surrogate::FastSigmoid { slope: 25.0 }),
        ("snntorch.fast_sigmoid_10", Surrogate::FastSigmoid { slope: 10.0 }),
        ("snntorch.atan_2.0", Surrogate::Arctan { alpha: 2.0 }),
        ("snntorch.atan_5.0", Surrogate::Arctan { alpha: 5.0 }),
        ("snntorch.sigmoid_25", Surrogate::Sigmoid { slope: 25.0 }),
        ("snntorch.sigmoid_5", Surrogate::Sigmoid { slope: 5.0 }),
        ("snntorch.ste", Surrogate::StraightThrough),
        ("snntorch.triangular_1", Surrogate::SignedStep { height: 1.0 }),
        ("snntorch.triangular_05", Surrogate::SignedStep { height: 0.5 }),
    ];
    for (name, surrogate) in named {
        let theirs = file.tensor(name).unwrap().to_f64().unwrap();
        for (&x, &want) in x.iter().zip(&theirs) {
            let got = surrogate.derivative(x);
            // The sigmoid of snnTorch overflows to NaN far below threshold, where the limit is 0.
            let want = if want.is_nan() { 0.0 } else { want };
            // SpikingJelly's sigmoid subtracts from 1, which costs half a unit in the last place of 1.
            let lost = if name == "spikingjelly.Sigmoid" { 4.0 * f64::EPSILON } else { 1e-30 };
            assert!((got - want).abs() <= 1e-13 * want.abs() + lost, "{name} at {x}: {got}, not {want}");
        }
    }
}
