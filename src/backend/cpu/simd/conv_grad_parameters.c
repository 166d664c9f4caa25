/* The gradient of a convolution's weights and bias, in lanes layout.
 *
 * For one (input channel, kernel row), the taps of that row times a tile of output channels are kept as vectors in
 * registers while the pixels pass: with AVX-512, 5 channels x 5 taps = 25 accumulators, 10 loads for 25 multiply-adds.
 * They rest in scratch, one vector a weight, until the range is done; then the lanes are summed by transposition. Rows
 * come in chunks, so that the output's gradient stays in the first-level cache while all taps use it. */
#include "backend/cpu/simd/kernels.h"

enum { TILE = REGISTERS == 32 ? 5 : 2, CHUNK_BYTES = 32 * 1024 };

/* The rows of the output's gradient at hand: row `begin` of channel o of the tile is at dy + o * channel. */
typedef struct Rows {
    const float *dy;
    int64_t channel, begin, end;
} Rows;

/* Even, at least 2: whole units. */
static int64_t chunk_rows(const SimdConv *c)
{
    const int64_t row_bytes = TILE * c->out_width * L * (int64_t)sizeof(float);
    const int64_t fitting = CHUNK_BYTES / row_bytes / 2 * 2;
    return int_max(2, int_min(fitting, (c->out_height + 1) / 2 * 2));
}

static int64_t tile_vectors(const SimdConv *c)
{
    return TILE * c->in_channels * c->kernel_height * c->kernel_width;
}

int64_t LEVEL(grad_parameters_scratch)(const SimdConv *c)
{
    return (tile_vectors(c) + L) * L;
}

/* A row of the kernel without padding: x is the first tap's row of x, acc [channels][per_output] vectors. */
INLINE void kernel_row(const SimdConv *c, const Rows *r, const float *x, const int channels, const int taps,
                       int64_t per_output, float *acc)
{
    Vec sum[TILE][5];
    UNROLL for (int o = 0; o < channels; o++)
    {
        UNROLL for (int k = 0; k < taps; k++)
        {
            sum[o][k] = vec_load(acc + (o * per_output + k) * L);
        }
    }
    const float *dy = r->dy;
    for (int64_t row = r->begin; row < r->end; row++, x += (c->in_width - c->out_width) * L) {
        for (int64_t column = 0; column < c->out_width; column++, x += L, dy += L) {
            Vec in[5];
            UNROLL for (int k = 0; k < taps; k++)
            {
                in[k] = vec_load(x + k * L);
            }
            UNROLL for (int o = 0; o < channels; o++)
            {
                Vec g = vec_load(dy + o * r->channel);
                UNROLL for (int k = 0; k < taps; k++)
                {
                    sum[o][k] += in[k] * g;
                }
            }
        }
    }
    UNROLL for (int o = 0; o < channels; o++)
    {
        UNROLL for (int k = 0; k < taps; k++)
        {
            vec_store(acc + (o * per_output + k) * L, sum[o][k]);
        }
    }
}

/* One tap of any kernel, over the pixels whose input is inside the image. */
INLINE void any_tap(const SimdConv *c, const Rows *r, const float *plane, int64_t ky, int64_t kx, const int channels,
                    int64_t per_output, float *acc)
{
    const int64_t begin = int_max(r->begin, c->pad_top - ky);
    const int64_t end = int_min(r->end, c->in_height + c->pad_top - ky);
    const int64_t left = int_max(0, c->pad_left - kx), right = int_min(c->out_width, c->in_width + c->pad_left - kx);
    Vec sum[TILE];
    UNROLL for (int o = 0; o < channels; o++)
    {
        sum[o] = vec_load(acc + o * per_output * L);
    }
    for (int64_t row = begin; row < end; row++) {
        const float *x = plane + ((row + ky - c->pad_top) * c->in_width + kx - c->pad_left) * L;
        const float *dy = r->dy + (row - r->begin) * c->out_width * L;
        for (int64_t column = left; column < right; column++) {
            Vec in = vec_load(x + column * L);
            UNROLL for (int o = 0; o < channels; o++)
            {
                sum[o] += in * vec_load(dy + o * r->channel + column * L);
            }
        }
    }
    UNROLL for (int o = 0; o < channels; o++)
    {
        vec_store(acc + o * per_output * L, sum[o]);
    }
}

