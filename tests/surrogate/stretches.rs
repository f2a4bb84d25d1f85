//! Steps in stretches against all steps at once.

use ransnn::Result;
use ransnn::engine::Input;
use ransnn::learn::surrogate::{
    Checkpoint, Credit, Data, Encoded, Loss, Method, Model, Options, RatePenalty, Trainer,
};
use ransnn::rng::Stream;
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Lif, Reset as LifReset, Synaptic};
use ransnn::snn::scan::{Acts, Parameters, Reset, Scan, Scanned, Spikes, Stretch};
use ransnn::snn::{Encoding, Init, Network, Neuron, Pop, Rule};
use ransnn::tensor::check::random;
use ransnn::tensor::{DType, Tensor, grad};
use ransnn::units::Ms;
use std::collections::BTreeMap;
use std::sync::Arc;

const STEPS: usize = 11;
const BATCH: usize = 3;
/// More than a tile.
const NEURONS: usize = 70;
const STRETCHES: [&[usize]; 3] = [&[4, 4, 3], &[1; STEPS], &[10, 1]];

type Named = BTreeMap<String, Tensor>;

fn ranges(lengths: &[usize]) -> Vec<std::ops::Range<usize>> {
    lengths
        .iter()
        .scan(0, |from, &length| {
            *from += length;
            Some(*from - length..*from)
        })
        .collect()
}

/// Weights of the loss on what a scan shows, `[3, T, B, N]`.
fn weights(dtype: DType) -> Tensor {
    random("loss", &[3, STEPS, BATCH, NEURONS], -1.0, 1.0).unwrap().to_dtype(dtype).unwrap()
}

/// A loss on all that a scan over some steps shows; potentials of a layer are in an order of their own.
fn loss(out: &Scanned, weights: &Tensor, range: std::ops::Range<usize>, potential: bool) -> Result<Tensor> {
    let part = |i: usize, shown: &Tensor| -> Result<Tensor> {
        let weights = weights.narrow(0, i, 1)?.narrow(1, range.start, range.len())?;
        shown.mul(&weights.reshape(shown.shape())?)?.sum_all()
    };
    let mut sum = part(0, &out.spikes)?;
    if let Some(membrane) = &out.membrane {
        sum = sum.add(&part(1, membrane)?)?;
    }
    if potential { sum.add(&part(2, &out.potential)?) } else { Ok(sum) }
}

/// What [`loss`] leads to: what was shown, gradients by `x` and by the rest.
struct Found {
    shown: Vec<Tensor>,
    by_x: Tensor,
    rest: Named,
}

/// Through stretches as a trainer goes: forward once, then each once more from the last to the first. `run` takes the input
/// of a stretch and its place.
fn through(
    lengths: &[usize],
    x: &Tensor,
    held: bool,
    named: &Named,
    potential: bool,
    run: impl Fn(&Tensor, std::ops::Range<usize>, Option<&Stretch>) -> Result<Scanned>,
) -> Result<Found> {
    let weights = weights(x.dtype());
    let ranges = ranges(lengths);
    let input = |range: &std::ops::Range<usize>| {
        if held { Ok(x.add_scalar(0.0)?) } else { x.narrow(0, range.start, range.len()) }
    };
    let mut places = vec![];
    for range in &ranges {
        let place = match places.last() {
            None => Stretch::first(),
            Some(before) => Stretch::next(before)?,
        };
        run(&input(range)?, range.clone(), Some(&place))?;
        places.push(place);
    }
    let (mut shown, mut by_x): (Vec<Vec<Tensor>>, Vec<Tensor>) = (vec![], vec![]);
    let mut rest: Named = BTreeMap::new();
    for (range, place) in ranges.iter().zip(&places).rev() {
        let mut with_x = named.clone();
        with_x.insert("x".into(), input(range)?);
        // One stretch is what there is without any.
        let place = (lengths.len() > 1).then_some(place);
        let mut seen = vec![];
        let (_, mut grads) = grad(&with_x, || {
            let out = run(&with_x["x"], range.clone(), place)?;
            seen = [out.spikes.clone()].into_iter().chain(out.membrane.clone()).collect();
            loss(&out, &weights, range.clone(), potential)
        })?;
        shown.push(seen);
        by_x.push(grads.remove("x").unwrap());
        for (name, g) in grads.iter() {
            let sum = match rest.get(name) {
                Some(sum) => sum.add(g)?,
                None => g.clone(),
            };
            rest.insert(name.into(), sum);
        }
    }
    shown.reverse();
    by_x.reverse();
    let joined = |parts: Vec<&Tensor>| Tensor::concat(&parts, 0);
    let by_x = match held {
        false => joined(by_x.iter().collect())?,
        true => by_x.into_iter().reduce(|sum, g| sum.add(&g).unwrap()).unwrap(),
    };
    let shown = (0..shown[0].len()).map(|i| joined(shown.iter().map(|seen| &seen[i]).collect()));
    Ok(Found { shown: shown.collect::<Result<_>>()?, by_x, rest })
}

