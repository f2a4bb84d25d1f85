//! Every number against transformers.

use std::collections::BTreeMap;
use std::path::Path;

use ransnn::models::{Labels, Model};
use ransnn::tensor::{DType, Tensor, Trainable, grad};

use super::support::{batch, distance, labels, large, read, rows, small};

/// All weights of a model.
struct All<'a>(&'a mut Model);

impl Trainable for All<'_> {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        self.0.visit_weights(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        self.0.visit_weights_mut(f);
    }
}

/// Hidden states, logits, loss and gradients of a folder with `model/`, `io.safetensors` and `grads.safetensors`.
fn compare(folder: &Path, weights: &Path) {
    let mut model = Model::open(weights, DType::F32).unwrap_or_else(|e| panic!("{e}"));
    model.must_be_finite().expect("finite");
    let io = read(&folder.join("io.safetensors"));
    let (batch, labels) = (batch(&io, ""), labels(&io));
    for (i, state) in model.hidden_states(&batch).expect("runs").iter().enumerate() {
        let want = &io[&format!("hidden.{i}")];
        assert!(want.to_f32().expect("f32").iter().any(|x| x.abs() > 0.1));
        let d = distance(state, want);
        assert!(d < 5e-5, "{}: hidden state {i} is off by {d}", folder.display());
    }
    let d = distance(&model.logits(&batch).expect("runs"), &io["logits"]);
    assert!(d < 5e-5, "{}: logits are off by {d}", folder.display());
    let all = All(&mut model);
    let (loss, grads) = grad(&all, || all.0.loss(&batch, &labels)).unwrap_or_else(|e| panic!("{e}"));
    let d = (loss.to_scalar().expect("one") - io["loss"].to_scalar().expect("one")).abs();
    assert!(d < 5e-5, "{}: the loss is off by {d}", folder.display());

    let want = read(&folder.join("grads.safetensors"));
    let largest = want.values().flat_map(|g| g.to_f64().expect("f64")).fold(0.0, |a: f64, b| a.max(b.abs()));
    assert!(largest > 1e-3);
    let mut seen = 0;
    for (name, got) in grads.iter() {
        let want = &want[&format!("grad.{name}")];
        // GPT-2 stores some weights transposed.
        let conv1d = name.starts_with("transformer.h.") && name.ends_with("weight") && got.rank() == 2;
        let got = if conv1d { got.transpose(0, 1).expect("runs") } else { got.clone() };
        let d = distance(&got, want) / largest;
        assert!(d < 1e-4, "{}: the gradient of {name} is off by {d} of the largest", folder.display());
        seen += 1;
    }
    assert_eq!(seen, want.len(), "every gradient is compared");
}

