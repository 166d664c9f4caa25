/* Rules of softmax and the losses. */
#include "graph/ops.h"
#include "graph/rules.h"

bool infer_softmax(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_real(graph, node, 0) || !rule_rank(graph, node, 0, 2)) return false;
    if (rule_has(node, 1)) {
        const ValueInfo *mask = rule_input(graph, node, 1);
        int64_t columns = rule_shape(graph, node, 0).dims[1];
        char text[SHAPE_TEXT_SIZE];
        if (mask->dtype != DTYPE_U8 || !shape_equal(mask->shape, shape_of(columns)))
            return rule_fail(graph, node, "mask '%s' is %s %s, expected u8 [%ld]", mask->name, dtype_name(mask->dtype),
                             shape_text(mask->shape, text), (long)columns);
    }
    return infer_like_input(graph, node, outputs);
}

bool infer_softmax_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    return rule_rank(graph, node, 0, 2) && infer_add(graph, node, outputs);
}

/* A masked column has y = 0, so the same rule gives it a gradient of 0. */
void gradient_softmax(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0]) dx[0] = graph_apply(graph, OP_SOFTMAX_GRAD, (Value[]){dy[0], node->outputs[0]}, 2, (Attributes){0});
}

static bool labels_fit(Graph *graph, const Node *node, int logits, int labels)
{
    if (!rule_real(graph, node, logits) || !rule_rank(graph, node, logits, 2) ||
        !rule_dtype(graph, node, labels, DTYPE_I32))
        return false;
    const ValueInfo *rows = rule_input(graph, node, labels);
    int64_t expected = rule_shape(graph, node, logits).dims[0];
    char text[SHAPE_TEXT_SIZE];
    return shape_equal(rows->shape, shape_of(expected)) ||
           rule_fail(graph, node, "shape of labels '%s' is %s, expected [%ld]", rows->name,
                     shape_text(rows->shape, text), (long)expected);
}

bool infer_cross_entropy(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!labels_fit(graph, node, 0, 1)) return false;
    const ValueInfo *logits = rule_input(graph, node, 0);
    outputs[0] = (OutputRule){logits->dtype, shape_scalar()};
    outputs[1] = (OutputRule){logits->dtype, logits->shape};
    return true;
}

/* dloss, softmax, labels */
bool infer_cross_entropy_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_scalar(graph, node, 0) || !labels_fit(graph, node, 1, 2)) return false;
    const ValueInfo *softmax_value = rule_input(graph, node, 1);
    outputs[0] = (OutputRule){softmax_value->dtype, softmax_value->shape};
    return true;
}

void gradient_cross_entropy(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0] && value_exists(dy[0]))
        dx[0] = graph_apply(graph, OP_CROSS_ENTROPY_GRAD, (Value[]){dy[0], node->outputs[1], node->inputs[1]}, 3,
                            (Attributes){0});
}

bool infer_soft_cross_entropy(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_same(graph, node, 0, 1) || !labels_fit(graph, node, 0, 2)) return false;
    const ValueInfo *logits = rule_input(graph, node, 0);
    outputs[0] = (OutputRule){logits->dtype, shape_scalar()};
    outputs[1] = outputs[2] = (OutputRule){logits->dtype, logits->shape};
    return true;
}

/* dloss, softmax(logits), softmax(targets), labels */
bool infer_soft_cross_entropy_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_scalar(graph, node, 0) || !rule_same(graph, node, 1, 2) || !labels_fit(graph, node, 1, 3)) return false;
    const ValueInfo *softmax_value = rule_input(graph, node, 1);
    outputs[0] = (OutputRule){softmax_value->dtype, softmax_value->shape};
    return true;
}

/* The targets are taken as given: what imitates is moved, what is imitated isn't. */
void gradient_soft_cross_entropy(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0] && value_exists(dy[0]))
        dx[0] = graph_apply(graph, OP_SOFT_CROSS_ENTROPY_GRAD,
                            (Value[]){dy[0], node->outputs[1], node->outputs[2], node->inputs[2]}, 4, (Attributes){0});
}

bool infer_mean_squared_error(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_real(graph, node, 0) || !rule_same(graph, node, 0, 1)) return false;
    outputs[0] = (OutputRule){rule_input(graph, node, 0)->dtype, shape_scalar()};
    return true;
}

/* dloss, a, b */
bool infer_mean_squared_error_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_scalar(graph, node, 0) || !rule_same(graph, node, 1, 2)) return false;
    const ValueInfo *a = rule_input(graph, node, 1);
    outputs[0] = (OutputRule){a->dtype, a->shape};
    return true;
}

void gradient_mean_squared_error(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    Value a = node->inputs[0], b = node->inputs[1];
    if (needed[0]) dx[0] = graph_apply(graph, OP_MEAN_SQUARED_ERROR_GRAD, (Value[]){dy[0], a, b}, 3, (Attributes){0});
    if (needed[1]) dx[1] = graph_apply(graph, OP_MEAN_SQUARED_ERROR_GRAD, (Value[]){dy[0], b, a}, 3, (Attributes){0});
}

/* Maximum, subtraction, exponential, sum, division: five an element. */
double flops_softmax(const Graph *graph, const Node *node)
{
    int logits = node->operation == OP_CROSS_ENTROPY_GRAD || node->operation == OP_SOFT_CROSS_ENTROPY_GRAD ? 1 : 0;
    return 5 * (double)shape_count(rule_shape(graph, node, logits));
}
