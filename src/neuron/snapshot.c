#include "neuron/snapshot.h"

#include <pthread.h>
#include <stdlib.h>

enum { SETS = 2 };

typedef enum SetState { SET_FREE, SET_WRITTEN, SET_FULL, SET_READ } SetState;

typedef struct Set {
    SetState state;
    uint64_t version;
    Variables *variables; /* of whoever writes or reads it */
} Set;

struct Snapshot {
    pthread_mutex_t lock; /* guards the states; never held while weights are copied */
    Set sets[SETS];
};

Status snapshot_create(Backend *backend, const Graph *graph, Snapshot **out, Error *error)
{
    Snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL) return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory for a snapshot");
    pthread_mutex_init(&snapshot->lock, NULL);
    Status status = STATUS_OK;
    for (int i = 0; i < SETS && status == STATUS_OK; i++) {
        status = variables_create(backend, &snapshot->sets[i].variables, error);
        if (status == STATUS_OK) status = variables_declare(snapshot->sets[i].variables, graph, 0, error);
    }
    if (status == STATUS_OK)
        *out = snapshot;
    else
        snapshot_destroy(snapshot);
    return status;
}

void snapshot_destroy(Snapshot *snapshot)
{
    if (snapshot == NULL) return;
    for (int i = 0; i < SETS; i++)
        variables_destroy(snapshot->sets[i].variables);
    pthread_mutex_destroy(&snapshot->lock);
    free(snapshot);
}

/* With the lock held: the set that is in this state, or NULL. */
static Set *find(Snapshot *snapshot, SetState state)
{
    for (int i = 0; i < SETS; i++)
        if (snapshot->sets[i].state == state) return &snapshot->sets[i];
    return NULL;
}

/* Moves a set from one state to another, if there is one. */
static Set *claim(Snapshot *snapshot, SetState from, SetState or_from, SetState to)
{
    pthread_mutex_lock(&snapshot->lock);
    Set *set = find(snapshot, from);
    if (set == NULL) set = find(snapshot, or_from);
    if (set != NULL) set->state = to;
    pthread_mutex_unlock(&snapshot->lock);
    return set;
}

static void release(Snapshot *snapshot, Set *set, SetState state)
{
    pthread_mutex_lock(&snapshot->lock);
    Set *unread = state == SET_FULL ? find(snapshot, SET_FULL) : NULL;
    if (unread != NULL) unread->state = SET_FREE; /* an older one */
    set->state = state;
    pthread_mutex_unlock(&snapshot->lock);
}

/* One of two sets can always be written: the taker has one at most. */
Status snapshot_put(Snapshot *snapshot, const Variables *from, uint64_t version, Error *error)
{
    Set *set = claim(snapshot, SET_FREE, SET_FULL, SET_WRITTEN);
    Status status = variables_copy_parameters(set->variables, from, error);
    set->version = version;
    release(snapshot, set, status == STATUS_OK ? SET_FULL : SET_FREE);
    return status;
}

Status snapshot_take(Snapshot *snapshot, Variables *to, uint64_t *version, bool *taken, Error *error)
{
    Set *set = claim(snapshot, SET_FULL, SET_FULL, SET_READ);
    *taken = set != NULL;
    if (set == NULL) return STATUS_OK;
    Status status = variables_copy_parameters(to, set->variables, error);
    *version = set->version;
    release(snapshot, set, SET_FREE);
    return status;
}
