/* The driver's table, and what it tells of plans. context.c opens devices, plan.c compiles and runs. */
#include "backend/cuda/compile.h"
#include "backend/plugin.h"

static size_t arena_bytes(const void *opaque)
{
    return ((const CudaPlan *)opaque)->parts[0].arena_bytes;
}

static int step_count(const void *opaque)
{
    const CudaPlan *plan = opaque;
    return plan->parts[0].step_count - plan->parts[0].constant_count;
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
    const CudaStep *step = &plan->parts[0].steps[plan->parts[0].constant_count + index];
    PlanStep out = {.layer = step->layer,
                    .operation = step->operation,
                    .implementation = step->implementation,
                    .phase = step->phase,
                    .shape = step->outputs[0].shape,
                    .dtype = step->outputs[0].dtype,
                    .flops = step->flops,
                    .bytes = step->bytes,
                    .launches = step->launches,
                    .workspace = step->workspace_bytes,
                    .seconds = plan->runs > 0 ? step->seconds / (double)plan->runs : 0};
    add_roofline(plan->parts[0].cuda, step, &out);
    return out;
}

/* All that goes one way over the link to the host, in as many pieces as there are buckets; each device has its own. */
static PlanStep plan_copy_at(const void *opaque, bool to_host)
{
    const CudaPart *part = &((const CudaPlan *)opaque)->parts[0];
    const DeviceSheet *sheet = part->cuda->sheet;
    const size_t bytes = to_host ? part->output_bytes : part->input_bytes;
    return (PlanStep){.layer = "",
                      .operation = to_host ? "copy_to_host" : "copy_from_host",
                      .implementation = "memcpy",
                      .shape = shape_of((int64_t)bytes),
                      .dtype = DTYPE_U8,
                      .bytes = (double)bytes,
                      .roofline = sheet != NULL ? (double)bytes / sheet->link : 0,
                      .limit = sheet != NULL ? "link" : NULL};
}

static void profile_reset(void *opaque)
{
    CudaPlan *plan = opaque;
    plan->runs = 0;
    for (int s = 0; s < plan->parts[0].step_count; s++)
        plan->parts[0].steps[s].seconds = 0;
}

static Tensor input_tensor(void *opaque, Value input)
{
    const CudaPlan *plan = opaque;
    return plan->inputs != NULL ? plan->inputs[input.id] : (Tensor){0};
}

static Tensor output_tensor(void *opaque, int index)
{
    const CudaPlan *plan = opaque;
    return plan->outputs != NULL ? plan->outputs[index] : (Tensor){0};
}

static const char *describe(const void *context)
{
    return ((const CudaDevices *)context)->description;
}

static int replicas(const void *context)
{
    return ((const CudaDevices *)context)->count;
}

const BackendPlugin *neuron_backend_plugin(void)
{
    static const BackendDriver driver = {
        .open = devices_open,
        .close = devices_close,
        .describe = describe,
        .replicas = replicas,
        .memory = {variable_allocate, variable_release, variable_copy, variable_zero},
        .compile = cuda_plan_compile,
        .destroy = cuda_plan_destroy,
        .input = input_tensor,
        .output = output_tensor,
        .run = cuda_plan_run,
        .refresh = cuda_plan_refresh,
        .arena_bytes = arena_bytes,
        .step_count = step_count,
        .step = plan_step_at,
        .copy = plan_copy_at,
        .profile_reset = profile_reset,
    };
    static const BackendPlugin plugin = {BACKEND_PLUGIN_ABI, &driver};
    return &plugin;
}
