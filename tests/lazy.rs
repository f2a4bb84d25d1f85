//! The clock without a grid against the clock with one, over the same descriptions.

use proptest::prelude::*;
use ransnn::engine::{Lazy, Options, Precision, Simulator};
use ransnn::snn::neurons::{AdEx, AdaptiveLif, AlphaLif, Iaf, Receptors};
use ransnn::snn::{Drive, Init, Network, Pop, Rule, Source};
use ransnn::units::{Hz, Ms};

/// Spikes (step, neuron) of some populations on the grid.
fn on_the_grid(net: &Network, pops: &[Pop], time: Ms) -> Vec<Vec<(u64, u32)>> {
    let options = Options { precision: Precision::Double, ..Options::default() };
    let mut simulator = Simulator::new(net, options).unwrap();
    pops.iter().for_each(|&pop| simulator.record_spikes(pop).unwrap());
    simulator.run(time).unwrap();
    pops.iter().map(|&pop| simulator.spikes(pop).unwrap().iter().collect()).collect()
}

/// A lazy run with its spikes recorded.
fn lazy<'n>(net: &'n Network, pops: &[Pop], time: Ms) -> Lazy<'n> {
    let mut lazy = Lazy::new(net).unwrap();
    pops.iter().for_each(|&pop| lazy.record_spikes(pop).unwrap());
    lazy.run(time).unwrap();
    lazy
}

/// A recurrent network of delta synapses whose input is on the grid.
#[derive(Clone, Debug)]
struct Jumps {
    sizes: (usize, usize),
    refractory_steps: u32,
    p: f64,
    weights: (f64, f64),
    delays: (u32, u32),
    input: Vec<(u64, u32)>,
    seed: u64,
}

/// A power of two, so that times on the grid are exact in milliseconds, too.
const DT: Ms = Ms(0.125);

impl Jumps {
    fn network(&self) -> (Network, [Pop; 2]) {
        let neuron = Iaf { refractory_steps: self.refractory_steps, ..Iaf::delta(Ms(20.0), DT) };
        let mut net = Network::simulation(DT);
        let input = net.source("input", 10, Source::Spikes(self.input.clone()));
        let exc = net.population("exc", self.sizes.0, neuron);
        let inh = net.population("inh", self.sizes.1, Iaf { tau_mem: Ms(10.0), reset: 0.0, ..neuron });
        net.initial(exc, "membrane potential", Init::Uniform { low: -5.0, high: 19.0 });
        let rule = Rule::FixedProbability { p: self.p };
        let strong = Init::Uniform { low: 5.0, high: 25.0 };
        net.connect(input, exc, Rule::FixedProbability { p: 0.5 }).weights(strong).delay(Ms(0.25));
        let (short, long) =
            (f64::from(self.delays.0) * DT.0, f64::from(self.delays.0 + self.delays.1) * DT.0);
        for pop in [exc, inh] {
            let excitation = Init::Normal { mean: self.weights.0, std: 1.0 };
            let delays = Init::Uniform { low: short, high: long };
            net.connect(exc, pop, rule.clone()).weights(excitation).delays(delays);
            let inhibition = Init::Uniform { low: -self.weights.1, high: 0.0 };
            net.connect(inh, pop, rule.clone()).weights(inhibition).delay(Ms(short));
        }
        (net.build(self.seed).unwrap(), [exc, inh])
    }
}

