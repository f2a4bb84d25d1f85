//! Training an ordinary network and converting it, from an experiment file.

use super::{CONVERT, accuracy, mistake, summary, verb};
use crate::run_directory;
use serde_json::Value;

#[test]
fn an_ordinary_network_is_trained_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    for set in [
        &["train.convert.thresholds.percentile.percent=99.9"][..],
        &["train.convert.thresholds=least-squares", "train.convert.correct_bias=true"],
    ] {
        let summary = summary(folder.path(), CONVERT, &[&["data.train_limit=600"], set].concat());
        assert!(accuracy(&summary) > 0.7, "{summary}");
        assert_eq!(
            summary["parameters"],
            serde_json::json!({"trained": 784 * 40 + 40 + 400 + 10, "frozen": 0})
        );
        let details = summary["details"].as_array().unwrap();
        let says = |part: &str| details.iter().any(|line| line.as_str().unwrap().contains(part));
        assert!(says("ordinary network: ") && says("layer 1: rates are off by"), "{details:?}");
        let run = run_directory(folder.path(), "small");
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let at: Vec<u64> = lines.iter().filter_map(|line| line["time_steps"].as_u64()).collect();
        assert_eq!(at, [2, 4, 16]);
        assert!(lines.iter().any(|line| line["rate_error"].is_number()));
        let last = lines.iter().rfind(|line| line["time_steps"] == 16).unwrap();
        assert_eq!(last["accuracy"], summary["test"]["accuracy"]);
        let gap = last["ann_accuracy"].as_f64().unwrap() - accuracy(&summary);
        assert!(gap < 0.05, "{gap}");
        assert!(std::fs::read_to_string(run.join("report.html")).unwrap().contains("Accuracy against time"));
        // The ordinary network can be read again.
        let ann = ransnn::tensor::safetensors::File::open(&run.join("ann-0.safetensors")).unwrap();
        assert_eq!(ann.tensor("1.weight").unwrap().shape(), [40, 784]);
    }
}

#[test]
fn a_network_that_was_trained_elsewhere_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let trained = summary(folder.path(), CONVERT, &["data.train_limit=600"]);
    let file = folder.path().join("elsewhere.safetensors");
    std::fs::copy(run_directory(folder.path(), "small").join("ann-0.safetensors"), &file).unwrap();
    let set = format!("train.convert.fit={{file={{path='{}'}}}}", file.display());
    let read = summary(folder.path(), CONVERT, &["data.train_limit=600", &set]);
    assert_eq!(read["test"]["accuracy"], trained["test"]["accuracy"]);
    assert_eq!(read["details"], trained["details"]);
    assert_eq!(read["parameters"], serde_json::json!({"trained": 0, "frozen": 784 * 40 + 40 + 400 + 10}));
    let (out, _) = verb(folder.path(), "plan", CONVERT, &[&set], 0);
    assert!(!out.contains("numbers are trained"), "{out}");
    for (set, says) in [
        (
            &[&set, "train.convert.layer=[{kind='flatten'}, {kind='linear', outputs=10}]"][..],
            &["elsewhere.safetensors", "the description makes it [10, 784]"][..],
        ),
        (&["train.convert.fit={file={path='nowhere.safetensors'}}"], &["nowhere.safetensors"]),
    ] {
        mistake(folder.path(), CONVERT, set, says);
    }
}

#[test]
fn a_ransnn_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let text = CONVERT
        .replace(
            "fit.gradient = { lr = 5e-3, batch = 20, epochs = 5 }",
            "fit.ridge = {}\nthresholds = \"qcfs\"",
        )
        .replace("steps = 16", "steps = 8")
        .replace("outputs = 40", "outputs = 200")
        .replace("\"relu\"", "\"qcfs\"");
    let summary = summary(folder.path(), &text, &["data.train_limit=1200"]);
    assert!(accuracy(&summary) > 0.7, "{summary}");
    let frozen = 784 * 200 + 200 + 1;
    assert_eq!(summary["parameters"], serde_json::json!({"trained": 2010, "frozen": frozen}));
    mistake(
        folder.path(),
        &text.replace(
            "kind = \"qcfs\"\n[[train.convert.layer]]\nkind    = \"linear\"\noutputs = 10",
            "kind = \"qcfs\"",
        ),
        &[],
        &["must end with a linear layer"],
    );
}

#[test]
fn mistakes_of_the_convert_table_have_a_place_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    for (set, says) in [
        (
            &["train.convert.fit={gradeint={}}"][..],
            &["unknown choice `gradeint`", "did you mean `gradient`?"][..],
        ),
        (&["train.convert.fit.gradient.batch=0"], &["batch` is 0", "at least 1"]),
        (&["train.convert.start=1.0"], &["`train.convert.start` is 1", "from 0 to below 1"]),
        (
            &["train.convert.input=[28,28]"],
            &["`train.convert.input` is [28, 28]", "[channels, height, width]"],
        ),
        (&["encode={poisson={steps=8}}"], &["converted networks take constant currents", "encode.constant"]),
        (&["features.from=[\"hidden\"]"], &["makes its own network", "remove `[features]`"]),
        (&["train.convert.thresholds=qcfs"], &["has no trained threshold"]),
    ] {
        mistake(folder.path(), CONVERT, set, says);
    }
    let max = CONVERT.replace(
        "kind = \"flatten\"",
        "kind = \"max-pool\"\nside = 2\n[[train.convert.layer]]\nkind = \"flatten\"",
    );
    mistake(folder.path(), &max, &[], &["layer `0` cannot be converted"]);
    let (_, err) = verb(folder.path(), "run", CONVERT, &["train.convert.input=[1,20,20]"], 1);
    assert!(err.contains("`train.convert.input` is 400 values") && err.contains("784 of strokes"), "{err}");
    let none = CONVERT.replace("[encode.constant]\nsteps = 16", "");
    mistake(folder.path(), &none, &[], &["the key `encode` is missing", "encode.constant"]);
}
