/* The dendrite: a gRPC client that asks many peers at once, and masks those that fail or are late.
 *
 * A step:  dendrite_forward (returns at once) -> compute something meanwhile -> dendrite_wait (at most until the
 * deadline) -> dendrite_backward (returns at once, fire and forget) -> dendrite_release.
 *
 * Many steps may be on their way at once: inputs are known ahead, so calls go out ahead (neuron/ahead.h decides how
 * far), and a peer's latency costs no throughput.
 *
 * Threads: one dendrite thread drives all calls. The functions may be called from any thread; one DendriteCall belongs
 * to one thread at a time. Nothing is written into the caller's memory but inside dendrite_wait.
 *
 * A Forward call that finds its connection broken is sent once more if its deadline allows (Backward never: the peer
 * may have learnt already). A peer that is down fails at once and is then left alone for a while (0.25 s, doubling up
 * to 10 s, with jitter; after the first failure to connect, or the third timeout in a row): meanwhile it is masked
 * without a call. Then a single call goes out, for which nobody waits; the others follow when it was answered.
 *
 * Peers at the same address share a channel. On each new channel a Hello (proto/neuron.proto) asks for the peer's
 * message limit; a call beyond it isn't sent (DENDRITE_TOO_LARGE). A peer without Hello is one of the reference's: 4
 * MiB. */
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
    DENDRITE_TOO_LARGE,   /* not sent: beyond the peer's limit, or the answer would be beyond ours */
    DENDRITE_NO_ROOM,     /* not sent: memory_bytes are in flight already */
    DENDRITE_FAILURES,
} DendriteFailure;

const char *dendrite_failure_name(DendriteFailure failure); /* "timeout", "unavailable", ... */

typedef struct DendriteOptions {
    const char *neuron_key;   /* our own; goes into every request */
    uint64_t deadline_ns;     /* of each call; 0: 1 s */
    size_t max_message_bytes; /* of a request or an answer; 0: RPC_MESSAGE_BYTES (64 MiB) */
    size_t memory_bytes;      /* in flight: inputs (once, however many peers they go to, until nothing refers to them),
                                 gradients, and answers awaited or not yet looked at; 0: 512 MiB */
    Clock clock;              /* for latencies and back-off; zeroed: clock_monotonic() */
    uint64_t seed;            /* of the back-off's jitter */
} DendriteOptions;

/* One channel a peer; nothing is connected yet. Copies what it is given. No peers is fine: every call is done at once.
 */
Status dendrite_create(const DendriteOptions *options, const Peer *peers, size_t count, Dendrite **out, Error *error);

/* Cancels what is in flight. Every DendriteCall must have been released. NULL is fine. */
void dendrite_destroy(Dendrite *dendrite);

size_t dendrite_count(const Dendrite *dendrite);

/* The peer has moved, or another took its place (in routers' tables and statistics, which go on counting): calls from
 * now on go there, those in flight end where they are. The back-off ends. Gradients of answers from the old place are
 * dropped. */
Status dendrite_move(Dendrite *dendrite, size_t index, const Peer *peer, Error *error);

/* Sends `input` (dtype and rank of its modality, see wire/modality.h; f32, f64, i32 or i64) to every peer. Takes the
 * tensor over (it is left zeroed), also on failure: its bytes are sent by reference, to all peers and with Backward
 * again, and are never copied. So it must own them: a view is refused. Fails only on an input that can't be sent
 * (INVALID_ARGUMENT), one beyond
 * max_message_bytes, or lack of memory; peers that can't be asked show in dendrite_wait. */
Status dendrite_forward(Dendrite *dendrite, Tensor *input, Modality modality, DendriteCall **call, Error *error);

/* The input, to compute with; not to be changed. Valid until dendrite_release. */
const Tensor *dendrite_input(const DendriteCall *call);

/* Whether dendrite_wait would return at once. */
bool dendrite_settled(const DendriteCall *call);

/* How long the last answer took that wasn't late, from dendrite_forward on; known after dendrite_wait; 0 if none came.
 */
uint64_t dendrite_call_latency(const DendriteCall *call);

/* Returns when every peer that isn't left alone has answered or failed, or when the deadline has passed; late calls are
 * cancelled.
 *   answers  [peers, batch, seq, 512]  rows of a peer that failed are zeros
 *   arrived  [peers]                   1 or 0
 * An answer is f32 (or f64, narrowed), of shape [batch, seq, 512], and finite, or it counts as a failure. Returns how
 * many arrived. Once a call. */
size_t dendrite_wait(DendriteCall *call, float *answers, uint8_t *arrived);

/* Sends the gradient of the caller's loss with respect to each peer's answer, with the input of `call` (still held, not
 * copied again) and the weights' version that the answer came with, to the peers with mask[p] != 0 that aren't being
 * backed off from. Returns at once; how it went shows in the statistics.
 *   gradients  [peers, batch, seq, 512]  copied, since the caller computes on
 *   mask       [peers]                   usually `arrived`
 * A peer's gradient that isn't finite isn't sent; it and calls beyond memory_bytes count as dropped, those to a peer
 * that is left alone as failures of kind DENDRITE_BACKING_OFF. */
Status dendrite_backward(Dendrite *dendrite, DendriteCall *call, const float *gradients, const uint8_t *mask,
                         Error *error);

/* Ends a call, at any time after dendrite_forward; what is still in flight is cancelled. NULL is fine. */
void dendrite_release(DendriteCall *call);

/* What a dendrite thinks of a peer. */
typedef enum DendriteState { DENDRITE_UNASKED, DENDRITE_WELL, DENDRITE_PROBING, DENDRITE_LEFT_ALONE } DendriteState;
const char *dendrite_state_name(DendriteState state); /* "unasked", "well", "probing", "left alone" */

typedef struct DendriteStats {
    Peer peer;                 /* where it is now */
    char neuron_key[KEY_SIZE]; /* as its last message says; "" before */
    DendriteState state;
    uint64_t retries, in_flight;                  /* of Forward; calls of both kinds that are on their way */
    uint64_t latency_p50_ns, latency_p99_ns;      /* of good Forward answers; 0 before the first */
    uint64_t max_message_bytes;                   /* the peer's limit; 0: not known yet */
    uint64_t forwards, backwards;                 /* answered well */
    uint64_t forward_failures[DENDRITE_FAILURES]; /* by kind */
    uint64_t backward_failures[DENDRITE_FAILURES], backward_dropped; /* sent and failed; not sent */
    uint64_t bytes_out, bytes_in;                                    /* of messages */
    double mean_latency_s;                                           /* of good Forward answers; 0 before the first */
} DendriteStats;

void dendrite_stats(Dendrite *dendrite, size_t peer, DendriteStats *out);

/* The last failure's sentence of a peer, "" when there was none; its status is returned. */
Status dendrite_last_failure(Dendrite *dendrite, size_t peer, Error *out);

/* Bytes in flight at this moment, as memory_bytes counts them. */
size_t dendrite_in_flight_bytes(Dendrite *dendrite);

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

/* A unary method of bytes, "/neuron.Neuron/Peers". *out is malloc'ed. Of `options`, deadline_ns and max_message_bytes
 * count. */
Status dendrite_call_method(const DendriteOptions *options, const Peer *peer, const char *path, const uint8_t *bytes,
                            size_t size, uint8_t **out, size_t *out_size, Error *error);
