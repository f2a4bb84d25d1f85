//! Reading fixtures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ransnn::models::{Batch, Labels};
use ransnn::tensor::{DType, Tensor, safetensors};

/// Small models, made with `tests/fixtures/models/make.py`.
pub fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

/// Larger ones, where the folder of data sets has them.
pub fn large(name: &str) -> Option<PathBuf> {
    let data = PathBuf::from(std::env::var_os("RANSNN_DATA")?);
    let places = [data.join("peft"), data.join("../fixtures/peft/public")];
    let found = places.into_iter().map(|place| place.join(name)).find(|path| path.is_dir());
    if found.is_none() {
        println!("skipped: no peft/{name} in RANSNN_DATA");
    }
    found
}

pub fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let file = safetensors::File::open(path).unwrap_or_else(|e| panic!("{e}"));
    file.names().map(|name| (name.to_string(), file.tensor(name).expect("reads"))).collect()
}

/// Rows of whole numbers of a tensor `[B, T]`.
pub fn rows(tensor: &Tensor) -> Vec<Vec<i64>> {
    let values = tensor.to_f64().expect("numbers");
    values.chunks(tensor.shape()[1]).map(|row| row.iter().map(|&x| x as i64).collect()).collect()
}

/// The batch under a prefix ("" or "left.").
pub fn batch(io: &BTreeMap<String, Tensor>, prefix: &str) -> Batch {
    let get = |name: &str| io.get(&format!("{prefix}{name}")).map(rows);
    let mut batch = Batch::new(&get("input_ids").expect("there")).expect("good");
    if let Some(mask) = get("attention_mask") {
        batch = batch.with_mask(&mask).expect("good");
    }
    if let Some(positions) = get("position_ids") {
        batch = batch.with_positions(&positions).expect("good");
    }
    if let Some(types) = get("token_type_ids") {
        batch = batch.with_types(&types).expect("good");
    }
    batch
}

pub fn labels(io: &BTreeMap<String, Tensor>) -> Labels {
    let labels = &io["labels"];
    match (labels.rank(), labels.dtype()) {
        (2, _) => Labels::next_tokens(&rows(labels)).expect("good"),
        (_, DType::F32) => Labels::Values(labels.clone()),
        _ => Labels::Classes(labels.to_dtype(DType::U32).expect("converts")),
    }
}

/// Largest difference of two tensors.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f64().expect("numbers"), b.to_f64().expect("numbers"));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
