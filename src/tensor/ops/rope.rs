//! Rotary position embedding (Su et al., arXiv:2104.09864) in the layout of Hugging Face: element `i` is paired with
//! `i + D/2`. Splitting heads and rotating are one pass.

use crate::Result;
use crate::parallel;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::operations::attention;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// Inputs: x `[B, T, H, D]`, cosines and sines `[1 or B, T, D/2]`. Output `[B, H, T, D]`. `back`: from there to here, by
/// the opposite angles.
#[derive(Debug)]
struct Rope {
    back: bool,
}

impl Rope {
    /// `[B, T, H, D]`.
    fn sizes(&self, x: &[usize]) -> [usize; 4] {
        match (x, self.back) {
            (&[b, t, h, d], false) | (&[b, h, t, d], true) => [b, t, h, d],
            _ => [0; 4],
        }
    }
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        let (x, table) = (&inputs[0].shape, &inputs[1].shape);
        let [b, t, h, d] = self.sizes(x);
        let fits = x.len() == 4 && d % 2 == 0 && table.len() == 3 && table[1..] == [t, d / 2];
        if !fits || (table[0] != 1 && table[0] != b) || inputs[2].shape != *table {
            return Err(mismatch(self.name(), x, table, "x is [B, T, H, D], the tables [1 or B, T, D/2]"));
        }
        let shape = if self.back { [b, t, h, d] } else { [b, h, t, d] };
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let [b, t, h, d] = self.sizes(inputs[0].shape());
        if b * t * h * d == 0 {
            return Ok(());
        }
        let shared = inputs[1].shape()[0] == 1;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, cos, sin) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            // One piece of output for each sample and head (or, back, each sample and position).
            let (outer, inner) = if self.back { (t, h) } else { (h, t) };
            parallel::chunks_mut(outputs[0].slice::<T>()?, inner * d, |piece, out| {
                let (sample, at) = (piece / outer, piece % outer);
                for (i, out) in out.chunks_mut(d).enumerate() {
                    let (time, head) = if self.back { (at, i) } else { (i, at) };
                    let row = match self.back {
                        true => (sample * h + head) * t + time,
                        false => (sample * t + time) * h + head,
                    };
                    let table = (if shared { time } else { sample * t + time }) * (d / 2);
                    let (cos, sin) = (&cos[table..table + d / 2], &sin[table..table + d / 2]);
                    let sign = if self.back { -T::ONE } else { T::ONE };
                    wide::run(Rotate { x: &x[row * d..(row + 1) * d], cos, sin, sign, out });
                }
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
        let [b, t, h, d] = self.sizes(inputs[0].shape());
        let shared = inputs[1].shape()[0] == 1;
        let [out] = outputs else { return Ok(()) };
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg(), out.arg()];
        args.extend(cuda::sizes([b, t, h, d])?);
        args.extend([cuda::flag(shared), cuda::flag(self.back)]);
        let entry = attention::ROPE.of(self.name(), inputs[0].meta.dtype)?;
        gpu.blocks(entry, [(b * t * h * d / 2).div_ceil(cuda::THREADS), 1, 1], 0, &mut args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.input(1, true).input(2, true)
    }

    /// A rotation is undone by the opposite angle.
    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        if at.needs(1) || at.needs(2) {
            return at.none();
        }
        let dx = apply1(Self { back: !self.back }, &[at.grad()?, at.input(1)?, at.input(2)?])?;
        Ok(vec![Some(dx), None, None])
    }
}

/// A head at a position.
struct Rotate<'a, T> {
    x: &'a [T],
    cos: &'a [T],
    sin: &'a [T],
    sign: T,
    out: &'a mut [T],
}

impl<T: Float> Work for Rotate<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        let half = self.cos.len();
        let ((x1, x2), (y1, y2)) = (self.x.split_at(half), self.out.split_at_mut(half));
        let tables = self.cos.iter().zip(self.sin);
        for (((y1, y2), (&x1, &x2)), (&cos, &sin)) in y1.iter_mut().zip(y2).zip(x1.iter().zip(x2)).zip(tables)
        {
            let sin = self.sign * sin;
            *y1 = x1 * cos - x2 * sin;
            *y2 = x2 * cos + x1 * sin;
        }
    }
}

impl Tensor {
    /// `[B, T, H, D]` to `[B, H, T, D]`, each pair `(i, i + D/2)` rotated by the angle whose cosine and sine stand in the
    /// tables `[1 or B, T, D/2]`. Gradient: the opposite rotation.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![1.0, 0.0], &[1, 1, 1, 2])?;
    /// let table = |value| Tensor::from_f32(vec![value], &[1, 1, 1]);
    /// assert_eq!(x.rope(&table(0.0)?, &table(1.0)?)?.to_f32()?, [0.0, 1.0]); // a quarter turn
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, an odd D.
    pub fn rope(&self, cos: &Self, sin: &Self) -> Result<Self> {
        apply1(Rope { back: false }, &[self, cos, sin])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(batch, tables): (usize, usize)| {
        let x = check::inputs("rope", &[&[batch, 3, 2, 6]], -1.0, 1.0);
        Case::new(format!("rope {batch} {tables}"), x, move |x| {
            let angle = check::random("angle", &[tables, 3, 3], -3.0, 3.0)?;
            // cos = tanh of something and sin to match would do as well: any two numbers on the circle.
            let cos = angle.tanh()?;
            let sin = cos.mul(&cos)?.affine(-1.0, 1.0)?.sqrt()?;
            x[0].rope(&check::beside(&x[0], &cos)?, &check::beside(&x[0], &sin)?)
        })
    };
    [(1, 1), (2, 1), (2, 2)].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn bad_shapes_are_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).expect("fits");
        let table = zeros(&[1, 3, 2]);
        assert_eq!(zeros(&[2, 3, 5, 4]).rope(&table, &table).expect("runs").shape(), [2, 5, 3, 4]);
        for shape in [&[2, 3, 5, 3][..], &[2, 4, 5, 4], &[3, 5, 4]] {
            assert!(zeros(shape).rope(&table, &table).is_err(), "{shape:?}");
        }
    }
}
