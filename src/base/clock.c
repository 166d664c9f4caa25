#include "base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec time;
    clock_gettime(id, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t now_monotonic(void *context)
{
    (void)context;
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t now_realtime(void *context)
{
    (void)context;
    return read_clock(CLOCK_REALTIME);
}

/* Atomic, so that a test may move the clock (with an atomic store) while other threads read it. */
static uint64_t now_manual(void *context)
{
    return __atomic_load_n((uint64_t *)context, __ATOMIC_ACQUIRE);
}

Clock clock_monotonic(void)
{
    return (Clock){.now = now_monotonic};
}

Clock clock_realtime(void)
{
    return (Clock){.now = now_realtime};
}

Clock clock_manual(uint64_t *now)
{
    return (Clock){.now = now_manual, .context = now};
}
