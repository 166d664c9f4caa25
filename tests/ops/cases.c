#include "ops/cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

/* Initialisers of the table below. SHAPE() needs a dimension; a scalar is `SCALAR`. */
#define SHAPE(...)                                                                                                     \
    {                                                                                                                  \
        .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dims = { __VA_ARGS__ }                     \
    }
#define IN(...) .inputs = {__VA_ARGS__}
#define REAL(...)                                                                                                      \
    {                                                                                                                  \
        .fill = FILL_UNIFORM, .shape = SHAPE(__VA_ARGS__)                                                              \
    }
#define CONSTANT(...)                                                                                                  \
    {                                                                                                                  \
        .fill = FILL_UNIFORM, .shape = SHAPE(__VA_ARGS__), .constant = true                                            \
    }
#define DISTINCT(...)                                                                                                  \
    {                                                                                                                  \
        .fill = FILL_DISTINCT, .shape = SHAPE(__VA_ARGS__)                                                             \
    }
#define GRID(...)                                                                                                      \
    {                                                                                                                  \
        .fill = FILL_GRID, .shape = SHAPE(__VA_ARGS__)                                                                 \
    }
#define HOLES(...)                                                                                                     \
    {                                                                                                                  \
        .fill = FILL_HOLES, .shape = SHAPE(__VA_ARGS__)                                                                \
    }
#define POSITIVE(...)                                                                                                  \
    {                                                                                                                  \
        .fill = FILL_POSITIVE, .shape = SHAPE(__VA_ARGS__)                                                             \
    }
#define WIDE(...)                                                                                                      \
    {                                                                                                                  \
        .fill = FILL_WIDE, .shape = SHAPE(__VA_ARGS__)                                                                 \
    }
#define MASK(...)                                                                                                      \
    {                                                                                                                  \
        .fill = FILL_MASK, .shape = SHAPE(__VA_ARGS__)                                                                 \
    }
#define COUNTS(...)                                                                                                    \
    {                                                                                                                  \
        .fill = FILL_COUNTS, .shape = SHAPE(__VA_ARGS__)                                                               \
    }
#define NO_LABEL(n)                                                                                                    \
    {                                                                                                                  \
        .fill = FILL_NO_LABEL, .shape = SHAPE(n)                                                                       \
    }
/* [N] labels of `classes` */
#define LABELS(classes, n)                                                                                             \
    {                                                                                                                  \
        .fill = FILL_LABELS, .shape = SHAPE(n), .limit = classes                                                       \
    }
#define INDEX(window, ...)                                                                                             \
    {                                                                                                                  \
        .fill = FILL_INDEX, .shape = SHAPE(__VA_ARGS__), .limit = window                                               \
    }
#define SCALAR                                                                                                         \
    {                                                                                                                  \
        .fill = FILL_UNIFORM                                                                                           \
    }
#define CONSTANT_SCALAR                                                                                                \
    {                                                                                                                  \
        .fill = FILL_UNIFORM, .constant = true                                                                         \
    }
#define POSITIVE_SCALAR                                                                                                \
    {                                                                                                                  \
        .fill = FILL_POSITIVE                                                                                          \
    }
#define ZERO_SCALAR                                                                                                    \
    {                                                                                                                  \
        .fill = FILL_ZERO, .constant = true                                                                            \
    }
#define NAN_SCALAR                                                                                                     \
    {                                                                                                                  \
        .fill = FILL_HOLES                                                                                             \
    }
#define COUNTS_SCALAR                                                                                                  \
    {                                                                                                                  \
        .fill = FILL_COUNTS                                                                                            \
    }
/* Less than LOSS_SCALE_INTERVAL. */
#define FEW_STEPS                                                                                                      \
    {                                                                                                                  \
        .fill = FILL_LABELS, .limit = 1000                                                                             \
    }
#define RANDOM                                                                                                         \
    {                                                                                                                  \
        .fill = FILL_RANDOM, .shape = SHAPE(2)                                                                         \
    }
#define ABSENT                                                                                                         \
    {                                                                                                                  \
        .fill = FILL_ABSENT                                                                                            \
    }
#define AFFINE(a, b)          .attributes.affine = {.scale = a, .shift = b}
#define DROP(p, number)       .attributes.dropout = {.probability = p, .layer = number}
#define DROP2D(p, number)     .attributes.dropout = {.probability = p, .layer = number, .channels = true}
#define RESHAPE(...)          .attributes.reshape = SHAPE(__VA_ARGS__)
#define AXIS(number)          .attributes.axis = {.axis = number}
#define RANGE(number, a, b)   .attributes.axis = {.axis = number, .start = a, .stop = b}
#define INTO(number, a, b, n) .attributes.axis = {.axis = number, .start = a, .stop = b, .extent = n}
#define SIZE(r, c)            .attributes.pool2d = {.rows = r, .columns = c}
#define POOL(k, s)            .attributes.pool2d = {.kernel = {k, k}, .stride = {s, s}}
#define POOL_GRAD(k, s, r, c) .attributes.pool2d = {.kernel = {k, k}, .stride = {s, s}, .rows = r, .columns = c}
#define CONV(k, s, p, g)      .attributes.conv2d = {.kernel = {k, k}, .stride = {s, s}, .padding = {p, p}, .groups = g}
#define CONV_RELU(k)                                                                                                   \
    .attributes.conv2d = {.kernel = {k, k}, .stride = {1, 1}, .groups = 1, .activation = ACTIVATION_RELU}