fn bits(x: &Tensor) -> Vec<u64> {
    // Both zeros are one number.
    x.to_dtype(DType::F64).unwrap().to_f64().unwrap().iter().map(|x| (x + 0.0).to_bits()).collect()
}

fn close(a: &Tensor, b: &Tensor, share: f64, what: &str) {
    let [a, b] = [a, b].map(|x| x.to_dtype(DType::F64).unwrap().to_f64().unwrap());
    let most = a.iter().fold(0f64, |most, x| most.max(x.abs()));
    let off = a.iter().zip(&b).fold(0f64, |off, (a, b)| off.max((a - b).abs()));
    assert!(most > 0.0 && off <= share * most, "{what}: {off} of {most}");
}

fn scans() -> Vec<Scan> {
    let mut all = vec![Scan { reset: Reset::None, ..Scan::lif() }];
    for reset in [Reset::Subtract, Reset::To(0.0), Reset::To(-0.3)] {
        for acts in [Acts::SameStep, Acts::NextStep, Acts::BeforeNextStep, Acts::Corrected] {
            for detach in [true, false] {
                all.push(Scan { reset, acts, detach, ..Scan::lif() });
            }
        }
    }
    all.into_iter().map(|scan| Scan { membrane: true, rest: 0.1, ..scan }).collect()
}

fn numbers(dtype: DType, current: bool, adaptive: bool, recurrent: bool) -> Named {
    let mut named = BTreeMap::new();
    let mut put = |name: &str, shape: &[usize], low, high| {
        named.insert(name.to_string(), random(name, shape, low, high).unwrap().to_dtype(dtype).unwrap());
    };
    put("decay", &[NEURONS], 0.5, 0.95);
    put("gain", &[1], 0.7, 1.2);
    put("threshold", &[NEURONS], 0.6, 1.1);
    if current {
        put("alpha", &[NEURONS], 0.4, 0.8);
    }
    if adaptive {
        put("rho", &[NEURONS], 0.4, 0.9);
        put("strength", &[1], 0.1, 0.4);
    }
    if recurrent {
        put("recurrent", &[NEURONS, NEURONS], -0.1, 0.1);
    }
    named
}

fn parameters(named: &Named) -> Parameters {
    let of = |name: &str| named.get(name).cloned();
    Parameters {
        decay: named["decay"].clone(),
        gain: named["gain"].clone(),
        threshold: named["threshold"].clone(),
        current_decay: of("alpha"),
        adaptation: of("rho").zip(of("strength")),
        recurrent: of("recurrent"),
    }
}

