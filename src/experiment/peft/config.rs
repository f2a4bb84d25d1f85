//! The schema of a file for `ransnn peft train`: serde types, and what makes no sense.

use crate::experiment::device::is_name;
use serde::{Deserialize, Serialize};

use crate::error::{Problem, Result};
use crate::experiment::diagnose::Source;
use crate::models::finetune::{Decay, FineTune};
use crate::peft::{Blocks, Boft, Hybrid, Lora, LoraGa, Method, Targets, Urnn};

/// A whole fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this schema: 1.
    pub schema: u32,
    /// Names the run directory.
    pub name: String,
    /// Root of every random number.
    #[serde(default)]
    pub seed: u64,
    /// The model.
    pub model: ModelKeys,
    /// What it learns from.
    pub data: Data,
    /// What of it is trained.
    #[serde(default)]
    pub adapt: Adapt,
    /// How.
    #[serde(default)]
    pub train: Train,
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelKeys {
    /// Folder with `config.json` and weights; with `random = true` the file `config.json` is enough.
    pub path: String,
    /// What weights are stored as: `f32` or `bf16`.
    #[serde(default)]
    pub dtype: Dtype,
    /// Begin with random weights: pre-training.
    #[serde(default)]
    pub random: bool,
    /// Classes of a new head on an encoder; 1 for a regression; 0 keeps the head of the model.
    #[serde(default)]
    pub labels: usize,
}

/// Kinds of numbers of stored weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// Brain floats.
    Bf16,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// File of examples: `.jsonl`, `.tsv`, or plain text. Below the data folder if it is not found as it stands.
    pub train: String,
    /// File of examples to judge by; empty takes the last `validation_share` of `train`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub validation: String,
    /// Share of `train` that is held out.
    #[serde(default = "validation_share")]
    pub validation_share: f64,
    /// File of examples that only the trained model is judged by; empty takes `test_share` of `train`, before those for
    /// validation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub test: String,
    /// Share of `train` that is held out as well, for the last judgement; 0 for none.
    #[serde(default)]
    pub test_share: f64,
    /// `bytes`, a folder or a file; empty takes the model's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tokenizer: String,
    /// Tokens of an example; longer ones are cut off.
    #[serde(default = "length")]
    pub length: usize,
    /// Put texts one behind another instead of padding them.
    #[serde(default)]
    pub packing: bool,
    /// Use only the first so many examples; 0 for all.
    #[serde(default)]
    pub limit: usize,
    /// Field with the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Field with the second of two texts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub second: String,
    /// Field with what is given and not learnt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// Field with what is learnt after the prompt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub completion: String,
    /// Field with the class or number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

fn validation_share() -> f64 {
    0.05
}

fn length() -> usize {
    256
}

/// `[adapt]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adapt {
    /// Ends of paths of the maps that are adapted, such as `q_proj`; empty takes every linear map of the blocks.
    pub targets: Vec<String>,
    /// The method.
    pub method: MethodKeys,
    /// Batches whose gradients begin LoRA-GA and hybrids.
    pub calibration_batches: Option<usize>,
}

/// `adapt.method.…`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MethodKeys {
    /// Every weight is trained.
    Full {},
    /// LoRA.
    Lora(LowRank),
    /// LoRA that begins along the gradient.
    LoraGa(LowRank),
    /// Rotations of the inputs by butterflies.
    Boft(Butterfly),
    /// A structured unitary map of the inputs.
    Urnn {},
    /// BOFT and LoRA-GA, weighed by their gradients.
    Hybrid(Both),
}

impl Default for MethodKeys {
    fn default() -> Self {
        Self::Lora(LowRank::default())
    }
}

/// Keys of LoRA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LowRank {
    /// r.
    pub rank: usize,
    /// α.
    pub alpha: f64,
    /// Probability that an input is dropped.
    pub dropout: f64,
    /// Scale by α/√r and not α/r.
    pub rank_stabilised: bool,
    /// Train the lengths of rows as well (DoRA).
    pub magnitude: bool,
}

impl Default for LowRank {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, dropout: 0.0, rank_stabilised: false, magnitude: false }
    }
}

/// Keys of BOFT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Butterfly {
    /// Size of a block.
    pub block: usize,
    /// Butterfly factors.
    pub factors: usize,
    /// Probability that a block is left out.
    pub dropout: f64,
}

