//! Adapters: few trained numbers on top of frozen weights (parameter-efficient fine-tuning).
//!
//! A model knows nothing of methods. Each of its linear maps owns a [`Slot`] and computes through it; as a [`Host`] the
//! model shows its slots under the paths that Hugging Face gives them. A method fills slots, and nothing else changes.
//!
//! | method | file | what it does to a weight W `[out, in]` |
//! |---|---|---|
//! | LoRA, rsLoRA, DoRA | [`lora`] | `W + s B A`; DoRA also trains the length of each row |
//! | LoRA-GA | [`lora_ga`] | the same, begun along the gradient |
//! | BOFT, OFT | [`boft`] | `s ⊙ (W Rᵀ)`, R a product of sparse rotations |
//! | uRNN | [`urnn`] | `W Uᵀ`, U a structured unitary map of pairs of inputs |
//! | hybrid | [`hybrid`] | BOFT and LoRA-GA, weighted layer by layer |
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
pub mod boft;
mod config;
mod folder;
mod full;
pub mod hybrid;
pub mod lora;
pub mod lora_ga;
mod manage;
mod method;
mod slot;
mod svd;
mod target;
pub mod urnn;

pub use adapter::Adapter;
pub use boft::{Blocks, Boft, BoftAdapter};
pub use config::Config;
pub use folder::{Loaded, load, save};
pub use full::FullAdapter;
pub use hybrid::{Hybrid, HybridAdapter, step};
pub use lora::{Lora, LoraAdapter};
pub use lora_ga::{Calibration, LoraGa, attach_calibrated};
pub use manage::{
    Report, attach, detach, enable, evaluate, merge, merge_and_unload, parameters, sites, store, train,
    unmerge,
};
pub use method::Method;
pub use slot::{Below, Entry, Host, Kind, Site, Slot};
pub use svd::Svd;
pub use target::{Modules, Overrides, Targets};
pub use urnn::{Urnn, UrnnAdapter};
