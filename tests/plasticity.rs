//! Plasticity rules against weight trajectories recorded from Brian2 (pair, triplet) and BindsNET (`PostPre`), within
//! the tolerance that stands in each fixture.

use ransnn::snn::plasticity::{
    EventDriven, Incidence, Normalise, Pair, Pairing, PostPre, Rule, Synchronous, Triplet,
};
use ransnn::units::Ms;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

struct Fixture {
    json: Value,
    bytes: Vec<u8>,
}

impl Fixture {
    fn read(folder: &str, name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/snn").join(folder).join(name);
        let json = std::fs::read_to_string(path.with_extension("json")).expect("a fixture");
        let bytes = std::fs::read(path.with_extension("safetensors")).expect("its arrays");
        Self { json: serde_json::from_str(&json).expect("JSON"), bytes }
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).expect("tensors").tensor(name).is_ok()
    }

    fn get(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).expect("tensors");
        let view = file.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
        let data = view.data();
        match view.dtype() {
            Dtype::F64 => {
                data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight"))).collect()
            }
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four")).into()).collect()
            }
            Dtype::I32 => {
                data.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("four")).into()).collect()
            }
            Dtype::U8 => data.iter().map(|&b| b.into()).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.get(name).iter().map(|&x| x as f32).collect()
    }

    fn param(&self, name: &str) -> f64 {
        self.json["params"][name].as_f64().unwrap_or_else(|| panic!("no parameter {name}"))
    }

    fn tolerance(&self, name: &str) -> f64 {
        self.json["tolerance"][name].as_f64().expect("a tolerance")
    }

    /// The rule that the fixture describes in words and numbers.
    fn rule(&self) -> Rule {
        let kind = self.json["rule"].as_str().expect("a rule");
        let p = |name| self.param(name);
        let pairing = if kind.contains("nearest") { Pairing::Nearest } else { Pairing::AllToAll };
        let bounds = [p("w_min"), p("w_max")];
        let [tau_plus, tau_minus] = [Ms(p("tau_plus")), Ms(p("tau_minus"))];
        if kind.starts_with("pair") {
            let mu = if kind.ends_with("soft") { 1.0 } else { 0.0 };
            let (a_plus, a_minus) = (p("A_plus"), p("A_minus"));
            return Pair { tau_plus, tau_minus, a_plus, a_minus, mu, pairing, bounds }.into();
        }
        Triplet {
            tau_plus,
            tau_minus,
            tau_x: Ms(p("tau_x")),
            tau_y: Ms(p("tau_y")),
            a2_plus: p("A2_plus"),
            a3_plus: p("A3_plus"),
            a2_minus: p("A2_minus"),
            a3_minus: p("A3_minus"),
            pairing,
            bounds,
        }
        .into()
    }
}

