/* The compiled plans of a server: one for each kind, power of two of rows, and size of image that was asked for, the
 * one used longest ago making room for the next. For src/neuron and `neuron plan`, and for one thread at a time. */
#pragma once

#include "backend/backend.h"
#include "models/soma.h"

enum { SERVER_MAX_ROWS = 256 }; /* at once; longer requests are answered in pieces */

typedef enum PlanKind {
    PLAN_FORWARD,  /* "image" -> "hidden" */
    PLAN_BACKWARD, /* "image", "gradient" -> "image_gradient" = d(hidden . gradient) / d(image) */
    PLAN_LEARN, /* as PLAN_BACKWARD, and the parameters' gradients, clipped together, are added to "<parameter>.peer";
                   "norm" is theirs before, and when it is not finite nothing is added */
} PlanKind;

typedef struct PlanSize {
    PlanKind kind;
    int64_t rows, height, width;
} PlanSize;

typedef struct ServerPlans ServerPlans;

typedef struct ServerPlansOptions {
    const Soma *soma;
    Backend *backend;
    Variables *variables;
    bool fold;
    float clip;
} ServerPlansOptions;

Status server_plans_create(const ServerPlansOptions *options, ServerPlans **out, Error *error);
void server_plans_destroy(ServerPlans *plans);

/* The variables have changed: plans that have packed them do so again before they are given out. */
void server_plans_refresh(ServerPlans *plans);

/* The plan that takes `size.rows` rows (1 to SERVER_MAX_ROWS), or the power of two above; compiled now if need be, and
 * with the variables' present values. Valid until the next call. */
Status server_plans_find(ServerPlans *plans, PlanSize size, Plan **out, Error *error);
