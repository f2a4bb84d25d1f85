//! Where adapters sit: the stack on one linear map, and how a model shows its maps.

use super::Adapter;
use crate::rng::Stream;
use crate::tensor::{Device, Tensor};
use crate::{Error, Result};

/// What kind of map a [`Site`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `y = x Wᵀ + b` with W `[out, in]`.
    Linear,
    /// Rows of a table W `[entries, width]`, chosen by number.
    Embedding,
    /// [`Linear`](Kind::Linear) in memory, W `[out, in]`; Hugging Face's files hold the transpose (GPT-2).
    Conv1D,
}

/// One map of a model, lent by [`Host::visit_sites`].
#[derive(Debug)]
pub struct Site<'a> {
    /// Hugging Face's path of the module: `model.layers.0.self_attn.q_proj`.
    pub path: &'a str,
    /// `[out, in]`; of an embedding `[entries, width]`.
    pub weight: &'a mut Tensor,
    /// `[out]`.
    pub bias: Option<&'a mut Tensor>,
    /// Its adapters.
    pub slot: &'a mut Slot,
    /// What it is.
    pub kind: Kind,
}

/// A model that adapters can be attached to.
pub trait Host {
    /// Lends every map that may be adapted, always in the same order, each once under a path of its own.
    fn visit_sites(&mut self, f: &mut dyn FnMut(Site<'_>));
}

/// An adapter under a name.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is called; Hugging Face's default is `default`.
    pub name: String,
    /// The adapter.
    pub adapter: Adapter,
    /// A bias that was trained with the adapter and stands in for the map's own while it is enabled.
    pub bias: Option<Tensor>,
    /// Whether it takes part.
    pub enabled: bool,
}

/// The adapters of one linear map, the first nearest to the weight. Empty, it is the plain map.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub(super) stack: Vec<Entry>,
    /// The weight and the bias as they were, while the enabled adapters are merged into them.
    pub(super) merged: Option<(Tensor, Option<Tensor>)>,
    /// Where dropout draws from and the number of the call; `None` when it is off.
    pub(super) dropout: Option<(Stream, u64)>,
}

impl Slot {
    /// Whether no adapter is attached.
    pub fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Whether the map is computed through adapters: one is enabled and not merged.
    pub fn is_active(&self) -> bool {
        self.merged.is_none() && self.stack.iter().any(|entry| entry.enabled)
    }

    /// The adapters, the one nearest to the weight first.
    pub fn entries(&self) -> &[Entry] {
        &self.stack
    }

    /// The same, to be changed.
    pub fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.stack
    }

    /// The adapter of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.stack.iter().find(|entry| entry.name == name)
    }

    /// The adapter of a name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.stack.iter_mut().find(|entry| entry.name == name)
    }

    /// Puts an adapter on top.
    ///
    /// # Errors
    /// The name is taken, or adapters are merged into the weight.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        if self.merged.is_some() {
            return Err(Error::value(
                "the state of the adapters",
                "merged",
                "unmerged before another is attached",
            ));
        }
        if self.get(&entry.name).is_some() {
            return Err(Error::value("the name of an adapter", &entry.name, "one that is not taken"));
        }
        self.stack.push(entry);
        Ok(())
    }

    /// Moves the adapters to a device.
    ///
    /// # Errors
    /// A method without kernels there; what the device reports.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        for Entry { adapter, bias, .. } in &mut self.stack {
            adapter.move_to(device)?;
            if let Some(bias) = bias {
                *bias = bias.to_device(device)?;
            }
        }
        if let Some((weight, bias)) = &mut self.merged {
            *weight = weight.to_device(device)?;
            *bias = bias.as_ref().map(|bias| bias.to_device(device)).transpose()?;
        }
        Ok(())
    }

    /// `y = x Wᵀ + b` through the enabled adapters: `x [.., in]`, `W [out, in]`, `b [out]`.
    ///
    /// # Errors
    /// Shapes or kinds that do not fit.
    pub fn apply(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        if !self.is_active() {
            return x.linear(weight, bias);
        }
        let bias = self.stack.iter().rev().filter(|e| e.enabled).find_map(|e| e.bias.as_ref()).or(bias);
        self.top(weight).apply_with(x, bias)
    }

    /// Rows of a table `W [entries, width]` through the enabled adapters: ids of any shape (u32) to `[.., width]`.
    ///
    /// # Errors
    /// An id without a row; an adapter that is not for tables.
    pub fn lookup(&self, ids: &Tensor, table: &Tensor) -> Result<Tensor> {
        match self.is_active() {
            true => self.top(table).lookup(ids),
            false => table.embedding(ids),
        }
    }

    /// The weight that alone gives what the weight and the enabled adapters give, in the kind of number of the weight.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn merged_weight(&self, weight: &Tensor) -> Result<Tensor> {
        self.top(weight).weight()
    }

    /// [`merged_weight`](Self::merged_weight), and whether all of it is finite.
    pub(super) fn merged_and_finite(&self, weight: &Tensor) -> Result<(Tensor, bool)> {
        let (merged, finite) = match self.top(weight).split() {
            Some((Entry { adapter: Adapter::Lora(adapter), .. }, below)) => adapter.sum(&below.weight()?)?,
            _ => (self.merged_weight(weight)?, None),
        };
        let finite = finite.map_or_else(|| merged.is_finite(), Ok)?;
        Ok((merged, finite))
    }

    fn top<'a>(&'a self, weight: &'a Tensor) -> Below<'a> {
        Below { stack: &self.stack, weight, dropout: self.dropout }
    }
}

/// What an adapter stands on: the weight and the adapters below.
#[derive(Clone, Copy, Debug)]
pub struct Below<'a> {
    stack: &'a [Entry],
    weight: &'a Tensor,
    dropout: Option<(Stream, u64)>,
}

impl<'a> Below<'a> {
    /// A weight alone.
    pub fn plain(weight: &'a Tensor) -> Self {
        Self { stack: &[], weight, dropout: None }
    }

    /// The topmost enabled adapter and what is below it.
    fn split(&self) -> Option<(&'a Entry, Self)> {
        let at = self.stack.iter().rposition(|entry| entry.enabled)?;
        Some((&self.stack[at], Self { stack: &self.stack[..at], ..*self }))
    }

    /// `x Wᵀ` through all of it.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.apply_with(x, None)
    }

    /// `x Wᵀ + b` through all of it.
    pub(super) fn apply_with(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match self.split() {
            None => x.linear(self.weight, bias),
            Some((entry, below)) => entry.adapter.forward(x, &below, bias),
        }
    }

    /// Rows of the table through all of it.
    pub(super) fn lookup(&self, ids: &Tensor) -> Result<Tensor> {
        match self.split() {
            None => self.weight.embedding(ids),
            Some((entry, below)) => entry.adapter.lookup(ids, &below),
        }
    }

    /// The weight, if no enabled adapter is below.
    pub fn base(&self) -> Option<&'a Tensor> {
        self.split().is_none().then_some(self.weight)
    }

    /// The weight that alone gives the same map.
    pub fn weight(&self) -> Result<Tensor> {
        match self.split() {
            None => Ok(self.weight.clone()),
            Some((entry, below)) => entry.adapter.merged(&below.weight()?),
        }
    }

    /// Where dropout draws from and the number of the call; `None` when it is off.
    pub fn dropout(&self) -> Option<(Stream, u64)> {
        self.dropout
    }
}
