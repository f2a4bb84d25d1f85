//! A user's recordings: a folder for each class, below `Train` and `Test` or without them.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Event, EventSplit, Recording, nmnist_small, parse};
use crate::data::{
    Checked, Dataset, FileRecord, Origin, OriginKind, OwnData, Samples, Split, hex, random_split, shuffled,
    stem,
};
use crate::error::{Error, Result};
use crate::parallel;

/// How recordings become samples of equal size: events counted in each step at each place, at most 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// `[channels, height, width]`; two channels keep falls and rises apart, one adds them up.
    pub shape: [usize; 3],
    /// Steps from the first event on; later events are left out.
    pub steps: usize,
    /// Microseconds of a step.
    pub step_us: u64,
}

/// Recordings that are still to be read, and their classes.
type Listed = Vec<(PathBuf, u16)>;

/// Opens `NMNISTsmall.tar.gz`, or a folder `CLASS/RECORDING` or `Train/CLASS/RECORDING` and `Test/CLASS/RECORDING` (as
/// N-MNIST comes): samples of shape `[steps, channels, height, width]`. Without a folder `Test`, `options.test_fraction` of
/// the recordings are drawn by `options.seed`; those for training are shuffled by the seed in both cases. The sum in the record of
/// a part is that of its recordings' sums, in their order.
///
/// # Errors
/// A folder without recordings, a recording that [`read`](super::read) refuses or that is larger than the frames, too little memory.
pub fn open(path: &Path, frames: &Frames, options: &OwnData) -> Result<Dataset> {
    let [_, height, width] = frames.shape;
    let name = stem(path).trim_end_matches(".tar").to_string();
    let shape = vec![frames.steps, frames.shape[0], height, width];
    if path.is_file() {
        let data = nmnist_small(path)?;
        let split = |part: EventSplit| -> Result<Split> {
            let one = |i: usize, values: &mut [u8]| {
                let place = |what| Error::data(path, format!("recording {}: {what}", i + 1));
                frames.count(&part.recordings[i], values).map_err(place)
            };
            let (samples, _) = frames.all(part.recordings.len(), path, one)?;
            Ok(Split { samples, labels: part.labels })
        };
        let bytes = path.metadata().map_err(Error::io("read", path))?.len();
        let sha256 = super::archive::SHA256.into();
        let origin =
            origin(vec![FileRecord { name: file_name(path), bytes, sha256, checked: Checked::Published }]);
        let (train, test) = (split(data.train)?, split(data.test)?);
        let train = train.reordered(&shuffled(train.len(), options.seed));
        return Ok(Dataset {
            name: data.name,
            shape,
            classes: data.classes,
            class_names: vec![],
            train,
            test,
            origin,
        });
    }
    let inside = list(path, true)?;
    let part = |wanted: &str| inside.iter().find(|part| file_name(part).eq_ignore_ascii_case(wanted));
    let (parts, own_test) = match (part("train"), part("test")) {
        (Some(train), Some(test)) => (vec![train.as_path(), test.as_path()], true),
        _ => (vec![path], false),
    };
    let mut class_names: Vec<String> = list(parts[0], true)?.iter().map(|class| file_name(class)).collect();
    // Numbers in their order: 10 comes after 9.
    class_names.sort_by_key(|name| (name.parse::<u64>().unwrap_or(u64::MAX), name.clone()));
    let (mut splits, mut records) = (vec![], vec![]);
    for part in parts {
        let files = recordings(part, &class_names)?;
        let one = |i: usize, values: &mut [u8]| {
            let path = &files[i].0;
            let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
            frames.count(&parse(path, &bytes)?, values).map_err(|what| Error::data(path, what))?;
            Ok((bytes.len() as u64, Sha256::digest(&bytes)))
        };
        let (samples, contents) = frames.all(files.len(), part, one)?;
        let name = format!("{} ({} recordings)", file_name(part), files.len());
        let mut hash = Sha256::new();
        contents.iter().for_each(|(_, sum)| hash.update(sum));
        let (bytes, sha256) = (contents.iter().map(|(bytes, _)| bytes).sum(), hex(&hash.finalize()));
        records.push(FileRecord { name, bytes, sha256, checked: Checked::Structure });
        splits.push(Split { samples, labels: files.into_iter().map(|(_, class)| class).collect() });
    }
    let (train, test) = match (own_test, splits.pop(), splits.pop()) {
        (true, Some(test), Some(train)) => (train.reordered(&shuffled(train.len(), options.seed)), test),
        (_, Some(all), _) => random_split(&all, options.test_fraction, options.seed)?,
        _ => return Err(Error::Internal("a folder of recordings has a part".into())),
    };
    Ok(Dataset { name, shape, classes: class_names.len(), class_names, train, test, origin: origin(records) })
}

