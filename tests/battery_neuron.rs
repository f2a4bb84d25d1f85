//! What every neuron model must do, whatever its dialect: stay at rest, follow its closed form, fire at the interval
//! that follows from it, keep its refractory period, and not care how many neurons are stepped together.

use ransnn::snn::Neuron;
use ransnn::snn::neurons::{
    AdEx, AdaptiveLif, Alpha, AlphaLif, CondLif, CurrentLif, Iaf, Integrator, Izhikevich, Lif, MultiSpikeLif,
    Order, Receptors, Reset, ResetActs, Scheme, Synaptic,
};
use ransnn::units::Ms;

/// Every model, with a threshold of 1 above its rest.
fn models() -> Vec<Box<dyn Neuron>> {
    let mut models = dimensionless();
    models.extend(physical());
    models
}

/// Those that simulations in both precisions are made of, in mV and ms, excited by a few mV or pA.
fn physical() -> Vec<Box<dyn Neuron>> {
    let dt = Ms(1.0);
    let iaf = Iaf { threshold: 1.0, reset: 0.0, ..Iaf::delta(Ms(20.0), dt) };
    let current = Iaf { threshold: -69.0, ..Iaf::psc_exp(Ms(10.0), Ms(2.0), 10.0, dt) };
    let adex =
        AdEx { capacitance: 5.0, leak: 0.5, slope: 0.5, threshold: -69.6, peak: -60.0, ..AdEx::nest(dt) };
    vec![
        Box::new(iaf),
        Box::new(current),
        Box::new(Iaf { receptors: Receptors::Two(Ms(2.0), Ms(10.0)), ..current }),
        Box::new(AlphaLif { threshold: -69.0, capacitance: 10.0, ..AlphaLif::nest(dt) }),
        Box::new(AdaptiveLif {
            threshold: -69.0,
            capacitance: 10.0,
            spike_current: 1.0,
            ..AdaptiveLif::new(dt)
        }),
        Box::new(CondLif { threshold: -59.0, ..CondLif::brette(dt) }),
        Box::new(AdEx { reset: -71.0, b: 1.0, refractory: Ms(3.0), ..adex }),
        Box::new(Izhikevich::regular_spiking(Ms(0.5))),
        Box::new(Izhikevich { scheme: Scheme::Published, ..Izhikevich::chattering(dt) }),
        Box::new(Integrator { threshold: Some(-69.0), ..Integrator::fire(dt) }),
        Box::new(Integrator { threshold: Some(1.0), reset: 0.0, ..Integrator::leaky(Ms(20.0), dt) }),
    ]
}

/// How far a model moves by itself from where it begins: the upswing of AdEx acts at rest, too, and the fixed point of
/// Izhikevich's equations is known up to rounding.
fn restlessness(model: &dyn Neuron) -> f32 {
    match model.kind() {
        "adex" => 0.5,
        "izhikevich" => 1e-3,
        _ => 0.0,
    }
}

fn dimensionless() -> Vec<Box<dyn Neuron>> {
    let nest = Lif::nest(Ms(10.0), Ms(2.0), 10.0, Ms(0.3), Ms(0.1));
    let with = |order| CurrentLif { order, ..Lif::norse(Ms(10.0), Ms(4.0), Ms(1.0)) };
    vec![
        Box::new(Lif::default()),
        Box::new(Lif::snntorch(0.9)),
        Box::new(Lif::snntorch_zero(0.9)),
        Box::new(Lif::lapicque(2.0, 2.5, 0.5)),
        Box::new(Lif::spikingjelly(2.0, true, Some(-0.2))),
        Box::new(Lif::spikingjelly(2.0, false, None)),
        Box::new(Lif::spikingjelly_if(Some(0.0))),
        Box::new(Lif::norse_box(Ms(10.0), Ms(1.0))),
        Box::new(Lif::mlgenn(Ms(20.0), true, Ms(1.0))),
        Box::new(Lif::nir(Ms(20.0), 2.0, 0.1, 1.1, 0.0, Ms(1.0))),
        Box::new(Lif { refractory_steps: 3, ..Lif::default() }),
        Box::new(with(Order::AddDriveDecay)),
        Box::new(with(Order::DecayAddDrive)),
        Box::new(with(Order::AddDecayDrive)),
        Box::new(with(Order::DriveDecayAdd)),
        Box::new(CurrentLif { threshold: -69.0, ..nest }),
        Box::new(Lif::spikingjelly_cuba(0.5, 0.75, None)),
        Box::new(Lif::sinabs_current(10.0, 5.0, false)),
        Box::new(Lif::sinabs(10.0, false)),
        Box::new(MultiSpikeLif { max_spikes: 1, min: Some(-0.5), ..Lif::sinabs_iaf() }),
        Box::new(Lif::spyx(0.9)),
        Box::new(Synaptic::new(0.8, 0.7)),
        Box::new(Synaptic { acts: ResetActs::SameStep, ..Synaptic::new(0.0, 0.9) }),
        Box::new(Alpha::new(0.85, 0.6)),
    ]
}

