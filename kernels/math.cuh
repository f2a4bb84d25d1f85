// Functions of src/tensor/cpu/math.rs with the same operations in the same order, so that CPU and GPU agree in every bit.
// Sources are compiled with --fmad=false: each operation is rounded on its own.
#pragma once

#include "common.cuh"

template <int N> constexpr double FACTORIAL = N * FACTORIAL<N - 1>;
template <> constexpr double FACTORIAL<0> = 1.0;

// (e^r - 1) / r by its series: Horner from term I down.
template <class T, int I> __device__ __forceinline__ T taylor(T r, T sum = T(0)) {
    if constexpr (I == 0) {
        return sum;
    } else {
        return taylor<T, I - 1>(r, sum * r + T(1.0 / FACTORIAL<I>));
    }
}

// artanh(s) / s - 1 in s^2: Horner from term I down.
template <class T, int I> __device__ __forceinline__ T artanh(T square, T sum = T(0)) {
    if constexpr (I == 0) {
        return sum;
    } else {
        return artanh<T, I - 1>(square, (sum + T(1) / T(2 * I + 1)) * square);
    }
}

// What differs between the two widths.
template <class T> struct Float;

template <> struct Float<float> {
    static constexpr int EXP_DEGREE = 7, LN_TERMS = 5;
    static constexpr float OVERFLOW_AT = 88.72284f, UNDERFLOW_AT = -103.97208f;
    static constexpr float LN2_HIGH = 0.6933594f, LN2_LOW = -2.1219444e-4f, LOG2_E = 1.44269504f;
    static constexpr float LEAST = 1.17549435e-38f, SUBNORMAL_SCALE = 8388608.0f, SUBNORMAL_EXPONENT = 23.0f;

    static __device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
    static __device__ __forceinline__ float nan() { return __int_as_float(0x7fc00000); }
    static __device__ __forceinline__ float sign_of(float magnitude, float x) { return copysignf(magnitude, x); }
    // x = k ln 2 + r
    static __device__ __forceinline__ int reduce(float x, float &r) {
        const float round = 12582912.0f;
        const float inside = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x;
        const float shifted = inside * LOG2_E + round, k = shifted - round;
        r = (x - k * LN2_HIGH) - k * LN2_LOW;
        return __float_as_int(shifted) - __float_as_int(round);
    }
    // In two steps, so that 2^k may lie outside of the normal range.
    static __device__ __forceinline__ float scale(float value, int k) {
        const int half = k >> 1;
        return value * __int_as_float((int)((u32)(half + 127) << 23)) * __int_as_float((int)((u32)(k - half + 127) << 23));
    }
    // x = m 2^e with 1/sqrt 2 <= m < sqrt 2
    static __device__ __forceinline__ float split(float x, float &m) {
        const int e = (int)((u32)__float_as_int(x) - 0x3f3504f3u) >> 23;
        m = __int_as_float((int)((u32)__float_as_int(x) - ((u32)e << 23)));
        return (float)e;
    }
};

template <> struct Float<double> {
    static constexpr int EXP_DEGREE = 14, LN_TERMS = 11;
    static constexpr double OVERFLOW_AT = 709.782712893384, UNDERFLOW_AT = -745.1332191019412;
    static constexpr double LN2_HIGH = 0.6931471803691238, LN2_LOW = 1.9082149292705877e-10;
    static constexpr double LOG2_E = 1.4426950408889634;
    static constexpr double LEAST = 2.2250738585072014e-308, SUBNORMAL_SCALE = 4503599627370496.0;
    static constexpr double SUBNORMAL_EXPONENT = 52.0;

    static __device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }
    static __device__ __forceinline__ double nan() { return __longlong_as_double(0x7ff8000000000000ll); }
    static __device__ __forceinline__ double sign_of(double magnitude, double x) { return copysign(magnitude, x); }
    static __device__ __forceinline__ i64 reduce(double x, double &r) {
        const double round = 6755399441055744.0;
        const double inside = x < -746.0 ? -746.0 : x > 710.0 ? 710.0 : x;
        const double shifted = inside * LOG2_E + round, k = shifted - round;
        r = (x - k * LN2_HIGH) - k * LN2_LOW;
        return __double_as_longlong(shifted) - __double_as_longlong(round);
    }
    static __device__ __forceinline__ double scale(double value, i64 k) {
        const i64 half = k >> 1;
        return value * __longlong_as_double((i64)((u64)(half + 1023) << 52)) *
               __longlong_as_double((i64)((u64)(k - half + 1023) << 52));
    }
    static __device__ __forceinline__ double split(double x, double &m) {
        const int e = (int)(u32)(((u64)__double_as_longlong(x) - 0x3fe6a09e667f3bcdull) >> 32) >> 20;
        m = __longlong_as_double((i64)((u64)__double_as_longlong(x) - ((u64)(i64)e << 52)));
        return (double)e;
    }
};

