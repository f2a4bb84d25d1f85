//! Memory of online training, counted by the allocator: it does not grow with the number of steps, and is what was planned.
#![allow(unsafe_code)] // An allocator that counts.

use ransnn::engine::Input;
use ransnn::learn::surrogate::{
    Checkpoint, Credit, Data, Encoded, Gradient, Loss, Method, Model, Options, Trainer,
};
use ransnn::rng::Stream;
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Alif, Lif, Reset};
use ransnn::snn::scan::Spikes;
use ransnn::snn::{Encoding, Init, Network, Rule};
use ransnn::tensor::{DType, Surrogate, Tensor, grad};
use ransnn::units::Ms;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all work is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller promises what the system's allocator asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: promised by the caller.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes at a time beyond those that are there before.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    work();
    MOST.load(Ordering::Relaxed) - before
}

const BATCH: usize = 16;
const INPUTS: usize = 100;

fn spikes(steps: usize) -> Encoded {
    let rows: Vec<Vec<u32>> = (0..steps * BATCH)
        .map(|r| (0..INPUTS as u32).filter(|i| (i * 7 + r as u32 * 3).is_multiple_of(11)).collect())
        .collect();
    let rows = rows.iter().map(Vec::as_slice);
    Encoded::Spikes(Arc::new(Spikes::from_rows(&[steps, BATCH], INPUTS, rows).unwrap()))
}

#[test]
fn memory_of_online_training_does_not_depend_on_the_number_of_steps() {
    let _alone = ALONE.lock().unwrap();
    let surrogate = Surrogate::Arctan { alpha: 2.0 };
    let gradient = Gradient::of(surrogate);
    let model = |kind: &str| {
        let mut net = Network::builder(Ms(1.0));
        let pixels = net.input("pixels", INPUTS);
        let lif = Lif { decay: 0.9, ..Lif::default() };
        let hidden = match kind {
            "adaptive" => net.population("hidden", 200, Alif::new(0.9, 0.95, 0.1)),
            _ => net.population("hidden", 200, lif),
        };
        let output = net.population("out", 10, Lif { reset: Reset::None, ..Lif::default() });
        let mut joins = vec![(pixels, hidden), (hidden, output)];
        if kind == "deep" {
            let second = net.population("second", 150, lif);
            joins = vec![(pixels, hidden), (hidden, second), (second, output)];
        }
        for (from, to) in joins {
            let weights = Init::Normal { mean: 0.02, std: 0.2 };
            net.connect(from, to, Rule::Dense)
                .weights(weights)
                .bias(Init::Constant(0.01))
                .precision(Precision::F32);
        }
        if kind == "recurrent" {
            let around = net.connect(hidden, hidden, Rule::Dense).delay(Ms(1.0));
            around.weights(Init::Normal { mean: 0.0, std: 0.02 }).precision(Precision::F32);
        }
        Model::new(&net.build(1).unwrap(), output, true, gradient).unwrap()
    };
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 10).collect();
    let held = |steps| Encoded::Constant(Tensor::full(&[BATCH, INPUTS], 0.1, DType::F32).unwrap(), steps);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        for constant in [true, false] {
            let input = |steps| if constant { held(steps) } else { spikes(steps) };
            let (ottt, eprop) = (Credit::Ottt, Credit::Eprop);
            let cases = [
                ("plain", ottt),
                ("plain", eprop),
                ("deep", ottt),
                ("recurrent", ottt),
                ("recurrent", eprop),
                ("adaptive", eprop),
            ];
            for (kind, credit) in cases {
                let model = model(kind);
                let of = |steps| {
                    let input = input(steps);
                    peak(|| drop(model.online(credit, &input, &labels).unwrap()))
                };
                of(4);
                let [few, many] = [4, 128].map(of);
                let difference = many.abs_diff(few) as f64 / few as f64;
                assert!(difference < 0.02, "{credit:?}: {few} bytes in 4 steps, {many} in 128");
                let through = if kind == "deep" { [200, 150] } else { [200, 10] };
                let packed = if credit == ottt { packed(BATCH, through) } else { 0 };
                let planned = model.online_bytes(credit, constant, BATCH) + 4 * model.size() + packed;
                let share = few as f64 / planned as f64;
                let what = format!("{kind}, {credit:?}, constant {constant}");
                println!("{what}: {few} measured, {planned} planned, {share:.3}");
                assert!((0.9..1.1).contains(&share), "{what}: {few} measured, {planned} planned");
            }
        }
        let labels = Tensor::from_u32(labels.clone(), &[BATCH]).unwrap();
        let model = model("plain");
        let backwards = |steps| {
            let input = held(steps);
            peak(|| {
                grad(&model, || Loss::CeMembrane.of(&model.forward(&input, None)?.outputs, &labels)).unwrap();
            })
        };
        backwards(4);
        let [few, many] = [4, 128].map(backwards);
        assert!(
            many > 8 * few,
            "backwards, {few} bytes in 4 steps and {many} in 128: the measure sees what grows"
        );
    });
}

/// Bytes that a product of gradients by weights `[inputs, outputs]` takes beside what it gives: the library packs its operands
/// as the caches of the processor would have it.
fn packed(rows: usize, [inputs, outputs]: [usize; 2]) -> usize {
    let [gradients, weights] =
        [[rows, outputs], [inputs, outputs]].map(|shape| Tensor::zeros(&shape, DType::F32).unwrap());
    let again = || gradients.matmul_nt(&weights).unwrap();
    drop(again());
    peak(|| drop(again())) - 4 * rows * inputs
}