#define CONV_DROP(k, p, number)                                                                                        \
    .attributes.conv2d = {.kernel = {k, k}, .stride = {1, 1}, .groups = 1, .drop_probability = p, .drop_layer = number}
#define CONV_GRAD(k, s, p, g, r, c)                                                                                    \
    .attributes.conv2d = {.kernel = {k, k}, .stride = {s, s}, .padding = {p, p}, .groups = g, .rows = r, .columns = c}
#define RELU               .attributes.linear = {.activation = ACTIVATION_RELU}
#define ERF                .attributes.gelu = {.form = GELU_EXACT}
#define TANH               .attributes.gelu = {.form = GELU_TANH}
#define TRANSPOSE(a, b)    .attributes.matmul = {.transpose_a = a, .transpose_b = b}
#define CLIP(norm, factor) .attributes.clip = {.max_norm = norm, .scale = factor}
#define SGD(m, decay, n)   .attributes.sgd = {.momentum = m, .weight_decay = decay, .nesterov = n}
#define LARGE              .large = true

/* clang-format off */
static const OperationCase cases[] = {
    {OP_AFFINE, "one", IN(REAL(1)), AFFINE(2, 1)},
    {OP_AFFINE, "small", IN(REAL(3, 5)), AFFINE(-0.5, 0.25)},
    {OP_AFFINE, "scalar", IN(SCALAR), AFFINE(3, -1)},
    {OP_AFFINE, "mnist", IN(REAL(64, 1, 28, 28)), AFFINE(1 / 0.3081, -0.1307 / 0.3081), LARGE},

    {OP_ADD, "one", IN(REAL(1), REAL(1))},
    {OP_ADD, "small", IN(REAL(2, 3, 5), REAL(2, 3, 5))},
    {OP_ADD, "mnist", IN(REAL(64, 512), REAL(64, 512)), LARGE},

    {OP_ADD_SCALED, "small", IN(REAL(3, 7), CONSTANT(3, 7), CONSTANT_SCALAR)},
    {OP_ADD_SCALED, "off", IN(REAL(3, 7), {.fill = FILL_HOLES, .shape = SHAPE(3, 7), .constant = true}, ZERO_SCALAR)},
    {OP_ADD_SCALED, "mnist", IN(REAL(512, 832), CONSTANT(512, 832), CONSTANT_SCALAR), LARGE},

    {OP_SCALE_BY, "small", IN(REAL(3, 7), CONSTANT_SCALAR)},
    {OP_SCALE_BY, "scalar", IN(SCALAR, CONSTANT_SCALAR)},
    {OP_SCALE_BY, "off", IN(HOLES(3, 7), ZERO_SCALAR)},
    {OP_SCALE_BY, "answers", IN(REAL(3, 64, 512), CONSTANT_SCALAR), LARGE},

    {OP_RELU, "one", IN(DISTINCT(1))},
    {OP_RELU, "small", IN(DISTINCT(3, 7))},
    {OP_RELU, "nan", IN(HOLES(37))},
    {OP_RELU, "mnist", IN(DISTINCT(64, 10, 12, 12)), LARGE},
    {OP_RELU_GRAD, "small", IN(REAL(3, 7), GRID(3, 7))},
    {OP_RELU_GRAD, "mnist", IN(REAL(64, 10, 12, 12), GRID(64, 10, 12, 12)), LARGE},

    {OP_GELU, "one", IN(REAL(1)), ERF},
    {OP_GELU, "small", IN(REAL(3, 7)), ERF},
    {OP_GELU, "wide", IN(WIDE(5, 29)), ERF},
    {OP_GELU, "nan", IN(HOLES(37)), ERF},
    {OP_GELU, "bert", IN(WIDE(64, 1536)), ERF, LARGE},
    {OP_GELU, "tanh", IN(REAL(3, 7)), TANH},
    {OP_GELU, "wide tanh", IN(WIDE(5, 29)), TANH},
    {OP_GELU, "nan tanh", IN(HOLES(37)), TANH},
    {OP_GELU, "bert tanh", IN(WIDE(64, 1536)), TANH, LARGE},
    {OP_GELU_GRAD, "small", IN(REAL(3, 7), WIDE(3, 7)), ERF},
    {OP_GELU_GRAD, "nan", IN(REAL(37), HOLES(37)), ERF},
    {OP_GELU_GRAD, "bert", IN(REAL(64, 1536), WIDE(64, 1536)), ERF, LARGE},
    {OP_GELU_GRAD, "tanh", IN(REAL(3, 7), WIDE(3, 7)), TANH},
    {OP_GELU_GRAD, "nan tanh", IN(REAL(37), HOLES(37)), TANH},
    {OP_GELU_GRAD, "bert tanh", IN(REAL(64, 1536), WIDE(64, 1536)), TANH, LARGE},

    {OP_DROPOUT, "one", IN(REAL(1), RANDOM), DROP(0.5, 0)},
    {OP_DROPOUT, "small", IN(REAL(5, 7), RANDOM), DROP(0.3, 1)},
    {OP_DROPOUT, "never", IN(REAL(5, 7), RANDOM), DROP(0, 1)},
    {OP_DROPOUT, "channels", IN(REAL(3, 5, 2, 3), RANDOM), DROP2D(0.5, 2)},
    {OP_DROPOUT, "matrix channels", IN(REAL(3, 5), RANDOM), DROP2D(0.25, 3)},
    {OP_DROPOUT, "nan", IN(HOLES(64), RANDOM), DROP(0.5, 0)},
    {OP_DROPOUT, "mnist", IN(REAL(64, 20, 8, 8), RANDOM), DROP2D(0.5, 0), LARGE},

    {OP_RESHAPE, "flat", IN(REAL(2, 3, 5)), RESHAPE(2, 15)},
    {OP_RESHAPE, "mnist", IN(REAL(64, 20, 4, 4)), RESHAPE(64, 320), LARGE},
    {OP_DETACH, "small", IN(REAL(2, 3))},

    {OP_CONCAT, "one", IN(REAL(2, 3)), AXIS(0)},
    {OP_CONCAT, "rows", IN(REAL(2, 3), REAL(1, 3), REAL(4, 3)), AXIS(0)},
    {OP_CONCAT, "columns", IN(REAL(2, 3), REAL(2, 5)), AXIS(1)},
    {OP_CONCAT, "channels", IN(REAL(2, 3, 2, 2), REAL(2, 1, 2, 2)), AXIS(1)},
    {OP_CONCAT, "integers", IN(COUNTS(3, 2), COUNTS(3, 5)), AXIS(1)},
    {OP_CONCAT, "mnist", IN(REAL(64, 320), REAL(64, 512)), AXIS(1), LARGE},
    {OP_SLICE, "all", IN(REAL(3, 5)), RANGE(1, 0, 5)},
    {OP_SLICE, "rows", IN(REAL(7, 3)), RANGE(0, 2, 5)},
    {OP_SLICE, "inner", IN(REAL(2, 5, 3)), RANGE(1, 1, 3)},
    {OP_SLICE, "integers", IN(COUNTS(7)), RANGE(0, 3, 7)},
    {OP_SLICE, "mnist", IN(REAL(64, 832)), RANGE(1, 320, 832), LARGE},
    {OP_SLICE_GRAD, "inner", IN(REAL(2, 2, 3)), INTO(1, 1, 3, 5)},
    {OP_SLICE_GRAD, "mnist", IN(REAL(64, 512)), INTO(1, 320, 832, 832), LARGE},

    {OP_ADAPTIVE_AVG_POOL2D, "one", IN(REAL(1, 1, 1, 1)), SIZE(1, 1)},
    {OP_ADAPTIVE_AVG_POOL2D, "overlapping", IN(REAL(2, 3, 7, 5)), SIZE(3, 2)},
    {OP_ADAPTIVE_AVG_POOL2D, "larger", IN(REAL(1, 2, 3, 4)), SIZE(5, 6)},
    {OP_ADAPTIVE_AVG_POOL2D, "mean", IN(REAL(2, 3, 4, 4)), SIZE(1, 1)},
    {OP_ADAPTIVE_AVG_POOL2D, "mnist", IN(REAL(64, 1, 32, 32)), SIZE(28, 28), LARGE},
    {OP_ADAPTIVE_AVG_POOL2D_GRAD, "overlapping", IN(REAL(2, 3, 3, 2)), SIZE(7, 5)},
    {OP_ADAPTIVE_AVG_POOL2D_GRAD, "mnist", IN(REAL(64, 1, 28, 28)), SIZE(32, 32), LARGE},

    {OP_MAX_POOL2D, "one", IN(DISTINCT(1, 1, 1, 1)), POOL(1, 1)},
    {OP_MAX_POOL2D, "even", IN(DISTINCT(2, 3, 4, 6)), POOL(2, 2)},
    {OP_MAX_POOL2D, "odd", IN(DISTINCT(1, 2, 7, 5)), POOL(2, 2)},
    {OP_MAX_POOL2D, "overlapping", IN(DISTINCT(2, 2, 7, 7)), POOL(3, 2)},
    {OP_MAX_POOL2D, "ties", IN({.fill = FILL_GRID, .shape = SHAPE(3, 5, 8, 8), .constant = true}), POOL(2, 2), LARGE},
    {OP_MAX_POOL2D, "nan", IN(HOLES(2, 3, 6, 6)), POOL(2, 2)},
    {OP_MAX_POOL2D, "mnist1", IN(DISTINCT(64, 10, 24, 24)), POOL(2, 2), LARGE},
    {OP_MAX_POOL2D, "mnist2", IN(DISTINCT(64, 20, 8, 8)), POOL(2, 2), LARGE},
    {OP_MAX_POOL2D_GRAD, "even", IN(REAL(2, 3, 2, 3), INDEX(4, 2, 3, 2, 3)), POOL_GRAD(2, 2, 4, 6)},
    {OP_MAX_POOL2D_GRAD, "odd", IN(REAL(1, 2, 3, 2), INDEX(4, 1, 2, 3, 2)), POOL_GRAD(2, 2, 7, 5)},
    {OP_MAX_POOL2D_GRAD, "overlapping", IN(REAL(2, 2, 3, 3), INDEX(9, 2, 2, 3, 3)), POOL_GRAD(3, 2, 7, 7)},
    {OP_MAX_POOL2D_GRAD, "mnist", IN(REAL(64, 10, 12, 12), INDEX(4, 64, 10, 12, 12)), POOL_GRAD(2, 2, 24, 24), LARGE},

    {OP_CONV2D, "one", IN(REAL(1, 1, 1, 1), REAL(1, 1, 1, 1), REAL(1)), CONV(1, 1, 0, 1)},
    {OP_CONV2D, "small", IN(REAL(2, 3, 5, 5), REAL(4, 3, 3, 3), REAL(4)), CONV(3, 1, 0, 1)},
    {OP_CONV2D, "no bias", IN(REAL(2, 3, 5, 4), REAL(2, 3, 2, 2), ABSENT), CONV(2, 1, 0, 1)},
    {OP_CONV2D, "stride and padding", IN(REAL(2, 3, 7, 5), REAL(5, 3, 3, 3), REAL(5)), CONV(3, 2, 1, 1)},
    {OP_CONV2D, "groups", IN(REAL(2, 4, 5, 5), REAL(6, 2, 3, 3), REAL(6)), CONV(3, 1, 1, 2)},
    {OP_CONV2D, "depthwise", IN(REAL(1, 3, 5, 5), REAL(3, 1, 3, 3), REAL(3)), CONV(3, 1, 1, 3)},
    {OP_CONV2D, "relu", IN(REAL(3, 2, 6, 7), REAL(5, 2, 3, 3), REAL(5)), CONV_RELU(3)},
    {OP_CONV2D, "mnist1", IN(REAL(64, 1, 28, 28), REAL(10, 1, 5, 5), REAL(10)), CONV(5, 1, 0, 1), LARGE},
    {OP_CONV2D, "mnist2", IN(REAL(64, 10, 12, 12), REAL(20, 10, 5, 5), REAL(20)), CONV(5, 1, 0, 1), LARGE},
    {OP_CONV2D, "mnist2 of one", IN(REAL(1, 10, 12, 12), REAL(20, 10, 5, 5), REAL(20)), CONV(5, 1, 0, 1), LARGE},
    {OP_CONV2D_POOL, "small", IN(GRID(2, 3, 6, 6), GRID(4, 3, 3, 3), GRID(4)), CONV(3, 1, 0, 1)},
    {OP_CONV2D_POOL, "odd", IN(GRID(3, 2, 7, 9), GRID(5, 2, 3, 3), ABSENT), CONV(3, 1, 0, 1)},
    {OP_CONV2D_POOL, "dropout", IN(GRID(3, 2, 6, 6), GRID(7, 2, 3, 3), GRID(7), RANDOM), CONV_DROP(3, 0.5, 1)},
    {OP_CONV2D_POOL, "mnist1", IN(GRID(64, 1, 28, 28), GRID(10, 1, 5, 5), GRID(10)), CONV(5, 1, 0, 1), LARGE},
    {OP_CONV2D_POOL, "mnist2", IN(GRID(64, 10, 12, 12), GRID(20, 10, 5, 5), GRID(20), RANDOM), CONV_DROP(5, 0.5, 0), LARGE},
    {OP_CONV2D_POOL, "mnist1 of one", IN(GRID(1, 1, 28, 28), GRID(10, 1, 5, 5), GRID(10)), CONV(5, 1, 0, 1), LARGE},
    {OP_CONV2D_POOL, "mnist2 of one", IN(GRID(1, 10, 12, 12), GRID(20, 10, 5, 5), GRID(20), ABSENT), CONV(5, 1, 0, 1), LARGE},
    {OP_CONV2D_POOL, "mnist2 of 13", IN(GRID(13, 10, 12, 12), GRID(20, 10, 5, 5), GRID(20), RANDOM), CONV_DROP(5, 0.5, 3), LARGE},
    {OP_CONV2D_GRAD_INPUT, "stride and padding", IN(REAL(2, 5, 4, 3), REAL(5, 3, 3, 3)), CONV_GRAD(3, 2, 1, 1, 7, 5)},
    {OP_CONV2D_GRAD_INPUT, "groups", IN(REAL(2, 6, 5, 5), REAL(6, 2, 3, 3)), CONV_GRAD(3, 1, 1, 2, 5, 5)},
    {OP_CONV2D_GRAD_INPUT, "mnist1", IN(REAL(64, 10, 24, 24), REAL(10, 1, 5, 5)), CONV_GRAD(5, 1, 0, 1, 28, 28), LARGE},
    {OP_CONV2D_GRAD_INPUT, "mnist2", IN(REAL(64, 20, 8, 8), REAL(20, 10, 5, 5)), CONV_GRAD(5, 1, 0, 1, 12, 12), LARGE},
    {OP_CONV2D_GRAD_INPUT, "mnist2 of one", IN(REAL(1, 20, 8, 8), REAL(20, 10, 5, 5)), CONV_GRAD(5, 1, 0, 1, 12, 12), LARGE},
    {OP_CONV2D_GRAD_PARAMETERS, "stride and padding", IN(REAL(2, 5, 4, 3), REAL(2, 3, 7, 5)), CONV_GRAD(3, 2, 1, 1, 7, 5)},
    {OP_CONV2D_GRAD_PARAMETERS, "groups", IN(REAL(2, 6, 5, 5), REAL(2, 4, 5, 5)), CONV_GRAD(3, 1, 1, 2, 5, 5)},
    {OP_CONV2D_GRAD_PARAMETERS, "mnist1", IN(REAL(64, 10, 24, 24), REAL(64, 1, 28, 28)), CONV_GRAD(5, 1, 0, 1, 28, 28), LARGE},
    {OP_CONV2D_GRAD_PARAMETERS, "mnist2", IN(REAL(64, 20, 8, 8), REAL(64, 10, 12, 12)), CONV_GRAD(5, 1, 0, 1, 12, 12), LARGE},
    {OP_CONV2D_GRAD_PARAMETERS, "mnist2 of 13", IN(REAL(13, 20, 8, 8), REAL(13, 10, 12, 12)), CONV_GRAD(5, 1, 0, 1, 12, 12), LARGE},

    {OP_LINEAR, "one", IN(REAL(1, 1), REAL(1, 1), REAL(1))},
    {OP_LINEAR, "small", IN(REAL(3, 5), REAL(7, 5), REAL(7))},
    {OP_LINEAR, "no bias", IN(REAL(2, 7), REAL(3, 7), ABSENT)},
    {OP_LINEAR, "two inputs", IN(REAL(2, 3), REAL(5, 3))},
    {OP_LINEAR, "relu", IN(REAL(5, 13), REAL(11, 13), REAL(11)), RELU},
    {OP_LINEAR, "prime", IN(REAL(17, 101), REAL(67, 101), REAL(67)), LARGE},
    {OP_LINEAR, "mnist gate", IN(REAL(64, 320), REAL(100, 320), REAL(100)), LARGE},
    {OP_LINEAR, "mnist context", IN(REAL(64, 256), REAL(512, 256), REAL(512)), LARGE},
    {OP_LINEAR, "mnist hidden", IN(REAL(64, 832), REAL(512, 832), REAL(512)), RELU, LARGE},
    {OP_LINEAR, "mnist hidden of one", IN(REAL(1, 832), REAL(512, 832), REAL(512)), RELU, LARGE},
    {OP_LINEAR, "mnist target", IN(REAL(64, 256), REAL(10, 256), REAL(10)), LARGE},
    {OP_LINEAR_GRAD_INPUT, "small", IN(REAL(3, 7), REAL(7, 5))},
    {OP_LINEAR_GRAD_INPUT, "prime", IN(REAL(17, 67), REAL(67, 101)), LARGE},
    {OP_LINEAR_GRAD_INPUT, "mnist hidden", IN(REAL(64, 512), REAL(512, 832)), LARGE},
    {OP_LINEAR_GRAD_INPUT, "mnist hidden of one", IN(REAL(1, 512), REAL(512, 832)), LARGE},
    {OP_LINEAR_GRAD_INPUT, "mnist target", IN(REAL(64, 10), REAL(10, 256)), LARGE},
    {OP_LINEAR_GRAD_PARAMETERS, "small", IN(REAL(3, 7), REAL(3, 5))},
    {OP_LINEAR_GRAD_PARAMETERS, "prime", IN(REAL(17, 67), REAL(17, 101)), LARGE},
    {OP_LINEAR_GRAD_PARAMETERS, "mnist hidden", IN(REAL(64, 512), REAL(64, 832)), LARGE},
    {OP_LINEAR_GRAD_PARAMETERS, "mnist target", IN(REAL(64, 10), REAL(64, 256)), LARGE},
    {OP_LINEAR_GRAD_PARAMETERS, "mnist target of one", IN(REAL(1, 10), REAL(1, 256)), LARGE},

    {OP_MATMUL, "one", IN(REAL(1, 1), REAL(1, 1))},
    {OP_MATMUL, "plain", IN(REAL(3, 5), REAL(5, 7))},
    {OP_MATMUL, "left", IN(REAL(5, 3), REAL(5, 7)), TRANSPOSE(true, false)},
    {OP_MATMUL, "right", IN(REAL(3, 5), REAL(7, 5)), TRANSPOSE(false, true)},
    {OP_MATMUL, "both", IN(REAL(5, 3), REAL(7, 5)), TRANSPOSE(true, true)},
    {OP_MATMUL, "folded context", IN(REAL(512, 256), REAL(256, 320)), LARGE},

    {OP_SOFTMAX, "one", IN(REAL(1, 1))},
    {OP_SOFTMAX, "small", IN(REAL(3, 7))},
    {OP_SOFTMAX, "masked", IN(REAL(5, 7), MASK(7))},
    {OP_SOFTMAX, "all masked", IN(REAL(2, 1), MASK(1))},
    {OP_SOFTMAX, "mnist", IN(REAL(64, 100), ABSENT), LARGE},
    {OP_SOFTMAX_GRAD, "small", IN(REAL(3, 7), POSITIVE(3, 7))},
    {OP_SOFTMAX_GRAD, "mnist", IN(REAL(64, 100), POSITIVE(64, 100)), LARGE},

    {OP_WEIGHTED_SUM, "one", IN(REAL(1, 1), REAL(1, 1, 1))},
    {OP_WEIGHTED_SUM, "small", IN(REAL(3, 2), REAL(2, 3, 5))},
    {OP_WEIGHTED_SUM, "mnist", IN(REAL(64, 3), REAL(3, 64, 512)), LARGE},
    {OP_WEIGHTED_SUM_GRAD_WEIGHTS, "small", IN(REAL(3, 5), REAL(2, 3, 5))},
    {OP_WEIGHTED_SUM_GRAD_WEIGHTS, "mnist", IN(REAL(64, 512), REAL(3, 64, 512)), LARGE},
    {OP_WEIGHTED_SUM_GRAD_VALUES, "small", IN(REAL(3, 5), REAL(3, 2))},
    {OP_WEIGHTED_SUM_GRAD_VALUES, "mnist", IN(REAL(64, 512), REAL(64, 3)), LARGE},

    {OP_CROSS_ENTROPY, "one", IN(REAL(1, 1), LABELS(1, 1))},
    {OP_CROSS_ENTROPY, "small", IN(REAL(7, 5), LABELS(5, 7))},
    {OP_CROSS_ENTROPY, "no label", IN(REAL(3, 5), NO_LABEL(3))},
    {OP_CROSS_ENTROPY, "mnist", IN(REAL(64, 10), LABELS(10, 64)), LARGE},
    {OP_CROSS_ENTROPY_GRAD, "small", IN(SCALAR, POSITIVE(7, 5), LABELS(5, 7))},
    {OP_CROSS_ENTROPY_GRAD, "no label", IN(SCALAR, POSITIVE(3, 5), NO_LABEL(3))},
    {OP_CROSS_ENTROPY_GRAD, "mnist", IN(SCALAR, POSITIVE(64, 10), LABELS(10, 64)), LARGE},
    {OP_SOFT_CROSS_ENTROPY, "small", IN(REAL(11, 5), CONSTANT(11, 5), LABELS(2, 11))},
    {OP_SOFT_CROSS_ENTROPY, "all", IN(REAL(3, 5), CONSTANT(3, 5), NO_LABEL(3))},
    {OP_SOFT_CROSS_ENTROPY, "mnist", IN(REAL(64, 10), CONSTANT(64, 10), LABELS(2, 64)), LARGE},
    {OP_SOFT_CROSS_ENTROPY_GRAD, "small", IN(SCALAR, POSITIVE(11, 5), POSITIVE(11, 5), LABELS(2, 11))},
    {OP_SOFT_CROSS_ENTROPY_GRAD, "mnist", IN(SCALAR, POSITIVE(64, 10), POSITIVE(64, 10), LABELS(2, 64)), LARGE},

    {OP_MEAN_SQUARED_ERROR, "one", IN(REAL(1), REAL(1))},
    {OP_MEAN_SQUARED_ERROR, "small", IN(REAL(3, 7), REAL(3, 7))},
    {OP_MEAN_SQUARED_ERROR, "mnist", IN(REAL(64, 512), REAL(64, 512)), LARGE},
    {OP_MEAN_SQUARED_ERROR_GRAD, "small", IN(SCALAR, REAL(3, 7), REAL(3, 7))},
    {OP_MEAN_SQUARED_ERROR_GRAD, "mnist", IN(SCALAR, REAL(64, 512), REAL(64, 512)), LARGE},

    {OP_GLOBAL_NORM, "one", IN(REAL(1))},
    {OP_GLOBAL_NORM, "several", IN(REAL(3, 5), SCALAR, REAL(2, 2, 7), REAL(13))},
    {OP_GLOBAL_NORM, "nan", IN(HOLES(5))},
    {OP_GLOBAL_NORM, "mnist", IN(REAL(512, 832), REAL(512), REAL(20, 10, 5, 5)), LARGE},
    {OP_CLIP_FACTOR, "within", IN(POSITIVE_SCALAR), CLIP(10, 0.5)},
    {OP_CLIP_FACTOR, "above", IN(POSITIVE_SCALAR), CLIP(0.125, 1)},
    {OP_CLIP_FACTOR, "zero", IN(ZERO_SCALAR), CLIP(1, 2)},
    {OP_CLIP_FACTOR, "nan", IN(NAN_SCALAR), CLIP(1, 1)},
    {OP_LOSS_SCALE, "good", IN(POSITIVE_SCALAR, POSITIVE_SCALAR, FEW_STEPS)},
    {OP_LOSS_SCALE, "growing", IN(POSITIVE_SCALAR, POSITIVE_SCALAR, COUNTS_SCALAR)},
    {OP_LOSS_SCALE, "overflow", IN(NAN_SCALAR, POSITIVE_SCALAR, COUNTS_SCALAR)},
    {OP_SGD, "plain", IN(REAL(7), REAL(7), REAL(7), POSITIVE_SCALAR), SGD(0, 0, false)},
    {OP_SGD, "momentum", IN(REAL(3, 5), REAL(3, 5), REAL(3, 5), POSITIVE_SCALAR), SGD(0.9, 0.01, false)},
    {OP_SGD, "nesterov", IN(REAL(3, 5), REAL(3, 5), REAL(3, 5), POSITIVE_SCALAR), SGD(0.9, 0.01, true)},
    {OP_SGD, "scaled", IN(REAL(3, 5), REAL(3, 5), REAL(3, 5), POSITIVE_SCALAR, POSITIVE_SCALAR), SGD(0.9, 0.01, true)},
    {OP_SGD, "left out", IN(REAL(3, 5), REAL(3, 5), HOLES(3, 5), POSITIVE_SCALAR, ZERO_SCALAR), SGD(0.9, 0.01, true)},
    {OP_SGD, "scaled mnist", IN(REAL(512, 832), REAL(512, 832), REAL(512, 832), POSITIVE_SCALAR, POSITIVE_SCALAR), SGD(0.9, 0, false), LARGE},
    {OP_SGD, "mnist", IN(REAL(512, 832), REAL(512, 832), REAL(512, 832), POSITIVE_SCALAR), SGD(0.9, 0, false), LARGE},
};
/* clang-format on */

