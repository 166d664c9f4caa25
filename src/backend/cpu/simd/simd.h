/* Kernels for one core, compiled once per instruction set (level) and chosen at run time.
 *
 * They do what oneDNN does badly (convolutions with few channels, products with a handful of rows) and the element-wise
 * rest. All are float32, allocate nothing, start no thread, keep no state. Each works on a range [begin, end) of a
 * documented index space, so that a team of threads splits the work; calls on disjoint ranges may run at the same time,
 * and any split gives the same bits unless a kernel says otherwise (partial sums).
 *
 * The lanes layout. L images of the batch lie side by side in one vector, L = SimdKernels.lanes: [N, C, H, W] is stored
 * as float [ceil(N/L)][C][H][W][L], and [N, F] as [ceil(N/L)][F][L], so flattening moves no bytes. Buffers in lanes
 * layout are 64-byte aligned. A "block" is L images. Lanes past N ("padding lanes") are zero in inputs and gradients
 * (lanes_from_plain writes zeros; every backward kernel and mask keeps them zero); in activations they hold
 * finite numbers that mean nothing.
 *
 * Unless a kernel says otherwise its output doesn't overlap any input. Sizes are at least 1, ranges may be empty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum SimdLevel {
    SIMD_BASELINE, /* what the compiler assumes of the architecture: SSE2, NEON; L = 4 */
    SIMD_AVX2,     /* x86-64-v3: AVX2 and FMA; L = 8 */
    SIMD_AVX512,   /* x86-64-v4: AVX-512 F, BW, CD, DQ, VL; L = 16 */
    SIMD_LEVEL_COUNT,
} SimdLevel;

enum {
    SIMD_FEATURE_CHUNK = 64, /* features in a unit of the layout conversions */
    SIMD_CHANNEL_TILE = 5,   /* splitting output channels at multiples of this wastes nothing */
};

/* A convolution (a correlation, as the field calls it) of stride 1, dilation 1, one group. The padding below and on
 * the right follows from the sizes; 0 <= pad < kernel on each side. Plain weights: [OC][IC][KH][KW]. Other strides and
 * groups are not for these kernels. */
typedef struct SimdConv {
    int64_t batch; /* N */
    int64_t in_channels, in_height, in_width;
    int64_t out_channels, out_height, out_width;
    int64_t kernel_height, kernel_width;
    int64_t pad_top, pad_left;
} SimdConv;

/* y = relu?(pool?((conv(x, weight) + bias) * mask)). With `pool`, 2x2 maximum of stride 2 (a last odd row or column is
 * dropped): y is [..][OC][OH/2][OW/2][..], and the unpooled output is never stored. `index` gets the place of the
 * maximum in its window, 0..3 row by row; the first maximum wins; a NaN wins over numbers (the last NaN, as in
 * PyTorch). */
typedef struct SimdConvForward {
    const float *x, *weight;
    const float *bias; /* [OC] or NULL */
    /* Lanes [blocks][OC][L], a factor a channel and image (channel dropout), or NULL; lanes kernel only. */
    const float *mask;
    float *y;
    uint8_t *index; /* lanes, shape of y, or NULL; lanes kernel with pool only */
    bool pool, relu;
} SimdConvForward;

typedef struct SimdSgd {
    float learning_rate, momentum, weight_decay;
    bool nesterov;
} SimdSgd;

