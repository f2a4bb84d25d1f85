//! The models in physical units, in double precision, against closed forms and against integrations with far smaller
//! steps that are written out here.

use ransnn::snn::Neuron;
use ransnn::snn::neurons::{
    AdEx, AdaptiveLif, AlphaLif, CondLif, Coupling, Iaf, Integrator, Izhikevich, Receptors, Scheme,
};
use ransnn::units::Ms;

/// State variables after each step, and the steps with a spike; `input(step, receptor)`.
fn run(model: &dyn Neuron, steps: usize, input: impl Fn(usize, usize) -> f64) -> (Vec<Vec<f64>>, Vec<usize>) {
    model.validate().unwrap();
    let mut state: Vec<Vec<f64>> = model.state().iter().map(|s| vec![s.initial.into()]).collect();
    let (mut rows, mut train) = (Vec::new(), Vec::new());
    for k in 0..steps {
        let x: Vec<[f64; 1]> = (0..model.receptors().len()).map(|r| [input(k, r)]).collect();
        let x: Vec<&[f64]> = x.iter().map(|x| &x[..]).collect();
        let mut slices: Vec<&mut [f64]> = state.iter_mut().map(|v| &mut v[..]).collect();
        let mut spikes = [7];
        model.advance_f64(&x, &mut slices, &mut spikes).unwrap();
        assert!(spikes[0] <= 1);
        train.extend((spikes[0] == 1).then_some(k));
        rows.push(state.iter().map(|v| v[0]).collect());
    }
    (rows, train)
}

fn near(got: f64, want: f64, allowance: f64, what: &str) {
    assert!((got - want).abs() <= allowance, "{what}: {got}, want {want}");
}

/// One event of weight `w` on a receptor in step 0.
fn pulse(receptor: usize, w: f64) -> impl Fn(usize, usize) -> f64 {
    move |k, r| if k == 0 && r == receptor { w } else { 0.0 }
}

#[test]
fn alpha_synapses_follow_their_closed_form() {
    // v(t) = w e / (C τ_s) ∫₀ᵗ e^(−(t−s)/τ) s e^(−s/τ_s) ds; for τ_s = τ, w e / (C τ) t²/2 e^(−t/τ).
    let free = AlphaLif { threshold: 1e6, tau_inhibitory: Ms(10.0), ..AlphaLif::nest(Ms(0.1)) };
    let (rows, _) = run(&free, 400, pulse(0, 100.0));
    let largest = rows.iter().map(|row| row[1]).fold(0.0, f64::max);
    near(largest, 100.0, 1e-9, "the current peaks at its weight");
    let d = 1.0 / 2.0 - 1.0 / 10.0;
    for (k, row) in rows.iter().enumerate() {
        let t = 0.1 * k as f64; // the input of step 0 acts from its end on
        let (slow, fast) = ((-t / 10.0).exp(), (-t / 2.0).exp());
        let want = 100.0 * 1f64.exp() / (250.0 * 2.0) * (slow - (1.0 + d * t) * fast) / (d * d);
        near(row[0] + 70.0, want, 1e-12, "psp");
    }
    for (k, row) in run(&free, 400, pulse(1, -100.0)).0.iter().enumerate() {
        let t = 0.1 * k as f64;
        let want = -100.0 * 1f64.exp() / (250.0 * 10.0) * t * t / 2.0 * (-t / 10.0).exp();
        near(row[0] + 70.0, want, 1e-12, "psp of equal time constants");
    }
}

#[test]
fn integrators_follow_their_closed_forms() {
    // 50 pA on 250 pF: 0.2 mV/ms, so 15 mV in 75 ms, again and again; 2 ms refractory in between.
    let perfect = Integrator { refractory: Ms(2.0), ..Integrator::fire(Ms(0.1)) };
    let (_, train) = run(&perfect, 2000, |_, r| if r == 1 { 50.0 } else { 0.0 });
    // The 750th step may fall to either side of its own rounding.
    assert!(train.len() == 2 && (749..=750).contains(&train[0]), "{train:?}");
    assert_eq!(train[1] - train[0], 20 + train[0] + 1);
    // Jumps count at once.
    assert_eq!(run(&perfect, 50, |k, r| if r == 0 && k % 10 == 0 { 4.0 } else { 0.0 }).1, [30]);
    // A leaky integrator under a constant current: R I (1 − e^(−t/τ)), and never a spike.
    let leaky = Integrator::leaky(Ms(20.0), Ms(0.1));
    let (rows, train) = run(&leaky, 3000, |_, r| if r == 1 { 1000.0 } else { 0.0 });
    assert!(train.is_empty());
    for (k, row) in rows.iter().enumerate() {
        let t = 0.1 * (k + 1) as f64;
        near(row[0], 80.0 * (1.0 - (-t / 20.0).exp()), 1e-10, "leaky integrator");
    }
}

