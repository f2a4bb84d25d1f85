//! What is kept of a simulation, and how it leaves: spike trains, variables, `.npz` and CSV.

use crate::error::{Error, Result};
use crate::files::{Whole, write_atomic};
use crate::snn::{Network, Pop};
use crate::units::Ms;
use std::fmt::Write as _;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

/// Spikes of a population, ascending by step, then by neuron.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpikeTrain {
    /// Step of each spike.
    pub steps: Vec<u64>,
    /// Neuron of each spike.
    pub neurons: Vec<u32>,
}

/// A state variable of some neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Whose.
    pub population: Pop,
    /// Name of the variable.
    pub variable: String,
    /// Which neurons.
    pub neurons: Vec<u32>,
    /// Steps between two rows.
    pub every: u64,
    /// Step before which the first row was taken.
    pub first: u64,
    /// `[rows, neurons]`, row-major; each row is the state before its step.
    pub values: Vec<f64>,
}

impl Trace {
    /// The rows so far, taken out; the next ones follow on them.
    pub(crate) fn take(&mut self) -> Self {
        let rows = self.values.len() / self.neurons.len().max(1);
        let taken = Self { values: std::mem::take(&mut self.values), ..self.clone() };
        self.first += rows as u64 * self.every;
        taken
    }
}

impl SpikeTrain {
    /// Number of spikes.
    pub fn len(&self) -> usize {
        self.neurons.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.neurons.is_empty()
    }

    /// Pairs (step, neuron).
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.steps.iter().copied().zip(self.neurons.iter().copied())
    }

    /// Spikes of the whole population in consecutive bins of so many steps, from step 0 up to `steps`.
    pub fn per_bin(&self, bin: u64, steps: u64) -> Vec<u32> {
        let mut counts = vec![0; steps.div_ceil(bin.max(1)) as usize];
        for &step in self.steps.iter().filter(|&&step| step < steps) {
            counts[(step / bin.max(1)) as usize] += 1;
        }
        counts
    }
}

/// Writes spikes of populations as CSV: `time_ms,population,neuron`, the time being that of the beginning of the step.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv(path: &Path, net: &Network, trains: &[(Pop, &SpikeTrain)]) -> Result<()> {
    let mut text = String::from("time_ms,population,neuron\n");
    for (pop, train) in trains {
        push_csv(&mut text, net, *pop, train);
    }
    write_atomic(path, text.as_bytes())
}

fn push_csv(text: &mut String, net: &Network, pop: Pop, train: &SpikeTrain) {
    let name = net.populations.get(pop.0).map_or("?", |p| &p.name);
    for (step, neuron) in train.iter() {
        let time = milliseconds(step, net.dt);
        let _ = writeln!(text, "{time},{name},{neuron}"); // a String takes everything
    }
}

/// Time of a step in milliseconds, rounded to nanoseconds: 3 · 0.1 is 0.3 and not 0.30000000000000004.
pub(crate) fn milliseconds(step: u64, dt: Ms) -> f64 {
    (step as f64 * dt.0 * 1e6).round() / 1e6
}

/// Writes spikes and traces as a NumPy archive: `NAME.steps`, `NAME.neurons` for each population, and `NAME.VARIABLE`,
/// `[rows, neurons]`, for each trace; blanks become `_`.
///
/// # Errors
/// The file cannot be written.
pub fn write_npz(path: &Path, net: &Network, trains: &[(Pop, &SpikeTrain)], traces: &[Trace]) -> Result<()> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let bad = |e: zip::result::ZipError| Error::data(path, e.to_string());
    let mut put = |name: String, kind: &str, shape: &str, bytes: &[u8]| -> Result<()> {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(name.replace(' ', "_") + ".npy", options).map_err(bad)?;
        archive.write_all(&npy(kind, shape, bytes)).map_err(Error::io("write", path))
    };
    let name = |pop: Pop| net.populations.get(pop.0).map_or("?", |p| &p.name);
    for (pop, train) in trains {
        let shape = format!("({},)", train.len());
        put(format!("{}.steps", name(*pop)), "<u8", &shape, bytemuck::cast_slice(&train.steps))?;
        put(format!("{}.neurons", name(*pop)), "<u4", &shape, bytemuck::cast_slice(&train.neurons))?;
    }
    for (i, trace) in traces.iter().enumerate() {
        let width = trace.neurons.len().max(1);
        let shape = format!("({}, {width})", trace.values.len() / width);
        let base = format!("{}.{}", name(trace.population), trace.variable);
        let again =
            traces[..i].iter().filter(|t| t.population == trace.population && t.variable == trace.variable);
        let base = match again.count() {
            0 => base,
            n => format!("{base}.{}", n + 1),
        };
        put(
            format!("{base}.neurons"),
            "<u4",
            &format!("({},)", trace.neurons.len()),
            bytemuck::cast_slice(&trace.neurons),
        )?;
        put(base, "<f8", &shape, bytemuck::cast_slice(&trace.values))?;
    }
    let bytes = archive.finish().map_err(bad)?.into_inner();
    write_atomic(path, &bytes)
}

