//! A user's own table: comma-separated numbers with a label per row.
//!
//! Labels may be any text; classes are numbered in sorted order (by value where all labels are integers). A cell
//! that is missing, no number, NaN or infinite is refused with its line and column, and so is a row of another
//! length: a table is never repaired silently.

use std::path::Path;

use super::{
    Dataset, FileRecord, Origin, OriginKind, OwnData, Samples, Split, own_file, random_split, scale,
    shuffled, stem,
};
use crate::error::{Error, Result};

/// Rows as read: numbers, and labels as text with the line they stand on.
struct Table {
    width: usize,
    values: Vec<f32>,
    labels: Vec<(String, u64)>,
    record: FileRecord,
}

/// Opens a table. With `options.test_path` the second file is the test split; otherwise `options.test_fraction` of
/// the rows, drawn by `options.seed`. Training rows are shuffled by the seed in both cases.
///
/// # Errors
/// [`Error::Data`] with line and column for what is wrong in a file; [`Error::Value`] for a bad option.
pub fn open(path: &Path, options: &OwnData) -> Result<Dataset> {
    let table = read(path, options)?;
    let names = class_names(&table.labels);
    if names.len() < 2 {
        return Err(Error::data(
            path,
            format!("all rows have the label `{}`; two classes are needed", names[0]),
        ));
    }
    if names.len() > usize::from(u16::MAX) + 1 {
        return Err(Error::data(
            path,
            format!("{} different labels are too many for classes; is the label column right?", names.len()),
        ));
    }
    let width = table.width;
    let mut files = vec![table.record.clone()];
    let all = split(table, &names, path)?;
    let (mut train, mut test) = match &options.test_path {
        Some(test_path) => {
            let test = read(test_path, options)?;
            if test.width != width {
                return Err(Error::data(
                    test_path,
                    format!("{} feature columns, but {width} in {}", test.width, path.display()),
                ));
            }
            files.push(test.record.clone());
            (all.reordered(&shuffled(all.len(), options.seed)), split(test, &names, test_path)?)
        }
        None => random_split(&all, options.test_fraction, options.seed)?,
    };
    if let (Samples::F32(train), Samples::F32(test)) = (&mut train.samples, &mut test.samples) {
        scale(train, test, width);
    }
    Ok(Dataset {
        name: stem(path),
        shape: vec![width],
        classes: names.len(),
        class_names: names,
        train,
        test,
        origin: Origin { kind: OriginKind::Files, files },
    })
}

