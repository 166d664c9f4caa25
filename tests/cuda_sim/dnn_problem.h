/* A convolution with content, for tests: its tensors in double, what the reference backend's loops make of them, and
 * the same in device memory for a plan to run on. A helper that fails ends the test. */
#pragma once

#include "backend/cuda/dnn.h"
#include "tensor/tensor.h"

/* What plans are made for. */
extern const DType dnn_types[3]; /* F32, BF16, F16 */
enum { UNLIMITED = 1 << 28 };    /* bytes of workspace, for a plan that may have any */

/* The plan that there is to be; from `text` where that isn't NULL. */
DnnPlan *plan_made(Dnn *dnn, const DnnConvolution *convolution, const char *text);

typedef struct Problem {
    DnnConvolution convolution;
    Tensor x, w, y, bias; /* F64, NCHW */
} Problem;

Problem problem_of(DnnConvolution convolution);
void problem_free(Problem *problem);
/* What the convolution's kind makes, in double, NCHW. */
Tensor expected_of(const Problem *problem);

/* A plan's memory: inputs with content, and a result without. */
typedef struct Buffers {
    void *a, *b, *bias, *result, *workspace;
    size_t result_bytes;
} Buffers;

Buffers buffers_of(const Problem *problem, const DnnPlan *plan, const Tensor *expected);
void buffers_free(Buffers *buffers);

/* Runs the plan and compares, with a tolerance by type. */
void check_numbers(const Problem *problem, const DnnPlan *plan, const Tensor *expected);
