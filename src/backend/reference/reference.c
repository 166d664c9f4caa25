/* The reference driver: the graph's nodes one after the other, each by a plain loop (loops.h), on one thread.
 *
 * Every computed value has a buffer in one arena, shared by lives (graph/memory_plan.h); inputs, outputs and the copies
 * of a frozen plan's states keep theirs for the whole run. A view is its source's bytes. States are replaced at the end
 * of a run, when all readers have read; what an output or an assignment wants of a state's old value is copied first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/driver.h"
#include "backend/reference/loops.h"
#include "base/clock.h"
#include "graph/memory_plan.h"

enum { ALIGNMENT = 64 };

typedef struct Reference {
    size_t memory_limit;
    char description[64];
} Reference;

/* Where a value's bytes are. */
typedef struct Place {
    Value root;  /* itself, or what it is a view of */
    int buffer;  /* of a root: its buffer in the arena, -1: the variable's own memory */
    void *bytes; /* of a root and of its views, once the arena is there */
} Place;

typedef struct Step {
    ReferenceLoop *loop;
    LoopArguments arguments;
    uint64_t nanoseconds;
} Step;

/* A copy made when all steps are done: first those that save a state's old value, then the new values of states. */
typedef struct Copy {
    void *to;
    const void *from;
    size_t bytes;
} Copy;

typedef struct ReferencePlan {
    const Reference *backend;
    const Graph *graph;
    const Variables *variables;
    bool frozen, profile;
    Place *places;         /* one a value */
    int *snapshots;        /* one a value: of a state whose old value is wanted after the run, the buffer; else -1 */
    MemoryBuffer *buffers; /* at most two a value */
    int buffer_count;
    void *arena;
    size_t arena_bytes;
    Step *steps;
    int step_count;
    Tensor *tensors; /* the steps' arguments, one after the other */
    Tensor *outputs; /* the graph's */
    Copy *copies;    /* at most two a state */
    int copy_count;
    uint64_t runs; /* since compilation or profile_reset */
} ReferencePlan;

/* --- backend --- */

static Status reference_open(const BackendOptions *options, const char *ordinals, void **context, Error *error)
{
    RETURN_IF_ERROR(driver_takes_f32("reference", options, ordinals, error));
    Reference *backend = calloc(1, sizeof *backend);
    if (!backend) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for the reference backend");
    backend->memory_limit = options->memory_limit;
    snprintf(backend->description, sizeof backend->description, "plain loops, 1 thread");
    *context = backend;
    return STATUS_OK;
}

static void reference_close(void *context)
{
    free(context);
}

static const char *reference_describe(const void *context)
{
    return ((const Reference *)context)->description;
}

/* --- compiling --- */

static size_t value_bytes(const ReferencePlan *plan, Value value)
{
    const ValueInfo *info = graph_value(plan->graph, value);
    return (size_t)shape_count(info->shape) * dtype_size(info->dtype);
}

static Tensor value_tensor(const ReferencePlan *plan, Value value)
{
    if (!value_exists(value)) return (Tensor){0};
    const ValueInfo *info = graph_value(plan->graph, value);
    return tensor_view(info->dtype, info->shape, plan->places[value.id].bytes);
}

static int add_buffer(ReferencePlan *plan, Value value, int first, int last)
{
    plan->buffers[plan->buffer_count] = (MemoryBuffer){.size = value_bytes(plan, value), .first = first, .last = last};
    return plan->buffer_count++;
}

