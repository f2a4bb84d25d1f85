//! Kernels on a GPU: time, bytes moved at least and share of the measured bandwidth, products in TFLOP/s, training in samples/s,
//! simulations in synaptic events/s.
//!
//! Prints one JSON object a line: what, seconds, and the figure that its kind has. Without a GPU it says why and ends.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program

use ransnn::engine::Input;
use ransnn::engine::cuda::{Connectivity, Simulator};
use ransnn::learn::surrogate::{Credit, Data, Options, Trainer};
use ransnn::nn::{Adam, Optimizer};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Lif, Reset};
use ransnn::snn::scan::{Parameters, Scan};
use ransnn::snn::{Encoding, Init, Network, Rule, standard};
use ransnn::tensor::cuda::{self, Gpu};
use ransnn::tensor::{Attention, DType, Device, Surrogate, Tensor, check, grad};
use ransnn::units::Ms;
use ransnn::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

/// Least time that is measured.
const SECONDS: f64 = 0.2;

struct Bench {
    gpu: Gpu,
    /// Bytes per second of an elementwise kernel over memory much larger than the caches.
    bandwidth: f64,
}

impl Bench {
    fn random(&self, shape: &[usize]) -> Result<Tensor> {
        // Drawn small and repeated: only sizes matter.
        let len: usize = shape.iter().product();
        let block = check::random("bench", &[len.min(1 << 16)], -1.0, 1.0)?.to_f32()?;
        let values = block.iter().copied().cycle().take(len).collect();
        Tensor::from_f32(values, shape)?.to_device(&Device::Cuda(self.gpu.clone()))
    }

    /// Seconds of one call, the GPU busy all the time.
    fn time(&self, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        (0..3).try_for_each(|_| work())?;
        self.gpu.synchronize()?;
        let mut calls = 1;
        loop {
            let begun = Instant::now();
            (0..calls).try_for_each(|_| work())?;
            self.gpu.synchronize()?;
            let seconds = begun.elapsed().as_secs_f64();
            if seconds > SECONDS {
                return Ok(seconds / f64::from(calls));
            }
            calls *= 2;
        }
    }

    /// A kernel bound by memory that moves at least so many bytes.
    fn memory(&self, what: &str, bytes: usize, work: impl FnMut() -> Result<()>) -> Result<()> {
        let seconds = self.time(work)?;
        let rate = bytes as f64 / seconds;
        let share = rate / self.bandwidth;
        println!(
            "{}",
            json!({ "what": what, "seconds": seconds, "gb_per_s": rate / 1e9, "share_of_bandwidth": share })
        );
        Ok(())
    }

    fn product(&self, what: &str, operations: f64, work: impl FnMut() -> Result<()>) -> Result<()> {
        let seconds = self.time(work)?;
        println!(
            "{}",
            json!({ "what": what, "seconds": seconds, "tflop_per_s": operations / seconds / 1e12 })
        );
        Ok(())
    }
}

fn drop_value<T>(_: T) {}

