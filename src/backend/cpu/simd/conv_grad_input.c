/* The gradient of a convolution's input, in lanes layout.
 *
 * Row by row: a row of dx is the sum, over output channels and kernel rows, of a row of dy spread by the kernel row's
 * taps. SPAN pixels of dy spread over SPAN + taps - 1 accumulators: each vector of dy is loaded once for all taps, and
 * no product with a zero of padding is made (as gathering would at the borders, which are most of a 12x12 image). The
 * next span overlaps by taps - 1 columns and begins from what this one left in memory. */
#include "backend/cpu/simd/kernels.h"

enum { SPAN = 8 };

/* Where the gradient of a block is, and the output rows that reach an input row. */
typedef struct Source {
    const float *dy; /* row 0 of channel 0 of the block */
    int64_t channel; /* floats between channels */
    int64_t row_begin, row_end;
} Source;

static Source source(const SimdConv *c, const float *dy, int64_t block, int64_t row)
{
    const int64_t plane = c->out_height * c->out_width * L;
    const int64_t begin = int_max(0, row + c->pad_top - c->kernel_height + 1);
    return (Source){dy + block * c->out_channels * plane, plane, begin, int_min(c->out_height, row + 1 + c->pad_top)};
}

/* `span` columns of dy from `column` on, for one input channel and row. weight is [oc 0][ic][0][0]. */
INLINE void spread(const SimdConv *c, const Source *s, const float *weight, int64_t row, int64_t column, const int span,
                   const int taps, float *dx)
{
    const int64_t per_output = c->in_channels * c->kernel_height * taps;
    Vec sum[SPAN + 4];
    UNROLL for (int j = 0; j < span + taps - 1; j++)
    {
        const int64_t at = column + j - c->pad_left;
        sum[j] = column > 0 && j < taps - 1 && at >= 0 && at < c->in_width ? vec_load(dx + at * L) : (Vec){0};
    }
    for (int64_t oc = 0; oc < c->out_channels; oc++, weight += per_output) {
        for (int64_t oy = s->row_begin; oy < s->row_end; oy++) {
            const float *w = weight + (row + c->pad_top - oy) * taps;
            const float *dy = s->dy + oc * s->channel + (oy * c->out_width + column) * L;
            Vec factor[5];
            UNROLL for (int k = 0; k < taps; k++)
            {
                factor[k] = vec_splat(w[k]);
            }
            UNROLL for (int j = 0; j < span; j++)
            {
                Vec g = vec_load(dy + j * L);
                UNROLL for (int k = 0; k < taps; k++)
                {
                    sum[j + k] += g * factor[k];
                }
            }
        }
    }
    UNROLL for (int j = 0; j < span + taps - 1; j++)
    {
        const int64_t at = column + j - c->pad_left;
        if (at >= 0 && at < c->in_width) vec_store(dx + at * L, sum[j]);
    }
}

INLINE void spread_row(const SimdConv *c, const Source *s, const float *weight, int64_t row, const int taps, float *dx)
{
    int64_t column = 0;
    for (; column + SPAN <= c->out_width; column += SPAN) {
        spread(c, s, weight, row, column, SPAN, taps, dx);
    }
    for (; column + 2 <= c->out_width; column += 2) {
        spread(c, s, weight, row, column, 2, taps, dx);
    }
    for (; column < c->out_width; column++) {
        spread(c, s, weight, row, column, 1, taps, dx);
    }
}

/* One pixel of any kernel: gathers. */
static Vec gather(const SimdConv *c, const Source *s, const float *weight, int64_t row, int64_t column)
{
    const int64_t right = column + c->pad_left, kernel = c->kernel_height * c->kernel_width;
    const int64_t begin = int_max(0, right - c->out_width + 1), end = int_min(c->kernel_width, right + 1);
    Vec sum = {0};
    for (int64_t oc = 0; oc < c->out_channels; oc++, weight += c->in_channels * kernel) {
        for (int64_t oy = s->row_begin; oy < s->row_end; oy++) {
            const float *w = weight + (row + c->pad_top - oy) * c->kernel_width;
            const float *dy = s->dy + oc * s->channel + (oy * c->out_width + right) * L;
            for (int64_t kx = begin; kx < end; kx++) {
                sum += vec_load(dy - kx * L) * vec_splat(w[kx]);
            }
        }
    }
    return sum;
}

static void input_row(const SimdConv *c, const Source *s, const float *weight, int64_t row, float *dx)
{
    if (c->kernel_width == 5) {
        spread_row(c, s, weight, row, 5, dx);
    } else if (c->kernel_width == 3) {
        spread_row(c, s, weight, row, 3, dx);
    } else {
        for (int64_t column = 0; column < c->in_width; column++) {
            vec_store(dx + column * L, gather(c, s, weight, row, column));
        }
    }
}

void LEVEL(conv2d_grad_input_lanes)(const SimdConv *c, const float *dy, const float *weight, float *dx, int64_t begin,
                                    int64_t end)
{
    const int64_t in_row = c->in_width * L, kernel = c->kernel_height * c->kernel_width;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t block = unit / c->in_height, row = unit % c->in_height;
        const Source s = source(c, dy, block, row);
        for (int64_t ic = 0; ic < c->in_channels; ic++) {
            input_row(c, &s, weight + ic * kernel, row,
                      dx + ((block * c->in_channels + ic) * c->in_height + row) * in_row);
        }
    }
}
