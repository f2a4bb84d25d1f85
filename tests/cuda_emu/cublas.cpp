// A stand-in for libcublas: the two products that this crate calls, in plain loops over column-major matrices.
#define API extern "C" __attribute__((visibility("default"))) int

static int calls;
extern "C" __attribute__((visibility("default"))) int emu_products() { return calls; }

API cublasCreate_v2(void **handle) { *handle = reinterpret_cast<void *>(4); return 0; }
API cublasDestroy_v2(void *) { return 0; }
API cublasSetStream_v2(void *, void *) { return 0; }

template <class T>
static int gemm(int ta, int tb, int m, int n, int k, T alpha, const T *a, int lda, long long sa, const T *b, int ldb,
                long long sb, T beta, T *c, int ldc, long long sc, int batch) {
    ++calls;
    // What cuBLAS refuses: leading dimensions below the rows as stored.
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;
    for (int z = 0; z < batch; ++z) {
        for (int i = 0; i < m; ++i) {
            for (int j = 0; j < n; ++j) {
                T sum = 0;
                for (int p = 0; p < k; ++p) {
                    sum += a[z * sa + (ta ? i * lda + p : p * lda + i)] * b[z * sb + (tb ? p * ldb + j : j * ldb + p)];
                }
                T &to = c[z * sc + j * ldc + i];
                to = alpha * sum + (beta == 0 ? 0 : beta * to);
            }
        }
    }
    return 0;
}

#define PRODUCT(name, T)                                                                                              \
    API name(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, long long sa, const T *b, \
             int ldb, long long sb, const T *beta, T *c, int ldc, long long sc, int batch) {                          \
        return gemm<T>(ta, tb, m, n, k, *alpha, a, lda, sa, b, ldb, sb, *beta, c, ldc, sc, batch);                    \
    }
PRODUCT(cublasSgemmStridedBatched, float)
PRODUCT(cublasDgemmStridedBatched, double)
