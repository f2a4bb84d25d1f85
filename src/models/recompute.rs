//! Gradients in the memory of one block: only the inputs of blocks are kept, and each block is computed a second time on
//! the way back (Chen et al., arXiv:1604.06174).

use std::collections::BTreeMap;

use super::{Batch, Labels, Model};
use crate::tensor::{Grads, Tensor, grad};
use crate::{Error, Result};

/// The input of a piece among its parameters; no path of a model looks like it.
const INPUT: &str = "<input>";

impl Model {
    /// Loss and gradients by `params`, the tensors of the model that are trained, by their paths: what
    /// [`grad`] over [`loss`](Self::loss) gives, with one more pass forward and far less memory.
    ///
    /// # Errors
    /// As [`loss`](Self::loss) and [`grad`].
    pub fn grad_recomputed(
        &self,
        params: &BTreeMap<String, Tensor>,
        batch: &Batch,
        labels: &Labels,
    ) -> Result<(Tensor, Grads)> {
        let (cx, first) = self.begin(batch)?;
        let mut inputs = vec![first];
        for i in 0..self.config.layers {
            inputs.push(self.block(i, &inputs[i], &cx)?);
        }
        let stage = |wanted: Stage| -> BTreeMap<String, Tensor> {
            let here = |name: &str| self.stages(name).contains(&wanted);
            params.iter().filter(|(name, _)| here(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let lowest = params.keys().flat_map(|name| self.stages(name)).min();
        let Some(lowest) = lowest else {
            return Err(Error::value("the number of trained tensors", 0, "at least 1"));
        };
        let missing = || Error::Internal("no gradient by the input of a block".into());

        let last = inputs.pop().ok_or_else(missing)?;
        let mut mine = stage(Stage::End);
        mine.insert(INPUT.into(), last.clone());
        let (loss, mut grads) = grad(&mine, || self.end(&last, labels))?;
        let mut slope = grads.remove(INPUT).ok_or_else(missing)?;
        drop(last);
        for i in (0..self.config.layers).rev() {
            let x = inputs.pop().ok_or_else(missing)?;
            if lowest > Stage::Block(i) {
                break;
            }
            let mut mine = stage(Stage::Block(i));
            mine.insert(INPUT.into(), x.clone());
            // The gradient of Σ slope · y by anything is that of the loss.
            let (_, mut more) = grad(&mine, || self.block(i, &x, &cx)?.mul(&slope)?.sum_all())?;
            slope = more.remove(INPUT).ok_or_else(missing)?;
            grads.accumulate(more)?;
        }
        if lowest == Stage::Begin {
            let mine = stage(Stage::Begin);
            let (_, more) = grad(&mine, || self.begin(batch)?.1.mul(&slope)?.sum_all())?;
            grads.accumulate(more)?;
        }
        Ok((loss, grads))
    }

    /// Where a parameter takes part. A table that is also the head does so twice.
    fn stages(&self, name: &str) -> Vec<Stage> {
        for prefix in ["model.layers.", "transformer.h.", "bert.encoder.layer."] {
            let number = name.strip_prefix(prefix).and_then(|rest| rest.split('.').next()?.parse().ok());
            if let Some(i) = number {
                return vec![Stage::Block(i)];
            }
        }
        let table = ["model.embed_tokens.", "transformer.wte."].iter().any(|table| name.starts_with(table));
        match table || name.starts_with("transformer.wpe.") || name.starts_with("bert.embeddings.") {
            true if table && self.config.tied && name.ends_with(".weight") && !name.contains("lora") => {
                vec![Stage::Begin, Stage::End]
            }
            true => vec![Stage::Begin],
            false => vec![Stage::End],
        }
    }
}

/// The pieces of a pass, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Begin,
    Block(usize),
    End,
}
