//! Operations on a GPU against the same on the CPU, forward and backward: every registered one, and many sizes.

mod models;
mod online;
mod training;

pub use models::models;
pub use online::{Batch, online};
pub use training::surrogate;

use ransnn::Result;
use ransnn::nn::{Adam, Optimizer, Sgd};
use ransnn::rng::Stream;
use ransnn::snn::scan::{Acts, Parameters, Reset, Scan, Scanned, Stretch};
use ransnn::tensor::check::{Tolerance, assert_close, close, random, registry};
use ransnn::tensor::cuda::Gpu;
use ransnn::tensor::{Attention, DType, Device, Surrogate, Tensor, grad};
use std::collections::BTreeMap;

/// A value and its gradients by all inputs, in main memory.
type Found = (Tensor, Vec<Tensor>);

/// Runs a function on a device: its value, and the gradients of its value weighted by fixed numbers.
fn run(
    on: &Device,
    inputs: &[Tensor],
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    gradients: bool,
) -> Result<Found> {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_device(on)).collect::<Result<_>>()?;
    let home = |x: &Tensor| x.to_device(&Device::Cpu);
    let value = f(&inputs)?;
    if !gradients {
        return Ok((home(&value)?, vec![]));
    }
    let named: BTreeMap<String, Tensor> =
        inputs.iter().enumerate().map(|(i, x)| (format!("{i:02}"), x.clone())).collect();
    let weights = random("weights", value.shape(), 0.5, 1.5)?.to_dtype(value.dtype())?.to_device(on)?;
    let (_, grads) = grad(&named, || f(&inputs)?.mul(&weights)?.sum_all())?;
    let grads = named.keys().map(|name| home(grads.get(name)?)).collect::<Result<_>>()?;
    Ok((home(&value)?, grads))
}

/// Numbers that must be close.
fn compare_numbers(what: &str, got: &[f64], want: &[f64], allowed: Tolerance) {
    close(got, want, allowed).unwrap_or_else(|why| panic!("{what}: {why}"));
}

/// How far a GPU may be from the CPU.
fn tolerance(dtype: DType) -> Tolerance {
    if dtype == DType::F64 { Tolerance::DEVICE_F64 } else { Tolerance::DEVICE_F32 }
}

fn compare(what: &str, got: &Found, want: &Found, allowed: Tolerance) {
    let pairs = [(&got.0, &want.0)].into_iter().chain(got.1.iter().zip(&want.1));
    for (i, (got, want)) in pairs.enumerate() {
        assert_eq!(got.meta(), want.meta(), "{what}");
        let dtype = got.dtype();
        let (got, want) = (got.to_f64().unwrap(), want.to_f64().unwrap());
        // A sum that nearly cancels has the error of its terms, which are as large as the largest results.
        let largest = want.iter().fold(1.0f64, |a, b| if b.is_finite() { a.max(b.abs()) } else { a });
        let allowed = Tolerance { absolute: allowed.absolute * largest, ..allowed };
        if let Err(message) = close(&got, &want, allowed) {
            let which = if i == 0 { "the value".into() } else { format!("the gradient by input {}", i - 1) };
            panic!("{what} ({dtype}): {which}: {message}");
        }
    }
}

/// Every registered operation on the cases of the gradient check, in both widths. Returns how many cases ran.
pub fn registered(gpu: &Gpu) -> usize {
    let on = Device::Cuda(gpu.clone());
    let mut ran = 0;
    for entry in registry() {
        for case in (entry.cases)() {
            for dtype in [DType::F64, DType::F32] {
                let inputs: Vec<Tensor> = case.inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
                let got = run(&on, &inputs, &case.run, entry.differentiable);
                let got = got.unwrap_or_else(|error| panic!("{} in {dtype}: {error}", case.what));
                let want = run(&Device::Cpu, &inputs, &case.run, entry.differentiable).unwrap();
                compare(&case.what, &got, &want, tolerance(dtype));
                ran += 1;
            }
        }
    }
    ran
}

/// Sizes around lanes, warps, blocks and pieces of sums.
const SIZES: [usize; 6] = [0, 1, 33, 257, 1025, 5000];

