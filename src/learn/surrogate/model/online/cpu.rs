//! The loops of training forward in time in main memory.

use super::super::Layer;
use super::state::{Eligibility, Filter, Loops, State, Sum, Total};
use crate::parallel;
use crate::snn::neurons::Fires;
use crate::snn::scan::{Acts, Parameters, Reset};
use crate::tensor::cpu::gemm::{Matrix, add_product};
use crate::tensor::{Element, Tensor};
use crate::{Error, Result};

/// Synapses' rows that one task takes on.
const ROWS: usize = 16;

/// Loops over slices.
pub(super) struct Cpu;

/// The numbers of a layer.
#[derive(Clone, Copy)]
struct Numbers {
    decay: f32,
    gain: f32,
    threshold: f32,
    current_decay: Option<f32>,
    /// ρ and b
    adaptation: Option<(f32, f32)>,
}

/// How the eligibilities of a layer go on.
#[derive(Clone, Copy)]
struct Advance {
    /// Leak κ of the output.
    kappa: f32,
    /// Factor on the input.
    gain: f32,
    /// Factor ρ on the adaptation per step, and b.
    adaptation: Option<(f32, f32)>,
}

fn number(tensor: &Tensor) -> Result<f32> {
    tensor.as_f32()?.first().copied().ok_or_else(|| Error::Internal("a parameter without a number".into()))
}

fn values<T: Element>(tensor: &mut Tensor) -> Result<&mut [T]> {
    tensor.buffer_mut()?.slice_mut()
}

impl Numbers {
    fn of(numbers: &Parameters) -> Result<Self> {
        Ok(Self {
            decay: number(&numbers.decay)?,
            gain: number(&numbers.gain)?,
            threshold: number(&numbers.threshold)?,
            current_decay: numbers.current_decay.as_ref().map(number).transpose()?,
            adaptation: match &numbers.adaptation {
                Some((rho, strength)) => Some((number(rho)?, number(strength)?)),
                None => None,
            },
        })
    }
}

impl Loops for Cpu {
    fn advance(&self, layer: &Layer, state: &mut State, currents: &Tensor) -> Result<Tensor> {
        let Numbers { decay, gain, threshold, current_decay, adaptation: adapts } =
            Numbers::of(&layer.numbers)?;
        let (scan, rest) = (&layer.scan, layer.scan.rest as f32);
        let late = scan.reset == Reset::Subtract && scan.acts == Acts::NextStep;
        let State { carry, spikes, current, adaptation, membrane, slope, .. } = state;
        let before = spikes.as_f32()?;
        let (carry, current, slope) = (values::<f32>(carry)?, values::<f32>(current)?, values::<f32>(slope)?);
        let (adaptation, membrane) = (values::<f32>(adaptation)?, values::<f32>(membrane)?);
        if let Some((rho, _)) = adapts {
            adaptation.iter_mut().zip(before).for_each(|(a, s)| *a = rho * *a + s);
        }
        for (k, x) in currents.as_f32()?.iter().enumerate() {
            let mut i = gain * x;
            if let Some(alpha) = current_decay {
                i += alpha * current[k];
                current[k] = i;
            }
            let mut u = rest + decay * (carry[k] - rest) + i;
            if late {
                u -= threshold * before[k];
            } else if let (Reset::To(value), Acts::NextStep) = (scan.reset, scan.acts) {
                u = if before[k] != 0.0 { value as f32 } else { u };
            }
            carry[k] = u;
            slope[k] = match adapts {
                Some((_, strength)) => u - threshold - strength * adaptation[k],
                None => u - threshold,
            };
        }
        let fires = |above: f32| match scan.fires {
            Fires::Above => above > 0.0,
            Fires::AtOrAbove => above >= 0.0,
        };
        let fired: Vec<f32> = slope.iter().map(|&above| if fires(above) { 1.0 } else { 0.0 }).collect();
        if scan.membrane && scan.acts == Acts::BeforeNextStep {
            membrane.copy_from_slice(carry);
        }
        for (u, &fired) in carry.iter_mut().zip(&fired) {
            *u = match (scan.reset, scan.acts) {
                (Reset::None, _) | (_, Acts::NextStep) => *u,
                (Reset::Subtract, _) => *u - threshold * fired,
                (Reset::To(value), _) => {
                    if fired != 0.0 {
                        value as f32
                    } else {
                        *u
                    }
                }
            };
        }
        if scan.membrane && scan.acts != Acts::BeforeNextStep {
            membrane.copy_from_slice(carry);
        }
        scan.surrogate.at_each(slope);
        let fired = Tensor::from_f32(fired, spikes.shape())?;
        Ok(std::mem::replace(spikes, fired))
    }

    fn filter(&self, numbers: &Parameters, spikes: &Tensor, filter: &mut Filter) -> Result<()> {
        let (decay, spikes) = (number(&numbers.decay)?, spikes.as_f32()?);
        let each = values::<f32>(&mut filter.trace)?.iter_mut().zip(spikes);
        let Some(alpha) = &numbers.current_decay else {
            each.for_each(|(trace, s)| *trace = decay * *trace + s);
            return Ok(());
        };
        let alpha = number(alpha)?;
        for ((trace, s), current) in each.zip(values::<f32>(&mut filter.current)?) {
            *current = alpha * *current + s;
            *trace = decay * *trace + *current;
        }
        Ok(())
    }

