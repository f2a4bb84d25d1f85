//! Recordings on their way to the disk: plain files of numbers that grow while a simulation runs, so that its length is
//! no matter of memory, and the `.npz` and CSV that they become at its end.

use super::config::Export;
use crate::engine::Connections;
use crate::engine::clock::record::{milliseconds, npy_header};
use crate::error::{Error, Result};
use crate::files::Whole;
use crate::units::Ms;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file that grows.
#[derive(Debug)]
pub(super) struct Stream {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Stream {
    /// Opens a file and keeps its first `bytes`: what was written after a checkpoint is written again.
    pub fn open(path: PathBuf, bytes: u64) -> Result<Self> {
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        if length < bytes {
            let what = format!("it has {length} bytes, where the checkpoint needs {bytes}");
            return Err(Error::data(path, what));
        }
        file.set_len(bytes).map_err(Error::io("write", &path))?;
        Ok(Self { file: BufWriter::new(file), path, bytes })
    }

    /// Adds numbers.
    pub fn append<T: bytemuck::Pod>(&mut self, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))
    }

    /// Bytes so far, all of them on the disk.
    pub fn flush(&mut self) -> Result<u64> {
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        done.map_err(Error::io("write", &self.path))?;
        Ok(self.bytes)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// All numbers of a file.
pub(super) fn read<T: bytemuck::Pod>(path: &Path) -> Result<Vec<T>> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len() as usize;
    let mut values = vec![T::zeroed(); length / size_of::<T>()];
    file.read_exact(bytemuck::cast_slice_mut(&mut values)).map_err(Error::io("read", path))?;
    Ok(values)
}

/// The last `rows` rows of `width` numbers of a file, or all; and how many stand before them.
pub(super) fn read_last(path: &Path, width: usize, rows: usize) -> Result<(Vec<f64>, usize)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len() as usize;
    let all = length / (8 * width);
    let before = all.saturating_sub(rows);
    let mut values = vec![0.0; (all - before) * width];
    let start = SeekFrom::Start((before * width * 8) as u64);
    file.seek(start)
        .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
        .map_err(Error::io("read", path))?;
    Ok((values, before))
}

/// An array of an archive: its numbers are in a file, or here.
pub(super) enum Numbers<'a> {
    File(&'a Path),
    Here(&'a [u8]),
}

/// One entry of `recordings.npz`.
pub(super) struct Entry<'a> {
    pub name: String,
    /// As NumPy has it: "<u8".
    pub kind: &'static str,
    /// Columns; 0 for a plain list.
    pub width: usize,
    pub numbers: Numbers<'a>,
}

/// Writes an archive of arrays, piece by piece.
pub(super) fn write_npz(path: &Path, entries: &[Entry<'_>]) -> Result<()> {
    let bad = |e: zip::result::ZipError| Error::data(path, e.to_string());
    let io = || Error::io("write", path);
    let mut archive = zip::ZipWriter::new(Whole::create(path)?);
    for entry in entries {
        let (mut small, mut large);
        let (length, content): (u64, &mut dyn Read) = match entry.numbers {
            Numbers::Here(bytes) => {
                small = bytes;
                (bytes.len() as u64, &mut small)
            }
            Numbers::File(source) => {
                let file = File::open(source).map_err(Error::io("read", source))?;
                let length = file.metadata().map_err(Error::io("read", source))?.len();
                large = BufReader::new(file);
                (length, &mut large)
            }
        };
        let each = u64::from(entry.kind.as_bytes()[2] - b'0');
        let shape = match entry.width {
            0 => format!("({},)", length / each),
            width => format!("({}, {width})", length / each / width as u64),
        };
        let options =
            zip::write::SimpleFileOptions::default().large_file(length + 1024 > u64::from(u32::MAX));
        archive.start_file(entry.name.replace(' ', "_") + ".npy", options).map_err(bad)?;
        archive.write_all(&npy_header(entry.kind, &shape)).map_err(io())?;
        std::io::copy(content, &mut archive).map_err(io())?;
    }
    archive.finish().map_err(bad)?.finish()
}

/// Spikes of a population: where they are, and what their times mean.
pub(super) struct Spikes<'a> {
    pub population: &'a str,
    pub times: &'a Path,
    pub neurons: &'a Path,
    /// Times are steps of this length; `None` for milliseconds in `f64`.
    pub steps_of: Option<Ms>,
}

