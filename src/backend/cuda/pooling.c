/* Pooling by kernels/pool.cu: the graph's rules for ties, NaN and the index are not cuDNN's. */
#include "backend/cuda/cuda.h"

/* Of planes of `in` pooled to planes of `out`; both [N, C, rows, columns]. */
static KernelPool pool_of(const CudaStep *step, const CudaView *in, const CudaView *out)
{
    const Shape x = in->shape, y = out->shape;
    return (KernelPool){.planes = x.dims[0] * x.dims[1],
                        .rows = (int)x.dims[2],
                        .columns = (int)x.dims[3],
                        .out_rows = (int)y.dims[2],
                        .out_columns = (int)y.dims[3],
                        .kernel = {step->attributes.pool2d.kernel[0], step->attributes.pool2d.kernel[1]},
                        .stride = {step->attributes.pool2d.stride[0], step->attributes.pool2d.stride[1]}};
}

Status launch_adaptive_avg_pool2d(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0], *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_adaptive_avg_pool2d(y->dtype, x->data, y->data, pool_of(step, x, y), stream), error);
    return STATUS_OK;
}

Status launch_adaptive_avg_pool2d_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dy = &step->inputs[0], *dx = &step->outputs[0];
    RETURN_IF_CUDA(kernel_adaptive_avg_pool2d_grad(dx->dtype, dy->data, dx->data, pool_of(step, dx, dy), stream),
                   error);
    return STATUS_OK;
}

Status launch_max_pool2d(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0], *y = &step->outputs[0];
    RETURN_IF_CUDA(kernel_max_pool2d(y->dtype, x->data, y->data, step->outputs[1].data, pool_of(step, x, y), stream),
                   error);
    return STATUS_OK;
}

Status launch_max_pool2d_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dy = &step->inputs[0], *dx = &step->outputs[0];
    RETURN_IF_CUDA(
        kernel_max_pool2d_grad(dx->dtype, dy->data, step->inputs[1].data, dx->data, pool_of(step, dx, dy), stream),
        error);
    return STATUS_OK;
}

/* dy, y, index, random or none -> dx, and db where it is wanted; dy and y are images whose rows (one an image) may lie
 * apart. */
static Status launch_pool_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dy = &step->inputs[0], *y = &step->inputs[1], *dx = &step->outputs[0];
    KernelPool pool = pool_of(step, dx, y);
    pool.kernel[0] = pool.kernel[1] = pool.stride[0] = pool.stride[1] = 2;
    const KernelDropout dropout = {step->inputs[3].data, step->attributes.dropout.layer,
                                   step->attributes.dropout.probability, (uint64_t)(step->part * pool.planes)};
    if (step->output_count > 1) {
        RETURN_IF_CUDA(kernel_dropout_pool_relu_bias_grad(dx->dtype, dy->data, dy->stride, y->data, y->stride,
                                                          step->inputs[2].data, (int)dx->shape.dims[1], dx->data,
                                                          step->outputs[1].data, pool, dropout, step->kept, stream),
                       error);
        return STATUS_OK;
    }
    RETURN_IF_CUDA(kernel_dropout_pool_relu_grad(dx->dtype, dy->data, dy->stride, y->data, y->stride,
                                                 step->inputs[2].data, (int)dx->shape.dims[1], dx->data, pool, dropout,
                                                 stream),
                   error);
    return STATUS_OK;
}

Status prepare_pool_grad(CudaStep *step, Error *error)
{
    (void)error;
    step->launch = launch_pool_grad;
    if (step->output_count > 1) step->kept_bytes = KERNEL_SCRATCH_BYTES;
    return STATUS_OK;
}
