#include "neuron/gradient_sums.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct GradientSums {
    pthread_mutex_t adding; /* guards the states of `sums`; held while a gradient is added, so the learner only tries */
    Variables *sums;        /* not owned */

    Variables *aside; /* of the learner while aside_count > 0, else of the server */
    atomic_size_t aside_count;
    atomic_bool wished; /* the learner came while a gradient was added */

    pthread_mutex_t lock; /* guards what follows; never held for long */
    GradientQueue *queue;
    uint64_t learnt;
};

static bool is_sum(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && strcmp(dot, ".peer") == 0;
}

/* The same states once more. */
static Status create_aside(GradientSums *sums, Backend *backend, Error *error)
{
    Graph *g = graph_create(DTYPE_F32, false);
    if (g == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a graph");
    for (int i = 0; i < variables_count(sums->sums); i++) {
        const char *name = variables_name(sums->sums, i);
        if (is_sum(name))
            graph_state(g, name, variables_dtype(sums->sums, i), variables_shape(sums->sums, i), INITIALIZE_ZERO, 0);
    }
    Status status = variables_create(backend, &sums->aside, error);
    if (status == STATUS_OK) status = variables_declare(sums->aside, g, 0, error);
    graph_destroy(g);
    return status;
}

Status gradient_sums_create(Backend *backend, const GradientLimits *limits, Variables *variables, GradientSums **out,
                            Error *error)
{
    GradientSums *sums = calloc(1, sizeof *sums);
    if (sums == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for sums of gradients");
    sums->sums = variables;
    pthread_mutex_init(&sums->adding, NULL);
    pthread_mutex_init(&sums->lock, NULL);
    Status status = gradient_queue_create(limits, &sums->queue, error);
    if (status == STATUS_OK) status = create_aside(sums, backend, error);
    if (status == STATUS_OK)
        *out = sums;
    else
        gradient_sums_destroy(sums);
    return status;
}

void gradient_sums_destroy(GradientSums *sums)
{
    if (sums == NULL) return;
    variables_destroy(sums->aside);
    gradient_queue_destroy(sums->queue);
    pthread_mutex_destroy(&sums->adding);
    pthread_mutex_destroy(&sums->lock);
    free(sums);
}

/* --- the server's side --- */

bool gradient_sums_begin(GradientSums *sums, const GradientStamp *stamp, uint64_t now)
{
    GradientRefusal refusal;
    pthread_mutex_lock(&sums->adding);
    pthread_mutex_lock(&sums->lock);
    bool admitted = gradient_queue_admit(sums->queue, stamp, now, &refusal);
    pthread_mutex_unlock(&sums->lock);
    if (!admitted) pthread_mutex_unlock(&sums->adding);
    return admitted;
}

static size_t take_places(GradientSums *sums)
{
    pthread_mutex_lock(&sums->lock);
    size_t count = gradient_queue_take(sums->queue);
    pthread_mutex_unlock(&sums->lock);
    return count;
}

/* With `adding` held. */
static Status set_aside(GradientSums *sums, Error *error)
{
    for (int i = 0; i < variables_count(sums->sums); i++)
        if (is_sum(variables_name(sums->sums, i))) RETURN_IF_ERROR(variables_move(sums->aside, sums->sums, i, error));
    atomic_store(&sums->wished, false);
    atomic_store(&sums->aside_count, take_places(sums));
    return STATUS_OK;
}

Status gradient_sums_end(GradientSums *sums, const GradientStamp *stamp, GradientOutcome outcome, Error *error)
{
    Status status = STATUS_OK;
    if (outcome != GRADIENT_ADDED) {
        pthread_mutex_lock(&sums->lock);
        gradient_queue_withdraw(sums->queue, stamp->caller, outcome == GRADIENT_WAS_NOT_FINITE);
        pthread_mutex_unlock(&sums->lock);
    }
    if (atomic_load(&sums->wished) && atomic_load(&sums->aside_count) == 0) status = set_aside(sums, error);
    pthread_mutex_unlock(&sums->adding);
    return status;
}

/* --- the learner's side --- */

static Status hand_over(GradientSums *sums, Trainer *trainer, Variables *from, size_t count, Error *error)
{
    RETURN_IF_ERROR(trainer_add_peer_gradients(trainer, from, error));
    pthread_mutex_lock(&sums->lock);
    sums->learnt += count;
    pthread_mutex_unlock(&sums->lock);
    return STATUS_OK;
}

/* One sum at a time: what the trainer is given last is what it has. */
Status gradient_sums_take(GradientSums *sums, Trainer *trainer, int64_t *count, Error *error)
{
    size_t taken = atomic_load(&sums->aside_count);
    Status status = STATUS_OK;
    *count = 0;
    if (taken > 0) {
        status = hand_over(sums, trainer, sums->aside, taken, error);
        atomic_store(&sums->aside_count, 0);
    } else if (pthread_mutex_trylock(&sums->adding) == 0) {
        taken = take_places(sums);
        if (taken > 0) status = hand_over(sums, trainer, sums->sums, taken, error);
        pthread_mutex_unlock(&sums->adding);
    } else {
        atomic_store(&sums->wished, true);
    }
    if (status == STATUS_OK) *count = (int64_t)taken;
    return status;
}

void gradient_sums_counts(GradientSums *sums, GradientCounts *out)
{
    pthread_mutex_lock(&sums->lock);
    out->learnt = sums->learnt;
    out->waiting = gradient_queue_waiting(sums->queue) + atomic_load(&sums->aside_count);
    for (int i = 0; i < GRADIENT_REFUSALS; i++)
        out->refused[i] = gradient_queue_refused(sums->queue, (GradientRefusal)i);
    pthread_mutex_unlock(&sums->lock);
}
