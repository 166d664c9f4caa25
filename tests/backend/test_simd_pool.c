#include "simd_support.h"

#include <string.h>

static const int64_t sizes[][2] = {{2, 2}, {3, 5}, {8, 8}, {24, 24}, {7, 4}, {6, 9}};
enum { SIZES = sizeof sizes / sizeof sizes[0], PLANES = 5 };

/* The rule, scalar by scalar: a later value wins if it is larger or NaN. */
static int64_t first_maximum(const float *values, int64_t count)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (values[i] > values[best] || isnan(values[i])) best = i;
    return best;
}

static float *values_with_nan(Rng *rng, int64_t count)
{
    float *x = whole_floats(rng, count, 2);
    for (int64_t i = 0; i < count; i++)
        if (rng_below(rng, 10) == 0) x[i] = rng_below(rng, 2) == 0 ? NAN : -INFINITY;
    return x;
}

static void assert_same(float value, float expected)
{
    if (isnan(expected))
        ck_assert_float_nan(value);
    else
        ck_same(value, expected);
}

/* Every lane is a plane of its own: with ties, NaN and infinities. */
static void lanes_at_level(const SimdKernels *k)
{
    Rng rng = rng_make(4, RNG_STREAM_TEST);
    for (int s = 0; s < SIZES; s++) {
        const int64_t height = sizes[s][0], width = sizes[s][1], lanes = k->lanes;
        const int64_t out = (height / 2) * (width / 2), count = PLANES * out * lanes;
        float *x = values_with_nan(&rng, PLANES * height * width * lanes), *y = exact_floats(count);
        uint8_t *index = exact_bytes(count);
        k->max_pool2_lanes(x, height, width, y, index, 2, PLANES);
        k->max_pool2_lanes(x, height, width, y, index, 0, 2);
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = i / lanes, plane = at / out, oy = at % out / (width / 2), ox = at % (width / 2);
            float window[4];
            for (int p = 0; p < 4; p++)
                window[p] = x[((plane * height + 2 * oy + p / 2) * width + 2 * ox + p % 2) * lanes + i % lanes];
            const int64_t best = first_maximum(window, 4);
            ck_same(index[i], best);
            assert_same(y[i], window[best]);
        }
        k->max_pool2_lanes(x, height, width, y, NULL, 0, PLANES);
        free(x);
        free(y);
        free(index);
    }
}

static void lanes_backward_at_level(const SimdKernels *k)
{
    Rng rng = rng_make(5, RNG_STREAM_TEST);
    for (int s = 0; s < SIZES; s++) {
        const int64_t height = sizes[s][0], width = sizes[s][1], lanes = k->lanes;
        const int64_t in = height * width, out = (height / 2) * (width / 2), count = PLANES * out * lanes;
        float *dy = whole_floats(&rng, count, 3);
        float *dx = exact_floats(PLANES * in * lanes), *expected = exact_floats(PLANES * in * lanes);
        uint8_t *index = exact_bytes(count);
        memset(expected, 0, (size_t)(PLANES * in * lanes) * sizeof *expected);
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = i / lanes, plane = at / out, oy = at % out / (width / 2), ox = at % (width / 2);
            index[i] = (uint8_t)rng_below(&rng, 4);
            const int64_t h = 2 * oy + index[i] / 2, w = 2 * ox + index[i] % 2;
            expected[(plane * in + h * width + w) * lanes + i % lanes] = dy[i];
        }
        k->max_pool2_lanes_backward(dy, index, height, width, dx, 0, 2);
        k->max_pool2_lanes_backward(dy, index, height, width, dx, 2, PLANES);
        for (int64_t i = 0; i < PLANES * in * lanes; i++)
            ck_same(dx[i], expected[i]);
        void *all[] = {dy, dx, expected, index};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            free(all[i]);
    }
}

START_TEST(test_lanes)
{
    for_each_level(lanes_at_level);
}
END_TEST

START_TEST(test_lanes_backward)
{
    for_each_level(lanes_backward_at_level);
}
END_TEST

SUITE_MAIN("simd_pool", test_lanes, test_lanes_backward)
