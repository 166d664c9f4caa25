/* Inside the dendrite room. One lock guards everything that changes; it is never held while a tensor's bytes are
 * copied, checked or handed to gRPC. */
#pragma once

#include "base/histogram.h"
#include "base/rng.h"
#include "dendrite/channel.h"
#include "dendrite/dendrite.h"
#include "dendrite/link.h"
#include "rpc/unary.h"

typedef struct Gradient Gradient;

struct Dendrite {
    /* Constant after dendrite_create. */
    char neuron_key[KEY_SIZE];
    uint64_t deadline_ns;
    size_t max_message_bytes, memory_bytes, count;
    Clock clock;
    grpc_completion_queue *completions;
    pthread_t thread;

    pthread_mutex_t lock; /* guards all below, and the slots of every DendriteCall */
    Rng jitter;
    Channel *channels;   /* a list, one an address */
    size_t in_flight;    /* bytes, as memory_bytes counts them */
    size_t outstanding;  /* calls of every kind that gRPC has, or that are being sent again */
    bool ending;         /* nothing new is started */
    Gradient *gradients; /* Backward calls in flight, a list */
    size_t gradient_count;
    pthread_cond_t changed; /* a question's slot, or outstanding or gradient_count fell to 0 */
    Link links[];
};

typedef enum SlotState {
    SLOT_FAILED,    /* never sent, or failed; counted and cleared already */
    SLOT_PENDING,   /* gRPC has it */
    SLOT_RETRYING,  /* the dendrite thread is about to give it to gRPC once more */
    SLOT_DONE,      /* answered, not looked at */
    SLOT_TAKEN,     /* looked at, and cleared */
    SLOT_ABANDONED, /* gRPC has it (or will in a moment), and nobody waits for it */
} SlotState;

/* One peer's part of a question. */
typedef struct Slot Slot;
struct Slot {
    UnaryCall unary; /* first, so that a unary call is its slot */
    DendriteCall *call;
    SlotState state;
    Ticket ticket;
    Channel *channel; /* referenced while gRPC has the call */
    bool retried;
    size_t charged; /* bytes of the room taken */
    uint64_t latency_ns;
    bool has_version;
    uint64_t version; /* of the weights that gave the answer */
};

/* A question. Its input, and so the whole of it, stays until nothing refers to it any more. */
struct DendriteCall {
    Dendrite *dendrite;
    size_t references; /* the caller's, one a slot that gRPC has, one a Backward call; guarded by the dendrite's lock */
    size_t pending;
    size_t charged;           /* for the input, from the first peer that it was sent to */
    struct timespec deadline; /* CLOCK_MONOTONIC */
    gpr_timespec grpc_deadline;
    uint64_t begun;
    uint64_t latency_ns; /* of the last good answer */
    size_t answer_bytes; /* of a peer's answer as floats */
    Shape answer_shape;  /* [batch, seq, 512] */
    Tensor input;        /* looks into `payload` */
    Modality modality;
    grpc_slice payload;
    Slot slots[];
};

/* --- dendrite.c; the first three with the lock held --- */

bool room_take(Dendrite *dendrite, size_t bytes, Error *error); /* RESOURCE_EXHAUSTED: memory_bytes are in flight */
void room_give(Dendrite *dendrite, size_t bytes);
void outstanding_ended(Dendrite *dendrite);

void init_condition(pthread_cond_t *condition);   /* on CLOCK_MONOTONIC */
struct timespec dendrite_time_after(uint64_t ns); /* on CLOCK_MONOTONIC */

/* --- question.c; with the lock held --- */

/* True when the last reference went: call_free it, without the lock. */
bool call_unref(DendriteCall *call);
void call_free(DendriteCall *call);

/* --- gradient.c --- */

void gradients_cancel(Dendrite *dendrite); /* with the lock held; they come back on the dendrite thread */

/* --- answer.c: messages out and in; no lock needed --- */

/* INVALID_ARGUMENT when a peer would refuse the input by its rank, dtype or size. */
Status input_check(const Tensor *input, Modality modality, size_t max_message_bytes, Error *error);

/* A request of at most `own_limit` and `peer_limit` bytes (0: not known). NULL with *kind and *error filled. */
grpc_byte_buffer *request_message(const char *neuron_key, const char *synapse_key, const MessageTensor *tensors,
                                  const grpc_slice *payloads, size_t count, size_t own_limit, uint64_t peer_limit,
                                  DendriteFailure *kind, Error *error);

/* Whether a call that is done came back OK, with no more bytes than `most`. False with *kind and *error filled. */
bool answer_came(const UnaryCall *call, size_t most, DendriteFailure *kind, Error *error);

/* The answer of a call that is done, checked, to out[shape]; `key` is the sender's, "" if it doesn't say. False with
 * *kind and *error filled. */
bool answer_read(const UnaryCall *call, Shape shape, float *out, char key[KEY_SIZE], DendriteFailure *kind,
                 Error *error);

/* Whether a Backward call that is done brought a well-formed tensor back. */
bool answer_acknowledges(const UnaryCall *call, char key[KEY_SIZE], DendriteFailure *kind, Error *error);

/* The answer's first tensor as it came. The kind tells EMPTY from MALFORMED. */
bool answer_take(const UnaryCall *call, Tensor *out, DendriteFailure *kind, Error *error);
