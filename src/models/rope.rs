//! Angles of rotary positions: frequencies, their stretching, and tables for a batch.

use std::f64::consts::PI;

use super::config::{Config, RopeScaling};
use crate::Result;
use crate::tensor::Tensor;

/// One frequency for each pair of elements of a head, `[D/2]`: base^(−2i/D), stretched as the configuration says.
/// Rounded to f32 where transformers does, so that long texts get the same angles.
pub fn frequencies(config: &Config) -> Vec<f32> {
    let half = config.head_dim / 2;
    let plain = (0..half).map(|i| {
        let exponent = (2 * i) as f32 / config.head_dim as f32;
        (1.0 / config.rope_theta.powf(f64::from(exponent))) as f32
    });
    plain.map(|f| stretch(f64::from(f), config.rope_scaling) as f32).collect()
}

fn stretch(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let wavelength = 2.0 * PI / frequency;
            if wavelength > original / low {
                frequency / factor
            } else if wavelength < original / high {
                frequency
            } else {
                let kept = (original / wavelength - low) / (high - low);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

/// Cosines and sines for positions, `[rows, T, D/2]` each.
///
/// # Errors
/// The number of positions is not `rows · T`.
pub fn tables(frequencies: &[f32], positions: &[u32], rows: usize) -> Result<[Tensor; 2]> {
    let angles: Vec<f64> = positions
        .iter()
        .flat_map(|&position| frequencies.iter().map(move |&f| f64::from(position as f32 * f)))
        .collect();
    let shape = [rows, positions.len() / rows.max(1), frequencies.len()];
    let table =
        |f: fn(f64) -> f64| Tensor::from_f32(angles.iter().map(|&angle| f(angle) as f32).collect(), &shape);
    Ok([table(f64::cos)?, table(f64::sin)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_short_and_stretches_long_wavelengths() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let of = |wavelength: f64| stretch(2.0 * PI / wavelength, scaling) * wavelength / (2.0 * PI);
        let close = |got: f64, want: f64| (got - want).abs() < 1e-12;
        assert!(close(of(100.0), 1.0) && close(of(10_000.0), 0.125));
        // Half way on the ramp: 8192/wavelength = 2.5.
        assert!(close(of(8192.0 / 2.5), 0.5 / 8.0 + 0.5));
    }

    #[test]
    fn tables_turn() {
        let [cos, sin] = tables(&[1.0, 0.5], &[0, 2], 1).expect("fits");
        assert_eq!(cos.shape(), [1, 2, 2]);
        let (cos, sin) = (cos.to_f64().expect("f64"), sin.to_f64().expect("f64"));
        assert!(cos[0] == 1.0 && sin[1] == 0.0 && (cos[3] - 1f64.cos()).abs() < 1e-7);
        assert!((sin[2] - 2f64.sin()).abs() < 1e-7);
    }
}
