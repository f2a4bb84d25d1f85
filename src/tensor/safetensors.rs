//! Files of tensors in the safetensors format: read by memory map, written as a stream to a temporary file.
//!
//! ```
//! use std::collections::BTreeMap;
//! use ransnn::tensor::{Tensor, safetensors};
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("model.safetensors");
//! let tensors = BTreeMap::from([("bias".to_string(), Tensor::from_f32(vec![1.0, 2.0], &[2])?)]);
//! safetensors::write(&path, &tensors, &BTreeMap::new())?;
//! let file = safetensors::File::open(&path)?;
//! assert_eq!(file.names().collect::<Vec<_>>(), ["bias"]);
//! assert_eq!(file.tensor("bias")?.to_f32()?, [1.0, 2.0]);
//! # Ok::<(), ransnn::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use super::cpu::Buffer;
use super::{DType, Device, Meta, Tensor, mmap};
use crate::files::{self, Whole};
use crate::{Error, Result};

/// A file that is open for reading. Its header was checked as a whole; values are read when asked for.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    map: Mmap,
    /// Where the values begin.
    start: usize,
    header: Metadata,
    names: Vec<String>,
}

impl File {
    /// Opens a file and checks its header: lengths inside the file, no holes, sizes as shapes say. Nothing is allocated by
    /// what the header claims.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a file.
    pub fn open(path: &Path) -> Result<Self> {
        let map = mmap::map(path)?;
        let wrong = |error| Error::data(path, format!("not a safetensors file: {error}"));
        let (length, header) = SafeTensors::read_metadata(&map).map_err(wrong)?;
        let mut names: Vec<String> = header.tensors().into_keys().collect();
        names.sort_unstable();
        Ok(Self { path: path.into(), map, start: length + 8, header, names })
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The tensors whose names begin with `prefix`, by the rest of their names.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn group(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        let named = self.names().filter_map(|name| Some((name, name.strip_prefix(prefix)?)));
        named.map(|(name, rest)| Ok((rest.to_string(), self.tensor(name)?))).collect()
    }

    /// Free text entries of the header, sorted by key.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Whether what is in the file has the SHA-256 that [`write_summed`] stated in it.
    ///
    /// # Errors
    /// It states none, or another: some bits are not those that were written.
    pub fn check_sum(&self) -> Result<()> {
        let mut metadata = self.metadata();
        let stated = metadata.remove(SUM);
        let damaged = |what| Err(Error::data(&self.path, format!("it is damaged or not ours: {what}")));
        let tensors: Result<BTreeMap<_, _>> =
            self.names().map(|name| Ok((name.to_string(), self.tensor(name)?))).collect();
        match stated {
            None => damaged("it does not state its SHA-256"),
            Some(stated) if stated != sum(&tensors?, &metadata)? => {
                damaged("its content does not have the SHA-256 that it states")
            }
            Some(_) => Ok(()),
        }
    }

    /// Shape and kind of a tensor, without reading it.
    ///
    /// # Errors
    /// There is no tensor of that name, or its kind of number is not one of ours.
    pub fn meta(&self, name: &str) -> Result<Meta> {
        let info = self.header.info(name).ok_or_else(|| self.wrong(name, "is not in the file"))?;
        let dtype =
            ours(info.dtype).ok_or_else(|| self.wrong(name, &format!("holds {:?} values", info.dtype)))?;
        Ok(Meta::new(info.shape.clone(), dtype))
    }

    /// Reads a tensor; errors as [`meta`](Self::meta).
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let meta = self.meta(name)?;
        let info = self.header.info(name).ok_or_else(|| self.wrong(name, "is not in the file"))?;
        let (from, to) = info.data_offsets;
        let bytes = self.map.get(self.start + from..self.start + to);
        let bytes = bytes.filter(|bytes| bytes.len() == meta.bytes());
        let bytes = bytes.ok_or_else(|| self.wrong(name, "does not have the size that its shape says"))?;
        let mut buffer = Buffer::zeros(meta.dtype, meta.len());
        buffer.bytes_mut().copy_from_slice(bytes);
        Tensor::from_buffer(buffer, &meta.shape)
    }

    fn wrong(&self, name: &str, what: &str) -> Error {
        Error::data(&self.path, format!("tensor `{name}` {what}"))
    }
}

fn ours(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::BF16 => DType::Bf16,
        Dtype::F16 => DType::F16,
        Dtype::U8 | Dtype::BOOL => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I64 => DType::I64,
        _ => return None,
    })
}

fn theirs(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::Bf16 => "BF16",
        DType::F16 => "F16",
        DType::U8 => "U8",
        DType::U32 => "U32",
        DType::I64 => "I64",
    }
}

/// Key of the text entry with the SHA-256 of all others and of the tensors.
const SUM: &str = "sha256";