/* All taps of all input channels of one block, for the rows at hand. */
INLINE void all_taps(const SimdConv *c, const Rows *r, const float *x, const int channels, const int taps, float *acc)
{
    const int64_t per_output = c->in_channels * c->kernel_height * c->kernel_width;
    for (int64_t ic = 0; ic < c->in_channels; ic++) {
        const float *plane = x + ic * c->in_height * c->in_width * L;
        for (int64_t ky = 0; ky < c->kernel_height; ky++, acc += c->kernel_width * L) {
            if (taps != 0) {
                kernel_row(c, r, plane + (r->begin + ky) * c->in_width * L, channels, taps, per_output, acc);
                continue;
            }
            for (int64_t kx = 0; kx < c->kernel_width; kx++) {
                any_tap(c, r, plane, ky, kx, channels, per_output, acc + kx * L);
            }
        }
    }
}

INLINE void all_taps_of(const SimdConv *c, const Rows *r, const float *x, const int channels, float *acc)
{
    const bool padded =
        c->in_height != c->out_height + c->kernel_height - 1 || c->in_width != c->out_width + c->kernel_width - 1;
    if (!padded && c->kernel_width == 5) {
        all_taps(c, r, x, channels, 5, acc);
    } else if (!padded && c->kernel_width == 3) {
        all_taps(c, r, x, channels, 3, acc);
    } else {
        all_taps(c, r, x, channels, 0, acc);
    }
}

/* Rows [begin, end) of the gradient of output channels oc .. oc + channels - 1; adds their sums to bias[channel]. */
static Rows gradient_rows(const SimdConv *c, const float *dy, int64_t block, int64_t oc, int64_t channels,
                          int64_t begin, int64_t end, Vec *bias)
{
    const int64_t row = c->out_width * L, plane = c->out_height * row;
    const Rows r = {dy + (block * c->out_channels + oc) * plane + begin * row, plane, begin, end};
    for (int64_t o = 0; o < channels; o++) {
        for (int64_t at = 0; at < (end - begin) * row; at += L) {
            bias[o] += vec_load(r.dy + o * plane + at);
        }
    }
    return r;
}

/* out[i] = sum of the lanes of vector i. Reads up to a whole number of L vectors: scratch has the room. */
static void sum_lanes(const float *vectors, int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i += L) {
        Vec v[L];
        UNROLL for (int j = 0; j < L; j++)
        {
            v[j] = vec_load(vectors + (i + j) * L);
        }
        float sums[L] __attribute__((aligned(4 * L)));
        vec_store(sums, vec_sum_each(v));
        memcpy(out + i, sums, (size_t)int_min(L, count - i) * sizeof *out);
    }
}

/* One tile of output channels, over the whole range of units. */
static void channel_tile(const SimdConv *c, const float *dy, const float *x, float *dw, float *db, float *scratch,
                         int64_t oc, int64_t channels, int64_t begin, int64_t end)
{
    const int64_t per_output = c->in_channels * c->kernel_height * c->kernel_width;
    const int64_t pairs = (c->out_height + 1) / 2, rows = chunk_rows(c);
    Vec bias[TILE] = {{0}};
    memset(scratch, 0, (size_t)LEVEL(grad_parameters_scratch)(c) * sizeof *scratch);
    for (int64_t unit = begin; unit < end;) {
        const int64_t block = unit / pairs, first = unit % pairs;
        const int64_t count = int_min(int_min(pairs - first, end - unit), rows / 2);
        const float *image = x + block * c->in_channels * c->in_height * c->in_width * L;
        Rows r =
            gradient_rows(c, dy, block, oc, channels, 2 * first, int_min(2 * (first + count), c->out_height), bias);
        if (channels == TILE) {
            all_taps_of(c, &r, image, TILE, scratch);
        } else {
            for (int64_t o = 0; o < channels; o++, r.dy += r.channel) {
                all_taps_of(c, &r, image, 1, scratch + o * per_output * L);
            }
        }
        unit += count;
    }
    sum_lanes(scratch, channels * per_output, dw + oc * per_output);
    for (int64_t o = 0; db != NULL && o < channels; o++) {
        db[oc + o] = vec_sum(bias[o]);
    }
}

void LEVEL(conv2d_grad_parameters_lanes)(const SimdConv *c, const float *dy, const float *x, float *dw, float *db,
                                         float *scratch, int64_t channel_begin, int64_t channel_end, int64_t begin,
                                         int64_t end)
{
    for (int64_t oc = channel_begin; oc < channel_end; oc += TILE) {
        channel_tile(c, dy, x, dw, db, scratch, oc, int_min(TILE, channel_end - oc), begin, end);
    }
}
