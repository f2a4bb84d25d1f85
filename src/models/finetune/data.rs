//! From files of text to examples: plain text, JSON lines, tables; masking of prompts, packing, batches.

use std::path::Path;

use rand::RngExt;
use serde_json::Value;

use crate::files::read_text;
use crate::models::{Batch, IGNORE_LABEL, Labels, Tokenizer};
use crate::rng::Stream;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What should be said about a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The next tokens: one label for each token, [`IGNORE_LABEL`] where it does not count.
    Tokens(Vec<i64>),
    /// A class.
    Class(u32),
    /// A number.
    Value(f32),
}

/// A text as tokens, and what should be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Tokens.
    pub ids: Vec<i64>,
    /// Segments, for encoders.
    pub types: Vec<i64>,
    /// What should come out.
    pub target: Target,
}

/// Which fields of a record are what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// A text that is learnt as a whole, or judged.
    pub text: Option<String>,
    /// The second of two texts that are judged together.
    pub second: Option<String>,
    /// A text that is given and not learnt.
    pub prompt: Option<String>,
    /// What follows the prompt and is learnt.
    pub completion: Option<String>,
    /// The class or number of a text.
    pub label: Option<String>,
}

/// One record of a file: its fields by name.
pub type Record = Vec<(String, String)>;

/// Records of a file: `.jsonl` or `.json` (one object a line), `.tsv` (a header, or numbers as names), anything else is
/// one record with a field `text`.
///
/// # Errors
/// Not readable, not of its kind; the line is named.
pub fn records(path: &Path) -> Result<Vec<Record>> {
    let text = read_text(path)?;
    let kind = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match kind.as_deref() {
        Some("jsonl" | "json") => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(i, line)| json(path, i + 1, line))
            .collect(),
        Some("tsv") => table(path, &text),
        _ => Ok(vec![vec![("text".into(), text)]]),
    }
}

fn json(path: &Path, line: usize, text: &str) -> Result<Record> {
    let wrong = |what: String| Error::data(path, format!("line {line}: {what}"));
    match serde_json::from_str(text).map_err(|e| wrong(format!("not JSON: {e}")))? {
        Value::Object(object) => Ok(object
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) => (key, text),
                other => (key, other.to_string()),
            })
            .collect()),
        _ => Err(wrong("not a JSON object".into())),
    }
}

/// Tables as GLUE has them: tabs separate, nothing is quoted, and there may be a byte order mark.
fn table(path: &Path, text: &str) -> Result<Vec<Record>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let Some(first) = rows.first() else { return Ok(vec![]) };
    // A first row with a number in it is no header; its columns are called 0, 1, ….
    let header = !first.iter().any(|cell| cell.trim().parse::<f64>().is_ok());
    let names: Vec<String> = match header {
        true => first.iter().map(|name| name.trim().to_string()).collect(),
        false => (0..first.len()).map(|i| i.to_string()).collect(),
    };
    rows.iter()
        .enumerate()
        .skip(usize::from(header))
        .map(|(i, row)| match row.len() == names.len() {
            true => Ok(names.iter().cloned().zip(row.iter().map(|&cell| cell.to_string())).collect()),
            false => {
                let what = format!("line {}: {} columns, not {}", i + 1, row.len(), names.len());
                Err(Error::data(path, what))
            }
        })
        .collect()
}

fn field<'a>(record: &'a Record, name: &str, at: usize) -> Result<&'a str> {
    record.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).ok_or_else(|| {
        let names: Vec<&str> = record.iter().map(|(key, _)| key.as_str()).collect();
        Error::value(
            format!("the field of record {at}"),
            format!("`{name}`"),
            format!("one of {}", names.join(", ")),
        )
    })
}