typedef struct SimdKernels {
    const char *name; /* "baseline", "avx2", "avx512" */
    int64_t lanes;    /* L */

    /* --- layout -------------------------------------------------------------------------------------------------
     * Units: simd_layout_units(k, batch, features), a unit = (block, chunk of SIMD_FEATURE_CHUNK features), chunks
     * fastest. dst[b][f][l] = src[(b*L + l) * src_stride + f] * scale + shift; 0 in padding lanes. src needs no
     * alignment. */
    void (*lanes_from_plain)(const float *src, int64_t src_stride, int64_t batch, int64_t features, float scale,
                             float shift, float *dst, int64_t begin, int64_t end);
    /* The way back, into rows of dst_stride floats; padding lanes are left out. The same units. */
    void (*lanes_to_plain)(const float *src, int64_t batch, int64_t features, float *dst, int64_t dst_stride,
                           int64_t begin, int64_t end);

    /* --- convolution in lanes -----------------------------------------------------------------------------------
     * Units: simd_conv_units(k, c), a unit = (block, pair of output rows), row pairs fastest. */
    void (*conv2d_lanes)(const SimdConv *c, const SimdConvForward *f, int64_t begin, int64_t end);

    /* dx[n][ic][h][w] = sum over oc, ky, kx of dy[n][oc][h + pad_top - ky][w + pad_left - kx] * weight[oc][ic][ky][kx];
     * dy [blocks][OC][OH][OW][L]; dx is overwritten. Units: simd_conv_input_units(k, c), a unit = (block, input row),
     * rows fastest. */
    void (*conv2d_grad_input_lanes)(const SimdConv *c, const float *dy, const float *weight, float *dx, int64_t begin,
                                    int64_t end);

    /* dw[oc][ic][ky][kx] = sum over n, h, w of x[n][ic][h + ky - pad_top][w + kx - pad_left] * dy[n][oc][h][w], and
     * db[oc] (db may be NULL), for output channels [channel_begin, channel_end) and the units [begin, end) of
     * simd_conv_units(k, c): dw and db are the starts of whole buffers [OC][IC][KH][KW] and [OC], the rows of other
     * channels are left alone. Overwrites. To split by channels (at multiples of SIMD_CHANNEL_TILE) needs no second
     * pass and gives the same bits for any team; to split by units needs partial buffers that the caller adds in a
     * fixed order. scratch: grad_parameters_scratch(c) floats, 64-byte aligned, one a thread. */
    void (*conv2d_grad_parameters_lanes)(const SimdConv *c, const float *dy, const float *x, float *dw, float *db,
                                         float *scratch, int64_t channel_begin, int64_t channel_end, int64_t begin,
                                         int64_t end);
    int64_t (*grad_parameters_scratch)(const SimdConv *c);

    /* --- max pooling --------------------------------------------------------------------------------------------
     * In lanes, 2x2 of stride 2: x [planes][in_height][in_width][L] to y, index [planes][in_height/2][in_width/2][L],
     * planes = blocks * channels. index may be NULL. Units: planes. */
    void (*max_pool2_lanes)(const float *x, int64_t in_height, int64_t in_width, float *y, uint8_t *index,
                            int64_t begin, int64_t end);
    /* dx [planes][in_height][in_width][L] is overwritten: dy where the maximum was, else 0. Units: planes. */
    void (*max_pool2_lanes_backward)(const float *dy, const uint8_t *index, int64_t in_height, int64_t in_width,
                                     float *dx, int64_t begin, int64_t end);

    /* --- small batches, plain layout ----------------------------------------------------------------------------
     * x [N][IC][H][W], y [N][OC][OH][OW], or pooled [N][OC][OH/2][OW/2]; f->mask and f->index must be NULL.
     * Units: simd_conv_plain_units(c), a unit = (image, pair of output rows), row pairs fastest; output channels
     * [channel_begin, channel_end). Each call first unfolds the input rows it needs: long ranges are better, and for
     * one image it is better to split channels (at multiples of SIMD_CHANNEL_TILE). scratch: conv2d_plain_scratch(c)
     * floats, 64-byte aligned, one a thread. */
    void (*conv2d_plain)(const SimdConv *c, const SimdConvForward *f, float *scratch, int64_t channel_begin,
                         int64_t channel_end, int64_t begin, int64_t end);
    int64_t (*conv2d_plain_scratch)(const SimdConv *c);

    /* y[b][o] = relu?(sum over i of weight[o][i] * x[b][i] + bias[o]), b < batch, 1 <= batch <= 4; weight [O][I], bias
     * [O] or NULL; rows of x and y x_stride and y_stride floats apart. Units: outputs o. */
    void (*linear_rows)(const float *weight, const float *bias, const float *x, int64_t x_stride, int64_t batch,
                        int64_t inputs, bool relu, float *y, int64_t y_stride, int64_t begin, int64_t end);

    /* --- element by element -------------------------------------------------------------------------------------
     * Units: elements, the pointers are the starts of the whole buffers. An output may be the same buffer as an input
     * (exactly, not shifted). */
    void (*relu)(const float *x, float *y, int64_t begin, int64_t end);                        /* NaN stays NaN */
    void (*relu_grad)(const float *y, const float *dy, float *dx, int64_t begin, int64_t end); /* y > 0 ? dy : 0 */
    /* x P(x), and dy (P(x) + x P'(x)); P by erf or by tanh (graph/operation_kind.h). y is off by at most 1e-6 of the
     * larger of |y| and 0.01, dx by 5e-7 |dy|. */
    void (*gelu)(const float *x, bool by_tanh, float *y, int64_t begin, int64_t end);
    void (*gelu_grad)(const float *dy, const float *x, bool by_tanh, float *dx, int64_t begin, int64_t end);
    void (*add)(const float *a, const float *b, float *y, int64_t begin, int64_t end);
    void (*mul)(const float *a, const float *b, float *y, int64_t begin, int64_t end);
    void (*affine)(const float *x, float scale, float shift, float *y, int64_t begin,
                   int64_t end);                                                 /* x*scale + shift */
    void (*axpy)(float a, const float *x, float *y, int64_t begin, int64_t end); /* y += a * x */
    /* g = gradient + weight_decay * w; v = momentum * v + g; w -= learning_rate * (nesterov ? g + momentum * v : v). */
    void (*sgd_momentum)(const SimdSgd *s, const float *gradient, float *velocity, float *weight, int64_t begin,
                         int64_t end);
    /* Partial sums over the range: add those of all ranges in a fixed order. */
    double (*sum_of_squares)(const float *x, int64_t begin, int64_t end);
    double (*squared_difference)(const float *a, const float *b, int64_t begin, int64_t end); /* sum (a - b)^2 */
    void (*difference)(const float *a, const float *b, float scale, float *y, int64_t begin,
                       int64_t end); /* (a - b) * scale: the gradient of the mean squared error with scale = 2/count */

    /* --- rows of classes ----------------------------------------------------------------------------------------
     * Units: rows of `classes` floats, dense. y may be x. exp is within 2 units in the last place; a NaN or +infinity
     * makes its row NaN. */
    void (*softmax)(const float *x, int64_t classes, float *y, int64_t begin, int64_t end);

    /* --- dropout ------------------------------------------------------------------------------------------------
     * Element i of a mask is kept if base/rng.h's rng_mask_word(seed, step, layer, i) >= p * 2^32, 0 <= p < 1, and is
     * then 1/(1-p), else 0. mask[0] is element `begin`; units: elements. */
    void (*dropout_mask)(uint64_t seed, uint64_t step, uint32_t layer, double p, float *mask, int64_t begin,
                         int64_t end);
    /* mask [blocks][channels][L] for whole channels: element n * channels + c of the same numbers; 0 in padding lanes.
     * Units: blocks * channels. */
    void (*dropout_mask_lanes)(uint64_t seed, uint64_t step, uint32_t layer, double p, int64_t batch, int64_t channels,
                               float *mask, int64_t begin, int64_t end);
} SimdKernels;

/* The kernels of a level, NULL where this architecture has none. Whether this CPU can run them is for the caller to
 * find out. */
const SimdKernels *simd_kernels(SimdLevel level);

static inline int64_t simd_blocks(const SimdKernels *k, int64_t batch)
{
    return (batch + k->lanes - 1) / k->lanes;
}

static inline int64_t simd_layout_units(const SimdKernels *k, int64_t batch, int64_t features)
{
    return simd_blocks(k, batch) * ((features + SIMD_FEATURE_CHUNK - 1) / SIMD_FEATURE_CHUNK);
}

static inline int64_t simd_conv_units(const SimdKernels *k, const SimdConv *c)
{
    return simd_blocks(k, c->batch) * ((c->out_height + 1) / 2);
}

static inline int64_t simd_conv_input_units(const SimdKernels *k, const SimdConv *c)
{
    return simd_blocks(k, c->batch) * c->in_height;
}

static inline int64_t simd_conv_plain_units(const SimdConv *c)
{
    return c->batch * ((c->out_height + 1) / 2);
}
