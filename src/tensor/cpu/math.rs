//! Portable `exp`, `ln`, `tanh`, `erf` and `powf`: the same bits on every platform, and loops over them vectorise.
//!
//! Only additions, multiplications and divisions in a fixed order; nothing from the platform's C library.
//! Accuracy is stated and tested below.

macro_rules! common {
    ($float:ident, $exp_degree:expr, $ln_terms:expr) => {
        /// 2ᵏ · Σ rⁱ/i! with x = k ln 2 + r, |r| ≤ ln 2 / 2 (Cody and Waite).
        #[inline(always)]
        pub fn exp(x: $float) -> $float {
            let (k, r) = reduce(x);
            // Above, the result is infinite, below, zero; NaN passes through the polynomial.
            let value = taylor::<{ $exp_degree }>(r) * r + 1.0;
            let value = scale(value, k);
            let value = if x > OVERFLOW { $float::INFINITY } else { value };
            if x < UNDERFLOW { 0.0 } else { value }
        }

        /// (eʳ − 1) / r by its series.
        #[inline(always)]
        fn taylor<const DEGREE: usize>(r: $float) -> $float {
            let mut sum: $float = 0.0;
            let mut i = DEGREE;
            while i > 0 {
                sum = sum * r + INVERSE_FACTORIAL[i];
                i -= 1;
            }
            sum
        }

        /// tanh x = (e²ˣ − 1) / (e²ˣ + 1), by the series of e²ˣ − 1 near zero, where the difference would cancel.
        #[inline(always)]
        pub fn tanh(x: $float) -> $float {
            let a = x.abs();
            let small = if a < 0.35 { 2.0 * a } else { 0.0 };
            let near = taylor::<{ $exp_degree + 4 }>(small) * small;
            let near = near / (near + 2.0);
            let far = 1.0 - 2.0 / (exp(2.0 * a) + 1.0);
            let value = if a < 0.35 { near } else { far };
            value.copysign(x)
        }

        /// ln m + e ln 2 with √½ ≤ m < √2 and ln m = 2 artanh((m − 1)/(m + 1)).
        #[inline(always)]
        pub fn ln(x: $float) -> $float {
            let subnormal = x < $float::MIN_POSITIVE;
            let (e, m) = split(if subnormal { x * SUBNORMAL_SCALE } else { x });
            let e = if subnormal { e - SUBNORMAL_EXPONENT } else { e };
            let s = (m - 1.0) / (m + 1.0);
            let square = s * s;
            let mut sum: $float = 0.0;
            let mut i = $ln_terms;
            while i > 0 {
                sum = (sum + 1.0 / (2 * i + 1) as $float) * square;
                i -= 1;
            }
            let value = e * LN2_HIGH + (2.0 * s + (2.0 * s * sum + e * LN2_LOW));
            let value = if x == $float::INFINITY { x } else { value };
            let value = if x == 0.0 { $float::NEG_INFINITY } else { value };
            if x < 0.0 || x.is_nan() { $float::NAN } else { value }
        }
    };
}

/// In single precision.
pub(crate) mod f32 {
    const OVERFLOW: f32 = 88.722_84;
    const UNDERFLOW: f32 = -103.972_08;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const SUBNORMAL_SCALE: f32 = 8_388_608.0;
    const SUBNORMAL_EXPONENT: f32 = 23.0;
    const INVERSE_FACTORIAL: [f32; 12] = {
        let mut table = [1.0; 12];
        let mut i = 1;
        while i < 12 {
            table[i] = (super::f64::INVERSE_FACTORIAL[i]) as f32;
            i += 1;
        }
        table
    };

    common!(f32, 7, 5);

    /// Adding 1.5 · 2²³ leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;

    #[inline(always)]
    fn reduce(x: f32) -> (i32, f32) {
        let shifted = x.clamp(-104.0, 89.0) * std::f32::consts::LOG2_E + ROUND;
        let k = shifted - ROUND;
        ((shifted.to_bits().wrapping_sub(ROUND.to_bits())) as i32, (x - k * LN2_HIGH) - k * LN2_LOW)
    }

    /// In two steps, so that 2ᵏ may lie outside the normal range.
    #[inline(always)]
    fn scale(value: f32, k: i32) -> f32 {
        let half = k >> 1;
        let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
        value * power(half) * power(k - half)
    }

    #[inline(always)]
    fn split(x: f32) -> (f32, f32) {
        let bits = x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
        let e = (bits as i32) >> 23;
        (e as f32, f32::from_bits(x.to_bits().wrapping_sub((e << 23) as u32)))
    }

