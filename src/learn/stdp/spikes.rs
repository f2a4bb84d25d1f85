//! Input spikes of one presentation, drawn from interval to interval: what is silent costs nothing.

use crate::rng::Stream;

/// Who fires in which step. Inputs are counted among the `rows` that can fire at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Spikes {
    /// `[steps + 1]`
    offsets: Vec<u32>,
    /// Ascending in each step.
    inputs: Vec<u32>,
    /// As drawn: the steps of the first input, of the second, …
    steps: Vec<u16>,
    ends: Vec<u32>,
}

/// Which presentation: keys the random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Number of the presentation in training, or of the sample in a test.
    pub sample: u64,
    /// Tries before this one.
    pub attempt: u32,
}

impl Key {
    /// Four words of a stream for this presentation.
    #[inline]
    pub fn block(self, stream: &Stream, position: u32, index: u32) -> [u32; 4] {
        stream.block([position | self.attempt << 20, index, self.sample as u32, (self.sample >> 32) as u32])
    }
}

impl Spikes {
    /// Draws: input `rows[a]` fires in each step with probability `chances[a]`.
    pub fn draw(&mut self, stream: &Stream, key: Key, rows: &[u32], chances: &[f32], steps: usize) {
        self.offsets.clear();
        self.offsets.resize(steps + 1, 0);
        self.steps.clear();
        self.ends.clear();
        // The logarithm of a chance, kept while neighbours have the same.
        let mut known = (0.0f32, f64::NEG_INFINITY);
        for (&row, &chance) in rows.iter().zip(chances) {
            if chance != known.0 {
                known = (chance, 1.0 / (-f64::from(chance)).ln_1p());
            }
            let (mut words, mut step) = ([0u32; 4], 0u32);
            for draw in 0u32.. {
                if draw % 4 == 0 {
                    words = key.block(stream, draw / 4, row);
                }
                let jump = match chance < 1.0 {
                    // Centred in its interval, so never 0 or 1.
                    true => ((f64::from(words[draw as usize % 4]) + 0.5) * 2f64.powi(-32)).ln() * known.1,
                    false => 0.0,
                };
                step = step.saturating_add(jump.min(1e6) as u32);
                if step as usize >= steps {
                    break;
                }
                self.steps.push(step as u16);
                self.offsets[step as usize + 1] += 1;
                step += 1;
            }
            self.ends.push(self.steps.len() as u32);
        }
        for step in 0..steps {
            self.offsets[step + 1] += self.offsets[step];
        }
        self.inputs.resize(self.steps.len(), 0);
        let (mut from, offsets) = (0, &mut self.offsets);
        for (input, &end) in self.ends.iter().enumerate() {
            for &step in &self.steps[from..end as usize] {
                let place = &mut offsets[usize::from(step)];
                self.inputs[*place as usize] = input as u32;
                *place += 1;
            }
            from = end as usize;
        }
        // Every offset has moved on to where its step ends: that is where the next one begins.
        for step in (0..steps).rev() {
            offsets[step + 1] = offsets[step];
        }
        offsets[0] = 0;
    }

    /// Who fires in a step.
    #[inline(always)]
    pub fn step(&self, step: usize) -> &[u32] {
        &self.inputs[self.offsets[step] as usize..self.offsets[step + 1] as usize]
    }

    /// All of them.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_order_are_right() {
        let stream = Stream::named(3, "spikes");
        let (rows, chances) = ([0, 3, 5, 9, 11], [0.0, 0.02, 0.3, 1.0, 0.0]);
        let (mut spikes, mut counts) = (Spikes::default(), [0u32; 5]);
        let (steps, samples) = (200, 400);
        for sample in 0..samples {
            spikes.draw(&stream, Key { sample, attempt: 0 }, &rows, &chances, steps);
            for step in 0..steps {
                let list = spikes.step(step);
                assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
                list.iter().for_each(|&a| counts[a as usize] += 1);
            }
        }
        let n = steps as f64 * samples as f64;
        for (count, chance) in counts.into_iter().zip(chances) {
            let (mean, spread) = (n * f64::from(chance), (n * f64::from(chance * (1.0 - chance))).sqrt());
            assert!((f64::from(count) - mean).abs() <= 4.0 * spread + 0.5, "{count} of {mean}");
        }
    }

    #[test]
    fn an_input_fires_the_same_whoever_else_is_there() {
        let stream = Stream::named(3, "spikes");
        let key = Key { sample: 7, attempt: 1 };
        let (mut one, mut two) = (Spikes::default(), Spikes::default());
        one.draw(&stream, key, &[8], &[0.2], 100);
        two.draw(&stream, key, &[2, 8], &[0.5, 0.2], 100);
        let second = |step| two.step(step).contains(&1);
        assert!((0..100).all(|step| second(step) != one.step(step).is_empty()) && one.len() > 5);
    }
}
