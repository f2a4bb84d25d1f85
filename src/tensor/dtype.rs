//! The kinds of number a tensor holds.

use half::{bf16, f16};

/// Kind of number. Operations compute in [`F32`](DType::F32) and [`F64`](DType::F64); the others store and convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// Brain float: the upper half of a 32-bit float.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Byte; also what masks are made of (0 is false).
    U8,
    /// 32-bit unsigned: labels, indices.
    U32,
    /// 64-bit signed: labels and indices in other people's files.
    I64,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether operations compute in it: f32 and f64.
    pub fn is_computing(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is a float of any width, so that a gradient can pass through it.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::Bf16 | Self::F16)
    }

    /// The name in messages and kernel names: `f32`, `bf16`, `u8`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::U8 => "u8",
            Self::U32 => "u32",
            Self::I64 => "i64",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that a tensor can hold. Conversions go through `f64`, which holds every f32, bf16, f16, u8 and u32.
pub(crate) trait Element: bytemuck::Pod + Send + Sync + std::fmt::Debug + PartialOrd {
    const DTYPE: DType;
    fn to_f64(self) -> f64;
    /// Nearest value; integers saturate and drop the fraction, NaN becomes 0.
    fn of_f64(value: f64) -> Self;
}

macro_rules! element {
    ($($type:ty, $dtype:ident, $to:expr, $of:expr;)*) => {$(
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to(self)
            }
            #[inline(always)]
            fn of_f64(value: f64) -> Self {
                $of(value)
            }
        }
    )*};
}

element! {
    f32, F32, f64::from, |x| x as f32;
    f64, F64, |x| x, |x| x;
    bf16, Bf16, f64::from, bf16::from_f64;
    f16, F16, f64::from, f16::from_f64;
    u8, U8, f64::from, |x| x as u8;
    u32, U32, f64::from, |x| x as u32;
    i64, I64, |x| x as f64, |x| x as i64;
}

/// The two types that operations compute in.
pub(crate) trait Float:
    Element
    + super::cpu::gemm::Dense
    + Default
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::iter::Sum
{
    const ZERO: Self;
    const ONE: Self;
    /// Exact.
    fn of_f32(value: f32) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
}

macro_rules! float {
    ($($type:ident)*) => {$(
        impl Float for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of_f32(value: f32) -> Self {
                $type::from(value)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn exp(self) -> Self {
                super::cpu::math::$type::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                super::cpu::math::$type::ln(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                super::cpu::math::$type::tanh(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                super::cpu::math::$type::erf(self)
            }
            #[inline(always)]
            fn powf(self, exponent: Self) -> Self {
                super::cpu::math::$type::powf(self, exponent)
            }
        }
    )*};
}
float!(f32 f64);

/// Runs a body with `$T` bound to `f32` or `f64`; any other type is an error naming the operation.
macro_rules! each_float {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err($crate::Error::Unsupported { op: $op, on: format!("with {other} values") }),
        }
    };
}
pub(crate) use each_float;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_round_and_saturate() {
        assert_eq!(u8::of_f64(300.7), 255);
        assert_eq!(u8::of_f64(-1.0), 0);
        assert_eq!(u32::of_f64(2.9), 2);
        assert_eq!(i64::of_f64(f64::NAN), 0);
        assert_eq!(bf16::of_f64(1.0 + 1.0 / 256.0).to_f64(), 1.0, "ties go to even");
        assert_eq!(f16::of_f64(1e6).to_f64(), f64::INFINITY);
    }
}
