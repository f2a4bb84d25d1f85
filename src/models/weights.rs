//! The weights of a Hugging Face folder: one file, or an index of several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::files::read_text;
use crate::tensor::{Tensor, safetensors};
use crate::{Error, Result};

/// Open files of weights and which tensor is in which.
#[derive(Debug)]
pub struct Weights {
    folder: PathBuf,
    files: Vec<safetensors::File>,
    /// Name of a tensor to its file.
    places: BTreeMap<String, usize>,
}

/// The file of a model that is in one piece.
pub const SINGLE: &str = "model.safetensors";
/// The list of pieces of a model that is not.
pub const INDEX: &str = "model.safetensors.index.json";

impl Weights {
    /// Maps the files of a folder. Headers are checked; nothing else is read.
    ///
    /// # Errors
    /// No weights, a broken file, an index that names a file outside of the folder or a tensor that is not in its file.
    pub fn open(folder: &Path) -> Result<Self> {
        if folder.join(SINGLE).is_file() {
            let file = safetensors::File::open(&folder.join(SINGLE))?;
            let places = file.names().map(|name| (name.to_string(), 0)).collect();
            return Ok(Self { folder: folder.into(), files: vec![file], places });
        }
        let index = folder.join(INDEX);
        if !index.is_file() {
            return Err(Error::data(folder, format!("there are no weights: neither {SINGLE} nor {INDEX}")));
        }
        let wrong = |what: String| Error::data(&index, what);
        let value: Value =
            serde_json::from_str(&read_text(&index)?).map_err(|e| wrong(format!("not JSON: {e}")))?;
        let map = value.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| wrong("`weight_map` is missing".into()))?;
        let (mut files, mut known, mut places) = (vec![], BTreeMap::new(), BTreeMap::new());
        for (name, shard) in map {
            let shard = shard.as_str().ok_or_else(|| wrong(format!("the file of `{name}` is not a text")))?;
            let at = match known.get(shard) {
                Some(&at) => at,
                None => {
                    if !is_plain_name(shard) {
                        return Err(wrong(format!("`{shard}` is not the name of a file in the folder")));
                    }
                    files.push(safetensors::File::open(&folder.join(shard))?);
                    known.insert(shard.to_string(), files.len() - 1);
                    files.len() - 1
                }
            };
            if files[at].meta(name).is_err() && !files[at].names().any(|known| known == name) {
                return Err(wrong(format!("`{name}` is not in {shard}")));
            }
            places.insert(name.clone(), at);
        }
        Ok(Self { folder: folder.into(), files, places })
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Reads a tensor, which must have the shape.
    ///
    /// # Errors
    /// It is missing or has another shape; nothing was allocated then.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(&at) = self.places.get(name) else {
            return Err(Error::data(&self.folder, format!("tensor `{name}` is missing")));
        };
        let meta = self.files[at].meta(name)?;
        if meta.shape != shape || !meta.dtype.is_float() {
            let what = format!(
                "tensor `{name}` is {} {:?}; config.json asks for floats {shape:?}",
                meta.dtype, meta.shape
            );
            return Err(Error::data(&self.folder, what));
        }
        self.files[at].tensor(name)
    }
}

/// Whether a text from a file may be joined to a folder: one component that is not `..`.
fn is_plain_name(name: &str) -> bool {
    !name.contains(['/', '\\', ':', '\0']) && !matches!(name, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder() {
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        for name in ["../x", "/etc/x", "a/b", "..", "", "C:x", "a\\b"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
