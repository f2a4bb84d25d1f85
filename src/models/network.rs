//! What all models have in common: blocks one after another, between an embedding and a head.

use super::cache;
use super::parts::{Part, PartMut};
use super::{Batch, Cache};
use crate::Result;
use crate::nn::Linear;
use crate::tensor::{Attention, Device, Tensor};

/// What blocks share in one pass.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Which keys are seen, `[B, keys]` (u8).
    pub mask: Option<Tensor>,
    /// Cosines and sines of rotary positions.
    pub tables: Option<[Tensor; 2]>,
    /// Tokens that are in the cache.
    pub past: usize,
}

impl Context {
    /// The same on a device.
    pub fn moved_to(mut self, device: &Device) -> Result<Self> {
        for tensor in self.mask.iter_mut().chain(self.tables.iter_mut().flatten()) {
            *tensor = tensor.to_device(device)?;
        }
        Ok(self)
    }
}

/// A model in pieces, so that a pass can be whole, cached or recomputed block by block.
pub(crate) trait Network: std::fmt::Debug + Send + Sync {
    /// Layers under the paths of Hugging Face, in order.
    fn parts(&self) -> Vec<(String, Part<'_>)>;
    /// The same, lent.
    fn parts_mut(&mut self) -> Vec<(String, PartMut<'_>)>;
    fn context(&self, batch: &Batch, past: usize) -> Result<Context>;
    /// `[B, T]` to `[B, T, hidden]`.
    fn embed(&self, batch: &Batch, past: usize) -> Result<Tensor>;
    /// `[B, T, hidden]` to the same.
    fn block(&self, i: usize, x: &Tensor, cx: &Context, cache: Option<&mut cache::Block>) -> Result<Tensor>;
    /// What stands between the last block and the head.
    fn finish(&self, x: &Tensor) -> Result<Tensor>;
    /// The head over the vocabulary: its weight `[V, hidden]`, and the layer if it is one of its own.
    fn head(&self) -> Option<(&Tensor, Option<&Linear>)> {
        None
    }
    /// Scores of classes, `[B, C]`, from hidden states `[B, T, hidden]`.
    fn classify(&self, _x: &Tensor) -> Option<Result<Tensor>> {
        None
    }
    fn cache(&self, rows: usize, room: usize) -> Result<Cache>;
}

/// `[B, T, H · D]` to `[B, H, T, D]`.
pub(crate) fn heads(x: Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, width) = (x.shape()[0], x.shape()[1], x.shape()[2]);
    x.reshape(&[b, t, heads, width / heads])?.permute(&[0, 2, 1, 3])
}

/// Attention over queries, keys and values `[B, H, T, D]`, through the cache if there is one: `[B, T, H · D]`.
pub(crate) fn attend(
    [q, k, v]: [Tensor; 3],
    cx: &Context,
    causal: bool,
    window: Option<usize>,
    cache: Option<&mut cache::Block>,
) -> Result<Tensor> {
    let (b, h, t, d) = (q.shape()[0], q.shape()[1], q.shape()[2], q.shape()[3]);
    let mut how = Attention { scale: 1.0 / (d as f64).sqrt(), causal, window, keys: None };
    let mask = cx.mask.as_ref();
    let y = match cache {
        None => q.attention(&k, &v, mask, how)?,
        Some(cache) => {
            cache.append(cx.past, &k, &v)?;
            how.keys = Some(cx.past + t);
            q.attention(&cache.keys, &cache.values, mask, how)?
        }
    };
    y.permute(&[0, 2, 1, 3])?.reshape(&[b, t, h * d])
}
