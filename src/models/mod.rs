//! Language models in the files of Hugging Face: Llama, Mistral, Qwen2, GPT-2, BERT.
//!
//! | file | idea |
//! |---|---|
//! | `config` | `config.json` in all its spellings |
//! | `weights` | one file of weights or an index of several |
//! | `network` | what models have in common |
//! | `llama` `gpt2` `bert` | the models |
//! | `parts` | their layers as a list: names, parameters, sites for adapters |
//! | `batch` | tokens, masks, labels |
//! | `cache` | keys and values of what was read |
//! | `rope` | angles of rotary positions |

mod batch;
mod bert;
mod cache;
mod config;
pub mod finetune;
mod generate;
mod gpt2;
mod llama;
mod network;
mod parts;
pub mod plan;
mod recompute;
mod rope;
pub mod tasks;
mod tokenizer;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use batch::{Batch, IGNORE_LABEL, Labels};
pub use cache::Cache;
pub use config::{Activation, Config, Family, RopeScaling};
pub use generate::Generation;
pub use tokenizer::{Tokenizer, Tokens};
pub use weights::Weights;

use crate::files::write_atomic;
use crate::nn::loss;
use crate::peft::{Adapter, Entry, FullAdapter, Host, Site, Slot};
use crate::tensor::{DType, Device, Tensor, safetensors};
use crate::{Error, Result};
use network::{Context, Network};
use parts::{Maker, Source};

/// A model with its weights.
///
/// ```no_run
/// use ransnn::models::{Batch, Model};
/// use ransnn::tensor::DType;
/// let model = Model::open("models/llama-3.2-1b".as_ref(), DType::Bf16)?;
/// let logits = model.logits(&Batch::new(&[[1, 2, 3]])?)?;
/// assert_eq!(logits.shape(), [1, 3, model.config().vocab]);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    config: Config,
    network: Box<dyn Network>,
}

/// A head for classes that an encoder does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHead {
    /// Classes; 1 for a regression.
    pub labels: usize,
    /// Root of its random weights.
    pub seed: u64,
}

impl Model {
    /// Reads a folder with `config.json` and `model.safetensors` or its index. Matrices are stored as `dtype`, f32 or
    /// bf16; everything else is f32, and so are all computations.
    ///
    /// # Errors
    /// A broken or unknown `config.json`; weights that are missing, have another shape or lie outside of the folder.
    pub fn open(folder: &Path, dtype: DType) -> Result<Self> {
        Self::open_with(folder, dtype, None)
    }

