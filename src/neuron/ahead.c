#include "neuron/ahead.h"

#include <stdlib.h>
#include <string.h>

/* What a step is taken to last before one was made: too long costs a slower start, too short a burst at the peers. */
static const uint64_t guessed_step_ns = 5000000;

enum { LEAST_WINDOW = 64, SHRINK_EVERY = 8 };

Ahead ahead_make(AheadOptions options)
{
    if (options.most < 1) options.most = 1;
    if (options.fixed > options.most) options.fixed = options.most;
    return (Ahead){.options = options,
                   .depth = options.fixed > 0 ? options.fixed : 1,
                   .rest = SHRINK_EVERY,
                   .window_steps = LEAST_WINDOW,
                   .window_left = LEAST_WINDOW};
}

size_t ahead_depth(const Ahead *ahead)
{
    return ahead->depth;
}

/* --- what is known --- */

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void note_time(Ahead *ahead, const AheadStep *step)
{
    uint64_t sorted[AHEAD_TIMES];
    if (step->interval_ns == 0) return;
    uint64_t own = step->interval_ns > step->waited_ns ? step->interval_ns - step->waited_ns : 1;
    ahead->times[ahead->time_count++ % AHEAD_TIMES] = own;
    size_t known = ahead->time_count < AHEAD_TIMES ? ahead->time_count : AHEAD_TIMES;
    memcpy(sorted, ahead->times, known * sizeof *sorted);
    qsort(sorted, known, sizeof *sorted, compare_times);
    ahead->step_ns = sorted[known / 2];
}

/* Peaks are held, and forgotten over some 64 answers. */
static void note_latency(Ahead *ahead, uint64_t latency)
{
    if (latency == 0) return;
    if (latency > ahead->latency)
        ahead->latency = latency;
    else
        ahead->latency -= (ahead->latency - latency) / 64;
    if (ahead->base == 0 || latency < ahead->base) ahead->base = latency;
    if (ahead->window_least == 0 || latency < ahead->window_least) ahead->window_least = latency;
}

/* --- the least latency, when it has changed --- */

static void begin_window(Ahead *ahead, bool measuring, size_t steps)
{
    ahead->measuring = measuring;
    ahead->window_steps = ahead->window_left = steps;
    ahead->window_least = ahead->window_waited = ahead->window_time = 0;
}

/* Goes back to a depth at which no request waits for another if `base` still holds (one more is out, that which is
 * waited for), and stays there until what was sent meanwhile is back. */
static void begin_measuring(Ahead *ahead, uint64_t pace)
{
    size_t before = ahead->depth;
    uint64_t least = pace > 0 && ahead->base > 2 * pace ? ahead->base / pace - 1 : 1;
    if (least < before) ahead->depth = (size_t)least;
    ahead->hold = before + 2 * ahead->depth + SHRINK_EVERY;
    begin_window(ahead, true, ahead->hold);
}

static void end_window(Ahead *ahead)
{
    bool waits = ahead->window_waited > ahead->window_time / 5;
    bool slower = ahead->window_least > ahead->base + ahead->base / 2;
    if (!ahead->measuring && waits && slower) {
        begin_measuring(ahead, ahead->window_time / ahead->window_steps);
        return;
    }
    /* Measured; or nobody waited for this latency, so no request waited for another. */
    if (ahead->window_least > 0 && (ahead->measuring || !waits)) {
        ahead->base = ahead->window_least;
        if (ahead->measuring) ahead->latency = ahead->base;
    }
    size_t round = 4 * ahead->depth;
    begin_window(ahead, false, round > LEAST_WINDOW ? round : LEAST_WINDOW);
}

/* --- the depth --- */

static size_t needed(const Ahead *ahead)
{
    if (ahead->latency == 0 || ahead->step_ns == 0) return 1;
    uint64_t queueing = 2 * ahead->base + 2 * ahead->step_ns;
    uint64_t latency = ahead->latency < queueing ? ahead->latency : queueing;
    uint64_t steps = (latency + latency / 10 + ahead->step_ns - 1) / ahead->step_ns + 1;
    return steps < ahead->options.most ? (size_t)steps : ahead->options.most;
}

static void grow(Ahead *ahead)
{
    if (ahead->depth < ahead->options.most) ahead->depth++;
}

static void shrink(Ahead *ahead, size_t least, size_t by)
{
    ahead->depth = ahead->depth > least + by ? ahead->depth - by : least;
}

static void back_down(Ahead *ahead)
{
    if (ahead->hold == 0) shrink(ahead, 1, ahead->depth / 8 + 1); /* once a round: what is on its way was sent before */
    ahead->hold = 2 * ahead->depth;
}

void ahead_step(Ahead *ahead, const AheadStep *step)
{
    note_time(ahead, step);
    note_latency(ahead, step->latency_ns);
    if (ahead->options.fixed > 0) return;
    ahead->window_waited += step->waited_ns;
    ahead->window_time += step->interval_ns;
    if (--ahead->window_left == 0) end_window(ahead);
    size_t wanted = needed(ahead);
    if (step->refused)
        back_down(ahead);
    else if (ahead->hold > 0)
        ahead->hold--;
    else if (ahead->depth < wanted)
        grow(ahead);
    if (ahead->depth <= wanted) {
        ahead->rest = SHRINK_EVERY;
    } else if (--ahead->rest == 0) {
        shrink(ahead, wanted, ahead->depth / 64 + 1);
        ahead->rest = SHRINK_EVERY;
    }
}

bool ahead_wait(Ahead *ahead, uint64_t waited_ns)
{
    if (ahead->options.fixed > 0 || ahead->latency > 0) return false;
    uint64_t step = ahead->step_ns > 0 ? ahead->step_ns : guessed_step_ns;
    size_t most = ahead->options.burst > 0 && ahead->options.burst < ahead->options.most ? ahead->options.burst
                                                                                         : ahead->options.most;
    if (waited_ns / step >= ahead->depth && ahead->depth < most) ahead->depth++;
    return ahead->depth < most;
}
