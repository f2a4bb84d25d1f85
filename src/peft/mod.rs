//! Adapters: few trained numbers on top of frozen weights (parameter-efficient fine-tuning).
//!
//! A model knows nothing of methods. Each of its linear maps owns a [`Slot`] and computes through it; as a [`Host`] the
//! model shows its slots under the paths that Hugging Face gives them. A method fills slots, and nothing else changes.
//!
//! | method | file | what it does to a weight W `[out, in]` |
//! |---|---|---|
//! | LoRA, rsLoRA, DoRA | [`lora`] | `W + s B A`; DoRA also trains the length of each row |
//!
//! ```
//! use ransnn::peft::{self, Host, Kind, Lora, Method, Site, Slot, Targets};
//! use ransnn::tensor::{DType, Tensor, grad};
//!
//! struct Model { weight: Tensor, slot: Slot }
//! impl Host for Model {
//!     fn visit_sites(&mut self, f: &mut dyn FnMut(Site<'_>)) {
//!         let (weight, slot) = (&mut self.weight, &mut self.slot);
//!         f(Site { path: "layers.0.q_proj", weight, bias: None, slot, kind: Kind::Linear });
//!     }
//! }
//!
//! let mut model = Model { weight: Tensor::full(&[3, 4], 0.5, DType::F32)?, slot: Slot::default() };
//! let report = peft::attach(&mut model, &Method::from(Lora { rank: 2, ..Lora::default() }), &Targets::names(["q_proj"]), "default", 0)?;
//! assert_eq!((report.modules, report.trained), (1, 2 * (3 + 4)));
//!
//! let x = Tensor::full(&[1, 4], 1.0, DType::F32)?;
//! let params = peft::parameters(&mut model); // also what an optimiser steps
//! let (loss, grads) = grad(&params, || model.slot.apply(&x, &model.weight, None)?.sum_all())?;
//! assert_eq!(loss.to_scalar()?, 6.0); // at the start an adapter changes nothing
//! assert!(grads.get("layers.0.q_proj.lora_B.weight")?.to_f32()?.iter().any(|&g| g != 0.0));
//! # Ok::<(), ransnn::Error>(())
//! ```

mod adapter;
pub mod lora;
mod manage;
mod method;
mod slot;
mod target;

pub use adapter::Adapter;
pub use lora::{Lora, LoraAdapter};
pub use manage::{
    Report, attach, detach, enable, evaluate, merge, merge_and_unload, parameters, sites, store, train,
    unmerge,
};
pub use method::Method;
pub use slot::{Below, Entry, Host, Kind, Site, Slot};
pub use target::{Modules, Targets};
