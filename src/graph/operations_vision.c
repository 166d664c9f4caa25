/* Rules of convolutions and pooling. */
#include "graph/ops.h"
#include "graph/rules.h"

static bool image_of(Graph *graph, const Node *node, int input)
{
    return rule_real(graph, node, input) && rule_rank(graph, node, input, 4);
}

bool infer_adaptive_avg_pool2d(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!image_of(graph, node, 0)) return false;
    const ValueInfo *x = rule_input(graph, node, 0);
    Shape shape = x->shape;
    shape.dims[2] = node->attributes.pool2d.rows;
    shape.dims[3] = node->attributes.pool2d.columns;
    outputs[0] = (OutputRule){x->dtype, shape};
    return true;
}

/* rows and columns are the input's here as well: the gradient has the input's size. */
bool infer_adaptive_avg_pool2d_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    return infer_adaptive_avg_pool2d(graph, node, outputs);
}

void gradient_adaptive_avg_pool2d(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (!needed[0]) return;
    Shape x = rule_shape(graph, node, 0);
    Attributes attributes = {.pool2d = {.rows = (int32_t)x.dims[2], .columns = (int32_t)x.dims[3]}};
    dx[0] = graph_apply(graph, OP_ADAPTIVE_AVG_POOL2D_GRAD, dy, 1, attributes);
}

bool infer_max_pool2d(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!image_of(graph, node, 0)) return false;
    const ValueInfo *x = rule_input(graph, node, 0);
    Shape shape = x->shape;
    char text[SHAPE_TEXT_SIZE];
    for (int i = 0; i < 2; i++) {
        int32_t kernel = node->attributes.pool2d.kernel[i], stride = node->attributes.pool2d.stride[i];
        if (kernel < 1 || kernel > 15 || stride < 1 || x->shape.dims[2 + i] < kernel)
            return rule_fail(graph, node, "window %d with stride %d doesn't fit '%s' %s (windows are 1 to 15)", kernel,
                             stride, x->name, shape_text(x->shape, text));
        shape.dims[2 + i] = (x->shape.dims[2 + i] - kernel) / stride + 1;
    }
    outputs[0] = (OutputRule){x->dtype, shape};
    outputs[1] = (OutputRule){DTYPE_U8, shape};
    return true;
}

bool infer_max_pool2d_grad(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!image_of(graph, node, 0) || !rule_dtype(graph, node, 1, DTYPE_U8)) return false;
    return infer_adaptive_avg_pool2d(graph, node, outputs); /* rows and columns of the pool's input */
}

void gradient_max_pool2d(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    if (!needed[0]) return;
    Shape x = rule_shape(graph, node, 0);
    Attributes attributes = node->attributes;
    attributes.pool2d.rows = (int32_t)x.dims[2];
    attributes.pool2d.columns = (int32_t)x.dims[3];
    dx[0] = graph_apply(graph, OP_MAX_POOL2D_GRAD, (Value[]){dy[0], node->outputs[1]}, 2, attributes);
}

/* x [N, C, H, W], w [O, C / groups, KH, KW], b [O] */
bool infer_conv2d(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 3)) return false;
    if (!image_of(graph, node, 0) || !rule_rank(graph, node, 1, 4)) return false;
    const ValueInfo *x = rule_input(graph, node, 0), *w = rule_input(graph, node, 1);
    int64_t groups = node->attributes.conv2d.groups;
    char a[SHAPE_TEXT_SIZE], b[SHAPE_TEXT_SIZE];
    if (x->dtype != w->dtype || groups < 1 || w->shape.dims[0] % groups != 0 ||
        x->shape.dims[1] != w->shape.dims[1] * groups)
        return rule_fail(graph, node, "shape of '%s' is %s, but weights '%s' are %s in %ld groups", x->name,
                         shape_text(x->shape, a), w->name, shape_text(w->shape, b), (long)groups);
    Shape shape = shape_of(x->shape.dims[0], w->shape.dims[0], 0, 0);
    for (int i = 0; i < 2; i++) {
        int64_t padding = node->attributes.conv2d.padding[i], stride = node->attributes.conv2d.stride[i];
        int64_t extent = x->shape.dims[2 + i] + 2 * padding - w->shape.dims[2 + i];
        if (extent < 0 || stride < 1 || padding < 0)
            return rule_fail(graph, node, "kernel of '%s' %s with stride %ld and padding %ld doesn't fit '%s' %s",
                             w->name, shape_text(w->shape, b), (long)stride, (long)padding, x->name,
                             shape_text(x->shape, a));
        shape.dims[2 + i] = extent / stride + 1;
    }
    if (rule_has(node, 2) && !shape_equal(rule_shape(graph, node, 2), shape_of(w->shape.dims[0])))
        return rule_fail(graph, node, "shape of bias '%s' is %s, expected [%ld]", rule_input(graph, node, 2)->name,
                         shape_text(rule_shape(graph, node, 2), a), (long)w->shape.dims[0]);
    outputs[0] = (OutputRule){x->dtype, shape};
    return true;
}

