/* Compiling, capturing and running: what launch.c puts on the streams becomes one CUDA graph, which a run launches. */
#include <stdlib.h>

#include "backend/cuda/compile.h"
#include "backend/cuda/plans_ahead.h"

/* --- capturing --- */

/* What `launch` puts on the stream, as a graph that can be launched again and again. */
static Status capture(const CudaPlan *plan, Status (*launch)(const CudaPlan *, Error *), cudaGraphExec_t *out,
                      Error *error)
{
    const cudaStream_t stream = plan->parts[0].cuda->stream;
    cudaGraph_t graph = NULL;
    RETURN_IF_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), error);
    Status status = launch(plan, error);
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (status == STATUS_OK) status = cuda_status(ended, "cudaStreamEndCapture", error);
    if (status == STATUS_OK) status = cuda_status(cudaGraphInstantiate(out, graph, 0), "cudaGraphInstantiate", error);
    if (graph != NULL) cudaGraphDestroy(graph);
    return status;
}

static Status capture_all(CudaPlan *plan, Error *error)
{
    if (plan->parts[0].constant_count > 0)
        RETURN_IF_ERROR(capture(plan, launch_constants, &plan->constant_exec, error));
    return capture(plan, launch_run, &plan->exec, error);
}

/* --- events --- */