fn memory_bound(bench: &Bench) -> Result<()> {
    let n = 1 << 26;
    let (x, y) = (bench.random(&[n])?, bench.random(&[n])?);
    let b = 4 * n;
    bench.memory("relu", 2 * b, || x.relu().map(drop_value))?;
    bench.memory("gelu", 2 * b, || x.gelu().map(drop_value))?;
    bench.memory("add", 3 * b, || x.add(&y).map(drop_value))?;
    bench.memory("swiglu", 3 * b, || x.swiglu(&y).map(drop_value))?;
    bench.memory("spike", 2 * b, || x.spike(Surrogate::Arctan { alpha: 2.0 }).map(drop_value))?;
    bench.memory("sum", b, || x.sum_all().map(drop_value))?;
    bench.memory("cast to bf16", b + b / 2, || x.to_dtype(DType::Bf16).map(drop_value))?;
    let rows = x.reshape(&[1 << 14, 1 << 12])?;
    let scale = bench.random(&[1 << 12])?;
    bench.memory("add a row", 2 * b, || rows.add(&scale).map(drop_value))?;
    bench.memory("sum of rows", b, || rows.sum(&[1]).map(drop_value))?;
    bench.memory("sum of columns", b, || rows.sum(&[0]).map(drop_value))?;
    bench.memory("transpose", 2 * b, || rows.transpose(0, 1).map(drop_value))?;
    bench.memory("softmax", 2 * b, || rows.softmax().map(drop_value))?;
    bench.memory("layer_norm", 2 * b, || rows.layer_norm(&scale, &scale, 1e-5).map(drop_value))?;
    bench.memory("rms_norm", 2 * b, || rows.rms_norm(&scale, 1e-5).map(drop_value))?;
    // 64 steps, 256 samples, 4096 neurons.
    let currents = x.reshape(&[64, 256, 1 << 12])?;
    let numbers = on(bench, Parameters::new(0.9, 1.0, DType::F32)?)?;
    bench.memory("scan", 3 * b, || Scan::lif().run(&currents, &numbers).map(drop_value))?;
    let named = BTreeMap::from([("x".to_string(), currents.clone())]);
    let there_and_back = || {
        let loss = || Scan::lif().run(&named["x"], &numbers)?.spikes.sum_all();
        grad(&named, loss).map(drop_value)
    };
    // Forward, the sum and its way back, the scan's way back.
    bench.memory("scan there and back", (3 + 1 + 1 + 3) * b, there_and_back)?;
    let mut params = BTreeMap::from([("w".to_string(), y.clone())]);
    drop(y);
    let grads = ransnn::tensor::Grads::from(BTreeMap::from([("w".to_string(), x.clone())]));
    let mut adam = Adam::new(1e-3);
    bench.memory("adam", 7 * b, || adam.step(&mut params, &grads))
}

fn on(bench: &Bench, numbers: Parameters) -> Result<Parameters> {
    let there = |t: Tensor| t.to_device(&Device::Cuda(bench.gpu.clone()));
    Ok(Parameters {
        decay: there(numbers.decay)?,
        gain: there(numbers.gain)?,
        threshold: there(numbers.threshold)?,
        ..numbers
    })
}

fn arithmetic(bench: &Bench) -> Result<()> {
    let side = 4096;
    let (a, b) = (bench.random(&[side, side])?, bench.random(&[side, side])?);
    let operations = 2.0 * (side as f64).powi(3);
    if bench.gpu.uses_cublas() {
        bench.product("matmul, cuBLAS", operations, || a.matmul(&b).map(drop_value))?;
        bench.gpu.use_cublas(false);
    }
    for (name, f) in [
        ("matmul", (|a, b| a.matmul(b)) as fn(&Tensor, &Tensor) -> Result<Tensor>),
        ("matmul_nt", |a, b| a.matmul_nt(b)),
        ("matmul_tn", |a, b| a.matmul_tn(b)),
    ] {
        bench.product(name, operations, || f(&a, &b).map(drop_value))?;
    }
    bench.gpu.use_cublas(true);
    let (x, w) = (bench.random(&[256, 32, 28, 28])?, bench.random(&[64, 32, 3, 3])?);
    let operations = 2.0 * (256 * 26 * 26 * 64) as f64 * (32 * 9) as f64;
    bench.product("conv2d", operations, || x.conv2d(&w, None, 1, 0).map(drop_value))?;
    let [q, k, v] = [
        bench.random(&[4, 16, 2048, 64])?,
        bench.random(&[4, 16, 2048, 64])?,
        bench.random(&[4, 16, 2048, 64])?,
    ];
    let how = Attention { scale: 0.125, causal: true, window: None, keys: None };
    let operations = 2.0 * 2.0 * (4 * 16 * 64) as f64 * 2048.0 * 2048.0 / 2.0;
    bench.product("attention, causal", operations, || q.attention(&k, &v, None, how).map(drop_value))
}