#[test]
fn without_adaptation_it_is_the_plain_neuron() {
    let plain = AdaptiveLif { spike_current: 0.0, spike_threshold: 0.0, ..AdaptiveLif::new(Ms(0.1)) };
    let iaf = Iaf {
        receptors: Receptors::Two(Ms(2.0), Ms(2.0)),
        ..Iaf::psc_exp(Ms(10.0), Ms(2.0), 250.0, Ms(0.1))
    };
    let input = |k: usize, r: usize| match r {
        0 if k.is_multiple_of(7) => 400.0,
        1 if k.is_multiple_of(13) => -150.0,
        2 => 200.0,
        _ => 0.0,
    };
    let ((rows, train), (want, want_train)) = (run(&plain, 3000, input), run(&iaf, 3000, input));
    assert!(train.len() > 10);
    assert_eq!(train, want_train);
    rows.iter().zip(&want).for_each(|(row, want)| near(row[0], want[0], 1e-9, "membrane"));
}

#[test]
fn adaptation_follows_its_closed_forms() {
    // One jolt, one spike; then w and ϑ decay, and w pulls the membrane down by −b/C K₁(t).
    let model = AdaptiveLif { refractory: Ms(0.0), ..AdaptiveLif::new(Ms(0.1)) };
    let jolt = |k: usize, r: usize| if k == 0 && r == 2 { 40_000.0 } else { 0.0 };
    let (rows, train) = run(&model, 1000, jolt);
    assert_eq!(train, [0]);
    for (k, row) in rows.iter().enumerate() {
        let t = 0.1 * k as f64;
        near(row[3], 40.0 * (-t / 100.0).exp(), 1e-10, "adaptation current");
        near(row[4], 2.0 * (-t / 50.0).exp(), 1e-12, "threshold shift");
        let pulled = ((-t / 10.0).exp() - (-t / 100.0).exp()) / (1.0 / 100.0 - 1.0 / 10.0);
        near(row[0] + 70.0, -40.0 / 250.0 * pulled, 1e-10, "membrane");
    }
    // Under a constant current, intervals grow and settle.
    let (_, train) = run(&model, 20_000, |_, r| if r == 2 { 600.0 } else { 0.0 });
    let intervals: Vec<usize> = train.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(
        intervals.len() > 20 && intervals[1] > intervals[0] && intervals[5] > intervals[1],
        "{intervals:?}"
    );
    let last = &intervals[intervals.len() - 5..];
    assert!(last.iter().max().unwrap() - last.iter().min().unwrap() <= 1, "{last:?}");
}

#[test]
fn conductances_are_integrated_to_fourth_order() {
    // Excitation and inhibition at 0 and 8 ms, no threshold; errors at 20 ms against steps of 1 µs.
    let at = |dt: f64| {
        let model = CondLif { threshold: 1e3, ..CondLif::brette(Ms(dt)) };
        let event = |k: usize, ms: f64| k + 1 == (ms / dt).round() as usize;
        let (rows, _) = run(&model, (20.0 / dt).round() as usize, |k, r| match r {
            0 if event(k, 0.8) || event(k, 8.0) => 60.0,
            1 if event(k, 4.0) => 67.0,
            _ => 0.0,
        });
        rows.last().unwrap()[0]
    };
    let exact = at(0.001);
    let errors = [0.8, 0.4, 0.2, 0.1].map(|dt| (at(dt) - exact).abs());
    assert!((exact + 60.0).abs() > 1.0, "{exact}");
    errors[..3].windows(2).for_each(|e| assert!((10.0..25.0).contains(&(e[0] / e[1])), "{errors:?}"));
    assert!(errors[3] < 1e-7, "{errors:?}");
}

