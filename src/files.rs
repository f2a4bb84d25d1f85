//! Files that are either whole or not there.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

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
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("write", path))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(Error::io("write", path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(Error::io("write", path))?;
    }
    file.persist(path).map_err(|e| Error::io("write", path)(e.error))?;
    Ok(())
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
