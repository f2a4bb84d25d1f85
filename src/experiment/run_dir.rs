//! A run directory: everything that is needed to understand, repeat or resume a run.
//!
//! `runs/<name>/<UTC time>-<4 hex digits of the configuration's hash>/`, and `runs/<name>/latest` as a link.

use super::config::Config;
use crate::document;
use crate::error::{Error, Result};
use crate::files::{read_text, write_atomic};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// SHA-256 of the resolved configuration, in hexadecimal.
pub fn config_hash(config: &Config) -> String {
    text_hash(&document::text(config).unwrap_or_default())
}

/// SHA-256 of a text, in hexadecimal.
pub fn text_hash(text: &str) -> String {
    crate::files::sha256([text.as_bytes()])
}

impl RunDir {
    /// A new folder under `runs`, with the configuration in it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(runs: &Path, config: &Config, source: &str, overrides: &[String]) -> Result<Self> {
        let resolved = super::annotate::annotated(config);
        Self::create_as(runs, [&config.name, &config_hash(config)], &resolved, source, overrides)
    }

    /// A new folder for a configuration of any schema, given as its name, its hash and its text.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create_as(
        runs: &Path,
        [name, hash]: [&str; 2],
        resolved: &str,
        source: &str,
        overrides: &[String],
    ) -> Result<Self> {
        let home = runs.join(name);
        std::fs::create_dir_all(&home).map_err(Error::io("create", &home))?;
        let time =
            humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string().replace(':', "-");
        let stem = format!("{time}-{}", hash.get(..4).unwrap_or(hash));
        // Two runs in one second get a number.
        let path = (1..10_000)
            .map(|n| home.join(if n == 1 { stem.clone() } else { format!("{stem}-{n}") }))
            .find_map(|path| match std::fs::create_dir(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => None,
                result => Some(result.map(|()| path.clone()).map_err(Error::io("create", path))),
            })
            .ok_or_else(|| Error::Internal(format!("no free name in {}", home.display())))??;
        let run = Self { path };
        let checkpoints = run.file("checkpoints");
        std::fs::create_dir(&checkpoints).map_err(Error::io("create", checkpoints))?;
        run.write("source.toml", source.as_bytes())?;
        if !overrides.is_empty() {
            run.write("overrides.txt", (overrides.join("\n") + "\n").as_bytes())?;
        }
        run.write("config.toml", resolved.as_bytes())?;
        #[cfg(unix)]
        {
            let link = home.join("latest");
            if let Some(name) = run.path.file_name() {
                // Through a rename: two runs that start at once do not trip over each other.
                let fresh = run.file(".latest");
                let made = std::os::unix::fs::symlink(name, &fresh);
                made.and_then(|()| std::fs::rename(&fresh, &link)).map_err(Error::io("link", link))?;
            }
        }
        Ok(run)
    }

    /// An existing folder, to resume in or to show.
    ///
    /// # Errors
    /// Not a run directory.
    pub fn open(path: &Path) -> Result<Self> {
        let config = path.join("config.toml");
        if !config.is_file() {
            return Err(Error::data(path, "this is not a run directory: it has no config.toml"));
        }
        let path = path.canonicalize().map_err(Error::io("read", path))?;
        Ok(Self { path })
    }

    /// The resolved configuration of the run.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn config(&self) -> Result<Config> {
        let path = self.file("config.toml");
        let source = super::diagnose::Source::new(&path.display().to_string(), &read_text(&path)?, &[])?;
        super::check::load(&source)
    }

    /// Refuses to continue with another configuration.
    ///
    /// # Errors
    /// The configurations differ; says in which keys.
    pub fn must_match(&self, config: &Config) -> Result<()> {
        self.must_equal(&self.config()?, config)
    }

    /// Refuses to continue with another configuration than the one the run has; of any schema.
    ///
    /// # Errors
    /// The configurations differ; says in which keys.
    pub fn must_equal<C: Serialize + PartialEq>(&self, ours: &C, config: &C) -> Result<()> {
        if ours == config {
            return Ok(());
        }
        let differ = difference(ours, config);
        Err(Error::data(&self.path, format!("the run was started with another configuration; now {differ}")))
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        write_atomic(&self.file(name), content)
    }

    /// Writes a file as indented JSON.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(e.to_string()))?;
        text.push(b'\n');
        self.write(name, &text)
    }

    /// Appends one line to `metrics.jsonl`: `value`, an object, after the time `t` in seconds since 1970.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn metric(&self, value: serde_json::Value) -> Result<()> {
        let path = self.file("metrics.jsonl");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut all = serde_json::Map::from_iter([("t".to_string(), (now.as_millis() as f64 / 1e3).into())]);
        if let serde_json::Value::Object(mut value) = value {
            all.append(&mut value);
        }
        let mut line = serde_json::to_vec(&all).map_err(|e| Error::Internal(e.to_string()))?;
        line.push(b'\n');
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&line)).map_err(Error::io("write", path))
    }

    /// Takes out of `metrics.jsonl` what a run that was killed wrote of a seed after step `step`, so that the steps
    /// that are repeated do not stand there twice; and a last line that was cut off.
    ///
    /// # Errors
    /// Unreadable, unwritable.
    pub fn forget_metrics(&self, seed: u64, step: usize) -> Result<()> {
        let path = self.file("metrics.jsonl");
        if !path.is_file() {
            return Ok(());
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let stays = |line: &&[u8]| {
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else { return false };
            value["seed"] != seed || value["step"].as_u64().is_some_and(|at| at <= step as u64)
        };
        let kept = bytes.split_inclusive(|&byte| byte == b'\n').filter(stays).collect::<Vec<_>>().concat();
        if kept.len() == bytes.len() { Ok(()) } else { write_atomic(&path, &kept) }
    }
}

