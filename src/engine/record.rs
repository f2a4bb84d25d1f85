//! What a run leaves behind: features per sample, and how much happened.

use crate::{
    error::{Error, Result},
    snn::{Network, Pop},
};
use std::ops::{AddAssign, Range};

/// What to record of one population.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// The population.
    pub population: Pop,
    /// The quantity.
    pub what: What,
}

/// A quantity to record per sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// Spikes per neuron: `[neurons]`.
    Counts,
    /// Spikes per neuron in each of `n` equal stretches of time: `[n, neurons]`.
    Bins(usize),
    /// Spikes summed over parts of the image: `[channels, rows of cells, columns of cells]`.
    Pool(Pool),
    /// First state variable (the membrane potential) after the last step: `[neurons]`.
    Membrane,
    /// Low-pass filtered spikes after the last step, `trace ← decay · trace + spikes`: `[neurons]`.
    Trace {
        /// Factor per step.
        decay: f32,
    },
}

/// The cells of [`What::Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// `cells × cells` cells that cover the image: cell `i` is rows `⌊i h / cells⌋ .. ⌈(i + 1) h / cells⌉`, as in
    /// PyTorch's adaptive pooling.
    Grid {
        /// Cells along each side.
        cells: usize,
    },
    /// `cells × cells` windows around the centres of the cells of a grid, `percent` of a cell wide: neighbours
    /// overlap above 100. Parts outside the image count as silent.
    Overlapping {
        /// Windows along each side.
        cells: usize,
        /// Width of a window in per cent of `size / cells`.
        percent: usize,
    },
    /// Windows of `side` every `stride` rows and columns. The first one starts at `offset` (row, column); parts
    /// outside the image count as silent. Windows are added while they start inside.
    Windows {
        /// Side of a window.
        side: usize,
        /// Step from one window to the next.
        stride: usize,
        /// Start of the first window; may be negative.
        offset: (isize, isize),
    },
}

impl Pool {
    /// The cells along one axis (0 rows, 1 columns) of `size` positions.
    pub(crate) fn ranges(&self, axis: usize, size: usize) -> Vec<Range<usize>> {
        match *self {
            Self::Grid { cells } => {
                (0..cells).map(|i| i * size / cells..((i + 1) * size).div_ceil(cells)).collect()
            }
            Self::Overlapping { cells, percent } => {
                // Positions whose centre `y + ½` lies within half a width of the window's, in units of
                // size / (200 · cells), so that no rounding decides.
                let clip = |edge: isize| -> usize {
                    let unit = 200 * cells.max(1) as isize;
                    let least = (edge * size as isize - unit / 2).div_euclid(unit);
                    let exact = least * unit == edge * size as isize - unit / 2;
                    (least + isize::from(!exact)).clamp(0, size as isize) as usize
                };
                let centre = |i: usize| 200 * i as isize + 100;
                (0..cells)
                    .map(|i| clip(centre(i) - percent as isize)..clip(centre(i) + percent as isize))
                    .collect()
            }
            Self::Windows { side, stride, offset } => {
                let first = if axis == 0 { offset.0 } else { offset.1 };
                let clip = |at: isize| at.clamp(0, size as isize) as usize;
                (0..)
                    .map(|i| first + i * stride.max(1) as isize)
                    .take_while(|&start| start < size as isize)
                    .map(|start| clip(start)..clip(start + side as isize))
                    .collect()
            }
        }
    }
}

/// What happened in a run. Values of several runs add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Spikes of each population, in the order of the network.
    pub spikes: Vec<u64>,
    /// Spikes times the targets that each one reached.
    pub synaptic_operations: u64,
    /// Multiply-accumulates for inputs that act as constant currents; done once per sample, whatever the number of
    /// steps.
    pub analogue_operations: u64,
    /// Samples.
    pub samples: u64,
}

impl AddAssign<&Activity> for Activity {
    fn add_assign(&mut self, other: &Self) {
        self.spikes.resize(self.spikes.len().max(other.spikes.len()), 0);
        self.spikes.iter_mut().zip(&other.spikes).for_each(|(a, b)| *a += b);
        self.synaptic_operations += other.synaptic_operations;
        self.analogue_operations += other.analogue_operations;
        self.samples += other.samples;
    }
}

/// A recorded table, `[samples, width]`. Counts take the smallest type that holds their largest value.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// Counts up to 255.
    U8(Vec<u8>),
    /// Counts up to 65535.
    U16(Vec<u16>),
    /// Membranes and traces.
    F32(Vec<f32>),
}

/// The tables of a run, one per probe; reuse it to keep the memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// In the order of the probes.
    pub tables: Vec<Table>,
    /// Width of each table.
    pub widths: Vec<usize>,
}

/// A [`Probe`] that was checked against the network.
#[derive(Clone, Debug)]
pub(crate) struct Feature {
    pub population: usize,
    pub what: What,
    pub width: usize,
    /// `[channels, height, width]` for pooling.
    pub image: [usize; 3],
    pub rows: Vec<Range<usize>>,
    pub columns: Vec<Range<usize>>,
    /// Largest count, 0 for f32.
    largest: usize,
}

