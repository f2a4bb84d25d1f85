//! Language models on a GPU: losses and gradients of whole models and of adapters as on the CPU, and steps of training.

use super::compare_numbers;
use ransnn::models::finetune::{Example, FineTune, Part, Target, Trained};
use ransnn::models::{Batch, Labels, Model};
use ransnn::peft::{self, Boft, Lora, Method, Targets, Urnn};
use ransnn::tensor::check::Tolerance;
use ransnn::tensor::cuda::Gpu;
use ransnn::tensor::{DType, Device, Tensor, grad};
use std::collections::BTreeMap;
use std::path::Path;

/// What weights are stored as, the model, and where adapters sit.
const MODELS: [(&str, DType, &str); 4] = [
    ("llama3", DType::F32, "q_proj"),
    ("llama3", DType::Bf16, "down_proj"),
    ("gpt2", DType::F32, "c_attn"),
    ("bert", DType::F32, "query"),
];

fn open(name: &str, dtype: DType) -> Model {
    // From the root of the repository, where tests run; the binary may have been built elsewhere.
    let folder = Path::new("tests/fixtures/models").join(name);
    Model::open(&folder, dtype).unwrap()
}

fn examples(model: &Model) -> (Batch, Labels) {
    let rows: Vec<Vec<i64>> =
        (0..2).map(|row| (0..7).map(|i| (row * 31 + i * 11) % 36 + 3).collect()).collect();
    let batch = Batch::new(&rows).unwrap().with_mask(&[vec![1; 7], vec![0, 0, 1, 1, 1, 1, 1]]).unwrap();
    let labels = match model.config().labels {
        0 => Labels::next_tokens(&rows).unwrap(),
        _ => Labels::Classes(Tensor::from_u32(vec![1, 0], &[2]).unwrap()),
    };
    (batch, labels)
}

/// Loss and gradients of what is trained.
fn gradients(model: &mut Model, part: Part) -> (f64, BTreeMap<String, Vec<f64>>) {
    let (batch, labels) = examples(model);
    let trained = Trained { model, part };
    let (loss, grads) = grad(&trained, || trained.model.loss(&batch, &labels)).unwrap();
    let grads = grads.iter().map(|(name, g)| (name.to_string(), g.to_f64().unwrap())).collect();
    (loss.to_scalar().unwrap(), grads)
}

fn equal(what: &str, model: &mut Model, part: Part, on: &Device) {
    let want = gradients(model, part);
    model.move_to(on).unwrap();
    assert_eq!(model.device(), on);
    let got = gradients(model, part);
    assert!((got.0 - want.0).abs() < 1e-5 * want.0.abs(), "{what}: losses {} and {}", got.0, want.0);
    assert!(!got.1.is_empty() && got.1.keys().eq(want.1.keys()), "{what}");
    for (name, values) in &got.1 {
        // A gradient is a long way of sums: its error is that of the largest numbers that went into it.
        let largest = want.1[name].iter().fold(0.0f64, |a, b| a.max(b.abs()));
        compare_numbers(
            &format!("{what}: {name}"),
            values,
            &want.1[name],
            Tolerance::new(1e-7 + 1e-4 * largest, 0.0),
        );
    }
}

/// Whole models and adapters on them.
pub fn models(gpu: &Gpu) {
    let on = Device::Cuda(gpu.clone());
    for (name, dtype, target) in MODELS {
        if dtype == DType::F32 {
            equal(name, &mut open(name, dtype), Part::All, &on);
        }
        let methods: [Method; 4] = [
            Lora { rank: 4, alpha: 8.0, dropout: 0.1, ..Lora::default() }.into(),
            Lora { rank: 4, magnitude: true, ..Lora::default() }.into(),
            Boft { factors: 2, ..Boft::default() }.into(),
            Urnn.into(),
        ];
        for method in methods {
            let mut model = open(name, dtype);
            peft::attach(&mut model, &method, &Targets::names([target]), "default", 3).unwrap();
            peft::train(&mut model, 1, 2);
            equal(&format!("{name} in {dtype} with {method:?}"), &mut model, Part::Adapters, &on);
        }
    }
    training(&on);
}

/// Steps of fine-tuning: the losses of the CPU.
fn training(on: &Device) {
    let text = |i: i64| -> Vec<i64> { (0..12).map(|k| (i * 7 + k * k) % 36 + 3).collect() };
    let examples: Vec<Example> =
        (0..6).map(|i| Example { ids: text(i), types: vec![], target: Target::Tokens(text(i)) }).collect();
    let how = FineTune { steps: 6, batch: 3, learning_rate: 1e-2, ..FineTune::default() };
    let losses = |device: &Device| {
        let mut model = open("llama3", DType::Bf16);
        let lora = Lora { rank: 4, alpha: 16.0, ..Lora::default() };
        peft::attach(&mut model, &lora.into(), &Targets::names(["q_proj", "v_proj"]), "default", 3).unwrap();
        model.move_to(device).unwrap();
        let (mut losses, mut state) = (vec![], how.start());
        let mut trained = Trained { model: &mut model, part: Part::Adapters };
        how.run(&mut trained, [&examples, &[]], &mut state, &mut (), &mut |event, _, _| {
            if let ransnn::models::finetune::Event::Step { loss, .. } = event {
                losses.push(*loss);
            }
            Ok(())
        })
        .unwrap();
        losses
    };
    let (got, want) = (losses(on), losses(&Device::Cpu));
    assert!(got.len() == 6 && got[5] < got[0], "{got:?}");
    compare_numbers("fine-tuning", &got, &want, Tolerance::new(0.0, 1e-3));
}
