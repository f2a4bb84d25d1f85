//! The one error type of the crate. A library function never prints and never panics on bad input.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, sorted by what the reader can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Operands of a tensor operation do not fit together.
    #[error("{op}: shapes {lhs:?} and {rhs:?} do not match: {why}")]
    Shape {
        /// Name of the operation.
        op: &'static str,
        /// First shape.
        lhs: Vec<usize>,
        /// Second shape.
        rhs: Vec<usize>,
        /// The rule that is violated.
        why: String,
    },
    /// A gradient was asked for through an operation that has none.
    #[error("{op} has no gradient, and one of its inputs needs it")]
    NoGradient {
        /// Name of the operation.
        op: &'static str,
    },
    /// A parameter that the loss does not reach.
    #[error("the loss does not depend on `{param}`")]
    Disconnected {
        /// Path of the parameter.
        param: String,
    },
    /// An operation that does not exist on a device or for a type of number.
    #[error("{op} cannot run {on}")]
    Unsupported {
        /// Name of the operation.
        op: &'static str,
        /// For example "on cuda:0" or "with u8 values".
        on: String,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {path}")]
    Io {
        /// "read", "write", "create", …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// An experiment file with mistakes; all of them are listed.
    #[error("{} in {file}", count(problems.len(), "mistake"))]
    Config {
        /// Path of the file as given.
        file: String,
        /// Its text, to underline the places.
        text: String,
        /// Every mistake found.
        problems: Vec<Problem>,
    },
    /// A network description with mistakes; all of them are listed.
    #[error("the network cannot be built: {}", .0.join("; "))]
    Network(Vec<String>),
    /// A data file, checkpoint or adapter whose content is wrong.
    #[error("{path}: {what}")]
    Data {
        /// The file.
        path: PathBuf,
        /// Where in it, what is wrong and what would be right.
        what: String,
    },
    /// A data set that is not there.
    #[error("{dataset} is not in {dir}")]
    Missing {
        /// Name of the data set.
        dataset: String,
        /// Where it was looked for.
        dir: PathBuf,
        /// What was tried to get it, one line each.
        attempts: Vec<String>,
    },
    /// A value outside what makes sense.
    #[error("{what} is {got}; it must be {expected}")]
    Value {
        /// Name of the quantity.
        what: String,
        /// What was given.
        got: String,
        /// The allowed range.
        expected: String,
    },
    /// More memory than there is, refused before allocating.
    #[error("{what} needs {needed} bytes, but {available} are available")]
    Memory {
        /// What would be allocated.
        what: String,
        /// Bytes it would take.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// A call to the GPU failed.
    #[error("cuda: {call} failed: {message}")]
    Cuda {
        /// What was tried.
        call: String,
        /// What the driver said.
        message: String,
    },
    /// Training stopped because the loss is not a number any more.
    #[error("{0}")]
    Diverged(String),
    /// Ctrl-C; the state was saved.
    #[error("interrupted{}", checkpoint.as_ref().map(|p| format!("; continue with --resume {}", p.display())).unwrap_or_default())]
    Interrupted {
        /// Run directory to resume from.
        checkpoint: Option<PathBuf>,
    },
    /// An expectation stated in the experiment was missed.
    #[error("{0}")]
    Missed(String),
    /// A mistake of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

/// One mistake in an experiment file.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What is wrong, without a full stop.
    pub message: String,
    /// Byte range in the file that is underlined; `None` where the mistake is an absence in the whole file.
    pub span: Option<std::ops::Range<usize>>,
    /// What would be right.
    pub help: Option<String>,
}

impl Error {
    /// Wraps an I/O error: `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// A file whose content is wrong.
    pub fn data(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Data { path: path.into(), what: what.into() }
    }

    /// A value outside its range.
    pub fn value(what: impl Into<String>, got: impl ToString, expected: impl Into<String>) -> Self {
        Self::Value { what: what.into(), got: got.to_string(), expected: expected.into() }
    }

    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { dataset, .. } => Some(format!(
                "run `ransnn data fetch {dataset}`, or `ransnn data add {dataset} --from DIR` if you have the files"
            )),
            Self::Disconnected { .. } => Some("freeze the parameter, or use it in the loss".into()),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("free some space, or choose another place with --out".into())
            }
            Self::Io { path, source, .. }
                if source.kind() == std::io::ErrorKind::NotFound
                    && path.extension().is_some_and(|extension| extension == "toml") =>
            {
                Some("`ransnn init` lists the experiments that it can write for you".into())
            }
            Self::Internal(_) => {
                Some("this is our mistake: please report it with the command you typed".into())
            }
            _ => None,
        }
    }

    /// The exit code of a program that ends with this error: 1 what was asked did not work out, 2 our own fault,
    /// 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Internal(_) => 2,
            Self::Interrupted { .. } => 130,
            _ => 1,
        }
    }
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
