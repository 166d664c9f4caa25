/* The axon: a gRPC server that answers /Bittensor/Forward and /Bittensor/Backward of the somas it serves, and the calls
 * that go with being a server: grpc.health.v1, server reflection, and whatever axon_method adds.
 *
 * A request's header is checked as it arrives; its tensors stay in gRPC's memory until the handler reads them, with one
 * copy, to where it computes. Requests wait in a bounded queue, in a line for each caller; callers take turns. Forward
 * requests that may share a batch are handed to the handler together; a batch is closed by size, by time, by the
 * deadline of one of its calls, or because nothing else waits and the handler is free (AxonCounters says how often).
 *
 * Connections that only cost (floods of frames, of calls that are taken back, of messages that are refused; silence)
 * are shut, so that the others don't wait for them (axon/guard.h).
 *
 * Threads: `threads` network threads, the gate's, which accepts, and its ushers (axon/ushers.h). A handler runs on
 * whichever of them finds a batch ready and no handler running: at most one runs at any time, and another thread takes
 * calls in meanwhile (with one thread, nobody does). Every function here may be called from any thread, except that
 * stop, drain, destroy, serve and withdraw must not be called from a handler.
 *
 * What a caller gets: a tensor, or a gRPC status with a sentence; never OK without a tensor. Bad messages are
 * INVALID_ARGUMENT, an unknown synapse key NOT_FOUND, a full queue or a message beyond the limit RESOURCE_EXHAUSTED, an
 * unknown method UNIMPLEMENTED, a neuron that is about to end UNAVAILABLE, and a handler's failure whatever status the
 * handler gave. A call whose deadline has passed or whose caller is gone is dropped before its handler runs, and gives
 * its memory back at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/status.h"
#include "tensor/tensor.h"
#include "wire/modality.h"

typedef struct Axon Axon;

/* A request in the hands of a handler. The input has the rank of its modality and no dimension below 1: image
 * [batch, seq, channels, rows, cols], text [batch, seq], tensor [batch, seq, features]. Values are not checked: NaN
 * pixels and ids beyond the vocabulary are the handler's to refuse. */
typedef struct AxonRequest {
    Modality modality;
    Shape shape;          /* of the input */
    Shape gradient_shape; /* of Backward's gradient; that it is the answer's is the handler's to check */
    uint64_t caller;      /* the same number for the same caller */
    bool has_version;
    uint64_t version; /* Backward: of the weights that gave the answer, if the caller says so (wire/metadata.h) */
} AxonRequest;

/* Copies `count` elements of the input from element `first` on to `to`: f32 for images and tensors (f64 is narrowed),
 * i64 for text (i32 is widened). */
void axon_read_input(const AxonRequest *request, size_t first, size_t count, void *to);
/* The same of a Backward's gradient, as f32 (f64 is narrowed); not yet checked to be finite. */
void axon_read_gradient(const AxonRequest *request, size_t first, size_t count, float *to);

/* Each request that a handler was given goes to one of these, once, before the handler returns; it must not be touched
 * afterwards. axon_answer takes *answer over (made with tensor_create, f32; normally [batch, seq, 512]) and sends its
 * bytes by reference; `version` (NULL: there are no weights) goes with it. The handler has checked that it is finite.
 */
void axon_answer(AxonRequest *request, Tensor *answer, const uint64_t *version);
void axon_fail(AxonRequest *request, const Error *error);

/* What answers for one soma. */
typedef struct AxonHandler {
    void *context;
    int64_t batch_rows;     /* most rows (batch times seq) that requests are joined to; 0: each alone */
    uint64_t batch_wait_ns; /* how long the first request of a batch may wait for company; 0: never */

    /* `count` requests of one modality, equal in all dimensions beyond seq; a request with more rows than batch_rows
     * comes alone. */
    void (*forward)(void *context, AxonRequest *const *requests, size_t count);

    /* Answers with the gradient with respect to the input: of the input's shape, or a zero of shape [1, 1] where the
     * input is of integers. NULL: UNIMPLEMENTED. */
    void (*backward)(void *context, AxonRequest *request);
} AxonHandler;

typedef struct AxonOptions {
    const char *listen;       /* "HOST:PORT", "[v6]:PORT"; port 0: any free one */
    const char *neuron_key;   /* goes into every answer */
    size_t max_message_bytes; /* of a request or an answer; 0: RPC_MESSAGE_BYTES (64 MiB) */
    size_t queue_capacity;    /* requests that may wait; 0: 1024. One caller may fill as much as it leaves free */
    size_t queue_bytes;       /* bytes of requests that may wait; 0: 4 * max_message_bytes */
    int threads;              /* network threads; 0: 2 */
    double share;             /* of the machine's core time that answering may take, over some 100 ms; 0 or >= 1: no
                                 limit. Core time: the cores times the time that has passed (axon/share.h) */
    int handler_threads;      /* threads that a handler computes on, for the share; 0: 1 */
    size_t memory_bytes;      /* 0: 512 MiB. Of gRPC's buffers, messages that arrive and wait included: beyond it, gRPC
                                 closes idle connections, then calls that are still arriving. As much again of answers
                                 that their callers haven't read yet: beyond it, handlers wait, and answers that have
                                 lain for 2 s are given up */
} AxonOptions;

