/* What follows a convolution in MNIST's soma, and its gradient, each in one pass:
 *
 *   y = relu(max_pool2d(dropout2d(x + bias), 2))       x [N, C, rows, columns], y [N, C, out_rows, out_columns], index
 *                                                      likewise: the maximum's place in its window, 0 .. 3
 *   dx = dropout2d(max_pool2d_grad(relu_grad(dy, y), index))
 *
 * A thread has one window: two rows of two elements, which it loads (or stores) two at a time where columns and
 * addresses are even. y's and dy's images may lie further apart than their size. */
#include "device.cuh"

/* Where output (plane, row, column) lies in a tensor whose images are `stride` apart. */
__device__ inline int64_t image_place(const Place &place, int channels, int64_t stride, const KernelPool &pool)
{
    const Division image = divide(place.plane, channels);
    return image.quotient * stride + (image.rest * pool.out_rows + place.row) * pool.out_columns + place.column;
}

template <class T> __device__ inline void load_two(const T *from, bool pairs, float out[2])
{
    if (pairs) {
        const Pack<T, 2> two = load_pack<2>(from);
        out[0] = to_float(two.at[0]);
        out[1] = to_float(two.at[1]);
    } else {
        out[0] = to_float(from[0]);
        out[1] = to_float(from[1]);
    }
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    bias_dropout_pool_relu_kernel(const T *x, const float *bias, int channels, T *y, int64_t stride, uint8_t *index,
                                  int64_t count, KernelPool pool, bool pairs, const int64_t *random, DropRule rule)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const Place place = place_of(i, pool.out_rows, pool.out_columns);
        const T *window =
            x + place.plane * pool.rows * pool.columns + (2 * place.row * pool.columns + 2 * place.column);
        float values[4];
        load_two(window, pairs, values);
        load_two(window + pool.columns, pairs, values + 2);
        const float shift = bias ? bias[divide(place.plane, channels).rest] : 0;
        const float factor = drop_factor_at(rule, random, (uint64_t)place.plane);
        float best = drop(values[0] + shift, factor);
        int best_place = 0;
        for (int k = 0; k < 4; k++) {
            const float value = drop(values[k] + shift, factor);
            if (value > best || isnan(value)) {
                best = value;
                best_place = k;
            }
        }
        from_float(relu(best), &y[image_place(place, channels, stride, pool)]);
        if (index) index[i] = (uint8_t)best_place;
    }
}

/* An image is [channels, out_rows, out_columns]. */
static bool fused_fits(const KernelPool &pool, int channels, int64_t stride)
{
    return channels > 0 && pool.planes % channels == 0 && pool.out_rows > 0 && pool.out_columns > 0 &&
           pool.out_rows == pool.rows / 2 && pool.out_columns == pool.columns / 2 &&
           (int64_t)pool.rows * pool.columns <= INT32_MAX &&
           stride >= (int64_t)channels * pool.out_rows * pool.out_columns;
}

template <class T>
static cudaError_t launch_bias_dropout_pool_relu(const void *x, const float *bias, int channels, void *y,
                                                 int64_t stride, uint8_t *index, const KernelPool &pool,
                                                 const KernelDropout &dropout, cudaStream_t stream)
{
    const int64_t count = pool.planes * pool.out_rows * pool.out_columns;
    const bool pairs = pool.columns % 2 == 0 && aligned(x, 2 * sizeof(T));
    LAUNCH(bias_dropout_pool_relu_kernel<T>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream, static_cast<const T *>(x),
           bias, channels, static_cast<T *>(y), stride, index, count, pool, pairs, dropout.random, drop_rule(dropout));
    return cudaGetLastError();
}

cudaError_t kernel_bias_dropout_pool_relu(DType type, const void *x, const float *bias, int channels, void *y,
                                          int64_t stride, uint8_t *index, KernelPool pool, KernelDropout dropout,
                                          cudaStream_t stream)
{
    if (pool.planes <= 0) return cudaSuccess;
    if (!fused_fits(pool, channels, stride)) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_bias_dropout_pool_relu, x, bias, channels, y, stride, index, pool, dropout, stream);
}

/* --- the gradient --- */

/* Stores one row of a cell of two columns; the second lies outside where the number of columns is odd. */
template <class T> __device__ inline void store_two(T *to, bool pairs, bool second, float a, float b)
{
    if (pairs) {
        Pack<T, 2> two;
        from_float(a, &two.at[0]);
        from_float(b, &two.at[1]);
        store_pack(to, two);
    } else {
        from_float(a, &to[0]);
        if (second) from_float(b, &to[1]);
    }
}

/* Cells of 2 x 2 cover dx; an odd last row or column belongs to no window, and its cells are zeros. */
template <class T>
__global__ void __launch_bounds__(BLOCK)
    dropout_pool_relu_grad_kernel(const T *dy, int64_t dy_stride, const T *y, int64_t y_stride, const uint8_t *index,
                                  int channels, T *dx, int64_t count, KernelPool pool, bool pairs,
                                  const int64_t *random, DropRule rule)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const Place place = place_of(i, (pool.rows + 1) / 2, (pool.columns + 1) / 2);
        float gradient = 0;
        int chosen = 0;
        if (place.row < pool.out_rows && place.column < pool.out_columns) {
            chosen = index[(place.plane * pool.out_rows + place.row) * pool.out_columns + place.column];
            if (to_float(y[image_place(place, channels, y_stride, pool)]) > 0)
                gradient = drop(to_float(dy[image_place(place, channels, dy_stride, pool)]),
                                drop_factor_at(rule, random, (uint64_t)place.plane));
        }
        T *cell = dx + place.plane * pool.rows * pool.columns + (2 * place.row * pool.columns + 2 * place.column);
        const bool second = 2 * place.column + 1 < pool.columns;
        store_two(cell, pairs, second, chosen == 0 ? gradient : 0, chosen == 1 ? gradient : 0);
        if (2 * place.row + 1 < pool.rows)
            store_two(cell + pool.columns, pairs, second, chosen == 2 ? gradient : 0, chosen == 3 ? gradient : 0);
    }
}

template <class T>
static cudaError_t launch_dropout_pool_relu_grad(const void *dy, int64_t dy_stride, const void *y, int64_t y_stride,
                                                 const uint8_t *index, int channels, void *dx, const KernelPool &pool,
                                                 const KernelDropout &dropout, cudaStream_t stream)
{
    const int64_t count = pool.planes * ((pool.rows + 1) / 2) * ((pool.columns + 1) / 2);
    const bool pairs = pool.columns % 2 == 0 && aligned(dx, 2 * sizeof(T));
    LAUNCH(dropout_pool_relu_grad_kernel<T>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(dy), dy_stride, static_cast<const T *>(y), y_stride, index, channels,
           static_cast<T *>(dx), count, pool, pairs, dropout.random, drop_rule(dropout));
    return cudaGetLastError();
}

cudaError_t kernel_dropout_pool_relu_grad(DType type, const void *dy, int64_t dy_stride, const void *y,
                                          int64_t y_stride, const uint8_t *index, int channels, void *dx,
                                          KernelPool pool, KernelDropout dropout, cudaStream_t stream)
{
    if (pool.planes <= 0) return cudaSuccess;
    if (!fused_fits(pool, channels, dy_stride) || !fused_fits(pool, channels, y_stride)) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_dropout_pool_relu_grad, dy, dy_stride, y, y_stride, index, channels, dx, pool, dropout,
                    stream);
}