/// States by variable and neuron, and the spikes of each step.
struct Run {
    state: Vec<Vec<f32>>,
    spikes: Vec<Vec<u8>>,
    membrane: Vec<f64>,
}

/// Runs `neurons` neurons; `input(step, neuron)`. The membrane of neuron 0 is recorded.
fn run(model: &dyn Neuron, neurons: usize, steps: usize, input: impl Fn(usize, usize) -> f32) -> Run {
    let state = model.state().iter().map(|s| vec![s.initial; neurons]).collect();
    let mut run = Run { state, spikes: Vec::new(), membrane: Vec::new() };
    for t in 0..steps {
        let x: Vec<f32> = (0..neurons).map(|n| input(t, n)).collect();
        let mut spikes = vec![7; neurons];
        let mut state: Vec<&mut [f32]> = run.state.iter_mut().map(|s| &mut s[..]).collect();
        model.step(&x, &mut state, &mut spikes);
        run.spikes.push(spikes);
        run.membrane.extend(run.state[0].first().map(|&u| f64::from(u)));
    }
    run
}

/// Steps in which neuron 0 fires.
fn fires(run: &Run) -> Vec<usize> {
    (0..run.spikes.len()).filter(|&t| run.spikes[t][0] > 0).collect()
}

/// A bounded input without pattern.
fn wild(t: usize, n: usize) -> f32 {
    ((t * 7919 + n * 104_729) % 1009) as f32 / 300.0 - 1.0
}

fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-6 + 2e-5 * want.abs(), "{what}: {got}, want {want}");
}

#[test]
fn parameters_are_valid_and_documented() {
    for model in models() {
        model.validate().unwrap_or_else(|e| panic!("{model:?}: {e}"));
        assert!(model.params().iter().all(|p| !p.name.is_empty() && !p.doc.is_empty()));
        assert_eq!(model.state()[0].name, "membrane potential");
    }
}

#[test]
fn without_input_nothing_happens() {
    for model in models() {
        let quiet = run(&*model, 5, 50, |_, _| 0.0);
        assert!(quiet.spikes.iter().flatten().all(|&s| s == 0), "{model:?}");
        for (variable, spec) in quiet.state.iter().zip(model.state()) {
            let moved = variable.iter().map(|v| (v - spec.initial).abs()).fold(0.0, f32::max);
            assert!(moved <= restlessness(&*model), "{model:?}: {} moves by {moved}", spec.name);
        }
        // The same neurons do fire when driven.
        assert!(
            run(&*model, 5, 50, |t, n| 8.0 * wild(t, n)).spikes.iter().flatten().any(|&s| s > 0),
            "{model:?}"
        );
    }
}

#[test]
fn any_number_of_neurons_is_stepped_alike() {
    for model in models() {
        for neurons in [0, 1, 31, 32, 33, 255, 256, 257, 1000] {
            let together = run(&*model, neurons, 20, wild);
            for n in (0..neurons).step_by(1 + neurons / 7) {
                let alone = run(&*model, 1, 20, |t, _| wild(t, n));
                assert!(alone.spikes.iter().zip(&together.spikes).all(|(a, b)| a[0] == b[n]), "{model:?}");
                assert!(alone.state.iter().zip(&together.state).all(|(a, b)| a[0] == b[n]), "{model:?}");
            }
        }
    }
}