/* Listens and answers at once (with NOT_FOUND until axon_serve). A port that somebody else listens on is an error
 * (FAILED_PRECONDITION), as is an address that is not this host's (the sentence says which). Copies what `options`
 * points at. */
Status axon_start(const AxonOptions *options, Axon **out, Error *error);

int axon_port(const Axon *axon);
const char *axon_address(const Axon *axon); /* "127.0.0.1:40123": the host as given, the port as bound */

/* Serves a soma under a key (any text of 1..256 bytes), in place of the one that had this key. Waits for a handler that
 * is running, so that the old one's context may be freed afterwards. At most 64 somas: RESOURCE_EXHAUSTED. A request
 * with an empty key means the only soma served; with several served it is INVALID_ARGUMENT. */
Status axon_serve(Axon *axon, const char *synapse_key, AxonHandler handler, Error *error);

/* Stops serving a key; waits as axon_serve does. NOT_FOUND when it wasn't served. */
Status axon_withdraw(Axon *axon, const char *synapse_key, Error *error);

/* A unary method of bytes, "/neuron.Neuron/Peers", that `answer` answers on a network thread; it must be quick. *out is
 * malloc'ed, the axon frees it. gRPC wants to know all methods before the server starts. */
typedef struct AxonMethod {
    const char *path;
    Status (*answer)(void *context, const uint8_t *bytes, size_t size, uint8_t **out, size_t *out_size, Error *error);
    void *context;
} AxonMethod;
Status axon_start_with_methods(const AxonOptions *options, const AxonMethod *methods, size_t count, Axon **out,
                               Error *error);

/* What grpc.health.v1 says of a service: "" the node, "Bittensor" likewise, or a synapse key (SERVING from axon_serve
 * on). Watchers are told at once. */
void axon_health_set(Axon *axon, const char *service, bool serving);

typedef enum BatchClosing {
    CLOSED_BY_SIZE,
    CLOSED_BY_TIME,
    CLOSED_BY_DEADLINE,
    CLOSED_BY_IDLE,
    BATCH_CLOSINGS
} BatchClosing;
const char *batch_closing_name(BatchClosing closing); /* "size", "time", "deadline", "idle" */

/* Why a connection was shut (axon/guard.h). */
typedef enum ConnectionEnd {
    CONNECTION_STAYS,
    CONNECTION_SILENT,        /* no request in time */
    CONNECTION_SLOW,          /* a request that arrives at a snail's pace */
    CONNECTION_USELESS_CALLS, /* taken back, without a message, unreadable, or answers that aren't fetched */
    CONNECTION_USELESS_BYTES, /* of messages that are refused */
    CONNECTION_USELESS_WORK,  /* of anything that takes time and isn't a request */
    CONNECTION_CROWD,         /* too many, in all or of one host, or no descriptor left */
    CONNECTION_ENDS
} ConnectionEnd;
const char *connection_end_name(ConnectionEnd end); /* "silent", "useless calls"; "stays" */

typedef struct AxonCounters {
    uint64_t calls;               /* Forward and Backward calls that arrived, and those of unknown methods */
    uint64_t forwards, backwards; /* answered with a tensor */
    uint64_t
        failures[STATUS_UNAUTHENTICATED + 1]; /* by the status sent; dropped calls are CANCELLED, DEADLINE_EXCEEDED */
    uint64_t bytes_in, bytes_out;             /* of messages */
    uint64_t batches[BATCH_CLOSINGS];         /* of Forward, by why they were closed */
    uint64_t batched_calls, batched_rows;     /* in them */
    uint64_t handler_ns;                      /* time spent in handlers */
    uint64_t paused_ns;                       /* time for which `share` held handlers back while calls waited */
    uint64_t waiting;                         /* in the queue at this moment */
    uint64_t in_flight;                       /* accepted and not yet answered, those waiting included */
    uint64_t connections;                     /* at this moment */
    uint64_t connections_taken;               /* since the start */
    uint64_t connections_shut[CONNECTION_ENDS];
} AxonCounters;

void axon_counters(const Axon *axon, AxonCounters *out);

/* As AxonOptions.share, from now on; what is owed is forgotten. */
void axon_set_share(Axon *axon, double share);

/* Health says NOT_SERVING, new calls get UNAVAILABLE, and those in flight are answered: returns true when all are,
 * false after `timeout_ns`. */
bool axon_drain(Axon *axon, uint64_t timeout_ns);

/* Drains for up to `grace_ns`, cancels the rest, and returns when no handler runs any more. A second call returns at
 * once. */
void axon_stop(Axon *axon, uint64_t grace_ns);

/* Stops without grace if axon_stop wasn't called. NULL is fine. */
void axon_destroy(Axon *axon);
