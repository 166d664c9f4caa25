/* Rules of linear layers and matrix products. */
#include "graph/ops.h"
#include "graph/rules.h"

/* x [N, I], w [O, I], b [O] */
bool infer_linear(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 3)) return false;
    if (!rule_rank(graph, node, 0, 2) || !rule_rank(graph, node, 1, 2)) return false;
    const ValueInfo *x = rule_input(graph, node, 0), *w = rule_input(graph, node, 1);
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    if (x->dtype != w->dtype || x->shape.dims[1] != w->shape.dims[1])
        return rule_fail(graph, node, "shape of '%s' is %s, but weights '%s' are %s; expected [N, I] and [O, I]",
                         x->name, shape_text(x->shape, a), w->name, shape_text(w->shape, b));
    if (rule_has(node, 2)) {
        const ValueInfo *bias = rule_input(graph, node, 2);
        if (!shape_equal(bias->shape, shape_of(w->shape.dims[0])))
            return rule_fail(graph, node, "shape of bias '%s' is %s, expected [%ld]", bias->name,
                             shape_text(bias->shape, a), (long)w->shape.dims[0]);
    }
    outputs[0] = (OutputRule){x->dtype, shape_of(x->shape.dims[0], w->shape.dims[0])};
    return true;
}

/* dy [N, O], w [O, I] -> [N, I] */
bool infer_linear_grad_input(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 2)) return false;
    if (!rule_rank(graph, node, 0, 2) || !rule_rank(graph, node, 1, 2)) return false;
    Shape dy = rule_shape(graph, node, 0), w = rule_shape(graph, node, 1);
    if (dy.dims[1] != w.dims[0])
        return rule_fail(graph, node, "'%s' has %ld columns, but the weights have %ld rows",
                         rule_input(graph, node, 0)->name, (long)dy.dims[1], (long)w.dims[0]);
    outputs[0] = (OutputRule){rule_input(graph, node, 0)->dtype, shape_of(dy.dims[0], w.dims[1])};
    return true;
}

/* dy [N, O], x [N, I] -> dw [O, I], db [O] */
bool infer_linear_grad_parameters(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 2)) return false;
    if (!rule_rank(graph, node, 0, 2) || !rule_rank(graph, node, 1, 2)) return false;
    Shape dy = rule_shape(graph, node, 0), x = rule_shape(graph, node, 1);
    DType dtype = rule_input(graph, node, 0)->dtype;
    if (dy.dims[0] != x.dims[0])
        return rule_fail(graph, node, "'%s' has %ld rows, but '%s' has %ld", rule_input(graph, node, 0)->name,
                         (long)dy.dims[0], rule_input(graph, node, 1)->name, (long)x.dims[0]);
    outputs[0] = (OutputRule){dtype, shape_of(dy.dims[1], x.dims[1])};
    outputs[1] = (OutputRule){dtype, shape_of(dy.dims[1])};
    return true;
}

void gradient_linear(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (needed[0])
        dx[0] = graph_apply(graph, OP_LINEAR_GRAD_INPUT, (Value[]){dy[0], node->inputs[1]}, 2, (Attributes){0});
    if (!needed[1] && !(rule_has(node, 2) && needed[2])) return;
    dx[1] = graph_apply(graph, OP_LINEAR_GRAD_PARAMETERS, (Value[]){dy[0], node->inputs[0]}, 2, (Attributes){0});
    if (rule_has(node, 2)) dx[2] = graph_sibling(graph, dx[1], 1);
}

bool infer_matmul(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_real(graph, node, 0) || !rule_rank(graph, node, 0, 2) || !rule_rank(graph, node, 1, 2)) return false;
    const ValueInfo *a = rule_input(graph, node, 0), *b = rule_input(graph, node, 1);
    bool ta = node->attributes.matmul.transpose_a, tb = node->attributes.matmul.transpose_b;
    int64_t rows = a->shape.dims[ta], inner = a->shape.dims[!ta], columns = b->shape.dims[!tb];
    char left[SHAPE_TEXT_SIZE], right[SHAPE_TEXT_SIZE];
    if (a->dtype != b->dtype || b->shape.dims[tb] != inner)
        return rule_fail(graph, node, "'%s' is %s%s and '%s' is %s%s; the inner dimensions differ", a->name,
                         shape_text(a->shape, left), ta ? " transposed" : "", b->name, shape_text(b->shape, right),
                         tb ? " transposed" : "");
    outputs[0] = (OutputRule){a->dtype, shape_of(rows, columns)};
    return true;
}

/* y = op(a) op(b): d op(a) = dy op(b)', d op(b) = op(a)' dy; transposed where the operand was. */
void gradient_matmul(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    bool ta = node->attributes.matmul.transpose_a, tb = node->attributes.matmul.transpose_b;
    Value a = node->inputs[0], b = node->inputs[1];
    if (needed[0]) dx[0] = ta ? matmul(graph, b, dy[0], tb, true) : matmul(graph, dy[0], b, false, !tb);
    if (needed[1]) dx[1] = tb ? matmul(graph, dy[0], a, true, ta) : matmul(graph, a, dy[0], !ta, false);
}

static double product(Shape shape, double other)
{
    return 2 * (double)shape_count(shape) * other;
}

double flops_linear(const Graph *graph, const Node *node)
{
    return product(graph_shape(graph, node->outputs[0]), (double)rule_shape(graph, node, 1).dims[1]);
}

double flops_linear_grad_input(const Graph *graph, const Node *node)
{
    return product(graph_shape(graph, node->outputs[0]), (double)rule_shape(graph, node, 1).dims[0]);
}

double flops_linear_grad_parameters(const Graph *graph, const Node *node)
{
    return product(graph_shape(graph, node->outputs[0]), (double)rule_shape(graph, node, 0).dims[0]);
}

double flops_matmul(const Graph *graph, const Node *node)
{
    return product(graph_shape(graph, node->outputs[0]),
                   (double)rule_shape(graph, node, 0).dims[!node->attributes.matmul.transpose_a]);
}
