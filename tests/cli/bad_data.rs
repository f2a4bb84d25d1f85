//! Damaged data: an error that names the file, never a reason to fall back.

use crate::{outcome, ransnn, repository};
use std::io::Write;
use std::path::Path;

/// An IDX file.
fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut out = (0x0800 | shape.len() as u32).to_be_bytes().to_vec();
    shape.iter().for_each(|size| out.extend(size.to_be_bytes()));
    out.extend(values);
    out
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Well-formed files of 20 and 10 images.
fn files() -> [Vec<u8>; 4] {
    let pixels: Vec<u8> = (0..30 * 784u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let labels: Vec<u8> = (0..20).map(|i| i % 10).collect();
    [
        idx(&[20, 28, 28], &pixels[..20 * 784]),
        idx(&[20], &labels),
        idx(&[10, 28, 28], &pixels[20 * 784..]),
        idx(&[10], &labels[..10]),
    ]
}

/// Runs `mnist.toml`, whose fallback must not be taken, on these files; returns the error.
fn run_on(folder: &Path, files: &[Vec<u8>; 4]) -> String {
    let data = folder.join("data/mnist");
    std::fs::create_dir_all(&data).unwrap();
    for (name, content) in NAMES.iter().zip(files) {
        std::fs::write(data.join(format!("{name}.gz")), content).unwrap();
    }
    let mut command = ransnn(folder);
    command.arg("run").arg(repository("mnist.toml"));
    let (out, err) = outcome(command, 1);
    assert_eq!(out, "");
    let run = crate::run_directory(folder, "mnist");
    assert_eq!(crate::read_json(&run.join("summary.json"))["status"], "failed");
    assert!(!run.join("report.html").exists());
    err
}

#[test]
fn damaged_files_are_named_and_not_replaced() {
    let good = files();
    let zipped = gzip(&good[0]);
    let mut corrupt = zipped.clone();
    corrupt[zipped.len() / 2] ^= 0x55;
    for (file, content, says) in [
        (0, zipped[..zipped.len() / 2].to_vec(), "the gzip stream is cut off"),
        (0, corrupt, "train-images-idx3-ubyte.gz: "),
        (0, idx(&[20], &[0; 20]), "0x00000801 instead of 0x00000803; this is a label file"),
        (1, b"<html>not found</html>".to_vec(), "magic number 0x3c68746d instead of 0x00000801"),
        (0, idx(&[21, 28, 28], &good[0][16..]), "more than a file of"),
        (0, idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 9]), "more than"),
        (2, idx(&[0, 28, 28], &[]), "the data set is empty"),
        (3, vec![], "too few for the header"),
        // Well-formed, but not what was published.
        (0, good[0].clone(), "the SHA-256 of its decompressed content is"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut files = good.clone();
        files[file] = content.clone();
        let err = run_on(folder.path(), &files);
        // The others have wrong sums, too; the first file in order is reported.
        if file == 0 {
            assert!(err.contains(says) && err.contains(NAMES[file]), "{says} in {err}");
        } else {
            assert!(err.contains("SHA-256"), "{err}");
        }
        let kept = folder.path().join("data/mnist").join(format!("{}.gz", NAMES[file]));
        assert_eq!(std::fs::read(kept).unwrap(), content);
    }
}

/// Runs a dense network on a path of the user's own; returns stdout or the error.
fn run_own(folder: &Path, path: &str, inputs: usize, code: i32) -> String {
    let text = format!(
        r#"schema = 1
name = "own"
[data]
path = "{path}"
[encode.constant]
steps = 4
[population.input]
shape = {inputs}
neuron = "input"
[population.hidden]
shape = 20
neuron.lif.beta = 0.9
[projection.first]
from = "input"
to = "hidden"
gain.rms-drive = 1.0
weights.normal.std = 1.0
[features]
from = ["hidden"]
[train.ransnn]
solver.ridge.lambda = [1.0]
"#
    );
    std::fs::write(folder.join("own.toml"), text).unwrap();
    let mut command = ransnn(folder);
    command.args(["run", "own.toml"]);
    let (out, err) = outcome(command, code);
    if code == 0 { out } else { err }
}

