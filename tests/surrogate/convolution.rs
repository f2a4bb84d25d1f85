//! Convolutions of spikes with max pooling: against operations on tensors, and against PyTorch.

use ransnn::Result;
use ransnn::learn::surrogate::{Encoded, Gradient, Loss, Model};
use ransnn::snn::neurons::{Fires, Lif};
use ransnn::snn::scan::{Spikes, spike_conv2d};
use ransnn::snn::{Conv2d, Init, Network, Rule};
use ransnn::tensor::{DType, Surrogate, Tensor, grad, safetensors};
use ransnn::units::Ms;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Numbers of -1 to 1, by the shape alone, of which no two sums are equal: which is the largest is then no matter of rounding.
fn numbers(shape: &[usize], dtype: DType) -> Tensor {
    let n: usize = shape.iter().product();
    let values = (0..n).map(|i| (1.7 * (i * i + 13 * n) as f64).sin()).collect();
    Tensor::from_f64(values, shape).unwrap().to_dtype(dtype).unwrap()
}

/// Spikes `[2, 19, columns]`; where wanted they count 1.25, as after dropout.
fn spikes(columns: usize, count: f64, dtype: DType) -> Tensor {
    let fires = |i: usize| if i * 7919 % 101 < 23 { count } else { 0.0 };
    let values = (0..38 * columns).map(fires).collect();
    Tensor::from_f64(values, &[2, 19, columns]).unwrap().to_dtype(dtype).unwrap()
}

/// The geometries of the tests: kernels, strides, paddings and windows that leave something over or not.
fn geometries() -> Vec<Conv2d> {
    let of =
        |input: [usize; 3], outputs: usize, (kernel, stride, padding): (usize, usize, usize), max_pool| {
            let side = |side| Conv2d::side(side, kernel, stride, padding).unwrap() / max_pool;
            let output = [outputs, side(input[1]), side(input[2])];
            Conv2d::new(&input, &output, kernel, stride, padding, 1, max_pool).unwrap()
        };
    vec![
        of([2, 9, 8], 5, (3, 1, 0), 1),
        of([3, 9, 8], 17, (3, 1, 1), 2),
        of([1, 12, 11], 16, (5, 2, 2), 2),
        of([4, 7, 7], 33, (4, 3, 2), 1),
        of([2, 8, 9], 3, (1, 1, 0), 3),
        of([20, 8, 8], 4, (5, 1, 2), 4),
        of([1, 9, 9], 2, (2, 3, 1), 1),
    ]
}

type Named = BTreeMap<String, Tensor>;

fn gradients(p: &Named, run: impl Fn(&Named) -> Result<Tensor>) -> Result<(Tensor, Vec<(String, Tensor)>)> {
    let mut out = None;
    let (_, grads) = grad(p, || {
        let y = run(p)?;
        out = Some(y.clone());
        y.mul(&numbers(y.shape(), y.dtype()))?.sum_all()
    })?;
    let each = p.keys().map(|path| Ok((path.clone(), grads.get(path)?.clone()))).collect::<Result<_>>()?;
    Ok((out.unwrap(), each))
}

fn differ(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_f64().unwrap(), b.to_f64().unwrap());
    let most = a.iter().fold(0f64, |most, x| most.max(x.abs()));
    assert!(most > 0.0 && a.len() == b.len());
    a.iter().zip(&b).fold(0f64, |off, (a, b)| off.max((a - b).abs())) / most
}

