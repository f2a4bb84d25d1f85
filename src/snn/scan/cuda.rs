//! A scan on a GPU: `kernels/scan.cu`, all steps in one launch each way.

use super::kernel::{Acts, PARAMETERS, Reset};
use super::{Fires, OP, Operation, Scan, Sizes, Spikes};
use crate::tensor::cuda::{self, Arg, Gpu};
use crate::tensor::kernels::operations::scan;
use crate::tensor::{Backward, DType, Device, Meta, Op, Storage, Tensor, apply, cpu};
use crate::{Error, Result};

// Bits of the kernels' `flags`, see `kernels/scan.cuh`.
const ABOVE: u32 = 1;
const CURRENT: u32 = 2;
const ADAPTATION: u32 = 4;
const MEMBRANE: u32 = 8;
const HELD: u32 = 16;
/// Of the gradients by spikes, potentials and membranes.
const GRADS: [u32; 3] = [32, 64, 128];
const DETACHED: u32 = 256;
/// One of several stretches, with one before, with one after whose gradients are there.
const STRETCH: u32 = 512;
const PAST: u32 = 1024;
const FUTURE: u32 = 2048;

/// Settings of a scan by the numbers that `kernels/scan.cuh` knows them by.
pub(crate) struct Codes {
    /// What a spike does to the potential.
    pub reset: u32,
    /// When.
    pub acts: u32,
    /// What there is.
    pub flags: u32,
    /// The value that it resets to.
    pub value: f64,
}

impl Scan {
    /// For kernels, of neurons with a synaptic current, with a threshold that adapts.
    pub(crate) fn codes(&self, current: bool, adaptive: bool) -> Codes {
        let (reset, value) = match self.reset {
            Reset::None => (0, 0.0),
            Reset::Subtract => (1, 0.0),
            Reset::To(value) => (2, value),
        };
        let acts = match self.acts {
            Acts::SameStep => 0,
            Acts::NextStep => 1,
            Acts::BeforeNextStep => 2,
            Acts::Corrected => 3,
        };
        let bits = [
            (self.fires == Fires::Above, ABOVE),
            (current, CURRENT),
            (adaptive, ADAPTATION),
            (self.membrane, MEMBRANE),
            (self.detach, DETACHED),
        ];
        let flags = bits.into_iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
        Codes { reset, acts, flags, value }
    }
}

impl Operation {
    fn codes(&self) -> Codes {
        let mut codes = self.scan.codes(self.current, self.adaptive);
        codes.flags |= if self.held.is_some() { HELD } else { 0 };
        codes.flags |= if self.stretch.is_some() { STRETCH } else { 0 };
        codes
    }

    /// What has no kernel.
    fn check_cuda(&self, gpu: &Gpu) -> Result<()> {
        let refuse = |what: &str| {
            Err(Error::Unsupported {
                op: OP,
                on: format!("on cuda:{} with {what}; use the CPU", gpu.index()),
            })
        };
        if self.recurrent {
            return refuse("recurrent weights");
        }
        if self.scan.smooth {
            return refuse("smooth spikes");
        }
        if self.scan.half {
            return refuse("potentials in 16 bits");
        }
        Ok(())
    }

    /// Numbers that stretches hand on, so many planes of them.
    fn room(&self, planes: usize, sizes: Sizes) -> usize {
        if self.stretch.is_some() { planes * sizes.batch * sizes.neurons } else { 0 }
    }

