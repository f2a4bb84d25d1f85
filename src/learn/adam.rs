//! Softmax readout trained by Adam on the cross-entropy, as in the RanSNN paper's own code: mini-batches in a shuffled
//! order, PyTorch's initialisation of `Linear`, PyTorch's Adam (Kingma & Ba 2015) with β 0.9 and 0.999, ε 1e-8.
//!
//! The features are fixed, so the loop touches nothing but them and the readout.

use crate::error::{Error, Result};
use crate::learn::ridge::Features;
use crate::parallel;
use crate::rng::Stream;
use rand::RngExt;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::Path;

/// Features of all training samples, `[samples, width]`.
#[derive(Debug)]
pub enum Rows {
    /// Counts.
    U8(Vec<u8>),
    /// Numbers.
    F32(Vec<f32>),
}

/// How long and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Learning rate.
    pub lr: f64,
    /// Samples in a mini-batch; a last incomplete one of a pass is left out.
    pub batch: usize,
    /// Passes over the samples.
    pub epochs: usize,
    /// Stop after so many mini-batches; 0 for whole passes.
    pub batches: usize,
}

/// A linear readout with softmax outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// `[classes, width]`, then the biases `[classes]`.
    parameters: Vec<f32>,
    classes: usize,
}

/// What one mini-batch did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Counted from 1.
    pub iteration: usize,
    /// Mean cross-entropy before the update.
    pub loss: f64,
    /// Share of the mini-batch that was right before the update.
    pub accuracy: f64,
}

/// The loop, one mini-batch at a time; it can be saved and restored between any two.
#[derive(Debug)]
pub struct Trainer<'a> {
    rows: &'a Rows,
    labels: &'a [u16],
    options: Options,
    stream: Stream,
    readout: Softmax,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
    iteration: usize,
    order: Vec<u32>,
    curve: Vec<(usize, f64, f64)>,
    batch: Vec<f32>,
    gradient: Vec<f32>,
}

const BETA: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

impl<'a> Trainer<'a> {
    /// A readout with random weights in ±1/√width.
    ///
    /// # Errors
    /// Fewer samples than one mini-batch.
    pub fn new(
        rows: &'a Rows,
        labels: &'a [u16],
        classes: usize,
        options: Options,
        stream: Stream,
    ) -> Result<Self> {
        let values = match rows {
            Rows::U8(rows) => rows.len(),
            Rows::F32(rows) => rows.len(),
        };
        if labels.len() < options.batch || options.batch == 0 {
            return Err(Error::value(
                "mini-batch",
                options.batch,
                format!("1 to the {} training samples", labels.len()),
            ));
        }
        let width = values / labels.len();
        let bound = 1.0 / (width as f64).sqrt();
        let mut walk = stream.walk(0);
        let size = classes * (width + 1);
        let parameters = (0..size).map(|_| (bound * (2.0 * walk.random::<f64>() - 1.0)) as f32).collect();
        Ok(Self {
            rows,
            labels,
            options,
            stream,
            readout: Softmax { parameters, classes },
            first_moment: vec![0.0; size],
            second_moment: vec![0.0; size],
            iteration: 0,
            order: vec![],
            curve: vec![],
            batch: vec![0.0; options.batch * width],
            gradient: vec![0.0; size],
        })
    }

    /// Number of mini-batches in all.
    pub fn total(&self) -> usize {
        let passes = self.options.epochs * self.per_epoch();
        if self.options.batches == 0 { passes } else { self.options.batches }
    }

    /// Number of mini-batches that are done.
    pub fn iteration(&self) -> usize {
        self.iteration
    }

    /// Mini-batches in a pass over the training set.
    pub fn per_epoch(&self) -> usize {
        self.labels.len() / self.options.batch
    }

