#include "simd_support.h"

/* What conv2d_lanes or conv2d_plain should give, from the unpooled convolution in double. */
typedef struct Expected {
    double *y;
    uint8_t *index;
    int64_t height, width;
} Expected;

static Expected expect(const SimdConv *c, const double *full, const float *mask, bool pool, bool relu)
{
    const int64_t height = pool ? c->out_height / 2 : c->out_height, width = pool ? c->out_width / 2 : c->out_width;
    const int64_t planes = c->batch * c->out_channels, count = planes * height * width;
    Expected e = {exact_bytes(count * (int64_t)sizeof(double) + 1), exact_bytes(count + 1), height, width};
    for (int64_t i = 0; i < count; i++) {
        const int64_t plane = i / (height * width), y = i / width % height, x = i % width;
        const double factor = mask != NULL ? (double)mask[plane] : 1;
        const double *in = full + plane * c->out_height * c->out_width;
        double best = -INFINITY;
        for (int p = 0; p < (pool ? 4 : 1); p++) {
            const int64_t h = pool ? 2 * y + p / 2 : y, w = pool ? 2 * x + p % 2 : x;
            const double value = in[h * c->out_width + w] * factor;
            if (value > best) {
                best = value;
                e.index[i] = (uint8_t)p;
            }
        }
        e.y[i] = relu && best < 0 ? 0 : best;
    }
    return e;
}

static void check_variant(const SimdKernels *k, const SimdConv *c, bool pool, bool relu, bool with_bias, bool with_mask,
                          bool with_index)
{
    Rng rng = rng_make((uint64_t)(c->batch * 100 + c->in_width), RNG_STREAM_TEST);
    const int64_t in = c->in_channels * c->in_height * c->in_width, channels = c->out_channels;
    float *x = whole_floats(&rng, c->batch * in, 2), *bias = whole_floats(&rng, channels, 3);
    float *weight = whole_floats(&rng, channels * c->in_channels * c->kernel_height * c->kernel_width, 2);
    float *mask = exact_floats(c->batch * channels);
    for (int64_t i = 0; i < c->batch * channels; i++)
        mask[i] = rng_below(&rng, 2) == 0 ? 0 : 2;
    double *full = naive_conv(c, x, weight, with_bias ? bias : NULL);
    Expected e = expect(c, full, with_mask ? mask : NULL, pool, relu);
    const int64_t out = channels * e.height * e.width, count = lane_count(k, c->batch, out);
    float *x_lanes = to_lanes(k, x, c->batch, in), *mask_lanes = to_lanes(k, mask, c->batch, channels);
    float *y = exact_floats(count);
    uint8_t *index = exact_bytes(count + 1);
    SimdConvForward f = {
        x_lanes, weight, with_bias ? bias : NULL, with_mask ? mask_lanes : NULL, y, with_index ? index : NULL,
        pool,    relu};
    const int64_t units = simd_conv_units(k, c);
    k->conv2d_lanes(c, &f, units / 3, units);
    k->conv2d_lanes(c, &f, 0, units / 3);
    for (int64_t n = 0; n < c->batch; n++)
        for (int64_t i = 0; i < out; i++) {
            const int64_t at = lane_at(k, out, n, i);
            ck_same(y[at], e.y[n * out + i]);
            if (with_index) ck_same(index[at], e.index[n * out + i]);
        }
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(y[i])) ck_abort_msg("padding lane at %ld is %g, expected a finite number", (long)i, (double)y[i]);
    void *all[] = {x, bias, weight, mask, full, e.y, e.index, x_lanes, mask_lanes, y, index};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void check_full(const SimdKernels *k, const SimdConv *c)
{
    check_variant(k, c, false, false, true, false, false);
    if (c->batch <= 17) check_variant(k, c, false, true, false, true, false);
}

static void check_pooled(const SimdKernels *k, const SimdConv *c)
{
    check_variant(k, c, true, true, true, true, true);
    if (c->batch <= 17) check_variant(k, c, true, false, false, false, false);
}

