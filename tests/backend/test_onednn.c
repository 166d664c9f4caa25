/* The oneDNN wrapper against plain loops: strides, packing and bias; all three directions of a convolution. */
#include "backend/cpu/onednn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/suite.h"

enum { MOST = 1 << 16 };

static Error error;
static const float CANARY = 12345;

/* --- buffers --- */

static float *numbers(uint64_t seed)
{
    float *made = aligned_alloc(64, MOST * sizeof(float));
    Rng rng = rng_make(seed, RNG_STREAM_TEST);
    for (int i = 0; i < MOST; i++)
        made[i] = (float)rng_normal(&rng);
    return made;
}

static float *canaries(void)
{
    float *made = aligned_alloc(64, MOST * sizeof(float));
    for (int i = 0; i < MOST; i++)
        made[i] = CANARY;
    return made;
}

static void run(OneDnnCall *call, float *a, float *b, float *bias, float *c, bool packed)
{
    const size_t bytes = onednn_scratch_bytes(call);
    void *scratch = aligned_alloc(64, (bytes + 64) / 64 * 64);
    ck_assert_uint_gt(strlen(onednn_implementation(call)), 0);
    if (packed) onednn_pack(call, b);
    onednn_bind(call, a, packed ? NULL : b, bias, c, scratch);
    onednn_run(call);
    onednn_run(call); /* any number of times: the same result */
    onednn_destroy(call);
    free(scratch);
}

static void expect(float found, double wanted, double scale, const char *what, int64_t index)
{
    ck_assert_msg(fabs((double)found - wanted) <= 1e-5 * scale, "%s [%ld] is %g, expected %g", what, (long)index,
                  (double)found, wanted);
}

/* --- matrix products --- */

static void check_matmul(const OneDnnMatmul *p)
{
    onednn_use_one_thread();
    float *a = numbers(1), *b = numbers(2), *bias = numbers(3), *c = canaries();
    OneDnnCall *call = NULL;
    ck_assert_msg(onednn_matmul_create(p, &call, &error) == STATUS_OK, "%s", error.message);
    run(call, a, b, bias, c, p->packed);
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            double sum = p->bias ? (double)bias[j] : 0;
            for (int64_t k = 0; k < p->k; k++)
                sum += (double)a[i * p->a_row + k * p->a_column] * (double)b[k * p->b_row + j * p->b_column];
            expect(c[i * p->c_row + j], sum, 1 + (double)p->k, "product", i * p->n + j);
        }
        for (int64_t j = p->n; j < p->c_row; j++) /* what lies between the rows isn't touched */
            ck_assert_float_eq(c[i * p->c_row + j], CANARY);
    }
    ck_assert_float_eq(c[(p->m - 1) * p->c_row + p->n], CANARY);
    free(a);
    free(b);
    free(bias);
    free(c);
}

/* Dense operands, each transposed or not; then rows that lie in a wider matrix. */
static void check_sizes(int64_t m, int64_t n, int64_t k)
{
    for (int form = 0; form < 32; form++) {
        const bool ta = form & 1, tb = form & 2, packed = form & 4, bias = form & 8, wide = form & 16;
        const int64_t more = wide ? 3 : 0;
        check_matmul(&(OneDnnMatmul){.m = m,
                                     .n = n,
                                     .k = k,
                                     .a_row = ta ? 1 : k + more,
                                     .a_column = ta ? m + more : 1,
                                     .b_row = tb ? 1 : n + more,
                                     .b_column = tb ? k + more : 1,
                                     .c_row = n + more,
                                     .bias = bias,
                                     .packed = packed});
    }
}

START_TEST(products_are_those_of_loops)
{
    const int64_t sizes[][3] = {{1, 1, 1}, {1, 10, 7}, {5, 1, 3}, {3, 2, 1}, {16, 16, 16}, {17, 31, 13}, {64, 48, 100}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_sizes(sizes[i][0], sizes[i][1], sizes[i][2]);
}
END_TEST

/* A packed matrix is a copy: it stays what it was until it is packed again. */
START_TEST(packing_copies)
{
    float *a = numbers(1), *b = numbers(2), *c = canaries(), *scratch = aligned_alloc(64, 1 << 20);
    const OneDnnMatmul product = {
        .m = 8, .n = 24, .k = 16, .a_row = 16, .a_column = 1, .b_row = 1, .b_column = 16, .c_row = 24, .packed = true};
    float before[8 * 24];
    OneDnnCall *call = NULL;
    onednn_use_one_thread();
    ck_assert_int_eq(onednn_matmul_create(&product, &call, &error), STATUS_OK);
    ck_assert_uint_le(onednn_scratch_bytes(call), 1 << 20);
    onednn_bind(call, a, NULL, NULL, c, scratch);
    onednn_pack(call, b);
    onednn_run(call);
    memcpy(before, c, sizeof before);
    for (int i = 0; i < 16 * 24; i++)
        b[i] *= 2;
    onednn_run(call);
    ck_assert_mem_eq(c, before, sizeof before);
    onednn_pack(call, b);
    onednn_run(call);
    for (int i = 0; i < 8 * 24; i++)
        ck_assert_float_eq_tol(c[i], 2 * before[i], 1e-4f);
    onednn_destroy(call);
    free(a);
    free(b);
    free(c);
    free(scratch);
}
END_TEST

/* --- convolutions --- */

static int64_t in_index(const OneDnnConvolution *p, int64_t n, int64_t c, int64_t row, int64_t column)
{
    return ((n * p->in_channels + c) * p->in_rows + row) * p->in_columns + column;
}

typedef void Visit(double *sums, int64_t out, int64_t in, int64_t weight, int64_t channel, const float *const *given);

/* Calls `visit` for every product of the convolution: output element, input element, weight. */
static void each_product(const OneDnnConvolution *p, Visit *visit, double *sums, const float *const *given)
{
    const int64_t in_group = p->in_channels / p->groups, out_group = p->out_channels / p->groups;
    int64_t out = 0;
    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t o = 0; o < p->out_channels; o++)
            for (int64_t y = 0; y < p->out_rows; y++)
                for (int64_t x = 0; x < p->out_columns; x++, out++)
                    for (int64_t i = 0; i < in_group * p->kernel[0] * p->kernel[1]; i++) {
                        const int64_t c = i / (p->kernel[0] * p->kernel[1]);
                        const int64_t ky = i / p->kernel[1] % p->kernel[0], kx = i % p->kernel[1];
                        const int64_t row = y * p->stride[0] + ky - p->padding[0];
                        const int64_t column = x * p->stride[1] + kx - p->padding[1];
                        if (row < 0 || row >= p->in_rows || column < 0 || column >= p->in_columns) continue;
                        const int64_t in = in_index(p, n, o / out_group * in_group + c, row, column);
                        visit(sums, out, in, o * in_group * p->kernel[0] * p->kernel[1] + i, o, given);
                    }
}