#[test]
fn a_folder_of_idx_files_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let write = |files: &[Vec<u8>; 4]| {
        NAMES.iter().zip(files).for_each(|(name, content)| std::fs::write(own.join(name), content).unwrap());
    };
    write(&files());
    assert!(run_own(folder.path(), "own", 784, 0).contains("weights trained"));
    for (file, content, says) in [
        (1, idx(&[19], &[1; 19]), "19 labels for 20 images"),
        (2, idx(&[10, 28, 27], &[0; 7560]), "28 × 27 pixels, but those for training have 28 × 28"),
        (1, b"garbage".to_vec(), "magic number"),
    ] {
        let mut bad = files();
        bad[file] = content;
        write(&bad);
        let err = run_own(folder.path(), "own", 784, 1);
        assert!(err.contains(says) && err.contains(NAMES[file]), "{says} in {err}");
    }
}

#[test]
fn tables_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..40).map(|i| format!("{i},{},{}", (i * 7) % 11, i % 2)).collect();
    let write = |text: &str| std::fs::write(folder.path().join("own.csv"), text).unwrap();
    write(&rows.join("\n"));
    assert!(run_own(folder.path(), "own.csv", 2, 0).contains("weights trained"));
    for (line, says) in [
        ("1,NaN,0", "line 41: column 2: `NaN` is not a finite"),
        ("1,two,0", "line 41: column 2: `two` is not a number"),
        ("1,0", "line 41: 2 columns, but the first row has 3"),
        ("1,,0", "line 41: column 2: the value is missing"),
    ] {
        write(&format!("{}\n{line}\n", rows.join("\n")));
        let err = run_own(folder.path(), "own.csv", 2, 1);
        assert!(err.contains("own.csv: ") && err.contains(says), "{says} in {err}");
    }
    write("");
    assert!(run_own(folder.path(), "own.csv", 2, 1).contains("own.csv: the data set is empty"));
    write(&rows.join("\n"));
    let err = run_own(folder.path(), "own.csv", 3, 1);
    assert!(err.contains("`population.input` is 3 values") && err.contains("the 2 of own"), "{err}");
    assert!(run_own(folder.path(), "nothing.csv", 2, 1).contains("cannot read nothing.csv"));
}

/// An array as NumPy writes it.
fn npy(kind: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

#[test]
fn arrays_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let run = |x: &[f32], test_labels: &[u8], code| {
        let file = std::fs::File::create(folder.path().join("own.npz")).unwrap();
        let mut archive = zip::ZipWriter::new(file);
        let floats = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let labels: Vec<u8> = (0..40).map(|i| i % 2).collect();
        for (name, array) in [
            ("x_train", npy("<f4", "40, 2", &floats(x))),
            ("y_train", npy("|u1", "40,", &labels)),
            ("x_test", npy("<f4", "4, 2", &floats(&x[..8]))),
            ("y_test", npy("|u1", "4,", test_labels)),
        ] {
            archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&array).unwrap();
        }
        archive.finish().unwrap();
        run_own(folder.path(), "own.npz", 2, code)
    };
    let good: Vec<f32> = (0..80).map(|i| (i * 7 % 11) as f32).collect();
    assert!(run(&good, &[0, 1, 0, 1], 0).contains("weights trained"));
    let mut bad = good.clone();
    bad[33] = f32::NAN;
    let err = run(&bad, &[0, 1, 0, 1], 1);
    assert!(err.contains("own.npz: ") && err.contains("sample 16 is not a finite"), "{err}");
    let err = run(&good, &[0, 1, 2, 1], 1);
    assert!(err.contains("own.npz: ") && err.contains("label 2 of test sample 2"), "{err}");
}
