//! Fine-tuning: gradients block by block, resuming, learning.

use ransnn::models::finetune::{Event, Example, FineTune, Part, State, Target, Trained, data, evaluate};
use ransnn::models::{Generation, Model, Tokenizer};
use ransnn::peft::hybrid::Mode;
use ransnn::peft::{self, Calibration, Hybrid, Lora, LoraGa, Method, Targets};
use ransnn::tensor::{DType, grad};
use ransnn::{Error, Result};

use super::support::{batch, distance, labels, read, small};

const DECODERS: [&str; 5] = ["llama3", "llama_bias", "mistral_window", "qwen2_window", "gpt2"];

fn with_lora(name: &str) -> Model {
    let mut model = Model::open(&small().join(name), DType::F32).expect("opens");
    let targets = if name == "gpt2" {
        "c_attn"
    } else if name.starts_with("bert") {
        "query"
    } else {
        "q_proj"
    };
    let method = Method::from(Lora { rank: 2, ..Lora::default() });
    peft::attach(&mut model, &method, &Targets::names([targets]), "default", 3).expect("attaches");
    model
}

#[test]
fn gradients_block_by_block_are_the_gradients() {
    for name in DECODERS.iter().chain(&["bert", "bert_regression"]) {
        let io = read(&small().join(name).join("io.safetensors"));
        let (batch, labels) = (batch(&io, ""), labels(&io));
        for part in [Part::All, Part::Adapters] {
            let mut model = with_lora(name);
            if part == Part::All {
                peft::detach(&mut model, "default").expect("detaches");
            }
            let trained = Trained { model: &mut model, part };
            let (loss, want) = grad(&trained, || trained.model.loss(&batch, &labels)).expect("a gradient");
            let (again, got) =
                trained.model.grad_recomputed(&trained.tensors(), &batch, &labels).expect("a gradient");
            assert!((loss.to_scalar().expect("one") - again.to_scalar().expect("one")).abs() < 1e-6);
            assert_eq!(got.iter().count(), want.iter().count(), "{name} {part:?}");
            for (path, want) in want.iter() {
                let d = distance(got.get(path).expect("there"), want);
                assert!(d < 1e-5, "{name} {part:?}: {path} is off by {d}");
            }
        }
    }
}

fn run(model: &mut Model, how: &FineTune, examples: &[Example], state: &mut State) -> Result<Vec<f64>> {
    let mut losses = vec![];
    let mut trained = Trained { model, part: Part::Adapters };
    how.run(&mut trained, [examples, examples], state, &mut (), &mut |event, _, _| {
        if let Event::Step { loss, .. } = event {
            losses.push(*loss);
        }
        Ok(())
    })?;
    Ok(losses)
}

fn sentences() -> Vec<Example> {
    (0..7)
        .map(|i| {
            let ids: Vec<i64> = (0..6 + i % 3).map(|j| (i * 5 + j * 3) % 40).collect();
            Example { types: vec![0; ids.len()], target: Target::Tokens(ids.clone()), ids }
        })
        .collect()
}

/// A model with an adapter whose method may begin by the gradient.
fn with(method: &Method) -> Model {
    let mut model = Model::open(&small().join("llama3"), DType::F32).expect("opens");
    let all = sentences();
    let loss = &mut |model: &Model, i: usize| {
        let (batch, labels) = data::batch(&[&all[i % all.len()]], 0)?;
        model.loss(&batch, &labels)
    };
    let (targets, calibration) = (Targets::names(["q_proj"]), Calibration::default());
    peft::attach_calibrated(&mut model, method, &targets, "default", 3, calibration, loss).expect("attaches");
    model
}

#[test]
fn what_goes_on_is_as_if_it_had_not_stopped() {
    let lora = || Lora { rank: 2, ..Lora::default() };
    let ga = || LoraGa { lora: lora(), ..LoraGa::default() };
    let hybrid = |mode| Method::from(Hybrid { lora_ga: ga(), mode, ..Hybrid::default() });
    for method in [lora().into(), ga().into(), hybrid(Mode::StepScale), hybrid(Mode::Accumulate)] {
        goes_on(&method);
    }
}