/* Forks and joins order, and nobody asks their time. */
static Status make_joins(CudaPlan *plan, Error *error)
{
    plan->joins = calloc(PLAN_JOINS * (size_t)plan->part_count, sizeof *plan->joins);
    if (plan->joins == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for events");
    for (int i = 0; i < PLAN_JOINS * plan->part_count; i++) {
        RETURN_IF_ERROR(use_device(&plan->parts[i / PLAN_JOINS], error));
        RETURN_IF_CUDA(cudaEventCreateWithFlags(&plan->joins[i], cudaEventDisableTiming), error);
    }
    return use_device(&plan->parts[0], error);
}

static Status make_marks(CudaPlan *plan, Error *error)
{
    const int count = plan->parts[0].step_count;
    plan->marks = calloc((size_t)count + 1, sizeof *plan->marks);
    if (plan->marks == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a profile");
    for (int s = 0; s <= count; s++)
        RETURN_IF_CUDA(cudaEventCreateWithFlags(&plan->marks[s], cudaEventDefault), error);
    return STATUS_OK;
}

static void destroy_events(cudaEvent_t *events, int count)
{
    for (int i = 0; events != NULL && i < count; i++)
        if (events[i] != NULL) cudaEventDestroy(events[i]);
    free(events);
}

/* --- a plan's life --- */

static void destroy_part(CudaPart *part)
{
    for (int s = 0; s < part->step_count; s++)
        if (part->steps[s].destroy != NULL && part->steps[s].own != NULL) part->steps[s].destroy(&part->steps[s]);
    if (part->arena != NULL) {
        cudaSetDevice(part->cuda->device);
        cudaFree(part->arena);
    }
    free(part->steps);
    free(part->views);
    free(part->inputs.items);
    free(part->outputs.items);
    free(part->gradients.items);
}

void cuda_plan_destroy(void *opaque)
{
    CudaPlan *plan = opaque;
    if (plan == NULL) return;
    for (int p = 0; p < plan->part_count; p++) {
        const CudaContext *cuda = plan->parts[p].cuda;
        if (cuda == NULL || cuda->planning) continue;
        cudaSetDevice(cuda->device);
        cudaStreamSynchronize(cuda->stream);
    }
    if (plan->constant_exec != NULL) cudaGraphExecDestroy(plan->constant_exec);
    if (plan->exec != NULL) cudaGraphExecDestroy(plan->exec);
    if (plan->parts != NULL) destroy_events(plan->marks, plan->parts[0].step_count + 1);
    destroy_events(plan->joins, PLAN_JOINS * plan->part_count);
    for (int p = 0; p < plan->part_count; p++)
        destroy_part(&plan->parts[p]);
    staging_destroy(plan);
    free(plan->parts);
    free(plan);
}

static Status compile_part(CudaPlan *plan, int p, Variables *variables, bool frozen, Error *error)
{
    CudaPart *part = &plan->parts[p];
    part->cuda = &plan->devices->replicas[p];
    if (!part->cuda->planning) RETURN_IF_ERROR(use_device(part, error));
    Compiler compiler = {.devices = plan->devices,
                         .cuda = part->cuda,
                         .part = p,
                         .graph = plan->graph,
                         .variables = variables,
                         .frozen = frozen};
    Status status = compile_drafts(&compiler, error);
    if (status == STATUS_OK) status = place_steps(&compiler, part, plan->shared ? p : 0, error);
    if (status == STATUS_OK && p == plan->part_count - 1 && !part->cuda->planning)
        status = staging_create(plan, &compiler, error);
    compiler_free(&compiler);
    return status;
}

static bool has_samples(const Graph *graph)
{
    for (int id = 0; id < graph_value_count(graph); id++) {
        const ValueInfo *info = graph_value(graph, (Value){id});
        if (info->kind == VALUE_INPUT && info->sample_axis >= 0) return true;
    }
    return false;
}

static Status compile(CudaPlan *plan, Variables *variables, const PlanOptions *options, Error *error)
{
    plan->part_count = graph_training(plan->graph) ? plan->devices->count : 1;
    plan->shared = plan->part_count > 1 && has_samples(plan->graph);
    plan->profile = options->profile;
    plan->parts = calloc((size_t)plan->part_count, sizeof *plan->parts);
    if (plan->parts == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan");
    for (int p = 0; p < plan->part_count; p++)
        RETURN_IF_ERROR(compile_part(plan, p, variables, options->frozen, error));
    RETURN_IF_ERROR(plans_ahead_save(plan->devices->ahead, error));
    if (plan->parts[0].cuda->planning) return STATUS_OK;
    RETURN_IF_ERROR(use_device(&plan->parts[0], error));
    RETURN_IF_ERROR(make_joins(plan, error));
    RETURN_IF_ERROR(plan->profile ? make_marks(plan, error) : capture_all(plan, error));
    return options->frozen ? cuda_plan_refresh(plan, error) : STATUS_OK;
}

Status cuda_plan_compile(void *devices, const Graph *graph, Variables *variables, const PlanOptions *options,
                         void **out, Error *error)
{
    CudaPlan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan");
    plan->devices = devices;
    plan->graph = graph;
    const Status status = compile(plan, variables, options, error);
    if (status == STATUS_OK)
        *out = plan;
    else
        cuda_plan_destroy(plan);
    return status;
}

/* --- running --- */

static Status wait(const CudaPlan *plan, Error *error)
{
    RETURN_IF_CUDA(cudaStreamSynchronize(plan->parts[0].cuda->stream), error);
    return STATUS_OK;
}

Status cuda_plan_refresh(void *opaque, Error *error)
{
    const CudaPlan *plan = opaque;
    const CudaPart *first = &plan->parts[0];
    if (first->constant_count == 0 || first->cuda->planning) return STATUS_OK;
    RETURN_IF_ERROR(use_device(first, error));
    if (plan->constant_exec != NULL)
        RETURN_IF_CUDA(cudaGraphLaunch(plan->constant_exec, first->cuda->stream), error);
    else
        RETURN_IF_ERROR(launch_constants(plan, error));
    return wait(plan, error);
}

/* A label that isn't a class: the caller's mistake, found before anything runs. Labels are an input of the graph. */
static Status check_labels(const CudaPlan *plan, int p, Error *error)
{
    const CudaPart *part = &plan->parts[p];
    for (int s = part->constant_count; s < part->step_count; s++) {
        const CudaStep *step = &part->steps[s];
        if (!step->labelled) continue;
        const size_t at = (size_t)((unsigned char *)step->inputs[1].data - (part->arena + part->inputs_at));
        if (at >= part->input_bytes) continue;
        const int32_t *label = (const int32_t *)(const void *)(staging_inputs(plan, p) + at);
        const int64_t classes = step->inputs[0].shape.dims[1];
        for (int64_t n = 0; n < view_rows(&step->inputs[1]); n++)
            if (label[n] >= classes)
                return error_set(error, STATUS_INVALID_ARGUMENT, "label of row %ld is %d, expected less than %ld",
                                 (long)n, label[n], (long)classes);
    }
    return STATUS_OK;
}

static Status add_profile(CudaPlan *plan, Error *error)
{
    CudaPart *first = &plan->parts[0];
    for (int s = first->constant_count; s < first->step_count; s++) {
        float milliseconds = 0;
        RETURN_IF_CUDA(cudaEventElapsedTime(&milliseconds, plan->marks[s], plan->marks[s + 1]), error);
        first->steps[s].seconds += 1e-3 * (double)milliseconds;
    }
    plan->runs++;
    return STATUS_OK;
}

Status cuda_plan_run(void *opaque, Error *error)
{
    CudaPlan *plan = opaque;
    const CudaContext *cuda = plan->parts[0].cuda;
    if (cuda->planning)
        return error_set(error, STATUS_FAILED_PRECONDITION, "a plan for '%s' can't be run: it has no device",
                         cuda->sheet->name);
    staging_split(plan);
    for (int p = 0; p < plan->part_count; p++)
        RETURN_IF_ERROR(check_labels(plan, p, error));
    RETURN_IF_ERROR(use_device(&plan->parts[0], error));
    if (plan->exec != NULL)
        RETURN_IF_CUDA(cudaGraphLaunch(plan->exec, cuda->stream), error);
    else
        RETURN_IF_ERROR(launch_run(plan, error));
    RETURN_IF_ERROR(wait(plan, error));
    staging_join(plan);
    return plan->profile ? add_profile(plan, error) : STATUS_OK;
}
