/* A client with as many calls out at once as a test likes, from as many callers (neuron keys), over one connection. All
 * on the test's thread: calls go out when they are sent, and what came back is seen by crowd_wait. */
#pragma once

#include "net/stub.h"
#include "rpc/unary.h"

typedef struct CrowdCall {
    UnaryCall unary;
    char key[KEY_SIZE]; /* of the caller */
    bool done;
    Status status;
    Error error;
    int order;        /* how many were done before */
    uint64_t version; /* of the weights, as the answer says; 0: none */
    grpc_metadata sent_version;
} CrowdCall;

enum { CROWD_CALLS = 1024 };

typedef struct Crowd {
    grpc_channel *channel;
    grpc_completion_queue *queue;
    void *forward, *backward;
    int count, done;
    CrowdCall calls[CROWD_CALLS];
} Crowd;

Crowd *crowd_create(const Axon *axon);
void crowd_destroy(Crowd *crowd); /* after crowd_wait */

/* `count` Forward calls of `input` to "soma"; the index of the first. */
int crowd_send(Crowd *crowd, const char *key, int count, const Tensor *input, uint64_t deadline_ns);

/* One Backward call; version 0: doesn't say. */
int crowd_send_backward(Crowd *crowd, const char *key, const Tensor *input, const Tensor *gradient, uint64_t version);

void crowd_cancel(Crowd *crowd, int first, int count);

/* Until all calls are done, or `count` of them. */
void crowd_wait(Crowd *crowd, int count);

/* How many of the calls first..first + count - 1 are done with this status. */
int crowd_count(const Crowd *crowd, int first, int count, Status status);
