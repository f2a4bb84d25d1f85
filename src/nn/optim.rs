//! Optimisers: Adam, AdamW and SGD with momentum, step by step as PyTorch's.
//!
//! State is kept by path of the parameter. Parameters and state are changed in place where nobody else sees them.

use std::collections::BTreeMap;

use crate::parallel;
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{Buffer, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::operations::optimizer;
use crate::tensor::{Device, Grads, Tensor, Trainable};
use crate::{Error, Result};

/// Something that changes parameters by their gradients.
pub trait Optimizer {
    /// One step. Every parameter must have its gradient.
    ///
    /// # Errors
    /// [`Error::Disconnected`] naming a parameter without one; a state of another shape.
    fn step(&mut self, params: &mut dyn Trainable, grads: &Grads) -> Result<()>;

    /// The learning rate of the next step.
    fn set_learning_rate(&mut self, rate: f64);

    /// The state, to be saved: tensors under `<path>.<name>`, and `step`.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Takes up a state that [`state`](Self::state) returned: what follows is as if training had gone on.
    ///
    /// # Errors
    /// A name that this optimiser does not write, or half of a pair.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// Adam (Kingma and Ba, arXiv:1412.6980) as `torch.optim.Adam`; with [`decoupled`](Self::decoupled) weight decay, AdamW
/// (Loshchilov and Hutter, arXiv:1711.05101).
///
/// `m ← m + (1 − β₁)(g − m)`, `v ← β₂ v + (1 − β₂) g²`, `θ ← θ − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`.
#[derive(Clone, Debug)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε, added after the square root.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether the decay shrinks parameters directly, by `lr · decay` (AdamW), or is added to the gradient (Adam).
    pub decoupled: bool,
    step: u64,
    moments: BTreeMap<String, [Tensor; 2]>,
}

impl Adam {
    /// PyTorch's defaults: β 0.9 and 0.999, ε 1e-8, no decay.
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            step: 0,
            moments: BTreeMap::new(),
        }
    }

    /// AdamW: decoupled weight decay (PyTorch's default is 0.01).
    pub fn decoupled(learning_rate: f64, weight_decay: f64) -> Self {
        Self { weight_decay, decoupled: true, ..Self::new(learning_rate) }
    }

    /// The numbers of this step, before they are rounded to the kind of the parameters.
    fn factors(&self) -> Factors<f64> {
        let t = self.step as i32;
        let (shrink, decay) = match self.decoupled {
            true => (1.0 - self.learning_rate * self.weight_decay, 0.0),
            false => (1.0, self.weight_decay),
        };
        Factors {
            correction2: (1.0 - self.beta2.powi(t)).sqrt(),
            rate: -self.learning_rate / (1.0 - self.beta1.powi(t)),
            gain1: 1.0 - self.beta1,
            beta2: self.beta2,
            gain2: 1.0 - self.beta2,
            epsilon: self.epsilon,
            shrink,
            decay,
        }
    }

    /// In pieces, on all threads.
    fn update<T: Float>(&self, theta: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
        let f = self.factors();
        let c = T::of_f64;
        let factors = Factors {
            correction2: c(f.correction2),
            rate: c(f.rate),
            gain1: c(f.gain1),
            beta2: c(f.beta2),
            gain2: c(f.gain2),
            epsilon: c(f.epsilon),
            shrink: c(f.shrink),
            decay: c(f.decay),
        };
        let size = loops::CHUNK;
        let moments = m.chunks_mut(size).zip(v.chunks_mut(size));
        let pieces = theta.chunks_mut(size).zip(g.chunks(size)).zip(moments);
        let updates = pieces.map(|((theta, g), (m, v))| Update { theta, g, m, v, factors }).collect();
        parallel::owned(updates, |_, update: Update<'_, T>| wide::run(update));
    }
}

/// The numbers of a step of [`Adam`].
#[derive(Clone, Copy)]
struct Factors<T> {
    correction2: T,
    rate: T,
    gain1: T,
    beta2: T,
    gain2: T,
    epsilon: T,
    shrink: T,
    decay: T,
}

/// A step of [`Adam`] on a piece.
struct Update<'a, T> {
    theta: &'a mut [T],
    g: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
    factors: Factors<T>,
}

