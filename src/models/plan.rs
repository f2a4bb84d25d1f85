//! What fine-tuning a model would take, before anything is loaded: numbers, memory, operations, communication.
//!
//! For a shape of h hidden, L blocks, a heads of d, k heads of keys, f intermediate, V tokens, and T tokens of a step on
//! one GPU, with w bytes of a computed number:
//!
//! - weights: 4, 2 or 1 bytes each; NF4 0.516 (double quantisation), where only the matrices of blocks are quantised;
//! - gradients and states of AdamW in f32: 12 bytes for each number of an adapter, which is f32 itself. Full fine-tuning:
//!   gradients in w, two states in w (pure bf16) or, with a master copy, 16 bytes in all;
//! - activations of a block and token, in numbers: 2h + 2ad + 2kd + 3f, and h where q, k, v are trained, h where gate and
//!   up, f where down is, times w, and 8h bytes for norms in f32. Recomputing keeps h w of each block and one block;
//! - logits: T V (w + 12) bytes, or 0.15 of it with a loss in pieces. They are gone when the first block is computed a
//!   second time: of the two only the larger counts then;
//! - shared by G GPUs: weights, gradients and states are divided, two blocks are gathered; 0.6 GB of CUDA itself.
//!
//! Compared with published peaks in the tests: within 15 % where batch and length were stated, with the exceptions named
//! there.

use std::fmt;

use super::config::{Config, Family};
use crate::{Error, Result};

/// What weights are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// Brain floats.
    Bf16,
    /// Bytes with a scale.
    Int8,
    /// Four bits (QLoRA).
    Nf4,
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Everything, in pure half or single precision.
    Full,
    /// Everything, with a master copy in f32: 16 bytes a weight.
    FullMixed,
    /// LoRA and LoRA-GA of a rank.
    Lora {
        /// r.
        rank: u64,
    },
    /// DoRA of a rank.
    Dora {
        /// r.
        rank: u64,
    },
    /// BOFT.
    Boft {
        /// Size of a block.
        block: u64,
        /// Butterfly factors.
        factors: u64,
    },
    /// A structured unitary map of each input.
    Urnn,
    /// BOFT and LoRA-GA together.
    Hybrid {
        /// r.
        rank: u64,
        /// Size of a block.
        block: u64,
        /// Butterfly factors.
        factors: u64,
    },
}

/// Which maps of a block carry adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    /// Queries and values.
    QueryValue,
    /// The feed-forward layers.
    FeedForward,
    /// All of them.
    All,
}

/// What is planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model.
    pub config: Config,
    /// What is trained.
    pub method: Method,
    /// Where adapters sit.
    pub targets: Targets,
    /// What weights are stored as.
    pub precision: Precision,
    /// Texts of a step on one GPU.
    pub batch: u64,
    /// Tokens of a text.
    pub length: u64,
    /// GPUs that share the weights.
    pub gpus: u64,
    /// Whether blocks are computed a second time on the way back.
    pub recompute: bool,
    /// Whether the loss is taken in pieces, so that logits never exist as a whole.
    pub chunked_loss: bool,
    /// Operations a second that a GPU achieves.
    pub flops: f64,
    /// Bytes a second between GPUs.
    pub bandwidth: f64,
}

/// What it takes. Bytes are of one GPU.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Weights of the model.
    pub parameters: u64,
    /// Numbers that are trained.
    pub trained: u64,
    /// Bytes of weights and adapters.
    pub weights: f64,
    /// Bytes of gradients.
    pub gradients: f64,
    /// Bytes of the optimiser, master copies included.
    pub optimiser: f64,
    /// Bytes kept for the way back.
    pub activations: f64,
    /// Bytes of logits and their gradient; what they need beyond the block that is computed again after them.
    pub logits: f64,
    /// Bytes of gathered blocks and of CUDA itself.
    pub other: f64,
    /// Floating-point operations of a step on one GPU.
    pub operations: f64,
    /// Bytes that a GPU receives in a step.
    pub communication: f64,
    /// Seconds of a step at the stated speeds, computing and communicating one after the other.
    pub seconds: f64,
}

impl Plan {
    /// Bytes in all.
    pub fn total(&self) -> f64 {
        self.weights + self.gradients + self.optimiser + self.activations + self.logits + self.other
    }
}

