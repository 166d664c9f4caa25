/* What follows the gradients, over all tensors of a table in one launch each.
 *
 *   global_norm  norm = sqrt(sum of squares of all gradients), in double
 *   clip_factor  factor = scale min(1, max_norm / norm); 0 where the norm isn't finite
 *   loss_scale   unscale = 1 / scale, 0 where the norm isn't finite; what the scale is next
 *   sgd          g = gradient_scale gradient; step = g + weight_decay w; v' = momentum v + step;
 *                w' = w - lr v' (nesterov: w - lr (step + momentum v'))
 *
 * All elements are numbered through, in the order of the table. A block takes CHUNK of them at a time; they may lie in
 * several tensors, and where a tensor's part begins and ends off a pack of 16 bytes, single elements are moved. */
#include "device.cuh"

constexpr int WIDTH = 4;                 /* floats of a pack */
constexpr int CHUNK = 2 * WIDTH * BLOCK; /* two packs a thread */

/* Elements first .. last of one tensor; packs of WIDTH are those from first_pack to last_pack. */
struct Span {
    int64_t first, last, first_pack, last_pack;
};

__device__ inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

__device__ inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The part of `tensor` that lies in elements begin .. end of all. */
__device__ inline Span span_of(const KernelTensor &tensor, int64_t begin, int64_t end)
{
    Span span;
    span.first = larger(begin - tensor.first, 0);
    span.last = larger(smaller(end - tensor.first, tensor.count), span.first);
    span.first_pack = smaller((span.first + WIDTH - 1) / WIDTH * WIDTH, span.last);
    span.last_pack = larger(span.last / WIDTH * WIDTH, span.first_pack);
    return span;
}

/* Single element `number` of a span, counting those before its packs and then those behind; false when there are no so
 * many. */
__device__ inline bool single_of(const Span &span, int64_t number, int64_t *at)
{
    const int64_t before = span.first_pack - span.first;
    *at = number < before ? span.first + number : span.last_pack + number - before;
    return *at < span.last;
}

/* The tensor that element `begin` lies in: the last that begins there or before. A warp asks 32 tensors at once. */
__device__ inline int tensor_of(const KernelTensor *table, int count, int64_t begin)
{
    int found = 0;
    for (int base = 0; base < count; base += WARP) {
        const int at = base + lane_index();
        found += __popc(__ballot_sync(FULL_MASK, at < count && table[at].first <= begin));
    }
    return found - 1;
}

/* --- norm --- */

__device__ inline double square(float x)
{
    return (double)x * (double)x;
}

__device__ inline double squares_of(const float *x, const Span &span)
{
    double sum = 0;
    for (int64_t i = span.first_pack + threadIdx.x * WIDTH; i < span.last_pack; i += BLOCK * WIDTH) {
        const Pack<float, WIDTH> pack = load_pack<WIDTH>(x + i);
        for (int k = 0; k < WIDTH; k++)
            sum += square(pack.at[k]);
    }
    int64_t at;
    for (int64_t number = threadIdx.x; single_of(span, number, &at); number += BLOCK)
        sum += square(x[at]);
    return sum;
}

/* A tensor may begin off 16 bytes: then it has single elements only. */
__device__ inline Span span_for(const KernelTensor &tensor, int64_t begin, int64_t end, bool packs)
{
    Span span = span_of(tensor, begin, end);
    if (!packs) span.first_pack = span.last_pack = span.last;
    return span;
}

__device__ inline bool on_pack(const void *pointer)
{
    return (uintptr_t)pointer % 16 == 0;
}

__global__ void __launch_bounds__(BLOCK, FEWER_BLOCKS)
    global_norm_kernel(const KernelTensor *table, int count, int64_t elements, float *norm, GridScratch *scratch)
{
    DYNAMIC_SHARED(GridShared, shared);
    double sum = 0;
    for (int64_t begin = (int64_t)blockIdx.x * CHUNK; begin < elements; begin += (int64_t)gridDim.x * CHUNK) {
        const int64_t end = smaller(begin + CHUNK, elements);
        for (int k = tensor_of(table, count, begin); k < count && table[k].first < end; k++)
            sum += squares_of(table[k].gradient, span_for(table[k], begin, end, on_pack(table[k].gradient)));
    }
    GridSums sums;
    if (grid_sums(sum, 0, scratch, shared, &sums) && threadIdx.x == 0) *norm = (float)sqrt(sums.first);
}

static int64_t chunks_of(int64_t elements)
{
    return (elements + CHUNK - 1) / CHUNK;
}

cudaError_t kernel_global_norm(const KernelTensor *table, int count, int64_t elements, float *norm, void *scratch,
                               cudaStream_t stream)
{
    if (count <= 0 || elements <= 0) return cudaMemsetAsync(norm, 0, sizeof *norm, stream);
    LAUNCH(global_norm_kernel, blocks_for(chunks_of(elements) * BLOCK, GRID_SUM_BLOCKS), BLOCK, sizeof(GridShared),
           stream, table, count, elements, norm, static_cast<GridScratch *>(scratch));
    return cudaGetLastError();
}

__global__ void clip_factor_kernel(const float *norm, float *factor, double max_norm, double scale)
{
    const float length = *norm;
    const double limited = length > max_norm ? max_norm / length : 1;
    *factor = isfinite(length) ? (float)(scale * limited) : 0;
}

