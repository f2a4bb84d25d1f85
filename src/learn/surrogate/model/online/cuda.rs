//! The loops of training forward in time on a GPU: `kernels/online.cu`. Nothing here waits for it.

use super::super::Layer;
use super::state::{Eligibility, Filter, Loops, State, Sum, Total};
use crate::snn::scan::{Codes, Parameters};
use crate::tensor::cuda::{self, Arg, Buffer, Gpu, Product};
use crate::tensor::kernels::ElementType;
use crate::tensor::kernels::operations::online;
use crate::tensor::{DType, Storage, Tensor};
use crate::{Result, tensor};

/// A tensor of numbers that a kernel wrote.
fn written(gpu: &Gpu, buffer: Buffer, like: &Tensor) -> Tensor {
    Tensor::of_storage(tensor::Meta::new(like.shape(), DType::F32), gpu.device(), Storage::Cuda(buffer))
}

/// Memory for numbers as many as another tensor has.
fn room(gpu: &Gpu, like: &Tensor) -> Result<Buffer> {
    gpu.empty(ElementType::F32, like.len())
}

fn read(tensor: &Tensor) -> Result<Arg<'_>> {
    tensor.cuda_buffer().map(Arg::In)
}

fn write(tensor: &mut Tensor) -> Result<Arg<'_>> {
    tensor.cuda_buffer_mut().map(Arg::Out)
}

/// ρ and b, or where thresholds stay as they are any numbers.
fn adaptation(numbers: &Parameters) -> Result<[Arg<'_>; 2]> {
    let (rho, strength) = numbers
        .adaptation
        .as_ref()
        .map_or((&numbers.decay, &numbers.decay), |(rho, strength)| (rho, strength));
    Ok([read(rho)?, read(strength)?])
}

impl Loops for Gpu {
    fn advance(&self, layer: &Layer, state: &mut State, currents: &Tensor) -> Result<Tensor> {
        let numbers = &layer.numbers;
        let State { carry, spikes, current, adaptation: raised, membrane, slope, .. } = state;
        let mut fired = room(self, currents)?;
        let mut args = vec![read(currents)?, read(&numbers.decay)?, read(&numbers.gain)?];
        args.extend([
            read(&numbers.threshold)?,
            read(numbers.current_decay.as_ref().unwrap_or(&numbers.decay))?,
        ]);
        args.extend(adaptation(numbers)?);
        args.push(read(spikes)?);
        args.extend([write(carry)?, write(current)?, write(raised)?]);
        args.extend([Arg::Out(&mut fired), write(membrane)?, write(slope)?]);
        let Codes { reset, acts, flags, value } =
            layer.scan.codes(numbers.current_decay.is_some(), numbers.adaptation.is_some());
        args.extend([reset, acts, flags].map(Arg::U32));
        args.extend([layer.scan.rest, value].map(Arg::F64));
        let surrogate = layer.scan.surrogate.code();
        args.push(Arg::U32(surrogate.function));
        args.extend(surrogate.numbers.map(Arg::F64));
        self.outputs(online::STEP.only(), currents.len(), args)?;
        let fired = written(self, fired, spikes);
        Ok(std::mem::replace(spikes, fired))
    }

    fn filter(&self, numbers: &Parameters, spikes: &Tensor, filter: &mut Filter) -> Result<()> {
        let current = cuda::flag(numbers.current_decay.is_some());
        let mut args = vec![read(spikes)?, read(&numbers.decay)?];
        args.push(read(numbers.current_decay.as_ref().unwrap_or(&numbers.decay))?);
        args.extend([write(&mut filter.current)?, write(&mut filter.trace)?, current]);
        self.outputs(online::FILTER.only(), spikes.len(), args)
    }

    fn loss(&self, scores: &Tensor, labels: &Tensor, share: f64, total: &mut Total) -> Result<Tensor> {
        let mut signal = room(self, scores)?;
        let args = vec![
            read(scores)?,
            read(labels)?,
            Arg::Out(&mut signal),
            write(&mut total.outputs)?,
            write(&mut total.losses)?,
        ];
        let sizes = [scores.shape()[0], scores.shape()[1]];
        self.rows(online::LOSS.only(), sizes, args, [Arg::F64(share)])?;
        Ok(written(self, signal, scores))
    }

    fn delta(&self, signal: &Tensor, slope: Option<&Tensor>, gain: &Tensor) -> Result<Tensor> {
        let mut delta = room(self, signal)?;
        let through = cuda::flag(slope.is_none());
        let mut args = vec![read(signal)?, read(slope.unwrap_or(signal))?, read(gain)?];
        args.extend([Arg::Out(&mut delta), through]);
        self.outputs(online::DELTA.only(), signal.len(), args)?;
        Ok(written(self, delta, signal))
    }

    fn collect(&self, epsilon: &Tensor, delta: &Tensor, sum: &mut Sum) -> Result<()> {
        let [sources, batch, neurons] = sum.sizes;
        if epsilon.len() == 1 {
            let args = vec![read(epsilon)?, read(delta)?, write(&mut sum.values)?, cuda::size(batch)?];
            return self.outputs(online::COLLECT.only(), neurons, args);
        }
        let (epsilon, delta) = (epsilon.cuda_buffer()?, delta.cuda_buffer()?);
        let product = Product::new(epsilon, delta, [sources, batch, neurons]).transposed(true, false);
        self.product(DType::F32, &Product { add: true, ..product }, sum.values.cuda_buffer_mut()?)
    }

    fn collect_filtered(
        &self,
        epsilon: &Tensor,
        [signal, slope]: [&Tensor; 2],
        (kappa, numbers): (&Tensor, &Parameters),
        synapses: &mut Eligibility,
        sum: &mut Sum,
    ) -> Result<()> {
        let [sources, batch, neurons] = sum.sizes;
        let mut args = vec![read(epsilon)?, read(signal)?, read(slope)?, read(kappa)?, read(&numbers.gain)?];
        args.extend(adaptation(numbers)?);
        args.extend([
            write(&mut synapses.filtered)?,
            write(&mut synapses.adaptation)?,
            write(&mut sum.values)?,
        ]);
        args.extend(cuda::sizes([sources, batch, neurons])?);
        args.extend([epsilon.len() == 1, numbers.adaptation.is_some()].map(cuda::flag));
        let blocks = (sources * neurons).div_ceil(cuda::THREADS);
        self.blocks(online::SYNAPSES.only(), [blocks, 1, 1], 0, &mut args)
    }
}
