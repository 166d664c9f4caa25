/* Choosing peers, and moving rows to and from those that were chosen.
 *
 *   top_k             the k largest of each row of scores [N, M], largest first, ties by the lower column; NaN is -inf
 *   gather_rows       y[i] = x[rows[i]], zeros where there is no such row;  x [n, d], rows [count], y [count, d]
 *   scatter_add_rows  y[rows[i]] += x[i], in the order of i;                x [count, d], rows [count], y [n, d] float
 */
#include "device.cuh"

/* --- top_k: a block a row; each round looks for the best that comes after the last one chosen --- */

struct Choice {
    float score;
    int column;
};

/* Whether `a` comes before `b`; every column has its place, so no two are equal. */
__device__ inline bool comes_before(const Choice &a, const Choice &b)
{
    return a.score > b.score || (a.score == b.score && a.column < b.column);
}

/* Comes after everything. */
__device__ inline Choice no_choice()
{
    Choice none;
    none.score = -INFINITY;
    none.column = INT32_MAX;
    return none;
}

template <class T> __device__ inline Choice choice_at(const T *scores, int64_t column)
{
    Choice choice;
    choice.score = to_float(scores[column]);
    if (isnan(choice.score)) choice.score = -INFINITY;
    choice.column = (int)column;
    return choice;
}

__device__ inline Choice warp_first(Choice choice)
{
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        Choice other;
        other.score = __shfl_xor_sync(FULL_MASK, choice.score, distance);
        other.column = __shfl_xor_sync(FULL_MASK, choice.column, distance);
        if (comes_before(other, choice)) choice = other;
    }
    return choice;
}

__device__ inline Choice block_first(Choice choice, Choice *shared)
{
    choice = warp_first(choice);
    if (lane_index() == 0) shared[warp_index()] = choice;
    __syncthreads();
    for (int warp = 0; warp < (int)(blockDim.x / WARP); warp++)
        if (comes_before(shared[warp], choice)) choice = shared[warp];
    return choice;
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    top_k_kernel(const T *scores, float *values, int32_t *columns, int64_t m, int k)
{
    DYNAMIC_SHARED(Choice, shared); /* [2][MAX_WARPS], used in turn: each round's barrier guards the other half */
    scores += blockIdx.x * m;
    Choice last;
    last.score = INFINITY;
    last.column = -1;
    for (int round = 0; round < k; round++) {
        Choice best = no_choice();
        for (int64_t column = threadIdx.x; column < m; column += blockDim.x) {
            const Choice choice = choice_at(scores, column);
            if (comes_before(last, choice) && comes_before(choice, best)) best = choice;
        }
        last = block_first(best, shared + round % 2 * MAX_WARPS);
        if (threadIdx.x == 0) {
            values[(int64_t)blockIdx.x * k + round] = last.score;
            columns[(int64_t)blockIdx.x * k + round] = last.column;
        }
    }
}

template <class T>
static cudaError_t launch_top_k(const void *scores, float *values, int32_t *columns, int64_t n, int64_t m, int k,
                                cudaStream_t stream)
{
    const int threads = m <= 4 * WARP ? WARP : BLOCK;
    LAUNCH(top_k_kernel<T>, (unsigned)n, threads, 2 * MAX_WARPS * sizeof(Choice), stream,
           static_cast<const T *>(scores), values, columns, m, k);
    return cudaGetLastError();
}

cudaError_t kernel_top_k(DType type, const void *scores, float *values, int32_t *columns, int64_t n, int64_t m, int k,
                         cudaStream_t stream)
{
    if (n <= 0 || k == 0) return cudaSuccess;
    if (k < 0 || k > m || m >= INT32_MAX || n > INT32_MAX) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_top_k, scores, values, columns, n, m, k, stream);
}

/* --- gather --- */

template <class T, int width>
__global__ void __launch_bounds__(BLOCK)
    gather_rows_kernel(const T *x, const int32_t *rows, T *y, int64_t n, int64_t count, int64_t d)
{
    const int64_t packs = d / width;
    for (int64_t i = grid_thread(); i < count * packs; i += grid_threads()) {
        const Division at = divide(i, packs);
        const int64_t row = rows[at.quotient];
        Pack<T, width> pack;
        for (int k = 0; k < width; k++)
            from_float(0, &pack.at[k]);
        if (row >= 0 && row < n) pack = load_pack<width>(x + row * d + at.rest * width);
        store_pack(y + i * width, pack);
    }
}

template <class T, int width>
static cudaError_t launch_gather_of(const void *x, const int32_t *rows, void *y, int64_t n, int64_t count, int64_t d,
                                    cudaStream_t stream)
{
    LAUNCH((gather_rows_kernel<T, width>), blocks_for(count * d / width, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(x), rows, static_cast<T *>(y), n, count, d);
    return cudaGetLastError();
}

template <class T>
static cudaError_t launch_gather(const void *x, const int32_t *rows, void *y, int64_t n, int64_t count, int64_t d,
                                 cudaStream_t stream)
{
    if (d % pack_width<T> == 0 && aligned(x, 16) && aligned(y, 16))
        return launch_gather_of<T, pack_width<T>>(x, rows, y, n, count, d, stream);
    return launch_gather_of<T, 1>(x, rows, y, n, count, d, stream);
}

cudaError_t kernel_gather_rows(DType type, const void *x, const int32_t *rows, void *y, int64_t n, int64_t count,
                               int64_t d, cudaStream_t stream)
{
    if (count <= 0 || d <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_gather, x, rows, y, n, count, d, stream);
}

/* --- scatter: a warp has 32 columns of one row of y, and looks through `rows` for what belongs there --- */

template <class T>
__global__ void __launch_bounds__(BLOCK)
    scatter_add_rows_kernel(const T *x, const int32_t *rows, float *y, int64_t n, int64_t count, int64_t d)
{
    const int64_t strips = (d + WARP - 1) / WARP;
    for (int64_t i = grid_thread() / WARP; i < n * strips; i += grid_threads() / WARP) {
        const Division at = divide(i, strips); /* row, strip */
        const int64_t column = at.rest * WARP + lane_index();
        float sum = 0;
        if (column < d) sum = y[at.quotient * d + column];
        for (int64_t base = 0; base < count; base += WARP) {
            const int64_t mine = base + lane_index();
            unsigned found = __ballot_sync(FULL_MASK, mine < count && rows[mine] == at.quotient);
            for (; found; found &= found - 1)
                if (column < d) sum += to_float(x[(base + __ffs((int)found) - 1) * d + column]);
        }
        if (column < d) y[at.quotient * d + column] = sum;
    }
}

template <class T>
static cudaError_t launch_scatter_add_rows(const void *x, const int32_t *rows, float *y, int64_t n, int64_t count,
                                           int64_t d, cudaStream_t stream)
{
    const int64_t warps = n * ((d + WARP - 1) / WARP);
    LAUNCH(scatter_add_rows_kernel<T>, blocks_for(warps * WARP, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(x), rows, y, n, count, d);
    return cudaGetLastError();
}

cudaError_t kernel_scatter_add_rows(DType type, const void *x, const int32_t *rows, float *y, int64_t n, int64_t count,
                                    int64_t d, cudaStream_t stream)
{
    if (n <= 0 || count <= 0 || d <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_scatter_add_rows, x, rows, y, n, count, d, stream);
}
