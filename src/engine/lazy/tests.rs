//! Crossings against closed forms and against a search on a fine grid.

use super::dynamics::{Arrival, Dynamics, Listener, Nobody, State};
use crate::snn::linear::{constant_response, exponential_response};
use crate::snn::{Adaptation, Kernel, Linear};
use proptest::prelude::*;

fn linear(receptors: Vec<Kernel>) -> Linear {
    Linear {
        tau: 20.0,
        rest: -65.0,
        drive: 0.0,
        threshold: -50.0,
        reset: -60.0,
        refractory: 2.0,
        receptors,
        adaptation: vec![],
    }
}

const DT: f64 = 0.5;

/// Writes down when a neuron fires.
#[derive(Default)]
struct Times(Vec<f64>);

impl Listener for Times {
    fn weight(&mut self, event: &mut Arrival) -> f64 {
        event.weight
    }
    fn spike(&mut self, time: f64) {
        self.0.push(time);
    }
}

fn arrival(time: f64, receptor: u16, weight: f64) -> Arrival {
    Arrival { time: time / DT, weight, receptor, through: 0 }
}

/// Spike times in ms of one neuron; events are (ms, receptor, weight).
fn spikes(linear: &Linear, events: &[(f64, u16, f64)], end: f64) -> Vec<f64> {
    let dynamics = Dynamics::new(linear, DT, &vec![true; linear.receptors.len()]);
    let mut state = dynamics.initial(1);
    let mut events: Vec<_> =
        events.iter().map(|&(t, receptor, weight)| arrival(t, receptor, weight)).collect();
    let mut times = Times::default();
    dynamics.run(&mut state, 0, &mut events, end / DT, &mut times);
    times.0.iter().map(|t| t * DT).collect()
}

/// Potential at `t` ms, without a threshold.
fn potential(linear: &Linear, events: &[(f64, u16, f64)], t: f64) -> f64 {
    let free = Linear { threshold: f64::INFINITY, ..linear.clone() };
    let dynamics = Dynamics::new(&free, DT, &vec![true; linear.receptors.len()]);
    let mut state = dynamics.initial(1);
    let past = events.iter().filter(|e| e.0 <= t);
    let mut events: Vec<_> = past.map(|&(t, receptor, weight)| arrival(t, receptor, weight)).collect();
    dynamics.run(&mut state, 0, &mut events, t / DT, &mut Nobody);
    dynamics.rest + dynamics.membrane(&state, 0, t / DT)
}

#[test]
fn a_constant_drive_fires_at_the_times_of_the_closed_form() {
    // From v₀, the threshold is reached after τ ln((v∞ − v₀) / (v∞ − θ)).
    let driven = Linear { drive: 1.0, ..linear(vec![]) };
    let after = |from: f64| 20.0 * ((-45.0 - from) / (-45.0 + 50.0f64)).ln();
    let times = spikes(&driven, &[], 500.0);
    assert!(times.len() > 10);
    for (k, time) in times.iter().enumerate() {
        let want = after(-65.0) + k as f64 * (2.0 + after(-60.0));
        assert!((time - want).abs() < 1e-10, "{k}: {time}, want {want}");
    }
    // Without a leak: (θ − v₀) / drive.
    let perfect = Linear { tau: f64::INFINITY, ..driven };
    let times = spikes(&perfect, &[], 100.0);
    assert!(
        times.len() == 8
            && times.iter().enumerate().all(|(k, t)| (t - (15.0 + 12.0 * k as f64)).abs() < 1e-10)
    );
    // A drive that stays below fires never.
    assert_eq!(spikes(&Linear { drive: 0.74, ..linear(vec![]) }, &[], 1e4), [0.0; 0]);
}

#[test]
fn a_current_that_is_switched_acts_while_it_is_on() {
    let switched = linear(vec![Kernel::Constant { gain: 1.0 }]);
    let times = spikes(&switched, &[(10.0, 0, 1.0), (70.0, 0, -1.0)], 500.0);
    let first = 10.0 + 20.0 * (20.0 / 5.0f64).ln();
    assert!((times[0] - first).abs() < 1e-10, "{times:?}");
    assert!(times.len() == 2 && times.iter().all(|t| *t < 70.0), "{times:?}");
}

#[test]
fn the_shortest_excursion_is_found_and_a_near_miss_is_not() {
    for kernel in [
        Kernel::Exponential { tau: 5.0, gain: 1.0 },
        Kernel::Exponential { tau: 20.0, gain: 1.0 },
        Kernel::Alpha { tau: 5.0, gain: 1.0 },
        Kernel::Alpha { tau: 20.0 + 1e-9, gain: 1.0 },
    ] {
        // The peak of a unit response, by golden section.
        let unit = linear(vec![kernel]);
        let (mut a, mut b) = (0.0, 60.0);
        for _ in 0..200 {
            let (x, y) = (a + 0.381_966_011_250_105 * (b - a), a + 0.618_033_988_749_895 * (b - a));
            let at = |t: f64| potential(&unit, &[(0.0, 0, 1.0)], t);
            if at(x) > at(y) { b = y } else { a = x }
        }
        let peak = potential(&unit, &[(0.0, 0, 1.0)], a) + 65.0;
        let weight = 15.0 / peak;
        let above = spikes(&unit, &[(0.0, 0, weight * (1.0 + 1e-10))], 200.0);
        assert_eq!(above.len(), 1, "{kernel:?}");
        assert!((above[0] - a).abs() < 1e-2, "{kernel:?}: {above:?}, peak at {a}");
        assert_eq!(spikes(&unit, &[(0.0, 0, weight * (1.0 - 1e-10))], 200.0), [0.0; 0], "{kernel:?}");
    }
}

