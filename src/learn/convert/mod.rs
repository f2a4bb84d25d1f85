//! From an ordinary network to a spiking one.
//!
//! An [`Ann`] with rectified or QCFS activations is trained (or read from a file), its batch normalisation is folded into
//! the layers before, and every activation becomes a population of integrate-and-fire neurons whose rate stands for it:
//! threshold θ, reset by subtraction, the analogue input in every step, an output that only integrates. Weights between
//! two populations are those of the layers and average pooling between the activations, scaled by their thresholds.
//!
//! | file | |
//! |---|---|
//! | `ann` | layers, forward pass, folding of batch normalisation |
//! | `describe` | the description of layers in TOML; weights from safetensors |
//! | `train` | training on the tensor backend |
//! | `stages` | what lies between two activations as one linear map, or a refusal by name |
//! | `thresholds` | percentiles (Rueckauer et al. 2017), QCFS (Bu et al. 2022), least squares (Li et al. 2021) |
//! | `spiking` | the network that the engine runs |
//! | `report` | accuracy against steps, rate error of each layer, where conversion loses |
//! | `random` | conversion of a RanSNN: random layers, a ridge readout |
//!
//! ```
//! use ransnn::engine::Input;
//! use ransnn::learn::convert::{Ann, Options, Thresholds, Training, convert, train};
//! let description = r#"
//!     input = [4]
//!     [[layer]]
//!     kind = "linear"
//!     outputs = 16
//!     [[layer]]
//!     kind = "relu"
//!     [[layer]]
//!     kind = "linear"
//!     outputs = 2
//! "#;
//! let mut ann = Ann::draw(&description.parse()?, 1)?;
//! let (x, labels) = (Input::U8(&[255, 0, 0, 9, 0, 255, 9, 0]), [0, 1]);
//! let training = Training { epochs: 20, batch: 2, learning_rate: 0.02, ..Training::default() };
//! train(&mut ann, x, &labels, &training, None, &mut ())?;
//! let thresholds = Thresholds::Percentile { percent: 100.0, factor: 1.0 };
//! let snn = convert(&ann, x, 2, &Options { thresholds, ..Options::default() })?;
//! assert_eq!(snn.classify(x, 2, 16)?.0, [0, 1]);
//! # Ok::<(), ransnn::Error>(())
//! ```

mod ann;
mod describe;
mod random;
mod report;
mod spiking;
mod stages;
mod thresholds;
mod train;

pub use ann::{Ann, Layer, Norm};
pub use describe::{Description, Spec};
pub use random::fit_readout;
pub use report::{At, LayerError, Report, report};
pub use spiking::{Converted, Options, Spiking, convert};
pub use thresholds::Thresholds;
pub use train::{Trainer, Training, activation_bytes, train};

use crate::engine::Input;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Samples that go through an ordinary network at once.
const BATCH: usize = 256;

/// Samples `range` of a batch as `[samples, ..shape]` of intensities from 0 to 1.
fn tensor_of(input: Input<'_>, range: std::ops::Range<usize>, shape: &[usize]) -> Result<Tensor> {
    let len: usize = shape.iter().product();
    let places = range.start * len..range.end * len;
    let wrong = |got: usize| Error::value("length of the input", got, format!("at least {}", places.end));
    let values: Vec<f32> = match input {
        Input::U8(x) => {
            let x = x.get(places.clone()).ok_or_else(|| wrong(x.len()))?;
            x.iter().map(|&x| f32::from(x) / 255.0).collect()
        }
        Input::F32(x) => x.get(places.clone()).ok_or_else(|| wrong(x.len()))?.to_vec(),
        Input::Events(_) => {
            return Err(Error::value("input of an ordinary network", "spike lists", "intensities"));
        }
    };
    Tensor::from_f32(values, &[&[range.len()], shape].concat())
}
