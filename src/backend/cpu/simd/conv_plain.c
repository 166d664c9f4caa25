/* Convolution forward for a few images, in plain layout.
 *
 * Vectors run over output pixels. The rows of each input channel are first copied once per kernel column, shifted by it
 * and cut to the output's width: then the inputs of one tap, for all output pixels in row order, are contiguous,
 * whatever the width (a row of 8 would leave half a vector idle, and 24 a quarter), and padding is zeros that are
 * copied. The copies are small: 19 KB for 10 channels of 12x12 and a 5x5 kernel. */
#include "backend/cpu/simd/kernels.h"

enum { TILE = REGISTERS == 32 ? 5 : 2, SPAN = 4 };

/* What one call works on: rows of one image, unfolded. */
typedef struct Band {
    const float *unfolded; /* [in_channels][kernel_width][rows + kernel_height - 1][out_width] */
    float *out;            /* [TILE][out_stride] */
    float *pairs;          /* the larger of each two rows, one channel */
    int64_t row, rows;     /* output rows row .. row + rows - 1 */
    int64_t plane;         /* floats of one unfolded plane */
    int64_t out_stride;    /* floats of rows, up to whole spans */
} Band;

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t unfolded_floats(const SimdConv *c, int64_t rows)
{
    const int64_t planes = c->in_channels * c->kernel_width;
    return round_up(planes * (rows + c->kernel_height - 1) * c->out_width, L) + SPAN * L;
}

static int64_t out_floats(const SimdConv *c, int64_t rows)
{
    return round_up(rows * c->out_width, SPAN * L) + L;
}

int64_t LEVEL(conv2d_plain_scratch)(const SimdConv *c)
{
    return unfolded_floats(c, c->out_height) + (TILE + 1) * out_floats(c, c->out_height);
}

/* A compile-time width makes this a few vector moves a row. */
INLINE void copy_rows(const float *src, int64_t src_stride, int64_t rows, const int64_t width, float *dst)
{
    for (int64_t row = 0; row < rows; row++, src += src_stride, dst += width) {
        memcpy(dst, src, (size_t)width * sizeof *dst);
    }
}

static void copy_any_rows(const float *src, int64_t src_stride, int64_t rows, int64_t width, float *dst)
{
    if (width == 8) {
        copy_rows(src, src_stride, rows, 8, dst);
    } else if (width == 24) {
        copy_rows(src, src_stride, rows, 24, dst);
    } else {
        copy_rows(src, src_stride, rows, width, dst);
    }
}

/* One plane of the unfolded image: columns that begin at `left`, rows that begin at `top`, zero outside the image. */
static void unfold_plane(const SimdConv *c, const float *x, int64_t top, int64_t left, int64_t rows, float *dst)
{
    const int64_t first = int_min(rows, int_max(0, -top)), last = int_max(first, int_min(rows, c->in_height - top));
    const int64_t begin = int_min(c->out_width, int_max(0, -left));
    const int64_t end = int_max(begin, int_min(c->out_width, c->in_width - left));
    if (begin == 0 && end == c->out_width && first == 0 && last == rows) {
        copy_any_rows(x + top * c->in_width + left, c->in_width, rows, c->out_width, dst);
        return;
    }
    memset(dst, 0, (size_t)(rows * c->out_width) * sizeof *dst);
    for (int64_t row = first; row < last; row++) {
        memcpy(dst + row * c->out_width + begin, x + (top + row) * c->in_width + left + begin,
               (size_t)(end - begin) * sizeof *dst);
    }
}

static Band unfold(const SimdConv *c, const float *x, int64_t row, int64_t rows, float *scratch)
{
    const int64_t in_rows = rows + c->kernel_height - 1, plane = in_rows * c->out_width;
    const int64_t used = c->in_channels * c->kernel_width * plane, floats = unfolded_floats(c, rows);
    for (int64_t ic = 0; ic < c->in_channels; ic++) {
        for (int64_t kx = 0; kx < c->kernel_width; kx++) {
            unfold_plane(c, x + ic * c->in_height * c->in_width, row - c->pad_top, kx - c->pad_left, in_rows,
                         scratch + (ic * c->kernel_width + kx) * plane);
        }
    }
    /* The last span reads past the last plane; what it reads is multiplied and dropped. */
    memset(scratch + used, 0, (size_t)(floats - used) * sizeof *scratch);
    float *out = scratch + floats;
    const int64_t out_stride = out_floats(c, rows);
    return (Band){scratch, out, out + TILE * out_stride, row, rows, plane, out_stride};
}

