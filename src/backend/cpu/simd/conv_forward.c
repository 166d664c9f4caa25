/* Convolution forward in lanes layout.
 *
 * A tile is 2x2 output pixels by a few output channels, all accumulators in registers: each loaded pixel serves every
 * channel of the tile, each broadcast weight four pixels, and the 2x2 window is just what the pool after it needs.
 * With AVX-512 five channels make 20 accumulators and 9 loads for 20 multiply-adds. Pixels whose window leaves the
 * image are computed one by one, over the taps that are inside. */
#include "backend/cpu/simd/kernels.h"

enum { TILE = REGISTERS == 32 ? 5 : 2 };

/* Where a tile reads: the window's first tap (may lie outside the image), and the taps in use. */
typedef struct Taps {
    int64_t ky_begin, ky_end, kx_begin, kx_end;
} Taps;

/* One tap of one input channel: in and w are where the tap is, for the tile's first pixel and first channel. */
INLINE void tap(const float *in, int64_t in_row, const float *w, int64_t w_channel, const int pixels,
                const int channels, Vec acc[TILE][4])
{
    Vec in_vec[4];
    UNROLL for (int p = 0; p < pixels; p++)
    {
        in_vec[p] = vec_load(in + (p / 2) * in_row + p % 2 * L);
    }
    UNROLL for (int o = 0; o < channels; o++)
    {
        Vec w_vec = vec_splat(w[o * w_channel]);
        UNROLL for (int p = 0; p < pixels; p++)
        {
            acc[o][p] += in_vec[p] * w_vec;
        }
    }
}

/* Adds to acc[channel][pixel] for `pixels` 4 (2x2) or 1; `channels` and often `kernel_width` are known to the compiler.
 */
INLINE void accumulate(const SimdConv *c, const float *x, const float *weight, Taps taps, const int pixels,
                       const int channels, const int64_t kernel_width, Vec acc[TILE][4])
{
    const int64_t row = c->in_width * L, plane = c->in_height * row;
    const int64_t kernel = c->kernel_height * kernel_width, per_output = c->in_channels * kernel;
    for (int64_t ic = 0; ic < c->in_channels; ic++) {
        for (int64_t ky = taps.ky_begin; ky < taps.ky_end; ky++) {
            const float *in = x + ic * plane + ky * row, *w = weight + ic * kernel + ky * kernel_width;
            if (__builtin_constant_p(kernel_width) && pixels == 4) {
                UNROLL for (int64_t kx = 0; kx < kernel_width; kx++)
                {
                    tap(in + kx * L, row, w + kx, per_output, pixels, channels, acc);
                }
            } else {
                for (int64_t kx = taps.kx_begin; kx < taps.kx_end; kx++) {
                    tap(in + kx * L, row, w + kx, per_output, pixels, channels, acc);
                }
            }
        }
    }
}

/* One pixel at the border, or at an odd edge. */
INLINE void pixel(const SimdConv *c, const float *x, const float *weight, int64_t oy, int64_t ox, int p,
                  const int channels, const int64_t kernel_width, Vec acc[TILE][4])
{
    const int64_t top = oy - c->pad_top, left = ox - c->pad_left;
    Taps taps = {int_max(0, -top), int_min(c->kernel_height, c->in_height - top), int_max(0, -left),
                 int_min(kernel_width, c->in_width - left)};
    Vec one[TILE][4];
    UNROLL for (int o = 0; o < channels; o++)
    {
        one[o][0] = acc[o][p];
    }
    accumulate(c, x + (top * c->in_width + left) * L, weight, taps, 1, channels, kernel_width, one);
    UNROLL for (int o = 0; o < channels; o++)
    {
        acc[o][p] = one[o][0];
    }
}

/* The tile at rows oy, oy + 1 and columns ox, ox + 1, as far as they are inside the output. */
INLINE void convolve(const SimdConv *c, const float *x, const float *weight, int64_t oy, int64_t ox, const int channels,
                     const int64_t kernel_width, Vec acc[TILE][4])
{
    const int64_t top = oy - c->pad_top, left = ox - c->pad_left;
    const bool whole = oy + 1 < c->out_height && ox + 1 < c->out_width;
    if (whole && top >= 0 && left >= 0 && top + 1 + c->kernel_height <= c->in_height &&
        left + 1 + kernel_width <= c->in_width) {
        Taps all = {0, c->kernel_height, 0, kernel_width};
        accumulate(c, x + (top * c->in_width + left) * L, weight, all, 4, channels, kernel_width, acc);
        return;
    }
    UNROLL for (int p = 0; p < 4; p++)
    {
        if (oy + p / 2 >= c->out_height || ox + p % 2 >= c->out_width) continue;
        pixel(c, x, weight, oy + p / 2, ox + p % 2, p, channels, kernel_width, acc);
    }
}

