/* Inside the axon room: what one call on its way through the server is, and what its threads share.
 *
 * Doors and drivers: calls come in through doors, a completion queue each, and a network thread drives one door at a
 * time. With n threads there are n - 1 doors (at least one), so that one thread is over: it takes the door of the one
 * that runs a handler, and that one waits in its place when the handler is done. So a lone caller is served by a single
 * thread, without any switching, and a long handler doesn't keep other calls from being taken in.
 *
 * A ServerCall is owned by whoever works on it: first gRPC (accepted), then a network thread, the schedule, the
 * handler, and gRPC again (finished). Beside that owner, the `closed` tag may hold it too, so `references` counts both.
 */
#pragma once

#include <stdatomic.h>
#include <string.h>
#include <sys/queue.h>

#include "axon/axon.h"
#include "axon/gate.h"
#include "axon/schedule.h"
#include "axon/share.h"
#include "rpc/rpc.h"

typedef enum Method { METHOD_FORWARD, METHOD_BACKWARD, METHOD_UNKNOWN, METHOD_FURTHER } Method;

enum {
    AXON_MAX_SOMAS = 64,
    AXON_MAX_FURTHER = 8, /* methods of axon_start_with_methods */
    METHODS = METHOD_FURTHER + AXON_MAX_FURTHER,
    AXON_MAX_THREADS = 64,
    AXON_MARGIN_NS = 5000000, /* for an answer to reach its caller before the deadline */
    CALL_SEGMENTS = 4,        /* of a message, without an allocation */
};

typedef struct ServerCall ServerCall;
TAILQ_HEAD(CallList, ServerCall);

typedef struct Served {
    bool used;
    char key[KEY_SIZE];
    AxonHandler handler;
    BatchRule rule;
    uint64_t expected_ns; /* what a batch takes, going by the last ones; 0: none has run */
} Served;

typedef struct Door {
    Axon *axon;
    grpc_completion_queue *queue;
    int drivers; /* threads that drive it now; guarded by the axon's lock */
} Door;

/* Written by all threads, read by any. */
typedef struct Counters {
    atomic_uint_fast64_t calls, answered[METHOD_UNKNOWN], failures[STATUS_UNAUTHENTICATED + 1], bytes_in, bytes_out;
    atomic_uint_fast64_t batches[BATCH_CLOSINGS], batched_calls, batched_rows, handler_ns, paused_ns, in_flight;
} Counters;

struct Axon {
    /* Set by axon_start, constant since. */
    char address[PEER_ADDRESS_SIZE + 8];
    char neuron_key[KEY_SIZE];
    int port;
    size_t max_message_bytes, memory_bytes;
    int thread_most, door_count, handler_threads;
    grpc_server *server;
    Gate *gate;
    grpc_completion_queue *completions; /* the first door's */
    Door doors[AXON_MAX_THREADS];
    AxonMethod further[AXON_MAX_FURTHER];
    size_t further_count;
    void *methods[METHODS]; /* gRPC's handles; NULL for METHOD_UNKNOWN */
    uint64_t seed;          /* of the callers' hash */
    int thread_count;
    pthread_t threads[AXON_MAX_THREADS];

    struct Services *services; /* services.h */

    pthread_mutex_t lock;   /* guards what follows, down to the counters */
    pthread_cond_t changed; /* anything below that somebody waits for */
    Served somas[AXON_MAX_SOMAS];
    Schedule schedule;
    Share share;
    uint64_t held_since;    /* when `share` began to hold calls back; 0: it doesn't */
    struct CallList fresh;  /* calls that wait and aren't watched yet */
    struct CallList spare;  /* to be used again */
    struct CallList unsent; /* answered, in this order, and not read by their callers yet */
    size_t unsent_bytes;
    size_t spare_count;
    bool running;   /* a handler */
    int replacing;  /* threads that want to change `somas`: no handler begins */
    Door *offered;  /* a door whose driver is about to run a handler */
    bool ended;     /* the threads must end */
    bool shut_down; /* gRPC's server */

    Counters counters;
    atomic_uint_fast64_t handler_begun_ns; /* 0: no handler runs */
    atomic_bool limited;                   /* by `share`, for those who haven't the lock */
    atomic_bool draining;                  /* new calls are refused */
    atomic_bool stopping;
    RpcTag shut_down_tag;
};

struct ServerCall {
    Door *door;
    Method method;
    atomic_int references;
    RpcTag accepted, closed, finished;

    grpc_call *call;
    grpc_call_details details; /* of an unknown method */
    grpc_metadata_array metadata;
    gpr_timespec deadline;
    grpc_byte_buffer *request, *response;
    grpc_metadata version; /* on its way out */
    bool has_version;
    grpc_slice sentence; /* the status message on its way out */
    bool empty;          /* no message came: why is known when the call has ended */
    bool useless;        /* what came can't be read */
    Meter *meter;        /* of its connection */
    size_t bytes;        /* of the request */
    int cancelled;       /* written by gRPC before `closed` comes back */

    Waiting waiting; /* in the schedule */
    bool fresh;      /* in Axon.fresh; guarded by the axon's lock, like `watched` */
    bool watched;    /* `closed` is on its way, or has come */
    uint64_t answered_ns;
    size_t unsent_bytes;           /* of the answer, while in Axon.unsent */
    TAILQ_ENTRY(ServerCall) place; /* in Axon.fresh, Axon.unsent or Axon.spare */

    Served *served;
    char synapse_key[KEY_SIZE];
    AxonRequest asked; /* what the handler sees */
    Segment *segments; /* of `request`; the tensors point into them */
    Segment few[CALL_SEGMENTS];
    WireTensor input, gradient;
    DType input_dtype, gradient_dtype; /* as sent */
};

static inline void counter_add(atomic_uint_fast64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

/* Of anything, so that nobody who doesn't know the seed can choose what shares a place. */
static inline uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t size)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, size - at < 8 ? size - at : 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return (hash ^ size) * 0x9e3779b97f4a7c15u;
}

static inline ServerCall *call_of_waiting(Waiting *waiting)
{
    return (ServerCall *)(void *)((char *)waiting - offsetof(ServerCall, waiting));
}

/* --- call.c --- */

/* Asks gRPC for the next call of a method at a door; its `accepted` tag comes back with a call or, at the end, without.
 */
Status server_call_post(Door *door, Method method, Error *error);

/* Answers with a failure; ends the caller's ownership. Not with the lock held. */
void server_call_fail(ServerCall *call, const Error *error);

/* Asks to be told when the callers of those in Axon.fresh go away; they leave the list. Not with the lock held. */
void server_calls_watch(Axon *axon);

/* Cancels those that were answered before this time, and whose answers haven't been read yet. Not with the lock held.
 */
void server_calls_give_up(Axon *axon, uint64_t answered_before_ns);

/* With the lock held: no longer in Axon.fresh, if it was. */
void server_call_unlist(ServerCall *call);

/* The calls that are kept to be used again. */
void server_calls_free(Axon *axon);

/* --- request.c --- */

/* Checks a Forward's or Backward's message and fills what the handler sees. */
Status server_call_decode(ServerCall *call, Error *error);

/* --- network.c --- */

/* Drives doors until the axon ends. */
void *axon_network(void *axon);

/* --- somas.c --- */

/* With the lock held: the one with this key, or the only one for "". NULL with *error filled. */
Served *axon_find(Axon *axon, const char *key, Error *error);

/* Refuses those that wait for a soma (NULL: for any). Not with the lock held. */
void axon_refuse_waiting(Axon *axon, const Served *served, const Error *error);