/// Numbers read at once.
const PIECE: usize = 1 << 16;

/// Writes `time_ms,population,neuron`, population after population.
pub(super) fn write_spikes_csv(path: &Path, all: &[Spikes<'_>]) -> Result<()> {
    let mut csv = Whole::create(path)?;
    writeln!(csv, "time_ms,population,neuron").map_err(Error::io("write", path))?;
    for spikes in all {
        let open = |path: &Path| File::open(path).map_err(Error::io("read", path));
        let (mut times, mut neurons) = (open(spikes.times)?, open(spikes.neurons)?);
        let total = neurons.metadata().map_err(Error::io("read", spikes.neurons))?.len() as usize / 4;
        let (mut bits, mut who) = (vec![0u64; PIECE], vec![0u32; PIECE]);
        for start in (0..total).step_by(PIECE) {
            let n = PIECE.min(total - start);
            let (bits, who) = (&mut bits[..n], &mut who[..n]);
            times.read_exact(bytemuck::cast_slice_mut(bits)).map_err(Error::io("read", spikes.times))?;
            neurons.read_exact(bytemuck::cast_slice_mut(who)).map_err(Error::io("read", spikes.neurons))?;
            for (&bits, neuron) in bits.iter().zip(who) {
                let time = match spikes.steps_of {
                    Some(dt) => milliseconds(bits, dt),
                    None => f64::from_bits(bits),
                };
                writeln!(csv, "{time},{},{neuron}", spikes.population).map_err(Error::io("write", path))?;
            }
        }
    }
    csv.finish()
}

/// A recorded variable: what stands in its columns and rows.
pub(super) struct Rows<'a> {
    pub name: &'a str,
    pub values: &'a Path,
    /// Neurons or synapses.
    pub columns: &'a [u32],
    /// Steps between two rows.
    pub every: u64,
}