int case_count(void)
{
    return (int)(sizeof cases / sizeof cases[0]);
}

const OperationCase *case_at(int index)
{
    return &cases[index];
}

const char *case_label(const OperationCase *test, char out[CASE_LABEL_SIZE])
{
    snprintf(out, CASE_LABEL_SIZE, "%s/%s", operation_of(test->operation)->name, test->name);
    return out;
}

const OperationCase *case_find(const char *label)
{
    char name[CASE_LABEL_SIZE];
    for (int i = 0; i < case_count(); i++)
        if (strcmp(case_label(&cases[i], name), label) == 0) return &cases[i];
    return NULL;
}

int case_input_count(const OperationCase *test)
{
    int count = 0;
    while (count < CASE_MAX_INPUTS && test->inputs[count].fill != FILL_END)
        count++;
    return count;
}

static DType fill_dtype(Fill fill, DType real)
{
    switch (fill) {
    case FILL_LABELS:
    case FILL_NO_LABEL:
    case FILL_COUNTS:
        return DTYPE_I32;
    case FILL_MASK:
    case FILL_INDEX:
        return DTYPE_U8;
    case FILL_RANDOM:
        return DTYPE_I64;
    case FILL_END:
    case FILL_ABSENT:
        return DTYPE_NONE;
    default:
        return real;
    }
}

