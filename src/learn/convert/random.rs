//! Conversion of a RanSNN: random layers with QCFS activations, and a readout by ridge on what their neurons will count.
//!
//! With one random layer, analogue input and as many steps as levels, the spike counts of the converted network are the
//! very codes that the readout was fitted to.

use super::ann::{Ann, Layer};
use super::thresholds::Thresholds;
use super::{BATCH, tensor_of};
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::learn::ridge::NormalEquations;
use crate::tensor::Tensor;

/// Fits the last layer of a network by ridge with penalty `lambda` and leaves the others as they are. The thresholds of
/// its QCFS activations are set first, layer by layer, to the 99.9 percentile of what `samples` samples drive them with.
///
/// # Errors
/// A network that does not end with QCFS, perhaps average pooling and flattening, and a linear layer; codes above 255.
pub fn fit_readout(
    ann: &mut Ann,
    input: Input<'_>,
    labels: &[u16],
    samples: usize,
    lambda: f64,
) -> Result<()> {
    set_thresholds(ann, input, samples.min(labels.len()))?;
    let wrong = || {
        let what = "QCFS, perhaps average pooling and flattening, then a linear layer";
        Error::Network(vec![format!("a network whose readout is fitted must end with {what}")])
    };
    let [head @ .., (_, Layer::Linear { .. })] = &ann.layers[..] else { return Err(wrong()) };
    let mut area = 1;
    let mut found = None;
    for (_, layer) in head.iter().rev() {
        match layer {
            Layer::AvgPool { side, .. } => area *= side * side,
            Layer::Flatten => {}
            Layer::Qcfs { theta, levels } => {
                found = Some((theta.to_scalar()?, *levels));
                break;
            }
            _ => break,
        }
    }
    let (theta, levels) = found.ok_or_else(wrong)?;
    let largest = levels as usize * area;
    if largest > 255 {
        return Err(Error::value("levels times the area of pooling windows", largest, "at most 255"));
    }
    let body = Ann { input: ann.input.clone(), layers: head.to_vec() };
    // A feature is θ / (levels · area) times an integer.
    let quantum = theta / largest as f64;
    let Some((_, Layer::Linear { weight, bias })) = ann.layers.last_mut() else { return Err(wrong()) };
    let &[classes, width] = weight.shape() else { return Err(wrong()) };
    let mut equations = NormalEquations::new(width, classes, largest as u8)?;
    for start in (0..labels.len()).step_by(BATCH) {
        let range = start..labels.len().min(start + BATCH);
        let features = body.forward(&tensor_of(input, range.clone(), &ann.input)?)?.to_f32()?;
        let codes: Vec<u8> = features.iter().map(|&x| (f64::from(x) / quantum).round() as u8).collect();
        equations.add(&codes, &labels[range])?;
    }
    let ridge = equations.solve(lambda)?;
    let weights = ridge.weights.iter().map(|w| (w / quantum) as f32).collect();
    *weight = Tensor::from_f32(weights, &[classes, width])?;
    *bias = Tensor::from_f32(ridge.bias.iter().map(|&b| b as f32).collect(), &[classes])?;
    Ok(())
}

/// Sets the threshold of each QCFS activation to a percentile of its input.
fn set_thresholds(ann: &mut Ann, input: Input<'_>, samples: usize) -> Result<()> {
    let mut values = tensor_of(input, 0..samples, &ann.input)?;
    let percentile = Thresholds::Percentile { percent: 99.9, factor: 1.0 };
    for i in 0..ann.layers.len().saturating_sub(1) {
        if let (name, Layer::Qcfs { theta, .. }) = &mut ann.layers[i] {
            let drive = values.relu()?.to_f32()?;
            let found = percentile.of(name, &Layer::Relu, &drive, [1, drive.len()], false)?;
            *theta = Tensor::from_f32(found, &[1])?;
        }
        let one = Ann { input: vec![], layers: vec![ann.layers[i].clone()] };
        values = one.forward(&values)?;
    }
    Ok(())
}
