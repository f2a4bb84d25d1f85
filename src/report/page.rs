//! What a report shows, as plain data that is stored beside the run.

use serde::{Deserialize, Serialize};

use super::activity::Activity;
use super::plot::Plot;
use crate::error::{Error, Result};

/// Everything a report shows. Empty parts are left out of the page; unknown keys in a stored page are ignored,
/// so that an older program can draw the page of a newer one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Name of the experiment.
    pub title: String,
    /// One line under the title, for example the network: "784 → 2000 LIF → 10".
    pub subtitle: String,
    /// How the run ended: "done", "interrupted", …
    pub status: String,
    /// Name of the data set.
    pub dataset: String,
    /// What the reader must know before the numbers, for example that the built-in digits stand in for MNIST.
    pub notices: Vec<String>,
    /// Headline figures beyond those that follow from the rest of the page.
    pub tiles: Vec<Tile>,
    /// One row per seed.
    pub runs: Vec<Run>,
    /// Numbers of trained and frozen values.
    pub parameters: Option<Parameters>,
    /// What a simulated network did.
    pub activity: Option<Activity>,
    /// Tables of results.
    pub tables: Vec<Table>,
    /// Learning curves, or accuracy against the regularisation of a closed-form readout.
    pub curves: Vec<Plot>,
    /// Pictures, for example of learnt weights.
    pub pictures: Vec<Picture>,
    /// What the trainer found, line by line.
    pub details: Vec<String>,
    /// Confusion matrix on the test set.
    pub confusion: Option<Confusion>,
    /// Test samples with the spikes they caused.
    pub examples: Vec<Example>,
    /// Firing rates, one entry per layer in the order of the network.
    pub layers: Vec<Layer>,
    /// Seconds per phase.
    pub time: Vec<Part>,
    /// Bytes per purpose.
    pub memory: Vec<Part>,
    /// Largest resident memory of the process, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// What the energy estimate rests on.
    pub energy: Option<Energy>,
    /// Data files that were read.
    pub files: Vec<FileRecord>,
    /// The resolved configuration, as TOML.
    pub config: String,
    /// Program, machine and options, as pairs of name and value.
    pub environment: Vec<(String, String)>,
}

/// A headline figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tile {
    /// What it is.
    pub label: String,
    /// The figure, formatted (see [`super::number`]).
    pub value: String,
    /// A few words below it.
    pub note: String,
}

/// A table whose first column names the row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// A name for each column.
    pub head: Vec<String>,
    /// Formatted cells, one for each column.
    pub rows: Vec<Vec<String>>,
}

/// The result of one seed. Not-a-number is allowed and shown as such.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Fraction of the training set classified correctly.
    #[serde(with = "float")]
    pub train_accuracy: f64,
    /// Fraction of the test set classified correctly.
    #[serde(with = "float")]
    pub test_accuracy: f64,
    /// Mean number of spikes of all layers for one sample.
    #[serde(with = "float")]
    pub spikes_per_sample: f64,
    /// Wall-clock seconds of the whole run.
    #[serde(with = "float")]
    pub seconds: f64,
}

/// Numbers of values in the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// Values that training changes.
    pub trained: u64,
    /// Random values that stay as drawn.
    pub frozen: u64,
}

/// Counts of true against predicted classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confusion {
    /// Names of the `K` classes.
    pub classes: Vec<String>,
    /// `[K, K]`, row-major: the row is the true class, the column the predicted one.
    pub counts: Vec<u64>,
}

/// A grey image, one byte per pixel, 255 is the strongest input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`, row-major.
    pub pixels: Vec<u8>,
}

impl Image {
    /// Most pixels along a side.
    pub const MAX_SIDE: usize = 4096;

    fn check(&self, what: &str) -> Result<()> {
        let Self { width, height, pixels } = self;
        let whole = Some(pixels.len()) == width.checked_mul(*height) && !pixels.is_empty();
        if whole && *width.max(height) <= Self::MAX_SIDE {
            return Ok(());
        }
        let expected = format!("{width} × {height}, with 1 to {} a side", Self::MAX_SIDE);
        Err(Error::value(format!("the number of pixels of {what}"), pixels.len(), expected))
    }
}

/// A picture with a caption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Picture {
    /// What it shows.
    pub caption: String,
    /// The picture.
    pub image: Image,
}

/// Which neurons fired when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Raster {
    /// Name of the layer.
    pub layer: String,
    /// Steps of the simulation.
    pub steps: u32,
    /// Neurons shown, at most [`Raster::MAX_NEURONS`].
    pub neurons: u32,
    /// Neurons in the layer.
    pub of: u64,
    /// Pairs of (step, neuron), both from 0.
    pub spikes: Vec<(u32, u32)>,
}