/* Inputs x, w, b, random; a dropped channel is dropped before the pool. The window is 2 with stride 2. */
bool infer_conv2d_pool(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!infer_conv2d(graph, node, outputs)) return false;
    if (rule_has(node, 3) && !rule_dtype(graph, node, 3, DTYPE_I64)) return false;
    outputs[0].shape.dims[2] /= 2;
    outputs[0].shape.dims[3] /= 2;
    outputs[1] = (OutputRule){DTYPE_U8, outputs[0].shape};
    return true;
}

/* dy [N, O, OH, OW], w [O, C / groups, KH, KW] -> [N, C, rows, columns] */
bool infer_conv2d_grad_input(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 2)) return false;
    if (!image_of(graph, node, 0) || !rule_rank(graph, node, 1, 4)) return false;
    Shape dy = rule_shape(graph, node, 0), w = rule_shape(graph, node, 1);
    outputs[0] = (OutputRule){rule_input(graph, node, 0)->dtype,
                              shape_of(dy.dims[0], w.dims[1] * node->attributes.conv2d.groups,
                                       node->attributes.conv2d.rows, node->attributes.conv2d.columns)};
    return true;
}

/* dy [N, O, OH, OW], x [N, C, H, W] -> dw [O, C / groups, KH, KW], db [O] */
bool infer_conv2d_grad_parameters(Graph *graph, const Node *node, OutputRule *outputs)
{
    if (!rule_alike(graph, node, 2)) return false;
    if (!image_of(graph, node, 0) || !image_of(graph, node, 1)) return false;
    Shape dy = rule_shape(graph, node, 0), x = rule_shape(graph, node, 1);
    DType dtype = rule_input(graph, node, 0)->dtype;
    outputs[0] = (OutputRule){dtype, shape_of(dy.dims[1], x.dims[1] / node->attributes.conv2d.groups,
                                              node->attributes.conv2d.kernel[0], node->attributes.conv2d.kernel[1])};
    outputs[1] = (OutputRule){dtype, shape_of(dy.dims[1])};
    return true;
}

void gradient_conv2d(Graph *graph, const Node *node, const Value *dy, const bool *needed, Value *dx)
{
    Shape x = rule_shape(graph, node, 0);
    Attributes attributes = node->attributes;
    attributes.conv2d.rows = (int32_t)x.dims[2];
    attributes.conv2d.columns = (int32_t)x.dims[3];
    if (needed[0]) dx[0] = graph_apply(graph, OP_CONV2D_GRAD_INPUT, (Value[]){dy[0], node->inputs[1]}, 2, attributes);
    if (!needed[1] && !(rule_has(node, 2) && needed[2])) return;
    dx[1] = graph_apply(graph, OP_CONV2D_GRAD_PARAMETERS, (Value[]){dy[0], node->inputs[0]}, 2, attributes);
    if (rule_has(node, 2)) dx[2] = graph_sibling(graph, dx[1], 1);
}

/* `outputs` sums of C / groups KH KW products each. */
static double flops_of(double outputs, Shape weights)
{
    return 2 * outputs * (double)(weights.dims[1] * weights.dims[2] * weights.dims[3]);
}

double flops_conv2d(const Graph *graph, const Node *node)
{
    return flops_of((double)shape_count(graph_shape(graph, node->outputs[0])), rule_shape(graph, node, 1));
}

double flops_conv2d_pool(const Graph *graph, const Node *node)
{
    return 4 *
           flops_conv2d(graph, node); /* of the convolution, whose output is four times the pool's (odd edges aside) */
}

double flops_conv2d_grad_input(const Graph *graph, const Node *node)
{
    return flops_of((double)shape_count(rule_shape(graph, node, 0)), rule_shape(graph, node, 1));
}

double flops_conv2d_grad_parameters(const Graph *graph, const Node *node)
{
    return flops_of((double)shape_count(rule_shape(graph, node, 0)), graph_shape(graph, node->outputs[0]));
}