/// Tests of one process share the counters.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn memory_of_training_backwards_is_what_was_planned() {
    let _alone = ALONE.lock().unwrap();
    let surrogate = Surrogate::Arctan { alpha: 2.0 };
    let gradient = Gradient::of(surrogate);
    let samples: Vec<f32> = (0..BATCH * 144).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let labels: Vec<u16> = (0..BATCH as u16).map(|i| i % 10).collect();
    let targets: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let wrong = Mutex::new(vec![]);
    // The last three keep potentials in 16 bits.
    for (i, kind) in ["dense", "deep", "conv", "frozen", "recurrent", "loop", "dense", "conv", "recurrent"]
        .iter()
        .enumerate()
    {
        let (kind, gradient) = (*kind, Gradient { half: i >= 6, ..gradient });
        for constant in [true, false] {
            for checkpoint in [Checkpoint::None, Checkpoint::Sqrt, Checkpoint::Every(16)] {
                if kind == "loop" && checkpoint != Checkpoint::None {
                    continue;
                }
                let mut net = Network::builder(Ms(1.0));
                let lif = Lif { decay: 0.9, ..Lif::default() };
                let pixels = net.input("pixels", [1, 12, 12]);
                let mut layers = vec![pixels];
                match kind {
                    "conv" => layers.push(net.population("maps", [8, 10, 10], lif)),
                    "deep" => layers.extend(["a", "b", "c"].map(|name| net.population(name, 300, lif))),
                    _ => layers.push(net.population("hidden", 1000, lif)),
                }
                let output = net.population("out", 10, Lif { reset: Reset::None, ..Lif::default() });
                layers.push(output);
                for (i, pair) in layers.windows(2).enumerate() {
                    let conv = Rule::Conv2d { kernel: 3, stride: 1, padding: 0, pool: 1, max_pool: 1 };
                    let rule = if kind == "conv" && i == 0 { conv } else { Rule::Dense };
                    let weights = Init::Normal { mean: 0.0, std: 0.1 };
                    let of = net.connect(pair[0], pair[1], rule).weights(weights);
                    match kind == "frozen" && i == 0 {
                        true => of.frozen().precision(Precision::Int8),
                        false => of.precision(Precision::F32),
                    };
                }
                if let Some(delay) = ["recurrent", "loop"].iter().position(|&k| k == kind) {
                    let around = net.connect(layers[1], layers[1], Rule::Dense).delay(Ms(1.0 + delay as f64));
                    around.weights(Init::Normal { mean: 0.0, std: 0.02 }).precision(Precision::F32);
                }
                let steps = 64;
                let encoding = match constant {
                    true => Encoding::Constant { steps },
                    false => Encoding::Bernoulli { steps, gain: 0.1 },
                };
                let net = net.build(1).unwrap();
                let data = Data { samples: Input::F32(&samples), labels: &labels };
                let method = Method::Sgd { momentum: 0.0 };
                let options = Options { gradient, batch: BATCH, checkpoint, method, ..Options::new() };
                pool.install(|| {
                    let mut trainer = Trainer::new(net, encoding, output, data, options).unwrap();
                    let ids: Vec<u64> = (0..BATCH as u64).collect();
                    let input = trainer.encode(&ids, &Stream::named(1, "x")).unwrap();
                    trainer.update(&input, &targets).unwrap();
                    let most = peak(|| assert!(trainer.update(&input, &targets).unwrap().0 > 0.0));
                    let planned = trainer.batch_bytes();
                    // Beside it the gradients, which are counted among the parameters; lists of spikes, of a stretch of the
                    // input as well, and once more those that a layer is at work on; and currents and their gradients, at
                    // most 256 rows of 64, that a thread works on.
                    let pass = trainer.model().forward(&input, None).unwrap();
                    let fired = |x: &Tensor| x.sum_all().unwrap().to_scalar().unwrap() as usize;
                    let spikes: Vec<usize> = pass.hidden.iter().map(|trace| fired(&trace.spikes)).collect();
                    let given = if let Encoded::Spikes(given) = &input { given.len() } else { 0 };
                    let copied = if checkpoint == Checkpoint::None { 0 } else { given };
                    let at_work = spikes.iter().fold(given, |most, &n| most.max(n));
                    let lists = spikes.iter().sum::<usize>() + at_work + copied;
                    let length = checkpoint.stretch(steps).unwrap_or(steps);
                    let rows = 256.min(BATCH * length);
                    let planned =
                        planned + 4 * trainer.model().size() + 4 * lists * length / steps + 2 * 4 * 64 * rows;
                    // The weights that gradients go through to a layer before.
                    let through: &[[usize; 2]] = match kind {
                        "conv" => &[[800, 10]],
                        "deep" => &[[300, 300], [300, 10]],
                        "frozen" => &[],
                        "loop" => &[[1000, 1000], [1000, 10]],
                        _ => &[[1000, 10]],
                    };
                    let packed = through.iter().map(|&shape| packed(BATCH * length, shape)).max();
                    let packed = packed.unwrap_or(0);
                    let planned = planned + packed;
                    let share = most as f64 / planned as f64;
                    let what = format!("{kind}, constant {constant}, {checkpoint:?}, half {}", gradient.half);
                    println!(
                        "{what}: {most} measured, {planned} planned, {share:.3}, {lists} in lists, {packed} packed"
                    );
                    // In a loop gradients gather turn by turn, which is planned less closely.
                    let near = if kind == "loop" { 0.85..1.15 } else { 0.9..1.1 };
                    if !near.contains(&share) {
                        wrong.lock().unwrap().push(what);
                    }
                });
            }
        }
    }
    assert!(wrong.lock().unwrap().is_empty(), "{wrong:?}");
}
