/* The server as a whole: start, the table of somas, counters, stop. */
#include "axon/axon.h"

#include <errno.h>
#include <grpc/grpc_security.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "axon/internal.h"

enum {
    POSTED_CALLS = 64,  /* of each method; as many can arrive at once without waiting for the network thread */
    POSTED_UNKNOWN = 4, /* calls of methods that don't exist must be answered too, or their callers would wait */
    QUEUE_CAPACITY = 256,
};

static const char *const method_paths[METHODS] = {
    [METHOD_FORWARD] = "/Bittensor/Forward",
    [METHOD_BACKWARD] = "/Bittensor/Backward",
};

/* --- start --- */

static void *run_network(void *context)
{
    Axon *axon = context;
    rpc_run(axon->completions);
    return NULL;
}

/* gRPC says only that it can't: a socket of our own finds out why. */
static Status explain_refusal(const char *address, const char *host, int port, Error *error)
{
    char service[8];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    int failure = getaddrinfo(host, service, &hints, &found);
    if (failure)
        return error_set(error, STATUS_INVALID_ARGUMENT, "cannot listen on %s: %s", address, gai_strerror(failure));
    Status status = STATUS_OK;
    for (struct addrinfo *at = found; at && status == STATUS_OK; at = at->ai_next) {
        int yes = 1, fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes); /* as gRPC does */
        if (bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, 1) != 0)
            status = error_set_errno(error, errno, "cannot listen on %s", address);
        close(fd);
    }
    freeaddrinfo(found);
    return status != STATUS_OK ? status : error_set(error, STATUS_UNAVAILABLE, "gRPC cannot listen on %s", address);
}

