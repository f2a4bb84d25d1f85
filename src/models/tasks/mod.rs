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
use crate::rng::Stream;

/// Something that continues texts: a model, or in tests a stub.
pub trait Writer {
    /// So many continuations of a prompt. What is drawn depends on the seed, the name and the number of the continuation
    /// alone.
    ///
    /// # Errors
    /// The model's.
    fn samples(&mut self, name: &str, prompt: &str, count: usize) -> Result<Vec<String>>;

    /// What follows a prompt.
    ///
    /// # Errors
    /// As [`samples`](Self::samples).
    fn write(&mut self, name: &str, prompt: &str) -> Result<String> {
        Ok(self.samples(name, prompt, 1)?.pop().unwrap_or_default())
    }
}

/// Continuations that a model writes at once.
const AT_ONCE: usize = 16;

/// A model that writes.
#[derive(Debug)]
pub struct ModelWriter<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How it chooses tokens.
    pub how: Generation,
}

impl Writer for ModelWriter<'_> {
    fn samples(&mut self, name: &str, prompt: &str, count: usize) -> Result<Vec<String>> {
        let ids = self.tokenizer.encode(prompt, true)?.ids;
        let mut texts = vec![];
        for start in (0..count).step_by(AT_ONCE) {
            let [low, high] = Stream::named(self.how.seed, &format!("{name}/{start}")).key();
            let how = Generation { seed: u64::from(low) | u64::from(high) << 32, ..self.how.clone() };
            let prompts = vec![ids.clone(); AT_ONCE.min(count - start)];
            for text in self.model.generate(&prompts, &how, &mut ())? {
                texts.push(self.tokenizer.decode(&text)?);
            }
        }
        Ok(texts)
    }
}
