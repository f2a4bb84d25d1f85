//! A user's own arrays: a NumPy `.npz` archive with `x_train, y_train, x_test, y_test`, or `x, y`.
//!
//! | array | shape | types |
//! |---|---|---|
//! | `x…` | `[n, features]`, `[n, rows, columns]` or `[n, channels, rows, columns]` | `u8` (taken as intensities), `f32`, `f64` (scaled per column) |
//! | `y…` | `[n]` | integers from 0 |
//!
//! The header of an array is a line of text; it is read here, because it must be checked before it is believed.

use std::io::{Cursor, Read};
use std::path::Path;

use super::{
    Dataset, Origin, OriginKind, OwnData, Samples, Split, own_file, random_split, scale, shuffled, stem,
};
use crate::error::{Error, Result};

/// The largest array that is read, in bytes.
const MAX_ARRAY: u64 = 4 << 30;

type Archive<'a> = zip::ZipArchive<Cursor<&'a [u8]>>;

/// Opens an archive. Without test arrays, `options.test_fraction` of the samples are drawn by `options.seed`;
/// training samples are shuffled by the seed in both cases.
///
/// # Errors
/// [`Error::Data`] names the array with the wrong type, shape or value; [`Error::Value`] for a bad option.
pub fn open(path: &Path, options: &OwnData) -> Result<Dataset> {
    let (bytes, record) = own_file(path)?;
    let mut archive = zip::ZipArchive::new(Cursor::new(&bytes[..]))
        .map_err(|error| Error::data(path, format!("is not an .npz archive: {error}")))?;
    let has = |archive: &Archive<'_>, name: &str| archive.index_for_name(&format!("{name}.npy")).is_some();
    let own_test = has(&archive, "x_train");
    if !own_test && !has(&archive, "x") {
        let names: Vec<_> = archive.file_names().map(|name| name.trim_end_matches(".npy")).collect();
        return Err(Error::data(
            path,
            format!(
                "arrays `x_train, y_train, x_test, y_test` or `x, y` are needed; there are: {}",
                names.join(", ")
            ),
        ));
    }
    let mut pair = |x: &str, y: &str| -> Result<(Split, Vec<usize>)> {
        let samples = array(&mut archive, x, path)?;
        let labels = array(&mut archive, y, path)?;
        split(samples, labels).map_err(|what| Error::data(path, what))
    };
    let (mut train, mut test, shape) = if own_test {
        let ((train, shape), (test, test_shape)) = (pair("x_train", "y_train")?, pair("x_test", "y_test")?);
        if shape != test_shape {
            return Err(Error::data(
                path,
                format!("samples of shape {shape:?} in `x_train`, {test_shape:?} in `x_test`"),
            ));
        }
        (train.reordered(&shuffled(train.len(), options.seed)), test, shape)
    } else {
        let (all, shape) = pair("x", "y")?;
        let (train, test) = random_split(&all, options.test_fraction, options.seed)?;
        (train, test, shape)
    };
    match (&mut train.samples, &mut test.samples) {
        (Samples::F32(train), Samples::F32(test)) => scale(train, test, shape.iter().product()),
        (Samples::U8(_), Samples::U8(_)) => {}
        _ => return Err(Error::data(path, "`x_train` and `x_test` must have the same type of number")),
    }
    let classes = 1 + usize::from(*train.labels.iter().max().unwrap_or(&0));
    if let Some(index) = test.labels.iter().position(|&label| usize::from(label) >= classes) {
        return Err(Error::data(
            path,
            format!(
                "label {} of test sample {index} is not among those for training, 0..={}",
                test.labels[index],
                classes - 1
            ),
        ));
    }
    if classes < 2 {
        return Err(Error::data(path, "all labels are 0; two classes are needed"));
    }
    Ok(Dataset {
        name: stem(path),
        shape,
        classes,
        class_names: Vec::new(),
        train,
        test,
        origin: Origin { kind: OriginKind::Files, files: vec![record] },
    })
}

