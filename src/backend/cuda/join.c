/* What moves bytes, and the sum that joins answers: kernels/join.cu. */
#include "backend/cuda/cuda.h"

/* A tensor around an axis: `outer` rows of extent * inner elements. */
static int64_t product(Shape shape, int first, int last)
{
    int64_t count = 1;
    for (int i = first; i < last; i++)
        count *= shape.dims[i];
    return count;
}

static Status copy_part(const void *from, int64_t from_stride, void *to, int64_t to_stride, int64_t width, int64_t rows,
                        DType dtype, cudaStream_t stream, Error *error)
{
    const int64_t size = (int64_t)dtype_size(dtype);
    if (width == 0 || rows == 0 || from == to) return STATUS_OK;
    RETURN_IF_CUDA(kernel_copy_rows(from, from_stride * size, to, to_stride * size, width * size, rows, stream), error);
    return STATUS_OK;
}

static unsigned char *at(const CudaView *view, int64_t elements)
{
    return (unsigned char *)view->data + (size_t)elements * dtype_size(view->dtype);
}

/* Parts that lie in their place already are left alone (compile.c). */
static Status launch_concat(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *y = &step->outputs[0];
    const int axis = step->attributes.axis.axis, rank = y->shape.rank;
    const int64_t outer = product(y->shape, 0, axis), row = product(y->shape, axis, rank);
    int64_t start = 0;
    for (int i = 0; i < step->input_count; i++) {
        const CudaView *x = &step->inputs[i];
        const int64_t width = product(x->shape, axis, rank);
        const int64_t stride = axis == 1 ? x->stride : width;
        RETURN_IF_ERROR(copy_part(x->data, stride, at(y, start), row, width, outer, y->dtype, stream, error));
        start += width;
    }
    return STATUS_OK;
}

Status prepare_concat(CudaStep *step, Error *error)
{
    (void)error;
    step->launch = launch_concat;
    step->launches = step->input_count;
    return STATUS_OK;
}

Status launch_slice(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0], *y = &step->outputs[0];
    const int axis = step->attributes.axis.axis, rank = x->shape.rank;
    const int64_t inner = product(x->shape, axis + 1, rank);
    return copy_part(at(x, step->attributes.axis.start * inner), product(x->shape, axis, rank), y->data,
                     product(y->shape, axis, rank), product(y->shape, axis, rank), product(y->shape, 0, axis), y->dtype,
                     stream, error);
}

static Status launch_slice_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dy = &step->inputs[0], *dx = &step->outputs[0];
    const int axis = step->attributes.axis.axis, rank = dx->shape.rank;
    const int64_t inner = product(dx->shape, axis + 1, rank);
    if (view_count(dx) > 0) RETURN_IF_CUDA(cudaMemsetAsync(dx->data, 0, view_bytes(dx), stream), error);
    return copy_part(dy->data, product(dy->shape, axis, rank), at(dx, step->attributes.axis.start * inner),
                     product(dx->shape, axis, rank), product(dy->shape, axis, rank), product(dy->shape, 0, axis),
                     dx->dtype, stream, error);
}

Status prepare_slice_grad(CudaStep *step, Error *error)
{
    (void)error;
    step->launch = launch_slice_grad;
    step->launches = 2;
    return STATUS_OK;
}

/* --- weighted_sum: weights [N, M], values [M, N, D] --- */

Status launch_weighted_sum(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *weights = &step->inputs[0], *values = &step->inputs[1], *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_weighted_sum(y->dtype, weights->data, values->data, y->data, y->shape.dims[0],
                                       weights->shape.dims[1], y->shape.dims[1], stream),
                   error);
    return STATUS_OK;
}

Status launch_weighted_sum_grad_weights(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dy = &step->inputs[0], *values = &step->inputs[1], *dw = &step->outputs[0];
    RETURN_IF_CUDA(kernel_weighted_sum_grad_weights(dw->dtype, dy->data, values->data, dw->data, dy->shape.dims[0],
                                                    dw->shape.dims[1], dy->shape.dims[1], stream),
                   error);
    return STATUS_OK;
}

Status launch_weighted_sum_grad_values(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dy = &step->inputs[0], *weights = &step->inputs[1], *dv = &step->outputs[0];
    RETURN_IF_CUDA(kernel_weighted_sum_grad_values(dv->dtype, dy->data, weights->data, dv->data, dy->shape.dims[0],
                                                   weights->shape.dims[1], dy->shape.dims[1], stream),
                   error);
    return STATUS_OK;
}