#[test]
fn jumps_are_lost_in_the_refractory_period_and_currents_are_not() {
    let both = linear(vec![Kernel::Jump { gain: 1.0 }, Kernel::Exponential { tau: 5.0, gain: 1.0 }]);
    // A spike at 10; until 12, its end included, jumps are lost.
    for (time, lost) in [(11.0, true), (12.0, true), (12.0 + 1e-9, false)] {
        let times = spikes(&both, &[(10.0, 0, 30.0), (time, 0, 30.0)], 100.0);
        assert_eq!(times, if lost { vec![10.0] } else { vec![10.0, time] });
    }
    let with = [(10.0, 0, 30.0), (11.0, 1, 8.0)];
    let times = spikes(&both, &with, 100.0);
    assert_eq!((times.len(), times[0]), (2, 10.0));
    // From 12 on, the same as a current that begins there with what is left of it.
    let later = [(0.0, 0, 5.0 * (12.0f64 / 20.0).exp()), (12.0, 1, 8.0 * (-0.2f64).exp())];
    assert!((times[1] - spikes(&both, &later, 100.0)[0]).abs() < 1e-9, "{times:?}");
}

#[test]
fn simultaneous_events_act_together() {
    let jumps = linear(vec![Kernel::Jump { gain: 1.0 }]);
    assert_eq!(spikes(&jumps, &[(3.0, 0, 16.0), (3.0, 0, -2.0)], 50.0), [0.0; 0]);
    assert_eq!(spikes(&jumps, &[(3.0, 0, 8.0), (3.0, 0, 8.0)], 50.0), [3.0]);
    // Exactly the threshold.
    assert_eq!(spikes(&jumps, &[(3.0, 0, 15.0)], 50.0), [3.0]);
}

#[test]
fn what_an_epoch_is_cut_into_changes_nothing() {
    let exponential = Linear { drive: 0.3, ..linear(vec![Kernel::Exponential { tau: 5.0, gain: 1.0 }]) };
    let dynamics = Dynamics::new(&exponential, DT, &[true]);
    let events: Vec<_> = (0..200).map(|k| arrival((f64::from(k) * 1.7 + 0.3) * DT, 0, 1.5)).collect();
    let run = |ends: &[f64]| -> (Vec<f64>, State) {
        let mut state = dynamics.initial(1);
        let (mut events, mut times, mut from) = (events.clone(), Times::default(), 0);
        for &end in ends {
            let to = events.partition_point(|event| event.time < end);
            dynamics.run(&mut state, 0, &mut events[from..to], end, &mut times);
            from = to;
        }
        (times.0, state)
    };
    let (whole, _) = run(&[400.0]);
    let pieces: Vec<f64> = (1..=400).map(f64::from).collect();
    let (cut, _) = run(&pieces);
    assert!(whole.len() > 10);
    assert_eq!(whole.len(), cut.len());
    assert!(whole.iter().zip(&cut).all(|(a, b)| (a - b).abs() < 1e-9), "{whole:?} {cut:?}");
}

/// Spikes of an adapting neuron under a constant drive, by the text book: potential and threshold as functions of the time
/// since the last spike, the first place on a fine grid where they have met, and bisection.
fn adapting(linear: &Linear, end: f64) -> Vec<f64> {
    let [Adaptation::Current { tau: tau_w, size: b }, Adaptation::Threshold { tau: tau_t, size: a }] =
        linear.adaptation[..]
    else {
        panic!("one of each");
    };
    let leak = 1.0 / linear.tau;
    // At the beginning of the stretch: potential, adaptation current, shift.
    let (mut start, mut from, mut w, mut shift) = (0.0, linear.rest, 0.0, 0.0);
    let mut times = vec![];
    loop {
        let over = |s: f64| {
            let v = linear.rest
                + (from - linear.rest) * (-leak * s).exp()
                + linear.drive * constant_response(s, leak)
                - w * exponential_response(s, leak, 1.0 / tau_w);
            v >= linear.threshold + shift * (-s / tau_t).exp()
        };
        let Some(after) = (1..200_000).map(|k| f64::from(k) * 1e-3).find(|&s| start + s > end || over(s))
        else {
            return times;
        };
        if start + after > end {
            return times;
        }
        let (mut low, mut high) = (after - 1e-3, after);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if over(middle) { high = middle } else { low = middle }
        }
        times.push(start + high);
        let pause = linear.refractory;
        w = (w * (-high / tau_w).exp() + b) * (-pause / tau_w).exp();
        shift = (shift * (-high / tau_t).exp() + a) * (-pause / tau_t).exp();
        (start, from) = (start + high + pause, linear.reset);
    }
}