/// An array as stored: little-endian, first index slowest.
struct Array {
    name: String,
    /// For example "f4".
    kind: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn array(archive: &mut Archive<'_>, name: &str, path: &Path) -> Result<Array> {
    let bad = |what: String| Error::data(path, format!("`{name}`: {what}"));
    let entry = archive
        .by_name(&format!("{name}.npy"))
        .map_err(|error| bad(format!("the array cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    entry
        .take(MAX_ARRAY + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| bad(format!("the archive is damaged: {error}")))?;
    if bytes.len() as u64 > MAX_ARRAY {
        return Err(bad(format!("larger than the {MAX_ARRAY} bytes that are read at most")));
    }
    let (kind, shape, start) = header(&bytes).map_err(bad)?;
    let size = match kind.as_str() {
        "u1" | "i1" => 1,
        "u2" | "i2" => 2,
        "u4" | "i4" | "f4" => 4,
        "u8" | "i8" | "f8" => 8,
        other => return Err(bad(format!("numbers of type `{other}`; u8, f32, f64 or integers are read"))),
    };
    let wanted = shape.iter().try_fold(size, |product: usize, &size| product.checked_mul(size));
    let there = bytes.len() - start;
    if wanted != Some(there) {
        return Err(bad(format!("{there} bytes of data do not make the shape {shape:?} of `{kind}`")));
    }
    bytes.drain(..start);
    Ok(Array { name: name.into(), kind, shape, bytes })
}

/// Type, shape and length of the header of an `.npy` file.
///
/// The format: `\x93NUMPY`, two version bytes, the length of the header (2 bytes, from version 2 on 4), then a Python
/// dictionary as text: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn header(bytes: &[u8]) -> Result<(String, Vec<usize>, usize), String> {
    let cut = || "the header is cut off".to_owned();
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("is not in the .npy format".into());
    }
    let (length, text) = match bytes.get(6).ok_or_else(cut)? {
        1 => (bytes.get(8..10).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]]))), 10),
        2 | 3 => (bytes.get(8..12).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize), 12),
        other => return Err(format!("version {other} of the .npy format is not known")),
    };
    let start = text + length.ok_or_else(cut)?;
    let dictionary = std::str::from_utf8(bytes.get(text..start).ok_or_else(cut)?)
        .map_err(|_| "the header is not text".to_owned())?;
    let after = |key: &str| {
        let (_, rest) =
            dictionary.split_once(&format!("'{key}':")).ok_or(format!("the header has no `{key}`"))?;
        Ok::<_, String>(rest.trim_start())
    };
    let descr = after("descr")?;
    let kind = descr
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
        .map(|(kind, _)| kind)
        .ok_or("records of several types are not read")?;
    let kind = match kind.split_at_checked(1) {
        Some(("<" | "|", kind)) => kind.to_owned(),
        Some((">", kind)) if kind.ends_with('1') => kind.to_owned(),
        _ => {
            return Err(format!("numbers of type `{kind}`; little-endian u8, f32, f64 or integers are read"));
        }
    };
    if !after("fortran_order")?.starts_with("False") {
        return Err("is stored column by column; save `numpy.ascontiguousarray` of it".into());
    }
    let shape = after("shape")?
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .ok_or("the header has no readable shape")?
        .0
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().map_err(|_| format!("`{size}` is not a size")))
        .collect::<Result<_, _>>()?;
    Ok((kind, shape, start))
}

