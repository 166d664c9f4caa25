/* Operations on each element by itself, by kernels/elementwise.cu and dropout.cu. */
#include "backend/cuda/cuda.h"

Status launch_affine(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0], *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_affine(x->dtype, x->data, y->dtype, y->data, view_count(y),
                                 (float)step->attributes.affine.scale, (float)step->attributes.affine.shift, stream),
                   error);
    return STATUS_OK;
}

Status prepare_convert(CudaStep *step, Error *error)
{
    (void)error;
    step->attributes = (Attributes){.affine = {.scale = 1, .shift = 0}};
    return STATUS_OK;
}

Status launch_saturate(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_saturate(step->inputs[0].data, y->dtype, y->data, view_count(y), stream), error);
    return STATUS_OK;
}

Status launch_add(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_add(y->dtype, step->inputs[0].data, step->inputs[1].data, y->data, view_count(y), stream),
                   error);
    return STATUS_OK;
}

Status launch_add_scaled(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_add_scaled(y->dtype, step->inputs[0].data, step->inputs[1].data, step->inputs[2].data,
                                     y->data, view_count(y), stream),
                   error);
    return STATUS_OK;
}

/* s x */
Status launch_scale_by(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *y = &step->outputs[0];
    RETURN_IF_CUDA(
        kernel_add_scaled(y->dtype, NULL, step->inputs[0].data, step->inputs[1].data, y->data, view_count(y), stream),
        error);
    return STATUS_OK;
}

Status launch_relu(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_relu(y->dtype, step->inputs[0].data, y->data, view_count(y), stream), error);
    return STATUS_OK;
}

Status launch_relu_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dx = &step->outputs[0];
    RETURN_IF_CUDA(
        kernel_relu_grad(dx->dtype, step->inputs[0].data, step->inputs[1].data, dx->data, view_count(dx), stream),
        error);
    return STATUS_OK;
}

Status launch_gelu(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *y = &step->outputs[0];
    const bool by_tanh = step->attributes.gelu.form == GELU_TANH;
    RETURN_IF_CUDA(kernel_gelu(y->dtype, step->inputs[0].data, y->data, view_count(y), by_tanh, stream), error);
    return STATUS_OK;
}

Status launch_gelu_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dx = &step->outputs[0];
    const bool by_tanh = step->attributes.gelu.form == GELU_TANH;
    RETURN_IF_CUDA(kernel_gelu_grad(dx->dtype, step->inputs[0].data, step->inputs[1].data, dx->data, view_count(dx),
                                    by_tanh, stream),
                   error);
    return STATUS_OK;
}

/* Of a plan that isn't training it is a view (compile.c). */
Status launch_dropout(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0];
    const int64_t group = step->attributes.dropout.channels && view_count(x) > 0
                              ? view_count(x) / (x->shape.dims[0] * x->shape.dims[1])
                              : 1;
    const KernelDropout dropout = {step->inputs[1].data, step->attributes.dropout.layer,
                                   step->attributes.dropout.probability,
                                   (uint64_t)step->part * (uint64_t)(view_count(x) / group)};
    RETURN_IF_CUDA(kernel_dropout(x->dtype, x->data, step->outputs[0].data, view_count(x), group, dropout, stream),
                   error);
    return STATUS_OK;
}

/* Rows of bytes from one place to another; nothing where both are the same. */
Status launch_copy(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *from = &step->inputs[0], *to = &step->outputs[0];
    const int64_t size = (int64_t)dtype_size(from->dtype);
    const bool dense = from->stride == view_columns(from) && to->stride == view_columns(to);
    const int64_t rows = dense ? 1 : view_rows(from), width = dense ? view_count(from) : view_columns(from);
    if (from->data == to->data || width == 0) return STATUS_OK;
    RETURN_IF_CUDA(
        kernel_copy_rows(from->data, from->stride * size, to->data, to->stride * size, width * size, rows, stream),
        error);
    return STATUS_OK;
}