    /// The next mini-batch; `None` when all are done.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss is not a number.
    pub fn step(&mut self) -> Result<Option<Step>> {
        if self.iteration == self.total() {
            return Ok(None);
        }
        let place = self.iteration % self.per_epoch();
        if place == 0 || self.order.is_empty() {
            self.shuffle((self.iteration / self.per_epoch()) as u64);
        }
        let (width, classes, batch) = (self.readout.width(), self.readout.classes, self.options.batch);
        let picked = &self.order[place * batch..(place + 1) * batch];
        for (row, &sample) in self.batch.chunks_mut(width).zip(picked) {
            let range = sample as usize * width..(sample as usize + 1) * width;
            match self.rows {
                Rows::U8(all) => row.iter_mut().zip(&all[range]).for_each(|(x, &code)| *x = code.into()),
                Rows::F32(all) => row.copy_from_slice(&all[range]),
            }
        }
        let mut logits = self.readout.logits(&self.batch);
        let (mut loss, mut right) = (0.0, 0);
        for (row, &sample) in logits.chunks_mut(classes).zip(picked) {
            let label = usize::from(self.labels[sample as usize]);
            right += usize::from(largest(row) == label);
            loss += softmax_error(row, label);
        }
        loss /= batch as f64;
        self.iteration += 1;
        if !loss.is_finite() {
            let text = format!(
                "the loss is {loss} at mini-batch {}; a smaller learning rate than {} may help",
                self.iteration, self.options.lr
            );
            return Err(Error::Diverged(text));
        }
        self.collect_gradient(&logits);
        self.update();
        let accuracy = right as f64 / batch as f64;
        self.curve.push((self.iteration, loss, accuracy));
        Ok(Some(Step { iteration: self.iteration, loss, accuracy }))
    }

    fn shuffle(&mut self, epoch: u64) {
        self.order = (0..self.labels.len() as u32).collect();
        let mut walk = self.stream.walk(1 + epoch);
        for last in (1..self.order.len()).rev() {
            self.order.swap(last, walk.random_range(0..=last));
        }
    }

    /// Mean over the mini-batch of (softmax − one-hot) ⊗ features.
    fn collect_gradient(&mut self, errors: &[f32]) {
        let (width, classes) = (self.readout.width(), self.readout.classes);
        let scale = 1.0 / self.options.batch as f32;
        self.gradient.fill(0.0);
        let (weights, biases) = self.gradient.split_at_mut(classes * width);
        for (row, errors) in self.batch.chunks(width).zip(errors.chunks(classes)) {
            for ((gradient, bias), &error) in weights.chunks_mut(width).zip(&mut *biases).zip(errors) {
                let error = error * scale;
                gradient.iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
                *bias += error;
            }
        }
    }

    fn update(&mut self) {
        let t = self.iteration as i32;
        let step = (self.options.lr / (1.0 - BETA.0.powi(t))) as f32;
        let root = (1.0 - BETA.1.powi(t)).sqrt() as f32;
        let (b1, b2, epsilon) = (BETA.0 as f32, BETA.1 as f32, EPSILON as f32);
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((w, g), (m, v)) in self.readout.parameters.iter_mut().zip(&self.gradient).zip(moments) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *w -= step * *m / (v.sqrt() / root + epsilon);
        }
    }

    /// (iteration, loss, accuracy) of the mini-batches since the start.
    pub fn curve(&self) -> &[(usize, f64, f64)] {
        &self.curve
    }

    /// The trained readout.
    pub fn finish(self) -> Softmax {
        self.readout
    }

    /// Writes the state.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn save(&self, path: &Path) -> Result<()> {
        let curve: Vec<f64> =
            self.curve.iter().flat_map(|&(i, loss, accuracy)| [i as f64, loss, accuracy]).collect();
        let iteration = [self.iteration as u64];
        let tensors: [(&str, Dtype, usize, &[u8]); 5] = [
            (
                "parameters",
                Dtype::F32,
                self.readout.parameters.len(),
                bytemuck::cast_slice(&self.readout.parameters),
            ),
            ("first_moment", Dtype::F32, self.first_moment.len(), bytemuck::cast_slice(&self.first_moment)),
            (
                "second_moment",
                Dtype::F32,
                self.second_moment.len(),
                bytemuck::cast_slice(&self.second_moment),
            ),
            ("curve", Dtype::F64, curve.len(), bytemuck::cast_slice(&curve)),
            ("iteration", Dtype::U64, 1, bytemuck::cast_slice(&iteration)),
        ];
        let views: Result<Vec<_>> = tensors
            .iter()
            .map(|&(name, dtype, len, bytes)| {
                TensorView::new(dtype, vec![len], bytes)
                    .map(|view| (name, view))
                    .map_err(|e| Error::Internal(e.to_string()))
            })
            .collect();
        let sum = crate::files::sha256(tensors.iter().map(|&(_, _, _, bytes)| bytes));
        #[expect(
            clippy::disallowed_types,
            reason = "safetensors takes no other map, and one entry has one order"
        )]
        let metadata = Some(std::collections::HashMap::from([("sha256".to_string(), sum)]));
        let bytes = safetensors::serialize(views?, metadata).map_err(|e| Error::Internal(e.to_string()))?;
        crate::files::write_atomic(path, &bytes)
    }

    /// Continues from a saved state.
    ///
    /// # Errors
    /// Damaged, or of another readout.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let damaged = |what: &str| {
            let help = "remove it to train from the beginning";
            Error::data(path, format!("this checkpoint is damaged ({what}); {help}"))
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let read = |name: &str, width: usize| {
            let tensor = file.tensor(name).map_err(|e| damaged(&e.to_string()))?;
            let whole = tensor.data().len().is_multiple_of(width);
            if whole { Ok(tensor.data().to_vec()) } else { Err(damaged(&format!("`{name}` is cut off"))) }
        };
        let raw: Result<Vec<_>> = SAVED.iter().map(|name| read(name, 1)).collect();
        let expected = metadata.metadata().as_ref().and_then(|map| map.get("sha256"));
        if expected != Some(&crate::files::sha256(raw?.iter().map(Vec::as_slice))) {
            return Err(damaged("its content does not have the SHA-256 that it states"));
        }
        let floats = |name: &str| -> Result<Vec<f32>> { Ok(bytemuck::pod_collect_to_vec(&read(name, 4)?)) };
        let curve: Vec<f64> = bytemuck::pod_collect_to_vec(&read("curve", 8)?);
        let iteration: Vec<u64> = bytemuck::pod_collect_to_vec(&read("iteration", 8)?);
        let state = [floats("parameters")?, floats("first_moment")?, floats("second_moment")?];
        let size = self.readout.parameters.len();
        if state.iter().any(|values| values.len() != size)
            || iteration.len() != 1
            || !curve.len().is_multiple_of(3)
        {
            return Err(Error::data(
                path,
                format!("it belongs to another readout: this one has {size} parameters"),
            ));
        }
        if iteration[0] > self.total() as u64 {
            let what = format!("it is {} mini-batches far, of {}", iteration[0], self.total());
            return Err(Error::data(path, format!("it belongs to another run: {what}")));
        }
        let [parameters, first, second] = state;
        (self.readout.parameters, self.first_moment, self.second_moment) = (parameters, first, second);
        self.iteration = iteration[0] as usize;
        self.curve = curve.chunks(3).map(|p| (p[0] as usize, p[1], p[2])).collect();
        self.order.clear();
        if !self.iteration.is_multiple_of(self.per_epoch()) {
            self.shuffle((self.iteration / self.per_epoch()) as u64);
        }
        Ok(())
    }
}