fn read(path: &Path, options: &OwnData) -> Result<Table> {
    let (bytes, record) = own_file(path)?;
    let bad = |line: u64, what: String| Error::data(path, format!("line {line}: {what}"));
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(::csv::Trim::All)
        .from_reader(&bytes[..]);
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| {
            let line = error.position().map_or(0, ::csv::Position::line);
            match error.kind() {
                ::csv::ErrorKind::Utf8 { err, .. } => {
                    bad(line, format!("not UTF-8 in column {}", err.field() + 1))
                }
                _ => Error::data(path, error.to_string()),
            }
        })?;
        // The position is where the row before ended: empty lines between are to be counted.
        let line = row.position().map_or(0, |position| {
            let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
            let gap = rest.iter().take_while(|byte| b"\r\n".contains(byte));
            position.line() + gap.filter(|&&byte| byte == b'\n').count() as u64
        });
        rows.push((row, line));
    }
    let Some((first, _)) = rows.first() else {
        return Err(Error::data(path, "the data set is empty: there are no rows"));
    };
    let total = first.len();
    if total < 2 {
        return Err(bad(1, "one column; a table needs at least one number and a label per row".into()));
    }
    // A name is asked for: there must be names. Otherwise a row without any number in its features is a header.
    let header = options.label.is_some()
        || options.header.unwrap_or_else(|| {
            first.iter().take(total - 1).all(|cell| !cell.is_empty() && cell.parse::<f64>().is_err())
        });
    let label = match &options.label {
        None => total - 1,
        Some(name) => first.iter().position(|cell| cell == name).ok_or_else(|| {
            Error::data(
                path,
                format!(
                    "no column `{name}`; the first row has {}",
                    first.iter().collect::<Vec<_>>().join(", ")
                ),
            )
        })?,
    };
    let body = &rows[usize::from(header)..];
    if body.is_empty() {
        return Err(Error::data(path, "the data set is empty: there is a header but no rows"));
    }
    let names: Vec<String> = match header {
        true => first.iter().map(str::to_owned).collect(),
        false => Vec::new(),
    };
    let column = |i: usize| match names.get(i) {
        Some(name) => format!("column {} (`{name}`)", i + 1),
        None => format!("column {}", i + 1),
    };
    let mut table =
        Table { width: total - 1, values: Vec::new(), labels: Vec::with_capacity(body.len()), record };
    for (row, line) in body {
        if row.len() != total {
            return Err(bad(*line, format!("{} columns, but the first row has {total}", row.len())));
        }
        for (i, cell) in row.iter().enumerate() {
            if cell.is_empty() {
                return Err(bad(*line, format!("{}: the value is missing", column(i))));
            }
            if i == label {
                table.labels.push((cell.to_owned(), *line));
                continue;
            }
            let value: f32 =
                cell.parse().map_err(|_| bad(*line, format!("{}: `{cell}` is not a number", column(i))))?;
            if !value.is_finite() {
                return Err(bad(*line, format!("{}: `{cell}` is not a finite 32-bit number", column(i))));
            }
            table.values.push(value);
        }
    }
    Ok(table)
}

/// The different labels, sorted: by value where all are integers, else as text.
fn class_names(labels: &[(String, u64)]) -> Vec<String> {
    let mut names: Vec<String> = labels.iter().map(|(label, _)| label.clone()).collect();
    names.sort();
    names.dedup();
    let integers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    if let Some(integers) = integers {
        let mut pairs: Vec<_> = integers.into_iter().zip(names).collect();
        pairs.sort();
        names = pairs.into_iter().map(|(_, name)| name).collect();
    }
    names
}

