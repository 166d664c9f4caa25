/* What stands behind backend.h: a driver is one table of functions, and backend.c's list of drivers is the only place
 * that names them all.
 *
 * backend.c does what every driver needs the same: it resolves the number of threads, checks the graph, applies the
 * rewrites, checks that every state was declared, finds inputs and outputs by name, and owns the rewritten graph for as
 * long as the plan lives, so a driver may keep pointers into it (names, shapes, layers). Variables live in the driver's
 * memory, or else in the host's, row-major, 64-byte aligned, and never move: a driver may keep the pointers of
 * variables_data. */
#pragma once

#include "backend/backend.h"

/* Memory that isn't the host's. Any thread may call these while no plan that uses the memory runs. */
typedef struct BackendMemory {
    Status (*allocate)(void *context, size_t bytes, void **out, Error *error);
    void (*release)(void *context, void *memory);
    /* Between this memory, the host's, and that of another context of the same driver. Done when it returns. */
    Status (*copy)(void *context, void *to, const void *from, size_t bytes, Error *error);
    Status (*zero)(void *context, void *memory, size_t bytes, Error *error);
} BackendMemory;

typedef struct BackendDriver {
    /* The driver's own state. `options->threads` is at least 1. `ordinals`: what followed the device's name and a
     * colon, NULL where nothing did. Neither need outlive the call. */
    Status (*open)(const BackendOptions *options, const char *ordinals, void **context, Error *error);
    void (*close)(void *context);
    const char *(*describe)(const void *context); /* lives as long as the context */
    int (*replicas)(const void *context);         /* NULL: one device */
    BackendMemory memory;                         /* where variables live; all NULL: in the host's */

    /* `graph` is checked and rewritten; every state of it is in `variables` with its dtype and shape. `options` need
     * not outlive the call; `context`, `graph` and `variables` outlive the plan. */
    Status (*compile)(void *context, const Graph *graph, Variables *variables, const PlanOptions *options, void **plan,
                      Error *error);
    void (*destroy)(void *plan);

    /* Memory of an input of the graph, and of its output number `index` (as graph_output_at). The output may be any
     * value: a computed one, a view, an input or a state (then: what the state held before the run). */
    Tensor (*input)(void *plan, Value input);
    Tensor (*output)(void *plan, int index);
    Status (*run)(void *plan, Error *error);
    Status (*refresh)(void *plan, Error *error); /* only called for frozen plans */

    size_t (*arena_bytes)(const void *plan);
    int (*step_count)(const void *plan);
    PlanStep (*step)(const void *plan, int index);
    PlanStep (*copy)(const void *plan, bool to_host); /* NULL: nothing is copied */
    void (*profile_reset)(void *plan);
} BackendDriver;

extern const BackendDriver cpu_driver;       /* cpu/ */
extern const BackendDriver reference_driver; /* reference/ */

/* For drivers of one device, in F32: an error where something else is asked for. */
Status driver_takes_f32(const char *name, const BackendOptions *options, const char *ordinals, Error *error);

/* variables_create for a backend whose driver has `memory` (NULL: the host's). */
Status variables_create_in(const Backend *backend, const BackendMemory *memory, void *context, Variables **out,
                           Error *error);
/* The bytes of a variable, in that memory. The address stays the same until the Variables are destroyed. */
void *variables_data(const Variables *variables, int index);
/* The backend that the variables were made for. */
const Backend *variables_backend(const Variables *variables);
/* STATUS_OK when the graph's state is among the variables with its dtype and shape. */
Status variables_expect(const Variables *variables, const ValueInfo *state, Error *error);
