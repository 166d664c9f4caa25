/* The words a soma is written in. Each appends a node and returns its value; parameters are made where they are named:
 * "<name>.weight" and "<name>.bias", in PyTorch's shapes and initial distribution (uniform +-1/sqrt(fan_in)). Using a
 * name again shares the parameters. */
#pragma once

#include "graph/operation.h"

typedef struct Conv2dOptions {
    int out, kernel, stride /* 0 means 1 */, padding, groups /* 0 means 1 */;
    bool no_bias;
} Conv2dOptions;

typedef struct LinearOptions {
    int out;
    bool no_bias;
} LinearOptions;

typedef struct SgdOptions {
    double momentum, weight_decay;
    bool nesterov;
} SgdOptions;

#define conv2d(g, x, name, ...) ops_conv2d(g, x, name, (Conv2dOptions){__VA_ARGS__})
#define linear(g, x, name, ...) ops_linear(g, x, name, (LinearOptions){__VA_ARGS__})

Value ops_conv2d(Graph *g, Value x, const char *name, Conv2dOptions options);
Value ops_linear(Graph *g, Value x, const char *name, LinearOptions options);

Value affine(Graph *g, Value x, double scale, double shift);
Value normalize(Graph *g, Value x, double mean, double deviation); /* (x - mean) / deviation */
Value add(Graph *g, Value a, Value b);
Value add_scaled(Graph *g, Value a, Value b, Value scale);
Value scale_by(Graph *g, Value x, Value scale);
Value relu(Graph *g, Value x);
Value gelu(Graph *g, Value x, GeluForm form);
Value dropout(Graph *g, Value x,
              double probability); /* reads the input "random" (i64 [2]: seed, step), declared on first use */
Value dropout2d(Graph *g, Value x, double probability); /* whole channels */
Value reshape(Graph *g, Value x, Shape shape);
Value flatten(Graph *g, Value x, int first_axis); /* dimensions from first_axis on become one */
Value detach(Graph *g, Value x);
Value concat(Graph *g, const Value *parts, int count, int axis);
Value concat2(Graph *g, Value a, Value b); /* along axis 1 */
Value slice(Graph *g, Value x, int axis, int64_t start, int64_t stop);
Value adaptive_avg_pool2d(Graph *g, Value x, int rows, int columns); /* x itself when it has that size */
Value max_pool2d(Graph *g, Value x, int kernel);                     /* stride = kernel */
Value matmul(Graph *g, Value a, Value b, bool transpose_a, bool transpose_b);
Value softmax(Graph *g, Value x, Value mask /* or VALUE_NONE */);
Value weighted_sum(Graph *g, Value weights, Value values);
Value cross_entropy(Graph *g, Value logits, Value labels);
Value soft_cross_entropy(Graph *g, Value logits, Value targets, Value labels);
Value mean_squared_error(Graph *g, Value a, Value b);
Value global_norm(Graph *g, const Value *values, int count);
Value clip_factor(Graph *g, Value norm, double max_norm, double scale);

/* One step of SGD on parameter `w` (phase UPDATE): assigns it and its momentum, the state "<name of w>.momentum". */
void sgd(Graph *g, Value w, Value gradient, Value lr, SgdOptions options);
/* The same for a group of parameters, whose rate is the scalar input `lr`; those without a gradient (VALUE_NONE) stay
 * as they are. */
void sgd_group(Graph *g, const Value *parameters, const Value *gradients, int count, const char *lr,
               SgdOptions options);
/* The same with gradients that are to be multiplied by the scalar `gradient_scale`; where that is 0, nothing changes.
 */
void sgd_group_scaled(Graph *g, const Value *parameters, const Value *gradients, int count, const char *lr,
                      Value gradient_scale, SgdOptions options);

/* Dynamic loss scaling, for gradients in a type of few exponents (F16). The state "loss_scale" is what the loss is to
 * be multiplied by (the seed of graph_gradient); whoever declares it gives it LOSS_SCALE_FIRST, since an initial value
 * of 0 is all that a graph can. */
Value loss_scale(Graph *g);
/* Whether this is the name of a state of loss scaling: a run in another precision has none. */
bool loss_scale_has_state(const char *name);
/* Judges the scaled gradients (VALUE_NONE: none), assigns loss_scale and "loss_scale.good_steps", and returns what the
 * gradients are to be multiplied by: 1 / loss_scale, or 0 where one of them isn't finite. */
Value loss_unscale(Graph *g, const Value *gradients, int count);
/* What one more gradient of that loss is to be multiplied by: `unscale`, or 0 where it isn't finite itself. */
Value loss_unscale_for(Graph *g, Value unscale, Value gradient);
