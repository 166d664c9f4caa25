/* Parts of tensors from one place to another, and sums weighted by a matrix.
 *
 *   copy_rows                  to[row, i] = from[row, i], i in bytes
 *   weighted_sum               y[n, d] = sum over m of weights[n, m] values[m, n, d]
 *   weighted_sum_grad_weights  dweights[n, m] = sum over d of dy[n, d] values[m, n, d]
 *   weighted_sum_grad_values   dvalues[m, n, d] = weights[n, m] dy[n, d]
 *
 * weights [N, M], values [M, N, D], y [N, D]. M is the number of peers, so it is small, and a thread walks it. */
#include "device.cuh"

/* --- copy_rows: in units as wide as addresses, strides and width allow --- */

template <class Unit>
__global__ void __launch_bounds__(BLOCK)
    copy_rows_kernel(const Unit *from, int64_t from_stride, Unit *to, int64_t to_stride, int64_t width, int64_t count)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const Division at = divide(i, width);
        to[at.quotient * to_stride + at.rest] = from[at.quotient * from_stride + at.rest];
    }
}

template <class Unit>
static cudaError_t launch_copy_rows(const void *from, int64_t from_stride, void *to, int64_t to_stride, int64_t width,
                                    int64_t rows, cudaStream_t stream)
{
    const int64_t size = sizeof(Unit), count = width / size * rows;
    LAUNCH(copy_rows_kernel<Unit>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream, static_cast<const Unit *>(from),
           from_stride / size, static_cast<Unit *>(to), to_stride / size, width / size, count);
    return cudaGetLastError();
}

cudaError_t kernel_copy_rows(const void *from, int64_t from_stride, void *to, int64_t to_stride, int64_t width,
                             int64_t rows, cudaStream_t stream)
{
    if (width <= 0 || rows <= 0) return cudaSuccess;
    const uint64_t all = (uint64_t)(uintptr_t)from | (uint64_t)(uintptr_t)to | (uint64_t)from_stride |
                         (uint64_t)to_stride | (uint64_t)width;
    if (all % 16 == 0) return launch_copy_rows<uint4>(from, from_stride, to, to_stride, width, rows, stream);
    if (all % 8 == 0) return launch_copy_rows<uint2>(from, from_stride, to, to_stride, width, rows, stream);
    if (all % 4 == 0) return launch_copy_rows<uint32_t>(from, from_stride, to, to_stride, width, rows, stream);
    if (all % 2 == 0) return launch_copy_rows<uint16_t>(from, from_stride, to, to_stride, width, rows, stream);
    return launch_copy_rows<uint8_t>(from, from_stride, to, to_stride, width, rows, stream);
}

/* --- weighted sums: a thread has `width` elements of a row [D] --- */

template <class T, int width>
__global__ void __launch_bounds__(BLOCK, FEWER_BLOCKS)
    weighted_sum_kernel(const T *weights, const T *values, T *y, int64_t n, int64_t m, int64_t d)
{
    const int64_t packs = d / width;
    for (int64_t i = grid_thread(); i < n * packs; i += grid_threads()) {
        const int64_t row = divide(i, packs).quotient;
        float sums[width] = {};
        for (int64_t k = 0; k < m; k++) {
            const float weight = to_float(weights[row * m + k]);
            const Pack<T, width> value = load_pack<width>(values + k * n * d + i * width);
            for (int j = 0; j < width; j++)
                sums[j] += weight * to_float(value.at[j]);
        }
        Pack<T, width> out;
        for (int j = 0; j < width; j++)
            from_float(sums[j], &out.at[j]);
        store_pack(y + i * width, out);
    }
}

template <class T, int width>
__global__ void __launch_bounds__(BLOCK)
    weighted_sum_grad_values_kernel(const T *dy, const T *weights, T *dvalues, int64_t n, int64_t m, int64_t d)
{
    const int64_t packs = d / width;
    for (int64_t i = grid_thread(); i < n * packs; i += grid_threads()) {
        const int64_t row = divide(i, packs).quotient;
        const Pack<T, width> gradient = load_pack<width>(dy + i * width);
        for (int64_t k = 0; k < m; k++) {
            const float weight = to_float(weights[row * m + k]);
            Pack<T, width> out;
            for (int j = 0; j < width; j++)
                from_float(weight * to_float(gradient.at[j]), &out.at[j]);
            store_pack(dvalues + k * n * d + i * width, out);
        }
    }
}

