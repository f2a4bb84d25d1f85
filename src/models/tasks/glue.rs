//! GLUE: sentences with a class.

use std::path::Path;

use crate::models::finetune::Evaluation;
use crate::models::finetune::data::{Fields, Record, records};
use crate::{Error, Result};

/// A task of GLUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Sentiment of a sentence; accuracy.
    Sst2,
    /// Whether two sentences mean the same; F1 and accuracy.
    Mrpc,
    /// Whether a sentence is grammatical; Matthews correlation.
    Cola,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sst2, Self::Mrpc, Self::Cola];

    /// `SST-2`, `MRPC`, `CoLA`: names of folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sst2 => "SST-2",
            Self::Mrpc => "MRPC",
            Self::Cola => "CoLA",
        }
    }

    /// The task of a name, in any spelling of capitals.
    ///
    /// # Errors
    /// No such task.
    pub fn of(name: &str) -> Result<Self> {
        let same = |task: &Self| task.name().replace('-', "").eq_ignore_ascii_case(&name.replace('-', ""));
        let all = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(same)
            .ok_or_else(|| Error::value("the task", format!("`{name}`"), format!("one of {all}")))
    }

    /// Which columns are what.
    pub fn fields(self) -> Fields {
        let name = |name: &str| Some(name.to_string());
        match self {
            Self::Sst2 => Fields { text: name("sentence"), label: name("label"), ..Fields::default() },
            Self::Mrpc => Fields {
                text: name("#1 String"),
                second: name("#2 String"),
                label: name("Quality"),
                ..Fields::default()
            },
            Self::Cola => Fields { text: name("3"), label: name("1"), ..Fields::default() },
        }
    }

    /// Sentences of a split, `train` or `dev`, from the folder of GLUE or of the task.
    ///
    /// # Errors
    /// No such file, or not of its kind.
    pub fn records(self, folder: &Path, split: &str) -> Result<Vec<Record>> {
        let inside = folder.join(self.name());
        let folder = if inside.is_dir() { &inside } else { folder };
        records(&folder.join(format!("{split}.tsv")))
    }

    /// The score that GLUE ranks by.
    pub fn score(self, evaluation: &Evaluation) -> Option<f64> {
        match self {
            Self::Sst2 => evaluation.accuracy,
            Self::Mrpc => evaluation.f1,
            Self::Cola => evaluation.matthews,
        }
    }
}