impl Raster {
    /// More rows than this cannot be told apart on the page.
    pub const MAX_NEURONS: u32 = 200;
}

/// One test sample: what went in, what it caused, what came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Example {
    /// The input, where it is an image.
    pub image: Option<Image>,
    /// The spikes.
    pub raster: Raster,
    /// Name of the true class.
    pub label: String,
    /// Name of the predicted class.
    pub predicted: String,
}

/// How strongly the neurons of a layer fire on the test set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layer {
    /// Name of the layer.
    pub name: String,
    /// Neurons in it.
    pub neurons: u64,
    /// Mean over neurons, in spikes per step.
    #[serde(with = "float")]
    pub mean_rate: f64,
    /// Share of neurons that never fired, 0 to 1.
    #[serde(with = "float")]
    pub silent: f64,
    /// Share of neurons that fired in nearly every step, 0 to 1.
    #[serde(with = "float")]
    pub saturated: f64,
    /// Numbers of neurons by their rate in spikes per step.
    pub rates: Histogram,
}

/// Counts in bins of equal width.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// Lower edge of the first bin.
    #[serde(with = "float")]
    pub low: f64,
    /// Upper edge of the last bin.
    #[serde(with = "float")]
    pub high: f64,
    /// Numbers per bin.
    pub counts: Vec<u64>,
}

/// One part of a whole: seconds of a phase, bytes of a purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// How much.
    #[serde(with = "float")]
    pub value: f64,
}

impl Part {
    /// A part by name and size.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }
}

/// What the energy estimate rests on, per classified sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Energy {
    /// Synaptic operations that were counted: one for each spike and each synapse it reaches.
    #[serde(with = "float")]
    pub synaptic_operations_per_sample: f64,
    /// Multiply-accumulates of one dense pass through the same connections, for comparison.
    pub dense_macs_per_sample: Option<u64>,
    /// Joules of the processor over the measured phase, where the machine has a meter.
    pub measured: Option<Measured>,
}

/// A reading of the processor's energy meter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Joules.
    #[serde(with = "float")]
    pub joules: f64,
    /// Samples that were processed meanwhile.
    pub samples: u64,
    /// Which meter, over which phase: "RAPL package, features and test".
    pub what: String,
}

/// A file of the data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileRecord {
    /// Its name.
    pub name: String,
    /// Its size after decompression.
    pub bytes: u64,
    /// SHA-256 of the decompressed content, in hexadecimal.
    pub sha256: String,
}

impl Page {
    /// Checks that sizes agree with contents, so that drawing cannot go wrong.
    pub(super) fn check(&self) -> Result<()> {
        for Table { caption, head, rows } in &self.tables {
            if let Some(row) = rows.iter().find(|row| row.len() != head.len()) {
                let what = format!("the number of cells in a row of `{caption}`");
                return Err(Error::value(what, row.len(), head.len().to_string()));
            }
        }
        if let Some(confusion) = &self.confusion {
            let k = confusion.classes.len();
            if Some(confusion.counts.len()) != k.checked_mul(k) {
                return Err(Error::value(
                    "the number of counts in the confusion matrix",
                    confusion.counts.len(),
                    format!("{k} × {k}"),
                ));
            }
        }
        if let Some(activity) = &self.activity {
            activity.check()?;
        }
        self.pictures.iter().try_for_each(|picture| picture.image.check("a picture"))?;
        for Example { image, raster, .. } in &self.examples {
            image.iter().try_for_each(|image| image.check("an example"))?;
            if raster.neurons > Raster::MAX_NEURONS {
                return Err(Error::value(
                    "the number of neurons in a raster",
                    raster.neurons,
                    format!("at most {}", Raster::MAX_NEURONS),
                ));
            }
            if let Some(spike) = raster.spikes.iter().find(|s| s.0 >= raster.steps || s.1 >= raster.neurons) {
                return Err(Error::value(
                    "a spike in a raster",
                    format!("({}, {})", spike.0, spike.1),
                    format!("(step, neuron) below ({}, {})", raster.steps, raster.neurons),
                ));
            }
        }
        Ok(())
    }
}

/// JSON has no not-a-number and no infinity, and a diverged run must still have a report: they are written as text.
pub(super) mod float {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(x: &f64, to: S) -> Result<S::Ok, S::Error> {
        if x.is_finite() { to.serialize_f64(*x) } else { to.collect_str(x) }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Text(String),
        }
        match Raw::deserialize(from)? {
            Raw::Number(x) => Ok(x),
            Raw::Text(text) => {
                text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a number")))
            }
        }
    }
}