#[test]
fn lif_follows_its_closed_form() {
    // u(t) = u₀ + g x (1 − βᵗ) / (1 − β) under constant current from rest.
    let lifs =
        [Lif { rest: 0.3, ..Lif::default() }, Lif::snntorch(0.9), Lif::physical(Ms(20.0), 3.0, Ms(0.5))];
    for lif in lifs {
        let (beta, gain) = (f64::from(lif.decay), f64::from(lif.gain));
        let x = 0.9 * (1.0 - beta) / gain * (1.0 - f64::from(lif.rest)); // stays below the threshold
        for (t, u) in run(&lif, 1, 200, |_, _| x as f32).membrane.iter().enumerate() {
            let want = f64::from(lif.rest) + gain * x * (1.0 - beta.powi(t as i32 + 1)) / (1.0 - beta);
            close(*u, want, "membrane");
        }
    }
    let physical = Lif::physical(Ms(20.0), 3.0, Ms(0.5));
    close(run(&physical, 1, 2000, |_, _| 0.25).membrane[1999], 0.75, "R I");
}

#[test]
fn current_lif_follows_its_closed_form() {
    // One unit of input in step 0: c (βⁿ − αⁿ) / (β − α), n and a factor by the order of the updates.
    let base = CurrentLif { threshold: 10.0, ..Lif::norse(Ms(10.0), Ms(4.0), Ms(1.0)) };
    for (order, shift, factor) in [
        (Order::AddDriveDecay, 1, 1.0),
        (Order::DecayAddDrive, 1, 1.0),
        (Order::AddDecayDrive, 1, f64::from(base.current_decay)),
        (Order::DriveDecayAdd, 0, 1.0),
    ] {
        let membrane =
            run(&CurrentLif { order, ..base }, 1, 60, |t, _| if t == 0 { 1.0 } else { 0.0 }).membrane;
        let (alpha, beta) = (f64::from(base.current_decay), 1.0 - f64::from(base.leak));
        for (t, u) in membrane.iter().enumerate() {
            let n = t as i32 + shift;
            close(
                *u,
                factor * f64::from(base.coupling) * (beta.powi(n) - alpha.powi(n)) / (beta - alpha),
                "membrane",
            );
        }
    }
}

#[test]
fn nest_follows_the_differential_equation() {
    // C v̇ = −(C/τ_m) v + I₀ e^(−t/τ_s): v = I₀ τ_m τ_s / (C (τ_m − τ_s)) (e^(−t/τ_m) − e^(−t/τ_s)), exactly on the grid.
    let (tau_m, tau_s, c, dt) = (10.0, 2.0, 250.0, 0.1);
    let nest =
        CurrentLif { rest: 0.0, threshold: 1e6, ..Lif::nest(Ms(tau_m), Ms(tau_s), c, Ms(2.0), Ms(dt)) };
    let membrane = run(&nest, 1, 500, |t, _| if t == 0 { 1000.0 } else { 0.0 }).membrane;
    for (k, v) in membrane.iter().enumerate() {
        let t = dt * k as f64; // the input of step 0 acts from the next step on
        let want = 1000.0 * tau_m * tau_s / (c * (tau_m - tau_s)) * ((-t / tau_m).exp() - (-t / tau_s).exp());
        close(*v, want, "psp");
    }
    // Equal time constants: the limit, I₀ t e^(−t/τ) / C.
    let equal = CurrentLif { rest: 0.0, threshold: 1e6, ..Lif::nest(Ms(10.0), Ms(10.0), c, Ms(2.0), Ms(dt)) };
    for (k, v) in run(&equal, 1, 500, |t, _| if t == 0 { 1000.0 } else { 0.0 }).membrane.iter().enumerate() {
        let t = dt * k as f64;
        close(*v, 1000.0 * t / c * (-t / 10.0).exp(), "psp of equal time constants");
    }
}

#[test]
fn traces_of_snntorch_follow_their_closed_forms() {
    let pulse = |t: usize, _: usize| if t == 0 { 0.5 } else { 0.0 };
    let (alpha, beta) = (f64::from(0.8f32), f64::from(0.7f32));
    for (t, u) in run(&Synaptic::new(0.8, 0.7), 1, 40, pulse).membrane.iter().enumerate() {
        let n = t as i32 + 1;
        close(*u, 0.5 * (alpha.powi(n) - beta.powi(n)) / (alpha - beta), "synaptic");
    }
    let kappa = alpha.ln() / (beta.ln() - alpha.ln()) + 1.0;
    for (t, u) in run(&Alpha::new(0.8, 0.7), 1, 40, pulse).membrane.iter().enumerate() {
        close(*u, 0.5 * kappa * (alpha.powi(t as i32) - beta.powi(t as i32)), "alpha");
    }
}

