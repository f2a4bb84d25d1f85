//! The command line.

mod args;
mod builtin;
mod memory;
mod peft;
mod progress;
mod render;
mod simulate;
mod verbs;

use crate::error::Error;
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

/// The clap command, for completions, manual pages and tests.
pub fn command() -> clap::Command {
    <args::Cli as clap::CommandFactory>::command()
}

/// Runs the program: 0 done; 1 what was asked did not work out; 2 wrong usage or our fault; 130 interrupted.
pub fn main() -> ExitCode {
    memory::keep();
    end_with_panics();
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also `--help` and `--version`, which are no errors.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let color = cli.global.color;
    match verbs::dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us (`| head`) has read enough.
        Err(Error::Io { path, source, .. })
            if source.kind() == std::io::ErrorKind::BrokenPipe && path.as_os_str() == "stdout" =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            render::error(&error, color);
            ExitCode::from(error.exit_code())
        }
    }
}

/// A panic is our fault: it is told, and ends the program with 2, whichever thread it is in.
fn end_with_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        let _ =
            writeln!(std::io::stderr(), "This is a fault of ransnn. Please report it with the lines above.");
        std::process::exit(2);
    }));
}

/// Writes to stdout; a closed pipe is an error that `main` knows.
fn print(text: &str) -> crate::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::io("write", "stdout"))
}

#[cfg(test)]
mod tests {
    /// In a process of its own, which the panic ends: the harness itself would end with 101.
    #[test]
    fn a_panic_ends_the_program_with_2() {
        const CHILD: &str = "RANSNN_TEST_PANIC";
        if std::env::var_os(CHILD).is_some() {
            super::end_with_panics();
            let _ = std::thread::spawn(|| panic!("on purpose")).join();
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().expect("a program"))
            .args(["--exact", "cli::tests::a_panic_ends_the_program_with_2", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("on purpose") && told.contains("a fault of ransnn"), "{told}");
    }
}
