//! Downloads: several mirrors in turn, resumed where they broke off, checked before they count.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ureq::Agent;

use crate::error::{Error, Result};
use crate::progress::{Progress, Unit};

/// How often one mirror may break off and be resumed. Each time must have brought something.
const RESUMES: usize = 8;

/// One file to download.
pub struct Download<'a> {
    /// Addresses, tried in this order.
    pub urls: &'a [String],
    /// Where the bytes are collected. What is there already is continued; it stays when all mirrors fail, so that the
    /// next run goes on from there.
    pub part: &'a Path,
    /// The most bytes that are accepted.
    pub limit: u64,
    /// The longest wait for a connection, for an answer, or for more bytes.
    pub patience: Duration,
}

impl Download<'_> {
    /// Downloads, and hands the finished file to `check`. A file that `check` refuses with [`Error::Data`] is
    /// removed and the next mirror is tried; one that was only continued here is first fetched again from its start.
    ///
    /// Returns `None` when no mirror worked; `attempts` then says why, one line per attempt.
    ///
    /// # Errors
    /// [`Error::Io`] when the part file cannot be written, [`Error::Interrupted`] when the user stopped it.
    pub fn run<T>(
        &self,
        mut check: impl FnMut(&Path) -> Result<T>,
        attempts: &mut Vec<String>,
        progress: &mut dyn Progress,
    ) -> Result<Option<T>> {
        for url in self.urls {
            let mut tries = 0;
            while tries < RESUMES {
                tries += 1;
                match self.transfer(url, progress)? {
                    Transfer::Failed { reason, again } => {
                        attempts.push(format!("{url}: {reason}"));
                        if !again {
                            break;
                        }
                    }
                    Transfer::Done { resumed } => match check(self.part) {
                        Ok(checked) => return Ok(Some(checked)),
                        Err(Error::Data { what, .. }) => {
                            remove(self.part)?;
                            attempts.push(format!("{url}: {what}"));
                            if !resumed {
                                break;
                            }
                        }
                        Err(other) => return Err(other),
                    },
                }
            }
        }
        Ok(None)
    }

    /// One request, from where the part file ends.
    fn transfer(&self, url: &str, progress: &mut dyn Progress) -> Result<Transfer> {
        let mut part = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.part)
            .map_err(Error::io("write", self.part))?;
        let mut have = part.seek(SeekFrom::End(0)).map_err(Error::io("write", self.part))?;

        let mut request = agent(url, self.patience).get(url).header("Accept-Encoding", "identity");
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Transfer::Failed { reason: error.to_string(), again: false }),
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let resumed = match response.status().as_u16() {
            206 if have > 0 => {
                let start = header("content-range").and_then(range_start);
                if start != Some(have) {
                    // Nothing can be done with another range; the next try starts from nothing.
                    remove(self.part)?;
                    let reason = format!("asked for the bytes from {have} on, got others");
                    return Ok(Transfer::Failed { reason, again: true });
                }
                true
            }
            200 => {
                // The server does not know ranges: from the start.
                part.set_len(0).map_err(Error::io("write", self.part))?;
                have = 0;
                false
            }
            // Nothing left to send: the part may be the whole. The check decides.
            416 if have > 0 => return Ok(Transfer::Done { resumed: true }),
            _ => {
                return Ok(Transfer::Failed { reason: format!("HTTP {}", response.status()), again: false });
            }
        };
        let promised = header("content-length").and_then(|value| value.parse::<u64>().ok());
        let total = promised.map(|length| have.saturating_add(length));
        if total.is_some_and(|total| total > self.limit) {
            let reason =
                format!("offers {} bytes, more than the {} expected at most", total.unwrap_or(0), self.limit);
            return Ok(Transfer::Failed { reason, again: false });
        }

        progress.start(url.rsplit('/').next().unwrap_or(url), total, Unit::Bytes);
        progress.advance(have);
        let outcome = self.receive(response.into_body().into_reader(), &mut part, have, total, progress);
        progress.finish();
        Ok(match outcome? {
            None => Transfer::Done { resumed },
            Some((reason, again)) => Transfer::Failed { reason, again },
        })
    }

    /// Appends what comes; `None` when it is complete, else why not and whether to go on with this mirror.
    fn receive(
        &self,
        mut body: impl Read,
        part: &mut File,
        start: u64,
        total: Option<u64>,
        progress: &mut dyn Progress,
    ) -> Result<Option<(String, bool)>> {
        let mut buffer = vec![0; 1 << 16];
        let mut have = start;
        let broken = loop {
            if progress.interrupted() {
                return Err(Error::Interrupted { checkpoint: None });
            }
            match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(count) => {
                    have += count as u64;
                    if have > self.limit {
                        remove(self.part)?;
                        return Ok(Some((
                            format!("sends more than the {} bytes expected at most", self.limit),
                            false,
                        )));
                    }
                    part.write_all(&buffer[..count]).map_err(Error::io("write", self.part))?;
                    progress.advance(count as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error.to_string()),
            }
        };
        part.sync_all().map_err(Error::io("write", self.part))?;
        let short = total.is_some_and(|total| have < total);
        Ok((short || broken.is_some()).then(|| {
            let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
            let why = broken.map(|error| format!(" ({error})")).unwrap_or_default();
            (format!("the connection ended after {have}{of} bytes{why}"), have > start)
        }))
    }
}

enum Transfer {
    Done { resumed: bool },
    Failed { reason: String, again: bool },
}

fn agent(url: &str, patience: Duration) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("ransnn/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(patience))
        .timeout_connect(Some(patience))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience));
    // A proxy for the outer world has no business with this machine's own addresses.
    let host = url.split("://").nth(1).unwrap_or(url);
    if ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| host.starts_with(own)) {
        config = config.proxy(None);
    }
    config.build().into()
}

/// The first byte of `bytes FIRST-LAST/TOTAL`.
fn range_start(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", path: path.into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Waits until no other process fetches into `folder`; the lock ends with the returned file.
///
/// Returns `None` on a file system without locks: part files then need names of their own.
pub fn lock(folder: &Path, progress: &mut dyn Progress) -> Result<Option<File>> {
    let path = folder.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("write", &path))?;
    let mut waiting = false;
    let locked = loop {
        match file.try_lock() {
            Ok(()) => break Some(file),
            Err(TryLockError::Error(_)) => break None,
            Err(TryLockError::WouldBlock) if progress.interrupted() => {
                return Err(Error::Interrupted { checkpoint: None });
            }
            Err(TryLockError::WouldBlock) => {
                if !waiting {
                    progress.start("waiting for another process that fetches the same", None, Unit::Steps);
                    waiting = true;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    };
    if waiting {
        progress.finish();
    }
    Ok(locked)
}
