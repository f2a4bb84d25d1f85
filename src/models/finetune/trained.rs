//! What of a model is trained: all of it, or its adapters.

use std::collections::BTreeMap;

use crate::models::Model;
use crate::tensor::{Tensor, Trainable};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every weight.
    All,
    /// The adapters that are enabled; a head that is trained as a whole is one, see [`Model::train_whole`].
    Adapters,
}

/// The trained tensors of a model under their paths.
#[derive(Debug)]
pub struct Trained<'a> {
    /// The model.
    pub model: &'a mut Model,
    /// What of it.
    pub part: Part,
}

impl Trainable for Trained<'_> {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        match self.part {
            Part::All => self.model.visit_weights(f),
            Part::Adapters => {
                self.model.visit_slots(&mut |path, slot| {
                    for entry in slot.entries().iter().filter(|entry| entry.enabled) {
                        entry.adapter.visit(&mut |key, tensor| f(&format!("{path}.{key}"), tensor));
                        let key = entry.adapter.bias_key();
                        entry.bias.iter().for_each(|bias| f(&format!("{path}.{key}"), bias));
                    }
                });
            }
        }
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        match self.part {
            Part::All => self.model.visit_weights_mut(f),
            Part::Adapters => {
                self.model.visit_slots_mut(&mut |path, slot| {
                    for entry in slot.entries_mut().iter_mut().filter(|entry| entry.enabled) {
                        entry.adapter.visit_mut(&mut |key, tensor| f(&format!("{path}.{key}"), tensor));
                        let key = entry.adapter.bias_key();
                        entry.bias.iter_mut().for_each(|bias| f(&format!("{path}.{key}"), bias));
                    }
                });
            }
        }
    }
}

impl Trained<'_> {
    /// All trained tensors by path.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut all = BTreeMap::new();
        self.visit(&mut |path, tensor| _ = all.insert(path.to_string(), tensor.clone()));
        all
    }

    /// How many numbers are trained.
    pub fn count(&self) -> usize {
        let mut count = 0;
        self.visit(&mut |_, tensor| count += tensor.len());
        count
    }
}
