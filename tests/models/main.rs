//! Models against what transformers computed: hidden states, logits, losses, gradients of every weight; and files that
//! are broken or hostile.

mod adapted;
mod generation;
mod hf;
mod hostile;
mod reference;
mod support;
mod tasks;
mod training;
