//! Adapter folders as Hugging Face PEFT reads and writes them: `adapter_config.json`, `adapter_model.safetensors`.
//!
//! An adapter is taken as a whole or not at all. A tensor that belongs nowhere, one that is missing, one of another shape:
//! each is an error that names it, for an adapter that silently does nothing is worse than none. Nothing is allocated by
//! what a configuration or a header claims, and no name in a file is ever used as a path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::boft::BoftAdapter;
use super::config::Config;
use super::full::FullAdapter;
use super::lora::{LoraAdapter, adapter_dtype, ends};
use super::manage::each;
use super::urnn::UrnnAdapter;
use super::{Adapter, Entry, Host, Kind, Lora, Method, Site};
use crate::tensor::{DType, Tensor, Trainable, safetensors};
use crate::{Error, Result};

/// What [`load`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Maps that got an adapter.
    pub modules: usize,
    /// What is odd, though not wrong: unknown keys, values that are not finite.
    pub warnings: Vec<String>,
}

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the path of a module.
const PREFIX: &str = "base_model.model.";
/// Ends of the names of adapters' tensors.
const KEYS: [&str; 18] = [
    "lora_A.weight",
    "lora_B.weight",
    "lora_embedding_A",
    "lora_embedding_B",
    "lora_magnitude_vector",
    "lora_magnitude_vector.weight",
    "lora_A_start.weight",
    "lora_B_start.weight",
    "boft_R",
    "boft_s",
    "urnn_phases",
    "urnn_reflections",
    "urnn_permutation",
    "urnn_phases_start",
    "urnn_reflections_start",
    "hybrid_lambda",
    "hybrid_weight",
    "base_layer.bias",
];

/// The tensors of a file by path of the module and name.
struct Tensors {
    path: PathBuf,
    file: safetensors::File,
    /// Module and name to the name in the file; taken out as they are used.
    names: BTreeMap<String, BTreeMap<String, String>>,
    warnings: Vec<String>,
}

impl Tensors {
    fn open(path: &Path) -> Result<Self> {
        let file = safetensors::File::open(path)?;
        let mut names: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for full in file.names() {
            // Files that other programs wrote leave the prefix out.
            let name = full.strip_prefix(PREFIX).unwrap_or(full);
            // An old file's permutation, which follows from the sizes; copies that PEFT leaves beside saved modules.
            let copy = name.contains(".original_module.") || name.contains(".modules_to_save.");
            if copy || name.ends_with(".boft_P") {
                continue;
            }
            let keys = KEYS.iter().chain(&["weight", "bias"]);
            let split = keys.filter_map(|key| Some((name.strip_suffix(key)?.strip_suffix('.')?, *key)));
            // `lora_A.weight` also ends with `weight`: the longest key is meant.
            let Some((module, key)) = split.max_by_key(|(_, key)| key.len()) else {
                return Err(Error::data(path, format!("`{full}` is no tensor of an adapter")));
            };
            let key = if key == "lora_magnitude_vector.weight" { "lora_magnitude_vector" } else { key };
            let twice = names.entry(module.into()).or_default().insert(key.into(), full.into());
            if let Some(other) = twice {
                return Err(Error::data(path, format!("`{full}` and `{other}` are the same tensor")));
            }
        }
        Ok(Self { path: path.into(), file, names, warnings: vec![] })
    }

    /// Takes a tensor out, if it is there.
    fn find(&mut self, module: &str, key: &str, shape: &[usize], dtype: DType) -> Result<Option<Tensor>> {
        let Some(full) = self.names.get_mut(module).and_then(|keys| keys.remove(key)) else {
            return Ok(None);
        };
        let found = self.file.meta(&full)?;
        if found.shape != shape {
            let what = format!(
                "`{full}` has the shape {:?}; the configuration and the base ask for {shape:?}",
                found.shape
            );
            return Err(Error::data(&self.path, what));
        }
        let tensor = self.file.tensor(&full)?.to_dtype(dtype)?;
        if dtype.is_computing() && !tensor.is_finite()? {
            self.warnings.push(format!("`{full}` holds NaN or infinity"));
        }
        Ok(Some(tensor))
    }

    fn take(&mut self, module: &str, key: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let missing = || Error::data(&self.path, format!("`{PREFIX}{module}.{key}` is missing"));
        let missing = missing();
        self.find(module, key, shape, dtype)?.ok_or(missing)
    }

    fn has(&self, module: &str, key: &str) -> bool {
        self.names.get(module).is_some_and(|keys| keys.contains_key(key))
    }

    fn lora(&mut self, lora: &Lora, site: &Site<'_>) -> Result<LoraAdapter> {
        let path = site.path;
        let (rank, scaling) = lora.rank_and_scaling(path)?;
        let (out, inputs) = ends(site.weight, site.kind)?;
        let embedding = site.kind == Kind::Embedding;
        let dtype = adapter_dtype(site.weight);
        let [a, b] = match embedding {
            true => ["lora_embedding_A", "lora_embedding_B"],
            false => ["lora_A.weight", "lora_B.weight"],
        };
        let a = self.take(path, a, &[rank, inputs], dtype)?;
        let b = self.take(path, b, &[out, rank], dtype)?;
        let magnitude = match lora.magnitude && !embedding {
            true => Some(self.take(path, "lora_magnitude_vector", &[out], dtype)?),
            false => None,
        };
        Ok(LoraAdapter { a, b, scaling, dropout: lora.dropout, magnitude, begun: None, embedding })
    }

