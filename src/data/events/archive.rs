//! `nmnist-small`: 1,000 training and 100 test recordings of N-MNIST in one archive (a compressed tar).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::{Recording, nmnist};
use crate::error::{Error, Result};

/// Recordings with their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSplit {
    /// One per sample.
    pub recordings: Vec<Recording>,
    /// One class per sample.
    pub labels: Vec<u16>,
}

/// A classification task of recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDataset {
    /// Its name.
    pub name: String,
    /// `[2, height, width]`: falls and rises.
    pub shape: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// What to learn from.
    pub train: EventSplit,
    /// What to test on.
    pub test: EventSplit,
}

/// SHA-256 of the archive as published.
pub(super) const SHA256: &str = "05d6e82638bfb8c739e5853e742c78a35759f00150919f2de5d63716a805cbba";
/// More than the archive holds: a file that unpacks to more is not it.
const LARGEST: u64 = 64 << 20;

/// Reads `NMNISTsmall.tar.gz`, as `bamsumit/slayerPytorch` has it in `test/test_files/`, after checking its sum.
///
/// # Errors
/// A file that cannot be read, that is not this archive, or that lacks a recording or a list.
pub fn nmnist_small(path: &Path) -> Result<EventDataset> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if sum != SHA256 {
        return Err(Error::data(path, format!("its SHA-256 is {sum}, but should be {SHA256}")));
    }
    let mut tar = Vec::new();
    GzDecoder::new(&bytes[..]).take(LARGEST).read_to_end(&mut tar).map_err(Error::io("read", path))?;
    let members = members(&tar).map_err(|what| Error::data(path, what))?;
    let split = |list: &str| -> Result<EventSplit> {
        let lacks = |what: &str| Error::data(path, format!("it has no `{what}`"));
        let lines = members.get(list).ok_or_else(|| lacks(list))?;
        let mut split = EventSplit { recordings: Vec::new(), labels: Vec::new() };
        for line in String::from_utf8_lossy(lines).lines().filter(|line| !line.trim().is_empty()) {
            let mut fields = line.split_whitespace();
            let numbers = fields
                .next()
                .and_then(|id| id.parse::<u32>().ok())
                .zip(fields.next().and_then(|label| label.parse::<u16>().ok()).filter(|&label| label < 10));
            let Some((id, label)) = numbers else {
                // The first line names the columns.
                match split.labels.is_empty() && line.starts_with(|c: char| !c.is_ascii_digit()) {
                    true => continue,
                    false => {
                        return Err(Error::data(path, format!("`{list}`: `{line}` is no number and class")));
                    }
                }
            };
            let name = format!("{id}.bs2");
            let recording = nmnist(members.get(&name[..]).ok_or_else(|| lacks(&name))?, [34, 34]);
            split.recordings.push(recording.map_err(|what| Error::data(path, format!("`{name}`: {what}")))?);
            split.labels.push(label);
        }
        Ok(split)
    };
    let (train, test) = (split("train1K.txt")?, split("test100.txt")?);
    Ok(EventDataset { name: "nmnist-small".into(), shape: [2, 34, 34], classes: 10, train, test })
}

/// Regular files of a tar by the last part of their name.
fn members(tar: &[u8]) -> Result<BTreeMap<String, &[u8]>, String> {
    const BLOCK: usize = 512;
    let text =
        |field: &[u8]| String::from_utf8_lossy(field).trim_end_matches(['\0', ' ']).trim_start().to_string();
    let (mut members, mut at) = (BTreeMap::new(), 0);
    while let Some(header) = tar.get(at..at + BLOCK).filter(|header| header.iter().any(|&b| b != 0)) {
        let size = usize::from_str_radix(&text(&header[124..136]), 8)
            .map_err(|_| format!("the archive's entry at byte {at} has no size"))?;
        let start = at + BLOCK;
        let content = start.checked_add(size).and_then(|end| tar.get(start..end));
        let content = content.ok_or_else(|| format!("the archive ends within its entry at byte {at}"))?;
        if matches!(header[156], b'0' | 0) {
            let name = text(&header[..100]);
            members.insert(name.rsplit('/').next().unwrap_or_default().to_string(), content);
        }
        at = start + size.next_multiple_of(BLOCK);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_nmnist_is_read() {
        let Some(folder) = std::env::var_os("RANSNN_DATA") else {
            return println!("skipped: RANSNN_DATA names no folder of data sets");
        };
        let path = Path::new(&folder).join("nmnist-small/NMNISTsmall.tar.gz");
        let data = nmnist_small(&path).expect("the data set");
        assert_eq!((data.train.labels.len(), data.test.labels.len()), (1000, 100));
        // Recordings 1 to 10 are those of the first digits of MNIST.
        assert_eq!(data.train.labels[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
        let all = data.train.recordings.iter().chain(&data.test.recordings);
        assert!(all.clone().all(|r| (1069..=7152).contains(&r.events.len()) && r.duration_us() <= 336_000));
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("NMNISTsmall.tar.gz");
        std::fs::write(&path, b"not it").expect("written");
        assert!(nmnist_small(&path).expect_err("refused").to_string().contains("SHA-256"));
        assert!(members(&[1; 600]).is_err());
    }
}