/// The keys of a configuration that are not as in another, with their values.
pub fn difference<C: Serialize>(old: &C, new: &C) -> String {
    let lines = |config: &C| -> Vec<String> {
        let table = toml::Table::try_from(config).unwrap_or_default();
        let mut lines = vec![];
        flatten("", &toml::Value::Table(table), &mut lines);
        lines
    };
    let (old, mut new) = (lines(old), lines(new));
    new.retain(|line| !old.contains(line));
    new.join(", ")
}

fn flatten(prefix: &str, value: &toml::Value, lines: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, lines);
            }
        }
        value => lines.push(format!("{prefix} = {value}")),
    }
}

/// Facts about the machine, the program and the data, for `env.json`.
pub fn environment(threads: usize, device: &str, data: Option<&crate::data::Dataset>) -> serde_json::Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_matches([' ', '\t', ':']));
    serde_json::json!({
        "ransnn": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("RANSNN_BUILT_FROM"),
        "rustc": option_env!("RANSNN_RUSTC"),
        "features": if cfg!(feature = "cuda") { vec!["cuda"] } else { vec![] },
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpu": cpu,
        "simd": crate::engine::Simd::best().name(),
        "threads": threads,
        "device": device,
        "data": data.map(|data| {
            let file = |file: &crate::data::FileRecord| {
                serde_json::json!({ "name": file.name, "bytes": file.bytes, "sha256": file.sha256 })
            };
            serde_json::json!({
                "name": data.name,
                "files": data.origin.files.iter().map(file).collect::<Vec<_>>(),
            })
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{check, diagnose::Source};

    fn config(set: &[&str]) -> Config {
        let set: Vec<String> = set.iter().map(|s| (*s).to_string()).collect();
        let text = include_str!("../../experiments/strokes.toml");
        check::load(&Source::new("strokes.toml", text, &set).expect("parses")).expect("is right")
    }

    #[test]
    fn a_run_directory_holds_what_repeats_the_run() -> Result<()> {
        let runs = tempfile::tempdir().expect("temporary folder");
        let config = config(&["eval.repeat=2"]);
        let first = RunDir::create(runs.path(), &config, "source", &["eval.repeat=2".into()])?;
        let second = RunDir::create(runs.path(), &config, "source", &[])?;
        assert_ne!(first.path(), second.path());
        assert_eq!(RunDir::open(first.path())?.config()?, config);
        assert_eq!(read_text(&first.file("overrides.txt"))?, "eval.repeat=2\n");
        Ok(())
    }

    #[test]
    fn another_configuration_is_refused_and_the_difference_named() -> Result<()> {
        let runs = tempfile::tempdir().expect("temporary folder");
        let run = RunDir::create(runs.path(), &config(&[]), "source", &[])?;
        run.must_match(&config(&[]))?;
        let error = run.must_match(&config(&["seed=5"])).expect_err("differs").to_string();
        assert!(error.contains("now seed = 5"), "{error}");
        Ok(())
    }

    #[test]
    fn an_unwritable_place_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = RunDir::create(file.path(), &config(&[]), "", &[]).expect_err("a file is no folder");
        assert!(error.to_string().starts_with("cannot create"), "{error}");
    }
}