static void to_output(double *sums, int64_t out, int64_t in, int64_t weight, int64_t channel, const float *const *given)
{
    (void)channel;
    sums[out] += (double)given[0][in] * (double)given[1][weight];
}

static void to_input(double *sums, int64_t out, int64_t in, int64_t weight, int64_t channel, const float *const *given)
{
    (void)channel;
    sums[in] += (double)given[0][out] * (double)given[1][weight];
}

static void to_weight(double *sums, int64_t out, int64_t in, int64_t weight, int64_t channel, const float *const *given)
{
    (void)channel;
    sums[weight] += (double)given[0][out] * (double)given[1][in];
}

static void check_convolution(OneDnnConvolution p)
{
    onednn_use_one_thread();
    float *a = numbers(1), *b = numbers(2), *bias = numbers(3), *c = canaries();
    double *sums = calloc(MOST, sizeof *sums);
    const float *const given[] = {a, b};
    const int64_t map = p.out_rows * p.out_columns;
    const int64_t weights = p.out_channels * p.in_channels / p.groups * p.kernel[0] * p.kernel[1];
    const int64_t inputs = p.batch * p.in_channels * p.in_rows * p.in_columns, outputs = p.batch * p.out_channels * map;
    Visit *const visits[] = {to_output, to_input, to_weight};
    const int64_t counts[] = {outputs, inputs, weights};
    OneDnnCall *call = NULL;
    ck_assert_msg(onednn_convolution_create(&p, &call, &error) == STATUS_OK, "%s", error.message);
    each_product(&p, visits[p.direction], sums, given);
    run(call, a, b, p.bias || p.direction == ONEDNN_GRAD_PARAMETERS ? bias : NULL, c, false);
    for (int64_t i = 0; i < counts[p.direction]; i++) {
        double wanted = sums[i];
        if (p.direction == ONEDNN_FORWARD && p.bias) wanted += (double)bias[i / map % p.out_channels];
        expect(c[i], wanted, 50, "convolution", i);
    }
    ck_assert_float_eq(c[counts[p.direction]], CANARY);
    for (int64_t o = 0; p.direction == ONEDNN_GRAD_PARAMETERS && p.bias && o < p.out_channels; o++) {
        double sum = 0;
        for (int64_t i = 0; i < outputs; i++)
            if (i / map % p.out_channels == o) sum += (double)a[i];
        expect(bias[o], sum, 50, "bias gradient", o);
    }
    free(a);
    free(b);
    free(bias);
    free(c);
    free(sums);
}

/* One convolution in all directions, with and without bias. */
static void check_shape(int64_t batch, int64_t in, int64_t out, int64_t side, int64_t kernel, int64_t stride,
                        int64_t padding, int64_t groups)
{
    const int64_t rows = (side + 2 * padding - kernel) / stride + 1;
    const int64_t columns = (side + 1 + 2 * padding - kernel) / stride + 1; /* not square */
    OneDnnConvolution p = {.batch = batch,
                           .in_channels = in,
                           .in_rows = side,
                           .in_columns = side + 1,
                           .out_channels = out,
                           .out_rows = rows,
                           .out_columns = columns,
                           .groups = groups,
                           .kernel = {kernel, kernel},
                           .stride = {stride, stride},
                           .padding = {padding, padding}};
    for (int direction = 0; direction < 3; direction++)
        for (int form = 0; form < 2; form++) {
            p.direction = (OneDnnDirection)direction;
            p.bias = form > 0 && direction != ONEDNN_GRAD_INPUT;
            check_convolution(p);
        }
}

START_TEST(convolutions_are_those_of_loops)
{
    check_shape(1, 1, 1, 1, 1, 1, 0, 1);
    check_shape(2, 1, 10, 12, 5, 1, 0, 1);
    check_shape(3, 10, 20, 9, 5, 1, 0, 1);
    check_shape(2, 3, 7, 11, 3, 2, 1, 1);
    check_shape(2, 8, 12, 7, 3, 1, 1, 4);
    check_shape(1, 6, 6, 8, 3, 2, 2, 6);
    check_shape(2, 16, 16, 6, 1, 1, 0, 1);
}
END_TEST

START_TEST(it_says_what_it_is)
{
    char text[64];
    ck_assert_ptr_nonnull(strstr(onednn_version_text(text, sizeof text), "oneDNN"));
    const int bits = onednn_vector_bits();
    ck_assert(bits == 128 || bits == 256 || bits == 512);
}
END_TEST

SUITE_MAIN("onednn", products_are_those_of_loops, packing_copies, convolutions_are_those_of_loops, it_says_what_it_is)
