//! The whole CUDA path on the CPU: probing, compiling, caching, memory, launches and the kernels themselves, under the
//! stand-in driver of `cuda_emu`.
#![cfg(all(feature = "cuda", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code)] // loads the stand-in
#![allow(clippy::print_stderr)] // says what is skipped

mod cuda_emu;
mod cuda_program;
mod operations;
mod reservoir;
mod simulation;

use cuda_emu::Emulator;
use ransnn::Error;
use ransnn::engine::cuda::{Connectivity, Simulator};
use ransnn::snn::{Init, Network, Rule, neurons::Iaf};
use ransnn::tensor::cuda::{self, Arg, Buffer, Geometry, Gpu};
use ransnn::tensor::kernels::{self, Argument, ElementType, Kernel, Source};
use ransnn::units::Ms;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The stand-in, for one test at a time: its memory and its counters are those of the process.
fn alone() -> Option<(&'static Emulator, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some((cuda_emu::load()?, guard))
}

/// Bytes free and in all, with a GPU that is open and holds what kernels report their faults in.
const FREE: (u64, u64) = ((256 << 20) - 16, 256 << 20);

#[test]
fn operations_equal_the_cpu() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    gpu.use_cublas(false);
    assert!(operations::registered(&gpu) > 300);
    operations::equal_in_every_bit(&gpu);
    operations::reordered(&gpu);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn products_by_cublas_equal_the_cpu() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    assert!(gpu.uses_cublas());
    let before = emulator.products();
    operations::products(&gpu);
    assert!(emulator.products() - before > 50);
    gpu.use_cublas(false);
    let before = emulator.products();
    operations::products(&gpu);
    assert_eq!(emulator.products(), before);
}

#[test]
fn a_training_step_waits_for_nothing() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let mut training = operations::Perceptron::new(&gpu);
    let first = training.step().to_scalar().unwrap();
    let (waits, launches) = (emulator.synchronizations(), emulator.launches());
    let allocations = emulator.unpooled();
    let mut loss = training.step();
    for _ in 0..20 {
        loss = training.step();
    }
    assert_eq!((emulator.synchronizations(), emulator.unpooled()), (waits, allocations));
    assert!(emulator.launches() - launches > 21 * 15);
    assert!(loss.to_scalar().unwrap() < 0.5 * first, "it learns");
    assert_eq!(emulator.synchronizations(), waits + 1);
}

#[test]
fn language_models_equal_the_cpu() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    operations::models(&gpu);
}

#[test]
fn surrogate_training_equals_the_cpu() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    operations::surrogate(&gpu);
}

#[test]
fn gradients_forward_in_time_equal_the_cpu() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    gpu.use_cublas(false);
    operations::online(&gpu);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn gradients_forward_in_time_wait_once_in_the_memory_of_a_step() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    for constant in [true, false] {
        let of = |steps| {
            let batch = operations::Batch::new(&gpu, constant, steps);
            let (waits, launches, unpooled) =
                (emulator.synchronizations(), emulator.launches(), emulator.unpooled());
            emulator.most_memory();
            let loss = batch.gradients();
            let (most, launches) = (emulator.most_memory(), emulator.launches() - launches);
            assert_eq!((emulator.synchronizations() - waits, emulator.unpooled() - unpooled), (1, 0));
            emulator.set_order(12345);
            assert_eq!(batch.gradients(), loss, "in another order of threads");
            emulator.set_order(0);
            assert!(loss > 0.1);
            (most, launches)
        };
        let ((few, launches), (many, more)) = (of(3), of(60));
        assert_eq!(few, many, "bytes of 3 and of 60 steps, constant {constant}");
        assert!(few > 17 * 17 * 6 * 4 && more > 15 * launches, "{few} bytes, {launches} and {more} launches");
    }
}

#[test]
fn scans_and_optimizers_equal_the_cpu() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    assert!(operations::scans(&gpu) > 10_000);
    operations::optimizers(&gpu);
    // What one thread sees of another must not depend on which runs first.
    for order in [1, 12345] {
        emulator.set_order(order);
        operations::registered(&gpu);
    }
    emulator.set_order(0);
}