/// Names of all fixtures of a folder.
fn all(folder: &str) -> Vec<String> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/snn", folder].iter().collect();
    let files = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("a file").path());
    let names = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut names: Vec<String> =
        names.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn farthest(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Spikes of step `k` out of lists of neurons and steps.
fn at(neurons: &[f64], steps: &[f64], k: usize) -> Vec<u32> {
    neurons.iter().zip(steps).filter(|(_, step)| **step as usize == k).map(|(i, _)| *i as u32).collect()
}

/// Replays a fixture with weights of a precision: the largest distance of any recorded weight.
fn replay<W: ransnn::snn::plasticity::event_driven::Weight>(fixture: &Fixture) -> (f64, f64) {
    let (sources, targets) = (fixture.param("npre") as usize, fixture.param("npost") as usize);
    let synapses = Incidence::dense(sources, targets).unwrap();
    let delays = fixture.has("pre_delay_steps").then(|| fixture.get("pre_delay_steps"));
    let dt = Ms(fixture.param("dt_ms"));
    let mut stdp = match delays {
        Some(_) => EventDriven::per_synapse(fixture.rule(), dt, synapses),
        None => EventDriven::new(fixture.rule(), dt, synapses),
    }
    .unwrap();
    let [pre_i, pre_k, post_j, post_k] = ["pre_i", "pre_k", "post_j", "post_k"].map(|n| fixture.get(n));
    let start = fixture.get("w0");
    let mut weights: Vec<W> = start.iter().map(|&w| W::put(w)).collect();
    let every = fixture.get("w_every");
    let now = |weights: &[W]| weights.iter().map(|w| w.get()).collect::<Vec<f64>>();
    let mut worst = 0.0f64;
    for k in 0..fixture.param("steps") as usize {
        if k % 40 == 0 {
            let expected = &every[k / 40 * start.len()..][..start.len()];
            worst = worst.max(farthest(&now(&weights), expected));
        }
        if let Some(delays) = &delays {
            let arrives = |s: usize| {
                let spikes = pre_i.iter().zip(&pre_k);
                spikes.filter(|(i, _)| **i as usize == s / targets).any(|(_, k0)| k0 + delays[s] == k as f64)
            };
            let list: Vec<u32> = (0..start.len()).filter(|&s| arrives(s)).map(|s| s as u32).collect();
            stdp.arrive_at(k as u64, &list, &mut weights).unwrap();
        } else {
            stdp.arrive(k as u64, &at(&pre_i, &pre_k, k), &mut weights).unwrap();
        }
        stdp.fire(k as u64, &at(&post_j, &post_k, k), &mut weights).unwrap();
    }
    worst = worst.max(farthest(&now(&weights), &fixture.get("w_final")));
    (worst, farthest(&now(&weights), &start))
}

#[test]
fn brian2_trajectories() {
    let names: Vec<String> = all("stdp").into_iter().filter(|name| name != "pair_window").collect();
    assert_eq!(names.len(), 8);
    for name in names {
        let fixture = Fixture::read("stdp", &name);
        let (worst, moved) = replay::<f64>(&fixture);
        assert!(moved > 1e-3, "{name}: weights hardly move");
        assert!(worst <= fixture.tolerance("w_abs"), "{name}: off by {worst:e}");
        let (worst, _) = replay::<f32>(&fixture);
        assert!(worst <= fixture.tolerance("w_abs_f32"), "{name} in single precision: off by {worst:e}");
    }
}

#[test]
fn brian2_window_of_isolated_pairs() {
    let fixture = Fixture::read("stdp", "pair_window");
    let changes = fixture.get("dw");
    assert!(changes.iter().any(|&dw| dw > 0.0) && changes.iter().any(|&dw| dw < 0.0));
    for (&lag, &expected) in fixture.get("lag_steps").iter().zip(&changes) {
        let dt = Ms(fixture.param("dt_ms"));
        let mut stdp = EventDriven::new(fixture.rule(), dt, Incidence::dense(1, 1).unwrap()).unwrap();
        let mut weights = [0.5f64];
        let (pre, post) = (10_000u64, (10_000.0 + lag) as u64);
        for step in pre.min(post)..=pre.max(post) {
            if step == pre {
                stdp.arrive(step, &[0], &mut weights).unwrap();
            }
            if step == post {
                stdp.fire(step, &[0], &mut weights).unwrap();
            }
        }
        let worst = (weights[0] - 0.5 - expected).abs();
        assert!(worst <= fixture.tolerance("dw_abs"), "lag {lag}: off by {worst:e}");
    }
}

/// BindsNET's `LIFNodes` driven through the plastic weights: spikes equal, weights and traces within the tolerance.
#[test]
fn bindsnet_trajectories() {
    let names = all("bindsnet");
    assert_eq!(names.len(), 5);
    for name in names {
        let fixture = Fixture::read("bindsnet", &name);
        let params = &fixture.json["params"];
        let optional = |key: &str| params[key].as_f64();
        let rule = PostPre {
            nu: [fixture.param("nu_pre") as f32, fixture.param("nu_post") as f32],
            pairing: if params["additive"] == true { Pairing::AllToAll } else { Pairing::Nearest },
            weight_dependent: fixture.json["rule"] == "WeightDependentPostPre",
            decay: optional("weight_decay").unwrap_or(0.0) as f32,
            ..PostPre::default()
        };
        let lif = |key: &str| params["lif"][key].as_f64().expect("a parameter") as f32;
        let [thresh, rest, reset, refrac] = ["thresh", "rest", "reset", "refrac"].map(lif);
        let decay = (-1.0f64 / f64::from(lif("tc_decay"))).exp() as f32;
        let (x, w_every, spikes) = (fixture.get("x"), fixture.get("w"), fixture.get("post_spk"));
        let (sources, targets) = (8, 5);
        let steps = w_every.len() / (sources * targets);
        let batch = x.len() / steps / sources;
        let mut stdp = Synchronous::new(rule, Ms(1.0), sources, targets, batch).unwrap();
        let mut w = fixture.f32("w0");
        let (mut v, mut left) = (vec![rest; batch * targets], vec![0.0f32; batch * targets]);
        let mut before = vec![vec![]; batch];
        let mut fired = 0;
        for t in 0..steps {
            let mut post = vec![vec![]; batch];
            for (b, post) in post.iter_mut().enumerate() {
                for j in 0..targets {
                    let input: f32 = before[b].iter().map(|&i: &u32| w[i as usize * targets + j]).sum();
                    let (v, left) = (&mut v[b * targets + j], &mut left[b * targets + j]);
                    *v = (*v - rest) * decay + rest;
                    *v += if *left > 0.0 { 0.0 } else { input };
                    *left -= 1.0;
                    if *v >= thresh {
                        (*v, *left) = (reset, refrac);
                        post.push(j as u32);
                    }
                }
            }
            let place = |b: usize, size: usize| (t * batch + b) * size;
            for (b, post) in post.iter().enumerate() {
                let theirs = &spikes[place(b, targets)..][..targets];
                let theirs: Vec<u32> = (0..5).filter(|&j| theirs[j as usize] == 1.0).collect();
                assert_eq!(*post, theirs, "{name}: spikes of step {t}");
                fired += post.len();
            }
            let pre: Vec<Vec<u32>> = (0..batch)
                .map(|b| (0..8).filter(|&i| x[place(b, sources) + i as usize] == 1.0).collect())
                .collect();
            stdp.step(&pre, &post, &mut w).unwrap();
            if let Some(total) = optional("norm") {
                Normalise { total: total as f32 }.dense(&mut w, targets);
            }
            let wide = |x: &[f32]| x.iter().map(|&x| x.into()).collect::<Vec<f64>>();
            let worst = farthest(&wide(&w), &w_every[t * sources * targets..][..sources * targets]);
            assert!(worst <= fixture.tolerance("w_abs"), "{name}: weights of step {t} off by {worst:e}");
            for (trace, key) in [(stdp.traces().0, "pre_trace"), (stdp.traces().1, "post_trace")] {
                let theirs = &fixture.get(key)[t * trace.len()..][..trace.len()];
                // Additive traces reach 5; both sides round each step.
                let worst = farthest(&wide(trace), theirs);
                assert!(worst <= 3e-6, "{name}: {key} of step {t} off by {worst:e}");
            }
            before = pre;
        }
        assert!(fired > 50, "{name}: {fired} spikes");
    }
}