#[test]
fn intervals_follow_from_the_closed_form() {
    // From a reset to 0, the threshold is reached after ln(1 − θ (1 − β) / (g x)) / ln β steps, rounded up.
    for (x, refractory_steps) in [(0.06, 0), (0.1, 0), (0.3, 0), (0.3, 4)] {
        let lif = Lif { reset: Reset::To(0.0), refractory_steps, ..Lif::default() };
        let beta = f64::from(lif.decay);
        let interval = ((1.0 - (1.0 - beta) / f64::from(x as f32)).ln() / beta.ln()).ceil() as usize;
        let times = fires(&run(&lif, 1, 1000, |_, _| x as f32));
        assert!(times.len() > 5 && times[0] + 1 == interval, "{times:?}, want {interval}");
        assert!(times.windows(2).all(|w| w[1] - w[0] == interval + refractory_steps as usize));
    }
    // Without leak, the rate is the input over the threshold, several spikes a step included.
    for x in [0.125f32, 0.75, 3.25] {
        let total: u32 =
            run(&Lif::sinabs_iaf(), 1, 800, |_, _| x).spikes.iter().map(|s| u32::from(s[0])).sum();
        assert_eq!(total as f32, (800.0 * x).floor());
    }
    let soft = Lif { reset: Reset::Subtract, ..Lif::spikingjelly_if(None) };
    assert_eq!(fires(&run(&soft, 1, 800, |_, _| 0.375)).len(), 300);
}

#[test]
fn the_refractory_period_is_kept() {
    for refractory_steps in [1u32, 2, 7] {
        let lif = Lif { refractory_steps, ..Lif::default() };
        let current = CurrentLif { refractory_steps, ..Lif::norse(Ms(10.0), Ms(4.0), Ms(1.0)) };
        for model in [&lif as &dyn Neuron, &current] {
            let run = run(model, 1, 300, |_, _| 50.0); // fires whenever it can
            let times = fires(&run);
            assert!(times.len() > 20, "{times:?}");
            assert!(times.windows(2).all(|w| w[1] - w[0] == refractory_steps as usize + 1));
            let held = |w: &[usize]| run.membrane[w[0]..w[1]].iter().all(|&u| u == run.membrane[w[0]]);
            assert!(times.windows(2).all(held), "{model:?}");
        }
    }
}

#[test]
fn spyx_fires_one_step_after_snntorch() {
    let late = run(&Lif::spyx(0.9), 1, 300, wild);
    let plain = run(&Lif::snntorch(0.9), 1, 300, wild);
    assert_eq!(late.membrane, plain.membrane);
    let times = fires(&plain);
    assert!(times.len() > 20);
    assert_eq!(fires(&late), times.iter().map(|t| t + 1).filter(|&t| t < 300).collect::<Vec<_>>());
}

#[test]
fn impossible_parameters_are_refused() {
    let lifs = [
        Lif { decay: 1.01, ..Lif::default() },
        Lif { decay: -0.1, ..Lif::default() },
        Lif { gain: f32::NAN, ..Lif::default() },
        Lif { threshold: f32::INFINITY, ..Lif::default() },
        Lif { threshold: 0.0, ..Lif::default() },
        Lif { reset: Reset::To(f32::NAN), ..Lif::default() },
        Lif { reset: Reset::To(1.5), ..Lif::default() },
        Lif { refractory_steps: 2, ..Lif::snntorch(0.9) },
        Lif { refractory_steps: u32::MAX, ..Lif::default() },
        Lif::with_tau(Ms(-1.0), Ms(1.0)),
        Lif::with_tau(Ms(f64::NAN), Ms(1.0)),
        Lif::spikingjelly(0.5, true, None),
    ];
    lifs.iter().for_each(|lif| assert!(lif.validate().is_err(), "{lif:?}"));
    assert!(CurrentLif { current_decay: 1.5, ..Lif::norse(Ms(10.0), Ms(4.0), Ms(1.0)) }.validate().is_err());
    assert!(Lif::nest(Ms(10.0), Ms(2.0), 0.0, Ms(2.0), Ms(0.1)).validate().is_err());
    assert!(MultiSpikeLif { max_spikes: 0, ..Lif::sinabs_iaf() }.validate().is_err());
    assert!(MultiSpikeLif { min: Some(2.0), ..Lif::sinabs_iaf() }.validate().is_err());
    assert!(Lif::spyx(1.5).validate().is_err());
    assert!(Synaptic { reset: Reset::To(0.5), ..Synaptic::new(0.8, 0.7) }.validate().is_err());
    assert!(Alpha::new(0.7, 0.7).validate().is_err());
}

