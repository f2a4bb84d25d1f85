//! The kernels compiled once for the least processor and once for AVX2; unsafe because the second may only run where
//! AVX2 is. Neither fuses products with sums, so that both give the same bits.
#![allow(unsafe_code)]

use super::kernel::{Feedback, PARAMETERS, Rows, Rule, Scratch};
use crate::tensor::dtype::Float;

macro_rules! twice {
    ($(#[$doc:meta])* $name:ident, $avx2:ident, ($($arg:ident: $type:ty),*)) => {
        $(#[$doc])*
        pub(super) fn $name<F: Float>(rule: &Rule<F>, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2, as was just asked.
                return unsafe { $avx2(rule, $($arg),*) };
            }
            rule.$name($($arg),*);
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        #[allow(clippy::too_many_arguments, reason = "those of the kernel and the rule")]
        fn $avx2<F: Float>(rule: &Rule<F>, $($arg: $type),*) {
            rule.$name($($arg),*);
        }
    };
}

twice! {
    /// [`Rule::forward`].
    forward, forward_avx2,
    (rows: &Rows<'_, F>, feedback: Feedback<'_, F>, x: &mut [F], out: (&mut [F], &mut [F], &mut [F]),
     scratch: &mut Scratch<F>)
}

twice! {
    /// [`Rule::backward`].
    backward, backward_avx2,
    (rows: &Rows<'_, F>, feedback: Feedback<'_, F>, saved: (&[F], &[F]), grads: [&[F]; 3], gx: &mut [F],
     sums: &mut [Vec<F>; PARAMETERS], scratch: &mut Scratch<F>)
}
