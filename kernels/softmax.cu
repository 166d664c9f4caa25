/* Softmax over the columns of x [N, M].
 *
 *   softmax       y = exp(x - max) / sum of them, over the columns that aren't masked; masked columns are 0, and so is
 *                 a row without any other
 *   softmax_grad  dx = y (dy - sum over m of dy y)
 *
 * A row is read three times, the second and third time from a cache. */
#include "softmax.cuh"

template <class T, bool by_block>
__global__ void __launch_bounds__(BLOCK) softmax_kernel(const T *x, const uint8_t *mask, T *y, int64_t n, int64_t m)
{
    DYNAMIC_SHARED(RowShared, shared);
    const int64_t row = by_block ? (int64_t)blockIdx.x : grid_thread() / WARP;
    if (row >= n) return; /* a whole warp, in the kernel without barriers */
    x += row * m;
    y += row * m;
    const RowTerms terms = row_terms<by_block>(x, mask, m, shared);
    for (int64_t i = row_first<by_block>(); i < m; i += row_step<by_block>()) {
        const float share = !mask || mask[i] ? softmax_of(to_float(x[i]), terms) : 0 / (float)terms.sum;
        from_float(terms.sum == 0 ? 0 : share, &y[i]);
    }
}

template <class T, bool by_block>
__global__ void __launch_bounds__(BLOCK) softmax_grad_kernel(const T *dy, const T *y, T *dx, int64_t n, int64_t m)
{
    DYNAMIC_SHARED(float, shared);
    const int64_t row = by_block ? (int64_t)blockIdx.x : grid_thread() / WARP;
    if (row >= n) return; /* a whole warp, in the kernel without barriers */
    dy += row * m;
    y += row * m;
    dx += row * m;
    float sum = 0;
    for (int64_t i = row_first<by_block>(); i < m; i += row_step<by_block>())
        sum += to_float(dy[i]) * to_float(y[i]);
    sum = by_block ? block_sum(sum, shared) : warp_sum(sum);
    for (int64_t i = row_first<by_block>(); i < m; i += row_step<by_block>())
        from_float(to_float(y[i]) * (to_float(dy[i]) - sum), &dx[i]);
}

/* Rows are limited by the grid: 2^31 - 1 of them. */
template <class T>
static cudaError_t launch_softmax(const void *x, const uint8_t *mask, void *y, int64_t n, int64_t m,
                                  cudaStream_t stream)
{
    const T *from = static_cast<const T *>(x);
    T *to = static_cast<T *>(y);
    if (m >= ROW_BY_BLOCK)
        LAUNCH((softmax_kernel<T, true>), (unsigned)n, BLOCK, sizeof(RowShared), stream, from, mask, to, n, m);
    else
        LAUNCH((softmax_kernel<T, false>), blocks_for(n * WARP, INT32_MAX), BLOCK, 0, stream, from, mask, to, n, m);
    return cudaGetLastError();
}

cudaError_t kernel_softmax(DType type, const void *x, const uint8_t *mask, void *y, int64_t n, int64_t m,
                           cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return cudaSuccess;
    if (n > INT32_MAX) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_softmax, x, mask, y, n, m, stream);
}

template <class T>
static cudaError_t launch_softmax_grad(const void *dy, const void *y, void *dx, int64_t n, int64_t m,
                                       cudaStream_t stream)
{
    const T *gradient = static_cast<const T *>(dy), *share = static_cast<const T *>(y);
    T *to = static_cast<T *>(dx);
    if (m >= ROW_BY_BLOCK)
        LAUNCH((softmax_grad_kernel<T, true>), (unsigned)n, BLOCK, MAX_WARPS * sizeof(float), stream, gradient, share,
               to, n, m);
    else
        LAUNCH((softmax_grad_kernel<T, false>), blocks_for(n * WARP, INT32_MAX), BLOCK, 0, stream, gradient, share, to,
               n, m);
    return cudaGetLastError();
}

cudaError_t kernel_softmax_grad(DType type, const void *dy, const void *y, void *dx, int64_t n, int64_t m,
                                cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return cudaSuccess;
    if (n > INT32_MAX) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_softmax_grad, dy, y, dx, n, m, stream);
}
