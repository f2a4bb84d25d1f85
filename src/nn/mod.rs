//! Layers and what trains them, on [`tensor`](crate::tensor).
//!
//! A layer is a plain struct with public fields; its parameters are shown through [`Trainable`](crate::tensor::Trainable).
//!
//! ```
//! use ransnn::nn::{Adam, Linear, Optimizer, loss};
//! use ransnn::rng::Stream;
//! use ransnn::tensor::{DType, Tensor, grad};
//!
//! let mut layer = Linear::new(4, 2, true, &Stream::named(0, "readout"), DType::F32)?;
//! let x = Tensor::from_f32(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], &[2, 4])?;
//! let labels = Tensor::from_u32(vec![0, 1], &[2])?;
//! let mut adam = Adam::new(0.05);
//! let mut losses = Vec::new();
//! for _ in 0..50 {
//!     let (loss, grads) = grad(&layer, || loss::cross_entropy(&layer.forward(&x)?, &labels))?;
//!     adam.step(&mut layer, &grads)?;
//!     losses.push(loss.to_scalar()?);
//! }
//! assert!(losses[49] < 0.1 * losses[0]);
//! # Ok::<(), ransnn::Error>(())
//! ```

mod embedding;
mod linear;
pub mod loss;
mod norm;
mod optim;
mod schedule;

pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::Norm;
pub use optim::{Adam, Optimizer, Sgd};
pub use schedule::Schedule;