fn split(table: Table, names: &[String], path: &Path) -> Result<Split> {
    let index: std::collections::BTreeMap<&str, u16> =
        names.iter().enumerate().map(|(i, name)| (name.as_str(), i as u16)).collect();
    let labels = table
        .labels
        .iter()
        .map(|(label, line)| {
            index.get(label.as_str()).copied().ok_or_else(|| {
                Error::data(path, format!("line {line}: the label `{label}` is not among those for training"))
            })
        })
        .collect::<Result<_>>()?;
    Ok(Split { samples: Samples::F32(table.values), labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn half() -> OwnData {
        OwnData { test_fraction: 0.5, ..OwnData::default() }
    }

    fn error(content: &str, options: &OwnData) -> String {
        super::super::open_path(file(content).path(), options).unwrap_err().to_string()
    }

    /// All rows of both splits as (values, label), sorted.
    fn rows(data: &Dataset) -> Vec<(Vec<f32>, u16)> {
        let mut rows = Vec::new();
        for split in [&data.train, &data.test] {
            let Samples::F32(values) = &split.samples else { panic!() };
            rows.extend(
                values.chunks(data.features()).map(<[f32]>::to_vec).zip(split.labels.iter().copied()),
            );
        }
        rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
        rows
    }

    #[test]
    fn header_labels_and_split() {
        let text = "length,width,kind\n1,10,b\n2,20,a\n3,30,b\n4,40,a\n";
        let data = super::super::open_path(file(text).path(), &half()).unwrap();
        assert_eq!((data.shape.as_slice(), data.classes), ([2].as_slice(), 2));
        assert_eq!((data.train.len(), data.test.len()), (2, 2));
        let plain = super::super::open_path(file(&text[18..]).path(), &half()).unwrap();
        assert_eq!(rows(&data), rows(&plain));
        // The same seed splits the same way, another one eventually differently.
        let with = |seed| super::super::open_path(file(text).path(), &OwnData { seed, ..half() }).unwrap();
        assert_eq!(with(0).train, data.train);
        assert!((1..20).any(|seed| with(seed).train != data.train));
    }

    #[test]
    fn a_test_file_is_scaled_by_the_training_range() {
        let (train, test) = (file("0,x\n10,y\n5,x\n"), file("5,y\n20,x\n"));
        let options = OwnData { test_path: Some(test.path().into()), ..OwnData::default() };
        let data = open(train.path(), &options).unwrap();
        assert_eq!(data.test.samples, Samples::F32(vec![0.5, 1.0]));
        assert_eq!(data.test.labels, [1, 0]);
        assert_eq!((data.train.len(), data.origin.files.len()), (3, 2));
    }

    #[test]
    fn the_label_column_is_found_by_name() {
        let options = OwnData { label: Some("kind".into()), ..half() };
        let data = open(file("kind,a,b\nq,1,2\np,3,4\n").path(), &options).unwrap();
        assert_eq!(rows(&data).iter().map(|(values, _)| values.len()).collect::<Vec<_>>(), [2, 2]);
        let error = open(file("x,a,b\nq,1,2\n").path(), &options).unwrap_err().to_string();
        assert!(error.contains("no column `kind`; the first row has x, a, b"), "{error}");
    }

    #[test]
    fn integer_labels_sort_by_value() {
        let names =
            |labels: &[&str]| class_names(&labels.iter().map(|&l| (l.to_owned(), 0)).collect::<Vec<_>>());
        assert_eq!(names(&["10", "9", "-1", "10"]), ["-1", "9", "10"]);
        assert_eq!(names(&["10", "9", "a"]), ["10", "9", "a"]);
    }

    #[test]
    fn bad_cells_are_refused_with_line_and_column() {
        for (content, says) in [
            ("1,2,a\n3,NaN,b\n", "line 2: column 2: `NaN` is not a finite"),
            ("1,2,a\ninf,3,b\n", "line 2: column 1: `inf` is not a finite"),
            ("1,2,a\n1e39,3,b\n", "line 2: column 1: `1e39` is not a finite"),
            ("NaN,2,a\n1,3,b\n", "line 1: column 1: `NaN`"),
            (",2,a\n1,3,b\n", "line 1: column 1: the value is missing"),
            ("u,v,k\n1,,a\n1,3,b\n", "line 2: column 2 (`v`): the value is missing"),
            ("u,v,k\n1,2,\n1,3,b\n", "line 2: column 3 (`k`): the value is missing"),
            ("1,2,a\n1,?,b\n", "line 2: column 2: `?` is not a number"),
            ("1,2,a\n\n1,b\n", "line 3: 2 columns, but the first row has 3"),
            ("1,2,a\n1,2,3,b\n", "line 2: 4 columns"),
            ("", "empty"),
            ("u,v,k\n", "a header but no rows"),
            ("1\n2\n", "one column"),
            ("1,a\n2,a\n", "two classes are needed"),
        ] {
            let error = error(content, &half());
            assert!(error.contains(says), "{content:?}: {error:?} should contain {says:?}");
        }
    }

    #[test]
    fn bad_options_are_refused() {
        for fraction in [0.0, 1.0, -1.0, f64::NAN, 0.01] {
            let options = OwnData { test_fraction: fraction, ..OwnData::default() };
            assert!(matches!(open(file("1,a\n2,b\n").path(), &options).unwrap_err(), Error::Value { .. }));
        }
        let test = file("1,c\n");
        let options = OwnData { test_path: Some(test.path().into()), ..OwnData::default() };
        let error = open(file("1,a\n2,b\n").path(), &options).unwrap_err().to_string();
        assert!(error.contains("line 1: the label `c` is not among those for training"), "{error}");
    }
}