    fn boft(&mut self, boft: &super::Boft, site: &Site<'_>) -> Result<BoftAdapter> {
        // As PEFT's own adapter would be refused: embeddings, sizes that do not divide.
        let (out, inputs) = ends(site.weight, site.kind)?;
        if site.kind == Kind::Embedding {
            return Err(Error::Unsupported { op: "BOFT", on: format!("on the embedding `{}`", site.path) });
        }
        let shape = boft.shape(site.path, inputs)?;
        let stored = self.names.get(site.path).and_then(|keys| keys.get("boft_R")).cloned();
        if let Some(full) = stored {
            let found = self.file.meta(&full)?.shape;
            if found.len() == 4 && found[0] != shape[0] && found[1..] == shape[1..] {
                let what = format!(
                    "`{full}` has {} factors, the configuration {}: PEFT without its CUDA extension trains and saves one \
                     factor whatever is configured; correct boft_n_butterfly_factor if that is what happened",
                    found[0], shape[0]
                );
                return Err(Error::data(&self.path, what));
            }
        }
        let dtype = adapter_dtype(site.weight);
        let r = self.take(site.path, "boft_R", &shape, dtype)?;
        let s = self.take(site.path, "boft_s", &[out, 1], dtype)?;
        Ok(BoftAdapter { r, s, dropout: boft.dropout })
    }

    fn urnn(&mut self, site: &Site<'_>) -> Result<UrnnAdapter> {
        let (path, k) = (site.path, ends(site.weight, site.kind)?.1 / 2);
        let dtype = adapter_dtype(site.weight);
        let (phases, reflections) = ([3, k], [2, k, 2]);
        Ok(UrnnAdapter {
            phases: self.take(path, "urnn_phases", &phases, dtype)?,
            reflections: self.take(path, "urnn_reflections", &reflections, dtype)?,
            permutation: self.take(path, "urnn_permutation", &[k], DType::U32)?,
            begun: (
                self.take(path, "urnn_phases_start", &phases, dtype)?,
                self.take(path, "urnn_reflections_start", &reflections, dtype)?,
            ),
        })
    }

    fn adapter(&mut self, method: &Method, site: &Site<'_>) -> Result<Adapter> {
        Ok(match method {
            Method::Lora(lora) => Adapter::Lora(self.lora(lora, site)?),
            Method::LoraGa(ga) => Adapter::Lora(self.lora(&ga.lora, site)?),
            Method::Boft(boft) => Adapter::Boft(self.boft(boft, site)?),
            Method::Urnn(_) => Adapter::Urnn(self.urnn(site)?),
            Method::Hybrid(hybrid) => {
                let mut lora = self.lora(&hybrid.lora_ga.lora, site)?;
                let (a, b, dtype) = (lora.a.shape().to_vec(), lora.b.shape().to_vec(), lora.a.dtype());
                let begun_a = self.take(site.path, "lora_A_start.weight", &a, dtype)?;
                lora.begun = Some((begun_a, self.take(site.path, "lora_B_start.weight", &b, dtype)?));
                let boft = self.boft(&hybrid.boft, site)?;
                let mut adapter = hybrid.with(lora, boft, site.weight)?;
                adapter.lambda = self.take(site.path, "hybrid_lambda", &[1], DType::F64)?.to_scalar()?;
                if adapter.own.is_some() {
                    let own =
                        self.take(site.path, "hybrid_weight", site.weight.shape(), site.weight.dtype())?;
                    adapter.own = Some(own);
                }
                Adapter::Hybrid(Box::new(adapter))
            }
        })
    }
}