    /// Of (erf(x) − x)/x in x², for |x| up to [`NEAR`].
    const ERF_NEAR: [f32; 6] =
        [1.283_791_7e-1, -3.761_253_4e-1, 0.112_819_925, -2.676_813_5e-2, 4.991_194_2e-3, -5.967_617e-4];
    /// Of (ln erfc(x) + x)/x, for |x| beyond it.
    const ERF_FAR: [f32; 6] =
        [-1.287_175_1e-1, -6.348_467e-1, -1.067_778_8e-1, 2.425_462_2e-2, -3.883_964_4e-3, 3.831_971_3e-4];
    const ERF_FARTHEST: f32 = -1.728_534_7e-5;
    const NEAR: f32 = 0.927_734_4;

    /// Two polynomials, the second under an exponential (after N. Juffa's); absolute error below 7e-8. Both are computed,
    /// so it vectorises.
    #[inline(always)]
    pub fn erf(x: f32) -> f32 {
        let (a, square) = (x.abs(), x * x);
        let mut near = ERF_NEAR[5];
        let mut i = 5;
        while i > 0 {
            i -= 1;
            near = near * square + ERF_NEAR[i];
        }
        let near = near * x + x;
        // Beyond, the result is 1.
        let t = if a < 4.2 { a } else { 4.2 };
        let mut far = ERF_FARTHEST;
        let mut i = 6;
        while i > 0 {
            i -= 1;
            far = far * t + ERF_FAR[i];
        }
        let far = (1.0 - exp(far * t - t)).copysign(x);
        if a > NEAR { far } else { near }
    }

    /// Through double precision.
    #[inline(always)]
    pub fn powf(x: f32, exponent: f32) -> f32 {
        super::f64::powf(f64::from(x), f64::from(exponent)) as f32
    }
}

/// In double precision.
pub(crate) mod f64 {
    const OVERFLOW: f64 = 709.782_712_893_384;
    const UNDERFLOW: f64 = -745.133_219_101_941_2;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SUBNORMAL_SCALE: f64 = 4_503_599_627_370_496.0;
    const SUBNORMAL_EXPONENT: f64 = 52.0;
    pub(super) const INVERSE_FACTORIAL: [f64; 19] = {
        let mut table = [1.0; 19];
        let mut factorial = 1.0;
        let mut i = 1;
        while i < 19 {
            factorial *= i as f64;
            table[i] = 1.0 / factorial;
            i += 1;
        }
        table
    };

    common!(f64, 14, 11);

    /// Adding 1.5 · 2⁵² leaves the nearest integer in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;

    #[inline(always)]
    fn reduce(x: f64) -> (i64, f64) {
        let shifted = x.clamp(-746.0, 710.0) * std::f64::consts::LOG2_E + ROUND;
        let k = shifted - ROUND;
        ((shifted.to_bits().wrapping_sub(ROUND.to_bits())) as i64, (x - k * LN2_HIGH) - k * LN2_LOW)
    }

    #[inline(always)]
    fn scale(value: f64, k: i64) -> f64 {
        let half = k >> 1;
        let power = |k: i64| f64::from_bits((k.wrapping_add(1023) << 52) as u64);
        value * power(half) * power(k - half)
    }