/// `name`, hidden, blocks, heads, heads of keys, width of a head, intermediate, vocabulary, tied.
type Known = (&'static str, [usize; 7], bool);

const KNOWN: [Known; 16] = [
    ("llama2-7b", [4096, 32, 32, 32, 128, 11008, 32000], false),
    ("llama2-13b", [5120, 40, 40, 40, 128, 13824, 32000], false),
    ("llama2-70b", [8192, 80, 64, 8, 128, 28672, 32000], false),
    ("llama3.2-1b", [2048, 16, 32, 8, 64, 8192, 128_256], true),
    ("llama3.2-3b", [3072, 28, 24, 8, 128, 8192, 128_256], true),
    ("llama3.1-8b", [4096, 32, 32, 8, 128, 14336, 128_256], false),
    ("llama3.1-70b", [8192, 80, 64, 8, 128, 28672, 128_256], false),
    ("llama3.1-405b", [16384, 126, 128, 8, 128, 53248, 128_256], false),
    ("mistral-7b", [4096, 32, 32, 8, 128, 14336, 32000], false),
    ("qwen2.5-0.5b", [896, 24, 14, 2, 64, 4864, 151_936], true),
    ("qwen2.5-1.5b", [1536, 28, 12, 2, 128, 8960, 151_936], true),
    ("qwen2.5-3b", [2048, 36, 16, 2, 128, 11008, 151_936], true),
    ("qwen2.5-7b", [3584, 28, 28, 4, 128, 18944, 152_064], false),
    ("qwen2.5-14b", [5120, 48, 40, 8, 128, 13824, 152_064], false),
    ("qwen2.5-32b", [5120, 64, 40, 8, 128, 27648, 152_064], false),
    ("qwen2.5-72b", [8192, 80, 64, 8, 128, 29568, 152_064], false),
];

/// Names of models whose sizes are known without their files.
pub fn known() -> Vec<&'static str> {
    KNOWN.iter().map(|(name, ..)| *name).collect()
}

/// The sizes of a well-known model.
///
/// # Errors
/// Not one of [`known`].
pub fn by_name(name: &str) -> Result<Config> {
    let found = KNOWN.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
    let Some(&(name, [hidden, layers, heads, kv, head, intermediate, vocab], tied)) = found else {
        let expected = format!("a folder with config.json, or one of {}", known().join(", "));
        return Err(Error::value("the model", format!("`{name}`"), expected));
    };
    let kind = if name.starts_with("qwen") { "qwen2" } else { "llama" };
    let text = format!(
        "{{\"model_type\":\"{kind}\",\"hidden_size\":{hidden},\"num_hidden_layers\":{layers},\
         \"num_attention_heads\":{heads},\"num_key_value_heads\":{kv},\"head_dim\":{head},\
         \"intermediate_size\":{intermediate},\"vocab_size\":{vocab},\"tie_word_embeddings\":{tied}}}"
    );
    Config::parse(name.as_ref(), &text)
}

impl Request {
    /// Inputs and outputs of the maps of a block that carry adapters.
    fn maps(&self) -> Vec<[f64; 2]> {
        let c = &self.config;
        let [h, f] = [c.hidden as f64, c.intermediate as f64];
        let (q, kv) = ((c.heads * c.head_dim) as f64, (c.kv_heads * c.head_dim) as f64);
        let gated = c.family == Family::Llama;
        let forward = if gated { vec![[h, f], [h, f], [f, h]] } else { vec![[h, f], [f, h]] };
        match self.targets {
            Targets::QueryValue => vec![[h, q], [h, kv]],
            Targets::FeedForward => forward,
            Targets::All => [vec![[h, q], [h, kv], [h, kv], [q, h]], forward].concat(),
        }
    }

    /// Numbers of the adapter of a map.
    fn of_map(&self, [input, out]: [f64; 2]) -> f64 {
        let boft = |block: u64, factors: u64| factors as f64 * block as f64 * input + out;
        match self.method {
            Method::Full | Method::FullMixed => 0.0,
            Method::Lora { rank } => rank as f64 * (input + out),
            Method::Dora { rank } => rank as f64 * (input + out) + out,
            Method::Boft { block, factors } => boft(block, factors),
            Method::Urnn => 7.0 * (input / 2.0).floor(),
            Method::Hybrid { rank, block, factors } => {
                rank as f64 * (input + out) + boft(block, factors) + 1.0
            }
        }
    }