    fn loss(&self, scores: &Tensor, labels: &Tensor, share: f64, total: &mut Total) -> Result<Tensor> {
        let (classes, shape) = (scores.shape()[1], scores.shape());
        let (scores, labels) = (scores.as_f32()?, labels.buffer()?.slice::<u32>()?);
        values::<f32>(&mut total.outputs)?.iter_mut().zip(scores).for_each(|(sum, &x)| *sum += x);
        let mut loss = 0.0;
        let mut gradient = Vec::with_capacity(scores.len());
        for (row, &label) in scores.chunks_exact(classes).zip(labels) {
            let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let powers: Vec<f64> = row.iter().map(|&x| f64::from(x - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            loss += share * (sum.ln() - f64::from(row[label as usize] - largest));
            let right = |j: usize| if j == label as usize { 1.0 } else { 0.0 };
            gradient.extend(powers.iter().enumerate().map(|(j, p)| (share * (p / sum - right(j))) as f32));
        }
        // Samples are added up step by step.
        values::<f64>(&mut total.losses)?.iter_mut().take(1).for_each(|sum| *sum += loss);
        Tensor::from_f32(gradient, shape)
    }

    fn delta(&self, signal: &Tensor, slope: Option<&Tensor>, gain: &Tensor) -> Result<Tensor> {
        let (l, gain) = (signal.as_f32()?, number(gain)?);
        let delta = match slope {
            None => l.iter().map(|&l| l * gain).collect(),
            Some(slope) => l.iter().zip(slope.as_f32()?).map(|(&l, &slope)| l * slope * gain).collect(),
        };
        Tensor::from_f32(delta, signal.shape())
    }

    fn collect(&self, epsilon: &Tensor, delta: &Tensor, sum: &mut Sum) -> Result<()> {
        let ([sources, batch, neurons], sum) = (sum.sizes, values::<f32>(&mut sum.values)?);
        let (epsilon, delta) = (epsilon.as_f32()?, delta.as_f32()?);
        if let &[epsilon] = epsilon {
            for delta in delta.chunks_exact(neurons) {
                sum.iter_mut().zip(delta).for_each(|(sum, &d)| *sum += epsilon * d);
            }
            return Ok(());
        }
        let epsilon = Matrix::new(epsilon, batch, sources);
        add_product(epsilon.t(), Matrix::new(delta, batch, neurons), 1.0, sum);
        Ok(())
    }

    fn collect_filtered(
        &self,
        epsilon: &Tensor,
        [signal, slope]: [&Tensor; 2],
        (kappa, numbers): (&Tensor, &Parameters),
        synapses: &mut Eligibility,
        sum: &mut Sum,
    ) -> Result<()> {
        let Numbers { gain, adaptation, .. } = Numbers::of(numbers)?;
        let how = Advance { kappa: number(kappa)?, gain, adaptation };
        let (epsilon, signal, slope) = (epsilon.as_f32()?, signal.as_f32()?, slope.as_f32()?);
        let ([sources, _, neurons], size) = (sum.sizes, signal.len());
        let shared = epsilon.len() == 1;
        let mut adaptation = values::<f32>(&mut synapses.adaptation)?.chunks_mut(ROWS * size);
        let synapses = values::<f32>(&mut synapses.filtered)?.chunks_mut(ROWS * size);
        let synapses = synapses.map(|e| (e, adaptation.next().unwrap_or_default()));
        let work = synapses.zip(values::<f32>(&mut sum.values)?.chunks_mut(ROWS * neurons)).collect();
        parallel::owned(work, |piece, ((e, a), sums): ((&mut [f32], &mut [f32]), &mut [f32])| {
            let mut a = a.chunks_exact_mut(neurons);
            for (i, (e, sum)) in e.chunks_exact_mut(size).zip(sums.chunks_exact_mut(neurons)).enumerate() {
                for (b, e) in e.chunks_exact_mut(neurons).enumerate() {
                    let here = b * neurons..(b + 1) * neurons;
                    let epsilon = epsilon[if shared { 0 } else { b * sources + piece * ROWS + i }];
                    how.advance(e, a.next().unwrap_or_default(), epsilon, &slope[here.clone()]);
                    sum.iter_mut()
                        .zip(signal[here].iter().zip(&*e))
                        .for_each(|(sum, (&l, &e))| *sum += l * e);
                }
            }
        });
        Ok(())
    }
}

impl Advance {
    /// One step of what some synapses keep whose sources have the trace `epsilon`.
    fn advance(self, filtered: &mut [f32], adaptation: &mut [f32], epsilon: f32, slope: &[f32]) {
        let (kappa, epsilon) = (self.kappa, self.gain * epsilon);
        let each = filtered.iter_mut().zip(slope);
        match self.adaptation {
            None => each.for_each(|(e, &slope)| *e = kappa * *e + epsilon * slope),
            Some((rho, strength)) => each.zip(adaptation).for_each(|((e, &slope), a)| {
                let spike = slope * (epsilon - strength * *a);
                *e = kappa * *e + spike;
                *a = rho * *a + spike;
            }),
        }
    }
}
