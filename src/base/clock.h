/* Time comes in through a Clock, so that a test can run an hour in a second. Nanoseconds; the epoch of a monotonic
 * clock is arbitrary. */
#pragma once

#include <stdint.h>

typedef struct Clock {
    uint64_t (*now)(void *context);
    void *context;
} Clock;

/* CLOCK_MONOTONIC, and CLOCK_REALTIME (nanoseconds since 1970). */
Clock clock_monotonic(void);
Clock clock_realtime(void);

/* A clock that stands still until a test moves *now; the caller owns *now. */
Clock clock_manual(uint64_t *now);

static inline uint64_t clock_now(Clock clock)
{
    return clock.now(clock.context);
}

static inline double clock_seconds(uint64_t nanoseconds)
{
    return (double)nanoseconds * 1e-9;
}
