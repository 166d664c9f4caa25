/* How far a long job is: on a terminal one line, redrawn at most ten times a second,
 *
 *     epoch 3/10  [=======>            ]  step 2500/9380  loss 0.0841  14200 samples/s  ETA 0:21
 *
 * fitted to the terminal's width (the bar shrinks, then goes; then fields go, from the right); elsewhere a plain line
 * of the same fields at most every five seconds. A Progress belongs to one thread; its Output is shared. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "observe/output.h"

typedef struct ProgressPoint {
    int64_t epoch, epochs; /* epoch counts from 1; 0: not shown */
    int64_t step, steps;   /* steps done, and of how many; steps 0: without end, so neither bar nor ETA */
    double loss;           /* NaN: not shown */
    double samples_per_second;
} ProgressPoint;

typedef struct Progress {
    Output *output;
    Clock clock;
    uint64_t started, shown; /* nanoseconds */
    int64_t first_step;
    bool pending; /* the last point wasn't shown */
    ProgressPoint point;
} Progress;

/* `first_step`: the steps that were done before (a resumed run), which say nothing about the speed of this one. */
Progress progress_make(Output *output, Clock clock, int64_t first_step);

/* Call it after every step: it shows the point when it is time. */
void progress_show(Progress *progress, const ProgressPoint *point);

/* Clears the line on a terminal; elsewhere shows the last point if it wasn't shown. */
void progress_finish(Progress *progress);
