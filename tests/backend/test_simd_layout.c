#include "simd_support.h"

static const int64_t feature_counts[] = {1, 3, 15, 16, 17, 63, 64, 65, 320};

/* Rows farther apart than they are long, scale and shift, in two ranges, against the definition. */
static void check_from_plain(const SimdKernels *k)
{
    Rng rng = rng_make(1, RNG_STREAM_TEST);
    for (int b = 0; b < TEST_BATCHES; b++)
        for (size_t s = 0; s < sizeof feature_counts / sizeof feature_counts[0]; s++) {
            const int64_t batch = test_batches[b], features = feature_counts[s], stride = features + 3;
            const int64_t units = simd_layout_units(k, batch, features), count = lane_count(k, batch, features);
            float *src = whole_floats(&rng, (batch - 1) * stride + features, 1000), *dst = exact_floats(count);
            k->lanes_from_plain(src, stride, batch, features, 2, -5, dst, 0, units / 2);
            k->lanes_from_plain(src, stride, batch, features, 2, -5, dst, units / 2, units);
            for (int64_t n = 0; n < simd_blocks(k, batch) * k->lanes; n++)
                for (int64_t f = 0; f < features; f++)
                    ck_same(dst[lane_at(k, features, n, f)], n < batch ? src[n * stride + f] * 2 - 5 : 0);
            free(src);
            free(dst);
        }
}

static void check_to_plain(const SimdKernels *k)
{
    Rng rng = rng_make(2, RNG_STREAM_TEST);
    for (int b = 0; b < TEST_BATCHES; b++)
        for (size_t s = 0; s < sizeof feature_counts / sizeof feature_counts[0]; s++) {
            const int64_t batch = test_batches[b], features = feature_counts[s], stride = features + 3;
            const int64_t units = simd_layout_units(k, batch, features), count = (batch - 1) * stride + features;
            float *src = whole_floats(&rng, lane_count(k, batch, features), 1000), *dst = exact_floats(count);
            k->lanes_to_plain(src, batch, features, dst, stride, units / 2, units);
            k->lanes_to_plain(src, batch, features, dst, stride, 0, units / 2);
            for (int64_t i = 0; i < count; i++) {
                if (i % stride < features)
                    ck_same(dst[i], src[lane_at(k, features, i / stride, i % stride)]);
                else
                    ck_assert_float_nan(dst[i]); /* between rows: not touched */
            }
            free(src);
            free(dst);
        }
}

START_TEST(test_from_plain)
{
    for_each_level(check_from_plain);
}
END_TEST

START_TEST(test_to_plain)
{
    for_each_level(check_to_plain);
}
END_TEST

SUITE_MAIN("simd_layout", test_from_plain, test_to_plain)
