//! Language models that train on two cores, whole or by adapters: a training step, merging, generation.
//!
//! Llama: width 512, 8 blocks, 8 heads over 4 of keys, feed-forward 1376, vocabulary 8192, 4 texts of 256 tokens. BERT has
//! the shape of MiniLM-L6: width 384, 6 blocks, 12 heads, feed-forward 1536, 16 texts of 128 tokens, 2 classes.

use std::path::Path;

use super::{Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::error::Result;
use crate::models::finetune::{Part, Trained};
use crate::models::{Batch, Config, Family, Generation, Labels, Model};
use crate::nn::{Adam, Optimizer};
use crate::peft::{self, Boft, Host, Lora, Method, Targets};
use crate::rng::Stream;
use crate::tensor::grad;
use rand::RngExt;

/// Multiply-accumulates in 32-bit floating point a cycle: two fused instructions of 8 lanes.
const MACS_PER_CYCLE: f64 = 16.0;
/// Bytes that a core reads from memory in a cycle of [`CLOCK_HZ`](super::CLOCK_HZ): 12 GB/s.
const BYTES_PER_CYCLE: f64 = 4.0;
/// Blocks of BOFT are so wide.
const BLOCK: usize = 4;
/// Rank of LoRA.
const RANK: usize = 8;

/// A model and its batches.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Llama,
    Bert,
}

/// What is trained.
#[derive(Clone, Copy)]
pub(super) enum Tuned {
    Whole,
    Lora(Maps),
    Dora(Maps),
    /// With so many factors.
    Boft(usize, Maps),
}

/// The maps that are adapted.
#[derive(Clone, Copy)]
pub(super) enum Maps {
    /// Queries and values.
    Qv,
    /// Every linear map of the blocks.
    All,
}

impl Shape {
    fn config(self, scale: Scale) -> Result<Config> {
        let of = |full, tiny| scale.pick(full, tiny);
        let text = match self {
            Self::Llama => format!(
                r#"{{"model_type": "llama", "hidden_size": {}, "num_hidden_layers": {}, "num_attention_heads": 8,
                "num_key_value_heads": 4, "intermediate_size": {}, "vocab_size": {}}}"#,
                of(512, 16),
                of(8, 1),
                of(1376, 32),
                of(8192, 64)
            ),
            Self::Bert => format!(
                r#"{{"model_type": "bert", "hidden_size": {}, "num_hidden_layers": {}, "num_attention_heads": {},
                "intermediate_size": {}, "vocab_size": {}, "max_position_embeddings": 512, "num_labels": 2, "architectures": ["BertForSequenceClassification"]}}"#,
                of(384, 16),
                of(6, 1),
                of(12, 2),
                of(1536, 32),
                of(30522, 64)
            ),
        };
        Config::parse(Path::new("config.json"), &text)
    }

    /// Texts, and tokens of each.
    fn batch(self, scale: Scale) -> (usize, usize) {
        match self {
            Self::Llama => (scale.pick(4, 2), scale.pick(256, 6)),
            Self::Bert => (scale.pick(16, 2), scale.pick(128, 6)),
        }
    }

    fn targets(self, maps: Maps) -> Targets {
        match (self, maps) {
            (Self::Llama, Maps::Qv) => Targets::names(["q_proj", "v_proj"]),
            (Self::Llama, Maps::All) => Targets::all_linear(),
            (Self::Bert, Maps::Qv) => Targets::names(["query", "value"]),
            // Without the pooler, which `all_linear` includes.
            (Self::Bert, Maps::All) => {
                Targets::names(["query", "key", "value", "intermediate.dense", "output.dense"])
            }
        }
    }
}

impl Tuned {
    fn attach(self, model: &mut Model, shape: Shape) -> Result<()> {
        let lora = Lora { rank: RANK, alpha: 16.0, ..Lora::default() };
        let (method, maps) = match self {
            Self::Whole => return Ok(()),
            Self::Lora(maps) => (Method::from(lora), maps),
            Self::Dora(maps) => (Method::from(Lora { magnitude: true, ..lora }), maps),
            Self::Boft(factors, maps) => (Method::from(Boft { factors, ..Boft::default() }), maps),
        };
        peft::attach(model, &method, &shape.targets(maps), "default", 0).map(|_| ())
    }

    /// Multiply-accumulates for a token in the adapter of a map, forward.
    fn macs(self, out: usize, inputs: usize) -> f64 {
        (match self {
            Self::Whole => 0,
            Self::Lora(_) | Self::Dora(_) => RANK * (out + inputs),
            Self::Boft(factors, _) => factors * BLOCK * inputs,
        }) as f64
    }
}

fn tokens(count: usize, vocab: usize, name: &str) -> Vec<i64> {
    let mut walk = Stream::named(0, name).walk(0);
    (0..count).map(|_| walk.random_range(0..vocab) as i64).collect()
}

/// A model with what is tuned attached.
fn model(shape: Shape, tuned: Tuned, scale: Scale) -> Result<Model> {
    let mut model = Model::random(shape.config(scale)?, 0)?;
    tuned.attach(&mut model, shape)?;
    Ok(model)
}

