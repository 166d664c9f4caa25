#include "graph/operation.h"

#include <stdio.h>

#include "graph/rules.h"

/* One row an operation: name, inputs (least, most), outputs, view, shape rule, gradient rule, FLOPs. */
static const Operation operations[OPERATION_COUNT] = {
    [OP_AFFINE] = {"affine", 1, 1, 1, false, infer_real_like_input, gradient_affine, flops_elementwise},
    [OP_ADD] = {"add", 2, 2, 1, false, infer_add, gradient_add, flops_elementwise},
    [OP_ADD_SCALED] = {"add_scaled", 3, 3, 1, false, infer_add_scaled, gradient_add_scaled, flops_elementwise},
    [OP_SCALE_BY] = {"scale_by", 2, 2, 1, false, infer_scale_by, gradient_scale_by, flops_elementwise},
    [OP_RELU] = {"relu", 1, 1, 1, false, infer_real_like_input, gradient_relu, flops_elementwise},
    [OP_RELU_GRAD] = {"relu_grad", 2, 2, 1, false, infer_activation_grad, NULL, flops_elementwise},
    [OP_GELU] = {"gelu", 1, 1, 1, false, infer_real_like_input, gradient_gelu, flops_elementwise},
    [OP_GELU_GRAD] = {"gelu_grad", 2, 2, 1, false, infer_activation_grad, NULL, flops_elementwise},
    [OP_DROPOUT] = {"dropout", 2, 2, 1, false, infer_dropout, gradient_dropout, flops_elementwise},
    [OP_RESHAPE] = {"reshape", 1, 1, 1, true, infer_reshape, gradient_reshape, NULL},
    [OP_DETACH] = {"detach", 1, 1, 1, true, infer_like_input, NULL, NULL},
    [OP_CONCAT] = {"concat", 1, -1, 1, false, infer_concat, gradient_concat, NULL},
    [OP_SLICE] = {"slice", 1, 1, 1, false, infer_slice, gradient_slice, NULL},
    [OP_SLICE_GRAD] = {"slice_grad", 1, 1, 1, false, infer_slice_grad, NULL, NULL},
    [OP_ADAPTIVE_AVG_POOL2D] = {"adaptive_avg_pool2d", 1, 1, 1, false, infer_adaptive_avg_pool2d,
                                gradient_adaptive_avg_pool2d, flops_elementwise},
    [OP_ADAPTIVE_AVG_POOL2D_GRAD] = {"adaptive_avg_pool2d_grad", 1, 1, 1, false, infer_adaptive_avg_pool2d_grad, NULL,
                                     flops_elementwise},
    [OP_MAX_POOL2D] = {"max_pool2d", 1, 1, 2, false, infer_max_pool2d, gradient_max_pool2d, flops_elementwise},
    [OP_MAX_POOL2D_GRAD] = {"max_pool2d_grad", 2, 2, 1, false, infer_max_pool2d_grad, NULL, flops_elementwise},
    [OP_CONV2D] = {"conv2d", 2, 3, 1, false, infer_conv2d, gradient_conv2d, flops_conv2d},
    [OP_CONV2D_POOL] = {"conv2d_pool", 2, 4, 2, false, infer_conv2d_pool, NULL, flops_conv2d_pool},
    [OP_CONV2D_GRAD_INPUT] = {"conv2d_grad_input", 2, 2, 1, false, infer_conv2d_grad_input, NULL,
                              flops_conv2d_grad_input},
    [OP_CONV2D_GRAD_PARAMETERS] = {"conv2d_grad_parameters", 2, 2, 2, false, infer_conv2d_grad_parameters, NULL,
                                   flops_conv2d_grad_parameters},
    [OP_LINEAR] = {"linear", 2, 3, 1, false, infer_linear, gradient_linear, flops_linear},
    [OP_LINEAR_GRAD_INPUT] = {"linear_grad_input", 2, 2, 1, false, infer_linear_grad_input, NULL,
                              flops_linear_grad_input},
    [OP_LINEAR_GRAD_PARAMETERS] = {"linear_grad_parameters", 2, 2, 2, false, infer_linear_grad_parameters, NULL,
                                   flops_linear_grad_parameters},
    [OP_MATMUL] = {"matmul", 2, 2, 1, false, infer_matmul, gradient_matmul, flops_matmul},
    [OP_SOFTMAX] = {"softmax", 1, 2, 1, false, infer_softmax, gradient_softmax, flops_softmax},
    [OP_SOFTMAX_GRAD] = {"softmax_grad", 2, 2, 1, false, infer_softmax_grad, NULL, flops_softmax},
    [OP_WEIGHTED_SUM] = {"weighted_sum", 2, 2, 1, false, infer_weighted_sum, gradient_weighted_sum, flops_weighted_sum},
    [OP_WEIGHTED_SUM_GRAD_WEIGHTS] = {"weighted_sum_grad_weights", 2, 2, 1, false, infer_weighted_sum_grad_weights,
                                      NULL, flops_weighted_sum},
    [OP_WEIGHTED_SUM_GRAD_VALUES] = {"weighted_sum_grad_values", 2, 2, 1, false, infer_weighted_sum_grad_values, NULL,
                                     flops_weighted_sum},
    [OP_CROSS_ENTROPY] = {"cross_entropy", 2, 2, 2, false, infer_cross_entropy, gradient_cross_entropy, flops_softmax},
    [OP_CROSS_ENTROPY_GRAD] = {"cross_entropy_grad", 3, 3, 1, false, infer_cross_entropy_grad, NULL, flops_softmax},
    [OP_SOFT_CROSS_ENTROPY] = {"soft_cross_entropy", 3, 3, 3, false, infer_soft_cross_entropy,
                               gradient_soft_cross_entropy, flops_softmax},
    [OP_SOFT_CROSS_ENTROPY_GRAD] = {"soft_cross_entropy_grad", 4, 4, 1, false, infer_soft_cross_entropy_grad, NULL,
                                    flops_softmax},
    [OP_MEAN_SQUARED_ERROR] = {"mean_squared_error", 2, 2, 1, false, infer_mean_squared_error,
                               gradient_mean_squared_error, flops_elementwise},
    [OP_MEAN_SQUARED_ERROR_GRAD] = {"mean_squared_error_grad", 3, 3, 1, false, infer_mean_squared_error_grad, NULL,
                                    flops_elementwise},
    [OP_GLOBAL_NORM] = {"global_norm", 1, -1, 1, false, infer_global_norm, NULL, flops_global_norm},
    [OP_CLIP_FACTOR] = {"clip_factor", 1, 1, 1, false, infer_clip_factor, NULL, NULL},
    [OP_LOSS_SCALE] = {"loss_scale", 3, 3, 3, false, infer_loss_scale, NULL, NULL},
    [OP_SGD] = {"sgd", 4, 5, 2, false, infer_sgd, NULL, flops_sgd},
};

