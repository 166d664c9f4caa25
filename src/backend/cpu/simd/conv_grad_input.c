/* The gradient of a convolution's input, in lanes layout.
 *
 * Row by row: a row of dx is the sum, over output channels and kernel rows, of a row of dy spread by the kernel row's
 * taps. SPAN pixels of dy spread over SPAN + taps - 1 accumulators: each vector of dy is loaded once for all taps, and
 * no product with a zero of padding is made (as gathering would at the borders, which are most of a 12x12 image). The
 * next span overlaps by taps - 1 columns and begins from what this one left in memory. */
#include "backend/cpu/simd/kernels.h"

enum { SPAN = 8 };

/* The output rows that reach an input row, and where the gradient of a block's rows is. */
typedef struct Source {
    const float *dy; /* row 0 of channel 0 of the block (it may lie before the buffer, if only later rows are there) */
    int64_t channel; /* floats between channels */
    int64_t row_begin, row_end;
} Source;

int64_t LEVEL(grad_input_scratch)(const SimdConv *c)
{
    return c->out_channels * c->out_height * c->out_width * L;
}

/* The output rows that input rows [begin, end) need. */
static void reached_rows(const SimdConv *c, int64_t begin, int64_t end, int64_t *row_begin, int64_t *row_end)
{
    *row_begin = int_max(0, begin + c->pad_top - c->kernel_height + 1);
    *row_end = int_max(*row_begin, int_min(c->out_height, end + c->pad_top));
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

/* The gradient of a block for output rows [begin, end), expanded into scratch if it is pooled. */
static Source block_gradient(const SimdConv *c, const SimdConvGradient *g, int64_t block, int64_t begin, int64_t end,
                             float *scratch)
{
    const int64_t row = c->out_width * L, plane = c->out_height * row;
    if (g->index == NULL) return (Source){g->dy + block * c->out_channels * plane, plane, 0, 0};
    const int64_t pooled = (c->out_height / 2) * (c->out_width / 2) * L, even = begin / 2 * 2;
    const int64_t end_even = int_min((end + 1) / 2 * 2, c->out_height);
    for (int64_t oc = 0; oc < c->out_channels; oc++) {
        const int64_t channel = block * c->out_channels + oc, at = channel * pooled;
        (void)LEVEL(unpool_rows)(g->dy + at, g->index + at, g->y != NULL ? g->y + at : NULL,
                                 g->mask != NULL ? g->mask + channel * L : NULL, c->out_height, c->out_width, even,
                                 end_even, scratch + oc * plane + even * row);
    }
    return (Source){scratch, plane, 0, 0};
}

void LEVEL(conv2d_grad_input_lanes)(const SimdConv *c, const SimdConvGradient *g, const float *weight, float *dx,
                                    float *scratch, int64_t begin, int64_t end)
{
    const int64_t in_row = c->in_width * L, kernel = c->kernel_height * c->kernel_width;
    for (int64_t unit = begin; unit < end;) {
        const int64_t block = unit / c->in_height, first = unit % c->in_height;
        const int64_t last = int_min(c->in_height, first + end - unit);
        int64_t row_begin, row_end;
        reached_rows(c, first, last, &row_begin, &row_end);
        Source s = block_gradient(c, g, block, row_begin, row_end, scratch);
        for (int64_t row = first; row < last; row++) {
            reached_rows(c, row, row + 1, &s.row_begin, &s.row_end);
            for (int64_t ic = 0; ic < c->in_channels; ic++) {
                input_row(c, &s, weight + ic * kernel, row,
                          dx + ((block * c->in_channels + ic) * c->in_height + row) * in_row);
            }
        }
        unit += last - first;
    }
}
