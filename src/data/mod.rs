//! Data sets: reading, fetching, drawing.
//!
//! A [`Dataset`] holds a training and a test [`Split`] in memory. It comes from
//!
//! * a [`Store`]: the named public data sets ([`registry`]) in a folder, fetched on demand and checked by SHA-256;
//! * [`strokes`]: digits drawn by this crate, of any size, without any file;
//! * [`open_path`]: a user's own CSV table, NumPy `.npz` archive, or folder of the four IDX files.
//!
//! ```
//! let digits = ransnn::data::strokes(7, 100, 20);
//! assert_eq!((digits.shape.as_slice(), digits.classes), ([1, 28, 28].as_slice(), 10));
//! assert_eq!((digits.train.len(), digits.test.len()), (100, 20));
//! ```

mod augment;
mod content;
pub mod csv;
pub mod events;
pub mod fetch;
pub mod idx;
pub mod npz;
pub mod registry;
mod store;
mod strokes;

use std::path::{Path, PathBuf};

use rand::RngExt;

use crate::error::{Error, Result};
use crate::rng::Stream;

pub use augment::Augment;
pub use store::{Entry, Store};
pub use strokes::{STROKES, strokes};

/// The values of some samples, row-major `[samples, features]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Intensities: a value `v` stands for `v / 255`.
    U8(Vec<u8>),
    /// Values in `0..=1`: every column scaled by its minimum and maximum over the training split, test values
    /// outside of them clipped; a column that is constant in training is 0.
    F32(Vec<f32>),
}

impl Samples {
    /// How many numbers there are: samples times features.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::U8(values) => values.truncate(len),
            Self::F32(values) => values.truncate(len),
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::U8(values) => Self::U8(values.split_off(at)),
            Self::F32(values) => Self::F32(values.split_off(at)),
        }
    }
}

/// Samples with their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Row-major values.
    pub samples: Samples,
    /// One class index per sample, below [`Dataset::classes`].
    pub labels: Vec<u16>,
}

impl Split {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Rows in the order `order`, each an index below `len`.
    fn reordered(&self, order: &[u32]) -> Self {
        let width = self.samples.len() / self.len().max(1);
        fn rows<T: Copy>(values: &[T], order: &[u32], width: usize) -> Vec<T> {
            order.iter().flat_map(|&row| &values[row as usize * width..][..width]).copied().collect()
        }
        let samples = match &self.samples {
            Samples::U8(values) => Samples::U8(rows(values, order, width)),
            Samples::F32(values) => Samples::F32(rows(values, order, width)),
        };
        Self { samples, labels: rows(&self.labels, order, 1) }
    }
}

/// A classification task in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Its name, for example "mnist", or the stem of the user's file.
    pub name: String,
    /// Shape of one sample: `[channels, rows, columns]` for images, `[features]` for tables.
    pub shape: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
    /// Names of the classes, in order; empty where they have only their numbers.
    pub class_names: Vec<String>,
    /// What to learn from.
    pub train: Split,
    /// What to test on.
    pub test: Split,
    /// Where it came from.
    pub origin: Origin,
}

/// How much of the training split [`Dataset::validation`] holds out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holdout {
    /// A fraction strictly between 0 and 1; the number of samples is rounded to the nearest.
    Fraction(f64),
    /// A number of samples.
    Count(usize),
}

impl Dataset {
    /// What people call a class: its name, or its number.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// Numbers per sample.
    pub fn features(&self) -> usize {
        self.shape.iter().product()
    }

    /// The task for choosing hyper-parameters: the tail of the training split takes the place of the test split,
    /// which is dropped so that nothing can be tuned on it.
    ///
    /// Which samples are held out depends on `holdout` alone. The IDX files are shuffled by their makers,
    /// [`open_path`] shuffles tables and arrays, so the tail is a fair sample.
    ///
    /// # Errors
    /// [`Error::Value`] when nothing would be left on either side.
    ///
    /// ```
    /// use ransnn::data::{Holdout, strokes};
    /// let task = strokes(7, 100, 20).validation(Holdout::Fraction(0.1))?;
    /// assert_eq!((task.train.len(), task.test.len()), (90, 10));
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn validation(mut self, holdout: Holdout) -> Result<Self> {
        let len = self.train.len();
        let held = match holdout {
            Holdout::Fraction(fraction) if fraction > 0.0 && fraction < 1.0 => {
                (len as f64 * fraction).round() as usize
            }
            Holdout::Fraction(fraction) => {
                return Err(Error::value("validation fraction", fraction, "between 0 and 1, both excluded"));
            }
            Holdout::Count(count) => count,
        };
        if held == 0 || held >= len {
            return Err(Error::value(
                "number of validation samples",
                held,
                format!("at least 1 and below the {len} training samples"),
            ));
        }
        let at = len - held;
        let samples = self.train.samples.split_off(at * self.features());
        self.test = Split { samples, labels: self.train.labels.split_off(at) };
        Ok(self)
    }

