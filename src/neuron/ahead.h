/* How far ahead peers are asked: so many batches on their way that the answers to the next one are always there when it
 * is learnt from. A pure controller: times go in, a number of batches comes out; no clock, no memory, no I/O.
 *
 * With `depth` batches on their way, an answer may take depth own steps; so depth = latency / step time, and a little
 * for jitter. Three things keep that from running away:
 *   - a peer that can't keep up. Its latency grows with the depth, since requests wait for each other, and a greater
 *     depth brings nothing. So latencies beyond twice the least one (`base`) count as waiting in its queue. What the
 *     least one is now is measured, from time to time, by going back to the depth that the old one needs, as BBR's
 *     ProbeRTT does (N. Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016).
 *   - a full queue, at a peer or for lack of memory here: an eighth less, and no growth for two rounds.
 *   - answers that don't come. They tell no latency, so they change nothing.
 * It grows by one batch a step at most, so that no peer sees a burst: what is on its way doubles in a round trip at
 * most, as in TCP's slow start, and shrinks by a 64th in 8 steps. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AHEAD_TIMES = 15 };

typedef struct AheadOptions {
    size_t fixed; /* 0: adapted */
    size_t most;  /* batches that memory has room for; at least 1 */
    size_t burst; /* batches that may go out before the first answer; 0: no bound but `most`. A new connection's window
                     is small, and what exceeds it waits in line until the window has grown, past its deadline */
} AheadOptions;

typedef struct Ahead {
    AheadOptions options;
    size_t depth;
    uint64_t times[AHEAD_TIMES]; /* own step times, a ring; their median is robust against the steps that compile,
                                    evaluate or save */
    size_t time_count, step_ns;
    uint64_t latency, base; /* ns: of late, its peaks held; the least, as far as it is known */
    size_t hold;            /* steps without growth */
    size_t rest;            /* steps until it may shrink again */
    /* the present window, or the measuring of `base` */
    bool measuring;
    size_t window_steps, window_left;
    uint64_t window_least, window_waited, window_time; /* ns */
} Ahead;

/* One batch that was taken to be learnt from. */
typedef struct AheadStep {
    uint64_t interval_ns; /* since the one before was taken, waiting included; 0: the first */
    uint64_t waited_ns;   /* for its answers */
    uint64_t latency_ns;  /* of the last answer that came in time; 0: none did */
    bool refused;         /* a peer that answers otherwise, or our own memory, had no room for it */
} AheadStep;

Ahead ahead_make(AheadOptions options);

/* How many batches should be on their way, besides the one that is being learnt from; at least 1. */
size_t ahead_depth(const Ahead *ahead);

void ahead_step(Ahead *ahead, const AheadStep *step);

/* At the start nothing is known, and the first answer takes a whole round trip. Called while the learner waits for it,
 * `waited_ns` so far: the depth grows as if steps were made meanwhile. Returns false once a latency is known: waiting
 * any other way is as good. */
bool ahead_wait(Ahead *ahead, uint64_t waited_ns);