/// Names, shapes, kinds and values of tensors, and text entries, as one number.
fn sum(tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<String> {
    let entries = metadata.iter().map(|(key, text)| format!("{key}={text}\n"));
    let headers = tensors.iter().map(|(name, tensor)| format!("{name}: {:?}\n", tensor.meta()));
    let head: String = entries.chain(headers).collect();
    let tensors: Vec<Tensor> =
        tensors.values().map(|tensor| tensor.to_device(&Device::Cpu)).collect::<Result<_>>()?;
    let values: Vec<&[u8]> =
        tensors.iter().map(|tensor| Ok(tensor.buffer()?.bytes())).collect::<Result<_>>()?;
    Ok(files::sha256([head.as_bytes()].into_iter().chain(values)))
}

/// [`write()`] with a SHA-256 of everything in a text entry, for [`File::check_sum`]: in files whose flipped bit nobody
/// would see.
///
/// # Errors
/// As [`write()`].
pub fn write_summed(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut metadata = metadata.clone();
    metadata.remove(SUM);
    metadata.insert(SUM.into(), sum(tensors, &metadata)?);
    write(path, tensors, &metadata)
}

/// Writes tensors and free text entries: to a temporary file beside `path`, which then takes its name, so that a reader
/// never sees half a file. Tensors are written one after another in the order of their names.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in tensors {
        let (meta, end) = (tensor.meta(), offset + tensor.meta().bytes());
        let info = serde_json::json!({
            "dtype": theirs(meta.dtype), "shape": meta.shape, "data_offsets": [offset, end]
        });
        if name == "__metadata__" || header.insert(name.clone(), info).is_some() {
            return Err(Error::value("a tensor's name", name, "free: the format uses it itself"));
        }
        offset = end;
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    // Values begin at a multiple of eight bytes.
    text.resize(text.len().next_multiple_of(8), b' ');

    let io = || Error::io("write", path);
    let mut out = Whole::create(path)?;
    out.write_all(&(text.len() as u64).to_le_bytes()).map_err(io())?;
    out.write_all(&text).map_err(io())?;
    for tensor in tensors.values() {
        out.write_all(tensor.to_device(&Device::Cpu)?.buffer()?.bytes()).map_err(io())?;
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, bytes).expect("written");
        let error = File::open(&path).and_then(|file| file.tensor("a").map(drop)).expect_err("refused");
        error.to_string().replace(&path.display().to_string(), "FILE")
    }

    fn file(header: &str, values: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; values]].concat()
    }

    #[test]
    fn every_kind_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        let x = Tensor::from_f32(vec![1.0, 0.0, 3.5, 250.0], &[2, 2]).expect("fits");
        let kinds = [DType::F32, DType::F64, DType::Bf16, DType::F16, DType::U8, DType::U32, DType::I64];
        let tensors: BTreeMap<String, Tensor> =
            kinds.iter().map(|&d| (format!("layer.{d}"), x.to_dtype(d).expect("runs"))).collect();
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        write(&path, &tensors, &metadata).expect("written");
        let file = File::open(&path).expect("opens");
        assert_eq!(file.metadata(), metadata);
        assert_eq!(file.names().count(), kinds.len());
        for (name, tensor) in &tensors {
            let back = file.tensor(name).expect("reads");
            assert_eq!(
                (back.meta(), back.buffer().expect("cpu")),
                (tensor.meta(), tensor.buffer().expect("cpu"))
            );
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no temporary file stays");
        let theirs = SafeTensors::deserialize(&file.map).expect("the reference reader agrees");
        assert_eq!(theirs.len(), kinds.len());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        let x = Tensor::from_f32(vec![1.0, -2.0, 0.5], &[3]).expect("fits");
        let tensors = BTreeMap::from([("a".to_string(), x.clone()), ("b".to_string(), x)]);
        let metadata = BTreeMap::from([("iteration".to_string(), "17".to_string())]);
        write_summed(&path, &tensors, &metadata).expect("written");
        File::open(&path).and_then(|file| file.check_sum()).expect("whole");
        let bytes = std::fs::read(&path).expect("read");
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).expect("written");
            let checked = File::open(&path).and_then(|file| file.check_sum());
            assert!(matches!(checked, Err(Error::Data { .. })), "bit {} of byte {}", bit % 8, bit / 8);
        }
        write(&path, &tensors, &metadata).expect("written");
        let error = File::open(&path).and_then(|file| file.check_sum()).expect_err("no sum").to_string();
        assert!(error.contains("does not state its SHA-256"), "{error}");
    }

    #[test]
    fn bad_files_are_refused_by_name() {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        assert!(refused(&file(header, 4)).starts_with("FILE: not a safetensors file"), "truncated");
        assert!(refused(&file(header, 9)).starts_with("FILE: not a safetensors file"), "too long");
        assert!(refused(&[1, 2, 3]).starts_with("FILE: not a safetensors file"));
        assert!(refused(&u64::MAX.to_le_bytes()).starts_with("FILE: not a safetensors file"), "huge header");
        assert!(refused(&file("{", 0)).starts_with("FILE: not a safetensors file"));
        let huge = r#"{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,8]}}"#;
        assert!(refused(&file(huge, 8)).starts_with("FILE: not a safetensors file"));
        let short = r#"{"a":{"dtype":"I16","shape":[4],"data_offsets":[0,8]}}"#;
        assert_eq!(refused(&file(short, 8)), "FILE: tensor `a` holds I16 values");
        let other = header.replace("\"a\"", "\"b\"");
        assert_eq!(refused(&file(&other, 8)), "FILE: tensor `a` is not in the file");
        assert!(matches!(File::open(Path::new("/nowhere/x")), Err(Error::Io { .. })));
    }
}
