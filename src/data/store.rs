//! A folder of public data sets: opened, fetched, verified, added to.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;
use tempfile::NamedTempFile;

use super::fetch::{self, Download};
use super::idx::{self, Idx};
use super::registry::{self, Archive, Known, KnownFile, Sum};
use super::{Checked, Dataset, FileRecord, STROKES, content, strokes};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The largest single compressed file that is downloaded; the largest known has 26 MB.
const FILE_LIMIT: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// A data folder: `<dir>/<data set>/<file>`, files compressed (`.gz`) or plain.
///
/// ```
/// use ransnn::data::Store;
/// let store = Store { dir: "no-such-folder".into(), offline: true };
/// let error = store.open("mnist", &mut ()).unwrap_err();
/// assert_eq!(error.to_string(), "mnist is not in no-such-folder/mnist");
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    /// The data folder.
    pub dir: PathBuf,
    /// Forbids any network use.
    pub offline: bool,
}

/// A line of [`Store::list`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub title: String,
    /// Number of classes.
    pub classes: usize,
    /// Its licence.
    pub licence: &'static str,
    /// Its home page; `None` for what is built in.
    pub home: Option<&'static str>,
    /// Whether all its files are in the data folder (they are not read).
    pub present: bool,
}

impl Store {
    /// Reads a data set, and fetches first what is missing unless `offline`. Known sums are checked each time.
    /// "strokes" is drawn: seed 0, 60,000 and 10,000 samples; [`strokes`] draws any other.
    ///
    /// # Errors
    /// [`Error::Value`] for an unknown name; [`Error::Missing`], with every attempt, when it is not there and cannot
    /// be had; [`Error::Data`] when a local file is damaged (it is never replaced without being asked).
    pub fn open(&self, name: &str, progress: &mut dyn Progress) -> Result<Dataset> {
        if name == "strokes" {
            return Ok(strokes(0, STROKES.0, STROKES.1));
        }
        let known = registry::find(name)?;
        self.fetch_missing(&known, &mirrors(&known), progress)?;
        self.read(&known)
    }

