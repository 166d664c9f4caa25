/* Matrix products by cuBLASLt, each with what follows it as an epilogue. */
#include <stdlib.h>

#include "backend/cuda/plans_ahead.h"

typedef struct Product {
    BlasPlan *plan;
    bool empty;      /* nothing to compute */
    bool bias_apart; /* the gradient of a bias in a kernel of its own */
    bool zero_bias;  /* the epilogue wants a bias, and the layer has none: kept zeros stand for it */
} Product;

static void destroy_product(CudaStep *step)
{
    Product *product = step->own;
    blas_plan_destroy(product->plan);
    free(product);
}

static Status prepare_product(CudaStep *step, BlasMatmul matmul, Error *error)
{
    Product *product = calloc(1, sizeof *product);
    if (product == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a matrix product");
    step->own = product;
    step->destroy = destroy_product;
    step->implementation = "cublaslt";
    matmul.tf32 = step->cuda->tf32;
    product->empty = matmul.m == 0 || matmul.n == 0 || matmul.k == 0;
    if (product->empty || step->cuda->planning) return STATUS_OK;
    RETURN_IF_ERROR(plan_product(step->cuda, &matmul, &product->plan, error));
    step->workspace_bytes = blas_plan_workspace(product->plan);
    step->implementation = blas_plan_name(product->plan);
    return STATUS_OK;
}

/* c = a b; of an empty sum the result is zero. */
static Status launch_product(const CudaStep *step, cudaStream_t stream, const CudaView *a, const CudaView *b,
                             const CudaView *c, void *bias, void *mask, Error *error)
{
    const Product *product = step->own;
    if (!product->empty)
        return blas_plan_run(product->plan, stream, a->data, b->data, c->data, bias, mask, step->workspace, error);
    const size_t size = dtype_size(c->dtype), width = (size_t)view_columns(c) * size;
    for (int64_t row = 0; width > 0 && row < view_rows(c); row++)
        RETURN_IF_CUDA(cudaMemsetAsync((unsigned char *)c->data + (size_t)(row * c->stride) * size, 0, width, stream),
                       error);
    return STATUS_OK;
}

/* x [N, I], w [O, I], b [O] or none -> y [N, O], and where somebody wants it the mask of its relu, or what its gelu was
 * given */
static Status launch_linear(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const Product *product = step->own;
    void *bias = product->zero_bias ? step->kept : step_input(step, 2).data;
    void *mask = step->output_count > 1 ? step->outputs[1].data : NULL;
    return launch_product(step, stream, &step->inputs[0], &step->inputs[1], &step->outputs[0], bias, mask, error);
}

/* `biased`: the epilogue wants a bias, so that zeros stand for one that is absent. */
static Status prepare_forward(CudaStep *step, BlasEpilogue epilogue, bool biased, Error *error)
{
    const CudaView *x = &step->inputs[0], *w = &step->inputs[1], *y = &step->outputs[0];
    const bool zeros = biased && !step_input(step, 2).present;
    const BlasMatmul matmul = {.m = x->shape.dims[0],
                               .n = w->shape.dims[0],
                               .k = w->shape.dims[1],
                               .transpose_b = true,
                               .lda = x->stride,
                               .ldb = w->stride,
                               .ldc = y->stride,
                               .type = x->dtype,
                               .epilogue = epilogue};
    step->launch = launch_linear;
    RETURN_IF_ERROR(prepare_product(step, matmul, error));
    ((Product *)step->own)->zero_bias = zeros;
    if (zeros) step->kept_bytes = (size_t)matmul.n * dtype_size(blas_bias_type(&matmul));
    return STATUS_OK;
}

Status prepare_linear(CudaStep *step, Error *error)
{
    if (step->attributes.linear.activation == ACTIVATION_RELU)
        return prepare_forward(step, step->output_count > 1 ? BLAS_RELU_BIAS_MASK : BLAS_RELU_BIAS, true, error);
    return prepare_forward(step, step_input(step, 2).present ? BLAS_BIAS : BLAS_PLAIN, false, error);
}

Status prepare_linear_gelu(CudaStep *step, Error *error)
{
    return prepare_forward(step, step->output_count > 1 ? BLAS_GELU_BIAS_MASK : BLAS_GELU_BIAS, true, error);
}

size_t linear_mask_bytes(const CudaContext *cuda, int64_t n, int64_t out)
{
    return blas_mask_bytes(
        &(BlasMatmul){.m = n, .n = out, .k = 1, .type = cuda->activation, .epilogue = BLAS_RELU_GRAD});
}

bool linear_gelu_is_dense(const CudaContext *cuda, int64_t n, int64_t out)
{
    const BlasMatmul matmul = {.m = n, .n = out, .k = 1, .type = cuda->activation, .epilogue = BLAS_GELU_GRAD};
    return blas_mask_bytes(&matmul) == (size_t)(n * out) * dtype_size(cuda->activation);
}

/* dy [N, O], w [O, I] -> dx [N, I], masked where an input 2 says so */
static Status launch_grad_input(const CudaStep *step, cudaStream_t stream, Error *error)
{
    return launch_product(step, stream, &step->inputs[0], &step->inputs[1], &step->outputs[0], NULL,
                          step_input(step, 2).data, error);
}

static Status prepare_grad_input(CudaStep *step, BlasEpilogue epilogue, Error *error)
{
    const CudaView *dy = &step->inputs[0], *w = &step->inputs[1], *dx = &step->outputs[0];
    step->launch = launch_grad_input;
    return prepare_product(step,
                           (BlasMatmul){.m = dy->shape.dims[0],
                                        .n = w->shape.dims[1],
                                        .k = w->shape.dims[0],
                                        .lda = dy->stride,
                                        .ldb = w->stride,
                                        .ldc = dx->stride,
                                        .type = dy->dtype,
                                        .epilogue = epilogue},
                           error);
}

Status prepare_linear_grad_input(CudaStep *step, Error *error)
{
    return prepare_grad_input(step, BLAS_PLAIN, error);
}

Status prepare_linear_relu_grad(CudaStep *step, Error *error)
{
    return prepare_grad_input(step, BLAS_RELU_GRAD, error);
}

Status prepare_linear_gelu_grad(CudaStep *step, Error *error)
{
    return prepare_grad_input(step, BLAS_GELU_GRAD, error);
}

/* dy [N, O], x [N, I] -> dw [O, I], db [O] where it is wanted */
static Status launch_grad_parameters(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const Product *product = step->own;
    const CudaView *db = &step->outputs[1];
    if (product->empty && db->present) RETURN_IF_CUDA(cudaMemsetAsync(db->data, 0, view_bytes(db), stream), error);
    if (product->bias_apart)
        RETURN_IF_CUDA(kernel_channel_sum(step->inputs[0].dtype, step->inputs[0].data, db->data,
                                          step->inputs[0].shape.dims[0], (int)step->inputs[0].shape.dims[1], 1, stream),
                       error);
    return launch_product(step, stream, &step->inputs[0], &step->inputs[1], &step->outputs[0],
                          product->bias_apart ? NULL : db->data, NULL, error);
}

Status prepare_linear_grad_parameters(CudaStep *step, Error *error)
{
    const CudaView *dy = &step->inputs[0], *x = &step->inputs[1], *dw = &step->outputs[0];
    BlasMatmul matmul = {.m = dy->shape.dims[1],
                         .n = x->shape.dims[1],
                         .k = x->shape.dims[0],
                         .transpose_a = true,
                         .lda = dy->stride,
                         .ldb = x->stride,
                         .ldc = dw->stride,
                         .type = dy->dtype,
                         .result = dw->dtype,
                         .epilogue = step->outputs[1].present ? BLAS_BIAS_GRAD_A : BLAS_PLAIN};
    step->launch = launch_grad_parameters;
    const Status status = prepare_product(step, matmul, error);
    if (status != STATUS_UNIMPLEMENTED || !step->outputs[1].present) return status;
    matmul.epilogue = BLAS_PLAIN;
    destroy_product(step);
    step->own = NULL;
    step->launches = 2;
    step->bytes += (double)view_bytes(dy); /* read again for the sum */
    RETURN_IF_ERROR(prepare_product(step, matmul, error));
    ((Product *)step->own)->bias_apart = true;
    return STATUS_OK;
}

static Status launch_matmul(const CudaStep *step, cudaStream_t stream, Error *error)
{
    return launch_product(step, stream, &step->inputs[0], &step->inputs[1], &step->outputs[0], NULL, NULL, error);
}

Status prepare_matmul(CudaStep *step, Error *error)
{
    const CudaView *a = &step->inputs[0], *b = &step->inputs[1], *c = &step->outputs[0];
    const bool transpose_a = step->attributes.matmul.transpose_a, transpose_b = step->attributes.matmul.transpose_b;
    step->launch = launch_matmul;
    return prepare_product(step,
                           (BlasMatmul){.m = c->shape.dims[0],
                                        .n = c->shape.dims[1],
                                        .k = a->shape.dims[transpose_a ? 0 : 1],
                                        .transpose_a = transpose_a,
                                        .transpose_b = transpose_b,
                                        .lda = a->stride,
                                        .ldb = b->stride,
                                        .ldc = c->stride,
                                        .type = a->dtype},
                           error);
}
