//! `config.json`: what a model is, in the spellings of transformers 4 and 5.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::files::read_text;
use crate::{Error, Result};

/// Families of models that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama, Mistral, Qwen2: rotary positions, gated feed-forward layers, root-mean-square norms.
    Llama,
    /// GPT-2: learnt positions.
    Gpt2,
    /// BERT and other encoders of its shape.
    Bert,
}

/// How rotary frequencies are stretched for texts longer than those of pre-training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3: long wavelengths by the factor, short ones not at all, a ramp between.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low` are stretched.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// Positions of pre-training.
        original: f64,
    },
}

/// The element-wise function of feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x σ(x).
    Silu,
    /// x Φ(x).
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// Sizes and settings of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Family.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layers.
    pub intermediate: usize,
    /// Tokens.
    pub vocab: usize,
    /// Largest number of positions; for rotary positions only that of pre-training.
    pub positions: usize,
    /// Added to variances.
    pub epsilon: f64,
    /// Function of the feed-forward layers.
    pub activation: Activation,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched.
    pub rope_scaling: RopeScaling,
    /// For each block, how many of the latest keys a query sees; `None` for all.
    pub windows: Vec<Option<usize>>,
    /// Whether the head is the table of embeddings.
    pub tied: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the output of attention has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward layers have a bias.
    pub mlp_bias: bool,
    /// Types of segments (BERT).
    pub types: usize,
    /// Classes of the classification head; 1 for a regression; 0 without a head.
    pub labels: usize,
    /// Tokens that end a text.
    pub end: Vec<u32>,
    /// Token that fills up a batch.
    pub pad: Option<u32>,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// The file itself, for writing it again.
    pub raw: Map<String, Value>,
}

/// No model has a size above this; a file that claims one is wrong.
const LARGEST: u64 = 1 << 24;

/// Reads keys of a JSON object and says which are wrong.
struct Fields<'a> {
    path: &'a Path,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn wrong(&self, key: &str, got: &Value, expected: &str) -> Error {
        Error::data(self.path, format!("`{key}` is {}; it must be {expected}", shorten(&got.to_string())))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn size_or(&self, key: &str, default: Option<usize>) -> Result<usize> {
        match (self.get(key), default) {
            (Some(value), _) => match value.as_u64() {
                Some(n) if (1..=LARGEST).contains(&n) => Ok(n as usize),
                _ => Err(self.wrong(key, value, &format!("a whole number from 1 to {LARGEST}"))),
            },
            (None, Some(default)) => Ok(default),
            (None, None) => Err(Error::data(self.path, format!("`{key}` is missing"))),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.size_or(key, None)
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(x),
                _ => Err(self.wrong(key, value, "a number above 0")),
            },
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false")),
        }
    }

    fn text(&self, key: &str, default: &'a str) -> Result<&'a str> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_str().ok_or_else(|| self.wrong(key, value, "a text")),
        }
    }

    /// A token, or a list of them.
    fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(key) else { return Ok(vec![]) };
        let one = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let list = match value {
            Value::Array(list) => list.iter().map(one).collect(),
            // Some files say -1 for "none".
            value if value.as_i64() == Some(-1) => Some(vec![]),
            value => one(value).map(|token| vec![token]),
        };
        list.ok_or_else(|| self.wrong(key, value, "a token or a list of tokens"))
    }

    fn inner(&self, key: &str) -> Result<Option<Fields<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields { path: self.path, object })),
            Some(value) => Err(self.wrong(key, value, "an object")),
        }
    }

    fn activation(&self, key: &str, default: &'a str) -> Result<Activation> {
        Ok(match self.text(key, default)? {
            "silu" | "swish" => Activation::Silu,
            "gelu" | "gelu_python" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            _ => return Err(self.wrong(key, &self.object[key], "one of silu, gelu, gelu_new, relu")),
        })
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}

impl Config {
    /// Reads `config.json` in a folder, or the file itself.
    ///
    /// # Errors
    /// No such file, not JSON, a family that is not known, a size that is missing or makes no sense.
    pub fn open(path: &Path) -> Result<Self> {
        let path: PathBuf = if path.is_dir() { path.join("config.json") } else { path.into() };
        Self::parse(&path, &read_text(&path)?)
    }