    /// Downloads the files that are missing, and verifies all.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn fetch(&self, name: &str, progress: &mut dyn Progress) -> Result<Vec<FileRecord>> {
        if name == "strokes" {
            return Ok(Vec::new());
        }
        let known = registry::find(name)?;
        self.fetch_from(name, &mirrors(&known), progress)
    }

    /// [`Store::fetch`] from other base addresses (each ends with `/`), tried in turn.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn fetch_from(
        &self,
        name: &str,
        mirrors: &[String],
        progress: &mut dyn Progress,
    ) -> Result<Vec<FileRecord>> {
        let known = registry::find(name)?;
        self.fetch_missing(&known, mirrors, progress)?;
        self.verify_known(&known)
    }

    /// Reads every file of a data set and compares it with the known sums; each record says with which.
    ///
    /// # Errors
    /// [`Error::Missing`] names the files that are not there; [`Error::Data`] the first damaged one.
    pub fn verify(&self, name: &str) -> Result<Vec<FileRecord>> {
        if name == "strokes" {
            return Ok(Vec::new());
        }
        self.verify_known(&registry::find(name)?)
    }

    /// Copies the files of a data set from the folder `from` (or, for EMNIST, out of its zip archive), after checking
    /// them. What was in the data folder under these names is replaced.
    ///
    /// # Errors
    /// As [`Store::verify`], for the files in `from`; nothing is copied then.
    pub fn add(&self, name: &str, from: &Path) -> Result<Vec<FileRecord>> {
        if name == "strokes" {
            return Err(Error::value("data set", "`strokes`", "one with files: this one is built in"));
        }
        self.add_known(&registry::find(name)?, from)
    }

    /// All data sets, those built in first.
    pub fn list(&self) -> Vec<Entry> {
        let strokes = Entry {
            name: "strokes".into(),
            title: "drawn digits, 28×28, any number; built in".into(),
            classes: 10,
            licence: "that of this program",
            home: None,
            present: true,
        };
        let entry = |known: Known| Entry {
            present: self.missing(&known).is_empty(),
            name: known.name,
            title: known.title,
            classes: known.classes,
            licence: known.licence,
            home: Some(known.home),
        };
        std::iter::once(strokes).chain(registry::all().into_iter().map(entry)).collect()
    }

    fn folder(&self, known: &Known) -> PathBuf {
        self.dir.join(known.folder)
    }

    fn missing<'a>(&self, known: &'a Known) -> Vec<&'a KnownFile> {
        missing_in(&self.folder(known), known)
    }

    fn read(&self, known: &Known) -> Result<Dataset> {
        let files = load_all(&self.folder(known), known)?;
        idx::assemble(known.name.clone(), files, known.classes, known.first_label, known.transposed)
    }

    fn verify_known(&self, known: &Known) -> Result<Vec<FileRecord>> {
        Ok(load_all(&self.folder(known), known)?.into_iter().map(|(_, _, record)| record).collect())
    }

    fn fetch_missing(&self, known: &Known, mirrors: &[String], progress: &mut dyn Progress) -> Result<()> {
        if self.missing(known).is_empty() {
            return Ok(());
        }
        let folder = self.folder(known);
        let mut attempts = Vec::new();
        let failed = |attempts| Error::Missing { dataset: known.name.clone(), dir: folder.clone(), attempts };
        if self.offline {
            return Err(failed(vec!["network use is forbidden (offline)".into()]));
        }
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let lock = fetch::lock(&folder, progress)?;
        // Without a lock two processes must not share a part file; with it, a file broken off is continued.
        let suffix = if lock.is_some() { "part".into() } else { format!("{}.part", std::process::id()) };
        let download = |name: &str,
                        limit,
                        check: &mut dyn FnMut(&Path) -> Result<()>,
                        attempts: &mut Vec<String>,
                        progress: &mut dyn Progress| {
            let urls: Vec<String> = mirrors.iter().map(|base| format!("{base}{name}")).collect();
            let part = folder.join(format!("{name}.{suffix}"));
            let target = folder.join(name);
            let done = Download { urls: &urls, part: &part, limit, patience: PATIENCE }
                .run(check, attempts, progress)?;
            if done.is_some() {
                std::fs::rename(&part, &target).map_err(Error::io("write", &target))?;
            }
            Ok::<_, Error>(done.is_some())
        };

        if let Some(archive) = &known.archive {
            let zip = folder.join(&archive.name);
            if !zip.is_file() {
                let mut check = |path: &Path| check_archive(path, archive);
                if !download(&archive.name, archive.bytes, &mut check, &mut attempts, progress)? {
                    return Err(failed(attempts));
                }
            }
            return extract(&zip, archive, &self.missing(known), &folder);
        }
        // Asked again: while waiting for the lock another process may have brought them.
        for file in self.missing(known) {
            let mut sum = None;
            let mut check = |path: &Path| {
                let (idx, _) = load(path, file, None)?;
                sum = Some(idx.sha256);
                Ok(())
            };
            if !download(&format!("{}.gz", file.name), FILE_LIMIT, &mut check, &mut attempts, progress)? {
                return Err(failed(attempts));
            }
            if let Some(sum) = sum {
                write_record(&folder, file, &sum)?;
            }
        }
        Ok(())
    }

    fn add_known(&self, known: &Known, from: &Path) -> Result<Vec<FileRecord>> {
        let folder = self.folder(known);
        if let (Some(archive), true) = (&known.archive, from.is_file()) {
            check_archive(from, archive)?;
            std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
            extract(from, archive, &known.files.iter().collect::<Vec<_>>(), &folder)?;
            return self.verify_known(known);
        }
        let files = load_all(from, known)?;
        let mut records = Vec::new();
        let sources: Vec<_> = files.into_iter().map(|(path, _, record)| (path, record)).collect();
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        for ((path, record), file) in sources.into_iter().zip(&known.files) {
            let mut source = File::open(&path).map_err(Error::io("read", &path))?;
            let target = folder.join(&record.name);
            write_atomically(&mut source, &target)?;
            // The other form of the same file, which would be taken instead or left to confuse.
            let other = match record.name.strip_suffix(".gz") {
                Some(plain) => folder.join(plain),
                None => folder.join(format!("{}.gz", record.name)),
            };
            if other.is_file() {
                std::fs::remove_file(&other).map_err(Error::io("remove", &other))?;
            }
            write_record(&folder, file, &record.sha256)?;
            records.push(record);
        }
        Ok(records)
    }
}

fn mirrors(known: &Known) -> Vec<String> {
    known.mirrors.iter().map(|base| (*base).to_owned()).collect()
}

fn missing_in<'a>(folder: &Path, known: &'a Known) -> Vec<&'a KnownFile> {
    known.files.iter().filter(|file| idx::find(folder, &file.name).is_none()).collect()
}

/// Reads and checks all files of `known` in `folder`.
fn load_all(folder: &Path, known: &Known) -> Result<Vec<(PathBuf, Idx, FileRecord)>> {
    let missing = missing_in(folder, known);
    if !missing.is_empty() {
        let attempts = missing.iter().map(|file| format!("{}[.gz] is not there", file.name)).collect();
        return Err(Error::Missing { dataset: known.name.clone(), dir: folder.into(), attempts });
    }
    let loaded: Vec<Result<_>> = known
        .files
        .par_iter()
        .map(|file| {
            let path = idx::find(folder, &file.name).unwrap_or_else(|| folder.join(&file.name));
            let (idx, record) = load(&path, file, Some(folder))?;
            Ok((path, idx, record))
        })
        .collect();
    // In order, so that of several damaged files always the same one is reported.
    loaded.into_iter().collect()
}

