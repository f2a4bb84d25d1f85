//! Recordings of event cameras: what changed brightness, where and when.
//!
//! | file | read as |
//! |---|---|
//! | `.bin`, `.bs2` | N-MNIST, N-Caltech101: 5 bytes an event (Orchard et al. 2015) |
//! | `.raw` with `evt 2.0` in its header | Prophesee EVT2: 32-bit words |
//! | `.raw` with `evt 3.0` in its header | Prophesee EVT3: 16-bit words |
//! | `.dat` | Prophesee and ATIS DAT: 8 bytes an event after a header |
//!
//! A recording becomes counts per step ([`Recording::frames`], `[steps, 2, height, width]`, falls before rises) or spike
//! lists per step ([`Recording::spikes`]), which `engine::Events::new` takes as they are. [`open`] makes a data set of a
//! folder of them.
//!
//! ```
//! use ransnn::data::events;
//! // x 3, y 2, a rise after 300 µs; x 1, y 0, a fall after 900 µs
//! let bytes = [3, 2, 0x80, 0x01, 0x2c, 1, 0, 0, 0x03, 0x84];
//! let recording = events::nmnist(&bytes, [4, 4]).unwrap();
//! assert_eq!(recording.spikes(2, 500), [vec![16 + 2 * 4 + 3], vec![1]]);
//! # Ok::<(), ransnn::Error>(())
//! ```

mod archive;
mod folder;
mod prophesee;

use std::path::Path;

pub use archive::{EventDataset, EventSplit, nmnist_small};
pub use folder::{Frames, open};
pub use prophesee::{dat, evt2, evt3};

use crate::error::{Error, Result};

/// A change of brightness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the beginning of the recording's clock.
    pub time_us: u64,
    /// Column.
    pub x: u16,
    /// Row.
    pub y: u16,
    /// Whether it became brighter.
    pub rise: bool,
}

/// Events in the order of the file, in which times never fall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Rows of the sensor.
    pub height: usize,
    /// Columns of the sensor.
    pub width: usize,
    /// What happened.
    pub events: Vec<Event>,
}

/// What is wrong with the content of a file: said once, with the place.
type Wrong = String;

/// Reads a recording; how is decided by the name and, for `.raw`, by the header.
///
/// # Errors
/// A file that cannot be read, whose name says nothing, or whose content is corrupt: where, and what was expected.
pub fn read(path: &Path) -> Result<Recording> {
    parse(path, &std::fs::read(path).map_err(Error::io("read", path))?)
}

