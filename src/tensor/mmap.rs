//! Files mapped into memory: one unsafe call, because the file must not change while it is mapped.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// The bytes of a file, read by the system when they are touched.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    // SAFETY: the map is read-only. Another process that truncates the file meanwhile ends this one with a bus error; that
    // is the documented price of mapping model files, and nothing here writes to a file that is mapped.
    unsafe { Mmap::map(&file) }.map_err(Error::io("read", path))
}
