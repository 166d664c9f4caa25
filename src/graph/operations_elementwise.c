/* Rules of the operations that treat each element alone, and of the views. */
#include "graph/ops.h"
#include "graph/rules.h"

bool infer_like_input(Graph *graph, const Node *node, OutputRule *outputs)
{
    const ValueInfo *x = rule_input(graph, node, 0);
    outputs[0] = (OutputRule){x->dtype, x->shape};
    return true;
}

bool infer_real_like_input(Graph *graph, const Node *node, OutputRule *outputs)
{
    return rule_real(graph, node, 0) && infer_like_input(graph, node, outputs);
}

bool infer_add(Graph *graph, const Node *node, OutputRule *outputs)
{
    return rule_real(graph, node, 0) && rule_same(graph, node, 0, 1) && infer_like_input(graph, node, outputs);
}

bool infer_add_scaled(Graph *graph, const Node *node, OutputRule *outputs)
{
    return rule_scalar(graph, node, 2) && infer_add(graph, node, outputs);
}

bool infer_scale_by(Graph *graph, const Node *node, OutputRule *outputs)
{
    return rule_alike(graph, node, 2) && rule_scalar(graph, node, 1) && infer_like_input(graph, node, outputs);
}

bool infer_activation_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    return infer_add(graph, node, outputs);
}

bool infer_dropout(Graph *graph, const Node *node, OutputRule *outputs)
{
    Shape random = rule_shape(graph, node, 1);
    if (!rule_real(graph, node, 0) || !rule_dtype(graph, node, 1, DTYPE_I64) || !rule_rank(graph, node, 1, 1))
        return false;
    if (random.dims[0] != 2)
        return rule_fail(graph, node, "'random' has %ld elements, expected seed and step", (long)random.dims[0]);
    if (node->attributes.dropout.channels && rule_shape(graph, node, 0).rank < 2)
        return rule_fail(graph, node, "'%s' has no channels to drop, expected rank 2 or more",
                         rule_input(graph, node, 0)->name);
    double p = node->attributes.dropout.probability;
    if (!(p >= 0 && p < 1)) return rule_fail(graph, node, "probability is %g, expected 0 <= p < 1", p);
    return infer_like_input(graph, node, outputs);
}

bool infer_reshape(Graph *graph, const Node *node, OutputRule *outputs)
{
    const ValueInfo *x = rule_input(graph, node, 0);
    Shape to = node->attributes.reshape;
    char from_text[SHAPE_TEXT_SIZE], to_text[SHAPE_TEXT_SIZE];
    size_t bytes;
    if (!shape_bytes(to, 1, &bytes) || shape_count(to) != shape_count(x->shape))
        return rule_fail(graph, node, "shape of '%s' is %s, which can't become %s", x->name,
                         shape_text(x->shape, from_text), shape_text(to, to_text));
    outputs[0] = (OutputRule){x->dtype, to};
    return true;
}

void gradient_affine(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0]) dx[0] = affine(graph, dy[0], node->attributes.affine.scale, 0);
}

void gradient_add(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    (void)graph, (void)node;
    if (needed[0]) dx[0] = dy[0];
    if (needed[1]) dx[1] = dy[0];
}

/* d/da; the scaled part joins from outside the differentiated function (gradients of peers), so nothing flows to b or
 * s. */
void gradient_add_scaled(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    (void)graph, (void)node;
    if (needed[0]) dx[0] = dy[0];
}

/* d/dx; the factor is a constant of the step. */
void gradient_scale_by(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0]) dx[0] = scale_by(graph, dy[0], node->inputs[1]);
}

void gradient_relu(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0]) dx[0] = graph_apply(graph, OP_RELU_GRAD, (Value[]){dy[0], node->outputs[0]}, 2, (Attributes){0});
}

void gradient_gelu(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0]) dx[0] = graph_apply(graph, OP_GELU_GRAD, (Value[]){dy[0], node->inputs[0]}, 2, node->attributes);
}

/* The mask is a function of (seed, step, layer, index), so the gradient draws it again instead of keeping it. */
void gradient_dropout(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0]) dx[0] = graph_apply(graph, OP_DROPOUT, (Value[]){dy[0], node->inputs[1]}, 2, node->attributes);
}

void gradient_reshape(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0]) dx[0] = reshape(graph, dy[0], rule_shape(graph, node, 0));
}

/* One operation an element of the larger side. */
double flops_elementwise(const Graph *graph, const Node *node)
{
    double in = (double)shape_count(rule_shape(graph, node, 0));
    double out = (double)shape_count(graph_shape(graph, node->outputs[0]));
    return in > out ? in : out;
}
