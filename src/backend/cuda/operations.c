/* The table: how each operation is prepared, the types of what it reads and writes, and whose rows may lie apart. */
#include "backend/cuda/cuda.h"

#define OWN    TYPE_OWN
#define ACT    TYPE_ACTIVATION
#define ANY    TYPE_ANY
#define FOLLOW TYPE_FOLLOW

enum { ALL = ~0u >> 1 }; /* every input */

/* clang-format off: a table */
static const CudaOperation operations[CUDA_KIND_COUNT] = {
    [OP_AFFINE] = {NULL, launch_affine, NULL, {ANY}, {FOLLOW}, 0, 0},
    [OP_ADD] = {NULL, launch_add, NULL, {FOLLOW, FOLLOW, FOLLOW, FOLLOW}, {FOLLOW}, 0, 0},
    [OP_ADD_SCALED] = {NULL, launch_add_scaled, NULL, {FOLLOW, FOLLOW, OWN, OWN}, {FOLLOW}, 0, 0},
    [OP_SCALE_BY] = {NULL, launch_scale_by, NULL, {OWN, OWN}, {OWN}, 0, 0},
    [OP_RELU] = {NULL, launch_relu, NULL, {FOLLOW}, {FOLLOW}, 0, 0},
    [OP_RELU_GRAD] = {NULL, launch_relu_grad, NULL, {FOLLOW, FOLLOW}, {FOLLOW}, 0, 0},
    [OP_GELU] = {NULL, launch_gelu, NULL, {FOLLOW}, {FOLLOW}, 0, 0},
    [OP_GELU_GRAD] = {NULL, launch_gelu_grad, NULL, {FOLLOW, FOLLOW}, {FOLLOW}, 0, 0},
    [OP_DROPOUT] = {NULL, launch_dropout, NULL, {ACT}, {ACT}, 0, 0},
    [OP_CONCAT] = {NULL, NULL, prepare_concat, {ACT, ACT, ACT, ACT}, {ACT}, ALL, 0},
    [OP_SLICE] = {NULL, launch_slice, NULL, {FOLLOW}, {FOLLOW}, 0, 0},
    [OP_SLICE_GRAD] = {NULL, NULL, prepare_slice_grad, {FOLLOW}, {FOLLOW}, 0, 0},
    [OP_ADAPTIVE_AVG_POOL2D] = {NULL, launch_adaptive_avg_pool2d, NULL, {ACT}, {ACT}, 0, 0},
    [OP_ADAPTIVE_AVG_POOL2D_GRAD] = {NULL, launch_adaptive_avg_pool2d_grad, NULL, {ACT}, {ACT}, 0, 0},
    [OP_MAX_POOL2D] = {NULL, launch_max_pool2d, NULL, {ACT}, {ACT}, 0, 0},
    [OP_MAX_POOL2D_GRAD] = {NULL, launch_max_pool2d_grad, NULL, {ACT}, {ACT}, 0, 0},
    [OP_CONV2D] = {NULL, NULL, prepare_conv2d, {ACT, ACT, OWN, OWN}, {ACT}, 0, 0},
    [OP_CONV2D_POOL] = {NULL, NULL, prepare_conv2d_pool, {ACT, ACT, OWN, OWN}, {ACT}, 0, 1},
    [OP_CONV2D_GRAD_INPUT] = {NULL, NULL, prepare_conv2d_grad_input, {ACT, ACT}, {ACT}, 0, 0},
    [OP_CONV2D_GRAD_PARAMETERS] = {NULL, NULL, prepare_conv2d_grad_parameters, {ACT, ACT}, {OWN, OWN}, 0, 0},
    [OP_LINEAR] = {NULL, NULL, prepare_linear, {ACT, ACT, ACT, ACT}, {ACT}, 1, 1},
    [OP_LINEAR_GRAD_INPUT] = {NULL, NULL, prepare_linear_grad_input, {ACT, ACT}, {ACT}, 1, 1},
    [OP_LINEAR_GRAD_PARAMETERS] = {NULL, NULL, prepare_linear_grad_parameters, {ACT, ACT}, {OWN, OWN}, 2, 0},
    [OP_MATMUL] = {NULL, NULL, prepare_matmul, {ACT, ACT}, {ACT}, 3, 1},
    [OP_SOFTMAX] = {NULL, launch_softmax, NULL, {ACT}, {ACT}, 0, 0},
    [OP_SOFTMAX_GRAD] = {NULL, launch_softmax_grad, NULL, {ACT, ACT}, {ACT}, 0, 0},
    [OP_WEIGHTED_SUM] = {NULL, launch_weighted_sum, NULL, {ACT, ACT}, {ACT}, 0, 0},
    [OP_WEIGHTED_SUM_GRAD_WEIGHTS] = {NULL, launch_weighted_sum_grad_weights, NULL, {ACT, ACT}, {ACT}, 0, 0},
    [OP_WEIGHTED_SUM_GRAD_VALUES] = {NULL, launch_weighted_sum_grad_values, NULL, {ACT, ACT}, {ACT}, 0, 0},
    [OP_CROSS_ENTROPY] = {NULL, NULL, prepare_cross_entropy, {ACT}, {OWN, ACT}, 0, 0},
    [OP_CROSS_ENTROPY_GRAD] = {NULL, launch_cross_entropy_grad, NULL, {OWN, ACT}, {ACT}, 0, 0},
    [OP_SOFT_CROSS_ENTROPY] = {NULL, NULL, prepare_soft_cross_entropy, {ACT, ACT}, {OWN, ACT, ACT}, 0, 0},
    [OP_SOFT_CROSS_ENTROPY_GRAD] = {NULL, launch_soft_cross_entropy_grad, NULL, {OWN, ACT, ACT}, {ACT}, 0, 0},
    [OP_MEAN_SQUARED_ERROR] = {NULL, NULL, prepare_mean_squared_error, {ACT, ACT}, {OWN}, 0, 0},
    [OP_MEAN_SQUARED_ERROR_GRAD] = {NULL, launch_mean_squared_error_grad, NULL, {OWN, ACT, ACT}, {ACT}, 0, 0},
    [OP_GLOBAL_NORM] = {NULL, NULL, prepare_global_norm, {OWN}, {OWN}, 0, 0},
    [OP_CLIP_FACTOR] = {NULL, launch_clip_factor, NULL, {OWN}, {OWN}, 0, 0},
    [OP_LOSS_SCALE] = {NULL, launch_loss_scale, NULL, {OWN}, {OWN, OWN, OWN}, 0, 0},
    /* OP_SGD is always a group. */
    [CUDA_CONVERT] = {"convert", launch_affine, prepare_convert, {ANY}, {ANY}, 0, 0},
    [CUDA_CONVERT_INPUT] = {"convert", launch_saturate, NULL, {ANY}, {ANY}, 0, 0},
    [CUDA_COPY] = {"copy", launch_copy, NULL, {ANY}, {ANY}, 1, 1},
    [CUDA_POOL_GRAD] = {"dropout_pool_relu_grad", NULL, prepare_pool_grad, {ACT}, {ACT, OWN}, 3, 0},
    [CUDA_CROSS_ENTROPY] =
        {"cross_entropy_both", NULL, prepare_cross_entropy_both, {ACT, OWN, OWN, OWN}, {OWN, ACT}, 0, 0},
    [CUDA_LINEAR_RELU_GRAD] = {"linear_relu_grad", NULL, prepare_linear_relu_grad, {ACT}, {ACT}, 1, 1},
    [CUDA_LINEAR_GELU] = {"linear_gelu", NULL, prepare_linear_gelu, {ACT}, {ACT, ACT}, 1, 1},
    [CUDA_LINEAR_GELU_GRAD] = {"linear_gelu_grad", NULL, prepare_linear_gelu_grad, {ACT}, {ACT}, 1, 1},
    [CUDA_SGD_GROUP] = {"sgd", NULL, prepare_sgd_group, {OWN}, {OWN}, 0, 0},
};
/* clang-format on */

const CudaOperation *cuda_operation(int kind)
{
    return &operations[kind];
}

CudaView step_input(const CudaStep *step, int i)
{
    return i < step->input_count ? step->inputs[i] : (CudaView){.shape = shape_scalar()};
}
