//! Adapters against Hugging Face PEFT: files, merged weights, first factors, hostile input.

mod files;
mod hostile;
mod lora_ga;
mod support;
