//! Reading and writing pages: whole files or nothing.

use std::path::Path;

use super::Page;
use crate::error::{Error, Result};
use crate::files::write_atomic;

impl Page {
    /// Writes the page as HTML.
    ///
    /// # Errors
    /// [`Error::Value`] where sizes do not agree with contents, [`Error::Io`] where the file cannot be written;
    /// an earlier file of that name is then still there, untouched.
    pub fn write_html(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.html()?.as_bytes())
    }

    /// Stores the page as JSON, for [`Page::read_json`].
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text =
            serde_json::to_string(self).map_err(|e| Error::Internal(format!("a page as JSON: {e}")))?;
        write_atomic(path, text.as_bytes())
    }

    /// Reads a page that [`Page::write_json`] stored.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::Data`] where it is not a page.
    pub fn read_json(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        serde_json::from_slice(&text).map_err(|e| Error::data(path, format!("not a report: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn json_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let mut page = sample::page();
        page.runs[0].seconds = f64::INFINITY;
        page.runs[0].test_accuracy = f64::NAN;
        page.curves[0].series[0].points[1].y = f64::NAN;
        page.write_json(&path).unwrap();
        let again = Page::read_json(&path).unwrap();
        assert_eq!(again.runs[0].seconds, f64::INFINITY);
        assert!(again.runs[0].test_accuracy.is_nan());
        assert_eq!(again.examples, page.examples);
        assert_eq!(again.html().unwrap(), page.html().unwrap());
    }

    #[test]
    fn wrong_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        assert!(matches!(Page::read_json(&path), Err(Error::Io { action: "read", .. })));
        for text in ["", "{\"runs\": 3}", "{\"runs\": [{\"seconds\": \"soon\"}]}"] {
            std::fs::write(&path, text).unwrap();
            let error = Page::read_json(&path).unwrap_err().to_string();
            assert!(error.contains("not a report"), "{error}");
        }
        std::fs::write(&path, "{\"from_the_future\": 1, \"title\": \"t\"}").unwrap();
        assert_eq!(Page::read_json(&path).unwrap().title, "t");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.html");
        let mut page = sample::page();
        page.write_html(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        page.confusion.as_mut().unwrap().counts.pop();
        assert!(matches!(page.write_html(&path), Err(Error::Value { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
        assert!(matches!(page.write_json(&dir.path().join("no/such")), Err(Error::Io { .. })));
        assert!(
            matches!(sample::page().write_html(dir.path()), Err(Error::Io { .. })),
            "a folder is no file"
        );
    }
}
