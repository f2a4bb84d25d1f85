//! What an operation is, and the one door through which all of them run.

use std::fmt::Debug;

use super::cpu::{self, Buffer};
use super::storage::Storage;
use super::{Device, Meta, Tensor, cuda, tape};
use crate::{Error, Result};

/// An operation: its rule for shapes, its definition, its gradient. One file each in `ops/`.
///
/// Operations may have several inputs and outputs; a whole scan over time is one operation with its own `backward`.
///
/// ```
/// use ransnn::tensor::{Backward, Keep, Meta, Op, Tensor, apply, cpu};
/// use ransnn::{Error, Result};
///
/// /// Sum and difference of two tensors of f32: two inputs, two outputs.
/// #[derive(Debug)]
/// struct SumDifference;
///
/// impl Op for SumDifference {
///     fn name(&self) -> &'static str {
///         "sum_difference"
///     }
///     fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
///         Ok(vec![inputs[0].clone(), inputs[1].clone()])
///     }
///     fn cpu(&self, inputs: &[cpu::View<'_>], outputs: &mut [cpu::ViewMut<'_>]) -> Result<()> {
///         let (cpu::Buffer::F32(a), cpu::Buffer::F32(b)) = (inputs[0].data, inputs[1].data) else {
///             return Err(Error::Unsupported { op: self.name(), on: "with these values".into() });
///         };
///         *outputs[0].data = cpu::Buffer::F32(a.iter().zip(b).map(|(a, b)| a + b).collect());
///         *outputs[1].data = cpu::Buffer::F32(a.iter().zip(b).map(|(a, b)| a - b).collect());
///         Ok(())
///     }
///     fn keep(&self, _needs: &[bool]) -> Keep {
///         Keep::NOTHING
///     }
///     fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
///         let (sum, difference) = (at.grad_or_zeros(0)?, at.grad_or_zeros(1)?);
///         Ok(vec![Some(sum.add(&difference)?), Some(sum.sub(&difference)?)])
///     }
/// }
///
/// let (a, b) = (Tensor::from_f32(vec![3.0], &[1])?, Tensor::from_f32(vec![1.0], &[1])?);
/// let outputs = apply(SumDifference, &[&a, &b])?;
/// assert_eq!(outputs[1].to_f32()?, [2.0]);
/// # Ok::<(), Error>(())
/// ```
pub trait Op: Debug + Send + Sync + 'static {
    /// Name in messages and of kernels.
    fn name(&self) -> &'static str;

    /// Shapes and kinds of number of the outputs, or why the inputs do not fit. The only validation.
    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>>;

    /// The definition: clear loops, correct in f32 and f64.
    fn cpu(&self, inputs: &[cpu::View<'_>], outputs: &mut [cpu::ViewMut<'_>]) -> Result<()>;

    /// The same on a GPU, into outputs that are not initialised. Refused unless the operation has a kernel.
    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        _inputs: &[cuda::View<'_>],
        _outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        Err(Error::Unsupported { op: self.name(), on: format!("on cuda:{}", gpu.index()) })
    }

    /// An output that is input 0 under another shape: shares its memory and runs nothing.
    fn shares_memory(&self) -> bool {
        false
    }

    /// What `backward` reads, given which inputs need a gradient; the tape holds nothing else.
    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::ALL
    }

    /// Gradients of the inputs, each of the shape and kind of its input. No default: `None` says that the gradient is
    /// zero, and an operation without a gradient returns [`Error::NoGradient`]. Only those that
    /// [needs](Backward::needs) are used.
    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>>;
}

/// Which inputs and outputs of an operation the tape holds until its gradient is taken: one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    inputs: u32,
    outputs: u32,
}

impl Keep {
    /// All inputs and outputs.
    pub const ALL: Self = Self { inputs: u32::MAX, outputs: u32::MAX };
    /// Only shapes.
    pub const NOTHING: Self = Self { inputs: 0, outputs: 0 };
    /// All inputs.
    pub const INPUTS: Self = Self { inputs: u32::MAX, outputs: 0 };
    /// All outputs.
    pub const OUTPUTS: Self = Self { inputs: 0, outputs: u32::MAX };

