//! From text to [`Config`], with every mistake reported at once.
//!
//! serde stops at the first error. Here the offending entry is taken out of the parsed document and the rest is read
//! again, until nothing is wrong any more or nothing can be taken out.

use super::config::Config;
use crate::document::{self, Mistake, NO_CHOICE, TWO_CHOICES};
use crate::error::{Error, Problem, Result};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// An experiment file with its overrides: one text, so that every mistake has a place in it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path as given.
    pub file: String,
    /// The file, followed by the overrides as lines of their own.
    pub text: String,
    /// Byte ranges of the overrides in `text`.
    overrides: Vec<Range<usize>>,
}

impl Source {
    /// The text of `file` with `key=value` overrides behind it.
    ///
    /// # Errors
    /// An override without `=`.
    pub fn new(file: &str, text: &str, overrides: &[String]) -> Result<Self> {
        let mut source = Self { file: file.into(), text: text.into(), overrides: vec![] };
        if !overrides.is_empty() {
            source.text.push_str("\n# --set\n");
        }
        for set in overrides {
            let (key, value) = set.split_once('=').ok_or_else(|| Error::value("--set", set, "key=value"))?;
            // A bare word is a string, as in a shell.
            let bare = toml::from_str::<toml::Table>(&format!("x = {value}")).is_err();
            let value = if bare { toml::Value::from(value.trim()).to_string() } else { value.trim().into() };
            let start = source.text.len();
            source.text.push_str(&format!("{} = {value}\n", key.trim()));
            source.overrides.push(start..source.text.len());
        }
        Ok(source)
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// [`Error::Config`] with every unknown key, wrong type and syntax error.
    pub fn parse(&self) -> Result<(Config, Places)> {
        self.parse_as()
    }

    /// Reads a configuration of any schema; errors as [`parse`](Self::parse).
    pub fn parse_as<C: serde::de::DeserializeOwned>(&self) -> Result<(C, Places)> {
        let file_end = self.overrides.first().map_or(self.text.len(), |range| range.start);
        let (mut document, errors) = DeTable::parse_recoverable(&self.text[..file_end]);
        let mut problems: Vec<Problem> = errors.iter().map(|error| problem(error.into())).collect();
        // Spaces in front of an override keep the byte positions of the whole text.
        let padded: Vec<String> =
            self.overrides.iter().map(|range| " ".repeat(range.start) + &self.text[range.clone()]).collect();
        for text in &padded {
            let (entry, errors) = DeTable::parse_recoverable(text);
            problems.extend(errors.iter().map(|error| problem(error.into())));
            merge(document.get_mut(), entry.into_inner(), text);
        }
        let places = Places::of_document(document.get_ref());
        if !problems.is_empty() {
            return Err(self.fail(problems));
        }
        let mut removed: Vec<Range<usize>> = vec![];
        let mut taken: Vec<String> = vec![];
        loop {
            match document::read::<C>(&document) {
                Ok(config) if problems.is_empty() => return Ok((config, places)),
                Ok(_) => return Err(self.fail(problems)),
                Err(error) => {
                    let mut problem = problem(error);
                    let entry = problem.span.as_ref().and_then(|span| remove(document.get_mut(), span));
                    // An absence around something taken out is our own doing, not a mistake of the user's.
                    let consequence = absent(&problem.message, &taken)
                        || match &entry {
                            Some(entry) => {
                                removed.iter().any(|old| entry.start <= old.start && old.end <= entry.end)
                            }
                            None => !removed.is_empty(),
                        };
                    if entry.is_none() && problem.message.ends_with("is missing") {
                        // The whole document is "where" it is missing: nothing to underline.
                        problem.span = None;
                    }
                    if !consequence {
                        problems.push(problem);
                    }
                    match entry {
                        Some(entry) => {
                            taken.extend(names(&self.text[entry.clone()]));
                            removed.push(entry);
                        }
                        None => return Err(self.fail(problems)),
                    }
                }
            }
        }
    }

    /// An [`Error::Config`] about this source.
    pub fn fail(&self, mut problems: Vec<Problem>) -> Error {
        problems.sort_by_key(|problem| problem.span.clone().map_or(0, |span| span.start));
        problems.dedup();
        Error::Config { file: self.file.clone(), text: self.text.clone(), problems }
    }
}

/// Where each key stands in the text.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<(String, Range<usize>)>);

impl Places {
    /// The byte range of the value at a dotted path, or else of the nearest table above it that exists.
    pub fn of(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some((_, span)) = self.0.iter().find(|(known, _)| known == path) {
                return Some(span.clone());
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    fn of_document(table: &DeTable<'_>) -> Self {
        let mut places = vec![];
        collect(table, "", &mut places);
        Self(places)
    }
}

fn collect(table: &DeTable<'_>, prefix: &str, places: &mut Vec<(String, Range<usize>)>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            places.push((path.clone(), key.span()));
            collect(inner, &format!("{path}."), places);
        } else {
            places.push((path, value.span()));
        }
    }
}

/// Keys of an entry as it is written: `a.b = …`.
fn names(entry: &str) -> Vec<String> {
    let key = entry.split('=').next().unwrap_or_default();
    key.split('.').map(|name| name.trim().trim_matches(['"', '[', ']']).to_string()).collect()
}

/// Whether a message is about something that is not there because it was taken out.
fn absent(message: &str, taken: &[String]) -> bool {
    let field = message.strip_prefix("the key `").and_then(|rest| rest.strip_suffix("` is missing"));
    match field {
        Some(field) => taken.iter().any(|name| name == field),
        None => message == NO_CHOICE && !taken.is_empty(),
    }
}

/// Puts an override on top. A table in braces replaces what was there, so that one choice can take the place of
/// another: `--set train.ransnn.solver={adam={}}`.
fn merge<'t>(into: &mut DeTable<'t>, from: DeTable<'t>, text: &str) {
    for (key, value) in from {
        let known = into.iter_mut().find(|(old, _)| old.get_ref() == key.get_ref()).map(|(_, value)| value);
        match known {
            Some(old) => match (old.get_mut(), value) {
                (DeValue::Table(old), value)
                    if value.get_ref().is_table() && !text[value.span()].starts_with('{') =>
                {
                    if let DeValue::Table(new) = value.into_inner() {
                        merge(old, new, text);
                    }
                }
                (_, value) => *old = value,
            },
            None => {
                into.insert(key, value);
            }
        }
    }
}

