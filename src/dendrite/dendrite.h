/* The dendrite: a gRPC client that asks many peers at once, and masks those that fail or are late.
 *
 * A step:  dendrite_forward (returns at once) -> compute something meanwhile -> dendrite_wait (at most until the
 * deadline) -> dendrite_backward (returns at once, fire and forget) -> dendrite_release.
 *
 * Threads: one dendrite thread drives all calls. The functions may be called from any thread; one DendriteCall belongs
 * to one thread at a time. Nothing is written into the caller's memory but inside dendrite_wait.
 *
 * A peer that is down fails at once and is then left alone for a while (0.25 s, doubling up to 10 s, with jitter; after
 * the first failure to connect, or the third timeout in a row): meanwhile it is masked without a call. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/status.h"
#include "tensor/tensor.h"
#include "wire/modality.h"
#include "wire/peer.h"

enum { NETWORK_DIM = 512 }; /* features of every answer in the network */

typedef struct Dendrite Dendrite;
typedef struct DendriteCall DendriteCall; /* one question to all peers */

/* Why an answer is missing. */
typedef enum DendriteFailure {
    DENDRITE_TIMEOUT,     /* no answer before the deadline */
    DENDRITE_UNAVAILABLE, /* no connection */
    DENDRITE_BACKING_OFF, /* not asked, since it failed lately */
    DENDRITE_REFUSED,     /* any other gRPC status */
    DENDRITE_EMPTY,       /* OK without a tensor: what a neuron of the reference says when it failed */
    DENDRITE_MALFORMED,   /* not a message, or a tensor whose buffer and shape don't match, or not of floats */
    DENDRITE_WRONG_SHAPE, /* not [batch, seq, 512] */
    DENDRITE_NOT_FINITE,  /* NaN or infinity inside */
    DENDRITE_FAILURES,
} DendriteFailure;

const char *dendrite_failure_name(DendriteFailure failure); /* "timeout", "unavailable", ... */

typedef struct DendriteOptions {
    const char *neuron_key;    /* our own; goes into every request */
    uint64_t deadline_ns;      /* of each call; 0: 1 s */
    size_t max_message_bytes;  /* of a request or an answer; 0: RPC_MESSAGE_BYTES (64 MiB) */
    size_t max_backward_calls; /* in flight at once, more are dropped and counted; 0: 8 a peer */
    Clock clock;               /* for latencies and back-off; zeroed: clock_monotonic() */
    uint64_t seed;             /* of the back-off's jitter */
} DendriteOptions;

/* One channel a peer; nothing is connected yet. Copies what it is given. No peers is fine: every call is done at once.
 */
Status dendrite_create(const DendriteOptions *options, const Peer *peers, size_t count, Dendrite **out, Error *error);

/* Cancels what is in flight. Every DendriteCall must have been released. NULL is fine. */
void dendrite_destroy(Dendrite *dendrite);

size_t dendrite_count(const Dendrite *dendrite);

/* Sends `input` (dtype and rank of its modality, see wire/modality.h; f32, f64, i32 or i64) to every peer. The bytes
 * are copied once, and all calls share that copy: `input` may be changed as soon as this returns. Fails only on an
 * input that can't be sent (INVALID_ARGUMENT), one beyond max_message_bytes, or lack of memory; peers that can't be
 * asked show in dendrite_wait. */
Status dendrite_forward(Dendrite *dendrite, const Tensor *input, Modality modality, DendriteCall **call, Error *error);

/* Returns when every peer has answered or failed, or when the deadline has passed; late calls are cancelled.
 *   answers  [peers, batch, seq, 512]  rows of a peer that failed are zeros
 *   arrived  [peers]                   1 or 0
 * An answer is f32 (or f64, narrowed), of shape [batch, seq, 512], and finite, or it counts as a failure. Returns how
 * many arrived. Once a call. */
size_t dendrite_wait(DendriteCall *call, float *answers, uint8_t *arrived);

/* Sends the gradient of the caller's loss with respect to each peer's answer, with the input of `call` (still held, not
 * copied again), to the peers with mask[p] != 0 that aren't being backed off from. Returns at once; how it went shows
 * in the statistics. gradients  [peers, batch, seq, 512]  copied mask       [peers]                   usually `arrived`
 * A peer's gradient that isn't finite isn't sent; it and calls beyond max_backward_calls count as dropped. */
Status dendrite_backward(Dendrite *dendrite, DendriteCall *call, const float *gradients, const uint8_t *mask,
                         Error *error);

/* Ends a call, at any time after dendrite_forward; what is still in flight is cancelled. NULL is fine. */
void dendrite_release(DendriteCall *call);

typedef struct DendriteStats {
    uint64_t forwards, backwards;                                    /* answered well */
    uint64_t forward_failures[DENDRITE_FAILURES];                    /* by kind */
    uint64_t backward_failures[DENDRITE_FAILURES], backward_dropped; /* sent and failed; not sent */
    uint64_t bytes_out, bytes_in;                                    /* of messages */
    double mean_latency_s;                                           /* of good Forward answers; 0 before the first */
} DendriteStats;

void dendrite_stats(Dendrite *dendrite, size_t peer, DendriteStats *out);

/* The last failure's sentence of a peer, "" when there was none; its status is returned. */
Status dendrite_last_failure(Dendrite *dendrite, size_t peer, Error *out);

/* Waits until no Backward call is in flight, at most `timeout_ns`; returns how many still are. For a clean end, and
 * tests. */
size_t dendrite_drain(Dendrite *dendrite, uint64_t timeout_ns);

/* --- one request, as `neuron call` makes it; blocks ---
 * The answer is returned as it came: f32, f64, i32 or i64, of any shape, finite or not; tensor_destroy it. *latency_ns
 * (may be NULL) includes the connection. Fails with the peer's status and sentence; OK without a tensor is UNKNOWN, a
 * malformed answer DATA_LOSS. Of `options`, neuron_key, deadline_ns and max_message_bytes count. */
Status dendrite_call_forward(const DendriteOptions *options, const Peer *peer, const Tensor *input, Modality modality,
                             Tensor *answer, uint64_t *latency_ns, Error *error);
Status dendrite_call_backward(const DendriteOptions *options, const Peer *peer, const Tensor *input, Modality modality,
                              const Tensor *gradient, Tensor *input_gradient, uint64_t *latency_ns, Error *error);