    /// Computes the plan.
    ///
    /// # Errors
    /// A size of 0; full fine-tuning of quantised weights.
    pub fn plan(&self) -> Result<Plan> {
        if self.batch == 0
            || self.length == 0
            || self.gpus == 0
            || !(self.flops > 0.0 && self.bandwidth > 0.0)
        {
            return Err(Error::value("batch, length, GPUs, FLOP/s or bandwidth", 0, "above 0"));
        }
        let full = matches!(self.method, Method::Full | Method::FullMixed);
        if full && matches!(self.precision, Precision::Int8 | Precision::Nf4) {
            let expected = "that of an adapter: quantised weights cannot be trained";
            return Err(Error::value("the method", "full", expected));
        }
        let c = &self.config;
        let (block, parameters) = c.parameters();
        let (blocks, p) = (c.layers as f64 * block as f64, parameters as f64);
        let [h, l, f, v] = [c.hidden, c.layers, c.intermediate, c.vocab].map(|n| n as f64);
        let (q, kv) = ((c.heads * c.head_dim) as f64, (c.kv_heads * c.head_dim) as f64);
        let trained =
            if full { p } else { l * self.maps().into_iter().map(|map| self.of_map(map)).sum::<f64>() };
        let w = if self.precision == Precision::F32 { 4.0 } else { 2.0 };
        let stored = |inside: f64, all: f64| match self.precision {
            Precision::F32 => 4.0 * all,
            Precision::Bf16 => 2.0 * all,
            Precision::Int8 => inside + 2.0 * (all - inside),
            Precision::Nf4 => 0.516 * inside + 2.0 * (all - inside),
        };
        let share = 1.0 / self.gpus as f64;
        let (weights, gradients, optimiser) = match self.method {
            Method::Full => (w * p, w * p, 2.0 * w * p),
            Method::FullMixed => (2.0 * p, 2.0 * p, 12.0 * p),
            _ => (stored(blocks, p) + 4.0 * trained, 4.0 * trained, 8.0 * trained),
        };
        let tokens = (self.batch * self.length) as f64;
        let feed = if c.family == Family::Llama { 3.0 } else { 2.0 } * f;
        let inputs = match (full, self.targets) {
            (true, _) | (_, Targets::All) => 2.0 * h + f,
            (_, Targets::QueryValue) => h,
            (_, Targets::FeedForward) => h + f,
        };
        let rotated = match self.method {
            Method::Boft { factors, .. } | Method::Hybrid { factors, .. } => {
                factors as f64 * self.maps().iter().map(|map| map[0]).sum::<f64>()
            }
            Method::Urnn => 2.0 * self.maps().iter().map(|map| map[0]).sum::<f64>(),
            _ => 0.0,
        };
        let of_block = (2.0 * h + 2.0 * q + 2.0 * kv + feed + inputs + rotated) * w + 8.0 * h;
        let mut logits = tokens * v * (w + 12.0) * if self.chunked_loss { 0.15 } else { 1.0 };
        let activations = match self.recompute {
            true => {
                let again = tokens * of_block;
                logits = (logits - again).max(0.0);
                tokens * l * h * w + again
            }
            false => tokens * l * of_block,
        };
        let gathered = if self.gpus > 1 { 2.0 * stored(block as f64, block as f64) } else { 0.0 };

        let products = 2.0 * (blocks + v * h);
        let attention = 4.0 * l * q * self.length as f64 / 2.0;
        let back = if full { 2.0 } else { 1.0 } * products + 2.0 * attention;
        let again = if self.recompute { products + attention } else { 0.0 };
        let operations =
            tokens * (products + attention + back + again + 6.0 * if full { 0.0 } else { trained });
        let others = 1.0 - share;
        let passes = if self.recompute { 3.0 } else { 2.0 };
        let communication = others * (passes * weights + gradients);
        Ok(Plan {
            parameters,
            trained: trained as u64,
            weights: weights * share,
            gradients: gradients * share,
            optimiser: optimiser * share,
            activations,
            logits,
            other: 0.6e9 + gathered,
            operations,
            communication,
            seconds: operations / self.flops + communication / self.bandwidth,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.trained as f64 / self.parameters as f64;
        writeln!(f, "parameters     {:>15}", self.parameters)?;
        writeln!(f, "trained        {:>15}   {share:.3} %", self.trained)?;
        writeln!(f, "\nmemory of a GPU")?;
        let parts = [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimiser", self.optimiser),
            ("activations", self.activations),
            ("logits", self.logits),
            ("other", self.other),
            ("total", self.total()),
        ];
        for (name, bytes) in parts {
            writeln!(f, "  {name:<12} {:>12.2} GB", bytes / 1e9)?;
        }
        writeln!(f, "\na step")?;
        writeln!(f, "  operations   {:>12.2} TFLOP", self.operations / 1e12)?;
        writeln!(f, "  communicated {:>12.2} GB", self.communication / 1e9)?;
        writeln!(f, "  time         {:>12.3} s", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, method: Method, targets: Targets, precision: Precision) -> Request {
        Request {
            config: by_name(name).expect("known"),
            method,
            targets,
            precision,
            batch: 4,
            length: 768,
            gpus: 1,
            recompute: false,
            chunked_loss: false,
            flops: 1e14,
            bandwidth: 1e11,
        }
    }

    const LORA8: Method = Method::Lora { rank: 8 };

    #[test]
    fn numbers_of_the_published_models() {
        let cases = [
            ("llama2-7b", 6_738_415_616, 4_194_304, 19_988_480, 1_310_720),
            ("llama3.1-8b", 8_030_261_248, 3_407_872, 20_971_520, 1_212_416),
            ("llama3.1-405b", 405_853_388_800, 50_577_408, 311_721_984, 18_708_480),
        ];
        for (name, all, lora, lora_all, boft) in cases {
            let trained = |method, targets| {
                request(name, method, targets, Precision::Bf16).plan().expect("good").trained
            };
            assert_eq!(by_name(name).expect("known").parameters().1, all);
            assert_eq!(trained(LORA8, Targets::QueryValue), lora);
            assert_eq!(trained(LORA8, Targets::All), lora_all);
            assert_eq!(trained(Method::Boft { block: 4, factors: 1 }, Targets::QueryValue), boft);
        }
    }

    /// Published peaks in GB, with their sources: peft's method comparison (3B), LLaMA-Factory's wiki (7B), torchtune (70B,
    /// 405B). Known to be off by more: LongLoRA's table 12 (0.83 of it: buffers of ZeRO-2) and Qwen2.5-72B in OFTv2 (0.78:
    /// its batch is not stated).
    #[test]
    fn published_peaks() {
        use Precision::{Bf16, Nf4};
        let lora = |rank| Method::Lora { rank };
        let (qv, mlp, all) = (Targets::QueryValue, Targets::FeedForward, Targets::All);
        let step = |request: Request, batch, length| Request { batch, length, recompute: true, ..request };
        let eight = |request: Request| Request { gpus: 8, chunked_loss: true, ..step(request, 2, 2048) };
        let cases = [
            (22.3, request("llama3.2-3b", lora(32), qv, Bf16), 0.15),
            (24.5, request("llama3.2-3b", Method::Dora { rank: 32 }, qv, Bf16), 0.15),
            (24.7, request("llama3.2-3b", lora(10), mlp, Bf16), 0.15),
            (38.9, request("llama3.2-3b", Method::Full, all, Bf16), 0.15),
            (18.0, step(request("llama2-7b", LORA8, all, Bf16), 4, 1024), 0.15),
            (9.0, step(request("llama2-7b", LORA8, all, Nf4), 4, 1024), 0.15),
            (9.0, step(request("llama2-7b", LORA8, all, Nf4), 1, 4096), 0.15),
            (19.0, step(request("llama2-7b", LORA8, all, Nf4), 1, 16_384), 0.15),
            (32.0, step(request("llama2-7b", LORA8, all, Nf4), 1, 32_768), 0.15),
            (29.6, eight(request("llama3.1-70b", lora(16), all, Bf16)), 0.15),
            (44.8, eight(request("llama3.1-405b", lora(16), qv, Nf4)), 0.15),
        ];
        for (published, request, allowed) in cases {
            let got = request.plan().expect("good").total() / 1e9;
            let off = got / published - 1.0;
            assert!(off.abs() < allowed, "{:?}: {got:.1} GB, published {published}", request.method);
        }
    }

    #[test]
    fn refusals() {
        assert!(by_name("llama9").expect_err("refused").to_string().contains("llama2-7b"));
        assert!(request("llama2-7b", Method::Full, Targets::All, Precision::Nf4).plan().is_err());
        let zero = Request { batch: 0, ..request("llama2-7b", LORA8, Targets::All, Precision::Bf16) };
        assert!(zero.plan().is_err());
    }
}