/// Left padding: only what is seen is compared.
fn compare_left(folder: &Path, model: &Model) {
    let io = read(&folder.join("io.safetensors"));
    let Some(want) = io.get("left.logits") else { return };
    let got = model.logits(&batch(&io, "left.")).expect("runs").to_f64().expect("f64");
    let (want, mask) = (want.to_f64().expect("f64"), rows(&io["left.attention_mask"]).concat());
    assert!(mask.contains(&0));
    let width = want.len() / mask.len();
    for (i, _) in mask.iter().enumerate().filter(|(_, m)| **m == 1) {
        let range = i * width..(i + 1) * width;
        let d = got[range.clone()].iter().zip(&want[range]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(d < 5e-5, "{}: left padding, token {i} is off by {d}", folder.display());
    }
}

const SMALL: [&str; 7] =
    ["llama3", "mistral_window", "qwen2_window", "gpt2", "bert", "bert_regression", "llama_bias"];

#[test]
fn small_models() {
    for name in SMALL {
        let folder = small().join(name);
        compare(&folder, &folder);
        compare_left(&folder, &Model::open(&folder, DType::F32).expect("opens"));
    }
}

#[test]
fn larger_models() {
    for name in ["llama", "gpt2", "bert_cls", "qwen2", "mistral"] {
        let Some(folder) = large(name) else { continue };
        compare(&folder, &folder.join("model"));
        compare_left(&folder, &Model::open(&folder.join("model"), DType::F32).expect("opens"));
    }
    if let (Some(sharded), Some(folder)) = (large("llama_sharded"), large("llama")) {
        compare(&folder, &sharded.join("model"));
    }
}

#[test]
fn a_saved_model_is_the_model() {
    for name in SMALL {
        let model = Model::open(&small().join(name), DType::F32).expect("opens");
        let folder = tempfile::tempdir().expect("a folder");
        model.save(folder.path()).expect("saved");
        let again = read(&folder.path().join("model.safetensors"));
        let first = read(&small().join(name).join("model.safetensors"));
        assert_eq!(again.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>(), "{name}");
        for (name, tensor) in &first {
            assert_eq!(tensor.to_f32().expect("f32"), again[name].to_f32().expect("f32"), "{name}");
        }
        assert!(Model::open(folder.path(), DType::F32).is_ok());
    }
}

#[test]
fn a_cache_changes_nothing() {
    use ransnn::models::Batch;
    for name in ["llama3", "mistral_window", "gpt2"] {
        let model = Model::open(&small().join(name), DType::F32).expect("opens");
        let text: [[i64; 9]; 2] = [[3, 14, 15, 9, 2, 6, 5, 3, 5], [8, 9, 7, 9, 3, 2, 3, 8, 4]];
        let part =
            |from: usize, to: usize| Batch::new(&text.map(|row| row[from..to].to_vec())).expect("good");
        let whole = model.logits(&part(0, 9)).expect("runs");
        let mut cache = model.new_cache(2, 9).expect("a decoder");
        let mut pieces = 0;
        for (from, to) in [(0, 4), (4, 5), (5, 8), (8, 9)] {
            let got = model.read(&part(from, to), &mut cache).expect("runs");
            let want = whole.narrow(1, to - 1, 1).expect("runs").reshape(got.shape()).expect("runs");
            assert!(distance(&got, &want) < 1e-5, "{name} {from}");
            pieces += 1;
        }
        assert_eq!((pieces, cache.len()), (4, 9));
        assert!(model.read(&part(0, 1), &mut cache).is_err(), "full");
    }
}

#[test]
fn half_the_width_is_close_and_other_widths_are_refused() {
    let folder = small().join("llama3");
    let io = read(&folder.join("io.safetensors"));
    let model = Model::open(&folder, DType::Bf16).expect("opens");
    let d = distance(&model.logits(&batch(&io, "")).expect("runs"), &io["logits"]);
    // Weights are rounded to 8 bits.
    assert!(d > 1e-5 && d < 0.1, "{d}");
    assert!(Model::open(&folder, DType::F64).is_err());
}

#[test]
fn a_new_head_and_labels_of_another_kind() {
    use ransnn::models::NewHead;
    let folder = small().join("bert");
    let head = NewHead { labels: 5, seed: 1 };
    let model = Model::open_with(&folder, DType::F32, Some(head)).expect("opens");
    let io = read(&folder.join("io.safetensors"));
    let batch = batch(&io, "");
    let scores = model.logits(&batch).expect("runs");
    assert_eq!(scores.shape(), [batch.sizes().0, 5]);
    assert!(scores.to_f32().expect("f32").iter().any(|&x| x != 0.0));
    let tokens = Labels::next_tokens(&[[1, 2]]).expect("good");
    assert!(model.loss(&batch, &tokens).is_err());
    assert!(Model::open_with(&small().join("gpt2"), DType::F32, Some(head)).is_err());
    let names: BTreeMap<String, ()> = {
        let mut names = BTreeMap::new();
        model.visit_weights(&mut |name, _| _ = names.insert(name.to_string(), ()));
        names
    };
    assert!(names.contains_key("classifier.weight") && names.contains_key("bert.pooler.dense.bias"));
}
