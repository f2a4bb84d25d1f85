//! MT-Bench: answers to questions of two turns, in the files that its judges read.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::Writer;
use crate::files::{read_text, write_atomic};
use crate::progress::{Progress, Unit};
use crate::{Error, Result};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its number.
    pub id: u64,
    /// `writing`, `math`, ….
    pub category: String,
    /// What is said to the model, one after the other.
    pub turns: Vec<String>,
    /// Good answers, where there are some.
    pub reference: Vec<String>,
}

/// A list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(String::from)).collect()
}

/// Questions of `question.jsonl`.
///
/// # Errors
/// Not readable, not of its kind; the line is named.
pub fn questions(path: &Path) -> Result<Vec<Question>> {
    let text = read_text(path)?;
    let one = |(i, line): (usize, &str)| {
        let wrong = |what: &str| Error::data(path, format!("line {}: {what}", i + 1));
        let value: Value = serde_json::from_str(line).map_err(|_| wrong("not JSON"))?;
        let reference = match &value["reference"] {
            Value::Null => Some(vec![]),
            list => texts(list),
        };
        Ok(Question {
            id: value["question_id"].as_u64().ok_or_else(|| wrong("there is no number `question_id`"))?,
            category: value["category"].as_str().unwrap_or_default().into(),
            turns: texts(&value["turns"]).ok_or_else(|| wrong("there is no list of texts `turns`"))?,
            reference: reference.ok_or_else(|| wrong("`reference` is not a list of texts"))?,
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(one).collect()
}

/// The conversation so far, and the model's turn, in Vicuna's words.
fn prompt(question: &Question, answers: &[String]) -> String {
    let mut text = String::from(
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
         detailed, and polite answers to the user's questions.",
    );
    for (i, turn) in question.turns.iter().enumerate().take(answers.len() + 1) {
        text += &format!(" USER: {turn} ASSISTANT:");
        answers.get(i).into_iter().for_each(|answer| text += &format!(" {answer}</s>"));
    }
    text
}

/// Answers of a file that [`answer`] wrote, by number of the question.
///
/// # Errors
/// Not readable, not of its kind; the line is named.
pub fn answers(path: &Path) -> Result<BTreeMap<u64, Vec<String>>> {
    let text = read_text(path)?;
    let one = |(i, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let found = value["question_id"].as_u64().zip(texts(&value["choices"][0]["turns"]));
        let expected = "there is no number `question_id` with a list of texts `choices[0].turns`";
        found.ok_or_else(|| Error::data(path, format!("line {}: {expected}", i + 1)))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(one).collect()
}

/// Answers all questions and writes the file that judges read, one JSON object a line. `moment`: seconds since 1970 that
/// the answers are dated with.
///
/// # Errors
/// The writer's, the file's; an interrupt.
pub fn answer(
    questions: &[Question],
    model: &str,
    moment: f64,
    writer: &mut dyn Writer,
    path: &Path,
    progress: &mut dyn Progress,
) -> Result<()> {
    progress.start("mt-bench", Some(questions.len() as u64), Unit::Samples);
    let mut lines = String::new();
    for question in questions {
        if progress.interrupted() {
            return Err(Error::Interrupted { checkpoint: None });
        }
        let mut answers: Vec<String> = vec![];
        for turn in 1..=question.turns.len() {
            let name = format!("MT-Bench/{}/{turn}", question.id);
            let text = writer.write(&name, &prompt(question, &answers))?;
            // What the model says in the user's name is not its answer.
            answers.push(text.split("USER:").next().unwrap_or_default().trim().to_string());
        }
        let line = json!({
            "question_id": question.id,
            "answer_id": format!("{model}-{}", question.id),
            "model_id": model,
            "choices": [{ "index": 0, "turns": answers }],
            "tstamp": moment,
        });
        lines += &format!("{line}\n");
        progress.advance(1);
    }
    progress.finish();
    write_atomic(path, lines.as_bytes())
}
