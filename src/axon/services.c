/* How a call of the services lives: accepted, begun, its messages, its end. */
#include "axon/services.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "axon/service_call.h"

static const struct {
    const char *path;
    grpc_server_register_method_payload_handling payload;
    int posted; /* calls that can arrive at once without waiting for the network thread */
} kinds[SERVICE_METHODS] = {
    [SERVICE_CHECK] = {"/grpc.health.v1.Health/Check", GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 4},
    [SERVICE_WATCH] = {"/grpc.health.v1.Health/Watch", GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 4},
    [SERVICE_REFLECTION] = {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", GRPC_SRM_PAYLOAD_NONE, 2},
    [SERVICE_REFLECTION_ALPHA] = {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                  GRPC_SRM_PAYLOAD_NONE, 2},
};

#define CALL_OF(tag, member) ((ServiceCall *)(void *)((char *)(tag)-offsetof(ServiceCall, member)))

static Status post(Axon *axon, ServiceMethod method, Error *error);

/* --- the end of a call --- */

static void unlist(ServiceCall *call)
{
    struct Services *services = call->axon->services;
    if (!call->listed) return;
    call->listed = false;
    TAILQ_REMOVE(&services->streams, call, place);
    services->stream_count[call->method]--;
    pthread_cond_broadcast(&services->changed);
}

static void drop_message(grpc_byte_buffer **message)
{
    if (*message) grpc_byte_buffer_destroy(*message);
    *message = NULL;
}

/* Whether the call was worth its while, for the guard. That a stream is cancelled is how it ends. */
static void meter_end(const ServiceCall *call)
{
    if (!call->meter) return;
    if (!call->cancelled)
        counter_add(&call->meter->good, 1);
    else if (!call->asked || call->method == SERVICE_CHECK)
        counter_add(&call->meter->bad, 1);
}

static void release(ServiceCall *call)
{
    if (--call->references > 0) return;
    unlist(call);
    meter_end(call);
    drop_message(&call->request);
    drop_message(&call->response);
    grpc_slice_unref(call->sentence);
    rpc_metadata_destroy(&call->metadata);
    if (call->call) grpc_call_unref(call->call);
    free(call);
}

/* Starts operations whose tag holds the call. */
static bool start(ServiceCall *call, const grpc_op *ops, size_t count, RpcTag *tag)
{
    call->references++;
    if (rpc_start_batch(call->call, ops, count, tag, NULL) == STATUS_OK) return true;
    call->references--;
    return false;
}

/* --- out --- */

static void on_sent(RpcTag *tag, bool success);

static bool take_message(ServiceCall *call, FieldWriter *message)
{
    if (!message->failed) {
        grpc_slice slice = grpc_slice_from_copied_buffer((const char *)message->data, message->size);
        call->response = grpc_raw_byte_buffer_create(&slice, 1);
        grpc_slice_unref(slice);
        counter_add(&call->meter->answer_bytes, message->size);
    }
    free(message->data);
    *message = (FieldWriter){0};
    return call->response != NULL;
}

/* What `response`, `begun` and `ending` ask for, in one batch. */
static void send(ServiceCall *call)
{
    grpc_op ops[3];
    size_t count = 0;
    if (!call->begun) ops[count++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    if (call->response) {
        ops[count] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
        ops[count++].data.send_message.send_message = call->response;
    }
    if (call->ending) {
        ops[count] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
        ops[count].data.send_status_from_server.status = (grpc_status_code)call->end;
        ops[count++].data.send_status_from_server.status_details = &call->sentence;
        call->finished = true;
    }
    call->begun = true;
    call->sent.done = on_sent;
    call->sending = start(call, ops, count, &call->sent);
}

void service_call_send(ServiceCall *call, FieldWriter *message)
{
    if (call->finished || call->over) {
        free(message->data);
        return;
    }
    if (take_message(call, message))
        send(call);
    else
        service_call_finish(call, NULL, STATUS_RESOURCE_EXHAUSTED, "no memory for the answer");
}

void service_call_finish(ServiceCall *call, FieldWriter *message, Status status, const char *sentence)
{
    bool late = call->ending || call->over;
    if (message && (late || call->sending))
        free(message->data);
    else if (message && !take_message(call, message))
        status = STATUS_RESOURCE_EXHAUSTED;
    if (late) return;
    call->ending = true;
    call->end = status;
    call->sentence = grpc_slice_from_copied_string(sentence);
    if (!call->sending) send(call);
}

/* --- in --- */

static void on_received(RpcTag *tag, bool success);

static void receive(ServiceCall *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &call->request;
    call->received.done = on_received;
    if (!call->ending && !call->over) start(call, &op, 1, &call->received);
}

static bool is_reflection(const ServiceCall *call)
{
    return call->method == SERVICE_REFLECTION || call->method == SERVICE_REFLECTION_ALPHA;
}

static void on_sent(RpcTag *tag, bool success)
{
    ServiceCall *call = CALL_OF(tag, sent);
    struct Services *services = call->axon->services;
    pthread_mutex_lock(&services->lock);
    call->sending = false;
    drop_message(&call->response);
    if (success && !call->finished && !call->over) {
        if (call->ending)
            send(call);
        else if (is_reflection(call))
            receive(call);
        else
            health_tell(call);
    }
    release(call);
    pthread_mutex_unlock(&services->lock);
}

static void answer_reflection(ServiceCall *call, const uint8_t *request, size_t size)
{
    struct Services *services = call->axon->services;
    FieldWriter answer = {0};
    if (reflection_answer(request, size, (const char(*)[KEY_SIZE])services->listed, services->listed_count, &answer)) {
        service_call_send(call, &answer);
        return;
    }
    free(answer.data);
    service_call_finish(call, NULL, STATUS_INVALID_ARGUMENT, "malformed ServerReflectionRequest");
}

static void handle(ServiceCall *call, const uint8_t *request, size_t size)
{
    if (call->method == SERVICE_CHECK)
        health_check(call, request, size);
    else if (call->method == SERVICE_WATCH)
        health_watch(call, request, size);
    else
        answer_reflection(call, request, size);
}

/* In one piece, to whoever answers it. */
static void take_request(ServiceCall *call)
{
    char sentence[128];
    grpc_byte_buffer_reader reader;
    size_t size = grpc_byte_buffer_length(call->request);
    call->asked = true;
    counter_add(&call->meter->begun, 1);
    counter_add(&call->meter->begun_bytes, size);
    if (size > SERVICES_REQUEST_BYTES) {
        snprintf(sentence, sizeof sentence, "request has %zu bytes, expected at most %d", size, SERVICES_REQUEST_BYTES);
        service_call_finish(call, NULL, STATUS_INVALID_ARGUMENT, sentence);
    } else if (grpc_byte_buffer_reader_init(&reader, call->request)) {
        grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
        handle(call, GRPC_SLICE_START_PTR(bytes), size);
        grpc_slice_unref(bytes);
    } else {
        service_call_finish(call, NULL, STATUS_INVALID_ARGUMENT, "the request can't be read");
    }
    drop_message(&call->request);
}

static void on_received(RpcTag *tag, bool success)
{
    ServiceCall *call = CALL_OF(tag, received);
    struct Services *services = call->axon->services;
    pthread_mutex_lock(&services->lock);
    if (success && call->request && !call->ending && !call->over)
        take_request(call);
    else /* the caller has said all */
        service_call_finish(call, NULL, STATUS_OK, "");
    release(call);
    pthread_mutex_unlock(&services->lock);
}

static void on_closed(RpcTag *tag, bool success)
{
    (void)success;
    ServiceCall *call = CALL_OF(tag, closed);
    struct Services *services = call->axon->services;
    pthread_mutex_lock(&services->lock);
    call->over = true;
    unlist(call);
    release(call);
    pthread_mutex_unlock(&services->lock);
}

static void watch_close(ServiceCall *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    call->closed.done = on_closed;
    start(call, &op, 1, &call->closed);
}

bool service_call_list(ServiceCall *call, size_t most)
{
    struct Services *services = call->axon->services;
    if (services->stream_count[call->method] >= most) {
        char sentence[128];
        snprintf(sentence, sizeof sentence, "%zu streams of %s are open already", most, kinds[call->method].path);
        service_call_finish(call, NULL, STATUS_RESOURCE_EXHAUSTED, sentence);
        return false;
    }
    call->listed = true;
    TAILQ_INSERT_TAIL(&services->streams, call, place);
    services->stream_count[call->method]++;
    return true;
}

static void begin(ServiceCall *call)
{
    watch_close(call);
    if (call->axon->services->ended)
        service_call_finish(call, NULL, STATUS_UNAVAILABLE, "this neuron is about to end");
    else if (is_reflection(call) && service_call_list(call, SERVICES_MAX_REFLECTIONS))
        receive(call);
    else if (!is_reflection(call) && call->request)
        take_request(call);
    else
        service_call_finish(call, NULL, STATUS_INVALID_ARGUMENT, "the call came without a message");
}

static void on_accepted(RpcTag *tag, bool success)
{
    ServiceCall *call = CALL_OF(tag, accepted);
    struct Services *services = call->axon->services;
    if (success) post(call->axon, call->method, NULL); /* lack of memory: one place fewer */
    pthread_mutex_lock(&services->lock);
    if (success) {
        call->meter = gate_meter(call->axon, call->call);
        begin(call);
    }
    release(call);
    pthread_mutex_unlock(&services->lock);
}

/* --- as a whole --- */

static Status post(Axon *axon, ServiceMethod method, Error *error)
{
    ServiceCall *call = calloc(1, sizeof *call);
    if (!call) return error_set_errno(error, ENOMEM, "a place for a call");
    call->axon = axon;
    call->method = method;
    call->references = 1;
    call->told = HEALTH_UNTOLD;
    call->accepted.done = on_accepted;
    call->sentence = grpc_empty_slice();
    grpc_metadata_array_init(&call->metadata);
    rpc_tag_release(&call->accepted);
    bool reads = kinds[method].payload == GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER;
    grpc_call_error failure = grpc_server_request_registered_call(
        axon->server, axon->services->methods[method], &call->call, &call->deadline, &call->metadata,
        reads ? &call->request : NULL, axon->completions, axon->completions, &call->accepted);
    if (failure == GRPC_CALL_OK) return STATUS_OK;
    rpc_metadata_destroy(&call->metadata);
    free(call);
    return error_set(error, STATUS_INTERNAL, "gRPC takes no calls of %s: %s", kinds[method].path,
                     grpc_call_error_to_string(failure));
}

Status services_post(Axon *axon, Error *error)
{
    for (int method = 0; method < SERVICE_METHODS; method++)
        for (int i = 0; i < kinds[method].posted; i++)
            RETURN_IF_ERROR(post(axon, (ServiceMethod)method, error));
    return STATUS_OK;
}

/* "/neuron.Neuron/Hello" makes "neuron.Neuron" known to reflection. */
static void list_service(struct Services *services, const char *path)
{
    char name[KEY_SIZE];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(path + 1, "/"), path + 1);
    for (size_t i = 0; i < services->listed_count; i++)
        if (strcmp(services->listed[i], name) == 0) return;
    strcpy(services->listed[services->listed_count++], name);
}

Status services_register(Axon *axon, Error *error)
{
    struct Services *services = calloc(1, sizeof *services);
    if (!services) return error_set_errno(error, ENOMEM, "the services");
    axon->services = services;
    pthread_mutex_init(&services->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&services->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    TAILQ_INIT(&services->streams);
    list_service(services, "/Bittensor/");
    for (size_t i = 0; i < axon->further_count; i++)
        list_service(services, axon->further[i].path);
    for (int method = 0; method < SERVICE_METHODS; method++) {
        const char *path = kinds[method].path;
        services->methods[method] = grpc_server_register_method(axon->server, path, NULL, kinds[method].payload, 0);
        if (!services->methods[method]) return error_set(error, STATUS_INTERNAL, "gRPC refused the method %s", path);
        list_service(services, path);
    }
    return STATUS_OK;
}

void services_end(Axon *axon)
{
    struct Services *services = axon->services;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 500000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    ServiceCall *call;
    pthread_mutex_lock(&services->lock);
    services->ended = true;
    TAILQ_FOREACH(call, &services->streams, place)
    service_call_finish(call, NULL, STATUS_UNAVAILABLE, "this neuron is about to end");
    int failure = 0;
    while (!TAILQ_EMPTY(&services->streams) && failure == 0)
        failure = pthread_cond_timedwait(&services->changed, &services->lock, &until);
    pthread_mutex_unlock(&services->lock);
}

void services_free(Axon *axon)
{
    struct Services *services = axon->services;
    if (!services) return;
    pthread_cond_destroy(&services->changed);
    pthread_mutex_destroy(&services->lock);
    free(services);
    axon->services = NULL;
}
