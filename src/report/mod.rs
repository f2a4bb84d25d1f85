//! The HTML report of a run: one file, no network, no scripts, light and dark, printable.
//!
//! [`Page`] is plain data. It is stored beside the run as JSON, so that the report can be drawn again without
//! repeating the experiment, and it becomes HTML with [`Page::html`]. Every section is left out when its data is.
//!
//! ```
//! use ransnn::report::{Page, Run};
//!
//! let page = Page {
//!     title: "mnist".into(),
//!     runs: vec![Run { seed: 0, test_accuracy: 0.9874, ..Run::default() }],
//!     ..Page::default()
//! };
//! assert!(page.html()?.contains("98.74"));
//! # Ok::<(), ransnn::Error>(())
//! ```

mod activity;
mod confusion;
mod cost;
mod file;
mod html;
mod image;
pub mod number;
mod page;
pub mod plot;
#[cfg(test)]
mod sample;

pub use activity::{Activity, Band, PopulationActivity};
pub use cost::{ADDITION_PICOJOULES, MULTIPLY_ADD_PICOJOULES};
pub use page::{
    Confusion, Energy, Example, FileRecord, Histogram, Image, Layer, Measured, Page, Parameters, Part,
    Picture, Raster, Run, Table, Tile,
};
pub use plot::{Plot, Point, Series, line_plot};
