/* The launchers of all kernels: what the CUDA libraries don't do, or do worse.
 *
 * Every pointer is to device memory, row-major and dense unless a stride is named, aligned to 16 bytes where it is the
 * start of a tensor; counts are in elements. `type` is the dtype of activations: DTYPE_F32, DTYPE_BF16 or DTYPE_F16
 * (storage: arithmetic is in float). Parameters, their gradients, losses and scalars are float; labels are int32 (-1:
 * none). A launcher puts its kernels on `stream` and returns: cudaSuccess, or what the launch was refused with
 * (cudaErrorInvalidValue for a type or shape that it doesn't have). It allocates nothing and never synchronises, so all
 * of them can be captured in a graph. A count of 0 launches nothing, but the sum, mean or norm of nothing is set to 0.
 * Reductions add in a fixed order: the same input gives the same bits, run after run. Addresses need the alignment of
 * an element; those that are multiples of 16 bytes are faster. What is written may lie exactly where an input lies
 * where both have the same type and shape, except in pool.cu, pool_fused.cu, join.cu and route.cu.
 *
 * Formulas are those of graph/operation_kind.h, which has the shapes too; N batch, C channels, M columns. */
#pragma once

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of scratch that a reduction over a whole tensor needs (kernel_cross_entropy, ..., kernel_global_norm). The
 * first 4 bytes must be zero before the first launch; every launch leaves them zero. Two launches that may run at once
 * need scratch of their own. */
enum { KERNEL_SCRATCH_BYTES = 16384 };

/* --- elementwise.cu --- */

/* y = scale x + shift, from one type to another (F32, BF16, F16; x may be U8 too). */
cudaError_t kernel_affine(DType from, const void *x, DType to, void *y, int64_t count, float scale, float shift,
                          cudaStream_t stream);
/* y = x in a smaller type (BF16, F16): a finite number that this type has not becomes its largest, with the same sign.
 */
cudaError_t kernel_saturate(const float *x, DType to, void *y, int64_t count, cudaStream_t stream);
cudaError_t kernel_add(DType type, const void *a, const void *b, void *y, int64_t count, cudaStream_t stream);
/* y = a + s b; b isn't read where *s is 0. `s` is a float on the device. `a` may be NULL: zeros. */
cudaError_t kernel_add_scaled(DType type, const void *a, const void *b, const float *s, void *y, int64_t count,
                              cudaStream_t stream);
cudaError_t kernel_relu(DType type, const void *x, void *y, int64_t count, cudaStream_t stream);
/* dx = dy where y > 0, else 0 */
cudaError_t kernel_relu_grad(DType type, const void *dy, const void *y, void *dx, int64_t count, cudaStream_t stream);
/* y = x P(x), and dx = dy (P(x) + x P'(x)): P by erf, or by tanh. */
cudaError_t kernel_gelu(DType type, const void *x, void *y, int64_t count, bool by_tanh, cudaStream_t stream);
cudaError_t kernel_gelu_grad(DType type, const void *dy, const void *x, void *dx, int64_t count, bool by_tanh,
                             cudaStream_t stream);

/* --- dropout.cu: masks are base/rng.h's rng_mask_word, so that all backends drop the same --- */

typedef struct KernelDropout {
    const int64_t *random; /* [2]: seed, step; NULL: nothing is dropped */
    uint32_t layer;
    double probability; /* of being dropped, in [0, 1) */
    uint64_t first;     /* added to every index: where this part of a batch begins */
} KernelDropout;

/* y = x / (1 - p) where kept, else 0. One decision for each `group` elements that follow each other (1; H W for
 * dropout2d): index = i / group. */
cudaError_t kernel_dropout(DType type, const void *x, void *y, int64_t count, int64_t group, KernelDropout dropout,
                           cudaStream_t stream);

/* --- pool.cu: planes are N C --- */

typedef struct KernelPool {
    int64_t planes;
    int rows, columns;         /* of x */
    int out_rows, out_columns; /* of y */
    int kernel[2], stride[2];  /* of max_pool2d */
} KernelPool;

cudaError_t kernel_adaptive_avg_pool2d(DType type, const void *x, void *y, KernelPool pool, cudaStream_t stream);
cudaError_t kernel_adaptive_avg_pool2d_grad(DType type, const void *dy, void *dx, KernelPool pool, cudaStream_t stream);
/* `index` may be NULL: nobody wants it. */
cudaError_t kernel_max_pool2d(DType type, const void *x, void *y, uint8_t *index, KernelPool pool, cudaStream_t stream);
cudaError_t kernel_max_pool2d_grad(DType type, const void *dy, const uint8_t *index, void *dx, KernelPool pool,
                                   cudaStream_t stream);
