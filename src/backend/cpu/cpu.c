/* The driver: the table of operations, opening, compiling and running. */
#include "backend/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/compile.h"
#include "backend/cpu/onednn.h"
#include "base/clock.h"

/* One entry an operation: how it is prepared, which layouts it takes, whether it may write over its inputs. */
static const CpuOperation operations[OPERATION_COUNT] = {
    [OP_AFFINE] = {prepare_affine, LAYOUT_RULE_FOLLOW, true},
    [OP_ADD] = {prepare_add, LAYOUT_RULE_FOLLOW, true},
    [OP_ADD_SCALED] = {prepare_add_scaled, LAYOUT_RULE_FOLLOW, true},
    [OP_SCALE_BY] = {prepare_scale_by, LAYOUT_RULE_FOLLOW, true},
    [OP_RELU] = {prepare_relu, LAYOUT_RULE_FOLLOW, true},
    [OP_RELU_GRAD] = {prepare_relu_grad, LAYOUT_RULE_FOLLOW, true},
    [OP_GELU] = {prepare_gelu, LAYOUT_RULE_FOLLOW, true},
    [OP_GELU_GRAD] = {prepare_gelu_grad, LAYOUT_RULE_FOLLOW, true},
    [OP_DROPOUT] = {prepare_dropout, LAYOUT_RULE_FOLLOW, false},
    [OP_CONCAT] = {prepare_concat, LAYOUT_RULE_PLAIN, false},
    [OP_SLICE] = {prepare_slice, LAYOUT_RULE_DENSE, false},
    [OP_SLICE_GRAD] = {prepare_slice_grad, LAYOUT_RULE_DENSE, false},
    [OP_ADAPTIVE_AVG_POOL2D] = {prepare_adaptive_avg_pool2d, LAYOUT_RULE_DENSE, false},
    [OP_ADAPTIVE_AVG_POOL2D_GRAD] = {prepare_adaptive_avg_pool2d_grad, LAYOUT_RULE_DENSE, false},
    [OP_MAX_POOL2D] = {prepare_max_pool2d, LAYOUT_RULE_IMAGE, false},
    [OP_MAX_POOL2D_GRAD] = {prepare_max_pool2d_grad, LAYOUT_RULE_IMAGE, false},
    [OP_CONV2D] = {prepare_conv2d, LAYOUT_RULE_IMAGE, false},
    [OP_CONV2D_POOL] = {prepare_conv2d_pool, LAYOUT_RULE_IMAGE, false},
    [OP_CONV2D_GRAD_INPUT] = {prepare_conv2d_grad_input, LAYOUT_RULE_IMAGE, false},
    [OP_CONV2D_GRAD_PARAMETERS] = {prepare_conv2d_grad_parameters, LAYOUT_RULE_IMAGE, false},
    [OP_LINEAR] = {prepare_linear, LAYOUT_RULE_PLAIN, false},
    [OP_LINEAR_GRAD_INPUT] = {prepare_linear_grad_input, LAYOUT_RULE_PLAIN, false},
    [OP_LINEAR_GRAD_PARAMETERS] = {prepare_linear_grad_parameters, LAYOUT_RULE_PLAIN, false},
    [OP_MATMUL] = {prepare_matmul, LAYOUT_RULE_PLAIN, false},
    [OP_SOFTMAX] = {prepare_softmax, LAYOUT_RULE_PLAIN, false},
    [OP_SOFTMAX_GRAD] = {prepare_softmax_grad, LAYOUT_RULE_PLAIN, false},
    [OP_WEIGHTED_SUM] = {prepare_weighted_sum, LAYOUT_RULE_PLAIN, false},
    [OP_WEIGHTED_SUM_GRAD_WEIGHTS] = {prepare_weighted_sum_grad_weights, LAYOUT_RULE_PLAIN, false},
    [OP_WEIGHTED_SUM_GRAD_VALUES] = {prepare_weighted_sum_grad_values, LAYOUT_RULE_PLAIN, false},
    [OP_CROSS_ENTROPY] = {prepare_cross_entropy, LAYOUT_RULE_PLAIN, false},
    [OP_CROSS_ENTROPY_GRAD] = {prepare_cross_entropy_grad, LAYOUT_RULE_PLAIN, false},
    [OP_SOFT_CROSS_ENTROPY] = {prepare_soft_cross_entropy, LAYOUT_RULE_PLAIN, false},
    [OP_SOFT_CROSS_ENTROPY_GRAD] = {prepare_soft_cross_entropy_grad, LAYOUT_RULE_PLAIN, false},
    [OP_MEAN_SQUARED_ERROR] = {prepare_mean_squared_error, LAYOUT_RULE_PLAIN, false},
    [OP_MEAN_SQUARED_ERROR_GRAD] = {prepare_mean_squared_error_grad, LAYOUT_RULE_PLAIN, false},
    [OP_GLOBAL_NORM] = {prepare_global_norm, LAYOUT_RULE_DENSE, false},
    [OP_CLIP_FACTOR] = {prepare_clip_factor, LAYOUT_RULE_DENSE, false},
    [OP_LOSS_SCALE] = {prepare_loss_scale, LAYOUT_RULE_DENSE, false},
    [OP_SGD] = {prepare_sgd, LAYOUT_RULE_DENSE, true},
};

