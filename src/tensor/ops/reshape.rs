//! The same elements under another shape.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::op::{Backward, Keep, Op, apply1};
use crate::tensor::shape::{checked_len, mismatch};
use crate::tensor::{Meta, Tensor};

#[derive(Debug)]
struct Reshape {
    shape: Vec<usize>,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let len = checked_len(self.name(), &self.shape)?;
        if len != inputs[0].len() {
            let why = format!("{} elements are not {len}", inputs[0].len());
            return Err(mismatch(self.name(), &inputs[0].shape, &self.shape, why));
        }
        Ok(vec![Meta::new(self.shape.clone(), inputs[0].dtype)])
    }

    fn shares_memory(&self) -> bool {
        true
    }

    fn cpu(&self, _inputs: &[View<'_>], _outputs: &mut [ViewMut<'_>]) -> Result<()> {
        Ok(())
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(at.grad()?.reshape(&at.input_meta(0).shape)?)])
    }
}

impl Tensor {
    /// The same elements in the same order under another shape; shares memory. Gradient: reshaped back.
    ///
    /// # Errors
    /// The shapes have different numbers of elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        apply1(Reshape { shape: shape.to_vec() }, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(from, to): (&[usize], &'static [usize])| {
        let inputs = check::inputs("reshape", &[from], -1.0, 1.0);
        Case::new(format!("reshape {from:?} {to:?}"), inputs, move |x| x[0].reshape(to))
    };
    let cases: [(&[usize], &[usize]); 3] = [(&[], &[1, 1]), (&[6], &[2, 3]), (&[2, 1, 4], &[8])];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn sizes_must_agree() {
        let x = Tensor::zeros(&[2, 3], DType::I64).expect("fits");
        assert_eq!(x.reshape(&[3, 2]).expect("runs").shape(), [3, 2]);
        assert!(x.reshape(&[4]).is_err() && x.reshape(&[usize::MAX, 2]).is_err());
    }
}
