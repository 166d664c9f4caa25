/* The driver: opening a device, compiling, capturing, running. Everything that a run does, copies from and to the host
 * among it, is one CUDA graph on the context's stream; a run launches it and waits for its end. */
#include "backend/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/compile.h"
#include "backend/plugin.h"
#include "base/size.h"
#include "base/text.h"

/* --- the context --- */

static void close_context(void *opaque)
{
    CudaContext *cuda = opaque;
    if (cuda == NULL) return;
    if (cuda->planning) {
        free(cuda);
        return;
    }
    cudaSetDevice(cuda->device);
    dnn_close(cuda->dnn);
    blas_close(cuda->blas);
    if (cuda->stream != NULL) cudaStreamDestroy(cuda->stream);
    if (cuda->copies != NULL) cudaStreamDestroy(cuda->copies);
    free(cuda);
}

/* "0", "1", ...: which device */
static Status choose_device(CudaContext *cuda, const char *ordinal, Error *error)
{
    int count = 0;
    char *end;
    const long device = ordinal != NULL ? strtol(ordinal, &end, 10) : 0;
    if (ordinal != NULL && (*ordinal == '\0' || *end != '\0' || device < 0 || device > 1023))
        return error_set(error, STATUS_INVALID_ARGUMENT, "device number '%s', expected one from 0 on", ordinal);
    const cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess)
        return error_set(error, STATUS_FAILED_PRECONDITION, "this host has no CUDA device that can be used: %s (%s)",
                         cudaGetErrorString(result), cudaGetErrorName(result));
    if (device >= count)
        return error_set(error, STATUS_INVALID_ARGUMENT, "device number %ld, but this host has %d", device, count);
    cuda->device = (int)device;
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    return STATUS_OK;
}

static Status describe_context(CudaContext *cuda, Error *error)
{
    struct cudaDeviceProp properties;
    int runtime = 0;
    RETURN_IF_CUDA(cudaGetDeviceProperties(&properties, cuda->device), error);
    RETURN_IF_CUDA(cudaRuntimeGetVersion(&runtime), error);
    for (size_t i = 0; device_at(i) != NULL; i++)
        if (strcmp(device_at(i)->title, properties.name) == 0) cuda->sheet = device_at(i);
    snprintf(cuda->description, sizeof cuda->description, "%.96s (sm_%d%d), CUDA %d.%d, %s", properties.name,
             properties.major, properties.minor, runtime / 1000, runtime % 1000 / 10,
             cuda->tf32 ? "tf32" : dtype_name(cuda->activation));
    return STATUS_OK;
}

/* A context for a GPU that this host needn't have. */
static Status plan_for(CudaContext *cuda, const char *name, Error *error)
{
    Text names = {0};
    cuda->sheet = device_find(name);
    cuda->planning = true;
    for (size_t i = 0; device_at(i) != NULL; i++)
        text_append(&names, "%s%s", i > 0 ? ", " : "", device_at(i)->name);
    const Status status = cuda->sheet != NULL
                              ? STATUS_OK
                              : error_set(error, STATUS_INVALID_ARGUMENT, "plans for '%s', expected one of %s", name,
                                          names.data != NULL ? names.data : "");
    text_free(&names);
    if (status == STATUS_OK)
        snprintf(cuda->description, sizeof cuda->description, "plans for %s (sm_%d), %s", cuda->sheet->title,
                 cuda->sheet->sm, cuda->tf32 ? "tf32" : dtype_name(cuda->activation));
    return status;
}

static Status open_context(const BackendOptions *options, const char *ordinals, void **out, Error *error)
{
    CudaContext *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a CUDA context");
    Status status;
    cuda->activation = options->precision == PRECISION_BF16  ? DTYPE_BF16
                       : options->precision == PRECISION_F16 ? DTYPE_F16
                                                             : DTYPE_F32;
    cuda->tf32 = options->precision == PRECISION_TF32;
    cuda->memory_limit = options->memory_limit;
    if (options->plan_for != NULL) {
        GOTO_IF_ERROR(plan_for(cuda, options->plan_for, error), failed);
        *out = cuda;
        return STATUS_OK;
    }
    GOTO_IF_ERROR(choose_device(cuda, ordinals, error), failed);
    GOTO_IF_ERROR(cuda_status(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                              "cudaStreamCreateWithFlags", error),
                  failed);
    GOTO_IF_ERROR(cuda_status(cudaStreamCreateWithFlags(&cuda->copies, cudaStreamNonBlocking),
                              "cudaStreamCreateWithFlags", error),
                  failed);
    GOTO_IF_ERROR(dnn_open(&cuda->dnn, error), failed);
    GOTO_IF_ERROR(blas_open(&cuda->blas, error), failed);
    GOTO_IF_ERROR(describe_context(cuda, error), failed);
    *out = cuda;
    return STATUS_OK;

failed:
    close_context(cuda);
    return status;
}

