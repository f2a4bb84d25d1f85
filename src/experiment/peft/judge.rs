//! Ratings of answers to MT-Bench by a command of the user's: a program that asks a model, or a person.
//!
//! The command is run by `sh`, once for each turn of each question. On its standard input it gets one JSON object:
//!
//! ```json
//! {"question_id": 101, "category": "reasoning", "turn": 2, "question": ["…", "…"], "reference": ["…", "…"], "answer": ["…", "…"]}
//! ```
//!
//! with the conversation up to that turn, and `reference` empty where the benchmark has none. On its standard output it
//! says a rating from 1 to 10: `{"rating": 7}`, or `7`, or a text with `[[7]]` (what judges of FastChat are told to write).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::code::wait;
use crate::files::{read_text, write_atomic};
use crate::models::tasks::mt_bench::Question;
use crate::progress::{Progress, Unit};
use crate::{Error, Result};

/// The user's judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judge<'a> {
    /// What `sh` runs.
    pub command: &'a str,
    /// Seconds for one rating.
    pub seconds: u64,
}

/// Mean ratings.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Ratings {
    /// Over all turns of all questions.
    pub rating: f64,
    /// Of first turns, second turns, ….
    pub turns: Vec<f64>,
    /// By category.
    pub categories: BTreeMap<String, f64>,
}

/// Has all answers rated and writes each rating to a file, one JSON object a line.
///
/// # Errors
/// No questions; a question without its answers; a judge that cannot be run, fails, takes too long or says no rating, with
/// the question and the turn; an interrupt.
pub fn rate(
    questions: &[Question],
    answers: &BTreeMap<u64, Vec<String>>,
    judge: Judge<'_>,
    path: &Path,
    progress: &mut dyn Progress,
) -> Result<Ratings> {
    let (mut all, mut lines) = (vec![], String::new());
    progress.start("judge", Some(questions.len() as u64), Unit::Samples);
    for question in questions {
        let answer = answers.get(&question.id).filter(|answer| answer.len() == question.turns.len());
        let Some(answer) = answer else {
            let got = format!("none for each turn of question {}", question.id);
            return Err(Error::value("the answers", got, format!("{} texts", question.turns.len())));
        };
        for turn in 1..=question.turns.len() {
            if progress.interrupted() {
                return Err(Error::Interrupted { checkpoint: None });
            }
            let asked = json!({
                "question_id": question.id,
                "category": question.category,
                "turn": turn,
                "question": question.turns[..turn],
                "reference": question.reference[..turn.min(question.reference.len())],
                "answer": answer[..turn],
            });
            let rating = judge.ask(&asked)?;
            all.push((question.category.clone(), turn, rating));
            let id = question.id;
            let line =
                json!({ "question_id": id, "category": question.category, "turn": turn, "rating": rating });
            lines += &format!("{line}\n");
        }
        progress.advance(1);
    }
    progress.finish();
    let mean = |chosen: &dyn Fn(&str, usize) -> bool| {
        let chosen =
            all.iter().filter(|(category, turn, _)| chosen(category, *turn)).map(|(.., rating)| rating);
        let (sum, count) = chosen.fold((0.0, 0), |(sum, count), rating| (sum + rating, count + 1));
        sum / f64::from(count)
    };
    if all.is_empty() {
        return Err(Error::value("the number of questions", 0, "at least 1"));
    }
    let most = all.iter().map(|&(_, turn, _)| turn).max().unwrap_or(0);
    let of_category =
        |(category, ..): &(String, usize, f64)| (category.clone(), mean(&|other, _| other == category));
    let ratings = Ratings {
        rating: mean(&|_, _| true),
        turns: (1..=most).map(|turn| mean(&|_, other| other == turn)).collect(),
        categories: all.iter().map(of_category).collect(),
    };
    write_atomic(path, lines.as_bytes())?;
    Ok(ratings)
}

