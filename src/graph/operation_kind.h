/* clang-format off */
/* The operations, and what each computes. Shapes are row-major; N batch, C channels; real numbers are F32 or F64.
 *
 * affine                x -> scale x + shift
 * add                   a, b (same shape) -> a + b
 * add_scaled            a, b (same shape), s (scalar) -> a + s b; with s = 0, b is not read (it may hold NaN)
 * scale_by              x, s (scalar) -> s x; with s = 0 zeros, and x is not read (it may hold NaN)
 * relu                  x -> max(x, 0), NaN stays; relu_grad: (dy, y) -> dy where y > 0, else 0
 * gelu                  x -> x P(x) (Hendrycks and Gimpel 2016, Gaussian Error Linear Units, section 2), where P is the
 *                       normal distribution's function (1 + erf(x / sqrt 2)) / 2 or, of the form `tanh`, (1 + tanh(
 *                       sqrt(2 / pi) (x + 0.044715 x^3))) / 2; 0 at -infinity, NaN stays;
 *                       gelu_grad: (dy, x) -> dy (P(x) + x P'(x)), with x as gelu was given it
 * dropout               x, random (i64 [2]: seed, step) -> x / (1 - p) where kept, else 0. Kept: rng_mask_word(seed,
 *                       step, layer, index) >= p 2^32, where index counts elements, or n C + c with `channels`.
 *                       Its gradient is itself on dy.
 * reshape, detach       views: the same bytes; no gradient through detach
 * concat, slice         along one axis; slice_grad: dy at [start, stop) of zeros
 * adaptive_avg_pool2d   [N, C, H, W] -> [N, C, rows, columns]; window i is floor(i H / rows) .. ceil((i + 1) H / rows);
 *                       _grad: dy -> dx
 * max_pool2d            [N, C, H, W] -> y [N, C, OH, OW] and the maximum's index u8 in its window, row by row; no
 *                       padding; the first maximum wins, a NaN wins over numbers (the last NaN: as in PyTorch);
 *                       _grad: (dy, index) -> dx
 * conv2d                x [N, C, H, W], w [O, C / groups, KH, KW], b [O] or none -> [N, O, OH, OW], then the
 *                       activation; _grad_input: (dy, w) -> dx; _grad_parameters: (dy, x) -> dw, db
 * conv2d_pool           relu(max_pool2d(dropout2d(conv2d(x, w, b), random), 2)) in one, made by a rewrite;
 *                       x, w, b or none, random or none -> y, index u8
 * linear                x [N, I], w [O, I], b [O] or none -> x w' + b [N, O], then the activation;
 *                       _grad_input: (dy, w) -> dx; _grad_parameters: (dy, x) -> dw, db
 * matmul                a, b of rank 2, each transposed on demand
 * softmax               x [N, M], mask u8 [M] or none -> over M; masked columns 0 (all masked: zeros);
 *                       _grad: (dy, y) -> dx
 * weighted_sum          g [N, M], v [M, N, D] -> [N, D]: the sum over m of g[n, m] v[m, n]; what has weight 0 must
 *                       still be finite; _grad_weights: (dy, v) -> [N, M]; _grad_values: (dy, g) -> [M, N, D]
 * cross_entropy         logits [N, M], labels i32 [N] -> mean of -log softmax[label] over rows with label >= 0 (0 when
 *                       there are none), softmax [N, M]; _grad: (dloss, softmax, labels) -> dlogits
 * soft_cross_entropy    logits [N, M], targets [N, M] (logits, no gradient), labels -> mean over rows with label < 0 of
 *                       the cross entropy with softmax(targets), softmax(logits), softmax(targets);
 *                       _grad: (dloss, both softmaxes, labels) -> dlogits
 * mean_squared_error    a, b (same shape) -> mean over all elements; _grad: (dloss, a, b) -> da
 * global_norm           any number of tensors -> sqrt of the sum of all squares
 * clip_factor           norm -> scale min(1, max_norm / norm), and 0 when the norm is not finite
 * loss_scale            norm of gradients of a scaled loss, its scale, good steps i32 (scalars) -> what undoes the
 *                       scale, the next scale, the next count. Finite: 1 / scale; count + 1; when that is
 *                       LOSS_SCALE_INTERVAL, twice the scale, at most LOSS_SCALE_MOST, and 0. Not finite: 0; half the
 *                       scale, at least 1; 0. (Micikevicius et al. 2018, Mixed Precision Training, section 3.2)
 * sgd                   w, v, g, lr (scalar), gradient scale (scalar) or none -> w', v': step = scale g + weight_decay
 *                       w, v' = momentum v + step, w' = w - lr v' (nesterov: w' = w - lr (step + momentum v')). With a
 *                       gradient scale of 0, w' = w and v' = v, and g is not read. */
/* clang-format on */
#pragma once

typedef enum OperationKind {
    OP_AFFINE,
    OP_ADD,
    OP_ADD_SCALED,
    OP_SCALE_BY,
    OP_RELU,
    OP_RELU_GRAD,
    OP_GELU,
    OP_GELU_GRAD,
    OP_DROPOUT,
    OP_RESHAPE,
    OP_DETACH,
    OP_CONCAT,
    OP_SLICE,
    OP_SLICE_GRAD,
    OP_ADAPTIVE_AVG_POOL2D,
    OP_ADAPTIVE_AVG_POOL2D_GRAD,
    OP_MAX_POOL2D,
    OP_MAX_POOL2D_GRAD,
    OP_CONV2D,
    OP_CONV2D_POOL,
    OP_CONV2D_GRAD_INPUT,
    OP_CONV2D_GRAD_PARAMETERS,
    OP_LINEAR,
    OP_LINEAR_GRAD_INPUT,
    OP_LINEAR_GRAD_PARAMETERS,
    OP_MATMUL,
    OP_SOFTMAX,
    OP_SOFTMAX_GRAD,
    OP_WEIGHTED_SUM,
    OP_WEIGHTED_SUM_GRAD_WEIGHTS,
    OP_WEIGHTED_SUM_GRAD_VALUES,
    OP_CROSS_ENTROPY,
    OP_CROSS_ENTROPY_GRAD,
    OP_SOFT_CROSS_ENTROPY,
    OP_SOFT_CROSS_ENTROPY_GRAD,
    OP_MEAN_SQUARED_ERROR,
    OP_MEAN_SQUARED_ERROR_GRAD,
    OP_GLOBAL_NORM,
    OP_CLIP_FACTOR,
    OP_LOSS_SCALE,
    OP_SGD,
    OPERATION_COUNT,
} OperationKind;

/* Of loss_scale. All scales are powers of two, so that scaling and unscaling round nothing. */
enum { LOSS_SCALE_FIRST = 1 << 16, LOSS_SCALE_MOST = 1 << 24, LOSS_SCALE_INTERVAL = 2000 };
