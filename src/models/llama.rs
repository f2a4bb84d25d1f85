//! Llama and its relatives: Llama 2 and 3, Mistral (sliding window), Qwen2 (biases).

use super::cache;
use super::config::Config;
use super::network::{Context, Network, attend, heads};
use super::parts::{Maker, Part, PartMut};
use super::rope;
use super::{Batch, Cache};
use crate::Result;
use crate::nn::{Embedding, Linear, Norm};
use crate::tensor::Tensor;

/// `x + attention(norm(x))`, then `x + down(silu(gate(norm(x))) · up(norm(x)))`, block by block.
#[derive(Clone, Debug)]
pub(crate) struct Llama {
    config: Config,
    frequencies: Vec<f32>,
    embed: Embedding,
    layers: Vec<Layer>,
    norm: Norm,
    /// `None` where the table of embeddings is the head.
    head: Option<Linear>,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The list of layers, for reading or lent: `parts!(model, Part, iter)` or `parts!(model, PartMut, iter_mut, mut)`.
macro_rules! parts {
    ($model:expr, $part:ident, $iter:ident $(, $m:tt)?) => {{
        let model = $model;
        let mut list = vec![("model.embed_tokens".to_string(), $part::Embedding(& $($m)? model.embed))];
        for (i, layer) in model.layers.$iter().enumerate() {
            let at = |name: &str| format!("model.layers.{i}.{name}");
            list.push((at("input_layernorm"), $part::Norm(& $($m)? layer.attention_norm)));
            list.push((at("self_attn.q_proj"), $part::Linear(& $($m)? layer.q)));
            list.push((at("self_attn.k_proj"), $part::Linear(& $($m)? layer.k)));
            list.push((at("self_attn.v_proj"), $part::Linear(& $($m)? layer.v)));
            list.push((at("self_attn.o_proj"), $part::Linear(& $($m)? layer.o)));
            list.push((at("post_attention_layernorm"), $part::Norm(& $($m)? layer.mlp_norm)));
            list.push((at("mlp.gate_proj"), $part::Linear(& $($m)? layer.gate)));
            list.push((at("mlp.up_proj"), $part::Linear(& $($m)? layer.up)));
            list.push((at("mlp.down_proj"), $part::Linear(& $($m)? layer.down)));
        }
        list.push(("model.norm".to_string(), $part::Norm(& $($m)? model.norm)));
        list.extend(model.head.$iter().map(|head| ("lm_head".to_string(), $part::Linear(head))));
        list
    }};
}

impl Llama {
    pub fn new(config: &Config, maker: &Maker<'_>) -> Result<Self> {
        let Config { hidden: h, intermediate: f, epsilon, qkv_bias, mlp_bias, .. } = *config;
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let embed =
            Embedding { padding: config.pad, ..maker.embedding("model.embed_tokens", [config.vocab, h])? };
        // Layer by layer, so that a number of layers that the file does not have ends at the first that is missing.
        let mut layers = vec![];
        for i in 0..config.layers {
            let at = |name: &str| format!("model.layers.{i}.{name}");
            layers.push(Layer {
                attention_norm: maker.norm(&at("input_layernorm"), h, false, epsilon)?,
                q: maker.linear(&at("self_attn.q_proj"), [q, h], qkv_bias)?,
                k: maker.linear(&at("self_attn.k_proj"), [kv, h], qkv_bias)?,
                v: maker.linear(&at("self_attn.v_proj"), [kv, h], qkv_bias)?,
                o: maker.linear(&at("self_attn.o_proj"), [h, q], config.output_bias)?,
                mlp_norm: maker.norm(&at("post_attention_layernorm"), h, false, epsilon)?,
                gate: maker.linear(&at("mlp.gate_proj"), [f, h], mlp_bias)?,
                up: maker.linear(&at("mlp.up_proj"), [f, h], mlp_bias)?,
                down: maker.linear(&at("mlp.down_proj"), [h, f], mlp_bias)?,
            });
        }
        let norm = maker.norm("model.norm", h, false, epsilon)?;
        let head = (!config.tied).then(|| maker.linear("lm_head", [config.vocab, h], false)).transpose()?;
        Ok(Self { frequencies: rope::frequencies(config), config: config.clone(), embed, layers, norm, head })
    }
}

impl Network for Llama {
    fn parts(&self) -> Vec<(String, Part<'_>)> {
        parts!(self, Part, iter)
    }

    fn parts_mut(&mut self) -> Vec<(String, PartMut<'_>)> {
        parts!(self, PartMut, iter_mut, mut)
    }

    fn context(&self, batch: &Batch, past: usize) -> Result<Context> {
        let (rows, width) = batch.sizes();
        let tables = match &batch.positions {
            Some(positions) => rope::tables(&self.frequencies, &positions.to_u32()?, rows)?,
            None => {
                let positions: Vec<u32> = (past..past + width).map(|i| i as u32).collect();
                rope::tables(&self.frequencies, &positions, 1)?
            }
        };
        Ok(Context { mask: batch.mask.clone(), tables: Some(tables), past })
    }

    fn embed(&self, batch: &Batch, _past: usize) -> Result<Tensor> {
        self.embed.forward(&batch.ids)
    }

    fn block(&self, i: usize, x: &Tensor, cx: &Context, cache: Option<&mut cache::Block>) -> Result<Tensor> {
        let (layer, config) = (&self.layers[i], &self.config);
        let y = layer.attention_norm.forward(x)?;
        let turn = |x: Tensor| match &cx.tables {
            Some([cos, sin]) => x.rope(cos, sin),
            None => Ok(x),
        };
        let split = |x: Tensor, heads: usize| {
            let (b, t) = (x.shape()[0], x.shape()[1]);
            x.reshape(&[b, t, heads, config.head_dim])
        };
        let q = turn(split(layer.q.forward(&y)?, config.heads)?)?;
        let k = turn(split(layer.k.forward(&y)?, config.kv_heads)?)?;
        let v = heads(layer.v.forward(&y)?, config.kv_heads)?;
        let window = config.windows.get(i).copied().flatten();
        let y = attend([q, k, v], cx, true, window, cache)?;
        let x = x.add(&layer.o.forward(&y)?)?;
        let y = layer.mlp_norm.forward(&x)?;
        let y = layer.gate.forward(&y)?.swiglu(&layer.up.forward(&y)?)?;
        x.add(&layer.down.forward(&y)?)
    }

    fn finish(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }

    fn head(&self) -> Option<(&Tensor, Option<&Linear>)> {
        match &self.head {
            Some(head) => Some((&head.weight, Some(head))),
            None => Some((&self.embed.weight, None)),
        }
    }

    fn cache(&self, rows: usize, room: usize) -> Result<Cache> {
        Cache::new(self.layers.len(), [rows, self.config.kv_heads, room, self.config.head_dim])
    }
}