impl Default for Butterfly {
    fn default() -> Self {
        Self { block: 4, factors: 1, dropout: 0.0 }
    }
}

/// Keys of the hybrid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Both {
    /// Its LoRA-GA.
    pub lora: LowRank,
    /// Its BOFT.
    pub boft: Butterfly,
}

/// `[train]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Updates.
    pub steps: u64,
    /// Examples of a pass.
    pub batch: usize,
    /// Passes of an update.
    pub accumulate: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Updates over which it rises.
    pub warmup_steps: u64,
    /// How it falls: `cosine`, `linear`, `constant`.
    pub decay: DecayKey,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for any.
    pub clip_norm: f64,
    /// Compute blocks a second time on the way back, to save memory.
    pub recompute: bool,
    /// Updates between evaluations; 0 for only one at the end.
    pub evaluate_every: u64,
    /// Updates between checkpoints.
    pub checkpoint_every: u64,
    /// Threads; 0 takes all cores.
    pub threads: usize,
    /// `auto`, `cpu`, `cuda` or `cuda:N`. `auto` takes a GPU where there is one, with the kernels and the memory.
    pub device: String,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayKey {
    /// Half a cosine to zero.
    #[default]
    Cosine,
    /// A line to zero.
    Linear,
    /// Not at all.
    Constant,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            steps: 100,
            batch: 8,
            accumulate: 1,
            learning_rate: 2e-4,
            warmup_steps: 0,
            decay: DecayKey::Cosine,
            weight_decay: 0.01,
            clip_norm: 1.0,
            recompute: false,
            evaluate_every: 0,
            checkpoint_every: 100,
            threads: 0,
            device: "cpu".into(),
        }
    }
}

impl LowRank {
    fn lora(&self) -> Lora {
        Lora {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            rank_stabilised: self.rank_stabilised,
            magnitude: self.magnitude,
            ..Lora::default()
        }
    }
}

impl Butterfly {
    fn boft(&self) -> Boft {
        Boft { blocks: Blocks::Size(self.block), factors: self.factors, dropout: self.dropout }
    }
}

impl Adapt {
    /// The method; `None` for all of the model.
    pub fn method(&self) -> Option<Method> {
        let ga = |keys: &LowRank| LoraGa { lora: keys.lora(), ..LoraGa::default() };
        Some(match &self.method {
            MethodKeys::Full {} => return None,
            MethodKeys::Lora(keys) => Method::from(keys.lora()),
            MethodKeys::LoraGa(keys) => Method::from(ga(keys)),
            MethodKeys::Boft(keys) => Method::from(keys.boft()),
            MethodKeys::Urnn {} => Method::from(Urnn),
            MethodKeys::Hybrid(keys) => {
                Method::from(Hybrid { lora_ga: ga(&keys.lora), boft: keys.boft.boft(), ..Hybrid::default() })
            }
        })
    }