/// `train/mlp-bptt` of `ransnn bench`: 784 - 1000 - 10, 25 steps, mini-batches of 128; and forward in time, where the output
/// integrates.
fn training(bench: &Bench, credit: Credit) -> Result<()> {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", 784);
    let hidden = net.population("hidden", 1000, Lif::snntorch(0.95));
    let backwards = credit == Credit::Bptt;
    let out = Lif::snntorch(0.95);
    let out = net.population("out", 10, if backwards { out } else { Lif { reset: Reset::None, ..out } });
    for (pre, post, name) in [(pixels, hidden, "first"), (hidden, out, "second")] {
        net.connect(pre, post, Rule::Dense)
            .name(name)
            .weights(Init::KaimingUniform)
            .bias(Init::Constant(0.0))
            .precision(Precision::F32);
    }
    let samples: Vec<u8> = (0..1280 * 784u64).map(|i| ((i * 7919) % 256) as u8).collect();
    let labels: Vec<u16> = (0..1280).map(|i| i % 10).collect();
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let options = Options { epochs: 1000, credit, ..Options::new() };
    let encoding = Encoding::Bernoulli { steps: 25, gain: 0.5 };
    let mut trainer = Trainer::new(net.build(0)?, encoding, out, data, options)?;
    trainer.move_to(&Device::Cuda(bench.gpu.clone()))?;
    let whole = bench.time(|| trainer.step().map(drop_value))?;
    // The same mini-batch again: without encoding on the host.
    let ids: Vec<u64> = (0..128).collect();
    let input = trainer.encode(&ids, &ransnn::rng::Stream::named(0, "bench"))?;
    let targets: Vec<u32> = labels[..128].iter().map(|&l| l.into()).collect();
    let encoded = bench.time(|| trainer.update(&input, &targets).map(drop_value))?;
    let name = match credit {
        Credit::Bptt => "train/mlp-bptt",
        Credit::Eprop => "train/mlp-eprop",
        Credit::Ottt => "train/mlp-ottt",
    };
    for (more, seconds) in [("", whole), (", encoded before", encoded)] {
        let what = format!("{name}{more}");
        println!("{}", json!({ "what": what, "seconds": seconds, "samples_per_s": 128.0 / seconds }));
    }
    Ok(())
}

/// A second of Vogels and Abbott's network, whose synapses are stored, or drawn again whenever their source fires.
fn connectivity(bench: &Bench) -> Result<()> {
    let net = standard::vogels_abbott_cuba(1)?;
    for (kind, connectivity) in [("stored", Connectivity::Stored), ("procedural", Connectivity::Procedural)] {
        let mut simulator = Simulator::with_connectivity(&bench.gpu, &net, connectivity)?;
        simulator.run(Ms(100.0))?;
        let before = simulator.activity()?.synaptic_events;
        let begun = Instant::now();
        simulator.run(Ms(1000.0))?;
        let events = simulator.activity()?.synaptic_events - before;
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{}",
            json!({ "what": format!("sim/vogels-abbott-cuba, {kind}"), "seconds": seconds, "real_time_factor": seconds,
                    "synaptic_events_per_s": events as f64 / seconds })
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let probe = cuda::probe();
    if let Some(reason) = &probe.unusable {
        eprintln!("no figures: {reason}");
        return Ok(());
    }
    let gpu = Gpu::open(0, None)?;
    let (free, total) = gpu.memory()?;
    if free < 4 << 30 {
        let what = "the memory of a GPU that these figures need".into();
        return Err(Error::Memory { what, needed: 4 << 30, available: free });
    }
    let driver = probe.driver.map(|v| v.to_string());
    println!(
        "{}",
        json!({ "device": gpu.name(), "compute_capability": gpu.compute_capability().to_string(), "memory": total,
                "driver": driver, "cublas": gpu.uses_cublas() })
    );
    let mut bench = Bench { gpu, bandwidth: f64::INFINITY };
    let n = 1 << 28;
    let x = bench.random(&[n])?;
    bench.bandwidth = (2 * 4 * n) as f64 / bench.time(|| x.affine(1.0, 1.0).map(drop_value))?;
    println!("{}", json!({ "what": "bandwidth of x + 1", "gb_per_s": bench.bandwidth / 1e9 }));
    drop(x);
    memory_bound(&bench)?;
    arithmetic(&bench)?;
    [Credit::Bptt, Credit::Eprop, Credit::Ottt]
        .into_iter()
        .try_for_each(|credit| training(&bench, credit))?;
    connectivity(&bench)
}
