#include "simd_support.h"

#include <string.h>

enum { COUNT = 403, CUT = 137 };

static void simple_at_level(const SimdKernels *k)
{
    Rng rng = rng_make(7, RNG_STREAM_TEST);
    float *a = whole_floats(&rng, COUNT, 9), *b = whole_floats(&rng, COUNT, 9), *y = whole_floats(&rng, COUNT, 9);
    float *before = exact_floats(COUNT);
    memcpy(before, y, COUNT * sizeof *y);
#define CHECK_ALL(call_low, call_high, expected)                                                                       \
    do {                                                                                                               \
        call_low;                                                                                                      \
        call_high;                                                                                                     \
        for (int i = 0; i < COUNT; i++)                                                                                \
            ck_same(y[i], expected);                                                                                   \
    } while (0)
    CHECK_ALL(k->axpy(3, a, y, 0, CUT), k->axpy(3, a, y, CUT, COUNT), before[i] + 3 * a[i]);
    CHECK_ALL(k->relu(a, y, 0, CUT), k->relu(a, y, CUT, COUNT), a[i] > 0 ? a[i] : 0);
    CHECK_ALL(k->relu_grad(a, b, y, 0, CUT), k->relu_grad(a, b, y, CUT, COUNT), a[i] > 0 ? b[i] : 0);
    CHECK_ALL(k->add(a, b, y, 0, CUT), k->add(a, b, y, CUT, COUNT), a[i] + b[i]);
    CHECK_ALL(k->mul(a, b, y, 0, CUT), k->mul(a, b, y, CUT, COUNT), a[i] * b[i]);
    CHECK_ALL(k->affine(a, 2, -7, y, 0, CUT), k->affine(a, 2, -7, y, CUT, COUNT), 2 * a[i] - 7);
    CHECK_ALL(k->difference(a, b, 0.5f, y, 0, CUT), k->difference(a, b, 0.5f, y, CUT, COUNT), 0.5f * (a[i] - b[i]));
    a[5] = NAN;
    k->relu(a, y, 0, COUNT);
    ck_assert_float_nan(y[5]);
    memcpy(y, b, COUNT * sizeof *y); /* in place */
    k->add(y, y, y, 0, COUNT);
    for (int i = 0; i < COUNT; i++)
        ck_same(y[i], 2 * b[i]);
    free(a);
    free(b);
    free(y);
    free(before);
}

static void sums_at_level(const SimdKernels *k)
{
    Rng rng = rng_make(8, RNG_STREAM_TEST);
    float *a = whole_floats(&rng, COUNT, 9), *b = whole_floats(&rng, COUNT, 9);
    double squares = 0, differences = 0;
    for (int i = 0; i < COUNT; i++) {
        squares += (double)(a[i] * a[i]);
        differences += (double)((a[i] - b[i]) * (a[i] - b[i]));
    }
    ck_same(k->sum_of_squares(a, 0, CUT) + k->sum_of_squares(a, CUT, COUNT), squares);
    ck_same(k->squared_difference(a, b, 0, CUT) + k->squared_difference(a, b, CUT, COUNT), differences);
    ck_same(k->sum_of_squares(a, 3, 3), 0);
    free(a);
    free(b);
}

/* Three steps, against the definition in double. */
static void check_sgd(const SimdKernels *k, bool nesterov)
{
    Rng rng = rng_make(9, RNG_STREAM_TEST);
    const SimdSgd s = {0.1f, 0.9f, 0.01f, nesterov};
    float *g = uniform_floats(&rng, COUNT, -1, 1);
    float *v = uniform_floats(&rng, COUNT, -1, 1), *w = uniform_floats(&rng, COUNT, -1, 1);
    double velocity[COUNT], weight[COUNT];
    for (int i = 0; i < COUNT; i++) {
        velocity[i] = (double)v[i];
        weight[i] = (double)w[i];
        for (int step = 0; step < 3; step++) {
            const double sum = (double)g[i] + 0.01 * weight[i];
            velocity[i] = 0.9 * velocity[i] + sum;
            weight[i] -= 0.1 * (nesterov ? sum + 0.9 * velocity[i] : velocity[i]);
        }
    }
    float *whole_v = exact_floats(COUNT), *whole_w = exact_floats(COUNT);
    memcpy(whole_v, v, COUNT * sizeof *v);
    memcpy(whole_w, w, COUNT * sizeof *w);
    for (int step = 0; step < 3; step++) {
        k->sgd_momentum(&s, g, whole_v, whole_w, 0, COUNT);
        k->sgd_momentum(&s, g, v, w, 0, CUT);
        k->sgd_momentum(&s, g, v, w, CUT, COUNT);
    }
    for (int i = 0; i < COUNT; i++) {
        ck_near(v[i], velocity[i], 2e-6);
        ck_near(w[i], weight[i], 2e-6);
        ck_same(v[i], whole_v[i]); /* any split gives the same bits */
        ck_same(w[i], whole_w[i]);
    }
    free(whole_v);
    free(whole_w);
    free(g);
    free(v);
    free(w);
}

