//! GPT-2: learnt positions, layer norms before each part, linear layers that files store transposed.

use super::cache;
use super::config::Config;
use super::network::{Context, Network, attend, heads};
use super::parts::{Maker, Part, PartMut};
use super::{Batch, Cache, activate, positions};
use crate::Result;
use crate::nn::{Embedding, Linear, Norm};
use crate::tensor::Tensor;

#[derive(Clone, Debug)]
pub(crate) struct Gpt2 {
    config: Config,
    tokens: Embedding,
    positions: Embedding,
    layers: Vec<Layer>,
    norm: Norm,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: Norm,
    /// Queries, keys and values in one.
    qkv: Linear,
    output: Linear,
    mlp_norm: Norm,
    up: Linear,
    down: Linear,
}

/// The list of layers, for reading or lent.
macro_rules! parts {
    ($model:expr, $part:ident, $iter:ident $(, $m:tt)?) => {{
        let model = $model;
        let mut list = vec![
            ("transformer.wte".to_string(), $part::Embedding(& $($m)? model.tokens)),
            ("transformer.wpe".to_string(), $part::Embedding(& $($m)? model.positions)),
        ];
        for (i, layer) in model.layers.$iter().enumerate() {
            let at = |name: &str| format!("transformer.h.{i}.{name}");
            list.push((at("ln_1"), $part::Norm(& $($m)? layer.attention_norm)));
            list.push((at("attn.c_attn"), $part::Conv1D(& $($m)? layer.qkv)));
            list.push((at("attn.c_proj"), $part::Conv1D(& $($m)? layer.output)));
            list.push((at("ln_2"), $part::Norm(& $($m)? layer.mlp_norm)));
            list.push((at("mlp.c_fc"), $part::Conv1D(& $($m)? layer.up)));
            list.push((at("mlp.c_proj"), $part::Conv1D(& $($m)? layer.down)));
        }
        list.push(("transformer.ln_f".to_string(), $part::Norm(& $($m)? model.norm)));
        list
    }};
}

impl Gpt2 {
    pub fn new(config: &Config, maker: &Maker<'_>) -> Result<Self> {
        let Config { hidden: h, intermediate: f, epsilon, .. } = *config;
        let tokens = maker.embedding("transformer.wte", [config.vocab, h])?;
        let positions = maker.embedding("transformer.wpe", [config.positions, h])?;
        let mut layers = vec![];
        for i in 0..config.layers {
            let at = |name: &str| format!("transformer.h.{i}.{name}");
            layers.push(Layer {
                attention_norm: maker.norm(&at("ln_1"), h, true, epsilon)?,
                qkv: maker.conv1d(&at("attn.c_attn"), [3 * h, h])?,
                output: maker.conv1d(&at("attn.c_proj"), [h, h])?,
                mlp_norm: maker.norm(&at("ln_2"), h, true, epsilon)?,
                up: maker.conv1d(&at("mlp.c_fc"), [f, h])?,
                down: maker.conv1d(&at("mlp.c_proj"), [h, f])?,
            });
        }
        let norm = maker.norm("transformer.ln_f", h, true, epsilon)?;
        Ok(Self { config: config.clone(), tokens, positions, layers, norm })
    }
}

impl Network for Gpt2 {
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
        self.tokens.forward(&batch.ids)?.add(&self.positions.forward(&positions)?)
    }

    fn block(&self, i: usize, x: &Tensor, cx: &Context, cache: Option<&mut cache::Block>) -> Result<Tensor> {
        let (layer, h) = (&self.layers[i], self.config.hidden);
        let y = layer.qkv.forward(&layer.attention_norm.forward(x)?)?;
        let part = |i: usize| heads(y.narrow(-1, i * h, h)?, self.config.heads);
        let y = attend([part(0)?, part(1)?, part(2)?], cx, true, None, cache)?;
        let x = x.add(&layer.output.forward(&y)?)?;
        let y = layer.up.forward(&layer.mlp_norm.forward(&x)?)?;
        x.add(&layer.down.forward(&activate(self.config.activation, &y)?)?)
    }

    fn finish(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }

    fn head(&self) -> Option<(&Tensor, Option<&Linear>)> {
        Some((&self.tokens.weight, None))
    }

    fn cache(&self, rows: usize, room: usize) -> Result<Cache> {
        Cache::new(self.layers.len(), [rows, self.config.heads, room, self.config.head_dim])
    }
}