impl Frames {
    /// Samples of `count` recordings, made on all threads, and what else is known of each.
    fn all<R: Send>(
        &self,
        count: usize,
        of: &Path,
        one: impl Fn(usize, &mut [u8]) -> Result<R> + Sync,
    ) -> Result<(Samples, Vec<R>)> {
        let size = self.steps * self.shape.iter().product::<usize>();
        let mut values = Vec::new();
        let needed = count.saturating_mul(size);
        values.try_reserve_exact(needed).map_err(|_| {
            let what = format!("{count} recordings of {size} numbers in {}", of.display());
            Error::value(what, format!("{needed} bytes"), "fewer or shorter ones, that fit in memory")
        })?;
        values.resize(needed, 0u8);
        let mut known: Vec<Option<Result<R>>> = (0..count).map(|_| None).collect();
        let pieces = values.chunks_mut(size).zip(&mut known).collect();
        parallel::owned(pieces, |i, (values, known): (&mut [u8], &mut _)| *known = Some(one(i, values)));
        // In order, so that of several errors always the same one is told.
        let known = known.into_iter().flatten().collect::<Result<Vec<R>>>()?;
        Ok((Samples::U8(values), known))
    }

    /// Adds the events of a recording up in a sample of zeros.
    fn count(&self, recording: &Recording, values: &mut [u8]) -> Result<(), String> {
        let [channels, height, width] = self.shape;
        let outside = |e: &&Event| usize::from(e.x) >= width || usize::from(e.y) >= height;
        if let Some(event) = recording.events.iter().find(outside) {
            let (x, y) = (event.x, event.y);
            return Err(format!("an event at column {x}, row {y} is outside of {width} × {height} places"));
        }
        recording.each(self.steps, self.step_us, |step, event| {
            let channel = usize::from(event.rise).min(channels - 1);
            let row = (step * channels + channel) * height + usize::from(event.y);
            let value = &mut values[row * width + usize::from(event.x)];
            *value = value.saturating_add(1);
        });
        Ok(())
    }
}

