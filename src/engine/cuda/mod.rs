//! The engine on a GPU.
//!
//! | file | idea |
//! |---|---|
//! | `reservoir` | one population that an input drives, all steps in one launch |
//! | `features` | such populations one behind the other: what [`Presentation`](super::Presentation) records |
//! | `simulator` | any network with delays, on a grid of time: two launches for each stretch of steps |
//! | `layout` | a network as the flat tables that its kernels read |
//! | `plastic` | its synapses whose weights change |
//! | `procedural` | its synapses where they are drawn again and not stored |
//! | `checkpoint` | the state of a simulation to a file and back |

// Without the feature `cuda` a GPU is a type without values, and nothing is done with one.
#![cfg_attr(not(feature = "cuda"), allow(unreachable_code, unused_variables))]

mod checkpoint;
mod features;
mod layout;
mod plastic;
mod procedural;
mod reservoir;
mod simulator;

pub use features::{Features, Started};
pub use layout::planned_bytes;
pub use procedural::Connectivity;
pub use reservoir::{Encoder, Reservoir};
pub use simulator::Simulator;