impl Feature {
    /// Checks a probe; `most` is the largest number of spikes that one neuron emits in one step.
    pub fn new(net: &Network, probe: &Probe, steps: usize, most: usize) -> Result<Self> {
        let Some(population) = net.populations.get(probe.population.0) else {
            return Err(Error::value("population of a probe", probe.population.0, "in the network"));
        };
        if population.model.is_none() {
            return Err(Error::Network(vec![format!(
                "`{}` is an input and cannot be recorded",
                population.name
            )]));
        }
        let neurons = population.size();
        let mut feature = Self {
            population: probe.population.0,
            what: probe.what,
            width: neurons,
            image: [neurons, 1, 1],
            rows: Vec::new(),
            columns: Vec::new(),
            largest: steps * most,
        };
        match probe.what {
            What::Counts => {}
            What::Bins(n) => {
                if n == 0 || n > steps.max(1) {
                    return Err(Error::value(
                        "number of time bins",
                        n,
                        format!("between 1 and {}", steps.max(1)),
                    ));
                }
                feature.width = n * neurons;
                feature.largest = steps.div_ceil(n) * most;
            }
            What::Pool(pool) => {
                let &[channels, height, width] = population.shape.as_slice() else {
                    let what = format!("`{}` has no height and width to pool over", population.name);
                    return Err(Error::Network(vec![what]));
                };
                feature.image = [channels, height, width];
                feature.rows = pool.ranges(0, height);
                feature.columns = pool.ranges(1, width);
                let side = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).max().unwrap_or(0);
                feature.width = channels * feature.rows.len() * feature.columns.len();
                feature.largest = steps * most * side(&feature.rows) * side(&feature.columns);
                if feature.width == 0 || feature.largest == 0 && steps > 0 {
                    return Err(Error::value("pooling", format!("{pool:?}"), "windows that hold a neuron"));
                }
            }
            What::Membrane | What::Trace { .. } => feature.largest = 0,
        }
        if feature.largest > u16::MAX as usize {
            let expected = format!("at most {}", u16::MAX);
            return Err(Error::value("largest possible spike count of a feature", feature.largest, expected));
        }
        Ok(feature)
    }

    /// Bytes of one feature.
    pub fn bytes(&self) -> usize {
        match (self.what, self.largest) {
            (What::Membrane | What::Trace { .. }, _) => 4,
            (_, 0..=255) => 1,
            _ => 2,
        }
    }

    /// Makes `table` fit `samples` rows.
    pub fn prepare(&self, table: Option<Table>, samples: usize) -> Table {
        fn sized<T: Clone + Default>(mut values: Vec<T>, len: usize) -> Vec<T> {
            values.resize(len, T::default());
            values
        }
        let len = samples * self.width;
        match (self.bytes(), table) {
            (4, Some(Table::F32(values))) => Table::F32(sized(values, len)),
            (1, Some(Table::U8(values))) => Table::U8(sized(values, len)),
            (2, Some(Table::U16(values))) => Table::U16(sized(values, len)),
            (4, _) => Table::F32(vec![0.0; len]),
            (1, _) => Table::U8(vec![0; len]),
            _ => Table::U16(vec![0; len]),
        }
    }

    /// Cells of a pool, row by row.
    pub fn cells(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.rows.iter().flat_map(|row| self.columns.iter().map(move |column| (row.clone(), column.clone())))
    }
}

/// The rows of a [`Table`] that belong to one chunk of samples.
pub(crate) enum Slice<'a> {
    U8(&'a mut [u8]),
    U16(&'a mut [u16]),
    F32(&'a mut [f32]),
}

impl Table {
    /// Rows in chunks of `samples`.
    pub(crate) fn chunks(&mut self, samples: usize, width: usize) -> Vec<Slice<'_>> {
        let n = (samples * width).max(1);
        match self {
            Self::U8(values) => values.chunks_mut(n).map(Slice::U8).collect(),
            Self::U16(values) => values.chunks_mut(n).map(Slice::U16).collect(),
            Self::F32(values) => values.chunks_mut(n).map(Slice::F32).collect(),
        }
    }
}

impl Slice<'_> {
    /// Writes counts from position `at` on, `step` apart. They fit: the type was chosen for the largest one.
    pub fn counts(&mut self, at: usize, step: usize, counts: impl Iterator<Item = u32>) {
        match self {
            Self::U8(out) => {
                out[at..].iter_mut().step_by(step).zip(counts).for_each(|(out, n)| *out = n as u8)
            }
            Self::U16(out) => {
                out[at..].iter_mut().step_by(step).zip(counts).for_each(|(out, n)| *out = n as u16)
            }
            Self::F32(out) => {
                out[at..].iter_mut().step_by(step).zip(counts).for_each(|(out, n)| *out = n as f32)
            }
        }
    }

    /// Writes numbers from position `at` on.
    pub fn floats(&mut self, at: usize, values: &[f32]) {
        if let Self::F32(out) = self {
            out[at..at + values.len()].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cover_the_image() {
        let grid = Pool::Grid { cells: 7 }.ranges(0, 22);
        assert_eq!((grid.len(), grid[0].clone(), grid[6].clone()), (7, 0..4, 18..22));
        let windows = Pool::Windows { side: 4, stride: 4, offset: (-2, 1) };
        let overlapping = Pool::Overlapping { cells: 4, percent: 130 };
        assert_eq!(overlapping.ranges(0, 24), [0..7, 5..13, 11..19, 17..24]);
        assert_eq!(Pool::Overlapping { cells: 4, percent: 100 }.ranges(0, 24), [0..6, 6..12, 12..18, 18..24]);
        assert_eq!(windows.ranges(0, 9), [0..2, 2..6, 6..9]);
        assert_eq!(windows.ranges(1, 9), [1..5, 5..9]);
    }

    #[test]
    fn activities_add() {
        let one = Activity { spikes: vec![1, 2], synaptic_operations: 3, analogue_operations: 4, samples: 5 };
        let mut sum = Activity::default();
        sum += &one;
        sum += &one;
        assert_eq!((sum.spikes, sum.samples), (vec![2, 4], 10));
    }
}
