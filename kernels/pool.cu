/* Pooling. Planes are [N C] of rows by columns; y's are of out_rows by out_columns.
 *
 *   adaptive_avg_pool2d       y[i, j] = mean of x over rows floor(i rows / out_rows) .. ceil((i + 1) rows / out_rows),
 *                             columns likewise
 *   its gradient              dx[r, c] = sum of dy / window's size over the windows that contain (r, c)
 *   max_pool2d                y[i, j] = the first maximum of a window (a NaN wins, the last one), index = its place
 *   its gradient              dx[r, c] = sum of dy over the windows whose maximum it was
 *
 * A thread makes one element and gathers what it needs, so nothing is added by atomics. Neighbouring threads read
 * neighbouring windows. */
#include "device.cuh"

static bool pool_fits(const KernelPool &pool)
{
    return pool.rows > 0 && pool.columns > 0 && pool.out_rows > 0 && pool.out_columns > 0 &&
           (int64_t)pool.rows * pool.columns <= INT32_MAX && (int64_t)pool.out_rows * pool.out_columns <= INT32_MAX;
}

static int64_t count_in(const KernelPool &pool)
{
    return pool.planes * pool.rows * pool.columns;
}

static int64_t count_out(const KernelPool &pool)
{
    return pool.planes * pool.out_rows * pool.out_columns;
}

/* --- adaptive average --- */

/* floor(index extent / count) */
__device__ inline int floor_share(int index, int extent, int count)
{
    return (int)((int64_t)index * extent / count);
}

/* ceil(index extent / count) */
__device__ inline int ceil_share(int index, int extent, int count)
{
    return (int)(((int64_t)index * extent + count - 1) / count);
}

struct Window {
    int first_row, last_row, first_column, last_column; /* last: exclusive */
};

__device__ inline Window adaptive_window(const KernelPool &pool, int row, int column)
{
    Window window;
    window.first_row = floor_share(row, pool.rows, pool.out_rows);
    window.last_row = ceil_share(row + 1, pool.rows, pool.out_rows);
    window.first_column = floor_share(column, pool.columns, pool.out_columns);
    window.last_column = ceil_share(column + 1, pool.columns, pool.out_columns);
    return window;
}

__device__ inline float window_size(const Window &window)
{
    return (float)((window.last_row - window.first_row) * (window.last_column - window.first_column));
}

template <class T>
__global__ void __launch_bounds__(BLOCK) adaptive_avg_pool2d_kernel(const T *x, T *y, int64_t count, KernelPool pool)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const Place place = place_of(i, pool.out_rows, pool.out_columns);
        const Window window = adaptive_window(pool, place.row, place.column);
        const T *plane = x + place.plane * pool.rows * pool.columns;
        float sum = 0;
        for (int row = window.first_row; row < window.last_row; row++)
            for (int column = window.first_column; column < window.last_column; column++)
                sum += to_float(plane[row * pool.columns + column]);
        from_float(sum / window_size(window), &y[i]);
    }
}

/* The same for large windows: a warp an element of y. */
template <class T>
__global__ void __launch_bounds__(BLOCK)
    adaptive_avg_pool2d_warp_kernel(const T *x, T *y, int64_t count, KernelPool pool)
{
    for (int64_t i = grid_thread() / WARP; i < count; i += grid_threads() / WARP) {
        const Place place = place_of(i, pool.out_rows, pool.out_columns);
        const Window window = adaptive_window(pool, place.row, place.column);
        const T *plane = x + place.plane * pool.rows * pool.columns;
        const int width = window.last_column - window.first_column;
        const int size = (window.last_row - window.first_row) * width;
        float sum = 0;
        for (int k = lane_index(); k < size; k += WARP) {
            const int row = window.first_row + k / width, column = window.first_column + k % width;
            sum += to_float(plane[row * pool.columns + column]);
        }
        sum = warp_sum(sum);
        if (lane_index() == 0) from_float(sum / (float)size, &y[i]);
    }
}

template <class T>
static cudaError_t launch_adaptive_avg_pool2d(const void *x, void *y, const KernelPool &pool, cudaStream_t stream)
{
    const int64_t count = count_out(pool);
    const T *from = static_cast<const T *>(x);
    T *to = static_cast<T *>(y);
    if ((int64_t)pool.rows * pool.columns >= (int64_t)2 * WARP * pool.out_rows * pool.out_columns)
        LAUNCH(adaptive_avg_pool2d_warp_kernel<T>, blocks_for(count * WARP, MAX_BLOCKS), BLOCK, 0, stream, from, to,
               count, pool);
    else
        LAUNCH(adaptive_avg_pool2d_kernel<T>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream, from, to, count, pool);
    return cudaGetLastError();
}

cudaError_t kernel_adaptive_avg_pool2d(DType type, const void *x, void *y, KernelPool pool, cudaStream_t stream)
{
    if (pool.planes <= 0) return cudaSuccess;
    if (!pool_fits(pool)) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_adaptive_avg_pool2d, x, y, pool, stream);
}

/* Windows i with floor(i rows / out_rows) <= r < ceil((i + 1) rows / out_rows) are those from floor(r out_rows / rows)
 * to ceil((r + 1) out_rows / rows): the same rule with the roles exchanged. */