/// Takes the innermost entry at `span` out of the table; returns the range it covered, with all that is in it.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Range<usize>> {
    let inside =
        |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end && !span.is_empty();
    for (key, value) in table.iter_mut() {
        if let DeValue::Table(inner) = value.get_mut()
            && !inside(&key.span())
            && let Some(range) = remove(inner, span)
        {
            return Some(range);
        }
    }
    let hit = table.iter().find(|(key, value)| inside(&key.span()) || inside(&extent(key.span(), value)));
    let (key, range) = hit.map(|(key, value)| (key.clone(), extent(key.span(), value)))?;
    table.remove(&key);
    Some(range)
}

/// From the key to the end of the last value below it.
fn extent(key: Range<usize>, value: &toml::Spanned<DeValue<'_>>) -> Range<usize> {
    let mut range = key.start.min(value.span().start)..key.end.max(value.span().end);
    if let DeValue::Table(table) = value.get_ref() {
        for (key, value) in table {
            let inner = extent(key.span(), value);
            range = range.start.min(inner.start)..range.end.max(inner.end);
        }
    }
    range
}

/// What serde says about types of Rust, for people who write TOML.
fn in_words(message: &str) -> String {
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("the key `{field}` is missing");
    }
    let Some((got, expected)) = message.split_once(", expected ") else { return message.into() };
    let expected = match expected {
        "usize" | "u64" | "u32" => "a whole number, 0 or more",
        "f64" => "a number",
        "a sequence" => "a list in brackets",
        "a boolean" => "true or false",
        "a map" => "a table",
        other => other.strip_prefix("struct ").map_or(other, |_| "a table"),
    };
    format!("{got}, expected {expected}")
}

