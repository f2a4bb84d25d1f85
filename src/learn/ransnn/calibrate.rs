//! Sets the gains of a network's projections by what a calibration batch does in it.

use crate::engine::{Input, Presentation, Probe, Recording, Table, What};
use crate::error::{Error, Result};
use crate::snn::calibrate::{rate_gain, rms_gain};
use crate::snn::neurons::{Lif, Reset};
use crate::snn::{Encoding, Network, Pop, Weights};

/// What a projection's gain is to achieve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tune {
    /// Root mean square of the input current of each neuron (each channel of a convolution), in units of the
    /// threshold's scale. For projections from an input whose intensities are constant currents.
    RmsDrive(f64),
    /// Mean share of steps in which a neuron of the target population fires, within 2 %.
    FiringRate(f64),
}

/// Tunes projections one after the other, in the order given: a deeper layer sees its tuned sources.
///
/// `batch` holds the calibration samples.
///
/// # Errors
/// Unknown projection, a target that cannot be reached, a drive that is asked for where there is none.
pub fn calibrate(
    net: &mut Network,
    encoding: &Encoding,
    rules: &[(String, Tune)],
    batch: Input<'_>,
    samples: usize,
) -> Result<()> {
    let order = net.order()?;
    let place = |net: &Network, name: &str| {
        let post = net.projection(name).map(|projection| projection.post);
        post.and_then(|post| order.iter().position(|&pop| pop == post)).unwrap_or(usize::MAX)
    };
    let mut rules = rules.to_vec();
    rules.sort_by_key(|(name, _)| place(net, name));
    for (name, tune) in &rules {
        let projection =
            net.projection(name).ok_or_else(|| Error::value("projection to tune", name, "in the network"))?;
        let post = projection.post;
        match *tune {
            Tune::RmsDrive(target) => {
                let gain = rms_gains(net, encoding, name, batch, samples, target)?;
                net.set_gain(name, gain)?;
            }
            Tune::FiringRate(target) => {
                let tuned = rate_gain(target, 0.02 * target, |gain| {
                    net.set_gain(name, vec![gain])?;
                    rate(net, encoding, post, batch, samples)
                })?;
                net.set_gain(name, vec![tuned.gain])?;
            }
        }
    }
    Ok(())
}

/// Mean spikes per neuron and step of a population.
fn rate(net: &Network, encoding: &Encoding, of: Pop, batch: Input<'_>, samples: usize) -> Result<f64> {
    let engine = Presentation::compile(net, encoding, &[Probe { population: of, what: What::Counts }])?;
    let ids: Vec<u64> = (0..samples as u64).collect();
    let activity = engine.run(batch, &ids, &engine.stream("calibrate", 0), &mut Recording::default())?;
    let places = net.populations[of.0].size() * samples * encoding.steps();
    Ok(activity.spikes[of.0] as f64 / places.max(1) as f64)
}

/// Gains per target or channel. The drive is read as the membrane of neurons that only add up, after one step.
fn rms_gains(
    net: &mut Network,
    encoding: &Encoding,
    name: &str,
    batch: Input<'_>,
    samples: usize,
    target: f64,
) -> Result<Vec<f32>> {
    let Some(index) = net.projections.iter().position(|projection| projection.name == name) else {
        return Err(Error::value("projection to tune", name, "in the network"));
    };
    let (pre, post) = (net.projections[index].pre, net.projections[index].post);
    if !encoding.is_constant() || net.populations[pre.0].model.is_some() {
        let expected =
            "tuned by firing rate: only a constant input current has a drive that is the same in each step";
        return Err(Error::value(format!("gain of projection `{name}`"), "tuned by drive", expected));
    }
    let groups = match &net.projections[index].weights {
        Weights::Conv2d { geometry, .. } => geometry.output[0],
        _ => net.populations[post.0].size(),
    };
    net.set_gain(name, vec![1.0])?;
    // Only this projection, into neurons that never fire.
    let adder = Lif { decay: 0.0, threshold: f32::MAX, reset: Reset::None, ..Lif::default() };
    let model = net.populations[post.0].model.replace(Box::new(adder));
    let others: Vec<_> = std::mem::take(&mut net.projections);
    let (mine, rest): (Vec<_>, Vec<_>) = others.into_iter().enumerate().partition(|(i, _)| *i == index);
    net.projections = mine.into_iter().map(|(_, projection)| projection).collect();
    let squares = squared_drive(net, post, groups, batch, samples);
    let mut all: Vec<_> = rest;
    all.extend(net.projections.drain(..).map(|projection| (index, projection)));
    all.sort_by_key(|(i, _)| *i);
    net.projections = all.into_iter().map(|(_, projection)| projection).collect();
    net.populations[post.0].model = model;
    let places = net.populations[post.0].size() / groups * samples;
    rms_gain(&squares?, places as u64, target)
}

fn squared_drive(
    net: &Network,
    post: Pop,
    groups: usize,
    batch: Input<'_>,
    samples: usize,
) -> Result<Vec<f64>> {
    let probe = Probe { population: post, what: What::Membrane };
    let engine = Presentation::compile(net, &Encoding::Constant { steps: 1 }, &[probe])?;
    let ids: Vec<u64> = (0..samples as u64).collect();
    let mut recording = Recording::default();
    engine.run(batch, &ids, &engine.stream("calibrate", 0), &mut recording)?;
    let Some(Table::F32(drive)) = recording.tables.first() else {
        return Err(Error::Internal("a membrane that is not f32".into()));
    };
    let size = net.populations[post.0].size();
    let mut squares = vec![0.0f64; groups];
    for row in drive.chunks(size) {
        for (sum, part) in squares.iter_mut().zip(row.chunks(size / groups)) {
            *sum += part.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        }
    }
    Ok(squares)
}
