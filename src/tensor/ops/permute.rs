//! Axes in another order.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, each_buffer, loops};
use crate::tensor::cuda;
use crate::tensor::op::{Backward, Keep, Op, apply1};
use crate::tensor::shape::{self, mismatch};
use crate::tensor::{Meta, Tensor};

/// Axis `i` of the output is axis `order[i]` of the input; elements are copied.
#[derive(Debug)]
struct Permute {
    order: Vec<usize>,
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let shape = &inputs[0].shape;
        let mut seen = vec![false; shape.len()];
        for &axis in &self.order {
            if axis >= shape.len() || std::mem::replace(&mut seen[axis], true) {
                return Err(mismatch(self.name(), shape, &self.order, "every axis must be named once"));
            }
        }
        if self.order.len() != shape.len() {
            return Err(mismatch(self.name(), shape, &self.order, "every axis must be named once"));
        }
        Ok(vec![Meta::new(self.order.iter().map(|&axis| shape[axis]).collect::<Vec<_>>(), inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let strides = loops::permuted_strides(inputs[0].shape(), &self.order);
        let shape = &outputs[0].meta.shape;
        each_buffer!(inputs[0].data, x => {
            loops::gather_strided(x, strides, outputs[0].data.slice_mut()?, shape);
        });
        Ok(())
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let strides = loops::permuted_strides(inputs[0].shape(), &self.order);
        let out = &mut outputs[0];
        gpu.gather(self.name(), inputs[0].meta.dtype, inputs[0].data, &strides, out.data, &out.meta.shape)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let mut inverse = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
        Ok(vec![Some(at.grad()?.permute(&inverse)?)])
    }
}

impl Tensor {
    /// Axis `i` of the result is axis `order[i]` of this tensor. Gradient: the inverse permutation.
    ///
    /// # Errors
    /// `order` does not name every axis once.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        apply1(Permute { order: order.to_vec() }, &[self])
    }

    /// Two axes exchanged; negative axes count from the back. A product needs no copy for this: see
    /// [`matmul_nt`](Self::matmul_nt).
    pub fn transpose(&self, a: isize, b: isize) -> Result<Self> {
        let (a, b) = (shape::axis("transpose", self.shape(), a)?, shape::axis("transpose", self.shape(), b)?);
        let mut order: Vec<usize> = (0..self.rank()).collect();
        order.swap(a, b);
        self.permute(&order)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, order): (&[usize], &'static [usize])| {
        let inputs = check::inputs("permute", &[shape], -1.0, 1.0);
        Case::new(format!("permute {shape:?} {order:?}"), inputs, move |x| x[0].permute(order))
    };
    let cases: [(&[usize], &[usize]); 5] = [
        (&[], &[]),
        (&[1, 5], &[1, 0]),
        (&[2, 3], &[1, 0]),
        (&[2, 3, 4], &[2, 0, 1]),
        (&[2, 1, 3, 2], &[0, 2, 1, 3]),
    ];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_u8((0..6).collect(), &[1, 2, 3]).expect("fits");
        let y = x.transpose(-1, 1).expect("runs");
        assert_eq!((y.shape(), y.to_u32().expect("u8")), (&[1, 3, 2][..], vec![0, 3, 1, 4, 2, 5]));
        for order in [&[0, 1][..], &[0, 0, 1], &[0, 1, 3]] {
            assert!(x.permute(order).is_err());
        }
    }
}
