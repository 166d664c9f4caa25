/* Gradient norms and optimisers over all tensors in one launch, by kernels/update.cu. Their tables lie in memory that
 * the step keeps, written once its addresses are known. */
#include <stdlib.h>

#include "backend/cuda/cuda.h"

enum { SCRATCH = KERNEL_SCRATCH_BYTES };

static Status upload(const CudaStep *step, const KernelTensor *table, int count, size_t offset, Error *error)
{
    RETURN_IF_CUDA(cudaMemcpyAsync(step->kept + offset, table, (size_t)count * sizeof *table, cudaMemcpyHostToDevice,
                                   step->cuda->stream),
                   error);
    return STATUS_OK;
}

static int64_t elements(const CudaStep *step, int first, int count)
{
    int64_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += view_count(&step->inputs[first + i]);
    return sum;
}

/* Makes the table of `count` inputs from `first` on, each with `width` outputs: none, or parameter, momentum and low
 * copy. */
static Status bind_table(CudaStep *step, int first, int count, int width, size_t offset, Error *error)
{
    KernelTensor *table = calloc((size_t)count + 1, sizeof *table);
    if (table == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a table of %d tensors", count);
    int64_t before = 0;
    for (int i = 0; i < count; i++) {
        const CudaView *gradient = &step->inputs[first + i];
        table[i] = (KernelTensor){.first = before, .count = view_count(gradient), .gradient = gradient->data};
        before += table[i].count;
        if (width >= 2) table[i].parameter = step->outputs[width * i].data;
        if (width >= 2) table[i].momentum = step->outputs[width * i + 1].data;
        if (width >= 3) table[i].low = step->outputs[width * i + 2].data;
    }
    const Status status = count > 0 ? upload(step, table, count, offset, error) : STATUS_OK;
    free(table);
    return status;
}

static Status launch_global_norm(const CudaStep *step, cudaStream_t stream, Error *error)
{
    RETURN_IF_CUDA(kernel_global_norm((const KernelTensor *)(step->kept + SCRATCH), step->input_count,
                                      elements(step, 0, step->input_count), step->outputs[0].data, step->kept, stream),
                   error);
    return STATUS_OK;
}

static Status bind_global_norm(CudaStep *step, Error *error)
{
    return bind_table(step, 0, step->input_count, 0, SCRATCH, error);
}

Status prepare_global_norm(CudaStep *step, Error *error)
{
    (void)error;
    step->launch = launch_global_norm;
    step->bind = bind_global_norm;
    step->kept_bytes = SCRATCH + (size_t)step->input_count * sizeof(KernelTensor);
    return STATUS_OK;
}

Status launch_clip_factor(const CudaStep *step, cudaStream_t stream, Error *error)
{
    RETURN_IF_CUDA(kernel_clip_factor(step->inputs[0].data, step->outputs[0].data, step->attributes.clip.max_norm,
                                      step->attributes.clip.scale, stream),
                   error);
    return STATUS_OK;
}

Status launch_loss_scale(const CudaStep *step, cudaStream_t stream, Error *error)
{
    RETURN_IF_CUDA(kernel_loss_scale(step->inputs[0].data, step->inputs[1].data, step->inputs[2].data,
                                     step->outputs[0].data, step->outputs[1].data, step->outputs[2].data,
                                     LOSS_SCALE_MOST, LOSS_SCALE_INTERVAL, stream),
                   error);
    return STATUS_OK;
}

static int group_size(const CudaStep *step)
{
    return step->output_count / update_width(step->cuda);
}

static Status launch_sgd(const CudaStep *step, cudaStream_t stream, Error *error)
{
    const int count = group_size(step);
    const KernelSgd sgd = {.lr = step->inputs[0].data,
                           .gradient_scale = step_input(step, 1 + count).data,
                           .momentum = (float)step->attributes.sgd.momentum,
                           .weight_decay = (float)step->attributes.sgd.weight_decay,
                           .nesterov = step->attributes.sgd.nesterov,
                           .low_type = update_width(step->cuda) > 2 ? step->cuda->activation : DTYPE_NONE};
    RETURN_IF_CUDA(kernel_sgd((const KernelTensor *)step->kept, count, elements(step, 1, count), sgd, stream), error);
    return STATUS_OK;
}

static Status bind_sgd(CudaStep *step, Error *error)
{
    return bind_table(step, 1, group_size(step), update_width(step->cuda), 0, error);
}

Status prepare_sgd_group(CudaStep *step, Error *error)
{
    (void)error;
    step->launch = launch_sgd;
    if (group_size(step) > 1) step->layer = ""; /* of several */
    step->bind = bind_sgd;
    step->kept_bytes = (size_t)group_size(step) * sizeof(KernelTensor);
    return STATUS_OK;
}
