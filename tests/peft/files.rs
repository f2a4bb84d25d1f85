//! Adapter folders that PEFT wrote: read, merged as PEFT merges, written again key for key.

use std::path::Path;

use ransnn::peft::{self, Boft, Config, Host, Hybrid, Kind, Lora, LoraGa, Method, Targets, Urnn};
use ransnn::tensor::check::{Tolerance, assert_close, random};
use ransnn::tensor::{DType, Tensor};

use crate::support::{Matrices, large, read, small};

/// Reads a folder into a model and writes it again: nothing may change.
fn there_and_back(model: &mut Matrices, folder: &Path) {
    let loaded = peft::load(model, folder, "default").unwrap_or_else(|e| panic!("{e}"));
    assert!(loaded.warnings.is_empty(), "{folder:?}: {:?}", loaded.warnings);
    let out = tempfile::tempdir().expect("a folder");
    peft::save(model, out.path(), "default", &loaded.config).expect("written");
    let text = |folder: &Path| std::fs::read_to_string(folder.join("adapter_config.json")).expect("there");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let (theirs, ours) = (text(folder), text(out.path()));
    assert_eq!(json(&ours), json(&theirs), "{folder:?}");
    assert_eq!(ours.trim_end(), theirs.trim_end(), "{folder:?}");
    let mut theirs = read(&folder.join("adapter_model.safetensors"));
    let ours = read(&out.path().join("adapter_model.safetensors"));
    // Copies that PEFT leaves beside saved modules.
    theirs.retain(|name, _| !name.contains("original_module") && !name.contains("modules_to_save"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{folder:?}");
    for (name, tensor) in &theirs {
        assert_eq!(ours[name].meta(), tensor.meta(), "{name}");
        assert_eq!(ours[name].to_f32().expect("f32"), tensor.to_f32().expect("f32"), "{name}");
    }
}

/// Maps of the sizes that the small adapters were made for.
fn llama() -> Matrices {
    let weight =
        |out: usize| random("w", &[out, 64], -0.1, 0.1).expect("fits").to_dtype(DType::F32).expect("runs");
    let layer = |i: usize| {
        [("q_proj", 64), ("k_proj", 32), ("v_proj", 32)].map(|(name, out)| {
            let path = format!("model.layers.{i}.self_attn.{name}");
            (path, Kind::Linear, weight(out), None, Default::default())
        })
    };
    Matrices((0..2).flat_map(layer).collect())
}

#[test]
fn small_folders_come_back_key_for_key() {
    for name in ["lora_qv_r4", "boft_bn8_m2_qv"] {
        there_and_back(&mut llama(), &small().join("adapters").join(name));
    }
}

#[test]
fn factors_that_peft_dropped_are_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = small().join("adapters/boft_bn8_m2_qv");
    let config = std::fs::read_to_string(from.join("adapter_config.json")).expect("there");
    let config = config.replace("\"boft_n_butterfly_factor\": 2", "\"boft_n_butterfly_factor\": 3");
    std::fs::write(folder.path().join("adapter_config.json"), config).expect("written");
    std::fs::copy(from.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors"))
        .expect("copied");
    let error = peft::load(&mut llama(), folder.path(), "default").expect_err("refused").to_string();
    assert!(error.contains("CUDA extension"), "{error}");
}

#[test]
fn every_method_comes_back_and_computes_the_same() {
    let targets = || Targets::names(["q_proj", "v_proj"]);
    let lora = || Lora { rank: 3, alpha: 5.0, ..Lora::default() };
    let ga = || LoraGa { lora: lora(), ..LoraGa::default() };
    let hybrid = |mode| Hybrid { lora_ga: ga(), mode, ..Hybrid::default() };
    use ransnn::peft::hybrid::Mode;
    let methods: [(Method, bool); 8] = [
        (Lora { magnitude: true, ..lora() }.into(), true),
        (ga().into(), true),
        (LoraGa { lora: Lora { rank_stabilised: true, ..lora() }, ..LoraGa::default() }.into(), true),
        (Boft::default().into(), true),
        (Urnn.into(), false),
        (hybrid(Mode::StepScale).into(), false),
        (hybrid(Mode::Blend).into(), false),
        (hybrid(Mode::Accumulate).into(), false),
    ];
    let x = random("x", &[3, 64], -1.0, 1.0).expect("fits").to_dtype(DType::F32).expect("runs");
    for (method, known) in methods {
        let mut model = llama();
        let loss = &mut |model: &Matrices, _| {
            let each = model
                .0
                .iter()
                .map(|(_, _, weight, bias, slot)| slot.apply(&x, weight, bias.as_ref())?.tanh()?.sum_all());
            each.reduce(|a, b| a?.add(&b?)).expect("maps")
        };
        peft::attach_calibrated(&mut model, &method, &targets(), "mine", 1, Default::default(), loss)
            .expect("attached");
        let mut params = peft::parameters(&mut model);
        for (name, tensor) in &mut params {
            let noise =
                random(name, tensor.shape(), -0.1, 0.1).expect("fits").to_dtype(DType::F32).expect("runs");
            *tensor = tensor.add(&noise).expect("runs");
        }
        peft::store(&mut model, &params).expect("fits");
        let config = Config { base: Some("somewhere/base".into()), ..Config::new(method.clone(), targets()) };
        let out = tempfile::tempdir().expect("a folder");
        peft::save(&mut model, out.path(), "mine", &config).expect("written");
        let folder = out.path().join("mine");
        let mut other = llama();
        let loaded = peft::load(&mut other, &folder, "theirs").unwrap_or_else(|e| panic!("{method:?}: {e}"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(loaded.config.base.as_deref(), Some("somewhere/base"));
        let run = |model: &Matrices| model.0[0].4.apply(&x, &model.0[0].2, None).expect("runs");
        assert_ne!(
            run(&model).to_f32().expect("f32"),
            x.matmul_nt(&model.0[0].2).expect("runs").to_f32().expect("f32")
        );
        assert_close(&run(&other), &run(&model), Tolerance::new(2e-6, 2e-6));
        let config = std::fs::read_to_string(folder.join("adapter_config.json")).expect("there");
        assert_eq!(config.contains("\"ransnn\""), !known, "methods that PEFT does not know are marked");
        let card = std::fs::read_to_string(folder.join("README.md")).expect("there");
        assert_eq!(card.contains("ransnn peft merge"), !known);
    }
}

#[test]
fn a_name_is_never_a_path() {
    let mut model = llama();
    let method = Method::from(Lora::default());
    let out = tempfile::tempdir().expect("a folder");
    for name in ["../up", "a/b", "/x", ".."] {
        peft::attach(&mut model, &method, &Targets::names(["q_proj"]), name, 0).expect("attached");
        let config = Config::new(method.clone(), Targets::names(["q_proj"]));
        assert!(peft::save(&mut model, out.path(), name, &config).is_err(), "{name}");
    }
    assert_eq!(std::fs::read_dir(out.path()).expect("there").count(), 0);
}

#[test]
fn every_folder_of_peft_merges_as_peft_merges_it() {
    let mut seen = 0;
    for family in ["llama", "gpt2", "bert_cls", "qwen2", "mistral"] {
        let Some(folder) = large(family) else { continue };
        for adapter in std::fs::read_dir(folder.join("adapters")).expect("a folder") {
            let adapter = adapter.expect("readable").path();
            let mut model = Matrices::open(&folder.join("model/model.safetensors"));
            there_and_back(&mut model, &adapter);
            peft::merge(&mut model).unwrap_or_else(|e| panic!("{adapter:?}: {e}"));
            let name = adapter.file_name().expect("a name").to_string_lossy().into_owned();
            let expected = read(&folder.join("expected").join(format!("{name}.safetensors")));
            let mut compared = 0;
            model.visit_sites(&mut |site| {
                let of = |end: &str| expected.get(&format!("merged.{}.{end}", site.path));
                if let Some(want) = of("weight") {
                    let want = if site.kind == Kind::Conv1D {
                        want.transpose(0, 1).expect("turns")
                    } else {
                        want.clone()
                    };
                    assert_close(site.weight, &want, Tolerance::new(1e-5, 0.0));
                    compared += 1;
                }
                if let (Some(bias), Some(want)) = (site.bias, of("bias")) {
                    assert_close(bias, want, Tolerance::new(1e-5, 0.0));
                }
            });
            // One folder comes without merged weights.
            assert!(
                compared > 0 || !expected.keys().any(|key| key.starts_with("merged.")),
                "{adapter:?}: nothing compared"
            );
            seen += compared;
        }
    }
    println!("{seen} merged weights compared");
}

#[test]
fn a_tensor_keeps_its_kind() {
    // Adapters are f32 whatever the base is.
    let mut model = llama();
    model.0.iter_mut().for_each(|(_, _, weight, ..)| *weight = weight.to_dtype(DType::Bf16).expect("runs"));
    peft::load(&mut model, &small().join("adapters/lora_qv_r4"), "default").expect("loads");
    assert!(peft::parameters(&mut model).values().all(|t: &Tensor| t.dtype() == DType::F32));
    peft::merge(&mut model).expect("merged");
    assert!(model.0.iter().all(|(_, _, weight, ..)| weight.dtype() == DType::Bf16));
}