cudaError_t kernel_clip_factor(const float *norm, float *factor, double max_norm, double scale, cudaStream_t stream)
{
    LAUNCH(clip_factor_kernel, 1, 1, 0, stream, norm, factor, max_norm, scale);
    return cudaGetLastError();
}

/* --- loss scale --- */

__global__ void loss_scale_kernel(const float *norm, const float *scale, const int32_t *good, float *unscale,
                                  float *next_scale, int32_t *next_good, float most, int32_t interval)
{
    const float now = *scale;
    const bool finite = isfinite(*norm);
    const int32_t steps = finite ? *good + 1 : 0;
    const bool grow = steps >= interval;
    const float next = grow ? 2 * now : finite ? now : now / 2;
    *unscale = finite ? 1 / now : 0;
    if (next_scale) *next_scale = fmaxf(fminf(next, most), 1);
    if (next_good) *next_good = grow ? 0 : steps;
}

cudaError_t kernel_loss_scale(const float *norm, const float *scale, const int32_t *good, float *unscale,
                              float *next_scale, int32_t *next_good, float most, int32_t interval, cudaStream_t stream)
{
    LAUNCH(loss_scale_kernel, 1, 1, 0, stream, norm, scale, good, unscale, next_scale, next_good, most, interval);
    return cudaGetLastError();
}

/* --- sgd --- */

struct SgdRule {
    float lr, scale, momentum, weight_decay;
    bool nesterov;
};

__device__ inline void sgd_step(const SgdRule &rule, float gradient, float *parameter, float *momentum)
{
    const float step = rule.scale * gradient + rule.weight_decay * *parameter;
    *momentum = rule.momentum * *momentum + step;
    *parameter -= rule.lr * (rule.nesterov ? step + rule.momentum * *momentum : *momentum);
}

template <class Low> __device__ inline void sgd_pack(const SgdRule &rule, const KernelTensor &tensor, int64_t at)
{
    const Pack<float, WIDTH> gradient = load_pack<WIDTH>(tensor.gradient + at);
    Pack<float, WIDTH> parameter = load_pack<WIDTH>(tensor.parameter + at);
    Pack<float, WIDTH> momentum = load_pack<WIDTH>(tensor.momentum + at);
    Pack<Low, WIDTH> low;
    for (int k = 0; k < WIDTH; k++) {
        sgd_step(rule, gradient.at[k], &parameter.at[k], &momentum.at[k]);
        from_float(parameter.at[k], &low.at[k]);
    }
    store_pack(tensor.parameter + at, parameter);
    store_pack(tensor.momentum + at, momentum);
    if (tensor.low) store_pack(static_cast<Low *>(tensor.low) + at, low);
}

template <class Low> __device__ inline void sgd_span(const SgdRule &rule, const KernelTensor &tensor, const Span &span)
{
    for (int64_t i = span.first_pack + threadIdx.x * WIDTH; i < span.last_pack; i += BLOCK * WIDTH)
        sgd_pack<Low>(rule, tensor, i);
    int64_t at;
    for (int64_t number = threadIdx.x; single_of(span, number, &at); number += BLOCK) {
        sgd_step(rule, tensor.gradient[at], &tensor.parameter[at], &tensor.momentum[at]);
        if (tensor.low) from_float(tensor.parameter[at], &static_cast<Low *>(tensor.low)[at]);
    }
}

template <class Low>
__global__ void __launch_bounds__(BLOCK) sgd_kernel(const KernelTensor *table, int count, int64_t elements,
                                                    const float *lr, const float *gradient_scale, SgdRule rule)
{
    rule.lr = *lr;
    rule.scale = gradient_scale ? *gradient_scale : 1;
    if (rule.scale == 0) return;
    for (int64_t begin = (int64_t)blockIdx.x * CHUNK; begin < elements; begin += (int64_t)gridDim.x * CHUNK) {
        const int64_t end = smaller(begin + CHUNK, elements);
        for (int k = tensor_of(table, count, begin); k < count && table[k].first < end; k++) {
            const KernelTensor tensor = table[k];
            const bool packs = on_pack(tensor.gradient) && on_pack(tensor.parameter) && on_pack(tensor.momentum) &&
                               on_pack(tensor.low);
            sgd_span<Low>(rule, tensor, span_for(tensor, begin, end, packs));
        }
    }
}

template <class Low>
static cudaError_t launch_sgd(const KernelTensor *table, int count, int64_t elements, const KernelSgd &sgd,
                              cudaStream_t stream)
{
    SgdRule rule;
    rule.lr = rule.scale = 0; /* read on the device */
    rule.momentum = sgd.momentum;
    rule.weight_decay = sgd.weight_decay;
    rule.nesterov = sgd.nesterov;
    LAUNCH(sgd_kernel<Low>, blocks_for(chunks_of(elements) * BLOCK, MAX_BLOCKS), BLOCK, 0, stream, table, count,
           elements, sgd.lr, sgd.gradient_scale, rule);
    return cudaGetLastError();
}

cudaError_t kernel_sgd(const KernelTensor *table, int count, int64_t elements, KernelSgd sgd, cudaStream_t stream)
{
    if (count <= 0 || elements <= 0) return cudaSuccess;
    if (sgd.low_type == DTYPE_NONE) return launch_sgd<float>(table, count, elements, sgd, stream);
    RETURN_FOR_TYPE(sgd.low_type, launch_sgd, table, count, elements, sgd, stream);
}