#[test]
fn ties_go_as_the_dialect_says() {
    // One input of exactly the threshold.
    let at_threshold = |model: &dyn Neuron| fires(&run(model, 1, 2, |t, _| if t == 0 { 1.0 } else { 0.0 }));
    let fire: [&dyn Neuron; 5] = [
        &Lif::default(),
        &Lif::spikingjelly_if(None),
        &Lif::mlgenn(Ms(20.0), false, Ms(1.0)),
        &Lif::sinabs(10.0, false),
        &Lif::spikingjelly_cuba(0.5, 0.75, None),
    ];
    fire.iter().for_each(|model| assert_eq!(at_threshold(*model), [0], "{model:?}"));
    let stay: [&dyn Neuron; 5] = [
        &Lif::snntorch(1.0),
        &Lif { gain: 1.0, ..Lif::norse_box(Ms(10.0), Ms(1.0)) },
        &Lif { gain: 1.0, ..Lif::nir(Ms(20.0), 1.0, 0.0, 1.0, 0.0, Ms(1.0)) },
        &Lif::spyx(1.0),
        &Synaptic::new(0.0, 1.0),
    ];
    stay.iter().for_each(|model| assert_eq!(at_threshold(*model), [0usize; 0], "{model:?}"));
}

#[test]
fn both_precisions_agree() {
    for model in physical() {
        let (receptors, dt) = (model.receptors().len(), model.time_step());
        assert!(receptors > 0 && dt.is_some(), "{model:?}");
        let mut single: Vec<Vec<f32>> = model.state().iter().map(|s| vec![s.initial; 7]).collect();
        let mut double: Vec<Vec<f64>> = model.state().iter().map(|s| vec![s.initial.into(); 7]).collect();
        let (mut spikes, mut spikes_f64, mut total) = ([7; 7], [7; 7], 0);
        let mut together = [true; 7];
        for t in 0..60 {
            // Every receptor gets something; conductances and what stands for them stay positive.
            let x: Vec<Vec<f32>> = (0..receptors)
                .map(|r| (0..7).map(|n| 4.0 * (wild(t, n + 7 * r) + 1.0) / (r + 1) as f32).collect())
                .collect();
            let y: Vec<Vec<f64>> = x.iter().map(|x| x.iter().map(|&v| v.into()).collect()).collect();
            let inputs: Vec<&[f32]> = x.iter().map(|x| &x[..]).collect();
            let inputs_f64: Vec<&[f64]> = y.iter().map(|y| &y[..]).collect();
            let mut state: Vec<&mut [f32]> = single.iter_mut().map(|s| &mut s[..]).collect();
            model.advance(&inputs, &mut state, &mut spikes);
            let mut state: Vec<&mut [f64]> = double.iter_mut().map(|s| &mut s[..]).collect();
            model.advance_f64(&inputs_f64, &mut state, &mut spikes_f64).unwrap();
            for n in 0..7 {
                // A potential that rounding puts on the other side of the threshold parts the two for good.
                together[n] &= spikes[n] == spikes_f64[n];
                if together[n] {
                    let (got, want) = (f64::from(single[0][n]), double[0][n]);
                    // An upswing multiplies differences, too.
                    let allowance = if restlessness(&*model) > 0.0 { 2e-2 } else { 2e-3 };
                    let near = (got - want).abs() < allowance * (1.0 + want.abs());
                    assert!(near, "{model:?} step {t}: {got}, want {want}");
                    total += u32::from(spikes[n]);
                }
            }
        }
        assert!(total > 5 && together.iter().filter(|&&t| t).count() >= 5, "{model:?}: {total} {together:?}");
    }
}