prop_compose! {
    fn jumps()(
        sizes in (1..40usize, 1..20usize),
        refractory_steps in prop::sample::select(vec![0u32, 1, 5, 16]),
        p in 0.05..0.9f64,
        weights in (2.0..12.0f64, 1.0..20.0f64),
        delays in (1..20u32, 0..30u32),
        mut input in prop::collection::vec((0..300u64, 0..10u32), 20..200),
        seed in any::<u64>(),
    ) -> Jumps {
        input.sort_unstable();
        input.dedup();
        Jumps { sizes, refractory_steps, p, weights, delays, input, seed }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// With delta synapses, no drive and everything on the grid, both clocks are exact.
    #[test]
    fn both_clocks_agree_spike_for_spike_where_both_are_exact(network in jumps()) {
        let (net, pops) = network.network();
        let time = Ms(80.0);
        let want = on_the_grid(&net, &pops, time);
        prop_assume!(want[0].len() > 5);
        let lazy = lazy(&net, &pops, time);
        for (pop, want) in pops.iter().zip(&want) {
            let train = lazy.spikes(*pop).unwrap();
            prop_assert!(train.times.iter().all(|t| (t / DT.0).fract() == 0.0), "off the grid");
            let got: Vec<_> = train.on_grid(DT).iter().collect();
            let first = got.iter().zip(want).position(|(a, b)| a != b);
            prop_assert_eq!(first.map(|i| (got[i], want[i])), None);
            prop_assert_eq!(got.len(), want.len());
        }
    }
}

#[test]
fn potentials_are_those_of_the_grid_where_both_are_exact() {
    let input = (0..300).map(|k| (k * 7 % 251, (k % 10) as u32)).collect::<std::collections::BTreeSet<_>>();
    let network = Jumps {
        sizes: (30, 10),
        refractory_steps: 16,
        p: 0.3,
        weights: (6.0, 12.0),
        delays: (4, 9),
        input: input.into_iter().collect(),
        seed: 3,
    };
    let (net, [exc, _]) = network.network();
    let neurons = [0, 7, 29];
    let mut grid =
        Simulator::new(&net, Options { precision: Precision::Double, ..Options::default() }).unwrap();
    let on_grid = grid.record(exc, "membrane potential", &neurons, 3).unwrap();
    grid.run(Ms(40.0)).unwrap();
    let mut lazy = Lazy::new(&net).unwrap();
    let off_grid = lazy.record(exc, &neurons, 3).unwrap();
    // Epochs that are cut short by the end of a run change nothing.
    [1.0, 0.125, 20.0, 18.875].iter().for_each(|&time| lazy.run(Ms(time)).unwrap());
    let (want, got) = (&grid.traces()[on_grid], &lazy.traces()[off_grid]);
    assert_eq!((got.values.len(), got.first), (want.values.len(), want.first));
    assert!(want.values.iter().filter(|v| v.abs() > 1.0).count() > 100);
    for (i, (got, want)) in got.values.iter().zip(&want.values).enumerate() {
        assert!((got - want).abs() < 1e-9, "row {}, column {}: {got}, want {want}", i / 3, i % 3);
    }
    let (now, want) = (lazy.membrane(exc), grid.state(exc, "membrane potential"));
    assert!(now.len() == 30 && now.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-9));
}

/// A recurrent network of current-based synapses; all its times are multiples of 0.4 ms.
fn currents(dt: Ms, kind: &str) -> (Network, Pop) {
    let step = |ms: f64| (ms / dt.0).round() as u64 - 1; // a spike of a step is at its end
    let spikes =
        (1..100).flat_map(|k| [(step(f64::from(k) * 0.8), k % 5), (step(f64::from(k) * 1.2), (k + 2) % 5)]);
    let mut spikes: Vec<_> = spikes.collect();
    spikes.sort_unstable();
    let mut net = Network::simulation(dt);
    let input = net.source("input", 5, Source::Spikes(spikes));
    let cells = match kind {
        "alpha" => net.population("cells", 12, AlphaLif { tau_inhibitory: Ms(10.0), ..AlphaLif::nest(dt) }),
        "adapting" => {
            net.population("cells", 12, AdaptiveLif { tau_inhibitory: Ms(10.0), ..AdaptiveLif::new(dt) })
        }
        _ => {
            let base = Iaf::psc_exp(Ms(10.0), Ms(2.0), 250.0, dt);
            net.population("cells", 12, Iaf { receptors: Receptors::Two(Ms(2.0), Ms(10.0)), ..base })
        }
    };
    let strength = Init::Uniform { low: 300.0, high: 900.0 };
    net.connect(input, cells, Rule::Dense).weights(strength).delay(Ms(0.8)).receptor("excitatory");
    let inhibition = Init::Uniform { low: -300.0, high: 0.0 };
    let edge = net.connect(cells, cells, Rule::FixedProbability { p: 0.4 });
    edge.weights(inhibition).delay(Ms(1.2)).receptor("inhibitory");
    (net.build(11).unwrap(), cells)
}