fn floats(name: &str, shape: &[usize], low: f64, high: f64) -> Tensor {
    random(name, shape, low, high).unwrap().to_dtype(DType::F32).unwrap()
}

type Named = (&'static str, fn(&[Tensor]) -> Result<Tensor>);

/// Elementwise functions and everything else that computes in the CPU's order: equal in every bit, values and gradients.
pub fn equal_in_every_bit(gpu: &Gpu) {
    let on = Device::Cuda(gpu.clone());
    let functions: [Named; 25] = [
        ("affine", |x| x[0].affine(-1.5, 0.25)),
        ("clamp", |x| x[0].clamp(-0.7, 1.1)),
        ("exp", |x| x[0].exp()),
        ("gelu", |x| x[0].gelu()),
        ("gelu_tanh", |x| x[0].gelu_tanh()),
        ("ln", |x| x[1].ln()?.add(&x[0])),
        ("powf", |x| x[1].powf(1.7)?.add(&x[0])),
        ("relu", |x| x[0].relu()),
        ("sigmoid", |x| x[0].sigmoid()),
        ("silu", |x| x[0].silu()),
        ("sqrt", |x| x[1].sqrt()?.add(&x[0])),
        ("tanh", |x| x[0].tanh()),
        ("spike", |x| x[0].spike(Surrogate::Arctan { alpha: 2.0 })),
        ("spike_above", |x| x[0].spike_above(Surrogate::FastSigmoid { slope: 25.0 })),
        ("add", |x| x[0].add(&x[1])),
        ("sub", |x| x[0].sub(&x[1])),
        ("mul", |x| x[0].mul(&x[1])),
        ("div", |x| x[0].div(&x[1])),
        ("swiglu", |x| x[0].swiglu(&x[1])),
        ("select", |x| x[0].greater_equal(&x[1])?.select(&x[0], &x[1])),
        ("dropout", |x| x[0].dropout(0.4, &Stream::named(3, "dropout"), 1 << 33)),
        ("permute", |x| x[0].reshape(&[x[0].len(), 1])?.transpose(0, 1)),
        ("narrow", |x| if x[0].len() < 3 { Ok(x[0].clone()) } else { x[0].narrow(0, 1, x[0].len() - 2) }),
        ("concat", |x| Tensor::concat(&[&x[0], &x[1], &x[0]], 0)),
        ("cast", |x| x[0].to_dtype(DType::Bf16)?.to_dtype(DType::F64)?.to_dtype(DType::F32)),
    ];
    let exact = Tolerance::new(0.0, 0.0);
    for n in SIZES {
        let inputs = [floats("a", &[n], -4.0, 4.0), floats("b", &[n], 0.01, 8.0)];
        for (name, f) in functions {
            // A gradient must reach both inputs: the second one is added where a function does not read it.
            let both = |x: &[Tensor]| {
                let y = f(x)?;
                if y.len() == x[1].len() {
                    y.add(&x[1])
                } else {
                    y.sum_all()?.mul_scalar(0.0)?.add(&x[0].add(&x[1])?)
                }
            };
            let what = format!("{name} of {n}");
            let of =
                |device: &Device| run(device, &inputs, &both, true).unwrap_or_else(|e| panic!("{what}: {e}"));
            compare(&what, &of(&on), &of(&Device::Cpu), exact);
            let value = |device: &Device| run(device, &inputs, &f, false).unwrap();
            compare(&what, &value(&on), &value(&Device::Cpu), exact);
        }
    }
    let surrogates = floats("u", &[1000], -2.0, 2.0);
    for surrogate in Surrogate::ALL {
        let f = move |x: &[Tensor]| x[0].spike(surrogate);
        let of = |device: &Device| run(device, std::slice::from_ref(&surrogates), &f, true).unwrap();
        compare(&format!("{surrogate:?}"), &of(&on), &of(&Device::Cpu), exact);
    }
    conversions(&on);
}

/// Between all kinds of number, with values that round, overflow and are none.
fn conversions(on: &Device) {
    use DType::*;
    let mut values: Vec<f64> = (0..300).map(|i| (f64::from(i) - 150.0) * 1.7).collect();
    values.extend([1e6, -1e6, 65504.0, 65520.0, 1e-7, 6e-8, 2.9e-8, 1e-40, 1e39, 1e300, -0.0, f64::INFINITY]);
    values.extend([f64::NEG_INFINITY, f64::NAN, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 4294967296.5]);
    let x = Tensor::from_f64(values.clone(), &[values.len()]).unwrap();
    for from in [F32, F64, Bf16, F16, U8, U32, I64] {
        let here = x.to_dtype(from).unwrap();
        let there = x.to_device(on).unwrap().to_dtype(from).unwrap();
        for to in [F32, F64, Bf16, F16, U8, U32, I64] {
            let home = |x: &Tensor| x.to_dtype(to).unwrap().to_device(&Device::Cpu).unwrap();
            assert_eq!(
                home(&here).buffer().unwrap().bytes(),
                home(&there).buffer().unwrap().bytes(),
                "{from} to {to}"
            );
        }
    }
}

/// Sums, products, rows, windows over shapes around the edges of their strategies.
pub fn reordered(gpu: &Gpu) {
    let on = Device::Cuda(gpu.clone());
    let check =
        |what: String, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>, gradients: bool| {
            close_on(&on, &what, inputs, f, gradients);
        };
    for n in SIZES {
        let x = [floats("x", &[n], -1.0, 1.0)];
        check(format!("sum of {n}"), &x, &|x| x[0].sum_all(), true);
        for (rows, cols) in [(n, 3), (3, n)] {
            let x = [floats("x", &[rows, cols], -1.0, 1.0)];
            check(format!("sum of [{rows}, {cols}] over 0"), &x, &|x| x[0].sum(&[0]), true);
            check(format!("sum of [{rows}, {cols}] over 1"), &x, &|x| x[0].sum(&[1]), true);
            if cols > 0 {
                check(format!("softmax of [{rows}, {cols}]"), &x, &|x| x[0].softmax(), true);
                check(format!("log_softmax of [{rows}, {cols}]"), &x, &|x| x[0].log_softmax(), true);
                check(format!("max of [{rows}, {cols}]"), &x, &|x| x[0].max(1), true);
                let scales = [x[0].clone(), floats("w", &[cols], 0.5, 1.5), floats("b", &[cols], -1.0, 1.0)];
                check(
                    format!("layer_norm of [{rows}, {cols}]"),
                    &scales,
                    &|x| x[0].layer_norm(&x[1], &x[2], 1e-5),
                    true,
                );
                check(
                    format!("rms_norm of [{rows}, {cols}]"),
                    &scales[..2],
                    &|x| x[0].rms_norm(&x[1], 1e-5),
                    true,
                );
            }
        }
    }
    products(gpu);
    for (shape, order) in
        [(vec![70, 33], vec![1, 0]), (vec![3, 40, 65], vec![0, 2, 1]), (vec![4, 5, 6, 7], vec![2, 0, 3, 1])]
    {
        check(
            format!("permute {shape:?} {order:?}"),
            &[floats("x", &shape, -1.0, 1.0)],
            &|x| x[0].permute(&order),
            true,
        );
    }
    for (x, w, stride, padding) in [
        ([3, 1, 12, 12], [70, 1, 5, 5], 1, 2),
        ([2, 5, 9, 8], [6, 5, 3, 3], 2, 1),
        ([40, 2, 11, 11], [3, 2, 3, 3], 1, 0),
    ] {
        let inputs =
            [floats("x", &x, -1.0, 1.0), floats("w", &w, -0.1, 0.1), floats("b", &w[..1], -1.0, 1.0)];
        check(
            format!("conv2d {x:?} {w:?}"),
            &inputs,
            &|x| x[0].conv2d(&x[1], Some(&x[2]), stride, padding),
            true,
        );
    }
    let table = [floats("table", &[50, 300], -1.0, 1.0)];
    let picked = Tensor::from_u32((0..700).map(|i| i * i % 50).collect(), &[700]).unwrap();
    check("embedding".into(), &table, &|x| x[0].embedding(&picked.to_device(x[0].device())?), true);
    let how = Attention { scale: 0.3, causal: true, window: None, keys: None };
    for (shape, how) in
        [([1, 2, 41, 33], how), ([2, 1, 9, 64], Attention { window: Some(5), ..how }), ([1, 1, 1, 200], how)]
    {
        let inputs = ["q", "k", "v"].map(|name| floats(name, &shape, -1.0, 1.0));
        check(
            format!("attention {shape:?} {how:?}"),
            &inputs,
            &|x| x[0].attention(&x[1], &x[2], None, how),
            true,
        );
    }
    let rows = [floats("x", &[300, 32], -1.0, 1.0), floats("q", &[3, 4, 8, 8], -0.4, 0.4)];
    check("butterfly of many rows".into(), &rows, &|x| x[0].butterfly(&x[1]), true);
    // Factors of every kind, a prime, and more numbers than threads.
    for k in [1, 7, 12, 97, 256, 300] {
        let inputs = [
            floats("x", &[150, 2 * k], -1.0, 1.0),
            floats("phases", &[3, k], -3.0, 3.0),
            floats("reflections", &[2, k, 2], 0.2, 1.0),
        ];
        let order = Tensor::from_u32((0..k as u32).rev().collect(), &[k]).unwrap();
        for inverse in [false, true] {
            let map = |x: &[Tensor]| {
                let order = order.to_device(x[0].device())?;
                if inverse {
                    x[0].unitary_inverse(&x[1], &x[2], &order)
                } else {
                    x[0].unitary(&x[1], &x[2], &order)
                }
            };
            check(format!("unitary of {k}, inverse {inverse}"), &inputs, &map, true);
        }
    }
    check("cayley of 40".into(), &[floats("r", &[3, 40, 40], -1.0, 1.0)], &|x| x[0].cayley(), true);
    faults(&on);
}

/// Products of matrices, around tiles and pieces of k.
pub fn products(gpu: &Gpu) {
    let on = Device::Cuda(gpu.clone());
    let check =
        |what: String, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>, gradients: bool| {
            close_on(&on, &what, inputs, f, gradients);
        };
    for (m, k, n) in [
        (0, 3, 2),
        (2, 0, 3),
        (1, 1, 1),
        (63, 17, 65),
        (64, 16, 64),
        (65, 33, 129),
        (3, 1500, 5),
        (130, 40, 7),
    ] {
        for (ta, tb) in [(false, false), (false, true), (true, false)] {
            let a = floats("a", &if ta { [k, m] } else { [m, k] }, -1.0, 1.0);
            let b = floats("b", &if tb { [n, k] } else { [k, n] }, -1.0, 1.0);
            check(
                format!("matmul {m} {k} {n} {ta} {tb}"),
                &[a, b],
                &|x| match (ta, tb) {
                    (true, _) => x[0].matmul_tn(&x[1]),
                    (_, true) => x[0].matmul_nt(&x[1]),
                    _ => x[0].matmul(&x[1]),
                },
                true,
            );
        }
    }
    let batch = [floats("a", &[5, 1, 9, 20], -1.0, 1.0), floats("b", &[3, 20, 11], -1.0, 1.0)];
    check("matmul in batches".into(), &batch, &|x| x[0].matmul(&x[1]), true);
    let narrow = [floats("x", &[70, 40], -1.0, 1.0)];
    let w = floats("w", &[90, 40], -1.0, 1.0).to_dtype(DType::Bf16).unwrap();
    check(
        "linear with narrow weights".into(),
        &narrow,
        &|x| x[0].linear(&w.to_device(x[0].device())?, None),
        true,
    );
    let with_bias =
        [floats("x", &[70, 40], -1.0, 1.0), floats("w", &[90, 40], -1.0, 1.0), floats("b", &[90], -1.0, 1.0)];
    check("linear".into(), &with_bias, &|x| x[0].linear(&x[1], Some(&x[2])), true);
}

/// Compares value and gradients on a device with those of the CPU, to rounding.
fn close_on(
    on: &Device,
    what: &str,
    inputs: &[Tensor],
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    gradients: bool,
) {
    let of = |device: &Device| {
        run(device, inputs, f, gradients).unwrap_or_else(|e| panic!("{what} on {device}: {e}"))
    };
    compare(what, &of(on), &of(&Device::Cpu), Tolerance::DEVICE_F32);
}

/// A small network in training on a GPU.
pub struct Perceptron {
    params: BTreeMap<String, Tensor>,
    x: Tensor,
    labels: Tensor,
    adam: Adam,
}

impl Perceptron {
    pub fn new(gpu: &Gpu) -> Self {
        let on = Device::Cuda(gpu.clone());
        let there = |x: Tensor| x.to_device(&on).unwrap();
        let shapes: [(&str, &[usize]); 4] =
            [("w1", &[20, 12]), ("b1", &[20]), ("w2", &[4, 20]), ("b2", &[4])];
        let params =
            shapes.into_iter().map(|(name, shape)| (name.into(), there(floats(name, shape, -0.4, 0.4))));
        let labels = Tensor::from_u32((0..16).map(|i| i % 4).collect(), &[16]).unwrap();
        let x = there(floats("x", &[16, 12], -1.0, 1.0));
        Self { params: params.collect(), x, labels: there(labels), adam: Adam::new(0.05) }
    }

    /// A step; the loss before it, which stays on the GPU.
    pub fn step(&mut self) -> Tensor {
        let p = &self.params;
        let (loss, grads) = grad(p, || {
            let hidden = self.x.linear(&p["w1"], Some(&p["b1"]))?.relu()?;
            hidden.linear(&p["w2"], Some(&p["b2"]))?.cross_entropy(&self.labels)
        })
        .unwrap();
        self.adam.step(&mut self.params, &grads).unwrap();
        loss
    }
}

/// Labels and indices that are none: an error at the next copy to the host, once.
fn faults(on: &Device) {
    let there = |x: Tensor| x.to_device(on).unwrap();
    let logits = there(floats("logits", &[3, 4], -1.0, 1.0));
    let labels = |labels: [u32; 3]| there(Tensor::from_u32(labels.into(), &[3]).unwrap());
    let error = |result: Result<Tensor>| result.unwrap().to_f32().unwrap_err().to_string();
    let message = error(logits.cross_entropy(&labels([0, 4, 1])));
    assert_eq!(message, "label 1 is 4; it must be below 4, the number of classes");
    assert!(logits.cross_entropy(&labels([0, 3, 1])).unwrap().to_f32().is_ok(), "the fault is gone");
    assert!(error(logits.cross_entropy(&labels([u32::MAX; 3]))).contains("labels that count"));
    let message = error(logits.index_select(0, &labels([2, 1, 3])));
    assert_eq!(message, "index 2 is 3; it must be below 3, the size of the axis");
    let of = |name, shape: &[usize]| there(floats(name, shape, 0.5, 1.0));
    let message =
        error(of("x", &[2, 6]).unitary(&of("phases", &[3, 3]), &of("v", &[2, 3, 2]), &labels([0, 3, 1])));
    assert_eq!(message, "index 1 is 3; it must be below 3, the size of the axis");
}

/// Scans over some of the steps, one after another, put together.
fn in_stretches(scan: &Scan, x: &Tensor, parameters: &Parameters, lengths: &[usize]) -> Result<Scanned> {
    let mut stretch = Stretch::first();
    let (mut spikes, mut potential, mut membrane) = (vec![], vec![], vec![]);
    for (i, x) in x.split(lengths, 0)?.iter().enumerate() {
        if i > 0 {
            stretch = stretch.next()?;
        }
        let now = scan.run_stretch(x, None, parameters, &stretch)?;
        spikes.push(now.spikes);
        potential.push(now.potential);
        membrane.extend(now.membrane);
    }
    let whole = |parts: &[Tensor]| Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0);
    let membrane = if membrane.is_empty() { None } else { Some(whole(&membrane)?) };
    Ok(Scanned { spikes: whole(&spikes)?, potential: whole(&potential)?, membrane })
}

