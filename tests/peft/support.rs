//! Fixtures, and a model that is nothing but the matrices of a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ransnn::peft::{Host, Kind, Site, Slot};
use ransnn::tensor::{Tensor, safetensors};

pub fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft")
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

/// Every matrix of a file as a map.
pub struct Matrices(pub Vec<(String, Kind, Tensor, Option<Tensor>, Slot)>);

impl Matrices {
    pub fn open(path: &Path) -> Self {
        let all = read(path);
        let mut maps = Vec::new();
        for (name, weight) in all.iter().filter(|(_, tensor)| tensor.rank() == 2) {
            let Some(path) = name.strip_suffix(".weight") else { continue };
            let last = path.rsplit('.').next().unwrap_or(path);
            let kind = match last {
                last if last.contains("embed") => Kind::Embedding,
                "wte" | "wpe" => Kind::Embedding,
                "c_attn" | "c_fc" | "c_proj" => Kind::Conv1D,
                _ => Kind::Linear,
            };
            let weight =
                if kind == Kind::Conv1D { weight.transpose(0, 1).expect("turns") } else { weight.clone() };
            let bias = all.get(&format!("{path}.bias")).cloned();
            maps.push((path.to_string(), kind, weight, bias, Slot::default()));
        }
        assert!(!maps.is_empty());
        Self(maps)
    }

    pub fn weights(&self) -> Vec<Vec<f32>> {
        self.0.iter().map(|(_, _, weight, ..)| weight.to_f32().expect("f32")).collect()
    }
}

impl Host for Matrices {
    fn visit_sites(&mut self, f: &mut dyn FnMut(Site<'_>)) {
        for (path, kind, weight, bias, slot) in &mut self.0 {
            f(Site { path, weight, bias: bias.as_mut(), slot, kind: *kind });
        }
    }
}