#[test]
fn the_grid_converges_to_the_exact_spike_times() {
    let time = Ms(32.0);
    for kind in ["exponential", "alpha", "adapting"] {
        let exact = {
            let (net, cells) = currents(Ms(0.4), kind);
            lazy(&net, &[cells], time).take_spikes(cells).unwrap()
        };
        assert!(exact.len() > 20, "{} spikes", exact.len());
        let mut errors = Vec::new();
        for dt in [0.4, 0.1, 0.025].map(Ms) {
            let (net, cells) = currents(dt, kind);
            // The step is a unit of time here and nothing else.
            let again = lazy(&net, &[cells], time).take_spikes(cells).unwrap();
            assert_eq!(again.neurons, exact.neurons);
            assert!(again.times.iter().zip(&exact.times).all(|(a, b)| (a - b).abs() < 1e-9));
            // Spike by spike of each neuron, as far as both have them.
            let grid = on_the_grid(&net, &[cells], time).remove(0);
            let of = |n: u32| -> Vec<f64> {
                grid.iter().filter(|s| s.1 == n).map(|s| (s.0 + 1) as f64 * dt.0).collect()
            };
            let (mut sum, mut count) = (0.0, 0);
            for n in 0..12 {
                let want: Vec<f64> =
                    exact.times.iter().zip(&exact.neurons).filter(|s| *s.1 == n).map(|s| *s.0).collect();
                let got = of(n);
                assert!(dt.0 > 0.1 || got.len().abs_diff(want.len()) <= 1, "{dt}: {got:?} {want:?}");
                sum += want.iter().zip(&got).map(|(a, b)| (a - b).abs()).sum::<f64>();
                count += want.len().min(got.len());
            }
            errors.push(sum / f64::from(count as u32));
        }
        // A spike is late by less than a step, and those after it by what that adds up to: first order in the step.
        assert!(errors.iter().zip([0.4, 0.1, 0.025]).all(|(error, dt)| *error < 3.0 * dt), "{errors:?}");
        assert!(errors.windows(2).all(|e| e[1] < 0.4 * e[0]), "{errors:?}");
    }
}

fn driven(seed: u64) -> (Network, [Pop; 2]) {
    let mut net = Network::simulation(Ms(0.1));
    let input = Source::Poisson { rate: Hz(20.0), from: Ms(0.0), until: Ms(1e9) };
    let input = net.source("input", 300, input);
    let exc = net.population("exc", 1500, Iaf::delta(Ms(20.0), Ms(0.1)));
    net.initial(exc, "membrane potential", Init::Uniform { low: 0.0, high: 20.0 });
    net.drive(exc, Drive::Poisson { receptor: "jump".into(), rate: Hz(1800.0), weight: 0.5 });
    let current = Drive::Current {
        receptor: "current".into(),
        amplitude: Init::Uniform { low: 0.0, high: 4.0 },
        from: Ms(100.0),
        until: Ms(200.0),
    };
    net.drive(exc, current);
    net.connect(input, exc, Rule::FixedInDegree { k: 30 }).weights(Init::Constant(0.4)).delay(Ms(1.5));
    net.connect(exc, exc, Rule::FixedInDegree { k: 20 }).weights(Init::Constant(-0.3)).delay(Ms(2.0));
    (net.build(seed).unwrap(), [input, exc])
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (net, pops) = driven(5);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut lazy = lazy(&net, &pops, Ms(250.0));
            (lazy.activity(), pops.map(|pop| lazy.take_spikes(pop).unwrap()))
        })
    };
    let (activity, trains) = run(1);
    assert!(trains.iter().all(|train| train.len() > 500), "{activity:?}");
    assert!(activity.synaptic_events > 50_000);
    assert_eq!(run(2), (activity, trains));
}