bool case_input_is_real(const CaseInput *input)
{
    return fill_dtype(input->fill, DTYPE_F64) == DTYPE_F64;
}

bool case_is_differentiable(const OperationCase *test)
{
    if (test->large || operation_of(test->operation)->gradient == NULL) return false;
    bool real = false;
    for (int i = 0; i < case_input_count(test); i++) {
        if (test->inputs[i].fill == FILL_HOLES && !test->inputs[i].constant) return false;
        real = real || case_input_is_real(&test->inputs[i]);
    }
    /* Activations are fused after gradients were taken, so the rules know none. */
    if (test->operation == OP_CONV2D) return test->attributes.conv2d.activation == ACTIVATION_NONE;
    if (test->operation == OP_LINEAR) return test->attributes.linear.activation == ACTIVATION_NONE;
    return real;
}

CaseGraph case_graph(const OperationCase *test, DType real)
{
    CaseGraph built = {.graph = graph_create(real, true),
                       .input_count = case_input_count(test),
                       .output_count = operation_of(test->operation)->outputs};
    char name[32];
    for (int i = 0; i < built.input_count; i++) {
        const CaseInput *input = &test->inputs[i];
        snprintf(name, sizeof name, "input%d", i);
        built.inputs[i] = input->fill == FILL_ABSENT
                              ? VALUE_NONE
                              : graph_input(built.graph, name, fill_dtype(input->fill, real), input->shape);
    }
    built.outputs[0] = graph_apply(built.graph, test->operation, built.inputs, built.input_count, test->attributes);
    for (int i = 0; i < built.output_count; i++) {
        snprintf(name, sizeof name, "output%d", i);
        built.outputs[i] = graph_sibling(built.graph, built.outputs[0], i);
        graph_output(built.graph, name, built.outputs[i]);
    }
    return built;
}

