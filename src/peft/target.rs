//! Which maps are adapted: exact names, ends of paths, patterns, exclusions, ranges of layers. The rules are those of
//! Hugging Face PEFT (`check_target_module_exists`, `get_pattern_key`).
//!
//! Patterns run in time proportional to the text: none can hang a program. What that rules out (look-around,
//! back-references) is refused when a pattern is read.

use std::collections::BTreeSet;

use regex_lite::Regex;

use super::Kind;
use crate::{Error, Result};

/// A choice of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modules {
    /// Whole paths, or what stands behind a dot at their end.
    Names(Vec<String>),
    /// A regular expression that matches the whole path.
    Pattern(String),
    /// Every linear map but the output layer and classification heads.
    AllLinear,
}

/// Which maps a method adapts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Which.
    pub modules: Modules,
    /// Which of them not.
    pub exclude: Option<Modules>,
    /// Only in these layers: the number that follows a name in the path, as in `layers.3.`. Not for patterns.
    pub layers: Option<Vec<usize>>,
    /// Names that the number may follow; any if empty.
    pub layers_pattern: Vec<String>,
}

impl Targets {
    /// By name or end of path.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::of(Modules::Names(names.into_iter().map(Into::into).collect()))
    }

    /// By a regular expression for the whole path.
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::of(Modules::Pattern(pattern.into()))
    }

    /// Every linear map but the output layer and classification heads.
    pub fn all_linear() -> Self {
        Self::of(Modules::AllLinear)
    }

    /// A choice without exclusions.
    pub fn of(modules: Modules) -> Self {
        Self { modules, exclude: None, layers: None, layers_pattern: vec![] }
    }

    /// Compiles the patterns.
    ///
    /// # Errors
    /// A pattern that is not a regular expression of this engine; a range of layers beside a pattern.
    pub fn matcher(&self) -> Result<Matcher> {
        let is_pattern = matches!(self.modules, Modules::Pattern(_));
        if is_pattern && self.layers.is_some() {
            return Err(Error::value(
                "layers_to_transform",
                "given beside a pattern",
                "inside the pattern, or beside names",
            ));
        }
        let layers = match (&self.layers, &self.layers_pattern[..]) {
            (None, _) => None,
            (Some(layers), []) => Some((layers.clone(), vec![pattern(r"^.*\.[^.]*\.(\d+)\.")?])),
            (Some(layers), names) => {
                let one = |name: &String| pattern(&format!(r"^.*\.{name}\.(\d+)\."));
                Some((layers.clone(), names.iter().map(one).collect::<Result<Vec<_>>>()?))
            }
        };
        let exclude = self.exclude.as_ref().map(Choice::new).transpose()?;
        Ok(Matcher { modules: Choice::new(&self.modules)?, exclude, layers })
    }

    /// How the choice is written, for messages.
    pub fn describe(&self) -> String {
        match &self.modules {
            Modules::Names(names) => names.join(", "),
            Modules::Pattern(pattern) => format!("/{pattern}/"),
            Modules::AllLinear => "all-linear".into(),
        }
    }
}

/// [`Targets`] with patterns compiled.
#[derive(Clone, Debug)]
pub struct Matcher {
    modules: Choice,
    exclude: Option<Choice>,
    layers: Option<(Vec<usize>, Vec<Regex>)>,
}

impl Matcher {
    /// Whether the map at a path is meant.
    pub fn matches(&self, path: &str, kind: Kind) -> bool {
        if self.exclude.as_ref().is_some_and(|exclude| exclude.matches(path, kind)) {
            return false;
        }
        if !self.modules.matches(path, kind) {
            return false;
        }
        match &self.layers {
            // A whole path names its layer itself.
            Some(_) if self.modules.names_whole(path) => true,
            Some((layers, patterns)) => {
                let number = patterns.iter().find_map(|p| p.captures(path)?.get(1)?.as_str().parse().ok());
                number.is_some_and(|number: usize| layers.contains(&number))
            }
            None => true,
        }
    }
}

#[derive(Clone, Debug)]
enum Choice {
    Names(BTreeSet<String>),
    Pattern(Regex),
    AllLinear,
}

/// Last parts of paths of output layers and heads, which `all-linear` leaves out.
const HEADS: [&str; 6] = ["lm_head", "embed_out", "classifier", "score", "qa_outputs", "output_projection"];

impl Choice {
    fn new(modules: &Modules) -> Result<Self> {
        Ok(match modules {
            Modules::Names(names) => Self::Names(names.iter().cloned().collect()),
            Modules::Pattern(text) => Self::Pattern(pattern(&format!("^(?:{text})$"))?),
            Modules::AllLinear => Self::AllLinear,
        })
    }

    fn names_whole(&self, path: &str) -> bool {
        matches!(self, Self::Names(names) if names.contains(path))
    }

    fn matches(&self, path: &str, kind: Kind) -> bool {
        match self {
            Self::Names(names) => ends(path).any(|end| names.contains(end)),
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::AllLinear => {
                let last = path.rsplit('.').next().unwrap_or(path);
                kind != Kind::Embedding && !HEADS.contains(&last)
            }
        }
    }
}

/// The path and every end of it behind a dot.
fn ends(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once(path).chain(path.match_indices('.').map(|(at, _)| &path[at + 1..]))
}

/// Compiles a pattern that came from outside.
fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| {
        Error::value(
            "a pattern for modules",
            text,
            format!("a regular expression without look-around ({error})"),
        )
    })
}

