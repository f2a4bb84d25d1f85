//! A number, or what it is drawn from: `1.5`, or `{ normal = { mean = 1.5, std = 0.75 } }`.

use crate::snn::Init;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A number for all, or a distribution with one number for each.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drawn {
    /// All the same; a plain number in the file.
    Constant(f64),
    /// Uniform in `low..high`.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// As listed.
    Listed(Vec<f64>),
}

impl Drawn {
    /// What the library draws from.
    pub fn init(&self) -> Init {
        match self {
            Self::Constant(value) => Init::Constant(*value),
            Self::Uniform { low, high } => Init::Uniform { low: *low, high: *high },
            Self::Normal { mean, std } => Init::Normal { mean: *mean, std: *std },
            Self::Listed(values) => Init::ListedF64(values.clone()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Constant,
    Uniform,
    Normal,
    Listed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Moments {
    #[serde(default)]
    mean: f64,
    std: f64,
}

impl<'de> Deserialize<'de> for Drawn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Drawn;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, or one of `uniform`, `normal`, `listed`")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Drawn, E> {
        Ok(Drawn::Constant(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Drawn, E> {
        Ok(Drawn::Constant(value as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Drawn, A::Error> {
        let Some(kind) = map.next_key::<Kind>()? else {
            return Err(A::Error::custom("wanted exactly 1 element"));
        };
        let drawn = match kind {
            Kind::Constant => Drawn::Constant(map.next_value()?),
            Kind::Uniform => {
                let Bounds { low, high } = map.next_value()?;
                Drawn::Uniform { low, high }
            }
            Kind::Normal => {
                let Moments { mean, std } = map.next_value()?;
                Drawn::Normal { mean, std }
            }
            Kind::Listed => Drawn::Listed(map.next_value()?),
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(drawn),
            Some(_) => Err(A::Error::custom("wanted exactly 1 element, more than 1 element")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        x: Drawn,
    }

    #[test]
    fn numbers_and_tables_are_read_and_written() {
        for (text, expected) in [
            ("x = 1.5", Drawn::Constant(1.5)),
            ("x = -2", Drawn::Constant(-2.0)),
            ("x.constant = 3", Drawn::Constant(3.0)),
            ("x.uniform = { low = 0, high = 1.0 }", Drawn::Uniform { low: 0.0, high: 1.0 }),
            ("x = { normal = { std = 2.0 } }", Drawn::Normal { mean: 0.0, std: 2.0 }),
            ("x.listed = [1, 2.5]", Drawn::Listed(vec![1.0, 2.5])),
        ] {
            let file: File = document::parse(text).expect(text);
            assert_eq!(file.x, expected, "{text}");
            let again = document::text(&file).expect("it is TOML");
            assert_eq!(document::parse::<File>(&again).expect(&again), file);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (text, says) in [
            ("x = \"a\"", "a number, or one of"),
            ("x = {}", "exactly 1"),
            ("x = { normal = { std = 1 }, uniform = { low = 0, high = 1 } }", "more than 1"),
            ("x = { gamma = 1 }", "unknown variant `gamma`"),
            ("x = { normal = { std = 1, men = 1 } }", "unknown field `men`"),
            ("x = { uniform = { low = 1 } }", "missing field `high`"),
        ] {
            let error = document::parse::<File>(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
