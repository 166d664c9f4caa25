/* What the kernels share: types to and from float, vectors of 16 bytes, sums over warps, blocks and grids, and the
 * random words of dropout. For .cu files only.
 *
 * A block has one dimension and a multiple of 32 threads. A sum over threads has one order of its terms, so its bits
 * don't depend on who came first. Shared buffers are written once between two barriers: whoever uses one again has
 * passed another reduction's barrier in between. */
#pragma once

#include <math.h>

#include "kernels.h"
#include "launch.h"

constexpr int BLOCK = 256; /* threads */
constexpr int WARP = 32;
constexpr int BLOCK_WARPS = BLOCK / WARP;
/* Blocks that are to fit into a multiprocessor at least, for kernels that ptxas would otherwise make spill registers in
 * order to fit more: 64 registers a thread are theirs. */
constexpr int FEWER_BLOCKS = 4;
constexpr int MAX_WARPS = 32; /* of a block of 1024 threads */
/* More blocks than any device holds at once (148 multiprocessors with 8 each); what is left over, a grid strides
 * through. */
constexpr int MAX_BLOCKS = 2048;

/* --- types --- */

__device__ inline float to_float(float x)
{
    return x;
}
__device__ inline float to_float(__half x)
{
    return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}
__device__ inline float to_float(uint8_t x)
{
    return (float)x;
}

__device__ inline void from_float(float x, float *y)
{
    *y = x;
}
__device__ inline void from_float(float x, __half *y)
{
    *y = __float2half_rn(x);
}
__device__ inline void from_float(float x, __nv_bfloat16 *y)
{
    *y = __float2bfloat16_rn(x);
}

/* In a launcher: returns function<T>(arguments), T being what `type` stands for. */
#define RETURN_FOR_TYPE(type, function, ...)                                                                           \
    switch (type) {                                                                                                    \
    case DTYPE_F32:                                                                                                    \
        return function<float>(__VA_ARGS__);                                                                           \
    case DTYPE_BF16:                                                                                                   \
        return function<__nv_bfloat16>(__VA_ARGS__);                                                                   \
    case DTYPE_F16:                                                                                                    \
        return function<__half>(__VA_ARGS__);                                                                          \
    default:                                                                                                           \
        return cudaErrorInvalidValue;                                                                                  \
    }

/* --- vectors --- */

/* `width` elements that are loaded and stored in one instruction. */
template <class T, int width> struct alignas(sizeof(T) * width) Pack {
    T at[width];
};

template <class T> constexpr int pack_width = 16 / (int)sizeof(T);

template <int width, class T> __device__ inline Pack<T, width> load_pack(const T *from)
{
    return *reinterpret_cast<const Pack<T, width> *>(from);
}

template <int width, class T> __device__ inline void store_pack(T *to, const Pack<T, width> &pack)
{
    *reinterpret_cast<Pack<T, width> *>(to) = pack;
}

static inline bool aligned(const void *pointer, size_t bytes)
{
    return (uintptr_t)pointer % bytes == 0;
}

/* --- grids --- */

static inline unsigned blocks_for(int64_t threads, int64_t limit)
{
    const int64_t blocks = (threads + BLOCK - 1) / BLOCK;
    return (unsigned)(blocks < 1 ? 1 : blocks < limit ? blocks : limit);
}

__device__ inline int64_t grid_thread()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ inline int64_t grid_threads()
{
    return (int64_t)gridDim.x * blockDim.x;
}

__device__ inline int warp_index()
{
    return (int)(threadIdx.x / WARP);
}

__device__ inline int lane_index()
{
    return (int)(threadIdx.x % WARP);
}

/* index = quotient * divisor + rest; 32-bit arithmetic where it is enough, since 64-bit division is long. */
struct Division {
    int64_t quotient, rest;
};

__device__ inline Division divide(int64_t index, int64_t divisor)
{
    Division result;
    if ((uint64_t)(index | divisor) >> 32 == 0) {
        result.quotient = (uint32_t)index / (uint32_t)divisor;
        result.rest = (uint32_t)index % (uint32_t)divisor;
    } else {
        result.quotient = index / divisor;
        result.rest = index - result.quotient * divisor;
    }
    return result;
}

/* Element `index` of planes of rows by columns; a plane has less than 2^31 elements. */
struct Place {
    int64_t plane;
    int row, column;
};

__device__ inline Place place_of(int64_t index, int rows, int columns)
{
    const Division plane = divide(index, (int64_t)rows * columns);
    Place place;
    place.plane = plane.quotient;
    place.row = (int)((unsigned)plane.rest / (unsigned)columns);
    place.column = (int)((unsigned)plane.rest % (unsigned)columns);
    return place;
}

/* --- reductions: all threads get the result --- */

#define FULL_MASK 0xffffffffu

template <class V> __device__ inline V warp_sum(V value)
{
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(FULL_MASK, value, distance);
    return value;
}