fn split(x: Array, y: Array) -> Result<(Split, Vec<usize>), String> {
    let sample: Vec<usize> = match *x.shape.as_slice() {
        [_, features] => vec![features],
        [_, rows, columns] => vec![1, rows, columns],
        [_, channels, rows, columns] => vec![channels, rows, columns],
        _ => {
            return Err(format!(
                "`{}` has shape {:?}; [n, features], [n, rows, columns] or [n, channels, rows, columns] is needed",
                x.name, x.shape
            ));
        }
    };
    if x.shape.contains(&0) {
        return Err(format!("the data set is empty: `{}` has shape {:?}", x.name, x.shape));
    }
    if y.shape != x.shape[..1] {
        return Err(format!(
            "`{}` has shape {:?}; one label for each of the {} samples in `{}` is needed",
            y.name, y.shape, x.shape[0], x.name
        ));
    }
    let features: usize = sample.iter().product();
    let samples = match x.kind.as_str() {
        "u1" => Samples::U8(x.bytes),
        "f4" => Samples::F32(words(&x.bytes, f32::from_le_bytes).collect()),
        "f8" => Samples::F32(words(&x.bytes, f64::from_le_bytes).map(|value| value as f32).collect()),
        other => return Err(format!("`{}` has numbers of type `{other}`; u8, f32 or f64 is needed", x.name)),
    };
    if let Samples::F32(values) = &samples
        && let Some(at) = values.iter().position(|value| !value.is_finite())
    {
        return Err(format!(
            "`{}`: value {} of sample {} is not a finite 32-bit number",
            x.name,
            at % features,
            at / features
        ));
    }
    let b = &y.bytes;
    let labels: Vec<i128> = match y.kind.as_str() {
        "u1" => words(b, u8::from_le_bytes).map(i128::from).collect(),
        "i1" => words(b, i8::from_le_bytes).map(i128::from).collect(),
        "u2" => words(b, u16::from_le_bytes).map(i128::from).collect(),
        "i2" => words(b, i16::from_le_bytes).map(i128::from).collect(),
        "u4" => words(b, u32::from_le_bytes).map(i128::from).collect(),
        "i4" => words(b, i32::from_le_bytes).map(i128::from).collect(),
        "u8" => words(b, u64::from_le_bytes).map(i128::from).collect(),
        "i8" => words(b, i64::from_le_bytes).map(i128::from).collect(),
        other => return Err(format!("`{}` has numbers of type `{other}`; integers are needed", y.name)),
    };
    let labels = labels
        .iter()
        .enumerate()
        .map(|(i, &label)| {
            u16::try_from(label)
                .map_err(|_| format!("`{}`: label {label} of sample {i} is outside of 0..=65535", y.name))
        })
        .collect::<Result<_, _>>()?;
    Ok((Split { samples, labels }, sample))
}

