#include "graph/ops.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_SIZE = 160, MOST_GRADIENTS = 1024 };

static Value parameter_of(Graph *g, const char *layer, const char *kind, Shape shape, double fan_in)
{
    char name[NAME_SIZE];
    int length = snprintf(name, sizeof name, "%s.%s", layer, kind);
    if (length < 0 || length >= NAME_SIZE)
        return graph_fail(g, STATUS_OUT_OF_RANGE, "name of layer '%s' is too long", layer);
    return graph_parameter(g, name, shape, 1 / sqrt(fan_in));
}

static int or_one(int value)
{
    return value == 0 ? 1 : value;
}

Value ops_conv2d(Graph *g, Value x, const char *name, Conv2dOptions o)
{
    Shape shape = graph_shape(g, x);
    graph_set_layer(g, name);
    if (shape.rank != 4)
        return graph_fail(g, STATUS_INVALID_ARGUMENT, "%s: input has rank %d, expected [N, C, H, W]", name, shape.rank);
    int stride = or_one(o.stride), groups = or_one(o.groups);
    int64_t channels = shape.dims[1] / groups;
    double fan_in = (double)(channels * o.kernel * o.kernel);
    Attributes attributes = {.conv2d = {.kernel = {o.kernel, o.kernel},
                                        .stride = {stride, stride},
                                        .padding = {o.padding, o.padding},
                                        .groups = groups}};
    Value w = parameter_of(g, name, "weight", shape_of(o.out, channels, o.kernel, o.kernel), fan_in);
    Value b = o.no_bias ? VALUE_NONE : parameter_of(g, name, "bias", shape_of(o.out), fan_in);
    Value y = graph_apply(g, OP_CONV2D, (Value[]){x, w, b}, 3, attributes);
    graph_set_layer(g, "");
    return y;
}

Value ops_linear(Graph *g, Value x, const char *name, LinearOptions o)
{
    Shape shape = graph_shape(g, x);
    graph_set_layer(g, name);
    if (shape.rank != 2)
        return graph_fail(g, STATUS_INVALID_ARGUMENT, "%s: input has rank %d, expected [N, I]", name, shape.rank);
    double fan_in = (double)shape.dims[1];
    Value w = parameter_of(g, name, "weight", shape_of(o.out, shape.dims[1]), fan_in);
    Value b = o.no_bias ? VALUE_NONE : parameter_of(g, name, "bias", shape_of(o.out), fan_in);
    Value y = graph_apply(g, OP_LINEAR, (Value[]){x, w, b}, 3, (Attributes){0});
    graph_set_layer(g, "");
    return y;
}

static Value one(Graph *g, OperationKind operation, Value x)
{
    return graph_apply(g, operation, &x, 1, (Attributes){0});
}

static Value two(Graph *g, OperationKind operation, Value a, Value b)
{
    return graph_apply(g, operation, (Value[]){a, b}, 2, (Attributes){0});
}

Value affine(Graph *g, Value x, double scale, double shift)
{
    return graph_apply(g, OP_AFFINE, &x, 1, (Attributes){.affine = {scale, shift}});
}

Value normalize(Graph *g, Value x, double mean, double deviation)
{
    return affine(g, x, 1 / deviation, -mean / deviation);
}

Value add(Graph *g, Value a, Value b)
{
    return two(g, OP_ADD, a, b);
}

Value add_scaled(Graph *g, Value a, Value b, Value scale)
{
    return graph_apply(g, OP_ADD_SCALED, (Value[]){a, b, scale}, 3, (Attributes){0});
}

Value scale_by(Graph *g, Value x, Value scale)
{
    return two(g, OP_SCALE_BY, x, scale);
}

Value relu(Graph *g, Value x)
{
    return one(g, OP_RELU, x);
}

Value gelu(Graph *g, Value x, GeluForm form)
{
    return graph_apply(g, OP_GELU, &x, 1, (Attributes){.gelu = {form}});
}

