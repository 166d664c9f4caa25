#include "rpc/unary.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <limits.h>

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