/// Values by pattern, as `rank_pattern` and `alpha_pattern`: the first whose pattern matches the end of a path from the
/// beginning of a name counts; one that begins with `^` matches from the beginning of the path.
#[derive(Clone, Debug)]
pub struct Overrides<T>(Vec<(String, Regex, T)>);

impl<T> Default for Overrides<T> {
    /// None.
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Overrides<T> {
    /// Compiles patterns.
    ///
    /// # Errors
    /// A pattern that is not a regular expression of this engine.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, T)>) -> Result<Self> {
        let compile = |(key, value): (&str, T)| {
            // Both forms at once: `^` inside of the group only matches where the group is at the beginning.
            let regex = pattern(&format!(r"^(?:(?:.*\.)?(?:{key}))$"))?;
            Ok((key.to_string(), regex, value))
        };
        pairs.into_iter().map(compile).collect::<Result<Vec<_>>>().map(Self)
    }

    /// The value for a path.
    pub fn get(&self, path: &str) -> Option<&T> {
        self.0.iter().find(|(_, regex, _)| regex.is_match(path)).map(|(_, _, value)| value)
    }

    /// The same patterns with other values.
    pub fn map<U>(&self, f: impl Fn(&T) -> U) -> Overrides<U> {
        Overrides(self.0.iter().map(|(key, regex, value)| (key.clone(), regex.clone(), f(value))).collect())
    }

    /// Patterns and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(key, _, value)| (key.as_str(), value))
    }
}

impl<T: PartialEq> PartialEq for Overrides<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&(String, Regex, T), &(String, Regex, T))| a.0 == b.0 && a.2 == b.2;
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: &str = "model.layers.3.self_attn.q_proj";

    fn matches(targets: &Targets, path: &str) -> bool {
        targets.matcher().expect("compiles").matches(path, Kind::Linear)
    }

    #[test]
    fn names_are_whole_paths_or_ends_behind_a_dot() {
        assert!(matches(&Targets::names(["q_proj"]), Q) && matches(&Targets::names(["self_attn.q_proj"]), Q));
        assert!(matches(&Targets::names([Q]), Q));
        assert!(!matches(&Targets::names(["proj"]), Q) && !matches(&Targets::names(["self_attn"]), Q));
    }

    #[test]
    fn patterns_match_the_whole_path() {
        assert!(matches(&Targets::pattern(r".*\.[0-3]\..*q_proj"), Q));
        assert!(!matches(&Targets::pattern("q_proj"), Q) && !matches(&Targets::pattern(r"model\.layers"), Q));
        // An alternative must not escape the anchors.
        assert!(!matches(&Targets::pattern("x|model"), Q));
        for bad in ["*[", "(?=x)", r"(a)\1"] {
            let error = Targets::pattern(bad).matcher().expect_err("refused").to_string();
            assert!(error.contains("regular expression"), "{error}");
        }
        // What takes a backtracking engine minutes.
        assert!(!matches(&Targets::pattern("(a*)*b"), &"a".repeat(5000)));
    }

    #[test]
    fn exclusions_and_layers() {
        let names = || Targets::names(["q_proj", "v_proj"]);
        let without = Targets { exclude: Some(Modules::Names(vec!["q_proj".into()])), ..names() };
        assert!(!matches(&without, Q) && matches(&without, "model.layers.3.self_attn.v_proj"));
        let layers = |which: &[usize], of: &[&str]| Targets {
            layers: Some(which.to_vec()),
            layers_pattern: of.iter().map(ToString::to_string).collect(),
            ..names()
        };
        assert!(matches(&layers(&[1, 3], &[]), Q) && !matches(&layers(&[1, 2], &[]), Q));
        assert!(matches(&layers(&[3], &["layers"]), Q) && !matches(&layers(&[3], &["h"]), Q));
        assert!(!matches(&layers(&[3], &[]), "head.q_proj"), "no number, no layer");
        let exact = Targets { layers: Some(vec![0]), ..Targets::names([Q]) };
        assert!(matches(&exact, Q), "a whole path needs no layer");
        assert!(Targets { layers: Some(vec![0]), ..Targets::pattern(".*") }.matcher().is_err());
    }

    #[test]
    fn all_linear_leaves_out_heads_and_tables() {
        let matcher = Targets::all_linear().matcher().expect("compiles");
        assert!(matcher.matches(Q, Kind::Linear) && matcher.matches("h.0.c_attn", Kind::Conv1D));
        assert!(!matcher.matches("lm_head", Kind::Linear) && !matcher.matches("classifier", Kind::Linear));
        assert!(!matcher.matches("model.embed_tokens", Kind::Embedding));
    }

    #[test]
    fn the_first_pattern_wins() {
        let ranks =
            Overrides::new([(r"layers\.3.*q_proj", 2), ("q_proj", 8), ("^model", 1)]).expect("compiles");
        assert_eq!(ranks.get(Q), Some(&2));
        assert_eq!(ranks.get("model.layers.1.self_attn.q_proj"), Some(&8));
        assert_eq!(ranks.get("model.layers.1.self_attn.my_q_proj"), None);
        assert_eq!(Overrides::new([("^model", 1)]).expect("compiles").get("a.model"), None);
        assert_eq!(Overrides::new([("^model.*", 1)]).expect("compiles").get(Q), Some(&1));
    }
}
