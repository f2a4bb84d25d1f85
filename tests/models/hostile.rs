//! Models and inputs that are broken or hostile: one clear error each.

use std::path::Path;

use ransnn::models::{Batch, Labels, Model};
use ransnn::tensor::{DType, safetensors};

use super::support::small;

fn open(name: &str) -> Result<Model, String> {
    Model::open(&small().join("hostile").join(name), DType::F32).map_err(|e| e.to_string())
}

#[test]
fn folders() {
    open("base").expect("the control loads");
    let logits =
        open("index_ok").expect("loads").logits(&Batch::new(&[[1, 2, 3]]).expect("good")).expect("runs");
    let base = open("base").expect("loads").logits(&Batch::new(&[[1, 2, 3]]).expect("good")).expect("runs");
    assert_eq!(logits.to_f32().expect("f32"), base.to_f32().expect("f32"));
    let cases = [
        ("missing_tensor", "tensor `model.layers.0.self_attn.o_proj.weight` is missing"),
        ("wrong_shape_q", "tensor `model.layers.0.self_attn.q_proj.weight` is f32 [20, 16]"),
        ("layers_million", "tensor `model.layers.1.input_layernorm.weight` is missing"),
        ("hidden_huge", "`hidden_size` is 1099511627776"),
        ("hidden_string", "`hidden_size` is \"16x\""),
        ("type_unknown", "models of type `nosuchmodel` are not known"),
        ("config_truncated", "not JSON"),
        ("index_traversal", "is not the name of a file in the folder"),
        ("index_missing_shard", "cannot read"),
        ("no_weights", "there are no weights"),
        ("nowhere", "cannot read"),
    ];
    for (name, want) in cases {
        let message = open(name).expect_err(name);
        assert!(message.contains(want), "{name}: {message}");
    }
    let error = open("nan_weight").expect("loads").must_be_finite().expect_err("found").to_string();
    assert!(error.contains("not finite"), "{error}");
}

#[test]
fn files_of_tensors() {
    let folder = small().join("hostile/safetensors");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let all = |path: &Path| {
            let file = safetensors::File::open(path)?;
            file.names().try_for_each(|name| file.tensor(name).map(drop))
        };
        let good = name.starts_with("ok_") || name == "name_traversal";
        assert_eq!(all(&path).is_ok(), good, "{name}");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn tokens_and_labels() {
    let model = open("base").expect("loads");
    let batch = Batch::new(&[[1, 2, 3]]).expect("good");
    let message = model.logits(&Batch::new(&[[1, 2, 32]]).expect("good")).expect_err("refused").to_string();
    assert_eq!(message, "a token is 32; it must be below 32, the size of the vocabulary");
    let loss = |labels: [i64; 3]| model.loss(&batch, &Labels::next_tokens(&[labels]).expect("good"));
    assert!(loss([1, 2, 3]).is_ok());
    for labels in [[-100; 3], [1, 2, 35]] {
        assert!(loss(labels).is_err(), "{labels:?}");
    }
    assert!(
        model.loss(&Batch::new(&[[1]]).expect("good"), &Labels::next_tokens(&[[1]]).expect("good")).is_err()
    );
    let hidden = batch.clone().with_mask(&[[0, 0, 0]]).expect("good");
    assert!(model.logits(&hidden).expect("runs").to_f32().expect("f32").iter().all(|x| x.is_finite()));
    // Rotary positions go on; learnt ones end.
    let long = Batch::new(&[vec![1; 200]]).expect("good");
    assert!(model.logits(&long).is_ok());
    let gpt2 = Model::open(&small().join("gpt2"), DType::F32).expect("loads");
    assert!(gpt2.logits(&long).expect_err("refused").to_string().contains("the model has learnt no more"));
}