double element_get(const Tensor *tensor, int64_t index)
{
    switch (tensor->dtype) {
    case DTYPE_F32:
        return ((const float *)tensor->data)[index];
    case DTYPE_F64:
        return ((const double *)tensor->data)[index];
    case DTYPE_I32:
        return ((const int32_t *)tensor->data)[index];
    case DTYPE_I64:
        return (double)((const int64_t *)tensor->data)[index];
    case DTYPE_U8:
        return ((const uint8_t *)tensor->data)[index];
    default:
        return NAN;
    }
}

void element_set(const Tensor *tensor, int64_t index, double value)
{
    switch (tensor->dtype) {
    case DTYPE_F32:
        ((float *)tensor->data)[index] = (float)value;
        break;
    case DTYPE_F64:
        ((double *)tensor->data)[index] = value;
        break;
    case DTYPE_I32:
        ((int32_t *)tensor->data)[index] = (int32_t)value;
        break;
    case DTYPE_I64:
        ((int64_t *)tensor->data)[index] = (int64_t)value;
        break;
    case DTYPE_U8:
        ((uint8_t *)tensor->data)[index] = (uint8_t)value;
        break;
    default:
        break;
    }
}

/* Element `index` of an input with `count` elements; DISTINCT is shuffled by case_fill. */
static double fill_value(const CaseInput *input, int64_t index, int64_t count, Rng *rng)
{
    const double uniform = rng_uniform(rng);
    switch (input->fill) {
    case FILL_UNIFORM:
        return 2 * uniform - 1;
    case FILL_POSITIVE:
        return 0.5 + uniform;
    case FILL_WIDE:
        return 16 * uniform - 8;
    case FILL_DISTINCT:
        return (2 * (double)index + 1) / (double)count - 1 + (count % 2 == 0 ? 0 : 0.5 / (double)count);
    case FILL_GRID:
        return floor(17 * uniform) / 8 - 1;
    case FILL_HOLES:
        return index % 7 == 0 ? NAN : 2 * uniform - 1;
    case FILL_LABELS:
        return floor((input->limit + 1) * uniform) - 1;
    case FILL_NO_LABEL:
        return -1;
    case FILL_MASK:
        return index == 0 ? 0 : index == 1 ? 1 : floor(2 * uniform);
    case FILL_INDEX:
        return floor(input->limit * uniform);
    case FILL_COUNTS:
        return floor(1e6 * uniform);
    case FILL_RANDOM:
        return index == 0 ? 12345678901.0 : 77;
    default:
        return 0;
    }
}

static void shuffle(const Tensor *tensor, Rng *rng)
{
    for (int64_t i = shape_count(tensor->shape) - 1; i > 0; i--) {
        const int64_t j = (int64_t)rng_below(rng, (uint64_t)i + 1);
        const double a = element_get(tensor, i), b = element_get(tensor, j);
        element_set(tensor, i, b);
        element_set(tensor, j, a);
    }
}

void case_fill(const OperationCase *test, int index, const Tensor *out)
{
    const int64_t count = shape_count(out->shape);
    Rng rng = rng_make((uint64_t)(test - cases), (uint64_t)(RNG_STREAM_TEST + index));
    for (int64_t i = 0; i < count; i++)
        element_set(out, i, fill_value(&test->inputs[index], i, count, &rng));
    if (test->inputs[index].fill == FILL_DISTINCT) shuffle(out, &rng);
}
