/* A load generator: many calls to one neuron, as fast as it answers or at a given rate, with every answer checked.
 *
 * Closed loop (rate 0): `concurrency` clients, each of which sends its next call when its last one was answered. A
 * latency counts from when the call was sent.
 * Open loop (rate > 0): calls are due at random times (exponential gaps, so that they come as those of many clients who
 * don't know of each other), whatever comes back. A latency counts from when the call was due, not from when it was
 * sent: a server that stalls is charged for the calls that had to wait meanwhile too, which a generator that waits with
 * it would never send ("coordinated omission", G. Tene). At most `concurrency` calls are out at once; those that were
 * due and could not be sent before the end are counted (LoadResult.unsent).
 *
 * The first `warm_ns` are not counted in calls and latencies; failures are counted from the first call to the last.
 *
 * It costs little itself, since it runs on the machine that it measures: the requests are encoded once, and sent by
 * reference; answers are compared where they lie in gRPC's memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/status.h"
#include "tensor/tensor.h"
#include "wire/modality.h"
#include "wire/peer.h"

/* One question, and what its answer must be. The calls take the cases in turn, so that an answer that belongs to
 * another caller is found. Everything is borrowed. */
typedef struct LoadCase {
    const Tensor *input;    /* dtype and rank of the modality */
    const Tensor *gradient; /* f32: the call is Backward; NULL: Forward */
    Shape answer;           /* its shape; its dtype must be f32 */
    const Tensor *expected; /* f32 of that shape; NULL: any finite values */
} LoadCase;

typedef struct LoadOptions {
    Peer peer;
    const char *neuron_key;
    Modality modality;
    const LoadCase *cases; /* at least one */
    size_t case_count;
    double tolerance; /* |answer - expected| <= tolerance * |expected| (Euclidean norms); 0: the very same bytes */

    size_t concurrency; /* 0: 1 */
    double rate;        /* calls a second; 0: closed loop */
    size_t channels;    /* connections that the clients share; 0: 1 */
    size_t threads;     /* each with a completion queue and its part of clients, channels and rate; 0: 1 */
    uint64_t warm_ns, duration_ns;
    uint64_t deadline_ns;     /* of each call; 0: none */
    size_t max_message_bytes; /* 0: RPC_MESSAGE_BYTES */
    uint64_t seed;            /* of the gaps */
    bool (*stop)(void);       /* asked after every call: whether to end early; may be NULL */
} LoadOptions;

typedef struct LoadResult {
    uint64_t calls;    /* answered right in the time that counts: [warm_ns, warm_ns + duration_ns) */
    uint64_t answered; /* right, from the first call to the last */
    double seconds;    /* of that time, from the first of them to the last */
    double calls_per_second;
    double megabytes_per_second_sent, megabytes_per_second_received; /* 10^6 bytes of tensors */
    Histogram latency;                                               /* ns; open loop: of calls due in that time */
    uint64_t failures[STATUS_UNAUTHENTICATED + 1];                   /* by gRPC's status */
    uint64_t wrong;  /* OK, but not a tensor of the expected shape and values */
    uint64_t unsent; /* open loop: due, and never sent */
    Error first;     /* what the first failure or wrong answer said; OK: there was none */
} LoadResult;

/* Runs to the end, and then until every call is over. Fails only where it can't begin (an input beyond the limit, no
 * memory, no threads); calls that fail are counted. */
Status load_run(const LoadOptions *options, LoadResult *out, Error *error);

/* All failures and wrong answers, not those that were never sent. */
uint64_t load_failed(const LoadResult *result);
