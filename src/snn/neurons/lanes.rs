//! Steps of the models in physical units, some neurons at a time, compiled once for each width of vectors.
//!
//! Neurons are copied into arrays of a fixed size and back: the compiler then knows that none overlaps another, and makes
//! vectors of a loop over them. So a model's loop has no branches; what one of two cases needs is computed for both.

use crate::snn::real::Real;
use crate::tensor::cpu::wide::{self, Width, Work};

/// Neurons that are computed together: their state stays in the nearest cache.
pub(super) const LANES: usize = 64;
/// What their number is rounded up to: one vector of the widest, in `f32`.
const VECTOR: usize = 16;

/// One value per neuron.
pub(super) type Lane<R> = [R; LANES];

/// The constants of a model with `X` receptors and `Y` state variables.
pub(super) trait Lanes<R, const X: usize, const Y: usize> {
    /// One step of the first `n` ≤ [`LANES`] neurons: takes what arrives, changes the state, writes 0 or 1 for a spike.
    /// To be inlined, so that it is compiled for each width.
    fn step(&self, n: usize, input: &[Lane<R>; X], state: &mut [Lane<R>; Y], spikes: &mut Lane<u8>);
}

/// One step of all neurons. A receptor that is not given gets nothing; so does everybody where a variable is missing.
pub(super) fn run<R: Real, L: Lanes<R, X, Y>, const X: usize, const Y: usize>(
    lanes: &L,
    inputs: &[&[R]],
    state: &mut [&mut [R]],
    spikes: &mut [u8],
) {
    let n = spikes.len();
    let inputs: [&[R]; X] =
        std::array::from_fn(|k| inputs.get(k).and_then(|x| x.get(..n)).unwrap_or_default());
    if let Some(state) = state.first_chunk_mut::<Y>() {
        wide::run(Step { lanes, inputs, state, spikes });
    }
}

struct Step<'a, 's, R, L, const X: usize, const Y: usize> {
    lanes: &'a L,
    /// Empty where nothing is given.
    inputs: [&'a [R]; X],
    state: &'a mut [&'s mut [R]; Y],
    spikes: &'a mut [u8],
}

impl<R: Real, L: Lanes<R, X, Y>, const X: usize, const Y: usize> Work for Step<'_, '_, R, L, X, Y> {
    type Out = ();
    /// Double precision is for comparisons.
    const WIDEST: Width = if size_of::<R>() == 4 { Width::Avx512 } else { Width::Avx2 };

    #[inline(always)]
    fn run(self) {
        let zeros = [R::default(); LANES];
        let (mut input, mut state, mut fired) = ([zeros; X], [zeros; Y], [0; LANES]);
        for (k, spikes) in self.spikes.chunks_mut(LANES).enumerate() {
            let (from, n) = (k * LANES, spikes.len());
            let here = from..from + n;
            for (lane, values) in input.iter_mut().zip(self.inputs).filter(|(_, values)| !values.is_empty()) {
                copy(lane, &values[here.clone()]);
            }
            for (lane, values) in state.iter_mut().zip(self.state.iter()) {
                copy(lane, &values[here.clone()]);
            }
            self.lanes.step(n.next_multiple_of(VECTOR).min(LANES), &input, &mut state, &mut fired);
            for (lane, values) in state.iter().zip(self.state.iter_mut()) {
                values[here.clone()].copy_from_slice(&lane[..n]);
            }
            spikes.copy_from_slice(&fired[..n]);
        }
    }
}