/* --- pool_fused.cu --- */

/* What follows a convolution in one pass: y = relu(max_pool2d(dropout2d(x + bias), 2)), index as max_pool2d. `bias`
 * [channels] float, or NULL. y's images ([channels, out_rows, out_columns] each) are `stride` elements apart. */
cudaError_t kernel_bias_dropout_pool_relu(DType type, const void *x, const float *bias, int channels, void *y,
                                          int64_t stride, uint8_t *index, KernelPool pool, KernelDropout dropout,
                                          cudaStream_t stream);
/* Its gradient in one pass: dx = dropout2d(max_pool2d_grad(relu_grad(dy, y), index)). dy's images are `dy_stride`
 * elements apart, y's `y_stride`. Every element of dx is written. */
cudaError_t kernel_dropout_pool_relu_grad(DType type, const void *dy, int64_t dy_stride, const void *y,
                                          int64_t y_stride, const uint8_t *index, int channels, void *dx,
                                          KernelPool pool, KernelDropout dropout, cudaStream_t stream);
/* And db [channels] = the sum of dx over images and places, of at most KERNEL_MOST_SUMS channels. */
enum { KERNEL_MOST_SUMS = 1024 };
cudaError_t kernel_dropout_pool_relu_bias_grad(DType type, const void *dy, int64_t dy_stride, const void *y,
                                               int64_t y_stride, const uint8_t *index, int channels, void *dx,
                                               float *db, KernelPool pool, KernelDropout dropout, void *scratch,
                                               cudaStream_t stream);

/* --- bias.cu --- */

/* y = x + bias [channels], then max(0, .) where `rectify`; x and y [n, channels, inner]. `bias` NULL: none. */
cudaError_t kernel_bias(DType type, const void *x, const float *bias, void *y, int64_t n, int channels, int64_t inner,
                        bool rectify, cudaStream_t stream);

/* --- reduce.cu --- */

/* out[c] = sum of x over n and i, x [n, channels, inner]: the gradient of a bias. */
cudaError_t kernel_channel_sum(DType type, const void *x, float *out, int64_t n, int channels, int64_t inner,
                               cudaStream_t stream);

/* --- join.cu --- */

/* A matrix of bytes from one place to another: concat, slice, slice_grad (with the zeros around it written by a memset
 * before). Widths and strides in bytes. */
cudaError_t kernel_copy_rows(const void *from, int64_t from_stride, void *to, int64_t to_stride, int64_t width,
                             int64_t rows, cudaStream_t stream);
/* weights [N, M], values [M, N, D] -> y [N, D] */
cudaError_t kernel_weighted_sum(DType type, const void *weights, const void *values, void *y, int64_t n, int64_t m,
                                int64_t d, cudaStream_t stream);
/* (dy [N, D], values) -> [N, M] */
cudaError_t kernel_weighted_sum_grad_weights(DType type, const void *dy, const void *values, void *dweights, int64_t n,
                                             int64_t m, int64_t d, cudaStream_t stream);
/* (dy [N, D], weights) -> [M, N, D] */
cudaError_t kernel_weighted_sum_grad_values(DType type, const void *dy, const void *weights, void *dvalues, int64_t n,
                                            int64_t m, int64_t d, cudaStream_t stream);

/* --- softmax.cu --- */

/* `mask` u8 [M] or NULL. Any M. */
cudaError_t kernel_softmax(DType type, const void *x, const uint8_t *mask, void *y, int64_t n, int64_t m,
                           cudaStream_t stream);
cudaError_t kernel_softmax_grad(DType type, const void *dy, const void *y, void *dx, int64_t n, int64_t m,
                                cudaStream_t stream);

/* --- loss.cu --- */

/* logits [N, M], labels [N] -> loss (one float), softmax [N, M] (may be NULL). A label of M or more counts as none: the
 * host has checked them before. */
cudaError_t kernel_cross_entropy(DType type, const void *logits, const int32_t *labels, float *loss, void *softmax,
                                 int64_t n, int64_t m, void *scratch, cudaStream_t stream);
/* dloss is one float on the device; NULL: 1. */
cudaError_t kernel_cross_entropy_grad(DType type, const float *dloss, const void *softmax, const int32_t *labels,
                                      void *dlogits, int64_t n, int64_t m, cudaStream_t stream);
/* Both in one pass over the logits, where dloss is known before the loss: dlogits = factor *dloss times its gradient.
 */
