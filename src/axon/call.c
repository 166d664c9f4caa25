/* A call's way through the server: accepted, checked and put in the schedule; answered by its handler or by a failure.
 */
#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>

#include "axon/internal.h"
#include "wire/metadata.h"

enum {
    SPARE_CALLS = 512, /* kept to be used again */
    UNREAD_BAD = 3     /* an answer that nobody reads is as bad as so many more calls that come to nothing */
};

static ServerCall *of_accepted(RpcTag *tag)
{
    return (ServerCall *)(void *)((char *)tag - offsetof(ServerCall, accepted));
}

static ServerCall *of_closed(RpcTag *tag)
{
    return (ServerCall *)(void *)((char *)tag - offsetof(ServerCall, closed));
}

static ServerCall *of_finished(RpcTag *tag)
{
    return (ServerCall *)(void *)((char *)tag - offsetof(ServerCall, finished));
}

static ServerCall *of_request(AxonRequest *request)
{
    return (ServerCall *)(void *)((char *)request - offsetof(ServerCall, asked));
}

/* --- its memory --- */

static void drop_request(ServerCall *call)
{
    if (call->segments != call->few) free(call->segments);
    if (call->request) grpc_byte_buffer_destroy(call->request);
    call->segments = NULL;
    call->request = NULL;
}

static void recycle(ServerCall *call)
{
    Axon *axon = call->door->axon;
    drop_request(call);
    grpc_slice_unref(call->sentence);
    if (call->has_version) grpc_slice_unref(call->version.value);
    if (call->response) grpc_byte_buffer_destroy(call->response);
    rpc_metadata_destroy(&call->metadata);
    if (call->method == METHOD_UNKNOWN) grpc_call_details_destroy(&call->details);
    if (call->call) grpc_call_unref(call->call);
    pthread_mutex_lock(&axon->lock);
    bool kept = axon->spare_count < SPARE_CALLS;
    if (kept) {
        TAILQ_INSERT_HEAD(&axon->spare, call, place);
        axon->spare_count++;
    }
    pthread_mutex_unlock(&axon->lock);
    if (!kept) free(call);
}

static uint64_t deadline_of(const ServerCall *call)
{
    gpr_timespec deadline = gpr_convert_clock_type(call->deadline, GPR_CLOCK_MONOTONIC);
    if (deadline.tv_sec < 0) return 0;
    if (deadline.tv_sec > INT64_MAX / 1000000000 - 1) return UINT64_MAX;
    return (uint64_t)deadline.tv_sec * 1000000000 + (uint64_t)deadline.tv_nsec;
}

/* Whether the call was worth its while, for the guard. */
static void meter_end(const ServerCall *call)
{
    bool in_vain = call->empty || call->cancelled;
    if (in_vain && !call->useless && call->method != METHOD_UNKNOWN &&
        deadline_of(call) <= clock_now(clock_monotonic())) {
        if (!call->empty) counter_add(&call->meter->good, 1);
    } else if (in_vain || call->useless) {
        counter_add(&call->meter->bad, 1);
        if (!call->empty) counter_add(&call->meter->bad_bytes, call->bytes);
    } else {
        counter_add(&call->meter->good, 1);
    }
}

/* Of a call that was accepted. */
static void release(ServerCall *call)
{
    Axon *axon = call->door->axon;
    if (atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) > 1) return;
    meter_end(call);
    recycle(call);
    if (atomic_fetch_sub(&axon->counters.in_flight, 1) > 1 || !atomic_load(&axon->draining)) return;
    pthread_mutex_lock(&axon->lock);
    pthread_cond_broadcast(&axon->changed);
    pthread_mutex_unlock(&axon->lock);
}

void server_calls_free(Axon *axon)
{
    ServerCall *call;
    while ((call = TAILQ_FIRST(&axon->spare))) {
        TAILQ_REMOVE(&axon->spare, call, place);
        free(call);
    }
}

/* --- the way out --- */

/* With the lock held. */
static void leave_unsent(ServerCall *call)
{
    Axon *axon = call->door->axon;
    if (call->unsent_bytes == 0) return;
    TAILQ_REMOVE(&axon->unsent, call, place);
    axon->unsent_bytes -= call->unsent_bytes;
    call->unsent_bytes = 0;
}

