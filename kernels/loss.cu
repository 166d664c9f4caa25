/* Losses: one float, the mean over what counts; rows are [N], columns [M].
 *
 *   cross_entropy            over rows with 0 <= label < M: log(sum exp(x)) - x[label]
 *   its gradient             dloss / count (softmax - [m = label]) in those rows, else 0
 *   soft_cross_entropy       over rows with label < 0: -sum over m of softmax(targets)[m] log softmax(x)[m]
 *   its gradient             dloss / count (softmax(x) - softmax(targets)) in those rows, else 0
 *   mean_squared_error       mean of (a - b)^2; its gradient: 2 dloss (a - b) / count
 *
 * A warp, or from ROW_BY_BLOCK columns on a block, has a row; means are added in double, in an order that only the
 * shapes decide. A loss of nothing is 0. */
#include "softmax.cuh"

struct LossShared {
    RowShared row;
    GridShared grid;
    double count[MAX_WARPS];
};

/* Small batches are one block's work: that is quicker than to wait for others. */
constexpr int SMALL_BATCH = 128; /* rows */
constexpr int LARGE_BLOCK = 512; /* threads; a thread of a larger block has too few registers */

struct LossGrid {
    unsigned blocks;
    int threads;
};

static LossGrid loss_grid(int64_t n, int64_t m)
{
    LossGrid grid;
    grid.threads = BLOCK;
    if (m >= ROW_BY_BLOCK) {
        grid.blocks = (unsigned)(n < GRID_SUM_BLOCKS ? n : GRID_SUM_BLOCKS);
    } else if (n <= SMALL_BATCH) {
        grid.blocks = 1;
        grid.threads = n < LARGE_BLOCK / WARP ? WARP * (int)n : LARGE_BLOCK;
    } else {
        grid.blocks = blocks_for(n * WARP, GRID_SUM_BLOCKS);
    }
    return grid;
}

/* This thread's first row, and how far to its next. */
template <bool by_block> __device__ inline int64_t first_row()
{
    return by_block ? (int64_t)blockIdx.x : grid_thread() / WARP;
}

template <bool by_block> __device__ inline int64_t row_stride()
{
    return by_block ? (int64_t)gridDim.x : grid_threads() / WARP;
}

__device__ inline bool has_label(int32_t label, int64_t m)
{
    return label >= 0 && label < m;
}

/* How many rows have a label below m (m = 0: have none), counted by every block. */
__device__ inline double count_rows(const int32_t *labels, int64_t n, int64_t m, double *shared)
{
    double count = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        count += m > 0 ? has_label(labels[i], m) : labels[i] < 0;
    return block_sum(count, shared);
}

/* The mean of what all threads of the grid have added up. */
__device__ inline void leave_mean(double sum, double count, GridScratch *scratch, GridShared *shared, float *loss)
{
    GridSums sums;
    if (grid_sums(sum, count, scratch, shared, &sums) && threadIdx.x == 0)
        *loss = sums.second > 0 ? (float)(sums.first / sums.second) : 0;
}

/* --- cross entropy --- */

/* result: softmax, or with `gradient` the gradient where the loss's own is `factor`, times *dloss where there is that.
 */
template <class T, bool by_block, bool gradient>
__global__ void __launch_bounds__(LARGE_BLOCK, FEWER_BLOCKS *BLOCK / LARGE_BLOCK)
    cross_entropy_kernel(const T *x, const int32_t *labels, float factor, const float *dloss, float *loss, T *result,
                         int64_t n, int64_t m, GridScratch *scratch)
{
    DYNAMIC_SHARED(LossShared, shared);
    float scale = 0;
    if (gradient) scale = factor * (dloss ? *dloss : 1) / (float)count_rows(labels, n, m, shared->count);
    double sum = 0, count = 0;
    for (int64_t row = first_row<by_block>(); row < n; row += row_stride<by_block>()) {
        const T *from = x + row * m;
        const int32_t label = labels[row];
        const bool counts = has_label(label, m);
        const RowTerms terms = row_terms<by_block>(from, nullptr, m, &shared->row);
        /* The thread that will write the label's column reads it, so that the result may be in x's place. */
        if (counts && label % row_step<by_block>() == row_first<by_block>()) {
            sum += log_sum_exp(terms) - (double)to_float(from[label]);
            count += 1;
        }
        if (!result) continue;
        for (int64_t i = row_first<by_block>(); i < m; i += row_step<by_block>()) {
            const float share = softmax_of(to_float(from[i]), terms);
            const float slope = counts ? scale * (share - (i == label ? 1.0f : 0.0f)) : 0;
            from_float(gradient ? slope : share, &result[row * m + i]);
        }
    }
    leave_mean(sum, count, scratch, &shared->grid, loss);
}

