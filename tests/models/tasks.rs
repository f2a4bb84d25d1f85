//! Tasks on their real files, with stubs in the place of models.

use std::path::PathBuf;

use std::collections::BTreeMap;

use ransnn::Result;
use ransnn::experiment::peft::code::{self, Permission};
use ransnn::experiment::peft::judge::{self, Judge};
use ransnn::models::finetune::{data, score};
use ransnn::models::tasks::{Writer, glue, gsm8k, humaneval, mt_bench};
use ransnn::models::{Tokenizer, finetune::Target};

/// Says what a function of the prompt says.
struct Stub<F>(F);

impl<F: FnMut(&str) -> String> Writer for Stub<F> {
    fn samples(&mut self, _: &str, prompt: &str, count: usize) -> Result<Vec<String>> {
        Ok((0..count).map(|_| (self.0)(prompt)).collect())
    }
}

fn folder() -> Option<PathBuf> {
    let folder =
        std::env::var_os("RANSNN_DATA").map(PathBuf::from).filter(|folder| folder.join("gsm8k").is_dir());
    if folder.is_none() {
        println!("skipped: the files of the tasks need RANSNN_DATA");
    }
    folder
}

#[test]
fn glue_files() {
    let Some(folder) = folder() else { return };
    let bert = Tokenizer::open(&folder.join("tokenizers/bert-base-uncased")).expect("opens");
    for (task, train, dev, pairs) in [
        (glue::Task::Sst2, 67_349, 872, false),
        (glue::Task::Mrpc, 3_667, 408, true),
        (glue::Task::Cola, 8_551, 1_043, false),
    ] {
        let records = |split| task.records(&folder.join("glue"), split).expect("reads");
        assert_eq!(records("train").len(), train, "{}", task.name());
        let dev_records = records("dev");
        let examples = data::judged(&dev_records, &task.fields(), &bert, 128, 2).expect("good");
        assert_eq!(examples.len(), dev, "{}", task.name());
        assert_eq!(examples.iter().any(|e| e.types.contains(&1)), pairs);
        let labels: Vec<u32> =
            examples.iter().map(|e| if e.target == Target::Class(1) { 1 } else { 0 }).collect();
        let share = score::accuracy(&vec![1; labels.len()], &labels);
        assert!(share > 0.4 && share < 0.8, "{share}");
        assert_eq!(glue::Task::of(task.name()).expect("known"), task);
    }
    assert!(glue::Task::of("WNLI").is_err());
}

#[test]
fn gsm8k_answers() {
    let Some(folder) = folder() else { return };
    let problems = gsm8k::problems(&folder.join("gsm8k/test.jsonl")).expect("reads");
    assert_eq!(problems.len(), 1319);
    assert!(problems.iter().all(|p| gsm8k::number(&p.answer).is_some()));
    let mut truth = problems.iter();
    let mut stub = Stub(|prompt: &str| {
        let problem = truth.next().expect("one each");
        assert!(prompt.contains(&problem.question));
        problem.answer.clone()
    });
    assert_eq!(gsm8k::exact_match(&problems, &mut stub, &mut ()).expect("runs"), 1.0);
    let mut always = Stub(|_: &str| "The answer is 10.".to_string());
    let share = gsm8k::exact_match(&problems, &mut always, &mut ()).expect("runs");
    let tens = problems.iter().filter(|p| p.answer.ends_with("#### 10")).count();
    assert!(tens > 5 && (share - tens as f64 / 1319.0).abs() < 1e-12);
    assert!(gsm8k::exact_match(&[], &mut always, &mut ()).is_err());
}

#[test]
fn humaneval_programs() {
    let Some(folder) = folder() else { return };
    let problems = humaneval::problems(&folder.join("humaneval/HumanEval.jsonl.gz")).expect("reads");
    assert_eq!(problems.len(), 164);
    let program = humaneval::program(&problems[0], &problems[0].canonical);
    assert!(program.contains("def has_close_elements") && program.ends_with("check(has_close_elements)\n"));
    assert!(
        humaneval::problems(&folder.join("gsm8k/test.jsonl"))
            .expect_err("refused")
            .to_string()
            .contains("line 1")
    );
}

