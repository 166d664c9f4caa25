/* out[c] = sum of x over n and i; x [n, channels, inner], out [channels] float: the gradient of a bias.
 *
 * Sums are in float; a thread adds about a thousandth of a channel, so rounding stays far below one sum after the
 * other. Where inner is 1, neighbouring threads read neighbouring channels; else a block has one channel, and reads
 * packs of 16 bytes where inner and the address divide by them. */
#include "device.cuh"

/* Threads of a block where few blocks have much to add, and from how many elements a channel on that pays. */
constexpr int LARGE_BLOCK = 1024, LARGE_SUM = 4096;

/* A warp adds every (blockDim / 32)-th row of 32 channels. */
template <class T>
__global__ void __launch_bounds__(LARGE_BLOCK) column_sum_kernel(const T *x, float *out, int64_t n, int channels)
{
    DYNAMIC_SHARED(float, sums);
    const int warps = (int)(blockDim.x / WARP), warp = warp_index(), lane = lane_index();
    const int channel = (int)blockIdx.x * WARP + lane;
    float sum = 0;
    if (channel < channels)
        for (int64_t row = warp; row < n; row += warps)
            sum += to_float(x[row * channels + channel]);
    sums[warp * WARP + lane] = sum;
    __syncthreads();
    if (warp == 0 && channel < channels) {
        for (int other = 1; other < warps; other++)
            sum += sums[other * WARP + lane];
        out[channel] = sum;
    }
}

template <class T, int width>
__global__ void __launch_bounds__(LARGE_BLOCK)
    channel_sum_kernel(const T *x, float *out, int64_t n, int channels, int64_t inner)
{
    DYNAMIC_SHARED(float, shared);
    const int64_t packs = inner / width; /* of a row */
    float sum = 0;
    for (int64_t i = threadIdx.x; i < n * packs; i += blockDim.x) {
        const Division at = divide(i, packs);
        const Pack<T, width> pack =
            load_pack<width>(x + (at.quotient * channels + blockIdx.x) * inner + at.rest * width);
        float part = 0;
        for (int k = 0; k < width; k++)
            part += to_float(pack.at[k]);
        sum += part;
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

template <class T>
static cudaError_t launch_channel_sum(const void *x, float *out, int64_t n, int channels, int64_t inner,
                                      cudaStream_t stream)
{
    const T *from = static_cast<const T *>(x);
    constexpr int width = pack_width<T>;
    if (inner == 1) {
        const int threads = n >= LARGE_SUM / BLOCK_WARPS ? LARGE_BLOCK : BLOCK;
        LAUNCH(column_sum_kernel<T>, (unsigned)((channels + WARP - 1) / WARP), threads, threads * sizeof(float), stream,
               from, out, n, channels);
    } else {
        const int threads = n * inner >= LARGE_SUM ? LARGE_BLOCK : BLOCK;
        const size_t shared = MAX_WARPS * sizeof(float);
        if (inner % width == 0 && aligned(x, 16))
            LAUNCH((channel_sum_kernel<T, width>), (unsigned)channels, threads, shared, stream, from, out, n, channels,
                   inner);
        else
            LAUNCH((channel_sum_kernel<T, 1>), (unsigned)channels, threads, shared, stream, from, out, n, channels,
                   inner);
    }
    return cudaGetLastError();
}

cudaError_t kernel_channel_sum(DType type, const void *x, float *out, int64_t n, int channels, int64_t inner,
                               cudaStream_t stream)
{
    if (channels <= 0) return cudaSuccess;
    if (n <= 0 || inner <= 0) return cudaMemsetAsync(out, 0, (size_t)channels * sizeof(float), stream);
    RETURN_FOR_TYPE(type, launch_channel_sum, x, out, n, channels, inner, stream);
}