/// Reads an adapter folder and attaches it under a name. The base model that the configuration names is a remark and is
/// not opened.
///
/// # Errors
/// What does not fit, by name; nothing is attached then.
pub fn load(host: &mut dyn Host, folder: &Path, name: &str) -> Result<Loaded> {
    let (config, unknown) = Config::read(&folder.join(CONFIG))?;
    let weights = folder.join(WEIGHTS);
    let mut tensors = Tensors::open(&weights)?;
    let matcher = config.targets.matcher()?;
    let saved = |path: &str| {
        config
            .saved
            .iter()
            .any(|end| path == end || path.strip_suffix(end.as_str()).is_some_and(|p| p.ends_with('.')))
            || (config.task.as_deref() == Some("SEQ_CLS") && matches!(path, "classifier" | "score"))
    };
    let mut entries: Vec<Option<Entry>> = Vec::new();
    let mut modules = 0;
    each(host, &mut |site| {
        let (out, dtype) = (site.weight.shape().first().copied().unwrap_or(0), adapter_dtype(site.weight));
        let adapter = if saved(site.path) && tensors.has(site.path, "weight") {
            let weight = tensors.take(site.path, "weight", site.weight.shape(), dtype)?;
            Adapter::Full(FullAdapter { weight })
        } else if matcher.matches(site.path, site.kind) {
            tensors.adapter(&config.method, &site)?
        } else {
            entries.push(None);
            return Ok(());
        };
        let wanted = config.biases || matches!(adapter, Adapter::Full(_));
        let bias = match wanted && site.bias.is_some() {
            true => tensors.find(site.path, adapter.bias_key(), &[out], dtype)?,
            false => None,
        };
        modules += 1;
        entries.push(Some(Entry { name: name.into(), adapter, bias, enabled: true }));
        Ok(())
    })?;
    if modules == 0 {
        return Err(Error::data(
            folder.join(CONFIG),
            format!("no map of the model matches {}", config.targets.describe()),
        ));
    }
    if let Some(full) = tensors.names.values().flat_map(BTreeMap::values).next() {
        return Err(Error::data(
            &weights,
            format!("`{full}` belongs to no map that the configuration targets"),
        ));
    }
    // Names that are taken are found before anything is attached.
    let mut entries = entries.into_iter();
    let mut checked = Vec::new();
    each(host, &mut |site| {
        let entry = entries.next().flatten();
        if entry.is_some() && (site.slot.get(name).is_some() || site.slot.merged.is_some()) {
            return Err(Error::value(
                "the name of an adapter",
                name,
                "one that is not taken, on unmerged weights",
            ));
        }
        checked.push(entry);
        Ok(())
    })?;
    let mut checked = checked.into_iter();
    each(host, &mut |site| match checked.next().flatten() {
        Some(entry) => site.slot.push(entry),
        None => Ok(()),
    })?;
    let mut warnings: Vec<String> =
        unknown.iter().map(|key| format!("`{key}` in {CONFIG} is not known")).collect();
    warnings.append(&mut tensors.warnings);
    Ok(Loaded { config, modules, warnings })
}

/// Writes the adapter of a name into a folder; under another name than `default` into a folder of that name inside, as PEFT
/// does. LoRA-GA is written as plain LoRA of twice the rank on the original base.
///
/// # Errors
/// No adapter of that name, or a folder that cannot be written.
pub fn save(host: &mut dyn Host, folder: &Path, name: &str, config: &Config) -> Result<()> {
    let mut tensors = BTreeMap::new();
    let mut transposed = false;
    let mut begun = false;
    each(host, &mut |site| {
        let Some(entry) = site.slot.get(name) else { return Ok(()) };
        transposed |= site.kind == Kind::Conv1D;
        let mut put = |key: &str, tensor: &Tensor| {
            tensors.insert(format!("{PREFIX}{}.{key}", site.path), tensor.clone());
        };
        match &entry.adapter {
            Adapter::Lora(lora) if lora.begun.is_some() => {
                let (a, b) = lora.factors()?;
                put("lora_A.weight", &a);
                put("lora_B.weight", &b);
                begun = true;
            }
            adapter => adapter.visit(&mut put),
        }
        match &entry.adapter {
            Adapter::Urnn(urnn) => urnn.constants(&mut put),
            Adapter::Hybrid(hybrid) => hybrid.memory(&mut put)?,
            _ => {}
        }
        entry.bias.iter().for_each(|bias| put(entry.adapter.bias_key(), bias));
        Ok(())
    })?;
    if tensors.is_empty() {
        return Err(Error::value("the name of the adapter to be saved", name, "one that is attached"));
    }
    if begun != matches!(config.method, Method::LoraGa(_)) {
        return Err(Error::value(
            "the configuration to be saved",
            config.method.peft_type(),
            "that of the adapter",
        ));
    }
    let folder = if name == "default" { folder.to_path_buf() } else { folder.join(checked_name(name)?) };
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::write(&folder.join(WEIGHTS), &tensors, &metadata)?;
    crate::files::write_atomic(&folder.join(CONFIG), config.render(transposed).as_bytes())?;
    let how = match config.method.peft_type() {
        "LORA" | "BOFT" => "It loads with `PeftModel.from_pretrained(base, folder)`.",
        _ => {
            "Hugging Face PEFT does not know this method: `ransnn peft merge` makes an ordinary model of it."
        }
    };
    let base = config.base.as_deref().unwrap_or("a base model");
    let kind = config.method.peft_type();
    let card = format!("---\nlibrary_name: peft\n---\n\n{kind} adapter for {base}, made by ransnn. {how}\n");
    crate::files::write_atomic(&folder.join("README.md"), card.as_bytes())
}

/// A name that is a single folder.
fn checked_name(name: &str) -> Result<&str> {
    let parts: Vec<_> = Path::new(name).components().collect();
    match parts[..] {
        [std::path::Component::Normal(part)] if part == name => Ok(name),
        _ => Err(Error::value("the name of an adapter", name, "usable as the name of a folder")),
    }
}