__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }
__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }

// One rounding, where the order of a sum differs from the CPU's anyway.
__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }

// 2^k sum r^i / i!
template <class T> __device__ __forceinline__ T exponential(T x) {
    typedef Float<T> F;
    T r;
    const auto k = F::reduce(x, r);
    const T value = F::scale(taylor<T, F::EXP_DEGREE>(r) * r + T(1), k);
    const T capped = x > F::OVERFLOW_AT ? F::infinity() : value;
    return x < F::UNDERFLOW_AT ? T(0) : capped;
}

// ln m + e ln 2 with ln m = 2 artanh((m - 1) / (m + 1)).
template <class T> __device__ __forceinline__ T logarithm(T x) {
    typedef Float<T> F;
    const bool subnormal = x < F::LEAST;
    T m, e = F::split(subnormal ? x * F::SUBNORMAL_SCALE : x, m);
    if (subnormal) e -= F::SUBNORMAL_EXPONENT;
    const T s = (m - T(1)) / (m + T(1));
    const T sum = artanh<T, F::LN_TERMS>(s * s);
    const T value = e * F::LN2_HIGH + (T(2) * s + (T(2) * s * sum + e * F::LN2_LOW));
    if (x == F::infinity()) return x;
    if (x == T(0)) return -F::infinity();
    return x < T(0) || x != x ? F::nan() : value;
}

// (e^2x - 1) / (e^2x + 1), by the series near zero, where the difference would cancel.
template <class T> __device__ __forceinline__ T hyperbolic_tangent(T x) {
    typedef Float<T> F;
    const T a = magnitude(x);
    if (a < T(0.35)) {
        const T near = taylor<T, F::EXP_DEGREE + 4>(T(2) * a) * (T(2) * a);
        return F::sign_of(near / (near + T(2)), x);
    }
    return F::sign_of(T(1) - T(2) / (exponential(T(2) * a) + T(1)), x);
}

__device__ __forceinline__ float error_function(float x) {
    const float a = fabsf(x), square = x * x;
    if (!(a > 0.9277344f)) {
        float near = -5.967617e-4f;
        near = near * square + 4.9911942e-3f;
        near = near * square + -2.6768135e-2f;
        near = near * square + 0.112819925f;
        near = near * square + -3.7612534e-1f;
        near = near * square + 1.2837917e-1f;
        return near * x + x;
    }
    const float t = a < 4.2f ? a : 4.2f;
    float far = -1.7285347e-5f;
    far = far * t + 3.8319713e-4f;
    far = far * t + -3.8839644e-3f;
    far = far * t + 2.4254622e-2f;
    far = far * t + -1.0677788e-1f;
    far = far * t + -6.348467e-1f;
    far = far * t + -1.2871751e-1f;
    return copysignf(1.0f - exponential(far * t - t), x);
}

