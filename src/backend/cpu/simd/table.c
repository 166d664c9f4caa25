/* The one symbol a level exports. */
#include "backend/cpu/simd/kernels.h"

#define TEXT_(x)  #x
#define TEXT(x)   TEXT_(x)
#define ROW(name) .name = LEVEL(name)

extern const SimdKernels LEVEL(simd_kernels);

const SimdKernels LEVEL(simd_kernels) = {
    .name = TEXT(SIMD_LEVEL),
    .lanes = L,
    ROW(lanes_from_plain),
    ROW(lanes_to_plain),
    ROW(conv2d_lanes),
    ROW(conv2d_grad_input_lanes),
    ROW(conv2d_grad_parameters_lanes),
    ROW(grad_parameters_scratch),
    ROW(max_pool2_lanes),
    ROW(max_pool2_lanes_backward),
    ROW(conv2d_plain),
    ROW(conv2d_plain_scratch),
    ROW(linear_rows),
    ROW(relu),
    ROW(relu_grad),
    ROW(gelu),
    ROW(gelu_grad),
    ROW(add),
    ROW(mul),
    ROW(affine),
    ROW(axpy),
    ROW(sgd_momentum),
    ROW(sum_of_squares),
    ROW(squared_difference),
    ROW(difference),
    ROW(softmax),
    ROW(dropout_mask),
    ROW(dropout_mask_lanes),
};
