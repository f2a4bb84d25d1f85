//! The closed-form readout: sums of products for each packing of codes, and a solution.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use ransnn::learn::ridge::{NormalEquations, Refine, Ridge};
use ransnn::rng::Stream;

fn codes(samples: usize, features: usize, code_max: u8) -> (Vec<u8>, Vec<u16>) {
    let mut walk = Stream::named(1, "bench").walk(0);
    let codes = (0..samples * features).map(|_| walk.random_range(0..=code_max)).collect();
    (codes, (0..samples).map(|_| walk.random_range(0..10)).collect())
}

fn ridge(criterion: &mut Criterion) {
    let (features, samples) = (2048, 2048);
    let mut group = criterion.benchmark_group("ridge/add");
    group.sample_size(10);
    // Products of pairs of features, those of a feature with itself included.
    group.throughput(Throughput::Elements((samples * features * (features + 1) / 2) as u64));
    for code_max in [31, 63, 127, 255] {
        let (rows, labels) = codes(samples, features, code_max);
        let mut equations = NormalEquations::new(features, 10, code_max).expect("sizes are valid");
        group.bench_function(BenchmarkId::new("u8", code_max), |bencher| {
            bencher.iter(|| equations.add(black_box(&rows), &labels));
        });
    }
    let (rows, labels) = codes(samples, features, 31);
    let rows: Vec<f32> = rows.into_iter().map(f32::from).collect();
    let mut equations = NormalEquations::with_f32(features, 10).expect("sizes are valid");
    group.bench_function("f32", |bencher| bencher.iter(|| equations.add(black_box(&rows), &labels)));
    group.finish();

    let (rows, labels) = codes(samples, features, 31);
    let mut equations = NormalEquations::new(features, 10, 31).expect("sizes are valid");
    equations.add(&rows, &labels).expect("codes are valid");
    let mut group = criterion.benchmark_group("ridge/solve");
    group.sample_size(10);
    group.bench_function("2048", |bencher| bencher.iter(|| equations.solve(black_box(100.0))));
    group.finish();

    // None: scores of the start. The first step also has the factorisation.
    let ridge = equations.solve(100.0).expect("a large penalty");
    let (rows, labels) = codes(4 * samples, features, 31);
    let mut group = criterion.benchmark_group("ridge/refine");
    group.sample_size(10);
    group.throughput(Throughput::Elements((4 * samples * features * 10) as u64));
    for iterations in [0, 1, 4] {
        let options = Refine { iterations, penalty: 1e-3 };
        group.bench_function(BenchmarkId::new("steps", iterations), |bencher| {
            bencher.iter(|| equations.refine(&ridge, black_box(&rows), &labels, options));
        });
    }
    group.finish();
    predict(criterion, &ridge, &rows);
}

fn predict(criterion: &mut Criterion, ridge: &Ridge, rows: &[u8]) {
    let mut group = criterion.benchmark_group("ridge/predict");
    group.sample_size(10);
    group.throughput(Throughput::Elements((rows.len() * 10) as u64));
    group.bench_function("u8", |bencher| bencher.iter(|| ridge.predict(black_box(rows))));
}

criterion_group!(benches, ridge);
criterion_main!(benches);
