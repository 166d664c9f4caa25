/* Convolutions by cuDNN, with what follows them in its graph where it has an engine for that, else in our kernels. */
#include <stdlib.h>

#include "backend/cuda/plans_ahead.h"
#include "base/size.h"

typedef struct Convolution {
    DnnPlan *plan;
    bool empty;    /* nothing to compute */
    bool apart;    /* bias and activation in a kernel of their own */
    size_t result; /* bytes of the workspace before the library's: what the library computes, for us to go on with */
    Shape between; /* conv2d_pool: what is pooled */
} Convolution;

static void destroy_convolution(CudaStep *step)
{
    Convolution *convolution = step->own;
    dnn_plan_destroy(convolution->plan);
    free(convolution);
}

/* x [N, C, H, W] -> y [N, O, OH, OW] */
static DnnConvolution describe(const CudaStep *step, DnnKind kind, DType type, Shape x, Shape y)
{
    const Attributes *a = &step->attributes;
    return (DnnConvolution){.kind = kind,
                            .type = type,
                            .tf32 = step->cuda->tf32,
                            .n = x.dims[0],
                            .channels = x.dims[1],
                            .rows = x.dims[2],
                            .columns = x.dims[3],
                            .out = y.dims[1],
                            .kernel = {a->conv2d.kernel[0], a->conv2d.kernel[1]},
                            .stride = {a->conv2d.stride[0], a->conv2d.stride[1]},
                            .padding = {a->conv2d.padding[0], a->conv2d.padding[1]},
                            .groups = a->conv2d.groups};
}