/* NaN is passed over. */
__device__ inline float warp_max(float value)
{
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(FULL_MASK, value, distance));
    return value;
}

/* Every thread of the block calls this; `shared` has MAX_WARPS places. */
template <class V> __device__ inline V block_sum(V value, V *shared)
{
    value = warp_sum(value);
    if (lane_index() == 0) shared[warp_index()] = value;
    __syncthreads();
    V sum = 0;
    for (int warp = 0; warp < (int)(blockDim.x / WARP); warp++)
        sum += shared[warp];
    return sum;
}

__device__ inline float block_max(float value, float *shared)
{
    value = warp_max(value);
    if (lane_index() == 0) shared[warp_index()] = value;
    __syncthreads();
    float maximum = shared[0];
    for (int warp = 1; warp < (int)(blockDim.x / WARP); warp++)
        maximum = fmaxf(maximum, shared[warp]);
    return maximum;
}

/* --- sums over a grid --- */

constexpr int GRID_SUM_BLOCKS = (KERNEL_SCRATCH_BYTES - 16) / 16; /* at most so many blocks */

struct GridScratch {
    unsigned arrived; /* blocks that have left their sums; 0 between launches */
    unsigned unused[3];
    double sums[2][GRID_SUM_BLOCKS];
};

struct GridSums {
    double first, second;
};

/* Shared memory of a block that takes part. */
struct GridShared {
    double first[MAX_WARPS], second[MAX_WARPS];
    int last;
};

/* Adds up two values over all threads of the grid. Every thread calls this; it returns true, and the sums, to the
 * threads of the block that came last. They add the blocks' sums in the order of the blocks; fences before and behind
 * the counter make those visible, and the L2 cache has them, whatever an L1 cache holds. */
__device__ inline bool grid_sums(double first, double second, GridScratch *scratch, GridShared *shared, GridSums *out)
{
    out->first = block_sum(first, shared->first);
    out->second = block_sum(second, shared->second);
    if (gridDim.x == 1) return true;
    if (threadIdx.x == 0) {
        __stcg(&scratch->sums[0][blockIdx.x], out->first);
        __stcg(&scratch->sums[1][blockIdx.x], out->second);
        __threadfence();
        shared->last = atomicAdd(&scratch->arrived, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (!shared->last) return false;
    first = second = 0;
    for (unsigned block = threadIdx.x; block < gridDim.x; block += blockDim.x) {
        first += __ldcg(&scratch->sums[0][block]);
        second += __ldcg(&scratch->sums[1][block]);
    }
    out->first = block_sum(first, shared->first);
    out->second = block_sum(second, shared->second);
    if (threadIdx.x == 0) atomicExch(&scratch->arrived, 0u);
    return true;
}

/* --- dropout --- */

/* What the host makes of a KernelDropout; `random` goes beside it, as a kernel's own argument. */
struct DropRule {
    uint64_t threshold; /* a word below it drops */
    uint32_t layer;
    float factor; /* of what is kept */
    uint64_t first;
};

/* word >= probability 2^32, in double, is word >= its ceiling, in integers. */
static inline DropRule drop_rule(KernelDropout dropout)
{
    DropRule rule;
    rule.layer = dropout.layer;
    rule.first = dropout.first;
    rule.threshold = dropout.random ? (uint64_t)ceil(dropout.probability * 4294967296.0) : 0;
    rule.factor = dropout.random ? (float)(1 / (1 - dropout.probability)) : 1.0f;
    return rule;
}

/* The four words of indices 4 place .. 4 place + 3: philox of base/rng.h under rng_mask_word's counter and key. */
__device__ inline void mask_words(const int64_t *random, uint32_t layer, uint64_t place, uint32_t words[4])
{
    const uint64_t seed = (uint64_t)random[0], step = (uint64_t)random[1];
    uint32_t c0 = (uint32_t)place, c1 = (uint32_t)(place >> 32);
    uint32_t c2 = (uint32_t)step, c3 = (uint32_t)(step >> 32) ^ layer << 16;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = (uint64_t)0xD2511F53u * c0, product1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

__device__ inline float drop_factor(const DropRule &rule, uint32_t word)
{
    return word >= rule.threshold ? rule.factor : 0;
}

/* What element (or channel) `index` is multiplied by. */
__device__ inline float drop_factor_at(const DropRule &rule, const int64_t *random, uint64_t index)
{
    if (!random) return 1;
    index += rule.first;
    uint32_t words[4];
    mask_words(random, rule.layer, index / 4, words);
    const uint32_t low = index & 1 ? words[1] : words[0], high = index & 1 ? words[3] : words[2];
    return drop_factor(rule, index & 2 ? high : low);
}

/* What is dropped is 0, even where it isn't finite. */
__device__ inline float drop(float x, float factor)
{
    return factor == 0 ? 0 : factor * x;
}

/* max(x, 0); NaN stays */
__device__ inline float relu(float x)
{
    return x < 0 ? 0 : x;
}