/* The loop of a node: in the precision of its real tensors, which must all have the same. */
static Status find_loop(const ReferencePlan *plan, const Node *node, ReferenceLoop **loop, Error *error)
{
    const char *name = operation_of(node->operation)->name;
    DType real = DTYPE_NONE;
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        const Value value = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        if (!value_exists(value)) continue;
        const ValueInfo *info = graph_value(plan->graph, value);
        if (!dtype_is_float(info->dtype)) continue;
        if (real != DTYPE_NONE && real != info->dtype)
            return error_set(error, STATUS_UNIMPLEMENTED, "%s of %s and %s ('%s') in one node", name, dtype_name(real),
                             dtype_name(info->dtype), info->name);
        real = info->dtype;
    }
    *loop = real == DTYPE_F64 ? reference_loops_f64[node->operation] : reference_loops_f32[node->operation];
    const bool moves = *loop == reference_concat || *loop == reference_slice || *loop == reference_slice_grad;
    if (*loop && (moves || real == DTYPE_F32 || real == DTYPE_F64)) return STATUS_OK;
    return error_set(error, STATUS_UNIMPLEMENTED, "the reference backend has no %s of %s", name, dtype_name(real));
}

/* Buffers and lives. Time -1 is before the first node, `end` after the last. */
static void place_values(ReferencePlan *plan)
{
    const Graph *graph = plan->graph;
    const int end = graph_node_count(graph);
    for (int id = 0; id < graph_value_count(graph); id++) {
        const Value value = {id};
        const ValueInfo *info = graph_value(graph, value);
        plan->snapshots[id] = -1;
        plan->places[id] = (Place){.root = value, .buffer = -1};
        if (info->kind == VALUE_INPUT || (info->kind == VALUE_STATE && plan->frozen))
            plan->places[id].buffer = add_buffer(plan, value, -1, end);
    }
    for (int i = 0; i < end; i++) {
        const Node *node = graph_node(graph, i);
        const bool view = operation_of(node->operation)->view;
        for (int k = 0; k < node->output_count; k++)
            plan->places[node->outputs[k].id].buffer = view ? -1 : add_buffer(plan, node->outputs[k], i, i);
        if (view) plan->places[node->outputs[0].id].root = plan->places[node->inputs[0].id].root;
        for (int k = 0; k < node->input_count && !view; k++) {
            if (!value_exists(node->inputs[k])) continue;
            const int buffer = plan->places[plan->places[node->inputs[k].id].root.id].buffer;
            if (buffer >= 0 && plan->buffers[buffer].last < i) plan->buffers[buffer].last = i;
        }
    }
}

/* `value` is read after the run: keeps its buffer to itself for the whole run, or, where that is a variable, a copy of
 * the variable. */
static void keep_value(ReferencePlan *plan, Value value)
{
    const Value root = plan->places[value.id].root;
    const int end = graph_node_count(plan->graph), buffer = plan->places[root.id].buffer;
    if (buffer >= 0) {
        plan->buffers[buffer].first = -1;
        plan->buffers[buffer].last = end;
    } else if (plan->snapshots[root.id] < 0) {
        plan->snapshots[root.id] = add_buffer(plan, root, -1, end);
    }
}

static void keep_results(ReferencePlan *plan)
{
    for (int i = 0; i < graph_output_count(plan->graph); i++)
        keep_value(plan, graph_output_at(plan->graph, i));
    for (int id = 0; id < graph_value_count(plan->graph); id++) {
        const Value assigned = graph_value(plan->graph, (Value){id})->assigned;
        if (graph_value(plan->graph, (Value){id})->kind == VALUE_STATE && value_exists(assigned))
            keep_value(plan, assigned);
    }
}

static Status make_arena(ReferencePlan *plan, Error *error)
{
    RETURN_IF_ERROR(memory_plan(plan->buffers, plan->buffer_count, ALIGNMENT, plan->backend->memory_limit,
                                &plan->arena_bytes, error));
    const size_t bytes = plan->arena_bytes > 0 ? plan->arena_bytes : ALIGNMENT;
    plan->arena = aligned_alloc(ALIGNMENT, bytes);
    if (!plan->arena) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for an arena of %zu bytes", bytes);
    memset(plan->arena, 0, bytes);
    for (int id = 0; id < graph_value_count(plan->graph); id++) {
        const Place *root = &plan->places[plan->places[id].root.id];
        const ValueInfo *info = graph_value(plan->graph, root->root);
        plan->places[id].bytes = root->buffer >= 0
                                     ? (char *)plan->arena + plan->buffers[root->buffer].offset
                                     : variables_data(plan->variables, variables_find(plan->variables, info->name));
    }
    return STATUS_OK;
}