static Status begin(CudaStep *step, bool empty, Error *error)
{
    Convolution *convolution = calloc(1, sizeof *convolution);
    if (convolution == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a convolution");
    convolution->empty = empty;
    step->own = convolution;
    step->destroy = destroy_convolution;
    step->implementation = "cudnn";
    return STATUS_OK;
}

/* A plan as described, or UNIMPLEMENTED. The library's workspace follows `result` bytes of ours. */
static Status make_plan(CudaStep *step, const DnnConvolution *description, size_t result, Error *error)
{
    Convolution *convolution = step->own;
    convolution->result = size_align(result, CUDA_ALIGNMENT);
    step->workspace_bytes = convolution->result;
    RETURN_IF_ERROR(plan_convolution(step->cuda, description, &convolution->plan, error));
    step->workspace_bytes = convolution->result + dnn_plan_workspace(convolution->plan);
    step->implementation = dnn_plan_name(convolution->plan);
    return STATUS_OK;
}

static Status run(const CudaStep *step, cudaStream_t stream, const void *a, const void *b, const void *bias,
                  void *result, Error *error)
{
    const Convolution *convolution = step->own;
    return dnn_plan_run(convolution->plan, stream, a, b, bias, result, step->workspace + convolution->result, error);
}

/* --- forward --- */

static Status launch_conv2d(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const Convolution *convolution = step->own;
    const CudaView *x = &step->inputs[0], *w = &step->inputs[1], *y = &step->outputs[0];
    const CudaView bias = step_input(step, 2);
    if (convolution->empty) return STATUS_OK;
    RETURN_IF_ERROR(run(step, stream, x->data, w->data, convolution->apart ? NULL : bias.data, y->data, error));
    if (!convolution->apart) return STATUS_OK;
    const int64_t inner = y->shape.dims[2] * y->shape.dims[3];
    RETURN_IF_CUDA(kernel_bias(y->dtype, y->data, bias.data, y->data, y->shape.dims[0], (int)y->shape.dims[1], inner,
                               step->attributes.conv2d.activation == ACTIVATION_RELU, stream),
                   error);
    return STATUS_OK;
}

Status prepare_conv2d(CudaStep *step, Error *error)
{
    const CudaView *x = &step->inputs[0], *y = &step->outputs[0];
    DnnConvolution description = describe(step, DNN_FORWARD, x->dtype, x->shape, y->shape);
    const bool relu = step->attributes.conv2d.activation == ACTIVATION_RELU;
    description.bias = step_input(step, 2).present;
    description.relu = relu;
    step->launch = launch_conv2d;
    RETURN_IF_ERROR(begin(step, view_count(y) == 0, error));
    Convolution *convolution = step->own;
    if (convolution->empty) return STATUS_OK;
    const Status status = make_plan(step, &description, 0, error);
    if (status != STATUS_UNIMPLEMENTED || (!description.bias && !relu)) return status;
    description.bias = description.relu = false;
    convolution->apart = true;
    step->launches = 2;
    step->bytes += 2 * (double)view_bytes(y);
    return make_plan(step, &description, 0, error);
}

/* The convolution's result is in the workspace; one kernel does all that follows. */
static Status launch_conv2d_pool(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const Convolution *convolution = step->own;
    const CudaView *x = &step->inputs[0], *w = &step->inputs[1], *y = &step->outputs[0];
    if (convolution->empty) return STATUS_OK;
    RETURN_IF_ERROR(run(step, stream, x->data, w->data, NULL, step->workspace, error));
    const Shape between = convolution->between;
    const KernelPool pool = {.planes = between.dims[0] * between.dims[1],
                             .rows = (int)between.dims[2],
                             .columns = (int)between.dims[3],
                             .out_rows = (int)y->shape.dims[2],
                             .out_columns = (int)y->shape.dims[3],
                             .kernel = {2, 2},
                             .stride = {2, 2}};
    const KernelDropout dropout = {step->training ? step_input(step, 3).data : NULL, step->attributes.conv2d.drop_layer,
                                   step->attributes.conv2d.drop_probability, (uint64_t)(step->part * pool.planes)};
    RETURN_IF_CUDA(kernel_bias_dropout_pool_relu(y->dtype, step->workspace, step_input(step, 2).data,
                                                 (int)between.dims[1], y->data, y->stride, step->outputs[1].data, pool,
                                                 dropout, stream),
                   error);
    return STATUS_OK;
}

Status prepare_conv2d_pool(CudaStep *step, Error *error)
{
    const CudaView *x = &step->inputs[0], *w = &step->inputs[1], *y = &step->outputs[0];
    const Attributes *a = &step->attributes;
    Shape between = y->shape;
    for (int i = 0; i < 2; i++)
        between.dims[2 + i] =
            (x->shape.dims[2 + i] + 2 * a->conv2d.padding[i] - w->shape.dims[2 + i]) / a->conv2d.stride[i] + 1;
    step->launch = launch_conv2d_pool;
    step->launches = 2;
    RETURN_IF_ERROR(begin(step, view_count(y) == 0, error));
    Convolution *convolution = step->own;
    convolution->between = between;
    if (convolution->empty) return STATUS_OK;
    const DnnConvolution description = describe(step, DNN_FORWARD, x->dtype, x->shape, between);
    const size_t bytes = (size_t)shape_count(between) * dtype_size(x->dtype);
    step->bytes += 2 * (double)bytes;
    return make_plan(step, &description, bytes, error);
}

/* --- gradients --- */

static Status launch_grad_input(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const Convolution *convolution = step->own;
    if (convolution->empty) return STATUS_OK;
    return run(step, stream, step->inputs[0].data, step->inputs[1].data, NULL, step->outputs[0].data, error);
}

Status prepare_conv2d_grad_input(CudaStep *step, Error *error)
{
    const CudaView *dy = &step->inputs[0], *dx = &step->outputs[0];
    step->launch = launch_grad_input;
    RETURN_IF_ERROR(begin(step, view_count(dx) == 0, error));
    if (((Convolution *)step->own)->empty) return STATUS_OK;
    const DnnConvolution description = describe(step, DNN_GRAD_INPUT, dy->dtype, dx->shape, dy->shape);
    return make_plan(step, &description, 0, error);
}

static Status launch_grad_parameters(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const Convolution *convolution = step->own;
    const CudaView *dy = &step->inputs[0], *x = &step->inputs[1], *dw = &step->outputs[0], *db = &step->outputs[1];
    void *result = convolution->apart ? (void *)step->workspace : dw->data;
    if (!convolution->empty) RETURN_IF_ERROR(run(step, stream, dy->data, x->data, NULL, result, error));
    if (convolution->apart)
        RETURN_IF_CUDA(kernel_affine(dy->dtype, result, dw->dtype, dw->data, view_count(dw), 1, 0, stream), error);
    if (db->present)
        RETURN_IF_CUDA(kernel_channel_sum(dy->dtype, dy->data, db->data, dy->shape.dims[0], (int)dy->shape.dims[1],
                                          dy->shape.dims[2] * dy->shape.dims[3], stream),
                       error);
    return STATUS_OK;
}

/* In half precision the sum is rounded only where the library can't leave it in float. */
Status prepare_conv2d_grad_parameters(CudaStep *step, Error *error)
{
    const CudaView *dy = &step->inputs[0], *x = &step->inputs[1], *dw = &step->outputs[0];
    DnnConvolution description = describe(step, DNN_GRAD_FILTER, dy->dtype, x->shape, dy->shape);
    description.result = dw->dtype;
    step->launch = launch_grad_parameters;
    step->launches = step->outputs[1].present ? 2 : 1;
    if (step->outputs[1].present) step->bytes += (double)view_bytes(dy); /* read again for the sum */
    RETURN_IF_ERROR(begin(step, view_count(dw) == 0 || view_count(dy) == 0, error));
    Convolution *convolution = step->own;
    if (convolution->empty) return STATUS_OK;
    const Status status = make_plan(step, &description, 0, error);
    if (status != STATUS_UNIMPLEMENTED || dy->dtype == dw->dtype) return status;
    description.result = dy->dtype;
    convolution->apart = true;
    step->launches++;
    const size_t rounded = (size_t)view_count(dw) * dtype_size(dy->dtype);
    step->bytes += 2 * (double)rounded;
    return make_plan(step, &description, rounded, error);
}
