//! Tasks that models are judged by: their files, prompts and scores, as their authors define them.
//!
//! | file | task |
//! |---|---|
//! | `glue` | SST-2, MRPC, CoLA (arXiv:1804.07461): classes of sentences |
//! | `gsm8k` | word problems (arXiv:2110.14168): the number at the end of an answer |
//! | `humaneval` | functions from their descriptions (arXiv:2107.03374): pass@k |
//! | `mt_bench` | two turns of conversation (arXiv:2306.05685): answers for a judge |

pub mod glue;
pub mod gsm8k;
pub mod humaneval;
pub mod mt_bench;

use super::{Generation, Model, Tokenizer};
use crate::Result;

/// Something that continues a text: a model, or in tests a stub.
pub trait Writer {
    /// What follows the prompt.
    ///
    /// # Errors
    /// The model's.
    fn write(&mut self, prompt: &str) -> Result<String>;
}

/// A model that writes.
#[derive(Debug)]
pub struct ModelWriter<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How it chooses tokens; the seed grows by one with each text.
    pub how: Generation,
}

impl Writer for ModelWriter<'_> {
    fn write(&mut self, prompt: &str) -> Result<String> {
        let ids = self.tokenizer.encode(prompt, true)?.ids;
        let texts = self.model.generate(&[ids], &self.how, &mut ())?;
        self.how.seed = self.how.seed.wrapping_add(1);
        self.tokenizer.decode(&texts[0])
    }
}
