// Kernels that break a rule each: what the simulator has to catch, by its tests. And a few that keep all rules, which
// it must not complain about.
#include "rule_kernels.h"

#include <cstring>

#include "kernels/launch.h"

constexpr int THREADS = 64;

// --- what is right ---

__global__ void reversed(float *x)
{
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[THREADS - 1 - threadIdx.x];
}

template <class T> __global__ void reversed_dynamic(T *x)
{
    DYNAMIC_SHARED(T, s);
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[THREADS - 1 - threadIdx.x];
}

__global__ void reversed_by_warp(float *x)
{
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    x[threadIdx.x] = s[threadIdx.x ^ 31];
}

__global__ void all_counts(float *x)
{
    SHARED(int, count);
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1);
    const int odd = __syncthreads_count(threadIdx.x % 2);
    const unsigned votes = __ballot_sync(0xffffffffu, threadIdx.x % 4 == 0);
    float sum = 1.0f;
    for (int by = 16; by > 0; by /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, by);
    x[threadIdx.x] = static_cast<float>(count + odd) + static_cast<float>(__popc(votes)) + sum; // 64 + 32 + 8 + 32
}

__global__ void copied(float *x)
{
    const float4 *from = reinterpret_cast<const float4 *>(x);
    float4 *to = reinterpret_cast<float4 *>(x);
    if (threadIdx.x < THREADS / 8) to[threadIdx.x + THREADS / 8] = from[threadIdx.x];
}

__global__ void axpy(float a, const float *x, float *y, int n)
{
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] += a * x[i];
}