/* An answer takes memory until its caller has read it. */
static void enter_unsent(ServerCall *call)
{
    Axon *axon = call->door->axon;
    pthread_mutex_lock(&axon->lock);
    call->unsent_bytes = grpc_byte_buffer_length(call->response);
    counter_add(&call->meter->answer_bytes, call->unsent_bytes);
    call->answered_ns = clock_now(clock_monotonic());
    TAILQ_INSERT_TAIL(&axon->unsent, call, place);
    axon->unsent_bytes += call->unsent_bytes;
    pthread_mutex_unlock(&axon->lock);
}

void server_calls_give_up(Axon *axon, uint64_t answered_before_ns)
{
    ServerCall *oldest;
    pthread_mutex_lock(&axon->lock);
    while ((oldest = TAILQ_FIRST(&axon->unsent)) && oldest->answered_ns < answered_before_ns) {
        leave_unsent(oldest);
        counter_add(&oldest->meter->bad, UNREAD_BAD);
        atomic_fetch_add_explicit(&oldest->references, 1, memory_order_relaxed);
        pthread_mutex_unlock(&axon->lock);
        grpc_call_cancel(oldest->call, NULL);
        release(oldest);
        pthread_mutex_lock(&axon->lock);
    }
    pthread_mutex_unlock(&axon->lock);
}

static void on_finished(RpcTag *tag, bool success)
{
    (void)success; /* without success the caller has gone, and there is nothing left to do for it */
    ServerCall *call = of_finished(tag);
    pthread_mutex_t *lock = &call->door->axon->lock;
    pthread_mutex_lock(lock);
    leave_unsent(call);
    pthread_mutex_unlock(lock);
    if (call->empty)
        counter_add(&call->door->axon->counters.failures[call->cancelled ? STATUS_CANCELLED : STATUS_INVALID_ARGUMENT],
                    1);
    release(call);
}

/* Everything that is left to say leaves in one batch, and whoever wasn't asked to watch for the caller's going does it
 * here, since gRPC wants it done. */
