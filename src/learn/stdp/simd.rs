//! A presentation compiled once for the least processor and once for AVX2; unsafe because the second may only run where
//! AVX2 is. Neither fuses products with sums, so that both give the same bits.
#![allow(unsafe_code)]

use super::present::{Constants, Layer, Table};
use super::spikes::{Key, Spikes};

/// [`Layer::present`] with the best instructions of this machine.
pub(super) fn present(
    layer: &mut Layer,
    constants: &Constants,
    spikes: &Spikes,
    key: Key,
    table: Table<'_>,
    shift: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        return unsafe { present_avx2(layer, constants, spikes, key, table, shift) };
    }
    layer.present(constants, spikes, key, table, shift);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn present_avx2(
    layer: &mut Layer,
    constants: &Constants,
    spikes: &Spikes,
    key: Key,
    table: Table<'_>,
    shift: &mut [f32],
) {
    layer.present(constants, spikes, key, table, shift);
}
