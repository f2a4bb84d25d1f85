//! A layer behind spikes as one operation, against a product and a scan.

use ransnn::Result;
use ransnn::snn::scan::{Acts, Parameters, Reset, Scan, Scanned, Spikes, spike_product};
use ransnn::tensor::{DType, Surrogate, Tensor, grad};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A sequence `[T, B, K]` in which a third of the sources fires.
fn spikes(shape: [usize; 3]) -> Tensor {
    let n: usize = shape.iter().product();
    let values = (0..n).map(|i| f32::from(u8::from(i * 7919 % 101 < 33))).collect();
    Tensor::from_f32(values, &shape).unwrap()
}

fn numbers(shape: &[usize], scale: f64) -> Tensor {
    let n: usize = shape.iter().product();
    let values = (0..n).map(|i| ((i * 6_700_417 + 13) % 1009) as f64 / 504.5 - 1.0);
    let values = values.map(|x| (scale * x) as f32).collect();
    Tensor::from_f32(values, shape).unwrap()
}

#[test]
fn equals_a_product_and_a_scan() -> Result<()> {
    let x = spikes([5, 21, 131]);
    let lists = Arc::new(Spikes::of(&x)?);
    let same = Scan::spikingjelly(Some(0.0), false);
    let late = Scan { acts: Acts::NextStep, reset: Reset::To(0.1), detach: false, ..Scan::lif() };
    for (scan, biased, current) in [
        (Scan { membrane: true, ..Scan::lif() }, true, false),
        (same, false, false),
        (late, true, false),
        (Scan { detach: false, ..Scan::lif() }, true, true),
    ] {
        let mut parameters = BTreeMap::from([
            ("w".to_string(), numbers(&[131, 70], 0.3)),
            ("b".to_string(), numbers(&[70], 0.1)),
            ("decay".to_string(), numbers(&[70], 0.2).add_scalar(0.7)?),
            ("gain".to_string(), Tensor::full(&[1], 1.1, DType::F32)?),
            ("theta".to_string(), Tensor::full(&[1], 0.9, DType::F32)?),
            ("x".to_string(), x.clone()),
        ]);
        if !biased {
            parameters.remove("b");
        }
        let of = |p: &BTreeMap<String, Tensor>| -> Result<Parameters> {
            let mut of = Parameters::new(0.0, 0.0, DType::F32)?;
            (of.decay, of.gain, of.threshold) = (p["decay"].clone(), p["gain"].clone(), p["theta"].clone());
            of.current_decay = if current { Some(Tensor::full(&[1], 0.5, DType::F32)?) } else { None };
            Ok(of)
        };
        let weight = numbers(&[5, 21, 70], 1.0);
        let loss = |out: &Scanned| -> Result<Tensor> {
            let shown = out.membrane.as_ref().unwrap_or(&out.spikes);
            out.spikes.mul(&weight)?.sum_all()?.add(&shown.mul(&weight)?.sum_all()?)
        };
        let mut seen = vec![];
        let apart = grad(&parameters, || {
            let currents = spike_product(&parameters["x"], &parameters["w"], parameters.get("b"))?;
            let out = scan.run(&currents, &of(&parameters)?)?;
            seen.push(out.spikes.to_f32()?);
            loss(&out)
        })?;
        let together = grad(&parameters, || {
            let weights = (&parameters["w"], parameters.get("b"));
            let (out, fired) =
                scan.run_behind(&lists, Some(&parameters["x"]), weights, &of(&parameters)?, None)?;
            seen.push(out.spikes.to_f32()?);
            assert_eq!(*fired, Spikes::of(&out.spikes)?);
            loss(&out)
        })?;
        assert!(seen[0] == seen[1] && seen[0].contains(&1.0) && seen[0].contains(&0.0));
        assert_eq!(apart.0.to_f32()?, together.0.to_f32()?);
        for (path, want) in apart.1.iter() {
            let (want, got) = (want.to_f32()?, together.1.get(path)?.to_f32()?);
            let most = want.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(most > 0.0, "{path} has no gradient");
            let off = want.iter().zip(&got).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
            assert!(off <= 1e-5 * most, "{path}: {off} of {most}");
        }
    }
    Ok(())
}

