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

/// Writes to stdout; a closed pipe is an error that `main` knows.
fn print(text: &str) -> crate::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::io("write", "stdout"))
}
