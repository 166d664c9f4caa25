/* Gradients of the parameters that peers have sent, on their way from the server, which sums them, to the learner,
 * which takes the sum between two of its own steps.
 *
 * Each gradient is summed in the states "<parameter>.peer" of the server's variables. The learner takes the sum from
 * there while nothing is being added; else it leaves a wish, and the server, once it has finished adding, sets the sum
 * aside for the learner to take next time. So the learner never waits for the server, and under any load gets every sum
 * at its second try at the latest.
 *
 * Threads: one admits and adds, one takes; counts may be asked for by any. */
#pragma once

#include "backend/backend.h"
#include "neuron/gradient_queue.h"
#include "train/trainer.h"

typedef struct GradientSums GradientSums;

/* `sums` are the server's variables, which have all their states already and outlive this. */
Status gradient_sums_create(Backend *backend, const GradientLimits *limits, Variables *sums, GradientSums **out,
                            Error *error);
void gradient_sums_destroy(GradientSums *sums);

/* True: the gradient may be added to the sum, until gradient_sums_end. `now` as in gradient_queue_admit. */
bool gradient_sums_begin(GradientSums *sums, const GradientStamp *stamp, uint64_t now);

typedef enum GradientOutcome { GRADIENT_ADDED, GRADIENT_WAS_NOT_FINITE, GRADIENT_GIVEN_UP } GradientOutcome;
/* What became of it: nothing was added, or all of it. */
Status gradient_sums_end(GradientSums *sums, const GradientStamp *stamp, GradientOutcome outcome, Error *error);

/* Hands a sum to the trainer's next step. *count: how many gradients it sums; 0: none. */
Status gradient_sums_take(GradientSums *sums, Trainer *trainer, int64_t *count, Error *error);

typedef struct GradientCounts {
    uint64_t learnt;                     /* taken by the trainer */
    uint64_t refused[GRADIENT_REFUSALS]; /* answered (where the input's gradient is finite), but not learnt from */
    uint64_t waiting;
    uint64_t version; /* of the weights that answer now */
} GradientCounts;

/* All but the version. */
void gradient_sums_counts(GradientSums *sums, GradientCounts *out);