static void sgd_at_level(const SimdKernels *k)
{
    check_sgd(k, false);
    check_sgd(k, true);
}

/* The definition in double, in steps over all of which P isn't 0 or 1, and beyond. */
static void check_gelu(const SimdKernels *k, bool by_tanh)
{
    enum { STEPS = 50001 };
    float *x = exact_floats(STEPS), *y = exact_floats(STEPS), *dy = exact_floats(STEPS), *dx = exact_floats(STEPS);
    for (int i = 0; i < STEPS; i++) {
        x[i] = 25.0f * (float)(i - STEPS / 2) / (STEPS / 2);
        dy[i] = i % 2 ? -3 : 3;
    }
    k->gelu(x, by_tanh, y, 0, CUT);
    k->gelu(x, by_tanh, y, CUT, STEPS);
    k->gelu_grad(dy, x, by_tanh, dx, 0, CUT);
    k->gelu_grad(dy, x, by_tanh, dx, CUT, STEPS);
    for (int i = 0; i < STEPS; i++) {
        const double at = (double)x[i], rest = exp(-2 * sqrt(M_2_PI) * (at + 0.044715 * at * at * at));
        const double share = by_tanh ? 1 / (1 + rest) : 0.5 * erfc(-at * M_SQRT1_2);
        const double other = by_tanh ? 1 / (1 + 1 / rest) : 0;
        const double density = by_tanh ? share * other * 2 * sqrt(M_2_PI) * (1 + 3 * 0.044715 * at * at)
                                       : exp(-at * at / 2) * sqrt(M_2_PI) / 2;
        const double slope = share + at * density;
        ck_near(y[i], at * share, 1e-6 * fmax(fabs(at * share), 0.01));
        ck_near(dx[i], (double)dy[i] * slope, 5e-7 * 3);
    }
    float far[5] = {-INFINITY, -1e30f, 1e30f, INFINITY, NAN}, ones[5] = {1, 1, 1, 1, 1}, slopes[5];
    k->gelu_grad(ones, far, by_tanh, slopes, 0, 5);
    k->gelu(far, by_tanh, far, 0, 5); /* in place */
    for (int i = 0; i < 4; i++) {
        ck_same(far[i], i < 2 ? 0 : i == 2 ? 1e30f : INFINITY);
        ck_near(slopes[i], i < 2 ? 0 : 1, 1e-30);
    }
    ck_assert_float_nan(far[4]);
    ck_assert_float_nan(slopes[4]);
    free(x);
    free(y);
    free(dy);
    free(dx);
}

static void gelu_at_level(const SimdKernels *k)
{
    check_gelu(k, false);
    check_gelu(k, true);
}

static const int64_t class_counts[] = {1, 2, 10, 16, 33, 130};
enum { ROWS = 7 };

/* softmax of [0, -x] is [1, e^-x] / (1 + e^-x): with x from 0 to 110 every part of exp is used, denormals included. */
static void exp_at_level(const SimdKernels *k)
{
    for (int i = 0; i <= 110000; i++) {
        const float x = -0.001f * (float)i;
        float in[34] = {0}, out[34];
        for (int j = 1; j < 34; j++)
            in[j] = -200; /* exp is 0 */
        in[17] = x;
        k->softmax(in, 34, out, 0, 1);
        const double e = exp((double)x), expected = e / (1 + e);
        const double unit = (double)(nextafterf((float)expected, 2) - (float)expected);
        /* From -17.5 on the sum is 1, and this is exp itself; before, as much again for sum, reciprocal and product. */
        ck_near(out[17], expected, (x < -17.5f ? 2 : 4) * unit);
        ck_same(out[1], 0);
    }
}

