//! `adapter_config.json`: what Hugging Face PEFT keeps beside an adapter's weights.
//!
//! What is understood is checked; what is not, but would change the outputs, is refused by name; everything else is kept
//! as it is and written again.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::boft::Blocks;
use super::hybrid::Mode;
use super::lora::Start;
use super::lora_ga::{Direction, Flavour, Length};
use super::{Boft, Hybrid, Lora, LoraGa, Method, Modules, Overrides, Targets, Urnn};
use crate::{Error, Result};

/// Everything that PEFT 0.21 writes for LoRA, with its defaults.
const LORA: &str = r#"{"alora_invocation_tokens":null,"alpha_pattern":{},"arrow_config":null,"auto_mapping":null,
"base_model_name_or_path":null,"bias":"none","corda_config":null,"ensure_weight_tying":false,"eva_config":null,
"exclude_modules":null,"fan_in_fan_out":false,"inference_mode":true,"init_lora_weights":true,"kasa_config":null,
"layer_replication":null,"layers_pattern":null,"layers_to_transform":null,"loftq_config":{},"lora_alpha":8,
"lora_bias":false,"lora_dropout":0.0,"lora_ga_config":null,"megatron_config":null,"megatron_core":"megatron.core",
"modules_to_save":null,"monteclora_config":null,"peft_type":"LORA","peft_version":"0.21.2","qalora_group_size":16,
"r":8,"rank_pattern":{},"revision":null,"target_modules":null,"target_parameters":null,"task_type":null,
"trainable_token_indices":null,"use_bdlora":null,"use_dora":false,"use_qalora":false,"use_rslora":false,
"velora_config":null}"#;

/// Everything that PEFT 0.21 writes for BOFT, with its defaults.
const BOFT: &str = r#"{"auto_mapping":null,"base_model_name_or_path":null,"bias":"none","boft_block_num":0,
"boft_block_size":4,"boft_dropout":0.0,"boft_n_butterfly_factor":1,"exclude_modules":null,"fan_in_fan_out":false,
"inference_mode":true,"init_weights":true,"layers_pattern":null,"layers_to_transform":null,"modules_to_save":null,
"peft_type":"BOFT","peft_version":"0.21.2","revision":null,"target_modules":null,"task_type":null}"#;

/// What methods that PEFT does not know share with the others.
const OURS: &str = r#"{"base_model_name_or_path":null,"bias":"none","exclude_modules":null,"inference_mode":true,
"layers_pattern":null,"layers_to_transform":null,"modules_to_save":null,"peft_type":null,"ransnn":{"version":1},
"target_modules":null,"task_type":null}"#;

/// Settings that change what an adapter computes and that are not there: an adapter that uses one is refused.
const REFUSED: [&str; 12] = [
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
];

/// Largest configuration that is read.
const LARGEST: u64 = 16 << 20;

/// Settings of an adapter folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The method.
    pub method: Method,
    /// Which maps it is on.
    pub targets: Targets,
    /// Whether the biases of adapted maps are trained as well.
    pub biases: bool,
    /// Modules that are trained as a whole: ends of paths.
    pub saved: Vec<String>,
    /// Name or path of the base model: a remark that is never opened.
    pub base: Option<String>,
    /// `CAUSAL_LM`, `SEQ_CLS`, …
    pub task: Option<String>,
    /// What else the file had.
    pub other: Map<String, Value>,
}

impl Config {
    /// For an adapter that is made here.
    pub fn new(method: impl Into<Method>, targets: Targets) -> Self {
        let method = method.into();
        Self { method, targets, biases: false, saved: vec![], base: None, task: None, other: Map::new() }
    }

    /// Reads a file. Also returns the names of keys that nobody knows.
    ///
    /// # Errors
    /// No file, no JSON, a key that is missing, makes no sense or is not supported.
    pub fn read(path: &Path) -> Result<(Self, Vec<String>)> {
        let size = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        if size > LARGEST {
            return Err(Error::data(path, format!("{size} bytes; a configuration has less than {LARGEST}")));
        }
        let text = crate::files::read_text(path)?;
        let map = serde_json::from_str(&text)
            .map_err(|error| Error::data(path, format!("not a configuration: {error}")))?;
        Self::parse(Reader { path, map })
    }

