//! What every adapter has to do, whatever its method: begin as the base, change it once perturbed, merge and unmerge,
//! have the gradient that differences give, come off without a trace.

use std::collections::BTreeMap;

use ransnn::nn::{Adam, Optimizer};
use ransnn::peft::hybrid::{Mode, Rule};
use ransnn::peft::lora_ga::{Direction, Flavour, Length};
use ransnn::peft::{
    self, Adapter, Blocks, Boft, Calibration, Host, Hybrid, Kind, Lora, LoraGa, Method, Overrides, Site,
    Slot, Targets, Urnn,
};
use ransnn::tensor::check::{Case, Tolerance, assert_close, gradcheck, random};
use ransnn::tensor::{DType, Tensor, grad};

/// Two maps one after another, the second with a bias; in ≠ out.
struct Model {
    weights: [Tensor; 2],
    bias: Tensor,
    slots: [Slot; 2],
}

impl Host for Model {
    fn visit_sites(&mut self, f: &mut dyn FnMut(Site<'_>)) {
        let ([first, second], [a, b]) = (&mut self.weights, &mut self.slots);
        f(Site { path: "layers.0.up", weight: first, bias: None, slot: a, kind: Kind::Linear });
        let bias = Some(&mut self.bias);
        f(Site { path: "layers.0.down", weight: second, bias, slot: b, kind: Kind::Linear });
    }
}

const IN: usize = 16;
const MIDDLE: usize = 24;
const OUT: usize = 8;

impl Model {
    fn new(dtype: DType) -> Self {
        let weight =
            |name, out, inputs| random(name, &[out, inputs], -0.5, 0.5).unwrap().to_dtype(dtype).unwrap();
        Self {
            weights: [weight("up", MIDDLE, IN), weight("down", OUT, MIDDLE)],
            bias: random("bias", &[OUT], -0.5, 0.5).unwrap().to_dtype(dtype).unwrap(),
            slots: Default::default(),
        }
    }

    fn forward(&self, x: &Tensor) -> ransnn::Result<Tensor> {
        let h = self.slots[0].apply(x, &self.weights[0], None)?.tanh()?;
        self.slots[1].apply(&h, &self.weights[1], Some(&self.bias))
    }

