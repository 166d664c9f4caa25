/* What a run puts on the streams. All of it, copies from and to the host among it, is one CUDA graph on the first
 * device's stream (side streams, and those of other devices, join it); a run launches it and waits for its end. Inputs
 * arrive on a side stream while steps compute that don't read them, and outputs leave on another while later steps
 * compute.
 *
 * Several devices: each has the steps for its own part of the batch. As soon as a bucket of gradients is there on all,
 * it is reduced on a third side stream of each, while the backward pass goes on; the update waits for all buckets. */
#include <nvtx3/nvToolsExt.h>

#include "backend/cuda/compile.h"

static cudaEvent_t join(const CudaPlan *plan, int part, int which)
{
    return plan->joins[part * PLAN_JOINS + which];
}

static Status mark(const CudaPlan *plan, int step, Error *error)
{
    if (plan->marks == NULL) return STATUS_OK;
    RETURN_IF_CUDA(cudaEventRecord(plan->marks[step], plan->parts[0].cuda->stream), error);
    return STATUS_OK;
}

/* What `to` does from here on comes after what `from` has done. */
static Status follow(cudaStream_t to, cudaStream_t from, cudaEvent_t event, Error *error)
{
    RETURN_IF_CUDA(cudaEventRecord(event, from), error);
    RETURN_IF_CUDA(cudaStreamWaitEvent(to, event, 0), error);
    return STATUS_OK;
}

Status use_device(const CudaPart *part, Error *error)
{
    RETURN_IF_CUDA(cudaSetDevice(part->cuda->device), error);
    return STATUS_OK;
}

/* The streams of all parts begin (or go on) where the first one's is, or the first one's where all are. */
static Status gather(const CudaPlan *plan, bool begin, Error *error)
{
    const cudaStream_t first = plan->parts[0].cuda->stream;
    for (int p = 1; p < plan->part_count; p++) {
        const cudaStream_t own = plan->parts[p].cuda->stream;
        RETURN_IF_ERROR(use_device(&plan->parts[begin ? 0 : p], error));
        RETURN_IF_ERROR(follow(begin ? own : first, begin ? first : own, join(plan, begin ? 0 : p, JOIN_PART), error));
    }
    return use_device(&plan->parts[0], error);
}

/* A part's side stream goes on from where its own stream is... */
static Status leave(const CudaPlan *plan, int p, Side side, Error *error)
{
    const CudaContext *cuda = plan->parts[p].cuda;
    RETURN_IF_ERROR(use_device(&plan->parts[p], error));
    return follow(cuda->sides[side], cuda->stream, join(plan, p, JOIN_PART), error);
}

/* ... and its own stream goes on when that has come so far. */
static Status rejoin(const CudaPlan *plan, int p, Side side, Error *error)
{
    const CudaContext *cuda = plan->parts[p].cuda;
    RETURN_IF_ERROR(use_device(&plan->parts[p], error));
    return follow(cuda->stream, cuda->sides[side], join(plan, p, (int)side), error);
}

/* The same for all parts, where there is something to move. */
static Status for_all(const CudaPlan *plan, Status (*how)(const CudaPlan *, int, Side, Error *), Side side,
                      const Buckets *buckets, Error *error)
{
    for (int p = 0; p < plan->part_count && buckets->count > 0; p++)
        RETURN_IF_ERROR(how(plan, p, side, error));
    return STATUS_OK;
}

/* The mean of a bucket over all parts, beside what follows on their streams. */
static Status reduce(const CudaPlan *plan, const Bucket *bucket, Error *error)
{
    float *buffers[CUDA_MOST_DEVICES];
    cudaStream_t streams[CUDA_MOST_DEVICES];
    for (int p = 0; p < plan->part_count; p++) {
        const CudaPart *part = &plan->parts[p];
        buffers[p] = (float *)(void *)(part->arena + part->gradients_at + bucket->begin);
        streams[p] = part->cuda->sides[SIDE_REDUCTIONS];
        RETURN_IF_ERROR(leave(plan, p, SIDE_REDUCTIONS, error));
    }
    return ranks_all_reduce_mean(plan->devices->ranks, buffers, (bucket->end - bucket->begin) / sizeof(float), streams,
                                 error);
}

/* A profiler's range has the layer's name. */
static void open_range(const CudaStep *step)
{
    nvtxRangePushA(step->layer[0] != '\0' ? step->layer : step->operation);
}

