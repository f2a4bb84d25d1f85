//! Files that are either whole or not there.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes through a temporary file in the same folder and a rename, so that a reader never sees half a file.
///
/// # Errors
/// Folder missing or unwritable, disk full.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("a.txt");
/// ransnn::files::write_atomic(&path, b"whole")?;
/// assert_eq!(std::fs::read(path)?, b"whole");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = Whole::create(path)?;
    let written = file.write_all(content).and_then(|()| file.flush());
    written.and_then(|()| file.file.get_ref().as_file().sync_all()).map_err(Error::io("write", path))?;
    file.finish()
}

/// SHA-256 of some bytes in pieces, in hexadecimal: a file that states it is known to be whole.
///
/// ```
/// use ransnn::files::sha256;
/// assert!(sha256([&b"abc"[..]]).starts_with("ba7816bf"));
/// assert_eq!(sha256([&b"abc"[..]]), sha256([&b"a"[..], b"bc"]));
/// ```
pub fn sha256<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> String {
    let mut hash = Sha256::new();
    pieces.into_iter().for_each(|bytes| hash.update(bytes));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that is written piece by piece, beside its place, and takes its name when it is whole.
///
/// ```
/// use std::io::Write;
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("a.txt");
/// let mut file = ransnn::files::Whole::create(&path)?;
/// file.write_all(b"piece by ")?;
/// file.write_all(b"piece")?;
/// assert!(!path.exists());
/// file.finish()?;
/// assert_eq!(std::fs::read(path)?, b"piece by piece");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Whole {
    path: PathBuf,
    file: BufWriter<tempfile::NamedTempFile>,
}

impl Whole {
    /// Begins a file.
    ///
    /// # Errors
    /// The folder is missing or cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("write", path))?;
        Ok(Self { path: path.into(), file: BufWriter::new(file) })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(self) -> Result<()> {
        let Self { path, file } = self;
        let file = file.into_inner().map_err(|e| Error::io("write", &path)(e.into_error()))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let readable = std::fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(readable).map_err(Error::io("write", &path))?;
        }
        file.persist(&path).map_err(|e| Error::io("write", &path)(e.error))?;
        Ok(())
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Whole {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// Reads a whole text file.
///
/// # Errors
/// Names the file.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|e| {
        Error::data(
            path,
            format!("byte {} is not UTF-8; the file must be text", e.utf8_error().valid_up_to()),
        )
    })
}