#[test]
fn probe_finds_the_device() {
    let Some(_alone) = alone() else { return };
    let probe = cuda::probe();
    assert_eq!(probe.unusable, None);
    assert_eq!(probe.driver.unwrap().to_string(), "13.0");
    assert_eq!(probe.nvrtc.unwrap().to_string(), "13.0");
    let [device] = &probe.devices[..] else { panic!("{probe:?}") };
    assert_eq!((device.index, device.memory_bytes, device.multiprocessors), (0, 256 << 20, 4));
    assert_eq!(device.compute_capability.to_string(), "9.0");
    assert!(device.name.contains("stand-in"), "not the real one: {}", device.name);
    assert!(Gpu::open(1, None).unwrap_err().to_string().contains("no such GPU"));
}

#[test]
fn reservoir_equals_the_reference() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let run = |cases: Vec<reservoir::Case>| -> Vec<u64> {
        cases.iter().map(|case| reservoir::compare(&gpu, case)).collect()
    };

    let spikes = run(reservoir::sizes());
    assert!(spikes.iter().sum::<u64>() > 10_000, "{spikes:?}");
    assert!(run(reservoir::dialects()).iter().all(|&spikes| spikes > 0));
    let spikes = run(reservoir::extremes());
    assert!(spikes.contains(&0) && spikes.iter().any(|&spikes| spikes > 1000), "{spikes:?}");

    reservoir::rounding(&gpu);

    // What one lane sees of another must not depend on which runs first.
    for order in [1, 5, 12345] {
        emulator.set_order(order);
        run(reservoir::dialects());
    }
    emulator.set_order(0);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn reservoir_equals_the_cpu_engine() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let spikes = reservoir::engine::compare_all(&gpu);
    assert!(spikes.len() == 28 && spikes.iter().all(|&spikes| spikes > 100), "{spikes:?}");
    reservoir::engine::refusals(&gpu);
}

#[test]
fn features_equal_the_cpu_engine() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let spikes = reservoir::features::compare_all(&gpu);
    assert!(spikes.contains(&0) && spikes.iter().sum::<u64>() > 10_000, "{spikes:?}");
    emulator.set_order(12345);
    reservoir::features::compare_all(&gpu);
    emulator.set_order(0);
    reservoir::features::refusals(&gpu);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn simulations_equal_the_grid_clock() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let spikes = simulation::compare_random(&gpu, 0..24);
    assert!(spikes.iter().filter(|&&spikes| spikes > 50).count() > 12, "{spikes:?}");
    emulator.set_order(12345);
    simulation::compare_random(&gpu, 24..32);
    emulator.set_order(0);
    simulation::compare_special(&gpu);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn simulations_add_exactly_and_learn_as_on_the_cpu() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    simulation::sums_are_exact(&gpu, |order| emulator.set_order(order));
    simulation::plastic::pairs(&gpu);
    simulation::plastic::triplets(&gpu);
    emulator.set_order(0);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn simulations_go_on_from_a_file_and_refuse_what_they_cannot_do() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    simulation::checkpoints(&gpu);
    simulation::refusals(&gpu);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn procedural_simulations_equal_the_grid_clock() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let spikes = simulation::procedural::equal_the_cpu(&gpu);
    assert!(spikes.iter().filter(|&&spikes| spikes > 50).count() > 8, "{spikes:?}");
    simulation::procedural::many_different_targets(&gpu);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn procedural_simulations_equal_those_with_stored_synapses() {
    let Some((emulator, _alone)) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    emulator.set_order(12345);
    simulation::procedural::equal_stored(&gpu);
    emulator.set_order(0);
    simulation::procedural::refusals(&gpu);
    assert_eq!(gpu.memory().unwrap(), FREE, "memory is left behind");
}

