//! The scan against differences of its smooth twin, against the engine's neurons, and against bad input.

use ransnn::snn::Neuron;
use ransnn::snn::neurons::{self, Alpha, Lif, ResetActs, Synaptic};
use ransnn::snn::scan::{Acts, Parameters, Reset, Scan, spike_product};
use ransnn::tensor::check::{Case, Tolerance, assert_close, gradcheck, random};
use ransnn::tensor::{DType, Surrogate, Tensor, grad};
use std::collections::BTreeMap;

/// Gradients by everything, of a scan whose spikes are smooth.
fn case(scan: Scan, shape: [usize; 3], current: bool, adaptive: bool, recurrent: bool) -> Case {
    let [_, _, n] = shape;
    let name = |what: &str| format!("scan {what}");
    let mut inputs = vec![
        random(&name("x"), &shape, -0.4, 1.2).unwrap(),
        random(&name("decay"), &[n], 0.5, 0.95).unwrap(),
        random(&name("gain"), &[1], 0.7, 1.2).unwrap(),
        random(&name("threshold"), &[n], 0.6, 1.1).unwrap(),
    ];
    if current {
        inputs.push(random(&name("alpha"), &[1], 0.4, 0.8).unwrap());
    }
    if adaptive {
        inputs.push(random(&name("rho"), &[n], 0.4, 0.9).unwrap());
        inputs.push(random(&name("strength"), &[1], 0.1, 0.4).unwrap());
    }
    if recurrent {
        inputs.push(random(&name("recurrent"), &[n, n], -0.5, 0.5).unwrap());
    }
    let what = format!("{scan:?} {shape:?} current {current} adaptive {adaptive} recurrent {recurrent}");
    let scan = Scan { smooth: true, detach: false, membrane: true, ..scan };
    Case::new(what, inputs, move |inputs| {
        let mut rest = inputs[4..].iter().cloned();
        let parameters = Parameters {
            decay: inputs[1].clone(),
            gain: inputs[2].clone(),
            threshold: inputs[3].clone(),
            current_decay: current.then(|| rest.next().unwrap()),
            adaptation: adaptive.then(|| (rest.next().unwrap(), rest.next().unwrap())),
            recurrent: recurrent.then(|| rest.next().unwrap()),
        };
        let out = scan.run(&inputs[0], &parameters)?;
        // All three outputs take part, each with weights of its own.
        let weigh = |y: &Tensor, name: &str| y.mul(&random(name, y.shape(), 0.5, 1.5)?);
        let sum = weigh(&out.spikes, "spikes")?.add(&weigh(&out.potential, "potential")?)?;
        sum.add(&weigh(out.membrane.as_ref().unwrap(), "membrane")?)
    })
}

fn resets() -> Vec<(Reset, Acts)> {
    let mut all = vec![(Reset::None, Acts::SameStep)];
    for reset in [Reset::Subtract, Reset::To(0.0), Reset::To(-0.3)] {
        all.extend([Acts::SameStep, Acts::NextStep, Acts::BeforeNextStep].map(|acts| (reset, acts)));
    }
    all
}