fn goes_on(method: &Method) {
    let how = FineTune {
        steps: 9,
        batch: 2,
        accumulate: 2,
        learning_rate: 0.05,
        warmup: 2,
        seed: 5,
        ..FineTune::default()
    };
    let mut whole = with(method);
    let losses = run(&mut whole, &how, &sentences(), &mut how.start()).expect("runs");
    assert!(losses[8] < losses[0] - 0.1, "{method:?} {losses:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step-4.safetensors");
    let mut first = with(method);
    let mut trained = Trained { model: &mut first, part: Part::Adapters };
    let mut state = how.start();
    let stopped =
        how.run(&mut trained, [&sentences(), &[]], &mut state, &mut (), &mut |_, trained, state| {
            if state.step < 4 {
                return Ok(());
            }
            state.save(&path, trained)?;
            Err(Error::Interrupted { checkpoint: None })
        });
    assert!(matches!(stopped, Err(Error::Interrupted { .. })));
    let mut second = with(method);
    let mut state = how.start();
    state.load(&path, &mut Trained { model: &mut second, part: Part::Adapters }).expect("loads");
    assert_eq!(run(&mut second, &how, &sentences(), &mut state).expect("runs"), losses[4..], "{method:?}");
    // Adapters are worth nothing on another model, even if all names and sizes are the same.
    let mut other = with(method);
    other.visit_weights_mut(&mut |name, weight| {
        if name == "model.layers.1.mlp.up_proj.weight" {
            *weight = weight.mul_scalar(1.01).expect("runs");
        }
    });
    let refused = how.start().load(&path, &mut Trained { model: &mut other, part: Part::Adapters });
    assert!(refused.expect_err("refused").to_string().contains("another base model"));
    // A file that is no checkpoint is refused.
    let mut other = with_lora("qwen2_window");
    assert!(
        how.start()
            .load(
                &small().join("gpt2/model.safetensors"),
                &mut Trained { model: &mut other, part: Part::All }
            )
            .is_err()
    );
}

#[test]
fn recomputing_changes_nothing_and_divergence_is_told() {
    let how = FineTune { steps: 4, batch: 3, learning_rate: 0.02, ..FineTune::default() };
    let train = |how: &FineTune| {
        let mut model = with_lora("mistral_window");
        run(&mut model, how, &sentences(), &mut how.start()).expect("runs")
    };
    let (kept, again) = (train(&how), train(&FineTune { recompute: true, ..how.clone() }));
    for (a, b) in kept.iter().zip(&again) {
        assert!((a - b).abs() < 1e-5, "{kept:?} {again:?}");
    }
    let mut model = Model::open(&small().join("hostile/nan_weight"), DType::F32).expect("opens");
    let method = Method::from(Lora::default());
    peft::attach(&mut model, &method, &Targets::names(["q_proj"]), "default", 0).expect("attaches");
    let few: Vec<Example> = sentences()
        .into_iter()
        .map(|mut e| {
            e.ids.iter_mut().for_each(|id| *id %= 32);
            e.target = Target::Tokens(e.ids.clone());
            e
        })
        .collect();
    assert!(matches!(run(&mut model, &how, &few, &mut how.start()), Err(Error::Diverged(_))));
    assert!(run(&mut model, &how, &[], &mut how.start()).is_err());
}

#[test]
fn a_model_from_nothing_learns_a_text_and_says_it() {
    let mut config = Model::open(&small().join("llama3"), DType::F32).expect("opens").config().clone();
    config.vocab = 257;
    config.initializer_range = 0.1;
    let mut model = Model::random(config, 1).expect("made");
    let text = vec![vec![("text".to_string(), "abcdefgh".repeat(24))]];
    let examples = data::language(&text, &data::Fields::default(), &Tokenizer::bytes(), 16).expect("good");
    assert_eq!(examples.len(), 12);
    let how = FineTune { steps: 60, batch: 4, learning_rate: 0.02, ..FineTune::default() };
    let before = evaluate(&model, &examples, 4, 0).expect("runs");
    let mut trained = Trained { model: &mut model, part: Part::All };
    how.run(&mut trained, [&examples, &examples], &mut how.start(), &mut (), &mut |_, _, _| Ok(()))
        .expect("runs");
    let after = evaluate(&model, &examples, 4, 0).expect("runs");
    assert!(before.loss > 4.0 && after.loss < 0.3, "{before:?} {after:?}");
    let prompt: Vec<i64> = "abc".bytes().map(i64::from).collect();
    let texts = model
        .generate(&[prompt], &Generation { tokens: 10, ..Generation::default() }, &mut ())
        .expect("runs");
    assert_eq!(Tokenizer::bytes().decode(&texts[0]).expect("bytes"), "defghabcde");
}
