//! How long work tells what it is doing. The library reports; the command line draws.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a transfer.
    Bytes,
    /// Samples of a data set.
    Samples,
    /// Steps of training or simulation.
    Steps,
}

/// A listener for progress. `()` ignores it.
pub trait Progress {
    /// A new piece of work begins; `total` is `None` where its size is unknown.
    fn start(&mut self, what: &str, total: Option<u64>, unit: Unit);
    /// `n` more units are done.
    fn advance(&mut self, n: u64);
    /// The piece of work is over.
    fn finish(&mut self);
    /// Whether the user asked to stop; long loops look at it between steps.
    fn interrupted(&self) -> bool {
        false
    }
}

impl Progress for () {
    fn start(&mut self, _what: &str, _total: Option<u64>, _unit: Unit) {}
    fn advance(&mut self, _n: u64) {}
    fn finish(&mut self) {}
}
