/* y = x / (1 - p) where kept, else 0; x and y [count], in groups of `group` elements that share a decision.
 *
 * Kept: rng_mask_word(seed, step, layer, i / group) >= p 2^32. One call of Philox gives the words of four indices, so
 * with groups of one element a pack of 16 bytes costs one call (float) or two (the half precisions); with larger groups
 * it costs one an element, or one a pack where packs don't straddle groups. */
#include "device.cuh"

template <class T, int width>
__device__ inline Pack<T, width> drop_each(const Pack<T, width> &x, const DropRule &rule, const int64_t *random,
                                           int64_t first)
{
    Pack<T, width> y;
    uint32_t words[4];
    for (int k = 0; k < width; k++) {
        if (k % 4 == 0) mask_words(random, rule.layer, (rule.first + (uint64_t)(first + k)) / 4, words);
        from_float(drop(to_float(x.at[k]), drop_factor(rule, words[k % 4])), &y.at[k]);
    }
    return y;
}

template <class T, int width> __device__ inline Pack<T, width> drop_all(const Pack<T, width> &x, float factor)
{
    Pack<T, width> y;
    for (int k = 0; k < width; k++)
        from_float(drop(to_float(x.at[k]), factor), &y.at[k]);
    return y;
}

/* `packs` is 0 unless group is 1 (and the first index a multiple of 4) or a multiple of the pack's width. */
template <class T>
__global__ void __launch_bounds__(BLOCK)
    dropout_kernel(const T *x, T *y, int64_t count, int64_t packs, int64_t group, const int64_t *random, DropRule rule)
{
    constexpr int width = pack_width<T>;
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        const Pack<T, width> in = load_pack<width>(x + i * width);
        if (group == 1 && random) {
            store_pack(y + i * width, drop_each(in, rule, random, i * width));
        } else {
            const uint64_t index = (uint64_t)divide(i * width, group).quotient;
            store_pack(y + i * width, drop_all(in, drop_factor_at(rule, random, index)));
        }
    }
    for (int64_t i = packs * width + grid_thread(); i < count; i += grid_threads()) {
        const uint64_t index = (uint64_t)divide(i, group).quotient;
        from_float(drop(to_float(x[i]), drop_factor_at(rule, random, index)), &y[i]);
    }
}

template <class T>
static cudaError_t launch_dropout(const void *x, void *y, int64_t count, int64_t group, KernelDropout dropout,
                                  cudaStream_t stream)
{
    constexpr int width = pack_width<T>;
    const bool wide = aligned(x, 16) && aligned(y, 16) && (group == 1 ? dropout.first % 4 == 0 : group % width == 0);
    const int64_t packs = wide ? count / width : 0;
    LAUNCH(dropout_kernel<T>, blocks_for(wide ? packs + width : count, MAX_BLOCKS), BLOCK, 0, stream,
           static_cast<const T *>(x), static_cast<T *>(y), count, packs, group, dropout.random, drop_rule(dropout));
    return cudaGetLastError();
}

cudaError_t kernel_dropout(DType type, const void *x, void *y, int64_t count, int64_t group, KernelDropout dropout,
                           cudaStream_t stream)
{
    if (count <= 0) return cudaSuccess;
    if (group < 1) return cudaErrorInvalidValue;
    RETURN_FOR_TYPE(type, launch_dropout, x, y, count, group, dropout, stream);
}
