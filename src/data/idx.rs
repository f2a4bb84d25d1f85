//! The IDX files of the MNIST family: big-endian header, then bytes; plain or gzip.
//!
//! | file | header | then |
//! |---|---|---|
//! | images (`idx3-ubyte`) | `0x00000803`, count, rows, columns | one byte per pixel, row by row |
//! | labels (`idx1-ubyte`) | `0x00000801`, count | one byte per label |

use std::path::{Path, PathBuf};

use super::{Checked, Dataset, FileRecord, Origin, OriginKind, Samples, Split, content};
use crate::error::{Error, Result};

/// The usual names: training images and labels, test images and labels. On disk `.gz` may follow.
pub const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The largest file content that is read, in bytes. The largest known (EMNIST by class) has 547 MB.
pub const MAX_CONTENT: u64 = 2 << 30;

/// An IDX file in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    /// `[count, rows, columns]` or `[count]`.
    pub shape: Vec<usize>,
    /// The bytes after the header, as many as the shape says.
    pub values: Vec<u8>,
    /// Size of the content, header included.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: String,
    /// SHA-256 of the file as it is, where it was asked for.
    pub file_sha256: Option<String>,
    /// Whether the file is compressed.
    pub gzip: bool,
}

/// Reads an IDX file of bytes with `dimensions` dimensions (3: images, 1: labels).
/// `hash_file` asks for the SHA-256 of the file itself as well.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Data`] for a damaged gzip stream, another magic number, no
/// samples, a header that promises more than there is (found before memory is taken), or bytes after the end.
pub fn read(path: &Path, dimensions: usize, hash_file: bool) -> Result<Idx> {
    let header = 4 + 4 * dimensions;
    let mut shape = Vec::new();
    let content = content::read(path, header as u64, hash_file, |head, file_size, gzip| {
        shape = parse_header(head, dimensions).map_err(|what| Error::data(path, what))?;
        let values = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        let total = values.and_then(|values| values.checked_add(header as u64));
        // Deflate cannot shrink by more than a factor of 1032.
        let possible = if gzip { file_size.saturating_mul(1032) } else { file_size };
        match total {
            Some(total) if total <= possible.min(MAX_CONTENT) => Ok(total),
            _ => Err(Error::data(
                path,
                format!(
                    "the header promises {} values, more than {}",
                    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × "),
                    if possible < MAX_CONTENT {
                        format!("a file of {file_size} bytes can hold: it is cut off, or the header is wrong")
                    } else {
                        format!("the {MAX_CONTENT} bytes that are read at most")
                    }
                ),
            )),
        }
    })?;
    let total = header + shape.iter().product::<usize>();
    let bytes = (header + content.data.len()) as u64;
    if bytes != total as u64 {
        let problem = if bytes < total as u64 {
            format!("the content ends after {bytes} bytes, the header promises {total}")
        } else {
            format!("there are bytes after the {total} that the header promises")
        };
        return Err(Error::data(path, problem));
    }
    Ok(Idx {
        shape,
        values: content.data,
        bytes,
        sha256: content.sha256,
        file_sha256: content.file_sha256,
        gzip: content.gzip,
    })
}

fn parse_header(head: &[u8], dimensions: usize) -> Result<Vec<usize>, String> {
    let wanted = 0x0800 | dimensions as u32;
    let words: Vec<u32> =
        head.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect();
    match words.first() {
        Some(&magic) if magic != wanted => {
            let other = match magic {
                0x0801 => "; this is a label file",
                0x0803 => "; this is an image file",
                _ => "",
            };
            return Err(format!("magic number {magic:#010x} instead of {wanted:#010x}{other}"));
        }
        Some(_) if words.len() == dimensions + 1 => {}
        _ => return Err(format!("{} bytes are too few for the header of an IDX file", head.len())),
    }
    let shape: Vec<usize> = words[1..].iter().map(|&size| size as usize).collect();
    if shape[0] == 0 {
        return Err("the data set is empty: the header says 0 samples".into());
    }
    if shape.contains(&0) {
        return Err("the images have no pixels".into());
    }
    Ok(shape)
}