    #[inline(always)]
    fn split(x: f64) -> (f64, f64) {
        let bits = x.to_bits().wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits());
        let e = (bits as i64) >> 52;
        (e as f64, f64::from_bits(x.to_bits().wrapping_sub((e << 52) as u64)))
    }

    /// (2/√π) e^(−x²) Σ 2ⁿ x^(2n+1) / (1·3·5⋯(2n+1)): all terms of one sign, so nothing cancels. 1 beyond 6.
    pub fn erf(x: f64) -> f64 {
        let a = x.abs();
        if a >= 6.0 {
            return x.signum();
        }
        let (mut term, mut sum, mut n) = (a, a, 1.0);
        while term > sum * 1e-17 {
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        (std::f64::consts::FRAC_2_SQRT_PI * exp(-a * a) * sum).copysign(x)
    }

    /// e^(y ln x); a negative base only with a whole exponent.
    pub fn powf(x: f64, exponent: f64) -> f64 {
        if exponent == 0.0 {
            return 1.0;
        }
        if exponent == exponent.trunc() && exponent.abs() <= 64.0 {
            return power(x, exponent as i32);
        }
        if x == 0.0 {
            return if exponent > 0.0 { 0.0 } else { f64::INFINITY };
        }
        let magnitude = exp(exponent * ln(x.abs()));
        match x < 0.0 {
            false => magnitude,
            true if exponent != exponent.trunc() => f64::NAN,
            true if exponent % 2.0 == 0.0 => magnitude,
            true => -magnitude,
        }
    }

    fn power(x: f64, exponent: i32) -> f64 {
        let (mut base, mut left, mut value) = (x, exponent.unsigned_abs(), 1.0);
        while left > 0 {
            if left % 2 == 1 {
                value *= base;
            }
            base *= base;
            left /= 2;
        }
        if exponent < 0 { 1.0 / value } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::{f32 as single, f64 as double};

    fn grid() -> impl Iterator<Item = f64> {
        (-20_000..=20_000).map(|i| f64::from(i) * 0.00437)
    }

    /// Largest relative error against the platform's library, in units of the type's epsilon.
    fn worst(pairs: impl Iterator<Item = (f64, f64)>, epsilon: f64) -> f64 {
        pairs.map(|(got, want)| (got - want).abs() / want.abs().max(1e-300) / epsilon).fold(0.0, f64::max)
    }

    #[test]
    fn double_precision_is_within_four_units() {
        let e = f64::EPSILON;
        assert!(worst(grid().map(|x| (double::exp(x), x.exp())), e) < 4.0);
        assert!(worst(grid().filter(|&x| x > 0.0).map(|x| (double::ln(x), x.ln())), e) < 4.0);
        assert!(
            worst(grid().filter(|&x| x != 0.0).map(|x| (double::tanh(x / 4.0), (x / 4.0).tanh())), e) < 4.0
        );
        assert!(worst(grid().filter(|&x| x > 0.0).map(|x| (double::powf(x, 0.7), x.powf(0.7))), e) < 8.0);
    }

    #[test]
    fn single_precision_is_within_two_units() {
        let e = f64::from(f32::EPSILON);
        let pair = |ours: fn(f32) -> f32, exact: fn(f64) -> f64| {
            move |x: f64| (f64::from(ours(x as f32)), exact(f64::from(x as f32)))
        };
        assert!(worst(grid().map(pair(single::exp, f64::exp)), e) < 2.0);
        assert!(worst(grid().filter(|&x| x > 0.0).map(pair(single::ln, f64::ln)), e) < 2.0);
        assert!(
            worst(grid().filter(|&x| x != 0.0).map(|x| x / 8.0).map(pair(single::tanh, f64::tanh)), e) < 2.0
        );
    }

    #[test]
    fn erf_at_known_places() {
        // Abramowitz and Stegun, table 7.1, and Wolfram's values to full precision.
        for (x, want) in [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
        ] {
            assert!((double::erf(x) - want).abs() < 2e-15, "{x}: {}", double::erf(x));
            assert_eq!(double::erf(-x), -double::erf(x));
        }
        assert_eq!(double::erf(0.0), 0.0);
        assert!(double::erf(f64::NAN).is_nan());
    }

    #[test]
    fn single_precision_erf_agrees() {
        let off = grid().map(|x| (f64::from(single::erf(x as f32)) - double::erf(f64::from(x as f32))).abs());
        assert!(off.fold(0.0, f64::max) < 7e-8);
        assert!(single::erf(f32::NAN).is_nan());
    }

    #[test]
    fn edges() {
        for x in [f64::INFINITY, 1e308, 710.0] {
            assert_eq!(double::exp(x), f64::INFINITY);
            assert_eq!(double::exp(-x.max(746.0)), 0.0);
        }
        assert_eq!(single::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(single::exp(f32::NEG_INFINITY), 0.0);
        assert!(single::exp(f32::NAN).is_nan() && double::exp(f64::NAN).is_nan());
        assert_eq!((single::exp(0.0), double::exp(0.0)), (1.0, 1.0));
        assert_eq!(double::ln(0.0), f64::NEG_INFINITY);
        assert!(double::ln(-1.0).is_nan() && double::ln(f64::NAN).is_nan());
        assert_eq!(single::ln(f32::INFINITY), f32::INFINITY);
        assert!((double::ln(5e-324) - 5e-324f64.ln()).abs() < 1e-12);
        assert_eq!((single::tanh(40.0), single::tanh(-40.0)), (1.0, -1.0));
        assert_eq!(single::tanh(-0.0).to_bits(), (-0.0f32).to_bits());
        assert!(single::tanh(f32::NAN).is_nan());
        assert_eq!(double::powf(-2.0, 3.0), -8.0);
        assert_eq!(double::powf(0.0, 0.5), 0.0);
        assert!(double::powf(-2.0, 0.5).is_nan());
    }
}
