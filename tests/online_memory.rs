//! Memory of online training, counted by the allocator: it does not grow with the number of steps, and is what was planned.
#![allow(unsafe_code)] // An allocator that counts.

use ransnn::learn::surrogate::{Credit, Encoded, Gradient, Loss, Model};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Lif, Reset};
use ransnn::snn::scan::Spikes;
use ransnn::snn::{Init, Network, Rule};
use ransnn::tensor::{Surrogate, Tensor, grad};
use ransnn::units::Ms;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", INPUTS);
    let hidden = net.population("hidden", 200, Lif { decay: 0.9, ..Lif::default() });
    let output = net.population("out", 10, Lif { reset: Reset::None, ..Lif::default() });
    for (from, to) in [(pixels, hidden), (hidden, output)] {
        let weights = Init::Normal { mean: 0.02, std: 0.2 };
        net.connect(from, to, Rule::Dense).weights(weights).precision(Precision::F32);
    }
    let net = net.build(1).unwrap();
    let surrogate = Surrogate::Arctan { alpha: 2.0 };
    let gradient = Gradient { surrogate, detach: true, decay: false, threshold: false, normalize: false };
    let model = Model::new(&net, output, true, gradient).unwrap();
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 10).collect();
    let held = |steps| {
        Encoded::Constant(Tensor::full(&[BATCH, INPUTS], 0.1, ransnn::tensor::DType::F32).unwrap(), steps)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        for constant in [true, false] {
            let input = |steps| if constant { held(steps) } else { spikes(steps) };
            for credit in [Credit::Ottt, Credit::Eprop] {
                let of = |steps| {
                    let input = input(steps);
                    peak(|| drop(model.online(credit, &input, &labels).unwrap()))
                };
                of(4);
                let [few, many] = [4, 128].map(of);
                let difference = many.abs_diff(few) as f64 / few as f64;
                assert!(difference < 0.02, "{credit:?}: {few} bytes in 4 steps, {many} in 128");
                // Products of a step come and go beside what is planned.
                let planned = model.online_bytes(credit, constant, BATCH);
                let share = few as f64 / planned as f64;
                println!("{credit:?}, constant {constant}: {few} measured, {planned} planned");
                assert!((0.9..2.5).contains(&share), "{credit:?}: {few} measured, {planned} planned");
            }
        }
        let labels = Tensor::from_u32(labels.clone(), &[BATCH]).unwrap();
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