// The last block to finish adds what all have found.
template <bool FENCED> __global__ void sum_blocks(const float *x, float *parts, unsigned *counter, float *sum, int n)
{
    SHARED(float, s, [THREADS]);
    SHARED(unsigned, arrived);
    const int i = static_cast<int>(blockIdx.x * THREADS + threadIdx.x);
    s[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    if (threadIdx.x == 0) {
        float part = 0.0f;
        for (int j = 0; j < THREADS; j++)
            part += s[j];
        parts[blockIdx.x] = part;
        if (FENCED) __threadfence();
        arrived = atomicAdd(counter, 1);
    }
    __syncthreads();
    if (arrived != gridDim.x - 1) return;
    if (threadIdx.x == THREADS - 1) {
        float total = 0.0f;
        for (unsigned j = 0; j < gridDim.x; j++)
            total += parts[j];
        *sum = total;
        *counter = 0;
    }
}

// --- what is wrong ---

__global__ void past_the_end(float *x)
{
    x[threadIdx.x + 1] = 1.0f;
}

__global__ void before_the_start(float *x)
{
    x[static_cast<int>(threadIdx.x) - 1] = 1.0f;
}

__global__ void past_shared(float *x)
{
    SHARED(float, s, [THREADS]);
    float *p = s;
    s[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = p[threadIdx.x + 1];
}

__global__ void past_dynamic(float *x)
{
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x + 1];
}

__global__ void unset_shared(float *x)
{
    SHARED(float, s, [THREADS]);
    if (threadIdx.x > 0) s[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}

__global__ void no_barrier(float *x)
{
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[THREADS - 1 - threadIdx.x];
}

__global__ void no_second_barrier(float *x)
{
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    const float other = s[THREADS - 1 - threadIdx.x];
    s[threadIdx.x] = other;
}

__global__ void no_warp_barrier(float *x)
{
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[threadIdx.x ^ 1];
}

__global__ void all_write_one(float *x)
{
    x[0] = static_cast<float>(threadIdx.x);
}

__global__ void barrier_in_a_branch(float *x)
{
    if (threadIdx.x < 20) {
        x[threadIdx.x] = 1.0f;
        __syncthreads();
    }
}

__global__ void two_barriers(float *x)
{
    if (threadIdx.x < 32) {
        __syncthreads();
        x[threadIdx.x] = 1.0f;
    } else {
        x[threadIdx.x] = 1.0f;
        __syncthreads();
    }
}

__global__ void shuffle_without_lanes(float *x)
{
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}

__global__ void shuffle_out_of_mask(float *x)
{
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_down_sync(0xffffu, x[threadIdx.x], 8);
}

__global__ void shuffle_against_barrier(float *x)
{
    if (threadIdx.x < 16)
        x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
    else
        __syncthreads();
}

__global__ void misaligned_vector(float *x)
{
    if (threadIdx.x == 0) *reinterpret_cast<float2 *>(x + 1) = make_float2(1.0f, 2.0f);
}

__global__ void too_deep(float *x)
{
    volatile float all[20000];
    for (int i = 0; i < 20000; i++)
        all[i] = x[i % THREADS];
    x[threadIdx.x] = all[threadIdx.x * 3];
}

__global__ void too_much_shared(float *x)
{
    SHARED(float, s, [12289]);
    s[threadIdx.x] = 1.0f;
    x[threadIdx.x] = s[threadIdx.x];
}

__global__ void trapped(float *x)
{
    if (threadIdx.x == 5) __trap();
    x[threadIdx.x] = 0.0f;
}

struct Table {
    float *x;
    int n;
};
__global__ void by_table(Table table)
{
    if (static_cast<int>(threadIdx.x) < table.n) table.x[threadIdx.x] = 1.0f;
}

__global__ void by_vector(float4 *x)
{
    x[0] = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}

// --- launches ---

cudaError_t rule_kernel(const char *name, float *x, cudaStream_t stream)
{
#define PLAIN(kernel)                                                                                                  \
    if (strcmp(name, #kernel) == 0) LAUNCH(kernel, 1, THREADS, 0, stream, x);
    PLAIN(reversed)
    PLAIN(reversed_by_warp)
    PLAIN(all_counts)
    PLAIN(copied)
    PLAIN(past_the_end)
    PLAIN(before_the_start)
    PLAIN(past_shared)
    PLAIN(unset_shared)
    PLAIN(no_barrier)
    PLAIN(no_second_barrier)
    PLAIN(no_warp_barrier)
    PLAIN(all_write_one)
    PLAIN(barrier_in_a_branch)
    PLAIN(two_barriers)
    PLAIN(shuffle_without_lanes)
    PLAIN(shuffle_out_of_mask)
    PLAIN(shuffle_against_barrier)
    PLAIN(misaligned_vector)
    PLAIN(too_deep)
    PLAIN(too_much_shared)
    PLAIN(trapped)
#undef PLAIN
    const size_t shared = THREADS * sizeof(float);
    if (strcmp(name, "reversed_dynamic") == 0) LAUNCH(reversed_dynamic<float>, 1, THREADS, shared, stream, x);
    if (strcmp(name, "past_dynamic") == 0) LAUNCH(past_dynamic, 1, THREADS, shared, stream, x);
    if (strcmp(name, "by_table") == 0) LAUNCH(by_table, 1, THREADS, 0, stream, (Table{x, THREADS}));
    if (strcmp(name, "by_vector") == 0) LAUNCH(by_vector, 1, 1, 0, stream, reinterpret_cast<float4 *>(x));
    if (strcmp(name, "too_many_threads") == 0) LAUNCH(reversed, 1, 1025, 0, stream, x);
    if (strcmp(name, "no_blocks") == 0) LAUNCH(reversed, 0, 64, 0, stream, x);
    if (strcmp(name, "too_much_dynamic") == 0) LAUNCH(reversed, 1, 64, 49153, stream, x);
    return cudaGetLastError();
}

cudaError_t rule_axpy(float a, const float *x, float *y, int n, cudaStream_t stream)
{
    LAUNCH(axpy, (n + 255) / 256, 256, 0, stream, a, x, y, n);
    return cudaGetLastError();
}

cudaError_t rule_sum(const float *x, float *parts, unsigned *counter, float *sum, int n, bool fenced,
                     cudaStream_t stream)
{
    const int blocks = (n + THREADS - 1) / THREADS;
    if (fenced)
        LAUNCH(sum_blocks<true>, blocks, THREADS, 0, stream, x, parts, counter, sum, n);
    else
        LAUNCH(sum_blocks<false>, blocks, THREADS, 0, stream, x, parts, counter, sum, n);
    return cudaGetLastError();
}
