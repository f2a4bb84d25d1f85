//! Gradients: an explicit tape in creation order, walked backwards by a loop.
//!
//! Recording has a scope, [`grad`]; outside of it nothing is recorded and inference costs nothing. Tensors know nothing
//! of the tape, so neither taking gradients nor dropping a long chain recurses.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::op::{Backward, Op};
use super::{Device, Meta, Tensor};
use crate::{Error, Result};

/// Something with parameters that can be trained, under stable dotted paths such as `layers.0.weight`.
///
/// Paths are unique, and a tensor that is used in two places is visited once.
pub trait Trainable {
    /// Shows every parameter.
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor));
    /// Lends every parameter, in the same order under the same paths.
    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor));
}

impl Trainable for BTreeMap<String, Tensor> {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        self.iter().for_each(|(path, tensor)| f(path, tensor));
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        self.iter_mut().for_each(|(path, tensor)| f(path, tensor));
    }
}

/// Shows the parameters of a part under `prefix.`.
pub fn visit_in(prefix: &str, part: &dyn Trainable, f: &mut dyn FnMut(&str, &Tensor)) {
    part.visit(&mut |path, tensor| f(&format!("{prefix}.{path}"), tensor));
}

/// Lends the parameters of a part under `prefix.`.
pub fn visit_in_mut(prefix: &str, part: &mut dyn Trainable, f: &mut dyn FnMut(&str, &mut Tensor)) {
    part.visit_mut(&mut |path, tensor| f(&format!("{prefix}.{path}"), tensor));
}

/// Gradients by path, each of the shape of its parameter.
#[derive(Clone, Debug, Default)]
pub struct Grads(BTreeMap<String, Tensor>);

impl From<BTreeMap<String, Tensor>> for Grads {
    /// Gradients that were not recorded on a tape.
    fn from(grads: BTreeMap<String, Tensor>) -> Self {
        Self(grads)
    }
}

impl Grads {
    /// The gradient of a parameter.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if there is none of that name.
    pub fn get(&self, path: &str) -> Result<&Tensor> {
        self.0.get(path).ok_or_else(|| Error::Disconnected { param: path.into() })
    }

    /// The gradient of a parameter, to be changed.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Tensor> {
        self.0.get_mut(path)
    }

    /// Takes a gradient out.
    pub fn remove(&mut self, path: &str) -> Option<Tensor> {
        self.0.remove(path)
    }

    /// All of them, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(path, grad)| (path.as_str(), grad))
    }

    /// √Σ g² over all gradients.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        // Of those on a GPU one number comes back, so that it is waited for once.
        let mut far: Option<Tensor> = None;
        for grad in self.0.values() {
            let square = grad.mul(grad)?.sum_all()?;
            match (grad.device(), far.take()) {
                (Device::Cpu, rest) => {
                    total += square.to_scalar()?;
                    far = rest;
                }
                (Device::Cuda(_), None) => far = Some(square),
                (Device::Cuda(_), Some(sum)) => far = Some(sum.add(&square)?),
            }
        }
        total += far.map_or(Ok(0.0), |sum| sum.to_scalar())?;
        Ok(total.sqrt())
    }

    /// Scales all of them so that [`norm`](Self::norm) is at most `limit`, as PyTorch's `clip_grad_norm_` does
    /// (factor `limit / (norm + 1e-6)`). Returns the norm before.
    pub fn clip_norm(&mut self, limit: f64) -> Result<f64> {
        let norm = self.norm()?;
        let factor = limit / (norm + 1e-6);
        if factor < 1.0 {
            for grad in self.0.values_mut() {
                *grad = grad.mul_scalar(factor)?;
            }
        }
        Ok(norm)
    }

    /// Multiplies all of them.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for grad in self.0.values_mut() {
            *grad = grad.mul_scalar(factor)?;
        }
        Ok(())
    }

    /// Adds others of the same parameters, for accumulation over several batches.
    pub fn accumulate(&mut self, other: Self) -> Result<()> {
        for (path, grad) in other.0 {
            match self.0.remove(&path) {
                Some(sum) => self.0.insert(path, sum.accumulate(grad)?),
                None => self.0.insert(path, grad),
            };
        }
        Ok(())
    }
}

/// An input or output of a recorded operation.
#[derive(Debug)]
pub(crate) struct Saved {
    pub meta: Meta,
    /// Where its gradient is collected; `None` where none is needed.
    slot: Option<usize>,
    /// The value, where the gradient of the operation reads it.
    pub tensor: Option<Tensor>,
}

#[derive(Debug)]
struct Node {
    op: Box<dyn Op>,
    inputs: Vec<Saved>,
    outputs: Vec<Saved>,
    device: Device,
}