const Operation *operation_of(OperationKind kind)
{
    return &operations[kind];
}

static double value_bytes(const Graph *graph, Value value)
{
    if (!value_exists(value)) return 0;
    const ValueInfo *info = graph_value(graph, value);
    return (double)shape_count(info->shape) * (double)dtype_size(info->dtype);
}

double operation_bytes(const Graph *graph, const Node *node)
{
    if (operation_of(node->operation)->view) return 0;
    double bytes = 0;
    for (int i = 0; i < node->input_count; i++)
        bytes += value_bytes(graph, node->inputs[i]);
    for (int i = 0; i < node->output_count; i++)
        bytes += value_bytes(graph, node->outputs[i]);
    return bytes;
}

double operation_flops(const Graph *graph, const Node *node)
{
    FlopsRule *flops = operation_of(node->operation)->flops;
    return flops != NULL ? flops(graph, node) : 0;
}

bool rule_fail(Graph *graph, const Node *node, const char *format, ...)
{
    char sentence[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    const char *operation = operation_of(node->operation)->name;
    if (*node->layer != '\0')
        graph_fail(graph, STATUS_INVALID_ARGUMENT, "%s (%s): %s", node->layer, operation, sentence);
    else
        graph_fail(graph, STATUS_INVALID_ARGUMENT, "%s: %s", operation, sentence);
    return false;
}

bool rule_rank(Graph *graph, const Node *node, int input, int rank)
{
    const ValueInfo *info = rule_input(graph, node, input);
    char text[SHAPE_TEXT_SIZE];
    return info->shape.rank == rank || rule_fail(graph, node, "shape of '%s' is %s, expected rank %d", info->name,
                                                 shape_text(info->shape, text), rank);
}

bool rule_same(Graph *graph, const Node *node, int a, int b)
{
    const ValueInfo *one = rule_input(graph, node, a), *other = rule_input(graph, node, b);
    char first[SHAPE_TEXT_SIZE], second[SHAPE_TEXT_SIZE];
    return (one->dtype == other->dtype && shape_equal(one->shape, other->shape)) ||
           rule_fail(graph, node, "'%s' is %s %s, but '%s' is %s %s; expected the same", one->name,
                     dtype_name(one->dtype), shape_text(one->shape, first), other->name, dtype_name(other->dtype),
                     shape_text(other->shape, second));
}

bool rule_dtype(Graph *graph, const Node *node, int input, DType dtype)
{
    const ValueInfo *info = rule_input(graph, node, input);
    return info->dtype == dtype || rule_fail(graph, node, "dtype of '%s' is %s, expected %s", info->name,
                                             dtype_name(info->dtype), dtype_name(dtype));
}

bool rule_real(Graph *graph, const Node *node, int input)
{
    const ValueInfo *info = rule_input(graph, node, input);
    return info->dtype == DTYPE_F32 || info->dtype == DTYPE_F64 ||
           rule_fail(graph, node, "dtype of '%s' is %s, expected f32 or f64", info->name, dtype_name(info->dtype));
}

bool rule_alike(Graph *graph, const Node *node, int count)
{
    if (!rule_real(graph, node, 0)) return false;
    for (int i = 1; i < count; i++)
        if (rule_has(node, i) && !rule_dtype(graph, node, i, rule_input(graph, node, 0)->dtype)) return false;
    return true;
}

bool rule_scalar(Graph *graph, const Node *node, int input)
{
    const ValueInfo *info = rule_input(graph, node, input);
    char text[SHAPE_TEXT_SIZE];
    return info->shape.rank == 0 ||
           rule_fail(graph, node, "shape of '%s' is %s, expected a scalar", info->name, shape_text(info->shape, text));
}