/// Reads a file and compares it with what is known about it: the published sum, or the one recorded in `folder`.
fn load(path: &Path, file: &KnownFile, folder: Option<&Path>) -> Result<(Idx, FileRecord)> {
    let published = matches!(file.sum, Sum::Published(_));
    let idx = idx::read(path, file.dimensions, published)?;
    let wrong = |of: &str, is: &str, expected: &str| {
        Error::data(path, format!("the SHA-256 of {of} is {is}, but should be {expected}"))
    };
    let checked = match (&file.sum, &idx.file_sha256) {
        (Sum::Content(sum), _) if *sum == idx.sha256 => Checked::Content,
        (Sum::Content(sum), _) => return Err(wrong("its decompressed content", &idx.sha256, sum)),
        (Sum::Published(sum), Some(own)) if idx.gzip => {
            if sum != own {
                return Err(wrong("the file", own, sum));
            }
            Checked::Published
        }
        (Sum::Published(_), _) => match folder.map(|folder| read_record(folder, file)).transpose()?.flatten()
        {
            Some(sum) if sum == idx.sha256 => Checked::Recorded,
            Some(sum) => return Err(wrong("its content", &idx.sha256, &sum)),
            None => Checked::Structure,
        },
    };
    let record = idx.record(path, checked);
    Ok((idx, record))
}

fn record_path(folder: &Path, file: &KnownFile) -> PathBuf {
    folder.join(format!("{}.sha256", file.name))
}

/// Writes the sum of the content beside a file whose content has no published sum, in the form of `sha256sum`.
fn write_record(folder: &Path, file: &KnownFile, sum: &str) -> Result<()> {
    match file.sum {
        Sum::Content(_) => Ok(()),
        Sum::Published(_) => {
            write_atomically(&mut format!("{sum}  {}\n", file.name).as_bytes(), &record_path(folder, file))
        }
    }
}

fn read_record(folder: &Path, file: &KnownFile) -> Result<Option<String>> {
    let path = record_path(folder, file);
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.split_whitespace().next() {
            Some(sum) if sum.len() == 64 => Ok(Some(sum.to_owned())),
            _ => Err(Error::data(
                path,
                "is not a record of a SHA-256; remove it to have the file taken as it is",
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { action: "read", path, source }),
    }
}

fn check_archive(path: &Path, archive: &Archive) -> Result<()> {
    let sum = content::file_sha256(path)?;
    if sum == archive.sha256 {
        return Ok(());
    }
    Err(Error::data(path, format!("the SHA-256 of the archive is {sum}, but should be {}", archive.sha256)))
}

/// Takes `files` out of the archive at `zip`, each checked before it gets its name.
fn extract(zip: &Path, archive: &Archive, files: &[&KnownFile], folder: &Path) -> Result<()> {
    let bad = |error: zip::result::ZipError| Error::data(zip, format!("the archive cannot be read: {error}"));
    let reader = File::open(zip).map_err(Error::io("read", zip))?;
    let mut opened = zip::ZipArchive::new(std::io::BufReader::new(reader)).map_err(bad)?;
    for file in files {
        let member = format!("{}{}.gz", archive.prefix, file.name);
        let entry = opened
            .by_name(&member)
            .map_err(|error| Error::data(zip, format!("no `{member}` in the archive: {error}")))?;
        let temporary =
            copy_to_temporary(&mut entry.take(idx::MAX_CONTENT), folder).map_err(|error| match error {
                Error::Io { action: "read", source, .. } => {
                    Error::data(zip, format!("`{member}` is damaged: {source}"))
                }
                other => other,
            })?;
        let (idx, _) = load(temporary.path(), file, None).map_err(|error| match error {
            Error::Data { what, .. } => Error::data(zip, format!("`{member}`: {what}")),
            other => other,
        })?;
        persist(temporary, &folder.join(format!("{}.gz", file.name)))?;
        write_record(folder, file, &idx.sha256)?;
    }
    Ok(())
}

/// Copies into a temporary file in `folder`.
fn copy_to_temporary(from: &mut dyn Read, folder: &Path) -> Result<NamedTempFile> {
    use std::io::Write;
    let mut temporary = NamedTempFile::new_in(folder).map_err(Error::io("write", folder))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        // Told apart by the action: a source that cannot be read, or a disk that cannot be written.
        let count = from.read(&mut buffer).map_err(Error::io("read", temporary.path()))?;
        if count == 0 {
            break;
        }
        temporary.write_all(&buffer[..count]).map_err(Error::io("write", folder))?;
    }
    temporary.as_file().sync_all().map_err(Error::io("write", folder))?;
    Ok(temporary)
}

/// Gives a complete temporary file its name.
fn persist(temporary: NamedTempFile, target: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        // Temporary files are private; data sets are not.
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        temporary.as_file().set_permissions(readable).map_err(Error::io("write", target))?;
    }
    temporary.persist(target).map_err(|error| Error::Io {
        action: "write",
        path: target.into(),
        source: error.error,
    })?;
    Ok(())
}

fn write_atomically(from: &mut dyn Read, target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    persist(copy_to_temporary(from, folder)?, target)
}

#[cfg(test)]
mod tests;
