#include "dendrite/link.h"

#include <string.h>

static const uint64_t quiet_least_ns = 250000000, quiet_most_ns = 10000000000, answer_least_ns = 1000000;
enum { TIMEOUTS_ALLOWED = 2 }; /* a slow answer or two is no reason to leave a peer alone */

static const char *const failure_names[DENDRITE_FAILURES] = {
    [DENDRITE_TIMEOUT] = "timeout",         [DENDRITE_UNAVAILABLE] = "unavailable",
    [DENDRITE_BACKING_OFF] = "backing off", [DENDRITE_REFUSED] = "refused",
    [DENDRITE_EMPTY] = "empty answer",      [DENDRITE_MALFORMED] = "malformed answer",
    [DENDRITE_WRONG_SHAPE] = "wrong shape", [DENDRITE_NOT_FINITE] = "not finite",
    [DENDRITE_TOO_LARGE] = "too large",     [DENDRITE_NO_ROOM] = "no room",
};

static const char *const state_names[] = {
    [DENDRITE_UNASKED] = "unasked",
    [DENDRITE_WELL] = "well",
    [DENDRITE_PROBING] = "probing",
    [DENDRITE_LEFT_ALONE] = "left alone",
};

const char *dendrite_failure_name(DendriteFailure failure)
{
    return (unsigned)failure < DENDRITE_FAILURES ? failure_names[failure] : "?";
}

const char *dendrite_state_name(DendriteState state)
{
    return (unsigned)state < sizeof state_names / sizeof state_names[0] ? state_names[state] : "?";
}

/* --- whether to ask --- */

Admission link_admission(const Link *link, PeerMethod method, uint64_t now)
{
    if (!link->left_alone) return ADMIT;
    bool may_probe = method == PEER_FORWARD && !link->probing && now >= link->quiet_until;
    return may_probe ? ADMIT_AS_PROBE : ADMIT_NOT;
}

Ticket link_begin(Link *link, Admission admission)
{
    bool probe = admission == ADMIT_AS_PROBE;
    link->asked = true;
    if (probe) link->probing = true;
    return (Ticket){.generation = link->generation, .probe = probe};
}

DendriteState link_state(const Link *link)
{
    if (!link->asked) return DENDRITE_UNASKED;
    if (!link->left_alone) return DENDRITE_WELL;
    return link->probing ? DENDRITE_PROBING : DENDRITE_LEFT_ALONE;
}

/* --- how it went --- */

static void trust(Link *link)
{
    link->left_alone = link->probing = false;
    link->timeouts_in_row = link->whiles_in_row = 0;
}

void link_heard(Link *link, Ticket ticket)
{
    if (ticket.generation == link->generation) trust(link);
}

void link_unknown(Link *link, Ticket ticket)
{
    if (ticket.generation == link->generation && ticket.probe) link->probing = false;
}

/* A fifth more or less, so that many neurons don't come back at once. */
static uint64_t quiet_span(unsigned whiles_in_row, Rng *jitter)
{
    uint64_t span = quiet_least_ns;
    for (unsigned i = 1; i < whiles_in_row && span < quiet_most_ns; i++)
        span *= 2;
    if (span > quiet_most_ns) span = quiet_most_ns;
    return (uint64_t)((double)span * (0.8 + 0.4 * rng_uniform(jitter)));
}

void link_lost(Link *link, Ticket ticket, DendriteFailure kind, uint64_t now, Rng *jitter)
{
    if (ticket.generation != link->generation) return;
    if (link->left_alone && !ticket.probe) return; /* was on its way when the first of them failed */
    if (kind == DENDRITE_TIMEOUT && !link->left_alone && ++link->timeouts_in_row <= TIMEOUTS_ALLOWED) return;
    link->left_alone = true;
    link->probing = false;
    link->quiet_until = now + quiet_span(++link->whiles_in_row, jitter);
}

bool link_should_retry(const Link *link, Ticket ticket, DendriteFailure kind, bool retried, uint64_t left_ns)
{
    if (kind != DENDRITE_UNAVAILABLE || retried || ticket.generation != link->generation) return false;
    if (link->left_alone) return false; /* another call found out that nobody is there; or this is its probe */
    double wanted = histogram_mean(&link->latencies);
    return left_ns > answer_least_ns && (double)left_ns > wanted;
}

void link_count_answer(Link *link, PeerMethod method, uint64_t latency_ns, const char *neuron_key)
{
    if (*neuron_key) strcpy(link->stats.neuron_key, neuron_key);
    if (method == PEER_BACKWARD) {
        link->stats.backwards++;
        return;
    }
    link->stats.forwards++;
    histogram_add(&link->latencies, latency_ns);
}

void link_count_failure(Link *link, PeerMethod method, DendriteFailure kind, const Error *why)
{
    uint64_t *failures = method == PEER_FORWARD ? link->stats.forward_failures : link->stats.backward_failures;
    failures[kind]++;
    if (kind != DENDRITE_BACKING_OFF) link->last = *why;
}

void link_failed(Link *link, Ticket ticket, PeerMethod method, DendriteFailure kind, const Error *why, uint64_t now,
                 Rng *jitter)
{
    link_count_failure(link, method, kind, why);
    if (kind == DENDRITE_UNAVAILABLE || kind == DENDRITE_TIMEOUT)
        link_lost(link, ticket, kind, now, jitter);
    else
        link_heard(link, ticket);
}

void link_moved(Link *link, const Peer *peer)
{
    link->peer = *peer;
    link->generation++;
    link->asked = false;
    link->stats.neuron_key[0] = '\0';
    trust(link);
}