    /// Which maps.
    pub fn targets(&self) -> Targets {
        match self.targets.is_empty() {
            true => Targets::all_linear(),
            false => Targets::names(self.targets.clone()),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with every mistake.
    pub fn load(source: &Source) -> Result<Self> {
        let (config, places): (Self, _) = source.parse_as()?;
        let mut problems = vec![];
        let mut wrong = |path: &str, bad: bool, what: String, help: &str| {
            if bad {
                problems.push(Problem { message: what, span: places.of(path), help: Some(help.into()) });
            }
        };
        let Self { schema, name, train, data, model, .. } = &config;
        wrong("schema", *schema != 1, format!("schema {schema} is not known"), "this program reads schema 1");
        let no_name = name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.');
        wrong(
            "name",
            no_name,
            format!("`{name}` is no name"),
            "a name becomes a folder: letters, digits, `-`, `_`",
        );
        for (path, value) in [
            ("train.steps", train.steps),
            ("train.batch", train.batch as u64),
            ("train.accumulate", train.accumulate as u64),
            ("train.checkpoint_every", train.checkpoint_every),
        ] {
            wrong(path, value == 0, format!("`{path}` is 0"), "it must be at least 1");
        }
        for (path, value) in [
            ("train.learning_rate", train.learning_rate),
            ("train.weight_decay", train.weight_decay),
            ("train.clip_norm", train.clip_norm),
        ] {
            let bad = !(value.is_finite() && value >= 0.0);
            wrong(path, bad, format!("`{path}` is {value}"), "it must be 0 or more");
        }
        for (path, share) in
            [("data.validation_share", data.validation_share), ("data.test_share", data.test_share)]
        {
            let bad = !(0.0..1.0).contains(&share);
            wrong(path, bad, format!("`{path}` is {share}"), "it must be at least 0 and below 1");
        }
        let held = data.validation_share + data.test_share;
        wrong(
            "data.test_share",
            (1.0..2.0).contains(&held),
            format!("`validation_share` and `test_share` are {held} together"),
            "they must be below 1, or nothing is left to learn from",
        );
        wrong(
            "data.length",
            data.length < 2,
            format!("`data.length` is {}", data.length),
            "it must be at least 2",
        );
        wrong(
            "train.device",
            !is_name(&train.device),
            format!("unknown device `{}`", train.device),
            "expected `auto`, `cpu`, `cuda` or `cuda:N`",
        );
        let half = data.prompt.is_empty() != data.completion.is_empty();
        wrong("data", half, "one of `prompt` and `completion` is missing".into(), "give both, or neither");
        let narrow = model.dtype == Dtype::Bf16 && config.adapt.method().is_none();
        wrong("model.dtype", narrow, "bf16 weights are not trained".into(), "take f32, or an adapter");
        wrong(
            "model.dtype",
            model.dtype == Dtype::Bf16 && model.random,
            "random weights are f32".into(),
            "leave it out",
        );
        if problems.is_empty() { Ok(config) } else { Err(source.fail(problems)) }
    }

    /// The loop of this file; `pad` fills up batches.
    pub fn loop_of(&self, pad: i64) -> FineTune {
        let train = &self.train;
        FineTune {
            steps: train.steps,
            batch: train.batch,
            accumulate: train.accumulate,
            learning_rate: train.learning_rate,
            warmup: train.warmup_steps,
            decay: match train.decay {
                DecayKey::Cosine => Decay::Cosine,
                DecayKey::Linear => Decay::Linear,
                DecayKey::Constant => Decay::Constant,
            },
            weight_decay: train.weight_decay,
            betas: [0.9, 0.999],
            clip: (train.clip_norm > 0.0).then_some(train.clip_norm),
            recompute: train.recompute,
            seed: self.seed,
            evaluate_every: train.evaluate_every,
            pad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const GOOD: &str = "schema = 1\nname = \"x\"\n[model]\npath = \"m\"\n[data]\ntrain = \"t.txt\"\n\
                        [adapt]\ntargets = [\"q_proj\"]\nmethod.lora = { rank = 4 }\n[train]\nsteps = 3\n";

    fn load(text: &str) -> Result<Config> {
        Config::load(&Source::new("x.toml", text, &[])?)
    }

    #[test]
    fn a_good_file_and_its_defaults() {
        let config = load(GOOD).expect("good");
        assert_eq!((config.train.steps, config.train.batch, config.data.length), (3, 8, 256));
        assert!(matches!(config.adapt.method(), Some(Method::Lora(Lora { rank: 4, .. }))));
        assert!(
            load(&GOOD.replace("lora = { rank = 4 }", "full = {}")).expect("good").adapt.method().is_none()
        );
        for method in ["lora-ga = {}", "boft = { block = 8, factors = 2 }", "urnn = {}", "hybrid = {}"] {
            assert!(
                load(&GOOD.replace("lora = { rank = 4 }", method)).expect("good").adapt.method().is_some()
            );
        }
    }

    #[test]
    fn all_mistakes_at_once() {
        let text = GOOD
            .replace("rank = 4", "rnak = 4")
            .replace("steps = 3", "steps = 0\nbatch = 0")
            .replace("schema = 1", "schema = 2");
        let Err(Error::Config { problems, .. }) = load(&text) else { panic!("refused") };
        assert!(problems[0].message.contains("unknown key `rnak`"), "{problems:?}");
        let text = text.replace("rnak", "rank");
        let Err(Error::Config { problems, .. }) = load(&text) else { panic!("refused") };
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(load(&GOOD.replace("[data]", "[data]\nprompt = \"q\"")).is_err());
    }
}
