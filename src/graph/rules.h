/* The shape, gradient and FLOP rules behind the operation table (operation.c), by family. Internal to graph/. */
#pragma once

#include "graph/operation.h"

/* Helpers of shape rules: false after graph_fail with a sentence that names the values. */
bool rule_rank(Graph *graph, const Node *node, int input, int rank);
bool rule_same(Graph *graph, const Node *node, int a, int b); /* same dtype and shape */
bool rule_dtype(Graph *graph, const Node *node, int input, DType dtype);
bool rule_real(Graph *graph, const Node *node, int input); /* F32 or F64 */
/* Inputs 0 .. count - 1 (those that are there) are all F32 or all F64. */
bool rule_alike(Graph *graph, const Node *node, int count);
bool rule_scalar(Graph *graph, const Node *node, int input);
/* The node refused: "<layer> (<operation>): <sentence>". Returns false. */
bool rule_fail(Graph *graph, const Node *node, const char *format, ...) __attribute__((format(printf, 3, 4)));
static inline Shape rule_shape(const Graph *graph, const Node *node, int input)
{
    return graph_shape(graph, node->inputs[input]);
}
static inline const ValueInfo *rule_input(const Graph *graph, const Node *node, int input)
{
    return graph_value(graph, node->inputs[input]);
}
static inline bool rule_has(const Node *node, int input)
{
    return input < node->input_count && value_exists(node->inputs[input]);
}

typedef bool InferRule(Graph *graph, const Node *node, OutputRule *outputs);
typedef void GradientRule(Graph *graph, const Node *node, const Value *output_gradients, const bool *needed,
                          Value *input_gradients);
typedef double FlopsRule(const Graph *graph, const Node *node);

/* operations_elementwise.c */
InferRule infer_like_input, infer_real_like_input, infer_add, infer_add_scaled, infer_scale_by, infer_activation_grad,
    infer_dropout, infer_reshape;
GradientRule gradient_affine, gradient_add, gradient_add_scaled, gradient_scale_by, gradient_relu, gradient_gelu,
    gradient_dropout, gradient_reshape;
FlopsRule flops_elementwise;

/* operations_join.c */
InferRule infer_concat, infer_slice, infer_slice_grad, infer_weighted_sum, infer_weighted_sum_grad_weights,
    infer_weighted_sum_grad_values;
GradientRule gradient_concat, gradient_slice, gradient_weighted_sum;
FlopsRule flops_weighted_sum;

/* operations_vision.c */
InferRule infer_adaptive_avg_pool2d, infer_adaptive_avg_pool2d_grad, infer_max_pool2d, infer_max_pool2d_grad,
    infer_conv2d, infer_conv2d_pool, infer_conv2d_grad_input, infer_conv2d_grad_parameters;
GradientRule gradient_adaptive_avg_pool2d, gradient_max_pool2d, gradient_conv2d;
FlopsRule flops_conv2d, flops_conv2d_pool, flops_conv2d_grad_input, flops_conv2d_grad_parameters;

/* operations_linear.c */
InferRule infer_linear, infer_linear_grad_input, infer_linear_grad_parameters, infer_matmul;
GradientRule gradient_linear, gradient_matmul;
FlopsRule flops_linear, flops_linear_grad_input, flops_linear_grad_parameters, flops_matmul;

/* operations_loss.c */
InferRule infer_softmax, infer_softmax_grad, infer_cross_entropy, infer_cross_entropy_grad, infer_soft_cross_entropy,
    infer_soft_cross_entropy_grad, infer_mean_squared_error, infer_mean_squared_error_grad;
GradientRule gradient_softmax, gradient_cross_entropy, gradient_soft_cross_entropy, gradient_mean_squared_error;
FlopsRule flops_softmax;

/* operations_update.c */
InferRule infer_global_norm, infer_clip_factor, infer_loss_scale, infer_sgd;
FlopsRule flops_global_norm, flops_sgd;