    /// The parameters as kernels take them, absent ones as the first, and which have one number per neuron.
    fn given<'a>(&self, inputs: &[cuda::View<'a>], neurons: usize) -> (Vec<Arg<'a>>, u32) {
        let mut spread = 0;
        let args = (0..PARAMETERS).map(|p| {
            let view = &inputs[self.place(p).unwrap_or(1)];
            if view.meta.len() == neurons {
                spread |= 1 << p;
            }
            view.arg()
        });
        (args.collect(), spread)
    }

    pub(super) fn run_on(
        &self,
        gpu: &Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        self.check_cuda(gpu)?;
        let (sizes, dtype) = (Sizes::of(outputs[0].meta), inputs[0].meta.dtype);
        let Sizes { steps, batch, neurons } = sizes;
        let (parameters, spread) = self.given(inputs, neurons);
        let (past, planes) = (self.past_on_gpu(sizes)?, self.left());
        let mut nothing = gpu.empty(dtype.into(), 0)?;
        let mut left = gpu.empty(dtype.into(), self.room(planes, sizes))?;
        let mut args = vec![inputs[0].arg()];
        args.extend(parameters);
        args.push(past.map_or(Ok(inputs[0].arg()), |past| past.cuda_buffer().map(Arg::In))?);
        let shown = outputs.len() > 2;
        args.extend(outputs.iter_mut().map(cuda::ViewMut::arg));
        if !shown {
            args.push(Arg::Out(&mut nothing));
        }
        args.push(Arg::Out(&mut left));
        args.extend(cuda::sizes([steps, batch, neurons])?);
        let Codes { reset, acts, flags, value } = self.codes();
        let flags = flags | if past.is_some() { PAST } else { 0 };
        args.extend([spread, reset, acts, flags].map(Arg::U32));
        args.extend([self.scan.rest, value].map(Arg::F64));
        let grid = [(batch * neurons).div_ceil(cuda::THREADS), 1, 1];
        gpu.blocks(scan::SCAN.of(OP, dtype)?, grid, 0, &mut args)?;
        if self.stretch.is_some() {
            let meta = Meta::new([planes, batch, neurons], dtype);
            self.leave(Tensor::of_storage(meta, gpu.device(), Storage::Cuda(left)));
        }
        Ok(())
    }

    /// Gradients as [`Op::backward`] returns them.
    pub(super) fn gradients_on_gpu(&self, at: &Backward<'_>, sizes: Sizes) -> Result<Vec<Option<Tensor>>> {
        let count = self.feedback_place();
        let needs: Vec<bool> = (0..count).map(|i| at.needs(i)).collect();
        let potentials = at.output(1)?;
        let mut inputs = vec![if self.reads_input(&needs) { at.input(0)? } else { potentials }];
        for i in 1..count {
            inputs.push(at.input(i)?);
        }
        inputs.push(potentials);
        let mut carried = 0;
        for (i, bit) in GRADS.into_iter().enumerate().take(if self.scan.membrane { 3 } else { 2 }) {
            if let Some(grad) = at.grads(i) {
                inputs.push(grad);
                carried |= bit;
            }
        }
        let (past, future) = (self.past_on_gpu(sizes)?, self.future_on_gpu(sizes)?);
        for (handed, bit) in [(past, PAST), (future.as_ref(), FUTURE)] {
            if let Some(handed) = handed {
                inputs.push(handed);
                carried |= bit;
            }
        }
        let wanted = (0..PARAMETERS).filter(|&p| self.place(p).is_some_and(|i| needs[i]));
        let wanted: Vec<usize> = wanted.collect();
        let chain = Chain {
            of: self.clone(),
            like: at.input_meta(0).clone(),
            sizes,
            carried,
            wanted: wanted.clone(),
        };
        let [dx, sums, back] = <[Tensor; 3]>::try_from(apply(chain, &inputs)?)
            .map_err(|_| Error::Internal("the gradient of a scan has three parts".into()))?;
        self.hand_back(back);
        let mut results: Vec<Option<Tensor>> = vec![None; count];
        results[0] = Some(dx);
        for (i, p) in wanted.into_iter().enumerate() {
            let Some(place) = self.place(p) else { continue };
            let shape = &at.input_meta(place).shape;
            let one = sums.narrow(0, i, 1)?;
            let total = if at.input_meta(place).len() == 1 { one.sum_all()? } else { one.sum(&[0, 1])? };
            results[place] = Some(total.reshape(shape)?);
        }
        Ok(results)
    }
}

/// Inputs: the currents where they are read, the parameters, potentials, the gradients that arrived, and what stretches
/// before and after handed on. Outputs: the gradient by the currents, for each wanted parameter a sum over time,
/// `[wanted, B, N]`, and what is handed back.
#[derive(Debug)]
struct Chain {
    of: Operation,
    like: Meta,
    sizes: Sizes,
    /// Flags of the gradients that arrived, and of what was handed on.
    carried: u32,
    wanted: Vec<usize>,
}

