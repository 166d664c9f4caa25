/* The dendrite itself: created, moved, looked at, destroyed. Questions are in question.c, gradients in gradient.c. */
#include "dendrite/dendrite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dendrite/internal.h"

static const uint64_t default_deadline_ns = 1000000000;
static const size_t default_memory_bytes = (size_t)512 << 20;

void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct timespec dendrite_time_after(uint64_t ns)
{
    const uint64_t second = 1000000000;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    uint64_t rest = (uint64_t)time.tv_nsec + ns % second;
    time.tv_sec += (time_t)(ns / second + rest / second);
    time.tv_nsec = (long)(rest % second);
    return time;
}

/* --- what is in flight --- */

bool room_take(Dendrite *dendrite, size_t bytes, Error *error)
{
    if (bytes > dendrite->memory_bytes || dendrite->in_flight > dendrite->memory_bytes - bytes) {
        error_set(error, STATUS_RESOURCE_EXHAUSTED,
                  "a call needs %zu bytes, and of %zu in flight at most there are %zu", bytes, dendrite->memory_bytes,
                  dendrite->in_flight);
        return false;
    }
    dendrite->in_flight += bytes;
    return true;
}

void room_give(Dendrite *dendrite, size_t bytes)
{
    dendrite->in_flight -= bytes;
}

void outstanding_ended(Dendrite *dendrite)
{
    if (--dendrite->outstanding == 0) pthread_cond_broadcast(&dendrite->changed);
}

size_t dendrite_in_flight_bytes(Dendrite *dendrite)
{
    pthread_mutex_lock(&dendrite->lock);
    size_t bytes = dendrite->in_flight;
    pthread_mutex_unlock(&dendrite->lock);
    return bytes;
}

size_t dendrite_drain(Dendrite *dendrite, uint64_t timeout_ns)
{
    struct timespec until = dendrite_time_after(timeout_ns);
    pthread_mutex_lock(&dendrite->lock);
    while (dendrite->gradient_count)
        if (pthread_cond_timedwait(&dendrite->changed, &dendrite->lock, &until) == ETIMEDOUT) break;
    size_t left = dendrite->gradient_count;
    pthread_mutex_unlock(&dendrite->lock);
    return left;
}

/* --- create and destroy --- */

static void *run(void *context)
{
    Dendrite *dendrite = context;
    rpc_run(dendrite->completions);
    return NULL;
}

static void set_options(Dendrite *dendrite, const DendriteOptions *options, size_t count)
{
    strcpy(dendrite->neuron_key, options->neuron_key); /* measured by dendrite_create */
    dendrite->deadline_ns = options->deadline_ns ? options->deadline_ns : default_deadline_ns;
    dendrite->max_message_bytes = options->max_message_bytes ? options->max_message_bytes : RPC_MESSAGE_BYTES;
    dendrite->memory_bytes = options->memory_bytes ? options->memory_bytes : default_memory_bytes;
    dendrite->clock = options->clock.now ? options->clock : clock_monotonic();
    dendrite->jitter = rng_make(options->seed, RNG_STREAM_JITTER);
    dendrite->count = count;
}

static Status open_links(Dendrite *dendrite, const Peer *peers, Error *error)
{
    for (size_t i = 0; i < dendrite->count; i++) {
        dendrite->links[i].peer = peers[i];
        RETURN_IF_ERROR(channel_open(dendrite, peers[i].address, &dendrite->links[i].channel, error));
    }
    return STATUS_OK;
}

static void free_dendrite(Dendrite *dendrite)
{
    for (size_t i = 0; i < dendrite->count; i++)
        if (dendrite->links[i].channel) channel_unref(dendrite->links[i].channel);
    grpc_completion_queue_destroy(dendrite->completions);
    pthread_cond_destroy(&dendrite->changed);
    pthread_mutex_destroy(&dendrite->lock);
    free(dendrite);
    rpc_stop();
}

Status dendrite_create(const DendriteOptions *options, const Peer *peers, size_t count, Dendrite **out, Error *error)
{
    RETURN_IF_ERROR(key_check("neuron key", options->neuron_key, strlen(options->neuron_key), error));
    if (count > (SIZE_MAX - sizeof(Dendrite)) / sizeof(Link) / 2)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "%zu peers are more than memory can have", count);
    Dendrite *dendrite = calloc(1, sizeof *dendrite + count * sizeof dendrite->links[0]);
    if (!dendrite) return error_set_errno(error, ENOMEM, "a dendrite to %zu peers", count);
    rpc_start();
    pthread_mutex_init(&dendrite->lock, NULL);
    init_condition(&dendrite->changed);
    set_options(dendrite, options, count);
    dendrite->completions = grpc_completion_queue_create_for_next(NULL);
    Status status = open_links(dendrite, peers, error);
    if (status == STATUS_OK) status = rpc_thread_start(&dendrite->thread, run, dendrite, "dendrite", error);
    if (status != STATUS_OK) {
        grpc_completion_queue_shutdown(dendrite->completions);
        free_dendrite(dendrite);
        return status;
    }
    *out = dendrite;
    return STATUS_OK;
}

/* gRPC aborts on a call that is started after the queue was shut down: all must be back before, a retry too. */
void dendrite_destroy(Dendrite *dendrite)
{
    if (!dendrite) return;
    pthread_mutex_lock(&dendrite->lock);
    dendrite->ending = true;
    gradients_cancel(dendrite);
    channels_cancel(dendrite);
    for (size_t i = 0; i < dendrite->count; i++)
        if (dendrite->links[i].unattended) unary_cancel(&dendrite->links[i].unattended->unary);
    while (dendrite->outstanding)
        pthread_cond_wait(&dendrite->changed, &dendrite->lock);
    pthread_mutex_unlock(&dendrite->lock);
    grpc_completion_queue_shutdown(dendrite->completions);
    pthread_join(dendrite->thread, NULL);
    free_dendrite(dendrite);
}

size_t dendrite_count(const Dendrite *dendrite)
{
    return dendrite->count;
}

Status dendrite_move(Dendrite *dendrite, size_t index, const Peer *peer, Error *error)
{
    Link *link = &dendrite->links[index];
    Channel *channel;
    pthread_mutex_lock(&dendrite->lock);
    Status status = channel_open(dendrite, peer->address, &channel, error);
    if (status == STATUS_OK) {
        channel_unref(link->channel);
        link->channel = channel;
        link_moved(link, peer);
    }
    pthread_mutex_unlock(&dendrite->lock);
    return status;
}

/* --- statistics --- */

void dendrite_stats(Dendrite *dendrite, size_t peer, DendriteStats *out)
{
    pthread_mutex_lock(&dendrite->lock);
    const Link *link = &dendrite->links[peer];
    *out = link->stats;
    out->peer = link->peer;
    out->state = link_state(link);
    out->max_message_bytes = link->channel->max_message_bytes;
    out->latency_p50_ns = histogram_percentile(&link->latencies, 0.5);
    out->latency_p99_ns = histogram_percentile(&link->latencies, 0.99);
    out->mean_latency_s = histogram_mean(&link->latencies) * 1e-9;
    pthread_mutex_unlock(&dendrite->lock);
}

Status dendrite_last_failure(Dendrite *dendrite, size_t peer, Error *out)
{
    pthread_mutex_lock(&dendrite->lock);
    *out = dendrite->links[peer].last;
    pthread_mutex_unlock(&dendrite->lock);
    return out->status;
}
