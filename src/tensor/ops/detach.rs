//! The same value, declared not to depend on what it came from.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::op::{Backward, Keep, Op, apply1};
use crate::tensor::{Meta, Tensor};

#[derive(Debug)]
struct Detach;

impl Op for Detach {
    fn name(&self) -> &'static str {
        "detach"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[0].clone()])
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

    fn backward(&self, _at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![None])
    }
}

impl Tensor {
    /// The same value with gradient zero; shares memory. For the reset of a spiking neuron, say.
    pub fn detach(&self) -> Result<Self> {
        apply1(Detach, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    // x · detach(x): only the first factor has a gradient, so the twin takes the second as a constant.
    let inputs = check::inputs("detach", &[&[3]], 0.5, 1.0);
    let constant = inputs.clone();
    let mut case = Case::new("detach", inputs, |x| x[0].mul(&x[0].detach()?));
    case.twin = Some(Box::new(move |x| x[0].mul(&constant[0])));
    vec![case]
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn shares_memory() {
        let x = Tensor::zeros(&[3], DType::F32).expect("fits");
        assert_eq!(x.detach().expect("runs").address(), x.address());
    }
}
