/* The axon: a gRPC server that answers /Bittensor/Forward and /Bittensor/Backward of the somas it serves.
 *
 * Threads: one network thread takes calls in, checks and decodes them; one worker thread runs the handlers, one call
 * after the other, fed by a bounded queue. Every function here may be called from any thread, except that stop,
 * destroy, serve and withdraw must not be called from a handler.
 *
 * What a caller gets: a tensor, or a gRPC status with a sentence; never OK without a tensor. Bad messages are
 * INVALID_ARGUMENT, an unknown synapse key NOT_FOUND, a full queue or a message beyond the limit RESOURCE_EXHAUSTED, an
 * unknown method UNIMPLEMENTED, and a handler's failure whatever status the handler returned. A call whose deadline has
 * passed or whose caller is gone is dropped before its handler runs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/status.h"
#include "tensor/tensor.h"
#include "wire/modality.h"

typedef struct Axon Axon;

/* What answers for one soma; runs on the worker thread. `input` is valid during the call only. It has the rank of its
 * modality and no dimension below 1: image f32 [batch, seq, channels, rows, cols], text i64 [batch, seq] (i32 is
 * widened), tensor f32 [batch, seq, features] (f64 is narrowed). Values are not checked: NaN pixels and ids beyond the
 * vocabulary are the handler's to refuse. */
typedef struct AxonHandler {
    void *context;

    /* Makes *answer with tensor_create, f32 (normally [batch, seq, 512]); the axon destroys it after sending, also when
     * the handler failed (it is zeroed before the call). An answer that is not finite is not sent: INTERNAL. */
    Status (*forward)(void *context, const Tensor *input, Modality modality, Tensor *answer, Error *error);

    /* `gradient` is f32 and finite; that its shape is the answer's is the handler's to check. *input_gradient as
     * *answer above: of the input's shape, or a zero of shape [1, 1] where the input is of integers. NULL:
     * UNIMPLEMENTED. */
    Status (*backward)(void *context, const Tensor *input, Modality modality, const Tensor *gradient,
                       Tensor *input_gradient, Error *error);
} AxonHandler;

typedef struct AxonOptions {
    const char *listen;       /* "HOST:PORT", "[v6]:PORT"; port 0: any free one */
    const char *neuron_key;   /* goes into every answer */
    size_t max_message_bytes; /* of a request or an answer; 0: RPC_MESSAGE_BYTES (64 MiB) */
    size_t queue_capacity;    /* calls waiting for the worker; 0: 256 */
    size_t queue_bytes;       /* bytes of tensors waiting for the worker; 0: 4 * max_message_bytes */
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

typedef struct AxonCounters {
    uint64_t calls;               /* all that arrived, of any method */
    uint64_t forwards, backwards; /* answered with a tensor */
    uint64_t
        failures[STATUS_UNAUTHENTICATED + 1]; /* by the status sent; dropped calls are CANCELLED, DEADLINE_EXCEEDED */
    uint64_t bytes_in, bytes_out;             /* of messages */
    uint64_t handler_ns;                      /* time spent in handlers */
    uint64_t waiting;                         /* in the queue at this moment */
} AxonCounters;

void axon_counters(const Axon *axon, AxonCounters *out);

/* Refuses new calls, answers those in flight for up to `grace_ns`, cancels the rest, and returns when no handler runs
 * any more. A second call returns at once. */
void axon_stop(Axon *axon, uint64_t grace_ns);

/* Stops without grace if axon_stop wasn't called. NULL is fine. */
void axon_destroy(Axon *axon);
