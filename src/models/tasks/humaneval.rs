//! HumanEval: functions from their descriptions, judged by running tests. Running is not done here, but only where it was
//! allowed explicitly; here are the files, what is run, and the score.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `HumanEval/0`.
    pub id: String,
    /// Imports, the head of the function and its description.
    pub prompt: String,
    /// A function `check(candidate)`.
    pub test: String,
    /// Name of the function.
    pub entry_point: String,
    /// A solution.
    pub canonical: String,
}

/// Largest file that is read, uncompressed.
const LARGEST: u64 = 1 << 28;

/// Problems of `HumanEval.jsonl` or `HumanEval.jsonl.gz`.
///
/// # Errors
/// Not readable, not of its kind; the line is named.
pub fn problems(path: &Path) -> Result<Vec<Problem>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let mut text = String::new();
    let result = match path.extension().is_some_and(|extension| extension == "gz") {
        true => flate2::read::MultiGzDecoder::new(&bytes[..]).take(LARGEST).read_to_string(&mut text),
        false => (&bytes[..]).take(LARGEST).read_to_string(&mut text),
    };
    result.map_err(Error::io("read", path))?;
    let one = |(i, line): (usize, &str)| {
        let wrong = |what: String| Error::data(path, format!("line {}: {what}", i + 1));
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(format!("not JSON: {e}")))?;
        let get = |name: &str| {
            value[name].as_str().map(String::from).ok_or_else(|| wrong(format!("there is no text `{name}`")))
        };
        Ok(Problem {
            id: get("task_id")?,
            prompt: get("prompt")?,
            test: get("test")?,
            entry_point: get("entry_point")?,
            canonical: get("canonical_solution")?,
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(one).collect()
}

/// The body of the function: what a model wrote, up to where something else begins.
///
/// ```
/// use ransnn::models::tasks::humaneval::body;
/// assert_eq!(body("    return 1\n\ndef other():\n    pass"), "    return 1\n");
/// ```
pub fn body(completion: &str) -> &str {
    let stops = ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```"];
    let end = stops.iter().filter_map(|stop| completion.find(stop)).min();
    &completion[..end.unwrap_or(completion.len())]
}

/// The program whose success means that the completion is right.
pub fn program(problem: &Problem, completion: &str) -> String {
    let Problem { prompt, test, entry_point, .. } = problem;
    format!("{prompt}{}\n\n{test}\n\ncheck({entry_point})\n", body(completion))
}

/// Probability that one of k completions is right, estimated without bias from n of which c are: `1 − C(n−c, k)/C(n, k)`.
///
/// ```
/// use ransnn::models::tasks::humaneval::pass_at;
/// assert_eq!(pass_at(1, 10, 3), 0.3);
/// assert_eq!(pass_at(10, 10, 1), 1.0);
/// assert!((pass_at(2, 4, 2) - (1.0 - 1.0 / 6.0)).abs() < 1e-12);
/// ```
pub fn pass_at(k: usize, n: usize, right: usize) -> f64 {
    if n < right + k {
        return 1.0;
    }
    if k == 1 {
        return right as f64 / n as f64;
    }
    1.0 - (n - right + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}