static void full_at_level(const SimdKernels *k)
{
    for_each_conv(k, check_full);
}

static void pooled_at_level(const SimdKernels *k)
{
    for_each_conv(k, check_pooled);
}

START_TEST(test_lanes_full)
{
    for_each_level(full_at_level);
}
END_TEST

/* Whole numbers make ties common, so the index shows that the first maximum wins. */
START_TEST(test_lanes_pooled)
{
    for_each_level(pooled_at_level);
}
END_TEST

/* A NaN in one image reaches its own lane, and only that. */
static void nan_at_level(const SimdKernels *k)
{
    SimdConv c = {3, 1, 6, 6, 2, 4, 4, 3, 3, 0, 0};
    Rng rng = rng_make(3, RNG_STREAM_TEST);
    float *x = whole_floats(&rng, c.batch * 36, 2), *weight = whole_floats(&rng, 18, 2);
    x[36 + 7] = NAN;
    float *x_lanes = to_lanes(k, x, c.batch, 36), *y = exact_floats(lane_count(k, c.batch, 8));
    SimdConvForward f = {x_lanes, weight, NULL, NULL, y, NULL, true, true};
    k->conv2d_lanes(&c, &f, 0, simd_conv_units(k, &c));
    ck_assert_float_nan(y[lane_at(k, 8, 1, 0)]);
    ck_assert(isfinite(y[lane_at(k, 8, 1, 3)]));
    for (int64_t i = 0; i < 8; i++)
        ck_assert(isfinite(y[lane_at(k, 8, 0, i)]) && isfinite(y[lane_at(k, 8, 2, i)]));
    free(x);
    free(weight);
    free(x_lanes);
    free(y);
}

START_TEST(test_lanes_nan)
{
    for_each_level(nan_at_level);
}
END_TEST

static void check_plain_variant(const SimdKernels *k, const SimdConv *c, bool pool, bool relu, bool with_bias)
{
    Rng rng = rng_make((uint64_t)(c->batch * 100 + c->in_width), RNG_STREAM_TEST);
    const int64_t in = c->in_channels * c->in_height * c->in_width, channels = c->out_channels;
    float *x = whole_floats(&rng, c->batch * in, 2), *bias = whole_floats(&rng, channels, 3);
    float *weight = whole_floats(&rng, channels * c->in_channels * c->kernel_height * c->kernel_width, 2);
    double *full = naive_conv(c, x, weight, with_bias ? bias : NULL);
    Expected e = expect(c, full, NULL, pool, relu);
    const int64_t count = c->batch * channels * e.height * e.width, units = simd_conv_plain_units(c);
    float *y = exact_floats(count), *scratch = exact_floats(k->conv2d_plain_scratch(c));
    SimdConvForward f = {x, weight, with_bias ? bias : NULL, NULL, y, NULL, pool, relu};
    k->conv2d_plain(c, &f, scratch, channels / 2, channels, 0, units);
    k->conv2d_plain(c, &f, scratch, 0, channels / 2, units / 3, units);
    k->conv2d_plain(c, &f, scratch, 0, channels / 2, 0, units / 3);
    for (int64_t i = 0; i < count; i++)
        ck_same(y[i], e.y[i]);
    void *all[] = {x, bias, weight, full, e.y, e.index, y, scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void check_plain(const SimdKernels *k, const SimdConv *c)
{
    if (c->batch > 17) return;
    check_plain_variant(k, c, false, false, true);
    check_plain_variant(k, c, false, true, false);
    check_plain_variant(k, c, true, true, true);
    check_plain_variant(k, c, true, false, false);
}

static void plain_at_level(const SimdKernels *k)
{
    for_each_conv(k, check_plain);
}

START_TEST(test_plain)
{
    for_each_level(plain_at_level);
}
END_TEST

SUITE_MAIN("simd_conv", test_lanes_full, test_lanes_pooled, test_lanes_nan, test_plain)
