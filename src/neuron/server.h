/* A soma as the axon serves it: answers Forward and Backward in evaluation mode, from a snapshot of the weights that
 * the learner publishes.
 *
 * Forward requests that come together are computed together: each is read into the input of a plan whose size is a
 * power of two, and answered from its own rows of the output. A request with a value that isn't finite fails alone.
 *
 * Threads: one of the axon's threads at a time calls the handler; the learner's thread calls publish and take, which
 * never wait for a handler (snapshot.h, gradient_sums.h). The server has a backend of its own, so that answering and
 * learning each keep to the cores they were given. */
#pragma once

#include "axon/axon.h"
#include "backend/backend.h"
#include "models/soma.h"
#include "neuron/gradient_queue.h"
#include "neuron/gradient_sums.h"
#include "train/trainer.h"

typedef struct SomaServer SomaServer;

typedef struct SomaServerOptions {
    const Soma *soma;
    const char *device;
    Precision precision;
    int threads;
    bool fold;  /* fold linear layers */
    bool learn; /* keep the parameters' gradients of Backward calls for server_take_gradients */
    GradientLimits gradients;
    int64_t batch_rows; /* as AxonHandler says; at most 256 */
    uint64_t batch_wait_ns;
    size_t max_answer_bytes; /* of an answer's values; 0: RPC_MESSAGE_BYTES */
    /* The device is lost (DATA_LOSS), and every answer will fail from now on: called for each, by the handler's thread.
     * NULL: nobody wants to know. */
    void (*lost)(void *context, const Error *error);
    void *lost_context;
} SomaServerOptions;

/* The weights are those of `from`, of version 0. Plans for every size of batch of the soma's usual images are made
 * here. */
Status server_create(const SomaServerOptions *options, const Variables *from, SomaServer **out, Error *error);
/* The axon must have stopped. */
void server_destroy(SomaServer *server);

AxonHandler server_handler(SomaServer *server);
int server_threads(const SomaServer *server); /* that the handler computes on */

/* Answers come from these weights, and carry this version (own steps done), from the next batch on. `from` belongs to
 * any backend. Takes as long as one copy of the parameters, whatever the handler does; the last one is never lost. */
Status server_publish(SomaServer *server, const Variables *from, uint64_t version, Error *error);

/* Hands gradients that came since the last time to the trainer's next step: at most once a step. *count: how many
 * Backward calls they sum (one of more than 256 rows counts once for each 256). 0 as well when one is being summed at
 * this moment: then there is something the next time. Once the axon has stopped, two calls with a step after each take
 * all. */
Status server_take_gradients(SomaServer *server, Trainer *trainer, int64_t *count, Error *error);

void server_gradient_counts(SomaServer *server, GradientCounts *out);