static void softmax_at_level(const SimdKernels *k)
{
    Rng rng = rng_make(10, RNG_STREAM_TEST);
    for (size_t s = 0; s < sizeof class_counts / sizeof class_counts[0]; s++) {
        const int64_t classes = class_counts[s], count = ROWS * classes;
        float *x = uniform_floats(&rng, count, -30, 30), *y = exact_floats(count);
        k->softmax(x, classes, y, 0, 2);
        k->softmax(x, classes, y, 2, ROWS);
        for (int64_t row = 0; row < ROWS; row++) {
            double sum = 0;
            for (int64_t i = 0; i < classes; i++)
                sum += exp((double)x[row * classes + i]);
            for (int64_t i = row * classes; i < (row + 1) * classes; i++) {
                const double p = exp((double)x[i]) / sum;
                ck_near(y[i], p, 4e-6 * p + 1e-38); /* x - maximum is rounded: up to 2e-6 of it for |60| */
            }
        }
        k->softmax(x, classes, x, 0, ROWS); /* in place, and in one range: the same bits */
        for (int64_t i = 0; i < count; i++)
            ck_same(x[i], y[i]);
        free(x);
        free(y);
    }
    float bad[8] = {0, NAN, 1, INFINITY, NAN, 1, 0, 1}, out[8];
    k->softmax(bad, 2, out, 0, 4);
    for (int i = 0; i < 6; i++)
        ck_assert_float_nan(out[i]);
    ck_near(out[6] + out[7], 1, 1e-6); /* the rows beside are left alone */
}

static void dropout_at_level(const SimdKernels *k)
{
    const uint64_t seed = UINT64_C(0x123456789abcdef), step = UINT64_C(0x500000007);
    const double rates[] = {0, 0.5, 0.3, 1 - 0x1p-53};
    for (int r = 0; r < 4; r++)
        for (int64_t begin = 0; begin < 6; begin++) {
            const int64_t end = 150 + begin;
            float *mask = exact_floats(end - begin);
            k->dropout_mask(seed, step, 9, rates[r], mask, begin, 77);
            k->dropout_mask(seed, step, 9, rates[r], mask + (77 - begin), 77, end);
            for (int64_t i = begin; i < end; i++) {
                const double word = (double)rng_mask_word(seed, step, 9, (uint64_t)i);
                ck_same(mask[i - begin], word >= rates[r] * 0x1p32 ? (float)(1 / (1 - rates[r])) : 0);
            }
            free(mask);
        }
}

/* A mask so long that the counter passes 2^32, in the middle of a vector. */
static void dropout_carry_at_level(const SimdKernels *k)
{
    const int64_t begin = INT64_C(0x3ffffffe5), end = begin + 200;
    float *mask = exact_floats(end - begin);
    k->dropout_mask(1, 2, 3, 0.5, mask, begin, end);
    for (int64_t i = begin; i < end; i++)
        ck_same(mask[i - begin], rng_mask_word(1, 2, 3, (uint64_t)i) >= 0x80000000u ? 2 : 0);
    free(mask);
}

static void dropout_lanes_at_level(const SimdKernels *k)
{
    for (int b = 0; b < TEST_BATCHES; b++) {
        const int64_t batch = test_batches[b], channels = 7, units = simd_blocks(k, batch) * channels;
        float *mask = exact_floats(units * k->lanes);
        k->dropout_mask_lanes(3, 4, 5, 0.5, batch, channels, mask, 0, 3);
        k->dropout_mask_lanes(3, 4, 5, 0.5, batch, channels, mask, 3, units);
        for (int64_t n = 0; n < simd_blocks(k, batch) * k->lanes; n++)
            for (int64_t c = 0; c < channels; c++) {
                const bool kept = rng_mask_word(3, 4, 5, (uint64_t)(n * channels + c)) >= 0x80000000u;
                ck_same(mask[lane_at(k, channels, n, c)], n < batch && kept ? 2 : 0);
            }
        free(mask);
    }
}

START_TEST(test_simple)
{
    for_each_level(simple_at_level);
}
END_TEST

START_TEST(test_sums)
{
    for_each_level(sums_at_level);
}
END_TEST

START_TEST(test_sgd)
{
    for_each_level(sgd_at_level);
}
END_TEST

START_TEST(test_gelu)
{
    for_each_level(gelu_at_level);
}
END_TEST

START_TEST(test_exp)
{
    for_each_level(exp_at_level);
}
END_TEST

START_TEST(test_softmax)
{
    for_each_level(softmax_at_level);
}
END_TEST

START_TEST(test_dropout)
{
    for_each_level(dropout_at_level);
}
END_TEST

START_TEST(test_dropout_carry)
{
    for_each_level(dropout_carry_at_level);
}
END_TEST

START_TEST(test_dropout_lanes)
{
    for_each_level(dropout_lanes_at_level);
}
END_TEST

SUITE_MAIN("simd_elementwise", test_simple, test_sums, test_sgd, test_gelu, test_exp, test_softmax, test_dropout,
           test_dropout_carry, test_dropout_lanes)