/// A recording in progress.
#[derive(Debug, Default)]
struct Tape {
    /// Identities of the tensors that need a gradient; their place is their slot. Identities grow with time, so this is
    /// sorted.
    tracked: Vec<u64>,
    nodes: Vec<Node>,
}

impl Tape {
    fn slot(&self, tensor: &Tensor) -> Option<usize> {
        self.tracked.binary_search(&tensor.id()).ok()
    }
}

thread_local! {
    static TAPE: Cell<Option<Box<Tape>>> = const { Cell::new(None) };
}

/// Whether the running [`grad`] will want the gradient of a tensor. For operations that compute it on the way forward.
pub(crate) fn tracks(tensor: &Tensor) -> bool {
    let tape = TAPE.take();
    let tracked = tape.as_ref().is_some_and(|tape| tape.slot(tensor).is_some());
    TAPE.set(tape);
    tracked
}

/// Hides the thread's tape until dropped.
pub(crate) struct Suspended(Option<Box<Tape>>);

impl Suspended {
    pub fn new() -> Self {
        Self(TAPE.take())
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        TAPE.set(self.0.take());
    }
}

/// Notes an operation, if a tape is there and an input needs a gradient.
pub(crate) fn record(op: Box<dyn Op>, inputs: &[&Tensor], outputs: &[Tensor]) {
    let Some(mut tape) = TAPE.take() else { return };
    let slots: Vec<Option<usize>> = inputs.iter().map(|t| tape.slot(t)).collect();
    if slots.iter().any(Option::is_some) {
        let needs: Vec<bool> = slots.iter().map(Option::is_some).collect();
        let keep = op.keep(&needs);
        let saved = |tensor: &Tensor, slot, keep: bool| Saved {
            meta: tensor.meta().clone(),
            slot,
            tensor: keep.then(|| tensor.clone()),
        };
        let inputs: Vec<Saved> = inputs
            .iter()
            .zip(slots)
            .enumerate()
            .map(|(i, (tensor, slot))| saved(tensor, slot, keep.keeps_input(i)))
            .collect();
        let mut kept = Vec::with_capacity(outputs.len());
        for (i, output) in outputs.iter().enumerate() {
            kept.push(saved(output, Some(tape.tracked.len()), keep.keeps_output(i)));
            tape.tracked.push(output.id());
        }
        let device = outputs.first().map_or(Device::Cpu, |t| t.device().clone());
        tape.nodes.push(Node { op, inputs, outputs: kept, device });
    }
    TAPE.set(Some(tape));
}

/// What the tape of the running [`grad`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Names of the recorded operations in order.
    pub operations: Vec<&'static str>,
    /// Bytes of the values kept for the way back, memory that several share counted once.
    pub bytes: usize,
}

/// What has been recorded so far; `None` outside of [`grad`].
///
/// ```
/// use ransnn::tensor::{Tensor, grad, recorded};
/// let x = std::collections::BTreeMap::from([("x".to_string(), Tensor::from_f32(vec![1.0; 8], &[8])?)]);
/// grad(&x, || {
///     let loss = x["x"].exp()?.sum_all()?;
///     let tape = recorded().expect("inside of grad");
///     assert_eq!(tape.operations, ["exp", "sum"]);
///     assert_eq!(tape.bytes, 8 * 4); // exp keeps its output, sum keeps nothing
///     Ok(loss)
/// })?;
/// # Ok::<(), ransnn::Error>(())
/// ```
pub fn recorded() -> Option<Recorded> {
    let tape = TAPE.take()?;
    let mut seen = BTreeSet::new();
    let saved = tape.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
    let bytes = saved
        .filter_map(|saved| saved.tensor.as_ref())
        .filter(|tensor| seen.insert(tensor.address()))
        .map(|tensor| tensor.meta().bytes())
        .sum();
    let operations = tape.nodes.iter().map(|node| node.op.name()).collect();
    TAPE.set(Some(tape));
    Some(Recorded { operations, bytes })
}

/// Runs `loss`, recording, and returns its value and its gradients by the parameters.
///
/// Only what depends on the parameters is recorded, each operation keeps only what its gradient reads, and kept values
/// and gradients are freed on the way back as soon as they are used.
///
/// ```
/// use ransnn::tensor::{Tensor, grad};
/// let params = std::collections::BTreeMap::from([("w".to_string(), Tensor::from_f32(vec![1.0, 2.0], &[2])?)]);
/// let (loss, grads) = grad(&params, || params["w"].mul(&params["w"])?.sum_all())?;
/// assert_eq!(loss.to_f32()?, [5.0]);
/// assert_eq!(grads.get("w")?.to_f32()?, [2.0, 4.0]);
/// # Ok::<(), ransnn::Error>(())
/// ```
///
/// # Errors
/// What `loss` returns; [`Error::Disconnected`] naming the first parameter that the loss does not reach;
/// [`Error::NoGradient`] naming an operation on the way that has none; a loss that is not a single float; `grad` inside
/// of `grad` (gradients of gradients are not offered).
pub fn grad<P: Trainable + ?Sized>(
    params: &P,
    loss: impl FnOnce() -> Result<Tensor>,
) -> Result<(Tensor, Grads)> {
    grad_dyn(&|f| params.visit(f), Box::new(loss))
}