    /// Also input `i`, if `wanted`.
    pub fn input(self, i: usize, wanted: bool) -> Self {
        Self { inputs: self.inputs | u32::from(wanted) << i, ..self }
    }

    /// Also output `i`, if `wanted`.
    pub fn output(self, i: usize, wanted: bool) -> Self {
        Self { outputs: self.outputs | u32::from(wanted) << i, ..self }
    }

    pub(crate) fn keeps_input(self, i: usize) -> bool {
        self.inputs >> i.min(31) & 1 == 1
    }

    pub(crate) fn keeps_output(self, i: usize) -> bool {
        self.outputs >> i.min(31) & 1 == 1
    }
}

/// What [`Op::backward`] sees.
#[derive(Debug)]
pub struct Backward<'a> {
    pub(crate) op: &'static str,
    pub(crate) inputs: &'a [tape::Saved],
    pub(crate) outputs: &'a [tape::Saved],
    pub(crate) needs: &'a [bool],
    pub(crate) grads: &'a [Option<Tensor>],
    pub(crate) device: &'a Device,
}

impl Backward<'_> {
    /// Number of inputs.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Whether the gradient of input `i` is wanted.
    pub fn needs(&self, i: usize) -> bool {
        self.needs[i]
    }

    /// Input `i`, which [`Op::keep`] must have asked for.
    pub fn input(&self, i: usize) -> Result<&Tensor> {
        self.inputs[i].tensor.as_ref().ok_or_else(|| self.not_kept("input", i))
    }

    /// Output `i`, which [`Op::keep`] must have asked for.
    pub fn output(&self, i: usize) -> Result<&Tensor> {
        self.outputs[i].tensor.as_ref().ok_or_else(|| self.not_kept("output", i))
    }

    /// Shape and kind of number of input `i`.
    pub fn input_meta(&self, i: usize) -> &Meta {
        &self.inputs[i].meta
    }

    /// Shape and kind of number of output `i`.
    pub fn output_meta(&self, i: usize) -> &Meta {
        &self.outputs[i].meta
    }

    /// Gradient of the loss by output `i`; `None` where the loss does not depend on it. At least one is there.
    pub fn grads(&self, i: usize) -> Option<&Tensor> {
        self.grads[i].as_ref()
    }

    /// Gradient by the only output.
    pub fn grad(&self) -> Result<&Tensor> {
        self.grads[0].as_ref().ok_or_else(|| Error::Internal(format!("{}: no gradient arrived", self.op)))
    }

    /// Gradient by output `i`, as zeros where the loss does not depend on it.
    pub fn grad_or_zeros(&self, i: usize) -> Result<Tensor> {
        match &self.grads[i] {
            Some(grad) => Ok(grad.clone()),
            None => Tensor::full_on(&self.outputs[i].meta, 0.0, self.device),
        }
    }

    /// The answer of an operation that has no gradient.
    pub fn none<T>(&self) -> Result<T> {
        Err(Error::NoGradient { op: self.op })
    }

    fn not_kept(&self, what: &str, i: usize) -> Error {
        Error::Internal(format!("{}: {what} {i} is read by its gradient but was not kept", self.op))
    }
}

/// Checks, allocates, runs and, inside [`grad`](super::grad), records: the only way to run an operation.
///
/// # Errors
/// Operands on different devices, shapes that do not fit, kinds of number or devices without an implementation.
pub fn apply(op: impl Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    apply_boxed(Box::new(op), inputs)
}

/// Apart from the box, the same code for all operations.
fn apply_boxed(op: Box<dyn Op>, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let metas: Vec<&Meta> = inputs.iter().map(|t| t.meta()).collect();
    let inferred = op.infer(&metas)?;
    let device = inputs.first().map_or(&Device::Cpu, |t| t.device());
    if let Some(other) = inputs.iter().find(|t| t.device() != device) {
        let on = format!("on operands of {device} and {}", other.device());
        return Err(Error::Unsupported { op: op.name(), on });
    }
    // Threads that wait inside an operation may run other tasks: those must not find this tape.
    let recording = tape::Suspended::new();
    let outputs = run(&*op, inputs, inferred, device)?;
    drop(recording);
    tape::record(op, inputs, &outputs);
    Ok(outputs)
}

