/* Inside the dendrite room. One lock guards everything that changes; it is never held while bytes are copied or
 * checked. */
#pragma once

#include "base/rng.h"
#include "dendrite/dendrite.h"
#include "rpc/unary.h"

typedef enum PeerMethod { PEER_FORWARD, PEER_BACKWARD, PEER_METHODS } PeerMethod;

/* --- link.c: one peer, its statistics and its back-off; all with the lock held --- */

typedef struct Link {
    Peer peer;
    grpc_channel *channel;
    void *methods[PEER_METHODS]; /* gRPC's handles */

    DendriteStats stats;
    double latency_sum_s;
    Error last;               /* the last failure; status OK: none yet */
    unsigned refusals_in_row; /* connections that weren't made */
    unsigned timeouts_in_row;
    uint64_t quiet_until; /* not asked before this time */
} Link;

bool link_is_quiet(const Link *link, uint64_t now);
void link_succeeded(Link *link, PeerMethod method, uint64_t latency_ns);
void link_failed(Link *link, PeerMethod method, DendriteFailure kind, const Error *why, uint64_t now, Rng *jitter);

/* --- dendrite.c --- */

typedef struct Gradient Gradient;

struct Dendrite {
    /* Constant after dendrite_create. */
    char neuron_key[KEY_SIZE];
    uint64_t deadline_ns;
    size_t max_message_bytes, max_backward_calls, count;
    Clock clock;
    grpc_completion_queue *completions;
    pthread_t thread;

    pthread_mutex_t lock; /* guards all below, and the slots of every DendriteCall */
    Rng jitter;
    Gradient *gradients; /* Backward calls in flight, a list */
    size_t gradient_count;
    pthread_cond_t gradients_changed;
    Link links[];
};

typedef enum SlotState {
    SLOT_FAILED,    /* never sent; counted already */
    SLOT_PENDING,   /* gRPC has it */
    SLOT_DONE,      /* back from gRPC, not looked at */
    SLOT_TAKEN,     /* looked at, and cleared */
    SLOT_ABANDONED, /* gRPC has it, and nobody waits for it */
} SlotState;

/* One peer's part of a question. */
typedef struct Slot {
    UnaryCall unary; /* first, so that a unary call is its slot */
    DendriteCall *call;
    SlotState state;
    uint64_t begun, latency_ns;
} Slot;

struct DendriteCall {
    Dendrite *dendrite;
    size_t references; /* the caller's, and one a slot that gRPC has; guarded by the dendrite's lock */
    size_t pending;
    pthread_cond_t changed;
    struct timespec deadline; /* CLOCK_MONOTONIC */
    Shape answer_shape;       /* [batch, seq, 512] */
    Tensor input;             /* looks into `payload` */
    Modality modality;
    grpc_slice payload;
    Slot slots[];
};

/* --- answer.c: messages out and in; no lock needed --- */

grpc_byte_buffer *request_message(const char *neuron_key, const char *synapse_key, const MessageTensor *tensors,
                                  const grpc_slice *payloads, size_t count, size_t limit, Error *error);

/* The answer of a call that is done, checked, to out[shape]. False with *kind and *error filled. */
bool answer_read(const UnaryCall *call, Shape shape, float *out, DendriteFailure *kind, Error *error);

/* Whether a Backward call that is done brought a well-formed tensor back. */
bool answer_acknowledges(const UnaryCall *call, DendriteFailure *kind, Error *error);

/* The answer's first tensor as it came. The kind tells EMPTY from MALFORMED. */
bool answer_take(const UnaryCall *call, Tensor *out, DendriteFailure *kind, Error *error);

/* INVALID_ARGUMENT when a peer would refuse the input by its rank, dtype or size. */
Status input_check(const Tensor *input, Modality modality, size_t max_message_bytes, Error *error);
