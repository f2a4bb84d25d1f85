//! GSM8K: word problems whose answer is a number.

use std::path::Path;

use super::Writer;
use crate::models::finetune::data::records;
use crate::progress::{Progress, Unit};
use crate::{Error, Result};

/// A problem with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is asked.
    pub question: String,
    /// The worked answer; its last line is `#### number`.
    pub answer: String,
}

/// Problems of a file of JSON lines with `question` and `answer`.
///
/// # Errors
/// Not readable, a line without one of them.
pub fn problems(path: &Path) -> Result<Vec<Problem>> {
    let one = |(i, record): (usize, Vec<(String, String)>)| {
        let get = |name: &str| {
            let found = record.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            found.ok_or_else(|| Error::data(path, format!("record {i} has no `{name}`")))
        };
        Ok(Problem { question: get("question")?, answer: get("answer")? })
    };
    records(path)?.into_iter().enumerate().map(one).collect()
}

/// What a model is given.
pub fn prompt(problem: &Problem) -> String {
    format!("Question: {}\nAnswer:", problem.question)
}

/// The number that an answer ends in: what follows `####`, or else the last number of the text. Written plainly: without
/// signs of currency, thousands and a point at the end.
///
/// ```
/// use ransnn::models::tasks::gsm8k::number;
/// assert_eq!(number("… so 3 × 400 = 1200.\n#### 1,200").as_deref(), Some("1200"));
/// assert_eq!(number("She pays $18.50. That is all").as_deref(), Some("18.5"));
/// assert_eq!(number("nothing"), None);
/// ```
pub fn number(text: &str) -> Option<String> {
    // A model that goes on with another question is judged by its first answer.
    match text.split_once("####") {
        Some((_, rest)) => numbers(rest.lines().next()?).into_iter().next(),
        None => numbers(text).pop(),
    }
}

fn numbers(text: &str) -> Vec<String> {
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-');
    text.split(|c| !plain(c)).filter_map(normal).collect()
}

/// A number as it is written, without what does not change its value.
fn normal(word: &str) -> Option<String> {
    let word = word.trim_matches([',', '.']).replace(',', "");
    let (sign, digits) = match word.rsplit_once('-') {
        Some((_, digits)) => ("-", digits),
        None => ("", word.as_str()),
    };
    let value: f64 = digits.parse().ok()?;
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    let digits = digits.trim_start_matches('0');
    let digits =
        if digits.is_empty() || digits.starts_with('.') { format!("0{digits}") } else { digits.into() };
    Some(if value == 0.0 { "0".into() } else { format!("{sign}{digits}") })
}

/// Whether an answer has the right number.
pub fn is_right(problem: &Problem, text: &str) -> bool {
    number(text).is_some_and(|got| Some(got) == number(&problem.answer))
}

/// Share of problems that are answered with exactly the right number.
///
/// # Errors
/// No problems; the writer's; an interrupt.
pub fn exact_match(
    problems: &[Problem],
    writer: &mut dyn Writer,
    progress: &mut dyn Progress,
) -> Result<f64> {
    if problems.is_empty() {
        return Err(Error::value("the number of problems", 0, "at least 1"));
    }
    progress.start("gsm8k", Some(problems.len() as u64), Unit::Samples);
    let mut right = 0;
    for (i, problem) in problems.iter().enumerate() {
        if progress.interrupted() {
            return Err(Error::Interrupted { checkpoint: None });
        }
        right += usize::from(is_right(problem, &writer.write(&format!("GSM8K/{i}"), &prompt(problem))?));
        progress.advance(1);
    }
    progress.finish();
    Ok(right as f64 / problems.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_many_kinds() {
        let of = |text: &str| number(text).unwrap_or_default();
        assert_eq!(of("#### -5"), "-5");
        assert_eq!(of("#### $1,234.00\n\nQuestion: 7"), "1234");
        assert_eq!(of("it is 0.50"), "0.5");
        assert_eq!(of("between 3-4"), "-4");
        assert_eq!(of("#### 007"), "7");
        assert_eq!(of("#### 0"), "0");
        assert_eq!(of("####"), "");
        assert_eq!(of(". , -"), "");
    }
}