/// Examples for a causal language model. A text is learnt as a whole; of a prompt and its completion only the completion.
/// `end` closes each. What is longer than `length` is cut off; plain text is cut into pieces.
///
/// # Errors
/// A field that a record does not have; nothing to learn from.
pub fn language(
    records: &[Record],
    fields: &Fields,
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<Vec<Example>> {
    if length < 2 {
        return Err(Error::value("the length of a text", length, "at least 2 tokens"));
    }
    let end = tokenizer.end().map(i64::from);
    let mut examples = vec![];
    for (at, record) in records.iter().enumerate() {
        let (ids, labels) = match (&fields.prompt, &fields.completion) {
            (Some(prompt), Some(completion)) => {
                let prompt = tokenizer.encode(field(record, prompt, at)?, true)?.ids;
                let mut answer = tokenizer.encode(field(record, completion, at)?, false)?.ids;
                answer.extend(end);
                let labels = [vec![IGNORE_LABEL; prompt.len()], answer.clone()].concat();
                ([prompt, answer].concat(), labels)
            }
            _ => {
                let name = fields.text.as_deref().unwrap_or("text");
                let mut ids = tokenizer.encode(field(record, name, at)?, records.len() > 1)?.ids;
                if records.len() > 1 {
                    ids.extend(end);
                }
                (ids.clone(), ids)
            }
        };
        // One long text is many; a record is one example.
        let pieces = if records.len() == 1 { ids.len().div_ceil(length) } else { 1 };
        for (ids, labels) in ids.chunks(length).zip(labels.chunks(length)).take(pieces) {
            if ids.len() > 1 && labels[1..].iter().any(|&label| label != IGNORE_LABEL) {
                let types = vec![0; ids.len()];
                examples.push(Example { ids: ids.into(), types, target: Target::Tokens(labels.into()) });
            }
        }
    }
    match examples.is_empty() {
        true => {
            Err(Error::value("the number of examples", 0, "at least 1; are the texts shorter than 2 tokens?"))
        }
        false => Ok(examples),
    }
}

/// Puts examples one behind another into rows of exactly `length` tokens, so that nothing is padded; the last row may be
/// shorter. Texts see what stands before them in their row.
pub fn pack(examples: &[Example], length: usize) -> Vec<Example> {
    let mut ids = vec![];
    let mut labels = vec![];
    for example in examples {
        if let Target::Tokens(these) = &example.target {
            ids.extend(&example.ids);
            labels.extend(these);
            // The first token of a text does not follow from the text before.
            let start = labels.len() - these.len();
            labels[start] = IGNORE_LABEL;
        }
    }
    ids.chunks(length)
        .zip(labels.chunks(length))
        .filter(|(ids, labels)| ids.len() > 1 && labels[1..].iter().any(|&label| label != IGNORE_LABEL))
        .map(|(ids, labels)| Example {
            ids: ids.into(),
            types: vec![0; ids.len()],
            target: Target::Tokens(labels.into()),
        })
        .collect()
}

/// Examples for an encoder with a head: `classes` of them, or one for a regression.
///
/// # Errors
/// A field that a record does not have, a label that is no class or number.
pub fn judged(
    records: &[Record],
    fields: &Fields,
    tokenizer: &Tokenizer,
    length: usize,
    classes: usize,
) -> Result<Vec<Example>> {
    let label_name = fields.label.as_deref().unwrap_or("label");
    let text_name = fields.text.as_deref().unwrap_or("text");
    let one = |(at, record): (usize, &Record)| {
        let second = fields.second.as_ref().map(|name| field(record, name, at)).transpose()?;
        let mut tokens =
            tokenizer.encode_pair(field(record, text_name, at)?.trim(), second.map(str::trim), true)?;
        // The last token closes the text and stays.
        if let Some(&last) = tokens.ids.last().filter(|_| tokens.ids.len() > length) {
            tokens.ids.truncate(length);
            tokens.types.truncate(length);
            tokens.ids.iter_mut().last().into_iter().for_each(|id| *id = last);
        }
        let label = field(record, label_name, at)?.trim();
        let wrong = |expected: String| {
            Error::value(format!("the label of record {at}"), format!("`{label}`"), expected)
        };
        let target = match classes {
            1 => Target::Value(label.parse().map_err(|_| wrong("a number".into()))?),
            n => match label.parse::<u32>() {
                Ok(class) if (class as usize) < n => Target::Class(class),
                _ => return Err(wrong(format!("a class from 0 to {}", n - 1))),
            },
        };
        Ok(Example { ids: tokens.ids, types: tokens.types, target })
    };
    let examples = records.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
    match examples.is_empty() {
        true => Err(Error::value("the number of examples", 0, "at least 1")),
        false => Ok(examples),
    }
}

/// A batch of examples, padded to the longest with `pad`, and its labels.
///
/// # Errors
/// No examples, or of different kinds.
pub fn batch(examples: &[&Example], pad: i64) -> Result<(Batch, Labels)> {
    let longest = examples.iter().map(|example| example.ids.len()).max().unwrap_or(0);
    let padded = |row: &[i64], with: i64| [row, &vec![with; longest - row.len()]].concat();
    let rows = |f: &dyn Fn(&Example) -> Vec<i64>| examples.iter().map(|e| f(e)).collect::<Vec<_>>();
    let mut batch = Batch::new(&rows(&|e| padded(&e.ids, pad)))?;
    if examples.iter().any(|example| example.ids.len() < longest) {
        batch = batch.with_mask(&rows(&|e| padded(&vec![1; e.ids.len()], 0)))?;
    }
    if examples.iter().any(|example| example.types.iter().any(|&kind| kind != 0)) {
        batch = batch.with_types(&rows(&|e| padded(&e.types, 0)))?;
    }
    let mixed = || Error::value("the examples of a batch", "of different kinds", "all of one kind");
    let labels = match examples.first().map(|example| &example.target) {
        None => return Err(mixed()),
        Some(Target::Tokens(_)) => {
            let row = |e: &&Example| match &e.target {
                Target::Tokens(labels) => Ok(padded(labels, IGNORE_LABEL)),
                _ => Err(mixed()),
            };
            Labels::next_tokens(&examples.iter().map(row).collect::<Result<Vec<_>>>()?)?
        }
        Some(Target::Class(_)) => {
            let class = |e: &&Example| match e.target {
                Target::Class(class) => Ok(class),
                _ => Err(mixed()),
            };
            let classes = examples.iter().map(class).collect::<Result<Vec<u32>>>()?;
            Labels::Classes(Tensor::from_u32(classes, &[examples.len()])?)
        }
        Some(Target::Value(_)) => {
            let value = |e: &&Example| match e.target {
                Target::Value(value) => Ok(value),
                _ => Err(mixed()),
            };
            let values = examples.iter().map(value).collect::<Result<Vec<f32>>>()?;
            Labels::Values(Tensor::from_f32(values, &[examples.len()])?)
        }
    };
    Ok((batch, labels))
}

/// The order of `n` examples in an epoch: a shuffle that depends on seed and epoch alone.
pub fn order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut walk = Stream::named(seed, "finetune/shuffle").walk(epoch);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, walk.random_range(0..=i));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pairs: &[(&str, &str)]) -> Record {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn write(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn prompts_are_masked_and_texts_end() {
        let fields = Fields { prompt: Some("q".into()), completion: Some("a".into()), ..Fields::default() };
        let records = [record(&[("q", "ab"), ("a", "c")]), record(&[("q", "x"), ("a", "yz")])];
        let examples = language(&records, &fields, &Tokenizer::bytes(), 10).expect("good");
        assert_eq!(examples[0].ids, [97, 98, 99, 256]);
        assert_eq!(examples[0].target, Target::Tokens(vec![-100, -100, 99, 256]));
        let packed = pack(&examples, 5);
        assert_eq!(packed[0].ids, [97, 98, 99, 256, 120]);
        assert_eq!(packed[1].target, Target::Tokens(vec![121, 122, 256]));
        let missing =
            language(&[record(&[("a", "c")]), records[0].clone()], &fields, &Tokenizer::bytes(), 10);
        assert!(missing.expect_err("refused").to_string().contains("one of a"));
    }

    #[test]
    fn files_of_every_kind() {
        let (_keep, path) = write("x.jsonl", "{\"text\":\"a\",\"n\":3}\n\n{\"text\":\"b\",\"n\":4}\n");
        assert_eq!(records(&path).expect("reads")[1], record(&[("text", "b"), ("n", "4")]));
        let (_keep, path) = write("x.jsonl", "{\"text\":\"a\"}\n{oops\n");
        assert!(records(&path).expect_err("refused").to_string().contains("line 2"));
        let (_keep, path) = write("x.tsv", "\u{feff}sentence\tlabel\nit's \"fine\t1\n");
        assert_eq!(records(&path).expect("reads"), [record(&[("sentence", "it's \"fine"), ("label", "1")])]);
        let (_keep, path) = write("x.tsv", "gj04\t1\t\tGood.\n");
        assert_eq!(records(&path).expect("reads")[0][3], ("3".to_string(), "Good.".to_string()));
        let (_keep, path) = write("x.tsv", "a\tb\n1\n");
        assert!(records(&path).expect_err("refused").to_string().contains("line 2: 1 columns, not 2"));
        let (_keep, path) = write("x.txt", "one\ntwo\n");
        let text = records(&path).expect("reads");
        let pieces = language(&text, &Fields::default(), &Tokenizer::bytes(), 3).expect("good");
        assert_eq!(pieces.len(), 3);
    }

    #[test]
    fn batches_are_padded() {
        let judge = |text: &str, class| Example {
            ids: text.bytes().map(i64::from).collect(),
            types: vec![0; text.len()],
            target: Target::Class(class),
        };
        let (long, short) = (judge("abc", 1), judge("d", 0));
        let (batch, labels) = batch(&[&long, &short], 7).expect("good");
        assert_eq!(batch.ids.to_u32().expect("u32"), [97, 98, 99, 100, 7, 7]);
        assert_eq!(batch.mask.expect("padded").to_u32().expect("u8"), [1, 1, 1, 1, 0, 0]);
        assert!(matches!(labels, Labels::Classes(_)));
        let mixed = Example { target: Target::Value(1.0), ..short };
        assert!(super::batch(&[&long, &mixed], 0).is_err());
        assert!(super::batch(&[], 0).is_err());
    }

    #[test]
    fn every_epoch_has_an_order_of_its_own() {
        let (a, b) = (order(50, 1, 0), order(50, 1, 1));
        assert_ne!(a, b);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(a, order(50, 1, 0));
    }
}