    /// Reads the text of a `config.json`; `path` is for messages. Errors as [`open`](Self::open).
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| Error::data(path, format!("not JSON: {e}")))?;
        let Value::Object(raw) = value else { return Err(Error::data(path, "not a JSON object")) };
        let fields = Fields { path, object: &raw };
        let mut config = match fields.text("model_type", "")? {
            kind @ ("llama" | "mistral" | "qwen2") => llama(&fields, kind)?,
            "gpt2" => gpt2(&fields)?,
            "bert" => bert(&fields)?,
            other => {
                let known = "llama, mistral, qwen2, gpt2 and bert are";
                return Err(Error::data(
                    path,
                    format!("models of type `{}` are not known; {known}", shorten(other)),
                ));
            }
        };
        config.end = fields.tokens("eos_token_id")?;
        config.pad = match config.family {
            // What transformers takes where the file says nothing.
            Family::Bert if !raw.contains_key("pad_token_id") => Some(0),
            _ => fields.tokens("pad_token_id")?.first().copied(),
        };
        config.initializer_range = fields.number("initializer_range", 0.02)?;
        if config.heads % config.kv_heads != 0 {
            let what = format!("{} heads cannot share {} heads of keys", config.heads, config.kv_heads);
            return Err(Error::data(path, what));
        }
        config.raw = raw;
        Ok(config)
    }

    /// Numbers of weights: of one block, and of all.
    pub fn parameters(&self) -> (u64, u64) {
        let [h, l, f, v] = [self.hidden, self.layers, self.intermediate, self.vocab].map(|n| n as u64);
        let (q, kv) = ((self.heads * self.head_dim) as u64, (self.kv_heads * self.head_dim) as u64);
        let bias = |yes: bool, n: u64| if yes { n } else { 0 };
        let attention =
            h * (q + 2 * kv) + q * h + bias(self.qkv_bias, q + 2 * kv) + bias(self.output_bias, h);
        match self.family {
            Family::Llama => {
                let block = attention + 3 * h * f + 2 * h + bias(self.mlp_bias, 2 * f + h);
                (block, l * block + h + v * h * if self.tied { 1 } else { 2 })
            }
            Family::Gpt2 => {
                let block = attention + 2 * h * f + f + h + 4 * h;
                (block, l * block + 2 * h + (v + self.positions as u64) * h)
            }
            Family::Bert => {
                let block = attention + 2 * h * f + f + h + 4 * h;
                let head = bias(self.labels > 0, (h + 1) * (h + self.labels as u64));
                (block, l * block + (v + (self.positions + self.types) as u64 + 2) * h + head)
            }
        }
    }
}

