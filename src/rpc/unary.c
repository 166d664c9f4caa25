#include "rpc/unary.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <limits.h>

#include "wire/metadata.h"

enum { RECONNECT_FIRST_MS = 100, RECONNECT_MOST_MS = 2000, CONNECT_LEAST_MS = 100 };

grpc_channel *unary_channel(const char *address, size_t max_message_bytes, uint64_t connect_ns)
{
    RpcArgs args;
    uint64_t connect_ms = connect_ns / 1000000;
    if (connect_ms < CONNECT_LEAST_MS) connect_ms = CONNECT_LEAST_MS;
    if (connect_ms > INT_MAX) connect_ms = INT_MAX;
    rpc_args_init(&args, max_message_bytes);
    rpc_args_add(&args, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_FIRST_MS);
    rpc_args_add(&args, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, (int)connect_ms);
    rpc_args_add(&args, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MOST_MS);
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(address, credentials, &args.args);
    grpc_channel_credentials_release(credentials);
    return channel;
}

static void on_done(RpcTag *tag, bool success)
{
    (void)success; /* the status says it all */
    UnaryCall *call = (UnaryCall *)tag;
    call->done(call);
}

Status unary_start(UnaryCall *call, grpc_channel *channel, grpc_completion_queue *queue, void *method,
                   grpc_byte_buffer *request, gpr_timespec deadline, Error *error)
{
    call->tag.done = on_done;
    call->request = request;
    call->response = NULL;
    call->details = grpc_empty_slice();
    call->code = GRPC_STATUS_UNKNOWN;
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    call->call =
        grpc_channel_create_registered_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, method, deadline, NULL);
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_SEND_MESSAGE}, {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA}, {.op = GRPC_OP_RECV_MESSAGE}, {.op = GRPC_OP_RECV_STATUS_ON_CLIENT},
    };
    ops[0].data.send_initial_metadata.metadata = call->metadata;
    ops[0].data.send_initial_metadata.count = call->metadata_count;
    ops[1].data.send_message.send_message = request;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[4].data.recv_message.recv_message = &call->response;
    ops[5].data.recv_status_on_client.trailing_metadata = &call->trailing;
    ops[5].data.recv_status_on_client.status = &call->code;
    ops[5].data.recv_status_on_client.status_details = &call->details;
    Status status = rpc_start_batch(call->call, ops, sizeof ops / sizeof ops[0], &call->tag, error);
    if (status != STATUS_OK) unary_clear(call);
    return status;
}

void unary_cancel(UnaryCall *call)
{
    grpc_call_cancel(call->call, NULL);
}

void unary_clear(UnaryCall *call)
{
    if (call->request) grpc_byte_buffer_destroy(call->request);
    if (call->response) grpc_byte_buffer_destroy(call->response);
    rpc_metadata_destroy(&call->initial);
    rpc_metadata_destroy(&call->trailing);
    grpc_slice_unref(call->details);
    if (call->call) grpc_call_unref(call->call);
    call->request = call->response = NULL;
    call->call = NULL;
}

Status unary_status(const UnaryCall *call, Error *error)
{
    return rpc_error_of(call->code, call->details, error);
}

size_t unary_response_bytes(const UnaryCall *call)
{
    return call->response ? grpc_byte_buffer_length(call->response) : 0;
}

bool unary_number(const UnaryCall *call, const char *key, uint64_t *out)
{
    for (size_t i = 0; i < call->initial.count; i++) {
        const grpc_metadata *entry = &call->initial.metadata[i];
        if (grpc_slice_str_cmp(entry->key, key) != 0) continue;
        return metadata_number_parse(GRPC_SLICE_START_PTR(entry->value), GRPC_SLICE_LENGTH(entry->value), out);
    }
    return false;
}

/* gRPC keeps so few bytes inside the slice itself. */
_Static_assert(METADATA_NUMBER_SIZE - 1 <= GRPC_SLICE_INLINED_SIZE, "a number's slice needs no memory of its own");

grpc_metadata unary_number_metadata(const char *key, uint64_t value)
{
    char text[METADATA_NUMBER_SIZE];
    size_t length = metadata_number_format(value, text);
    return (grpc_metadata){.key = grpc_slice_from_static_string(key),
                           .value = grpc_slice_from_copied_buffer(text, length)};
}