#[test]
fn passes_of_several_samples() {
    let Some(folder) = folder() else { return };
    let problems = humaneval::problems(&folder.join("humaneval/HumanEval.jsonl.gz")).expect("reads");
    let permission = Permission::new(true).expect("given");
    if std::process::Command::new("python3").arg("-V").output().is_err() {
        return println!("skipped: there is no python3");
    }
    // Of eight samples one problem is solved by two and the other by none.
    let mut written = 0;
    let mut stub = Stub(|_: &str| {
        written += 1;
        if matches!(written, 3 | 8) { problems[0].canonical.clone() } else { format!("    return {written}") }
    });
    let ks = [1, 2, 7, 8];
    let found = code::pass_at(&problems[..2], &ks, 8, &mut stub, permission, &mut ()).expect("runs");
    // 1 − C(6, k)/C(8, k)
    let expected = [2.0 / 8.0, 1.0 - 15.0 / 28.0, 1.0, 1.0].map(|pass: f64| pass / 2.0);
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    let mut refused = |ks: &[usize]| {
        let found = code::pass_at(&problems[..1], ks, 8, &mut stub, permission, &mut ());
        found.expect_err("refused").to_string()
    };
    assert!(refused(&[1, 9]).contains('9') && refused(&[0]).contains("from 1 to"));
}

#[test]
fn mt_bench_ratings() {
    let Some(folder) = folder() else { return };
    let questions = mt_bench::questions(&folder.join("mt_bench/question.jsonl")).expect("reads");
    assert_eq!(questions.iter().filter(|question| question.reference.len() == 2).count(), 39);
    let two = [questions[0].clone(), questions[30].clone()];
    let answers = BTreeMap::from(two.clone().map(|q| (q.id, vec!["one".to_string(), "two".into()])));
    let out = tempfile::tempdir().expect("a folder");
    let path = out.path().join("ratings.jsonl");
    // Three and the turn; four more where there is a reference.
    let script = "t=$(cat); n=3; case $t in *'\"turn\":1'*) n=$((n+1));; *'\"turn\":2'*) n=$((n+2));; esac; \
                  case $t in *'\"reference\":[]'*) ;; *) n=$((n+4));; esac; echo \"{\\\"rating\\\": $n}\"";
    let judge = Judge { command: script, seconds: 20 };
    let ratings = judge::rate(&two, &answers, judge, &path, &mut ()).expect("runs");
    assert_eq!((ratings.rating, ratings.turns), (6.5, vec![6.0, 7.0]));
    assert_eq!((ratings.categories["writing"], ratings.categories["math"]), (4.5, 8.5));
    assert_eq!(std::fs::read_to_string(&path).expect("written").lines().count(), 4);
}

#[test]
fn mt_bench_answers() {
    let Some(folder) = folder() else { return };
    let questions = mt_bench::questions(&folder.join("mt_bench/question.jsonl")).expect("reads");
    assert_eq!((questions.len(), questions[0].id, questions[0].turns.len()), (80, 81, 2));
    let out = tempfile::tempdir().expect("a folder");
    let path = out.path().join("answers.jsonl");
    let mut prompts = vec![];
    let mut stub = Stub(|prompt: &str| {
        prompts.push(prompt.to_string());
        format!(" answer {} USER: more", prompts.len())
    });
    mt_bench::answer(&questions[..2], "stub", 1.5, &mut stub, &path, &mut ()).expect("runs");
    assert!(prompts[1].contains("answer 1</s> USER:") && prompts[1].contains(&questions[0].turns[1]));
    assert_eq!(mt_bench::answers(&path).expect("reads")[&82], ["answer 3", "answer 4"]);
    let text = std::fs::read_to_string(&path).expect("written");
    let first: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("two lines")).expect("JSON");
    assert_eq!(first["choices"][0]["turns"], serde_json::json!(["answer 1", "answer 2"]));
    assert_eq!((first["question_id"].as_u64(), text.lines().count()), (Some(81), 2));
}
