//! Latency and delta encoding against snnTorch's `spikegen` (fixtures made with snnTorch 1.0.0).

use ransnn::snn::encode::{delta, latency};
use safetensors::SafeTensors;

fn tensor(name: &str, key: &str) -> (Vec<usize>, Vec<f32>) {
    let path = format!("{}/tests/fixtures/encoders/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(key).unwrap();
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    (view.shape().to_vec(), values)
}

/// `latency(x, num_steps=T, tau=T-1, linear=True)`; below snnTorch's threshold of 0.01 ours differ (an input of
/// zero never fires, theirs fires last), so such inputs are left out.
#[test]
fn latency_equals_snntorch() {
    for name in ["latency_linear", "latency_round_half_even"] {
        let (_, x) = tensor(name, "x");
        let (shape, spikes) = tensor(name, "spk");
        let mut compared = 0;
        for (i, &x) in x.iter().enumerate().filter(|(_, x)| **x > 0.01) {
            let theirs: Vec<usize> =
                (0..shape[0]).filter(|t| spikes[t * (spikes.len() / shape[0]) + i] > 0.0).collect();
            assert_eq!(latency(x, shape[0]).into_iter().collect::<Vec<_>>(), theirs, "{name}: {x}");
            compared += 1;
        }
        assert!(compared >= 8, "{name}: {compared}");
    }
}

/// `delta(x, threshold, padding=False)`: the value before the first is 0.
#[test]
fn delta_equals_snntorch() {
    for (name, off) in [("delta_pad0_off0", false), ("delta_pad0_off1", true), ("delta_ties", true)] {
        let (shape, x) = tensor(name, "x");
        let (_, spikes) = tensor(name, "spk");
        let signals = x.len() / shape[0];
        for i in 0..x.len() {
            let before = if i < signals { 0.0 } else { x[i - signals] };
            let ours = delta(before, x[i], 0.25);
            assert_eq!(if off { ours } else { ours.max(0) } as f32, spikes[i], "{name}: {i}");
        }
        assert!(spikes.iter().filter(|s| **s > 0.0).count() > 10, "{name} has too few spikes to tell");
    }
}

/// Frames are taken as they are: any number above 0 is one spike, of bytes and of floats.
#[test]
fn frames_are_spikes() -> ransnn::Result<()> {
    use ransnn::engine::{Input, Presentation, Probe, Recording, Table, What};
    use ransnn::snn::{Encoding, Init, Network, Rule, neurons::Lif};
    let mut net = Network::builder(ransnn::units::Ms(1.0));
    let input = net.input("input", 3);
    let copy = net.population("copy", 3, Lif { decay: 0.0, ..Lif::default() });
    net.connect(input, copy, Rule::OneToOne).weights(Init::Constant(1.0)).frozen();
    let net = net.build(0)?;
    let encoding = Encoding::Frames { steps: 4 };
    let engine = Presentation::compile(&net, &encoding, &[Probe { population: copy, what: What::Bins(4) }])?;
    let bytes = [
        0, 7, 0, 1, 0, 255, 0, 0, 0, 1, 1, 1, /* the second sample */ 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    ];
    let floats: Vec<f32> = bytes.iter().map(|&x| f32::from(x) / 255.0).collect();
    for samples in [Input::U8(&bytes), Input::F32(&floats)] {
        let mut recording = Recording::default();
        engine.run(samples, &[0, 1], &engine.stream("test", 0), &mut recording)?;
        let Table::U8(counts) = &recording.tables[0] else { panic!("bytes") };
        assert_eq!(*counts, bytes.map(|x| u8::from(x > 0)));
    }
    Ok(())
}