static void finish(ServerCall *call, Status status)
{
    drop_request(call);
    grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t used = 1;
    if (call->has_version) {
        ops[0].data.send_initial_metadata.count = 1;
        ops[0].data.send_initial_metadata.metadata = &call->version;
    }
    if (call->response) {
        ops[used] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
        ops[used++].data.send_message.send_message = call->response;
    }
    ops[used] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    ops[used].data.send_status_from_server.status = (grpc_status_code)status;
    ops[used++].data.send_status_from_server.status_details = &call->sentence;
    if (!call->watched) {
        ops[used] = (grpc_op){.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
        ops[used++].data.recv_close_on_server.cancelled = &call->cancelled;
    }
    if (call->response) enter_unsent(call);
    if (rpc_start_batch(call->call, ops, used, &call->finished, NULL) == STATUS_OK) return;
    on_finished(&call->finished, false);
}

void server_call_fail(ServerCall *call, const Error *error)
{
    Status status =
        error->status == STATUS_OK || error->status > STATUS_UNAUTHENTICATED ? STATUS_INTERNAL : error->status;
    if (!call->empty) counter_add(&call->door->axon->counters.failures[status], 1);
    call->sentence = grpc_slice_from_copied_string(error->message);
    finish(call, status);
}

void axon_fail(AxonRequest *request, const Error *error)
{
    server_call_fail(of_request(request), error);
}

static void add_version(ServerCall *call, uint64_t version)
{
    char digits[METADATA_NUMBER_SIZE];
    size_t length = metadata_number_format(version, digits);
    call->version.key = grpc_slice_from_static_string(METADATA_WEIGHTS_VERSION);
    call->version.value = grpc_slice_from_copied_buffer(digits, length);
    call->has_version = true;
}

static Status encode_answer(ServerCall *call, Tensor *answer, Error *error)
{
    Axon *axon = call->door->axon;
    EncodedMessage encoded;
    MessageTensor tensor = {answer, MODALITY_TENSOR};
    grpc_slice payload;
    RETURN_IF_ERROR(
        message_encode(axon->neuron_key, call->synapse_key, &tensor, 1, axon->max_message_bytes, &encoded, error));
    RETURN_IF_ERROR(rpc_payload(answer, &payload, error));
    call->response = rpc_message(&encoded, &payload);
    grpc_slice_unref(payload);
    counter_add(&axon->counters.bytes_out, encoded.size);
    return STATUS_OK;
}

void axon_answer(AxonRequest *request, Tensor *answer, const uint64_t *version)
{
    ServerCall *call = of_request(request);
    Error error;
    Status status = encode_answer(call, answer, &error);
    tensor_destroy(answer); /* zeroed if gRPC holds it now */
    if (status != STATUS_OK) {
        error_prefix(&error, "answer");
        server_call_fail(call, &error);
        return;
    }
    if (version) add_version(call, *version);
    counter_add(&call->door->axon->counters.answered[call->method], 1);
    finish(call, STATUS_OK);
}

/* --- callers that go away --- */

void server_call_unlist(ServerCall *call)
{
    if (!call->fresh) return;
    TAILQ_REMOVE(&call->door->axon->fresh, call, place);
    call->fresh = false;
}

/* A call that still waits is dropped at once; one that is being handled, when its handler has answered. */
static void on_closed(RpcTag *tag, bool success)
{
    ServerCall *call = of_closed(tag);
    Axon *axon = call->door->axon;
    bool waits = false;
    Error error;
    if (!success || call->cancelled) {
        pthread_mutex_lock(&axon->lock);
        waits = call->waiting.line != NULL;
        if (waits) schedule_remove(&axon->schedule, &call->waiting);
        pthread_mutex_unlock(&axon->lock);
    }
    if (waits) {
        error_set(&error, STATUS_CANCELLED, "the caller has gone");
        server_call_fail(call, &error);
    }
    release(call);
}

static void watch(ServerCall *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    if (rpc_start_batch(call->call, &op, 1, &call->closed, NULL) != STATUS_OK) release(call);
}

void server_calls_watch(Axon *axon)
{
    ServerCall *call;
    pthread_mutex_lock(&axon->lock);
    while ((call = TAILQ_FIRST(&axon->fresh))) {
        server_call_unlist(call);
        call->watched = true; /* so that finish won't ask for it again, whoever is first */
        atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
        pthread_mutex_unlock(&axon->lock);
        watch(call);
        pthread_mutex_lock(&axon->lock);
    }
    pthread_mutex_unlock(&axon->lock);
}

/* --- the way in --- */

static Status answer_further(ServerCall *call, Error *error)
{
    const AxonMethod *method = &call->door->axon->further[call->method - METHOD_FURTHER];
    uint8_t *in = NULL, *out = NULL;
    size_t in_size = 0, out_size = 0;
    grpc_byte_buffer_reader reader;
    grpc_slice all = grpc_empty_slice();
    if (grpc_byte_buffer_length(call->request) && grpc_byte_buffer_reader_init(&reader, call->request)) {
        all = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
        in = GRPC_SLICE_START_PTR(all);
        in_size = GRPC_SLICE_LENGTH(all);
    }
    error_set(error, STATUS_INTERNAL, "%s failed without saying why", method->path);
    Status status = method->answer(method->context, in, in_size, &out, &out_size, error);
    grpc_slice_unref(all);
    if (status == STATUS_OK) {
        grpc_slice slice = grpc_slice_from_copied_buffer((const char *)out, out_size);
        call->response = grpc_raw_byte_buffer_create(&slice, 1);
        grpc_slice_unref(slice);
        counter_add(&call->door->axon->counters.bytes_out, out_size);
        finish(call, STATUS_OK);
    }
    free(out);
    return status;
}

/* With the lock held. */
static Status enqueue(ServerCall *call, Error *error)
{
    Axon *axon = call->door->axon;
    Served *served = axon_find(axon, call->synapse_key, error);
    if (!served) return error->status;
    bool backward = call->method == METHOD_BACKWARD;
    if (backward && !served->handler.backward)
        return error_set(error, STATUS_UNIMPLEMENTED, "this soma doesn't take gradients (synapse_key '%s')",
                         served->key);
    const Shape *shape = &call->asked.shape;
    call->served = served;
    memcpy(call->synapse_key, served->key, sizeof call->synapse_key);
    call->waiting.caller = call->asked.caller;
    call->waiting.rule = &served->rule;
    call->waiting.alone = backward;
    call->waiting.modality = call->asked.modality;
    call->waiting.shape = *shape;
    call->waiting.rows = shape->dims[0] * shape->dims[1]; /* the elements were counted, so this doesn't overflow */
    RETURN_IF_ERROR(schedule_add(&axon->schedule, &call->waiting, error));
    TAILQ_INSERT_TAIL(&axon->fresh, call, place);
    call->fresh = true;
    return STATUS_OK;
}

static void meter_begin(ServerCall *call)
{
    call->meter = gate_meter(call->door->axon, call->call);
    call->bytes = call->request ? grpc_byte_buffer_length(call->request) : 0;
    if (!call->request && call->method != METHOD_UNKNOWN) return;
    counter_add(&call->meter->begun, 1);
    counter_add(&call->meter->begun_bytes, call->bytes);
}

static Status take_in(ServerCall *call, bool draining, Error *error)
{
    Axon *axon = call->door->axon;
    if (call->method == METHOD_UNKNOWN)
        return error_set(error, STATUS_UNIMPLEMENTED, "method %.*s is not known here",
                         (int)GRPC_SLICE_LENGTH(call->details.method),
                         (const char *)GRPC_SLICE_START_PTR(call->details.method));
    if (draining) return error_set(error, STATUS_UNAVAILABLE, "this neuron is about to end");
    call->empty = !call->request;
    if (call->empty) return error_set(error, STATUS_INVALID_ARGUMENT, "the call came without a message");
    call->useless = true;
    if (call->request->data.raw.compression != GRPC_COMPRESS_NONE)
        return error_set(error, STATUS_UNIMPLEMENTED, "compressed messages are not read here");
    counter_add(&axon->counters.bytes_in, call->bytes);
    if (call->method < METHOD_FURTHER) RETURN_IF_ERROR(server_call_decode(call, error));
    call->useless = false;
    if (call->method >= METHOD_FURTHER) return answer_further(call, error);
    call->waiting.bytes = call->bytes;
    call->waiting.arrived_ns = clock_now(clock_monotonic());
    call->waiting.deadline_ns = deadline_of(call);
    pthread_mutex_lock(&axon->lock);
    Status status = enqueue(call, error);
    pthread_mutex_unlock(&axon->lock);
    return status;
}

static void on_accepted(RpcTag *tag, bool success)
{
    ServerCall *call = of_accepted(tag);
    if (!success) { /* the server is shutting down */
        recycle(call);
        return;
    }
    Error error;
    Axon *axon = call->door->axon;
    atomic_fetch_add(&axon->counters.in_flight, 1);
    meter_begin(call);
    bool draining = atomic_load(&axon->draining); /* after in_flight: a drain waits for those it doesn't refuse */
    if (call->method < METHOD_FURTHER) counter_add(&axon->counters.calls, 1);
    /* Lack of memory for the next call: one place fewer, and this call still gets its answer. */
    server_call_post(call->door, call->method, NULL);
    if (take_in(call, draining, &error) != STATUS_OK) server_call_fail(call, &error);
}

static ServerCall *new_call(Axon *axon)
{
    pthread_mutex_lock(&axon->lock);
    ServerCall *call = TAILQ_FIRST(&axon->spare);
    if (call) {
        TAILQ_REMOVE(&axon->spare, call, place);
        axon->spare_count--;
    }
    pthread_mutex_unlock(&axon->lock);
    return call ? call : malloc(sizeof *call);
}

Status server_call_post(Door *door, Method method, Error *error)
{
    Axon *axon = door->axon;
    ServerCall *call = new_call(axon);
    if (!call) return error_set_errno(error, ENOMEM, "a place for a call");
    call->door = door;
    call->method = method;
    call->accepted.done = on_accepted;
    call->closed.done = on_closed;
    call->finished.done = on_finished;
    call->call = NULL;
    call->request = call->response = NULL;
    call->segments = NULL;
    call->sentence = grpc_empty_slice();
    call->has_version = call->fresh = call->watched = call->empty = call->useless = false;
    call->cancelled = 0;
    call->unsent_bytes = 0;
    call->waiting.line = NULL;
    call->asked = (AxonRequest){0};
    atomic_init(&call->references, 1);
    grpc_metadata_array_init(&call->metadata);
    rpc_tag_release(&call->accepted);
    grpc_call_error failure;
    if (method == METHOD_UNKNOWN) {
        grpc_call_details_init(&call->details);
        failure = grpc_server_request_call(axon->server, &call->call, &call->details, &call->metadata, door->queue,
                                           door->queue, &call->accepted);
    } else {
        failure = grpc_server_request_registered_call(axon->server, axon->methods[method], &call->call, &call->deadline,
                                                      &call->metadata, &call->request, door->queue, door->queue,
                                                      &call->accepted);
    }
    if (failure == GRPC_CALL_OK) return STATUS_OK;
    recycle(call);
    return error_set(error, STATUS_INTERNAL, "gRPC takes no more calls: %s", grpc_call_error_to_string(failure));
}