fn origin(files: Vec<FileRecord>) -> Origin {
    Origin { kind: OriginKind::Files, files }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What is in a folder, folders or files, by name; hidden ones are passed over.
fn list(folder: &Path, folders: bool) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.is_dir() == folders && !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn recordings(part: &Path, classes: &[String]) -> Result<Listed> {
    let mut all = Listed::new();
    for folder in list(part, true)? {
        let name = file_name(&folder);
        let Some(class) = classes.iter().position(|class| *class == name) else {
            return Err(Error::data(folder, "is a class that the recordings for training do not have"));
        };
        let files = list(&folder, false)?;
        all.extend(files.into_iter().map(|file| (file, class as u16)));
    }
    match all.is_empty() {
        true => Err(Error::data(
            part,
            "has no recordings: a folder for each class is needed, with files .bin, .bs2, .raw or .dat",
        )),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes events (x, y, rise, microseconds) in the 5-byte format.
    fn write(path: &Path, events: &[(u8, u8, bool, u16)]) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let bytes = events
            .iter()
            .flat_map(|&(x, y, rise, time)| [x, y, u8::from(rise) << 7, (time >> 8) as u8, time as u8]);
        std::fs::write(path, bytes.collect::<Vec<u8>>()).expect("written");
    }

    const FRAMES: Frames = Frames { shape: [2, 3, 4], steps: 2, step_us: 100 };

    #[test]
    fn classes_are_folders_and_events_fall_into_steps() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        // Twice the same event in the first step, one in the second (a step is counted from the first event), one too late.
        let events = [(1, 2, true, 50), (1, 2, true, 60), (3, 0, false, 155), (0, 0, true, 260)];
        write(&root.join("train/10/a.bin"), &events);
        write(&root.join("train/9/b.bin"), &[(0, 1, false, 0)]);
        write(&root.join("Test/10/c.bin"), &[(2, 1, true, 7)]);
        std::fs::write(root.join("train/9/.hidden"), "no recording").expect("written");
        let data = open(root, &FRAMES, &OwnData::default()).expect("right");
        assert_eq!(data.shape, [2, 2, 3, 4]);
        assert_eq!((data.classes, data.class_names.clone()), (2, vec!["9".to_string(), "10".into()]));
        assert_eq!((data.train.len(), data.test.len(), data.test.labels[0]), (2, 1, 1));
        let ten = data.train.labels.iter().position(|&class| class == 1).expect("there");
        let Samples::U8(values) = &data.train.samples else { panic!("bytes") };
        let mut expected = [0; 48];
        (expected[12 + 2 * 4 + 1], expected[24 + 3]) = (2, 1);
        assert_eq!(values[ten * 48..][..48], expected);

        let one = Frames { shape: [1, 3, 4], ..FRAMES };
        let data = open(root, &one, &OwnData::default()).expect("right");
        let Samples::U8(values) = &data.train.samples else { panic!("bytes") };
        let mut expected = [0; 24];
        (expected[2 * 4 + 1], expected[12 + 3]) = (2, 1);
        assert_eq!(values[ten * 24..][..24], expected);
    }

    #[test]
    fn without_a_folder_for_tests_some_are_drawn() {
        let root = tempfile::tempdir().expect("a folder");
        for i in 0..10 {
            write(&root.path().join(format!("{}/{i}.bin", ["left", "right"][i % 2])), &[(0, 0, true, 0)]);
        }
        let data = open(root.path(), &FRAMES, &OwnData::default()).expect("right");
        assert_eq!((data.train.len(), data.test.len(), data.classes), (8, 2, 2));
        assert_eq!(data.class_names, ["left", "right"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = |make: &dyn Fn(&Path)| {
            let root = tempfile::tempdir().expect("a folder");
            make(root.path());
            open(root.path(), &FRAMES, &OwnData::default()).expect_err("refused").to_string()
        };
        let outside = refused(&|root| write(&root.join("a/x.bin"), &[(4, 0, true, 0)]));
        assert!(
            outside.contains("x.bin") && outside.contains("an event at column 4, row 0 is outside of 4 × 3"),
            "{outside}"
        );
        let none = refused(&|root| std::fs::create_dir(root.join("a")).expect("made"));
        assert!(none.contains("has no recordings"), "{none}");
        let class = refused(&|root| {
            write(&root.join("Train/a/x.bin"), &[(0, 0, true, 0)]);
            write(&root.join("Test/b/x.bin"), &[(0, 0, true, 0)]);
        });
        assert!(class.contains("is a class that the recordings for training do not have"), "{class}");
        let kind = refused(&|root| {
            std::fs::create_dir(root.join("a")).expect("made");
            std::fs::write(root.join("a/x.txt"), "text").expect("written");
        });
        assert!(kind.contains("its format is not known"), "{kind}");
        let cut = refused(&|root| {
            std::fs::create_dir(root.join("a")).expect("made");
            std::fs::write(root.join("a/x.bin"), [0; 7]).expect("written");
        });
        assert!(cut.contains("x.bin"), "{cut}");
    }
}
