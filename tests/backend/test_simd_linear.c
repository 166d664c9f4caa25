#include "simd_support.h"

static const int64_t inputs[] = {1, 3, 15, 16, 17, 31, 33, 64, 320, 333};
static const int64_t outputs[] = {1, 3, 4, 5, 10, 16, 17, 37};

/* Whole numbers, so the sums are exact; strides wider than rows; outputs in two ranges. */
static void check_linear(const SimdKernels *k, int64_t in, int64_t out, int64_t batch, bool relu, bool with_bias)
{
    Rng rng = rng_make((uint64_t)(in * 100 + out), RNG_STREAM_TEST);
    const int64_t x_stride = in + 2, y_stride = out + 3, y_count = (batch - 1) * y_stride + out;
    float *weight = whole_floats(&rng, out * in, 3), *bias = whole_floats(&rng, out, 20);
    float *x = whole_floats(&rng, (batch - 1) * x_stride + in, 3), *y = exact_floats(y_count);
    const float *added = with_bias ? bias : NULL;
    k->linear_rows(weight, added, x, x_stride, batch, in, relu, y, y_stride, out / 3, out);
    k->linear_rows(weight, added, x, x_stride, batch, in, relu, y, y_stride, 0, out / 3);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t o = 0; o < out; o++) {
            double sum = with_bias ? (double)bias[o] : 0;
            for (int64_t i = 0; i < in; i++)
                sum += (double)weight[o * in + i] * (double)x[b * x_stride + i];
            ck_same(y[b * y_stride + o], relu && sum < 0 ? 0 : sum);
        }
    for (int64_t i = 0; i < y_count; i++)
        ck_assert(i % y_stride < out ? isfinite(y[i]) : isnan(y[i])); /* nothing between rows is touched */
    free(weight);
    free(bias);
    free(x);
    free(y);
}

static void at_level(const SimdKernels *k)
{
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++)
        for (size_t o = 0; o < sizeof outputs / sizeof outputs[0]; o++)
            for (int64_t batch = 1; batch <= 4; batch++)
                check_linear(k, inputs[i], outputs[o], batch, (i + o) % 2 == 0, (i + o) % 3 != 0);
}

START_TEST(test_linear_rows)
{
    for_each_level(at_level);
}
END_TEST

SUITE_MAIN("simd_linear", test_linear_rows)