    /// Keeps the first `train` and `test` samples, or all where there are fewer.
    pub fn truncate(&mut self, train: usize, test: usize) {
        let features = self.features();
        for (split, len) in [(&mut self.train, train), (&mut self.test, test)] {
            split.samples.truncate(len.saturating_mul(features));
            split.labels.truncate(len);
        }
    }
}

/// Where a data set came from; written into `summary.json` and the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Files, built in, or a replacement for something else.
    pub kind: OriginKind,
    /// The files that were read; empty for data that is drawn.
    pub files: Vec<FileRecord>,
}

/// The kinds of [`Origin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// Read from files.
    Files,
    /// Drawn by this crate.
    BuiltIn,
    /// Drawn by this crate because the data set that was asked for could not be had.
    Fallback {
        /// The data set asked for.
        wanted: String,
        /// Why it is not there.
        reason: String,
    },
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileRecord {
    /// Its name, without the folder.
    pub name: String,
    /// Its size after decompression, in bytes.
    pub bytes: u64,
    /// SHA-256 of its content after decompression, in lower-case hexadecimal.
    pub sha256: String,
    /// What the content was compared with.
    pub checked: Checked,
}

/// How far a file's content is known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// The SHA-256 of the decompressed content equals the published one.
    Content,
    /// The SHA-256 of the file as it was published (compressed) is right.
    Published,
    /// Equal to the sum that was written down beside the file when it was fetched or added.
    Recorded,
    /// Only its structure was checked: no sum of this content is known.
    Structure,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Content => "equals the published SHA-256 of the content",
            Self::Published => "equals the published SHA-256 of the compressed file",
            Self::Recorded => "equals the sum recorded when the file came; no published sum is known",
            Self::Structure => "well-formed; no sum is known to compare with",
        })
    }
}

/// How [`open_path`] reads a user's own data.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnData {
    /// CSV: name of the label column; `None` takes the last column.
    pub label: Option<String>,
    /// CSV: whether the first row names the columns; `None` looks at it.
    pub header: Option<bool>,
    /// A second CSV file of the same columns for testing.
    pub test_path: Option<PathBuf>,
    /// Share of the samples for testing where the data has no test part of its own.
    pub test_fraction: f64,
    /// Keys the shuffle and the split.
    pub seed: u64,
    /// What recordings of an event camera become; they are only read with it.
    pub frames: Option<events::Frames>,
}

impl Default for OwnData {
    /// Label in the last column, a fifth for testing, seed 0.
    fn default() -> Self {
        Self { label: None, header: None, test_path: None, test_fraction: 0.2, seed: 0, frames: None }
    }
}

/// Opens a user's own data: a `.csv` table, an `.npz` archive, or a folder with the four IDX files under their
/// usual names; with `options.frames` a folder of recordings or `NMNISTsmall.tar.gz` ([`events::open`]).
///
/// # Errors
/// [`Error::Data`] names the file and the place in it; [`Error::Value`] an unknown kind of file or a bad option.
pub fn open_path(path: &Path, options: &OwnData) -> Result<Dataset> {
    if let Some(frames) = &options.frames
        && (path.is_dir() || path.extension().is_some_and(|kind| kind == "gz"))
    {
        return events::open(path, frames, options);
    }
    if path.is_dir() {
        return idx::open_folder(path);
    }
    match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => csv::open(path, options),
        Some("npz") => npz::open(path, options),
        _ => Err(Error::value(
            "data path",
            path.display(),
            "a .csv file, an .npz file, or a folder with the four IDX files (with `encode.events` a folder of recordings)",
        )),
    }
}

/// A file or folder as it stands, or below the data folder `below`.
pub(crate) fn find(path: &str, below: &Path) -> PathBuf {
    let there = below.join(path);
    if !Path::new(path).exists() && there.exists() { there } else { path.into() }
}