/// Where a file of that name is in `folder`: compressed or plain. Plain is taken only where there is no `.gz`.
pub fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(format!("{name}.gz")), folder.join(name)].into_iter().find(|path| path.is_file())
}

/// Opens a user's folder with the four IDX files under their usual [`NAMES`]; classes are `0..=` the largest label.
///
/// # Errors
/// [`Error::Missing`] names the files that are not there; otherwise as [`read`], and [`Error::Data`] where images
/// and labels do not belong together.
pub fn open_folder(folder: &Path) -> Result<Dataset> {
    let name = folder.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    let found: Vec<_> = NAMES.iter().map(|file| find(folder, file)).collect();
    let attempts: Vec<_> = NAMES
        .iter()
        .zip(&found)
        .filter(|(_, path)| path.is_none())
        .map(|(file, _)| format!("{file}[.gz] is not there"))
        .collect();
    if !attempts.is_empty() {
        return Err(Error::Missing { dataset: name, dir: folder.into(), attempts });
    }
    let mut files = Vec::new();
    for (path, dimensions) in found.into_iter().flatten().zip([3, 1, 3, 1]) {
        let idx = read(&path, dimensions, false)?;
        let record = idx.record(&path, Checked::Structure);
        files.push((path, idx, record));
    }
    let classes = files.iter().skip(1).step_by(2).flat_map(|(_, labels, _)| labels.values.iter().max()).max();
    let classes = usize::from(*classes.unwrap_or(&0)) + 1;
    assemble(name, files, classes, 0, false)
}

impl Idx {
    /// What is to be remembered of the file.
    pub(super) fn record(&self, path: &Path, checked: Checked) -> FileRecord {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        FileRecord { name, bytes: self.bytes, sha256: self.sha256.clone(), checked }
    }
}

/// Puts training images and labels, test images and labels together, in the order of [`NAMES`].
///
/// Labels must be in `first_label..first_label + classes`; `transposed` images are turned upright.
pub(super) fn assemble(
    name: String,
    files: Vec<(PathBuf, Idx, FileRecord)>,
    classes: usize,
    first_label: u8,
    transposed: bool,
) -> Result<Dataset> {
    let mut records = Vec::new();
    let mut splits = Vec::new();
    let mut image: Option<Vec<usize>> = None;
    let mut files = files.into_iter();
    while let (Some((images_path, images, images_record)), Some((labels_path, labels, labels_record))) =
        (files.next(), files.next())
    {
        if images.shape[0] != labels.shape[0] {
            return Err(Error::data(
                labels_path,
                format!(
                    "{} labels for {} images in {}",
                    labels.shape[0], images.shape[0], images_record.name
                ),
            ));
        }
        let size = images.shape[1..].to_vec();
        match &image {
            Some(first) if *first != size => {
                return Err(Error::data(
                    images_path,
                    format!(
                        "images of {} × {} pixels, but those for training have {} × {}",
                        size[0], size[1], first[0], first[1]
                    ),
                ));
            }
            _ => {}
        }
        let range = usize::from(first_label)..usize::from(first_label) + classes;
        if let Some(index) = labels.values.iter().position(|&label| !range.contains(&usize::from(label))) {
            return Err(Error::data(
                labels_path,
                format!(
                    "label {} of sample {index} is outside of {}..={}",
                    labels.values[index],
                    range.start,
                    range.end - 1
                ),
            ));
        }
        let pixels = if transposed { transpose(&images.values, size[0], size[1]) } else { images.values };
        let labels = labels.values.iter().map(|&label| u16::from(label - first_label)).collect();
        splits.push(Split { samples: Samples::U8(pixels), labels });
        image = Some(size);
        records.extend([images_record, labels_record]);
    }
    let (Some(test), Some(train), Some(mut image)) = (splits.pop(), splits.pop(), image) else {
        return Err(Error::Internal("an IDX data set needs four files".into()));
    };
    if transposed {
        image.swap(0, 1);
    }
    Ok(Dataset {
        name,
        shape: vec![1, image[0], image[1]],
        classes,
        class_names: Vec::new(),
        train,
        test,
        origin: Origin { kind: OriginKind::Files, files: records },
    })
}