/// Writes `time_ms,trace,neuron,value`, or `synapse` for `neuron`, trace after trace.
pub(super) fn write_traces_csv(path: &Path, column: &str, all: &[Rows<'_>], dt: Ms) -> Result<()> {
    let mut csv = Whole::create(path)?;
    writeln!(csv, "time_ms,trace,{column},value").map_err(Error::io("write", path))?;
    for rows in all {
        let mut file = BufReader::new(File::open(rows.values).map_err(Error::io("read", rows.values))?);
        let length = file.get_ref().metadata().map_err(Error::io("read", rows.values))?.len();
        let mut values = vec![0.0f64; rows.columns.len()];
        for row in 0..length / size_of_val(&values[..]).max(1) as u64 {
            let bytes = bytemuck::cast_slice_mut(&mut values);
            file.read_exact(bytes).map_err(Error::io("read", rows.values))?;
            let time = milliseconds(row * rows.every, dt);
            for (column, value) in rows.columns.iter().zip(&values) {
                writeln!(csv, "{time},{},{column},{value}", rows.name).map_err(Error::io("write", path))?;
            }
        }
    }
    csv.finish()
}

/// Writes `projection,source,target,weight`, projection after projection.
pub(super) fn write_synapses_csv(path: &Path, all: &[(&str, Connections)]) -> Result<()> {
    let mut csv = Whole::create(path)?;
    writeln!(csv, "projection,source,target,weight").map_err(Error::io("write", path))?;
    for (name, Connections { sources, targets, weights }) in all {
        for ((source, target), weight) in sources.iter().zip(targets).zip(weights) {
            writeln!(csv, "{name},{source},{target},{weight}").map_err(Error::io("write", path))?;
        }
    }
    csv.finish()
}

/// Writes `time_ms` and a column of rates for each population.
pub(super) fn write_rates_csv(path: &Path, all: &[(&str, &[f64])], bin_ms: f64) -> Result<()> {
    let mut csv = Whole::create(path)?;
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    writeln!(csv, "time_ms,{}", names.join(",")).map_err(Error::io("write", path))?;
    for bin in 0..all.first().map_or(0, |(_, rates)| rates.len()) {
        let rates: Vec<String> = all.iter().map(|(_, rates)| rates[bin].to_string()).collect();
        writeln!(csv, "{},{}", milliseconds(bin as u64, Ms(bin_ms)), rates.join(","))
            .map_err(Error::io("write", path))?;
    }
    csv.finish()
}

impl Export {
    /// Whether it is asked for.
    pub(super) fn among(self, all: &[Self]) -> bool {
        all.contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(path: &Path, bytes: u64, values: &[u64]) -> Result<()> {
        let mut stream = Stream::open(path.into(), bytes)?;
        stream.append(values)?;
        stream.flush().map(|_| ())
    }

    #[test]
    fn what_follows_a_checkpoint_is_written_again() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spikes");
        stream(&path, 0, &[1, 2, 3])?;
        stream(&path, 16, &[4])?;
        assert_eq!(read::<u64>(&path)?, [1, 2, 4]);
        let error = stream(&path, 32, &[]).expect_err("it is shorter").to_string();
        assert!(error.contains("24 bytes") && error.contains("32"), "{error}");
        Ok(())
    }

    #[test]
    fn the_end_of_a_file_is_found() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace");
        Stream::open(path.clone(), 0)?.append(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
        assert_eq!(read_last(&path, 2, 1)?, (vec![5.0, 6.0], 2));
        assert_eq!(read_last(&path, 2, 9)?, (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0));
        Ok(())
    }

    #[test]
    fn steps_and_exact_times_become_the_same_csv_and_archive() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        stream(&at("steps"), 0, &[3, 70])?;
        stream(&at("times"), 0, &[0.3f64.to_bits(), 7.0f64.to_bits()])?;
        Stream::open(at("neurons"), 0)?.append(&[4u32, 1])?;
        let spikes = |times: &str, steps_of| -> Result<String> {
            let (times, neurons) = (at(times), at("neurons"));
            let all = [Spikes { population: "exc", times: &times, neurons: &neurons, steps_of }];
            write_spikes_csv(&at("spikes.csv"), &all)?;
            crate::files::read_text(&at("spikes.csv"))
        };
        let expected = "time_ms,population,neuron\n0.3,exc,4\n7,exc,1\n";
        assert_eq!(spikes("steps", Some(Ms(0.1)))?, expected);
        assert_eq!(spikes("times", None)?, expected);

        let (steps, rates) = (at("steps"), [0.5f64, 1.5]);
        let numbers = Numbers::Here(bytemuck::cast_slice(&rates));
        let entries = [
            Entry { name: "exc.steps".into(), kind: "<u8", width: 0, numbers: Numbers::File(&steps) },
            Entry { name: "a b".into(), kind: "<f8", width: 2, numbers },
        ];
        write_npz(&at("all.npz"), &entries)?;
        let mut archive =
            zip::ZipArchive::new(File::open(at("all.npz")).expect("written")).expect("an archive");
        for (name, shape, last) in [
            ("exc.steps.npy", "'descr': '<u8', 'fortran_order': False, 'shape': (2,)", 70u64.to_le_bytes()),
            ("a_b.npy", "'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)", 1.5f64.to_le_bytes()),
        ] {
            let mut npy = vec![];
            archive.by_name(name).expect(name).read_to_end(&mut npy).expect("reads");
            assert!(String::from_utf8_lossy(&npy).contains(shape) && npy.ends_with(&last), "{name}");
            assert_eq!(npy.len(), 128 + 16);
        }
        Ok(())
    }
}