impl<T: Float> Work for Update<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        let f = self.factors;
        for (((theta, &g), m), v) in self.theta.iter_mut().zip(self.g).zip(self.m).zip(self.v) {
            let old = *theta * f.shrink;
            let g = g + f.decay * old;
            *m = *m + f.gain1 * (g - *m);
            *v = *v * f.beta2 + f.gain2 * g * g;
            *theta = old + f.rate * *m / (v.sqrt() / f.correction2 + f.epsilon);
        }
    }
}

impl Optimizer for Adam {
    fn step(&mut self, params: &mut dyn Trainable, grads: &Grads) -> Result<()> {
        self.step += 1;
        let mut moments = std::mem::take(&mut self.moments);
        let result = each_param(params, grads, |path, theta, grad| {
            let [m, v] = match moments.entry(path.to_string()) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let zeros = || Tensor::full_on(theta.meta(), 0.0, theta.device());
                    entry.insert([zeros()?, zeros()?])
                }
            };
            for moment in [&mut *m, &mut *v] {
                // A state that was loaded from a file goes where its parameter is.
                *moment = moment.to_device(theta.device())?;
                fits(path, theta, moment)?;
            }
            if let Device::Cuda(gpu) = theta.device().clone() {
                let f = self.factors();
                let numbers =
                    [f.correction2, f.rate, f.gain1, f.beta2, f.gain2, f.epsilon, f.shrink, f.decay];
                let (n, entry) = (theta.len(), optimizer::ADAM.of("adam", theta.dtype())?);
                let mut args = vec![Arg::In(grad.cuda_buffer()?), Arg::Out(theta.cuda_buffer_mut()?)];
                args.extend([Arg::Out(m.cuda_buffer_mut()?), Arg::Out(v.cuda_buffer_mut()?)]);
                args.extend(numbers.map(Arg::F64));
                return gpu.outputs(entry, n, args);
            }
            each_float!("adam", theta.dtype(), T => {
                let g = slice::<T>(grad.buffer()?)?;
                let (m, v) = (slice_mut::<T>(m.buffer_mut()?)?, slice_mut::<T>(v.buffer_mut()?)?);
                self.update(slice_mut::<T>(theta.buffer_mut()?)?, g, m, v);
                Ok(())
            })
        });
        self.moments = moments;
        result
    }

    fn set_learning_rate(&mut self, rate: f64) {
        self.learning_rate = rate;
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::from([(STEP.to_string(), counter(self.step)?)]);
        for (path, [m, v]) in &self.moments {
            state.insert(format!("{path}.{FIRST}"), m.clone());
            state.insert(format!("{path}.{SECOND}"), v.clone());
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let step = count(state)?;
        let mut moments = BTreeMap::new();
        for (name, m) in state {
            if let Some(path) = name.strip_suffix(FIRST).and_then(|path| path.strip_suffix('.')) {
                let v = state.get(&format!("{path}.{SECOND}")).ok_or_else(|| unknown(name))?;
                moments.insert(path.to_string(), [m.clone(), v.clone()]);
            } else if name != STEP
                && !name.strip_suffix(SECOND).is_some_and(|p| state.contains_key(&format!("{p}{FIRST}")))
            {
                return Err(unknown(name));
            }
        }
        (self.step, self.moments) = (step, moments);
        Ok(())
    }
}

const STEP: &str = "step";
const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";
const MOMENTUM: &str = "momentum_buffer";

/// Stochastic gradient descent as `torch.optim.SGD`: `b ← μ b + g` (at first `b = g`), `θ ← θ − lr b`, with Nesterov
/// `θ ← θ − lr (g + μ b)`.
#[derive(Clone, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub learning_rate: f64,
    /// μ; 0 for none.
    pub momentum: f64,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Whether to look ahead (Nesterov).
    pub nesterov: bool,
    step: u64,
    buffers: BTreeMap<String, Tensor>,
}

impl Sgd {
    /// With a momentum, without decay.
    pub fn new(learning_rate: f64, momentum: f64) -> Self {
        Self {
            learning_rate,
            momentum,
            weight_decay: 0.0,
            nesterov: false,
            step: 0,
            buffers: BTreeMap::new(),
        }
    }

