/* How much of the machine answering may take: a token bucket of core-seconds (a leaky bucket with debt, as in Turner,
 * "New directions in communications", 1986). It fills at fraction * cores a second up to what 100 ms bring; work is
 * charged after it is done, whatever it cost, and while the bucket is below zero no more may begin. So over any time
 * well above 100 ms and one handler's run, the charged time stays within the share. The debt is bounded by what 1 s
 * brings: a handler that once takes seconds (it compiles a plan) doesn't keep callers out for as long again. Pure: no
 * I/O, no lock; the clock comes in with each call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Share {
    double rate;   /* core-nanoseconds a nanosecond; 0: no limit */
    double most;   /* core-nanoseconds that may be saved up */
    double credit; /* below 0: debt */
    uint64_t last; /* when credit was true */
} Share;

/* `fraction` of the time of `cores` cores; 0 and everything from 1 on: no limit. Begins full. */
void share_init(Share *share, double fraction, int cores, uint64_t now);

bool share_limited(const Share *share);

/* `cpu_ns` of core time have been used by now. */
void share_charge(Share *share, uint64_t now, uint64_t cpu_ns);

/* How long to wait until work may begin: 0 when it may now. */
uint64_t share_wait(Share *share, uint64_t now);