#[test]
fn every_neuron_and_reset_has_the_same_gradients() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let x = random("x", &[STEPS, BATCH, NEURONS], -0.4, 1.4)?.to_dtype(dtype)?;
        for scan in scans() {
            for (current, adaptive, recurrent) in
                [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
            {
                let named = numbers(dtype, current, adaptive, recurrent);
                let parameters = parameters(&named);
                let of = |lengths: &[usize]| {
                    through(lengths, &x, false, &named, true, |x, _, place| match place {
                        Some(place) => scan.run_stretch(x, None, &parameters, place),
                        None => scan.run(x, &parameters),
                    })
                };
                let whole = of(&[STEPS])?;
                assert!(whole.shown[0].sum_all()?.to_scalar()? > 100.0);
                for lengths in STRETCHES {
                    let what = format!("{scan:?} {current} {adaptive} {recurrent} {lengths:?}");
                    let parts = of(lengths)?;
                    for (a, b) in whole.shown.iter().zip(&parts.shown) {
                        assert!(bits(a) == bits(b), "{what}: what is shown");
                    }
                    assert!(bits(&whole.by_x) == bits(&parts.by_x), "{what}: gradients by the input");
                    // Sums over steps, in which much cancels: those in f64 show an error and no rounding.
                    let given = whole.rest.iter().filter(|(_, a)| bits(a).iter().any(|&x| x != 0));
                    for (name, a) in given.filter(|_| dtype == DType::F64) {
                        close(a, &parts.rest[name], 1e-12, &format!("{what} {name}"));
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn held_currents_have_the_same_gradients() -> Result<()> {
    let x = random("x", &[1, BATCH, NEURONS], 0.0, 1.0)?;
    let named = numbers(DType::F64, true, false, false);
    let parameters = parameters(&named);
    for scan in scans() {
        let of = |lengths: &[usize]| {
            through(lengths, &x, true, &named, true, |x, range, place| match place {
                Some(place) => scan.run_stretch(x, Some(range.len()), &parameters, place),
                None => scan.run_held(x, range.len(), &parameters),
            })
        };
        let whole = of(&[STEPS])?;
        for lengths in STRETCHES {
            let parts = of(lengths)?;
            assert!(whole.shown.iter().zip(&parts.shown).all(|(a, b)| bits(a) == bits(b)), "{scan:?}");
            close(&whole.by_x, &parts.by_x, 1e-13, "the input");
        }
    }
    Ok(())
}

#[test]
fn layers_behind_spikes_have_the_same_gradients() -> Result<()> {
    let fired = random("spikes", &[STEPS, BATCH, 40], 0.0, 1.0)?;
    let fired = fired.greater_equal(&Tensor::full(&[1], 0.7, DType::F64)?)?.to_dtype(DType::F32)?;
    for scan in scans() {
        for (current, adaptive) in [(false, false), (true, false), (false, true)] {
            let mut named = numbers(DType::F32, current, adaptive, false);
            named.insert("w".into(), random("w", &[40, NEURONS], -0.2, 0.4)?.to_dtype(DType::F32)?);
            named.insert("b".into(), random("b", &[NEURONS], 0.0, 0.1)?.to_dtype(DType::F32)?);
            let parameters = parameters(&named);
            let of = |lengths: &[usize]| {
                through(lengths, &fired, false, &named, false, |x, _, place| {
                    let weights = (&named["w"], Some(&named["b"]));
                    let lists = Arc::new(Spikes::of(x)?);
                    Ok(scan.run_behind(&lists, Some(x), weights, &parameters, place)?.0)
                })
            };
            let whole = of(&[STEPS])?;
            assert!(whole.shown[0].sum_all()?.to_scalar()? > 100.0);
            for lengths in STRETCHES {
                let what = format!("{scan:?} {current} {adaptive} {lengths:?}");
                let parts = of(lengths)?;
                assert!(whole.shown.iter().zip(&parts.shown).all(|(a, b)| bits(a) == bits(b)), "{what}");
                // A product with the weights, whose sums depend on the number of rows.
                close(&whole.by_x, &parts.by_x, 2e-6, &format!("{what}: gradients by the spikes"));
                for (name, a) in whole.rest.iter().filter(|(_, a)| !bits(a).iter().all(|&x| x == 0)) {
                    close(a, &parts.rest[name], 1e-5, &format!("{what} {name}"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn stretches_of_other_neurons_are_refused() -> Result<()> {
    let parameters = Parameters::new(0.9, 1.0, DType::F32)?;
    let zeros = |n| Tensor::zeros(&[2, 1, n], DType::F32);
    let first = Stretch::first();
    assert!(first.next().is_err(), "nothing has run");
    Scan::lif().run_stretch(&zeros(3)?, None, &parameters, &first)?;
    let error = Scan::lif().run_stretch(&zeros(4)?, None, &parameters, &first.next()?).unwrap_err();
    assert!(error.to_string().contains("the same neurons and samples"), "{error}");
    Ok(())
}

const INPUTS: usize = 30;
const CLASSES: usize = 4;
const SAMPLES: usize = 40;

/// 5 × 6 pixels - 70 - 50 - 4: dense, recurrent or convolutional in the first layer.
fn network(kind: &str, hidden: impl Neuron + Clone + 'static) -> Network {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", [1, 5, 6]);
    let first = match kind {
        "conv" => net.population("first", [4, 4, 5], hidden.clone()),
        _ => net.population("first", 70, hidden.clone()),
    };
    let second = net.population("second", 50, hidden);
    let out = net.population("out", CLASSES, Lif { decay: 0.95, reset: LifReset::None, ..Lif::default() });
    let init = |std| Init::Normal { mean: 0.05, std };
    let rule = match kind {
        "conv" => Rule::Conv2d { kernel: 2, stride: 1, padding: 0, pool: 1, max_pool: 1 },
        _ => Rule::Dense,
    };
    let of = net.connect(pixels, first, rule).name("a").weights(init(0.3));
    match kind {
        "frozen" => of.frozen().precision(Precision::Int8),
        _ => of.bias(Init::Constant(0.02)).precision(Precision::F32),
    };
    if kind == "recurrent" {
        net.connect(first, first, Rule::Dense)
            .name("own")
            .delay(Ms(1.0))
            .weights(Init::Normal { mean: 0.0, std: 0.1 })
            .precision(Precision::F32);
    }
    for (pre, post) in [(first, second), (second, out)] {
        net.connect(pre, post, Rule::Dense).weights(init(0.2)).precision(Precision::F32);
    }
    net.build(3).unwrap()
}

fn options() -> Options {
    Options {
        loss: Loss::CeMembraneMax,
        lr: 1.0,
        batch: SAMPLES,
        method: Method::Sgd { momentum: 0.0 },
        ..Options::new()
    }
}

fn data() -> (Vec<u8>, Vec<u16>) {
    let labels: Vec<u16> = (0..SAMPLES).map(|i| (i * 7 % 13 % CLASSES) as u16).collect();
    let bright = |i: usize, label: u16| if i % CLASSES == usize::from(label) { 200 } else { 40 };
    (labels.iter().flat_map(|&l| (0..INPUTS).map(move |i| bright(i, l))).collect(), labels)
}

#[test]
fn networks_train_alike_in_less_memory() {
    let (samples, labels) = data();
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let targets: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    let lif = Lif { decay: 0.9, ..Lif::default() };
    let learning = |options: Options| {
        let gradient =
            ransnn::learn::surrogate::Gradient { decay: true, threshold: true, ..options.gradient };
        Options { gradient, ..options }
    };
    let sparse = |options: Options| Options {
        penalty: RatePenalty { sparsity: 1e-3, ..RatePenalty::default() },
        ..options
    };
    let plain = |options: Options| options;
    let dropped = |options: Options| Options { dropout: 0.3, micro_batch: 16, ..options };
    type Change<'c> = &'c dyn Fn(Options) -> Options;
    let cases: [(&str, Change<'_>); 5] = [
        ("dense", &learning),
        ("dense", &dropped),
        ("synaptic", &sparse),
        ("conv", &sparse),
        ("frozen", &plain),
    ];
    for (kind, change) in cases {
        for encoding in [Encoding::Bernoulli { steps: 30, gain: 0.8 }, Encoding::Constant { steps: 30 }] {
            let train = |checkpoint: Checkpoint| {
                let options = Options { checkpoint, ..change(options()) };
                let net = match kind {
                    "synaptic" => network("dense", Synaptic::new(0.5, 0.9)),
                    _ => network(kind, lif),
                };
                let mut trainer = Trainer::new(net, encoding, Pop(3), data, options).unwrap();
                let ids: Vec<u64> = (0..SAMPLES as u64).collect();
                let input = trainer.encode(&ids, &Stream::named(1, "x")).unwrap();
                let before = trainer.model().parameters.clone();
                let told = trainer.update(&input, &targets).unwrap();
                let after = trainer.model().parameters.clone();
                let moved = before.iter().map(|(name, old)| (name.clone(), after[name].sub(old).unwrap()));
                (told, moved.collect::<Named>(), trainer.batch_bytes())
            };
            let (told, whole, bytes) = train(Checkpoint::None);
            for checkpoint in [Checkpoint::Sqrt, Checkpoint::Every(7), Checkpoint::Every(1)] {
                let (other, parts, less) = train(checkpoint);
                let what = format!("{kind}, {encoding:?}, {checkpoint:?}");
                assert!((told.0 - other.0).abs() < 1e-6 && told.1 == other.1, "{what}: {told:?} {other:?}");
                for (name, a) in &whole {
                    close(a, &parts[name], 1e-5, &format!("{what}: {name}"));
                }
                assert!(
                    checkpoint == Checkpoint::Every(1) || less * 3 < bytes * 2,
                    "{what}: {less} of {bytes}"
                );
            }
        }
    }
}

#[test]
fn recurrent_networks_have_the_same_gradients() -> Result<()> {
    let net = network("recurrent", Lif { decay: 0.9, ..Lif::default() });
    let model = Model::new(&net, Pop(3), true, options().gradient)?;
    let fired = random("spikes", &[30, SAMPLES, INPUTS], 0.0, 1.0)?;
    let fired = fired.greater_equal(&Tensor::full(&[1], 0.7, DType::F64)?)?.to_dtype(DType::F32)?;
    let labels = Tensor::from_u32(data().1.iter().map(|&l| l.into()).collect(), &[SAMPLES])?;
    let held = random("held", &[SAMPLES, INPUTS], 0.0, 1.0)?.to_dtype(DType::F32)?;
    for input in [Encoded::Spikes(Arc::new(Spikes::of(&fired)?)), Encoded::Constant(held, 30)] {
        let loss = |outputs: &Tensor| Loss::CeMembraneMax.of(outputs, &labels);
        let (value, whole) = grad(&model, || loss(&model.forward(&input, None)?.outputs))?;
        for length in [1, 4, 30] {
            let found = model.grad_in_stretches(&input, None, length, loss, |sum, _| Ok(sum))?;
            assert!(bits(&value) == bits(&found.loss));
            for (name, a) in whole.iter() {
                close(a, found.grads.get(name)?, 1e-5, &format!("{length}: {name}"));
            }
        }
        assert!(model.grad_in_stretches(&input, None, 0, loss, |sum, _| Ok(sum)).is_err());
    }
    Ok(())
}

#[test]
fn what_needs_all_steps_is_refused() {
    let (samples, labels) = data();
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let refused = |options: Options| {
        let net = network("dense", Lif::default());
        let encoding = Encoding::Bernoulli { steps: 30, gain: 0.8 };
        let options = Options { checkpoint: Checkpoint::Sqrt, ..options };
        Trainer::new(net, encoding, Pop(3), data, options).err().unwrap().to_string()
    };
    let bounded = RatePenalty { lower: 1.0, ..RatePenalty::default() };
    assert!(refused(Options { penalty: bounded, ..options() }).contains("bounds on the rates"));
    let online = Options { credit: Credit::Ottt, loss: Loss::CeMembrane, ..options() };
    assert!(refused(online).contains("forward in time"));
    let mut normalized = options();
    normalized.gradient.normalize = true;
    let error = refused(normalized);
    assert!(error.contains("normalis") || error.contains("bias"), "{error}");
}