    fn loss(&self, seed: usize) -> ransnn::Result<Tensor> {
        let dtype = self.bias.dtype();
        let x = random(&format!("x{seed}"), &[12, IN], -1.0, 1.0)?.to_dtype(dtype)?;
        let want = random(&format!("y{seed}"), &[12, OUT], -1.0, 1.0)?.to_dtype(dtype)?;
        let off = self.forward(&x)?.sub(&want)?;
        off.mul(&off)?.mean_all()
    }
}

fn methods() -> Vec<(&'static str, Method)> {
    let lora = || Lora { rank: 3, alpha: 5.0, ..Lora::default() };
    let lora_ga = || LoraGa { lora: lora(), ..LoraGa::default() };
    let boft = |b, m| Boft { blocks: Blocks::Size(b), factors: m, dropout: 0.0 };
    let hybrid = |mode| Hybrid { lora_ga: lora_ga(), boft: boft(4, 2), mode, ..Hybrid::default() };
    vec![
        ("lora", lora().into()),
        ("rslora", Lora { rank_stabilised: true, ..lora() }.into()),
        ("dora", Lora { magnitude: true, ..lora() }.into()),
        ("lora_ga", lora_ga().into()),
        ("lora_ga_hf", LoraGa { flavour: Flavour::HuggingFace, ..lora_ga() }.into()),
        ("oft", boft(4, 1).into()),
        ("boft", boft(4, 2).into()),
        ("boft_blocks", Boft { blocks: Blocks::Count(2), ..Boft::default() }.into()),
        ("urnn", Urnn.into()),
        ("hybrid", hybrid(Mode::StepScale).into()),
        ("hybrid_blend", hybrid(Mode::Blend).into()),
        ("hybrid_accumulate", hybrid(Mode::Accumulate).into()),
    ]
}

fn attach(model: &mut Model, method: &Method) -> peft::Report {
    attach_within(model, method, usize::MAX)
}

fn attach_within(model: &mut Model, method: &Method, bytes: usize) -> peft::Report {
    let calibration = Calibration { batches: 3, bytes };
    let targets = Targets::all_linear();
    peft::attach_calibrated(model, method, &targets, "default", 7, calibration, &mut |model, i| model.loss(i))
        .unwrap()
}

fn perturb(model: &mut Model, size: f64) {
    let mut params = peft::parameters(model);
    for (name, tensor) in &mut params {
        let noise = random(name, tensor.shape(), -size, size).unwrap().to_dtype(tensor.dtype()).unwrap();
        *tensor = tensor.add(&noise).unwrap();
    }
    peft::store(model, &params).unwrap();
}

fn x(dtype: DType) -> Tensor {
    random("x", &[5, 3, IN], -1.0, 1.0).unwrap().to_dtype(dtype).unwrap()
}

#[test]
fn gradients_that_do_not_fit_are_taken_one_by_one() {
    for (name, method) in methods() {
        let parameters = |bytes| {
            let mut model = Model::new(DType::F32);
            attach_within(&mut model, &method, bytes);
            peft::parameters(&mut model)
                .into_iter()
                .map(|(path, t)| (path, t.to_f32().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(parameters(0), parameters(usize::MAX), "{name}");
    }
}

#[test]
fn begins_as_the_base_and_comes_off_without_a_trace() {
    for (name, method) in methods() {
        let mut model = Model::new(DType::F32);
        let (base, weights) = (model.forward(&x(DType::F32)).unwrap(), model.weights.clone());
        let report = attach(&mut model, &method);
        assert_eq!(report.modules, 2, "{name}");
        assert_eq!(
            report.trained,
            peft::parameters(&mut model).values().map(Tensor::len).sum::<usize>(),
            "{name}"
        );
        let begun = model.forward(&x(DType::F32)).unwrap();
        // Where nothing is added, or nothing is turned, no bit changes.
        if matches!(name, "lora" | "rslora" | "dora" | "oft" | "boft") {
            assert_eq!(begun.to_f32().unwrap(), base.to_f32().unwrap(), "{name}");
        }
        assert_close(&begun, &base, Tolerance::new(2e-6, 2e-6));
        perturb(&mut model, 0.2);
        let off = model.forward(&x(DType::F32)).unwrap().sub(&base).unwrap().to_f64().unwrap();
        assert!(off.iter().any(|d| d.abs() > 0.05), "{name} does nothing");
        assert_eq!(peft::enable(&mut model, "default", false).unwrap(), 2);
        assert_eq!(model.forward(&x(DType::F32)).unwrap().to_f32().unwrap(), base.to_f32().unwrap());
        assert_eq!(peft::detach(&mut model, "default").unwrap(), 2);
        for (now, then) in model.weights.iter().zip(&weights) {
            assert_eq!(now.to_f32().unwrap(), then.to_f32().unwrap(), "{name} changed the base");
        }
    }
}

#[test]
fn merged_is_unmerged_and_comes_back_bit_for_bit() {
    for (name, method) in methods() {
        let mut model = Model::new(DType::F32);
        attach(&mut model, &method);
        perturb(&mut model, 0.2);
        let weights = model.weights.clone();
        let through = model.forward(&x(DType::F32)).unwrap();
        assert_eq!(peft::merge(&mut model).unwrap(), 2, "{name}");
        let off = model.weights[0].sub(&weights[0]).unwrap().to_f64().unwrap();
        assert!(off.iter().any(|d| d.abs() > 0.01), "{name} merges nothing");
        assert_close(&model.forward(&x(DType::F32)).unwrap(), &through, Tolerance::new(5e-6, 5e-6));
        assert!(peft::detach(&mut model, "default").is_err(), "{name}: merged adapters stay");
        assert_eq!(peft::unmerge(&mut model), 2);
        assert_eq!(model.weights[0].to_f32().unwrap(), weights[0].to_f32().unwrap());
        assert_eq!(model.forward(&x(DType::F32)).unwrap().to_f32().unwrap(), through.to_f32().unwrap());
        assert_eq!(peft::merge_and_unload(&mut model).unwrap(), 2);
        assert!(model.slots[0].is_empty());
        assert_close(&model.forward(&x(DType::F32)).unwrap(), &through, Tolerance::new(5e-6, 5e-6));
    }
}

#[test]
fn gradients_are_those_of_differences() {
    for (name, method) in methods() {
        let mut model = Model::new(DType::F64);
        attach(&mut model, &method);
        perturb(&mut model, 0.2);
        if name.starts_with("dora") {
            // The length of rows is left out of the gradients of A and B: only that of m is exact.
            let mut params = peft::parameters(&mut model);
            params.retain(|name, _| name.ends_with("magnitude_vector"));
            check(name, model, params);
            continue;
        }
        let params = peft::parameters(&mut model);
        check(name, model, params);
    }
}

fn check(name: &str, model: Model, params: BTreeMap<String, Tensor>) {
    assert!(!params.is_empty());
    let names: Vec<String> = params.keys().cloned().collect();
    let model = std::cell::RefCell::new(model);
    let run = move |values: &[Tensor]| {
        let mut model = model.borrow_mut();
        let mut all = peft::parameters(&mut *model);
        all.extend(names.iter().cloned().zip(values.iter().cloned()));
        peft::store(&mut *model, &all)?;
        model.forward(&random("x", &[3, IN], -1.0, 1.0)?)
    };
    let case = Case::new(name, params.into_values().collect(), run);
    gradcheck(&case, Tolerance::GRADIENT).unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn doras_gradient_holds_the_length_of_rows_fixed() {
    let lora = Lora { rank: 3, alpha: 5.0, magnitude: true, ..Lora::default() };
    let mut model = Model::new(DType::F64);
    attach(&mut model, &lora.into());
    perturb(&mut model, 0.3);
    let params = peft::parameters(&mut model);
    let x = random("x", &[3, IN], -1.0, 1.0).unwrap();
    let run = |model: &Model| model.slots[0].apply(&x, &model.weights[0], None)?.sum_all();
    let first: BTreeMap<_, _> =
        params.iter().filter(|(name, _)| name.contains("up")).map(|(k, v)| (k.clone(), v.clone())).collect();
    let (_, grads) = grad(&first, || run(&model)).unwrap();
    // By hand: y = (m / n) ⊙ (x Wᵀ + s x Aᵀ Bᵀ), n fixed.
    let [a, b, m] = ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"]
        .map(|key| params[&format!("layers.0.up.{key}")].clone());
    let w = model.weights[0].add(&b.matmul(&a).unwrap().mul_scalar(5.0 / 3.0).unwrap()).unwrap();
    let n = w.mul(&w).unwrap().sum(&[1]).unwrap().sqrt().unwrap();
    let g = m.div(&n).unwrap().broadcast_to(&[3, MIDDLE]).unwrap();
    let want_b = g.matmul_tn(&x.matmul_nt(&a).unwrap()).unwrap().mul_scalar(5.0 / 3.0).unwrap();
    assert_close(grads.get("layers.0.up.lora_B.weight").unwrap(), &want_b, Tolerance::new(1e-10, 1e-10));
    let y = x.matmul_nt(&w).unwrap().mul(&m.div(&n).unwrap()).unwrap();
    assert_close(
        &model.slots[0].apply(&x, &model.weights[0], None).unwrap(),
        &y,
        Tolerance::new(1e-12, 1e-12),
    );
}

#[test]
fn several_adapters_add_up_or_follow_one_another() {
    let mut model = Model::new(DType::F32);
    let base = model.forward(&x(DType::F32)).unwrap();
    attach(&mut model, &Method::from(Lora { rank: 2, ..Lora::default() }));
    perturb(&mut model, 0.3);
    let first = model.forward(&x(DType::F32)).unwrap();
    let method = Method::from(Boft::default());
    peft::attach(&mut model, &method, &Targets::names(["up"]), "turn", 1).unwrap();
    assert!(
        peft::attach(&mut model, &method, &Targets::names(["up"]), "turn", 1).is_err(),
        "the name is taken"
    );
    assert_eq!(model.slots[0].entries().len(), 2, "a refused adapter takes nothing with it");
    assert_eq!(model.forward(&x(DType::F32)).unwrap().to_f32().unwrap(), first.to_f32().unwrap());
    perturb(&mut model, 0.3);
    let both = model.forward(&x(DType::F32)).unwrap();
    peft::merge(&mut model).unwrap();
    assert_close(&model.forward(&x(DType::F32)).unwrap(), &both, Tolerance::new(5e-6, 5e-6));
    peft::unmerge(&mut model);
    peft::enable(&mut model, "default", false).unwrap();
    let turned = model.forward(&x(DType::F32)).unwrap();
    peft::enable(&mut model, "turn", false).unwrap();
    assert_eq!(model.forward(&x(DType::F32)).unwrap().to_f32().unwrap(), base.to_f32().unwrap());
    assert_ne!(turned.to_f32().unwrap(), both.to_f32().unwrap());
    // Detached, each leaves the other alone.
    peft::detach(&mut model, "default").unwrap();
    peft::enable(&mut model, "turn", true).unwrap();
    assert_eq!(model.forward(&x(DType::F32)).unwrap().to_f32().unwrap(), turned.to_f32().unwrap());
}

fn train(model: &mut Model, steps: u64, rate: f64) -> Vec<f64> {
    let mut adam = Adam::decoupled(rate, 0.0);
    let mut params = peft::parameters(model);
    let mut losses = Vec::new();
    for step in 0..steps {
        let (loss, grads) = grad(&params, || model.loss(step as usize % 4)).unwrap();
        losses.push(loss.to_scalar().unwrap());
        peft::step(model, &mut params, &grads, step, &mut |params| adam.step(params, &grads)).unwrap();
    }
    losses
}

#[test]
fn training_lowers_the_loss() {
    for (name, method) in methods() {
        let mut model = Model::new(DType::F32);
        attach(&mut model, &method);
        let losses = train(&mut model, 120, 0.01);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (first, last) = (mean(&losses[..4]), mean(&losses[116..]));
        assert!(last < 0.97 * first, "{name}: {first} to {last}");
    }
}

#[test]
fn rotations_stay_rotations_over_a_thousand_steps() {
    for (name, method) in methods().into_iter().filter(|(name, _)| name.contains("oft") || *name == "urnn") {
        let mut model = Model::new(DType::F32);
        attach(&mut model, &method);
        train(&mut model, 1000, 0.02);
        let identity = Tensor::from_f32(
            (0..IN * IN).map(|i| f32::from(u8::from(i % (IN + 1) == 0))).collect(),
            &[IN, IN],
        );
        let identity = identity.unwrap();
        // The weight I shows what the inputs are turned by.
        let turned = match &model.slots[0].entries()[0].adapter {
            Adapter::Boft(boft) => identity.butterfly(&boft.rotations().unwrap()).unwrap(),
            other => other.merged(&identity).unwrap(),
        };
        let off = turned.sub(&identity).unwrap().to_f64().unwrap();
        assert!(off.iter().any(|d| d.abs() > 0.05), "{name} never moved");
        assert_close(&turned.matmul_nt(&turned).unwrap(), &identity, Tolerance::new(1e-5, 0.0));
    }
}

#[test]
fn a_rotation_keeps_the_angles_between_rows() {
    let mut model = Model::new(DType::F64);
    attach(&mut model, &Method::from(Boft { factors: 2, ..Boft::default() }));
    perturb(&mut model, 0.5);
    let Adapter::Boft(boft) = &mut model.slots[0].get_mut("default").unwrap().adapter else { panic!("BOFT") };
    boft.s = boft.s.affine(0.0, 1.0).unwrap();
    let merged = model.slots[0].merged_weight(&model.weights[0]).unwrap();
    assert_ne!(merged.to_f64().unwrap(), model.weights[0].to_f64().unwrap());
    let gram = |w: &Tensor| w.matmul_nt(w).unwrap();
    assert_close(&gram(&merged), &gram(&model.weights[0]), Tolerance::new(1e-12, 1e-12));
}

#[test]
fn lora_gas_first_step_is_the_best_of_twice_its_rank() {
    // G AᵀA + B BᵀG is G cut to rank 2r, whatever vectors A and B get.
    let (weight, gradient) =
        (random("w", &[9, 7], -1.0, 1.0).unwrap(), random("g", &[9, 7], -1.0, 1.0).unwrap());
    let svd = peft::Svd::top(&gradient, 6).unwrap();
    let mut best = Tensor::zeros(&[9, 7], DType::F64).unwrap();
    for j in 0..6 {
        let u = Tensor::from_f64(svd.u[j].clone(), &[9, 1]).unwrap().mul_scalar(svd.s[j]).unwrap();
        best = best.add(&u.matmul(&Tensor::from_f64(svd.v[j].clone(), &[1, 7]).unwrap()).unwrap()).unwrap();
    }
    for direction in [Direction::ArB2r, Direction::A2rBr, Direction::ArBr, Direction::Random] {
        let lora = Lora { rank: 3, alpha: 5.0, ..Lora::default() };
        let method = LoraGa { lora, direction, length: Length::Unit, ..LoraGa::default() };
        let at = method.start("p", &weight, &gradient, Kind::Linear, 3).unwrap();
        let step = gradient.matmul(&at.a.matmul_tn(&at.a).unwrap()).unwrap();
        let step = step.add(&at.b.matmul_nt(&at.b).unwrap().matmul(&gradient).unwrap()).unwrap();
        assert_close(&step, &best, Tolerance::new(1e-11, 1e-11));
        assert!(
            at.delta().unwrap().to_f64().unwrap().iter().all(|d| d.abs() < 1e-14),
            "the model does not change"
        );
    }
}

#[test]
fn lora_ga_steps_nearer_to_the_gradient_than_lora() {
    let cosine = |method: Method| {
        let mut model = Model::new(DType::F64);
        let weights = BTreeMap::from([("w".to_string(), model.weights[0].clone())]);
        let (_, full) = grad(&weights, || model.loss(0)).unwrap();
        attach(&mut model, &method);
        let before = model.slots[0].merged_weight(&model.weights[0]).unwrap();
        let mut params = peft::parameters(&mut model);
        let (_, grads) = grad(&params, || model.loss(0)).unwrap();
        for (name, tensor) in &mut params {
            *tensor = tensor.sub(&grads.get(name).unwrap().mul_scalar(1e-3).unwrap()).unwrap();
        }
        peft::store(&mut model, &params).unwrap();
        let moved = before.sub(&model.slots[0].merged_weight(&model.weights[0]).unwrap()).unwrap();
        let dot = |a: &Tensor, b: &Tensor| a.mul(b).unwrap().sum_all().unwrap().to_scalar().unwrap();
        let full = full.get("w").unwrap();
        dot(&moved, full) / (dot(&moved, &moved) * dot(full, full)).sqrt()
    };
    let lora = || Lora { rank: 3, alpha: 5.0, ..Lora::default() };
    let (plain, along) = (cosine(lora().into()), cosine(LoraGa { lora: lora(), ..LoraGa::default() }.into()));
    assert!(along > plain + 0.1 && along > 0.7, "{along} against {plain}");
}

/// At λ = 1 the hybrid is LoRA-GA and at λ = 0 BOFT, in each mode that has such an end. `StepScale` weighs steps by 2 λ and
/// 2 (1 − λ), so that the branch has twice its rate; `Accumulate` at λ = 0 turns a weight anew after each step, which is
/// another path than that of BOFT.
#[test]
fn hybrids_at_the_ends_are_their_branches() {
    let lora_ga = LoraGa { lora: Lora { rank: 3, alpha: 5.0, ..Lora::default() }, ..LoraGa::default() };
    let boft = Boft { factors: 2, ..Boft::default() };
    let follow = |method: Method, rate: f64| {
        let mut model = Model::new(DType::F64);
        attach(&mut model, &method);
        let mut losses = train(&mut model, 25, rate);
        losses.push(model.loss(0).unwrap().to_scalar().unwrap());
        losses
    };
    let ends = [
        (Mode::StepScale, 0.004, 1.0),
        (Mode::StepScale, 0.004, 0.0),
        (Mode::Blend, 0.008, 1.0),
        (Mode::Blend, 0.008, 0.0),
        (Mode::Accumulate, 0.008, 1.0),
    ];
    for (mode, rate, lambda) in ends {
        let rule = Rule::Constant(lambda);
        let hybrid = Hybrid { lora_ga: lora_ga.clone(), boft, mode, rule, ..Hybrid::default() };
        let branch = if lambda == 1.0 { Method::from(lora_ga.clone()) } else { Method::from(boft) };
        let (got, want) = (follow(hybrid.into(), rate), follow(branch, 0.008));
        assert!(want[25] < want[0]);
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() < 1e-10, "{mode:?}, λ = {lambda}, step {step}: {got} and {want}");
        }
    }
}

#[test]
fn lambda_follows_the_norms() {
    let lambda = |rule: Rule, scale: f64| {
        let lora_ga = LoraGa { lora: Lora { rank: 3, ..Lora::default() }, ..LoraGa::default() };
        let boft = Boft { factors: 2, ..Boft::default() };
        let hybrid = Hybrid { lora_ga, boft, rule, momentum: 0.75, ..Hybrid::default() };
        let mut model = Model::new(DType::F64);
        attach(&mut model, &hybrid.into());
        let mut params = peft::parameters(&mut model);
        let (_, grads) = grad(&params, || model.loss(0)?.mul_scalar(scale)).unwrap();
        let square = |key: &str| {
            let g = grads.get(&format!("layers.0.up.{key}")).unwrap();
            g.mul(g).unwrap().sum_all().unwrap().to_scalar().unwrap()
        };
        let n_l = (square("lora_A.weight") + square("lora_B.weight")).sqrt();
        let n_b = square("boft_R").sqrt();
        let all = peft::step(&mut model, &mut params, &grads, 0, &mut |_| Ok(())).unwrap();
        (all["layers.0.up"], n_l / (n_l + n_b))
    };
    let (got, ratio) = lambda(Rule::Ratio, 1.0);
    assert!(ratio > 0.05 && ratio < 0.95 && (ratio - 0.5).abs() > 0.01, "{ratio}");
    assert!((got - (0.75 * 0.5 + 0.25 * ratio)).abs() < 1e-9);
    assert!((lambda(Rule::Ratio, 100.0).0 - got).abs() < 1e-9, "a factor of the loss changes nothing");
    assert!((lambda(Rule::InverseRatio, 1.0).0 - (0.75 * 0.5 + 0.25 * (1.0 - ratio))).abs() < 1e-9);
    assert!((lambda(Rule::Sigmoid(1.0), 1.0).0 - got).abs() < 1e-9, "with τ = 1 the ratio again");
    assert_eq!(lambda(Rule::Constant(0.3), 1.0).0, 0.3);
    assert_eq!(lambda(Rule::Linear(0.2, 0.8, 10), 1.0).0, 0.2);
}

#[test]
fn an_embedding_takes_lora_and_nothing_else() {
    struct Table(Tensor, Slot);
    impl Host for Table {
        fn visit_sites(&mut self, f: &mut dyn FnMut(Site<'_>)) {
            f(Site {
                path: "wte",
                weight: &mut self.0,
                bias: None,
                slot: &mut self.1,
                kind: Kind::Embedding,
            });
        }
    }
    let mut table = Table(random("t", &[10, 4], -1.0, 1.0).unwrap(), Slot::default());
    let ids = Tensor::from_u32(vec![3, 3, 9], &[3]).unwrap();
    let base = table.1.lookup(&ids, &table.0).unwrap();
    for refused in
        [Method::from(Boft::default()), Urnn.into(), Lora { magnitude: true, ..Lora::default() }.into()]
    {
        assert!(peft::attach(&mut table, &refused, &Targets::names(["wte"]), "default", 0).is_err());
        assert!(table.1.is_empty());
    }
    let lora = Lora { rank: 2, alpha: 3.0, ..Lora::default() };
    peft::attach(&mut table, &lora.into(), &Targets::names(["wte"]), "default", 0).unwrap();
    assert_eq!(table.1.lookup(&ids, &table.0).unwrap().to_f64().unwrap(), base.to_f64().unwrap());
    let mut params = peft::parameters(&mut table);
    assert_eq!(params.keys().collect::<Vec<_>>(), ["wte.lora_embedding_A", "wte.lora_embedding_B"]);
    let a = params.get_mut("wte.lora_embedding_A").unwrap();
    *a = random("a", a.shape(), -1.0, 1.0).unwrap();
    peft::store(&mut table, &params).unwrap();
    let through = table.1.lookup(&ids, &table.0).unwrap();
    assert_ne!(through.to_f64().unwrap(), base.to_f64().unwrap());
    peft::merge(&mut table).unwrap();
    assert_close(&table.0.embedding(&ids).unwrap(), &through, Tolerance::new(1e-14, 1e-14));
}

#[test]
fn dropout_is_for_training_and_the_same_again() {
    for method in [
        Method::from(Lora { rank: 4, dropout: 0.5, ..Lora::default() }),
        Method::from(Lora { rank: 4, dropout: 0.5, magnitude: true, ..Lora::default() }),
        Method::from(Boft { dropout: 0.5, factors: 2, ..Boft::default() }),
    ] {
        let mut model = Model::new(DType::F32);
        attach(&mut model, &method);
        perturb(&mut model, 0.3);
        let run = |model: &Model| model.forward(&x(DType::F32)).unwrap().to_f32().unwrap();
        let quiet = run(&model);
        peft::train(&mut model, 1, 4);
        let four = run(&model);
        assert_ne!(four, quiet);
        peft::train(&mut model, 1, 5);
        assert_ne!(run(&model), four);
        peft::train(&mut model, 1, 4);
        assert_eq!(run(&model), four);
        peft::evaluate(&mut model);
        assert_eq!(run(&model), quiet);
    }
}

#[test]
fn settings_that_do_not_fit_are_refused_and_nothing_is_attached() {
    let mut model = Model::new(DType::F32);
    let lora = |rank| Method::from(Lora { rank, ..Lora::default() });
    let nan = Method::from(Lora { alpha: f64::NAN, ..Lora::default() });
    let boft = |blocks, factors| Method::from(Boft { blocks, factors, dropout: 0.0 });
    for method in [
        lora(0),
        lora(1_000_000_000_000),
        nan,
        boft(Blocks::Size(0), 1),
        boft(Blocks::Size(5), 1),
        boft(Blocks::Count(0), 1),
        boft(Blocks::Size(4), 0),
        boft(Blocks::Size(4), 4),
        boft(Blocks::Size(4), 200),
        Method::from(LoraGa::default()),
    ] {
        let error =
            peft::attach(&mut model, &method, &Targets::all_linear(), "default", 0).expect_err("refused");
        assert!(model.slots.iter().all(Slot::is_empty), "{error}");
    }
    let error = peft::attach(&mut model, &lora(2), &Targets::names(["nosuch"]), "default", 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("nosuch") && error.contains("up, down"), "{error}");
    // The second map refuses: the first is left alone.
    let pattern = Overrides::new([("down", 0)]).unwrap();
    let method = Method::from(Lora { rank: 2, rank_pattern: pattern, ..Lora::default() });
    assert!(peft::attach(&mut model, &method, &Targets::all_linear(), "default", 0).is_err());
    assert!(model.slots.iter().all(Slot::is_empty));
}

#[test]
fn what_is_not_finite_is_not_merged() {
    let mut model = Model::new(DType::F32);
    attach(&mut model, &Method::from(Lora::default()));
    let mut params = peft::parameters(&mut model);
    let b = params.get_mut("layers.0.down.lora_B.weight").unwrap();
    *b = Tensor::full(b.shape(), f64::NAN, DType::F32).unwrap();
    peft::store(&mut model, &params).unwrap();
    let before = model.weights[0].to_f32().unwrap();
    assert!(peft::merge(&mut model).unwrap_err().to_string().contains("layers.0.down"));
    assert_eq!(model.weights[0].to_f32().unwrap(), before);
}