template <class T, bool gradient>
static cudaError_t launch_cross_entropy(const void *logits, const int32_t *labels, float factor, const float *dloss,
                                        float *loss, void *result, int64_t n, int64_t m, void *scratch,
                                        cudaStream_t stream)
{
    const LossGrid grid = loss_grid(n, m);
    const T *x = static_cast<const T *>(logits);
    T *to = static_cast<T *>(result);
    GridScratch *sums = static_cast<GridScratch *>(scratch);
    if (m >= ROW_BY_BLOCK)
        LAUNCH((cross_entropy_kernel<T, true, gradient>), grid.blocks, grid.threads, sizeof(LossShared), stream, x,
               labels, factor, dloss, loss, to, n, m, sums);
    else
        LAUNCH((cross_entropy_kernel<T, false, gradient>), grid.blocks, grid.threads, sizeof(LossShared), stream, x,
               labels, factor, dloss, loss, to, n, m, sums);
    return cudaGetLastError();
}

template <class T>
static cudaError_t launch_cross_entropy_loss(const void *logits, const int32_t *labels, float *loss, void *softmax,
                                             int64_t n, int64_t m, void *scratch, cudaStream_t stream)
{
    return launch_cross_entropy<T, false>(logits, labels, 0, nullptr, loss, softmax, n, m, scratch, stream);
}

template <class T>
static cudaError_t launch_cross_entropy_both(const void *logits, const int32_t *labels, float factor,
                                             const float *dloss, float *loss, void *dlogits, int64_t n, int64_t m,
                                             void *scratch, cudaStream_t stream)
{
    return launch_cross_entropy<T, true>(logits, labels, factor, dloss, loss, dlogits, n, m, scratch, stream);
}

static cudaError_t no_loss(float *loss, cudaStream_t stream)
{
    return cudaMemsetAsync(loss, 0, sizeof *loss, stream);
}

cudaError_t kernel_cross_entropy(DType type, const void *logits, const int32_t *labels, float *loss, void *softmax,
                                 int64_t n, int64_t m, void *scratch, cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return no_loss(loss, stream);
    RETURN_FOR_TYPE(type, launch_cross_entropy_loss, logits, labels, loss, softmax, n, m, scratch, stream);
}

cudaError_t kernel_cross_entropy_both(DType type, const void *logits, const int32_t *labels, float factor,
                                      const float *dloss, float *loss, void *dlogits, int64_t n, int64_t m,
                                      void *scratch, cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return no_loss(loss, stream);
    RETURN_FOR_TYPE(type, launch_cross_entropy_both, logits, labels, factor, dloss, loss, dlogits, n, m, scratch,
                    stream);
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    cross_entropy_grad_kernel(const float *dloss, const T *softmax, const int32_t *labels, T *dx, int64_t n, int64_t m)
{
    DYNAMIC_SHARED(double, shared);
    const float scale = (dloss ? *dloss : 1) / (float)count_rows(labels, n, m, shared);
    for (int64_t i = grid_thread(); i < n * m; i += grid_threads()) {
        const Division at = divide(i, m);
        const int32_t label = labels[at.quotient];
        const float slope = scale * (to_float(softmax[i]) - (at.rest == label ? 1.0f : 0.0f));
        from_float(has_label(label, m) ? slope : 0, &dx[i]);
    }
}

template <class T>
static cudaError_t launch_cross_entropy_grad(const float *dloss, const void *softmax, const int32_t *labels,
                                             void *dlogits, int64_t n, int64_t m, cudaStream_t stream)
{
    LAUNCH(cross_entropy_grad_kernel<T>, blocks_for(n * m, GRID_SUM_BLOCKS), BLOCK, MAX_WARPS * sizeof(double), stream,
           dloss, static_cast<const T *>(softmax), labels, static_cast<T *>(dlogits), n, m);
    return cudaGetLastError();
}

cudaError_t kernel_cross_entropy_grad(DType type, const float *dloss, const void *softmax, const int32_t *labels,
                                      void *dlogits, int64_t n, int64_t m, cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_cross_entropy_grad, dloss, softmax, labels, dlogits, n, m, stream);
}

