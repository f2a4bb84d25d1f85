//! Mistakes in experiment files and places: one clear error each, and nothing is written.

use crate::{outcome, ransnn, run_small, texts};

#[test]
fn mistakes_in_an_experiment_are_named_with_their_place() {
    for (set, says) in [
        ("population.maps.neuron.lif.betta=0.9", &["unknown key `betta`", "did you mean `beta`?"][..]),
        ("population.maps.neuron.lif.beta=1.5", &["beta` is 1.5", "from 0 (no memory) to 1 (no leak)"]),
        ("population.maps.neuron.lif={tau_mem_ms=-3.0}", &["tau_mem_ms` is -3", "a time above 0"]),
        ("encode.constant.steps=0", &["`encode.constant.steps` is 0", "at least 1"]),
        ("encode={events={steps=5,step_ms=2.0}}", &["the samples of a data set are no events", "data.path"]),
        ("encode.constant.steps=abc", &["string \"abc\", expected a whole number"]),
        ("train.ransnn.solver={adam={batch=0}}", &["`train.ransnn.solver.adam.batch` is 0", "at least 1"]),
        ("train.ransnn.solver.adam.batch=9", &["more than one choice", "keep one of them"]),
        ("data.dataset=mnst", &["`mnst`", "did you mean `mnist`?"]),
        ("data.train_limit=-1", &["integer `-1`, expected a whole number, 0 or more"]),
        ("projection.random.from=pixls", &["no population `pixls`", "did you mean `pixels`?"]),
        ("projection.random.connect.conv2d.kernel=7", &["projection `random`", "the target is 24 × 24"]),
        ("projection.random.connect.conv2d.max_pool=2", &["the target is 24 × 24", "pooled to 12 × 12"]),
        ("projection.random.connect.conv2d.max_pool=25", &["windows of 25 × 25 do not fit the 24 × 24"]),
        ("projection.random.connect.conv2d.max_pool=0", &["max_pool"]),
        ("population.pixels.shape=784", &["projection `random`", "[channels, height, width]"]),
        ("name=../x", &["`../x` is no name"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (out, err) = texts(&run_small(folder.path(), &["--set", set]), 1);
        assert_eq!(out, "");
        assert!(err.contains("strokes.toml:"), "{set}: the place in {err}");
        assert!(err.contains("error: 1 mistake in"), "{set}: one error in {err}");
        says.iter().for_each(|part| assert!(err.contains(part), "{set}: {part} in {err}"));
        assert!(!folder.path().join("runs").exists(), "{set}: nothing is written");
    }
}

#[test]
fn samples_that_do_not_fit_the_input_name_the_population() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = ["--set", "population.pixels.shape=[1,30,30]", "--set", "population.maps.shape=[16,26,26]"];
    let (_, err) = texts(&run_small(folder.path(), &sizes), 1);
    assert!(err.contains("`population.pixels` is 900 values") && err.contains("the 784 of strokes"), "{err}");
    let big = ["--set", "train.ransnn.solver={adam={batch=1000}}"];
    let (_, err) = texts(&run_small(folder.path(), &big), 1);
    assert!(err.contains("mini-batch is 1000") && err.contains("600 training samples"), "{err}");
}

#[test]
fn files_that_are_no_experiments() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    write("empty.toml", b"");
    write("latin.toml", b"name = \"caf\xe9\"\n");
    write("garbage.toml", &(0..=255u8).rev().collect::<Vec<u8>>());
    for (file, says) in [
        ("nothing.toml", &["cannot read nothing.toml", "No such file", "ransnn init"][..]),
        (".", &["cannot read .", "s a directory"]),
        ("empty.toml", &["empty.toml", "the key `schema` is missing"]),
        ("latin.toml", &["latin.toml: byte 11 is not UTF-8"]),
        ("garbage.toml", &["garbage.toml: byte 0 is not UTF-8"]),
    ] {
        for verb in ["run", "check", "plan", "config"] {
            let mut command = ransnn(folder.path());
            command.args([verb, file]);
            let (out, err) = outcome(command, 1);
            assert_eq!(out, "");
            says.iter().for_each(|part| assert!(err.contains(part), "{verb} {file}: {part} in {err}"));
        }
    }
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn places_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let (out, err) = texts(&run_small(folder.path(), &["--out", "file"]), 1);
    assert!(err.contains("cannot create file/strokes"), "{err}");
    assert_eq!(out, "");
    let (_, err) = texts(&run_small(folder.path(), &["--threads", "100000"]), 1);
    assert!(err.contains("number of threads is 100000") && err.contains("1024"), "{err}");
    let (_, err) = texts(&run_small(folder.path(), &["--resume", "file"]), 1);
    assert!(err.contains("file: this is not a run directory"), "{err}");
}

/// A disk of 64 kB, as root where mounting is allowed.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_leaves_no_half_file() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&disk);
    let mounted = mount.output().is_ok_and(|output| output.status.success());
    if !mounted {
        println!("skipped: a small disk cannot be mounted here");
        return;
    }
    let output = run_small(folder.path(), &["--out", "disk"]);
    let run = disk.join("strokes/latest");
    let page = run.join("report.html").exists();
    let temporary = std::fs::read_dir(&run)
        .into_iter()
        .flatten()
        .filter(|entry| entry.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().starts_with(".tmp")))
        .count();
    let unmounted = std::process::Command::new("umount").arg(&disk).status().is_ok_and(|s| s.success());
    assert!(unmounted);
    let (_, err) = texts(&output, 1);
    assert!(err.contains("No space left on device") && err.contains("free some space"), "{err}");
    assert!(!page && temporary == 0);
}