/// Swaps rows and columns of every image of `rows × columns`.
fn transpose(pixels: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    let mut upright = Vec::with_capacity(pixels.len());
    for image in pixels.chunks_exact(rows * columns) {
        upright.extend((0..rows * columns).map(|i| image[(i % rows) * columns + i / rows]));
    }
    upright
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// The content of an IDX file with that header, whatever follows.
    pub fn bytes(shape: &[u32], values: &[u8]) -> Vec<u8> {
        let mut out = (0x0800 | shape.len() as u32).to_be_bytes().to_vec();
        shape.iter().for_each(|size| out.extend(size.to_be_bytes()));
        out.extend(values);
        out
    }

    pub fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// Contents of a data set of 2 × 3 images: 5 for training, 2 for testing, labels below 3.
    pub fn tiny() -> [Vec<u8>; 4] {
        let pixels: Vec<u8> = (0..42).map(|i| i * 6).collect();
        [
            bytes(&[5, 2, 3], &pixels[..30]),
            bytes(&[5], &[0, 1, 2, 0, 1]),
            bytes(&[2, 2, 3], &pixels[30..]),
            bytes(&[2], &[2, 0]),
        ]
    }

    fn folder(files: &[Vec<u8>; 4]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in NAMES.iter().zip(files) {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn data_error(content: &[u8], dimensions: usize) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        match read(file.path(), dimensions, true).unwrap_err() {
            Error::Data { path, what } => {
                assert_eq!(path, file.path());
                what
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_and_gzip_are_the_same() {
        let plain = folder(&tiny());
        let zipped = folder(&tiny().map(|content| gzip(&content)));
        let (a, b) = (open_folder(plain.path()).unwrap(), open_folder(zipped.path()).unwrap());
        assert_eq!(
            (a.shape.as_slice(), a.classes, a.train.len(), a.test.len()),
            ([1, 2, 3].as_slice(), 3, 5, 2)
        );
        assert_eq!((&a.train, &a.test, &a.origin), (&b.train, &b.test, &b.origin));
        assert_eq!(a.train.samples, Samples::U8((0..30).map(|i| i * 6).collect()));
        assert_eq!(a.test.labels, [2, 0]);
    }

    #[test]
    fn sums_are_of_the_content_and_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let zipped = gzip(&bytes(&[3], b"abc"));
        std::fs::write(file.path(), &zipped).unwrap();
        let idx = read(file.path(), 1, true).unwrap();
        assert_eq!(idx.sha256, hex_sum(&bytes(&[3], b"abc")));
        assert_eq!(idx.file_sha256.unwrap(), hex_sum(&zipped));
        assert_eq!((idx.bytes, idx.gzip), (11, true));
    }

    pub fn hex_sum(bytes: &[u8]) -> String {
        use sha2::Digest;
        super::super::hex(&sha2::Sha256::digest(bytes))
    }

    #[test]
    fn every_cut_of_a_file_is_refused() {
        let plain = bytes(&[5, 2, 3], &[7; 30]);
        for len in 0..plain.len() {
            data_error(&plain[..len], 3);
        }
        // Incompressible, so that cuts fall into the header, the data and the trailer of the gzip stream.
        let noise: Vec<u8> = (0..30u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let zipped = gzip(&bytes(&[5, 2, 3], &noise));
        for len in 2..zipped.len() {
            let what = data_error(&zipped[..len], 3);
            assert!(what.contains("cut off"), "{len}: {what}");
        }
    }

    #[test]
    fn every_flipped_byte_of_the_gzip_data_is_refused() {
        let zipped = gzip(&bytes(&[5], &[0, 1, 2, 0, 1]));
        // From 10 on: the ten bytes of the gzip header hold a time and a system, which do not matter.
        for position in 10..zipped.len() {
            let mut damaged = zipped.clone();
            damaged[position] ^= 0x55;
            data_error(&damaged, 1);
        }
    }

    #[test]
    fn wrong_headers_are_named() {
        for (content, dimensions, says) in [
            (bytes(&[5], &[0; 5]), 3, "0x00000801 instead of 0x00000803; this is a label file"),
            (bytes(&[1, 2, 3], &[0; 6]), 1, "this is an image file"),
            (b"<html> not found </html>".to_vec(), 3, "0x3c68746d"),
            (bytes(&[0, 28, 28], &[]), 3, "empty"),
            (bytes(&[0], &[]), 1, "empty"),
            (bytes(&[4, 0, 28], &[]), 3, "no pixels"),
            (bytes(&[6], &[0; 5]), 1, "6 values, more than"),
            (bytes(&[5], &[0; 6]), 1, "after the 13"),
            (bytes(&[5, 2, 3], &[0; 31]), 3, "after the 46"),
            (bytes(&[u32::MAX, u32::MAX, u32::MAX], &[0; 60]), 3, "more than"),
            (gzip(&bytes(&[u32::MAX, u32::MAX, u32::MAX], &[0; 60])), 3, "more than"),
            (gzip(&bytes(&[5000], &[0; 60])), 1, "ends after 68 bytes, the header promises 5008"),
            (gzip(&bytes(&[59], &[0; 60])), 1, "after the 67"),
            ([gzip(&bytes(&[5], &[0; 5])), b"tail".to_vec()].concat(), 1, "gzip stream"),
            (vec![], 1, "too few"),
        ] {
            let what = data_error(&content, dimensions);
            assert!(what.contains(says), "{what:?} should contain {says:?}");
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let says = |change: fn(&mut [Vec<u8>; 4]), says: &str| {
            let mut files = tiny();
            change(&mut files);
            let what = open_folder(folder(&files).path()).unwrap_err().to_string();
            assert!(what.contains(says), "{what:?} should contain {says:?}");
        };
        says(|files| files[1] = bytes(&[4], &[0; 4]), "4 labels for 5 images");
        says(
            |files| files[2] = bytes(&[2, 3, 3], &[0; 18]),
            "3 × 3 pixels, but those for training have 2 × 3",
        );
        let files = tiny();
        let folder = folder(&files);
        let load = |name: &str, dimensions| {
            let path = folder.path().join(name);
            let idx = read(&path, dimensions, false).unwrap();
            let record = idx.record(&path, Checked::Structure);
            (path, idx, record)
        };
        let all = || NAMES.iter().zip([3, 1, 3, 1]).map(|(name, dims)| load(name, dims)).collect::<Vec<_>>();
        let error = assemble("t".into(), all(), 2, 0, false).unwrap_err().to_string();
        assert!(error.contains("label 2 of sample 2 is outside of 0..=1"), "{error}");
        let error = assemble("t".into(), all(), 26, 1, false).unwrap_err().to_string();
        assert!(error.contains("label 0 of sample 0 is outside of 1..=26"), "{error}");
    }

    #[test]
    fn missing_files_are_all_named() {
        let folder = folder(&tiny());
        std::fs::remove_file(folder.path().join(NAMES[1])).unwrap();
        std::fs::remove_file(folder.path().join(NAMES[2])).unwrap();
        let Error::Missing { attempts, .. } = open_folder(folder.path()).unwrap_err() else { panic!() };
        assert_eq!(attempts.len(), 2);
        assert!(attempts[0].contains(NAMES[1]) && attempts[1].contains(NAMES[2]));
    }

    #[test]
    fn transposing_turns_images_upright() {
        // Two images of 2 rows and 3 columns.
        let upright = transpose(&[1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16], 2, 3);
        assert_eq!(upright, [1, 4, 2, 5, 3, 6, 11, 14, 12, 15, 13, 16]);
    }
}
