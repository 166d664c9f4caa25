/* y = x + bias of its channel, then max(0, .) where wanted; x and y [n, channels, inner], bias [channels] float: what
 * follows a convolution where cuDNN has no engine that fuses it.
 *
 * Memory bound. A thread moves packs of 16 bytes of one channel where inner and the addresses divide by them. The
 * result may be in x's place. */
#include "device.cuh"

template <class T, int width>
__global__ void __launch_bounds__(BLOCK)
    bias_kernel(const T *x, const float *bias, T *y, int64_t packs, int channels, int64_t inner, bool rectify)
{
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        const float b = bias ? bias[divide(divide(i, inner / width).quotient, channels).rest] : 0;
        const Pack<T, width> in = load_pack<width>(x + i * width);
        Pack<T, width> out;
        for (int k = 0; k < width; k++) {
            const float sum = to_float(in.at[k]) + b;
            from_float(rectify ? relu(sum) : sum, &out.at[k]);
        }
        store_pack(y + i * width, out);
    }
}

template <class T>
static cudaError_t launch_bias(const void *x, const float *bias, void *y, int64_t n, int channels, int64_t inner,
                               bool rectify, cudaStream_t stream)
{
    constexpr int width = pack_width<T>;
    const int64_t count = n * channels * inner;
    const T *from = static_cast<const T *>(x);
    T *to = static_cast<T *>(y);
    if (inner % width == 0 && aligned(x, 16) && aligned(y, 16))
        LAUNCH((bias_kernel<T, width>), blocks_for(count / width, MAX_BLOCKS), BLOCK, 0, stream, from, bias, to,
               count / width, channels, inner, rectify);
    else
        LAUNCH((bias_kernel<T, 1>), blocks_for(count, MAX_BLOCKS), BLOCK, 0, stream, from, bias, to, count, channels,
               inner, rectify);
    return cudaGetLastError();
}

cudaError_t kernel_bias(DType type, const void *x, const float *bias, void *y, int64_t n, int channels, int64_t inner,
                        bool rectify, cudaStream_t stream)
{
    if (n <= 0 || channels <= 0 || inner <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_bias, x, bias, y, n, channels, inner, rectify, stream);
}
