//! BERT and other encoders of its shape, with a head for classes or a number.

use super::cache;
use super::config::Config;
use super::network::{Context, Network, attend, heads};
use super::parts::{Maker, Part, PartMut};
use super::{Batch, Cache, activate, positions};
use crate::nn::{Embedding, Linear, Norm};
use crate::tensor::Tensor;
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub(crate) struct Bert {
    config: Config,
    tokens: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: Norm,
    layers: Vec<Layer>,
    head: Option<Head>,
}

#[derive(Clone, Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// From the first token: `classifier(tanh(pooler(x)))`.
#[derive(Clone, Debug)]
struct Head {
    pooler: Linear,
    classifier: Linear,
}

/// The list of layers, for reading or lent.
macro_rules! parts {
    ($model:expr, $part:ident, $iter:ident $(, $m:tt)?) => {{
        let model = $model;
        let at = |name: &str| format!("bert.embeddings.{name}");
        let mut list = vec![
            (at("word_embeddings"), $part::Embedding(& $($m)? model.tokens)),
            (at("position_embeddings"), $part::Embedding(& $($m)? model.positions)),
            (at("token_type_embeddings"), $part::Embedding(& $($m)? model.types)),
            (at("LayerNorm"), $part::Norm(& $($m)? model.norm)),
        ];
        for (i, layer) in model.layers.$iter().enumerate() {
            let at = |name: &str| format!("bert.encoder.layer.{i}.{name}");
            list.push((at("attention.self.query"), $part::Linear(& $($m)? layer.query)));
            list.push((at("attention.self.key"), $part::Linear(& $($m)? layer.key)));
            list.push((at("attention.self.value"), $part::Linear(& $($m)? layer.value)));
            list.push((at("attention.output.dense"), $part::Linear(& $($m)? layer.output)));
            list.push((at("attention.output.LayerNorm"), $part::Norm(& $($m)? layer.attention_norm)));
            list.push((at("intermediate.dense"), $part::Linear(& $($m)? layer.up)));
            list.push((at("output.dense"), $part::Linear(& $($m)? layer.down)));
            list.push((at("output.LayerNorm"), $part::Norm(& $($m)? layer.norm)));
        }
        if let Some(head) = & $($m)? model.head {
            list.push(("bert.pooler.dense".to_string(), $part::Linear(& $($m)? head.pooler)));
            list.push(("classifier".to_string(), $part::Linear(& $($m)? head.classifier)));
        }
        list
    }};
}

impl Bert {
    /// `head`: where pooler and classifier come from.
    pub fn new(config: &Config, maker: &Maker<'_>, [pooler, classifier]: [&Maker<'_>; 2]) -> Result<Self> {
        let Config { hidden: h, intermediate: f, epsilon, .. } = *config;
        let at = |name: &str| format!("bert.embeddings.{name}");
        let tokens =
            Embedding { padding: config.pad, ..maker.embedding(&at("word_embeddings"), [config.vocab, h])? };
        let positions = maker.embedding(&at("position_embeddings"), [config.positions, h])?;
        let types = maker.embedding(&at("token_type_embeddings"), [config.types, h])?;
        let norm = maker.norm(&at("LayerNorm"), h, true, epsilon)?;
        let mut layers = vec![];
        for i in 0..config.layers {
            let at = |name: &str| format!("bert.encoder.layer.{i}.{name}");
            layers.push(Layer {
                query: maker.linear(&at("attention.self.query"), [h, h], true)?,
                key: maker.linear(&at("attention.self.key"), [h, h], true)?,
                value: maker.linear(&at("attention.self.value"), [h, h], true)?,
                output: maker.linear(&at("attention.output.dense"), [h, h], true)?,
                attention_norm: maker.norm(&at("attention.output.LayerNorm"), h, true, epsilon)?,
                up: maker.linear(&at("intermediate.dense"), [f, h], true)?,
                down: maker.linear(&at("output.dense"), [h, f], true)?,
                norm: maker.norm(&at("output.LayerNorm"), h, true, epsilon)?,
            });
        }
        let head = || {
            let pooler = pooler.linear("bert.pooler.dense", [h, h], true)?;
            Ok(Head { pooler, classifier: classifier.linear("classifier", [config.labels, h], true)? })
        };
        let head = (config.labels > 0).then(head).transpose()?;
        Ok(Self { config: config.clone(), tokens, positions, types, norm, layers, head })
    }
}

impl Network for Bert {
    fn parts(&self) -> Vec<(String, Part<'_>)> {
        parts!(self, Part, iter)
    }

    fn parts_mut(&mut self) -> Vec<(String, PartMut<'_>)> {
        parts!(self, PartMut, iter_mut, mut)
    }

    fn context(&self, batch: &Batch, past: usize) -> Result<Context> {
        Ok(Context { mask: batch.mask.clone(), tables: None, past })
    }

    fn embed(&self, batch: &Batch, past: usize) -> Result<Tensor> {
        let positions = positions(batch, past, self.config.positions)?;
        let types = match &batch.types {
            Some(types) => types.clone(),
            None => Tensor::from_u32(vec![0], &[1, 1])?,
        };
        // In the order of transformers: rounding is then the same.
        let x = self.tokens.forward(&batch.ids)?.add(&self.types.forward(&types)?)?;
        self.norm.forward(&x.add(&self.positions.forward(&positions)?)?)
    }

    fn block(&self, i: usize, x: &Tensor, cx: &Context, _cache: Option<&mut cache::Block>) -> Result<Tensor> {
        let layer = &self.layers[i];
        let part = |linear: &Linear| heads(linear.forward(x)?, self.config.heads);
        let y = attend([part(&layer.query)?, part(&layer.key)?, part(&layer.value)?], cx, false, None, None)?;
        let x = layer.attention_norm.forward(&layer.output.forward(&y)?.add(x)?)?;
        let y = activate(self.config.activation, &layer.up.forward(&x)?)?;
        layer.norm.forward(&layer.down.forward(&y)?.add(&x)?)
    }

    fn finish(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn classify(&self, x: &Tensor) -> Option<Result<Tensor>> {
        let head = self.head.as_ref()?;
        let scores = || {
            let first = x.narrow(1, 0, 1)?.reshape(&[x.shape()[0], self.config.hidden])?;
            head.classifier.forward(&head.pooler.forward(&first)?.tanh()?)
        };
        Some(scores())
    }

    fn cache(&self, _rows: usize, _room: usize) -> Result<Cache> {
        Err(Error::Unsupported { op: "generation", on: "with an encoder".into() })
    }
}
