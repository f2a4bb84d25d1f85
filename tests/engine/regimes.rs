//! The four states of Brunel's network, at full size, told apart by what the paper tells them apart by; and Vogels &
//! Abbott's network with conductances.

use ransnn::engine::clock::statistics::{Statistics, kolmogorov_smirnov};
use ransnn::engine::{Options, Simulator};
use ransnn::snn::{Network, Pop, standard};
use ransnn::units::Ms;

/// Statistics of the first population, after a warm-up.
fn statistics(net: &Network, warm: f64, until: f64) -> Statistics {
    let mut simulator = Simulator::new(net, Options::default()).unwrap();
    simulator.record_spikes(Pop(0)).unwrap();
    simulator.run(Ms(until)).unwrap();
    let train = simulator.spikes(Pop(0)).unwrap();
    let step = |ms: f64| (ms / net.dt.0).round() as u64;
    Statistics::of(train, net.populations[0].size(), step(warm), step(until), net.dt)
}

/// Figure 8 of N. Brunel, J. Comput. Neurosci. 8, 183–208 (2000): neurons are clocks in step; or irregular, and the
/// population is stationary; or irregular, and the population oscillates, faster than they fire.
#[test]
fn the_four_states_of_brunels_network() {
    let state = |g, eta, seed| statistics(&standard::brunel(g, eta, seed).unwrap(), 100.0, 500.0);
    let inside = |value: Option<f64>, low: f64, high: f64| value.is_some_and(|v| (low..=high).contains(&v));
    let frequency = |s: &Statistics| s.oscillation.map(|f| f.0);

    let regular = state(3.0, 2.0, 1);
    assert!(regular.rate.0 > 250.0 && inside(regular.cv, 0.0, 0.05), "clocks: {:?}", summary(&regular));
    assert!(inside(regular.correlation, 0.15, 1.0), "synchronous: {:?}", summary(&regular));
    let (rate, beat) = (regular.rate.0, frequency(&regular).unwrap());
    assert!((beat - rate).abs() < 5.0, "one cycle, one spike: {:?}", summary(&regular));

    // 37.7 Hz in the paper.
    let stationary = state(5.0, 2.0, 1);
    assert!((36.5..38.8).contains(&stationary.rate.0), "{:?}", summary(&stationary));
    assert!(inside(stationary.cv, 0.36, 0.48), "irregular: {:?}", summary(&stationary));
    assert!(inside(stationary.correlation, 0.0, 0.04), "asynchronous: {:?}", summary(&stationary));

    let fast = state(6.0, 4.0, 1);
    assert!((52.0..66.0).contains(&fast.rate.0) && inside(fast.cv, 0.6, 1.1), "{:?}", summary(&fast));
    assert!(inside(frequency(&fast), 150.0, 210.0), "{:?}", summary(&fast));

    let slow = state(4.5, 0.9, 1);
    assert!((4.5..6.6).contains(&slow.rate.0), "{:?}", summary(&slow));
    assert!(inside(frequency(&slow), 15.0, 30.0), "{:?}", summary(&slow));

    for sparse in [&fast, &slow] {
        assert!(frequency(sparse).unwrap() > 2.5 * sparse.rate.0, "{:?}", summary(sparse));
    }

    // Synchrony: the state that is called asynchronous has least of it.
    for other in [&regular, &fast, &slow] {
        let (more, least) = (other.correlation.unwrap(), stationary.correlation.unwrap());
        assert!(more > 1.5 * least, "{:?} and {:?}", summary(other), summary(&stationary));
    }

    // Neurons differ between states more than between networks of one state.
    let again = state(5.0, 2.0, 2);
    let distance = |a: &Statistics, b: &Statistics| kolmogorov_smirnov(&a.rates, &b.rates).unwrap().distance;
    assert!(distance(&stationary, &again) < 0.05, "{}", distance(&stationary, &again));
    for other in [&regular, &fast, &slow] {
        assert!(distance(&stationary, other) > 0.5, "{}", distance(&stationary, other));
    }
    let irregularity = kolmogorov_smirnov(&stationary.cvs, &again.cvs).unwrap();
    assert!(irregularity.distance < 0.05, "{irregularity:?}");
    assert!(kolmogorov_smirnov(&stationary.cvs, &fast.cvs).unwrap().distance > 0.5);
}

/// What an assertion shows.
fn summary(s: &Statistics) -> String {
    format!(
        "rate {:.2}, CV {:?}, correlation {:?}, Fano {:?}, oscillation {:?}",
        s.rate.0, s.cv, s.correlation, s.fano, s.oscillation
    )
}

/// NEST 3.10, three seeds, 1 s: 19.4 ± 0.6 Hz, CV 1.62.
#[test]
fn conductances_keep_vogels_and_abbotts_network_going() {
    let all: Vec<Statistics> =
        (1..=3).map(|seed| statistics(&standard::vogels_abbott_coba(seed).unwrap(), 100.0, 1100.0)).collect();
    let mean = |f: &dyn Fn(&Statistics) -> f64| all.iter().map(f).sum::<f64>() / 3.0;
    let (rate, cv) = (mean(&|s| s.rate.0), mean(&|s| s.cv.unwrap()));
    assert!((rate - 19.4).abs() < 1.5 && (cv - 1.62).abs() < 0.15, "{rate} Hz, CV {cv}");
}