#[test]
fn conductances_fire_and_rest_as_the_equations_say() {
    // g_e that is refilled each step to G: v → (g_L E_L + G E_e) / (g_L + G), above threshold for G > g_L/5.
    let hold = |g: f64| {
        move |k: usize, r: usize| {
            if r == 0 { if k == 0 { g } else { g * -(-0.1f64 / 5.0).exp_m1() } } else { 0.0 }
        }
    };
    let coba = CondLif::brette(Ms(0.1));
    let (rows, train) = run(&coba, 5000, hold(1.9));
    assert!(train.is_empty());
    // g decays within a step; its mean is what counts, up to the curvature of the decay over 0.1 ms.
    let g = 1.9 * (1.0 - (-0.02f64).exp()) / 0.02;
    near(rows[4999][0], -600.0 / (10.0 + g), 2e-3, "membrane under a constant conductance");
    let (_, train) = run(&coba, 5000, hold(4.0));
    assert!(train.len() > 3 && train.windows(2).all(|w| w[1] - w[0] > 50), "{train:?}");
    let (_, train) = run(&CondLif { current: 200.0, ..coba }, 5000, |_, _| 0.0);
    // τ 20 ms, v∞ −40 mV: 20 ln 2 = 13.86 ms, and 5 ms of refractoriness: 139 steps and 50.
    assert!(
        train.len() == 26 && train[0] == 138 && train.windows(2).all(|w| w[1] - w[0] == 189),
        "{train:?}"
    );
}

/// Brette & Gerstner's equations by Euler steps of 0.1 µs; times of spikes in ms.
fn adex(model: &AdEx, current: f64, end: f64) -> Vec<f64> {
    let h = 1e-4;
    let (mut v, mut w, mut held, mut spikes) = (model.rest, 0.0, 0.0, Vec::new());
    for k in 0..(end / h) as usize {
        let upswing = model.leak * model.slope * ((v.min(model.peak) - model.threshold) / model.slope).exp();
        let dv = (-model.leak * (v - model.rest) + upswing - w + current) / model.capacitance;
        let dw = (model.a * (v - model.rest) - w) / model.tau_w.0;
        w += h * dw;
        if held > 0.0 {
            held -= h;
        } else {
            v += h * dv;
        }
        if v >= model.peak {
            spikes.push(h * (k + 1) as f64);
            (v, w, held) = (model.reset, w + model.b, model.refractory.0);
        }
    }
    spikes
}

#[test]
fn adex_fires_when_the_equations_do() {
    let tonic = AdEx::nest(Ms(0.1));
    let bursting = AdEx { reset: -47.0, tau_w: Ms(120.0), ..tonic };
    let pausing = AdEx { refractory: Ms(3.0), ..tonic };
    for (model, current) in [(tonic, 1000.0), (bursting, 800.0), (pausing, 1000.0)] {
        let want = adex(&model, current, 300.0);
        let (_, train) = run(&AdEx { current, ..model }, 3000, |_, _| 0.0);
        assert!(want.len() > 5 && train.len().abs_diff(want.len()) <= 1, "{want:?} {train:?}");
        // Each spike is late by less than a step, or by what later spikes add to that.
        for (k, (time, step)) in want.iter().zip(&train).enumerate() {
            let got = 0.1 * (*step + 1) as f64;
            assert!((got - time).abs() <= 0.11 + 0.12 * k as f64, "spike {k}: {got}, want {time}");
        }
    }
    // A smaller step comes nearer.
    let want = adex(&tonic, 1000.0, 100.0);
    let last = |dt: f64| {
        let model = AdEx { current: 1000.0, ..AdEx::nest(Ms(dt)) };
        let (_, train) = run(&model, (100.0 / dt) as usize, |_, _| 0.0);
        (dt * (train[want.len() - 2] + 1) as f64 - want[want.len() - 2]).abs()
    };
    assert!(last(0.01) < 0.1, "{} {}", last(0.1), last(0.01));
}

