//! The kernels on a real GPU, where there is one.
#![cfg(feature = "cuda")]
#![allow(clippy::print_stderr)] // says what is skipped

mod operations;
mod reservoir;
mod simulation;

use ransnn::tensor::cuda::{self, Gpu};

/// The first GPU, and where its kernels are kept.
fn gpu() -> Option<(Gpu, tempfile::TempDir)> {
    if let Some(reason) = cuda::probe().unusable {
        eprintln!("skipped: {reason}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(0, Some(folder.path())).unwrap();
    eprintln!("{gpu:?}, compute capability {}", gpu.compute_capability());
    Some((gpu, folder))
}

#[test]
fn simulations_equal_the_grid_clock() {
    let Some((gpu, _folder)) = gpu() else { return };
    let spikes = simulation::compare_random(&gpu, 0..200);
    assert!(spikes.iter().filter(|&&spikes| spikes > 50).count() > 100, "{spikes:?}");
    simulation::compare_special(&gpu);
    simulation::sums_are_exact(&gpu, |_| ());
    simulation::checkpoints(&gpu);
    simulation::plastic::pairs(&gpu);
    simulation::plastic::triplets(&gpu);
    simulation::refusals(&gpu);
    let spikes = simulation::procedural::equal_the_cpu(&gpu);
    assert!(spikes.iter().filter(|&&spikes| spikes > 50).count() > 8, "{spikes:?}");
    simulation::procedural::many_different_targets(&gpu);
    simulation::procedural::equal_stored(&gpu);
    simulation::procedural::refusals(&gpu);
}

#[test]
fn reservoir_equals_the_reference() {
    let Some((gpu, _folder)) = gpu() else { return };
    let mut cases = reservoir::sizes();
    cases.extend(reservoir::dialects());
    cases.extend(reservoir::extremes());
    let large = reservoir::Case { samples: 1000, sources: 784, targets: 2000, ..Default::default() };
    cases.push(large);
    let spikes: u64 = cases.iter().map(|case| reservoir::compare(&gpu, case)).sum();
    assert!(spikes > 100_000, "{spikes}");
    reservoir::rounding(&gpu);
    let spikes = reservoir::engine::compare_all(&gpu);
    assert!(spikes.iter().all(|&spikes| spikes > 100), "{spikes:?}");
    reservoir::engine::refusals(&gpu);
    let spikes = reservoir::features::compare_all(&gpu);
    assert!(spikes.iter().sum::<u64>() > 10_000, "{spikes:?}");
    reservoir::features::refusals(&gpu);
}

#[test]
fn operations_equal_the_cpu() {
    if let Some(reason) = cuda::probe().unusable {
        eprintln!("skipped: {reason}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(0, Some(folder.path())).unwrap();
    let cases = operations::registered(&gpu);
    operations::equal_in_every_bit(&gpu);
    operations::reordered(&gpu);
    let spikes = operations::scans(&gpu);
    operations::optimizers(&gpu);
    operations::products(&gpu);
    gpu.use_cublas(false);
    operations::products(&gpu);
    gpu.use_cublas(true);
    let mut training = operations::Perceptron::new(&gpu);
    let first = training.step().to_scalar().unwrap();
    let last = (0..20).map(|_| training.step()).last().unwrap();
    assert!(last.to_scalar().unwrap() < 0.5 * first);
    operations::surrogate(&gpu);
    operations::online(&gpu);
    let batch = operations::Batch::new(&gpu, false, 30);
    assert_eq!(batch.gradients(), batch.gradients(), "from run to run");
    operations::models(&gpu);
    eprintln!("{cases} cases of registered operations; scans with {spikes} spikes");
}