/* --- soft cross entropy --- */

template <class T, bool by_block>
__global__ void __launch_bounds__(LARGE_BLOCK, FEWER_BLOCKS *BLOCK / LARGE_BLOCK)
    soft_cross_entropy_kernel(const T *x, const T *targets, const int32_t *labels, float *loss, T *softmax, T *wanted,
                              int64_t n, int64_t m, GridScratch *scratch)
{
    DYNAMIC_SHARED(LossShared, shared);
    double sum = 0, count = 0;
    for (int64_t row = first_row<by_block>(); row < n; row += row_stride<by_block>()) {
        const int64_t first = row * m;
        const bool counts = labels[row] < 0;
        const RowTerms terms = row_terms<by_block>(x + first, nullptr, m, &shared->row);
        const RowTerms target = row_terms<by_block>(targets + first, nullptr, m, &shared->row);
        const double total = log_sum_exp(terms);
        if (row_first<by_block>() == 0 && counts) count += 1;
        for (int64_t i = first + row_first<by_block>(); i < first + m; i += row_step<by_block>()) {
            const float logit = to_float(x[i]), want = softmax_of(to_float(targets[i]), target);
            if (softmax) from_float(softmax_of(logit, terms), &softmax[i]);
            if (wanted) from_float(want, &wanted[i]);
            if (counts) sum += (double)want * (total - (double)logit);
        }
    }
    leave_mean(sum, count, scratch, &shared->grid, loss);
}

template <class T>
static cudaError_t launch_soft_cross_entropy(const void *logits, const void *targets, const int32_t *labels,
                                             float *loss, void *softmax, void *wanted, int64_t n, int64_t m,
                                             void *scratch, cudaStream_t stream)
{
    const LossGrid grid = loss_grid(n, m);
    const T *x = static_cast<const T *>(logits), *target = static_cast<const T *>(targets);
    T *to = static_cast<T *>(softmax), *want = static_cast<T *>(wanted);
    GridScratch *sums = static_cast<GridScratch *>(scratch);
    if (m >= ROW_BY_BLOCK)
        LAUNCH((soft_cross_entropy_kernel<T, true>), grid.blocks, grid.threads, sizeof(LossShared), stream, x, target,
               labels, loss, to, want, n, m, sums);
    else
        LAUNCH((soft_cross_entropy_kernel<T, false>), grid.blocks, grid.threads, sizeof(LossShared), stream, x, target,
               labels, loss, to, want, n, m, sums);
    return cudaGetLastError();
}