type Visit<'a> = dyn Fn(&mut dyn FnMut(&str, &Tensor)) + 'a;

fn grad_dyn(visit: &Visit<'_>, loss: Box<dyn FnOnce() -> Result<Tensor> + '_>) -> Result<(Tensor, Grads)> {
    let mut params: Vec<(String, u64)> = Vec::new();
    visit(&mut |path, tensor| params.push((path.into(), tensor.id())));
    let mut owners = BTreeMap::new();
    for (path, id) in &params {
        if let Some(first) = owners.insert(*id, path) {
            return Err(Error::value(
                format!("parameter `{path}`"),
                format!("also `{first}`"),
                "visited once",
            ));
        }
    }
    if let Some(outer) = TAPE.take() {
        TAPE.set(Some(outer));
        return Err(Error::Unsupported { op: "grad", on: "inside of another grad".into() });
    }
    TAPE.set(Some(Box::new(Tape { tracked: owners.into_keys().collect(), nodes: Vec::new() })));
    // Also on a panic of `loss`, the thread must not go on recording.
    let scope = Scope;
    let value = loss()?;
    let tape = TAPE.take().ok_or_else(|| Error::Internal("the tape was lost".into()))?;
    drop(scope);
    if value.len() != 1 || !value.dtype().is_computing() {
        let (got, shape) = (value.dtype(), value.shape());
        return Err(Error::value("the loss", format!("{got} of shape {shape:?}"), "a single f32 or f64"));
    }
    let grads = reverse(*tape, &value, &params)?;
    Ok((value, grads))
}

struct Scope;

impl Drop for Scope {
    fn drop(&mut self) {
        TAPE.take();
    }
}

