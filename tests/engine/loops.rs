//! Networks with loops and delays, presented sample by sample.

use super::*;
use ransnn::snn::neurons::MultiSpikeLif;

/// A projection with a delay in steps; 0 for none.
fn late(delay: usize, projection: Projection) -> Projection {
    let delay = (delay > 0).then_some(Ms(delay as f64));
    Projection { delay, ..projection }
}

#[test]
fn random_loops_and_delays() {
    let (mut spikes, mut loops) = (0, 0);
    for case in 0..60 {
        let mut draw = Draw::new(1000 + case);
        let sizes: Vec<usize> = (0..4).map(|_| [1, 5, 64, 70, 130][draw.below(5)]).collect();
        let mut populations = vec![population("in", &[sizes[0]], None)];
        for (i, &size) in sizes.iter().enumerate().skip(1) {
            let name = format!("p{i}");
            populations.push(match draw.below(5) {
                0 => population(
                    &name,
                    &[size],
                    Some(Box::new(MultiSpikeLif {
                        decay: 0.8,
                        gain: 1.0,
                        threshold: 1.0,
                        max_spikes: 3,
                        min: None,
                    })),
                ),
                1 => lif(
                    &name,
                    &[size],
                    Lif { refractory_steps: 2, acts: ResetActs::SameStep, ..draw.dialect() },
                ),
                _ => lif(&name, &[size], draw.dialect()),
            });
        }
        let constant = case % 4 == 1;
        let mut projections = vec![];
        for post in 1..4 {
            for pre in 0..4 {
                // Whoever stands behind hears at least the input.
                if pre > 0 && draw.below(3) == 0 {
                    continue;
                }
                let longest = [2, 5, 64, 90][draw.below(4)];
                let delay = match (constant && pre == 0, pre >= post) {
                    (true, _) => 0,
                    (_, true) => 1 + draw.below(longest),
                    (_, false) => draw.below(2) * draw.below(longest),
                };
                loops += u32::from(pre >= post);
                // Several spikes of a neuron by several synapses are added up in another order here and there.
                let several =
                    populations[pre].model.as_ref().is_some_and(|m| m.as_any().is::<MultiSpikeLif>());
                let plain = draw.below(3) == 0 && !several;
                let weights = match draw.below(3) {
                    0 => draw.sparse(sizes[pre], sizes[post], plain),
                    _ => draw.dense(sizes[pre], sizes[post], plain),
                };
                let bias = if draw.below(4) == 0 { draw.floats(sizes[post], -0.1, 0.1) } else { vec![] };
                projections.push(Projection {
                    bias,
                    ..late(delay, projection(&format!("{pre}-{post}"), pre, post, weights))
                });
            }
        }
        let net = network(populations, projections);
        let steps = [3, 40, 64, 65, 130, 200][draw.below(6)];
        let encoding = match constant {
            true => Encoding::Constant { steps },
            false => Encoding::Bernoulli { steps, gain: draw.float(0.2, 0.8) },
        };
        let samples = 1 + draw.below(10);
        let x = draw.pixels(samples * sizes[0]);
        let probes = [all(1), all(2), all(3)].concat();
        spikes += compare(&net, &encoding, &probes, Input::U8(&x), samples);
    }
    assert!(spikes > 100_000 && loops > 100, "{spikes} {loops}");
}

#[test]
fn convolutions_feed_back() {
    let mut spikes = 0;
    for case in 0..12 {
        let mut draw = Draw::new(2000 + case);
        let shape = [2, 5 + draw.below(3), 4];
        let same = |draw: &mut Draw, channels: usize| {
            let geometry = Conv2d {
                input: [channels, shape[1], shape[2]],
                output: shape,
                kernel: 3,
                stride: 1,
                padding: 1,
                pool: 1,
                max_pool: 1,
            };
            let n = 2 * channels * 9;
            Weights::Conv2d { geometry, values: draw.values(n, channels * 9, 127, 2, case % 2 == 0) }
        };
        let net = network(
            vec![
                population("in", &[1, shape[1], shape[2]], None),
                lif("maps", &shape, draw.dialect()),
                lif("again", &shape, draw.dialect()),
            ],
            vec![
                projection("in-maps", 0, 1, same(&mut draw, 1)),
                late(1 + draw.below(3), projection("maps-maps", 1, 1, same(&mut draw, 2))),
                projection("maps-again", 1, 2, same(&mut draw, 2)),
                late(1 + draw.below(3), projection("again-maps", 2, 1, same(&mut draw, 2))),
            ],
        );
        let samples = 1 + draw.below(9);
        let x = draw.pixels(samples * shape[1] * shape[2]);
        let encoding = match case % 3 {
            0 => Encoding::Constant { steps: 70 },
            _ => Encoding::Bernoulli { steps: 30, gain: 0.6 },
        };
        spikes += compare(&net, &encoding, &[all(1), all(2)].concat(), Input::U8(&x), samples);
    }
    assert!(spikes > 10_000, "{spikes}");
}

#[test]
fn echoes_come_at_their_time() {
    // One neuron that repeats every spike after 3 steps for ever, and one that hears each 70 steps later.
    let one = |weight: f32| Weights::Dense { sources: 1, targets: 1, values: Values::F32(vec![weight]) };
    let relay = Lif { decay: 0.0, threshold: 0.5, ..Lif::default() };
    let net = network(
        vec![population("in", &[1], None), lif("echo", &[1], relay), lif("far", &[1], relay)],
        vec![
            projection("in-echo", 0, 1, one(1.0)),
            late(3, projection("echo-echo", 1, 1, one(1.0))),
            late(70, projection("echo-far", 1, 2, one(1.0))),
        ],
    );
    let probes = [1, 2].map(|p| Probe { population: Pop(p), what: What::Bins(140) });
    let engine = Presentation::compile(&net, &Encoding::Frames { steps: 140 }, &probes).unwrap();
    let events = Events::new(1, (0..140).map(|t| if t == 2 { vec![0] } else { vec![] })).unwrap();
    let mut recording = Recording::default();
    engine.run(Input::Events(&[events]), &[0], &engine.stream("test", 0), &mut recording).unwrap();
    let [Table::U8(echo), Table::U8(far)] = &recording.tables[..] else { panic!("{recording:?}") };
    let times = |table: &[u8]| (0..140).filter(|&t| table[t] > 0).collect::<Vec<_>>();
    assert_eq!(times(echo), (2..140).step_by(3).collect::<Vec<_>>());
    assert_eq!(times(far), (72..140).step_by(3).collect::<Vec<_>>());
}
