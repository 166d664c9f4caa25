/* Softmax and the losses, by kernels/softmax.cu and loss.cu. Rows [N], columns [M]. */
#include "backend/cuda/cuda.h"

Status launch_softmax(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0];
    RETURN_IF_CUDA(kernel_softmax(x->dtype, x->data, step_input(step, 1).data, step->outputs[0].data, x->shape.dims[0],
                                  x->shape.dims[1], stream),
                   error);
    return STATUS_OK;
}

Status launch_softmax_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dx = &step->outputs[0];
    RETURN_IF_CUDA(kernel_softmax_grad(dx->dtype, step->inputs[0].data, step->inputs[1].data, dx->data,
                                       dx->shape.dims[0], dx->shape.dims[1], stream),
                   error);
    return STATUS_OK;
}

/* What every loss over a whole batch needs. */
static Status prepare_mean(CudaStep *step, Status (*launch)(const CudaStep *, cudaStream_t, Error *), bool labelled)
{
    step->launch = launch;
    step->kept_bytes = KERNEL_SCRATCH_BYTES;
    step->labelled = labelled;
    return STATUS_OK;
}

static Status launch_cross_entropy(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0];
    RETURN_IF_CUDA(kernel_cross_entropy(x->dtype, x->data, step->inputs[1].data, step->outputs[0].data,
                                        step->outputs[1].data, x->shape.dims[0], x->shape.dims[1], step->kept, stream),
                   error);
    return STATUS_OK;
}

Status prepare_cross_entropy(CudaStep *step, Error *error)
{
    (void)error;
    return prepare_mean(step, launch_cross_entropy, true);
}

Status launch_cross_entropy_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dx = &step->outputs[0];
    RETURN_IF_CUDA(kernel_cross_entropy_grad(dx->dtype, step->inputs[0].data, step->inputs[1].data,
                                             step->inputs[2].data, dx->data, dx->shape.dims[0], dx->shape.dims[1],
                                             stream),
                   error);
    return STATUS_OK;
}

static Status launch_cross_entropy_both(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0];
    RETURN_IF_CUDA(kernel_cross_entropy_both(x->dtype, x->data, step->inputs[1].data,
                                             (float)step->attributes.affine.shift, step->inputs[2].data,
                                             step->outputs[0].data, step->outputs[1].data, x->shape.dims[0],
                                             x->shape.dims[1], step->kept, stream),
                   error);
    return STATUS_OK;
}

Status prepare_cross_entropy_both(CudaStep *step, Error *error)
{
    (void)error;
    return prepare_mean(step, launch_cross_entropy_both, true);
}

static Status launch_soft_cross_entropy(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *x = &step->inputs[0];
    RETURN_IF_CUDA(kernel_soft_cross_entropy(x->dtype, x->data, step->inputs[1].data, step->inputs[2].data,
                                             step->outputs[0].data, step->outputs[1].data, step->outputs[2].data,
                                             x->shape.dims[0], x->shape.dims[1], step->kept, stream),
                   error);
    return STATUS_OK;
}

Status prepare_soft_cross_entropy(CudaStep *step, Error *error)
{
    (void)error;
    return prepare_mean(step, launch_soft_cross_entropy, false);
}

Status launch_soft_cross_entropy_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *dx = &step->outputs[0];
    RETURN_IF_CUDA(kernel_soft_cross_entropy_grad(dx->dtype, step->inputs[0].data, step->inputs[1].data,
                                                  step->inputs[2].data, step->inputs[3].data, dx->data,
                                                  dx->shape.dims[0], dx->shape.dims[1], stream),
                   error);
    return STATUS_OK;
}

static Status launch_mean_squared_error(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *a = &step->inputs[0];
    RETURN_IF_CUDA(kernel_mean_squared_error(a->dtype, a->data, step->inputs[1].data, step->outputs[0].data,
                                             view_count(a), step->kept, stream),
                   error);
    return STATUS_OK;
}

Status prepare_mean_squared_error(CudaStep *step, Error *error)
{
    (void)error;
    return prepare_mean(step, launch_mean_squared_error, false);
}

Status launch_mean_squared_error_grad(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const CudaView *da = &step->outputs[0];
    RETURN_IF_CUDA(kernel_mean_squared_error_grad(da->dtype, step->inputs[0].data, step->inputs[1].data,
                                                  step->inputs[2].data, da->data, view_count(da), stream),
                   error);
    return STATUS_OK;
}