/// Forward, backward and AdamW on one batch.
pub(super) fn step(shape: Shape, tuned: Tuned, scale: Scale, timer: &Timer) -> Result<Measured> {
    let mut model = model(shape, tuned, scale)?;
    let (texts, width) = shape.batch(scale);
    let config = model.config().clone();
    let ids = tokens(texts * width, config.vocab, "bench/peft");
    let rows: Vec<&[i64]> = ids.chunks(width).collect();
    let batch = Batch::new(&rows)?;
    let labels = match shape {
        Shape::Llama => Labels::next_tokens(&rows)?,
        Shape::Bert => Labels::Classes(crate::tensor::Tensor::from_u32(
            (0..texts as u32).map(|i| i % 2).collect(),
            &[texts],
        )?),
    };
    let what = floor(&mut model, tuned, (texts * width) as f64, width as f64);
    let mut adam = Adam::decoupled(1e-4, 0.01);
    let part = if matches!(tuned, Tuned::Whole) { Part::All } else { Part::Adapters };
    let mut trained = Trained { model: &mut model, part };
    let times = timer.measure(|| {
        let (_, grads) = grad(&trained, || trained.model.loss(&batch, &labels))?;
        adam.step(&mut trained, &grads)
    })?;
    let text = format!("{:.1} G multiply-accumulates, {MACS_PER_CYCLE} a cycle", what / 1e9);
    let floor = Floor::of(what / MACS_PER_CYCLE, text);
    Ok(Measured { times, unit: Unit::SecondsPerStep, amount: 1.0, floor })
}

/// Multiply-accumulates of a step: every product forward and once more for the gradient of its input, with weights that
/// are trained a third time.
fn floor(model: &mut Model, tuned: Tuned, tokens: f64, width: f64) -> f64 {
    let config = model.config().clone();
    let (_, all) = config.parameters();
    let tables =
        config.vocab + if config.family == Family::Bert { config.positions + config.types } else { 0 };
    // The head of a language model is a product like the others, its table of embeddings is none.
    let weights = (all as usize - tables * config.hidden) as f64;
    let seen = if config.family == Family::Bert { width } else { width / 2.0 };
    let attention = 2.0 * (config.layers * config.heads * config.head_dim) as f64 * seen;
    let mut adapters = 0.0;
    model.visit_sites(&mut |site| {
        if site.slot.is_active() {
            adapters += tuned.macs(site.weight.shape()[0], site.weight.shape()[1]);
        }
    });
    let passes = if matches!(tuned, Tuned::Whole) { 3.0 } else { 2.0 };
    // Both products of attention have two gradients each.
    tokens * (passes * weights + 3.0 * attention + 3.0 * adapters)
}

/// Adapters on all linear maps of the Llama, computed into the weights; the way back is not timed.
pub(super) fn merge(tuned: Tuned, scale: Scale, timer: &Timer) -> Result<Measured> {
    let mut model = model(Shape::Llama, tuned, scale)?;
    let merge = |model: &mut Model| peft::merge(model).map(|_| ());
    let undo = |model: &mut Model| {
        peft::unmerge(model);
    };
    let times = timer.measure_undone(&mut model, merge, undo)?;
    let mut macs = 0.0;
    model.visit_sites(&mut |site| {
        if site.slot.is_active() {
            let (out, inputs) = (site.weight.shape()[0], site.weight.shape()[1]);
            macs += match tuned {
                Tuned::Boft(factors, _) => (factors * BLOCK * out * inputs) as f64,
                _ => (RANK * out * inputs) as f64,
            };
        }
    });
    let what = format!("{:.1} M multiply-accumulates, {MACS_PER_CYCLE} a cycle", macs / 1e6);
    let floor = Floor::of(macs / MACS_PER_CYCLE, what);
    Ok(Measured { times, unit: Unit::SecondsPerStep, amount: 1.0, floor })
}

/// 128 of the likeliest tokens behind a prompt of 16, by the Llama.
pub(super) fn generate(tuned: Tuned, scale: Scale, timer: &Timer) -> Result<Measured> {
    let model = model(Shape::Llama, tuned, scale)?;
    let how = Generation { tokens: scale.pick(128, 3), ..Generation::default() };
    let prompt = [tokens(scale.pick(16, 2), model.config().vocab, "bench/prompt")];
    let times = timer.measure(|| model.generate(&prompt, &how, &mut ()).map(|_| ()))?;
    let config = model.config();
    let bytes = 4.0 * (config.parameters().1 as usize - config.vocab * config.hidden) as f64;
    let what = format!("{:.0} MB of weights a token, {BYTES_PER_CYCLE} bytes a cycle", bytes / 1e6);
    let floor = Floor::of(how.tokens as f64 * bytes / BYTES_PER_CYCLE, what);
    Ok(Measured { times, unit: Unit::TokensPerSecond, amount: how.tokens as f64, floor })
}
