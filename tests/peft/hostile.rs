//! Broken and hostile adapter folders: one clear error each, and nothing attached.

use ransnn::peft;

use crate::support::{Matrices, small};

fn base() -> Matrices {
    Matrices::open(&small().join("hostile/base.safetensors"))
}

#[test]
fn each_is_refused_by_name() {
    let cases = [
        ("type_unknown", "`peft_type` is WOBBLE"),
        ("type_missing", "`peft_type` is missing"),
        ("r_zero", "`r` is 0"),
        ("r_huge", "ask for [1000000000000, 16]"),
        ("r_disagrees", "ask for [5, 16]"),
        ("targets_no_match", "no map of the model matches nosuch"),
        ("targets_bad_regex", "regular expression"),
        ("missing_B", "lora_B.weight` is missing"),
        ("A_wrong_in", "has the shape"),
        ("layer_does_not_exist", "belongs to no map"),
        ("path_traversal_key", "belongs to no map"),
        ("weights_truncated", "not a safetensors file"),
        ("weights_are_text", "not a safetensors file"),
        ("boft_both_sizes", "exactly one must be above 0"),
        ("boft_not_divisor", "a divisor of the inputs"),
        ("boft_R_not_square", "has the shape"),
        ("no_such_folder", "cannot read"),
    ];
    for (name, needle) in cases {
        let mut model = base();
        let folder = small().join("hostile").join(name);
        let error = peft::load(&mut model, &folder, "default").expect_err(name).to_string();
        assert!(error.contains(needle), "{name}: {error}");
        assert!(model.0.iter().all(|(.., slot)| slot.is_empty()), "{name} left something");
    }
}

#[test]
fn what_is_only_odd_is_loaded() {
    for (name, warnings) in [
        ("lora_ok", 0),
        ("boft_ok", 0),
        ("lora_ok_no_prefix", 0),
        ("path_traversal_base", 0),
        ("config_unknown_keys", 2),
    ] {
        let mut model = base();
        let before = model.weights();
        let loaded = peft::load(&mut model, &small().join("hostile").join(name), "default").expect(name);
        assert_eq!((loaded.modules, loaded.warnings.len()), (2, warnings), "{name}: {:?}", loaded.warnings);
        assert_eq!(peft::merge(&mut model).expect(name), 2);
        assert_ne!(model.weights(), before, "{name} does nothing");
        assert!(peft::load(&mut model, &small().join("hostile").join(name), "default").is_err(), "twice");
    }
}

#[test]
fn what_is_not_finite_is_said_and_never_merged() {
    let mut model = base();
    let loaded = peft::load(&mut model, &small().join("hostile/nan_B"), "default").expect("loads");
    assert!(loaded.warnings[0].contains("v_proj.lora_B.weight` holds NaN"), "{:?}", loaded.warnings);
    let before = model.weights();
    assert!(peft::merge(&mut model).expect_err("refused").to_string().contains("v_proj"));
    assert_eq!(model.weights(), before);
}
