//! Running generated programs: in a process of their own, with limits of time, memory and files, and only where the user
//! allowed it. That is no sandbox: what must not be read or reached must not be on the machine.

use std::collections::BTreeMap;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::models::tasks::{Writer, humaneval};
use crate::progress::{Progress, Unit};
use crate::{Error, Result};

/// The user's permission to run what a model wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission(());

impl Permission {
    /// From `--allow-code-execution`.
    ///
    /// # Errors
    /// It was not given.
    pub fn new(allowed: bool) -> Result<Self> {
        match allowed {
            true => Ok(Self(())),
            false => Err(Error::Unsupported {
                op: "generated code",
                on: "without --allow-code-execution: it may do anything that you may do".into(),
            }),
        }
    }
}

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds.
    pub seconds: u64,
    /// Bytes of memory.
    pub bytes: u64,
}

impl Default for Limits {
    /// HumanEval's three seconds, and half a gigabyte.
    fn default() -> Self {
        Self { seconds: 3, bytes: 512 << 20 }
    }
}

/// Runs a Python program; whether it ended without an error within the limits.
///
/// # Errors
/// There is no `python3`, or no temporary folder.
pub fn succeeds(program: &str, limits: Limits, _permission: Permission) -> Result<bool> {
    let folder = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
    let file = folder.path().join("program.py");
    // Limits are lowered for good before anything of the model's runs; children inherit them.
    let Limits { seconds, bytes } = limits;
    let prelude = format!(
        "import resource as _r\n\
         for _k, _v in ((_r.RLIMIT_AS, {bytes}), (_r.RLIMIT_CPU, {seconds}), (_r.RLIMIT_FSIZE, 1 << 20), (_r.RLIMIT_CORE, 0), (_r.RLIMIT_NPROC, 64)):\n    \
         _r.setrlimit(_k, (_v, _v))\n\
         del _r, _k, _v\n"
    );
    std::fs::write(&file, prelude + program).map_err(Error::io("write", &file))?;
    let child = Command::new("python3")
        .args(["-I", "-S", "program.py"])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/local/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = child.map_err(Error::io("run", "python3"))?;
    Ok(wait(child, "python3", seconds)?.is_some_and(|status| status.success()))
}

/// How a process ended; `None` where it was ended after so many seconds.
pub(super) fn wait(mut child: Child, name: &str, seconds: u64) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match child.try_wait().map_err(Error::io("run", name))? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= end => {
                let _ = child.kill();
                child.wait().map_err(Error::io("run", name))?;
                return Ok(None);
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Whether so many samples say something about every pass@k.
///
/// # Errors
/// A k of 0 or above the number of samples.
pub fn estimable(ks: &[usize], samples: usize) -> Result<()> {
    match ks.iter().find(|&&k| k == 0 || k > samples) {
        None => Ok(()),
        Some(k) => Err(Error::value("k of pass@k", k, format!("from 1 to the number of samples, {samples}"))),
    }
}

/// pass@k for each of `ks`, from so many samples of each problem; mean over problems.
///
/// # Errors
/// No problems; a k of 0 or above the number of samples; the writer's; no `python3`; an interrupt.
pub fn pass_at(
    problems: &[humaneval::Problem],
    ks: &[usize],
    samples: usize,
    writer: &mut dyn Writer,
    permission: Permission,
    progress: &mut dyn Progress,
) -> Result<Vec<f64>> {
    estimable(ks, samples)?;
    if problems.is_empty() {
        return Err(Error::value("the number of problems", 0, "at least 1"));
    }
    progress.start("humaneval", Some(problems.len() as u64), Unit::Samples);
    let mut sums = vec![0.0; ks.len()];
    for problem in problems {
        // Equal programs are run once.
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        let mut right = 0;
        for completion in writer.samples(&problem.id, &problem.prompt, samples)? {
            if progress.interrupted() {
                return Err(Error::Interrupted { checkpoint: None });
            }
            let program = humaneval::program(problem, &completion);
            let succeeds = match known.get(&program) {
                Some(&succeeds) => succeeds,
                None => succeeds(&program, Limits::default(), permission)?,
            };
            known.insert(program, succeeds);
            right += usize::from(succeeds);
        }
        sums.iter_mut().zip(ks).for_each(|(sum, &k)| *sum += humaneval::pass_at(k, samples, right));
        progress.advance(1);
    }
    progress.finish();
    Ok(sums.into_iter().map(|sum| sum / problems.len() as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold() {
        assert!(Permission::new(false).expect_err("refused").to_string().contains("--allow-code-execution"));
        let permission = Permission::new(true).expect("given");
        let run = |program: &str| succeeds(program, Limits { seconds: 2, bytes: 256 << 20 }, permission);
        match run("assert 1 + 1 == 2") {
            Ok(fine) => assert!(fine),
            Err(_) => return println!("skipped: there is no python3"),
        }
        assert!(!run("assert 1 + 1 == 3").expect("runs"));
        assert!(!run("while True: pass").expect("runs"));
        assert!(!run("x = bytearray(1 << 30)").expect("runs"));
        assert!(!run("import time\ntime.sleep(60)").expect("runs"));
        assert!(!run("open('f', 'wb').write(bytes(1 << 22))").expect("runs"));
    }
}