static Value drop(Graph *g, Value x, double probability, bool channels)
{
    if (!graph_training(g) || probability == 0) return x;
    Value random = graph_find(g, "random");
    if (!value_exists(random)) random = graph_input(g, "random", DTYPE_I64, shape_of(2));
    uint32_t layer = 1; /* masks are numbered from 1, in the order of the forward pass */
    for (int i = 0; i < graph_node_count(g); i++)
        layer += graph_node(g, i)->operation == OP_DROPOUT && graph_node(g, i)->phase == PHASE_FORWARD;
    Attributes attributes = {.dropout = {.probability = probability, .layer = layer, .channels = channels}};
    return graph_apply(g, OP_DROPOUT, (Value[]){x, random}, 2, attributes);
}

Value dropout(Graph *g, Value x, double probability)
{
    return drop(g, x, probability, false);
}

Value dropout2d(Graph *g, Value x, double probability)
{
    return drop(g, x, probability, true);
}

Value reshape(Graph *g, Value x, Shape shape)
{
    return graph_apply(g, OP_RESHAPE, &x, 1, (Attributes){.reshape = shape});
}

Value flatten(Graph *g, Value x, int first_axis)
{
    Shape from = graph_shape(g, x), to = {.rank = first_axis + 1};
    int64_t rest = 1;
    for (int i = 0; i < from.rank; i++) {
        if (i < first_axis)
            to.dims[i] = from.dims[i];
        else
            rest *= from.dims[i];
    }
    to.dims[first_axis] = rest;
    return reshape(g, x, to);
}

Value detach(Graph *g, Value x)
{
    return one(g, OP_DETACH, x);
}

Value concat(Graph *g, const Value *parts, int count, int axis)
{
    return graph_apply(g, OP_CONCAT, parts, count, (Attributes){.axis = {.axis = axis}});
}

Value concat2(Graph *g, Value a, Value b)
{
    return concat(g, (Value[]){a, b}, 2, 1);
}

Value slice(Graph *g, Value x, int axis, int64_t start, int64_t stop)
{
    return graph_apply(g, OP_SLICE, &x, 1, (Attributes){.axis = {.axis = axis, .start = start, .stop = stop}});
}

Value adaptive_avg_pool2d(Graph *g, Value x, int rows, int columns)
{
    Shape shape = graph_shape(g, x);
    if (shape.rank == 4 && shape.dims[2] == rows && shape.dims[3] == columns) return x;
    return graph_apply(g, OP_ADAPTIVE_AVG_POOL2D, &x, 1, (Attributes){.pool2d = {.rows = rows, .columns = columns}});
}

Value max_pool2d(Graph *g, Value x, int kernel)
{
    Attributes attributes = {.pool2d = {.kernel = {kernel, kernel}, .stride = {kernel, kernel}}};
    return graph_apply(g, OP_MAX_POOL2D, &x, 1, attributes);
}

Value matmul(Graph *g, Value a, Value b, bool transpose_a, bool transpose_b)
{
    return graph_apply(g, OP_MATMUL, (Value[]){a, b}, 2, (Attributes){.matmul = {transpose_a, transpose_b}});
}

Value softmax(Graph *g, Value x, Value mask)
{
    return two(g, OP_SOFTMAX, x, mask);
}

Value weighted_sum(Graph *g, Value weights, Value values)
{
    return two(g, OP_WEIGHTED_SUM, weights, values);
}

Value cross_entropy(Graph *g, Value logits, Value labels)
{
    return two(g, OP_CROSS_ENTROPY, logits, labels);
}

Value soft_cross_entropy(Graph *g, Value logits, Value targets, Value labels)
{
    return graph_apply(g, OP_SOFT_CROSS_ENTROPY, (Value[]){logits, targets, labels}, 3, (Attributes){0});
}

Value mean_squared_error(Graph *g, Value a, Value b)
{
    return two(g, OP_MEAN_SQUARED_ERROR, a, b);
}