// All terms have one sign, so that nothing cancels. 1 beyond 6.
__device__ __forceinline__ double error_function(double x) {
    const double a = fabs(x);
    if (a >= 6.0) return copysign(1.0, x);
    double term = a, sum = a, n = 1.0;
    while (term > sum * 1e-17) {
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    return copysign(1.1283791670955126 * exponential(-a * a) * sum, x);
}

// e^(y ln x); a negative base only with a whole exponent.
__device__ __forceinline__ double power(double x, double exponent) {
    if (exponent == 0.0) return 1.0;
    if (exponent == trunc(exponent) && fabs(exponent) <= 64.0) {
        double base = x, value = 1.0;
        for (u32 left = (u32)fabs(exponent); left > 0; left /= 2) {
            if (left % 2 == 1) value *= base;
            base *= base;
        }
        return exponent < 0.0 ? 1.0 / value : value;
    }
    if (x == 0.0) return exponent > 0.0 ? 0.0 : Float<double>::infinity();
    const double size = exponential(exponent * logarithm(fabs(x)));
    if (!(x < 0.0)) return size;
    if (exponent != trunc(exponent)) return Float<double>::nan();
    return fmod(exponent, 2.0) == 0.0 ? size : -size;
}
__device__ __forceinline__ float power(float x, float exponent) { return (float)power((double)x, (double)exponent); }

// Surrogate derivatives of the spike, as src/tensor/surrogate.rs has them; a, b and c are its constants.
#define FAST_SIGMOID 32u
#define ARCTAN 33u
#define LOGISTIC 34u
#define TRIANGLE 35u
#define SCALED_TRIANGLE 36u
#define BOXCAR 37u
#define EXPONENTIAL 38u
#define SOFT_SIGN 39u
#define GAUSSIAN 40u
#define STRAIGHT_THROUGH 41u
#define SIGNED_STEP 42u

template <class T> __device__ __forceinline__ T positive(T y) { return y > T(0) ? y : T(0); }
template <class T> __device__ __forceinline__ T squared(T y) { return y * y; }

template <class T> __device__ __forceinline__ T surrogate(u32 kind, T a, T b, T c, T x) {
    const T size = magnitude(x);
    switch (kind) {
        case FAST_SIGMOID: return T(1) / squared(T(1) + a * size);
        case ARCTAN: return a / (T(1) + squared(b * x));
        case LOGISTIC: {
            const T e = exponential(-(a * size));
            return a * e / squared(T(1) + e);
        }
        case TRIANGLE: return positive(a - b * size);
        case SCALED_TRIANGLE: return a * positive(T(1) - size / b);
        case BOXCAR: return size < a ? b : c;
        case EXPONENTIAL: return a * exponential(-(b * size));
        case SOFT_SIGN: return T(1) / (a * squared(b + size));
        case GAUSSIAN: return a * exponential(-(b * x * x));
        case STRAIGHT_THROUGH: return T(1);
        default: return x < T(0) ? a : -a;  // SIGNED_STEP
    }
}

// ---- numbers that are stored and not computed in

// Brain floats and half precision as their bits.
__device__ __forceinline__ float widen_bf16(u16 bits) { return __uint_as_float((u32)bits << 16); }

// The upper 20 bits of the mantissa decide, rounded to nearest, ties to even, as the CPU's conversion from f64.
template <int EXPONENT, int MANTISSA> __device__ __forceinline__ u16 narrow_float(double value) {
    const u64 bits = (u64)__double_as_longlong(value);
    const u32 x = (u32)(bits >> 32), sign = (x & 0x80000000u) >> 16, man = x & 0xfffffu;
    const int most = (1 << EXPONENT) - 1, bias = most >> 1;
    if ((x & 0x7ff00000u) == 0x7ff00000u) {
        const u32 nan = man == 0 && (u32)bits == 0 ? 0 : 1u << (MANTISSA - 1);
        return (u16)(sign | (u32)most << MANTISSA | nan | man >> (20 - MANTISSA));
    }
    const int e = (int)(x >> 20 & 0x7ffu) - 1023 + bias;
    if (e >= most) return (u16)(sign | (u32)most << MANTISSA);
    if (e <= 0 && MANTISSA - e > 21) return (u16)sign;
    const u32 whole = e <= 0 ? man | 0x100000u : man;
    const int shift = e <= 0 ? 21 - MANTISSA - e : 20 - MANTISSA;
    const u32 half = 1u << (shift - 1);
    u32 out = sign | (e <= 0 ? 0 : (u32)e << MANTISSA) | whole >> shift;
    if ((whole & half) != 0 && (whole & (3u * half - 1u)) != 0) ++out;
    return (u16)out;
}

__device__ __forceinline__ double widen_f16(u16 bits) {
    const u64 sign = (u64)(bits & 0x8000u) << 48;
    const u32 e = bits >> 10 & 31u, man = bits & 0x3ffu;
    if (e == 0) {
        const double size = (double)man * 5.9604644775390625e-8;  // 2^-24
        return sign ? -size : size;
    }
    const u64 exponent = e == 31 ? 0x7ff : e - 15 + 1023;
    const u64 quiet = e == 31 && man != 0 ? 0x8000000000000ull : 0;
    return __longlong_as_double((i64)(sign | exponent << 52 | quiet | (u64)man << 42));
}
