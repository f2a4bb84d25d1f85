// Steps of Adam, AdamW and SGD, in place; the formulas of src/nn/optim.rs, each operation rounded on its own.
//
//   adam  m <- m + g1 (g - m),  v <- b2 v + g2 g^2,  theta <- shrink theta + rate m / (sqrt v / c2 + epsilon)
//   sgd   b <- mu b + g (at first g),  theta <- theta + rate b, with Nesterov theta + rate (g + mu b)
//
// The factors of a step are computed by the host in double precision and rounded here. Floor of Adam: read 4n, write 3n.
//
// Geometry: 256 threads, a thread an element, grid x = n / 256. One launch a parameter.

#include "tensor.cuh"

template <class T>
__device__ __forceinline__ void adam(const T *grad, T *theta, T *m, T *v, double correction2, double rate, double gain1,
                                     double beta2, double gain2, double epsilon, double shrink, double decay, u64 n) {
    const u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const T old = theta[i] * (T)shrink;
    const T g = grad[i] + (T)decay * old;
    const T first = m[i] + (T)gain1 * (g - m[i]);
    const T second = v[i] * (T)beta2 + (T)gain2 * g * g;
    m[i] = first;
    v[i] = second;
    theta[i] = old + (T)rate * first / (root(second) / (T)correction2 + (T)epsilon);
}
FLOATS(adam,
       (const T *grad, T *theta, T *m, T *v, double correction2, double rate, double gain1, double beta2, double gain2,
        double epsilon, double shrink, double decay, u64 n),
       (grad, theta, m, v, correction2, rate, gain1, beta2, gain2, epsilon, shrink, decay, n))

template <class T>
__device__ __forceinline__ void sgd(const T *grad, T *theta, T *momentum, double rate, double mu, double decay, u32 first,
                                    u32 nesterov, u64 n) {
    const u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const T g = grad[i] + (T)decay * theta[i];
    const T b = first ? g : (T)mu * momentum[i] + g;
    momentum[i] = b;
    theta[i] += (T)rate * (nesterov ? g + (T)mu * b : b);
}
FLOATS(sgd, (const T *grad, T *theta, T *momentum, double rate, double mu, double decay, u32 first, u32 nesterov, u64 n),
       (grad, theta, momentum, rate, mu, decay, first, nesterov, n))