    fn parse(mut reader: Reader<'_>) -> Result<(Self, Vec<String>)> {
        let kind = reader.text("peft_type")?.ok_or_else(|| reader.wrong("peft_type", "is missing"))?;
        let template = template(&kind).ok_or_else(|| {
            reader.wrong("peft_type", &format!("is {kind}; LORA, BOFT, URNN and HYBRID are known"))
        })?;
        let method = match kind.as_str() {
            "LORA" => Method::Lora(reader.lora()?),
            "BOFT" => Method::Boft(reader.boft()?),
            "URNN" => Method::Urnn(Urnn),
            _ => Method::from(reader.hybrid()?),
        };
        for key in REFUSED {
            if reader.map.get(key).is_some_and(is_set) {
                return Err(reader.wrong(key, "is set, but not supported: outputs would be wrong without it"));
            }
        }
        let modules = reader.modules("target_modules")?;
        let modules = modules.ok_or_else(|| reader.wrong("target_modules", "is missing"))?;
        let layers = match reader.take("layers_to_transform") {
            Value::Null => None,
            Value::Array(all) if all.is_empty() => None,
            Value::Array(all) => Some(all.iter().map(|x| reader.layer(x)).collect::<Result<Vec<_>>>()?),
            one => Some(vec![reader.layer(&one)?]),
        };
        let layers_pattern = reader.names("layers_pattern")?.unwrap_or_default();
        let targets =
            Targets { modules, exclude: reader.modules("exclude_modules")?, layers, layers_pattern };
        targets.matcher().map_err(|error| Error::data(reader.path, error.to_string()))?;
        let biases = match reader.text("bias")?.as_deref() {
            None | Some("none") => false,
            Some("lora_only" | "boft_only") => true,
            Some(other) => {
                return Err(reader
                    .wrong("bias", &format!("is `{other}`; none, lora_only and boft_only are supported")));
            }
        };
        let saved = reader.names("modules_to_save")?.unwrap_or_default();
        let (base, task) = (reader.text("base_model_name_or_path")?, reader.text("task_type")?);
        let unknown = reader.map.keys().filter(|key| !template.contains_key(*key)).cloned().collect();
        Ok((Self { method, targets, biases, saved, base, task, other: reader.map }, unknown))
    }

    /// The file's content: keys sorted, two spaces of indentation, as PEFT writes it. `transposed`: whether the base stores
    /// its weights the other way round.
    pub fn render(&self, transposed: bool) -> String {
        let kind = self.method.peft_type();
        let mut map = template(kind).unwrap_or_default();
        map.extend(self.other.clone());
        let mut set = |key: &str, value: Value| map.insert(key.into(), value);
        match &self.method {
            Method::Lora(lora) => render_lora(lora, &mut set),
            Method::LoraGa(ga) => {
                render_lora(&doubled(&ga.lora), &mut set);
                set("lora_ga_config", render_lora_ga(ga));
            }
            Method::Boft(boft) => render_boft(boft, &mut set),
            Method::Urnn(_) => {}
            Method::Hybrid(hybrid) => {
                render_lora(&hybrid.lora_ga.lora, &mut set);
                render_boft(&hybrid.boft, &mut set);
                set("init_lora_weights", json!("lora_ga"));
                set("ransnn", json!({ "version": 1, "mode": mode_name(hybrid.mode) }));
            }
        }
        if matches!(kind, "LORA" | "BOFT") {
            set("fan_in_fan_out", json!(transposed));
        }
        set("peft_type", json!(kind));
        set("target_modules", render_modules(&self.targets.modules));
        set("exclude_modules", self.targets.exclude.as_ref().map_or(Value::Null, render_modules));
        set("layers_to_transform", json!(self.targets.layers));
        let patterns = &self.targets.layers_pattern;
        set("layers_pattern", if patterns.is_empty() { Value::Null } else { json!(patterns) });
        let only = if kind == "BOFT" { "boft_only" } else { "lora_only" };
        set("bias", json!(if self.biases { only } else { "none" }));
        set("modules_to_save", if self.saved.is_empty() { Value::Null } else { json!(self.saved) });
        set("base_model_name_or_path", json!(self.base));
        set("task_type", json!(self.task));
        let sorted: std::collections::BTreeMap<String, Value> = map.into_iter().collect();
        // Values of a map with text keys always have a JSON form.
        serde_json::to_string_pretty(&sorted).unwrap_or_default()
    }
}

fn template(kind: &str) -> Option<Map<String, Value>> {
    let parse = |text| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    Some(match kind {
        "LORA" => parse(LORA),
        "BOFT" => parse(BOFT),
        "URNN" => parse(OURS),
        "HYBRID" => {
            let mut all = parse(LORA);
            all.extend(parse(BOFT));
            all.extend(parse(OURS));
            all
        }
        _ => return None,
    })
}

/// A setting that says something.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        _ => true,
    }
}

fn render_modules(modules: &Modules) -> Value {
    match modules {
        Modules::Names(names) => {
            let mut names = names.clone();
            names.sort_unstable();
            json!(names)
        }
        Modules::Pattern(pattern) => json!(pattern),
        Modules::AllLinear => json!("all-linear"),
    }
}

