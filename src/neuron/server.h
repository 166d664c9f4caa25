/* A soma as the axon serves it: answers Forward and Backward in evaluation mode, from a snapshot of the weights that
 * the learner publishes.
 *
 * Threads: the axon's worker calls the handler; the learner's thread calls publish and take. One lock guards the
 * snapshot and the plans; it is held for one request, or for one copy of the weights. The server has a backend of its
 * own, so that answering and learning each keep to the cores they were given. */
#pragma once

#include "axon/axon.h"
#include "backend/backend.h"
#include "models/soma.h"
#include "train/trainer.h"

typedef struct SomaServer SomaServer;

typedef struct SomaServerOptions {
    const Soma *soma;
    const char *device;
    int threads;
    bool fold;  /* fold linear layers */
    bool learn; /* keep the parameters' gradients of Backward calls for server_take_gradients */
} SomaServerOptions;

/* The weights are those of `from`. */
Status server_create(const SomaServerOptions *options, const Variables *from, SomaServer **out, Error *error);
/* The axon must have stopped. */
void server_destroy(SomaServer *server);

AxonHandler server_handler(SomaServer *server);

/* Answers come from these weights from now on. `from` belongs to any backend. */
Status server_publish(SomaServer *server, const Variables *from, Error *error);

/* Hands the gradients that came since the last time to the trainer's next step. *count: Backward calls that they sum.
 */
Status server_take_gradients(SomaServer *server, Trainer *trainer, int64_t *count, Error *error);

/* Backward calls whose gradient was not finite, and so was not learnt from. */
int64_t server_rejected_gradients(SomaServer *server);
