//! The spike: a step forward, a surrogate derivative backward (Neftci, Mostafa and Zenke, arXiv:1901.09948).

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};
use crate::tensor::{Surrogate, Tensor};

/// `x ≥ 0`.
#[derive(Clone, Copy, Debug)]
struct Spike(Surrogate);

impl Unary for Spike {
    const NAME: &'static str = "spike";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code::plain(10)
    }

    fn slope_code(&self) -> Code {
        self.0.code()
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        if x >= T::ZERO { T::ONE } else { T::ZERO }
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        self.0.at(x)
    }
}

/// `x > 0`: as in snnTorch, a membrane at the threshold does not fire.
#[derive(Clone, Copy, Debug)]
struct SpikeAbove(Surrogate);

impl Unary for SpikeAbove {
    const NAME: &'static str = "spike_above";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code::plain(11)
    }

    fn slope_code(&self) -> Code {
        self.0.code()
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        if x > T::ZERO { T::ONE } else { T::ZERO }
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        self.0.at(x)
    }
}

impl Tensor {
    /// 1 where `x ≥ 0`, else 0, with x = membrane − threshold (SpikingJelly, Brian2 use ≥). Gradient: `g` times the
    /// surrogate at x.
    ///
    /// ```
    /// # use ransnn::tensor::{Surrogate, Tensor};
    /// let x = Tensor::from_f32(vec![-0.5, 0.0, 0.5], &[3])?;
    /// assert_eq!(x.spike(Surrogate::Arctan { alpha: 2.0 })?.to_f32()?, [0.0, 1.0, 1.0]);
    /// assert_eq!(x.spike_above(Surrogate::Arctan { alpha: 2.0 })?.to_f32()?, [0.0, 0.0, 1.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn spike(&self, surrogate: Surrogate) -> Result<Self> {
        apply1(Map(Spike(surrogate)), &[self])
    }

    /// 1 where `x > 0`, else 0 (snnTorch, norse). Gradient as for [`spike`](Self::spike).
    pub fn spike_above(&self, surrogate: Surrogate) -> Result<Self> {
        apply1(Map(SpikeAbove(surrogate)), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |surrogate: Surrogate, shape: &[usize]| {
        let inputs = check::inputs("spike", &[shape], -0.8, 0.8);
        let what = format!("spike {surrogate:?} {shape:?}");
        let mut case = Case::new(what, inputs, move |x| x[0].spike(surrogate));
        case.twin = Some(Box::new(move |x| {
            Tensor::from_f64(x[0].to_f64()?.into_iter().map(|x| surrogate.smooth(x)).collect(), x[0].shape())
        }));
        case
    };
    let mut cases: Vec<Case> =
        Surrogate::ALL.into_iter().flat_map(|s| [case(s, &[1]), case(s, &[3, 17])]).collect();
    let above = Surrogate::ALL
        .into_iter()
        .map(|s| Case { run: Box::new(move |x| x[0].spike_above(s)), ..case(s, &[7]) });
    cases.extend(above);
    cases
}