/// A whole number without a point, as Python writes an integer.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

fn render_lora(lora: &Lora, set: &mut dyn FnMut(&str, Value) -> Option<Value>) {
    set("r", json!(lora.rank));
    set("lora_alpha", number(lora.alpha));
    set("lora_dropout", json!(lora.dropout));
    set("use_rslora", json!(lora.rank_stabilised));
    set("use_dora", json!(lora.magnitude));
    let start = if lora.start == Start::Gaussian { json!("gaussian") } else { json!(true) };
    set("init_lora_weights", start);
    let ranks: Map<String, Value> = lora.rank_pattern.iter().map(|(key, r)| (key.into(), json!(r))).collect();
    let alphas: Map<String, Value> =
        lora.alpha_pattern.iter().map(|(key, &a)| (key.into(), number(a))).collect();
    set("rank_pattern", Value::Object(ranks));
    set("alpha_pattern", Value::Object(alphas));
}

fn render_boft(boft: &Boft, set: &mut dyn FnMut(&str, Value) -> Option<Value>) {
    let (size, count) = match boft.blocks {
        Blocks::Size(size) => (size, 0),
        Blocks::Count(count) => (0, count),
    };
    set("boft_block_size", json!(size));
    set("boft_block_num", json!(count));
    set("boft_n_butterfly_factor", json!(boft.factors));
    set("boft_dropout", json!(boft.dropout));
}

fn render_lora_ga(ga: &LoraGa) -> Value {
    let direction = match ga.direction {
        Direction::ArB2r => "ArB2r",
        Direction::A2rBr => "A2rBr",
        Direction::ArBr => "ArBr",
        Direction::Random => "random",
    };
    let (scale, gamma) = match ga.length {
        Length::Stable(gamma) => ("stable", gamma),
        Length::Unit => ("unit", 16.0),
        Length::GradientDescent => ("gd_scale", 16.0),
        Length::Weight => ("weight_svd", 16.0),
    };
    json!({ "direction": direction, "scale": scale, "stable_gamma": number(gamma) })
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::StepScale => "step_scale",
        Mode::Blend => "blend",
        Mode::Accumulate => "accumulate",
    }
}

/// The settings of LoRA of twice the rank with the same s: what an adapter that began somewhere is on the original base.
pub(super) fn doubled(lora: &Lora) -> Lora {
    // s = α / r, or α / √r.
    let factor = if lora.rank_stabilised { 2f64.sqrt() } else { 2.0 };
    Lora {
        rank: 2 * lora.rank,
        alpha: factor * lora.alpha,
        rank_pattern: lora.rank_pattern.map(|r| 2 * r),
        alpha_pattern: lora.alpha_pattern.map(|a| factor * a),
        start: Start::Kaiming,
        ..lora.clone()
    }
}

