//! Running generated programs: in a process of their own, with limits of time, memory and files, and only where the user
//! allowed it. That is no sandbox: what must not be read or reached must not be on the machine.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    let mut child = child.map_err(Error::io("run", "python3"))?;
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match child.try_wait().map_err(Error::io("run", "python3"))? {
            Some(status) => return Ok(status.success()),
            None if Instant::now() >= end => {
                let _ = child.kill();
                child.wait().map_err(Error::io("run", "python3"))?;
                return Ok(false);
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
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
