//! Conversion between kinds of number.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, each_buffer, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::Element;
use crate::tensor::kernels::operations::layout;
use crate::tensor::op::{Backward, Keep, Op, apply1};
use crate::tensor::{DType, Meta, Tensor};

#[derive(Debug)]
struct Cast {
    to: DType,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::new(inputs[0].shape.clone(), self.to)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_buffer!(inputs[0].data, x => each_buffer!(&mut *outputs[0].data, y => convert(x, y)));
        Ok(())
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let [out] = outputs else { return Ok(()) };
        let (n, kind) = (out.meta.len(), |dtype: DType| Arg::U32(dtype as u32));
        let args = vec![inputs[0].arg(), out.arg(), kind(inputs[0].meta.dtype), kind(self.to)];
        gpu.each(layout::CAST.only(), n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let from = at.input_meta(0).dtype;
        match from.is_float() && self.to.is_float() {
            true => Ok(vec![Some(at.grad()?.to_dtype(from)?)]),
            false => at.none(),
        }
    }
}

fn convert<T: Element, U: Element>(x: &[T], y: &mut [U]) {
    loops::map(x, y, |x| U::of_f64(x.to_f64()));
}

impl Tensor {
    /// The nearest values of another kind; towards integers the fraction is dropped and what is outside saturates.
    /// Gradient: converted back; none from or to integers.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        match self.dtype() == dtype {
            true => Ok(self.clone()),
            false => apply1(Cast { to: dtype }, &[self]),
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    // Values and gradients that are exact in f32 and bf16, so that rounding does not hide the gradient.
    let case = |to: DType| {
        let mut case = Case::new(format!("cast {to}"), check::inputs("cast", &[&[3]], -1.0, 1.0), move |x| {
            x[0].to_dtype(to)?.to_dtype(check::CHECKED)
        });
        // In single precision, differences of 1e-5 would measure rounding.
        case.twin = Some(Box::new(|x| x[0].affine(1.0, 0.0)));
        case
    };
    vec![case(DType::F32)]
}

#[cfg(test)]
mod tests {
    use crate::Error;
    use crate::tensor::{DType, Tensor, grad};
    use std::collections::BTreeMap;

    #[test]
    fn round_trips_and_rounding() {
        let x = Tensor::from_f32(vec![1.0, -2.5, 300.25], &[3]).expect("fits");
        for dtype in [DType::F64, DType::F16, DType::Bf16, DType::F32] {
            let back =
                x.to_dtype(dtype).expect("runs").to_dtype(DType::F32).expect("runs").to_f32().expect("f32");
            let last = if dtype == DType::Bf16 { 300.0 } else { 300.25 };
            assert_eq!(back, [1.0, -2.5, last], "{dtype}");
        }
        assert_eq!(x.to_dtype(DType::U8).expect("runs").to_u32().expect("u8"), [1, 0, 255]);
        assert_eq!(x.to_dtype(DType::I64).expect("runs").to_f64().expect("i64"), [1.0, -2.0, 300.0]);
    }

    #[test]
    fn half_precision_passes_gradients_and_integers_do_not() {
        let p = BTreeMap::from([("x".to_string(), Tensor::from_f32(vec![1.0, 2.0], &[2]).expect("fits"))]);
        let through =
            |dtype| grad(&p, || p["x"].to_dtype(dtype)?.to_dtype(DType::F32)?.mul_scalar(3.0)?.sum_all());
        let (_, grads) = through(DType::Bf16).expect("a gradient");
        assert_eq!(grads.get("x").expect("there").to_f32().expect("f32"), [3.0, 3.0]);
        assert!(matches!(through(DType::U32), Err(Error::NoGradient { op: "cast" })));
    }
}