    /// The same with a new head for classes, in the place of the encoder's if it has one.
    ///
    /// # Errors
    /// As [`open`](Self::open); a model that is no encoder.
    pub fn open_with(folder: &Path, dtype: DType, head: Option<NewHead>) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::Bf16) {
            return Err(Error::Unsupported {
                op: "a model",
                on: format!("with {dtype} weights, only f32 or bf16"),
            });
        }
        let mut config = Config::open(folder)?;
        if let Some(head) = head {
            set_labels(&mut config, head.labels)?;
        }
        let weights = Weights::open(folder)?;
        // Files of the model without its head leave out the name of the whole.
        let (ours, first) = match config.family {
            Family::Llama => ("model.", "embed_tokens.weight"),
            Family::Gpt2 => ("transformer.", "wte.weight"),
            Family::Bert => ("bert.", "embeddings.word_embeddings.weight"),
        };
        let prefix = if weights.has(first) { "" } else { ours };
        let maker = Maker { source: Source::File { weights: &weights, ours, prefix }, dtype };
        let new = head.map(|head| {
            let source = Source::Random { seed: head.seed, deviation: config.initializer_range };
            Maker { source, dtype: DType::F32 }
        });
        // The pooler comes from the file where it is there; MiniLM and others were trained without one.
        let pooler = match new {
            Some(new) if !weights.has(&format!("{prefix}pooler.dense.weight")) => new,
            _ => maker,
        };
        let heads = [&pooler, new.as_ref().unwrap_or(&maker)];
        Self::build(config, &maker, heads)
    }

    /// With random weights, drawn under their names from a seed: normal with the configuration's `initializer_range`.
    ///
    /// # Errors
    /// Sizes that memory cannot address.
    pub fn random(config: Config, seed: u64) -> Result<Self> {
        let source = Source::Random { seed, deviation: config.initializer_range };
        let maker = Maker { source, dtype: DType::F32 };
        Self::build(config, &maker, [&maker, &maker])
    }

    fn build(config: Config, maker: &Maker<'_>, heads: [&Maker<'_>; 2]) -> Result<Self> {
        let network: Box<dyn Network> = match config.family {
            Family::Llama => Box::new(llama::Llama::new(&config, maker)?),
            Family::Gpt2 => Box::new(gpt2::Gpt2::new(&config, maker)?),
            Family::Bert => Box::new(bert::Bert::new(&config, maker, heads)?),
        };
        Ok(Self { config, network })
    }

    /// Sizes and settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Output of the embedding and of every block, `[B, T, hidden]`; the last one after the final norm.
    ///
    /// # Errors
    /// A token that is not in the vocabulary, more tokens than learnt positions.
    pub fn hidden_states(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        self.check(batch)?;
        let cx = self.context(batch, 0)?;
        let mut states = vec![self.network.embed(batch, 0)?];
        for i in 0..self.config.layers {
            states.push(self.network.block(i, &states[i], &cx, None)?);
        }
        if let Some(last) = states.last_mut() {
            *last = self.network.finish(last)?;
        }
        Ok(states)
    }

    /// Hidden states after the last block and norm, `[B, T, hidden]`. Errors as [`hidden_states`](Self::hidden_states).
    pub fn hidden(&self, batch: &Batch) -> Result<Tensor> {
        self.pass(batch, None)
    }

    /// Scores: of the next token, `[B, T, V]`, or of classes, `[B, C]`.
    ///
    /// # Errors
    /// As [`hidden_states`](Self::hidden_states); an encoder without a head.
    pub fn logits(&self, batch: &Batch) -> Result<Tensor> {
        self.head(&self.hidden(batch)?)
    }

    /// The scores of hidden states.
    fn head(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(scores) = self.network.classify(x) {
            return scores;
        }
        match self.network.head() {
            Some((_, Some(layer))) => layer.forward(x),
            Some((weight, None)) => x.linear(weight, None),
            None => Err(Error::Unsupported { op: "scores", on: "with an encoder that has no head".into() }),
        }
    }

    /// Mean loss: cross-entropy of next tokens or classes, squared error of values.
    ///
    /// # Errors
    /// As [`logits`](Self::logits); labels of another kind, number or range, or none that counts.
    pub fn loss(&self, batch: &Batch, labels: &Labels) -> Result<Tensor> {
        self.loss_of_hidden(&self.hidden(batch)?, labels)
    }

    /// The loss of hidden states `[B, T, hidden]`.
    pub(crate) fn loss_of_hidden(&self, x: &Tensor, labels: &Labels) -> Result<Tensor> {
        match (labels, self.network.head(), self.network.classify(x)) {
            (Labels::Tokens(labels), Some((weight, layer)), _) => {
                let flat = x.reshape(&[x.len() / self.config.hidden.max(1), self.config.hidden])?;
                let labels = &labels.to_device(x.device())?;
                // An adapted head is no plain product.
                match layer.filter(|layer| layer.bias.is_some() || layer.slot.is_active()) {
                    Some(layer) => layer.forward(&flat)?.cross_entropy(labels),
                    None => flat.linear_cross_entropy(weight, labels),
                }
            }
            (Labels::Classes(labels), _, Some(scores)) => {
                loss::cross_entropy(&scores?, &labels.to_device(x.device())?)
            }
            (Labels::Values(values), _, Some(scores)) => {
                let scores = scores?;
                loss::mean_squared_error(&scores.reshape(&[scores.len()])?, &values.to_device(x.device())?)
            }
            _ => Err(Error::value("the kind of labels", "another", "that of the model's head")),
        }
    }

    /// An empty cache for `rows` texts of at most `room` tokens.
    ///
    /// # Errors
    /// An encoder.
    pub fn new_cache(&self, rows: usize, room: usize) -> Result<Cache> {
        self.network.cache(rows, room)
    }

    /// Reads the next tokens of a batch, `[B, T]`, behind those that are in the cache, and returns the scores of what
    /// follows the last, `[B, V]`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits); no room in the cache; a mask, which a cache does not keep.
    pub fn read(&self, batch: &Batch, cache: &mut Cache) -> Result<Tensor> {
        if batch.mask.is_some() {
            return Err(Error::Unsupported { op: "a cache", on: "with a mask".into() });
        }
        let (rows, width) = batch.sizes();
        let x = self.pass(batch, Some(cache))?;
        self.head(&x.narrow(1, width - 1, 1)?.reshape(&[rows, self.config.hidden])?)
    }

    fn pass(&self, batch: &Batch, mut cache: Option<&mut Cache>) -> Result<Tensor> {
        self.check(batch)?;
        let (_, width) = batch.sizes();
        let past = cache.as_ref().map_or(0, |cache| cache.length);
        if let Some(cache) = &cache {
            cache.must_fit(width)?;
        }
        let cx = self.context(batch, past)?;
        let mut x = self.network.embed(batch, past)?;
        for i in 0..self.config.layers {
            x = self.network.block(i, &x, &cx, cache.as_mut().map(|cache| &mut cache.blocks[i]))?;
        }
        if let Some(cache) = cache {
            cache.length += width;
        }
        self.network.finish(&x)
    }

    /// The first half of a pass in pieces: what blocks share, and the input of the first.
    pub(crate) fn begin(&self, batch: &Batch) -> Result<(Context, Tensor)> {
        self.check(batch)?;
        Ok((self.context(batch, 0)?, self.network.embed(batch, 0)?))
    }

    /// One block of a pass in pieces.
    pub(crate) fn block(&self, i: usize, x: &Tensor, cx: &Context) -> Result<Tensor> {
        self.network.block(i, x, cx, None)
    }

    /// The end of a pass in pieces: norm, head and loss.
    pub(crate) fn end(&self, x: &Tensor, labels: &Labels) -> Result<Tensor> {
        self.loss_of_hidden(&self.network.finish(x)?, labels)
    }

    /// What blocks share, where the model is.
    fn context(&self, batch: &Batch, past: usize) -> Result<Context> {
        self.network.context(batch, past)?.moved_to(self.device())
    }

    /// Where the model is. Batches and labels are in main memory: what a pass needs of them goes there by itself.
    pub fn device(&self) -> &Device {
        self.network.parts().first().map_or(&Device::Cpu, |(_, part)| part.weight().device())
    }

    /// Moves weights and adapters to a device, where passes then run.
    ///
    /// # Errors
    /// An adapter without kernels there; what the device reports, and then part of the model is there.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        for (_, part) in self.network.parts_mut() {
            let (weight, bias) = part.tensors();
            for tensor in std::iter::once(weight).chain(bias) {
                *tensor = tensor.to_device(device)?;
            }
        }
        let mut result = Ok(());
        self.visit_slots_mut(&mut |_, slot| {
            if result.is_ok() {
                result = slot.move_to(device);
            }
        });
        result
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let ids = batch.ids.to_u32()?;
        match ids.iter().find(|&&id| id as usize >= self.config.vocab) {
            Some(id) => {
                let expected = format!("below {}, the size of the vocabulary", self.config.vocab);
                Err(Error::value("a token", id, expected))
            }
            None => Ok(()),
        }
    }

    /// Shows every weight of the model without adapters, under the names of Hugging Face, in order. Weights that GPT-2
    /// stores transposed are `[out, in]` here.
    pub fn visit_weights(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        for (path, part) in self.network.parts() {
            f(&format!("{path}.weight"), part.weight());
            part.bias().into_iter().for_each(|bias| f(&format!("{path}.bias"), bias));
        }
    }

    /// Lends every weight; see [`visit_weights`](Self::visit_weights).
    pub fn visit_weights_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        for (path, part) in self.network.parts_mut() {
            let (weight, bias) = part.tensors();
            f(&format!("{path}.weight"), weight);
            bias.into_iter().for_each(|bias| f(&format!("{path}.bias"), bias));
        }
    }

    /// SHA-256 of the names, kinds and shapes of all weights and of up to 4,096 numbers of each, evenly spread: two models
    /// that are not the same have two fingerprints, and even a very large one is not read as a whole. Adapters do not
    /// count.
    pub fn fingerprint(&self) -> String {
        use crate::tensor::cpu::Buffer;
        let mut hash = Sha256::new();
        self.visit_weights(&mut |name, tensor| {
            hash.update(format!("{name} {} {:?}\n", tensor.dtype(), tensor.shape()));
            let stride = tensor.len().div_ceil(4096).max(1);
            match tensor.buffer() {
                Ok(Buffer::F32(values)) => {
                    values.iter().step_by(stride).for_each(|x| hash.update(x.to_le_bytes()));
                }
                Ok(Buffer::Bf16(values)) => {
                    values.iter().step_by(stride).for_each(|x| hash.update(x.to_le_bytes()));
                }
                // Models have no others.
                _ => {}
            }
        });
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Shows every slot for adapters under the path of its layer.
    pub fn visit_slots(&self, f: &mut dyn FnMut(&str, &Slot)) {
        for (path, part) in self.network.parts() {
            part.slot().into_iter().for_each(|slot| f(&path, slot));
        }
    }

    /// Lends every slot.
    pub fn visit_slots_mut(&mut self, f: &mut dyn FnMut(&str, &mut Slot)) {
        for (path, part) in self.network.parts_mut() {
            part.slot().into_iter().for_each(|slot| f(&path, slot));
        }
    }

    /// Paths of the head for classes, with `pooler` also of the layer before it; none for a model without a head.
    pub fn class_head(&self, pooler: bool) -> Vec<String> {
        let is_head = |path: &String| path == "classifier" || (pooler && path == "bert.pooler.dense");
        match self.config.labels {
            0 => vec![],
            _ => self.network.parts().into_iter().map(|(path, _)| path).filter(is_head).collect(),
        }
    }

    /// Lets maps be trained as a whole under the name of an adapter, as `modules_to_save` of Hugging Face does; for a
    /// [`class_head`](Self::class_head).
    ///
    /// # Errors
    /// A map has an adapter of this name.
    pub fn train_whole(&mut self, name: &str, paths: &[String]) -> Result<()> {
        let mut result = Ok(());
        self.visit_sites(&mut |site| {
            if result.is_err() || !paths.iter().any(|path| path == site.path) {
                return;
            }
            let adapter = Adapter::Full(FullAdapter::of(site.weight));
            let bias = site.bias.map(|bias| bias.clone());
            result = site.slot.push(Entry { name: name.into(), adapter, bias, enabled: true });
        });
        result
    }

    /// Refuses weights that are not numbers; reading them is allowed, using them is not.
    ///
    /// # Errors
    /// Names the first such weight.
    pub fn must_be_finite(&self) -> Result<()> {
        let mut result = Ok(());
        self.visit_weights(&mut |name, tensor| {
            if result.is_ok() && !is_finite(tensor) {
                result = Err(Error::value(format!("a weight of `{name}`"), "not finite", "a number"));
            }
        });
        result
    }

    /// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face reads them.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut tensors = BTreeMap::new();
        for (path, part) in self.network.parts() {
            let weight = match part {
                parts::Part::Conv1D(linear) => linear.weight.transpose(0, 1)?,
                part => part.weight().clone(),
            };
            tensors.insert(format!("{path}.weight"), weight);
            tensors.extend(part.bias().map(|bias| (format!("{path}.bias"), bias.clone())));
        }
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::write(&folder.join(weights::SINGLE), &tensors, &metadata)?;
        let text =
            serde_json::to_string_pretty(&self.config.raw).map_err(|e| Error::Internal(e.to_string()))?;
        write_atomic(&folder.join("config.json"), (text + "\n").as_bytes())
    }
}