static const char *describe(const void *context)
{
    return ((const CudaContext *)context)->description;
}

/* --- variables --- */

/* Without a device variables stay in the host's memory. */
static Status host_allocate(size_t bytes, void **out, Error *error)
{
    *out = malloc(bytes > 0 ? bytes : CUDA_VECTOR);
    return *out != NULL ? STATUS_OK
                        : error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a variable of %zu bytes", bytes);
}

static Status variable_allocate(void *context, size_t bytes, void **out, Error *error)
{
    const CudaContext *cuda = context;
    if (cuda->planning) return host_allocate(bytes, out, error);
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(cudaMalloc(out, bytes > 0 ? bytes : CUDA_VECTOR), error);
    return STATUS_OK;
}

static void variable_release(void *context, void *memory)
{
    const CudaContext *cuda = context;
    if (cuda->planning) {
        free(memory);
        return;
    }
    cudaSetDevice(cuda->device);
    cudaFree(memory);
}

/* On a stream of its own: another thread may be capturing the context's. */
static Status variable_copy(void *context, void *to, const void *from, size_t bytes, Error *error)
{
    const CudaContext *cuda = context;
    if (bytes == 0) return STATUS_OK;
    if (cuda->planning) {
        memcpy(to, from, bytes);
        return STATUS_OK;
    }
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda->copies), error);
    RETURN_IF_CUDA(cudaStreamSynchronize(cuda->copies), error);
    return STATUS_OK;
}

static Status variable_zero(void *context, void *memory, size_t bytes, Error *error)
{
    const CudaContext *cuda = context;
    if (cuda->planning) {
        memset(memory, 0, bytes);
        return STATUS_OK;
    }
    RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    RETURN_IF_CUDA(cudaMemsetAsync(memory, 0, bytes, cuda->copies), error);
    RETURN_IF_CUDA(cudaStreamSynchronize(cuda->copies), error);
    return STATUS_OK;
}

/* --- plans --- */

static void destroy_plan(void *opaque)
{
    CudaPlan *plan = opaque;
    if (plan == NULL) return;
    if (!plan->cuda->planning) {
        cudaSetDevice(plan->cuda->device);
        cudaStreamSynchronize(plan->cuda->stream);
    }
    if (plan->constant_exec != NULL) cudaGraphExecDestroy(plan->constant_exec);
    if (plan->exec != NULL) cudaGraphExecDestroy(plan->exec);
    for (int s = 0; s < plan->step_count; s++)
        if (plan->steps[s].destroy != NULL && plan->steps[s].own != NULL) plan->steps[s].destroy(&plan->steps[s]);
    for (int i = 0; plan->marks != NULL && i <= plan->step_count; i++)
        if (plan->marks[i] != NULL) cudaEventDestroy(plan->marks[i]);
    if (plan->arena != NULL) cudaFree(plan->arena);
    if (plan->host != NULL) cudaFreeHost(plan->host);
    free(plan->marks);
    free(plan->steps);
    free(plan->views);
    free(plan->inputs);
    free(plan->outputs);
    free(plan);
}

static Status mark(const CudaPlan *plan, int step, Error *error)
{
    if (plan->marks == NULL) return STATUS_OK;
    RETURN_IF_CUDA(cudaEventRecord(plan->marks[step], plan->cuda->stream), error);
    return STATUS_OK;
}

static Status launch_steps(const CudaPlan *plan, int begin, int end, Error *error)
{
    for (int s = begin; s < end; s++) {
        RETURN_IF_ERROR(mark(plan, s, error));
        const Status status = plan->steps[s].launch(&plan->steps[s], plan->cuda->stream, error);
        if (status == STATUS_OK) continue;
        error_prefix(error, "%s '%s'", plan->steps[s].operation, plan->steps[s].layer);
        return status;
    }
    return mark(plan, end, error);
}