#[test]
fn adex_synapses_are_currents_or_conductances() {
    // 100 nS at −70.6 mV towards 0 mV begins as 7060 pA; towards −85 mV it pulls down.
    let (currents, conductances) = (AdEx::nest(Ms(0.1)), AdEx::nest_cond(Ms(0.1)));
    let up = run(&currents, 3, pulse(0, 100.0)).0[1][0];
    assert!((up + 70.6 - 100.0 / 281.0 * 0.1 * (-0.25f64).exp()).abs() < 2e-3, "{up}");
    let up = run(&conductances, 3, pulse(0, 10.0)).0[1][0];
    assert!((up + 70.6 - 706.0 / 281.0 * 0.2 * (1.0 - (-0.5f64).exp())).abs() < 2e-2, "{up}");
    let down = run(&conductances, 20, pulse(1, 100.0)).0[19][0];
    assert!(down < -74.0, "{down}");
    assert!(matches!(conductances.synapses, Coupling::Conductance { .. }));
}

#[test]
fn izhikevich_is_the_published_script() {
    // The loop of the paper's figure 1, 1 ms steps, I = 10 from 100 ms on.
    let model = Izhikevich { scheme: Scheme::Published, ..Izhikevich::regular_spiking(Ms(1.0)) };
    let input = |k: usize, r: usize| if r == 0 && k >= 100 { 10.0 } else { 0.0 };
    let (mut v, mut u, mut want) = (-70.0f64, -14.0f64, Vec::new());
    for k in 0..1000 {
        let i = input(k, 0);
        v += 0.5 * (0.04 * v * v + 5.0 * v + 140.0 - u + i);
        v += 0.5 * (0.04 * v * v + 5.0 * v + 140.0 - u + i);
        u += 0.02 * (0.2 * v - u);
        if v >= 30.0 {
            want.push(k);
            (v, u) = (-65.0, u + 8.0);
        }
    }
    let (_, train) = run(&model, 1000, input);
    assert!(want.len() > 15 && want[0] > 100);
    assert_eq!(train, want);
    // Regular spiking adapts, fast spiking does not, chattering comes in bursts.
    let intervals = |model: Izhikevich| -> Vec<usize> {
        let (_, train) = run(&model, 10_000, |_, r| if r == 0 { 10.0 } else { 0.0 });
        train.windows(2).map(|w| w[1] - w[0]).collect()
    };
    let regular = intervals(Izhikevich::regular_spiking(Ms(0.1)));
    let fast = intervals(Izhikevich::fast_spiking(Ms(0.1)));
    let bursts = intervals(Izhikevich::chattering(Ms(0.1)));
    assert!(regular[0] * 3 / 2 < regular[5], "{regular:?}");
    assert!(fast.len() > regular.len() && fast[10].abs_diff(fast[20]) <= 3, "{fast:?}");
    assert!(bursts.iter().max() > bursts.iter().min().map(|least| 5 * least).as_ref(), "{bursts:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dt = Ms(0.1);
    let wrong: Vec<Box<dyn Neuron>> = vec![
        Box::new(CondLif { capacitance: 0.0, ..CondLif::brette(dt) }),
        Box::new(CondLif { tau_excitatory: Ms(-1.0), ..CondLif::brette(dt) }),
        Box::new(CondLif { reset: -50.0, ..CondLif::brette(dt) }),
        Box::new(CondLif { leak: f64::NAN, ..CondLif::brette(dt) }),
        Box::new(AdEx { slope: 0.0, ..AdEx::nest(dt) }),
        Box::new(AdEx { slope: 0.5, ..AdEx::nest(dt) }),
        Box::new(AdEx { reset: 1.0, ..AdEx::nest(dt) }),
        Box::new(AdEx { substeps: 0, ..AdEx::nest(dt) }),
        Box::new(Izhikevich { c: 30.0, ..Izhikevich::regular_spiking(dt) }),
        Box::new(AdaptiveLif { tau_threshold: Ms(0.0), ..AdaptiveLif::new(dt) }),
        Box::new(AdaptiveLif { spike_threshold: -1.0, ..AdaptiveLif::new(dt) }),
        Box::new(AlphaLif { tau_mem: Ms(f64::INFINITY), ..AlphaLif::nest(dt) }),
        Box::new(AlphaLif { refractory: Ms(-1.0), ..AlphaLif::nest(dt) }),
        Box::new(Integrator { reset: 0.0, ..Integrator::fire(dt) }),
        Box::new(Integrator { capacitance: -1.0, ..Integrator::leaky(Ms(20.0), dt) }),
    ];
    wrong.iter().for_each(|model| assert!(model.validate().is_err(), "{model:?}"));
    let message = wrong[0].validate().unwrap_err().to_string();
    assert_eq!(message, "capacitance is 0 pF; it must be above 0");
}