/// Names of the saved tensors, in the order in which their sum is taken.
const SAVED: [&str; 5] = ["parameters", "first_moment", "second_moment", "curve", "iteration"];

impl Softmax {
    fn width(&self) -> usize {
        self.parameters.len() / self.classes - 1
    }

    /// Number of weights and biases.
    pub fn size(&self) -> usize {
        self.parameters.len()
    }

    /// Weights `[classes, width]` and biases `[classes]`.
    pub fn tensors(&self) -> (Vec<f32>, Vec<f32>) {
        let (weights, biases) = self.parameters.split_at(self.classes * self.width());
        (weights.to_vec(), biases.to_vec())
    }

    fn logits(&self, rows: &[f32]) -> Vec<f32> {
        let width = self.width();
        let (weights, biases) = self.parameters.split_at(self.classes * width);
        let outputs = rows
            .chunks(width)
            .flat_map(|row| weights.chunks(width).zip(biases).map(move |(w, b)| dot(w, row) + b));
        outputs.collect()
    }

    /// The most likely class of each sample; the first one of equals.
    ///
    /// # Errors
    /// A length that is not a multiple of the width.
    pub fn classify<'f>(&self, features: impl Into<Features<'f>>) -> Result<Vec<u16>> {
        const ROWS: usize = 256;
        let width = self.width();
        let some = |rows: &[f32]| -> Vec<u16> {
            self.logits(rows).chunks(self.classes).map(|row| largest(row) as u16).collect()
        };
        let whole = |len: usize| {
            let (lhs, rhs) = (vec![len], vec![width]);
            let why = "whole rows are needed".into();
            if len.is_multiple_of(width) {
                Ok(())
            } else {
                Err(Error::Shape { op: "softmax readout", lhs, rhs, why })
            }
        };
        // A few rows at a time: features in f32 would take four times their memory.
        let parts = |len: usize, part: &(dyn Fn(std::ops::Range<usize>) -> Vec<u16> + Sync)| -> Vec<u16> {
            let size = ROWS * width;
            let classes = parallel::map(len.div_ceil(size), |i| part(i * size..len.min((i + 1) * size)));
            classes.into_iter().flatten().collect()
        };
        Ok(match features.into() {
            Features::U8(codes) => {
                whole(codes.len())?;
                parts(codes.len(), &|range| {
                    some(&codes[range].iter().map(|&x| x.into()).collect::<Vec<f32>>())
                })
            }
            Features::F32(values) => {
                whole(values.len())?;
                parts(values.len(), &|range| some(&values[range]))
            }
            Features::F64(values) => {
                whole(values.len())?;
                parts(values.len(), &|range| {
                    some(&values[range].iter().map(|&x| x as f32).collect::<Vec<f32>>())
                })
            }
        })
    }
}

