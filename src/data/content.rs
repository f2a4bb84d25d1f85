//! Reads a whole file, plain or gzip, with its SHA-256 and a bound on its size.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::hex;
use crate::error::{Error, Result};

/// Content is read in pieces of so many bytes, and hashed on another thread meanwhile.
const PIECE: u64 = 1 << 20;

/// What is in a file after decompression.
pub(super) struct Content {
    /// The bytes behind the head; one more than the limit where the file has more.
    pub data: Vec<u8>,
    /// SHA-256 of all bytes.
    pub sha256: String,
    /// SHA-256 of the file as it is; `None` unless asked for.
    pub file_sha256: Option<String>,
    /// Whether it was compressed.
    pub gzip: bool,
}

/// Reads `path`. The first `head` bytes of the content are shown to `limit`, with the size of the file and whether
/// it is compressed; it answers how many bytes there should be in all. One byte more is read, to notice a file that
/// has more. Memory follows the bytes that are really there, never a number in a header.
pub(super) fn read(
    path: &Path,
    head: u64,
    hash_file: bool,
    limit: impl FnOnce(&[u8], u64, bool) -> Result<u64>,
) -> Result<Content> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let file_size = file.metadata().map_err(Error::io("read", path))?.len();
    let mut start = Vec::with_capacity(2);
    file.by_ref().take(2).read_to_end(&mut start).map_err(Error::io("read", path))?;
    // Told by its first bytes, not by its name: a `.gz` that a browser unpacked is read as what it is.
    let gzip = start == [0x1f, 0x8b];
    let mut hasher = hash_file.then(Sha256::new);
    let tee = Tee { inner: start.chain(file), hash: hasher.as_mut() };
    let buffered = BufReader::with_capacity(1 << 16, tee);
    let mut reader: Box<dyn Read> =
        if gzip { Box::new(MultiGzDecoder::new(buffered)) } else { Box::new(buffered) };

    let mut start = Vec::new();
    pull(&mut reader, head, 0, &mut start, path)?;
    let limit = limit(&start, file_size, gzip)?;
    // Eight is more than the images compress by; a poorer guess only costs copies.
    let likely = if gzip { file_size.saturating_mul(8) } else { file_size };
    let (data, sha256) = std::thread::scope(|scope| {
        let (send, pieces) = sync_channel::<Vec<u8>>(4);
        let mut hash = Sha256::new_with_prefix(&start);
        let hashed = scope.spawn(move || {
            let mut data = Vec::with_capacity(limit.min(likely) as usize + 1);
            for piece in pieces {
                hash.update(&piece);
                data.extend_from_slice(&piece);
            }
            (data, hex(&hash.finalize()))
        });
        let mut count = start.len() as u64;
        loop {
            let mut piece = Vec::new();
            pull(&mut reader, (limit + 1).saturating_sub(count).min(PIECE), count, &mut piece, path)?;
            if piece.is_empty() {
                break;
            }
            count += piece.len() as u64;
            // The other side ends only after this one.
            let _ = send.send(piece);
        }
        drop(send);
        hashed.join().map_err(|_| Error::Internal("hashing a file panicked".into()))
    })?;
    drop(reader);
    Ok(Content { data, sha256, file_sha256: hasher.map(|hash| hex(&hash.finalize())), gzip })
}

/// Appends `count` bytes, less at the end of the content, of which `before` are read already.
fn pull(reader: &mut impl Read, count: u64, before: u64, data: &mut Vec<u8>, path: &Path) -> Result<()> {
    data.reserve(count as usize + 1);
    reader.take(count).read_to_end(data).map(drop).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::data(
            path,
            format!(
                "the gzip stream is cut off: it ends after {} bytes of content",
                before + data.len() as u64
            ),
        ),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => Error::data(
            path,
            format!(
                "the gzip stream is damaged after {} bytes of content: {error}",
                before + data.len() as u64
            ),
        ),
        _ => Error::Io { action: "read", path: path.into(), source: error },
    })
}

/// SHA-256 of a file of any size.
pub(super) fn file_sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Hashes what passes through it.
struct Tee<'a, R> {
    inner: R,
    hash: Option<&'a mut Sha256>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}
