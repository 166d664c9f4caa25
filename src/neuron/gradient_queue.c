#include "neuron/gradient_queue.h"

#include <stdlib.h>

typedef struct Place {
    uint64_t caller;
    size_t count;
} Place;

struct GradientQueue {
    GradientLimits limits;
    size_t waiting;
    uint64_t refused[GRADIENT_REFUSALS];
    size_t callers; /* that have something waiting: never more than `capacity` */
    Place places[];
};

const char *gradient_refusal_name(GradientRefusal refusal)
{
    switch (refusal) {
    case GRADIENT_STALE:
        return "stale";
    case GRADIENT_OVER_BUDGET:
        return "over budget";
    case GRADIENT_QUEUE_FULL:
        return "queue full";
    case GRADIENT_NOT_FINITE:
        return "not finite";
    case GRADIENT_REFUSALS:
        break;
    }
    return "unknown";
}

Status gradient_queue_create(const GradientLimits *limits, GradientQueue **out, Error *error)
{
    GradientQueue *queue = calloc(1, sizeof *queue + limits->capacity * sizeof(Place));
    if (queue == NULL)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a queue of %zu gradients", limits->capacity);
    queue->limits = *limits;
    *out = queue;
    return STATUS_OK;
}

void gradient_queue_destroy(GradientQueue *queue)
{
    free(queue);
}

/* The caller's place; `callers` when it has none. */
static size_t find(const GradientQueue *queue, uint64_t caller)
{
    size_t i = 0;
    while (i < queue->callers && queue->places[i].caller != caller)
        i++;
    return i;
}

static bool refuse(GradientQueue *queue, GradientRefusal why, GradientRefusal *refusal)
{
    queue->refused[why]++;
    *refusal = why;
    return false;
}

bool gradient_queue_admit(GradientQueue *queue, const GradientStamp *stamp, uint64_t now, GradientRefusal *refusal)
{
    const GradientLimits *limits = &queue->limits;
    if (stamp->has_version && (stamp->version > now || now - stamp->version > limits->max_staleness))
        return refuse(queue, GRADIENT_STALE, refusal);
    size_t i = find(queue, stamp->caller);
    if ((i < queue->callers ? queue->places[i].count : 0) >= limits->budget)
        return refuse(queue, GRADIENT_OVER_BUDGET, refusal);
    if (queue->waiting >= limits->capacity) return refuse(queue, GRADIENT_QUEUE_FULL, refusal);
    if (i == queue->callers) queue->places[queue->callers++] = (Place){.caller = stamp->caller};
    queue->places[i].count++;
    queue->waiting++;
    return true;
}

void gradient_queue_withdraw(GradientQueue *queue, uint64_t caller, bool not_finite)
{
    size_t i = find(queue, caller);
    if (not_finite) queue->refused[GRADIENT_NOT_FINITE]++;
    if (i == queue->callers) return;
    queue->waiting--;
    if (--queue->places[i].count == 0) queue->places[i] = queue->places[--queue->callers];
}

size_t gradient_queue_take(GradientQueue *queue)
{
    size_t taken = queue->waiting;
    queue->waiting = queue->callers = 0;
    return taken;
}

size_t gradient_queue_waiting(const GradientQueue *queue)
{
    return queue->waiting;
}

uint64_t gradient_queue_refused(const GradientQueue *queue, GradientRefusal refusal)
{
    return queue->refused[refusal];
}