impl Op for Chain {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, _inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let Sizes { batch, neurons, .. } = self.sizes;
        let planes = |count: usize| Meta::new([count, batch, neurons], self.like.dtype);
        let returned = if self.of.stretch.is_some() { self.of.returned() } else { 0 };
        Ok(vec![self.like.clone(), planes(self.wanted.len()), planes(returned)])
    }

    fn cpu(&self, _inputs: &[cpu::View<'_>], _outputs: &mut [cpu::ViewMut<'_>]) -> Result<()> {
        Err(Error::Internal("the gradient of a scan in main memory has its own way".into()))
    }

    fn cuda(&self, gpu: &Gpu, inputs: &[cuda::View<'_>], outputs: &mut [cuda::ViewMut<'_>]) -> Result<()> {
        self.of.check_cuda(gpu)?;
        let (Sizes { steps, batch, neurons }, dtype) = (self.sizes, self.like.dtype);
        let [dx, sums, back] = outputs else { return Ok(()) };
        let (parameters, spread) = self.of.given(inputs, neurons);
        // Planes of what is replayed; the kernel counts them alike.
        let corrected = self.of.scan.acts == Acts::Corrected;
        let planes =
            usize::from(self.of.adaptive) + usize::from(self.of.current) + 2 * usize::from(corrected);
        let mut history = gpu.empty(dtype.into(), planes * steps * batch * neurons)?;
        let mut rest = inputs[self.of.feedback_place()..].iter();
        let potentials = rest.next().ok_or_else(|| Error::Internal("a scan kept no potentials".into()))?;
        let mut args = vec![inputs[0].arg()];
        args.extend(parameters);
        let mut carried =
            |bit: u32| if self.carried & bit != 0 { rest.next() } else { None }.unwrap_or(potentials).arg();
        let grads = GRADS.map(&mut carried);
        args.extend([carried(PAST), potentials.arg()]);
        args.extend(grads);
        args.push(carried(FUTURE));
        args.extend([dx.arg(), sums.arg(), back.arg(), Arg::Out(&mut history)]);
        args.extend(cuda::sizes([steps, batch, neurons])?);
        let Codes { reset, acts, flags, value } = self.of.codes();
        let wanted: u32 = self.wanted.iter().map(|p| 1 << p).sum();
        args.extend([spread, reset, acts, flags | self.carried, wanted].map(Arg::U32));
        args.extend([self.of.scan.rest, value].map(Arg::F64));
        let code = self.of.scan.surrogate.code();
        args.push(Arg::U32(code.function));
        args.extend(code.numbers.map(Arg::F64));
        let grid = [(batch * neurons).div_ceil(cuda::THREADS), 1, 1];
        gpu.blocks(scan::SCAN_CHAIN.of(OP, dtype)?, grid, 0, &mut args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Spikes {
    /// The spikes as a tensor of zeros and ones on a device, the columns its last axis. To a GPU go the lists.
    ///
    /// # Errors
    /// What the GPU reports.
    pub fn to_tensor_on(&self, device: &Device, dtype: DType) -> Result<Tensor> {
        let Device::Cuda(gpu) = device else { return self.to_tensor()?.to_dtype(dtype) };
        let (rows, columns) = (self.rows(), self.columns());
        let (offsets, indices) = (gpu.upload(&self.offsets)?, gpu.upload(&self.indices)?);
        let values = gpu.upload(&self.values)?;
        let mut out = gpu.zeros(dtype.into(), rows * columns)?;
        let mut args = vec![Arg::In(&offsets), Arg::In(&indices), Arg::In(&values), Arg::Out(&mut out)];
        args.extend(cuda::sizes([rows, columns])?);
        args.push(cuda::flag(self.is_binary()));
        gpu.blocks(scan::SPREAD_SPIKES.of(OP, dtype)?, [rows.div_ceil(8), 1, 1], 0, &mut args)?;
        let meta = Meta::new([self.front(), &[columns]].concat(), dtype);
        Ok(Tensor::of_storage(meta, device.clone(), Storage::Cuda(out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::kernels::HEADERS;

    #[test]
    fn flags_are_those_of_the_kernel() {
        let bit = |name: &str| -> u32 {
            let define = format!("#define HAS_{name} ");
            let (_, text) = HEADERS.iter().find(|(name, _)| *name == "scan.cuh").expect("a header");
            let line = text.lines().find_map(|line| line.strip_prefix(define.as_str()));
            line.and_then(|value| value.strip_suffix('u')?.parse().ok()).expect("the kernel defines it")
        };
        let names = ["ABOVE", "CURRENT", "ADAPTATION", "MEMBRANE", "HELD", "DETACHED"];
        assert_eq!(names.map(bit), [ABOVE, CURRENT, ADAPTATION, MEMBRANE, HELD, DETACHED]);
        assert_eq!(["STRETCH", "PAST", "FUTURE"].map(bit), [STRETCH, PAST, FUTURE]);
        assert_eq!(["GRAD_SPIKE", "GRAD_POTENTIAL", "GRAD_MEMBRANE"].map(bit), GRADS);
    }
}
