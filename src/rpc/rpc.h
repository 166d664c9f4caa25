/* What the axon and the dendrite share of gRPC's C core: start and end, completion queues, channel arguments, bytes.
 *
 * A completion queue is driven by one thread of ours (rpc_thread_start), which calls rpc_run until the queue has been
 * shut down and drained. Every operation is handed to gRPC with an RpcTag; when it is done, the tag's function runs on
 * that thread. All memory that an operation reads or writes passes to gRPC with the tag and comes back with it. */
#pragma once

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/tensor.h"
#include "wire/message.h"

enum { RPC_MESSAGE_BYTES = 64 << 20 }; /* the default limit of a message, both ways (gRPC's own is 4 MiB in) */

/* --- start and end --- */

/* Counted: each start needs a stop; the last one ends gRPC's threads. gRPC's own log lines go to base/log.h. */
void rpc_start(void);
void rpc_stop(void);

/* A thread with a name, which top and gdb show. */
Status rpc_thread_start(pthread_t *out, void *(*run)(void *), void *argument, const char *name, Error *error);

/* The core time that a thread has used so far, in ns. */
uint64_t rpc_thread_work(pthread_t thread);

/* --- operations and their completion --- */

typedef struct RpcTag RpcTag;
struct RpcTag {
    void (*done)(RpcTag *tag, bool success);
};

/* Called with a tag just before it is handed to gRPC, whoever hands it. ThreadSanitizer can't see that gRPC orders this
 * before the completion, since libgrpc isn't instrumented; here it is told. */
void rpc_tag_release(RpcTag *tag);

/* Starts operations on a call, with one tag for all. FAILED_PRECONDITION: gRPC refused them (the queue is shut down, or
 * a mistake in our code); the tag does not come back then. */
Status rpc_start_batch(grpc_call *call, const grpc_op *ops, size_t count, RpcTag *tag, Error *error);

/* Runs the next tag that completes before `deadline`. */
typedef enum RpcEvent { RPC_DONE, RPC_NOTHING, RPC_SHUT_DOWN } RpcEvent;
RpcEvent rpc_next(grpc_completion_queue *queue, gpr_timespec deadline);

/* Runs tags as they complete, until the queue is shut down and empty. */
void rpc_run(grpc_completion_queue *queue);

/* As rpc_tag_release and its counterpart, for memory that gRPC keeps by reference and gives back by a callback. */
void rpc_memory_release(void *memory);
void rpc_memory_acquire(void *memory);

/* grpc_metadata_array_destroy. gRPC may have filled the array on any of its threads, and it frees with a tail call that
 * leaves no frame of libgrpc on the stack for a suppression to match: ThreadSanitizer is told to look away. */
void rpc_metadata_destroy(grpc_metadata_array *metadata);

/* --- arguments --- */

enum { RPC_MAX_ARGS = 24 };

typedef struct RpcArgs {
    grpc_channel_args args;
    grpc_arg list[RPC_MAX_ARGS];
} RpcArgs;

/* The message limits of both ends (at most 2^31 - 1), and no hidden machinery: no retries, no proxies, no shared
 * connections. Points into itself: don't copy. */
void rpc_args_init(RpcArgs *out, size_t max_message_bytes);
void rpc_args_add(RpcArgs *args, const char *key, int value);

/* Absolute, on gRPC's clock. */
gpr_timespec rpc_deadline_after(uint64_t ns);

/* --- bytes --- */

/* A tensor that gRPC may refer to for as long as it likes: slices made of it share the bytes, and the last one to go
 * destroys the tensor. Takes the tensor over (it is left zeroed), also on failure. */
Status rpc_payload(Tensor *tensor, grpc_slice *out, Error *error);

/* The message that `encoded` describes; payloads[i] is the slice of tensor i's data (referenced, not taken). Destroy
 * with grpc_byte_buffer_destroy. */
grpc_byte_buffer *rpc_message(const EncodedMessage *encoded, const grpc_slice *payloads);

/* The segments of a received buffer, which must outlive them; free(*out). NULL buffer: none. */
Status rpc_segments(const grpc_byte_buffer *buffer, Segment **out, size_t *count, Error *error);

/* gRPC's number as a Status (unknown ones are UNKNOWN), and a sentence from the bytes a peer sent as details. */
Status rpc_error_of(grpc_status_code code, grpc_slice details, Error *error);