/// Scans of every dialect, over steps and batches around the edges, at once and in stretches: equal in every bit to those
/// at once on the CPU, parameters' gradients to rounding.
pub fn scans(gpu: &Gpu) -> usize {
    let on = Device::Cuda(gpu.clone());
    let base = Scan::lif();
    let resets = [Reset::Subtract, Reset::To(0.1), Reset::None];
    let acts = [Acts::SameStep, Acts::NextStep, Acts::BeforeNextStep, Acts::Corrected];
    let mut spikes = 0;
    let sizes: [(usize, usize, usize, &[usize]); 4] =
        [(1, 1, 1, &[1]), (2, 1, 3, &[1, 1]), (7, 3, 90, &[3, 1, 3]), (12, 2, 150, &[1, 1, 5, 5])];
    for (steps, batch, neurons, lengths) in sizes {
        for reset in resets {
            for acts in acts {
                for detach in [true, false] {
                    for (current, adaptive, membrane) in
                        [(false, false, true), (true, true, false), (true, false, true)]
                    {
                        let scan = Scan { reset, acts, detach, membrane, rest: 0.05, ..base };
                        // Every second parameter has a number for each neuron.
                        let size = |i: usize| if i.is_multiple_of(2) { neurons } else { 1 };
                        let numbers =
                            [(0.7, 0.95), (0.8, 1.2), (0.5, 0.9), (0.4, 0.8), (0.6, 0.9), (0.05, 0.2)];
                        let mut inputs = vec![floats("x", &[steps, batch, neurons], -0.2, 1.1)];
                        for (i, (low, high)) in numbers.into_iter().enumerate() {
                            let there = match i {
                                3 => current,
                                4 | 5 => adaptive,
                                _ => true,
                            };
                            if there {
                                inputs.push(floats(&format!("p{i}"), &[size(i)], low, high));
                            }
                        }
                        let parameters = |x: &[Tensor]| Parameters {
                            decay: x[1].clone(),
                            gain: x[2].clone(),
                            threshold: x[3].clone(),
                            current_decay: current.then(|| x[4].clone()),
                            adaptation: adaptive.then(|| (x[x.len() - 2].clone(), x[x.len() - 1].clone())),
                            recurrent: None,
                        };
                        let f = |cut: bool, x: &[Tensor]| {
                            let out = match cut {
                                false => scan.run(&x[0], &parameters(x))?,
                                true => in_stretches(&scan, &x[0], &parameters(x), lengths)?,
                            };
                            let y = out.spikes.add(&out.potential.mul_scalar(0.3)?)?;
                            out.membrane.map_or(Ok(y.clone()), |v| y.add(&v.mul_scalar(0.7)?))
                        };
                        let what = format!("{scan:?} {steps} {batch} {neurons} {current} {adaptive}");
                        let of = |cut: bool, device: &Device| {
                            let found = run(device, &inputs, &|x| f(cut, x), true);
                            found.unwrap_or_else(|e| panic!("{what}: {e}"))
                        };
                        let want = of(false, &Device::Cpu);
                        for cut in [false, true] {
                            let (what, got) = (format!("{what}, in stretches: {cut}"), of(cut, &on));
                            // The gradient by the currents is in the CPU's order, too; sums over samples are not.
                            let first = |found: &Found| (found.0.clone(), found.1[..1].to_vec());
                            compare(&what, &first(&got), &first(&want), Tolerance::new(0.0, 0.0));
                            compare(&what, &got, &want, Tolerance::DEVICE_F32);
                        }
                        let there: Vec<Tensor> = inputs.iter().map(|x| x.to_device(&on).unwrap()).collect();
                        let fired = scan.run(&there[0], &parameters(&there)).unwrap().spikes;
                        spikes += fired.sum_all().unwrap().to_scalar().unwrap() as usize;
                    }
                }
            }
        }
    }
    let held = [floats("x", &[1, 2, 40], 0.0, 0.6)];
    let f = |x: &[Tensor]| {
        let numbers = Parameters::new(0.9, 1.0, DType::F32)?;
        let [decay, gain, threshold] =
            [numbers.decay, numbers.gain, numbers.threshold].map(|t| t.to_device(x[0].device()).unwrap());
        let numbers =
            Parameters { decay, gain, threshold, current_decay: None, adaptation: None, recurrent: None };
        base.run_held(&x[0], 9, &numbers).map(|out| out.spikes)
    };
    let of = |device: &Device| run(device, &held, &f, true).unwrap();
    compare("held", &of(&on), &of(&Device::Cpu), Tolerance::DEVICE_F32);
    recurrent_scans(&on);
    spikes
}

