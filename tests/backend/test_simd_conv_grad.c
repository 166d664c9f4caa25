#include "simd_support.h"

/* The gradients by the definition, in double. */
typedef struct Sums {
    double *dx, *dw, *db;
} Sums;

static Sums naive_gradients(const SimdConv *c, const float *x, const float *weight, const float *dy)
{
    const int64_t in = c->in_channels * c->in_height * c->in_width, kernel = c->kernel_height * c->kernel_width;
    Sums s = {calloc((size_t)(c->batch * in), sizeof(double)),
              calloc((size_t)(c->out_channels * c->in_channels * kernel), sizeof(double)),
              calloc((size_t)c->out_channels, sizeof(double))};
    int64_t at = 0;
    for (int64_t n = 0; n < c->batch; n++)
        for (int64_t oc = 0; oc < c->out_channels; oc++)
            for (int64_t oy = 0; oy < c->out_height; oy++)
                for (int64_t ox = 0; ox < c->out_width; ox++, at++) {
                    s.db[oc] += (double)dy[at];
                    for (int64_t ic = 0; dy[at] != 0 && ic < c->in_channels; ic++)
                        for (int64_t tap = 0; tap < kernel; tap++) {
                            const int64_t h = oy + tap / c->kernel_width - c->pad_top;
                            const int64_t w = ox + tap % c->kernel_width - c->pad_left;
                            if (h < 0 || h >= c->in_height || w < 0 || w >= c->in_width) continue;
                            const int64_t pixel = ((n * c->in_channels + ic) * c->in_height + h) * c->in_width + w;
                            const int64_t factor = (oc * c->in_channels + ic) * kernel + tap;
                            s.dx[pixel] += (double)dy[at] * (double)weight[factor];
                            s.dw[factor] += (double)dy[at] * (double)x[pixel];
                        }
                }
    return s;
}

static void check_input(const SimdKernels *k, const SimdConv *c, const float *dy, const float *weight,
                        const double *expected)
{
    const int64_t in = c->in_channels * c->in_height * c->in_width, units = simd_conv_input_units(k, c);
    float *dx = exact_floats(lane_count(k, c->batch, in));
    k->conv2d_grad_input_lanes(c, dy, weight, dx, units / 3, units);
    k->conv2d_grad_input_lanes(c, dy, weight, dx, 0, units / 3);
    for (int64_t n = 0; n < simd_blocks(k, c->batch) * k->lanes; n++)
        for (int64_t i = 0; i < in; i++)
            ck_same(dx[lane_at(k, in, n, i)], n < c->batch ? expected[n * in + i] : 0);
    free(dx);
}

/* The units in two ranges with buffers of their own, added; each in two ranges of channels. */
static void check_parameters(const SimdKernels *k, const SimdConv *c, const float *dy, const float *x,
                             const Sums *expected)
{
    const int64_t in = c->in_channels * c->in_height * c->in_width, units = simd_conv_units(k, c);
    const int64_t channels = c->out_channels, count = channels * c->in_channels * c->kernel_height * c->kernel_width;
    float *x_lanes = to_lanes(k, x, c->batch, in), *scratch = exact_floats(k->grad_parameters_scratch(c));
    float *dw[2] = {exact_floats(count), exact_floats(count)},
          *db[2] = {exact_floats(channels), exact_floats(channels)};
    for (int half = 0; half < 2; half++) {
        const int64_t begin = half == 0 ? 0 : units / 3, end = half == 0 ? units / 3 : units;
        k->conv2d_grad_parameters_lanes(c, dy, x_lanes, dw[half], db[half], scratch, channels / 3, channels, begin,
                                        end);
        k->conv2d_grad_parameters_lanes(c, dy, x_lanes, dw[half], db[half], scratch, 0, channels / 3, begin, end);
    }
    for (int64_t i = 0; i < count; i++)
        ck_same(dw[0][i] + (double)dw[1][i], expected->dw[i]);
    for (int64_t i = 0; i < channels; i++)
        ck_same(db[0][i] + (double)db[1][i], expected->db[i]);
    k->conv2d_grad_parameters_lanes(c, dy, x_lanes, dw[0], NULL, scratch, 0, channels, 0, units);
    for (int64_t i = 0; i < count; i++)
        ck_same(dw[0][i], expected->dw[i]);
    void *all[] = {x_lanes, scratch, dw[0], dw[1], db[0], db[1]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void check_gradients(const SimdKernels *k, const SimdConv *c)
{
    Rng rng = rng_make((uint64_t)(c->batch * 100 + c->in_width), RNG_STREAM_TEST);
    const int64_t out = c->out_channels * c->out_height * c->out_width;
    float *x = whole_floats(&rng, c->batch * c->in_channels * c->in_height * c->in_width, 2);
    float *weight = whole_floats(&rng, c->out_channels * c->in_channels * c->kernel_height * c->kernel_width, 2);
    float *dy = whole_floats(&rng, c->batch * out, 2), *dy_lanes = to_lanes(k, dy, c->batch, out);
    Sums s = naive_gradients(c, x, weight, dy);
    check_input(k, c, dy_lanes, weight, s.dx);
    check_parameters(k, c, dy_lanes, x, &s);
    void *all[] = {x, weight, dy, dy_lanes, s.dx, s.dw, s.db};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void gradients_at_level(const SimdKernels *k)
{
    for_each_conv(k, check_gradients);
}

START_TEST(test_gradients)
{
    for_each_level(gradients_at_level);
}
END_TEST

SUITE_MAIN("simd_conv_grad", test_gradients)