/* Where a value that keep_value kept is read after the steps. */
static void *kept_bytes(const ReferencePlan *plan, Value value)
{
    const int snapshot = plan->snapshots[plan->places[value.id].root.id];
    return snapshot >= 0 ? (char *)plan->arena + plan->buffers[snapshot].offset : plan->places[value.id].bytes;
}

static void make_copies(ReferencePlan *plan)
{
    const int count = graph_value_count(plan->graph);
    for (int id = 0; id < count; id++)
        if (plan->snapshots[id] >= 0)
            plan->copies[plan->copy_count++] =
                (Copy){kept_bytes(plan, (Value){id}), plan->places[id].bytes, value_bytes(plan, (Value){id})};
    for (int id = 0; id < count; id++) {
        const ValueInfo *info = graph_value(plan->graph, (Value){id});
        if (info->kind == VALUE_STATE && value_exists(info->assigned))
            plan->copies[plan->copy_count++] =
                (Copy){plan->places[id].bytes, kept_bytes(plan, info->assigned), value_bytes(plan, (Value){id})};
    }
    for (int i = 0; i < graph_output_count(plan->graph); i++) {
        const Value value = graph_output_at(plan->graph, i);
        plan->outputs[i] = value_tensor(plan, value);
        plan->outputs[i].data = kept_bytes(plan, value);
    }
}

static Status make_steps(ReferencePlan *plan, Error *error)
{
    Tensor *next = plan->tensors;
    for (int i = 0; i < graph_node_count(plan->graph); i++) {
        const Node *node = graph_node(plan->graph, i);
        if (operation_of(node->operation)->view) continue;
        Step *step = &plan->steps[plan->step_count++];
        RETURN_IF_ERROR(find_loop(plan, node, &step->loop, error));
        step->arguments = (LoopArguments){.node = node, .training = graph_training(plan->graph)};
        step->arguments.inputs = next;
        for (int k = 0; k < node->input_count; k++)
            *next++ = value_tensor(plan, node->inputs[k]);
        step->arguments.outputs = next;
        for (int k = 0; k < node->output_count; k++)
            *next++ = value_tensor(plan, node->outputs[k]);
    }
    return STATUS_OK;
}

/* Room for as many of everything as there can be. */
static Status allocate_tables(ReferencePlan *plan, Error *error)
{
    const size_t values = (size_t)graph_value_count(plan->graph) + 1, nodes = (size_t)graph_node_count(plan->graph) + 1;
    size_t tensors = 1;
    for (int i = 0; i < graph_node_count(plan->graph); i++) {
        const Node *node = graph_node(plan->graph, i);
        tensors += (size_t)(node->input_count + node->output_count);
    }
    plan->places = calloc(values, sizeof *plan->places);
    plan->snapshots = calloc(values, sizeof *plan->snapshots);
    plan->buffers = calloc(2 * values, sizeof *plan->buffers);
    plan->copies = calloc(2 * values, sizeof *plan->copies);
    plan->steps = calloc(nodes, sizeof *plan->steps);
    plan->tensors = calloc(tensors, sizeof *plan->tensors);
    plan->outputs = calloc((size_t)graph_output_count(plan->graph) + 1, sizeof *plan->outputs);
    if (plan->places && plan->snapshots && plan->buffers && plan->copies && plan->steps && plan->tensors &&
        plan->outputs)
        return STATUS_OK;
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan of %zu nodes", nodes - 1);
}

static void reference_destroy(void *state)
{
    ReferencePlan *plan = state;
    free(plan->arena);
    free(plan->outputs);
    free(plan->tensors);
    free(plan->steps);
    free(plan->copies);
    free(plan->buffers);
    free(plan->snapshots);
    free(plan->places);
    free(plan);
}