const CpuOperation *cpu_operation(OperationKind kind)
{
    return &operations[kind];
}

typedef struct CpuContext {
    Team *team;
    const SimdKernels *simd;
    size_t memory_limit;
    char description[96];
} CpuContext;

/* The widest kernels that both this processor and ONEDNN_MAX_CPU_ISA allow. */
static const SimdKernels *choose_kernels(void)
{
    const SimdKernels *best = simd_kernels(SIMD_BASELINE);
#if defined(__x86_64__)
    int bits = onednn_vector_bits();
    if (bits >= 256 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2"))
        best = simd_kernels(SIMD_AVX2);
    if (bits >= 512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        best = simd_kernels(SIMD_AVX512);
#endif
    return best;
}

static void enter_thread(void *context, int member, int members)
{
    (void)context, (void)member, (void)members;
    onednn_use_one_thread();
}

static Status cpu_open(const BackendOptions *options, const char *ordinals, void **out, Error *error)
{
    RETURN_IF_ERROR(driver_takes_f32("cpu", options, ordinals, error));
    CpuContext *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for the cpu backend");
    Status status = team_create(options->threads, &cpu->team, error);
    if (status != STATUS_OK) {
        free(cpu);
        return status;
    }
    team_run(cpu->team, enter_thread, NULL);
    cpu->simd = choose_kernels();
    cpu->memory_limit = options->memory_limit;
    char version[48];
    snprintf(cpu->description, sizeof cpu->description, "%s, %s, %d thread%s",
             onednn_version_text(version, sizeof version), cpu->simd->name, options->threads,
             options->threads == 1 ? "" : "s");
    *out = cpu;
    return STATUS_OK;
}

static void cpu_close(void *context)
{
    CpuContext *cpu = context;
    if (cpu == NULL) return;
    team_destroy(cpu->team);
    free(cpu);
}

static const char *cpu_describe(const void *context)
{
    return ((const CpuContext *)context)->description;
}

/* --- shares as tasks --- */

static void run_share(const CpuPlan *plan, int task)
{
    const Step *step = &plan->steps[plan->tasks[task].step];
    step->run(step, plan->tasks[task].share);
}

static void run_task(void *context, int task)
{
    const CpuPlan *plan = context;
    run_share(plan, plan->constant_tasks + task);
}

static void run_constant_task(void *context, int task)
{
    run_share(context, task);
}

static void mark_step(void *context, int group)
{
    CpuPlan *plan = context;
    plan->marks[plan->constant_count + group] = clock_now(clock_monotonic());
}

/* The shares of steps [begin, end), those between two barriers as one group. Small steps of a group prefer different
 * members. With a profile every step is a group of its own. */
static Status list_tasks(CpuPlan *plan, int begin, int end, struct PlannedTask *planned, TaskRun *run, TaskMark *mark,
                         TaskList **out, Error *error)
{
    int count = 0, group = -1, next = 0, threads = team_members(plan->team), total = 0;
    for (int s = begin; s < end; s++)
        total += plan->steps[s].shares;
    Task *tasks = calloc((size_t)total + 1, sizeof *tasks);
    if (tasks == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %d tasks", total);
    for (int s = begin; s < end; s++) {
        if (s == begin || plan->steps[s].barrier || plan->profile) group++, next = 0;
        for (int share = 0; share < plan->steps[s].shares; share++) {
            planned[count] = (struct PlannedTask){s, share};
            tasks[count++] = (Task){group, next++ % threads};
        }
    }
    Status status = task_list_create(plan->team, tasks, count, run, mark, plan, out, error);
    free(tasks);
    return status;
}

static Status make_lists(CpuPlan *plan, Error *error)
{
    int all = 0;
    for (int s = 0; s < plan->step_count; s++) {
        all += plan->steps[s].shares;
        if (s < plan->constant_count) plan->constant_tasks = all;
    }
    plan->tasks = calloc((size_t)all + 1, sizeof *plan->tasks);
    plan->marks = calloc((size_t)plan->step_count + 1, sizeof *plan->marks);
    if (plan->tasks == NULL || plan->marks == NULL)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for %d tasks", all);
    RETURN_IF_ERROR(
        list_tasks(plan, 0, plan->constant_count, plan->tasks, run_constant_task, NULL, &plan->constant_list, error));
    return list_tasks(plan, plan->constant_count, plan->step_count, plan->tasks + plan->constant_tasks, run_task,
                      plan->profile ? mark_step : NULL, &plan->list, error);
}

static void cpu_destroy(void *opaque)
{
    CpuPlan *plan = opaque;
    if (plan == NULL) return;
    task_list_destroy(plan->constant_list);
    task_list_destroy(plan->list);
    for (int s = 0; s < plan->step_count; s++)
        if (plan->steps[s].destroy != NULL && plan->steps[s].own != NULL) plan->steps[s].destroy(&plan->steps[s]);
    free(plan->steps);
    free(plan->views);
    free(plan->values);
    free(plan->marks);
    free(plan->tasks);
    free(plan->arena);
    free(plan);
}

static Status cpu_refresh(void *opaque, Error *error);

static Status cpu_compile(void *context, const Graph *graph, Variables *variables, const PlanOptions *options,
                          void **out, Error *error)
{
    CpuContext *cpu = context;
    onednn_use_one_thread(); /* plans may be compiled on any thread */
    CpuPlan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan");
    plan->team = cpu->team;
    plan->graph = graph;
    plan->profile = options->profile;
    Compiler compiler = {.graph = graph,
                         .variables = variables,
                         .simd = cpu->simd,
                         .threads = team_members(cpu->team),
                         .frozen = options->frozen};
    Status status = compile_drafts(&compiler, error);
    if (status == STATUS_OK) status = place_steps(&compiler, plan, cpu->memory_limit, error);
    compiler_free(&compiler);
    if (status == STATUS_OK) status = make_lists(plan, error);
    if (status == STATUS_OK && options->frozen) status = cpu_refresh(plan, error);
    if (status == STATUS_OK)
        *out = plan;
    else
        cpu_destroy(plan);
    return status;
}

static Tensor cpu_input(void *opaque, Value input)
{
    return ((CpuPlan *)opaque)->values[input.id];
}

static Tensor cpu_output(void *opaque, int index)
{
    CpuPlan *plan = opaque;
    return plan->values[graph_output_at(plan->graph, index).id];
}

static void add_profile(CpuPlan *plan)
{
    plan->marks[plan->step_count] = clock_now(clock_monotonic());
    for (int s = plan->constant_count; s < plan->step_count; s++) {
        plan->steps[s].seconds += clock_seconds(plan->marks[s + 1] - plan->marks[s]);
        plan->steps[s].runs++;
    }
}

/* A label that isn't a class would read beyond a row: the caller's mistake, found before anything runs. */
static Status check_labels(const CpuPlan *plan, Error *error)
{
    for (int s = plan->constant_count; s < plan->step_count; s++) {
        const Step *step = &plan->steps[s];
        if (!step->labelled) continue;
        const int32_t *label = step->inputs[1].data;
        int64_t classes = step->inputs[0].shape.dims[1];
        for (int64_t n = 0; n < view_rows(&step->inputs[1]); n++)
            if (label[n] >= classes)
                return error_set(error, STATUS_INVALID_ARGUMENT, "label of row %ld is %d, expected less than %ld",
                                 (long)n, label[n], (long)classes);
    }
    return STATUS_OK;
}

static Status cpu_run(void *opaque, Error *error)
{
    CpuPlan *plan = opaque;
    RETURN_IF_ERROR(check_labels(plan, error));
    onednn_use_one_thread(); /* whoever calls is member 0 */
    task_list_run(plan->list);
    if (plan->profile) add_profile(plan);
    return STATUS_OK;
}

static Status cpu_refresh(void *opaque, Error *error)
{
    (void)error;
    CpuPlan *plan = opaque;
    onednn_use_one_thread();
    task_list_run(plan->constant_list);
    for (int s = 0; s < plan->step_count; s++)
        if (plan->steps[s].refresh != NULL) plan->steps[s].refresh(&plan->steps[s]);
    return STATUS_OK;
}

static size_t cpu_arena_bytes(const void *opaque)
{
    return ((const CpuPlan *)opaque)->arena_bytes;
}

static int cpu_step_count(const void *opaque)
{
    const CpuPlan *plan = opaque;
    return plan->step_count - plan->constant_count;
}

static PlanStep cpu_step(const void *opaque, int index)
{
    const CpuPlan *plan = opaque;
    const Step *step = &plan->steps[plan->constant_count + index];
    return (PlanStep){.layer = step->layer,
                      .operation = step->operation,
                      .implementation = step->implementation,
                      .phase = step->phase,
                      .shape = step->outputs[0].shape,
                      .dtype = step->outputs[0].dtype,
                      .flops = step->flops,
                      .bytes = step->bytes,
                      .seconds = step->runs > 0 ? step->seconds / (double)step->runs : 0};
}

static void cpu_profile_reset(void *opaque)
{
    CpuPlan *plan = opaque;
    for (int s = 0; s < plan->step_count; s++)
        plan->steps[s].seconds = 0, plan->steps[s].runs = 0;
}

const BackendDriver cpu_driver = {
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .compile = cpu_compile,
    .destroy = cpu_destroy,
    .input = cpu_input,
    .output = cpu_output,
    .run = cpu_run,
    .refresh = cpu_refresh,
    .arena_bytes = cpu_arena_bytes,
    .step_count = cpu_step_count,
    .step = cpu_step,
    .profile_reset = cpu_profile_reset,
};
