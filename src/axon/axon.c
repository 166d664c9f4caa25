/* The server as a whole: start, counters, drain, stop. */
#include "axon/axon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "axon/internal.h"
#include "axon/services.h"
#include "base/team.h"

enum {
    /* Calls that gRPC may hand over without being asked again, of each method at each door: more that come at once wait
     * inside gRPC for the microseconds until the thread has asked. */
    POSTED_FORWARD = 128,
    POSTED_BACKWARD = 64,
    POSTED_OTHERS = 4, /* calls of methods that don't exist must be answered too, or their callers would wait */

    THREADS = 2,
    QUEUE_CAPACITY = 1024,
    QUEUE_MESSAGES = 4, /* of the largest size, that may wait */
    MEMORY_BYTES = 512 << 20,

    /* Against connections that only cost: */
    STREAMS_MOST = 1024, /* calls at once on a connection */
    METADATA_MOST = 16 << 10,
    KEEPALIVE_MS = 60000, /* a silent caller is asked whether it's there, and has this long to say so: */
    KEEPALIVE_TIMEOUT_MS = 20000,
    PING_MS = 5000, /* callers may ask likewise, this often */
    PING_STRIKES = 3,
    READ_MOST = 128 << 10, /* bytes of a connection that are taken apart before another one's turn; gRPC: 4 MiB */
};

/* --- start --- */

static void add_quota(RpcArgs *args, grpc_resource_quota *quota)
{
    args->list[args->args.num_args++] =
        (grpc_arg){.type = GRPC_ARG_POINTER,
                   .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
                   .value.pointer = {.p = quota, .vtable = grpc_resource_quota_arg_vtable()}};
}

