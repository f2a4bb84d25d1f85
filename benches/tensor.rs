//! Micro-benchmarks of the tensor backend: a product, an elementwise chain, a training step of a linear readout.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ransnn::nn::{Adam, Linear, Optimizer, loss};
use ransnn::rng::Stream;
use ransnn::tensor::{DType, Tensor, check, grad};

fn random(name: &str, shape: &[usize]) -> Tensor {
    check::random(name, shape, -1.0, 1.0).and_then(|x| x.to_dtype(DType::F32)).expect("fits")
}

fn matmul(c: &mut Criterion) {
    let (a, b) = (random("a", &[512, 512]), random("b", &[512, 512]));
    c.bench_function("matmul/512", |bench| bench.iter(|| black_box(&a).matmul(&b).expect("runs")));
}

fn elementwise(c: &mut Criterion) {
    let (a, b) = (random("a", &[1000, 1000]), random("b", &[1000]));
    c.bench_function("add/1000x1000+1000", |bench| bench.iter(|| black_box(&a).add(&b).expect("runs")));
    c.bench_function("tanh/1000x1000", |bench| bench.iter(|| black_box(&a).tanh().expect("runs")));
    c.bench_function("gelu/1000x1000", |bench| bench.iter(|| black_box(&a).gelu().expect("runs")));
    c.bench_function("softmax/1000x1000", |bench| bench.iter(|| black_box(&a).softmax().expect("runs")));
}

fn step(c: &mut Criterion) {
    let x = random("x", &[128, 2000]);
    let labels = Tensor::from_u32((0..128).map(|i| i % 10).collect(), &[128]).expect("fits");
    let mut layer = Linear::new(2000, 10, true, &Stream::named(0, "bench"), DType::F32).expect("a layer");
    let mut adam = Adam::new(5e-4);
    c.bench_function("step/128x2000x10 adam", |bench| {
        bench.iter(|| {
            let forward = || loss::cross_entropy(&layer.forward(&x)?, &labels);
            let (loss, grads) = grad(&layer, forward).expect("a gradient");
            adam.step(&mut layer, &grads).expect("a step");
            loss
        });
    });
}

criterion_group!(benches, matmul, elementwise, step);
criterion_main!(benches);