/* `vectors` vectors of pixels from `pixel` on, of `channels` channels from weight and bias on. */
INLINE void tile(const SimdConv *c, const Band *b, const float *weight, const float *bias, int64_t pixel,
                 const int channels, const int vectors)
{
    const int64_t per_output = c->in_channels * c->kernel_height * c->kernel_width;
    Vec acc[TILE][SPAN];
    UNROLL for (int o = 0; o < channels; o++)
    {
        Vec start = vec_splat(bias != NULL ? bias[o] : 0);
        UNROLL for (int v = 0; v < vectors; v++)
        {
            acc[o][v] = start;
        }
    }
    const float *plane = b->unfolded + pixel;
    for (int64_t ic = 0; ic < c->in_channels; ic++, weight += c->kernel_height * c->kernel_width) {
        for (int64_t kx = 0; kx < c->kernel_width; kx++, plane += b->plane) {
            const float *x = plane, *w = weight + kx;
            for (int64_t ky = 0; ky < c->kernel_height; ky++, x += c->out_width, w += c->kernel_width) {
                Vec in[SPAN];
                UNROLL for (int v = 0; v < vectors; v++)
                {
                    in[v] = vec_load_unaligned(x + v * L);
                }
                UNROLL for (int o = 0; o < channels; o++)
                {
                    Vec w_vec = vec_splat(w[o * per_output]);
                    UNROLL for (int v = 0; v < vectors; v++)
                    {
                        acc[o][v] += in[v] * w_vec;
                    }
                }
            }
        }
    }
    UNROLL for (int o = 0; o < channels; o++)
    {
        UNROLL for (int v = 0; v < vectors; v++)
        {
            vec_store_unaligned(b->out + o * b->out_stride + pixel + v * L, acc[o][v]);
        }
    }
}

INLINE void all_pixels(const SimdConv *c, const Band *b, const float *weight, const float *bias, const int channels)
{
    const int64_t pixels = b->rows * c->out_width;
    int64_t pixel = 0;
    for (; pixel + (SPAN - 1) * L < pixels; pixel += SPAN * L) {
        tile(c, b, weight, bias, pixel, channels, SPAN);
    }
    for (; pixel + L < pixels; pixel += 2 * L) {
        tile(c, b, weight, bias, pixel, channels, 2);
    }
    for (; pixel < pixels; pixel += L) {
        tile(c, b, weight, bias, pixel, channels, 1);
    }
}

static void store_rows(const SimdConv *c, const Band *b, const float *out, bool relu, float *y)
{
    for (int64_t at = 0; at < b->rows * c->out_width; at++) {
        y[at] = relu ? float_relu(out[at]) : out[at];
    }
}

/* Each two rows to one, packed without an odd last column; then each two columns to one, over all rows at once. */
static void store_pooled(const SimdConv *c, const Band *b, const float *out, bool relu, float *y)
{
    const int64_t width = c->out_width / 2 * 2, count = b->rows / 2 * width / 2;
    for (int64_t row = 0; row + 1 < b->rows; row += 2) {
        const float *upper = out + row * c->out_width;
        for (int64_t x = 0; x < width; x += L) { /* past the row's end, the next row overwrites */
            Vec larger = vec_maximum(vec_load_unaligned(upper + x), vec_load_unaligned(upper + c->out_width + x));
            vec_store_unaligned(b->pairs + row / 2 * width + x, larger);
        }
    }
    int64_t at = 0;
    for (; at + L <= count; at += L) {
        Vec even, odd;
        vec_unzip(vec_load_unaligned(b->pairs + 2 * at), vec_load_unaligned(b->pairs + 2 * at + L), &even, &odd);
        Vec best = vec_maximum(even, odd);
        vec_store_unaligned(y + at, relu ? vec_relu(best) : best);
    }
    for (; at < count; at++) {
        const float best = float_maximum(b->pairs[2 * at], b->pairs[2 * at + 1]);
        y[at] = relu ? float_relu(best) : best;
    }
}

static void channels_of_band(const SimdConv *c, const SimdConvForward *f, const Band *b, int64_t image, int64_t oc,
                             int64_t channels)
{
    const float *weight = f->weight + oc * c->in_channels * c->kernel_height * c->kernel_width;
    const float *bias = f->bias != NULL ? f->bias + oc : NULL;
    if (channels == TILE) {
        all_pixels(c, b, weight, bias, TILE);
    } else {
        all_pixels(c, b, weight, bias, 1);
    }
    for (int64_t o = 0; o < channels; o++) {
        const int64_t plane = image * c->out_channels + oc + o;
        const float *out = b->out + o * b->out_stride;
        if (f->pool) {
            const int64_t height = c->out_height / 2, width = c->out_width / 2;
            store_pooled(c, b, out, f->relu, f->y + (plane * height + b->row / 2) * width);
        } else {
            store_rows(c, b, out, f->relu, f->y + (plane * c->out_height + b->row) * c->out_width);
        }
    }
}

void LEVEL(conv2d_plain)(const SimdConv *c, const SimdConvForward *f, float *scratch, int64_t channel_begin,
                         int64_t channel_end, int64_t begin, int64_t end)
{
    const int64_t pairs = (c->out_height + 1) / 2;
    for (int64_t unit = begin; unit < end;) {
        const int64_t image = unit / pairs, first = unit % pairs, count = int_min(pairs - first, end - unit);
        const int64_t rows = int_min(2 * count, c->out_height - 2 * first);
        const Band b = unfold(c, f->x + image * c->in_channels * c->in_height * c->in_width, 2 * first, rows, scratch);
        int64_t oc = channel_begin;
        for (; oc + TILE <= channel_end; oc += TILE) {
            channels_of_band(c, f, &b, image, oc, TILE);
        }
        for (; oc < channel_end; oc++) {
            channels_of_band(c, f, &b, image, oc, 1);
        }
        unit += count;
    }
}