impl Host for Model {
    fn visit_sites(&mut self, f: &mut dyn FnMut(Site<'_>)) {
        for (path, part) in self.network.parts_mut() {
            part.site(&path).into_iter().for_each(&mut *f);
        }
    }
}

fn set_labels(config: &mut Config, labels: usize) -> Result<()> {
    if config.family != Family::Bert {
        return Err(Error::Unsupported {
            op: "a head for classes",
            on: "with a model that is no encoder".into(),
        });
    }
    if labels == 0 {
        return Err(Error::value("the number of classes", 0, "at least 1"));
    }
    config.labels = labels;
    let names =
        |f: &dyn Fn(usize) -> (String, Value)| (0..labels).map(f).collect::<serde_json::Map<_, _>>().into();
    let id2label = names(&|i| (i.to_string(), format!("LABEL_{i}").into()));
    let label2id = names(&|i| (format!("LABEL_{i}"), i.into()));
    config.raw.insert("architectures".into(), vec!["BertForSequenceClassification"].into());
    config.raw.insert("id2label".into(), id2label);
    config.raw.insert("label2id".into(), label2id);
    Ok(())
}

fn is_finite(tensor: &Tensor) -> bool {
    use crate::tensor::cpu::Buffer;
    match tensor.buffer() {
        Ok(Buffer::F32(values)) => values.iter().all(|x| x.is_finite()),
        Ok(Buffer::Bf16(values)) => values.iter().all(|x| x.is_finite()),
        _ => false,
    }
}

/// Positions of a batch, refused beyond the table of learnt ones.
fn positions(batch: &Batch, past: usize, limit: usize) -> Result<Tensor> {
    let positions = match &batch.positions {
        Some(positions) => positions.clone(),
        None => {
            let (_, width) = batch.sizes();
            Tensor::from_u32((past..past + width).map(|i| i as u32).collect(), &[1, width])?
        }
    };
    match positions.to_u32()?.iter().max() {
        Some(&last) if last as usize >= limit => {
            let expected = format!("below {limit}: the model has learnt no more");
            Err(Error::value("a position", last, expected))
        }
        _ => Ok(positions),
    }
}

fn activate(function: Activation, x: &Tensor) -> Result<Tensor> {
    match function {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu(),
        Activation::GeluTanh => x.gelu_tanh(),
        Activation::Relu => x.relu(),
    }
}