/// With this derivative gradients by weights know of the potentials nothing but who fired.
#[test]
fn potentials_in_16_bits_leave_spikes_as_they_are() -> Result<()> {
    let x = spikes([12, 9, 131]);
    let lists = Arc::new(Spikes::of(&x)?);
    let late = Scan { acts: Acts::NextStep, ..Scan::spikingjelly(Some(0.1), true) };
    let straight = Surrogate::StraightThrough;
    for (scan, exact) in [
        (Scan { surrogate: straight, membrane: true, ..Scan::lif() }, true),
        (Scan { surrogate: straight, ..Scan::spikingjelly(Some(0.0), true) }, true),
        (Scan { surrogate: straight, ..late }, true),
        (Scan { surrogate: straight, acts: Acts::BeforeNextStep, ..late }, true),
        (Scan::spikingjelly(Some(0.0), false), false),
        (Scan { detach: false, ..late }, false),
        (Scan { surrogate: Surrogate::FastSigmoid { slope: 5.0 }, ..Scan::lif() }, false),
    ] {
        let mut parameters = BTreeMap::from([
            // Sums of eighths meet the threshold often.
            (
                "w".to_string(),
                Tensor::from_f32(
                    (0..131 * 70).map(|i| (i * 31 % 9) as f32 / 8.0 - 0.5).collect(),
                    &[131, 70],
                )?,
            ),
            ("decay".to_string(), numbers(&[70], 0.2).add_scalar(0.7)?),
            ("theta".to_string(), Tensor::full(&[1], 0.875, DType::F32)?),
        ]);
        if exact {
            // Its gradient multiplies what is left of the potential, which is rounded.
            parameters.remove("decay");
        }
        let of = |p: &BTreeMap<String, Tensor>| -> Result<Parameters> {
            let mut of = Parameters::new(0.7, 0.0, DType::F32)?;
            of.threshold = p["theta"].clone();
            if let Some(decay) = p.get("decay") {
                of.decay = decay.clone();
            }
            Ok(of)
        };
        let weight = numbers(&[12, 9, 70], 1.0);
        for behind in [false, true] {
            let mut seen = vec![];
            let mut run = |half: bool| {
                let scan = Scan { half, ..scan };
                grad(&parameters, || {
                    let out = if behind {
                        scan.run_behind(&lists, None, (&parameters["w"], None), &of(&parameters)?, None)?.0
                    } else {
                        scan.run(&spike_product(&x, &parameters["w"], None)?, &of(&parameters)?)?
                    };
                    seen.push(out.spikes.to_f32()?);
                    let kind = if half { DType::Bf16 } else { DType::F32 };
                    assert_eq!(out.potential.dtype(), kind);
                    let shown = out.membrane.as_ref().unwrap_or(&out.spikes);
                    out.spikes.add(shown)?.mul(&weight)?.sum_all()
                })
            };
            let (whole, half) = (run(false)?, run(true)?);
            assert!(seen[0] == seen[1] && seen[0].contains(&1.0) && seen[0].contains(&0.0));
            assert_eq!(whole.0.to_f32()?, half.0.to_f32()?);
            for (path, want) in whole.1.iter() {
                let (want, got) = (want.to_f32()?, half.1.get(path)?.to_f32()?);
                let most = want.iter().fold(0f32, |most, x| most.max(x.abs()));
                let off = want.iter().zip(&got).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
                // Potentials have 8 digits; the gradient of the one threshold is a sum of parts that cancel.
                let allowed = if exact { 0.0 } else { 0.05 * most };
                assert!(most > 0.0 && off <= allowed, "{path}, behind {behind}, {scan:?}: {off} of {most}");
                assert!(exact || off > 0.0, "{path}: nothing was rounded");
            }
        }
    }
    let scan = Scan { half: true, ..Scan::lif() };
    let of_f64 = scan.run(&Tensor::zeros(&[2, 1, 3], DType::F64)?, &Parameters::new(0.9, 1.0, DType::F64)?);
    assert!(of_f64.unwrap_err().to_string().contains("f64 potentials in 16 bits"));
    let mut adaptive = Parameters::new(0.9, 1.0, DType::F32)?;
    let number = Tensor::full(&[1], 0.5, DType::F32)?;
    adaptive.adaptation = Some((number.clone(), number));
    let refused = scan.run(&Tensor::zeros(&[2, 1, 3], DType::F32)?, &adaptive);
    assert!(refused.unwrap_err().to_string().contains("thresholds that adapt"));
    let weights = numbers(&[131, 3], 0.1);
    let refused = scan.run_behind(&lists, None, (&weights, None), &adaptive, None);
    assert!(refused.unwrap_err().to_string().contains("thresholds that adapt"));
    Ok(())
}

#[test]
fn threads_change_nothing() -> Result<()> {
    let x = spikes([7, 40, 200]);
    let lists = Arc::new(Spikes::of(&x)?);
    let parameters = BTreeMap::from([("w".to_string(), numbers(&[200, 150], 0.2))]);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| -> Result<Vec<f32>> {
            let (_, grads) = grad(&parameters, || {
                let numbers = Parameters::new(0.9, 1.0, DType::F32)?;
                let (out, _) =
                    Scan::lif().run_behind(&lists, None, (&parameters["w"], None), &numbers, None)?;
                out.spikes.mul(&out.spikes)?.sum_all()
            })?;
            grads.get("w")?.to_f32()
        })
    };
    let one = with(1)?;
    assert!(one.iter().any(|&g| g != 0.0));
    assert!(one == with(2)? && one == with(3)?);
    Ok(())
}