/// Sum of products in eight partial sums, in the same order on every machine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Turns logits into softmax − one-hot; returns the cross-entropy.
fn softmax_error(row: &mut [f32], label: usize) -> f64 {
    let top = row.iter().fold(f32::NEG_INFINITY, |top, &z| top.max(z));
    let shifted = row[label] - top;
    row.iter_mut().for_each(|z| *z = (*z - top).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|p| *p /= sum);
    row[label] -= 1.0;
    f64::from(sum.ln() - shifted)
}

fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class k is where feature k is large.
    fn task() -> (Rows, Vec<u16>) {
        let mut walk = Stream::named(1, "task").walk(0);
        let labels: Vec<u16> = (0..300).map(|i| i % 3).collect();
        let rows = labels.iter().flat_map(|&label| {
            (0..3).map(|k| walk.random_range(0..4) + if k == label { 6 } else { 0 }).collect::<Vec<u8>>()
        });
        (Rows::U8(rows.collect()), labels.clone())
    }

    fn options(batches: usize) -> Options {
        Options { lr: 0.02, batch: 30, epochs: 1, batches }
    }

    #[test]
    fn it_learns() -> Result<()> {
        let (rows, labels) = task();
        let mut trainer = Trainer::new(&rows, &labels, 3, options(100), Stream::named(0, "adam"))?;
        let first = trainer.step()?.expect("a step");
        while trainer.step()?.is_some() {}
        let last = trainer.curve().last().copied().expect("a curve");
        assert!(last.1 < 0.3 * first.loss, "{first:?} {last:?}");
        let Rows::U8(codes) = &rows else { unreachable!() };
        assert_eq!(trainer.finish().classify(codes)?, labels);
        Ok(())
    }

    #[test]
    fn the_gradient_is_the_derivative_of_the_loss() -> Result<()> {
        let (rows, labels) = task();
        let mut trainer = Trainer::new(&rows, &labels, 3, options(1), Stream::named(0, "adam"))?;
        let before = trainer.readout.clone();
        trainer.step()?;
        let picked = trainer.order[..30].to_vec();
        let loss = |readout: &Softmax| {
            let mut logits = readout.logits(&trainer.batch);
            let each = logits
                .chunks_mut(3)
                .zip(&picked)
                .map(|(row, &s)| softmax_error(row, labels[s as usize].into()));
            each.sum::<f64>() / 30.0
        };
        for i in 0..12 {
            let (mut up, mut down) = (before.clone(), before.clone());
            up.parameters[i] += 1e-2;
            down.parameters[i] -= 1e-2;
            let numeric = (loss(&up) - loss(&down)) / f64::from(up.parameters[i] - down.parameters[i]);
            let analytic = f64::from(trainer.gradient[i]);
            assert!((numeric - analytic).abs() < 2e-3 * (1.0 + analytic.abs()), "{i}: {numeric} {analytic}");
        }
        Ok(())
    }

    #[test]
    fn a_restored_run_equals_an_uninterrupted_one() -> Result<()> {
        let (rows, labels) = task();
        let new = || Trainer::new(&rows, &labels, 3, options(25), Stream::named(0, "adam"));
        let mut whole = new()?;
        while whole.step()?.is_some() {}
        let mut part = new()?;
        (0..13).try_for_each(|_| part.step().map(|_| ()))?;
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        part.save(file.path())?;
        let mut rest = new()?;
        rest.restore(file.path())?;
        while rest.step()?.is_some() {}
        assert_eq!(rest.curve(), whole.curve());
        assert_eq!(rest.finish(), whole.finish());
        Ok(())
    }

    #[test]
    fn divergence_is_an_error() -> Result<()> {
        let rows = Rows::F32(vec![f32::NAN; 90]);
        let labels = vec![0u16; 30];
        let mut trainer = Trainer::new(&rows, &labels, 3, options(5), Stream::named(0, "adam"))?;
        assert!(matches!(trainer.step(), Err(Error::Diverged(_))));
        Ok(())
    }
}
