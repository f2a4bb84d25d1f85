//! Repetition along axes of size 1 and new leading axes.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, each_buffer, loops};
use crate::tensor::cuda;
use crate::tensor::op::{Backward, Keep, Op, apply1};
use crate::tensor::shape::{broadcast, broadcast_strides, mismatch};
use crate::tensor::{Meta, Tensor};

#[derive(Debug)]
struct BroadcastTo {
    shape: Vec<usize>,
}

impl Op for BroadcastTo {
    fn name(&self) -> &'static str {
        "broadcast_to"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        if broadcast(self.name(), &inputs[0].shape, &self.shape)? != self.shape {
            return Err(mismatch(
                self.name(),
                &inputs[0].shape,
                &self.shape,
                "only axes of size 1 are repeated",
            ));
        }
        Ok(vec![Meta::new(self.shape.clone(), inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let strides = broadcast_strides(inputs[0].shape(), &self.shape);
        each_buffer!(inputs[0].data, x => {
            loops::gather_strided(x, strides, outputs[0].data.slice_mut()?, &self.shape);
        });
        Ok(())
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let strides = broadcast_strides(inputs[0].shape(), &self.shape);
        gpu.gather(self.name(), inputs[0].meta.dtype, inputs[0].data, &strides, outputs[0].data, &self.shape)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(at.grad()?.sum_to(&at.input_meta(0).shape)?)])
    }
}

impl Tensor {
    /// Repeats axes of size 1, and the whole along new leading axes. Gradient: summed back.
    ///
    /// # Errors
    /// The shape does not broadcast to `shape`.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Self> {
        apply1(BroadcastTo { shape: shape.to_vec() }, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(from, to): (&[usize], &'static [usize])| {
        let inputs = check::inputs("broadcast_to", &[from], -1.0, 1.0);
        Case::new(format!("broadcast_to {from:?} {to:?}"), inputs, move |x| x[0].broadcast_to(to))
    };
    let cases: [(&[usize], &[usize]); 4] =
        [(&[], &[2]), (&[3], &[2, 3]), (&[2, 1, 3], &[2, 4, 3]), (&[1, 1], &[1, 1])];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_f32(vec![1.0, 2.0], &[2, 1]).expect("fits");
        assert_eq!(x.broadcast_to(&[2, 2]).expect("runs").to_f32().expect("f32"), [1.0, 1.0, 2.0, 2.0]);
        assert!(x.broadcast_to(&[3, 2]).is_err() && x.broadcast_to(&[2]).is_err());
    }
}
