//! Progress on stderr: bars on a terminal, otherwise a line for each piece of work.

use super::args;
use crate::error::{Error, Result};
use crate::progress::{Progress, Unit};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set by the first Ctrl-C.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C asks to stop, the second stops.
pub fn handle_interrupt() {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    // Only fails if there is a handler already, as when the library is used twice in one process.
    let _ = ctrlc::set_handler(handler);
}

/// Draws progress.
pub struct Console {
    style: Style,
    bar: Option<ProgressBar>,
    what: String,
    begun: Instant,
    done: u64,
    log: Option<std::fs::File>,
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Bars,
    Plain,
    Silent,
}

impl Console {
    /// As asked on the command line.
    pub fn new(asked: args::Style, quiet: bool) -> Self {
        let style = match asked {
            _ if quiet => Style::Silent,
            args::Style::None => Style::Silent,
            args::Style::Bars => Style::Bars,
            args::Style::Plain => Style::Plain,
            args::Style::Auto if std::io::stderr().is_terminal() => Style::Bars,
            args::Style::Auto => Style::Plain,
        };
        Self { style, bar: None, what: String::new(), begun: Instant::now(), done: 0, log: None }
    }

    /// From now on notes are also appended to this file, each after its time, whatever is shown.
    pub fn log_to(&mut self, path: &std::path::Path) -> Result<()> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        self.log = Some(file.map_err(Error::io("write", path))?);
        Ok(())
    }

    /// A remark between pieces of work.
    pub fn note(&self, text: &str) {
        if let Some(mut log) = self.log.as_ref() {
            let now = humantime::format_rfc3339_millis(std::time::SystemTime::now());
            // A log that cannot be written must not stop the work; the results will say that the disk is full.
            let _ = writeln!(log, "{now} {text}");
        }
        if self.style != Style::Silent {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

impl Progress for Console {
    fn start(&mut self, what: &str, total: Option<u64>, unit: Unit) {
        self.what = what.into();
        self.begun = Instant::now();
        self.done = 0;
        if self.style != Style::Bars {
            return;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        let amount = match unit {
            Unit::Bytes => "{bytes}/{total_bytes}  {bytes_per_sec}",
            Unit::Samples => "{human_pos}/{human_len} samples  {rate}",
            Unit::Steps => "{human_pos}/{human_len}  {rate}",
        };
        let template = match total {
            Some(_) => format!("{{msg:18}} {{wide_bar}}  {amount}  {{eta}} left"),
            None => "{msg:18} {spinner} {elapsed}".to_string(),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Nothing can be done about a terminal that takes no text.
            let _ = write!(out, "{}/s", HumanCount(state.per_sec().max(0.0).round() as u64));
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("━╸ "));
        bar.set_message(self.what.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn advance(&mut self, n: u64) {
        self.done += n;
        if let Some(bar) = &self.bar {
            bar.inc(n);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        match self.done {
            0 => self.note(&format!("{:<18} {seconds:8.2} s", self.what)),
            n => self.note(&format!(
                "{:<18} {seconds:8.2} s  {:.0}/s",
                self.what,
                n as f64 / seconds.max(1e-9)
            )),
        }
    }

    fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }
}
