/* For the tests of the vector kernels: the levels that this CPU runs, buffers that end where they should (so that
 * AddressSanitizer sees a step beyond), small whole numbers (so that every order of additions gives the same sum, and
 * results can be compared exactly), and the lanes layout written as plain loops. */
#pragma once

#include "backend/cpu/simd/simd.h"
#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/suite.h"

static inline bool level_runs(SimdLevel level)
{
    if (simd_kernels(level) == NULL) return false;
#if defined(__x86_64__)
    if (level == SIMD_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == SIMD_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512cd");
#endif
    return true;
}

/* Calls `check` with the kernels of each level; says which it leaves out. */
static inline void for_each_level(void (*check)(const SimdKernels *k))
{
    for (int level = 0; level < SIMD_LEVEL_COUNT; level++) {
        if (level_runs((SimdLevel)level)) {
            check(simd_kernels((SimdLevel)level));
        } else {
            fprintf(stderr, "skipped: this CPU or architecture lacks simd level %d\n", level);
        }
    }
}

static inline void *exact_bytes(int64_t bytes)
{
    void *p = NULL;
    ck_assert_int_eq(posix_memalign(&p, 64, (size_t)bytes), 0);
    return p;
}

/* `count` floats, 64-byte aligned, filled with NaN so that what is not written shows. */
static inline float *exact_floats(int64_t count)
{
    float *p = exact_bytes(count * (int64_t)sizeof(float));
    for (int64_t i = 0; i < count; i++)
        p[i] = NAN;
    return p;
}

/* Whole numbers from -limit to limit. */
static inline float *whole_floats(Rng *rng, int64_t count, int limit)
{
    float *p = exact_floats(count);
    for (int64_t i = 0; i < count; i++)
        p[i] = (float)((int)rng_below(rng, (uint64_t)(2 * limit + 1)) - limit);
    return p;
}

static inline float *uniform_floats(Rng *rng, int64_t count, double low, double high)
{
    float *p = exact_floats(count);
    for (int64_t i = 0; i < count; i++)
        p[i] = (float)(low + (high - low) * rng_uniform(rng));
    return p;
}

/* Where element f of image n is in lanes layout. */
static inline int64_t lane_at(const SimdKernels *k, int64_t features, int64_t n, int64_t f)
{
    return (n / k->lanes * features + f) * k->lanes + n % k->lanes;
}

static inline int64_t lane_count(const SimdKernels *k, int64_t batch, int64_t features)
{
    return simd_blocks(k, batch) * features * k->lanes;
}

static inline float *to_lanes(const SimdKernels *k, const float *plain, int64_t batch, int64_t features)
{
    float *lanes = exact_floats(lane_count(k, batch, features));
    for (int64_t i = 0; i < lane_count(k, batch, features); i++)
        lanes[i] = 0;
    for (int64_t n = 0; n < batch; n++)
        for (int64_t f = 0; f < features; f++)
            lanes[lane_at(k, features, n, f)] = plain[n * features + f];
    return lanes;
}

/* The output of a convolution in double, [N][OC][OH][OW]; the caller frees it. */
static inline double *naive_conv(const SimdConv *c, const float *x, const float *weight, const float *bias)
{
    double *y = exact_bytes(c->batch * c->out_channels * c->out_height * c->out_width * (int64_t)sizeof *y);
    int64_t at = 0;
    for (int64_t n = 0; n < c->batch; n++)
        for (int64_t oc = 0; oc < c->out_channels; oc++)
            for (int64_t oy = 0; oy < c->out_height; oy++)
                for (int64_t ox = 0; ox < c->out_width; ox++, at++) {
                    double sum = bias != NULL ? (double)bias[oc] : 0;
                    for (int64_t ic = 0; ic < c->in_channels; ic++)
                        for (int64_t ky = 0; ky < c->kernel_height; ky++)
                            for (int64_t kx = 0; kx < c->kernel_width; kx++) {
                                const int64_t h = oy + ky - c->pad_top, w = ox + kx - c->pad_left;
                                if (h < 0 || h >= c->in_height || w < 0 || w >= c->in_width) continue;
                                sum +=
                                    (double)x[((n * c->in_channels + ic) * c->in_height + h) * c->in_width + w] *
                                    (double)
                                        weight[((oc * c->in_channels + ic) * c->kernel_height + ky) * c->kernel_width +
                                               kx];
                            }
                    y[at] = sum;
                }
    return y;
}

/* Shapes that convolutions are tested at: MNIST's two, other channel counts and kernels, odd sizes, padding. */
static const SimdConv test_convs[] = {
    {1, 1, 28, 28, 10, 24, 24, 5, 5, 0, 0}, {1, 10, 12, 12, 20, 8, 8, 5, 5, 0, 0}, {1, 1, 5, 5, 1, 1, 1, 5, 5, 0, 0},
    {1, 3, 9, 8, 7, 5, 4, 5, 5, 0, 0},      {1, 2, 7, 15, 3, 3, 11, 5, 5, 0, 0},   {1, 2, 6, 7, 4, 6, 7, 3, 3, 1, 1},
    {1, 3, 5, 11, 6, 3, 9, 3, 3, 0, 0},     {1, 4, 3, 3, 11, 3, 3, 1, 1, 0, 0},    {1, 2, 4, 6, 5, 4, 6, 5, 5, 2, 2},
    {1, 2, 8, 5, 5, 5, 5, 4, 2, 0, 1},      {1, 1, 6, 9, 2, 5, 4, 2, 7, 0, 1},     {1, 2, 5, 4, 3, 6, 3, 3, 3, 1, 0},
};
enum { TEST_CONVS = sizeof test_convs / sizeof test_convs[0] };

static const int64_t test_batches[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64};
enum { TEST_BATCHES = sizeof test_batches / sizeof test_batches[0] };

/* Every shape at a few batches, and the real ones at all: calls check(k, c). */
static inline void for_each_conv(const SimdKernels *k, void (*check)(const SimdKernels *k, const SimdConv *c))
{
    for (int i = 0; i < TEST_CONVS; i++)
        for (int b = 0; b < TEST_BATCHES; b++) {
            if (i < 2 && test_batches[b] % 16 == 15) continue; /* the real shapes are large */
            SimdConv c = test_convs[i];
            c.batch = test_batches[b];
            check(k, &c);
        }
}

/* ck_assert_double_eq for long loops: it marks no point, which is most of the time of such a loop. */
#define ck_same(value, expected)                                                                                       \
    do {                                                                                                               \
        if (!((double)(value) == (double)(expected)))                                                                  \
            ck_abort_msg("%s is %.9g, expected %.9g", #value, (double)(value), (double)(expected));                    \
    } while (0)

#define ck_near(value, expected, tolerance)                                                                            \
    do {                                                                                                               \
        if (!(fabs((double)(value) - (double)(expected)) <= (tolerance)))                                              \
            ck_abort_msg("%s is %.9g, expected %.9g", #value, (double)(value), (double)(expected));                    \
    } while (0)
