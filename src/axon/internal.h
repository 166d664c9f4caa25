/* Inside the axon room: what one call on its way through the server is, and what the two threads share.
 *
 * A ServerCall is owned by whoever works on it: first gRPC (accepted), then the network thread, the queue, the worker,
 * and gRPC again (finished). Beside that owner, the `closed` tag holds it too, so `references` counts both. */
#pragma once

#include <stdatomic.h>

#include "axon/axon.h"
#include "base/queue.h"
#include "rpc/rpc.h"

typedef enum Method { METHOD_FORWARD, METHOD_BACKWARD, METHOD_UNKNOWN, METHODS } Method;

enum { AXON_MAX_SOMAS = 64 };

typedef struct Served {
    char key[KEY_SIZE];
    AxonHandler handler;
} Served;

/* Written by both threads, read by any. */
typedef struct Counters {
    atomic_uint_fast64_t calls, answered[METHODS], failures[STATUS_UNAUTHENTICATED + 1], bytes_in, bytes_out,
        handler_ns;
    atomic_size_t queued_bytes;
} Counters;

struct Axon {
    /* Set by axon_start, constant since. */
    char address[PEER_ADDRESS_SIZE + 8];
    char neuron_key[KEY_SIZE];
    int port;
    size_t max_message_bytes, queue_bytes, queue_capacity;
    grpc_server *server;
    grpc_completion_queue *completions;
    void *methods[METHODS]; /* gRPC's handles; NULL for METHOD_UNKNOWN */
    Queue *waiting;         /* of ServerCall */
    pthread_t network, worker;

    pthread_mutex_t serving; /* guards somas; held while a handler runs */
    size_t soma_count;
    Served somas[AXON_MAX_SOMAS];

    Counters counters;

    atomic_bool stopping;
    RpcTag shut_down_tag;
    pthread_mutex_t lock; /* guards shut_down */
    pthread_cond_t shut_down_changed;
    bool shut_down;
};

typedef struct ServerCall {
    Axon *axon;
    Method method;
    atomic_int references;
    RpcTag accepted, closed, finished;

    grpc_call *call;
    grpc_call_details details; /* of an unknown method */
    grpc_metadata_array metadata;
    gpr_timespec deadline;
    grpc_byte_buffer *request, *response;
    grpc_slice sentence; /* the status message on its way out */
    int cancelled;       /* written by gRPC before `closed` comes back */
    atomic_bool gone;    /* the caller has cancelled, or its connection is lost */

    size_t charge; /* bytes counted in queued_bytes */
    char synapse_key[KEY_SIZE];
    Modality modality;
    Tensor input, gradient;
} ServerCall;

/* call.c: asks gRPC for the next call of a method; its `accepted` tag comes back with a call or, at the end, without.
 */
Status server_call_post(Axon *axon, Method method, Error *error);

/* Both end the caller's ownership. _answer takes *answer over (f32, any shape). */
void server_call_answer(ServerCall *call, Tensor *answer);
void server_call_fail(ServerCall *call, const Error *error);

/* False when nobody waits for the answer any more; *error says why. */
bool server_call_wanted(const ServerCall *call, Error *error);

/* worker.c: runs until the queue is closed. */
void *axon_worker(void *axon);