#[test]
fn gradients_are_those_of_the_smooth_twin() {
    // Those with kinks or jumps can be differentiated by differences only away from them; they are compared with
    // their smooth functions elsewhere.
    let smooth = |s: &Surrogate| {
        !matches!(s, Surrogate::Boxcar { .. } | Surrogate::LeakyBoxcar { .. } | Surrogate::SignedStep { .. })
    };
    for surrogate in Surrogate::ALL.into_iter().filter(smooth) {
        for (reset, acts) in resets() {
            let scan = Scan { surrogate, reset, acts, ..Scan::lif() };
            for (current, adaptive, recurrent) in
                [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
            {
                let case = case(scan, [4, 1, 2], current, adaptive, recurrent);
                gradcheck(&case, Tolerance::new(2e-6, 1e-5)).unwrap();
            }
        }
    }
}

#[test]
fn steps_are_those_of_the_engines_neurons() {
    let x = random("currents", &[40, 3, 70], -0.9, 2.5).unwrap().to_dtype(DType::F32).unwrap();
    let models: Vec<Box<dyn Neuron>> = vec![
        Box::new(Lif::default()),
        Box::new(Lif::snntorch(0.9)),
        Box::new(Lif::snntorch_zero(0.9)),
        Box::new(Lif::lapicque(5.0, 2.0, 1.0)),
        Box::new(Lif { reset: neurons::Reset::To(0.0), ..Lif::lapicque(5.0, 2.0, 1.0) }),
        Box::new(Lif::spikingjelly(2.0, true, Some(-0.2))),
        Box::new(Lif::spikingjelly(2.0, false, None)),
        Box::new(Lif::spikingjelly_if(Some(0.0))),
        Box::new(Lif { reset: neurons::Reset::None, ..Lif::default() }),
        Box::new(Synaptic::new(0.5, 0.9)),
        Box::new(Synaptic { reset: neurons::Reset::To(0.0), ..Synaptic::new(0.5, 0.9) }),
        Box::new(Synaptic { acts: ResetActs::SameStep, ..Synaptic::new(0.5, 0.9) }),
        Box::new(Synaptic {
            acts: ResetActs::SameStep,
            reset: neurons::Reset::To(0.0),
            ..Synaptic::new(0.5, 0.9)
        }),
    ];
    for model in models {
        let (scan, parameters) = Scan::of(&*model, Surrogate::StraightThrough, true, DType::F32).unwrap();
        let out = Scan { membrane: true, ..scan }.run(&x, &parameters).unwrap();
        let (spikes, membrane) = (out.spikes.to_f32().unwrap(), out.membrane.unwrap().to_f32().unwrap());
        assert!(spikes.iter().sum::<f32>() > 100.0, "{model:?} fires");
        let mut state: Vec<Vec<f32>> = model.state().iter().map(|s| vec![s.initial; 210]).collect();
        let mut fired = vec![0u8; 210];
        for t in 0..40 {
            let mut lent: Vec<&mut [f32]> = state.iter_mut().map(Vec::as_mut_slice).collect();
            model.step(&x.as_f32().unwrap()[t * 210..][..210], &mut lent, &mut fired);
            let ours: Vec<u8> = spikes[t * 210..][..210].iter().map(|&s| s as u8).collect();
            assert_eq!(ours, fired, "{model:?} at step {t}");
            assert_eq!(membrane[t * 210..][..210], state[0], "{model:?} at step {t}");
        }
    }
}

#[test]
fn models_without_a_gradient_are_refused_by_name() {
    let refused = |model: &dyn Neuron| {
        Scan::of(model, Surrogate::StraightThrough, true, DType::F32).unwrap_err().to_string()
    };
    assert!(refused(&Lif { refractory_steps: 2, ..Lif::default() }).contains("refractory"));
    let alpha = Alpha::new(0.8, 0.7);
    assert!(refused(&alpha).contains("`alpha`"));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let parameters = Parameters::new(0.9, 1.0, DType::F32).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap();
    assert!(Scan::lif().run(&zeros(&[3, 2]), &parameters).is_err());
    assert!(Scan::lif().run(&zeros(&[0, 2, 2]), &parameters).is_err());
    let wrong = Parameters { decay: zeros(&[3]), ..parameters.clone() };
    assert!(Scan::lif().run(&zeros(&[3, 2, 2]), &wrong).is_err());
    let wrong = Parameters { recurrent: Some(zeros(&[2, 3])), ..parameters.clone() };
    assert!(Scan::lif().run(&zeros(&[3, 2, 2]), &wrong).is_err());
    assert!(Scan::lif().run(&Tensor::zeros(&[3, 2, 2], DType::F64).unwrap(), &parameters).is_err());
    assert!(spike_product(&zeros(&[3, 2]), &zeros(&[3, 2]), None).is_err());
}

#[test]
fn products_of_spikes_are_products() {
    let x = random("spikes", &[4, 3, 9], -1.0, 1.0).unwrap();
    let w = random("weights", &[9, 70], -1.0, 1.0).unwrap();
    // Spikes, and numbers with zeros among them.
    let spikes =
        x.greater_equal(&Tensor::full(&[1], 0.6, DType::F64).unwrap()).unwrap().to_dtype(DType::F64).unwrap();
    for x in [spikes.clone(), spikes.mul(&x).unwrap()] {
        let (ours, theirs) = (spike_product(&x, &w, None).unwrap(), x.matmul(&w).unwrap());
        assert_close(&ours, &theirs, Tolerance::new(1e-12, 1e-12));
        let bias = random("bias", &[70], -1.0, 1.0).unwrap();
        let case = Case::new("spike_product", vec![x, w.clone(), bias], |inputs| {
            spike_product(&inputs[0], &inputs[1], Some(&inputs[2]))
        });
        gradcheck(&case, Tolerance::GRADIENT).unwrap();
    }
    let bytes = spikes.to_dtype(DType::U8).unwrap();
    assert_eq!(
        spike_product(&bytes, &w, None).unwrap().to_f64().unwrap(),
        spike_product(&spikes, &w, None).unwrap().to_f64().unwrap()
    );
}

#[test]
fn threads_change_nothing() {
    let x = random("x", &[20, 6, 130], -0.3, 0.9).unwrap().to_dtype(DType::F32).unwrap();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let params = std::collections::BTreeMap::from([
                ("x".to_string(), x.clone()),
                ("beta".to_string(), Tensor::full(&[1], 0.9, DType::F32).unwrap()),
            ]);
            let (_, grads) = grad(&params, || {
                let mut parameters = Parameters::new(0.0, 1.0, DType::F32)?;
                parameters.decay = params["beta"].clone();
                Scan::lif().run(&params["x"], &parameters)?.spikes.sum_all()
            })
            .unwrap();
            (grads.get("x").unwrap().to_f32().unwrap(), grads.get("beta").unwrap().to_f32().unwrap())
        })
    };
    let one = run(1);
    assert!(one.1[0] != 0.0);
    assert!(one == run(3));
}

