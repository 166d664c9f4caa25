/* The somas that are served, and changing them while handlers run. */
#include <string.h>

#include "axon/internal.h"
#include "axon/services.h"

enum { UNKNOWN_NS = 20000000 }; /* what a handler is expected to take that hasn't run yet */

Served *axon_find(Axon *axon, const char *key, Error *error)
{
    Served *only = NULL;
    int count = 0;
    for (size_t i = 0; i < AXON_MAX_SOMAS; i++) {
        if (!axon->somas[i].used || axon->somas[i].key[0] == '\0') continue;
        if (*key && strcmp(axon->somas[i].key, key) == 0) return &axon->somas[i];
        only = &axon->somas[i];
        count++;
    }
    if (*key == '\0' && count == 1) return only;
    if (*key)
        error_set(error, STATUS_NOT_FOUND, "no soma with synapse_key '%s' is served here", key);
    else
        error_set(error, count ? STATUS_INVALID_ARGUMENT : STATUS_NOT_FOUND,
                  "the request names no synapse_key, and %d somas are served here", count);
    return NULL;
}

/* Takes the lock when no handler runs, and keeps others from beginning until unlock_somas. */
static void lock_somas(Axon *axon)
{
    pthread_mutex_lock(&axon->lock);
    axon->replacing++;
    while (axon->running)
        pthread_cond_wait(&axon->changed, &axon->lock);
}

static void unlock_somas(Axon *axon)
{
    axon->replacing--;
    pthread_cond_broadcast(&axon->changed);
    pthread_mutex_unlock(&axon->lock);
}

static Served *slot_for(Axon *axon, const char *key)
{
    Served *free_slot = NULL;
    for (size_t i = 0; i < AXON_MAX_SOMAS; i++) {
        Served *served = &axon->somas[i];
        if (served->used && strcmp(served->key, key) == 0) return served;
        if (!served->used && !free_slot) free_slot = served;
    }
    return free_slot;
}

Status axon_serve(Axon *axon, const char *synapse_key, AxonHandler handler, Error *error)
{
    RETURN_IF_ERROR(key_check("synapse key", synapse_key, strlen(synapse_key), error));
    lock_somas(axon);
    Served *served = slot_for(axon, synapse_key);
    if (served) {
        served->used = true;
        strcpy(served->key, synapse_key); /* key_check has measured it */
        served->handler = handler;
        served->rule = (BatchRule){
            .rows = handler.batch_rows, .wait_ns = handler.batch_wait_ns, .margin_ns = UNKNOWN_NS + AXON_MARGIN_NS};
        served->expected_ns = 0;
    }
    unlock_somas(axon);
    if (!served)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "cannot serve '%s': %d somas are served already",
                         synapse_key, AXON_MAX_SOMAS);
    services_health_set(axon, synapse_key, true);
    return STATUS_OK;
}

void axon_refuse_waiting(Axon *axon, const Served *served, const Error *error)
{
    Waiting *waiting;
    do {
        pthread_mutex_lock(&axon->lock);
        waiting = schedule_take_of(&axon->schedule, served ? &served->rule : NULL);
        if (waiting) server_call_unlist(call_of_waiting(waiting));
        pthread_mutex_unlock(&axon->lock);
        if (waiting) server_call_fail(call_of_waiting(waiting), error);
    } while (waiting);
}

/* The slot keeps its `used` until its calls are gone, so that nobody else's come to wait under its rule. */
Status axon_withdraw(Axon *axon, const char *synapse_key, Error *error)
{
    Error gone;
    lock_somas(axon);
    Served *served = *synapse_key ? axon_find(axon, synapse_key, NULL) : NULL;
    if (served) served->key[0] = '\0'; /* no request can name it */
    unlock_somas(axon);
    if (!served) return error_set(error, STATUS_NOT_FOUND, "no soma with synapse_key '%s' is served", synapse_key);
    services_health_forget(axon, synapse_key);
    error_set(&gone, STATUS_NOT_FOUND, "soma '%s' is no longer served here", synapse_key);
    axon_refuse_waiting(axon, served, &gone);
    pthread_mutex_lock(&axon->lock);
    served->used = false;
    pthread_mutex_unlock(&axon->lock);
    return STATUS_OK;
}