fn llama(fields: &Fields<'_>, kind: &str) -> Result<Config> {
    let (hidden, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let layers = fields.size("num_hidden_layers")?;
    let head_dim = fields.size_or("head_dim", Some((hidden / heads).max(1)))?;
    if head_dim % 2 == 1 {
        return Err(Error::data(fields.path, format!("the width of a head is {head_dim}; it must be even")));
    }
    // transformers 5: everything in `rope_parameters`; 4: `rope_theta` beside `rope_scaling`.
    let rope = match fields.inner("rope_parameters")? {
        Some(rope) => Some(rope),
        None => fields.inner("rope_scaling")?,
    };
    let theta = fields.number("rope_theta", 10_000.0)?;
    let (rope_theta, rope_scaling) = match rope {
        Some(rope) => (rope.number("rope_theta", theta)?, scaling(&rope, fields)?),
        None => (theta, RopeScaling::None),
    };
    let qkv_bias = fields.flag("attention_bias", false)?;
    Ok(Config {
        family: Family::Llama,
        hidden,
        layers,
        heads,
        kv_heads: fields.size_or("num_key_value_heads", Some(heads))?,
        head_dim,
        intermediate: fields.size("intermediate_size")?,
        vocab: fields.size("vocab_size")?,
        positions: fields.size_or("max_position_embeddings", Some(2048))?,
        epsilon: fields.number("rms_norm_eps", 1e-6)?,
        activation: match fields.activation("hidden_act", "silu")? {
            Activation::Silu => Activation::Silu,
            _ => return Err(fields.wrong("hidden_act", &fields.object["hidden_act"], "silu")),
        },
        rope_theta,
        rope_scaling,
        windows: windows(fields, kind, layers)?,
        tied: fields.flag("tie_word_embeddings", false)?,
        qkv_bias: qkv_bias || kind == "qwen2",
        output_bias: qkv_bias,
        mlp_bias: fields.flag("mlp_bias", false)?,
        ..empty()
    })
}

fn scaling(rope: &Fields<'_>, whole: &Fields<'_>) -> Result<RopeScaling> {
    let kind = rope.text("rope_type", rope.text("type", "default")?)?;
    let factor = || match rope.get("factor") {
        Some(_) => rope.number("factor", 1.0),
        None => Err(Error::data(rope.path, "`factor` of the rotary scaling is missing")),
    };
    Ok(match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "llama3" => {
            let (low, high) = (rope.number("low_freq_factor", 1.0)?, rope.number("high_freq_factor", 4.0)?);
            if low >= high {
                return Err(Error::data(rope.path, "`low_freq_factor` must be below `high_freq_factor`"));
            }
            let positions = whole.size_or("max_position_embeddings", Some(8192))?;
            let original = rope.size_or("original_max_position_embeddings", Some(positions))? as f64;
            RopeScaling::Llama3 { factor: factor()?, low, high, original }
        }
        other => {
            let known = "default, linear and llama3 are";
            let what = format!("rotary scaling `{}` is not known; {known}", shorten(other));
            return Err(Error::data(rope.path, what));
        }
    })
}

fn windows(fields: &Fields<'_>, kind: &str, layers: usize) -> Result<Vec<Option<usize>>> {
    // Sizes of lists come from the file: a million blocks are refused when their weights are missing.
    let size = match fields.get("sliding_window") {
        Some(_) if kind != "llama" => Some(fields.size("sliding_window")?),
        _ => None,
    };
    let uses = kind == "mistral" || fields.flag("use_sliding_window", false)?;
    let Some(size) = size.filter(|_| uses) else { return Ok(vec![]) };
    let first = if kind == "qwen2" { fields.size_or("max_window_layers", Some(28))? } else { 0 };
    let types = fields.get("layer_types").and_then(Value::as_array);
    Ok((0..layers)
        .map(|i| match types.and_then(|types| types.get(i)).and_then(Value::as_str) {
            Some(kind) => (kind == "sliding_attention").then_some(size),
            None => (i >= first).then_some(size),
        })
        .collect())
}

fn gpt2(fields: &Fields<'_>) -> Result<Config> {
    let (hidden, heads) = (fields.size("n_embd")?, fields.size("n_head")?);
    if hidden % heads != 0 {
        return Err(Error::data(fields.path, format!("{heads} heads do not divide a width of {hidden}")));
    }
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        if fields.flag(key, false)? {
            return Err(Error::data(fields.path, format!("`{key}` is not supported")));
        }
    }
    Ok(Config {
        family: Family::Gpt2,
        hidden,
        layers: fields.size("n_layer")?,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        intermediate: fields.size_or("n_inner", Some(4 * hidden))?,
        vocab: fields.size("vocab_size")?,
        positions: fields.size_or("n_positions", Some(1024))?,
        epsilon: fields.number("layer_norm_epsilon", 1e-5)?,
        activation: fields.activation("activation_function", "gelu_new")?,
        tied: true,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        ..empty()
    })
}

