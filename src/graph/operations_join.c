/* Rules of what puts tensors together and takes them apart. */
#include "graph/ops.h"
#include "graph/rules.h"

bool infer_concat(Graph *graph, const Node *node, OutputRule *outputs)
{
    const ValueInfo *first = rule_input(graph, node, 0);
    int axis = node->attributes.axis.axis;
    if (axis < 0 || axis >= first->shape.rank)
        return rule_fail(graph, node, "axis is %d, but '%s' has rank %d", axis, first->name, first->shape.rank);
    Shape shape = first->shape;
    shape.dims[axis] = 0;
    for (int i = 0; i < node->input_count; i++) {
        const ValueInfo *part = rule_input(graph, node, i);
        Shape expected = part->shape;
        char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
        if (expected.rank == first->shape.rank) expected.dims[axis] = first->shape.dims[axis];
        if (part->dtype != first->dtype || !shape_equal(expected, first->shape))
            return rule_fail(graph, node, "'%s' is %s %s and '%s' is %s %s; expected equal but for axis %d",
                             first->name, dtype_name(first->dtype), shape_text(first->shape, a), part->name,
                             dtype_name(part->dtype), shape_text(part->shape, b), axis);
        shape.dims[axis] += part->shape.dims[axis];
    }
    outputs[0] = (OutputRule){first->dtype, shape};
    return true;
}

static bool axis_is_valid(Graph *graph, const Node *node, int64_t extent)
{
    const ValueInfo *x = rule_input(graph, node, 0);
    int axis = node->attributes.axis.axis;
    int64_t start = node->attributes.axis.start, stop = node->attributes.axis.stop;
    if (axis < 0 || axis >= x->shape.rank)
        return rule_fail(graph, node, "axis is %d, but '%s' has rank %d", axis, x->name, x->shape.rank);
    if (start < 0 || stop <= start || stop > extent)
        return rule_fail(graph, node, "range is %ld:%ld, expected to lie in 0:%ld of '%s'", (long)start, (long)stop,
                         (long)extent, x->name);
    return true;
}

bool infer_slice(Graph *graph, const Node *node, OutputRule *outputs)
{
    const ValueInfo *x = rule_input(graph, node, 0);
    int axis = node->attributes.axis.axis;
    int64_t extent = axis >= 0 && axis < x->shape.rank ? x->shape.dims[axis] : 0;
    if (!axis_is_valid(graph, node, extent)) return false;
    Shape shape = x->shape;
    shape.dims[axis] = node->attributes.axis.stop - node->attributes.axis.start;
    outputs[0] = (OutputRule){x->dtype, shape};
    return true;
}

bool infer_slice_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!axis_is_valid(graph, node, node->attributes.axis.extent)) return false;
    const ValueInfo *dy = rule_input(graph, node, 0);
    Shape shape = dy->shape;
    int axis = node->attributes.axis.axis;
    if (shape.dims[axis] != node->attributes.axis.stop - node->attributes.axis.start)
        return rule_fail(graph, node, "'%s' has %ld along axis %d, expected %ld", dy->name, (long)shape.dims[axis],
                         axis, (long)(node->attributes.axis.stop - node->attributes.axis.start));
    shape.dims[axis] = node->attributes.axis.extent;
    outputs[0] = (OutputRule){dy->dtype, shape};
    return true;
}

void gradient_concat(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    int64_t start = 0;
    int axis = node->attributes.axis.axis;
    for (int i = 0; i < node->input_count; i++) {
        int64_t stop = start + rule_shape(graph, node, i).dims[axis];
        if (needed[i]) dx[i] = slice(graph, dy[0], axis, start, stop);
        start = stop;
    }
}

void gradient_slice(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (!needed[0]) return;
    Attributes attributes = node->attributes;
    attributes.axis.extent = rule_shape(graph, node, 0).dims[attributes.axis.axis];
    dx[0] = graph_apply(graph, OP_SLICE_GRAD, dy, 1, attributes);
}

/* g [N, M], v [M, N, D] */
bool infer_weighted_sum(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 2)) return false;
    if (!rule_rank(graph, node, 0, 2) || !rule_rank(graph, node, 1, 3)) return false;
    const ValueInfo *weights = rule_input(graph, node, 0), *values = rule_input(graph, node, 1);
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    if (weights->dtype != values->dtype || weights->shape.dims[1] != values->shape.dims[0] ||
        weights->shape.dims[0] != values->shape.dims[1])
        return rule_fail(graph, node, "weights '%s' are %s and values '%s' %s; expected [N, M] and [M, N, D]",
                         weights->name, shape_text(weights->shape, a), values->name, shape_text(values->shape, b));
    outputs[0] = (OutputRule){values->dtype, shape_of(values->shape.dims[1], values->shape.dims[2])};
    return true;
}

bool infer_weighted_sum_grad_weights(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 2)) return false;
    if (!rule_rank(graph, node, 0, 2) || !rule_rank(graph, node, 1, 3)) return false;
    Shape values = rule_shape(graph, node, 1);
    outputs[0] = (OutputRule){rule_input(graph, node, 1)->dtype, shape_of(values.dims[1], values.dims[0])};
    return true;
}

bool infer_weighted_sum_grad_values(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 2)) return false;
    if (!rule_rank(graph, node, 0, 2) || !rule_rank(graph, node, 1, 2)) return false;
    Shape dy = rule_shape(graph, node, 0), weights = rule_shape(graph, node, 1);
    outputs[0] = (OutputRule){rule_input(graph, node, 0)->dtype, shape_of(weights.dims[1], dy.dims[0], dy.dims[1])};
    return true;
}

void gradient_weighted_sum(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0])
        dx[0] = graph_apply(graph, OP_WEIGHTED_SUM_GRAD_WEIGHTS, (Value[]){dy[0], node->inputs[1]}, 2, (Attributes){0});
    if (needed[1])
        dx[1] = graph_apply(graph, OP_WEIGHTED_SUM_GRAD_VALUES, (Value[]){dy[0], node->inputs[0]}, 2, (Attributes){0});
}

/* A multiplication and an addition for each of M N D. */
double flops_weighted_sum(const Graph *graph, const Node *node)
{
    double most = (double)shape_count(graph_shape(graph, node->outputs[0]));
    for (int i = 0; i < 2; i++) {
        double count = (double)shape_count(rule_shape(graph, node, i));
        most = count > most ? count : most;
    }
    return 2 * most;
}