/// A current that is held is one that is copied into every step, forwards and backwards.
#[test]
fn a_held_current_equals_its_copies() {
    let values = (0..2 * 70).map(|i| (i * 37 % 101) as f32 / 90.0 - 0.2).collect();
    let x = Tensor::from_f32(values, &[1, 2, 70]).unwrap();
    let mut numbers = Parameters::new(0.9, 1.0, DType::F32).unwrap();
    numbers.current_decay = Some(Tensor::full(&[1], 0.5, DType::F32).unwrap());
    for scan in [Scan::lif(), Scan::integrator(), Scan::spikingjelly(Some(0.0), false)] {
        let scan = Scan { membrane: true, ..scan };
        let inputs =
            BTreeMap::from([("x".to_string(), x.clone()), ("decay".to_string(), numbers.decay.clone())]);
        let pass = |held: bool| {
            let mut outputs = vec![];
            let (_, grads) = grad(&inputs, || {
                let numbers = Parameters { decay: inputs["decay"].clone(), ..numbers.clone() };
                let out = match held {
                    true => scan.run_held(&inputs["x"], 9, &numbers)?,
                    false => scan.run(&inputs["x"].broadcast_to(&[9, 2, 70])?, &numbers)?,
                };
                let membrane = out.membrane.expect("asked for");
                outputs = [&out.spikes, &membrane].map(|t| t.to_f32().unwrap()).to_vec();
                membrane.mul(&out.spikes)?.sum_all()?.add(&membrane.sum_all()?)
            })
            .unwrap();
            let grads = ["x", "decay"].map(|name| grads.get(name).unwrap().to_f32().unwrap());
            (outputs, grads)
        };
        let (held, copied) = (pass(true), pass(false));
        assert!(held.0[0].iter().any(|&s| s > 0.0) && held.1[0].iter().any(|&g| g != 0.0));
        assert!(held == copied, "{scan:?}");
    }
    numbers.recurrent = Some(Tensor::zeros(&[70, 70], DType::F32).unwrap());
    assert!(Scan::lif().run_held(&x, 9, &numbers).is_err());
    numbers.recurrent = None;
    assert!(Scan::lif().run_held(&x, 0, &numbers).is_err());
    assert!(Scan::lif().run_held(&x.broadcast_to(&[3, 2, 70]).unwrap(), 9, &numbers).is_err());
}