    fn update<T: Float>(&self, theta: &mut [T], g: &[T], buffer: &mut [T], first: bool) {
        let c = T::of_f64;
        let (rate, momentum, decay) = (c(-self.learning_rate), c(self.momentum), c(self.weight_decay));
        for ((theta, &g), b) in theta.iter_mut().zip(g).zip(buffer) {
            let g = g + decay * *theta;
            *b = if first { g } else { momentum * *b + g };
            let direction = if self.nesterov { g + momentum * *b } else { *b };
            *theta += rate * direction;
        }
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, params: &mut dyn Trainable, grads: &Grads) -> Result<()> {
        self.step += 1;
        let mut buffers = std::mem::take(&mut self.buffers);
        let result = each_param(params, grads, |path, theta, grad| {
            let first = !buffers.contains_key(path);
            if first {
                buffers.insert(path.to_string(), Tensor::full_on(theta.meta(), 0.0, theta.device())?);
            }
            let buffer =
                buffers.get_mut(path).ok_or_else(|| Error::Internal("state was just made".into()))?;
            *buffer = buffer.to_device(theta.device())?;
            fits(path, theta, buffer)?;
            if let Device::Cuda(gpu) = theta.device().clone() {
                let (n, entry) = (theta.len(), optimizer::SGD.of("sgd", theta.dtype())?);
                let mut args = vec![Arg::In(grad.cuda_buffer()?), Arg::Out(theta.cuda_buffer_mut()?)];
                args.push(Arg::Out(buffer.cuda_buffer_mut()?));
                args.extend([-self.learning_rate, self.momentum, self.weight_decay].map(Arg::F64));
                args.extend([cuda::flag(first), cuda::flag(self.nesterov)]);
                return gpu.outputs(entry, n, args);
            }
            each_float!("sgd", theta.dtype(), T => {
                let g = slice::<T>(grad.buffer()?)?;
                let buffer = slice_mut::<T>(buffer.buffer_mut()?)?;
                self.update(slice_mut::<T>(theta.buffer_mut()?)?, g, buffer, first);
                Ok(())
            })
        });
        self.buffers = buffers;
        result
    }

    fn set_learning_rate(&mut self, rate: f64) {
        self.learning_rate = rate;
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::from([(STEP.to_string(), counter(self.step)?)]);
        state.extend(self.buffers.iter().map(|(path, b)| (format!("{path}.{MOMENTUM}"), b.clone())));
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let step = count(state)?;
        let mut buffers = BTreeMap::new();
        for (name, buffer) in state.iter().filter(|(name, _)| *name != STEP) {
            let path = name.strip_suffix(MOMENTUM).and_then(|path| path.strip_suffix('.'));
            buffers.insert(path.ok_or_else(|| unknown(name))?.to_string(), buffer.clone());
        }
        (self.step, self.buffers) = (step, buffers);
        Ok(())
    }
}

/// Calls `f` for every parameter with its gradient; the first error ends it.
fn each_param(
    params: &mut dyn Trainable,
    grads: &Grads,
    mut f: impl FnMut(&str, &mut Tensor, &Tensor) -> Result<()>,
) -> Result<()> {
    // All gradients are looked up before anything changes: a step is done as a whole or not at all.
    let mut result = Ok(());
    let check = |path: &str, theta: &Tensor| grads.get(path).and_then(|grad| fits(path, theta, grad));
    params.visit(&mut |path, theta| {
        if result.is_ok() {
            result = check(path, theta);
        }
    });
    result?;
    let mut result = Ok(());
    params.visit_mut(&mut |path, theta| {
        if result.is_ok() {
            result = grads.get(path).and_then(|grad| f(path, theta, grad));
        }
    });
    result
}

fn fits(path: &str, theta: &Tensor, other: &Tensor) -> Result<()> {
    match theta.meta() == other.meta() && theta.device() == other.device() {
        true => Ok(()),
        false => {
            let show =
                |tensor: &Tensor| format!("{} {:?} on {}", tensor.dtype(), tensor.shape(), tensor.device());
            Err(Error::value(
                format!("gradient or state of `{path}`"),
                show(other),
                format!("{}, as it is", show(theta)),
            ))
        }
    }
}

fn slice<T: Element>(buffer: &Buffer) -> Result<&[T]> {
    buffer.slice()
}

fn slice_mut<T: Element>(buffer: &mut Buffer) -> Result<&mut [T]> {
    buffer.slice_mut()
}

fn counter(step: u64) -> Result<Tensor> {
    Tensor::from_buffer(Buffer::I64(vec![step as i64]), &[1])
}

fn count(state: &BTreeMap<String, Tensor>) -> Result<u64> {
    let step =
        state.get(STEP).ok_or_else(|| Error::value("optimiser state", "without `step`", "complete"))?;
    Ok(step.to_scalar()? as u64)
}

