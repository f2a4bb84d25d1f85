//! Quantisation clip-floor-shift, the activation of networks that are to be converted (Bu et al., ICLR 2022,
//! arXiv:2303.04347).

use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::operations::elementwise;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};
use crate::{Error, Result};

/// Inputs: x, and θ of one element.
#[derive(Clone, Copy, Debug)]
struct Qcfs {
    levels: u32,
}

/// `⌊clip(x / θ, 0, 1) L + ½⌋ / L`.
#[inline(always)]
fn level<T: Float>(x: T, theta: T, levels: T) -> T {
    let share = x / theta;
    let share = if share < T::ZERO { T::ZERO } else { share };
    let share = if share > T::ONE { T::ONE } else { share };
    // Positive and small, so that truncation is the floor.
    T::of_f64((share * levels + T::of_f64(0.5)).to_f64().floor()) / levels
}

impl Op for Qcfs {
    fn name(&self) -> &'static str {
        "qcfs"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        if inputs[1].len() != 1 {
            return Err(mismatch(
                self.name(),
                &inputs[0].shape,
                &inputs[1].shape,
                "the threshold is one number",
            ));
        }
        Ok(vec![inputs[0].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, theta) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?[0]);
            let levels = T::of_f64(self.levels.into());
            loops::map(x, outputs[0].slice::<T>()?, |x| theta * level(x, theta, levels));
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let [out] = outputs else { return Ok(()) };
        let n = out.meta.len();
        let args = vec![inputs[0].arg(), inputs[1].arg(), out.arg(), Arg::U32(self.levels)];
        gpu.each(elementwise::QCFS.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::INPUTS
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grads = apply(Chain(*self), &[at.grad()?, at.input(0)?, at.input(1)?])?;
        let [dx, by_theta] = <[Tensor; 2]>::try_from(grads)
            .map_err(|_| Error::Internal("the gradient of qcfs has two parts".into()))?;
        let dtheta = || by_theta.sum_all()?.reshape(&at.input_meta(1).shape);
        Ok(vec![Some(dx), at.needs(1).then(dtheta).transpose()?])
    }
}

/// Gradients by x and, element by element, by θ.
#[derive(Debug)]
struct Chain(Qcfs);

impl Op for Chain {
    fn name(&self) -> &'static str {
        "qcfs"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[1].clone(), inputs[1].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let [dx, dtheta] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (grad, x, theta) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?[0]);
            let levels = T::of_f64(self.0.levels.into());
            let inside = |x: T| x > T::ZERO && x < theta;
            loops::map2(grad, x, dx.slice::<T>()?, |g, x| if inside(x) { g } else { T::ZERO });
            loops::map2(grad, x, dtheta.slice::<T>()?, |g, x| {
                let own = if inside(x) { x / theta } else { T::ZERO };
                g * (level(x, theta, levels) - own)
            });
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let [dx, dtheta] = outputs else { return Ok(()) };
        let n = dx.meta.len();
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg(), dx.arg(), dtheta.arg()];
        args.push(Arg::U32(self.0.levels));
        gpu.each(elementwise::QCFS_CHAIN.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `θ ⌊clip(x / θ, 0, 1) L + ½⌋ / L` with a threshold θ of one element and L levels. The floor lets gradients straight
    /// through: by x, `g` where 0 < x < θ, else 0; by θ, `Σ g (y / θ − x / θ · [0 < x < θ])`.
    ///
    /// An integrate-and-fire neuron that starts at θ/2 and gets x for L steps fires `L y / θ` spikes.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![-1.0, 0.6, 1.1, 9.0], &[4])?;
    /// let theta = Tensor::from_f32(vec![2.0], &[1])?;
    /// assert_eq!(x.qcfs(&theta, 4)?.to_f32()?, [0.0, 0.5, 1.0, 2.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// A threshold of more than one element, or no levels.
    pub fn qcfs(&self, theta: &Self, levels: u32) -> Result<Self> {
        if levels == 0 {
            return Err(Error::value("levels of an activation", levels, "at least 1"));
        }
        apply1(Qcfs { levels }, &[self, theta])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, levels): (&[usize], u32)| {
        let inputs = check::inputs("qcfs", &[shape], -0.6, 1.9).into_iter();
        let inputs: Vec<Tensor> = inputs.chain(check::inputs("qcfs/theta", &[&[1]], 1.1, 1.2)).collect();
        let (x0, theta0) = (inputs[0].clone(), inputs[1].clone());
        let mut case =
            Case::new(format!("qcfs {shape:?} {levels}"), inputs, move |x| x[0].qcfs(&x[1], levels));
        // Straight through the floor: what rounding adds to the share stays as it is.
        case.twin = Some(Box::new(move |x| {
            let share = |x: &Tensor, theta: &Tensor| x.div(theta)?.clamp(0.0, 1.0);
            let rounding = x0.qcfs(&theta0, levels)?.div(&theta0)?.sub(&share(&x0, &theta0)?)?;
            share(&x[0], &x[1])?.add(&rounding)?.mul(&x[1])
        }));
        case
    };
    let cases: [(&[usize], u32); 3] = [(&[7], 4), (&[3, 17], 8), (&[2, 3, 4], 1)];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_the_spikes_of_a_neuron() {
        let levels = 8;
        let theta = 0.7f64;
        let x: Vec<f64> = (0..400).map(|i| i as f64 / 400.0 * 1.4 - 0.3).collect();
        let tensor = |x: Vec<f64>| Tensor::from_f64(x.clone(), &[x.len()]).expect("fits");
        let y = tensor(x.clone()).qcfs(&tensor(vec![theta]), levels).expect("runs").to_f64().expect("f64");
        let mut seen = std::collections::BTreeSet::new();
        for (x, y) in x.iter().zip(y) {
            let (mut u, mut spikes) = (theta / 2.0, 0);
            for _ in 0..levels {
                u += x;
                if u >= theta - 1e-12 {
                    u -= theta;
                    spikes += 1;
                }
            }
            assert!((y - f64::from(spikes) / f64::from(levels) * theta).abs() < 1e-9, "{x} {y} {spikes}");
            seen.insert(spikes);
        }
        assert_eq!(seen.len(), 9);
    }
}
