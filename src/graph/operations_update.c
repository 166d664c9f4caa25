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

/* w, v, g, lr */
bool infer_sgd(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 4) || !rule_same(graph, node, 0, 1) || !rule_same(graph, node, 0, 2) ||
        !rule_scalar(graph, node, 3))
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

/* Two multiply-adds a parameter, and two more with weight decay. */
double flops_sgd(const Graph *graph, const Node *node)
{
    return (node->attributes.sgd.weight_decay != 0 ? 6 : 4) * (double)shape_count(rule_shape(graph, node, 0));
}
