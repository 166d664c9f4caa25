/* backend.h over the drivers: finds the driver of a device, and does for every plan what no driver should have to do
 * again (see driver.h). */
#include <stdlib.h>
#include <string.h>

#include "backend/plugin.h"
#include "base/team.h"
#include "base/text.h"
#include "graph/rewrite.h"

typedef struct Device {
    const char *name;            /* what users type */
    const BackendDriver *driver; /* NULL: in a plug-in */
} Device;

static const Device devices[] = {{"cpu", &cpu_driver}, {"reference", &reference_driver}, {"cuda", NULL}, {"sim", NULL}};

enum { DEVICE_COUNT = sizeof devices / sizeof devices[0] };

struct Backend {
    const char *name;
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
    for (int i = 0; i < DEVICE_COUNT; i++)
        text_append(&names, ", %s", devices[i].name);
    Status status = error_set(error, STATUS_INVALID_ARGUMENT, "device '%s' is unknown, expected one of auto%s", device,
                              names.data ? names.data : "");
    text_free(&names);
    return status;
}

const char *precision_name(Precision precision)
{
    static const char *const names[PRECISION_COUNT] = {"f32", "tf32", "bf16", "f16"};
    return names[precision];
}

Precision precision_from_name(const char *name)
{
    int precision = 0;
    while (precision < PRECISION_COUNT && strcmp(precision_name((Precision)precision), name) != 0)
        precision++;
    return (Precision)precision;
}

Status driver_takes_f32(const char *name, const BackendOptions *options, const char *ordinals, Error *error)
{
    if (ordinals != NULL)
        return error_set(error, STATUS_INVALID_ARGUMENT, "device '%s:%s', expected '%s': there is one", name, ordinals,
                         name);
    if (options->plan_for != NULL)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "plans for '%s' are made with device cuda or sim, not with '%s'", options->plan_for, name);
    if (options->precision != PRECISION_F32)
        return error_set(error, STATUS_INVALID_ARGUMENT, "device '%s' computes in f32, not in %s", name,
                         precision_name(options->precision));
    return STATUS_OK;
}

/* The device whose name stands before the colon of `text`, if there is one. */
static const Device *find_device(const char *text)
{
    const size_t length = strcspn(text, ":");
    for (int i = 0; i < DEVICE_COUNT; i++)
        if (strlen(devices[i].name) == length && strncmp(devices[i].name, text, length) == 0) return &devices[i];
    return NULL;
}

Status backend_check_device(const char *device, Error *error)
{
    return strcmp(device, "auto") == 0 || find_device(device) ? STATUS_OK : unknown_device(device, error);
}

static Status open_device(const char *device, const BackendOptions *options, Backend **out, Error *error)
{
    const Device *found = find_device(device);
    if (!found) return unknown_device(device, error);
    const BackendDriver *driver = found->driver;
    const char *colon = strchr(device, ':');
    if (!driver) RETURN_IF_ERROR(plugin_load(found->name, !options || !options->plan_for, &driver, error));
    if (options && options->threads < 0)
        return error_set(error, STATUS_INVALID_ARGUMENT, "threads are %d, expected 0 (all cores) or more",
                         options->threads);

    Backend *backend = calloc(1, sizeof *backend);
    if (!backend) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for device '%s'", device);
    backend->name = found->name;
    backend->driver = driver;
    if (options) backend->options = *options;
    if (backend->options.threads == 0) backend->options.threads = team_available_cores();
    Status status = driver->open(&backend->options, colon ? colon + 1 : NULL, &backend->context, error);
    if (status != STATUS_OK) {
        free(backend);
        return status;
    }
    *out = backend;
    return STATUS_OK;
}

/* What a host lacks makes auto fall back to the CPU; what fails on a host that has a device is an error. */
Status backend_open(const char *device, const BackendOptions *options, Backend **out, Error *error)
{
    if (strcmp(device, "auto") != 0) return open_device(device, options, out, error);
    const Status status = open_device("cuda", options, out, error);
    return status == STATUS_FAILED_PRECONDITION ? open_device("cpu", options, out, error) : status;
}

void backend_close(Backend *backend)
{
    if (!backend) return;
    backend->driver->close(backend->context);
    free(backend);
}

const char *backend_name(const Backend *backend)
{
    return backend->name;
}

int backend_threads(const Backend *backend)
{
    return backend->options.threads;
}

Precision backend_precision(const Backend *backend)
{
    return backend->options.precision;
}

bool backend_has_device(const Backend *backend)
{
    return backend->driver->memory.allocate != NULL;
}

int backend_replicas(const Backend *backend)
{
    return backend->driver->replicas ? backend->driver->replicas(backend->context) : 1;
}

const char *backend_description(const Backend *backend)
{
    return backend->driver->describe(backend->context);
}

Status variables_create(Backend *backend, Variables **out, Error *error)
{
    const BackendMemory *memory = backend->driver->memory.allocate ? &backend->driver->memory : NULL;
    return variables_create_in(backend, memory, backend->context, out, error);
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

PlanStep plan_copy(const Plan *plan, bool to_host)
{
    return plan->driver->copy ? plan->driver->copy(plan->state, to_host) : (PlanStep){.layer = ""};
}

void plan_profile_reset(Plan *plan)
{
    plan->driver->profile_reset(plan->state);
}