/// [`apply`] for operations with one output.
pub(crate) fn apply1(op: impl Op, inputs: &[&Tensor]) -> Result<Tensor> {
    only(op.name(), apply_boxed(Box::new(op), inputs)?)
}

fn only(name: &str, mut outputs: Vec<Tensor>) -> Result<Tensor> {
    match (outputs.pop(), outputs.len()) {
        (Some(output), 0) => Ok(output),
        _ => Err(Error::Internal(format!("{name} was expected to have one output"))),
    }
}

fn run(op: &dyn Op, inputs: &[&Tensor], inferred: Vec<Meta>, device: &Device) -> Result<Vec<Tensor>> {
    if op.shares_memory() {
        return Ok(inferred.into_iter().map(|meta| inputs[0].share(meta)).collect());
    }
    let storages: Vec<Storage> = match device {
        Device::Cpu => {
            let views = inputs
                .iter()
                .map(|t| Ok(cpu::View { meta: t.meta(), data: t.buffer()? }))
                .collect::<Result<Vec<_>>>()?;
            let mut buffers: Vec<Buffer> = inferred.iter().map(|m| Buffer::zeros(m.dtype, m.len())).collect();
            let mut outputs: Vec<cpu::ViewMut<'_>> =
                inferred.iter().zip(&mut buffers).map(|(meta, data)| cpu::ViewMut { meta, data }).collect();
            op.cpu(&views, &mut outputs)?;
            buffers.into_iter().map(Storage::Cpu).collect()
        }
        Device::Cuda(gpu) => {
            let views = inputs
                .iter()
                .map(|t| Ok(cuda::View { meta: t.meta(), data: t.cuda_buffer()? }))
                .collect::<Result<Vec<_>>>()?;
            let mut buffers =
                inferred.iter().map(|m| gpu.empty(m.dtype.into(), m.len())).collect::<Result<Vec<_>>>()?;
            let mut outputs: Vec<cuda::ViewMut<'_>> =
                inferred.iter().zip(&mut buffers).map(|(meta, data)| cuda::ViewMut { meta, data }).collect();
            op.cuda(gpu, &views, &mut outputs)?;
            buffers.into_iter().map(Storage::Cuda).collect()
        }
    };
    Ok(inferred
        .into_iter()
        .zip(storages)
        .map(|(meta, storage)| Tensor::of_storage(meta, device.clone(), storage))
        .collect())
}

/// Rules that several operations share.
pub(crate) mod infer {
    use super::super::shape::mismatch;
    use super::{Error, Meta, Result};

    /// One input that operations compute in; the output is like it.
    pub fn unary(op: &'static str, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        computing(op, inputs[0])?;
        Ok(vec![inputs[0].clone()])
    }

    /// Refuses what operations do not compute in.
    pub fn computing(op: &'static str, meta: &Meta) -> Result<()> {
        match meta.dtype.is_computing() {
            true => Ok(()),
            false => Err(unsupported(op, meta)),
        }
    }

    /// All of the kind of the first, which operations compute in.
    pub fn alike(op: &'static str, inputs: &[&Meta]) -> Result<()> {
        computing(op, inputs[0])?;
        match inputs.iter().find(|m| m.dtype != inputs[0].dtype) {
            None => Ok(()),
            Some(other) => Err(mismatch(
                op,
                &inputs[0].shape,
                &other.shape,
                format!("one holds {}, the other {}; convert with to_dtype", inputs[0].dtype, other.dtype),
            )),
        }
    }

    /// The error for a kind of number that an operation does not take.
    pub fn unsupported(op: &'static str, meta: &Meta) -> Error {
        Error::Unsupported { op, on: format!("with {} values", meta.dtype) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_selects_bits() {
        let keep = Keep::NOTHING.input(1, true).input(0, false).output(2, true);
        assert!(keep.keeps_input(1) && !keep.keeps_input(0) && keep.keeps_output(2) && !keep.keeps_output(0));
        assert!(Keep::ALL.keeps_input(40), "more operands than bits share the last one");
    }
}