static Status reference_refresh(void *state, Error *error)
{
    (void)error;
    ReferencePlan *plan = state;
    for (int id = 0; id < graph_value_count(plan->graph) && plan->frozen; id++) {
        const ValueInfo *info = graph_value(plan->graph, (Value){id});
        if (info->kind != VALUE_STATE) continue;
        const void *data = variables_data(plan->variables, variables_find(plan->variables, info->name));
        if (value_bytes(plan, (Value){id}) > 0) memcpy(plan->places[id].bytes, data, value_bytes(plan, (Value){id}));
    }
    return STATUS_OK;
}

static Status reference_compile(void *context, const Graph *graph, Variables *variables, const PlanOptions *options,
                                void **out, Error *error)
{
    ReferencePlan *plan = calloc(1, sizeof *plan);
    if (!plan) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan");
    Status status = STATUS_OK;
    plan->backend = context;
    plan->graph = graph;
    plan->variables = variables;
    plan->frozen = options->frozen;
    plan->profile = options->profile;
    GOTO_IF_ERROR(allocate_tables(plan, error), failed);
    place_values(plan);
    keep_results(plan);
    GOTO_IF_ERROR(make_arena(plan, error), failed);
    GOTO_IF_ERROR(make_steps(plan, error), failed);
    make_copies(plan);
    GOTO_IF_ERROR(reference_refresh(plan, error), failed);
    *out = plan;
    return STATUS_OK;

failed:
    reference_destroy(plan);
    return status;
}

/* --- running --- */

static Tensor reference_input(void *state, Value input)
{
    return value_tensor(state, input);
}

static Tensor reference_output(void *state, int index)
{
    return ((const ReferencePlan *)state)->outputs[index];
}

static Status reference_run(void *state, Error *error)
{
    ReferencePlan *plan = state;
    const Clock clock = clock_monotonic();
    for (int i = 0; i < plan->step_count; i++) {
        Step *step = &plan->steps[i];
        const uint64_t start = plan->profile ? clock_now(clock) : 0;
        RETURN_IF_ERROR(step->loop(&step->arguments, error));
        if (plan->profile) step->nanoseconds += clock_now(clock) - start;
    }
    for (int i = 0; i < plan->copy_count; i++)
        if (plan->copies[i].bytes > 0) memcpy(plan->copies[i].to, plan->copies[i].from, plan->copies[i].bytes);
    plan->runs++;
    return STATUS_OK;
}

static size_t reference_arena_bytes(const void *state)
{
    return ((const ReferencePlan *)state)->arena_bytes;
}

static int reference_step_count(const void *state)
{
    return ((const ReferencePlan *)state)->step_count;
}

static PlanStep reference_step(const void *state, int index)
{
    const ReferencePlan *plan = state;
    const Step *step = &plan->steps[index];
    const Node *node = step->arguments.node;
    return (PlanStep){
        .layer = node->layer,
        .operation = operation_of(node->operation)->name,
        .implementation = "loop",
        .phase = node->phase,
        .shape = step->arguments.outputs[0].shape,
        .dtype = step->arguments.outputs[0].dtype,
        .flops = operation_flops(plan->graph, node),
        .bytes = operation_bytes(plan->graph, node),
        .seconds = plan->runs > 0 ? clock_seconds(step->nanoseconds) / (double)plan->runs : 0,
    };
}

static void reference_profile_reset(void *state)
{
    ReferencePlan *plan = state;
    plan->runs = 0;
    for (int i = 0; i < plan->step_count; i++)
        plan->steps[i].nanoseconds = 0;
}

const BackendDriver reference_driver = {
    .open = reference_open,
    .close = reference_close,
    .describe = reference_describe,
    .compile = reference_compile,
    .destroy = reference_destroy,
    .input = reference_input,
    .output = reference_output,
    .run = reference_run,
    .refresh = reference_refresh,
    .arena_bytes = reference_arena_bytes,
    .step_count = reference_step_count,
    .step = reference_step,
    .profile_reset = reference_profile_reset,
};