#[test]
fn equals_a_convolution_and_the_largest_of_its_windows() -> Result<()> {
    for g in geometries() {
        for (dtype, within) in [(DType::F64, 1e-12), (DType::F32, 3e-6)] {
            for (count, biased) in [(1.0, true), (1.25, false)] {
                let columns = g.input.iter().product();
                let mut p = Named::from([
                    ("w".into(), numbers(&[g.output[0], g.input[0], g.kernel, g.kernel], dtype)),
                    ("b".into(), numbers(&[g.output[0]], dtype)),
                    ("x".into(), spikes(columns, count, dtype)),
                ]);
                if !biased {
                    p.remove("b");
                }
                let apart = gradients(&p, |p| {
                    let images = p["x"].reshape(&[&[38], &g.input[..]].concat())?;
                    let all = images.conv2d(&p["w"], p.get("b"), g.stride, g.padding)?;
                    all.max_pool2d(g.max_pool, g.max_pool)?.reshape(&[2, 19, g.output.iter().product()])
                })?;
                let lists = Arc::new(Spikes::of(&p["x"])?);
                let together =
                    gradients(&p, |p| spike_conv2d(&lists, Some(&p["x"]), (&p["w"], p.get("b")), &g))?;
                assert!(differ(&apart.0, &together.0) < within, "{g:?}");
                for ((path, want), (_, got)) in apart.1.iter().zip(&together.1) {
                    let off = differ(want, got);
                    assert!(off < within, "{path} of {g:?} in {dtype}: {off}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn threads_change_nothing() -> Result<()> {
    for g in &geometries()[1..3] {
        let p = Named::from([
            ("w".into(), numbers(&[g.output[0], g.input[0], g.kernel, g.kernel], DType::F32)),
            ("x".into(), spikes(g.input.iter().product(), 1.0, DType::F32)),
        ]);
        let lists = Arc::new(Spikes::of(&p["x"])?);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (_, grads) = pool
                .install(|| gradients(&p, |p| spike_conv2d(&lists, Some(&p["x"]), (&p["w"], None), g)))
                .unwrap();
            grads.into_iter().map(|(_, grad)| grad.to_f32().unwrap()).collect::<Vec<_>>()
        };
        let one = with(1);
        assert!(one == with(2) && one == with(3));
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let g = geometries()[1];
    let lists = Arc::new(Spikes::of(&spikes(3 * 9 * 8, 1.0, DType::F32))?);
    let (weights, bias) = (numbers(&[17, 3, 3, 3], DType::F32), numbers(&[17], DType::F32));
    let fails = |lists: &Arc<Spikes>, weights: &Tensor, bias: Option<&Tensor>, g: &Conv2d| {
        spike_conv2d(lists, None, (weights, bias), g).is_err()
    };
    assert!(!fails(&lists, &weights, Some(&bias), &g));
    assert!(fails(&lists, &bias, Some(&bias), &g));
    assert!(fails(&lists, &weights, Some(&weights), &g));
    assert!(fails(&Arc::new(Spikes::of(&spikes(5, 1.0, DType::F32))?), &weights, None, &g));
    assert!(fails(&lists, &weights, None, &Conv2d { pool: 2, ..g }));
    assert!(fails(&lists, &weights, None, &Conv2d { max_pool: 17, ..g }));
    Ok(())
}

/// 1 × 10 × 9 pixels, held - 3 × 5 × 4 - 5 × 3 × 2 - 3, each convolution followed by the largest of 2 × 2; made by
/// `tests/fixtures/surrogate/max_pool.py`.
#[test]
fn spikes_loss_and_gradients_are_those_of_pytorch() -> Result<()> {
    let file = safetensors::File::open(Path::new("tests/fixtures/surrogate/max_pool.safetensors"))?;
    let load = |name: &str| file.tensor(name)?.to_dtype(DType::F32);
    let listed = |name: &str| Ok::<_, ransnn::Error>(Init::Listed(load(name)?.to_f32()?));
    let lif = Lif { decay: 0.6, fires: Fires::Above, ..Lif::default() };
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", [1, 10, 9]);
    let first = net.population("first", [3, 5, 4], lif);
    let second = net.population("second", [5, 3, 2], lif);
    let third = net.population("third", 3, lif);
    let conv = |kernel, padding| Rule::Conv2d { kernel, stride: 1, padding, pool: 1, max_pool: 2 };
    net.connect(pixels, first, conv(3, 1))
        .name("first")
        .weights(listed("first.weights")?)
        .bias(listed("first.bias")?);
    net.connect(first, second, conv(2, 1))
        .name("second")
        .weights(listed("second.weights")?)
        .bias(listed("second.bias")?);
    let turned = load("third.weights")?.transpose(0, 1)?.to_f32()?;
    net.connect(second, third, Rule::Dense)
        .name("third")
        .weights(Init::Listed(turned))
        .bias(listed("third.bias")?);
    let gradient = Gradient::of(Surrogate::FastSigmoid { slope: 5.0 });
    let model = Model::new(&net.build(0)?, third, false, gradient)?;
    let labels = load("y")?.to_f32()?.into_iter().map(|y| y as u32).collect();
    let (labels, x) = (Tensor::from_u32(labels, &[3])?, load("x")?.reshape(&[3, 90])?);
    let mut counts = vec![];
    let (loss, grads) = grad(&model, || {
        let pass = model.forward_in_training(&Encoded::Constant(x.clone(), 8), None)?;
        for spikes in pass.hidden.iter().map(|layer| &layer.spikes).chain([&pass.outputs]) {
            counts.push(spikes.sum(&[0])?.to_f32()?);
        }
        Loss::CeCount.of(&pass.outputs, &labels)
    })?;
    for (counts, name) in counts.iter().zip(["first.spikes", "second.spikes", "count"]) {
        assert_eq!(counts, &load(name)?.to_f32()?, "{name}");
    }
    assert!((loss.to_scalar()? - f64::from(load("loss")?.to_f32()?[0])).abs() < 1e-5);
    for name in
        ["first", "second", "third"].iter().flat_map(|p| [format!("{p}.weights"), format!("{p}.bias")])
    {
        let mut want = load(&format!("grad.{name}"))?;
        if name == "third.weights" {
            want = want.transpose(0, 1)?;
        }
        let off = differ(&want, grads.get(&format!("projection.{name}"))?);
        assert!(off < 1e-5, "{name}: {off}");
    }
    Ok(())
}
