/* SIGINT and SIGTERM ask the program to stop: the first sets a flag, so that a command can save and leave; a second
 * ends the program at once. SIGPIPE is ignored: a write to a closed pipe fails with EPIPE instead.
 *
 * A thread of its own waits for them, and all others have them blocked: no handler runs in the middle of anything, and
 * gRPC's threads, which it starts when it likes, take no signal away. What a process has one of is static here: the
 * flag and the pipe. Install once, before other threads start; the rest may be called from any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

Status signals_install(Error *error);

/* True after the first signal. */
const atomic_bool *signals_stop_flag(void);
static inline bool signals_stop_requested(void)
{
    return atomic_load_explicit(signals_stop_flag(), memory_order_acquire);
}

/* Asks the program to stop, as the first signal does. */
void signals_stop(void);

/* Waits for the first signal, at most `timeout_ns` (UINT64_MAX: for ever). True when it has come. */
bool signals_wait(uint64_t timeout_ns);
