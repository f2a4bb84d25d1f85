//! The engine on a GPU.
//!
//! | file | idea |
//! |---|---|
//! | `reservoir` | one population that an input drives, all steps in one launch |
//! | `features` | a feed-forward network of such populations: what [`Feedforward`](super::Feedforward) records |

mod features;
mod reservoir;

pub use features::{Features, Started};
pub use reservoir::{Encoder, Reservoir};