impl Judge<'_> {
    fn ask(self, asked: &Value) -> Result<f64> {
        // Files and no pipes: nobody waits for a reader, however much is said.
        let folder = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("asked"), asked.to_string()).map_err(Error::io("write", at("asked")))?;
        let open = |name: &str| File::create(at(name)).map_err(Error::io("create", at(name)));
        let child = Command::new("sh")
            .args(["-c", self.command])
            .stdin(Stdio::from(File::open(at("asked")).map_err(Error::io("read", at("asked")))?))
            .stdout(Stdio::from(open("said")?))
            .stderr(Stdio::from(open("complained")?))
            .spawn()
            .map_err(Error::io("run", "sh"))?;
        let status = wait(child, self.command, self.seconds)?;
        let (id, turn) = (&asked["question_id"], &asked["turn"]);
        let wrong = |got: String| {
            let what = format!("the judge's rating of question {id}, turn {turn}");
            Error::value(what, got, "a number from 1 to 10, as `{\"rating\": 7}`, `7` or `[[7]]`")
        };
        let start =
            |name: &str| -> Result<String> { Ok(read_text(&at(name))?.trim().chars().take(200).collect()) };
        match status {
            None => return Err(wrong(format!("nothing within {} seconds", self.seconds))),
            Some(status) if !status.success() => {
                return Err(wrong(format!("{status}: {}", start("complained")?)));
            }
            Some(_) => {}
        }
        match rating(&read_text(&at("said"))?) {
            Some(rating) => Ok(rating),
            None => Err(wrong(format!("`{}`", start("said")?))),
        }
    }
}

/// The rating in what a judge says.
fn rating(said: &str) -> Option<f64> {
    let value: Value = serde_json::from_str(said.trim()).unwrap_or_default();
    let in_brackets =
        || said.rsplit_once("[[").and_then(|(_, rest)| rest.split_once("]]")?.0.trim().parse().ok());
    let found = value.as_f64().or_else(|| value["rating"].as_f64()).or_else(in_brackets);
    found.filter(|rating| (1.0..=10.0).contains(rating))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_rating() {
        assert_eq!(rating("{\"rating\": 7.5, \"why\": \"short\"}"), Some(7.5));
        assert_eq!(rating("3\n"), Some(3.0));
        assert_eq!(rating("Between [[1]] and more. Rating: [[ 9 ]]"), Some(9.0));
        for none in ["", "good", "[[x]]", "[[11]]", "0", "{\"rating\": \"7\"}", "]] [["] {
            assert_eq!(rating(none), None, "{none}");
        }
    }

    #[test]
    fn judges_that_fail_are_named_with_the_question() {
        let question = Question {
            id: 81,
            category: "math".into(),
            turns: vec!["1 + 1?".into()],
            reference: vec!["2".into()],
        };
        let answers = BTreeMap::from([(81, vec!["two".to_string()])]);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ratings.jsonl");
        let run = |command: &str, answers| {
            let seconds = if command.contains("sleep") { 1 } else { 20 };
            rate(std::slice::from_ref(&question), answers, Judge { command, seconds }, &path, &mut ())
        };
        // Only with the whole object is it a six.
        let six = r#"said=$(cat)
            for part in '"answer":["two"]' '"reference":["2"]' '"question":["1 + 1?"]' '"turn":1'; do
                case $said in *"$part"*) ;; *) exit 1 ;; esac
            done
            echo 6"#;
        assert_eq!(run(six, &answers).expect("runs").categories["math"], 6.0);
        for (command, why) in [
            ("exit 3", "exit status: 3"),
            ("echo broken >&2; false", "broken"),
            ("exec sleep 30", "nothing within 1 seconds"),
            ("echo good", "`good`"),
            ("no-such-judge", "not found"),
        ] {
            let text = run(command, &answers).expect_err("refused").to_string();
            assert!(text.contains("question 81, turn 1") && text.contains(why), "{command}: {text}");
        }
        assert!(run("echo 6", &BTreeMap::new()).expect_err("refused").to_string().contains("question 81"));
    }
}
