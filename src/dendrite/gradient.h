/* Backward calls on their way: fire and forget, with a bound. Inside the dendrite room. */
#pragma once

#include "dendrite/internal.h"

/* Cancels all in flight; they come back on the dendrite thread. */
void gradients_cancel(Dendrite *dendrite);

/* dendrite.c: a time on CLOCK_MONOTONIC. */
struct timespec dendrite_time_after(uint64_t ns);
