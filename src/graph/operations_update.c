/* Rules of what optimisers need. None is differentiated. */
#include "graph/ops.h"
#include "graph/rules.h"

bool infer_global_norm(Graph *graph, const Node *node, OutputRule *outputs)
{
    for (int i = 0; i < node->input_count; i++)
        if (!rule_real(graph, node, i)) return false;
    outputs[0] = (OutputRule){rule_input(graph, node, 0)->dtype, shape_scalar()};
    return true;
}

bool infer_clip_factor(Graph *graph, const Node *node, OutputRule *outputs)
{
    return rule_scalar(graph, node, 0) && rule_real(graph, node, 0) && infer_like_input(graph, node, outputs);
}

/* norm, scale, good steps */
bool infer_loss_scale(Graph *graph, const Node *node, OutputRule *outputs)
{
    for (int i = 0; i < 3; i++)
        if (!rule_scalar(graph, node, i)) return false;
    if (!rule_alike(graph, node, 2) || !rule_dtype(graph, node, 2, DTYPE_I32)) return false;
    const DType real = rule_input(graph, node, 0)->dtype;
    outputs[0] = outputs[1] = (OutputRule){real, shape_scalar()};
    outputs[2] = (OutputRule){DTYPE_I32, shape_scalar()};
    return true;
}

/* w, v, g, lr, gradient scale or none */
bool infer_sgd(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 5) || !rule_same(graph, node, 0, 1) || !rule_same(graph, node, 0, 2) ||
        !rule_scalar(graph, node, 3) || (rule_has(node, 4) && !rule_scalar(graph, node, 4)))
        return false;
    const ValueInfo *w = rule_input(graph, node, 0);
    outputs[0] = outputs[1] = (OutputRule){w->dtype, w->shape};
    return true;
}

double flops_global_norm(const Graph *graph, const Node *node)
{
    double flops = 0;
    for (int i = 0; i < node->input_count; i++)
        flops += 2 * (double)shape_count(rule_shape(graph, node, i));
    return flops;
}

/* Two multiply-adds a parameter, two more operations with weight decay, one more with a gradient scale. */
double flops_sgd(const Graph *graph, const Node *node)
{
    const double each = (node->attributes.sgd.weight_decay != 0 ? 6 : 4) + (rule_has(node, 4) ? 1 : 0);
    return each * (double)shape_count(rule_shape(graph, node, 0));
}