/// A NumPy file.
fn npy(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = npy_header(kind, shape);
    file.extend_from_slice(bytes);
    file
}

/// What stands before the numbers of a NumPy file, version 1.0 of the format.
pub(crate) fn npy_header(kind: &str, shape: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    let unpadded = 10 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&(header.len() as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file
}

/// Spikes of a long run on their way to a CSV file; the file takes its name when it is whole.
#[derive(Debug)]
pub struct SpikeFile {
    path: PathBuf,
    file: Whole,
}

impl SpikeFile {
    /// Begins a file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = Whole::create(path)?;
        file.write_all(b"time_ms,population,neuron\n").map_err(Error::io("write", path))?;
        Ok(Self { path: path.into(), file })
    }

    /// Adds spikes, for example those of [`Simulator::take_spikes`](super::Simulator::take_spikes) after each second.
    ///
    /// # Errors
    /// The disk is full.
    pub fn append(&mut self, net: &Network, pop: Pop, train: &SpikeTrain) -> Result<()> {
        let mut text = String::new();
        push_csv(&mut text, net, pop, train);
        self.file.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(self) -> Result<()> {
        self.file.finish()
    }
}

/// Time of a step.
pub fn time_of(step: u64, dt: Ms) -> Ms {
    Ms(step as f64 * dt.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train() -> SpikeTrain {
        SpikeTrain { steps: vec![3, 3, 70], neurons: vec![0, 4, 1] }
    }

    fn network() -> Network {
        let mut net = Network::simulation(Ms(0.1));
        net.population("exc", 5, crate::snn::neurons::Iaf::delta(Ms(20.0), Ms(0.1)));
        net.build(1).expect("fits")
    }

    #[test]
    fn csv_says_when_and_who() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, streamed) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
        let (net, train) = (network(), train());
        write_csv(&path, &net, &[(Pop(0), &train)])?;
        let text = crate::files::read_text(&path)?;
        assert_eq!(text, "time_ms,population,neuron\n0.3,exc,0\n0.3,exc,4\n7,exc,1\n");
        let mut file = SpikeFile::create(&streamed)?;
        file.append(&net, Pop(0), &train)?;
        assert!(!streamed.exists());
        file.finish()?;
        assert_eq!(text, crate::files::read_text(&streamed)?);
        Ok(())
    }

    #[test]
    fn npz_holds_what_numpy_reads() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.npz");
        let trace = Trace {
            population: Pop(0),
            variable: "membrane potential".into(),
            neurons: vec![1, 2],
            every: 1,
            first: 0,
            values: vec![0.5; 6],
        };
        write_npz(&path, &network(), &[(Pop(0), &train())], &[trace])?;
        let bytes = std::fs::read(&path).expect("written");
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
        let mut entry = archive.by_name("exc.membrane_potential.npy").expect("is there");
        let mut npy = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut npy).expect("reads");
        assert!(npy.starts_with(b"\x93NUMPY\x01\x00") && npy.len() == 128 + 48);
        assert!(String::from_utf8_lossy(&npy).contains("'shape': (3, 2)"));
        Ok(())
    }

    #[test]
    fn bins_cover_the_time() {
        assert_eq!(train().per_bin(30, 71), [2, 0, 1]);
        assert_eq!(train().per_bin(30, 70), [2, 0, 0]);
    }
}