/// A problem as the reader tells it, with a suggestion where it lists what it expected.
fn problem(Mistake { message, span }: Mistake) -> Problem {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let (first, rest) = match (unknown, quoted.next()) {
        (true, Some(got)) => {
            let expected: Vec<&str> = quoted.collect();
            let kind = if message.starts_with("unknown field") { "unknown key" } else { "unknown choice" };
            (format!("{kind} `{got}`"), suggestion(got, &expected))
        }
        _ => (in_words(&message), None),
    };
    let rest = match first.as_str() {
        TWO_CHOICES => Some("keep one of them; `--set KEY={ … }` puts one in the place of another".into()),
        _ => rest,
    };
    Problem { message: first, span, help: rest }
}

/// Whether a text, which may have mistakes, has a table of that name: it says what kind of experiment the file is.
pub fn has_table(text: &str, name: &str) -> bool {
    DeTable::parse_recoverable(text).0.get_ref().contains_key(name)
}

/// "did you mean" for the nearest name, or the list of all.
pub fn suggestion(got: &str, expected: &[&str]) -> Option<String> {
    if expected.is_empty() {
        return None;
    }
    let nearest = expected
        .iter()
        .map(|name| {
            // A unit left out (`tau_mem` for `tau_mem_ms`) is nearer than any typing mistake.
            let score = if name.starts_with(got) { 0.99 } else { strsim::jaro_winkler(got, name) };
            (score, name)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.8);
    Some(match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!(
            "expected one of {}",
            expected.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../experiments/strokes.toml");

    fn problems(text: &str, set: &[&str]) -> Vec<Problem> {
        let set: Vec<String> = set.iter().map(|s| (*s).to_string()).collect();
        match Source::new("x.toml", text, &set).and_then(|source| source.parse()) {
            Err(Error::Config { problems, .. }) => problems,
            Err(error) => panic!("{error}"),
            Ok(_) => vec![],
        }
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        assert_eq!(problems(GOOD, &[]), []);
        let text = GOOD
            .replace("fallback", "falback")
            .replace("steps = ", "steps = 1.5 # ")
            .replace("to             = ", "too = ");
        let found = problems(&text, &[]);
        let all = found.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("\n");
        assert!(all.contains("unknown key `falback`"), "{all}");
        assert!(all.contains("floating point `1.5`, expected a whole number"), "{all}");
        assert!(all.contains("unknown key `too`"), "{all}");
        let span = found.iter().find(|p| p.message.contains("falback")).and_then(|p| p.span.clone());
        assert_eq!(span.map(|span| &text[span]), Some("falback"));
    }

    #[test]
    fn overrides_are_merged_and_diagnosed() {
        let source =
            Source::new("x", GOOD, &["eval.repeat=3".into(), "data.fallback=none".into()]).expect("parses");
        let (config, places) = source.parse().expect("is right");
        assert_eq!(config.eval.repeat, 3);
        assert_eq!(places.of("eval.repeat").map(|span| &source.text[span]), Some("3"));
        let found = problems(GOOD, &["eval.repaet=3"]);
        assert_eq!(found[0].message, "unknown key `repaet`");
        assert_eq!(found[0].help.as_deref(), Some("did you mean `repeat`?"));
    }

    #[test]
    fn a_unit_left_out_is_suggested() {
        assert_eq!(
            suggestion("tau_mem", &["beta", "tau_mem_ms"]).as_deref(),
            Some("did you mean `tau_mem_ms`?")
        );
    }
}