/// Scans with recurrent weights, whose sums are exact: a product and a scan of one step in turns, equal in every bit.
fn recurrent_scans(on: &Device) {
    for (steps, adaptive) in [(1, false), (2, true), (9, false), (9, true)] {
        let n = 30;
        let weights: Vec<f32> = (0..n * n).map(|i| (i * 29 % 33) as f32 / 64.0 - 0.25).collect();
        let numbers = [0.9, 1.0, 1.0, 0.8, 0.1].map(|x| Tensor::full(&[1], x, DType::F32).unwrap());
        let mut inputs =
            vec![floats("x", &[steps, 2, n], -0.1, 1.6), Tensor::from_f32(weights, &[n, n]).unwrap()];
        inputs.extend(numbers.into_iter().take(if adaptive { 5 } else { 3 }));
        let f = |x: &[Tensor]| {
            let numbers = Parameters {
                decay: x[2].clone(),
                gain: x[3].clone(),
                threshold: x[4].clone(),
                current_decay: None,
                adaptation: adaptive.then(|| (x[5].clone(), x[6].clone())),
                recurrent: Some(x[1].clone()),
            };
            let out = Scan { membrane: true, ..Scan::lif() }.run(&x[0], &numbers)?;
            out.spikes.add(&out.membrane.expect("asked for").mul_scalar(0.5)?)
        };
        let of = |device: &Device| run(device, &inputs, &f, true).unwrap();
        let (got, want) = (of(on), of(&Device::Cpu));
        compare("recurrent", &(got.0.clone(), vec![]), &(want.0.clone(), vec![]), Tolerance::new(0.0, 0.0));
        compare("recurrent", &got, &want, Tolerance::DEVICE_F32);
        let heard = want.1[1].to_f32().unwrap();
        assert_eq!(heard.iter().any(|&g| g != 0.0), steps > 1, "recurrent weights matter");
    }
}

