/* One unary call as a client makes it: a message and metadata out, a message or a status back. */
#pragma once

#include "rpc/rpc.h"

/* Zero-initialise, set `done` and, if wanted, `owner` and `metadata`; then unary_start. After unary_clear it may be
 * started again. */
typedef struct UnaryCall UnaryCall;
struct UnaryCall {
    RpcTag tag; /* first, so that a tag is its call */
    void (*done)(UnaryCall *call);
    void *owner;
    grpc_metadata *metadata; /* sent with the request; the caller's, and must stay until done */
    size_t metadata_count;

    grpc_call *call;
    grpc_metadata_array initial, trailing; /* as they came; valid from done until unary_clear */
    grpc_byte_buffer *request, *response;  /* response: NULL when none came */
    grpc_status_code code;
    grpc_slice details;
};

/* Takes `request` over, also on failure. Not wait-for-ready: no connection is a failure at once. done(call) runs on the
 * thread that drives `queue`, once, when all is over (cancelled or late calls too), maybe before this returns; the call
 * must stay until then, and is emptied with unary_clear. On failure nothing is left to clear, and done does not run. */
Status unary_start(UnaryCall *call, grpc_channel *channel, grpc_completion_queue *queue, void *method,
                   grpc_byte_buffer *request, gpr_timespec deadline, Error *error);

/* Hurries the end; any number of times, but only between unary_start's return and unary_clear. */
void unary_cancel(UnaryCall *call);

void unary_clear(UnaryCall *call);

/* The status and sentence of a call that is done. */
Status unary_status(const UnaryCall *call, Error *error);

/* Bytes of the message that came; 0 if none did. */
size_t unary_response_bytes(const UnaryCall *call);

/* The number under `key` in the peer's initial metadata (wire/metadata.h). False if there is none, or something else
 * than a number: a peer may send anything. */
bool unary_number(const UnaryCall *call, const char *key, uint64_t *out);

/* An entry for UnaryCall.metadata that needs no freeing. `key` must outlive the call. */
grpc_metadata unary_number_metadata(const char *key, uint64_t value);

/* A channel to "HOST:PORT" as this program makes it: plaintext, connected at the first call, failing fast. A connection
 * that isn't made within `connect_ns` counts as failed; it is tried again at most every 2 s. */
grpc_channel *unary_channel(const char *address, size_t max_message_bytes, uint64_t connect_ns);