#[test]
fn spikes_that_raise_the_threshold_come_when_the_closed_form_says() {
    for (tau, tau_w, tau_t, b, a) in [
        (20.0, 100.0, 50.0, 0.0, 3.0),
        (20.0, 30.0, 20.0, 0.0, 6.0), // the threshold decays as fast as the membrane
        (10.0, 100.0, 4.0, 0.05, 5.0),
        (30.0, 8.0, 200.0, 0.4, 1.5),
    ] {
        let adaptation =
            vec![Adaptation::Current { tau: tau_w, size: b }, Adaptation::Threshold { tau: tau_t, size: a }];
        let linear = Linear { tau, drive: 60.0 / tau, adaptation, ..linear(vec![]) };
        let (found, want) = (spikes(&linear, &[], 150.0), adapting(&linear, 150.0));
        assert!(want.len() > 5 && found.len() == want.len(), "{found:?} {want:?}");
        assert!(found.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?} {want:?}");
        // Intervals grow: it adapts.
        assert!(want[2] - want[1] > want[1] - want[0], "{want:?}");
    }
}

#[test]
fn the_potential_that_is_shown_does_not_move_with_the_threshold() {
    let adaptation = vec![Adaptation::Threshold { tau: 50.0, size: 3.0 }];
    let shifting = Linear { adaptation, ..linear(vec![Kernel::Jump { gain: 1.0 }]) };
    let dynamics = Dynamics::new(&shifting, DT, &[true]);
    let mut state = dynamics.initial(1);
    dynamics.run(&mut state, 0, &mut [arrival(10.0, 0, 20.0)], 40.0 / DT, &mut Nobody);
    // Reset at 10 to −60, held until 12, then 18 ms of decay to −65.
    let shown = dynamics.rest + dynamics.membrane(&state, 0, 30.0 / DT);
    assert!((shown - (-65.0 + 5.0 * (-18.0f64 / 20.0).exp())).abs() < 1e-12, "{shown}");
    // The threshold is −50 + 3 e^(−20/50) then: a jump to between does not fire.
    let level = -50.0 + 3.0 * (-0.4f64).exp();
    for (to, fires) in [(level - 0.01, false), (level + 0.01, true)] {
        let events = [(10.0, 0, 20.0), (30.0, 0, to - shown)];
        assert_eq!(spikes(&shifting, &events, 35.0).len(), 1 + usize::from(fires));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// The first spike under random trains of excitation and inhibition is the first crossing of a fine grid, refined.
    #[test]
    fn first_crossings_are_those_of_a_search(
        taus in (0.5..60.0f64, 0.5..60.0f64, 2.0..40.0f64),
        kind in 0..4usize,
        drive in -0.2..0.7f64,
        events in prop::collection::vec((0.0..60.0f64, 0..2u16, 0.1..3.0f64), 1..25),
    ) {
        let (tau_e, tau_i, tau) = taus;
        let kernels = [Kernel::Exponential { tau: tau_e, gain: 1.0 }, Kernel::Alpha { tau: tau_e, gain: 1.0 }];
        let negative = [Kernel::Exponential { tau: tau_i, gain: -0.7 }, Kernel::Alpha { tau: tau_i, gain: -0.7 }];
        let receptors = vec![kernels[kind % 2], negative[kind / 2]];
        let drive = drive * 20.0 / tau;
        let linear = Linear { tau, drive, ..linear(receptors) };
        let mut events = events;
        events.sort_by(|a, b| a.0.total_cmp(&b.0));
        let found = spikes(&linear, &events, 100.0).first().copied();
        let over = |t: f64| potential(&linear, &events, t) >= -50.0;
        let coarse = (0..=10_000).map(|k| f64::from(k) * 0.01).find(|&t| over(t));
        match (found, coarse) {
            (Some(t), Some(after)) if t > after - 0.01 => {
                let (mut a, mut b) = (after - 0.01, after);
                for _ in 0..60 {
                    let middle = 0.5 * (a + b);
                    if over(middle) { b = middle } else { a = middle }
                }
                // The tolerance in potential over the slope; where it is flat, the potential itself decides.
                let near = (potential(&linear, &events, t) + 50.0).abs() < 1e-9;
                prop_assert!((t - b).abs() < 1e-7 || near, "{t}, want {b}");
            }
            // Between two points of the grid, an excursion that it does not see.
            (Some(t), _) => prop_assert!((potential(&linear, &events, t) + 50.0).abs() < 1e-9, "{t} {coarse:?}"),
            (None, Some(t)) => prop_assert!(t >= 100.0, "missed the crossing before {t}"),
            (None, None) => {}
        }
    }
}
