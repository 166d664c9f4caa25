#include "neuron/server_plans.h"

#include <stdlib.h>

#include "graph/rewrite.h"
#include "train/trainer.h"

enum {
    PLAN_LIMIT = 32, /* compiled at a time */
    MAX_PARAMETERS = 512,
};

typedef struct ServerPlan {
    Plan *plan;
    PlanSize size;
    uint64_t packed, used; /* which change of the variables it has seen; when it was given out last */
} ServerPlan;

struct ServerPlans {
    ServerPlansOptions options;
    uint64_t changes, ticks;
    ServerPlan items[PLAN_LIMIT];
};

Status server_plans_create(const ServerPlansOptions *options, ServerPlans **out, Error *error)
{
    ServerPlans *plans = calloc(1, sizeof *plans);
    if (plans == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a server's plans");
    plans->options = *options;
    *out = plans;
    return STATUS_OK;
}

void server_plans_destroy(ServerPlans *plans)
{
    if (plans == NULL) return;
    for (int i = 0; i < PLAN_LIMIT; i++)
        plan_destroy(plans->items[i].plan);
    free(plans);
}

void server_plans_refresh(ServerPlans *plans)
{
    plans->changes++;
}

/* --- what is compiled --- */

static SomaValues declare_soma(Graph *g, const ServerPlansOptions *o, const PlanSize *size)
{
    SomaConfig config = {.batch = size->rows, .rows = size->height, .columns = size->width, .answering = true};
    return o->soma->declare(g, &config);
}

/* F16 has few exponents: a caller's gradient goes back with the norm SEED_NORM, whatever its own is. What comes of it
 * is linear in it, and is multiplied by *unscale in the end. A norm below FAINT is none. */
static Value scaled_seed(Graph *g, Value gradient, Value *unscale)
{
    static const double SEED_NORM = 1024, FAINT = 1e-30;
    const Value norm = global_norm(g, &gradient, 1);
    *unscale = affine(g, norm, 1 / SEED_NORM, 0);
    return scale_by(g, gradient, clip_factor(g, norm, FAINT, SEED_NORM / FAINT));
}

static Value unscaled(Graph *g, Value value, Value unscale)
{
    return value_exists(unscale) && value_exists(value) ? scale_by(g, value, unscale) : value;
}

/* `unscale`: what the gradients are to be multiplied by; VALUE_NONE: 1. */
static void declare_sums(Graph *g, const ServerPlansOptions *o, const Value *parameters, const Value *gradients,
                         int count, Value unscale)
{
    Value reached[MAX_PARAMETERS];
    int reached_count = 0;
    for (int i = 0; i < count; i++)
        if (value_exists(gradients[i])) reached[reached_count++] = gradients[i];
    if (reached_count == 0) return;
    graph_set_phase(g, PHASE_UPDATE);
    Value norm = unscaled(g, global_norm(g, reached, reached_count), unscale);
    Value factor = unscaled(g, clip_factor(g, norm, (double)o->clip, 1), unscale);
    graph_output(g, "norm", norm);
    for (int i = 0; i < count; i++) {
        if (!value_exists(gradients[i])) continue;
        Value sum = trainer_peer_gradient(g, parameters[i]);
        graph_assign(g, sum, add_scaled(g, sum, gradients[i], factor));
    }
}

static void declare(Graph *g, const ServerPlansOptions *o, const PlanSize *size)
{
    Value targets[MAX_PARAMETERS + 1], gradients[MAX_PARAMETERS + 1];
    SomaValues v = declare_soma(g, o, size);
    if (size->kind == PLAN_FORWARD) {
        graph_output(g, "hidden", v.local_hidden);
        return;
    }
    Value seed = graph_input(g, "gradient", graph_real(g), graph_shape(g, v.local_hidden)), unscale = VALUE_NONE;
    if (backend_precision(o->backend) == PRECISION_F16) seed = scaled_seed(g, seed, &unscale);
    int count = size->kind == PLAN_LEARN ? graph_parameters(g, targets, MAX_PARAMETERS) : 0;
    targets[count] = v.input;
    graph_gradient(g, &v.local_hidden, &seed, 1, targets, count + 1, gradients);
    graph_output(g, "image_gradient", unscaled(g, gradients[count], unscale));
    declare_sums(g, o, targets, gradients, count, unscale);
}

static Status compile(ServerPlans *plans, ServerPlan *made, Error *error)
{
    const ServerPlansOptions *o = &plans->options;
    bool forward = made->size.kind == PLAN_FORWARD;
    Graph *g = graph_create(DTYPE_F32, false);
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    declare(g, o, &made->size);
    PlanOptions options = {.rewrites = REWRITE_ALL, .frozen = forward};
    if (forward && o->fold) options.rewrites |= REWRITE_FOLD_LINEAR;
    Status status = graph_check(g, error);
    if (status == STATUS_OK) status = variables_declare(o->variables, g, 0, error);
    if (status == STATUS_OK) status = plan_compile(o->backend, g, o->variables, &options, &made->plan, error);
    graph_destroy(g);
    made->packed = plans->changes;
    return status;
}

/* --- finding --- */

static int64_t power_of_two(int64_t rows)
{
    int64_t size = 1;
    while (size < rows)
        size *= 2;
    return size;
}

static bool same(const PlanSize *a, const PlanSize *b)
{
    return a->kind == b->kind && a->rows == b->rows && a->height == b->height && a->width == b->width;
}

Status server_plans_find(ServerPlans *plans, PlanSize size, Plan **out, Error *error)
{
    ServerPlan *found = NULL, *oldest = &plans->items[0];
    size.rows = power_of_two(size.rows);
    for (int i = 0; i < PLAN_LIMIT && found == NULL; i++) {
        ServerPlan *item = &plans->items[i];
        if (item->plan != NULL && same(&item->size, &size)) found = item;
        if (item->used < oldest->used) oldest = item;
    }
    if (found == NULL) {
        found = oldest;
        plan_destroy(found->plan);
        *found = (ServerPlan){.size = size};
        RETURN_IF_ERROR(compile(plans, found, error));
    } else if (size.kind == PLAN_FORWARD && found->packed != plans->changes) {
        RETURN_IF_ERROR(plan_refresh(found->plan, error));
        found->packed = plans->changes;
    }
    found->used = ++plans->ticks;
    *out = found->plan;
    return STATUS_OK;
}
