//! First factors of LoRA-GA from given gradients: the paper's, and Hugging Face's.

use std::collections::BTreeMap;

use ransnn::peft::lora_ga::{Direction, Flavour, Length};
use ransnn::peft::{Kind, Lora, LoraAdapter, LoraGa};
use ransnn::tensor::check::{Tolerance, assert_close};
use ransnn::tensor::{DType, Tensor};

use crate::support::{large, read, small};

fn method(flavour: Flavour, direction: Direction, length: Length) -> LoraGa {
    let lora = Lora { rank: 4, alpha: 8.0, ..Lora::default() };
    LoraGa { lora, flavour, direction, length, clip: false }
}

/// The largest entry of every row positive: singular vectors are what they are up to their sign.
fn signed(rows: &Tensor) -> Tensor {
    let (shape, values) = (rows.shape(), rows.to_f64().expect("numbers"));
    let turned = values.chunks(shape[1]).flat_map(|row| {
        let largest = row.iter().fold(0.0f64, |best, &x| if x.abs() > best.abs() { x } else { best });
        row.iter().map(move |x| x * largest.signum())
    });
    Tensor::from_f64(turned.collect(), shape).expect("fits")
}

fn compare(at: &LoraAdapter, a: &Tensor, b: &Tensor, of_a: f64, of_b: f64) {
    let turned = |b: &Tensor| signed(&b.transpose(0, 1).expect("turns"));
    assert_close(&signed(&at.a), &signed(a), Tolerance::new(of_a, 0.0));
    let want = turned(b);
    let largest = want.to_f64().expect("numbers").iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(largest > 0.0);
    assert_close(&turned(&at.b), &want, Tolerance::new(of_b * largest.max(1e-3), 0.0));
}

fn modules(gradients: &BTreeMap<String, Tensor>) -> Vec<(String, Tensor)> {
    let all =
        gradients.iter().filter_map(|(name, g)| Some((name.strip_suffix(".grad")?.to_string(), g.clone())));
    all.collect()
}

#[test]
fn the_papers_factors() {
    let folder = small().join("lora_ga");
    let (gradients, paper) =
        (read(&folder.join("gradients.safetensors")), read(&folder.join("paper.safetensors")));
    let method = method(Flavour::Paper, Direction::ArB2r, Length::Stable(16.0));
    let all = modules(&gradients);
    assert_eq!(all.len(), 4);
    for (path, gradient) in all {
        let get = |what: &str| &paper[&format!("{path}.{what}")];
        let weight = Tensor::zeros(gradient.shape(), DType::F32).expect("fits");
        let at = method.start(&path, &weight, &gradient, Kind::Linear, 0).expect("factors");
        compare(&at, get("lora_A"), get("lora_B"), 1e-4, 1e-4);
        assert_eq!(at.scaling, 2.0);
    }
}

#[test]
fn peft_makes_the_same_in_its_flavour() {
    use {Direction::*, Length::*};
    let variants = [
        ("peft_ArB2r_stable", ArB2r, Stable(16.0), 5e-3),
        ("peft_A2rBr_unit", A2rBr, Unit, 5e-3),
        ("peft_ArB2r_weight_svd", ArB2r, Weight, 5e-2),
        ("peft_ArBr_gd_scale", ArBr, GradientDescent, 5e-3),
    ];
    for family in ["llama", "gpt2", "bert_cls"] {
        let Some(folder) = large(family) else { continue };
        let gradients = read(&folder.join("loraga/batch.safetensors"));
        let base = read(&folder.join("model/model.safetensors"));
        let check = std::fs::read_to_string(folder.join("manifest.json")).expect("there");
        let check: serde_json::Value = serde_json::from_str(&check).expect("JSON");
        for (name, direction, length, of_b) in variants {
            let path = folder.join(format!("loraga/{name}.safetensors"));
            if !path.is_file() {
                continue;
            }
            let theirs = read(&path);
            let method = method(Flavour::HuggingFace, direction, length);
            for (module, gradient) in modules(&gradients) {
                let case = format!("{}.{module}", &name[5..]);
                // A gradient of a rank below 2r: B is any null direction there.
                if check["loraga"]["check"][&case]["degenerate"] == true {
                    continue;
                }
                let conv = family == "gpt2";
                let kind = if conv { Kind::Conv1D } else { Kind::Linear };
                let turn = |x: &Tensor| if conv { x.transpose(0, 1).expect("turns") } else { x.clone() };
                let weight = turn(&base[&format!("{module}.weight")]);
                let at = method
                    .start(&module, &weight, &turn(&gradient), kind, 0)
                    .unwrap_or_else(|e| panic!("{e}"));
                let get = |what: &str| &theirs[&format!("{module}.{what}")];
                compare(&at, get("lora_A"), get("lora_B"), 1e-3, of_b);
                // What the base becomes: W − s B A of their factors, and of ours up to signs.
                let after = weight.sub(
                    &get("lora_B").matmul(get("lora_A")).expect("runs").mul_scalar(at.scaling).expect("runs"),
                );
                assert_close(&after.expect("runs"), &turn(get("weight_after")), Tolerance::new(1e-6, 0.0));
            }
        }
    }
}
