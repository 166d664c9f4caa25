/* Which gradients from peers are learnt from: the policy, without the arithmetic. A gradient that is admitted is
 * computed and summed by the server (gradient_sums.h); the sum waits until the learner takes it between two of its own
 * steps. No I/O, no lock, no clock; bounded by `capacity`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct GradientLimits {
    uint64_t max_staleness; /* own steps since the weights that gave the answer */
    size_t capacity;        /* gradients that may wait for one own step */
    size_t budget;          /* of one caller among them */
    float clip;             /* norm that each is clipped to */
} GradientLimits;

typedef enum GradientRefusal {
    GRADIENT_STALE,       /* older than max_staleness, or of weights that this neuron never had */
    GRADIENT_OVER_BUDGET, /* the caller's share of the queue is full */
    GRADIENT_QUEUE_FULL,
    GRADIENT_NOT_FINITE, /* as it came, or what became of it */
    GRADIENT_REFUSALS,
} GradientRefusal;

const char *gradient_refusal_name(GradientRefusal refusal); /* "stale", "over budget", "queue full", "not finite" */

typedef struct GradientQueue GradientQueue;

/* Callers are told apart by a number; the version of the weights that gave the answer is known if the caller said so.
 */
typedef struct GradientStamp {
    uint64_t caller;
    bool has_version;
    uint64_t version;
} GradientStamp;

Status gradient_queue_create(const GradientLimits *limits, GradientQueue **out, Error *error);
void gradient_queue_destroy(GradientQueue *queue);

/* Takes a place in the queue, and one of the caller's; or says why not in *refusal, and counts it. `now` is the version
 * of the weights that answer at present. A gradient without a version is of any age. */
bool gradient_queue_admit(GradientQueue *queue, const GradientStamp *stamp, uint64_t now, GradientRefusal *refusal);

/* Gives the places of an admitted gradient back, which nothing could be learnt from. `not_finite`: because of its
 * values, which is counted. */
void gradient_queue_withdraw(GradientQueue *queue, uint64_t caller, bool not_finite);

/* The sum goes to a step of one's own: every place is free again. Returns how many gradients it sums. */
size_t gradient_queue_take(GradientQueue *queue);

size_t gradient_queue_waiting(const GradientQueue *queue);
uint64_t gradient_queue_refused(const GradientQueue *queue, GradientRefusal refusal);