/// A whole lane is copied as vectors, without a call.
#[inline(always)]
fn copy<T: Copy>(lane: &mut Lane<T>, values: &[T]) {
    match values.first_chunk() {
        Some(values) => *lane = *values,
        None => lane[..values.len()].copy_from_slice(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use crate::snn::Neuron;
    use crate::snn::neurons::{AdEx, AdaptiveLif, AlphaLif, CondLif, Integrator, Izhikevich, Scheme};
    use crate::units::Ms;
    use rand::RngExt;

    /// State and spikes after a few steps of neurons `from..from + n`, whose input is drawn up to `strong`.
    fn steps(model: &dyn Neuron, strong: f32, from: usize, n: usize) -> (Vec<Vec<f32>>, Vec<Vec<u8>>) {
        let stream = Stream::named(3, "input");
        let mut state: Vec<Vec<f32>> = model.state().iter().map(|s| vec![s.initial; n]).collect();
        let mut trains = Vec::new();
        for step in 0..60 {
            let draw = |receptor: usize, neuron: usize| {
                let at = (step * 4 + receptor) * 1000 + from + neuron;
                let strong = if receptor == 0 { strong } else { 0.03 * strong };
                strong * f32::from(stream.walk(at as u64).random::<u16>()) / 65536.0
            };
            let inputs: Vec<Vec<f32>> =
                (0..model.receptors().len()).map(|r| (0..n).map(|i| draw(r, i)).collect()).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(|x| &x[..]).collect();
            let mut slices: Vec<&mut [f32]> = state.iter_mut().map(|v| &mut v[..]).collect();
            let mut spikes = vec![7; n];
            model.advance(&inputs, &mut slices, &mut spikes);
            trains.push(spikes);
        }
        (state, trains)
    }

    #[test]
    fn neurons_do_not_see_who_is_beside_them() {
        let dt = Ms(0.5);
        let published = Izhikevich { scheme: Scheme::Published, ..Izhikevich::fast_spiking(dt) };
        let models: [(f32, Box<dyn Neuron>); 9] = [
            (900.0, Box::new(AlphaLif::nest(dt))),
            (20.0, Box::new(CondLif::brette(dt))),
            (900.0, Box::new(AdaptiveLif::new(dt))),
            (5.0, Box::new(Integrator::fire(dt))),
            (5.0, Box::new(Integrator::leaky(Ms(20.0), dt))),
            (30.0, Box::new(Izhikevich::regular_spiking(dt))),
            (30.0, Box::new(published)),
            (9000.0, Box::new(AdEx { refractory: Ms(1.0), ..AdEx::nest(dt) })),
            (300.0, Box::new(AdEx::nest_cond(dt))),
        ];
        for (strong, model) in models {
            let n = 2 * LANES + 3;
            let (state, trains) = steps(&*model, strong, 0, n);
            assert!(state.iter().flatten().all(|x| x.is_finite()), "{model:?}");
            let fires = trains.iter().flatten().any(|&spike| spike == 1);
            assert_eq!(fires, model.kind() != "leaky-integrator", "{model:?}");
            for (from, few) in [(0, 1), (1, 15), (16, 16), (5, 17), (30, LANES), (7, LANES + 1), (n - 1, 1)] {
                let (alone, alone_trains) = steps(&*model, strong, from, few);
                for (together, alone) in state.iter().zip(&alone) {
                    assert_eq!(together[from..from + few], alone[..], "{model:?}");
                }
                for (together, alone) in trains.iter().zip(&alone_trains) {
                    assert_eq!(together[from..from + few], alone[..], "{model:?}");
                }
            }
        }
    }

    struct Exponential;

    impl<R: Real> Lanes<R, 1, 1> for Exponential {
        #[inline(always)]
        fn step(&self, n: usize, input: &[Lane<R>; 1], state: &mut [Lane<R>; 1], spikes: &mut Lane<u8>) {
            for n in 0..n {
                let y = state[0][n] * R::of(0.9) + (input[0][n] - state[0][n]).exp() * R::of(1e-3);
                (state[0][n], spikes[n]) = (y, (y > R::of(0.5)).into());
            }
        }
    }

    #[test]
    fn every_width_gives_the_same_bits() {
        let x: Vec<f32> = (0..151).map(|i| i as f32 * 0.1 - 6.0).collect();
        let once = |wide: bool| {
            let (mut y, mut spikes) = (vec![0.25; x.len()], vec![0; x.len()]);
            let state = &mut [&mut y[..]];
            let step = Step { lanes: &Exponential, inputs: [&x], state, spikes: &mut spikes };
            if wide {
                wide::run(step)
            } else {
                step.run()
            }
            (y, spikes)
        };
        assert_eq!(once(true), once(false));
        assert!(once(true).1.contains(&1));
    }
}