fn unknown(name: &str) -> Error {
    Error::value("optimiser state", format!("`{name}`"), "what this optimiser writes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, grad};

    fn start() -> BTreeMap<String, Tensor> {
        BTreeMap::from([("w".to_string(), Tensor::from_f64(vec![1.0, -2.0], &[2]).expect("fits"))])
    }

    /// Gradient of Σ w² + w.
    fn gradients(params: &BTreeMap<String, Tensor>) -> Grads {
        grad(params, || params["w"].mul(&params["w"])?.add(&params["w"])?.sum_all()).expect("a gradient").1
    }

    fn run(optimizer: &mut dyn Optimizer, params: &mut BTreeMap<String, Tensor>, steps: usize) -> Vec<f64> {
        for _ in 0..steps {
            let grads = gradients(params);
            optimizer.step(params, &grads).expect("a step");
        }
        params["w"].to_f64().expect("f64")
    }

    /// The update written out in scalars, from the formulas of PyTorch's documentation.
    fn adam_by_hand(mut w: f64, steps: i32, decay: f64, decoupled: bool) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for t in 1..=steps {
            let mut g = 2.0 * w + 1.0;
            if decoupled {
                w -= 0.1 * decay * w;
            } else {
                g += decay * w;
            }
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
            w -= 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
        }
        w
    }

    #[test]
    fn adam_and_adamw_follow_their_formulas() {
        for (decay, decoupled) in [(0.0, false), (0.1, false), (0.1, true)] {
            let mut adam = Adam { weight_decay: decay, decoupled, ..Adam::new(0.1) };
            let got = run(&mut adam, &mut start(), 20);
            for (got, w) in got.iter().zip([1.0, -2.0]) {
                let want = adam_by_hand(w, 20, decay, decoupled);
                assert!((want - w).abs() > 0.5, "something happens");
                assert!((got - want).abs() < 1e-12, "{got} {want}");
            }
        }
    }

    #[test]
    fn sgd_follows_its_formulas() {
        for nesterov in [false, true] {
            let mut sgd = Sgd { weight_decay: 0.01, nesterov, ..Sgd::new(0.05, 0.9) };
            let got = run(&mut sgd, &mut start(), 10);
            for (got, mut w) in got.iter().zip([1.0f64, -2.0]) {
                let mut b: Option<f64> = None;
                for _ in 0..10 {
                    let g = 2.0 * w + 1.0 + 0.01 * w;
                    let now = b.map_or(g, |b| 0.9 * b + g);
                    b = Some(now);
                    w -= 0.05 * if nesterov { g + 0.9 * now } else { now };
                }
                assert!((got - w).abs() < 1e-12, "{got} {w}");
            }
        }
    }

    #[test]
    fn a_saved_state_goes_on_bit_for_bit() {
        let make: [fn() -> Box<dyn Optimizer>; 2] =
            [|| Box::new(Adam::new(0.1)), || Box::new(Sgd::new(0.1, 0.9))];
        for make in make {
            let whole = run(&mut *make(), &mut start(), 7);
            let (mut first, mut params) = (make(), start());
            run(&mut *first, &mut params, 3);
            let mut second = make();
            second.load_state(&first.state().expect("a state")).expect("loads");
            assert_eq!(run(&mut *second, &mut params, 4), whole);
            let mut wrong = first.state().expect("a state");
            wrong.insert("x".into(), wrong["step"].clone());
            assert!(second.load_state(&wrong).is_err() && second.load_state(&BTreeMap::new()).is_err());
        }
    }

    #[test]
    fn a_gradient_that_is_missing_or_wrong_changes_nothing() {
        let mut params = start();
        let grads = gradients(&params);
        params.insert("z".into(), Tensor::zeros(&[1], DType::F64).expect("fits"));
        let error = Adam::new(0.1).step(&mut params, &grads).expect_err("refused");
        assert!(matches!(&error, Error::Disconnected { param } if param == "z"));
        assert_eq!(params["w"].to_f64().expect("f64"), [1.0, -2.0]);
        let mut other = BTreeMap::from([("w".to_string(), Tensor::zeros(&[3], DType::F64).expect("fits"))]);
        assert!(matches!(Sgd::new(0.1, 0.0).step(&mut other, &grads), Err(Error::Value { .. })));
    }
}