/// [`read`] of a file whose bytes are here.
fn parse(path: &Path, bytes: &[u8]) -> Result<Recording> {
    let kind = path.extension().map(|kind| kind.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let recording = match kind.as_str() {
        "bin" | "bs2" => nmnist(bytes, [34, 34]),
        "dat" => dat(bytes),
        "raw" => match prophesee::version(bytes) {
            Some(2) => evt2(bytes),
            Some(3) => evt3(bytes),
            _ => Err("the header says neither `evt 2.0` nor `evt 3.0`".into()),
        },
        _ => Err("its name ends neither in .bin, .bs2, .raw nor .dat, so its format is not known".into()),
    };
    recording.map_err(|what| Error::data(path, what))
}

/// Reads the 5-byte format: x, y, then polarity in the highest bit and 23 bits of microseconds. Row 240 marks an overflow
/// of the clock by 2¹³ µs.
///
/// # Errors
/// A length that is no multiple of 5; an event outside of the sensor `[height, width]`; times that fall.
pub fn nmnist(bytes: &[u8], [height, width]: [usize; 2]) -> Result<Recording, Wrong> {
    let (rows, rest) = bytes.as_chunks::<5>();
    if !rest.is_empty() {
        return Err(format!(
            "{} bytes are no whole number of events of 5 bytes: it was cut off",
            bytes.len()
        ));
    }
    let mut collected = Collected::new(Some([height, width]));
    let mut overflow = 0;
    for &[x, y, high, middle, low] in rows {
        let time = u64::from(high & 0x7f) << 16 | u64::from(middle) << 8 | u64::from(low);
        if y == 240 {
            overflow += 1 << 13;
            continue;
        }
        collected.push(Event {
            time_us: time + overflow,
            x: x.into(),
            y: y.into(),
            rise: high & 0x80 != 0,
        })?;
    }
    Ok(collected.finish())
}

/// Events while they are read.
struct Collected {
    size: Option<[usize; 2]>,
    events: Vec<Event>,
}

impl Collected {
    /// With a size that the file states; without, the smallest that holds all events.
    fn new(size: Option<[usize; 2]>) -> Self {
        Self { size, events: Vec::new() }
    }

    fn push(&mut self, event: Event) -> Result<(), Wrong> {
        let n = self.events.len();
        if let Some([height, width]) = self.size
            && (usize::from(event.x) >= width || usize::from(event.y) >= height)
        {
            return Err(format!(
                "event {n} is at x {} and y {} of a sensor of {width} × {height}",
                event.x, event.y
            ));
        }
        if let Some(last) = self.events.last().filter(|last| last.time_us > event.time_us) {
            return Err(format!(
                "event {n} is at {} µs, before the one before it at {} µs",
                event.time_us, last.time_us
            ));
        }
        self.events.push(event);
        Ok(())
    }

    fn finish(self) -> Recording {
        let most =
            |of: fn(&Event) -> u16| self.events.iter().map(of).max().map_or(0, |most| usize::from(most) + 1);
        let [height, width] = self.size.unwrap_or([most(|e| e.y), most(|e| e.x)]);
        Recording { height, width, events: self.events }
    }
}

impl Recording {
    /// Microseconds from the first event to the last.
    pub fn duration_us(&self) -> u64 {
        match (self.events.first(), self.events.last()) {
            (Some(first), Some(last)) => last.time_us - first.time_us,
            _ => 0,
        }
    }

    /// Neurons of an input population: one for falls and one for rises at each place.
    pub fn inputs(&self) -> usize {
        2 * self.height * self.width
    }

    /// Input of an event: falls first, then rises, row by row.
    fn input(&self, event: &Event) -> usize {
        (usize::from(event.rise) * self.height + usize::from(event.y)) * self.width + usize::from(event.x)
    }

    /// Events counted in `steps` steps of `step_us`, from the first event on: `[steps, 2, height, width]`, at most 255 each.
    /// Later events are left out.
    pub fn frames(&self, steps: usize, step_us: u64) -> Vec<u8> {
        let mut frames = vec![0u8; steps * self.inputs()];
        self.each(steps, step_us, |step, event| {
            let count = &mut frames[step * self.inputs() + self.input(event)];
            *count = count.saturating_add(1);
        });
        frames
    }

    /// Inputs that fire in each of `steps` steps of `step_us`, ascending; several events of one input in a step are one
    /// spike.
    pub fn spikes(&self, steps: usize, step_us: u64) -> Vec<Vec<u32>> {
        let mut lists = vec![Vec::new(); steps];
        self.each(steps, step_us, |step, event| lists[step].push(self.input(event) as u32));
        for list in &mut lists {
            list.sort_unstable();
            list.dedup();
        }
        lists
    }

    fn each(&self, steps: usize, step_us: u64, mut f: impl FnMut(usize, &Event)) {
        let first = self.events.first().map_or(0, |event| event.time_us);
        for event in &self.events {
            let step = ((event.time_us - first) / step_us.max(1)) as usize;
            if step >= steps {
                break;
            }
            f(step, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference numbers of the sample files in the folder of data sets; skipped without it.
    #[test]
    fn samples_of_every_format_are_read() {
        let Some(folder) = std::env::var_os("RANSNN_DATA") else {
            return println!("skipped: RANSNN_DATA names no folder of data sets");
        };
        let folder = std::path::PathBuf::from(folder).join("event-samples");
        for (file, events, most) in [
            ("sample_nmnist.bin", 4325, Some([33, 33])),
            ("evt2_sample.raw", 539_481, Some([475, 599])),
            ("evt3_sample.raw", 219_596, None),
            ("sample_ncars.dat", 2009, None),
        ] {
            let recording = read(&folder.join(file)).expect(file);
            assert_eq!(recording.events.len(), events, "{file}");
            let most_of =
                |of: fn(&Event) -> u16| usize::from(recording.events.iter().map(of).max().expect("events"));
            if let Some([y, x]) = most {
                assert!(most_of(|e| e.y) <= y && most_of(|e| e.x) <= x, "{file}");
            }
            let step = recording.duration_us() / 10 + 1;
            let (frames, spikes) = (recording.frames(10, step), recording.spikes(10, step));
            assert!(frames.iter().any(|&n| n > 0) && spikes.iter().all(|list| !list.is_empty()));
            let lit = frames.iter().filter(|&&n| n > 0).count();
            assert_eq!(lit, spikes.iter().map(Vec::len).sum::<usize>(), "{file}");
        }
    }

    #[test]
    fn corrupt_nmnist_is_refused_with_the_place() {
        let wrong = |bytes: &[u8]| nmnist(bytes, [34, 34]).expect_err("refused");
        assert!(wrong(&[1, 2, 3]).contains("cut off"));
        assert!(wrong(&[34, 0, 0, 0, 0]).contains("event 0 is at x 34"));
        assert!(wrong(&[1, 1, 0, 0, 9, 1, 1, 0, 0, 8]).contains("event 1 is at 8 µs"));
        // An overflow of the clock, and what comes after it.
        let recording =
            nmnist(&[1, 1, 0, 0, 9, 0, 240, 0, 0, 0, 1, 1, 0x80, 0, 8], [34, 34]).expect("events");
        assert_eq!(recording.events[1], Event { time_us: 8192 + 8, x: 1, y: 1, rise: true });
        assert_eq!(recording.duration_us(), 8191);
        assert_eq!(nmnist(&[], [34, 34]).expect("nothing").frames(2, 10), vec![0; 2 * 2 * 34 * 34]);
    }
}
