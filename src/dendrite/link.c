/* What is known of a peer, and how long one that failed is left alone. */
#include "dendrite/internal.h"

static const uint64_t quiet_least_ns = 250000000, quiet_most_ns = 10000000000;
enum { TIMEOUTS_ALLOWED = 2 }; /* a slow answer or two is no reason to leave a peer alone */

static const char *const failure_names[DENDRITE_FAILURES] = {
    [DENDRITE_TIMEOUT] = "timeout",         [DENDRITE_UNAVAILABLE] = "unavailable",
    [DENDRITE_BACKING_OFF] = "backing off", [DENDRITE_REFUSED] = "refused",
    [DENDRITE_EMPTY] = "empty answer",      [DENDRITE_MALFORMED] = "malformed answer",
    [DENDRITE_WRONG_SHAPE] = "wrong shape", [DENDRITE_NOT_FINITE] = "not finite",
};

const char *dendrite_failure_name(DendriteFailure failure)
{
    return (unsigned)failure < DENDRITE_FAILURES ? failure_names[failure] : "?";
}

bool link_is_quiet(const Link *link, uint64_t now)
{
    return now < link->quiet_until;
}

void link_succeeded(Link *link, PeerMethod method, uint64_t latency_ns)
{
    link->refusals_in_row = link->timeouts_in_row = 0;
    link->quiet_until = 0;
    if (method == PEER_BACKWARD) {
        link->stats.backwards++;
        return;
    }
    link->stats.forwards++;
    link->latency_sum_s += clock_seconds(latency_ns);
}

/* Doubles with each failure in a row; a fifth more or less, so that many neurons don't come back at once. */
static uint64_t quiet_span(unsigned failures_in_row, Rng *jitter)
{
    uint64_t span = quiet_least_ns;
    for (unsigned i = 1; i < failures_in_row && span < quiet_most_ns; i++)
        span *= 2;
    if (span > quiet_most_ns) span = quiet_most_ns;
    return (uint64_t)((double)span * (0.8 + 0.4 * rng_uniform(jitter)));
}

void link_failed(Link *link, PeerMethod method, DendriteFailure kind, const Error *why, uint64_t now, Rng *jitter)
{
    uint64_t *failures = method == PEER_FORWARD ? link->stats.forward_failures : link->stats.backward_failures;
    failures[kind]++;
    if (kind == DENDRITE_BACKING_OFF) return;
    link->last = *why;
    if (kind != DENDRITE_UNAVAILABLE && kind != DENDRITE_TIMEOUT) { /* it is there, whatever it says */
        link->refusals_in_row = link->timeouts_in_row = 0;
        return;
    }
    if (link_is_quiet(link, now)) return; /* calls that were on their way when the first of them failed */
    unsigned in_row = kind == DENDRITE_UNAVAILABLE ? ++link->refusals_in_row : ++link->timeouts_in_row;
    unsigned allowed = kind == DENDRITE_UNAVAILABLE ? 0 : TIMEOUTS_ALLOWED;
    if (in_row > allowed) link->quiet_until = now + quiet_span(in_row - allowed, jitter);
}