INLINE void store_pooled(const SimdConv *c, const SimdConvForward *f, const Vec acc[4], int64_t plane, int64_t oy,
                         int64_t ox)
{
    const int64_t at = ((plane * (c->out_height / 2) + oy / 2) * (c->out_width / 2) + ox / 2) * L;
    VecInt index;
    const Vec best = vec_window_maximum(acc, &index);
    vec_store(f->y + at, f->relu ? vec_relu(best) : best);
    if (f->index != NULL) vec_index_store(f->index + at, index);
}

INLINE void store_full(const SimdConv *c, const SimdConvForward *f, const Vec acc[4], int64_t plane, int64_t oy,
                       int64_t ox)
{
    UNROLL for (int p = 0; p < 4; p++)
    {
        const int64_t y = oy + p / 2, x = ox + p % 2;
        if (y >= c->out_height || x >= c->out_width) continue;
        vec_store(f->y + ((plane * c->out_height + y) * c->out_width + x) * L, f->relu ? vec_relu(acc[p]) : acc[p]);
    }
}

INLINE void tile(const SimdConv *c, const SimdConvForward *f, int64_t block, int64_t oc, int64_t oy, int64_t ox,
                 const int channels, const int64_t kernel_width)
{
    const float *x = f->x + block * c->in_channels * c->in_height * c->in_width * L;
    const float *weight = f->weight + oc * c->in_channels * c->kernel_height * kernel_width;
    Vec acc[TILE][4];
    UNROLL for (int o = 0; o < channels; o++)
    {
        Vec start = vec_splat(f->bias != NULL ? f->bias[oc + o] : 0);
        UNROLL for (int p = 0; p < 4; p++)
        {
            acc[o][p] = start;
        }
    }
    convolve(c, x, weight, oy, ox, channels, kernel_width, acc);
    UNROLL for (int o = 0; o < channels; o++)
    {
        const int64_t plane = block * c->out_channels + oc + o;
        if (f->mask != NULL) {
            Vec factor = vec_load(f->mask + plane * L);
            UNROLL for (int p = 0; p < 4; p++)
            {
                acc[o][p] *= factor;
            }
        }
        if (f->pool) {
            store_pooled(c, f, acc[o], plane, oy, ox);
        } else {
            store_full(c, f, acc[o], plane, oy, ox);
        }
    }
}

/* All channels of a tile's pixels, while the pixels are in the first-level cache. */
INLINE void all_channels(const SimdConv *c, const SimdConvForward *f, int64_t block, int64_t oy, int64_t ox,
                         const int64_t kernel_width)
{
    int64_t oc = 0;
    for (; oc + TILE <= c->out_channels; oc += TILE) {
        tile(c, f, block, oc, oy, ox, TILE, kernel_width);
    }
    for (; oc + 2 <= c->out_channels; oc += 2) {
        tile(c, f, block, oc, oy, ox, 2, kernel_width);
    }
    for (; oc < c->out_channels; oc++) {
        tile(c, f, block, oc, oy, ox, 1, kernel_width);
    }
}

/* The arguments are copied, so that the compiler knows that no store changes them. */
INLINE void rows(const SimdConv *conv, const SimdConvForward *forward, int64_t begin, int64_t end,
                 const int64_t kernel_width)
{
    const SimdConv copy = *conv, *c = &copy;
    const SimdConvForward forward_copy = *forward, *f = &forward_copy;
    const int64_t pairs = (c->out_height + 1) / 2, width = f->pool ? c->out_width / 2 * 2 : c->out_width;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t block = unit / pairs, oy = unit % pairs * 2;
        if (f->pool && oy + 1 >= c->out_height) continue;
        for (int64_t ox = 0; ox < width; ox += 2) {
            all_channels(c, f, block, oy, ox, kernel_width);
        }
    }
}

static void rows_of_5(const SimdConv *c, const SimdConvForward *f, int64_t begin, int64_t end)
{
    rows(c, f, begin, end, 5);
}

static void rows_of_3(const SimdConv *c, const SimdConvForward *f, int64_t begin, int64_t end)
{
    rows(c, f, begin, end, 3);
}

static void rows_of_any(const SimdConv *c, const SimdConvForward *f, int64_t begin, int64_t end)
{
    rows(c, f, begin, end, c->kernel_width);
}

void LEVEL(conv2d_lanes)(const SimdConv *c, const SimdConvForward *f, int64_t begin, int64_t end)
{
    if (c->kernel_width == 5) {
        rows_of_5(c, f, begin, end);
    } else if (c->kernel_width == 3) {
        rows_of_3(c, f, begin, end);
    } else {
        rows_of_any(c, f, begin, end);
    }
}
