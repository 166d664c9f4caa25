/* What follows a convolution in MNIST's soma, and its gradient, each in one pass:
 *
 *   y = relu(max_pool2d(dropout2d(x + bias), 2))       x [N, C, rows, columns], y [N, C, out_rows, out_columns], index
 *                                                      likewise: the maximum's place in its window, 0 .. 3
 *   dx = dropout2d(max_pool2d_grad(relu_grad(dy, y), index))
 *   db[c] = sum of dx over n, rows and columns: the gradient of the bias, where it is wanted
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

/* What both kernels below read and write; without gaps between its fields. */
template <class T> struct PoolGrad {
    const T *dy;
    int64_t dy_stride;
    const T *y;
    int64_t y_stride;
    const uint8_t *index;
    T *dx;
    KernelPool pool;
    int channels;
    int pairs; /* 1: two elements of dx are stored at once */
};

/* Writes one cell of dx, and returns the one number in it that isn't zero. Cells of 2 x 2 cover dx; an odd last row or
 * column belongs to no window, and its cells are zeros. */
template <class T>
__device__ inline float write_cell(const PoolGrad<T> &of, const Place &place, const int64_t *random,
                                   const DropRule &rule)
{
    const KernelPool &pool = of.pool;
    float gradient = 0;
    int chosen = 0;
    if (place.row < pool.out_rows && place.column < pool.out_columns) {
        chosen = of.index[(place.plane * pool.out_rows + place.row) * pool.out_columns + place.column];
        if (to_float(of.y[image_place(place, of.channels, of.y_stride, pool)]) > 0)
            gradient = drop(to_float(of.dy[image_place(place, of.channels, of.dy_stride, pool)]),
                            drop_factor_at(rule, random, (uint64_t)place.plane));
    }
    T *cell = of.dx + place.plane * pool.rows * pool.columns + (2 * place.row * pool.columns + 2 * place.column);
    const bool second = 2 * place.column + 1 < pool.columns;
    store_two(cell, of.pairs, second, chosen == 0 ? gradient : 0, chosen == 1 ? gradient : 0);
    if (2 * place.row + 1 < pool.rows)
        store_two(cell + pool.columns, of.pairs, second, chosen == 2 ? gradient : 0, chosen == 3 ? gradient : 0);
    return gradient;
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    dropout_pool_relu_grad_kernel(PoolGrad<T> of, int64_t count, const int64_t *random, DropRule rule)
{
    for (int64_t i = grid_thread(); i < count; i += grid_threads())
        write_cell(of, place_of(i, (of.pool.rows + 1) / 2, (of.pool.columns + 1) / 2), random, rule);
}

/* Sums of a grid, one a block, and who came last. */
struct BiasScratch {
    unsigned arrived; /* blocks that have left their sum; 0 between launches */
    unsigned unused[3];
    float sums[(KERNEL_SCRATCH_BYTES - 16) / sizeof(float)]; /* [channels, chunks] */
};

struct BiasShared {
    float sums[MAX_WARPS];
    int last;
};

/* A block has one channel of every `chunks`-th image, and leaves its sum; the last to come adds them up, a warp a
 * channel, in the order of the lanes. As for fences and the L2 cache, see grid_sums. */
template <class T>
__global__ void __launch_bounds__(BLOCK)
    dropout_pool_relu_bias_grad_kernel(PoolGrad<T> of, int64_t images, int chunks, float *db, BiasScratch *scratch,
                                       const int64_t *random, DropRule rule)
{
    DYNAMIC_SHARED(BiasShared, shared);
    const int channel = (int)blockIdx.x / chunks, chunk = (int)blockIdx.x % chunks;
    const int columns = (of.pool.columns + 1) / 2, cells = (of.pool.rows + 1) / 2 * columns;
    const int64_t own = (images - chunk + chunks - 1) / chunks;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < own * cells; i += blockDim.x) {
        Place place = place_of(i, (of.pool.rows + 1) / 2, columns);
        place.plane = (chunk + place.plane * chunks) * of.channels + channel;
        sum += write_cell(of, place, random, rule);
    }
    sum = block_sum(sum, shared->sums);
    if (threadIdx.x == 0) {
        __stcg(&scratch->sums[blockIdx.x], sum);
        __threadfence();
        shared->last = atomicAdd(&scratch->arrived, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (!shared->last) return;
    for (int c = warp_index(); c < of.channels; c += (int)blockDim.x / WARP) {
        float total = 0;
        for (int k = lane_index(); k < chunks; k += WARP)
            total += __ldcg(&scratch->sums[c * chunks + k]);
        total = warp_sum(total);
        if (lane_index() == 0) db[c] = total;
    }
    if (threadIdx.x == 0) atomicExch(&scratch->arrived, 0u);
}

template <class T>
static PoolGrad<T> pool_grad(const void *dy, int64_t dy_stride, const void *y, int64_t y_stride, const uint8_t *index,
                             int channels, void *dx, const KernelPool &pool)
{
    PoolGrad<T> of;
    of.dy = static_cast<const T *>(dy);
    of.dy_stride = dy_stride;
    of.y = static_cast<const T *>(y);
    of.y_stride = y_stride;
    of.index = index;
    of.channels = channels;
    of.dx = static_cast<T *>(dx);
    of.pool = pool;
    of.pairs = pool.columns % 2 == 0 && aligned(dx, 2 * sizeof(T));
    return of;
}

template <class T>
static cudaError_t launch_dropout_pool_relu_grad(const void *dy, int64_t dy_stride, const void *y, int64_t y_stride,
                                                 const uint8_t *index, int channels, void *dx, const KernelPool &pool,
                                                 const KernelDropout &dropout, cudaStream_t stream)
{
    const int64_t count = pool.planes * ((pool.rows + 1) / 2) * ((pool.columns + 1) / 2);
    LAUNCH(dropout_pool_relu_grad_kernel<T>, blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream,
           pool_grad<T>(dy, dy_stride, y, y_stride, index, channels, dx, pool), count, dropout.random,
           drop_rule(dropout));
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

/* As many blocks of a channel as have an element a thread. */
static int chunks_of(const KernelPool &pool, int channels)
{
    const int64_t images = pool.planes / channels, cells = (int64_t)((pool.rows + 1) / 2) * ((pool.columns + 1) / 2);
    const int64_t limit = (int64_t)(sizeof(BiasScratch::sums) / sizeof(float)) / channels;
    int64_t chunks = (images * cells + BLOCK - 1) / BLOCK;
    if (chunks > images) chunks = images;
    return (int)(chunks < limit ? chunks : limit);
}

template <class T>
static cudaError_t launch_dropout_pool_relu_bias_grad(const void *dy, int64_t dy_stride, const void *y,
                                                      int64_t y_stride, const uint8_t *index, int channels, void *dx,
                                                      float *db, const KernelPool &pool, const KernelDropout &dropout,
                                                      void *scratch, cudaStream_t stream)
{
    const int chunks = chunks_of(pool, channels);
    LAUNCH(dropout_pool_relu_bias_grad_kernel<T>, (unsigned)(channels * chunks), BLOCK, sizeof(BiasShared), stream,
           pool_grad<T>(dy, dy_stride, y, y_stride, index, channels, dx, pool), pool.planes / channels, chunks, db,
           static_cast<BiasScratch *>(scratch), dropout.random, drop_rule(dropout));
    return cudaGetLastError();
}

cudaError_t kernel_dropout_pool_relu_bias_grad(DType type, const void *dy, int64_t dy_stride, const void *y,
                                               int64_t y_stride, const uint8_t *index, int channels, void *dx,
                                               float *db, KernelPool pool, KernelDropout dropout, void *scratch,
                                               cudaStream_t stream)
{
    if (channels <= 0 || channels > KERNEL_MOST_SUMS) return cudaErrorInvalidValue;
    if (pool.planes <= 0) return cudaMemsetAsync(db, 0, (size_t)channels * sizeof(float), stream);
    if (!fused_fits(pool, channels, dy_stride) || !fused_fits(pool, channels, y_stride)) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_dropout_pool_relu_bias_grad, dy, dy_stride, y, y_stride, index, channels, dx, db, pool,
                    dropout, scratch, stream);
}