static Status launch_step(const CudaPlan *plan, int s, Error *error)
{
    RETURN_IF_ERROR(mark(plan, s, error));
    for (int p = 0; p < plan->part_count; p++) {
        const CudaPart *part = &plan->parts[p];
        const CudaStep *step = &part->steps[s];
        if (plan->part_count > 1) RETURN_IF_ERROR(use_device(part, error));
        open_range(step);
        const Status status = step->launch(step, part->cuda->stream, error);
        nvtxRangePop();
        if (status == STATUS_OK) continue;
        error_prefix(error, "%s '%s'", step->operation, step->layer);
        return status;
    }
    return STATUS_OK;
}

/* --- copies --- */

static Status upload(const CudaPlan *plan, const Bucket *bucket, Error *error)
{
    for (int p = 0; p < plan->part_count; p++) {
        const CudaPart *part = &plan->parts[p];
        RETURN_IF_ERROR(use_device(part, error));
        RETURN_IF_CUDA(cudaMemcpyAsync(part->arena + part->inputs_at + bucket->begin,
                                       staging_inputs(plan, p) + bucket->begin, bucket->end - bucket->begin,
                                       cudaMemcpyHostToDevice, part->cuda->sides[SIDE_UPLOADS]),
                       error);
        RETURN_IF_ERROR(rejoin(plan, p, SIDE_UPLOADS, error));
    }
    return STATUS_OK;
}

static Status download(const CudaPlan *plan, const Bucket *bucket, Error *error)
{
    for (int p = 0; p < plan->part_count; p++) {
        const CudaPart *part = &plan->parts[p];
        RETURN_IF_ERROR(leave(plan, p, SIDE_DOWNLOADS, error));
        RETURN_IF_CUDA(cudaMemcpyAsync(staging_outputs(plan, p) + bucket->begin,
                                       part->arena + part->outputs_at + bucket->begin, bucket->end - bucket->begin,
                                       cudaMemcpyDeviceToHost, part->cuda->sides[SIDE_DOWNLOADS]),
                       error);
    }
    return STATUS_OK;
}

/* --- a run --- */

typedef Status Move(const CudaPlan *plan, const Bucket *bucket, Error *error);

/* Moves the buckets whose turn is up to step s; *next is the first that hasn't been moved. */
static Status move(const CudaPlan *plan, const Buckets *buckets, int *next, int s, Move *how, Error *error)
{
    while (*next < buckets->count && buckets->items[*next].step <= s)
        RETURN_IF_ERROR(how(plan, &buckets->items[(*next)++], error));
    return STATUS_OK;
}

/* A profile times steps alone: all inputs come before, all outputs go after them. */
Status launch_run(const CudaPlan *plan, Error *error)
{
    const CudaPart *first = &plan->parts[0];
    const int end = first->step_count;
    int arrived = 0, reduced = 0, left = 0;
    RETURN_IF_ERROR(gather(plan, true, error));
    RETURN_IF_ERROR(for_all(plan, leave, SIDE_UPLOADS, &first->inputs, error));
    if (plan->profile) RETURN_IF_ERROR(move(plan, &first->inputs, &arrived, end, upload, error));
    for (int s = first->constant_count; s < end; s++) {
        RETURN_IF_ERROR(move(plan, &first->inputs, &arrived, s, upload, error));
        if (s == first->wait_before) RETURN_IF_ERROR(for_all(plan, rejoin, SIDE_REDUCTIONS, &first->gradients, error));
        RETURN_IF_ERROR(launch_step(plan, s, error));
        RETURN_IF_ERROR(move(plan, &first->gradients, &reduced, s, reduce, error));
        if (!plan->profile) RETURN_IF_ERROR(move(plan, &first->outputs, &left, s, download, error));
    }
    RETURN_IF_ERROR(mark(plan, end, error));
    RETURN_IF_ERROR(move(plan, &first->outputs, &left, end, download, error));
    RETURN_IF_ERROR(for_all(plan, rejoin, SIDE_DOWNLOADS, &first->outputs, error));
    return gather(plan, false, error);
}

Status launch_constants(const CudaPlan *plan, Error *error)
{
    for (int s = 0; s < plan->parts[0].constant_count; s++)
        RETURN_IF_ERROR(launch_step(plan, s, error));
    return STATUS_OK;
}