cudaError_t kernel_cross_entropy_both(DType type, const void *logits, const int32_t *labels, float factor,
                                      const float *dloss, float *loss, void *dlogits, int64_t n, int64_t m,
                                      void *scratch, cudaStream_t stream);
/* softmax(logits) and wanted = softmax(targets) may be NULL. */
cudaError_t kernel_soft_cross_entropy(DType type, const void *logits, const void *targets, const int32_t *labels,
                                      float *loss, void *softmax, void *wanted, int64_t n, int64_t m, void *scratch,
                                      cudaStream_t stream);
cudaError_t kernel_soft_cross_entropy_grad(DType type, const float *dloss, const void *softmax, const void *wanted,
                                           const int32_t *labels, void *dlogits, int64_t n, int64_t m,
                                           cudaStream_t stream);
cudaError_t kernel_mean_squared_error(DType type, const void *a, const void *b, float *loss, int64_t count,
                                      void *scratch, cudaStream_t stream);
cudaError_t kernel_mean_squared_error_grad(DType type, const float *dloss, const void *a, const void *b, void *da,
                                           int64_t count, cudaStream_t stream);

/* --- update.cu: all tensors in one launch --- */

/* One tensor of a group. Tables of them lie in device memory. */
typedef struct KernelTensor {
    int64_t first; /* elements of the tensors before it in the table */
    int64_t count;
    const float *gradient;
    float *parameter, *momentum; /* kernel_sgd: updated in place */
    void *low;                   /* kernel_sgd: the new parameter in `low_type`, or NULL */
} KernelTensor;

/* norm = sqrt(sum of squares of all gradients), one float; in double inside. `elements`: of all tensors together. */
cudaError_t kernel_global_norm(const KernelTensor *table, int count, int64_t elements, float *norm, void *scratch,
                               cudaStream_t stream);
/* factor = scale min(1, max_norm / norm); 0 where the norm isn't finite */
cudaError_t kernel_clip_factor(const float *norm, float *factor, double max_norm, double scale, cudaStream_t stream);

/* Dynamic loss scaling: unscale = 1 / scale where the norm is finite, else 0; the next scale (at most `most`) and count
 * of good steps as operation_kind.h has it. next_scale and next_good may be NULL, and may be scale and good. */
cudaError_t kernel_loss_scale(const float *norm, const float *scale, const int32_t *good, float *unscale,
                              float *next_scale, int32_t *next_good, float most, int32_t interval, cudaStream_t stream);

typedef struct KernelSgd {
    const float *lr;             /* one float on the device */
    const float *gradient_scale; /* one float on the device that every gradient is multiplied by, NULL: 1. Where it is 0
                                    nothing changes at all: a step that overflowed is left out. */
    float momentum, weight_decay;
    bool nesterov;
    DType low_type; /* F32, BF16, F16; NONE where no tensor has `low` */
} KernelSgd;
cudaError_t kernel_sgd(const KernelTensor *table, int count, int64_t elements, KernelSgd sgd, cudaStream_t stream);

/* --- wire.cu: tensors as they travel --- */

enum { KERNEL_WIRE_BLOCK = 64 }; /* numbers of an int8 block, which share a float scale */

/* Float to int8 by blocks of KERNEL_WIRE_BLOCK: scale = max |x| / 127 (0 for a block of zeros), q = x / scale rounded
 * to nearest even. The last block may be shorter; one with a NaN or an infinity arrives as NaN. F16 and BF16 travel by
 * kernel_affine with scale 1 and shift 0. */
cudaError_t kernel_pack_i8(DType type, const void *x, int8_t *q, float *scales, int64_t count, cudaStream_t stream);
cudaError_t kernel_unpack_i8(const int8_t *q, const float *scales, DType type, void *x, int64_t count,
                             cudaStream_t stream);

/* --- route.cu: choosing peers --- */

/* The k largest of each row of scores [N, M], largest first, ties by the lower column; NaN counts as -inf. k <= M. */
cudaError_t kernel_top_k(DType type, const void *scores, float *values, int32_t *columns, int64_t n, int64_t m, int k,
                         cudaStream_t stream);
/* y[i] = x[rows[i]]; a row out of 0 .. n - 1 gives zeros. x [n, d], y [count, d] */
cudaError_t kernel_gather_rows(DType type, const void *x, const int32_t *rows, void *y, int64_t n, int64_t count,
                               int64_t d, cudaStream_t stream);
/* y[rows[i]] += x[i] in the order of i (deterministic); y [n, d] float */
cudaError_t kernel_scatter_add_rows(DType type, const void *x, const int32_t *rows, float *y, int64_t n, int64_t count,
                                    int64_t d, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
