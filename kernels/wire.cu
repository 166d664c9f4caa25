/* Tensors as they travel: float to int8 and back, by blocks of KERNEL_WIRE_BLOCK numbers; x [count].
 *
 *   scale = max |x| / 127, q = x / scale rounded to nearest even;  x' = q scale
 *
 * A block of zeros has scale 0. One with a NaN or an infinity has that for its scale, and arrives as NaN: a peer sees
 * that something is wrong. Sixteen threads have a block, four numbers each. */
#include "device.cuh"

constexpr int WIDTH = 4; /* numbers a thread */
constexpr int TEAM = KERNEL_WIRE_BLOCK / WIDTH;

/* The maximum over a team of threads; NaN wins. */
__device__ inline float team_max(float value)
{
    for (int distance = TEAM / 2; distance > 0; distance /= 2) {
        const float other = __shfl_xor_sync(FULL_MASK, value, distance);
        value = isnan(other) || other > value ? other : value;
    }
    return value;
}

__device__ inline int8_t quantise(float x, float scale)
{
    if (!(scale > 0)) return 0;
    const float q = rintf(x / scale);
    return (int8_t)(q > 127 ? 127 : q < -127 ? -127 : isnan(q) ? 0 : q);
}

/* Elements at .. at + 3, as far as there are so many; the others are 0. */
template <class T> __device__ inline Pack<float, WIDTH> load_some(const T *x, int64_t at, int64_t count, bool packs)
{
    Pack<float, WIDTH> out;
    if (packs && at + WIDTH <= count) {
        const Pack<T, WIDTH> in = load_pack<WIDTH>(x + at);
        for (int k = 0; k < WIDTH; k++)
            out.at[k] = to_float(in.at[k]);
    } else {
        for (int k = 0; k < WIDTH; k++)
            out.at[k] = at + k < count ? to_float(x[at + k]) : 0;
    }
    return out;
}

/* `teams`: blocks of numbers, rounded up so that every warp has work for all its teams. */
template <class T>
__global__ void __launch_bounds__(BLOCK)
    pack_i8_kernel(const T *x, int8_t *q, float *scales, int64_t count, int64_t teams, bool packs)
{
    for (int64_t team = grid_thread() / TEAM; team < teams; team += grid_threads() / TEAM) {
        const int64_t at = team * KERNEL_WIRE_BLOCK + threadIdx.x % TEAM * WIDTH;
        const Pack<float, WIDTH> values = load_some(x, at, count, packs);
        float largest = 0;
        for (int k = 0; k < WIDTH; k++) {
            const float size = fabsf(values.at[k]);
            largest = isnan(size) || size > largest ? size : largest;
        }
        const float scale = team_max(largest) / 127;
        Pack<int8_t, WIDTH> out;
        for (int k = 0; k < WIDTH; k++)
            out.at[k] = quantise(values.at[k], scale);
        if (packs && at + WIDTH <= count)
            store_pack(q + at, out);
        else
            for (int k = 0; k < WIDTH; k++)
                if (at + k < count) q[at + k] = out.at[k];
        if (threadIdx.x % TEAM == 0 && at < count) scales[team] = scale;
    }
}

template <class T>
static cudaError_t launch_pack_i8(const void *x, int8_t *q, float *scales, int64_t count, cudaStream_t stream)
{
    constexpr int warp_teams = WARP / TEAM;
    const int64_t blocks = (count + KERNEL_WIRE_BLOCK - 1) / KERNEL_WIRE_BLOCK;
    const int64_t teams = (blocks + warp_teams - 1) / warp_teams * warp_teams;
    const bool packs = aligned(x, WIDTH * sizeof(T)) && aligned(q, WIDTH);
    LAUNCH(pack_i8_kernel<T>, blocks_for(teams * TEAM, MAX_BLOCKS), BLOCK, 0, stream, static_cast<const T *>(x), q,
           scales, count, teams, packs);
    return cudaGetLastError();
}

cudaError_t kernel_pack_i8(DType type, const void *x, int8_t *q, float *scales, int64_t count, cudaStream_t stream)
{
    if (count <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_pack_i8, x, q, scales, count, stream);
}

/* A NaN or an infinite scale gives NaN, whatever q. */
__device__ inline float unquantise(int8_t q, float scale)
{
    return isfinite(scale) ? (float)q * scale : NAN;
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
    unpack_i8_kernel(const int8_t *q, const float *scales, T *x, int64_t count, int64_t packs)
{
    for (int64_t i = grid_thread(); i < packs; i += grid_threads()) {
        const Pack<int8_t, WIDTH> in = load_pack<WIDTH>(q + i * WIDTH);
        const float scale = scales[i * WIDTH / KERNEL_WIRE_BLOCK];
        Pack<T, WIDTH> out;
        for (int k = 0; k < WIDTH; k++)
            from_float(unquantise(in.at[k], scale), &out.at[k]);
        store_pack(x + i * WIDTH, out);
    }
    for (int64_t i = packs * WIDTH + grid_thread(); i < count; i += grid_threads())
        from_float(unquantise(q[i], scales[i / KERNEL_WIRE_BLOCK]), &x[i]);
}

template <class T>
static cudaError_t launch_unpack_i8(const int8_t *q, const float *scales, void *x, int64_t count, cudaStream_t stream)
{
    const int64_t packs = aligned(x, WIDTH * sizeof(T)) && aligned(q, WIDTH) ? count / WIDTH : 0;
    LAUNCH(unpack_i8_kernel<T>, blocks_for(packs ? packs : count, MAX_BLOCKS), BLOCK, 0, stream, q, scales,
           static_cast<T *>(x), count, packs);
    return cudaGetLastError();
}

cudaError_t kernel_unpack_i8(const int8_t *q, const float *scales, DType type, void *x, int64_t count,
                             cudaStream_t stream)
{
    if (count <= 0) return cudaSuccess;
    RETURN_FOR_TYPE(type, launch_unpack_i8, q, scales, x, count, stream);
}