static void format_address(Axon *axon, const char *host, int port)
{
    snprintf(axon->address, sizeof axon->address, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
}

static Status listen_on(Axon *axon, const char *text, Error *error)
{
    char host[PEER_ADDRESS_SIZE];
    int port;
    RETURN_IF_ERROR(address_parse(text, host, &port, error));
    format_address(axon, host, port);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    axon->port = grpc_server_add_http2_port(axon->server, axon->address, credentials);
    grpc_server_credentials_release(credentials);
    if (axon->port <= 0) return explain_refusal(axon->address, host, port, error);
    format_address(axon, host, axon->port);
    return STATUS_OK;
}

static Status create_server(Axon *axon, Error *error)
{
    RpcArgs args;
    rpc_args_init(&args, axon->max_message_bytes);
    rpc_args_add(&args, GRPC_ARG_ALLOW_REUSEPORT, 0); /* or two processes would share a port without noticing */
    axon->completions = grpc_completion_queue_create_for_next(NULL);
    axon->server = grpc_server_create(&args.args, NULL);
    grpc_server_register_completion_queue(axon->server, axon->completions, NULL);
    for (int method = 0; method < METHOD_UNKNOWN; method++) {
        axon->methods[method] = grpc_server_register_method(axon->server, method_paths[method], NULL,
                                                            GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
        if (!axon->methods[method])
            return error_set(error, STATUS_INTERNAL, "gRPC refused the method %s", method_paths[method]);
    }
    return STATUS_OK;
}

static Status post_calls(Axon *axon, Error *error)
{
    grpc_server_start(axon->server);
    for (int method = 0; method < METHODS; method++)
        for (int i = 0; i < (method == METHOD_UNKNOWN ? POSTED_UNKNOWN : POSTED_CALLS); i++)
            RETURN_IF_ERROR(server_call_post(axon, (Method)method, error));
    return STATUS_OK;
}

static void end_thread_network(Axon *axon)
{
    grpc_completion_queue_shutdown(axon->completions);
    pthread_join(axon->network, NULL);
}

static void end_thread_worker(Axon *axon)
{
    queue_close(axon->waiting);
    pthread_join(axon->worker, NULL);
}

static void free_axon(Axon *axon)
{
    if (axon->server) grpc_server_destroy(axon->server);
    if (axon->completions) grpc_completion_queue_destroy(axon->completions);
    queue_destroy(axon->waiting);
    pthread_cond_destroy(&axon->shut_down_changed);
    pthread_mutex_destroy(&axon->lock);
    pthread_mutex_destroy(&axon->serving);
    free(axon);
    rpc_stop();
}

static Status allocate(const AxonOptions *options, Axon **out, Error *error)
{
    RETURN_IF_ERROR(key_check("neuron key", options->neuron_key, strlen(options->neuron_key), error));
    Axon *axon = calloc(1, sizeof *axon);
    if (!axon) return error_set_errno(error, ENOMEM, "an axon");
    strcpy(axon->neuron_key, options->neuron_key); /* key_check has measured it */
    axon->max_message_bytes = options->max_message_bytes ? options->max_message_bytes : RPC_MESSAGE_BYTES;
    axon->queue_bytes = options->queue_bytes ? options->queue_bytes : 4 * axon->max_message_bytes;
    axon->queue_capacity = options->queue_capacity ? options->queue_capacity : QUEUE_CAPACITY;
    pthread_mutex_init(&axon->serving, NULL);
    pthread_mutex_init(&axon->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&axon->shut_down_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = axon;
    return STATUS_OK;
}

/* The threads stand before the port is open, so that whatever fails can be undone without a server's shutdown. */
Status axon_start(const AxonOptions *options, Axon **out, Error *error)
{
    Axon *axon = NULL;
    Status status;
    RETURN_IF_ERROR(allocate(options, &axon, error));
    rpc_start();
    GOTO_IF_ERROR(queue_create(axon->queue_capacity, &axon->waiting, error), free_it);
    GOTO_IF_ERROR(create_server(axon, error), free_it);
    GOTO_IF_ERROR(rpc_thread_start(&axon->network, run_network, axon, "axon-network", error), free_it);
    GOTO_IF_ERROR(rpc_thread_start(&axon->worker, axon_worker, axon, "axon-worker", error), end_network);
    GOTO_IF_ERROR(listen_on(axon, options->listen, error), end_worker);
    status = post_calls(axon, error);
    if (status != STATUS_OK) {
        axon_destroy(axon);
        return status;
    }
    *out = axon;
    return STATUS_OK;

end_worker:
    end_thread_worker(axon);
end_network:
    end_thread_network(axon);
free_it:
    free_axon(axon);
    return status;
}

int axon_port(const Axon *axon)
{
    return axon->port;
}

const char *axon_address(const Axon *axon)
{
    return axon->address;
}

/* --- the table of somas --- */

/* With `serving` held: the entry of a key, or soma_count. */
static size_t index_of(const Axon *axon, const char *key)
{
    size_t i = 0;
    while (i < axon->soma_count && strcmp(axon->somas[i].key, key) != 0)
        i++;
    return i;
}

Status axon_serve(Axon *axon, const char *synapse_key, AxonHandler handler, Error *error)
{
    RETURN_IF_ERROR(key_check("synapse key", synapse_key, strlen(synapse_key), error));
    Status status = STATUS_OK;
    pthread_mutex_lock(&axon->serving);
    size_t index = index_of(axon, synapse_key);
    if (index == AXON_MAX_SOMAS) {
        status = error_set(error, STATUS_RESOURCE_EXHAUSTED, "cannot serve '%s': %d somas are served already",
                           synapse_key, AXON_MAX_SOMAS);
    } else {
        if (index == axon->soma_count) axon->soma_count++;
        strcpy(axon->somas[index].key, synapse_key);
        axon->somas[index].handler = handler;
    }
    pthread_mutex_unlock(&axon->serving);
    return status;
}

Status axon_withdraw(Axon *axon, const char *synapse_key, Error *error)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&axon->serving);
    size_t index = index_of(axon, synapse_key);
    if (index == axon->soma_count)
        status = error_set(error, STATUS_NOT_FOUND, "no soma with synapse_key '%s' is served", synapse_key);
    else
        axon->somas[index] = axon->somas[--axon->soma_count];
    pthread_mutex_unlock(&axon->serving);
    return status;
}

/* --- counters --- */

static uint64_t read_counter(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void axon_counters(const Axon *axon, AxonCounters *out)
{
    const Counters *counters = &axon->counters;
    out->calls = read_counter(&counters->calls);
    out->forwards = read_counter(&counters->answered[METHOD_FORWARD]);
    out->backwards = read_counter(&counters->answered[METHOD_BACKWARD]);
    for (int status = 0; status <= STATUS_UNAUTHENTICATED; status++)
        out->failures[status] = read_counter(&counters->failures[status]);
    out->bytes_in = read_counter(&counters->bytes_in);
    out->bytes_out = read_counter(&counters->bytes_out);
    out->handler_ns = read_counter(&counters->handler_ns);
    out->waiting = queue_length(axon->waiting);
}

/* --- stop --- */

static void on_shut_down(RpcTag *tag, bool success)
{
    (void)success;
    Axon *axon = (Axon *)(void *)((char *)tag - offsetof(Axon, shut_down_tag));
    pthread_mutex_lock(&axon->lock);
    axon->shut_down = true;
    pthread_cond_broadcast(&axon->shut_down_changed);
    pthread_mutex_unlock(&axon->lock);
}

/* Until every call is over, or until `grace_ns` have passed. */
static void wait_for_shut_down(Axon *axon, uint64_t grace_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t end = (uint64_t)until.tv_nsec + grace_ns % 1000000000u;
    until.tv_sec += (time_t)(grace_ns / 1000000000u + end / 1000000000u);
    until.tv_nsec = (long)(end % 1000000000u);
    pthread_mutex_lock(&axon->lock);
    while (!axon->shut_down)
        if (pthread_cond_timedwait(&axon->shut_down_changed, &axon->lock, &until) == ETIMEDOUT) break;
    pthread_mutex_unlock(&axon->lock);
}

/* The order is gRPC's: the server is down when its tag comes back, which is after the last call is unreferenced; only
 * then may the queues end, since no operation may start on a completion queue that was shut down. */
void axon_stop(Axon *axon, uint64_t grace_ns)
{
    if (atomic_exchange(&axon->stopping, true)) return;
    axon->shut_down_tag.done = on_shut_down;
    rpc_tag_release(&axon->shut_down_tag);
    grpc_server_shutdown_and_notify(axon->server, axon->completions, &axon->shut_down_tag);
    wait_for_shut_down(axon, grace_ns);
    grpc_server_cancel_all_calls(axon->server);
    pthread_mutex_lock(&axon->lock);
    while (!axon->shut_down)
        pthread_cond_wait(&axon->shut_down_changed, &axon->lock);
    pthread_mutex_unlock(&axon->lock);
    end_thread_worker(axon);
    end_thread_network(axon);
}

void axon_destroy(Axon *axon)
{
    if (!axon) return;
    axon_stop(axon, 0);
    free_axon(axon);
}