static void create_bare_server(Axon *axon)
{
    RpcArgs args;
    grpc_resource_quota *quota = grpc_resource_quota_create("axon");
    grpc_resource_quota_resize(quota, axon->memory_bytes);
    rpc_args_init(&args, axon->max_message_bytes);
    rpc_args_add(&args, GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_MOST);
    rpc_args_add(&args, GRPC_ARG_MAX_METADATA_SIZE, METADATA_MOST);
    rpc_args_add(&args, GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS);
    rpc_args_add(&args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS);
    rpc_args_add(&args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    rpc_args_add(&args, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_MS);
    rpc_args_add(&args, GRPC_ARG_HTTP2_MAX_PING_STRIKES, PING_STRIKES);
    /* gRPC would unpack a message of any size before its limit is looked at. */
    rpc_args_add(&args, GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
    rpc_args_add(&args, GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, READ_MOST);
    add_quota(&args, quota);
    axon->server = grpc_server_create(&args.args, NULL);
    grpc_resource_quota_unref(quota);
}

static Status register_method(Axon *axon, size_t index, const char *path, Error *error)
{
    axon->methods[index] =
        grpc_server_register_method(axon->server, path, NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    return axon->methods[index] ? STATUS_OK : error_set(error, STATUS_INTERNAL, "gRPC refused the method %s", path);
}

static Status create_server(Axon *axon, Error *error)
{
    create_bare_server(axon);
    for (int i = 0; i < axon->door_count; i++) {
        axon->doors[i] = (Door){.axon = axon, .queue = grpc_completion_queue_create_for_next(NULL)};
        grpc_server_register_completion_queue(axon->server, axon->doors[i].queue, NULL);
    }
    axon->completions = axon->doors[0].queue;
    RETURN_IF_ERROR(register_method(axon, METHOD_FORWARD, "/Bittensor/Forward", error));
    RETURN_IF_ERROR(register_method(axon, METHOD_BACKWARD, "/Bittensor/Backward", error));
    for (size_t i = 0; i < axon->further_count; i++)
        RETURN_IF_ERROR(register_method(axon, METHOD_FURTHER + i, axon->further[i].path, error));
    return services_register(axon, error);
}

static Status post_calls(Door *door, Error *error)
{
    Axon *axon = door->axon;
    for (size_t method = 0; method < METHOD_FURTHER + axon->further_count; method++) {
        int count = method == METHOD_FORWARD    ? POSTED_FORWARD
                    : method == METHOD_BACKWARD ? POSTED_BACKWARD
                                                : POSTED_OTHERS;
        for (int i = 0; i < count; i++)
            RETURN_IF_ERROR(server_call_post(door, (Method)method, error));
    }
    return STATUS_OK;
}

static Status start_threads(Axon *axon, Error *error)
{
    while (axon->thread_count < axon->thread_most) {
        RETURN_IF_ERROR(
            rpc_thread_start(&axon->threads[axon->thread_count], axon_network, axon, "axon-network", error));
        axon->thread_count++;
    }
    return STATUS_OK;
}

static void end_threads(Axon *axon)
{
    for (int i = 0; i < axon->door_count; i++)
        grpc_completion_queue_shutdown(axon->doors[i].queue);
    pthread_mutex_lock(&axon->lock);
    axon->ended = true;
    pthread_cond_broadcast(&axon->changed);
    pthread_mutex_unlock(&axon->lock);
    for (int i = 0; i < axon->thread_count; i++)
        pthread_join(axon->threads[i], NULL);
}

static void free_axon(Axon *axon)
{
    services_free(axon);
    gate_free(axon);
    if (axon->server) grpc_server_destroy(axon->server);
    for (int i = 0; i < axon->door_count; i++)
        if (axon->doors[i].queue) grpc_completion_queue_destroy(axon->doors[i].queue);
    server_calls_free(axon);
    pthread_cond_destroy(&axon->changed);
    pthread_mutex_destroy(&axon->lock);
    free(axon);
    rpc_stop();
}

static void init_share(Axon *axon, double share)
{
    share_init(&axon->share, share, team_available_cores(), clock_now(clock_monotonic()));
    atomic_store(&axon->limited, share_limited(&axon->share));
}

static void set_options(Axon *axon, const AxonOptions *options)
{
    axon->max_message_bytes = options->max_message_bytes ? options->max_message_bytes : RPC_MESSAGE_BYTES;
    axon->memory_bytes = options->memory_bytes ? options->memory_bytes : MEMORY_BYTES;
    axon->handler_threads = options->handler_threads > 0 ? options->handler_threads : 1;
    int threads = options->threads > 0 ? options->threads : THREADS;
    axon->thread_most = threads < AXON_MAX_THREADS ? threads : AXON_MAX_THREADS;
    axon->door_count = axon->thread_most > 1 ? axon->thread_most - 1 : 1;
    schedule_init(&axon->schedule, options->queue_capacity ? options->queue_capacity : QUEUE_CAPACITY,
                  options->queue_bytes ? options->queue_bytes : QUEUE_MESSAGES * axon->max_message_bytes);
    init_share(axon, options->share);
}

static Status allocate(const AxonOptions *options, const AxonMethod *methods, size_t count, Axon **out, Error *error)
{
    RETURN_IF_ERROR(key_check("neuron key", options->neuron_key, strlen(options->neuron_key), error));
    if (count > AXON_MAX_FURTHER)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "%zu further methods, expected at most %d", count,
                         AXON_MAX_FURTHER);
    Axon *axon = calloc(1, sizeof *axon);
    if (!axon) return error_set_errno(error, ENOMEM, "an axon");
    strcpy(axon->neuron_key, options->neuron_key); /* key_check has measured it */
    if (count) memcpy(axon->further, methods, count * sizeof *methods);
    axon->further_count = count;
    set_options(axon, options);
    if (getrandom(&axon->seed, sizeof axon->seed, GRND_NONBLOCK) < 0) axon->seed = clock_now(clock_realtime());
    TAILQ_INIT(&axon->fresh);
    TAILQ_INIT(&axon->spare);
    TAILQ_INIT(&axon->unsent);
    pthread_mutex_init(&axon->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&axon->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = axon;
    return STATUS_OK;
}

static Status open_doors(Axon *axon, Error *error)
{
    grpc_server_start(axon->server);
    for (int i = 0; i < axon->door_count; i++)
        RETURN_IF_ERROR(post_calls(&axon->doors[i], error));
    RETURN_IF_ERROR(services_post(axon, error));
    axon_health_set(axon, "", true);
    return gate_start(axon, error);
}

/* The threads stand before the port is open, so that whatever fails can be undone without a server's shutdown. */
Status axon_start_with_methods(const AxonOptions *options, const AxonMethod *methods, size_t count, Axon **out,
                               Error *error)
{
    Axon *axon = NULL;
    Status status;
    RETURN_IF_ERROR(allocate(options, methods, count, &axon, error));
    rpc_start();
    GOTO_IF_ERROR(create_server(axon, error), free_it);
    GOTO_IF_ERROR(start_threads(axon, error), end_it);
    GOTO_IF_ERROR(gate_open(axon, options->listen, error), end_it);
    status = open_doors(axon, error);
    if (status != STATUS_OK) {
        axon_destroy(axon);
        return status;
    }
    *out = axon;
    return STATUS_OK;

end_it:
    end_threads(axon);
free_it:
    free_axon(axon);
    return status;
}

Status axon_start(const AxonOptions *options, Axon **out, Error *error)
{
    return axon_start_with_methods(options, NULL, 0, out, error);
}

int axon_port(const Axon *axon)
{
    return axon->port;
}

const char *axon_address(const Axon *axon)
{
    return axon->address;
}

void axon_health_set(Axon *axon, const char *service, bool serving)
{
    services_health_set(axon, service, serving);
}

/* --- counters --- */

const char *batch_closing_name(BatchClosing closing)
{
    static const char *const names[BATCH_CLOSINGS] = {"size", "time", "deadline", "idle"};
    return names[closing];
}

static uint64_t read_counter(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void axon_counters(const Axon *axon, AxonCounters *out)
{
    const Counters *counters = &axon->counters;
    *out = (AxonCounters){
        .calls = read_counter(&counters->calls),
        .forwards = read_counter(&counters->answered[METHOD_FORWARD]),
        .backwards = read_counter(&counters->answered[METHOD_BACKWARD]),
        .bytes_in = read_counter(&counters->bytes_in),
        .bytes_out = read_counter(&counters->bytes_out),
        .batched_calls = read_counter(&counters->batched_calls),
        .batched_rows = read_counter(&counters->batched_rows),
        .handler_ns = read_counter(&counters->handler_ns),
        .paused_ns = read_counter(&counters->paused_ns),
        .in_flight = read_counter(&counters->in_flight),
    };
    for (int status = 0; status <= STATUS_UNAUTHENTICATED; status++)
        out->failures[status] = read_counter(&counters->failures[status]);
    for (int closing = 0; closing < BATCH_CLOSINGS; closing++)
        out->batches[closing] = read_counter(&counters->batches[closing]);
    gate_count(axon, out);
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&axon->lock;
    pthread_mutex_lock(lock);
    out->waiting = axon->schedule.count;
    pthread_mutex_unlock(lock);
}

void axon_set_share(Axon *axon, double share)
{
    pthread_mutex_lock(&axon->lock);
    init_share(axon, share);
    pthread_mutex_unlock(&axon->lock);
}

/* --- drain and stop --- */

static struct timespec after(uint64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t end = (uint64_t)until.tv_nsec + ns % 1000000000u;
    until.tv_sec += (time_t)(ns / 1000000000u + end / 1000000000u);
    until.tv_nsec = (long)(end % 1000000000u);
    return until;
}

bool axon_drain(Axon *axon, uint64_t timeout_ns)
{
    struct timespec until = after(timeout_ns);
    atomic_store(&axon->draining, true);
    services_drain(axon);
    pthread_mutex_lock(&axon->lock);
    int failure = 0;
    while (read_counter(&axon->counters.in_flight) && failure == 0)
        failure = pthread_cond_timedwait(&axon->changed, &axon->lock, &until);
    bool drained = read_counter(&axon->counters.in_flight) == 0;
    pthread_mutex_unlock(&axon->lock);
    return drained;
}

static void on_shut_down(RpcTag *tag, bool success)
{
    (void)success;
    Axon *axon = (Axon *)(void *)((char *)tag - offsetof(Axon, shut_down_tag));
    pthread_mutex_lock(&axon->lock);
    axon->shut_down = true;
    pthread_cond_broadcast(&axon->changed);
    pthread_mutex_unlock(&axon->lock);
}

/* Whoever got the last answers may ask again at once: here the status is UNAVAILABLE, and of gRPC's shutdown CANCELLED.
 */
static void linger(uint64_t most_ns)
{
    const uint64_t enough = 50000000;
    struct timespec span = {0, (long)(most_ns < enough ? most_ns : enough)};
    nanosleep(&span, NULL);
}

/* Connections say goodbye, which takes a round trip; a caller that doesn't answer is not waited for long. */
static void wait_for_goodbyes(Axon *axon, uint64_t most_ns)
{
    const uint64_t second = 1000000000;
    struct timespec until = after(most_ns < second ? most_ns : second);
    pthread_mutex_lock(&axon->lock);
    int failure = 0;
    while (!axon->shut_down && failure == 0)
        failure = pthread_cond_timedwait(&axon->changed, &axon->lock, &until);
    pthread_mutex_unlock(&axon->lock);
}

static void cancel_the_rest(Axon *axon)
{
    Error error;
    error_set(&error, STATUS_UNAVAILABLE, "this neuron has ended");
    axon_refuse_waiting(axon, NULL, &error);
    grpc_server_cancel_all_calls(axon->server);
    pthread_mutex_lock(&axon->lock);
    while (!axon->shut_down || read_counter(&axon->counters.in_flight))
        pthread_cond_wait(&axon->changed, &axon->lock);
    pthread_mutex_unlock(&axon->lock);
}

/* The order is gRPC's: the server is down when its tag comes back; a handler may still be running then, and answers.
 * Only when the last call has gone may the queues end, since no operation may start on a queue that was shut down. */
void axon_stop(Axon *axon, uint64_t grace_ns)
{
    if (atomic_exchange(&axon->stopping, true)) return;
    uint64_t begun = clock_now(clock_monotonic());
    bool drained = axon_drain(axon, grace_ns);
    if (drained && grace_ns) linger(grace_ns);
    uint64_t spent = clock_now(clock_monotonic()) - begun;
    services_end(axon);
    gate_end(axon);
    axon->shut_down_tag.done = on_shut_down;
    rpc_tag_release(&axon->shut_down_tag);
    grpc_server_shutdown_and_notify(axon->server, axon->completions, &axon->shut_down_tag);
    if (drained && spent < grace_ns) wait_for_goodbyes(axon, grace_ns - spent);
    cancel_the_rest(axon);
    end_threads(axon);
}

void axon_destroy(Axon *axon)
{
    if (!axon) return;
    axon_stop(axon, 0);
    free_axon(axon);
}
