/* backend.h over the drivers: finds the driver of a device, and does for every plan what no driver should have to do
 * again (see driver.h). */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "backend/driver.h"
#include "base/text.h"
#include "graph/rewrite.h"

static const BackendDriver *const drivers[] = {&cpu_driver, &reference_driver};

enum { DRIVER_COUNT = sizeof drivers / sizeof drivers[0] };

struct Backend {
    const BackendDriver *driver;
    BackendOptions options; /* threads resolved */
    void *context;
};

struct Plan {
    const BackendDriver *driver;
    Graph *graph; /* rewritten; the driver's plan points into it */
    bool frozen;
    void *state; /* the driver's */
};

/* --- backends --- */

static Status unknown_device(const char *device, Error *error)
{
    Text names = {0};
    for (int i = 0; i < DRIVER_COUNT; i++)
        text_append(&names, "%s%s", i ? ", " : "", drivers[i]->name);
    Status status = error_set(error, STATUS_INVALID_ARGUMENT, "device '%s' is unknown, expected one of %s", device,
                              names.data ? names.data : "");
    text_free(&names);
    return status;
}

/* The cores that this process may run on. */
static int usable_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

Status backend_open(const char *device, const BackendOptions *options, Backend **out, Error *error)
{
    const BackendDriver *driver = NULL;
    for (int i = 0; i < DRIVER_COUNT; i++)
        if (strcmp(drivers[i]->name, device) == 0) driver = drivers[i];
    if (!driver) return unknown_device(device, error);
    if (options && options->threads < 0)
        return error_set(error, STATUS_INVALID_ARGUMENT, "threads are %d, expected 0 (all cores) or more",
                         options->threads);

    Backend *backend = calloc(1, sizeof *backend);
    if (!backend) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for device '%s'", device);
    backend->driver = driver;
    if (options) backend->options = *options;
    if (backend->options.threads == 0) backend->options.threads = usable_cores();
    Status status = driver->open(&backend->options, &backend->context, error);
    if (status != STATUS_OK) {
        free(backend);
        return status;
    }
    *out = backend;
    return STATUS_OK;
}

void backend_close(Backend *backend)
{
    if (!backend) return;
    backend->driver->close(backend->context);
    free(backend);
}

const char *backend_name(const Backend *backend)
{
    return backend->driver->name;
}

int backend_threads(const Backend *backend)
{
    return backend->options.threads;
}

const char *backend_description(const Backend *backend)
{
    return backend->driver->describe(backend->context);
}

/* --- plans --- */

static Status check_states(const Graph *graph, const Variables *variables, const PlanOptions *options, Error *error)
{
    for (int id = 0; id < graph_value_count(graph); id++) {
        const ValueInfo *info = graph_value(graph, (Value){id});
        if (info->kind != VALUE_STATE) continue;
        RETURN_IF_ERROR(variables_expect(variables, info, error));
        if (options->frozen && value_exists(info->assigned))
            return error_set(error, STATUS_INVALID_ARGUMENT, "a frozen plan can't assign the state '%s'", info->name);
    }
    return STATUS_OK;
}

Status plan_compile(Backend *backend, const Graph *graph, Variables *variables, const PlanOptions *options, Plan **out,
                    Error *error)
{
    const PlanOptions chosen = options ? *options : (PlanOptions){0};
    RETURN_IF_ERROR(graph_check(graph, error));
    if (variables_backend(variables) != backend)
        return error_set(error, STATUS_INVALID_ARGUMENT, "a plan of %s can't use the variables of another backend",
                         backend_name(backend));

    Plan *plan = calloc(1, sizeof *plan);
    if (!plan) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a plan");
    plan->driver = backend->driver;
    plan->frozen = chosen.frozen;
    Status status = STATUS_OK;
    int replaced = 0;
    plan->graph = rewrite(graph, chosen.rewrites, &replaced);
    if (!plan->graph) {
        status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to rewrite a graph");
        goto failed;
    }
    GOTO_IF_ERROR(graph_check(plan->graph, error), failed);
    GOTO_IF_ERROR(check_states(plan->graph, variables, &chosen, error), failed);
    GOTO_IF_ERROR(plan->driver->compile(backend->context, plan->graph, variables, &chosen, &plan->state, error),
                  failed);
    *out = plan;
    return STATUS_OK;

failed:
    graph_destroy(plan->graph);
    free(plan);
    return status;
}

void plan_destroy(Plan *plan)
{
    if (!plan) return;
    plan->driver->destroy(plan->state);
    graph_destroy(plan->graph);
    free(plan);
}

Tensor plan_input(Plan *plan, const char *name)
{
    for (int id = 0; id < graph_value_count(plan->graph); id++) {
        const ValueInfo *info = graph_value(plan->graph, (Value){id});
        if (info->kind == VALUE_INPUT && strcmp(info->name, name) == 0)
            return plan->driver->input(plan->state, (Value){id});
    }
    return (Tensor){0};
}

Tensor plan_output(Plan *plan, const char *name)
{
    for (int i = 0; i < graph_output_count(plan->graph); i++)
        if (strcmp(graph_output_name(plan->graph, i), name) == 0) return plan->driver->output(plan->state, i);
    return (Tensor){0};
}

Status plan_run(Plan *plan, Error *error)
{
    return plan->driver->run(plan->state, error);
}

Status plan_refresh(Plan *plan, Error *error)
{
    return plan->frozen ? plan->driver->refresh(plan->state, error) : STATUS_OK;
}

size_t plan_arena_bytes(const Plan *plan)
{
    return plan->driver->arena_bytes(plan->state);
}

int plan_step_count(const Plan *plan)
{
    return plan->driver->step_count(plan->state);
}

PlanStep plan_step(const Plan *plan, int index)
{
    return plan->driver->step(plan->state, index);
}

void plan_profile_reset(Plan *plan)
{
    plan->driver->profile_reset(plan->state);
}
