//! Loops compiled once for each width of vectors, chosen when the program runs; unsafe because the wider ones may only run
//! where the processor has them. None fuses products with sums, so that all give the same bits.
#![allow(unsafe_code)]

use crate::tensor::dtype::{DType, Element};

/// A loop. Its code follows the processor as far as it is inlined: `run` and what it calls must be `#[inline(always)]`, and
/// a closure is only sure to be inlined while it is small.
pub(crate) trait Work {
    type Out;
    /// The widest vectors that it is compiled for.
    const WIDEST: Width;
    fn run(self) -> Self::Out;
}

/// Vectors that a loop is compiled for, beside those of any processor. Every copy is paid for by whoever compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Any,
    Avx2,
    Avx512,
}

impl Width {
    /// Of a loop that computes: wide for what models are trained in, and not for numbers that only tests use.
    pub const fn of<T: Element>() -> Self {
        if matches!(T::DTYPE, DType::F32) { Self::Avx512 } else { Self::Any }
    }

    /// Of a loop that waits for memory: the widest vectors are no faster.
    pub const fn of_memory<T: Element>() -> Self {
        if matches!(T::DTYPE, DType::F32) { Self::Avx2 } else { Self::Any }
    }
}

/// Runs a loop with the widest vectors that the processor has and the loop is compiled for.
#[inline]
pub(crate) fn run<W: Work>(work: W) -> W::Out {
    // Constants, so that copies that cannot be reached are not compiled.
    #[cfg(target_arch = "x86_64")]
    if const { matches!(W::WIDEST, Width::Avx512) } {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            // SAFETY: the processor has these instructions, as was just asked.
            return unsafe { avx512(work) };
        }
    }
    #[cfg(target_arch = "x86_64")]
    if const { !matches!(W::WIDEST, Width::Any) } && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: likewise.
        return unsafe { avx2(work) };
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<W: Work>(work: W) -> W::Out {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<W: Work>(work: W) -> W::Out {
    work.run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::cpu::math::f32 as math;

    struct Sums<'a>(&'a [f32], &'a mut [f32]);

    impl Work for Sums<'_> {
        type Out = ();
        const WIDEST: Width = Width::Avx512;
        #[inline(always)]
        fn run(self) {
            for (out, &x) in self.1.iter_mut().zip(self.0) {
                *out = math::exp(x) * x + math::erf(x);
            }
        }
    }

    #[test]
    fn every_width_gives_the_same_bits() {
        let x: Vec<f32> = (0..1003).map(|i| i as f32 * 0.013 - 6.0).collect();
        let (mut plain, mut wide) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        Sums(&x, &mut plain).run();
        run(Sums(&x, &mut wide));
        assert_eq!(plain, wide);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as was just asked.
            unsafe { avx2(Sums(&x, &mut wide)) };
            assert_eq!(plain, wide);
        }
    }
}
