/* Learning rates over a run. Pure functions of the step, so that a resumed run goes on where it was. */
#pragma once

#include <stdint.h>

#include "base/status.h"

typedef enum ScheduleKind { SCHEDULE_CONSTANT, SCHEDULE_STEP, SCHEDULE_LINEAR, SCHEDULE_COSINE } ScheduleKind;

typedef struct Schedule {
    ScheduleKind kind;
    double lr;              /* at step 0 */
    int64_t steps;          /* of the whole run: linear and cosine reach 0 there */
    int64_t steps_per_drop; /* STEP: every so many steps ... */
    double gamma;           /* ... the rate is multiplied by this (PyTorch's StepLR, counted in steps) */
} Schedule;

/* "constant", "step", "linear", "cosine". */
Status schedule_kind(const char *name, ScheduleKind *out, Error *error);

/* The rate of step 0, 1, ... steps - 1: lr, lr gamma^(step / steps_per_drop), lr (1 - step / steps), lr (1 + cos(pi
 * step / steps)) / 2. */
double schedule_rate(const Schedule *schedule, int64_t step);