static Status launch_run(const CudaPlan *plan, Error *error)
{
    const cudaStream_t stream = plan->cuda->stream;
    if (plan->input_bytes > 0)
        RETURN_IF_CUDA(cudaMemcpyAsync(plan->arena + plan->inputs_at, plan->host, plan->input_bytes,
                                       cudaMemcpyHostToDevice, stream),
                       error);
    RETURN_IF_ERROR(launch_steps(plan, plan->constant_count, plan->step_count, error));
    if (plan->output_bytes > 0)
        RETURN_IF_CUDA(cudaMemcpyAsync(plan->host + size_align(plan->input_bytes, CUDA_ALIGNMENT),
                                       plan->arena + plan->outputs_at, plan->output_bytes, cudaMemcpyDeviceToHost,
                                       stream),
                       error);
    return STATUS_OK;
}

static Status launch_constants(const CudaPlan *plan, Error *error)
{
    return launch_steps(plan, 0, plan->constant_count, error);
}

/* What `launch` puts on the stream, as a graph that can be launched again and again. */
static Status capture(const CudaPlan *plan, Status (*launch)(const CudaPlan *, Error *), cudaGraphExec_t *out,
                      Error *error)
{
    cudaGraph_t graph = NULL;
    RETURN_IF_CUDA(cudaStreamBeginCapture(plan->cuda->stream, cudaStreamCaptureModeThreadLocal), error);
    Status status = launch(plan, error);
    const cudaError_t ended = cudaStreamEndCapture(plan->cuda->stream, &graph);
    if (status == STATUS_OK) status = cuda_status(ended, "cudaStreamEndCapture", error);
    if (status == STATUS_OK) status = cuda_status(cudaGraphInstantiate(out, graph, 0), "cudaGraphInstantiate", error);
    if (graph != NULL) cudaGraphDestroy(graph);
    return status;
}

static Status capture_all(CudaPlan *plan, Error *error)
{
    if (plan->constant_count > 0) RETURN_IF_ERROR(capture(plan, launch_constants, &plan->constant_exec, error));
    return capture(plan, launch_run, &plan->exec, error);
}

