#include "axon/ushers.h"

#include <errno.h>
#include <grpc/grpc_posix.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "rpc/rpc.h"

enum { USHERS_MOST = 16 };

struct Ushers {
    grpc_server *server;
    grpc_server_credentials *credentials;
    pthread_t threads[USHERS_MOST]; /* the gate's */
    int thread_count;
    uint64_t led_before; /* at the last turn */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool ended;
    int busy;
    uint64_t led;
    size_t head, count, capacity;
    int waiting[]; /* a ring */
};

/* With the lock held. */
static int next_in_line(Ushers *ushers)
{
    int fd = ushers->waiting[ushers->head];
    ushers->head = (ushers->head + 1) % ushers->capacity;
    ushers->count--;
    return fd;
}

static void *run_usher(void *context)
{
    Ushers *ushers = context;
    pthread_mutex_lock(&ushers->lock);
    for (;;) {
        while (ushers->count == 0 && !ushers->ended)
            pthread_cond_wait(&ushers->changed, &ushers->lock);
        if (ushers->ended) break;
        int fd = next_in_line(ushers);
        ushers->busy++;
        ushers->led++;
        pthread_mutex_unlock(&ushers->lock);
        grpc_server_add_channel_from_fd(ushers->server, fd, ushers->credentials);
        pthread_mutex_lock(&ushers->lock);
        ushers->busy--;
    }
    pthread_mutex_unlock(&ushers->lock);
    return NULL;
}

static Status add_thread(Ushers *ushers, Error *error)
{
    RETURN_IF_ERROR(rpc_thread_start(&ushers->threads[ushers->thread_count], run_usher, ushers, "axon-usher", error));
    ushers->thread_count++;
    return STATUS_OK;
}

Status ushers_start(grpc_server *server, grpc_server_credentials *credentials, size_t most_waiting, Ushers **out,
                    Error *error)
{
    Ushers *ushers = calloc(1, sizeof *ushers + most_waiting * sizeof *ushers->waiting);
    if (!ushers) return error_set_errno(error, ENOMEM, "a line of %zu connections", most_waiting);
    ushers->server = server;
    ushers->credentials = credentials;
    ushers->capacity = most_waiting;
    pthread_mutex_init(&ushers->lock, NULL);
    pthread_cond_init(&ushers->changed, NULL);
    Status status = add_thread(ushers, error);
    if (status == STATUS_OK)
        *out = ushers;
    else
        ushers_free(ushers);
    return status;
}

void ushers_lead(Ushers *ushers, int fd)
{
    pthread_mutex_lock(&ushers->lock);
    ushers->waiting[(ushers->head + ushers->count++) % ushers->capacity] = fd;
    pthread_cond_signal(&ushers->changed);
    pthread_mutex_unlock(&ushers->lock);
}

void ushers_turn(Ushers *ushers)
{
    pthread_mutex_lock(&ushers->lock);
    bool stuck = ushers->count > 0 && ushers->led == ushers->led_before;
    ushers->led_before = ushers->led;
    pthread_mutex_unlock(&ushers->lock);
    if (stuck && ushers->thread_count < USHERS_MOST) add_thread(ushers, NULL); /* without memory for it: next time */
}

uint64_t ushers_work(const Ushers *ushers)
{
    uint64_t sum = 0;
    for (int i = 0; i < ushers->thread_count; i++)
        sum += rpc_thread_work(ushers->threads[i]);
    return sum;
}

bool ushers_end(Ushers *ushers)
{
    pthread_mutex_lock(&ushers->lock);
    ushers->ended = true;
    while (ushers->count > 0)
        close(next_in_line(ushers));
    bool kept = ushers->busy > 0;
    pthread_cond_broadcast(&ushers->changed);
    pthread_mutex_unlock(&ushers->lock);
    return kept;
}

void ushers_free(Ushers *ushers)
{
    if (!ushers) return;
    ushers_end(ushers);
    for (int i = 0; i < ushers->thread_count; i++)
        pthread_join(ushers->threads[i], NULL);
    pthread_cond_destroy(&ushers->changed);
    pthread_mutex_destroy(&ushers->lock);
    free(ushers);
}