/// Optimisers change parameters on a GPU as on the CPU, and their state comes back.
pub fn optimizers(gpu: &Gpu) {
    let on = Device::Cuda(gpu.clone());
    let make: [fn() -> Box<dyn Optimizer>; 3] = [
        || Box::new(Adam::new(0.1)),
        || Box::new(Adam::decoupled(0.1, 0.05)),
        || Box::new(Sgd::new(0.1, 0.9)),
    ];
    for make in make {
        let train = |device: &Device| {
            let start = floats("w", &[300], -1.0, 1.0).to_device(device).unwrap();
            let (mut params, mut optimizer) = (BTreeMap::from([("w".to_string(), start.clone())]), make());
            for _ in 0..5 {
                let (_, grads) = grad(&params, || params["w"].mul(&params["w"])?.mean_all()).unwrap();
                optimizer.step(&mut params, &grads).unwrap();
            }
            assert_ne!(start.to_f32().unwrap(), params["w"].to_f32().unwrap(), "others keep what they hold");
            (params["w"].to_device(&Device::Cpu).unwrap(), optimizer.state().unwrap())
        };
        let ((got, state), (want, there)) = (train(&on), train(&Device::Cpu));
        assert_eq!(got.to_f32().unwrap(), want.to_f32().unwrap());
        assert_eq!(state.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
        for (name, tensor) in &state {
            assert_close(&tensor.to_device(&Device::Cpu).unwrap(), &there[name], Tolerance::new(0.0, 0.0));
        }
    }
}