/// The numbers in `bytes`, `N` bytes each.
fn words<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |&chunk| read(chunk))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn npy(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        npy_with(&format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"), data)
    }

    fn npy_with(header: &str, data: &[u8]) -> Vec<u8> {
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.bytes().chain(data.iter().copied()));
        out
    }

    fn npz(arrays: &[(&str, Vec<u8>)]) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".npz").tempfile().unwrap();
        let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in arrays {
            writer.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn error(arrays: &[(&str, Vec<u8>)]) -> String {
        open(npz(arrays).path(), &OwnData { test_fraction: 0.5, ..OwnData::default() })
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn images_with_a_test_part() {
        let file = npz(&[
            ("x_train", npy("|u1", "(3, 1, 2)", &[1, 2, 3, 4, 5, 6])),
            ("y_train", npy("<i8", "(3,)", &[2u64, 0, 1].map(u64::to_le_bytes).concat())),
            ("x_test", npy("|u1", "(1, 1, 2)", &[9, 8])),
            ("y_test", npy("<i4", "(1,)", &[1, 0, 0, 0])),
        ]);
        let data = super::super::open_path(file.path(), &OwnData::default()).unwrap();
        assert_eq!((data.shape.as_slice(), data.classes, data.train.len()), ([1, 1, 2].as_slice(), 3, 3));
        assert_eq!((data.test.samples, data.test.labels), (Samples::U8(vec![9, 8]), vec![1]));
        let Samples::U8(train) = &data.train.samples else { panic!() };
        // Shuffled, but every sample keeps its label.
        for (sample, label) in train.chunks(2).zip(&data.train.labels) {
            assert_eq!(*label, [2, 0, 1][(sample[0] as usize - 1) / 2]);
        }
    }

    #[test]
    fn a_table_is_split_and_scaled() {
        let values = floats(&[0.0, 5.0, 2.0, 5.0, 4.0, 5.0, 8.0, 5.0]);
        let file = npz(&[("x", npy("<f4", "(4, 2)", &values)), ("y", npy("|u1", "(4,)", &[0, 1, 1, 0]))]);
        let data = open(file.path(), &OwnData { test_fraction: 0.5, ..OwnData::default() }).unwrap();
        assert_eq!((data.train.len(), data.test.len(), data.shape.as_slice()), (2, 2, [2].as_slice()));
        let Samples::F32(train) = &data.train.samples else { panic!() };
        assert!(train.contains(&0.0) && train.contains(&1.0), "{train:?}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let y = || ("y", npy("|u1", "(2,)", &[0, 1]));
        let x = |kind: &str, shape: &str, data: &[u8]| ("x", npy(kind, shape, data));
        for (arrays, says) in [
            (vec![("a", vec![]), ("b", vec![])], "there are: a, b"),
            (vec![x("|u1", "(2, 1)", &[1, 2])], "`y`: the array cannot be read"),
            (
                vec![x("<f4", "(2, 1)", &floats(&[1.0, f32::NAN])), y()],
                "`x`: value 0 of sample 1 is not a finite",
            ),
            (
                vec![x("<f8", "(2, 1)", &[1.0f64, 1e300].map(f64::to_le_bytes).concat()), y()],
                "sample 1 is not a finite",
            ),
            (vec![x("<i4", "(2, 1)", &[0; 8]), y()], "`x` has numbers of type `i4`"),
            (vec![x(">f4", "(2, 1)", &[0; 8]), y()], "`>f4`"),
            (vec![x("<U3", "(2, 1)", &[0; 24]), y()], "`U3`"),
            (vec![x("|u1", "(2,)", &[1, 2]), y()], "`x` has shape [2]"),
            (vec![x("|u1", "(0, 3)", &[]), y()], "empty"),
            (vec![x("|u1", "(3, 1)", &[1, 2, 3]), y()], "one label for each of the 3 samples"),
            (vec![x("|u1", "(2, 2)", &[1, 2, 3]), y()], "3 bytes of data do not make the shape [2, 2]"),
            (vec![x("<f8", "(4294967296, 4294967296)", &[1]), y()], "do not make the shape"),
            (vec![x("|u1", "(2, -1)", &[1, 2]), y()], "`-1` is not a size"),
            (vec![x("|u1", "(2, 1)", &[1, 2]), ("y", npy("|i1", "(2,)", &[255, 1]))], "label -1 of sample 0"),
            (vec![x("|u1", "(2, 1)", &[1, 2]), ("y", npy("<f4", "(2,)", &[0; 8]))], "integers are needed"),
            (vec![("x", b"nonsense".to_vec()), y()], "not in the .npy format"),
            (vec![("x", b"\x93NUMPY\x01\x00\xff\xff{}".to_vec()), y()], "cut off"),
            (
                vec![
                    ("x", npy_with("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 1), }", &[1, 2])),
                    y(),
                ],
                "column by column",
            ),
            (
                vec![
                    (
                        "x",
                        npy_with(
                            "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2,), }",
                            &[1, 2],
                        ),
                    ),
                    y(),
                ],
                "several types",
            ),
        ] {
            let error = error(&arrays);
            assert!(error.contains(says), "{error:?} should contain {says:?}");
        }
    }

    #[test]
    fn damaged_archives_are_refused() {
        let file =
            npz(&[("x", npy("|u1", "(64, 4)", &[7; 256])), ("y", npy("|u1", "(64,)", &[0, 1].repeat(32)))]);
        let good = std::fs::read(file.path()).unwrap();
        let options = OwnData::default();
        assert!(open(file.path(), &options).is_ok());
        for len in 0..good.len() {
            std::fs::write(file.path(), &good[..len]).unwrap();
            assert!(matches!(open(file.path(), &options), Err(Error::Data { .. })), "cut at {len}");
        }
    }
}