Value global_norm(Graph *g, const Value *values, int count)
{
    return graph_apply(g, OP_GLOBAL_NORM, values, count, (Attributes){0});
}

Value clip_factor(Graph *g, Value norm, double max_norm, double scale)
{
    return graph_apply(g, OP_CLIP_FACTOR, &norm, 1, (Attributes){.clip = {max_norm, scale}});
}

static void sgd_scaled(Graph *g, Value w, Value gradient, Value lr, Value gradient_scale, SgdOptions o)
{
    if (!value_exists(w) || !value_exists(gradient)) return;
    const ValueInfo *info = graph_value(g, w);
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s.momentum", info->name);
    Value momentum = graph_state(g, name, info->dtype, info->shape, INITIALIZE_ZERO, 0);
    graph_set_phase(g, PHASE_UPDATE);
    graph_set_layer(g, graph_value(g, w)->name);
    Attributes attributes = {.sgd = {o.momentum, o.weight_decay, o.nesterov}};
    Value updated = graph_apply(g, OP_SGD, (Value[]){w, momentum, gradient, lr, gradient_scale}, 5, attributes);
    graph_assign(g, w, updated);
    graph_assign(g, momentum, graph_sibling(g, updated, 1));
    graph_set_layer(g, "");
}

void sgd(Graph *g, Value w, Value gradient, Value lr, SgdOptions options)
{
    sgd_scaled(g, w, gradient, lr, VALUE_NONE, options);
}

void sgd_group_scaled(Graph *g, const Value *parameters, const Value *gradients, int count, const char *lr,
                      Value gradient_scale, SgdOptions options)
{
    graph_set_phase(g, PHASE_UPDATE);
    Value rate = graph_input(g, lr, graph_real(g), shape_scalar());
    for (int i = 0; i < count; i++)
        sgd_scaled(g, parameters[i], gradients[i], rate, gradient_scale, options);
}

void sgd_group(Graph *g, const Value *parameters, const Value *gradients, int count, const char *lr, SgdOptions options)
{
    sgd_group_scaled(g, parameters, gradients, count, lr, VALUE_NONE, options);
}

Value loss_scale(Graph *g)
{
    return graph_state(g, "loss_scale", graph_real(g), shape_scalar(), INITIALIZE_ZERO, 0);
}

bool loss_scale_has_state(const char *name)
{
    return strcmp(name, "loss_scale") == 0 || strcmp(name, "loss_scale.good_steps") == 0;
}

Value loss_unscale(Graph *g, const Value *gradients, int count)
{
    Value present[MOST_GRADIENTS];
    int used = 0;
    if (count > MOST_GRADIENTS)
        return graph_fail(g, STATUS_OUT_OF_RANGE, "%d gradients of a scaled loss, at most %d are possible", count,
                          MOST_GRADIENTS);
    for (int i = 0; i < count; i++)
        if (value_exists(gradients[i])) present[used++] = gradients[i];
    graph_set_phase(g, PHASE_UPDATE);
    Value scale = loss_scale(g);
    Value good = graph_state(g, "loss_scale.good_steps", DTYPE_I32, shape_scalar(), INITIALIZE_ZERO, 0);
    Value norm = global_norm(g, present, used);
    Value unscale = graph_apply(g, OP_LOSS_SCALE, (Value[]){norm, scale, good}, 3, (Attributes){0});
    graph_assign(g, scale, graph_sibling(g, unscale, 1));
    graph_assign(g, good, graph_sibling(g, unscale, 2));
    return unscale;
}

Value loss_unscale_for(Graph *g, Value unscale, Value gradient)
{
    if (!value_exists(unscale)) return VALUE_NONE;
    const Value *inputs = graph_node(g, graph_value(g, unscale)->node)->inputs; /* norm, scale, good steps */
    const Value both[] = {inputs[0], gradient}, scale = inputs[1], good = inputs[2];
    return graph_apply(g, OP_LOSS_SCALE, (Value[]){global_norm(g, both, 2), scale, good}, 3, (Attributes){0});
}
