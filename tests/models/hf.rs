//! Adapters to and from Hugging Face PEFT itself, logits against logits. `RANSNN_PYTHON` names a Python with torch,
//! transformers and peft; without it nothing is compared.

use std::path::Path;
use std::process::Command;

use ransnn::models::Model;
use ransnn::peft::{self, Boft, Calibration, Config, Lora, LoraGa, Method, Targets};
use ransnn::tensor::{DType, Tensor, check::random, safetensors};

use super::support::{batch, distance, read};

fn python(mode: &str, folder: &Path) -> Option<String> {
    let Some(python) = std::env::var_os("RANSNN_PYTHON") else {
        println!("skipped: RANSNN_PYTHON names no Python with torch, transformers and peft");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/hf.py");
    let output = Command::new(python).arg(script).arg(mode).arg(folder).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    Some(text(&output.stdout))
}

fn open(here: &Path) -> Model {
    Model::open(&here.join("base"), DType::F32).expect("opens")
}

/// What PEFT wrote, read here.
fn read_theirs(here: &Path) -> usize {
    let input = batch(&read(&here.join("base.safetensors")), "");
    let mut seen = 0;
    for entry in std::fs::read_dir(here.join("theirs")).expect("a folder") {
        let adapter = entry.expect("readable").path();
        if !adapter.is_dir() {
            continue;
        }
        let mut model = open(here);
        peft::load(&mut model, &adapter, "default").unwrap_or_else(|e| panic!("{e}"));
        let want = read(&adapter.with_extension("safetensors"));
        let d = distance(&model.logits(&input).expect("runs"), &want["logits"]);
        assert!(d < 1e-4, "{}: off by {d}", adapter.display());
        println!(
            "{}: {d:.1e}",
            adapter.strip_prefix(here.parent().expect("above")).expect("inside").display()
        );
        seen += 1;
    }
    seen
}

/// What is written here, for PEFT to read.
fn write_ours(here: &Path, name: &str) {
    let file = read(&here.join("base.safetensors"));
    let input = batch(&file, "");
    let (targets, task) = match name {
        "gpt2" => (["c_attn", "c_fc"].as_slice(), "CAUSAL_LM"),
        "bert" => (["query", "value"].as_slice(), "SEQ_CLS"),
        _ => (["q_proj", "v_proj", "down_proj"].as_slice(), "CAUSAL_LM"),
    };
    let targets = Targets::names(targets.iter().copied());
    let lora = || Lora { rank: 4, alpha: 6.0, ..Lora::default() };
    let mut methods: Vec<(&str, Method)> = vec![
        ("lora", lora().into()),
        ("rslora", Lora { rank_stabilised: true, ..lora() }.into()),
        ("dora", Lora { magnitude: true, ..lora() }.into()),
        ("lora-ga", LoraGa { lora: lora(), ..LoraGa::default() }.into()),
    ];
    // PEFT has no BOFT for GPT-2, and on a CPU no second factor.
    if name != "gpt2" {
        methods.push(("boft", Boft::default().into()));
    }
    for (method, settings) in methods {
        let mut model = open(here);
        let loss = &mut |model: &Model, _| model.logits(&input)?.tanh()?.sum_all();
        peft::attach_calibrated(&mut model, &settings, &targets, "default", 1, Calibration::default(), loss)
            .expect("attaches");
        let saved = model.class_head(false);
        model.train_whole("default", &saved).expect("a head");
        let mut params = peft::parameters(&mut model);
        for (name, tensor) in &mut params {
            let noise =
                random(name, tensor.shape(), -0.2, 0.2).expect("fits").to_dtype(DType::F32).expect("runs");
            *tensor = tensor.add(&noise).expect("runs");
        }
        peft::store(&mut model, &params).expect("fits");
        let mut config = Config::new(settings, targets.clone());
        config.task = Some(task.into());
        config.saved = saved;
        let out = here.join("ours").join(method);
        std::fs::create_dir_all(&out).expect("created");
        peft::save(&mut model, &out, "default", &config).expect("written");
        let logits: Tensor = model.logits(&input).expect("runs");
        let all = [("logits".to_string(), logits)].into();
        safetensors::write(&out.with_extension("safetensors"), &all, &Default::default()).expect("written");
    }
}

#[test]
fn there_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    if python("make", folder.path()).is_none() {
        return;
    }
    for (name, methods) in [("llama", 4), ("gpt2", 3), ("bert", 4)] {
        assert_eq!(read_theirs(&folder.path().join(name)), methods, "{name}");
        write_ours(&folder.path().join(name), name);
    }
    print!("{}", python("check", folder.path()).expect("checked"));
}
