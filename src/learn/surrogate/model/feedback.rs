//! Populations in a loop: they take turns over as few steps as the shortest delay back allows, and what one stretch leaves
//! behind the next one begins with. The gradient takes the same way in the opposite direction.

use std::collections::BTreeMap;
use std::ops::Range;

use super::current::Sent;
use super::normalize::Statistics;
use super::{Dropout, Encoded, Layer, Model, Ran};
use crate::snn::Component;
use crate::snn::scan::{Scanned, Stretch};
use crate::tensor::{DType, Device, Meta, Tensor};
use crate::{Error, Result};

/// What a population of a loop did, stretch by stretch.
#[derive(Default)]
struct Turns {
    spikes: Vec<Tensor>,
    membrane: Vec<Tensor>,
    /// Spikes on the way to others.
    fired: Vec<Tensor>,
    last: Option<Stretch>,
}

impl Model {
    /// Runs the layers of a loop over all steps; gives what each of them did.
    pub(super) fn run_loop(
        &self,
        (component, layers): (&Component, &[Layer]),
        input: &Encoded,
        sent: &BTreeMap<usize, Sent>,
        dropout: Option<Dropout>,
        mut statistics: Option<&mut Statistics>,
    ) -> Result<Vec<Ran>> {
        let [steps, batch] = input.shape();
        let ranges: Vec<Range<usize>> = component.stretches(0..steps).collect();
        let lengths: Vec<usize> = ranges.iter().map(Range::len).collect();
        // What comes from outside is there for all steps.
        let (mut outside, mut prepared) = (BTreeMap::new(), vec![]);
        for layer in layers {
            prepared.push((self.numbers_of(layer)?, layer.added_in_order(sent)));
            for from in layer.incoming.iter().filter(|from| !from.looped) {
                let current = self.current(from, &from.carries(sent)?, statistics.as_deref_mut())?;
                let held = current.shape()[0] == 1;
                let pieces = if held { vec![current] } else { current.split(&lengths, 0)? };
                outside.insert(&from.name, pieces);
            }
        }
        let mut turns: BTreeMap<usize, Turns> =
            layers.iter().map(|layer| (layer.population, Turns::default())).collect();
        for (turn, range) in ranges.iter().enumerate() {
            for (layer, (numbers, incoming)) in layers.iter().zip(&prepared) {
                let mut current: Option<Tensor> = None;
                for &from in incoming {
                    let part = match outside.get(&from.name) {
                        Some(pieces) => pieces[turn.min(pieces.len() - 1)].clone(),
                        None => {
                            let source = &turns[&from.pre];
                            let own = from.pre == layer.population;
                            let fired = if own { &source.spikes } else { &source.fired };
                            let neurons = self.neurons(from.pre)?;
                            let tensor =
                                arriving(fired, range, from.delay, ([batch, neurons], &self.device))?;
                            self.current(from, &Sent::Spikes { tensor, lists: None }, None)?
                        }
                    };
                    current = Some(match current {
                        Some(sum) => sum.add(&part)?,
                        None => part,
                    });
                }
                let current = current.ok_or_else(|| Error::Internal("a layer without input".into()))?;
                let current = current.broadcast_to(&[range.len(), batch, layer.neurons])?;
                let turns = turns.entry(layer.population).or_default();
                let stretch = turns.last.as_ref().map_or_else(|| Ok(Stretch::first()), Stretch::next)?;
                let Scanned { spikes, membrane, .. } =
                    layer.scan.run_stretch(&current, None, numbers, &stretch)?;
                turns.last = Some(stretch);
                turns.fired.push(match self.silences(dropout, layer) {
                    Some(dropout) => dropout.apply(&spikes, layer)?,
                    None => spikes.clone(),
                });
                turns.spikes.push(spikes);
                turns.membrane.extend(membrane);
            }
        }
        let whole = |turns: &[Tensor]| Tensor::concat(&turns.iter().collect::<Vec<_>>(), 0);
        let of = |layer: &Layer| {
            let Turns { spikes, membrane, .. } = &turns[&layer.population];
            let membrane = if membrane.is_empty() { None } else { Some(whole(membrane)?) };
            Ok(Ran { spikes: whole(spikes)?, membrane, lists: None })
        };
        layers.iter().map(of).collect()
    }

    fn neurons(&self, population: usize) -> Result<usize> {
        let layer = self.layers.iter().find(|layer| layer.population == population);
        layer.map(|layer| layer.neurons).ok_or_else(|| Error::Internal("a loop lost a population".into()))
    }
}

/// The spikes that arrive in some steps, of stretches that follow one another from step 0 on: nothing before that.
fn arriving(
    fired: &[Tensor],
    steps: &Range<usize>,
    delay: usize,
    ([batch, neurons], device): ([usize; 2], &Device),
) -> Result<Tensor> {
    let silent = delay.saturating_sub(steps.start).min(steps.len());
    let sent = (steps.start + silent).saturating_sub(delay)..steps.end.saturating_sub(delay);
    let mut parts = vec![];
    if silent > 0 {
        parts.push(Tensor::full_on(&Meta::new([silent, batch, neurons], DType::F32), 0.0, device)?);
    }
    // All stretches are of one length, but for the last one.
    let length = fired.first().map_or(1, |stretch| stretch.shape()[0]);
    let turns = fired.iter().enumerate().take(sent.end.div_ceil(length)).skip(sent.start / length);
    for (turn, stretch) in turns {
        let first = turn * length;
        let within = sent.start.max(first) - first..sent.end.min(first + stretch.shape()[0]) - first;
        parts.push(match within.len() == stretch.shape()[0] {
            true => stretch.clone(),
            false => stretch.narrow(0, within.start, within.len())?,
        });
    }
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        parts => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0),
    }
}