static Status make_marks(CudaPlan *plan, Error *error)
{
    plan->marks = calloc((size_t)plan->step_count + 1, sizeof *plan->marks);
    if (plan->marks == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a profile");
    for (int s = 0; s <= plan->step_count; s++)
        RETURN_IF_CUDA(cudaEventCreateWithFlags(&plan->marks[s], cudaEventDefault), error);
    return STATUS_OK;
}

static Status wait(const CudaPlan *plan, Error *error)
{
    RETURN_IF_CUDA(cudaStreamSynchronize(plan->cuda->stream), error);
    return STATUS_OK;
}

static Status refresh_plan(void *opaque, Error *error)
{
    const CudaPlan *plan = opaque;
    if (plan->constant_count == 0 || plan->cuda->planning) return STATUS_OK;
    RETURN_IF_CUDA(cudaSetDevice(plan->cuda->device), error);
    if (plan->constant_exec != NULL)
        RETURN_IF_CUDA(cudaGraphLaunch(plan->constant_exec, plan->cuda->stream), error);
    else
        RETURN_IF_ERROR(launch_constants(plan, error));
    return wait(plan, error);
}

static Status compile_plan(void *context, const Graph *graph, Variables *variables, const PlanOptions *options,
                           void **out, Error *error)
{
    CudaContext *cuda = context;
    if (!cuda->planning) RETURN_IF_CUDA(cudaSetDevice(cuda->device), error);
    CudaPlan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan");
    plan->cuda = cuda;
    plan->graph = graph;
    plan->profile = options->profile;
    Compiler compiler = {.cuda = cuda, .graph = graph, .variables = variables, .frozen = options->frozen};
    Status status = compile_drafts(&compiler, error);
    if (status == STATUS_OK) status = place_steps(&compiler, plan, error);
    compiler_free(&compiler);
    if (status == STATUS_OK && !cuda->planning)
        status = plan->profile ? make_marks(plan, error) : capture_all(plan, error);
    if (status == STATUS_OK && options->frozen) status = refresh_plan(plan, error);
    if (status == STATUS_OK)
        *out = plan;
    else
        destroy_plan(plan);
    return status;
}

static Tensor plan_input_tensor(void *opaque, Value input)
{
    const CudaPlan *plan = opaque;
    return plan->inputs != NULL ? plan->inputs[input.id] : (Tensor){0};
}

static Tensor plan_output_tensor(void *opaque, int index)
{
    const CudaPlan *plan = opaque;
    return plan->outputs != NULL ? plan->outputs[index] : (Tensor){0};
}

/* A label that isn't a class: the caller's mistake, found before anything runs. Labels are an input of the graph. */
static Status check_labels(const CudaPlan *plan, Error *error)
{
    for (int s = plan->constant_count; s < plan->step_count; s++) {
        const CudaStep *step = &plan->steps[s];
        if (!step->labelled) continue;
        const size_t at = (size_t)((unsigned char *)step->inputs[1].data - (plan->arena + plan->inputs_at));
        if (at >= plan->input_bytes) continue;
        const int32_t *label = (const int32_t *)(const void *)(plan->host + at);
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
    for (int s = plan->constant_count; s < plan->step_count; s++) {
        float milliseconds = 0;
        RETURN_IF_CUDA(cudaEventElapsedTime(&milliseconds, plan->marks[s], plan->marks[s + 1]), error);
        plan->steps[s].seconds += 1e-3 * (double)milliseconds;
    }
    plan->runs++;
    return STATUS_OK;
}

static Status run_plan(void *opaque, Error *error)
{
    CudaPlan *plan = opaque;
    if (plan->cuda->planning)
        return error_set(error, STATUS_FAILED_PRECONDITION, "a plan for '%s' can't be run: it has no device",
                         plan->cuda->sheet->name);
    RETURN_IF_ERROR(check_labels(plan, error));
    RETURN_IF_CUDA(cudaSetDevice(plan->cuda->device), error);
    if (plan->exec != NULL)
        RETURN_IF_CUDA(cudaGraphLaunch(plan->exec, plan->cuda->stream), error);
    else
        RETURN_IF_ERROR(launch_run(plan, error));
    RETURN_IF_ERROR(wait(plan, error));
    return plan->profile ? add_profile(plan, error) : STATUS_OK;
}

static size_t arena_bytes(const void *opaque)
{
    return ((const CudaPlan *)opaque)->arena_bytes;
}

static int step_count(const void *opaque)
{
    const CudaPlan *plan = opaque;
    return plan->step_count - plan->constant_count;
}

/* The least time by the data sheet: what it computes at the peak of its type, what it moves at the memory's rate, or
 * its launches. */
static void add_roofline(const CudaContext *cuda, const CudaStep *step, PlanStep *out)
{
    if (cuda->sheet == NULL) return;
    const DType type = step->inputs[0].dtype == cuda->activation ? cuda->activation : DTYPE_F32;
    const double compute = step->flops / device_peak(cuda->sheet, type, cuda->tf32 && step->own != NULL);
    const double memory = step->bytes / cuda->sheet->bandwidth, launch = step->launches * cuda->sheet->launch;
    out->roofline = compute > memory ? compute : memory;
    out->limit = compute > memory ? "compute" : "memory";
    if (launch > out->roofline) out->roofline = launch, out->limit = "launch";
}

static PlanStep plan_step_at(const void *opaque, int index)
{
    const CudaPlan *plan = opaque;
    const CudaStep *step = &plan->steps[plan->constant_count + index];
    PlanStep out = {.layer = step->layer,
                    .operation = step->operation,
                    .implementation = step->implementation,
                    .phase = step->phase,
                    .shape = step->outputs[0].shape,
                    .dtype = step->outputs[0].dtype,
                    .flops = step->flops,
                    .bytes = step->bytes,
                    .launches = step->launches,
                    .seconds = plan->runs > 0 ? step->seconds / (double)plan->runs : 0};
    add_roofline(plan->cuda, step, &out);
    return out;
}

static void profile_reset(void *opaque)
{
    CudaPlan *plan = opaque;
    plan->runs = 0;
    for (int s = 0; s < plan->step_count; s++)
        plan->steps[s].seconds = 0;
}

static const BackendDriver driver = {
    .open = open_context,
    .close = close_context,
    .describe = describe,
    .memory = {.allocate = variable_allocate,
               .release = variable_release,
               .copy = variable_copy,
               .zero = variable_zero},
    .compile = compile_plan,
    .destroy = destroy_plan,
    .input = plan_input_tensor,
    .output = plan_output_tensor,
    .run = run_plan,
    .refresh = refresh_plan,
    .arena_bytes = arena_bytes,
    .step_count = step_count,
    .step = plan_step_at,
    .profile_reset = profile_reset,
};

const BackendPlugin *neuron_backend_plugin(void)
{
    static const BackendPlugin plugin = {BACKEND_PLUGIN_ABI, &driver};
    return &plugin;
}
