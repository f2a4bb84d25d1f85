//! Spikes on their way to some neurons, each with a delay of its own.
//!
//! One number per neuron and step to come would be the simplest, and wait for memory with every spike: it is as large as
//! the longest delay, and a spike goes anywhere in it. So spikes are appended to the list of the step in which they
//! arrive, in the order in which they were sent, and added up in it. A list that grows longer than it is worth is added
//! up at once.

use super::block::SLOTS;
use super::rows::Receive;
use crate::snn::Real;

/// The steps to come.
pub(super) struct Later<F> {
    /// `[step mod steps]`
    steps: Vec<Arriving<F>>,
    neurons: usize,
}

/// What arrives in one step.
struct Arriving<F> {
    /// In the order of sending. Without room where there are sums.
    spikes: Vec<Arrival<F>>,
    /// `[neurons]` once they are added up, and then there is no list.
    sums: Vec<F>,
}

struct Arrival<F> {
    target: u16,
    weight: F,
}

/// Spikes of a list for each neuron, at most: then it takes several times the memory of its sums.
const MOST: usize = 4;

impl<F: Real> Later<F> {
    /// Nothing is on its way to so many neurons.
    pub fn new(neurons: usize) -> Self {
        Self { steps: Vec::new(), neurons }
    }

    /// Makes room for delays of up to so many steps.
    pub fn reach(&mut self, longest: u32) {
        let steps = self.steps.len().max(longest as usize + 1);
        self.steps.resize_with(steps, || Arriving { spikes: Vec::new(), sums: Vec::new() });
    }

    fn place(&self, step: u64) -> usize {
        (step % self.steps.len().max(1) as u64) as usize
    }

    /// Where spikes of a step are sent from.
    pub fn from(&mut self, step: u64) -> Sending<'_, F> {
        Sending { from: self.place(step), later: self }
    }

    /// Adds what arrives in a step to zeros, and forgets it. Whether there is anything.
    #[inline(always)]
    pub fn take(&mut self, step: u64, sums: &mut [F; SLOTS]) -> bool {
        let place = self.place(step);
        let arriving = &mut self.steps[place];
        if !arriving.sums.is_empty() {
            sums[..self.neurons].copy_from_slice(&arriving.sums);
            arriving.sums = Vec::new();
            return true;
        }
        for spike in &arriving.spikes {
            let sum = &mut sums[usize::from(spike.target)];
            *sum = *sum + spike.weight;
        }
        let any = !arriving.spikes.is_empty();
        arriving.spikes.clear();
        any
    }

    /// `[steps][neurons]`: sums of what is on its way, for a checkpoint.
    pub fn sums(&mut self) -> impl ExactSizeIterator<Item = &mut [F]> {
        let neurons = self.neurons;
        self.steps.iter_mut().map(move |arriving| {
            arriving.add_up(neurons);
            &mut arriving.sums[..]
        })
    }
}

/// The spikes of one step.
pub(super) struct Sending<'l, F> {
    from: usize,
    later: &'l mut Later<F>,
}

impl<F: Real> Receive<F> for Sending<'_, F> {
    /// Its delay is one that there is room for.
    #[inline(always)]
    fn receive(&mut self, target: u16, delay: usize, weight: F) {
        let Later { steps, neurons } = &mut *self.later;
        let at = self.from + delay;
        let at = if at < steps.len() { at } else { at - steps.len() };
        let arriving = &mut steps[at];
        if arriving.spikes.len() == arriving.spikes.capacity() && !arriving.make_room(*neurons) {
            let sum = &mut arriving.sums[usize::from(target)];
            *sum = *sum + weight;
            return;
        }
        arriving.spikes.push(Arrival { target, weight });
    }
}

impl<F: Real> Arriving<F> {
    /// Whether there is room for one more spike now; else there are sums.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, neurons: usize) -> bool {
        let (have, most) = (self.spikes.len(), MOST * neurons);
        if self.sums.is_empty() && have < most {
            self.spikes.reserve_exact(have.max(16).min(most - have));
            return true;
        }
        self.add_up(neurons);
        false
    }

    fn add_up(&mut self, neurons: usize) {
        if self.sums.is_empty() {
            self.sums.resize(neurons, F::default());
            for Arrival { target, weight } in std::mem::take(&mut self.spikes) {
                let sum = &mut self.sums[usize::from(target)];
                *sum = *sum + weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use rand::RngExt;

    /// What arrives in each step, from lists and from one number per neuron and step: in bursts of up to `most` spikes.
    fn arriving(neurons: usize, longest: u32, most: u32, saved: Option<u64>) {
        let stream = Stream::named(neurons as u64, "spikes");
        let steps = longest as usize + 1;
        let (mut later, mut ring) = (Later::new(neurons), vec![vec![0f32; neurons]; steps]);
        later.reach(longest / 2);
        later.reach(longest);
        let mut sums = [0f32; SLOTS];
        let mut last = 0;
        for step in 0..4 * u64::from(longest) + 20 {
            let any = later.take(step, &mut sums);
            let want = std::mem::replace(&mut ring[step as usize % steps], vec![0.0; neurons]);
            assert_eq!(sums[..neurons], want, "step {step}");
            assert!(any || want.iter().all(|&x| x == 0.0));
            sums.fill(0.0);
            last += usize::from(any);
            let mut draw = stream.walk(step);
            let burst = if step % 7 == 3 { most } else { most / 20 };
            let mut from = later.from(step);
            for _ in 0..draw.random_range(0..=burst) {
                let (delay, target) = (draw.random_range(1..=longest), draw.random_range(0..neurons));
                let weight = draw.random::<f32>() - 0.3;
                from.receive(target as u16, delay as usize, weight);
                ring[(step as usize + delay as usize) % steps][target] += weight;
            }
            if saved == Some(step) {
                // Of this step nothing is left, and the others begin with its place.
                assert!(later.sums().zip(&ring).all(|(sums, want)| sums == want));
            }
        }
        assert!(last > 0);
    }

    #[test]
    fn lists_give_what_sums_would() {
        arriving(1, 1, 50, None);
        arriving(3, 9, 2000, None);
        arriving(500, 40, 30_000, Some(55));
        arriving(700, 300, 3000, Some(310));
        arriving(SLOTS, 5, 10_000, Some(7));
    }
}
