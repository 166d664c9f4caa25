/* What survives a device: a copy of everything that a run saves, in the host's memory, taken now and then while it
 * learns. Where variables live in the host's memory anyway there is nothing to take.
 *
 * One thread uses it. */
#pragma once

#include "train/checkpoint.h"

typedef struct Rescue {
    Variables *copy;  /* NULL: none was taken yet */
    Variables *other; /* what the next one is taken into, so that a device that is lost meanwhile costs neither */
    CheckpointValues values;
    int64_t step;
    uint64_t taken, pause; /* ns */
} Rescue;

/* Takes a copy when the last one is old enough: one a second at most, and at most a hundredth of the time. `values` and
 * `step` say where the run is. */
Status rescue_take(Rescue *rescue, const Variables *variables, const CheckpointValues *values, int64_t step,
                   Error *error);
void rescue_free(Rescue *rescue);