/// Name of a data set that is read from `path`.
fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "data".into(), |stem| stem.to_string_lossy().into_owned())
}

/// The order of `len` samples after a shuffle that depends on `seed` alone (Fisher–Yates).
fn shuffled(len: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    let mut random = Stream::named(seed, "data/shuffle").walk(0);
    for i in (1..len).rev() {
        order.swap(i, random.random_range(0..=i as u32) as usize);
    }
    order
}

/// Shuffles `all` and cuts `fraction` of it off for testing.
fn random_split(all: &Split, fraction: f64, seed: u64) -> Result<(Split, Split)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::value("test fraction", fraction, "between 0 and 1, both excluded"));
    }
    let order = shuffled(all.len(), seed);
    let test = (all.len() as f64 * fraction).round() as usize;
    if test == 0 || test >= all.len() {
        return Err(Error::value(
            "number of test samples",
            test,
            format!("at least 1 and below the {} samples there are", all.len()),
        ));
    }
    let (train, test) = order.split_at(all.len() - test);
    Ok((all.reordered(train), all.reordered(test)))
}

/// Scales every column to `0..=1` by its range in `train`.
fn scale(train: &mut [f32], test: &mut [f32], width: usize) {
    for column in 0..width {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for &value in train.iter().skip(column).step_by(width) {
            (low, high) = (low.min(value), high.max(value));
        }
        // In f64, because the range of two finite f32 can overflow.
        let (low, range) = (f64::from(low), f64::from(high) - f64::from(low));
        for values in [&mut *train, &mut *test] {
            for value in values.iter_mut().skip(column).step_by(width) {
                *value = if range > 0.0 {
                    ((f64::from(*value) - low) / range).clamp(0.0, 1.0) as f32
                } else {
                    0.0
                };
            }
        }
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a user's own file whole, with its record; there is no sum to compare it with.
fn own_file(path: &Path) -> Result<(Vec<u8>, FileRecord)> {
    let content = content::read(path, 0, false, |_, size, gzip| {
        if gzip {
            return Err(Error::data(path, "the file is compressed with gzip; unpack it first"));
        }
        Ok(size)
    })?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let record = FileRecord {
        name,
        bytes: content.data.len() as u64,
        sha256: content.sha256,
        checked: Checked::Structure,
    };
    Ok((content.data, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_takes_the_tail_and_drops_the_test_split() {
        let all = strokes(1, 50, 20);
        let task = all.clone().validation(Holdout::Count(8)).unwrap();
        assert_eq!(task.train.labels, all.train.labels[..42]);
        assert_eq!(task.test.labels, all.train.labels[42..]);
        let (Samples::U8(all), Samples::U8(tail)) = (&all.train.samples, &task.test.samples) else {
            panic!()
        };
        assert_eq!(tail, &all[42 * 784..]);
    }

    #[test]
    fn validation_refuses_to_leave_a_side_empty() {
        for holdout in [
            Holdout::Fraction(0.0),
            Holdout::Fraction(1.0),
            Holdout::Fraction(f64::NAN),
            Holdout::Fraction(0.01),
            Holdout::Count(0),
            Holdout::Count(10),
        ] {
            let error = strokes(1, 10, 2).validation(holdout).unwrap_err();
            assert!(matches!(error, Error::Value { .. }), "{holdout:?}: {error}");
        }
    }

    #[test]
    fn scaling_uses_the_training_range_only() {
        let (mut train, mut test) = (vec![1.0, 5.0, 3.0, 5.0], vec![4.0, 9.0, 2.0, 5.0]);
        scale(&mut train, &mut test, 2);
        assert_eq!(train, [0.0, 0.0, 1.0, 0.0]);
        assert_eq!(test, [1.0, 0.0, 0.5, 0.0]);
        let (mut wide, mut none) = (vec![f32::MIN, f32::MAX, 0.0], vec![]);
        scale(&mut wide, &mut none, 1);
        assert_eq!(wide, [0.0, 1.0, 0.5]);
    }

    #[test]
    fn truncating_keeps_samples_and_labels_together() {
        let mut digits = strokes(3, 30, 30);
        digits.truncate(7, 100);
        assert_eq!((digits.train.len(), digits.train.samples.len()), (7, 7 * 784));
        assert_eq!(digits.test.len(), 30);
    }
}