fn bert(fields: &Fields<'_>) -> Result<Config> {
    let (hidden, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    if hidden % heads != 0 {
        return Err(Error::data(fields.path, format!("{heads} heads do not divide a width of {hidden}")));
    }
    let kind = fields.text("position_embedding_type", "absolute")?;
    if kind != "absolute" || fields.flag("is_decoder", false)? {
        return Err(Error::data(fields.path, "only encoders with absolute positions are supported"));
    }
    let architectures = fields.get("architectures").and_then(Value::as_array);
    let classifier = architectures.into_iter().flatten().any(|name| name == "BertForSequenceClassification");
    let labels = match fields.get("id2label") {
        _ if !classifier => 0,
        Some(Value::Object(names)) => names.len(),
        _ => fields.size_or("num_labels", Some(2))?,
    };
    if fields.text("problem_type", "")? == "multi_label_classification" {
        return Err(Error::data(fields.path, "several labels at once are not supported"));
    }
    Ok(Config {
        family: Family::Bert,
        hidden,
        layers: fields.size("num_hidden_layers")?,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        intermediate: fields.size("intermediate_size")?,
        vocab: fields.size("vocab_size")?,
        positions: fields.size_or("max_position_embeddings", Some(512))?,
        epsilon: fields.number("layer_norm_eps", 1e-12)?,
        activation: fields.activation("hidden_act", "gelu")?,
        types: fields.size_or("type_vocab_size", Some(2))?,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        labels,
        ..empty()
    })
}

fn empty() -> Config {
    Config {
        family: Family::Llama,
        hidden: 0,
        layers: 0,
        heads: 0,
        kv_heads: 0,
        head_dim: 0,
        intermediate: 0,
        vocab: 0,
        positions: 0,
        epsilon: 0.0,
        activation: Activation::Silu,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        windows: vec![],
        tied: false,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        types: 0,
        labels: 0,
        end: vec![],
        pad: None,
        initializer_range: 0.02,
        raw: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(Path::new("config.json"), text)
    }

    const LLAMA: &str = r#"{"model_type":"llama","hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,
        "num_key_value_heads":8,"intermediate_size":14336,"vocab_size":128256,"max_position_embeddings":131072,
        "rope_theta":500000.0,"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
        "original_max_position_embeddings":8192,"rope_type":"llama3"}}"#;

    #[test]
    fn both_spellings_are_one() {
        let four = parse(LLAMA).expect("good");
        let five = LLAMA.replace(
            "\"rope_theta\":500000.0,\"rope_scaling\":{",
            "\"rope_parameters\":{\"rope_theta\":500000.0,",
        );
        let five = parse(&five).expect("good");
        assert_eq!(four.rope_theta, 500_000.0);
        assert_eq!((four.rope_theta, four.rope_scaling), (five.rope_theta, five.rope_scaling));
        assert!(matches!(four.rope_scaling, RopeScaling::Llama3 { original: 8192.0, .. }));
        // The published number.
        assert_eq!(four.parameters().1, 8_030_261_248);
    }

    #[test]
    fn windows_follow_the_family() {
        let mistral =
            LLAMA.replace("\"llama\"", "\"mistral\"").replace("{\"model", "{\"sliding_window\":7,\"model");
        assert_eq!(parse(&mistral).expect("good").windows, vec![Some(7); 32]);
        let qwen = mistral.replace("mistral", "qwen2");
        assert_eq!(parse(&qwen).expect("good").windows, []);
        let qwen = qwen.replace("{\"sliding", "{\"use_sliding_window\":true,\"sliding");
        let windows = parse(&qwen).expect("good").windows;
        assert_eq!((windows[27], windows[28]), (None, Some(7)));
    }

    #[test]
    fn mistakes_are_named() {
        let message =
            |from: &str, to: &str| parse(&LLAMA.replace(from, to)).expect_err("refused").to_string();
        assert!(message("4096", "\"16x\"").contains("`hidden_size` is \"16x\"; it must be a whole number"));
        assert!(message("4096", "1099511627776").contains("`hidden_size`"));
        assert!(message("4096", "-1").contains("`hidden_size`"));
        assert!(message("\"vocab_size\":128256,", "").contains("`vocab_size` is missing"));
        assert!(message("\"llama\"", "\"mamba\"").contains("models of type `mamba` are not known"));
        assert!(message("\"llama3\"", "\"yarn\"").contains("rotary scaling `yarn` is not known"));
        assert!(message("\"num_key_value_heads\":8", "\"num_key_value_heads\":5").contains("cannot share"));
        assert!(parse("{").is_err() && parse("[]").is_err());
    }
}