fn reverse(tape: Tape, loss: &Tensor, params: &[(String, u64)]) -> Result<Grads> {
    let mut grads: Vec<Option<Tensor>> = vec![None; tape.tracked.len()];
    let disconnected = |param: &String| Error::Disconnected { param: param.clone() };
    match (tape.slot(loss), params.first()) {
        (Some(slot), _) => grads[slot] = Some(loss.ones_like()?),
        (None, Some((param, _))) => return Err(disconnected(param)),
        (None, None) => {}
    }
    let Tape { tracked, mut nodes } = tape;
    while let Some(node) = nodes.pop() {
        let arrived: Vec<Option<Tensor>> =
            node.outputs.iter().map(|o| o.slot.and_then(|slot| grads[slot].take())).collect();
        if arrived.iter().all(Option::is_none) {
            continue;
        }
        let name = node.op.name();
        let needs: Vec<bool> = node.inputs.iter().map(|saved| saved.slot.is_some()).collect();
        let (inputs, outputs) = (&node.inputs, &node.outputs);
        let at = Backward { op: name, inputs, outputs, needs: &needs, grads: &arrived, device: &node.device };
        let results = node.op.backward(&at)?;
        // What the results share with `arrived` must be theirs alone before they are added to in place.
        drop(arrived);
        if results.len() != node.inputs.len() {
            return Err(Error::Internal(format!(
                "{name}: {} gradients for {} inputs",
                results.len(),
                needs.len()
            )));
        }
        for (input, result) in node.inputs.iter().zip(results) {
            let (Some(slot), Some(result)) = (input.slot, result) else { continue };
            if *result.meta() != input.meta {
                let (got, want) = (result.meta(), &input.meta);
                return Err(Error::Internal(format!("{name}: a gradient is {got:?}, its input {want:?}")));
            }
            grads[slot] = Some(match grads[slot].take() {
                Some(sum) => sum.accumulate(result)?,
                None => result,
            });
        }
    }
    let mut named = BTreeMap::new();
    for (param, id) in params {
        let slot = tracked.binary_search(id).map_err(|_| disconnected(param))?;
        let grad = grads[slot].take().ok_or_else(|| disconnected(param))?;
        named.insert(param.clone(), grad);
    }
    Ok(Grads(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn params(values: &[(&str, f64)]) -> BTreeMap<String, Tensor> {
        let tensor = |x| Tensor::from_f64(vec![x], &[1]).expect("fits");
        values.iter().map(|&(name, x)| (name.to_string(), tensor(x))).collect()
    }

    #[test]
    fn two_hundred_thousand_operations_in_a_row() {
        // A small stack shows that neither the way back nor dropping recurses.
        let chain = || {
            let p = params(&[("x", 0.5)]);
            grad(&p, || {
                let mut y = p["x"].clone();
                for _ in 0..100_000 {
                    y = y.mul_scalar(0.999_99)?.tanh()?;
                    y = y.add_scalar(1e-6)?.add(&p["x"].mul_scalar(1e-6)?)?;
                }
                assert!(recorded().expect("recording").operations.len() >= 200_000);
                y.sum_all()
            })
        };
        let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(chain).expect("starts");
        let (loss, grads) = thread.join().expect("no overflow").expect("a gradient");
        assert!(loss.to_scalar().expect("one") > 0.0);
        assert!(grads.get("x").expect("there").to_scalar().expect("one") > 0.0);
    }

    #[test]
    fn a_parameter_that_is_not_reached_is_named() {
        let p = params(&[("used", 2.0), ("unused", 3.0)]);
        let error = grad(&p, || p["used"].exp()?.sum_all()).expect_err("refused");
        assert!(matches!(&error, Error::Disconnected { param } if param == "unused"), "{error}");
        let error = grad(&p, || p["used"].mul(&p["unused"].detach()?)?.sum_all()).expect_err("refused");
        assert!(matches!(&error, Error::Disconnected { param } if param == "unused"), "{error}");
        let constant = Tensor::from_f64(vec![1.0], &[1]).expect("fits");
        assert!(matches!(grad(&p, || constant.sum_all()), Err(Error::Disconnected { .. })));
    }

    #[test]
    fn a_missing_gradient_is_an_error_where_it_is_needed() {
        let p = params(&[("x", 2.0)]);
        let hard =
            grad(&p, || p["x"].greater_equal(&p["x"].mul_scalar(0.5)?)?.to_dtype(DType::F64)?.sum_all());
        assert!(matches!(hard, Err(Error::NoGradient { op: "cast" })), "{hard:?}");
        // Off the way to the loss, the same operation is welcome.
        let beside = grad(&p, || {
            let _metric = p["x"].greater_equal(&p["x"])?;
            p["x"].sum_all()
        });
        assert!(beside.is_ok());
    }

    #[test]
    fn a_tensor_used_twice_adds_up_and_shared_gradients_stay_intact() {
        let p = params(&[("a", 2.0), ("b", 3.0)]);
        let (_, grads) = grad(&p, || {
            let sum = p["a"].add(&p["b"])?; // both gradients are one tensor
            sum.mul(&sum)?.add(&p["a"].mul(&p["b"])?)?.sum_all()
        })
        .expect("a gradient");
        assert_eq!(grads.get("a").expect("there").to_f64().expect("f64"), [10.0 + 3.0]);
        assert_eq!(grads.get("b").expect("there").to_f64().expect("f64"), [10.0 + 2.0]);
    }

    #[test]
    fn scopes_end() {
        let p = params(&[("x", 2.0)]);
        let nested = grad(&p, || grad(&p, || p["x"].sum_all()).map(|(loss, _)| loss));
        assert!(matches!(nested, Err(Error::Unsupported { op: "grad", .. })));
        assert!(recorded().is_none());
        let tied = BTreeMap::from([("a".to_string(), p["x"].clone()), ("b".to_string(), p["x"].clone())]);
        assert!(matches!(grad(&tied, || p["x"].sum_all()), Err(Error::Value { .. })));
        assert!(matches!(grad(&p, || p["x"].broadcast_to(&[2])), Err(Error::Value { .. })));
    }

    #[test]
    fn frozen_inputs_cost_nothing() {
        let p = params(&[("w", 2.0)]);
        let x = Tensor::zeros(&[1000], DType::F64).expect("fits");
        grad(&p, || {
            let frozen = x.exp()?.tanh()?; // nothing here depends on w
            assert_eq!(recorded().expect("recording").operations.len(), 0);
            let y = frozen.mul(&p["w"])?;
            // The gradient by w reads the frozen values; w itself is not read.
            assert_eq!(recorded().expect("recording").bytes, 8000);
            y.sum_all()
        })
        .expect("a gradient");
    }

    #[test]
    fn clipping_is_pytorchs() {
        let p = params(&[("a", 3.0), ("b", 4.0)]);
        let (_, mut grads) = grad(&p, || p["a"].mul(&p["b"])?.sum_all()).expect("a gradient");
        assert_eq!(grads.clip_norm(1.0).expect("a norm"), 5.0);
        assert!(
            (grads.get("a").expect("there").to_scalar().expect("one") - 4.0 / (5.0 + 1e-6)).abs() < 1e-15
        );
    }
}