cudaError_t kernel_soft_cross_entropy(DType type, const void *logits, const void *targets, const int32_t *labels,
                                      float *loss, void *softmax, void *wanted, int64_t n, int64_t m, void *scratch,
                                      cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return no_loss(loss, stream);
    RETURN_FOR_TYPE(type, launch_soft_cross_entropy, logits, targets, labels, loss, softmax, wanted, n, m, scratch,
                    stream);
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    soft_cross_entropy_grad_kernel(const float *dloss, const T *softmax, const T *wanted, const int32_t *labels, T *dx,
                                   int64_t n, int64_t m)
{
    DYNAMIC_SHARED(double, shared);
    const float scale = (dloss ? *dloss : 1) / (float)count_rows(labels, n, 0, shared);
    for (int64_t i = grid_thread(); i < n * m; i += grid_threads()) {
        const float slope = scale * (to_float(softmax[i]) - to_float(wanted[i]));
        from_float(labels[divide(i, m).quotient] < 0 ? slope : 0, &dx[i]);
    }
}

template <class T>
static cudaError_t launch_soft_cross_entropy_grad(const float *dloss, const void *softmax, const void *wanted,
                                                  const int32_t *labels, void *dlogits, int64_t n, int64_t m,
                                                  cudaStream_t stream)
{
    LAUNCH(soft_cross_entropy_grad_kernel<T>, blocks_for(n * m, GRID_SUM_BLOCKS), BLOCK, MAX_WARPS * sizeof(double),
           stream, dloss, static_cast<const T *>(softmax), static_cast<const T *>(wanted), labels,
           static_cast<T *>(dlogits), n, m);
    return cudaGetLastError();
}

cudaError_t kernel_soft_cross_entropy_grad(DType type, const float *dloss, const void *softmax, const void *wanted,
                                           const int32_t *labels, void *dlogits, int64_t n, int64_t m,
                                           cudaStream_t stream)
{
    if (n <= 0 || m <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_soft_cross_entropy_grad, dloss, softmax, wanted, labels, dlogits, n, m, stream);
}

/* --- mean squared error --- */

__device__ inline double square_of(float a, float b)
{
    const double difference = (double)a - (double)b;
    return difference * difference;
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    mean_squared_error_kernel(const T *a, const T *b, float *loss, int64_t count, int64_t packs, GridScratch *scratch)
{
    DYNAMIC_SHARED(GridShared, shared);
    constexpr int width = pack_width<T>;
    double sum = 0;
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        const Pack<T, width> left = load_pack<width>(a + i * width), right = load_pack<width>(b + i * width);
        for (int k = 0; k < width; k++)
            sum += square_of(to_float(left.at[k]), to_float(right.at[k]));
    }
    for (int64_t i = packs * width + grid_thread(); i < count; i += grid_threads())
        sum += square_of(to_float(a[i]), to_float(b[i]));
    GridSums sums;
    if (grid_sums(sum, 0, scratch, shared, &sums) && threadIdx.x == 0) *loss = (float)(sums.first / (double)count);
}

template <class T>
static cudaError_t launch_mean_squared_error(const void *a, const void *b, float *loss, int64_t count, void *scratch,
                                             cudaStream_t stream)
{
    const int64_t packs = aligned(a, 16) && aligned(b, 16) ? count / pack_width<T> : 0;
    LAUNCH(mean_squared_error_kernel<T>, blocks_for(packs ? packs : count, GRID_SUM_BLOCKS), BLOCK, sizeof(GridShared),
           stream, static_cast<const T *>(a), static_cast<const T *>(b), loss, count, packs,
           static_cast<GridScratch *>(scratch));
    return cudaGetLastError();
}

cudaError_t kernel_mean_squared_error(DType type, const void *a, const void *b, float *loss, int64_t count,
                                      void *scratch, cudaStream_t stream)
{
    if (count <= 0) return no_loss(loss, stream);
    RETURN_FOR_TYPE(type, launch_mean_squared_error, a, b, loss, count, scratch, stream);
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    mean_squared_error_grad_kernel(const float *dloss, const T *a, const T *b, T *da, int64_t count, int64_t packs)
{
    constexpr int width = pack_width<T>;
    const float scale = 2 * (dloss ? *dloss : 1) / (float)count;
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        const Pack<T, width> left = load_pack<width>(a + i * width), right = load_pack<width>(b + i * width);
        Pack<T, width> out;
        for (int k = 0; k < width; k++)
            from_float(scale * (to_float(left.at[k]) - to_float(right.at[k])), &out.at[k]);
        store_pack(da + i * width, out);
    }
    for (int64_t i = packs * width + grid_thread(); i < count; i += grid_threads())
        from_float(scale * (to_float(a[i]) - to_float(b[i])), &da[i]);
}

template <class T>
static cudaError_t launch_mean_squared_error_grad(const float *dloss, const void *a, const void *b, void *da,
                                                  int64_t count, cudaStream_t stream)
{
    const int64_t packs = aligned(a, 16) && aligned(b, 16) && aligned(da, 16) ? count / pack_width<T> : 0;
    LAUNCH(mean_squared_error_grad_kernel<T>, blocks_for(packs ? packs : count, MAX_BLOCKS), BLOCK, 0, stream, dloss,
           static_cast<const T *>(a), static_cast<const T *>(b), static_cast<T *>(da), count, packs);
    return cudaGetLastError();
}

cudaError_t kernel_mean_squared_error_grad(DType type, const float *dloss, const void *a, const void *b, void *da,
                                           int64_t count, cudaStream_t stream)
{
    if (count <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_mean_squared_error_grad, dloss, a, b, da, count, stream);
}