#[test]
fn procedural_synapses_take_no_memory() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let mut net = Network::simulation(Ms(0.5));
    let n = 12_000;
    let input = net.source("input", n, ransnn::snn::Source::Spikes(vec![(0, 7), (1, 11_999), (1, 0)]));
    let cells = net.population("cells", n, Iaf::delta(Ms(10.0), Ms(0.5)));
    // 144 million synapses of 2 bytes: more than there is.
    net.connect(input, cells, Rule::Dense).weights(Init::Constant(0.1)).delay(Ms(0.5));
    let net = net.build(1).unwrap();
    assert!(matches!(Simulator::new(&gpu, &net), Err(Error::Memory { .. })));
    let free = gpu.memory().unwrap().0;
    let mut simulator = Simulator::with_connectivity(&gpu, &net, Connectivity::Procedural).unwrap();
    assert!(free - gpu.memory().unwrap().0 < 1 << 20);
    assert_eq!(simulator.synapses()[0].0, 144_000_000);
    simulator.run_steps(3).unwrap();
    assert_eq!(simulator.activity().unwrap().synaptic_events, 3 * n as u64);
}

#[test]
fn a_simulation_that_is_too_large_is_refused_with_both_numbers() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let mut net = Network::simulation(Ms(0.5));
    let cells = net.population("cells", 100_000, Iaf::delta(Ms(10.0), Ms(0.5)));
    // A ring of 400 slots of 8 bytes for each neuron: 320 MB.
    let delays = Init::Uniform { low: 100.0, high: 200.0 };
    net.connect(cells, cells, Rule::FixedInDegree { k: 1 }).weights(Init::Constant(0.1)).delays(delays);
    let net = net.build(1).unwrap();
    let (free, _) = gpu.memory().unwrap();
    match Simulator::new(&gpu, &net) {
        Err(Error::Memory { what, needed, available }) => {
            assert!(needed > 320_000_000 && available == free && what.contains("cuda:0"), "{what} {needed}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(gpu.memory().unwrap().0, free, "something was allocated");
}

#[test]
fn memory_goes_there_and_back() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let buffer = gpu.upload(&[1.5f32, -2.0, f32::MAX]).unwrap();
    assert_eq!(buffer.download::<f32>().unwrap(), [1.5, -2.0, f32::MAX]);
    assert_eq!((buffer.len(), buffer.element(), buffer.gpu()), (3, ElementType::F32, &gpu));
    assert!(matches!(buffer.download::<u32>(), Err(Error::Internal(_))));
    assert_eq!(gpu.zeros(ElementType::U16, 5).unwrap().download::<u16>().unwrap(), [0; 5]);
    assert!(gpu.upload::<u8>(&[]).unwrap().download::<u8>().unwrap().is_empty());
    assert_eq!(gpu.memory().unwrap().0, FREE.0 - 12);
    assert_eq!(buffer, buffer.clone());
    assert_ne!(buffer, gpu.upload(&[1.5f32, -2.0, f32::MAX]).unwrap());
}

#[test]
fn too_much_memory_is_an_error_with_numbers() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let _held = gpu.zeros(ElementType::U8, 1000).unwrap();
    match gpu.zeros(ElementType::F64, 1 << 30) {
        Err(Error::Memory { needed, available, what }) => {
            assert_eq!((needed, available), (8 << 30, FREE.0 - 1000));
            assert!(what.contains("cuda:0"));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(gpu.zeros(ElementType::F64, usize::MAX), Err(Error::Memory { .. })));
}

#[test]
fn compiled_kernels_are_kept_on_disk() {
    let Some((emulator, _alone)) = alone() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("kernels");
    let case = reservoir::Case { samples: 1, steps: 1, ..Default::default() };
    let compilations = || {
        let before = emulator.compilations();
        reservoir::compare(&Gpu::open(0, Some(&cache)).unwrap(), &case);
        emulator.compilations() - before
    };
    assert_eq!(compilations(), 1);
    assert_eq!(compilations(), 0, "the second start reads the cache");
    let files: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert_eq!(file.extension().unwrap(), "cubin");
    let mut bytes = std::fs::read(file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(file, bytes).unwrap();
    assert_eq!(compilations(), 1, "a damaged file counts as absent");
    assert_eq!(compilations(), 0, "and is replaced");
}

static BROKEN_KERNEL: Kernel =
    Kernel { name: "broken", arguments: &[Argument::Scalar("n", ElementType::I32)] };
static BROKEN: Source = Source {
    file: "broken.cu",
    text: "\n#error the log is shown\n",
    options: &[],
    kernels: &[&BROKEN_KERNEL],
};

#[test]
fn compile_errors_show_the_log() {
    let Some(_alone) = alone() else { return };
    let gpu = Gpu::open(0, None).unwrap();
    let geometry = Geometry { grid: [1; 3], block: [1; 3], shared_bytes: 0 };
    let message = gpu.launch(&BROKEN, &BROKEN_KERNEL, geometry, &mut [Arg::I32(1)]).unwrap_err().to_string();
    for part in ["broken.cu", "sm_90", "--fmad=false", "NVRTC_ERROR_COMPILATION", "the log is shown"] {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[test]
fn arguments_are_checked_against_the_table() {
    let Some(_alone) = alone() else { return };
    let (gpu, other) = (Gpu::open(0, None).unwrap(), Gpu::open(0, None).unwrap());
    let geometry = Geometry { grid: [1; 3], block: [256, 1, 1], shared_bytes: 0 };
    let (bytes, floats) = (gpu.upload(&[1u8; 256]).unwrap(), gpu.upload(&[1.0f32]).unwrap());
    let elsewhere = other.upload(&[1.0f32]).unwrap();
    let mut counts = gpu.zeros(ElementType::U16, 1).unwrap();
    let mut activity = gpu.zeros(ElementType::U64, 3).unwrap();
    let mut attempt = |geometry, change: &dyn for<'a> Fn(&mut Vec<Arg<'a>>, [&'a Buffer; 3])| {
        let mut args = vec![Arg::In(&bytes), Arg::In(&bytes), Arg::In(&floats), Arg::In(&floats)];
        args.extend([0.9, 1.0, 0.0, 1.0, 0.0].map(Arg::F32));
        args.extend([Arg::U32(3), Arg::I32(0), Arg::I32(1), Arg::I32(1), Arg::I32(1), Arg::I32(1)]);
        args.extend([Arg::Out(&mut counts), Arg::Out(&mut activity)]);
        change(&mut args, [&bytes, &floats, &elsewhere]);
        let kernel = &kernels::RESERVOIR_CONSTANT_DENSE;
        gpu.launch(&kernels::RESERVOIR, kernel, geometry, &mut args).map_err(|error| error.to_string())
    };
    assert_eq!(attempt(geometry, &|_, _| {}), Ok(()));
    let none = Geometry { grid: [0, 1, 1], ..geometry };
    assert!(attempt(none, &|_, _| {}).unwrap_err().contains("launching reservoir_constant_dense on cuda:0"));
    let mut error =
        |change: &dyn for<'a> Fn(&mut Vec<Arg<'a>>, [&'a Buffer; 3])| attempt(geometry, change).unwrap_err();
    assert!(error(&|args, _| args.truncate(16)).contains("16 arguments instead of 17"));
    assert!(error(&|args, _| args[4] = Arg::I32(1)).contains("`decay`"));
    assert!(error(&|args, [_, floats, _]| args[0] = Arg::In(floats)).contains("`pixels`"));
    assert!(error(&|args, [bytes, ..]| args[15] = Arg::In(bytes)).contains("`counts`"));
    assert!(error(&|args, [.., elsewhere]| args[2] = Arg::In(elsewhere)).contains("another GPU"));

    let mut shared = gpu.zeros(ElementType::U16, 1).unwrap();
    let _held = shared.clone();
    let mut args = vec![Arg::In(&bytes), Arg::In(&bytes), Arg::In(&floats), Arg::In(&floats)];
    args.extend([0.9, 1.0, 0.0, 1.0, 0.0].map(Arg::F32));
    args.extend([
        Arg::U32(3),
        Arg::I32(0),
        Arg::I32(1),
        Arg::I32(1),
        Arg::I32(1),
        Arg::I32(1),
        Arg::Out(&mut shared),
        Arg::Out(&mut activity),
    ]);
    let kernel = &kernels::RESERVOIR_CONSTANT_DENSE;
    let error = gpu.launch(&kernels::RESERVOIR, kernel, geometry, &mut args).unwrap_err().to_string();
    assert!(error.contains("others hold it"), "{error}");
}