/* A warp has one element of dweights. */
template <class T, int width>
__global__ void __launch_bounds__(BLOCK)
    weighted_sum_grad_weights_kernel(const T *dy, const T *values, T *dweights, int64_t n, int64_t m, int64_t d)
{
    for (int64_t i = grid_thread() / WARP; i < n * m; i += grid_threads() / WARP) {
        const Division at = divide(i, m); /* row, member */
        const T *gradient = dy + at.quotient * d, *value = values + (at.rest * n + at.quotient) * d;
        float sum = 0;
        for (int64_t j = lane_index() * width; j < d; j += WARP * width) {
            const Pack<T, width> left = load_pack<width>(gradient + j), right = load_pack<width>(value + j);
            for (int k = 0; k < width; k++)
                sum += to_float(left.at[k]) * to_float(right.at[k]);
        }
        sum = warp_sum(sum);
        if (lane_index() == 0) from_float(sum, &dweights[i]);
    }
}

/* Whether rows of `d` elements at these addresses are whole packs of 16 bytes. */
template <class T> static bool rows_are_packs(const void *a, const void *b, int64_t d)
{
    return d % pack_width<T> == 0 && aligned(a, 16) && aligned(b, 16);
}

template <class T, int width>
static cudaError_t launch_weighted_sum_of(const void *weights, const void *values, void *y, int64_t n, int64_t m,
                                          int64_t d, cudaStream_t stream)
{
    LAUNCH((weighted_sum_kernel<T, width>), blocks_for(n * d / width, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(weights), static_cast<const T *>(values), static_cast<T *>(y), n, m, d);
    return cudaGetLastError();
}

template <class T>
static cudaError_t launch_weighted_sum(const void *weights, const void *values, void *y, int64_t n, int64_t m,
                                       int64_t d, cudaStream_t stream)
{
    if (rows_are_packs<T>(values, y, d))
        return launch_weighted_sum_of<T, pack_width<T>>(weights, values, y, n, m, d, stream);
    return launch_weighted_sum_of<T, 1>(weights, values, y, n, m, d, stream);
}

cudaError_t kernel_weighted_sum(DType type, const void *weights, const void *values, void *y, int64_t n, int64_t m,
                                int64_t d, cudaStream_t stream)
{
    if (n <= 0 || d <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_weighted_sum, weights, values, y, n, m, d, stream);
}

template <class T, int width>
static cudaError_t launch_grad_values_of(const void *dy, const void *weights, void *dvalues, int64_t n, int64_t m,
                                         int64_t d, cudaStream_t stream)
{
    LAUNCH((weighted_sum_grad_values_kernel<T, width>), blocks_for(n * d / width, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(dy), static_cast<const T *>(weights), static_cast<T *>(dvalues), n, m, d);
    return cudaGetLastError();
}

template <class T>
static cudaError_t launch_grad_values(const void *dy, const void *weights, void *dvalues, int64_t n, int64_t m,
                                      int64_t d, cudaStream_t stream)
{
    if (rows_are_packs<T>(dy, dvalues, d))
        return launch_grad_values_of<T, pack_width<T>>(dy, weights, dvalues, n, m, d, stream);
    return launch_grad_values_of<T, 1>(dy, weights, dvalues, n, m, d, stream);
}

cudaError_t kernel_weighted_sum_grad_values(DType type, const void *dy, const void *weights, void *dvalues, int64_t n,
                                            int64_t m, int64_t d, cudaStream_t stream)
{
    if (n <= 0 || m <= 0 || d <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_grad_values, dy, weights, dvalues, n, m, d, stream);
}

template <class T, int width>
static cudaError_t launch_grad_weights_of(const void *dy, const void *values, void *dweights, int64_t n, int64_t m,
                                          int64_t d, cudaStream_t stream)
{
    LAUNCH((weighted_sum_grad_weights_kernel<T, width>), blocks_for(n * m * WARP, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(dy), static_cast<const T *>(values), static_cast<T *>(dweights), n, m, d);
    return cudaGetLastError();
}

template <class T>
static cudaError_t launch_grad_weights(const void *dy, const void *values, void *dweights, int64_t n, int64_t m,
                                       int64_t d, cudaStream_t stream)
{
    if (rows_are_packs<T>(dy, values, d))
        return launch_grad_weights_of<T, pack_width<T>>(dy, values, dweights, n, m, d, stream);
    return launch_grad_weights_of<T, 1>(dy, values, dweights, n, m, d, stream);
}

cudaError_t kernel_weighted_sum_grad_weights(DType type, const void *dy, const void *values, void *dweights, int64_t n,
                                             int64_t m, int64_t d, cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_grad_weights, dy, values, dweights, n, m, d, stream);
}