/// Takes keys out of a file, with errors that name it.
struct Reader<'a> {
    path: &'a Path,
    map: Map<String, Value>,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, what: &str) -> Error {
        Error::data(self.path, format!("`{key}` {what}"))
    }

    /// What is there stays in its place for writing it again; `null` if nothing is.
    fn take(&self, key: &str) -> Value {
        self.map.get(key).cloned().unwrap_or(Value::Null)
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(self.wrong(key, &format!("is {other}; it must be a text"))),
        }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.take(key) {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(flag),
            other => Err(self.wrong(key, &format!("is {other}; it must be true or false"))),
        }
    }

    fn whole(&self, key: &str, default: usize) -> Result<usize> {
        match self.take(key) {
            Value::Null => Ok(default),
            value => self.as_whole(key, &value),
        }
    }

    fn as_whole(&self, key: &str, value: &Value) -> Result<usize> {
        let whole = value.as_u64().and_then(|x| usize::try_from(x).ok());
        whole.ok_or_else(|| self.wrong(key, &format!("is {value}; it must be a whole number")))
    }

    fn real(&self, key: &str, default: f64) -> Result<f64> {
        match self.take(key) {
            Value::Null => Ok(default),
            value => self.as_real(key, &value),
        }
    }

    fn as_real(&self, key: &str, value: &Value) -> Result<f64> {
        let real = value.as_f64().filter(|x| x.is_finite());
        real.ok_or_else(|| self.wrong(key, &format!("is {value}; it must be a number")))
    }

    fn layer(&self, value: &Value) -> Result<usize> {
        self.as_whole("layers_to_transform", value)
    }

    fn names(&self, key: &str) -> Result<Option<Vec<String>>> {
        let one = |value: &Value| {
            let text = value.as_str().map(str::to_string);
            text.ok_or_else(|| self.wrong(key, &format!("holds {value}; it must hold texts")))
        };
        match self.take(key) {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(vec![text])),
            Value::Array(all) => all.iter().map(one).collect::<Result<Vec<_>>>().map(Some),
            other => Err(self.wrong(key, &format!("is {other}; it must be a list of texts"))),
        }
    }

    fn modules(&self, key: &str) -> Result<Option<Modules>> {
        Ok(match self.take(key) {
            Value::String(text) if text == "all-linear" => Some(Modules::AllLinear),
            Value::String(text) => Some(Modules::Pattern(text)),
            _ => self.names(key)?.map(Modules::Names),
        })
    }

    fn pattern<T: Clone>(&self, key: &str, value: impl Fn(&Value) -> Result<T>) -> Result<Overrides<T>> {
        let pairs = match self.take(key) {
            Value::Null => return Ok(Overrides::default()),
            Value::Object(pairs) => pairs,
            other => return Err(self.wrong(key, &format!("is {other}; it must be a table"))),
        };
        let pairs = pairs.iter().map(|(k, v)| Ok((k.as_str(), value(v)?))).collect::<Result<Vec<_>>>()?;
        Overrides::new(pairs).map_err(|error| Error::data(self.path, format!("`{key}`: {error}")))
    }

    fn lora(&mut self) -> Result<Lora> {
        let start = match self.take("init_lora_weights") {
            Value::Null | Value::Bool(_) => Start::Kaiming,
            Value::String(text) => match text.as_str() {
                "gaussian" => Start::Gaussian,
                // These change the base: on the original one the adapter would be wrong.
                "lora_ga" | "pissa" | "olora" | "corda" | "loftq" => {
                    let what = format!(
                        "is `{text}`, which changes the base; save the adapter converted to plain LoRA"
                    );
                    return Err(self.wrong("init_lora_weights", &what));
                }
                text if text.starts_with("pissa") => {
                    let what = format!(
                        "is `{text}`, which changes the base; save the adapter converted to plain LoRA"
                    );
                    return Err(self.wrong("init_lora_weights", &what));
                }
                _ => Start::Kaiming,
            },
            other => {
                return Err(
                    self.wrong("init_lora_weights", &format!("is {other}; it must be a flag or a text"))
                );
            }
        };
        self.lora_numbers(start)
    }

    fn lora_numbers(&self, start: Start) -> Result<Lora> {
        let lora = Lora {
            rank: self.whole("r", 8)?,
            alpha: self.real("lora_alpha", 8.0)?,
            dropout: self.real("lora_dropout", 0.0)?,
            rank_stabilised: self.flag("use_rslora")?,
            magnitude: self.flag("use_dora")?,
            start,
            rank_pattern: self.pattern("rank_pattern", |v| self.as_whole("rank_pattern", v))?,
            alpha_pattern: self.pattern("alpha_pattern", |v| self.as_real("alpha_pattern", v))?,
        };
        if lora.rank == 0 {
            return Err(self.wrong("r", "is 0; it must be at least 1"));
        }
        Ok(lora)
    }

    fn boft(&mut self) -> Result<Boft> {
        let (size, count) = (self.whole("boft_block_size", 4)?, self.whole("boft_block_num", 0)?);
        let blocks = match (size, count) {
            (size, 0) if size > 0 => Blocks::Size(size),
            (0, count) if count > 0 => Blocks::Count(count),
            _ => {
                let what = format!("is {size} and boft_block_num {count}: exactly one must be above 0");
                return Err(self.wrong("boft_block_size", &what));
            }
        };
        let factors = self.whole("boft_n_butterfly_factor", 1)?;
        if factors == 0 {
            return Err(self.wrong("boft_n_butterfly_factor", "is 0; it must be at least 1"));
        }
        Ok(Boft { blocks, factors, dropout: self.real("boft_dropout", 0.0)? })
    }

    fn hybrid(&mut self) -> Result<Hybrid> {
        let lora_ga =
            LoraGa { lora: self.lora_numbers(Start::Kaiming)?, flavour: Flavour::Paper, ..LoraGa::default() };
        let mode = match self.map.get("ransnn").and_then(|ours| ours.get("mode")).and_then(Value::as_str) {
            Some("step_scale") => Mode::StepScale,
            Some("blend") => Mode::Blend,
            Some("accumulate") => Mode::Accumulate,
            _ => return Err(self.wrong("ransnn", "has no `mode` of the hybrid")),
        };
        Ok(Hybrid { lora_ga, boft: self.boft()?, mode, ..Hybrid::default() })
    }
}
