/* What stands behind backend.h: a driver is one table of functions, and backend.c's list of drivers is the only place
 * that names them all.
 *
 * backend.c does what every driver needs the same: it resolves the number of threads, checks the graph, applies the
 * rewrites, checks that every state was declared, finds inputs and outputs by name, and owns the rewritten graph for as
 * long as the plan lives, so a driver may keep pointers into it (names, shapes, layers). Variables live in host memory,
 * row-major, 64-byte aligned, and never move: a driver may keep the pointers of variables_data. */
#pragma once

#include "backend/backend.h"

typedef struct BackendDriver {
    const char *name; /* what users type: "cpu" */

    /* The driver's own state. `options->threads` is at least 1. `options` need not outlive the call. */
    Status (*open)(const BackendOptions *options, void **context, Error *error);
    void (*close)(void *context);
    const char *(*describe)(const void *context); /* lives as long as the context */

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
    void (*profile_reset)(void *plan);
} BackendDriver;

extern const BackendDriver cpu_driver;       /* cpu/ */
extern const BackendDriver reference_driver; /* reference/ */

/* The bytes of a variable. The address stays the same until the Variables are destroyed. */
void *variables_data(const Variables *variables, int index);
/* The backend that the variables were made for. */
const Backend *variables_backend(const Variables *variables);
/* STATUS_OK when the graph's state is among the variables with its dtype and shape. */
Status variables_expect(const Variables *variables, const ValueInfo *state, Error *error);