#[test]
fn a_checkpoint_continues_bit_for_bit() {
    let (net, pops) = driven(7);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mut whole = lazy(&net, &pops, Ms(150.0));
    let before = pops.map(|pop| whole.take_spikes(pop).unwrap());
    assert!(before.iter().all(|train| train.len() > 200));
    whole.checkpoint(&path).unwrap();
    whole.run(Ms(100.0)).unwrap();
    let mut resumed = lazy(&net, &pops, Ms(3.0));
    resumed.restore(&path).unwrap();
    assert_eq!(resumed.steps(), 1500);
    resumed.run(Ms(100.0)).unwrap();
    for pop in pops {
        let (a, b) = (whole.take_spikes(pop).unwrap(), resumed.take_spikes(pop).unwrap());
        assert!(a.len() > 200);
        assert_eq!(a, b);
    }
    assert_eq!(whole.activity(), resumed.activity());
    assert_eq!(whole.membrane(pops[1]), resumed.membrane(pops[1]));

    // A file of another network, or one that is cut off, is refused and changes nothing.
    let other = driven(8).0;
    let mut other = Lazy::new(&other).unwrap();
    assert!(other.restore(&path).unwrap_err().to_string().contains("seed"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert!(resumed.restore(&path).is_err());
    assert_eq!(whole.membrane(pops[1]), resumed.membrane(pops[1]));
}

#[test]
fn rates_under_poisson_input_are_those_of_the_grid() {
    let (net, pops) = driven(6);
    let time = Ms(300.0);
    let mut lazy = lazy(&net, &pops, time);
    let grid = on_the_grid(&net, &pops, time);
    for (pop, grid) in pops.iter().zip(grid) {
        let train = lazy.take_spikes(*pop).unwrap();
        assert!(train.times.windows(2).all(|w| w[0] <= w[1]) && train.times.iter().all(|t| *t <= time.0));
        let (a, b) = (train.len() as f64, grid.len() as f64);
        // Independent draws of the same process, nearly: counts of trains that are at most as irregular as Poisson's.
        assert!(a > 1000.0 && (a - b).abs() < 5.0 * (a + b).sqrt(), "{a} {b}");
    }
}

#[test]
fn what_has_no_closed_form_is_refused() {
    let refused = |change: &dyn Fn(&mut ransnn::snn::NetworkBuilder, Pop)| {
        let dt = Ms(0.1);
        let mut net = Network::simulation(dt);
        let cells = net.population("cells", 3, Iaf::delta(Ms(20.0), dt));
        change(&mut net, cells);
        let net = net.build(1).unwrap();
        Lazy::new(&net).unwrap_err().to_string()
    };
    let adex = refused(&|net, _| _ = net.population("other", 2, AdEx::nest(Ms(0.1))));
    assert!(adex.contains("`other`: adex has no closed form and needs the grid"), "{adex}");
    let input = refused(&|net, _| _ = net.input("in", 4));
    assert!(input.contains("input `in` has no source"), "{input}");
    let onto = refused(&|net, cells| {
        net.connect(cells, cells, Rule::Dense)
            .weights(Init::Constant(1.0))
            .delay(Ms(1.0))
            .receptor("current");
    });
    assert!(onto.contains("`cells->cells` ends on a current"), "{onto}");
    let drive = refused(&|net, cells| {
        net.drive(cells, Drive::Poisson { receptor: "current".into(), rate: Hz(10.0), weight: 1.0 });
    });
    assert!(drive.contains("`cells`: without a grid, currents end on"), "{drive}");
    let net = driven(1).0;
    let mut lazy = Lazy::new(&net).unwrap();
    assert!(lazy.run(Ms(0.05)).is_err() && lazy.run(Ms(f64::NAN)).is_err() && lazy.run(Ms(-1.0)).is_err());
    assert!(lazy.record_spikes(Pop(9)).is_err() && lazy.record(Pop(1), &[1500], 1).is_err());
    assert!(lazy.record(Pop(0), &[0], 1).is_err() && lazy.record(Pop(1), &[0], 0).is_err());
}
