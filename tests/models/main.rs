//! Models against what transformers computed: hidden states, logits, losses, gradients of every weight; and files that
//! are broken or hostile.

mod hostile;
mod reference;
mod support;
