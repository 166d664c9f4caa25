/* One unary call as a client makes it: a message out, a message or a status back. */
#pragma once

#include "rpc/rpc.h"

typedef struct UnaryCall UnaryCall;
struct UnaryCall {
    RpcTag tag; /* first, so that a tag is its call */
    void (*done)(UnaryCall *call);
    void *owner;

    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *request, *response; /* response: NULL when none came */
    grpc_status_code code;
    grpc_slice details;
};

/* Takes `request` over, also on failure. Not wait-for-ready: no connection is a failure at once. done(call) runs on the
 * thread that drives `queue`, once, when all is over (cancelled or late calls too); the call must stay until then, and
 * is emptied with unary_clear. On failure nothing is left to clear, and done does not run. */
Status unary_start(UnaryCall *call, grpc_channel *channel, grpc_completion_queue *queue, void *method,
                   grpc_byte_buffer *request, gpr_timespec deadline, Error *error);

/* Hurries the end; any number of times, but only before unary_clear. */
void unary_cancel(UnaryCall *call);

void unary_clear(UnaryCall *call);

/* The status and sentence of a call that is done. */
Status unary_status(const UnaryCall *call, Error *error);

/* A channel to "HOST:PORT" as this program makes it: plaintext, connected at the first call, failing fast. A connection
 * that isn't made within `connect_ns` counts as failed; it is tried again at most every 2 s. */
grpc_channel *unary_channel(const char *address, size_t max_message_bytes, uint64_t connect_ns);