template <class T>
__global__ void __launch_bounds__(BLOCK, FEWER_BLOCKS)
    adaptive_avg_pool2d_grad_kernel(const T *dy, T *dx, int64_t count, KernelPool pool)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const Place place = place_of(i, pool.rows, pool.columns);
        const T *plane = dy + place.plane * pool.out_rows * pool.out_columns;
        const int last_row = ceil_share(place.row + 1, pool.out_rows, pool.rows);
        const int last_column = ceil_share(place.column + 1, pool.out_columns, pool.columns);
        float sum = 0;
        for (int row = floor_share(place.row, pool.out_rows, pool.rows); row < last_row; row++)
            for (int column = floor_share(place.column, pool.out_columns, pool.columns); column < last_column; column++)
                sum +=
                    to_float(plane[row * pool.out_columns + column]) / window_size(adaptive_window(pool, row, column));
        from_float(sum, &dx[i]);
    }
}

template <class T>
static cudaError_t launch_adaptive_avg_pool2d_grad(const void *dy, void *dx, const KernelPool &pool,
                                                   cudaStream_t stream)
{
    const int64_t count = count_in(pool);
    LAUNCH(adaptive_avg_pool2d_grad_kernel<T>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(dy), static_cast<T *>(dx), count, pool);
    return cudaGetLastError();
}

cudaError_t kernel_adaptive_avg_pool2d_grad(DType type, const void *dy, void *dx, KernelPool pool, cudaStream_t stream)
{
    if (pool.planes <= 0) return cudaSuccess;
    if (!pool_fits(pool)) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_adaptive_avg_pool2d_grad, dy, dx, pool, stream);
}

/* --- maximum --- */

/* Takes the next value of a window: the first maximum wins, and so does each NaN. */
__device__ inline void take_maximum(float value, int place, float *best, int *best_place)
{
    if (value > *best || isnan(value)) {
        *best = value;
        *best_place = place;
    }
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    max_pool2d_kernel(const T *x, T *y, uint8_t *index, int64_t count, KernelPool pool)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const Place place = place_of(i, pool.out_rows, pool.out_columns);
        const T *window = x + place.plane * pool.rows * pool.columns +
                          (place.row * pool.stride[0] * pool.columns + place.column * pool.stride[1]);
        float best = to_float(window[0]);
        int best_place = 0;
        for (int row = 0; row < pool.kernel[0]; row++)
            for (int column = 0; column < pool.kernel[1]; column++)
                take_maximum(to_float(window[row * pool.columns + column]), row * pool.kernel[1] + column, &best,
                             &best_place);
        from_float(best, &y[i]);
        if (index) index[i] = (uint8_t)best_place;
    }
}

static bool max_pool_fits(const KernelPool &pool)
{
    for (int i = 0; i < 2; i++)
        if (pool.kernel[i] < 1 || pool.stride[i] < 1) return false;
    return pool_fits(pool) && (int64_t)pool.kernel[0] * pool.kernel[1] <= 256 &&
           (int64_t)(pool.out_rows - 1) * pool.stride[0] + pool.kernel[0] <= pool.rows &&
           (int64_t)(pool.out_columns - 1) * pool.stride[1] + pool.kernel[1] <= pool.columns;
}

template <class T>
static cudaError_t launch_max_pool2d(const void *x, void *y, uint8_t *index, const KernelPool &pool,
                                     cudaStream_t stream)
{
    const int64_t count = count_out(pool);
    LAUNCH(max_pool2d_kernel<T>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream, static_cast<const T *>(x),
           static_cast<T *>(y), index, count, pool);
    return cudaGetLastError();
}

cudaError_t kernel_max_pool2d(DType type, const void *x, void *y, uint8_t *index, KernelPool pool, cudaStream_t stream)
{
    if (pool.planes <= 0) return cudaSuccess;
    if (!max_pool_fits(pool)) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_max_pool2d, x, y, index, pool, stream);
}

/* The first window along one axis that reaches `at`, and the last that begins at or before it. */
__device__ inline int first_window(int at, int kernel, int stride)
{
    return at < kernel ? 0 : (at - kernel) / stride + 1;
}

__device__ inline int last_window(int at, int stride, int windows)
{
    return min(at / stride, windows - 1);
}

template <class T>
__global__ void __launch_bounds__(BLOCK, FEWER_BLOCKS)
    max_pool2d_grad_kernel(const T *dy, const uint8_t *index, T *dx, int64_t count, KernelPool pool)
{
    for (int64_t at = grid_thread(); at < count; at += grid_threads()) {
        const Place place = place_of(at, pool.rows, pool.columns);
        const int64_t plane = place.plane * pool.out_rows * pool.out_columns;
        const int last_row = last_window(place.row, pool.stride[0], pool.out_rows);
        const int last_column = last_window(place.column, pool.stride[1], pool.out_columns);
        float sum = 0;
        for (int i = first_window(place.row, pool.kernel[0], pool.stride[0]); i <= last_row; i++)
            for (int j = first_window(place.column, pool.kernel[1], pool.stride[1]); j <= last_column; j++) {
                const int row = place.row - i * pool.stride[0], column = place.column - j * pool.stride[1];
                const int64_t window = plane + (i * pool.out_columns + j);
                if (index[window] == row * pool.kernel[1] + column) sum += to_float(dy[window]);
            }
        from_float(sum, &dx[at]);
    }
}

template <class T>
static cudaError_t launch_max_pool2d_grad(const void *dy, const uint8_t *index, void *dx, const KernelPool &pool,
                                          cudaStream_t stream)
{
    const int64_t count = count_in(pool);
    LAUNCH(max_pool2d_grad_kernel<T>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream, static_cast<const T *>(dy),
           index, static_cast<T *>(dx), count, pool);
    return cudaGetLastError();
}

cudaError_t kernel_max_pool2d_grad(DType type, const void *dy, const uint8_t *index, void *dx, KernelPool pool,
                                   cudaStream_t stream)
{
    if (pool.planes <= 0) return cudaSuccess;
    if (!max_pool_fits(pool)) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_max_pool2d_grad, dy, index, dx, pool, stream);
}
