//! The benchmark suite behind `ransnn bench`.

use crate::error::Result;
use serde::Serialize;

/// A case.
pub struct Case {
    /// Name.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
}
/// All.
pub const CASES: &[Case] = &[];
/// Runs.
pub fn run(_case: &Case, _threads: usize, _repeats: usize) -> Result<String> {
    Ok(String::new())
}
/// Devices.
#[derive(Serialize)]
pub struct Devices {}
impl std::fmt::Display for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "")
    }
}
/// Devices.
pub fn devices() -> Devices {
    Devices {}
}
