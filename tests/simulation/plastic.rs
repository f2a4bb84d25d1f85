//! Plastic projections on a GPU: weights and spikes equal those of the grid clock of the CPU.

use super::{DT, plain};
use rand::RngExt;
use ransnn::engine::{Options, Simulator, cuda};
use ransnn::rng::{Stream, Walk};
use ransnn::snn::neurons::{Iaf, Receptors};
use ransnn::snn::plasticity::{self, Pair, Pairing, Triplet};
use ransnn::snn::{Init, Network, Rule, Source};
use ransnn::tensor::cuda::Gpu;
use ransnn::units::{Hz, Ms};

const PAIRINGS: [Pairing; 2] = [Pairing::AllToAll, Pairing::Nearest];

/// Pair STDP, additive and multiplicative.
pub fn pairs(gpu: &Gpu) {
    compare(gpu, |case| {
        let (pairing, mu) = (PAIRINGS[case as usize / 2 % 2], (case / 4) as f64);
        Pair { pairing, mu, a_plus: 0.05, a_minus: 0.06, ..Pair::default() }.into()
    });
}

/// Triplet STDP; its slow traces are slower than the fast ones, and faster.
pub fn triplets(gpu: &Gpu) {
    compare(gpu, |case| {
        let pairing = PAIRINGS[case as usize / 2 % 2];
        let fit = if case < 4 { Triplet::visual() } else { Triplet::hippocampal() };
        let strong = Triplet { a2_plus: 0.02, a3_plus: 0.03, a2_minus: 0.03, a3_minus: 0.02, ..fit };
        Triplet { pairing, ..strong }.into()
    });
}

/// A network with two plastic projections, some of whose sources and targets have no synapse. The membrane does not feel
/// what it receives through them (its resistance is 0), so that the rounding of the CPU's sums does not reach the spikes.
fn network(case: u64, rule: plasticity::Rule) -> Network {
    let mut draw = Stream::named(case, "plastic").walk(0);
    let mut net = Network::simulation(DT);
    let size = |draw: &mut Walk| [1, 31, 32, 33, 257][draw.random_range(0..5)];
    let (m, n) = (size(&mut draw), size(&mut draw));
    let source = match case % 2 {
        0 => Source::Poisson { rate: Hz(60.0), from: Ms(0.0), until: Ms(1e9) },
        _ => Source::Spikes((0..m as u32).map(|i| (u64::from(i) % 90, i)).collect()),
    };
    let input = net.source("input", m, source);
    let two = Receptors::Two(Ms(3.0), Ms(10.0));
    // Driven over the threshold by their resting potential.
    let rest = if case < 4 { 1.5 } else { 1.05 };
    let cells = net.population("cells", n, Iaf { receptors: two, resistance: 0.0, rest, ..plain() });
    net.initial(cells, "membrane potential", Init::Uniform { low: 0.0, high: 0.9 });
    let rules = [Rule::Dense, Rule::FixedInDegreeMultapses { k: 5 }, Rule::FixedTotal { n: 40 }];
    for (name, pre, receptor) in [("from-input", input, "excitatory"), ("among-cells", cells, "inhibitory")] {
        net.connect(pre, cells, rules[draw.random_range(0..3)].clone())
            .name(name)
            .weights(Init::Uniform { low: 0.0, high: 1.0 })
            .receptor(receptor)
            .delay(Ms(0.5 * f64::from(draw.random_range(1..6))))
            .plasticity(rule);
    }
    net.build(case).unwrap()
}

/// Eight networks with a rule, each also stopped and taken up from a file.
fn compare(gpu: &Gpu, rule: impl Fn(u64) -> plasticity::Rule) {
    let mut changed = 0;
    for case in 0..8u64 {
        let net = network(case, rule(case));
        let before = cuda::Simulator::new(gpu, &net).unwrap().weights("among-cells").unwrap();
        let mut cpu = Simulator::new(&net, Options::default()).unwrap();
        let mut device = cuda::Simulator::new(gpu, &net).unwrap();
        for piece in [0, 1, 2, 57, 60] {
            cpu.run_steps(piece);
            device.run_steps(piece).unwrap();
            for name in ["from-input", "among-cells"] {
                assert!(device.weights(name).unwrap() == cpu.weights(name).unwrap(), "{name} of case {case}");
            }
        }
        assert_eq!(device.activity().unwrap().spikes, cpu.activity().spikes);
        let after = device.weights("among-cells").unwrap();
        changed += before.weights.iter().zip(&after.weights).filter(|(a, b)| a != b).count();
        assert!(device.weights("nothing").is_err());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        device.checkpoint(&path).unwrap();
        device.run_steps(30).unwrap();
        let mut rest = cuda::Simulator::new(gpu, &net).unwrap();
        rest.restore(&path).unwrap();
        rest.run_steps(30).unwrap();
        assert!(rest.weights("among-cells").unwrap() == device.weights("among-cells").unwrap());
        assert_eq!(rest.activity().unwrap(), device.activity().unwrap());
    }
    assert!(changed > 500, "{changed} weights have changed");
}
